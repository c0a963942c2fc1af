"""After the trials: the finalists are trained again, and the best of them on average wins.

Each training is a record in the study as soon as it has ended, so that a search that was
broken off goes on with those that are missing. All finalists are trained in one way before
the next way begins, and only ways in which all were trained are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from smarttune.execution import collect_garbage, prepare_process
from smarttune.trials import TrialLog, TrialRecord
from smarttune.tuning.budget import Clock
from smarttune.tuning.checkpoints import KEPT_MODELS
from smarttune.tuning.preparing import SearchJob
from smarttune.tuning.repeating import Repetition, as_trained, job_on, repeated, repetitions_of
from smarttune.tuning.run import Run
from smarttune.tuning.standing import Standing, lines, sentence, weighed

OnEvent = Callable[[Mapping[str, Any]], None]

# ours: of the training time under a time limit; it pays two repeats of four finalists where a
# trial takes a fortieth of that time.
CONFIRMATION_SHARE = 0.2
# ours: a time limit below five minutes goes to the search whole; the few repeats that its share
# would pay prove nothing.
CONFIRMED_FROM = 300.0
# ours: one more training, on somewhat more rows.
REFIT_SHARE = 0.1
# ours: the least from which a spread can be seen; rather fewer finalists than fewer repeats.
FEWEST_REPEATS = 2
# ours: where no time limit says what repeats may cost, they are at most half as many as the
# trials, but for two finalists: who asked for five trials does not want fifteen more.
REPEATS_PER_TRIAL = 0.5

NO_TIME = "the time is up"


class EarlierClock(Clock):
    """The same clock, on which training ends early enough for what comes after it.

    Args:
        clock: The search's clock.
        kept: Share of its training time that is kept free.
        spent: Seconds that went before; nothing is kept of them again.
    """

    def __init__(self, clock: Clock, kept: float, spent: float = 0.0) -> None:
        super().__init__(clock.seconds)
        self.started = clock.started
        self.kept, self.spent = kept, spent

    @property
    def training_ends(self) -> float | None:
        """Elapsed seconds at which the last training must have stopped."""
        ends = super().training_ends
        return None if ends is None else ends - self.kept * max(0.0, ends - self.spent)


def confirmation_share(seconds: float | None) -> float:
    """Share of the training time that is kept for repeats under a limit of wall time."""
    return CONFIRMATION_SHARE if seconds is not None and seconds >= CONFIRMED_FROM else 0.0


def finalists_of(log: TrialLog, most: int = KEPT_MODELS) -> list[TrialRecord]:
    """The best trials, one of each configuration, and the recommendation if it is not among them.

    Args:
        log: Finished trials.
        most: How many of the best.
    """
    found: list[TrialRecord] = []
    for record in log.ranked():
        if len(found) < most and all(record.values != other.values for other in found):
            found.append(record)
    default = log.default()
    if default is not None and not any(r.is_default for r in found):
        found.append(default)
    return found


def confirm(
    run: Run, job: SearchJob, clock: Clock, on_event: OnEvent | None = None
) -> dict[str, Any]:
    """Train the finalists again, as far as the time allows, and name the winner.

    Args:
        run: A run whose trials have ended.
        job: Its search.
        clock: Tells how long training may take.
        on_event: Called with every event.

    Returns:
        What `smarttune.tuning.standing.weighed` tells, with `kind` (seed or fold), `asked` and
        `done` (repeats of each finalist), `reason` (why fewer were done) and `sentence`. Without
        any repeat the winner is the best trial.

    Raises:
        RunError: If no trial left a score, or another process writes to the run.
    """
    log = run.log
    best, repetitions = log.best(), repetitions_of(job)
    finalists, reason = _chosen(log, repetitions, clock)
    kind = repetitions[0].kind if repetitions else None
    if finalists:
        confirming = _Confirming(run, job, clock, on_event, finalists, repetitions)
        with run.locked():
            reason = confirming.train()
    done = {r.trial_id: r for r in run.log.repeats}
    rounds = [r for r in repetitions if all(r.name(f.trial_id) in done for f in finalists)]
    asked = {"kind": kind, "asked": len(repetitions), "done": len(rounds), "reason": reason}
    if not finalists or not rounds:
        asked["done"] = 0
        return asked | unconfirmed(best, reason or NO_TIME)
    standings = [
        Standing(f, tuple(_score(done[r.name(f.trial_id)]) for r in rounds)) for f in finalists
    ]
    found = weighed(standings, job.objective, overlap=_overlap(rounds))
    return asked | found | {"sentence": sentence(found, job.objective.name)}


def unconfirmed(best: TrialRecord, reason: str) -> dict[str, Any]:
    """What is known of a winner that was not trained again."""
    return {
        "winner": best.trial_id,
        "finalists": [],
        "difference": None,
        "noise": None,
        "reason": reason,
        "sentence": f"Not confirmed: {reason}. Trial {best.trial_id} is the best of a single "
        "training each, whose score is flattered by the choice.",
    }


def shown(found: Mapping[str, Any]) -> str:
    """What a report says of it: a line for each finalist, the answer, and what it rests on."""
    said = [*lines(found), found["sentence"]] if found["finalists"] else [found["sentence"]]
    if found["finalists"]:
        said.append(_RESTS_ON[found["kind"]])
    if found["finalists"] and found["reason"]:
        said.append(f"Only {found['done']} of {found['asked']} repeats: {found['reason']}.")
    return "\n".join(said)


_RESTS_ON = {
    "seed": "Repeats differ in initial weights, order and dropout; the validation rows are the "
    "same, so that the intervals hold the luck of training, not that of the rows.",
    "fold": "Each repeat trains and validates on other rows, preprocessing learnt anew; the "
    "intervals allow for the training rows that folds share. Test rows took no part.",
}


def _score(record: TrialRecord) -> float | None:
    return record.score if record.has_score else None


def _overlap(rounds: Sequence[Repetition]) -> float:
    """Validation rows over training rows, on average; 0 where only the seed differs."""
    splits = [r.split for r in rounds if r.split is not None]
    return fmean(len(s.validation) / len(s.train) for s in splits) if splits else 0.0


def _chosen(
    log: TrialLog, repetitions: Sequence[Repetition], clock: Clock
) -> tuple[list[TrialRecord], str]:
    """The finalists that the time pays, or none and the reason."""
    if not repetitions:
        return [], "the rules ask for no repeats"
    if len(finalists_of(log)) == 1:
        return [], "there is only one configuration with a score"
    known = {r.trial_id for r in log.repeats}

    def fits(finalists: Sequence[TrialRecord], num_repeats: int) -> bool:
        missing = [
            log.lineage_seconds(f)
            for r in repetitions[:num_repeats]
            for f in finalists
            if r.name(f.trial_id) not in known
        ]
        return not missing or clock.has_room_for(sum(missing))

    limited = clock.seconds is not None
    affordable = math.inf if limited else REPEATS_PER_TRIAL * len(log)
    for most in range(KEPT_MODELS, 0, -1):
        finalists = finalists_of(log, most)
        few = len(finalists) == 2 or len(finalists) * len(repetitions) <= affordable  # noqa: PLR2004
        if len(finalists) > 1 and few and fits(finalists, FEWEST_REPEATS):
            return finalists, ""
    smallest = finalists_of(log, 1)
    finalists = smallest if len(smallest) > 1 else finalists_of(log, 2)
    if fits(finalists, 1):
        return finalists, ""
    return [], "not even one repeat fits into the time that is left"


class _Confirming:
    """The repeats of one run: which are missing, what they cost, and how they are told of."""

    def __init__(  # noqa: PLR0913, PLR0917 -- what a search has
        self,
        run: Run,
        job: SearchJob,
        clock: Clock,
        on_event: OnEvent | None,
        finalists: Sequence[TrialRecord],
        repetitions: Sequence[Repetition],
    ) -> None:
        self.run, self.job, self.clock, self.on_event = run, job, clock, on_event
        self.finalists, self.repetitions = finalists, repetitions
        self.costs = {f.trial_id: run.log.lineage_seconds(f) for f in finalists}
        self.known = {r.trial_id for r in run.log.repeats}

    def train(self) -> str:
        """Train what is missing; return why not all of it."""
        total = len(self.repetitions) * len(self.finalists)
        missing = total - sum(len(self._known(r)) for r in self.repetitions)
        if not missing:
            return ""
        self._event(
            "confirmation_started",
            finalists=[f.trial_id for f in self.finalists],
            kind=self.repetitions[0].kind,
            num_repeats=missing,
            text=f"training {len(self.finalists)} finalists again, {missing} repeat(s), beyond "
            "any limit of trials and epochs",
        )
        prepare_process()
        for i, repetition in enumerate(self.repetitions):
            if not self._round(repetition, i * len(self.finalists), total):
                return NO_TIME
        return ""

    def _known(self, repetition: Repetition) -> list[str]:
        names = (repetition.name(f.trial_id) for f in self.finalists)
        return [name for name in names if name in self.known]

    def _round(self, repetition: Repetition, before: int, total: int) -> bool:
        """Train all finalists in one way; False if the time does not suffice."""
        missing = [f for f in self.finalists if repetition.name(f.trial_id) not in self.known]
        cost = sum(self.costs[f.trial_id] for f in missing)
        if missing and not self.clock.has_room_for(cost):
            return False
        job = self.job if repetition.split is None else job_on(self.job, repetition.split)
        for place, finalist in enumerate(self.finalists, start=before + 1):
            if finalist not in missing:
                continue
            self._event(
                "confirming",
                trial_id=repetition.name(finalist.trial_id),
                repeat_of=finalist.trial_id,
                k=place,
                n=total,
            )
            alike = as_trained(job, self.run, finalist)
            record = repeated(alike, finalist, repetition, self.clock)
            if record is None:
                return False
            self.run.record(record)
            self.known.add(record.trial_id)
            self.costs[finalist.trial_id] = record.seconds
            collect_garbage(len(self.known))
            self._event(
                "repeat_finished", **record.model_dump(mode="json", exclude={"curve", "values"})
            )
        return True

    def _event(self, event: str, **details: Any) -> None:
        line = self.run.note(event, **details)
        if self.on_event is not None:
            self.on_event(line)
