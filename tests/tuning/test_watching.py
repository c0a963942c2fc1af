"""What is watched while a trial trains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from smarttune.errors import OptionError
from smarttune.objectives import Objective
from smarttune.training import WindowedStopping
from smarttune.training.divergence import DivergenceGuard
from smarttune.tuning.budget import Clock
from smarttune.tuning.watching import DIVERGED, EARLY_STOPPING, TIME_LIMIT, TrialWatcher

LOSS = Objective("val_loss", "min")


class Variable:
    """Stands for a Keras variable."""

    def __init__(self) -> None:
        self.value = 0.0

    def numpy(self) -> np.ndarray:
        """Its value now."""
        return np.array(self.value)


class Clocked(Clock):
    """A clock that stands where the test puts it."""

    elapsed = 0.0

    def __init__(self) -> None:
        super().__init__(None)


def watcher(
    goal: Objective = LOSS, *, stopping: WindowedStopping | None = None, **options: Any
) -> TrialWatcher:
    """A watcher of a model with one weight."""
    made = TrialWatcher(
        goal,
        stopping=stopping,
        clock=options.get("clock", Clock(None)),
        deadline=options.get("deadline"),
        on_epoch=options.get("on_epoch", lambda epoch, logs: None),
        guard=options.get("guard"),
        num_samples=options.get("num_samples"),
    )
    made.set_model(SimpleNamespace(variables=[Variable()], optimizer=None, stop_training=False))
    return made


def train(watched: TrialWatcher, scores: list[float], *, name: str = "val_loss") -> int:
    """Report epochs until the watcher ends the training; return how many there were."""
    for epoch, score in enumerate(scores):
        watched.model.variables[0].value = score
        watched.on_epoch_end(epoch, {"loss": 1.0, name: score})
        if watched.model.stop_training:
            return epoch + 1
    return len(scores)


def test_the_curve_and_the_best_epoch_are_kept() -> None:
    """Every epoch is recorded, and the weights are those of the best one."""
    watched = watcher()

    train(watched, [0.5, 0.2, 0.4])

    assert [logs["val_loss"] for logs in watched.curve] == [0.5, 0.2, 0.4]
    assert (watched.best_score, watched.best_epoch) == (0.2, 2)
    assert watched.best_weights is not None
    assert float(watched.best_weights[0]) == 0.2
    assert watched.ended_by == ""


def test_the_first_of_equal_epochs_is_the_best() -> None:
    """A tie keeps the earlier epoch, which cost less."""
    watched = watcher()

    train(watched, [0.5, 0.2, 0.2])

    assert watched.best_epoch == 2


def test_higher_may_be_better() -> None:
    """For an accuracy the largest value is the best."""
    watched = watcher(Objective("val_accuracy", "max"))

    train(watched, [0.5, 0.9, 0.4], name="val_accuracy")

    assert (watched.best_score, watched.best_epoch) == (0.9, 2)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["loss", "val_loss"])
def test_a_loss_that_is_no_number_ends_the_trial(value: float, name: str) -> None:
    """Divergence of training or validation loss stops at once and is no best epoch."""
    watched = watcher()
    watched.on_epoch_end(0, {"loss": 1.0, "val_loss": 0.5})

    watched.on_epoch_end(1, {"loss": 1.0, "val_loss": 0.1, name: value})

    assert watched.model.stop_training
    assert watched.ended_by.startswith(DIVERGED)
    assert "epoch 2" in watched.ended_by
    assert watched.best_score == 0.5
    assert len(watched.curve) == 2


def test_gains_that_dry_up_end_the_trial() -> None:
    """After so many epochs without a better value the trial is stopped, not failed."""
    watched = watcher(stopping=WindowedStopping(patience=2))

    trained = train(watched, [0.5, 0.2, 0.3, 0.4, 0.1])

    assert trained == 4
    assert watched.ended_by == EARLY_STOPPING


def test_divergence_is_named_before_stopping() -> None:
    """Where both happen in one epoch, the trial has diverged."""
    watched = watcher(stopping=WindowedStopping(patience=1))
    watched.on_epoch_end(0, {"loss": 1.0, "val_loss": 0.2})

    watched.on_epoch_end(1, {"loss": math.nan, "val_loss": 0.3})

    assert watched.ended_by.startswith(DIVERGED)


def test_a_parents_epochs_count() -> None:
    """Best epoch, patience and curve go on from where the parent stopped."""
    parent = [{"loss": 1.0, "val_loss": v} for v in (0.5, 0.2, 0.3)]
    whole = watcher(stopping=WindowedStopping(patience=3))
    child = watcher(stopping=WindowedStopping(patience=3))
    child.inherit(parent)

    train(whole, [0.5, 0.2, 0.3, 0.4, 0.5, 0.6])
    ended = train(child, [0.4, 0.5, 0.6])

    assert ended == 2
    assert child.curve == whole.curve
    assert (child.best_score, child.best_epoch) == (whole.best_score, whole.best_epoch) == (0.2, 2)
    assert child.best_weights is None  # the parent's file holds them


def test_a_child_that_improves_keeps_its_own_weights() -> None:
    """Once the child beats its parent the weights are the child's."""
    child = watcher()
    child.inherit([{"loss": 1.0, "val_loss": 0.5}])

    train(child, [0.6, 0.3])

    assert (child.best_score, child.best_epoch) == (0.3, 3)
    assert child.best_weights is not None


