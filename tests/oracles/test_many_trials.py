"""Thousands of trials: neither memory nor work per trial grows with their number."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

import keras_tuner
import pytest

from smarttune.oracles import HyperbandOracle, RandomOracle, RepairedOracle
from smarttune.oracles.asha import AshaOracle
from smarttune.oracles.evolution import EvolutionOracle
from smarttune.oracles.iterative_random import IterativeRandomOracle

from .contract import finish

# The trials between which memory is compared, and around which work is counted.
NUM_TRIALS = 2000
HALF = NUM_TRIALS // 2
NUM_COUNTED = 66  # three iterations of Hyperband with nine epochs

STRATEGIES: dict[str, Callable[..., RepairedOracle]] = {
    "random": lambda **options: RandomOracle("val_loss", None, **options),
    "evolution": lambda **options: EvolutionOracle("val_loss", None, **options),
    "iterative_random": lambda **options: IterativeRandomOracle("val_loss", None, **options),
    "asha": lambda **options: AshaOracle("val_loss", 9, **options),
    "hyperband": lambda **options: HyperbandOracle(
        "val_loss", 9, hyperband_iterations=None, **options
    ),
}


def plain_space() -> Any:
    """Two numbers and a name."""
    hp = keras_tuner.HyperParameters()
    hp.Float("x", 0.0, 1.0)
    hp.Float("rate", 1e-5, 1e-1, sampling="log")
    hp.Choice("optimizer", ["sgd", "adam"])
    return hp


def play_trials(oracle: RepairedOracle, numbers: Iterable[int]) -> None:
    """Run so many trials of one worker."""
    for number in numbers:
        trial = oracle.create_trial("t")
        finish(oracle, trial, trial.hyperparameters.values["x"] + number % 7)


def calls_during(action: Callable[[], None]) -> int:
    """How many Python and C functions are called."""
    count = 0

    def counting(_: Any, event: str, __: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counting)
    try:
        action()
    finally:
        sys.setprofile(before)
    return count


def traced() -> int:
    """Bytes that Python holds now."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
def test_work_per_trial_does_not_grow(name: str) -> None:
    """The last of 2,000 trials take as many function calls as the last of the first thousand."""
    oracle = STRATEGIES[name](hyperparameters=plain_space(), seed=0)
    counts = []
    for end in (HALF, NUM_TRIALS):
        play_trials(oracle, range(len(oracle.trials), end - NUM_COUNTED))
        counts.append(calls_during(lambda: play_trials(oracle, range(NUM_COUNTED))))
    assert len(oracle.trials) == NUM_TRIALS
    assert counts[1] < 1.2 * counts[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
def test_memory_per_trial_does_not_grow(name: str) -> None:
    """The second thousand of trials take about as much memory as the first."""
    oracle = STRATEGIES[name](hyperparameters=plain_space(), seed=0)
    play_trials(oracle, range(20))  # what is allocated once
    tracemalloc.start()
    try:
        levels = [traced()]
        for _ in range(2):
            play_trials(oracle, range(HALF))
            levels.append(traced())
    finally:
        tracemalloc.stop()
    first, second = levels[1] - levels[0], levels[2] - levels[1]
    assert first / 1.5 < second < 1.5 * first


@pytest.mark.parametrize("name", STRATEGIES)
def test_hashes_are_kept_in_step(name: str) -> None:
    """Trials meet new hyperparameters: no hash of before is left, one of a parent stays."""
    oracle = STRATEGIES[name](hyperparameters=plain_space(), seed=0)
    for number in range(60):
        trial = oracle.create_trial("t")
        if number % 7 == 6 or "tuner/trial_id" in trial.hyperparameters.values:
            trial.hyperparameters.Int(f"late{number}", 1, 9)
        finish(oracle, trial, float(number % 5))
    assert oracle._tried_so_far == set(oracle._id_to_hash.values())
    assert set(oracle._id_to_hash) == set(oracle.trials)
