"""Divergence: what is stopped, how soon, and what is left alone."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes, load_digits

from smarttune.errors import OptionError
from smarttune.training.divergence import DivergenceGuard, StopOnDivergence


def stopped_in(guard: DivergenceGuard, *epochs: Iterable[float]) -> int | None:
    """The step, counted from 1, after which the guard has a reason; it is told running means."""
    for losses in epochs:
        guard.begin_epoch()
        total = 0.0
        for i, loss in enumerate(losses):
            total += loss
            if guard.update(i, total / (i + 1)):
                return guard.step
        if guard.end_epoch():
            return guard.step
    return None


# The guard, by hand.


def test_a_loss_that_is_no_number_ends_it_at_once() -> None:
    """Within the step in which it appears, the first one included."""
    assert stopped_in(DivergenceGuard(), [1.0, 1.0, math.nan]) == 3
    assert stopped_in(DivergenceGuard(), [1.0] * 5, [1.0, math.inf]) == 7
    first = DivergenceGuard()
    assert first.update(0, math.nan) == "The loss is not a finite number in step 1."
    assert first.update(1, 1.0) == first.reason != ""


def test_eight_steps_beyond_four_times_the_initial_loss_are_an_explosion() -> None:
    """Counted from the means that Keras logs, also from one epoch into the next."""
    calm = [2.0, 2.0, 2.0]

    guard = DivergenceGuard(10_000)
    assert stopped_in(guard, calm + [8.1] * 20) == 3 + 8
    assert guard.reason == (
        "The loss is 8.1 in step 11, and has been more than 4 times the initial 2 for at least "
        "8 steps."
    )
    assert stopped_in(DivergenceGuard(10_000), calm + [8.1] * 5, [8.1] * 9) == 3 + 8
    assert stopped_in(DivergenceGuard(10_000), calm + [7.9] * 300) is None


def test_a_training_that_came_back_once_is_given_twice_as_long() -> None:
    """After a run of six that ended by itself, the next one must last twelve steps."""
    start = [1.0] * 3 + [5.0] * 6 + [1.0]

    assert stopped_in(DivergenceGuard(10_000), start + [5.0] * 11 + [1.0] * 9) is None
    assert stopped_in(DivergenceGuard(10_000), start + [5.0] * 40) == 10 + 12


def test_an_epoch_that_settles_too_high_is_a_drift() -> None:
    """A mean beyond 1.5 times the initial loss, at the end of the epoch, after 5 % of the steps."""
    high = [1.0] * 3 + [1.6] * 37

    late = DivergenceGuard(800)
    assert stopped_in(late, high) == 40
    assert "The mean loss of the epoch that ended with step 40 is 1.555" in late.reason
    assert stopped_in(DivergenceGuard(801), high) is None
    assert stopped_in(DivergenceGuard(801), high, [1.6] * 40) == 80
    assert stopped_in(DivergenceGuard(), high) == 40
    assert stopped_in(DivergenceGuard(800), [1.0] * 3 + [1.5] * 37) is None


def test_outlying_batches_are_no_drift() -> None:
    """A mean that few steps lift is not judged, however high."""
    losses = ([1.0] * 6 + [100.0] * 2) * 5

    assert stopped_in(DivergenceGuard(40), losses, losses) is None


def test_an_epoch_is_judged_without_being_told_its_end() -> None:
    """`begin_epoch`, or a step index that begins anew, judges the one before."""
    losses = [1.0] * 3 + [1.6] * 37
    for announced in (True, False):
        guard = DivergenceGuard()
        for i in range(40):
            assert not guard.update(i, sum(losses[: i + 1]) / (i + 1))
        if announced:
            guard.begin_epoch()
        assert "step 40" in guard.update(0, 0.5)


def test_losses_without_a_scale_are_only_watched_for_numbers() -> None:
    """Where the first losses are 0 or less, multiples of them mean nothing."""
    assert stopped_in(DivergenceGuard(), [-1.0] * 3 + [50.0] * 60, [90.0] * 60) is None
    assert stopped_in(DivergenceGuard(), [0.0] * 3 + [50.0] * 60) is None
    assert stopped_in(DivergenceGuard(), [-1.0] * 9 + [math.nan]) == 10


def test_a_continued_training_is_measured_by_its_beginning() -> None:
    """With the loss before any training, a spike of a nearly trained model is no explosion."""
    spike = [0.01] * 10 + [0.2] * 12 + [0.01] * 10

    assert stopped_in(DivergenceGuard(32)) is None
    assert stopped_in(DivergenceGuard(10_000), spike) == 18
    assert stopped_in(DivergenceGuard(10_000, initial_loss=1.0), spike) is None


def test_executions_of_many_steps_are_judged_by_their_means() -> None:
    """With `steps_per_execution` the index skips; four high executions in a row are enough."""

    def guarded(means: list[float]) -> DivergenceGuard:
        guard, total = DivergenceGuard(10_000), 0.0
        for i, mean in enumerate(means, 1):
            total += mean
            guard.update(10 * i - 1, total / i)
        return guard

    assert not guarded([1.0, 9.0, 9.0, 1.0, 9.0, 9.0, 1.0]).reason
    assert not guarded([1.0, 9.0, 9.0, 9.0]).reason
    assert "in step 50" in guarded([1.0, 9.0, 9.0, 9.0, 9.0]).reason


@given(
    st.lists(st.sampled_from([0.5, 1.0, 3.0, 6.0, 20.0]), min_size=20, max_size=120),
    st.lists(st.integers(1, 119), max_size=3),
)
def test_epochs_do_not_change_what_explodes(losses: list[float], cuts: list[int]) -> None:
    """However epochs divide the steps, their means give the verdict of one long epoch."""
    edges = [0, *sorted({cut for cut in cuts if cut < len(losses)}), len(losses)]
    epochs = [losses[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    high = [1.0] * 40 + [9.0] * 12

    assert stopped_in(DivergenceGuard(10**6), *epochs) == stopped_in(DivergenceGuard(10**6), losses)
    # Exact: eight after forty calm ones, wherever the epochs end.
    divided = [part for part in (high[: len(losses) // 2], high[len(losses) // 2 :]) if part]
    assert stopped_in(DivergenceGuard(10**6), *divided) == 48


def test_a_level_above_the_first_loss_by_chance_is_no_explosion() -> None:
    """Where losses jump by a factor of ten at each step, five times the first one is nothing."""
    jumping = [1.0] + [5.0, 50.0] * 40
    steady = [1.0] + [5.0, 5.5] * 40

    assert stopped_in(DivergenceGuard(10_000), jumping) is None
    assert stopped_in(DivergenceGuard(10_000), steady) == 10


def simulated(seed: int, *, rate: float, outliers: str) -> list[float]:
    """Batch losses of linear regression by SGD on targets with heavy-tailed noise."""
    rng = np.random.default_rng(seed)
    true, weights, losses = rng.normal(size=5), np.zeros(5), []
    for _ in range(600):
        x = rng.normal(size=(16, 5))
        noise = rng.standard_t(2, 16) if outliers == "t" else rng.normal(size=16)
        if outliers == "mixture":
            noise += np.where(rng.random(16) < 0.03, 20.0, 0.0)
        error = x @ weights - x @ true - noise
        losses.append(float(np.mean(error**2)))
        # Clipped, or the outliers would make SGD itself unstable.
        gradient = 2 * x.T @ error / 16
        weights -= rate * gradient / max(1.0, float(np.linalg.norm(gradient)))
    return losses


@pytest.mark.slow
@pytest.mark.parametrize("outliers", ["none", "t", "mixture"])
def test_noisy_losses_are_rarely_taken_for_divergence(outliers: str) -> None:
    """Of forty regressions with outliers that learn, at most one is stopped."""
    alarms = 0
    for seed in range(40):
        losses = simulated(seed, rate=0.05, outliers=outliers)
        alarms += (
            stopped_in(DivergenceGuard(600), *(losses[i : i + 50] for i in range(0, 600, 50)))
            is not None
        )

    assert alarms <= 1


# The callback, in trainings.


def network(loss: str, *layers: Any, optimizer: Any) -> keras.Model:
    """A compiled stack of layers with fixed seeds."""
    keras.utils.set_random_seed(7)
    model = keras.Sequential(list(layers))
    model.compile(optimizer, loss)
    return model


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Small real images, 64 pixels from 0 to 1, and their classes."""
    x, y = load_digits(return_X_y=True)
    return (x[:640] / 16.0).astype("float32"), y[:640]


