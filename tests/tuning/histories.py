"""Trials that never ran, and the rules that read them, for the tests of what a search changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from smarttune.facts import Facts
from smarttune.objectives import Objective
from smarttune.recommendation import recommend
from smarttune.rulebook import Rulebook, load_rulebook
from smarttune.space import Dimension, FloatRange, IntRange, SearchSpace, Value
from smarttune.trials import TrialLog, TrialRecord
from smarttune.tuning.adapting import LENGTH, RuleAdaptation

from .searches import RATE, WIDTH

LOSS = Objective("val_loss", "min")
DROPOUT, DECAY, DEPTH = "model.dropout", "optimizer.weight_decay", "model.num_layers"
EPOCHS = 10
FACTS = Facts.of(
    {
        "data.task": "tabular",
        "model.problem": "regression",
        "data.num_samples": 2000,
        "data.num_features": 8,
        "hardware.device": "cpu",
        "budget.num_tuned": 2,
    }
)
SPACE = SearchSpace(
    dimensions=(
        Dimension(name=RATE, range=FloatRange(low=1e-4, high=1e-1, sampling="log"), value=1e-3),
        Dimension(name=WIDTH, range=IntRange(low=1, high=4), value=2),
        Dimension(name=DROPOUT, range=FloatRange(low=0.0, high=0.5), value=0.1),
        Dimension(name=DECAY, range=FloatRange(low=1e-6, high=1e-3, sampling="log"), value=1e-5),
    )
)
FALLING = tuple({"loss": 1 / n, "val_loss": 2 / n} for n in range(1, EPOCHS + 1))
RISING = tuple({"loss": 1 / n, "val_loss": 0.5 + abs(n - 4) / 5} for n in range(1, EPOCHS + 1))
LEVEL = tuple({"loss": 1 + 1 / n, "val_loss": 1 + 1.02 / n} for n in range(1, EPOCHS + 1))


def rules(
    space: SearchSpace = SPACE, *, declared: bool = False, planned: int = 40
) -> RuleAdaptation:
    """The built-in rules on a space, by default one of four hyperparameters."""
    book = _book()
    made = recommend(FACTS | Facts.of({"budget.num_trials": planned}), rules=book)
    declined = {LENGTH: "the rungs stand"} if declared else {}
    return RuleAdaptation(made, book, space, EPOCHS, declined=declined)


def trial(number: int, score: float | None, rate: float = 3e-3, **details: Any) -> TrialRecord:
    """A finished trial; one without a score has diverged."""
    values: dict[str, Value] = {RATE: rate, WIDTH: 2, DROPOUT: 0.2, DECAY: 3e-5}
    values |= details.pop("values", {})
    base: dict[str, Any] = {
        "outcome": "diverged" if score is None else "completed",
        "best_epoch": 6,
        "num_epochs": EPOCHS,
        "max_epochs": EPOCHS,
        "curve": FALLING,
    }
    return TrialRecord(trial_id=str(number), values=values, score=score, **(base | details))


def log(*records: TrialRecord) -> TrialLog:
    """A log by loss."""
    return TrialLog(LOSS, records)


def many(count: int, **details: Any) -> list[TrialRecord]:
    """Trials of which the first is the best, with values spread over the middle."""
    return [trial(i, 0.5 + 0.01 * i, 1e-3 * (2 + i % 4), **details) for i in range(count)]


def changes(events: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Hyperparameter to the event that changes it."""
    return {e["hyperparameter"]: e for e in events}


@cache
def _book() -> Rulebook:
    return load_rulebook()
