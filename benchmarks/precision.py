"""Speed and score of half precision beside float32, for a dense, a convolutional and an LSTM net.

    python benchmarks/precision.py [--size small|large] [--quick] [--models mlp,cnn,lstm] [--seed 0]

Needs Keras, a backend and NumPy, nothing of SmartTune: copy the file to any machine. Trains the
same network from the same start under each dtype policy, on data made here. Prints seconds per
step (the median of several epochs, after one that compiles), how many times as fast as float32
that is, and the error on rows that were not trained on. CPUs without units for half precision
emulate it and are slower.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
MODELS = ("mlp", "cnn", "lstm")


class Size(NamedTuple):
    """How much is trained: enough for seconds on a CPU, or to fill a GPU."""

    rows: int
    batch: int
    epochs: int
    units: int
    side: int
    filters: int
    timesteps: int


SIZES = {
    "quick": Size(256, 64, 2, 32, 8, 8, 8),
    "small": Size(2048, 128, 4, 256, 16, 16, 16),
    "large": Size(65536, 1024, 4, 4096, 32, 128, 128),
}


class Timer(keras.callbacks.Callback):  # type: ignore[misc]
    """Seconds of every epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the watch."""
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Read the watch."""
        self.seconds.append(time.perf_counter() - self._began)


def hidden(kind: str, size: Size) -> list[Any]:
    """The layers between input and output."""
    layers = keras.layers
    if kind == "mlp":
        return [layers.Dense(size.units, activation="relu") for _ in range(3)]
    if kind == "cnn":
        convolutions = [
            layers.Conv2D(size.filters, 3, padding="same", activation="relu") for _ in range(3)
        ]
        return [*convolutions, layers.GlobalAveragePooling2D()]
    return [layers.LSTM(max(8, size.units // 4))]


def data(kind: str, size: Size, seed: int) -> tuple[Any, Any]:
    """Inputs of unit variance and a target that a network can learn in part."""
    rng = np.random.default_rng(seed)
    shape = {
        "mlp": (64,),
        "cnn": (size.side, size.side, 3),
        "lstm": (size.timesteps, 16),
    }[kind]
    x = rng.normal(size=(size.rows, *shape)).astype("float32")
    flat = x.reshape(size.rows, -1)
    weights = rng.normal(size=(flat.shape[1], 1)).astype("float32") / np.sqrt(flat.shape[1])
    x += 0.5 * np.tanh(flat @ weights).reshape(-1, *[1] * len(shape))
    return x, np.tanh(flat @ weights)


def build(kind: str, size: Size, policy: str, *, seed: int, shape: tuple[int, ...]) -> Any:
    """A compiled network; its output is float32 under every policy."""
    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(policy)
    model = keras.Sequential(
        [keras.Input(shape), *hidden(kind, size), keras.layers.Dense(1, dtype="float32")]
    )
    model.compile(keras.optimizers.Adam(1e-3), loss="mse")
    keras.config.set_dtype_policy("float32")
    return model


def measure(kind: str, size: Size, policy: str, seed: int) -> tuple[float, float]:
    """Seconds per step, and the held-back error as a share of that of the mean."""
    x, y = data(kind, size, seed)
    cut = size.rows * 3 // 4 // size.batch * size.batch
    model, timer = build(kind, size, policy, seed=seed, shape=x.shape[1:]), Timer()
    model.fit(
        x[:cut],
        y[:cut],
        batch_size=size.batch,
        epochs=size.epochs + 1,
        callbacks=[timer],
        verbose=0,
    )
    error = float(model.evaluate(x[cut:], y[cut:], batch_size=size.batch, verbose=0))
    seconds = statistics.median(timer.seconds[1:]) / (cut // size.batch)
    return seconds, error / float(y[cut:].var())


def device() -> str:
    """What the backend trains on."""
    if keras.backend.backend() == "jax":
        import jax

        return str(jax.devices()[0].device_kind)
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    if found:
        return str(tf.config.experimental.get_device_details(found[0]).get("device_name", "GPU"))
    return f"CPU, {os.cpu_count()} cores"


def backend_version() -> str:
    module = __import__(keras.backend.backend())
    return f"{keras.backend.backend()} {module.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=("small", "large"), default="small")
    parser.add_argument("--quick", action="store_true", help="only see that it works")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    size = SIZES["quick" if options.quick else options.size]
    print(
        f"{device()}; keras {keras.__version__}, {backend_version()}, "
        f"numpy {np.__version__}, python {platform.python_version()}"
    )
    print(f"{size}")
    print(
        f"{'model':<6} {'policy':<15} {'ms/step':>9} {'speed':>7} {'error':>7} {'difference':>11}"
    )
    for kind in options.models.split(","):
        first: tuple[float, float] | None = None
        for policy in POLICIES:
            seconds, error = measure(kind, size, policy, options.seed)
            first = first or (seconds, error)
            print(
                f"{kind:<6} {policy:<15} {1e3 * seconds:>9.2f} {first[0] / seconds:>6.2f}x "
                f"{error:>7.4f} {error - first[1]:>+11.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