def classifier(optimizer: Any) -> keras.Model:
    """A small network for the digits."""
    return network(
        "sparse_categorical_crossentropy",
        keras.layers.Dense(32, activation="relu"),
        keras.layers.Dense(10, activation="softmax"),
        optimizer=optimizer,
    )


def trained(model: keras.Model, x: Any, y: Any, **options: Any) -> tuple[StopOnDivergence, Any]:
    """Train; return the callback and the losses of the epochs."""
    callback = StopOnDivergence()
    history = model.fit(
        x, y, **{"batch_size": 16, "epochs": 6, **options}, verbose=0, callbacks=[callback]
    )
    return callback, history.history["loss"]


@pytest.mark.slow
def test_a_loss_that_overflows_ends_the_training_in_its_first_epoch() -> None:
    """A linear model with a rate far too high is stopped within steps, with a reason."""
    x, y = load_diabetes(return_X_y=True)
    model = network("mse", keras.layers.Dense(1), optimizer=keras.optimizers.SGD(5.0))
    callback, losses = trained(model, 20 * x, y / 100)

    assert len(losses) == 1
    assert 3 < callback.guard.step < 20
    assert callback.reason


@pytest.mark.slow
def test_an_explosion_is_stopped_while_the_loss_is_still_a_number() -> None:
    """A rate a little beyond the stable ones makes the loss grow; it is stopped in its epoch."""
    x, y = load_diabetes(return_X_y=True)
    model = network("mse", keras.layers.Dense(1), optimizer=keras.optimizers.SGD(0.4))
    callback, losses = trained(model, 20 * x, y / 100)

    assert len(losses) == 1
    assert math.isfinite(losses[0])
    assert callback.guard.step < 28
    assert "times the initial" in callback.reason


