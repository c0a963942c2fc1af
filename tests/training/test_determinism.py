"""Trainings whose bits agree."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from smarttune.errors import OptionError
from smarttune.training import determinism
from smarttune.training.determinism import LARGEST_SEED, make_deterministic, seed_everything

# Trains twice from one seed and once from another; op determinism lasts as long as the process.
PROGRAM = """
import json, random, sys
import keras, numpy as np
from smarttune.training.determinism import make_deterministic

def train(seed):
    make_deterministic(seed)
    x = np.random.normal(size=(64, 8, 8, 3)).astype("float32")
    model = keras.Sequential([
        keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.Dropout(0.3),
        keras.layers.Flatten(), keras.layers.Dense(1),
    ])
    model.compile("adam", loss="mse")
    model.fit(x, x.mean(axis=(1, 2, 3)), epochs=2, verbose=0)
    return [random.random(), *(float(np.abs(w).sum()) for w in model.get_weights())]

found = {"backend": keras.backend.backend(), "runs": [train(3), train(3), train(4)]}
if found["backend"] == "tensorflow":
    from tensorflow.python.framework import config
    found["on"] = config.is_op_determinism_enabled()
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_the_same_seed_gives_the_same_bits(backend: str, root: Path) -> None:
    """Calling it again begins anew: equal seeds agree in every stream, another one does not."""
    pytest.importorskip(backend)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"},
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])

    first, again, other = found["runs"]
    assert found["backend"] == backend
    assert first == again
    assert not set(first) & set(other) - {0.0}
    assert found.get("on", True)


@pytest.mark.parametrize("seed", [-1, LARGEST_SEED + 1, 1.5, True, None])
def test_seeds_out_of_range_are_named(seed: Any) -> None:
    """The error gives the range; nothing is seeded before."""
    with pytest.raises(OptionError, match="0 to 4294967295"):
        make_deterministic(seed)


class OnGpu:
    """What this module asks of JAX, on a machine with a GPU."""

    @staticmethod
    def default_backend() -> str:
        return "gpu"


@pytest.mark.parametrize(
    ("flags", "fine"),
    [
        (None, False),
        ("", False),
        ("--xla_gpu_deterministic_ops=true", True),
        ("--xla_gpu_deterministic_ops", True),
        ("--xla_cpu_enable_fast_math=false --xla_gpu_deterministic_ops=1", True),
        ("--xla_gpu_deterministic_ops=false", False),
        ("--xla_gpu_deterministic_ops=true --xla_gpu_deterministic_ops=false", False),
        ("--xla_gpu_deterministic_ops_extra=true", False),
    ],
)
def test_jax_on_a_gpu_needs_its_flag_before_it_starts(
    flags: str | None, fine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the flag the error says what to start Python with."""
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(keras.utils, "set_random_seed", lambda seed: None)
    monkeypatch.setitem(sys.modules, "jax", OnGpu)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    if flags is not None:
        monkeypatch.setenv("XLA_FLAGS", flags)

    if fine:
        make_deterministic(1)
        return
    with pytest.raises(OptionError, match="Start Python with XLA_FLAGS=") as caught:
        make_deterministic(1)
    assert caught.value.where == "XLA_FLAGS"
    assert determinism.XLA_FLAG in caught.value.mend


def test_other_backends_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is promised for two backends is not pretended for a third."""
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")

    with pytest.raises(OptionError, match="tensorflow or jax"):
        make_deterministic(1)


@pytest.mark.parametrize("seed", [20_241, 20_242])
def test_seeding_gives_the_draws_of_keras(seed: int) -> None:
    """For a new seed and again for the same one, every stream is the one that Keras begins."""

    def draws(begin: Any) -> list[float]:
        begin(seed)
        drawn = [random.random(), np.random.normal(), keras.random.normal((2,))]  # noqa: NPY002
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # Counts its draws in a kernel that knows the seed.
            drawn += [tf.random.normal((2,)), tf.random.normal((2,))]
        return [float(v) for one in drawn for v in np.ravel(keras.ops.convert_to_numpy(one))]

    first, again = draws(seed_everything), draws(seed_everything)
    assert first == again == draws(keras.utils.set_random_seed)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="it forgets when seeded")
def test_compiled_functions_outlive_a_new_seed() -> None:
    """Neither a new seed nor a training that goes on makes TensorFlow forget its kernels."""
    from tensorflow.python.eager import context

    cleared: list[object] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(context.pywrap_tfe, "TFE_ContextClearCaches", cleared.append)
        seed_everything(20_243)
        assert not cleared
        seed_everything(20_243, goes_on=True)
        assert not cleared
        seed_everything(20_243)
        assert len(cleared) == 1


def test_another_backend_is_seeded_without_tensorflow(root: Path) -> None:
    """On JAX, seeding does not import TensorFlow, and gives the draws that Keras gives."""
    pytest.importorskip("jax")
    program = (
        "import sys, random, keras, numpy as np\n"
        "from smarttune.training.determinism import seed_everything\n"
        "draws = lambda: [random.random(), np.random.normal(), *map(float, keras.random.normal((2,)))]\n"
        "seed_everything(7); ours = draws()\n"
        "assert 'tensorflow' not in sys.modules\n"
        "keras.utils.set_random_seed(7); assert draws() == ours\n"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        timeout=120,
        check=True,
    )
