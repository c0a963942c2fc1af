"""Learning rates that learn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.errors import OptionError
from smarttune.training.hypergradient import (
    HypergradientAdam,
    HypergradientAdamW,
    HypergradientSGD,
    hypergradient,
)

CURVATURE = np.array([1.0, 4.0])
START = np.array([2.0, -1.0])


def slope(w: np.ndarray) -> np.ndarray:
    """The gradient of the quadratic (w0 ** 2 + 4 w1 ** 2) / 2."""
    return CURVATURE * w


def run(optimizer: Any, steps: int, gradient: Any = slope) -> tuple[list[float], list[np.ndarray]]:
    """The rates and the weights after each step, the weights split over two variables."""
    variables = [
        keras.Variable(START[:1].astype("float32")),
        keras.Variable(START[1:].astype("float32")),
    ]
    optimizer.build(variables)
    rates, weights = [], []
    for _ in range(steps):
        g = gradient(np.concatenate([v.numpy() for v in variables])).astype("float32")
        optimizer.apply([keras.ops.convert_to_tensor(part) for part in (g[:1], g[1:])])
        rates.append(float(optimizer.learning_rate))
        weights.append(np.concatenate([v.numpy() for v in variables]))
    return rates, weights


@pytest.mark.jax
def test_sgd_hd_by_hand() -> None:
    """Three steps on a quadratic are those of Algorithm 4 (SGD-HD), worked out on paper.

    g1 = (2, -4), rate 0.1, w1 = (1.8, -0.6). g2 = (1.8, -2.4), h = -g2.g1 = -13.2,
    rate 0.1 + 0.132 = 0.232, w2 = (1.3824, -0.0432). g3 = (1.3824, -0.1728),
    h = -g3.g2 = -2.90304, rate 0.2610304.
    """
    rates, weights = run(HypergradientSGD(0.1, hypergradient_rate=0.01), 3)

    assert rates == pytest.approx([0.1, 0.232, 0.2610304])
    assert weights[0] == pytest.approx([1.8, -0.6])
    assert weights[1] == pytest.approx([1.3824, -0.0432])
    assert weights[2] == pytest.approx(
        [1.3824 * (1 - 0.2610304), -0.0432 + 0.2610304 * 0.1728], abs=1e-6
    )


def test_the_multiplicative_rule_by_hand() -> None:
    """The second step multiplies the rate by one plus the share times the cosine."""
    rates, _ = run(HypergradientSGD(0.1, hypergradient_rate=0.5, rule="multiplicative"), 2)

    cosine = 13.2 / (math.hypot(2.0, 4.0) * math.hypot(1.8, 2.4))
    assert rates == pytest.approx([0.1, 0.1 * (1 + 0.5 * cosine)])


def by_algorithm(
    steps: int, *, beta: float, direction: Any, rate: float = 0.1
) -> tuple[list[float], list[np.ndarray]]:
    """SGD-HD, SGDN-HD or Adam-HD in plain NumPy; `direction` is the derivative by the rate."""
    w, before, rates, weights = START.copy(), np.zeros(2), [], []
    for t in range(1, steps + 1):
        g = slope(w)
        rate -= beta * float(g @ before)
        before = direction(g, t)
        w = w + rate * before
        rates.append(rate)
        weights.append(w)
    return rates, weights


def adam_direction(b1: float = 0.9, b2: float = 0.999) -> Any:
    """Algorithm 6 (Adam-HD) with a state of its own."""
    m, v = np.zeros(2), np.zeros(2)

    def direction(g: np.ndarray, t: int) -> np.ndarray:
        nonlocal m, v
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        return -(m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + 1e-7)

    return direction


def momentum_direction(mu: float, *, nesterov: bool) -> Any:
    """Algorithm 5 (SGDN-HD), and its form without the look ahead."""
    velocity = np.zeros(2)

    def direction(g: np.ndarray, t: int) -> np.ndarray:
        nonlocal velocity
        velocity = mu * velocity + g
        return -(g + mu * velocity) if nesterov else -velocity

    return direction


CASES: dict[str, tuple[Any, float, Any]] = {
    "SGDN-HD": (
        lambda **o: HypergradientSGD(0.02, momentum=0.9, nesterov=True, **o),
        1e-4,
        lambda: momentum_direction(0.9, nesterov=True),
    ),
    "momentum": (
        lambda **o: HypergradientSGD(0.02, momentum=0.5, **o),
        1e-4,
        lambda: momentum_direction(0.5, nesterov=False),
    ),
    "Adam-HD": (lambda **o: HypergradientAdam(0.02, **o), 1e-2, adam_direction),
    "AdamW": (lambda **o: HypergradientAdamW(0.02, weight_decay=0.0, **o), 1e-2, adam_direction),
}


@pytest.mark.parametrize("name", CASES)
def test_several_steps_follow_the_algorithm(name: str) -> None:
    """Six steps of Algorithms 5 (SGDN-HD) and 6 (Adam-HD) agree with their plain form."""
    make, beta, direction = CASES[name]
    rates, weights = run(make(hypergradient_rate=beta), 6)

    expected = by_algorithm(6, beta=beta, direction=direction(), rate=0.02)

    assert rates == pytest.approx(expected[0], rel=2e-4)
    np.testing.assert_allclose(weights, expected[1], rtol=2e-4)
    assert max(rates) > 1.05 * rates[0]


@pytest.mark.jax
def test_adam_hd_by_hand() -> None:
    """Two steps of Algorithm 6 (Adam-HD): the first goes by the rate along the signs of g.

    g1 = (2, -4): w1 = (1.9, -0.9), g2 = (1.9, -3.6), and the product with (-1, 1) is -5.5.
    """
    rates, weights = run(HypergradientAdam(0.1, hypergradient_rate=0.01), 2)

    assert weights[0] == pytest.approx([1.9, -0.9], abs=1e-5)
    assert rates == pytest.approx([0.1, 0.155], rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (keras.optimizers.SGD, {"momentum": 0.9, "nesterov": True}),
        (keras.optimizers.SGD, {"clipnorm": 0.5, "weight_decay": 0.1}),
        (keras.optimizers.Adam, {"amsgrad": True}),
        (keras.optimizers.AdamW, {"weight_decay": 0.1, "global_clipnorm": 1.0}),
        (keras.optimizers.Adam, {"gradient_accumulation_steps": 2}),
    ],
)
def test_without_hypergradients_it_is_the_optimizer_of_keras(kind: Any, options: Any) -> None:
    """At a hypergradient rate of 0 the weights go where Keras's own optimizer takes them."""
    _, plain = run(kind(learning_rate=0.05, **options), 5)
    rates, ours = run(hypergradient(kind)(0.05, hypergradient_rate=0.0, **options), 5)

    np.testing.assert_allclose(ours, plain, rtol=1e-5)
    assert rates == pytest.approx([0.05] * 5)


