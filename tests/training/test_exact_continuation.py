"""Stopping and continuing changes no bit, whatever a training is made of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smarttune.training import restore_state
from smarttune.training.checkpoint import set_state, state_of
from tests.training import continuation
from tests.training.continuation import FEATURES, STEPS_PER_EPOCH, Feature, differences

pytestmark = pytest.mark.slow

# XLA compiles each for ten seconds; these hold every kind of state at least once.
ON_JAX = (
    *("adam", "all at once", "average", "batch normalization", "hypergradient sgd"),
    *("lstm", "mixed_float16", "accumulation", "schedule one_cycle"),
)


@pytest.mark.parametrize("name", FEATURES)
def test_a_continued_training_equals_one_in_one_go(name: str, tmp_path: Path) -> None:
    """A new model that goes on from the file ends with the same weights, state and logs."""
    assert differences(name, tmp_path) == []


def test_on_jax_too(tmp_path: Path, root: Path) -> None:
    """The same promise on the other backend, for every kind of state."""
    pytest.importorskip("jax")
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.continuation", str(tmp_path), *ON_JAX],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])

    assert found["backend"] == "jax"
    assert found["differences"] == {name: [] for name in ON_JAX}


def without(path_end: str) -> Callable[[Any, Path], None]:
    """A `resume` that loses the variables whose path ends so."""

    def lossy(model: Any, file: Path) -> None:
        before, paths = state_of(model), continuation.names(model)
        kept = [
            old if path.endswith(path_end) else new
            for path, old, new in zip(paths, before, restore_state(file), strict=True)
        ]
        set_state(model, kept)

    return lossy


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("hypergradient sgd", "direction"),
        ("mixed_float16", "dynamic_scale"),
        ("dropout", "seed_generator_state"),
        ("average", "average"),
        ("schedule cosine", "iteration"),
    ],
)
def test_a_lost_variable_is_found(
    name: str, lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison sees it when one kind of state does not come back."""
    model = continuation.build(FEATURES[name], seed=1)
    state_of(model)
    assert any(path.endswith(lost) for path in continuation.names(model))
    monkeypatch.setattr(continuation, "resume", without(lost))

    assert differences(name, tmp_path)


def test_a_checkpoint_does_not_grow(tmp_path: Path) -> None:
    """After more epochs the file has the same size, the variables and a little per variable."""
    feature = Feature()
    model, sizes = continuation.build(feature, seed=1), []
    for epochs in (range(1), range(1, 4)):
        continuation.train(model, feature, epochs)
        continuation.save_state(state_of(model), tmp_path / "c.npz")
        sizes.append((tmp_path / "c.npz").stat().st_size)

    assert (
        sizes[0]
        == sizes[1]
        < sum(v.nbytes for v in state_of(model)) + 512 * (1 + len(state_of(model)))
    )
    assert int(model.optimizer.iterations) == 4 * STEPS_PER_EPOCH
    assert continuation.too_large(tmp_path / "c.npz", [np.zeros(1, "float32")])
