"""Iterative random search keeps the contract, closes in, and follows an optimum outwards."""

from __future__ import annotations

import math
import random
import statistics
from typing import Any

import keras_tuner
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.errors import OptionError
from smarttune.oracles import RandomOracle, _boxes
from smarttune.oracles._boxes import WHOLE, Boxes, Interval, moved
from smarttune.oracles.iterative_random import IterativeRandomOracle
from smarttune.space import NormalPrior

from .contract import SeededContract, configuration, constant, loss, play, proposals, space
from .test_domain import declared

UNIT = st.floats(0, 1)


class TestIterativeRandomOracle(SeededContract):
    """Iterative random search under contract: 24 trials in rounds of eight."""

    def make(self, **options: Any) -> IterativeRandomOracle:
        """Three rounds."""
        given = {"objective": "val_loss", "max_trials": 24, "round_size": 8, **options}
        return IterativeRandomOracle(**given)


@given(st.tuples(UNIT, UNIT), st.lists(UNIT, min_size=3, max_size=9))
def test_intervals_hold_the_best_and_stay_in_range(
    ends: tuple[float, float], positions: list[float]
) -> None:
    """Wherever the best trials lie, the next interval holds the very best and is wide enough."""
    now = Interval(min(ends), max(ends))
    after = moved(now, positions)
    slack = 1e-9
    assert 0 <= after.low <= after.high <= 1 + slack
    assert after.low - slack <= positions[0] <= after.high + slack
    assert after.width >= min(now.width / 2, _boxes.MIN_WIDTH) - slack


@given(st.lists(st.floats(0.3, 0.6), min_size=3, max_size=9))
def test_good_trials_inside_are_never_cut_off(positions: list[float]) -> None:
    """Narrowing leaves all best trials inside, and halves the interval at most."""
    after = moved(WHOLE, positions)
    assert after.low <= min(positions)
    assert max(positions) <= after.high
    assert 0.5 <= after.width < 1


def test_optimum_at_an_end_blocks_and_widens_that_side() -> None:
    """With the best at the lower end that end moves out, up to the declared range."""
    now = Interval(0.4, 0.6)
    after = moved(now, [0.41, 0.42, 0.43])
    assert after.low == pytest.approx(0.35)
    assert after.high == pytest.approx(0.55)
    assert moved(Interval(0.0, 0.2), [0.001, 0.05, 0.05]).low == 0.0
    mirrored = moved(now, [0.59, 0.58, 0.57])
    assert (mirrored.low, mirrored.high) == pytest.approx((0.45, 0.65))


def test_best_outside_the_interval_is_taken_in() -> None:
    """A best trial from an earlier, wider round pulls the end to itself at once."""
    assert moved(Interval(0.6, 0.7), [0.2, 0.65, 0.65]).low < 0.2


def narrowed(hp: Any, values: list[Any], num_steps: int = 1) -> Boxes:
    """Boxes after steps around the same best values."""
    boxes = Boxes()
    for _ in range(num_steps):
        boxes.tighten([hp], [{hp.name: v} for v in values])
    return boxes


def test_choices_keep_what_the_best_have_and_a_floor() -> None:
    """Names among the best are drawn alike, the others for a share of the floor."""
    hp = declared("Choice", ["a", "b", "c", "d"])
    boxes, rng = narrowed(hp, ["a", "c", "a", "a"]), random.Random(0)
    drawn = [boxes.draw(hp, rng) for _ in range(4000)]
    share = {name: drawn.count(name) / 4000 for name in "abcd"}
    kept, left = 0.9 / 2 + 0.1 / 4, 0.1 / 4
    assert share == pytest.approx({"a": kept, "b": left, "c": kept, "d": left}, abs=0.02)


def test_few_trials_of_a_branch_narrow_nothing() -> None:
    """Two good trials with a hyperparameter are too few to narrow its range or its names."""
    number, name = declared("Float", 0.0, 1.0), declared("Choice", ["a", "b", "c"])
    assert narrowed(number, [0.5, 0.5]).intervals == {}
    assert narrowed(name, ["a", "a"]).shown == {}


def test_neighbours_of_a_number_with_steps_stay_in_reach() -> None:
    """However often the same of five numbers is best, a neighbour is still drawn."""
    hp = declared("Int", 1, 5)
    boxes, rng = narrowed(hp, [3, 3, 3], num_steps=9), random.Random(0)
    drawn = {boxes.draw(hp, rng) for _ in range(200)}
    assert {3} < drawn < {1, 2, 3, 4, 5}


def test_constants_and_lost_values_do_no_harm() -> None:
    """A range of one value is left alone, and values outside a changed range are passed over."""
    assert narrowed(declared("Fixed", 4), [4, 4, 4]).shown == {}
    assert narrowed(declared("Float", 0.0, 1.0), [7.0, 8.0, 9.0]).intervals == {}


def line(x: float) -> Any:
    """Distance from `x` as loss."""
    return lambda _, values: abs(values["x"] - x)


