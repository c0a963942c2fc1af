"""The gradient noise scale, against gradients that are known."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from smarttune.errors import OptionError
from smarttune.training import noise_scale
from smarttune.training.checkpoint import state_of
from smarttune.training.noise_scale import GradientNoise, gradient_noise_scale

ROWS = 24


def data() -> tuple[np.ndarray, np.ndarray]:
    """Rows and targets of a noisy line."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 3)).astype("float32")
    return x, (x @ [1.0, 2.0, 3.0] + rng.normal(size=ROWS)).astype("float32")[:, None]


def line(**options: Any) -> Any:
    """Weights of one, no bias: the gradient of a row is 2 (sum of x - y) x."""
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")]
    )
    model.compile(**{"optimizer": keras.optimizers.SGD(0.1), "loss": "mse", **options})
    return model


def known(weight: np.ndarray | None = None) -> tuple[float, float]:
    """|G|^2 and tr(Sigma) of the line, as unbiased estimates from all rows."""
    x, y = (part.astype("float64") for part in data())
    gradients = 2 * (x.sum(axis=1, keepdims=True) - y) * x
    if weight is not None:
        gradients *= weight[:, None]
    variance = gradients.var(axis=0, ddof=1).sum()
    return (gradients.mean(axis=0) ** 2).sum() - variance / ROWS, variance


@pytest.mark.jax
@pytest.mark.parametrize("eager", [False, True])
def test_all_rows_one_by_one_give_the_exact_figure(eager: bool) -> None:
    """With every row a small batch of its own, both estimates are those of the textbook."""
    found = gradient_noise_scale(
        line(run_eagerly=eager), *data(), small=1, big=ROWS, num_pairs=1, seed=0
    )

    norm, variance = known()
    assert found.gradient_norm_squared == pytest.approx(norm, rel=1e-4)
    assert found.gradient_variance == pytest.approx(variance, rel=1e-4)
    assert found.noise_scale == pytest.approx(variance / norm, rel=1e-4)
    assert (found.small, found.big) == (1, ROWS)


def test_weights_weigh_the_gradients() -> None:
    """The gradient of a row is multiplied by its weight."""
    weight = np.linspace(0, 2, ROWS)

    found = gradient_noise_scale(
        line(), *data(), small=1, big=ROWS, num_pairs=1, seed=0, sample_weight=weight
    )

    norm, variance = known(weight)
    assert found.gradient_norm_squared == pytest.approx(norm, rel=1e-4)
    assert found.gradient_variance == pytest.approx(variance, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("small", "big"), [(1, 4), (3, 12), (6, 24)])
def test_other_sizes_estimate_the_same(small: int, big: int) -> None:
    """Whatever the two sizes, the mean of many pairs comes to the same figures."""
    found = gradient_noise_scale(line(), *data(), small=small, big=big, num_pairs=600, seed=1)

    norm, variance = known()
    assert found.gradient_variance == pytest.approx(variance, rel=0.1)
    assert found.gradient_norm_squared == pytest.approx(norm, rel=0.1)


def test_a_seed_decides_the_draws() -> None:
    """The same seed gives the same figure, another seed another."""
    noise = GradientNoise(line())
    options = {"small": 2, "big": 8, "num_pairs": 2}

    first, again, other = (noise.measure(*data(), **options, seed=s) for s in (5, 5, 6))

    assert first == again
    assert first != other


def test_noise_that_hides_the_gradient_is_infinite() -> None:
    """Where rows pull to opposite sides there is no direction, and no batch is too large."""
    x = np.ones((8, 3), "float32")
    y = (3 + np.array([1, -1] * 4, "float32"))[:, None]  # the line answers 3

    found = gradient_noise_scale(line(), x, y, small=1, big=8, num_pairs=1, seed=0)

    assert found.gradient_norm_squared < 0
    assert math.isinf(found.noise_scale)


