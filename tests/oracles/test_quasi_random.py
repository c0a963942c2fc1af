"""Quasi-random search keeps the contract and fills the space evenly."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import keras_tuner
import numpy as np
import pytest
from scipy.stats import qmc

from smarttune.oracles.quasi_random import QuasiRandomOracle
from smarttune.oracles.random_search import RandomOracle
from smarttune.space import NormalPrior

from .contract import SeededContract, play, proposals


class TestQuasiRandomOracle(SeededContract):
    """Quasi-random search under contract."""

    def make(self, **options: Any) -> QuasiRandomOracle:
        """Quasi-random search of 24 trials."""
        return QuasiRandomOracle(**{"objective": "val_loss", "max_trials": 24, **options})


def cube() -> Any:
    """A space of three ranges, the unit cube."""
    hp = keras_tuner.HyperParameters()
    for name in "xyz":
        hp.Float(name, 0.0, 1.0)
    return hp


def points(cls: Any, seed: int, **options: Any) -> np.ndarray:
    """The proposals of 32 trials on the cube."""
    oracle = cls("val_loss", 32, hyperparameters=cube(), seed=seed, **options)
    play(oracle, lambda *_: 0.5)
    return np.array([[values[name] for name in "xyz"] for values in proposals(oracle)])


def test_points_are_more_even_than_random_ones() -> None:
    """Under each of five seeds the discrepancy lies below that of random search."""
    for seed in range(5):
        even, rough = (points(cls, seed) for cls in (QuasiRandomOracle, RandomOracle))
        assert qmc.discrepancy(even) < 0.7 * qmc.discrepancy(rough)


def test_priors_and_uniform_points_take_turns() -> None:
    """Every other point, from the first on, goes through the priors."""
    x = points(QuasiRandomOracle, 3, priors={"x": NormalPrior(center=0.9, spread=1e-4)})[:, 0]
    assert list(abs(x - 0.9) < 0.01) == [True, False] * 16


@pytest.mark.parametrize("seed", range(5))
def test_both_halves_are_evenly_spread(seed: int) -> None:
    """Of 16 points each, every sixteenth of the range and of the prior's mass gets one."""
    x = points(QuasiRandomOracle, seed, priors={"x": NormalPrior(center=0.5, spread=0.05)})[:, 0]
    mass = [NormalDist(0.5, 0.05).cdf(value) for value in x[::2]]
    assert sorted(int(16 * value) for value in x[1::2]) == list(range(16))
    assert sorted(int(16 * value) for value in mass) == list(range(16))


def test_tried_points_are_skipped() -> None:
    """On five values the sequence gives five different trials and then ends."""
    hp = keras_tuner.HyperParameters()
    hp.Int("x", 1, 5)
    oracle = QuasiRandomOracle("val_loss", 20, hyperparameters=hp, seed=0)
    play(oracle, lambda *_: 0.5)
    assert sorted(values["x"] for values in proposals(oracle)) == [1, 2, 3, 4, 5]
