"""A rung comes out whole: what a batch of asks gives of strategies with rungs."""

from __future__ import annotations

from typing import Any

import pytest

from smarttune.oracles import HyperbandOracle
from smarttune.oracles.asha import AshaOracle
from smarttune.oracles.i_epoch import IEpochOracle

from .contract import finish, loss, small_space, space


def end_all(oracle: Any, trials: list[Any]) -> None:
    """Complete trials with their loss."""
    for trial in trials:
        finish(oracle, trial, loss(trial.trial_id, trial.hyperparameters.values))


def rungs(trials: list[Any]) -> list[tuple[int, int]]:
    """Bracket and rung of each trial."""
    values = [t.hyperparameters.values for t in trials]
    return [(v["tuner/bracket"], v["tuner/round"]) for v in values]


def tuners(count: int) -> list[str]:
    """Names of so many tuners."""
    return [f"tuner{i}" for i in range(count)]


def test_hyperband_rung_comes_out_whole() -> None:
    """The nine trials of the lowest rung come at once, and so do the three promotions."""
    oracle = HyperbandOracle("val_loss", 9, hyperparameters=space(), seed=0)
    lowest = oracle.create_trials(tuners(9))
    assert rungs(lowest) == [(2, 0)] * 9
    end_all(oracle, lowest)
    middle = oracle.create_trials(tuners(3))
    assert rungs(middle) == [(2, 1)] * 3


def test_hyperband_opens_the_next_bracket_for_further_tuners() -> None:
    """Tuners beyond the first bracket get the trials of the next ones, not an answer to wait."""
    oracle = HyperbandOracle("val_loss", 9, hyperparameters=space(), seed=0)
    assert rungs(oracle.create_trials(tuners(99))) == [(2, 0)] * 9 + [(1, 0)] * 5 + [(0, 0)] * 3


def test_asha_promotes_all_that_are_due_at_once() -> None:
    """After nine trials completed a batch starts with three promotions, then new ones."""
    oracle = AshaOracle("val_loss", 9, hyperparameters=space(), seed=0)
    end_all(oracle, oracle.create_trials(tuners(9)))
    assert rungs(oracle.create_trials(tuners(5))) == [(2, 1)] * 3 + [(2, 0)] * 2


def test_i_epoch_finalists_come_out_together() -> None:
    """All configurations come at once, then all finalists, then the end."""
    oracle = IEpochOracle("val_loss", 12, max_epochs=9, hyperparameters=space(), seed=0)
    for expected in ([(1, 0)] * 12, [(1, 1)] * 3):
        trials = oracle.create_trials(tuners(20))
        assert rungs(trials) == expected
        assert [t.status for t in oracle.create_trials(["late", "later"])] == ["IDLE"]
        end_all(oracle, trials)
    assert [t.status for t in oracle.create_trials(tuners(3))] == ["STOPPED"]


def test_batch_of_a_small_space_is_as_large_as_the_space() -> None:
    """Seven tuners of a space of five configurations get five trials and no padding."""
    oracle = AshaOracle("val_loss", 9, hyperparameters=small_space(), seed=0)
    trials = oracle.create_trials(tuners(7))
    assert [t.status for t in trials] == ["RUNNING"] * 5


def test_trials_to_retry_are_part_of_a_batch() -> None:
    """Trials that failed and may be run again come first in the next batch."""
    oracle = AshaOracle("val_loss", 9, hyperparameters=space(), max_retries_per_trial=1)
    first = oracle.create_trials(tuners(3))
    for trial in first[:2]:
        finish(oracle, trial, "crash")
    again = oracle.create_trials(tuners(3))
    assert [t.trial_id for t in again[:2]] == [t.trial_id for t in first[:2]]
    assert again[2] is first[2]


def test_error_in_a_batch_loses_no_trial_before_it(tmp_path: Any) -> None:
    """If the third proposal raises, the first two are running, saved, and given again."""
    oracle = AshaOracle("val_loss", 9, hyperparameters=space(), seed=0)
    oracle._set_project_dir(str(tmp_path), "p")
    propose = oracle.propose

    def breaks(trial_id: str) -> Any:
        return 1 / 0 if int(trial_id) == 2 else propose(trial_id)

    oracle.propose = breaks  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        oracle.create_trials(tuners(3))
    oracle.propose = propose  # type: ignore[method-assign]
    resumed = AshaOracle("val_loss", 9, hyperparameters=space(), seed=0)
    resumed._set_project_dir(str(tmp_path), "p")
    resumed.reload()
    assert resumed.start_order == ["0000", "0001"]
    assert [t.trial_id for t in oracle.create_trials(tuners(3))] == ["0000", "0001", "0002"]