def test_rounds_close_in_on_an_optimum_inside() -> None:
    """From round to round the draws lie closer to the optimum."""
    hp = keras_tuner.HyperParameters()
    hp.Float("x", 0.0, 1.0)
    oracle = IterativeRandomOracle("val_loss", 60, hyperparameters=hp, seed=0)
    play(oracle, line(0.6))
    drawn = [values["x"] for values in proposals(oracle)]
    spreads = [statistics.mean(abs(x - 0.6) for x in drawn[i : i + 10]) for i in (0, 20, 50)]
    assert spreads[0] > 4 * spreads[2]
    assert spreads[1] > 2 * spreads[2]


def test_draws_follow_an_optimum_that_the_first_rounds_missed() -> None:
    """If the loss turns round after two rounds, the range moves out to the far end."""
    hp = keras_tuner.HyperParameters()
    hp.Float("x", 0.0, 1.0)
    oracle = IterativeRandomOracle("val_loss", 200, hyperparameters=hp, seed=0)
    play(oracle, lambda i, v: abs(v["x"] - 0.3) + 1 if int(i) < 20 else 1 - v["x"])
    late = [values["x"] for values in proposals(oracle)[-20:]]
    assert statistics.mean(late) > 0.85
    early = [values["x"] for values in proposals(oracle)[10:20]]
    assert max(early) < 0.85


def test_diverging_half_is_left() -> None:
    """Where half of the range diverges, the later draws keep to the other half."""
    hp = keras_tuner.HyperParameters()
    hp.Float("rate", 1e-6, 1.0, sampling="log")
    oracle = IterativeRandomOracle("val_loss", 60, hyperparameters=hp, seed=0)
    play(
        oracle,
        lambda _, v: math.inf if v["rate"] > 1e-3 else (math.log10(v["rate"]) + 4.5) ** 2,
    )
    late = [values["rate"] for values in proposals(oracle)[-20:]]
    assert max(late) < 1e-3


def test_iterative_beats_plain_random_search() -> None:
    """On a smooth function 60 trials get closer to the optimum than those of random search."""
    medians = []
    for cls in (IterativeRandomOracle, RandomOracle):
        best = []
        for seed in range(7):
            oracle = cls("val_loss", 60, hyperparameters=space(), seed=seed)
            play(oracle)
            best.append(oracle.get_best_trials()[0].score)
        medians.append(statistics.median(best))
    assert medians[0] < 0.7 * medians[1]


@pytest.mark.parametrize("direction", ["min", "max"])
def test_direction_decides_what_is_best(direction: str) -> None:
    """A score to maximize draws to its maximum, a loss to its minimum."""
    hp = keras_tuner.HyperParameters()
    hp.Float("x", 0.0, 1.0)
    oracle = IterativeRandomOracle(
        keras_tuner.Objective("score", direction), 40, hyperparameters=hp, seed=0
    )
    play(oracle, lambda _, v: v["x"])
    late = statistics.mean(values["x"] for values in proposals(oracle)[-10:])
    assert (late > 0.6) == (direction == "max")


def test_priors_hold_until_a_round_has_narrowed() -> None:
    """A prior at the wrong end has no part in the draws once the range has moved away."""
    hp = keras_tuner.HyperParameters()
    hp.Float("x", 0.0, 1.0)
    prior = {"x": NormalPrior(center=0.95, spread=0.01)}
    oracle = IterativeRandomOracle("val_loss", 40, hyperparameters=hp, seed=0, priors=prior)
    play(oracle, line(0.2))
    drawn = [values["x"] for values in proposals(oracle)]
    assert sum(x > 0.9 for x in drawn[:10]) >= 3
    assert max(drawn[-20:]) < 0.9


def test_search_in_which_nothing_completes_stays_random() -> None:
    """Without a completed trial nothing is narrowed and the search ends with its budget."""
    oracle = IterativeRandomOracle("val_loss", 40, hyperparameters=space(), seed=0)
    play(oracle, constant(math.nan))
    xs = [configuration(t)["x"] for t in oracle.trials.values()]
    assert len(xs) == 40
    assert max(xs[20:]) - min(xs[20:]) > 0.7


def test_reading_all_trials_anew_changes_nothing() -> None:
    """The ranges are a function of the trials: those of a state that was read are the same."""
    oracle = IterativeRandomOracle("val_loss", 60, hyperparameters=space(), seed=0)
    play(oracle, loss, stop_after=37)
    oracle.create_trial("a")
    grown = (oracle._boxes.intervals, oracle._boxes.shown)
    assert all(grown)
    oracle.set_state(oracle.get_state())
    oracle._follow()
    assert (oracle._boxes.intervals, oracle._boxes.shown) == grown


def test_too_small_a_round_is_refused() -> None:
    """A round of two trials cannot show where the good ones lie."""
    with pytest.raises(OptionError, match="round_size is 2"):
        IterativeRandomOracle(round_size=2)