def test_the_product_takes_the_clipped_gradient() -> None:
    """With values cut to 1 the product of two steps of signs (1, -1) is 2, however steep."""
    rates, _ = run(HypergradientSGD(0.1, hypergradient_rate=0.01, clipvalue=1.0), 2)

    assert rates == pytest.approx([0.1, 0.12])


def test_decay_is_on_neither_side_and_takes_the_rate_of_its_step() -> None:
    """Without a slope decay alone moves the weights, and the rate stands still."""
    optimizer = HypergradientSGD(0.1, hypergradient_rate=0.01, weight_decay=0.5)
    rates, weights = run(optimizer, 3, gradient=lambda w: 0.0 * w)
    assert rates == pytest.approx([0.1] * 3)
    assert weights[2] == pytest.approx(START * 0.95**3)

    rates, weights = run(HypergradientSGD(0.1, hypergradient_rate=0.01, weight_decay=0.5), 2)
    g = slope(weights[0])
    assert rates[1] == pytest.approx(0.1 + 0.01 * float(g @ slope(START)))
    assert weights[1] == pytest.approx(weights[0] * (1 - 0.5 * rates[1]) - rates[1] * g, abs=1e-6)


def test_the_rate_stays_within_its_bounds_and_comes_back_from_zero() -> None:
    """A gradient that turns around drives the rate to 0 and no further; agreement lifts it."""
    signs = iter([1.0, -1.0, -1.0, -1.0])
    turning = lambda w: next(signs) * np.ones(2)

    rates, weights = run(
        HypergradientSGD(0.1, hypergradient_rate=0.5, maximum_rate=0.3), 4, gradient=turning
    )

    assert rates == pytest.approx([0.1, 0.0, 0.3, 0.3])
    assert (weights[1] == weights[0]).all()


@given(
    st.lists(
        st.tuples(*[st.floats(-1e30, 1e30, allow_subnormal=False)] * 2), min_size=2, max_size=5
    ),
    st.sampled_from(["additive", "multiplicative"]),
)
def test_the_rate_is_finite_and_bounded_for_any_gradients(
    gradients: list[tuple[float, float]], rule: str
) -> None:
    """Even products that overflow leave a rate between 0 and the bound."""
    given_ = iter(gradients)
    optimizer = HypergradientSGD(0.1, hypergradient_rate=0.5, rule=rule, maximum_rate=0.2)

    rates, _ = run(optimizer, len(gradients), gradient=lambda w: np.array(next(given_)))

    assert all(0.0 <= rate <= 0.2 + 1e-6 for rate in rates)
    assert rule == "additive" or min(rates) > 0.0


def test_accumulated_batches_move_the_rate_once() -> None:
    """The rate looks at the mean of the batches, when the weights move."""
    gradients = [np.array([1.0, 0.0]), np.array([3.0, 0.0])] * 2
    given_ = iter(gradients)

    rates, _ = run(
        HypergradientSGD(0.1, hypergradient_rate=0.01, gradient_accumulation_steps=2),
        4,
        gradient=lambda w: next(given_),
    )

    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.1 + 0.01 * 2.0 * 2.0])


