"""Random search keeps the contract, and stands in for KerasTuner's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras_tuner
import pytest
from keras_tuner.engine import base_tuner

from smarttune.errors import RunError
from smarttune.oracles import STRATEGIES, RandomOracle

from .contract import CRASH, SeededContract, finish, loss, play, proposals, space


class TestRandomOracle(SeededContract):
    """Random search under contract."""

    def make(self, **options: Any) -> RandomOracle:
        """Random search of 24 trials."""
        return RandomOracle(**{"objective": "val_loss", "max_trials": 24, **options})


def test_trials_do_not_depend_on_the_budget() -> None:
    """A search with a larger budget starts with the trials of the smaller one."""
    short = RandomOracle(max_trials=5, hyperparameters=space(), seed=3)
    long = RandomOracle(max_trials=1000, hyperparameters=space(), seed=3)
    play(short)
    play(long, stop_after=5)
    assert proposals(short) == proposals(long)


def test_base_tuner_with_model_finds_the_largest_factor(tmp_path: Path) -> None:
    """A `BaseTuner` whose hypermodel is no Keras model works as with RandomSearchOracle."""

    class Scaling(base_tuner.BaseTuner):  # type: ignore[misc]
        def run_trial(self, trial: Any, x: float) -> dict[str, float]:
            return {"score": self.hypermodel.build(trial.hyperparameters) * x}

    tuner = Scaling(
        oracle=RandomOracle(keras_tuner.Objective("score", "max"), max_trials=5),
        hypermodel=lambda hp: hp.Float("factor", 0, 10),
        directory=str(tmp_path),
    )
    tuner.search(1.0)
    factors = [t.hyperparameters.get("factor") for t in tuner.oracle.trials.values()]
    assert len(set(factors)) == 5
    assert tuner.get_best_hyperparameters()[0].get("factor") == max(factors)


def test_search_prints_only_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A stock tuner with our oracle is silent, unless its user asks for KerasTuner's display."""

    class Played(keras_tuner.Tuner):  # type: ignore[misc]
        def run_trial(self, trial: Any, *_: Any, **__: Any) -> float:
            return loss("", trial.hyperparameters.values)

    for name, arguments in (("silent", {}), ("loud", {"verbose": 1})):
        oracle = RandomOracle(max_trials=2, hyperparameters=space())
        Played(oracle=oracle, directory=str(tmp_path), project_name=name).search(**arguments)
        assert ("Trial" in capsys.readouterr().out) == (name == "loud")


def test_sum_of_objectives_is_scored_from_its_parts() -> None:
    """Two objectives are summed, the one to maximize with a minus."""
    parts = [keras_tuner.Objective("a", "min"), keras_tuner.Objective("b", "max")]
    oracle = RandomOracle(parts, max_trials=1, hyperparameters=space())
    trial = oracle.create_trial("t")
    oracle.update_trial(trial.trial_id, {"a": 3.0, "b": 1.0})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    assert trial.score == 2.0


@pytest.mark.parametrize("diverged", [float("nan"), float("-inf"), float("inf")])
def test_best_step_counts_although_a_later_one_diverged(diverged: float) -> None:
    """A finite score before the divergence is the trial's score."""
    oracle = RandomOracle("val_loss", max_trials=1, hyperparameters=space())
    trial = oracle.create_trial("t")
    for step, value in enumerate([0.9, 0.5, diverged]):
        oracle.update_trial(trial.trial_id, {"val_loss": value}, step=step)
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    assert (trial.status, trial.score, trial.best_step) == ("COMPLETED", 0.5, 1)


def test_damaged_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    """A truncated file of an earlier search is reported by name."""
    oracle = RandomOracle(max_trials=3, hyperparameters=space())
    oracle._set_project_dir(str(tmp_path), "p")
    play(oracle, stop_after=2)
    (tmp_path / "p" / "trial_1" / "trial.json").write_text('{"score":')
    with pytest.raises(RunError, match=r"trial_1.*not JSON"):
        oracle.reload()


def test_metric_that_kerastuner_cannot_build_is_recorded() -> None:
    """A further metric whose direction KerasTuner fails to infer does no harm."""
    oracle = RandomOracle("val_loss", max_trials=1, hyperparameters=space())
    trial = oracle.create_trial("t")
    oracle.update_trial(trial.trial_id, {"val_loss": 1.0, "val_mean_io_u": 0.5})
    assert trial.metrics.get_last_value("val_mean_io_u") == 0.5


def test_crashes_with_success_between_do_not_add_up() -> None:
    """Only crashes in a row end the search, and a divergence is none."""
    oracle = RandomOracle(max_trials=9, hyperparameters=space())
    results: list[float | str] = [CRASH, CRASH, float("nan"), CRASH, CRASH, 1.0, CRASH, CRASH, 1.0]
    play(oracle, lambda trial_id, _: results[int(trial_id)])
    assert len(oracle.end_order) == 9


def test_strategies_have_the_names_of_the_rules() -> None:
    """The table of strategies holds those of this release."""
    assert set(STRATEGIES) >= {"random", "grid", "hyperband", "bayesian"}


def test_initial_trial_is_not_repeated_after_a_resume(tmp_path: Path) -> None:
    """An initial trial that met a hyperparameter outside the space stays done when resumed."""
    oracles = []
    for _ in range(2):
        options: Any = {"initial_trials": [{"x": 0.5}], "tune_new_entries": False, "seed": 0}
        oracle = RandomOracle(max_trials=9, hyperparameters=space(), **options)
        oracle._set_project_dir(str(tmp_path), "p")
        oracles.append(oracle)
    first, resumed = oracles
    trial = first.create_trial("t")
    trial.hyperparameters.Int("late", 1, 9)
    finish(first, trial, 1.0)
    resumed.reload()
    assert trial.hyperparameters.values["x"] == 0.5
    assert resumed.create_trial("t").hyperparameters.values["x"] != 0.5
