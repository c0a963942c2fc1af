"""Grid search keeps the contract, resumes, and refuses endless grids."""

from __future__ import annotations

from typing import Any

import keras_tuner
import pytest

from smarttune.errors import OptionError
from smarttune.oracles import GridOracle

from .contract import OracleContract, configuration, constant, play, small_space, space


class TestGridOracle(OracleContract):
    """Grid search under contract; its levels are three, so the grid is larger than the budget."""

    def make(self, **options: Any) -> GridOracle:
        """Grid search of at most 24 trials."""
        # Nine steps of the space that is declared late must fit into the trials.
        return GridOracle(**{"objective": "val_loss", "max_trials": 24, "levels": 3, **options})


def test_grid_is_walked_defaults_first_and_last_fastest() -> None:
    """The order is the defaults, then the last hyperparameter, then those before it."""
    oracle = GridOracle(hyperparameters=small_space())
    play(oracle, constant(1.0))
    assert [configuration(t) for t in oracle.trials.values()] == [
        {"kind": "a", "depth": 1},
        {"kind": "a", "depth": 2},
        {"kind": "a", "depth": 3},
        {"kind": "b", "width": 8},
        {"kind": "b", "width": 16},
    ]
    assert oracle.grid_size == 5


def test_ranges_without_steps_get_levels_with_both_ends() -> None:
    """A range without steps is cut into `levels` values on its own scale."""
    hp = keras_tuner.HyperParameters()
    hp.Float("rate", 1e-4, 1e-2, sampling="log")
    hp.Int("units", 10, 1000, sampling="log")
    oracle = GridOracle(hyperparameters=hp, levels=3)
    play(oracle, constant(1.0))
    rates = sorted({t.hyperparameters.values["rate"] for t in oracle.trials.values()})
    units = sorted({t.hyperparameters.values["units"] for t in oracle.trials.values()})
    assert rates == pytest.approx([1e-4, 1e-3, 1e-2])
    assert units == [10, 100, 1000]
    assert len(oracle.trials) == 9


def test_endless_grid_is_refused_with_its_size() -> None:
    """A grid above the limit is an error that says how many values each range gets."""
    hp = keras_tuner.HyperParameters()
    for name in "abcde":
        hp.Int(name, 1, 10)
    oracle = GridOracle(hyperparameters=hp)
    with pytest.raises(OptionError, match=r"more than 10000 configurations \(a 10, b 10"):
        oracle.create_trial("t")


def test_one_level_is_refused() -> None:
    """A range cannot be searched at one level."""
    with pytest.raises(OptionError, match="levels is 1"):
        GridOracle(levels=1)


def test_initial_trial_inside_the_grid_is_not_repeated() -> None:
    """A recommended configuration that lies on the grid is run once."""
    oracle = GridOracle(hyperparameters=small_space(), initial_trials=[{"kind": "b", "width": 16}])
    play(oracle, constant(1.0))
    assert configuration(oracle.trials[oracle.start_order[0]]) == {"kind": "b", "width": 16}
    assert len(oracle.trials) == 5


def test_whole_grid_is_tried_by_several_workers() -> None:
    """Three workers together try every configuration once."""
    oracle = GridOracle(hyperparameters=space(), levels=2)
    play(oracle, constant(1.0), workers=3)
    assert len(oracle.trials) == oracle.grid_size == 2 * 5 * (2 + 2)
    assert len({str(configuration(t)) for t in oracle.trials.values()}) == oracle.grid_size
