"""Optimizers whose momentum follows a schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from smarttune.errors import OptionError
from smarttune.training import restore_state, save_state
from smarttune.training.checkpoint import set_state, state_of
from smarttune.training.momentum import (
    MomentumCycledAdam,
    MomentumCycledAdamW,
    MomentumCycledNadam,
    MomentumCycledSGD,
    with_momentum_cycle,
)
from smarttune.training.schedules import Cosine, OneCycle

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

optimizers = keras.optimizers
ONE_CYCLE = OneCycle(0.05, total_steps=12)
STEPS = 12
# Each class beside the one of Keras, with options that change its update.
KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "sgd": (MomentumCycledSGD, optimizers.SGD, {}),
    "nesterov": (MomentumCycledSGD, optimizers.SGD, {"nesterov": True}),
    "adam": (MomentumCycledAdam, optimizers.Adam, {}),
    "amsgrad": (MomentumCycledAdam, optimizers.Adam, {"amsgrad": True}),
    "adamw": (MomentumCycledAdamW, optimizers.AdamW, {"weight_decay": 0.05}),
    "nadam": (MomentumCycledNadam, optimizers.Nadam, {}),
}
EVERYWHERE: dict[str, dict[str, Any]] = {
    "plain": {},
    "decay": {"weight_decay": 0.1},
    "clipping": {"global_clipnorm": 0.5},
    "accumulation": {"gradient_accumulation_steps": 3},
    "average": {"use_ema": True, "ema_overwrite_frequency": 2},
}


@keras.saving.register_keras_serializable(package="tests")
class Still:
    """A momentum that never changes."""

    def __init__(self, value: float = 0.9) -> None:
        self.value = value

    def momentum(self, step: Any) -> Any:
        return keras.ops.zeros((), "float32") + self.value

    def get_config(self) -> dict[str, Any]:
        return {"value": self.value}


def gradients(count: int = STEPS, size: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, size)).astype("float32")


def moved(optimizer: Any, steps: np.ndarray) -> np.ndarray:
    """The weights after each of the gradients."""
    variable = keras.Variable(np.full(steps.shape[1], 0.5, "float32"))
    seen = []
    for gradient in steps:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        seen.append(keras.ops.convert_to_numpy(variable).copy())
    return np.array(seen)


def momenta(count: int) -> np.ndarray:
    found: np.ndarray = keras.ops.convert_to_numpy(ONE_CYCLE.momentum(np.arange(count)))
    return found.astype("float64")


@pytest.mark.parametrize("options", EVERYWHERE)
@pytest.mark.parametrize("kind", KINDS)
def test_a_momentum_that_stands_still_gives_the_update_of_keras(kind: str, options: str) -> None:
    """Decay, clipping, accumulation and averages work as they do without the cycle."""
    cycled, plain, own = KINDS[kind]
    given = {"learning_rate": 0.05, **own, **EVERYWHERE[options]}
    name = "momentum" if plain is optimizers.SGD else "beta_1"

    found = moved(cycled(**given, momentum_schedule=Still(0.9)), gradients())

    expected = moved(plain(**given, **{name: 0.9}), gradients())
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


def test_descent_takes_the_momentum_of_its_step() -> None:
    """Sutskever et al. 2013, eqs. 1 and 2, in double precision."""
    found = moved(MomentumCycledSGD(0.05, momentum_schedule=ONE_CYCLE), gradients())

    weight, velocity, expected = np.full(3, 0.5), np.zeros(3), []
    for momentum, gradient in zip(momenta(STEPS), gradients(), strict=True):
        velocity = momentum * velocity - 0.05 * gradient
        weight = weight + velocity
        expected.append(weight)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_nesterov_looks_ahead_by_the_next_momentum() -> None:
    """Sutskever et al. 2013, eqs. 3 and 4: the weights shown are where gradients are taken."""
    optimizer = MomentumCycledSGD(0.05, nesterov=True, momentum_schedule=ONE_CYCLE)
    found = moved(optimizer, gradients())

    weight, velocity, expected = np.full(3, 0.5), np.zeros(3), []
    course = momenta(STEPS + 1)
    for now, later, gradient in zip(course[:-1], course[1:], gradients(), strict=True):
        velocity = now * velocity - 0.05 * gradient
        weight = weight + velocity
        expected.append(weight + later * velocity)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["adam", "amsgrad", "adamw"])
def test_a_constant_gradient_moves_by_the_rate(kind: str) -> None:
    """Kingma and Ba 2015, section 3: the bias is corrected exactly while beta_1 moves."""
    cycled, _, own = KINDS[kind]
    options = {**own, "weight_decay": 0.0}
    found = moved(cycled(0.05, **options, momentum_schedule=ONE_CYCLE), np.full((STEPS, 1), 3.0))

    np.testing.assert_allclose(np.diff(found[:, 0]), -0.05, rtol=1e-4)
    assert found[0, 0] == pytest.approx(0.5 - 0.05, rel=1e-4)


@pytest.mark.jax
def test_adam_is_the_weighted_mean_of_its_gradients() -> None:
    """Weights of the first moment are products of betas; they are divided by their sum."""
    found = moved(MomentumCycledAdam(0.05, momentum_schedule=ONE_CYCLE), gradients())

    betas, seen, weight, expected = momenta(STEPS), gradients().astype("float64"), 0.5, []
    for t in range(STEPS):
        first = np.array([(1 - betas[i]) * np.prod(betas[i + 1 : t + 1]) for i in range(t + 1)])
        second = np.array([0.001 * 0.999 ** (t - i) for i in range(t + 1)])
        mean = first @ seen[: t + 1] / first.sum()
        square = second @ seen[: t + 1] ** 2 / second.sum()
        weight = weight - 0.05 * mean / np.sqrt(square)
        expected.append(weight)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_nadam_takes_this_momentum_and_the_next() -> None:
    """Dozat 2016: this update's share of the gradient, the next update's share of the moment."""
    found = moved(MomentumCycledNadam(0.05, momentum_schedule=ONE_CYCLE), gradients())

    shares = momenta(STEPS + 1) * (1 - 0.5 * 0.96 ** np.arange(1, STEPS + 2))
    weight, first, second, expected = np.full(3, 0.5), np.zeros(3), np.zeros(3), []
    for t, gradient in enumerate(gradients().astype("float64")):
        beta = momenta(STEPS)[t]
        first = beta * first + (1 - beta) * gradient
        second = 0.999 * second + 0.001 * gradient**2
        ahead = shares[t + 1] * first / (1 - np.prod(shares[: t + 2]))
        ahead = ahead + (1 - shares[t]) * gradient / (1 - np.prod(shares[: t + 1]))
        weight = weight - 0.05 * ahead / np.sqrt(second / (1 - 0.999 ** (t + 1)))
        expected.append(weight)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_momentum_and_rate_count_the_same_batches() -> None:
    """With accumulated gradients, both are taken at the last batch of an update."""
    optimizer = MomentumCycledSGD(
        OneCycle(0.05, total_steps=12), nesterov=True, gradient_accumulation_steps=3
    )
    found = moved(optimizer, np.ones((12, 1), "float32"))

    weight, velocity = 0.5, 0.0
    course = momenta(20)
    for step in (2, 5, 8, 11):
        rate = float(ONE_CYCLE(step))
        velocity = course[step] * velocity - rate
        weight = weight + course[step + 3] * velocity - rate
        assert found[step, 0] == pytest.approx(weight, rel=1e-4)


def network(kind: str, **options: Any) -> Any:
    """A network with an embedding and a vector, and its optimizer."""
    keras.utils.set_random_seed(3)
    cycled, _, own = KINDS[kind]
    words, table = keras.Input((4,), dtype="int32"), keras.Input((2,))
    text = keras.layers.Flatten()(keras.layers.Embedding(7, 3)(words))
    hidden = keras.layers.Dense(5, "tanh")(keras.layers.concatenate([text, table]))
    model = keras.Model([words, table], keras.layers.Dense(1)(hidden))
    optimizer = cycled(OneCycle(0.05, total_steps=STEPS), **{**own, **options})
    compile_again(model, optimizer)
    return model


def compile_again(model: Any, optimizer: Any) -> None:
    # Keras on JAX runs its steps eagerly unless it may compile them.
    model.compile(optimizer, loss="mse", jit_compile=keras.backend.backend() == "jax")


def train(model: Any, steps: int) -> list[float]:
    rng = np.random.default_rng(1)
    words, table = rng.integers(0, 7, (16, 4)), rng.normal(size=(16, 2)).astype("float32")
    target = table.sum(axis=1, keepdims=True) + (words == 3).sum(axis=1, keepdims=True)
    return [float(model.train_on_batch([words, table], target)) for _ in range(steps)]


@pytest.mark.jax
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_continued_training_equals_one_that_ran_through(kind: str, tmp_path: Path) -> None:
    """All that the momentum needs is in the optimizer's variables, bit for bit."""
    through, first, second = network(kind), network(kind), network(kind)
    losses = train(through, STEPS)
    train(first, 5)
    save_state(state_of(first), tmp_path / "c.npz")
    train(second, 2)

    set_state(second, restore_state(tmp_path / "c.npz"))
    train(second, STEPS - 5)

    assert losses[-1] < 0.8 * losses[0]
    for a, b in zip(state_of(through), state_of(second), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_change_of_momentum_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The schedule is asked while the first step is traced and never again."""
    asked: list[int] = []
    of_class = OneCycle.momentum
    monkeypatch.setattr(OneCycle, "momentum", lambda s, t: asked.append(0) or of_class(s, t))
    model = network("adam")
    train(model, 1)
    traced = len(asked)

    train(model, 5)

    assert len(asked) == traced > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nesterov", "nadam"])
def test_a_training_with_scaled_losses_takes_the_same_steps(kind: str) -> None:
    """In compiled steps, a scale of a power of two changes no update."""
    plain, scaled = network(kind), network(kind)
    compile_again(scaled, optimizers.LossScaleOptimizer(scaled.optimizer, initial_scale=4.0))

    train(plain, 4)
    train(scaled, 4)

    for a, b in zip(plain.weights, scaled.weights, strict=True):
        np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (a, b)), rtol=1e-5, atol=1e-7)


@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="Keras on JAX scales losses in compiled steps only"
)
@pytest.mark.parametrize("kind", ["nesterov", "adam", "nadam"])
def test_scaled_losses_leave_the_cycle_alone(kind: str) -> None:
    """A scale that overflows skips the update, its step, and its momentum."""
    cycled, _, own = KINDS[kind]
    finite = gradients(6)
    inner = cycled(0.05, **own, momentum_schedule=ONE_CYCLE)
    scaled = optimizers.LossScaleOptimizer(inner, initial_scale=4.0)
    variable = keras.Variable(np.full(3, 0.5, "float32"))

    for place, gradient in enumerate(finite):
        if place == 3:
            scaled.apply([keras.ops.convert_to_tensor(gradient * np.inf)], [variable])
        scale = float(scaled.dynamic_scale) if scaled.built else 4.0
        scaled.apply([keras.ops.convert_to_tensor(gradient * scale)], [variable])

    expected = moved(cycled(0.05, **own, momentum_schedule=ONE_CYCLE), finite)[-1]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), expected, rtol=1e-5)
    assert float(scaled.dynamic_scale) == 2.0


@pytest.mark.parametrize("kind", KINDS)
def test_an_optimizer_survives_its_configuration(kind: str) -> None:
    """Class, schedule and options come back, and the updates are the same."""
    cycled, plain, own = KINDS[kind]
    made = with_momentum_cycle(plain, ONE_CYCLE)(0.05, **own, clipnorm=1.0)

    back = optimizers.deserialize(optimizers.serialize(made))

    assert type(back) is type(made) is cycled
    np.testing.assert_array_equal(moved(back, gradients()), moved(made, gradients()))


def test_a_saved_model_has_its_cycle(tmp_path: Path) -> None:
    """A compiled model loads with its optimizer and goes on."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    cycled = with_momentum_cycle(optimizers.Adam, ONE_CYCLE)
    model.compile(cycled(ONE_CYCLE), loss="mse")
    x, y = np.ones((6, 2)), np.ones((6, 1))
    model.fit(x, y, batch_size=2, verbose=0)
    model.save(tmp_path / "m.keras")

    back = keras.saving.load_model(tmp_path / "m.keras")
    model.fit(x, y, batch_size=2, verbose=0)
    back.fit(x, y, batch_size=2, verbose=0)

    assert int(back.optimizer.iterations) == 6
    for a, b in zip(state_of(model), state_of(back), strict=True):
        np.testing.assert_array_equal(a, b)


def test_other_mixins_nest_around_the_cycle() -> None:
    """What overrides clipping, rate or application outside keeps its effect and the cycle."""

    def watched(kind: Any) -> Any:
        class Watched(kind):
            norms: list[float] = []

            def _clip_gradients(self, grads: Any) -> Any:
                self.norms.append(float(keras.ops.norm(grads[0])))
                return super()._clip_gradients(grads)

            def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
                super().update_step(gradient, variable, learning_rate * 0.5)

            def apply(self, grads: Any, trainable_variables: Any = None) -> None:
                super().apply([2.0 * g for g in grads], trainable_variables)

        return Watched

    made = watched(with_momentum_cycle(optimizers.SGD, ONE_CYCLE))(0.05)

    found = moved(made, gradients())

    expected = moved(MomentumCycledSGD(0.05, momentum_schedule=ONE_CYCLE), gradients())
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(made.norms, np.linalg.norm(2 * gradients(), axis=1), rtol=1e-5)


def test_a_subclass_that_keeps_the_update_can_be_cycled() -> None:
    """Its other methods stay in force."""

    class Halved(optimizers.Adam):
        def apply(self, grads: Any, trainable_variables: Any = None) -> None:
            super().apply([g * 0.0 for g in grads], trainable_variables)

    made = with_momentum_cycle(Halved, ONE_CYCLE)(0.05)

    assert isinstance(made, Halved)
    assert made.beta_1 == pytest.approx(0.95)
    np.testing.assert_array_equal(moved(made, gradients(2)), 0.5)


class _OwnUpdate(optimizers.SGD):
    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Nothing moves."""


@pytest.mark.parametrize(
    ("call", "where"),
    [
        (lambda: with_momentum_cycle(optimizers.RMSprop, ONE_CYCLE), "kind"),
        (lambda: with_momentum_cycle(_OwnUpdate, ONE_CYCLE), "kind"),
        (lambda: with_momentum_cycle("adam", ONE_CYCLE), "kind"),
        (lambda: MomentumCycledSGD(0.1), "momentum_schedule"),
        (lambda: MomentumCycledAdam(Cosine(0.1, total_steps=3)), "momentum_schedule"),
        (lambda: MomentumCycledAdam(0.1, momentum_schedule=Still(0.0)), "momentum_schedule"),
    ],
)
def test_what_cannot_be_cycled_is_refused(call: Any, where: str) -> None:
    """An optimizer without momentum, with its own update, or without a schedule."""
    with pytest.raises(OptionError) as caught:
        call()

    assert caught.value.where == where
