"""Averages of the weights: read, scored, and kept or not."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from smarttune.training.averaging import AveragedWeights, averaged_state
from smarttune.training.checkpoint import set_state, state_of

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(12, 3)).astype("float32"), RNG.normal(size=(12, 1)).astype("float32")
MOMENTUM = 0.75


def network(*, average: bool = True, scaling: bool = False, **options: Any) -> Any:
    """A small compiled network with weights that are trained and some that are not."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, trainable=False),
            layers.Dense(4),
            layers.BatchNormalization(),
            layers.Dropout(0.3, seed=1),
            layers.Dense(1),
        ]
    )
    if average:
        options |= {"use_ema": True, "ema_momentum": MOMENTUM}
    optimizer = keras.optimizers.SGD(0.1, momentum=0.5, **options)
    if scaling:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=8.0)
    model.compile(optimizer, loss="mse", jit_compile=False)
    return model


def trained(model: Any) -> list[np.ndarray]:
    """Its trained weights."""
    return [v.numpy() for v in model.trainable_variables]


def after_each_step(model: Any, steps: int) -> list[list[np.ndarray]]:
    """The trained weights after each of some steps."""
    found = []
    for _ in range(steps):
        model.train_on_batch(X, Y)
        found.append(trained(model))
    return found


def in_place(model: Any, values: list[np.ndarray]) -> list[np.ndarray]:
    """Those of a state that belong to trained weights."""
    wanted = {v.path for v in model.trainable_variables}
    return [a for v, a in zip(model.variables, values, strict=True) if v.path in wanted]


def equal(one: list[Any], other: list[Any]) -> bool:
    """Whether two lists of arrays agree bit for bit."""
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("scaling", [False, True])
def test_the_average_begins_at_the_weights_after_the_first_step(scaling: bool) -> None:
    """Nothing is drawn to zero: 1 step averages to itself, 4 steps to the geometric mean."""
    model = network(scaling=scaling)
    steps = after_each_step(model, 1)
    assert equal(in_place(model, averaged_state(model)), steps[0])

    steps += after_each_step(model, 3)
    expected = [w.astype("float64") for w in steps[0]]
    for weights in steps[1:]:
        expected = [
            MOMENTUM * e + (1 - MOMENTUM) * w for e, w in zip(expected, weights, strict=True)
        ]
    for ours, wanted in zip(in_place(model, averaged_state(model)), expected, strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-7)


def test_the_state_has_the_layout_of_the_plain_one() -> None:
    """Only trained weights differ; statistics, frozen weights and seeds are the last ones."""
    model = network()
    after_each_step(model, 3)
    plain, averaged = state_of(model, optimizer=False), averaged_state(model)

    wanted = {v.path for v in model.trainable_variables}
    for variable, a, b in zip(model.variables, plain, averaged, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert (a.tobytes() != b.tobytes()) == (variable.path in wanted)
    other = network(average=False)
    set_state(other, averaged, optimizer=False)
    assert equal(state_of(other, optimizer=False), averaged)


@pytest.mark.parametrize(("average", "steps"), [(False, 2), (True, 0)])
def test_without_an_average_it_is_the_plain_state(average: bool, steps: int) -> None:
    """An optimizer that keeps none, or has not stepped, gives no zeros."""
    model = network(average=average)
    model.optimizer.build(model.trainable_variables)
    after_each_step(model, steps)

    assert equal(averaged_state(model), state_of(model, optimizer=False))


def test_accumulated_batches_are_averaged_one_by_one() -> None:
    """Until the first move the average holds the initial weights; a skipped move counts again."""
    model = network(gradient_accumulation_steps=2)
    start = trained(model)
    (still,) = after_each_step(model, 1)
    assert equal(still, start)
    assert equal(in_place(model, averaged_state(model)), start)

    steps = after_each_step(model, 2)
    average = in_place(model, averaged_state(model))
    for ours, moved, same in zip(average, *steps, strict=True):
        assert moved.tobytes() == same.tobytes()
        np.testing.assert_allclose(ours, moved, rtol=1e-5, atol=1e-7)


class Watch(keras.callbacks.Callback):
    """Trained weights as other callbacks see them: inside of validations and after epochs."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[Any] = []
        self.outside: list[Any] = []
        self.averages: list[Any] = []

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.inside.append(trained(self.model))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.outside.append(trained(self.model))
        self.averages.append(in_place(self.model, averaged_state(self.model)))


def fitted(*callbacks: Any, epochs: int = 3, **options: Any) -> tuple[Any, dict[str, list[float]]]:
    """A network after some epochs with validation, and its history."""
    model = network(**options)
    history = model.fit(
        X,
        Y,
        validation_data=(X, Y),
        validation_batch_size=len(Y),
        epochs=epochs,
        batch_size=4,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    return model, history.history


@pytest.mark.jax
@pytest.mark.parametrize("scaling", [False, True])
def test_validations_score_the_averages_and_training_does_not_notice(scaling: bool) -> None:
    """Inside a validation the averages are in the model; outside the bits are those of before."""
    watch, plain = Watch(), Watch()
    model, history = fitted(AveragedWeights(), watch, scaling=scaling)
    _, unaveraged = fitted(plain, scaling=scaling)

    assert len(watch.inside) == len(watch.outside) == 3
    for inside, outside, average, undisturbed in zip(
        watch.inside, watch.outside, watch.averages, plain.outside, strict=True
    ):
        assert equal(inside, average)
        assert equal(outside, undisturbed)
        assert not equal(inside, outside)
    assert history["loss"] == unaveraged["loss"]
    assert history["val_loss"] != unaveraged["val_loss"]
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(history["val_loss"][-1])


@pytest.mark.parametrize("keep", [True, False])
def test_what_fit_leaves_is_chosen(keep: bool) -> None:
    """The averages stay in the model if asked, else the weights of the last epoch come back."""
    watch = Watch()
    model, _ = fitted(AveragedWeights(keep=keep), watch)

    assert equal(trained(model), watch.averages[-1] if keep else watch.outside[-1])
    assert equal(in_place(model, averaged_state(model)), watch.averages[-1])


def test_evaluations_outside_of_fit_are_left_alone() -> None:
    """The callback in `evaluate` swaps nothing, also after a `fit` that it took part in."""
    callback, watch = AveragedWeights(keep=False), Watch()
    model, _ = fitted(callback)

    model.evaluate(X, Y, callbacks=[callback, watch], verbose=0)

    assert equal(watch.inside[0], trained(model))
    assert not equal(watch.inside[0], in_place(model, averaged_state(model)))


@pytest.mark.parametrize("keep", [True, False])
def test_without_an_average_the_callback_changes_nothing(keep: bool) -> None:
    """An optimizer that keeps no average trains and scores as without the callback."""
    model, history = fitted(AveragedWeights(keep=keep), average=False)
    other, expected = fitted(average=False)

    assert history == expected
    assert equal(trained(model), trained(other))


def test_the_last_epoch_need_not_be_validated() -> None:
    """Without validation data the weights come back as well."""
    watch = Watch()
    model = network()
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[AveragedWeights(keep=False), watch])

    assert equal(trained(model), watch.outside[-1])
    assert not watch.inside
