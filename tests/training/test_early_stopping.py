"""Windowed early stopping in plain Keras programs."""

from __future__ import annotations

import logging
from typing import Any

import keras
import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from smarttune.errors import OptionError
from smarttune.training.early_stopping import WindowedEarlyStopping


def small_model(*, dropout: float = 0.0, metrics: tuple[str, ...] = ()) -> keras.Model:
    """A network with normalization statistics and, if asked for, seeds."""
    keras.utils.set_random_seed(4)
    model = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.05), "mse", metrics=list(metrics))
    return model


def diabetes() -> tuple[np.ndarray, np.ndarray]:
    """A real table of 442 rows; columns and target standardized."""
    x, y = load_diabetes(return_X_y=True)
    return (x / x.std(axis=0)).astype("float32"), ((y - y.mean()) / y.std()).astype("float32")


def told(callback: Any, scores: list[float], name: str = "val_loss") -> list[bool]:
    """Tell a callback scores; whether it had stopped the model after each."""
    model = small_model()
    model.stop_training = False
    callback.set_model(model)
    callback.on_train_begin()
    stopped = []
    for epoch, score in enumerate(scores):
        model.layers[-1].bias.assign([float(epoch)])
        callback.on_epoch_end(epoch, {"loss": 0.1, name: score})
        stopped.append(model.stop_training)
    callback.on_train_end()
    return stopped


def bias(callback: Any) -> float:
    """The mark that `told` left in the epoch whose weights the model has now."""
    return float(callback.model.layers[-1].bias.numpy()[0])


def test_the_window_stops_and_the_best_single_epoch_comes_back() -> None:
    """Means 5, 3, 3.5, 5 stop after two epochs without gain; epoch 1 had the best score."""
    callback = WindowedEarlyStopping("val_loss", 2, window=2)

    assert told(callback, [5.0, 1.0, 6.0, 4.0]) == [False, False, False, True]
    assert (callback.best_epoch, callback.best_score, callback.stopped_epoch) == (1, 1.0, 3)
    assert bias(callback) == 1.0


def test_higher_is_better_where_the_metric_says_so() -> None:
    """The direction of a known metric is inferred, that of another is taken from the user."""
    known = WindowedEarlyStopping("val_accuracy", 1)
    named = WindowedEarlyStopping("val_profit", 1, direction="max")

    assert told(known, [0.5, 0.6, 0.6], "val_accuracy") == [False, False, True]
    assert told(named, [0.5, 0.6, 0.6], "val_profit") == [False, False, True]
    assert bias(known) == bias(named) == 1.0


def test_a_planned_end_is_kept() -> None:
    """In the mode `best_checkpoint` nothing stops, and the best epoch still comes back."""
    callback = WindowedEarlyStopping("val_loss", 1, mode="best_checkpoint")

    assert told(callback, [5.0, 1.0, 6.0, 7.0, 8.0]) == [False] * 5
    assert (callback.best_epoch, callback.stopped_epoch) == (1, None)
    assert bias(callback) == 1.0


def test_weights_stay_if_they_are_not_to_be_restored() -> None:
    """The model is that of the last epoch, the attributes still name the best one."""
    callback = WindowedEarlyStopping("val_loss", 1, restore_best_weights=False)
    told(callback, [1.0, 2.0])

    assert (bias(callback), callback.best_epoch) == (1.0, 0)


def test_early_epochs_are_not_looked_at() -> None:
    """Epochs before `start_from_epoch` neither count as best nor cost patience."""
    callback = WindowedEarlyStopping("val_loss", 1, start_from_epoch=3)

    assert told(callback, [0.0, 1.0, 2.0, 9.0, 8.0, 8.0]) == [False] * 5 + [True]
    assert (callback.best_epoch, bias(callback)) == (4, 4.0)


def test_scores_that_are_no_numbers_are_never_the_best() -> None:
    """They cost patience; with no other score the weights stay as they are."""
    some = WindowedEarlyStopping("val_loss", 2)
    none = WindowedEarlyStopping("val_loss", 2)

    assert told(some, [float("nan"), 3.0, float("-inf"), float("nan")]) == [False] * 3 + [True]
    assert (some.best_epoch, bias(some)) == (1, 1.0)
    assert told(none, [float("nan")] * 2) == [False, True]
    assert (none.best_epoch, none.best_score, bias(none)) == (None, None, 1.0)


