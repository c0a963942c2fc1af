"""Trainings that are stopped and continued, and what then differs; run as a program it prints JSON.

python -m tests.training.continuation FOLDER [FEATURE ...]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from smarttune.execution import TrainingData, fit_arrays
from smarttune.training import restore_state, save_state
from smarttune.training.averaging import AveragedWeights
from smarttune.training.checkpoint import set_state, state_of
from smarttune.training.hypergradient import HypergradientAdam, HypergradientSGD
from smarttune.training.schedules import learning_rate

STOP, END = 5, 15
# A schedule knows nothing but the step, so it is tried on fewer.
STOP_SCHEDULE, END_SCHEDULE = 2, 5
ROWS, BATCH = 40, 16
STEPS_PER_EPOCH = 3
WORDS, TIMESTEPS, NUM_FEATURES = 11, 4, 5

layers, optimizers = keras.layers, keras.optimizers


@dataclass(frozen=True)
class Feature:
    """One thing that has a state of its own: an optimizer, hidden layers, and how it trains."""

    optimizer: Callable[[], Any] = lambda: optimizers.Adam(0.01)
    hidden: Callable[[], list[Any]] = lambda: [layers.Dense(4, activation="relu")]
    inputs: str = "numbers"
    policy: str = "float32"
    callbacks: Callable[[], list[Any]] = list
    stop: int = STOP
    end: int = END
    moved: str = field(default="", compare=False)  # an optimizer variable that must have moved


def scaled(**options: Any) -> Any:
    """Loss scaling that grows and overflows many times in a short training."""
    inner = optimizers.Adam(0.01, **options)
    return optimizers.LossScaleOptimizer(inner, initial_scale=2.0**12, dynamic_growth_steps=4)


def averaging(**options: Any) -> Callable[[], Any]:
    """Adam with a running mean of the weights."""
    return lambda: optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9, **options)


def kept() -> list[Any]:
    """Validate with the averages, leave the weights."""
    return [AveragedWeights(keep=False)]


# Of every shape one; that each is a function of the step is tested with the schedules.
COURSES = ("cosine", "one_cycle", "triangular2", "warm_restarts")
FEATURES: dict[str, Feature] = {
    "sgd": Feature(lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True)),
    "adam": Feature(),
    "adamw": Feature(lambda: optimizers.AdamW(0.01, weight_decay=0.1)),
    "lion": Feature(lambda: optimizers.Lion(0.003)),
    "rmsprop": Feature(lambda: optimizers.RMSprop(0.01, momentum=0.5, centered=True)),
    "adagrad": Feature(lambda: optimizers.Adagrad(0.1)),
    "dropout": Feature(hidden=lambda: [layers.Dense(8), layers.Dropout(0.5)]),
    "batch normalization": Feature(
        hidden=lambda: [layers.Dense(4), layers.BatchNormalization(), layers.Activation("relu")]
    ),
    "average": Feature(averaging(), callbacks=kept),
    "average that overwrites": Feature(averaging(ema_overwrite_frequency=4), callbacks=kept),
    "hypergradient sgd": Feature(
        lambda: HypergradientSGD(0.02, hypergradient_rate=1e-4, momentum=0.9, nesterov=True),
        moved="learning_rate",
    ),
    "hypergradient adam": Feature(
        lambda: HypergradientAdam(0.01, hypergradient_rate=0.02, rule="multiplicative"),
        moved="learning_rate",
    ),
    "lstm": Feature(hidden=lambda: [layers.LSTM(3, recurrent_dropout=0.2)], inputs="sequences"),
    "embedding": Feature(
        hidden=lambda: [
            layers.Embedding(WORDS, 3, mask_zero=True),
            layers.GlobalAveragePooling1D(),
        ],
        inputs="words",
    ),
    "mixed_bfloat16": Feature(policy="mixed_bfloat16"),
    "mixed_float16": Feature(scaled, policy="mixed_float16", moved="dynamic_scale"),
    "accumulation": Feature(lambda: optimizers.Adam(0.01, gradient_accumulation_steps=4)),
    "clipping": Feature(lambda: optimizers.Adam(0.01, global_clipnorm=0.05)),
    "all at once": Feature(
        lambda: scaled(gradient_accumulation_steps=2, use_ema=True, clipnorm=0.1),
        hidden=lambda: [layers.Dense(8), layers.BatchNormalization(), layers.Dropout(0.5)],
        policy="mixed_float16",
        callbacks=kept,
        moved="dynamic_scale",
    ),
} | {
    f"schedule {kind}": Feature(
        lambda kind=kind: optimizers.SGD(
            learning_rate(kind, 0.1, total_steps=END_SCHEDULE * STEPS_PER_EPOCH, warmup_steps=4)
        ),
        stop=STOP_SCHEDULE,
        end=END_SCHEDULE,
    )
    for kind in COURSES
}


def data(inputs: str) -> TrainingData:
    """Forty rows with a target that depends on them, and as many to validate."""
    rng = np.random.default_rng(3)
    shape = {"numbers": (NUM_FEATURES,), "sequences": (TIMESTEPS, 2), "words": (TIMESTEPS,)}[inputs]
    if inputs == "words":
        x = rng.integers(0, WORDS, (2 * ROWS, *shape)).astype("int32")
    else:
        x = rng.normal(size=(2 * ROWS, *shape)).astype("float32")
    y = x.reshape(2 * ROWS, -1).mean(axis=1, keepdims=True).astype("float32")
    return TrainingData(x[:ROWS], y[:ROWS], x[ROWS:], y[ROWS:])


def build(feature: Feature, seed: int) -> Any:
    """A compiled network with the feature; another seed is another start."""
    keras.utils.set_random_seed(seed)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(feature.policy)
    try:
        shape = data(feature.inputs).x.shape[1:]
        dtype = "int32" if feature.inputs == "words" else "float32"
        model = keras.Sequential(
            [
                keras.Input(shape, dtype=dtype),
                *feature.hidden(),
                layers.Dense(1, dtype="float32"),
            ]
        )
        model.compile(feature.optimizer(), loss="mse", metrics=["mae"], jit_compile=False)
    finally:
        keras.config.set_dtype_policy(before)
    return model


class Logs(keras.callbacks.Callback):
    """What every epoch reported."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: dict[int, dict[str, float]] = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs[epoch] = dict(logs)


