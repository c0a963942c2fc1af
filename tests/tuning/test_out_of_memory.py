"""A batch that does not fit into memory goes through in smaller parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import smarttune.tuning.running as running_module
from smarttune.execution import TrainingData
from smarttune.execution.fit import fit_arrays
from smarttune.training.checkpoint import state_of
from smarttune.tuning import Budget, Run, SmartTuner, TrialPolicy

from .searches import keras_reads_variables, kerastuner_names_threads
from .tables import dense_model, dense_oracle

pytestmark = [keras_reads_variables, kerastuner_names_threads]


class ResourceExhaustedError(Exception):
    """Named as TensorFlow's error is."""


def memory_for(samples: int) -> Any:
    """`fit_arrays` on a device that holds so many samples."""

    def fit(model: Any, data: TrainingData, *, batch_size: int, **options: Any) -> None:
        if batch_size > samples:
            raise ResourceExhaustedError(f"no room for {batch_size} samples")
        fit_arrays(model, data, batch_size=batch_size, **options)

    return fit


def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: int, trials: int) -> Any:
    """A search of networks with batches of 32 on a device that holds fewer samples."""
    monkeypatch.setattr(running_module, "fit_arrays", memory_for(samples))
    hypermodel, data = dense_model({"training.batch_size": 32})
    made = SmartTuner(
        dense_oracle("random", max_trials=trials),
        hypermodel,
        directory=tmp_path,
        project_name="run",
        policy=TrialPolicy(max_epochs=2, seed=1),
        budget=Budget(trials=trials),
        executor="fit",
    )
    made.search(data)
    return made


def test_a_batch_that_does_not_fit_is_halved_until_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial ends with a score, and how it was cut is in its record and in the events."""
    made = searched(tmp_path, monkeypatch, samples=8, trials=1)

    (record,) = made.log
    assert record.outcome == "completed"
    assert record.num_micro_batches == 4
    lines = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    cuts = [e for e in map(json.loads, lines) if e["event"] == "batch_cut"]
    assert [e["num_micro_batches"] for e in cuts] == [2, 4]
    assert all(e["batch_size"] == 32 for e in cuts)


def test_later_trials_begin_with_what_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one trial found out about the memory spares the next ones the attempts."""
    made = searched(tmp_path, monkeypatch, samples=16, trials=3)

    assert [r.num_micro_batches for r in made.log] == [2, 2, 2]
    events = (tmp_path / "run" / "events.jsonl").read_text()
    assert events.count('"batch_cut"') == 1
    assert [r.num_micro_batches for r in Run.load(tmp_path / "run").log] == [2, 2, 2]


def test_one_sample_that_does_not_fit_is_a_lost_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cutting ends at single samples; the trial is out of memory and the search goes on."""
    made = searched(tmp_path, monkeypatch, samples=0, trials=2)

    assert [r.outcome for r in made.log] == ["out_of_memory", "out_of_memory"]
    assert "no room for 1 samples" in made.log[0].message


def test_parts_of_a_batch_make_the_same_step_as_the_whole() -> None:
    """Without dropout and with full batches, cutting changes the weights by rounding only."""
    whole = trained_weights(1)
    cut = trained_weights(4)

    for a, b in zip(whole, cut, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)
    start = trained_weights(1, epochs=1)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(whole, start, strict=True))


def trained_weights(num_micro_batches: int, epochs: int = 3) -> list[np.ndarray]:
    """Weights of a small network after a few epochs."""
    fixed = {"training.batch_size": 16, "model.dropout": 0.0}
    hypermodel, data = dense_model(fixed)
    assert hypermodel.space is not None
    hypermodel.prepare(7, num_micro_batches)
    model = hypermodel.build_from(hypermodel.space.default)
    fit_arrays(model, data, batch_size=16 // num_micro_batches, seed=5, epochs=range(epochs))
    return [
        value
        for variable, value in zip(model.variables, state_of(model, optimizer=False), strict=True)
        if "seed" not in variable.path
    ]
