"""Living search: after each round the rules read the trials so far and change what comes next.

A round is a few finished trials. The facts `history.*` are measured anew, the rules fire as
before the search, and what dynamic rules now say of a searched hyperparameter becomes an
*action*: its range and prior change for all later trials. An action

- holds, however the facts go on, until another one touches the same hyperparameter;
- is on trial unless it only cuts off values of which some made trials diverge: if five trials
  that tried what it brought gained nothing over those before it, it is taken back and that rule
  leaves that hyperparameter alone;
- is an event of the run with the rule, the facts that made it fire, and what it changed.

All of it is a function of the trials and of the events so far. A resumed search repeats the
recorded events, also where the rules have changed since.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smarttune.errors import SmartTuneError
from smarttune.facts import Facts
from smarttune.recommendation import Recommendation, Setting, recommend
from smarttune.rulebook import Rulebook
from smarttune.space import Dimension, Fixed, Range, SearchSpace, meet, show_value
from smarttune.trials import TrialLog, TrialRecord
from smarttune.tuning.history import history_facts
from smarttune.tuning.run import events_in

# ours: fewer trials tell too little, and each round costs a pass over the rules (about 0.05 s).
ROUND = 5
# ours: with ten trials before it, a region that is as good as the rest holds the best of fifteen
# after five trials in one case of three; one that holds the optimum far more often.
PROBATION = 5
# ours: a search does not end so soon after an action that its effect cannot be seen.
SETTLING = 2 * PROBATION

LENGTH = "search.max_epochs"
COUNT = "search.num_trials"
# A batch that does not fit is cut within its trial; the space need not change for that.
NOT_ADAPTED = ("training.batch_size",)

ADAPTED, UNDONE, DECLINED = "adapted", "adaptation_undone", "adaptation_declined"

Event = Mapping[str, Any]
# From the trials so far and the events so far to further events, each with its `num_trials`.
Adapt = Callable[[TrialLog, Sequence[Event]], Sequence[Event]]

WHY_NOT_IN_RUNGS = (
    "the rungs of this strategy are built on the length of a full training, and trials of other "
    "lengths could not be compared within them; start a new search to train longer or shorter"
)


@dataclass(frozen=True)
class RuleAdaptation:
    """What the dynamic rules change between rounds; an `Adapt` of `SmartTuner`.

    Args:
        recommendation: What the search started from.
        book: The rules.
        space: What was searched at the start.
        max_epochs: Epochs of a full training at the start.
        num_validation: Validation rows, for the standard error of an accuracy.
        declined: Hyperparameters that this search cannot move, and why.
    """

    recommendation: Recommendation
    book: Rulebook
    space: SearchSpace
    max_epochs: int
    num_validation: int | None = None
    declined: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, log: TrialLog, events: Sequence[Event]) -> list[Event]:
        """What changes now; nothing amid a round, and nothing that is among the events."""
        now = len(log)
        if now == 0 or now % ROUND:
            return []
        past = [e for e in events if e["num_trials"] < now]
        found: list[Event] = taken_back(log, past)
        found += self._changes(log, [*past, *found])
        noted = {_key(e) for e in events if e["num_trials"] == now}
        return [e for e in found if _key(e) not in noted]

    def _space_after(self, events: Iterable[Event]) -> SearchSpace:
        """What is searched after some events, with the length of a training."""
        length = Dimension(name=LENGTH, range=Fixed(value=self.max_epochs), value=self.max_epochs)
        whole = SearchSpace(dimensions=(*self.space.dimensions, length))
        return space_after(whole, events)

    def _changes(self, log: TrialLog, past: Sequence[Event]) -> list[Event]:
        space = self._space_after(past)
        yours = {
            name: setting.value
            for name, setting in self.recommendation.settings.items()
            if setting.because and setting.because[0].rule == "you"
        }
        history = history_facts(log, space, num_validation=self.num_validation)
        try:
            again = recommend(self.recommendation.facts | history, rules=self.book, pinned=yours)
        except SmartTuneError as error:  # rules that contradict each other now must not end it
            return [_declined("", "", str(error), len(log))]
        wanted = {
            name: setting
            for name, setting in again.settings.items()
            if setting.because
            and setting.because[0].rule != "you"
            and self.book[setting.because[0].rule].kind == "dynamic"
        }
        found: list[Event] = []
        for name, setting in wanted.items():
            if name in space.by_name and name not in NOT_ADAPTED:
                found += self._action(space[name], setting, log, past, again.facts)
        stop = wanted.get(COUNT)
        if stop is not None and not found and _may_end(past, len(log)):
            found += self._end(stop, log, again.facts)
        return found

    def _action(
        self,
        present: Dimension,
        setting: Setting,
        log: TrialLog,
        past: Sequence[Event],
        facts: Facts,
    ) -> list[Event]:
        """What one rule changes at one hyperparameter, unless it may not."""
        rule, name = setting.because[0].rule, present.name
        if setting.range == present.range or not _may_act(rule, name, log, past):
            return []
        if name in self.declined:
            told = any(e["event"] == DECLINED and e["hyperparameter"] == name for e in past)
            return [] if told else [_declined(rule, name, self.declined[name], len(log))]
        new = {"range": setting.range, "value": setting.value, "prior": setting.prior}
        return [self._event(setting, present, present.model_copy(update=new), log, facts)]

    def _end(self, setting: Setting, log: TrialLog, facts: Facts) -> list[Event]:
        if int(setting.value) > len(log):
            return []
        planned = int(self.recommendation.value(COUNT, len(log)))
        before = Dimension(name=COUNT, range=Fixed(value=planned), value=planned)
        new = Dimension(name=COUNT, range=Fixed(value=len(log)), value=len(log))
        return [self._event(setting, before, new, log, facts)]

    def _event(
        self, setting: Setting, before: Dimension, new: Dimension, log: TrialLog, facts: Facts
    ) -> Event:
        reason, ranked = setting.because[0], log.ranked()
        read = self.book[reason.rule].names
        return {
            "event": ADAPTED,
            "rule": reason.rule,
            "summary": reason.summary,
            "hyperparameter": before.name,
            "before": _json(before),
            "after": _json(new),
            "facts": {n: f.value for n, f in facts.items() if n in read},
            "trace": list(reason.trace),
            "num_trials": len(log),
            "best_score": ranked[0].score if ranked else None,
            "text": f"{before.name} from {_shown(before.range)} to {_shown(new.range)}",
        }


def space_after(space: SearchSpace, events: Iterable[Event]) -> SearchSpace:
    """The space that holds after some events."""
    dimensions = {d.name: d for d in space.dimensions}
    for event in events:
        name = event["hyperparameter"]
        if event["event"] != DECLINED and name in dimensions:
            dimensions[name] = after(event, dimensions[name])
    return SearchSpace(dimensions=tuple(dimensions.values()))


def taken_back(log: TrialLog, past: Sequence[Event]) -> list[Event]:
    """The actions that have gained nothing where they were tried."""
    found: list[Event] = []
    for action in standing(past):
        tried = on_trial(action, log)
        if tried is None or len(tried) < PROBATION or _gained(action, tried[:PROBATION], log):
            continue
        found.append(
            {
                "event": UNDONE,
                "rule": action["rule"],
                "hyperparameter": action["hyperparameter"],
                "before": action["after"],
                "after": action["before"],
                "text": f"{action['hyperparameter']} is {_shown(ranges(action)[0])} again; "
                f"{PROBATION} trials tried the change and none was better than those before",
                "adapted_at": action["num_trials"],
                "num_trials": len(log),
            }
        )
    return found


def standing(past: Sequence[Event]) -> list[Event]:
    """The latest action on each hyperparameter, unless it was taken back."""
    latest = {e["hyperparameter"]: e for e in past if e["event"] in (ADAPTED, UNDONE)}
    return [e for e in latest.values() if e["event"] == ADAPTED]


def on_trial(action: Event, log: TrialLog) -> list[TrialRecord] | None:
    """The trials that speak for or against an action; None if it needs none.

    Of an action that keeps all former values those trials speak that took a new one, of any
    other all that were proposed under it. One that only cuts off values needs no trial where
    one of them made a trial diverge; a rule for optima on an edge may widen the range again.
    """
    name = action["hyperparameter"]
    under = [r for r in log[action["num_trials"] :] if r.parent is None]
    old, new = ranges(action)
    if name == LENGTH:
        return None if new.clamp(0) <= old.clamp(0) else under  # type: ignore[operator]
    if name == COUNT:
        return None
    if is_within(new, old):
        before = (r for r in log[: action["num_trials"]] if name in r.values)
        cut = {r.outcome for r in before if not new.contains(r.values[name])}
        return None if "diverged" in cut else [r for r in under if name in r.values]
    if is_within(old, new):
        return [r for r in under if name in r.values and not old.contains(r.values[name])]
    return [r for r in under if name in r.values]


def is_within(inner: Range, outer: Range) -> bool:
    """Whether a range allows nothing that the other does not."""
    common = meet(inner, outer)
    return common is not None and (common == inner or str(common) == str(inner))


def ranges(event: Event) -> tuple[Range, Range]:
    """The ranges before and after an event."""
    blank = Dimension(name=event["hyperparameter"], range=Fixed(value=0), value=0)
    return (
        after({"after": event["before"]}, blank).range,
        after(event, blank).range,
    )


def after(event: Event, dimension: Dimension) -> Dimension:
    """A hyperparameter as an event leaves it; its name and conditions stay."""
    return Dimension.model_validate_json(
        json.dumps({**dimension.model_dump(mode="json"), **event["after"]})
    )


def adaptations(run: Path) -> list[dict[str, Any]]:
    """The events of a run that tell what its search changed, in their order."""
    return events_in(run, (ADAPTED, UNDONE, DECLINED))


def _shown(range_: Range) -> str:
    return show_value(range_.value) if isinstance(range_, Fixed) else str(range_)


def _gained(action: Event, tried: Sequence[TrialRecord], log: TrialLog) -> bool:
    """Whether a trial beat all that were given as many epochs before the action.

    Its promotions speak for it too: what pays off late looks poor on the lowest rung.
    """
    earlier = [r for r in log[: action["num_trials"]] if r.is_scored]
    lineages = {r.trial_id for r in tried}
    for record in log[action["num_trials"] :]:
        if record.parent in lineages:
            lineages.add(record.trial_id)
        elif record.trial_id not in lineages:
            continue
        same = [
            r.score
            for r in earlier
            if action["hyperparameter"] == LENGTH or r.max_epochs == record.max_epochs
        ]
        score = record.score if record.is_scored else None
        if score is not None and all(log.objective.better(score, s or 0.0) for s in same):
            return True
    return False


def _may_act(rule: str, name: str, log: TrialLog, past: Sequence[Event]) -> bool:
    """Whether a rule may touch a hyperparameter: not again where that gained nothing or may yet."""
    mine = [e for e in past if e.get("rule") == rule and e["hyperparameter"] == name]
    if any(e["event"] == UNDONE for e in mine):
        return False
    waiting = [e for e in standing(past) if e in mine]
    tried = [on_trial(e, log) for e in waiting]
    return not any(t is not None and len(t) < PROBATION for t in tried)


def _may_end(past: Sequence[Event], now: int) -> bool:
    latest = max((e["num_trials"] for e in past if e["event"] != DECLINED), default=0)
    return latest == 0 or now - latest >= SETTLING


def _declined(rule: str, name: str, why: str, now: int) -> Event:
    return {
        "event": DECLINED,
        "rule": rule,
        "hyperparameter": name,
        "text": why,
        "num_trials": now,
    }


def _key(event: Event) -> tuple[str, str, str]:
    return event["event"], event.get("rule", ""), event["hyperparameter"]


def _json(dimension: Dimension) -> dict[str, Any]:
    return dimension.model_dump(mode="json", include={"range", "value", "prior"})