def test_a_callback_begins_anew_with_each_training() -> None:
    """A second `fit` with the same callback is not judged by the first one's scores."""
    callback = WindowedEarlyStopping("val_loss", 1)
    told(callback, [1.0, 2.0])

    assert told(callback, [9.0, 8.0, 8.0]) == [False, False, True]
    assert (callback.best_epoch, callback.stopped_epoch) == (1, 2)


def test_the_window_and_the_noise_are_handed_on() -> None:
    """All options of the rule reach it."""
    callback = WindowedEarlyStopping(
        "loss", 3, window=5, statistic="quantile", noise_factor=1.5, quantile=0.2
    )
    rule = callback.rule

    assert (rule.patience, rule.window, rule.statistic) == (3, 5, "quantile")
    assert (rule.noise_factor, rule.quantile, rule.direction) == (1.5, 0.2, "min")


@pytest.mark.parametrize(
    ("arguments", "options", "where"),
    [
        (("val_profit", 1), {}, "direction"),
        (("val_loss", 1), {"mode": "never"}, "mode"),
        (("val_loss", 0), {}, "patience"),
        (("val_loss", 1), {"statistic": "mode"}, "statistic"),
    ],
)
def test_impossible_options_are_refused_at_once(
    arguments: tuple[Any, ...], options: dict[str, Any], where: str
) -> None:
    """Before any training, with the name of the option."""
    with pytest.raises(OptionError) as raised:
        WindowedEarlyStopping(*arguments, **options)

    assert raised.value.where == where


def test_a_monitor_that_is_not_logged_is_an_error_that_says_what_is() -> None:
    """The names that the model logs are listed; missing validation data is recognized."""
    callback = WindowedEarlyStopping("val_mae", 1)
    callback.set_model(small_model())

    with pytest.raises(OptionError, match=r"one of loss, val_loss, val_mse.*with that metric"):
        callback.on_epoch_end(0, {"loss": 1.0, "val_loss": 1.0, "val_mse": 1.0})
    with pytest.raises(OptionError, match=r"one of loss, mae\. Pass validation data"):
        callback.on_epoch_end(0, {"loss": 1.0, "mae": 1.0})


def test_what_was_done_is_logged_on_request(caplog: pytest.LogCaptureFixture) -> None:
    """One line at the end with epochs counted from 1; silence without `verbose`."""
    told(WindowedEarlyStopping("val_loss", 1), [1.0, 2.0])
    assert caplog.records == []

    with caplog.at_level(logging.WARNING):
        told(WindowedEarlyStopping("val_loss", 1, verbose=1), [1.0, 2.0])

    assert caplog.messages == [
        "val_loss: stopped after 2 epochs; best was epoch 1 with 1, now restored"
    ]


@pytest.mark.slow
def test_a_real_training_ends_with_the_score_of_its_best_epoch() -> None:
    """Evaluated again, the model has the best validation score, statistics of norms included."""
    x, y = diabetes()
    model = small_model(dropout=0.2, metrics=("mae",))
    callback = WindowedEarlyStopping("val_mae", 4, window=3, statistic="median")

    history = model.fit(
        x[:200],
        y[:200],
        validation_data=(x[300:], y[300:]),
        epochs=60,
        batch_size=16,
        verbose=0,
        callbacks=[callback],
    ).history["val_mae"]
    again = model.evaluate(x[300:], y[300:], verbose=0, return_dict=True)["mae"]

    assert len(history) == (callback.stopped_epoch or 0) + 1 < 60
    assert callback.best_epoch == int(np.argmin(history)) < len(history) - 1
    assert again == pytest.approx(min(history), rel=1e-5)


@pytest.mark.slow
def test_seeds_of_dropout_run_on() -> None:
    """Putting the best epoch back does not make dropout repeat the masks it drew after it."""
    x, y = diabetes()
    states = []
    for restore in (True, False):
        model = small_model(dropout=0.5)
        callback = WindowedEarlyStopping("loss", 9, direction="max", restore_best_weights=restore)
        model.fit(x, y, epochs=3, verbose=0, shuffle=False, callbacks=[callback])
        assert callback.best_epoch == 0  # the highest loss is the first
        (seed,) = [v for v in model.variables if "seed" in v.path]
        states.append(np.asarray(seed.numpy()).tolist())

    assert states[0] == states[1]
