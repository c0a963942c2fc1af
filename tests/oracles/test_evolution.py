"""Evolution keeps the contract, breeds from the young and good, and repeats nothing."""

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
from smarttune.oracles import RandomOracle, _domain
from smarttune.oracles._positions import allows, mutated, position, reflected
from smarttune.oracles.evolution import EvolutionOracle
from smarttune.space import NormalPrior

from .contract import (
    SeededContract,
    configuration,
    constant,
    finish,
    play,
    proposals,
    small_space,
    space,
)
from .test_domain import FINITE, declared


class TestEvolutionOracle(SeededContract):
    """Evolution under contract: 24 trials, a population of eight."""

    def make(self, **options: Any) -> EvolutionOracle:
        """Evolution of 24 trials."""
        given = {"objective": "val_loss", "max_trials": 24, "population_size": 8, **options}
        return EvolutionOracle(**given)


CONTINUOUS = [
    declared("Float", -1, 3),
    declared("Float", 1e-5, 1e-1, sampling="log"),
    declared("Float", 0.5, 0.999, sampling="reverse_log"),
]
WORDS = declared("Choice", ["b", "a", "c"])


@given(st.floats(0, 1, exclude_max=True), st.sampled_from(FINITE + CONTINUOUS))
def test_position_is_where_a_draw_came_from(u: float, hp: Any) -> None:
    """Drawing at the position of a value gives the value."""
    value = _domain.draw(hp, u)
    again = _domain.draw(hp, position(hp, value))
    assert again == (value if _domain.num_values(hp) < math.inf else pytest.approx(value))


@given(st.floats(-5, 5))
def test_reflection_folds_into_the_unit_interval(u: float) -> None:
    """A step over an end comes back from there by as much, however often."""
    assert 0 <= reflected(u) < 1
    assert math.cos(math.pi * reflected(u)) == pytest.approx(math.cos(math.pi * u), abs=1e-9)


@given(
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(FINITE + CONTINUOUS),
    st.sampled_from([1e-9, 0.25, 3.0]),
    st.integers(0, 100),
)
def test_mutation_gives_another_allowed_value(u: float, hp: Any, spread: float, seed: int) -> None:
    """Whatever the step, the result is a value of the hyperparameter, and not the same."""
    value = _domain.draw(hp, u)
    other = mutated(hp, value, random.Random(seed), spread=spread)
    assert allows(hp, other)
    if 1 < _domain.num_values(hp) < math.inf:
        assert other != value or isinstance(other, bool) != isinstance(value, bool)
    assert type(other) is type(value)


def test_mutation_steps_by_the_spread() -> None:
    """In the middle of a range the steps have the standard deviation that was asked for."""
    hp, rng = declared("Float", 0.0, 1.0), random.Random(0)
    steps = [mutated(hp, 0.5, rng, spread=0.1) - 0.5 for _ in range(2000)]  # type: ignore[operator]
    assert statistics.pstdev(steps) == pytest.approx(0.1, rel=0.1)
    assert statistics.mean(steps) == pytest.approx(0, abs=0.01)


def test_unordered_mutation_reaches_all_others_alike() -> None:
    """A name mutates to each of the other names equally often."""
    rng = random.Random(0)
    found = [mutated(WORDS, "b", rng, spread=0.1) for _ in range(600)]
    assert set(found) == {"a", "c"}
    assert found.count("a") == pytest.approx(300, abs=60)


def test_value_of_a_range_that_changed_is_drawn_anew() -> None:
    """A value that is no longer allowed mutates to one that is."""
    hp = declared("Float", 0.0, 1.0)
    assert allows(hp, mutated(hp, 7.0, random.Random(0), spread=0.1))
    assert mutated(WORDS, "z", random.Random(0), spread=0.1) in ("a", "b", "c")


def bred(oracle: EvolutionOracle, first: list[float], num_children: int) -> list[dict[str, Any]]:
    """Play a first population with given scores; return children proposed at once."""
    for score in first:
        finish(oracle, oracle.create_trial("t"), score)
    return [configuration(t) for t in oracle.create_trials([str(i) for i in range(num_children)])]


def differences(one: dict[str, Any], other: dict[str, Any]) -> int:
    """How many hyperparameters have another value, or are there in only one of the two."""
    return sum(one.get(n) != other.get(n) for n in {*one, *other})


def plain_space(num_dimensions: int) -> Any:
    """Real numbers without conditions."""
    hp = keras_tuner.HyperParameters()
    for i in range(num_dimensions):
        hp.Float(f"x{i}", 0.0, 1.0)
    return hp


def test_children_differ_from_the_winner_in_about_one_value() -> None:
    """If the tournament is the whole population, all children are mutants of the best."""
    oracle = EvolutionOracle(
        "val_loss",
        None,
        population_size=5,
        tournament_size=100,
        hyperparameters=plain_space(8),
        seed=0,
    )
    children = bred(oracle, [0.5, 0.4, 0.1, 0.3, 0.2], 100)
    best = configuration(oracle.trials[oracle.start_order[2]])
    counts = [differences(best, child) for child in children]
    assert min(counts) == 1
    # one expected, and the third of the cases with none raised to one: 1 + (1 - 1/8)^8
    assert statistics.mean(counts) == pytest.approx(1.34, abs=0.2)