def test_rows_that_agree_have_no_noise() -> None:
    """Equal rows have equal gradients."""
    x, y = np.ones((8, 3), "float32"), np.zeros((8, 1), "float32")

    found = gradient_noise_scale(line(), x, y, small=1, big=8, num_pairs=1, seed=0)

    assert found.noise_scale == pytest.approx(0, abs=1e-6)
    assert found.gradient_norm_squared == pytest.approx(3 * 6**2)


def stateful() -> Any:
    """Dropout, moving statistics, an embedding of named inputs, an added loss."""
    keras.utils.set_random_seed(0)
    inputs = {
        "word": keras.Input((2,), dtype="int32", name="word"),
        "number": keras.Input((3,), name="number"),
    }
    word = keras.layers.Flatten()(keras.layers.Embedding(5, 2)(inputs["word"]))
    hidden = keras.layers.Concatenate()([word, inputs["number"]])
    hidden = keras.layers.Dense(4, activity_regularizer="l2", kernel_regularizer="l2")(hidden)
    hidden = keras.layers.BatchNormalization()(hidden)
    hidden = keras.layers.Dropout(0.5, seed=1)(hidden)
    model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
    model.compile(keras.optimizers.Adam(0.1), "mse", metrics=["mae"])
    return model


@pytest.mark.jax
def test_the_model_stays_as_it_is() -> None:
    """Weights, statistics, seeds, moments and metrics are the same after as before."""
    x, y = data()
    named = {"word": np.tile([[1, 3]], (ROWS, 1)), "number": x}
    model = stateful()
    model.fit(named, y, epochs=1, verbose=0)
    before = state_of(model), [v.numpy() for v in model.metrics_variables]

    found = gradient_noise_scale(model, named, y, small=4, big=24, num_pairs=2, seed=0)

    after = state_of(model), [v.numpy() for v in model.metrics_variables]
    assert found.gradient_variance > 0
    for one, other in zip(before, after, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_added_losses_count() -> None:
    """The gradient is that of the whole loss: a penalty on weights adds its own, without noise."""
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(
                1,
                use_bias=False,
                kernel_initializer="ones",
                kernel_regularizer=keras.regularizers.L2(10.0),
            ),
        ]
    )
    model.compile("sgd", "mse")
    x, y = np.ones((8, 3), "float32"), np.full((8, 1), 3.0, "float32")

    found = gradient_noise_scale(model, x, y, small=1, big=8, num_pairs=1, seed=0)

    assert found.gradient_norm_squared == pytest.approx(3 * 20.0**2)  # (2 * 10 * 1)^2 each


def test_loss_scaling_cancels() -> None:
    """What mixed precision multiplies the loss by is divided out again."""
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=64.0)

    found = gradient_noise_scale(
        line(optimizer=scaled), *data(), small=1, big=ROWS, num_pairs=1, seed=0
    )

    norm, variance = known()
    assert found.gradient_variance == pytest.approx(variance, rel=1e-4)
    assert found.gradient_norm_squared == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize(
    "sizes",
    [
        {"small": 4, "big": 4, "num_pairs": 1},
        {"small": 4, "big": 10, "num_pairs": 1},
        {"small": 0, "big": 8, "num_pairs": 1},
        {"small": 4, "big": ROWS + 4, "num_pairs": 1},
        {"small": 4, "big": 8, "num_pairs": 0},
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, int]) -> None:
    """Sizes must divide each other, and the data must hold a big batch."""
    with pytest.raises(OptionError):
        gradient_noise_scale(line(), *data(), **sizes, seed=0)


def test_models_and_backends_that_cannot_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model without a loss and a backend without gradients of ours are told plainly."""
    bare = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    with pytest.raises(OptionError, match="not compiled"):
        GradientNoise(bare)

    torch = SimpleNamespace(backend=lambda: "torch")
    monkeypatch.setattr(noise_scale, "keras", SimpleNamespace(backend=torch))
    with pytest.raises(OptionError, match="`torch`"):
        GradientNoise(line())
