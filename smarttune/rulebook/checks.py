"""How a rule is put to the test: an experiment that could contradict it, as data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from smarttune.rulebook.consequences import Frozen, Values

Settings = Annotated[Values, Field(min_length=1)]
Expectation = Literal["better", "no_worse", "level"]
Measure = Literal["error", "seconds", "epochs"]

# ours: differences that a person would act on, as a share of the error, time or epochs.
MARGIN = 0.05
# ours: the fewest trainings whose spread says anything.
SEEDS = 3


class Check(Frozen):
    """Two sides that are trained on the same data from the same seeds, and what they must show.

    Each side is a list of configurations; the best of them, on average over the seeds of a data
    set, speaks for the side. What neither side nor `given` sets is as recommended.

    Attributes:
        question: What the experiment asks, in one sentence.
        data: Names of data sets (`smarttune.evidence.datasets`), or `lcbench`: 17 tables behind a
            surrogate of real training runs.
        given: Hyperparameters that both sides share.
        facts: Facts declared for both sides.
        recommended: What the rule says.
        against: What it is held against.
        measure: What is compared: the error of the best epoch on validation rows (one minus a
            score that is best at 1), seconds of training, or epochs until the best one.
        expects: `better`: the rule's side has less of it; `no_worse`: not more than `margin`
            more; `level`: the sides differ by less than `margin`.
        margin: A share: 0.05 is five percent.
        seeds: Repetitions, each with a split, initial weights and an order of its own.
        falsified_if: In words, what would speak against the rule.
    """

    question: Annotated[str, StringConstraints(strip_whitespace=True, min_length=10)]
    data: tuple[str, ...] = Field(min_length=1)
    given: Values = Field(default_factory=dict)
    facts: Values = Field(default_factory=dict)
    recommended: tuple[Settings, ...] = Field(min_length=1)
    against: tuple[Settings, ...] = Field(min_length=1)
    measure: Measure = "error"
    expects: Expectation = "better"
    margin: Annotated[float, Field(gt=0, lt=1)] = MARGIN
    seeds: Annotated[int, Field(ge=2)] = SEEDS
    falsified_if: Annotated[str, StringConstraints(strip_whitespace=True, min_length=10)]