def test_the_deadline_is_kept_within_a_step() -> None:
    """Training stops after the step in which the time ran out, not before."""
    clock = Clocked()
    watched = watcher(clock=clock, deadline=10.0)

    watched.on_train_batch_end(0)
    assert not watched.model.stop_training
    clock.elapsed = 10.0
    watched.on_train_batch_end(1)

    assert watched.model.stop_training
    assert watched.ended_by == TIME_LIMIT


def test_a_model_that_does_not_log_the_objective_is_told_so() -> None:
    """The error names what is logged and guesses what was meant."""
    watched = watcher(Objective("val_acuracy", "max"))

    with pytest.raises(OptionError, match="Did you mean `val_accuracy`") as caught:
        watched.on_epoch_end(0, {"loss": 1.0, "val_accuracy": 0.5})

    assert "val_accuracy" in caught.value.expected


def test_every_epoch_is_announced() -> None:
    """The listener hears the epoch of the lineage and its logs."""
    heard: list[tuple[int, Mapping[str, float]]] = []
    child = watcher(on_epoch=lambda epoch, logs: heard.append((epoch, logs)))
    child.inherit([{"loss": 1.0, "val_loss": 0.5}])

    train(child, [0.25])

    assert heard == [(2, {"loss": 1.0, "val_loss": 0.25})]


def test_a_loss_that_is_no_number_ends_the_trial_within_a_step() -> None:
    """Divergence is seen after the batch, not at the end of the epoch."""
    watched = watcher()
    watched.on_epoch_begin(0)
    watched.on_train_batch_end(0, {"loss": 0.7})
    assert not watched.model.stop_training

    watched.on_train_batch_end(1, {"loss": math.nan})

    assert watched.model.stop_training
    assert watched.ended_by.startswith(DIVERGED)
    assert "step 2" in watched.ended_by


def test_an_exploding_loss_ends_the_trial_before_the_epoch_does() -> None:
    """A loss that stays far above its start is divergence, though it is a number."""
    watched = watcher()
    watched.on_epoch_begin(0)
    total = 0.0
    for batch in range(200):
        total += 1.0 if batch < 5 else 100.0
        watched.on_train_batch_end(batch, {"loss": total / (batch + 1)})
        if watched.model.stop_training:
            break

    assert watched.ended_by.startswith(DIVERGED)
    assert 5 < batch < 60


def test_a_continued_trial_is_measured_by_the_first_loss_of_its_lineage() -> None:
    """After training a loss of a multiple of the last one may still be far below the start."""
    guard = DivergenceGuard(initial_loss=10.0)
    watched = watcher(guard=guard)
    watched.on_epoch_begin(0)
    for batch in range(100):
        watched.on_train_batch_end(batch, {"loss": 0.1 + 0.05 * batch})

    assert not watched.model.stop_training


def test_throughput_leaves_out_the_epoch_that_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first epoch holds tracing; the rate is that of the others."""
    now = 0.0
    monkeypatch.setattr("smarttune.tuning.watching.time.monotonic", lambda: now)
    watched = watcher(num_samples=600)
    for seconds in (10.0, 2.0, 4.0):
        watched.on_epoch_begin(0)
        now += seconds
        watched.on_train_batch_end(0, {"loss": 1.0})
        now += 100.0  # validation
        watched.on_epoch_end(0, {"loss": 1.0, "val_loss": 1.0})

    assert watched.samples_per_second == pytest.approx(200.0)
    assert watcher().samples_per_second is None
