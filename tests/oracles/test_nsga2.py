"""NSGA-II keeps the contract, and its front is a front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras_tuner
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras_tuner import Objective

from smarttune.errors import OptionError
from smarttune.oracles.nsga2 import NSGA2Oracle, front_numbers

from .contract import SeededContract, configuration, flaky, loss, play, space

BOTH = [Objective("val_accuracy", "max"), Objective("num_parameters", "min")]


class Played(NSGA2Oracle):
    """Takes one number from the contract as the first of its two objectives."""

    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> Any:
        """Report the number of the contract as the first objective and 0 as the second."""
        number = metrics[self.objective.name]
        both = dict(zip([o.name for o in self.objectives], (number, 0.0), strict=True))
        return super().update_trial(trial_id, both, step)


class TestNSGA2Oracle(SeededContract):
    """NSGA-II under contract; a generation has six trials."""

    def make(self, **options: Any) -> NSGA2Oracle:
        """NSGA-II of 24 trials; the contract's single objective gets a companion."""
        first = options.pop("objective", Objective("val_loss", "min"))
        both = [first, Objective("cost", "min")]
        return Played(**{"objective": both, "max_trials": 24, **options})

    @pytest.mark.parametrize("direction", ["min", "max"])
    def test_failures_are_outcomes(self, direction: str) -> None:
        """With failing trials the search goes on, and the best trial is none of them."""
        oracle: Any = self.of_space(objective=Objective("score", direction))
        play(oracle, flaky, workers=2)
        done = [t for t in oracle.trials.values() if t.status == "COMPLETED"]
        assert 0 < len(done) < len(oracle.trials) == self.budget
        choose = min if direction == "min" else max
        best = choose(oracle.objective_values(t)[0] for t in done)
        assert oracle.objective_values(oracle.get_best_trials()[0])[0] == best


def run(oracle: NSGA2Oracle, values_of: Any) -> None:
    """Play a search; `values_of` returns the objectives of a configuration, by step."""
    while (trial := oracle.create_trial("tuner")).status == "RUNNING":
        for step, numbers in enumerate(values_of(trial)):
            names = [objective.name for objective in oracle.objectives]
            oracle.update_trial(trial.trial_id, dict(zip(names, numbers, strict=True)), step)
        trial.status = "COMPLETED"
        oracle.end_trial(trial)


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether `one` is nowhere greater and somewhere less."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


TABLES = st.integers(1, 4).flatmap(
    lambda n: st.lists(st.tuples(*[st.integers(0, 5)] * n), max_size=25)
)


@given(TABLES)
def test_fronts_are_fronts(rows: list[tuple[int, ...]]) -> None:
    """No row dominates one of its own front, and each later row has one before it that does."""
    numbers = front_numbers(rows)
    assert len(numbers) == len(rows)
    for row, number in zip(rows, numbers, strict=True):
        above = {m for other, m in zip(rows, numbers, strict=True) if dominates(other, row)}
        assert max(above, default=-1) == number - 1


TRIALS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(1, 9).map(float) | st.just(math.nan)),
    min_size=1,
    max_size=12,
)


@given(TRIALS)
def test_best_trials_are_the_fronts_in_order(table: list[tuple[float, float]]) -> None:
    """The Pareto front comes first, best accuracy first; no diverged trial is on it."""
    hp = keras_tuner.HyperParameters()
    hp.Float("x", 0.0, 1.0)
    oracle = NSGA2Oracle(BOTH, len(table), hyperparameters=hp, seed=0, persist=False)
    run(oracle, lambda trial: [table[int(trial.trial_id)]])
    losses = [(-a, n) for a, n in table if math.isfinite(n)]
    best = [oracle.objective_values(t) for t in oracle.get_best_trials(99)]
    assert sorted((-a, n) for a, n in best) == sorted(losses)
    front = [oracle.objective_values(t) for t in oracle.pareto_front()]
    free = [row for row in losses if not any(dominates(other, row) for other in losses)]
    assert sorted((-a, n) for a, n in front) == sorted(free)
    assert best[: len(front)] == front
    assert [a for a, _ in front] == sorted((a for a, _ in front), reverse=True)


def test_values_are_those_of_the_best_step_of_the_first_objective() -> None:
    """A trial counts by one step, where the first objective is best and the others finite."""
    oracle = NSGA2Oracle(BOTH, 1, hyperparameters=space(), seed=0)
    run(oracle, lambda _: [(0.5, 1.0), (0.9, math.inf), (0.8, 7.0), (0.7, 2.0)])
    trial = oracle.trials["0"]
    assert oracle.objective_values(trial) == (0.8, 7.0)
    assert trial.best_step == 2
    assert trial.score == pytest.approx(1.0 - 0.5)


@pytest.mark.parametrize("objective", [None, "val_loss", BOTH[:1], [BOTH[0], BOTH[0]], []])
def test_fewer_than_two_objectives_are_refused(objective: Any) -> None:
    """One objective, none, or one twice is an error that asks for two."""
    with pytest.raises(OptionError, match="two or more objectives"):
        NSGA2Oracle(objective, 10)


@pytest.mark.parametrize(
    ("max_trials", "expected"), [(10, 6), (100, 10), (400, 20), (9999, 50), (None, 50)]
)
def test_population_follows_the_number_of_trials(max_trials: int | None, expected: int) -> None:
    """A generation has the root of the number of trials, within limits."""
    assert NSGA2Oracle(BOTH, max_trials).population_size == expected


def test_population_of_one_is_refused() -> None:
    """A generation without a pair is an error."""
    with pytest.raises(OptionError, match="a generation has 1 trials"):
        NSGA2Oracle(BOTH, 10, population_size=1)


def test_more_trials_keep_the_size_of_generations() -> None:
    """A search resumed with more trials goes on with the generations it was started with."""
    small, large = NSGA2Oracle(BOTH, 64), NSGA2Oracle(BOTH, 400)
    large.set_state(small.get_state())
    assert large.population_size == 8


def test_children_gather_at_the_front() -> None:
    """Late trials dominate early ones far more often than the reverse."""
    oracle = NSGA2Oracle(BOTH, 80, hyperparameters=space(), seed=0)
    run(oracle, lambda t: [(-loss("", t.hyperparameters.values), t.hyperparameters["x"])])
    rows = [oracle._losses(oracle.trials[i]) for i in oracle.start_order]
    early, late = rows[:20], rows[60:]
    better = sum(dominates(b, a) for a in early for b in late)
    worse = sum(dominates(a, b) for a in early for b in late)
    assert better > 3 * worse


def test_children_inherit_within_branches() -> None:
    """Values under a condition are handed down, although not every trial has them."""
    oracle = NSGA2Oracle(BOTH, 60, hyperparameters=space(), seed=0)
    run(oracle, lambda t: [(-loss("", t.hyperparameters.values), t.hyperparameters["x"])])
    rates = [v["rate"] for v in map(configuration, oracle.trials.values()) if "rate" in v]
    assert len(set(rates)) < 0.8 * len(rates)