@pytest.mark.slow
def test_a_loss_that_settles_too_high_ends_the_training_after_an_epoch_or_two() -> None:
    """SGD with a rate of 20 leaves a classifier worse than it was before."""
    x, y = digits()
    callback, losses = trained(classifier(keras.optimizers.SGD(20.0)), x, y)

    assert len(losses) <= 2
    assert "mean loss of the epoch" in callback.reason


@pytest.mark.slow
def test_a_high_rate_that_still_learns_is_left_alone() -> None:
    """SGD with momentum on digits, noisy batches of four, and its loss falls."""
    x, y = digits()
    model = classifier(keras.optimizers.SGD(0.1, momentum=0.8))
    callback, losses = trained(model, x, y, batch_size=4, epochs=4)

    assert callback.reason == ""
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
def test_a_recurrent_network_is_left_alone() -> None:
    """The rows of digits as sequences, with a quick rate."""
    x, y = digits()
    model = network(
        "sparse_categorical_crossentropy",
        keras.layers.Reshape((8, 8)),
        keras.layers.SimpleRNN(24),
        keras.layers.Dense(10, activation="softmax"),
        optimizer=keras.optimizers.Adam(0.01),
    )
    callback, losses = trained(model, x, y)

    assert callback.reason == ""
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
def test_a_regression_with_outliers_is_left_alone() -> None:
    """One target in fifty is ten times its spread away, and the loss of most batches shows it."""
    x, y = load_diabetes(return_X_y=True)
    y = (y - y.mean()) / y.std()
    y = y + np.where(np.random.default_rng(1).random(len(y)) < 0.02, 10.0, 0.0)
    model = network(
        "mse",
        keras.layers.Dense(32, activation="relu"),
        keras.layers.Dense(1),
        optimizer=keras.optimizers.Adam(0.01),
    )
    callback, losses = trained(model, 20 * x, y, batch_size=8, epochs=12)

    assert callback.reason == ""
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_a_callback_begins_anew_with_each_training() -> None:
    """After a training that diverged, the same callback watches the next one."""
    x, y = digits()
    callback = StopOnDivergence()
    classifier(keras.optimizers.SGD(20.0)).fit(
        x, y, batch_size=16, epochs=3, verbose=0, callbacks=[callback]
    )
    assert callback.reason

    classifier(keras.optimizers.Adam(0.01)).fit(x, y, epochs=1, verbose=0, callbacks=[callback])

    assert callback.reason == ""
    assert callback.guard.planned_steps == 20


def test_a_model_that_logs_no_loss_is_refused() -> None:
    """The error says what is logged instead."""
    with pytest.raises(OptionError, match=r"a `loss` among accuracy"):
        StopOnDivergence().on_train_batch_end(0, {"accuracy": 0.5})