def test_a_step_that_loss_scaling_skips_moves_nothing() -> None:
    """After an overflow rate, directions and weights are as before, and the next step counts."""
    inner = HypergradientSGD(0.1, hypergradient_rate=0.01)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=8.0)
    signs = iter([8.0, math.inf, 4.0])  # the scale is halved by the overflow

    rates, weights = run(optimizer, 3, gradient=lambda w: next(signs) * slope(w))

    assert rates == pytest.approx([0.1, 0.1, 0.232])
    assert (weights[1] == weights[0]).all()
    assert weights[2] == pytest.approx([1.3824, -0.0432])


def network(optimizer: Any) -> Any:
    """An embedding and a dense layer, compiled."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(5, 2),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    model.compile(optimizer, loss="mse", jit_compile=False)
    return model


X = np.array([[0, 1, 1], [2, 1, 0], [4, 4, 4]], "int32")
Y = np.array([[1.0], [2.0], [3.0]], "float32")


def test_words_that_repeat_in_a_batch_count_once_in_the_product() -> None:
    """The rows of an embedding's gradient are added up before the product is taken."""
    model = network(HypergradientSGD(0.05, hypergradient_rate=0.01))
    before = [v.numpy() for v in model.trainable_variables]
    model.train_on_batch(X, Y)
    middle = [v.numpy() for v in model.trainable_variables]
    model.train_on_batch(X, Y)
    after = [v.numpy() for v in model.trainable_variables]

    rate = float(model.optimizer.learning_rate)
    product = sum(
        float((((a - b) / 0.05) * ((b - c) / rate)).sum())
        for a, b, c in zip(before, middle, after, strict=True)
    )
    assert rate == pytest.approx(0.05 + 0.01 * product, rel=1e-3)
    assert rate > 0.06


@pytest.mark.parametrize("kind", [HypergradientSGD, HypergradientAdam, HypergradientAdamW])
def test_a_saved_model_goes_on_with_its_rate(kind: Any, tmp_path: Path) -> None:
    """Class, arguments, rate and directions survive a .keras file."""
    model = network(kind(0.05, hypergradient_rate=0.02, maximum_rate=0.4))
    for _ in range(3):
        model.train_on_batch(X, Y)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")

    assert type(loaded.optimizer) is kind
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for m in (model, loaded):
        m.train_on_batch(X, Y)
    assert float(loaded.optimizer.learning_rate) == float(model.optimizer.learning_rate) != 0.05


def halved(kind: Any) -> Any:
    """A class that gives every variable but the first half of the rate."""

    class Halved(kind):
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            share = 1.0 if self._get_variable_index(variable) == 0 else 0.5
            super().update_step(gradient, variable, learning_rate * share)

    return Halved


@pytest.mark.parametrize("outside", [True, False])
def test_shares_of_the_rate_compose(outside: bool) -> None:
    """A class that scales the rate of a variable scales its direction, on either side."""
    sgd = keras.optimizers.SGD
    kind = halved(hypergradient(sgd)) if outside else hypergradient(halved(sgd))

    rates, weights = run(kind(0.1, hypergradient_rate=0.01), 2)

    # w1 = (1.8, -0.8), g2 = (1.8, -3.2), d1 = (-2, 2): the product is -3.6 - 6.4.
    assert weights[0] == pytest.approx([1.8, -0.8])
    assert rates == pytest.approx([0.1, 0.2])


def test_the_classes_are_made_once() -> None:
    """The class for an optimizer of Keras is the registered one, and ours is its own."""
    assert hypergradient(keras.optimizers.AdamW) is HypergradientAdamW
    assert hypergradient(HypergradientSGD) is HypergradientSGD


@pytest.mark.parametrize("kind", [keras.optimizers.RMSprop, "sgd", None])
def test_other_optimizers_are_refused(kind: Any) -> None:
    """The error names those that can be had."""
    with pytest.raises(OptionError, match="SGD, Adam or AdamW"):
        hypergradient(kind)


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"learning_rate": -0.1}, "learning_rate"),
        (
            {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)},
            "learning_rate",
        ),
        ({"hypergradient_rate": -1e-9}, "hypergradient_rate"),
        ({"hypergradient_rate": math.nan}, "hypergradient_rate"),
        ({"hypergradient_rate": 1.0, "rule": "multiplicative"}, "hypergradient_rate"),
        ({"rule": "addtive"}, "rule"),
        ({"maximum_rate": 0.05}, "maximum_rate"),
    ],
)
def test_arguments_that_mean_nothing_are_named(options: dict[str, Any], where: str) -> None:
    """The error says which argument and how to mend it."""
    given_ = {"learning_rate": 0.1, "hypergradient_rate": 0.01, **options}

    with pytest.raises(OptionError) as caught:
        HypergradientSGD(**given_)

    assert caught.value.where == where
