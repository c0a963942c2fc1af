"""The study: each trial whole in one transaction, and an Optuna study for others."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarttune.errors import RunError
from smarttune.objectives import Objective
from smarttune.space import Choice, Dimension, Fixed, FloatRange, IntRange, SearchSpace
from smarttune.trials import TrialRecord
from smarttune.tuning.study import Study

LOSS = Objective("val_loss", "min")

SPACE = SearchSpace(
    dimensions=(
        Dimension(
            name="model.units",
            range=IntRange(low=16, high=256, sampling="power_of_two"),
            value=64,
        ),
        Dimension(
            name="optimizer.regularization",
            range=Choice(values=("none", "weight_decay")),
            value="none",
        ),
        Dimension(
            name="optimizer.weight_decay",
            range=FloatRange(low=1e-6, high=1e-3, sampling="log"),
            value=1e-4,
            active_when={"optimizer.regularization": ("weight_decay",)},
        ),
        Dimension(name="training.batch_size", range=Fixed(value=64), value=64),
    )
)


def record(trial_id: str = "0", **changes: Any) -> TrialRecord:
    """A completed trial."""
    values = {
        "model.units": 64,
        "optimizer.regularization": "weight_decay",
        "optimizer.weight_decay": 1e-4,
        "training.batch_size": 64,
    }
    details: dict[str, Any] = {
        "values": values,
        "outcome": "completed",
        "score": 0.5,
        "best_epoch": 2,
        "num_epochs": 2,
        "max_epochs": 2,
        "curve": ({"loss": 0.9, "val_loss": 0.7}, {"loss": 0.8, "val_loss": 0.5}),
        "seconds": 1.25,
        "seed": 17,
        "num_parameters": 33,
        "started": 1_700_000_000.25,
    }
    return TrialRecord(trial_id=trial_id, **{**details, **changes})


def study(tmp_path: Path, *, space: SearchSpace | None = SPACE, goal: Objective = LOSS) -> Study:
    """A study in a folder, opened as if for the first time."""
    return Study(tmp_path / "study.db", goal, space)


def opened(tmp_path: Path) -> Any:
    """The study as Optuna itself opens it."""
    return optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'study.db'}")


def test_an_absent_file_holds_no_trials(tmp_path: Path) -> None:
    """Reading a study that was never written finds nothing and makes nothing."""
    assert study(tmp_path).records() == []
    assert list(tmp_path.iterdir()) == []


numbers = st.floats(allow_nan=False, allow_infinity=False)
values = st.dictionaries(
    st.sampled_from(["model.units", "model.dropout", "optimizer.name", "training.flag"]),
    st.one_of(st.booleans(), st.integers(-(2**40), 2**40), numbers, st.text(max_size=8)),
)
records = st.builds(
    TrialRecord,
    trial_id=st.just("0"),
    values=values,
    outcome=st.sampled_from(["completed", "stopped"]),
    score=numbers,
    best_epoch=st.integers(1, 9),
    num_epochs=st.integers(1, 9),
    curve=st.lists(st.fixed_dictionaries({"val_loss": numbers, "loss": numbers}), max_size=3).map(
        tuple
    ),
    seconds=st.floats(0, 1e6),
    parent=st.none() | st.just("7"),
    bracket=st.none() | st.integers(0, 4),
    is_default=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
    started=st.floats(0, 2e9),
    message=st.text(max_size=20),
)


@given(record=records)
@settings(max_examples=30)
def test_every_record_comes_back_bit_for_bit(record: TrialRecord) -> None:
    """What is read from JSON equals what was written, numbers to the last bit."""
    again = TrialRecord.model_validate_json(record.model_dump_json())

    assert again == record
    assert {k: type(v) for k, v in again.values.items()} == {
        k: type(v) for k, v in record.values.items()
    }


def test_records_survive_closing_the_file(tmp_path: Path) -> None:
    """Another process finds the same records in the order in which they ended."""
    writer = study(tmp_path)
    written = [record("1"), record("0", score=0.1 + 0.2, parent="1", bracket=2, rung=1)]
    for trial in written:
        writer.add(trial)

    assert study(tmp_path).records() == written


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_curve_that_is_no_number_survives(tmp_path: Path, value: float) -> None:
    """A diverged trial keeps the NaN or infinity at which it ended."""
    diverged = record(
        outcome="diverged", score=None, curve=({"loss": 0.9, "val_loss": 0.7}, {"val_loss": value})
    )
    study(tmp_path).add(diverged)

    (again,) = study(tmp_path).records()

    assert repr(again.curve) == repr(diverged.curve)
    assert again.outcome == "diverged"


def test_each_trial_is_one_transaction(tmp_path: Path) -> None:
    """Optuna sees a new trial only once every part of it is there."""
    seen: list[tuple[int, int, int]] = []
    writer = study(tmp_path)
    writer.add(record("0"))
    engine = writer._open()._storage._backend.engine

    from sqlalchemy import event

    def look(_: Any) -> None:
        with sqlite3.connect(tmp_path / "study.db") as other:
            tables = ("trials", "trial_params", "trial_user_attributes")
            rows = [other.execute(f"select count(*) from {t}").fetchone()[0] for t in tables]
        seen.append((rows[0], rows[1], rows[2]))

    event.listen(engine, "commit", look)
    writer.add(record("1"))

    # Whatever another reader saw between two commits, it was the old study.
    assert set(seen) == {(1, 3, 6)}
    with sqlite3.connect(tmp_path / "study.db") as other:
        assert other.execute("select count(*) from trials").fetchone() == (2,)


def test_optuna_opens_the_study(tmp_path: Path) -> None:
    """Optuna's own calls find the best trial, its curve and a table of all trials."""
    writer = study(tmp_path)
    writer.add(record("0"))
    writer.add(record("1", score=0.25))
    writer.add(record("2", outcome="failed", score=None, curve=(), message="it broke"))

    found = opened(tmp_path)

    assert found.best_trial.value == 0.25
    assert found.best_trial.user_attrs["trial_id"] == "1"
    assert found.best_trial.intermediate_values == {1: 0.7, 2: 0.5}
    assert found.best_trial.params == {
        "model.units": 64,
        "optimizer.regularization": "weight_decay",
        "optimizer.weight_decay": 1e-4,
    }
    assert found.trials[0].duration.total_seconds() == 1.25
    table = found.trials_dataframe()
    assert list(table["state"]) == ["COMPLETE", "COMPLETE", "FAIL"]
    assert list(table["user_attrs_outcome"]) == ["completed", "completed", "failed"]


