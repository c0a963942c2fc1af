"""CMA-ES keeps the contract, finds the bottom of smooth valleys, and starts where it is told."""

from __future__ import annotations

import math
import statistics
from typing import Any

import keras_tuner
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras_tuner import Objective

from smarttune.oracles import _domain
from smarttune.oracles.cma import CMAOracle, _center_and_spread, _near, _position
from smarttune.oracles.random_search import RandomOracle
from smarttune.space import Choice, Dimension, FloatRange, NormalPrior, WeightsPrior

from .contract import CRASH, SeededContract, configuration, play, space


class TestCMAOracle(SeededContract):
    """CMA-ES under contract; a generation has six trials."""

    def make(self, **options: Any) -> CMAOracle:
        """CMA-ES of 24 trials."""
        return CMAOracle(**{"objective": "val_loss", "max_trials": 24, **options})


def four() -> Any:
    """A space of four numbers on different scales."""
    hp = keras_tuner.HyperParameters()
    hp.Float("a", -1.0, 1.0)
    hp.Float("b", 0.0, 10.0)
    hp.Float("c", 1e-5, 1e-1, sampling="log")
    hp.Int("d", 0, 100)
    return hp


def sphere(_: str, v: Any) -> float:
    """Squared distance from a shifted optimum in units of the ranges."""
    c = (math.log10(v["c"]) + 3.5) / 4
    return float(
        ((v["a"] - 0.4) / 2) ** 2 + ((v["b"] - 2) / 10) ** 2 + c**2 + ((v["d"] - 80) / 100) ** 2
    )


@pytest.mark.parametrize("direction", ["min", "max"])
def test_shifted_sphere_is_descended(direction: str) -> None:
    """After 100 trials the best lies within a tenth of the ranges, far closer than random."""
    sign = 1 if direction == "min" else -1
    medians = []
    for cls in (CMAOracle, RandomOracle):
        best = []
        for seed in range(3):
            oracle = cls(Objective("score", direction), 100, hyperparameters=four(), seed=seed)
            play(oracle, lambda i, v: sign * sphere(i, v))
            best.append(math.sqrt(sign * oracle.get_best_trials()[0].score))
        medians.append(statistics.median(best))
    assert medians[0] < 0.1
    assert medians[0] < 0.5 * medians[1]


def test_start_is_the_recommendation_with_the_spread_of_the_priors() -> None:
    """Before a generation has ended the mean is the first initial trial, wide where unknown."""
    oracle = CMAOracle(
        "val_loss",
        hyperparameters=four(),
        initial_trials=[{"a": 0.5, "b": 1.0, "c": 1e-2, "d": 50}, {"a": 0.9}],
        priors={"a": NormalPrior(center=0.1, spread=0.05)},
    )
    start = oracle._evolution(oracle.hyperparameters.space)
    assert start.mean == pytest.approx([0.75, 0.1, 0.75, 0.5], abs=1e-9)
    assert np.sqrt(np.diag(start._C)) * start._sigma == pytest.approx([0.05, 0.3, 0.3, 0.3])


def test_flat_scores_start_anew_with_larger_generations() -> None:
    """Where scores never differ, the search starts anew, each time with twice the population."""
    hp = keras_tuner.HyperParameters()
    hp.Float("x", 0.0, 1.0)
    oracle = CMAOracle("val_loss", 200, hyperparameters=hp, seed=0)
    play(oracle, lambda *_: 0.5)
    assert oracle._evolution(hp.space).population_size in (8, 16)


def test_failing_region_is_left() -> None:
    """Failed trials rank last: with half of the range crashing, late trials seldom do."""
    hp = keras_tuner.HyperParameters()
    hp.Float("x", 0.0, 1.0)
    hp.Float("y", 0.0, 1.0)
    options: Any = {"hyperparameters": hp, "seed": 1, "max_consecutive_failed_trials": None}
    oracle = CMAOracle("val_loss", 60, **options)
    play(oracle, lambda _, v: CRASH if v["x"] > 0.5 else float(v["y"]))
    late = [oracle.trials[i].status for i in oracle.start_order[30:]]
    assert late.count("FAILED") < 0.3 * len(late)


