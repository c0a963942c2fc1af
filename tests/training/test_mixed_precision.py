"""Half the bits where they suffice: loss scaling, logits, policies and scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest
from keras import ops
from sklearn.datasets import load_digits

from smarttune.data import read
from smarttune.fingerprint import measure
from smarttune.models import NetworkHyperModel, TrainingPlan
from smarttune.models.image import Image
from smarttune.recommendation import recommend
from smarttune.space import SearchSpace, Value
from tests.models.tables import hypermodel, learnable

MIXED = ("mixed_float16", "mixed_bfloat16")
# Below half of the smallest float16, 2 ** -24 = 6e-8, gradients become 0.
TINY = 1e-9


def tiny_loss(y: Any, predicted: Any) -> Any:
    """A squared error so small that float16 gradients of it vanish."""
    return TINY * ops.mean(ops.square(ops.cast(predicted, "float32") - y), axis=-1)


def underflowing(*, scaling: bool) -> Any:
    """A linear model in float16; the policy of its layers is its own."""
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(
            # The root of the second moment lies far below Keras's own epsilon.
            keras.optimizers.Adam(0.05, epsilon=1e-20),
            loss=tiny_loss,
            auto_scale_loss=scaling,
            jit_compile=False,
        )
    finally:
        keras.config.set_dtype_policy(before)
    return model


def test_loss_scaling_rescues_gradients_that_underflow() -> None:
    """Without it no bit of a weight moves in 60 steps; with it the error falls to a tenth."""
    x = np.random.default_rng(0).normal(size=(32, 2)).astype("float32")
    y = x @ np.array([[1.0], [-2.0]], "float32")
    errors, moved = {}, {}
    for scaling in (False, True):
        model = underflowing(scaling=scaling)
        start = model.get_weights()
        before = float(np.mean((model.predict(x, verbose=0) - y) ** 2))
        model.fit(x, y, batch_size=32, epochs=60, verbose=0)
        errors[scaling] = float(np.mean((model.predict(x, verbose=0) - y) ** 2)) / before
        moved[scaling] = any((a != b).any() for a, b in zip(start, model.get_weights()))
        wrapped = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        assert wrapped is scaling

    assert not moved[False]
    assert errors[False] == 1.0
    assert errors[True] < 0.1


def images() -> Any:
    """Sixty small pictures of two brightnesses."""
    y = np.arange(60) % 2
    x = np.random.default_rng(0).integers(0, 90, (60, 12, 12, 3)) + 120 * y[:, None, None, None]
    return read(x.astype(np.uint8), y)


def build(dataset: Any, precision: str, pinned: dict[str, Value]) -> Any:
    """The recommended network for a data set."""
    fingerprint = measure(dataset)
    found = recommend(fingerprint.facts(), columns=fingerprint.column_facts(), pinned=pinned)
    values = {name: setting.value for name, setting in found.settings.items()}
    rows, kind = np.arange(60), Image()
    fitted = kind.fit(dataset, fingerprint, rows, values, (str(values["model.family"]),))
    codec = kind.codec(dataset, fingerprint, rows, values, None)
    plan = TrainingPlan(num_samples=len(rows), max_epochs=2, precision=precision)
    return NetworkHyperModel(SearchSpace(dimensions=()), fitted, codec, plan).build_from(values)


@pytest.mark.parametrize("precision", MIXED)
@pytest.mark.parametrize("problem", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("family", ["mlp", "resnet_mlp"])
def test_outputs_of_tables_are_float32(family: str, problem: str, precision: str) -> None:
    """Hidden layers compute in half precision, logits and their loss do not."""
    values: dict[str, Value] = {"model.family": family, "training.precision": precision}
    model = hypermodel(values, problem=problem).build(keras_tuner.HyperParameters())

    check_precisions(model, precision)


@pytest.mark.parametrize("precision", MIXED)
def test_outputs_of_images_are_float32(precision: str) -> None:
    """The same holds for a convolutional network."""
    check_precisions(build(images(), precision, {"model.family": "cnn"}), precision)


def check_precisions(model: Any, precision: str) -> None:
    """Output and weights in float32, hidden layers with weights in the half type."""
    half = precision.removeprefix("mixed_")
    hidden = [layer for layer in model.layers if layer.trainable_weights and layer.name != "output"]
    assert {out.dtype for out in model.outputs} == {"float32"}
    assert model.get_layer("output").compute_dtype == "float32"
    assert hidden
    assert {layer.compute_dtype for layer in hidden} == {half}
    assert {v.dtype for v in model.trainable_variables} == {"float32"}


class Watched(NetworkHyperModel):
    """Keeps the models that a tuner had built."""

    models: list[Any]

    def build(self, hp: Any) -> Any:
        model = super().build(hp)
        self.models.append((model, keras.config.dtype_policy().name))
        return model


# KerasTuner 1.4.8 asks for the name of its thread in an old way.
@pytest.mark.filterwarnings("ignore:getName\\(\\) is deprecated:DeprecationWarning")
@pytest.mark.slow
@pytest.mark.parametrize("precision", MIXED)
def test_the_policy_survives_a_trial_of_kerastuner(precision: str, tmp_path: Path) -> None:
    """The tuner forgets policies before it builds; ours is set inside and gone afterwards."""
    plain = hypermodel({"training.precision": precision})
    watched = Watched(plain.space, plain.preprocessor, plain.codec, plain.plan)
    watched.models = []
    table, target = learnable("binary")
    x, y = plain.preprocessor.transform(table), plain.codec.encode(target)
    tuner = keras_tuner.RandomSearch(
        watched, keras_tuner.Objective("val_loss", "min"), max_trials=1, directory=tmp_path
    )
    tuner.search(x, y, validation_data=(x, y), epochs=1, verbose=0)

    assert watched.models
    for model, policy_after in watched.models:
        check_precisions(model, precision)
        assert policy_after == "float32"
    assert keras.config.dtype_policy().name == "float32"
    scaled = isinstance(watched.models[-1][0].optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled is (precision == "mixed_float16")


def digit_accuracy(precision: str, seed: int) -> float:
    """Share of right answers on 597 held-back digits after twelve epochs."""
    keras.utils.set_random_seed(seed)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input((64,)),
                layers.Dense(32, activation="relu"),
                layers.Dense(10, dtype="float32"),
            ]
        )
        model.compile(
            keras.optimizers.Adam(0.005),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,
        )
    finally:
        keras.config.set_dtype_policy(before)
    x, y = load_digits(return_X_y=True)
    x = x.astype("float32") / 16.0
    model.fit(x[:1200], y[:1200], batch_size=60, epochs=12, verbose=0)
    return float(model.evaluate(x[1200:], y[1200:], batch_size=597, verbose=0)[1])


@pytest.mark.slow
def test_scores_stay_within_the_noise() -> None:
    """On handwritten digits the mixed policies differ from float32 by no more than seeds do."""
    seeds = [digit_accuracy("float32", seed) for seed in range(3)]
    noise = max(0.02, 2.0 * (max(seeds) - min(seeds)))

    for precision in MIXED:
        assert abs(digit_accuracy(precision, 0) - float(np.mean(seeds))) <= noise
    assert min(seeds) > 0.85
