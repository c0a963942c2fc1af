"""The winner trained once more on validation rows, too: what is learnt anew, and what is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from smarttune.tuning import Run, refitting
from smarttune.tuning.budget import Clock
from smarttune.tuning.refitting import TITLE, all_rows, refitted
from smarttune.tuning.watching import TIME_LIMIT

from .searches import keras_reads_variables, tiny_model
from .test_confirming import LOSS, job_of, real, trial

pytestmark = keras_reads_variables


def test_all_rows_but_the_tests_are_trained_on() -> None:
    """Training gains the validation rows and loses none; the test rows stay what they were."""
    job = job_of()

    whole = all_rows(job)

    before = np.concatenate([job.split.train, job.split.validation])
    assert sorted(before) == list(whole.split.train)
    assert list(whole.split.test) == list(job.split.test)
    assert not set(whole.split.train) & set(whole.split.test)
    assert len(whole.training_data.y) == len(before)
    assert whole.hypermodel().plan.num_samples == len(before)


def test_the_preprocessing_stays() -> None:
    """`predict` and the other checkpoints read one preprocessing, so a refit learns no other."""
    job = job_of()

    whole = all_rows(job)

    assert whole.preprocessor is job.preprocessor
    assert whole.codec is job.codec


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run with a winner, and a training that is played."""
    run = Run.create(tmp_path / "run", {"objective": LOSS._asdict()})
    run.record(trial("1", 0.1))
    model = tiny_model()
    weights = [np.full(v.shape, 7.0, np.float32) for v in model.variables]
    played = SimpleNamespace(
        run=run, model=model, job=job_of(), weights=weights, ended="", epochs=[]
    )

    def state(job: Any, record: Any, epochs: int, clock: Any) -> Any:
        played.epochs.append(epochs)
        return played.weights, played.ended

    monkeypatch.setattr(refitting, "_state", state)
    return played


def refit(setting: Any, clock: Clock | None = None) -> str:
    """Refit the winner; return what is said of it."""
    model, said, _ = refitted(
        setting.run, setting.job, setting.run.log[0], setting.model, clock=clock or Clock(None)
    )
    assert model is setting.model
    return said


def test_the_refit_is_as_long_as_was_best(setting: Any) -> None:
    """It trains the winner's best number of epochs, and the sentence promises no validation."""
    said = refit(setting)

    assert setting.epochs == [2]
    assert all((np.asarray(v.numpy()) == 7.0).all() for v in setting.model.variables)
    assert "2 epoch(s)" in said
    num_rows = len(setting.job.split.train) + len(setting.job.split.validation)
    assert f"{num_rows:,} rows" in said
    assert "no validation score" in said


def test_a_finished_refit_is_not_repeated(setting: Any) -> None:
    """A run that is opened again finds the weights on disk."""
    first = refit(setting)
    setting.model.set_weights([np.zeros(v.shape) for v in setting.model.variables])

    again = refit(setting)

    assert again == first
    assert setting.epochs == [2]
    assert all((np.asarray(v.numpy()) == 7.0).all() for v in setting.model.variables)


@pytest.mark.parametrize("ended", [TIME_LIMIT, "diverged: the loss rose"])
def test_a_refit_that_ended_early_changes_nothing(setting: Any, ended: str) -> None:
    """The winner itself is exported, and the report says why."""
    before = [np.array(v.numpy()) for v in setting.model.variables]
    setting.ended = ended

    said = refit(setting)

    assert said == f"No refit: training on all rows ended early ({ended})."
    for variable, value in zip(setting.model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert not list((setting.run.path).glob("checkpoints/*"))


def test_without_time_nothing_is_refitted(setting: Any) -> None:
    """A training that would not end in time is not begun."""
    said = refit(setting, Clock(20.0, spent=9.0))

    assert said.startswith("No refit: it does not fit")
    assert setting.epochs == []


@pytest.mark.slow
def test_a_refit_is_exported_and_predicts(tmp_path: Path) -> None:
    """The exported network differs from the winner's checkpoint, both are scored on the same test
    rows, the comparison with the recommendation is that of the search, and `predict` works.
    """
    plain = real(tmp_path / "plain", confirm=False)
    run = real(tmp_path / "refit", confirm=False, refit=True)
    frame = pd.read_csv(Path(__file__).parents[2] / "examples" / "data" / "wine.csv").head(9)

    mine, theirs = run.report(), plain.report()

    assert mine["test"]["best"] == theirs["test"]["best"]
    assert mine["test"]["difference"] == theirs["test"]["difference"]
    assert set(mine["test"]["refitted"]) == set(mine["test"]["best"])
    assert mine["test"]["refitted"] != mine["test"]["best"]
    assert "no validation score" in mine["extras"][TITLE]
    assert TITLE not in theirs["extras"]
    assert run.predict(frame).shape == (9, 1)
    assert not np.allclose(run.predict(frame), plain.predict(frame))