@pytest.mark.parametrize(("direction", "best"), [("min", "0"), ("max", "1")])
def test_the_direction_is_the_objectives(tmp_path: Path, direction: str, best: str) -> None:
    """Optuna ranks by the same end of the scale as the search."""
    writer = study(tmp_path, goal=Objective("val_loss", direction))  # type: ignore[arg-type]
    writer.add(record("0", score=0.2))
    writer.add(record("1", score=0.9))

    assert opened(tmp_path).best_trial.user_attrs["trial_id"] == best


def test_values_outside_their_range_are_no_parameters(tmp_path: Path) -> None:
    """A value that the space does not hold stays in the record and spares Optuna."""
    outside = {"model.units": 100, "optimizer.weight_decay": 5.0, "acme.knob": 3}
    writer = study(tmp_path)

    writer.add(record(values=outside))

    assert opened(tmp_path).trials[0].params == {}
    assert study(tmp_path).records()[0].values == outside


def test_inactive_values_are_no_parameters(tmp_path: Path) -> None:
    """A trial without weight decay has no such parameter, and both kinds mix."""
    writer = study(tmp_path)
    writer.add(record("0"))
    writer.add(record("1", values={"model.units": 32, "optimizer.regularization": "none"}))

    first, second = opened(tmp_path).trials

    assert "optimizer.weight_decay" in first.params
    assert second.params == {"model.units": 32, "optimizer.regularization": "none"}


def test_without_a_space_records_are_kept(tmp_path: Path) -> None:
    """A user's own model needs no space to be recorded."""
    writer = study(tmp_path, space=None)
    writer.add(record("0"))

    assert study(tmp_path, space=None).records() == [record("0")]


def test_numbers_that_are_no_numbers_spare_the_dashboard(tmp_path: Path) -> None:
    """Only finite values of the objective stand as intermediate values."""
    curve = ({"val_loss": 0.5}, {"val_loss": math.nan}, {"loss": 1.0})
    writer = study(tmp_path)

    writer.add(record(outcome="diverged", score=None, curve=curve))

    assert opened(tmp_path).trials[0].intermediate_values == {1: 0.5}


def test_a_damaged_file_is_an_error_of_the_users(tmp_path: Path) -> None:
    """A file that is no database is named, with a mend."""
    (tmp_path / "study.db").write_bytes(b"no database at all" * 100)

    with pytest.raises(RunError, match=r"study\.db"):
        study(tmp_path).records()


def test_a_file_that_cannot_be_made_is_an_error_of_the_users(tmp_path: Path) -> None:
    """A disk that is full when the first trial ends is told as at any later moment."""
    (tmp_path / "study.db").mkdir()

    with pytest.raises(RunError, match=r"study\.db"):
        study(tmp_path).add(record("0"))


def test_a_file_that_cannot_be_written_is_an_error_of_the_users(tmp_path: Path) -> None:
    """A refused insert names the file, says how to go on, and loses nothing."""
    writer = study(tmp_path)
    writer.add(record("0"))
    with sqlite3.connect(tmp_path / "study.db") as other:
        other.execute(
            "create trigger full before insert on trials"
            " begin select raise(abort, 'database or disk is full'); end"
        )

    with pytest.raises(RunError, match="disk is full") as caught:
        writer.add(record("1"))

    assert "smarttune resume" in caught.value.mend
    assert [r.trial_id for r in study(tmp_path).records()] == ["0"]
