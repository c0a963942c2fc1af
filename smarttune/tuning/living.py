"""What an adaptation changes in a running search: the oracle, the length of trials, the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from smarttune.errors import OptionError
from smarttune.rulebook import Rulebook
from smarttune.space import Dimension, Fixed
from smarttune.trials import TrialLog, TrialRecord
from smarttune.tuning.adapting import (
    ADAPTED,
    COUNT,
    DECLINED,
    LENGTH,
    WHY_NOT_IN_RUNGS,
    Adapt,
    RuleAdaptation,
    adaptations,
    after,
)
from smarttune.tuning.preparing import SearchJob
from smarttune.tuning.run import Run
from smarttune.tuning.strategies import IN_RUNGS

# ours: a grid is a list that the user knows beforehand, several objectives have no single best
# trial, and a hypergradient moves what it tunes by itself.
NOT_ADAPTABLE = ("grid", "nsga2", "gradient")


def adaptation(run: Run, job: SearchJob, book: Rulebook) -> Adapt | None:
    """What changes a run between rounds; None where it was not asked for or cannot be."""
    strategy = run.manifest["strategy"]
    # A run of an older version stays what it was.
    if not run.manifest.get("adapt", False) or strategy in NOT_ADAPTABLE:
        return None
    return RuleAdaptation(
        job.recommendation,
        book,
        job.space,
        job.max_epochs,
        num_validation=run.manifest.get("num_validation"),
        declined={LENGTH: WHY_NOT_IN_RUNGS} if strategy in IN_RUNGS else {},
    )


class LivingSearch:
    """Hears of each trial after the oracle did, and changes what is proposed next.

    Args:
        tuner: Its oracle, policy and hypermodel are changed; its run keeps the events.
        adapt: Says what changes; None changes nothing.
        note: Writes an event to the run and announces it.

    Attributes:
        ended: "" or why the search ends before its budget is spent.

    Raises:
        OptionError: If the oracle cannot change its ranges.
    """

    def __init__(self, tuner: Any, adapt: Adapt | None, note: Callable[..., None]) -> None:
        if adapt is not None and not hasattr(tuner.oracle, "reshape"):
            raise OptionError(
                "adapt",
                received=f"a {type(tuner.oracle).__name__}, whose ranges cannot be changed",
                expected="an oracle of smarttune.oracles",
                mend="Take one of these, or leave `adapt` out.",
            )
        self.tuner = tuner
        self.note = note
        self.adapt = adapt
        self.ended = ""
        self._told: list[TrialRecord] = []
        self._events: list[Mapping[str, Any]] = []
        self._recorded = adaptations(tuner.run.path) if adapt is not None else []

    def tell(self, record: TrialRecord, *, is_last: bool = True) -> None:
        """Take in a finished trial.

        Args:
            record: The trial.
            is_last: Whether no later trial is on record. An earlier one has all its events,
                and they stand, whatever the rules would say today.
        """
        self._told.append(record)
        if self.adapt is None:
            return
        now = len(self._told)
        self._ended_by(None)
        for event in [e for e in self._recorded if e["num_trials"] == now]:
            self._apply(event)
        if is_last:
            # Of a round in whose midst the process was killed some events may be missing.
            for new in self.adapt(TrialLog(self.tuner.goal, self._told), tuple(self._events)):
                self._note(new)
                self._apply(new)

    def _note(self, event: Mapping[str, Any]) -> None:
        budget = {"budget": asdict(self.tuner.budget)} if _ends(event) else {}
        self.note(**event, **budget)

    def _apply(self, event: Mapping[str, Any]) -> None:
        self._events.append(event)
        name = event["hyperparameter"]
        if event["event"] == DECLINED:
            return
        if _ends(event):
            self._ended_by(event)
        elif name == LENGTH:
            self._set_length(int(event["after"]["value"]))
        else:
            self.tuner.oracle.reshape([_dimension(event)])

    def _ended_by(self, event: Mapping[str, Any] | None) -> None:
        """An end holds for the budget that it cut short; who gives another one wants to go on."""
        asked = asdict(self.tuner.budget)
        holds = event is not None and event.get("budget", asked) == asked
        self.ended = (
            f"no trial gains more than the noise ({event['rule']})" if event and holds else ""
        )

    def _set_length(self, epochs: int) -> None:
        self.tuner.policy = replace(self.tuner.policy, max_epochs=epochs)
        plan = getattr(self.tuner.hypermodel, "plan", None)
        if plan is not None:  # schedules are drawn on this horizon
            self.tuner.hypermodel.plan = replace(plan, max_epochs=epochs)


def _ends(event: Mapping[str, Any]) -> bool:
    return bool(event["event"] == ADAPTED and event["hyperparameter"] == COUNT)


def _dimension(event: Mapping[str, Any]) -> Dimension:
    return after(event, Dimension(name=event["hyperparameter"], range=Fixed(value=0), value=0))