def test_the_old_die_however_good() -> None:
    """Once five younger trials completed, the best of all is no parent any more."""
    oracle = EvolutionOracle(
        "val_loss",
        None,
        population_size=5,
        tournament_size=100,
        hyperparameters=plain_space(8),
        seed=0,
    )
    children = bred(oracle, [0.0, 0.5, 0.4, 0.1, 0.3, 0.2], 20)
    best, heir = (configuration(oracle.trials[oracle.start_order[i]]) for i in (0, 3))
    assert all(differences(best, child) > 4 for child in children)
    assert all(differences(heir, child) < 5 for child in children)


def test_failed_trials_are_no_parents_and_age_nobody() -> None:
    """After any number of diverged trials the best of the completed is still the parent."""
    oracle = EvolutionOracle(
        "val_loss",
        None,
        population_size=3,
        tournament_size=50,
        hyperparameters=plain_space(8),
        seed=1,
    )
    children = bred(oracle, [0.3, 0.1, 0.2] + [math.nan] * 9, 20)
    best = configuration(oracle.trials[oracle.start_order[1]])
    assert all(differences(best, child) < 5 for child in children)


def test_crossover_mixes_two_parents() -> None:
    """With crossover most values of a child come from one of two parents, and both have a part."""
    oracle = EvolutionOracle(
        "val_loss",
        None,
        population_size=2,
        tournament_size=1,
        crossover_rate=1.0,
        hyperparameters=plain_space(12),
        seed=0,
    )
    children = bred(oracle, [0.1, 0.2], 40)
    one, other = (configuration(oracle.trials[i]) for i in oracle.start_order[:2])
    mixed = 0
    for child in children:
        own = sum(child[n] not in (one[n], other[n]) for n in child)
        assert own < 7
        mixed += 2 < differences(one, child) - own < 10
    assert mixed > 10  # both parents are the same in half of the cases


def test_opened_branch_is_drawn_and_closed_one_dropped() -> None:
    """A child in another branch than its parent has just the values of its own."""
    oracle = EvolutionOracle("val_loss", 80, population_size=4, hyperparameters=space(), seed=0)
    play(oracle)
    late = [configuration(oracle.trials[i]) for i in oracle.start_order[4:]]
    assert {v["optimizer"] for v in late} == {"sgd", "adam"}
    assert all(("momentum" in v) == (v["optimizer"] == "sgd") for v in late)
    assert all(("rate" in v) == (v["optimizer"] == "adam") for v in late)


def test_priors_guide_the_branches_that_open() -> None:
    """About half of the values drawn in newly opened branches follow their prior."""
    near = total = 0
    prior = {"rate": NormalPrior(center=0.5, spread=0.001)}
    for seed in range(6):
        oracle = EvolutionOracle(
            "val_loss", None, population_size=4, hyperparameters=space(), seed=seed, priors=prior
        )
        for _ in range(4):
            trial = oracle.create_trial("t")
            finish(oracle, trial, 0.0 if configuration(trial)["optimizer"] == "sgd" else 1.0)
        if len({configuration(t)["optimizer"] for t in oracle.trials.values()}) < 2:
            continue
        for trial in oracle.create_trials([str(i) for i in range(60)]):
            values = configuration(trial)
            if "rate" in values:
                near += abs(math.log10(values["rate"]) + 3) < 0.05
                total += 1
    assert total > 40
    assert 0.25 * total < near < 0.7 * total


def test_nothing_is_asked_twice() -> None:
    """In a space of five configurations evolution tries each once, and then ends."""
    oracle = EvolutionOracle(
        "val_loss", 50, population_size=2, hyperparameters=small_space(), seed=0
    )
    play(oracle, constant(1.0), workers=2)
    tried = [str(configuration(t)) for t in oracle.trials.values()]
    assert len(tried) == len(set(tried)) == 5


def test_evolution_beats_random_search() -> None:
    """On a smooth function 120 trials get closer to the optimum than random ones."""
    medians = []
    for cls in (EvolutionOracle, RandomOracle):
        best = []
        for seed in range(5):
            oracle = cls("val_loss", 120, hyperparameters=space(), seed=seed)
            play(oracle)
            best.append(oracle.get_best_trials()[0].score)
        medians.append(statistics.median(best))
    assert medians[0] < 0.7 * medians[1]


def test_first_population_is_that_of_random_search() -> None:
    """Until the population is complete, evolution draws as random search does."""
    evolution = EvolutionOracle("val_loss", 30, hyperparameters=space(), seed=4)
    drawn = RandomOracle("val_loss", 30, hyperparameters=space(), seed=4)
    play(evolution, stop_after=21)
    play(drawn, stop_after=21)
    assert proposals(evolution)[:20] == proposals(drawn)[:20]
    assert proposals(evolution)[20] != proposals(drawn)[20]


@pytest.mark.parametrize(
    "options", [{"population_size": 0}, {"tournament_size": 0}, {"crossover_rate": 1.5}]
)
def test_impossible_populations_are_refused(options: dict[str, Any]) -> None:
    """A size below one and a rate that is no probability are errors that say which."""
    with pytest.raises(OptionError, match=next(iter(options))):
        EvolutionOracle(**options)