def test_categories_and_branches_are_still_drawn() -> None:
    """What has no order or lies under a condition takes many values to the end."""
    oracle = CMAOracle("val_loss", 60, hyperparameters=space(), seed=0)
    play(oracle, lambda _, v: v["x"])
    late = [configuration(oracle.trials[i]) for i in oracle.start_order[30:]]
    assert {v["optimizer"] for v in late} == {"sgd", "adam"}
    assert len({v.get("rate") or v.get("momentum") for v in late}) == len(late)


def test_values_outside_a_changed_range_are_learnt_from() -> None:
    """After a range was narrowed and a choice taken away, proposals go on inside the new space."""
    hp = keras_tuner.HyperParameters()
    hp.Float("x", 0.0, 1.0)
    hp.Choice("size", [1, 2, 3])
    oracle = CMAOracle("val_loss", 30, hyperparameters=hp, seed=0)
    play(oracle, lambda _, v: (v["x"] - 0.5) ** 2, stop_after=15)
    oracle.reshape(
        [
            Dimension(name="x", range=FloatRange(low=0.4, high=0.5), value=0.45),
            Dimension(name="size", range=Choice(values=(1, 2)), value=1),
        ]
    )
    play(oracle, lambda _, v: (v["x"] - 0.5) ** 2)
    late = [configuration(oracle.trials[i]) for i in oracle.start_order[15:]]
    assert len(late) == 15
    assert all(0.4 <= v["x"] <= 0.5 and v["size"] in (1, 2) for v in late)


def test_weights_have_a_center_and_a_spread() -> None:
    """Equal weights spread like the uniform distribution; all on one value lie in its bin."""
    assert _center_and_spread(WeightsPrior(weights=(1, 1, 1))) == pytest.approx((0.5, 12**-0.5))
    one = _center_and_spread(WeightsPrior(weights=(0, 0, 1, 0)))
    assert one == pytest.approx((0.625, 0.25 * 12**-0.5))


KINDS = keras_tuner.HyperParameters()
KINDS.Int("plain", 3, 9)
KINDS.Int("stepped", 0, 10, step=5)
KINDS.Int("log", 1, 1000, sampling="log")
KINDS.Float("linear", -1.0, 1.0)
KINDS.Float("powers", 1e-4, 1e-1, step=10, sampling="log")
KINDS.Float("reverse", 0.5, 0.999, sampling="reverse_log")
KINDS.Choice("ordered", [30, 10, 20])


@given(st.sampled_from(KINDS.space), st.floats(0, 1, exclude_max=True))
def test_position_undoes_a_draw(hp: Any, u: float) -> None:
    """The value at the position of a value is that value, on every scale."""
    value = _domain.draw(hp, u)
    assert _domain.draw(hp, _position(hp, value)) == pytest.approx(value)


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.floats(0.001, 0.3))
def test_far_trials_come_near(point: list[float], spread: float) -> None:
    """A trial is moved straight towards the mean, never past a few standard deviations."""
    priors = {name: NormalPrior(center=0.5, spread=spread) for name in "abcd"}
    oracle = CMAOracle("val_loss", hyperparameters=four(), priors=priors)
    evolution = oracle._evolution(oracle.hyperparameters.space)
    moved = _near(evolution, np.array(point)) - 0.5
    step = np.array(point) - 0.5
    longest = (math.sqrt(4) + 8 / 6) * spread
    assert np.linalg.norm(moved) <= longest * (1 + 1e-9)
    if np.linalg.norm(step) <= longest:
        assert moved == pytest.approx(step)
    else:
        assert moved == pytest.approx(step * longest / np.linalg.norm(step))