def train(model: Any, feature: Feature, epochs: range) -> dict[int, dict[str, float]]:
    """Train over some epochs; returns their logs."""
    logs = Logs()
    fit_arrays(
        model,
        data(feature.inputs),
        batch_size=BATCH,
        seed=7,
        epochs=epochs,
        callbacks=[*feature.callbacks(), logs],
    )
    return logs.epochs


def names(model: Any) -> list[str]:
    """What each entry of `state_of` is."""
    return [v.path for v in [*model.variables, *model.optimizer.variables]]


def resume(model: Any, file: Path) -> None:
    """Put back the state of a file."""
    set_state(model, restore_state(file))


def differences(name: str, folder: Path) -> list[str]:
    """Whatever a training that stops and goes on does otherwise than one in one go."""
    feature = FEATURES[name]
    model = build(feature, seed=1)
    start = state_of(model)
    logs = train(model, feature, range(feature.end))
    through = state_of(model)
    steps, rate = int(model.optimizer.iterations), float(model.optimizer.learning_rate)

    set_state(model, start)
    train(model, feature, range(feature.stop))
    file = folder / f"{name.replace(' ', '-')}.npz"
    save_state(state_of(model), file)

    second = build(feature, seed=2)
    resume(second, file)
    continued = train(second, feature, range(feature.stop, feature.end))

    found = [
        f"variable {path}"
        for path, a, b in zip(names(second), through, state_of(second), strict=True)
        if a.dtype != b.dtype or a.tobytes() != b.tobytes()
    ]
    found += [
        f"logs of epoch {epoch}: {continued.get(epoch)} for {logs[epoch]}"
        for epoch in range(feature.stop, feature.end)
        if continued.get(epoch) != logs[epoch]
    ]
    if int(second.optimizer.iterations) != steps or not steps:
        found.append(f"steps {int(second.optimizer.iterations)} for {steps}")
    if float(second.optimizer.learning_rate) != rate:
        found.append(f"rate {float(second.optimizer.learning_rate)} for {rate}")
    found += standing(feature, second, start)
    return found + too_large(file, through)


def standing(feature: Feature, model: Any, start: list[Any]) -> list[str]:
    """What training never moved: equal states would prove nothing then."""
    same = [
        path
        for path, a, b in zip(names(model), start, state_of(model), strict=True)
        if a.tobytes() == b.tobytes()
    ]
    wanted = {v.path for v in model.trainable_variables}
    return [
        f"{path} stands still"
        for path in same
        if path in wanted or (feature.moved and path.endswith(feature.moved))
    ]


def too_large(file: Path, values: list[Any]) -> list[str]:
    """A checkpoint that holds more than the variables and their names."""
    size, wanted = file.stat().st_size, sum(v.nbytes for v in values)
    return [f"size {size} for {wanted} bytes"] * (size > wanted + 512 * (1 + len(values)))


def main(folder: str, *chosen: str) -> None:
    """Print what differs, by feature."""
    found = {name: differences(name, Path(folder)) for name in chosen or FEATURES}
    print(json.dumps({"backend": keras.backend.backend(), "differences": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
