"""The loop of `fit`, for trials whose steps run in a compiled program."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from smarttune.execution.program import Feed, Session
from smarttune.training.batches import epoch_order

# ours: a piece of an epoch that runs in one call ends after about so many seconds, so that limits
# of time are kept and a listener is heard.
PIECE_SECONDS = 1.0
# ours: steps of the first piece, when nothing is known of their time; compiling comes on top.
FIRST_STEPS = 32
# ours: no piece is that much longer than the one before it.
GROWTH = 16

_STEP_ENDS = ("on_train_batch_end", "on_batch_end")


@dataclass
class Member:
    """A trial that trains in a program.

    Attributes:
        model: Its compiled model, as it shall start.
        feed: What it is fed with.
        seed: Decides the order of its samples in every epoch.
        epochs: Epochs to train, counted from 0 over the whole training.
        callbacks: Its own callbacks of Keras.
    """

    model: Any
    feed: Feed
    seed: int
    epochs: range
    callbacks: Sequence[Any]


def overrides(callback: Any, names: Sequence[str]) -> bool:
    """Whether a callback does something of its own in one of these methods."""
    stock = keras.callbacks.Callback
    return any(
        getattr(getattr(callback, name), "__func__", None) is not getattr(stock, name)
        for name in names
    )


class Pace:
    """How many steps a piece may have."""

    def __init__(self) -> None:
        self.num_steps = FIRST_STEPS

    def learn(self, num_steps: int, seconds: float) -> None:
        """Hear how long a piece took."""
        wanted = PIECE_SECONDS * num_steps / max(seconds, 1e-9)
        self.num_steps = max(1, int(min(wanted, GROWTH * num_steps)))


def train_together(members: Sequence[Member], session: Session, pace: Pace | None = None) -> None:
    """Train trials as `fit` would train each of them alone.

    A trial that stops within an epoch stops there for its callbacks, while its weights go on to
    the end of the piece that ran; one that stops or ends leaves the others at the end of an epoch.

    Args:
        members: The trials, in the order in which they entered the session.
        session: They are in it.
        pace: What is known of the time of steps.
    """
    pace = pace if pace is not None else Pace()
    trials = [_Trial(m, model) for m, model in zip(members, session.models, strict=True)]
    for trial in trials:
        trial.begin()
    running = [t for t in trials if t.epoch in t.member.epochs]
    while running:
        session.reset_metrics()
        for trial in running:
            trial.begin_epoch()
        logs = _steps(running, session, pace)
        for trial in running:
            trial.callbacks.on_test_begin()
        session.reset_metrics()
        validation = session.validate()
        for trial, one, other in zip(running, logs, validation, strict=True):
            trial.callbacks.on_test_end(other)
            trial.end_epoch(one | {f"val_{name}": value for name, value in other.items()})
        going = [i for i, t in enumerate(running) if t.goes_on]
        if len(going) < len(running):
            session.keep(going)
            running = [running[i] for i in going]
    for trial in trials:
        trial.end()


def _steps(trials: Sequence[_Trial], session: Session, pace: Pace) -> list[dict[str, float]]:
    """The steps of one epoch; returns what each trial logs of it."""
    feed = trials[0].member.feed
    orders = [t.order() for t in trials]
    start = 0
    logs: list[dict[str, float]] = [{} for _ in trials]
    while start < feed.num_steps:
        stop = min(start + (session.steps_at_once or pace.num_steps), feed.num_steps)
        began = time.monotonic()
        losses, logs = session.train(orders, start, stop)
        pace.learn(stop - start, time.monotonic() - began)
        for trial, of_trial in zip(trials, losses, strict=True):
            trial.tell_steps(start, of_trial)
        start = stop
        if all(t.model.stop_training for t in trials):
            break
    return logs


class _Trial:
    """A member on its way, and its callbacks."""

    def __init__(self, member: Member, model: Any) -> None:
        self.member, self.model = member, model
        self.epoch = member.epochs.start
        self.callbacks = keras.callbacks.CallbackList(
            list(member.callbacks),
            add_history=True,
            epochs=member.epochs.stop,
            steps=member.feed.num_steps,
            verbose=0,
            model=model,
        )
        self.logs: dict[str, float] | None = None
        # Most hear nothing of steps; to tell them would take longer than a short step.
        self.listening = [c for c in self.callbacks.callbacks if overrides(c, _STEP_ENDS)]

    @property
    def goes_on(self) -> bool:
        return not self.model.stop_training and self.epoch in self.member.epochs

    def begin(self) -> None:
        self.model.stop_training = False
        self.callbacks.on_train_begin()

    def begin_epoch(self) -> None:
        self.callbacks.on_epoch_begin(self.epoch)

    def order(self) -> np.ndarray:
        return epoch_order(len(self.member.feed.data.y), self.member.seed, self.epoch)

    def tell_steps(self, start: int, losses: np.ndarray) -> None:
        """Tell callbacks the losses of steps, until one of them has heard enough."""
        for step, loss in enumerate(losses.tolist(), start=start):
            if self.model.stop_training:
                return
            for callback in self.listening:
                callback.on_train_batch_end(step, {"loss": loss})

    def end_epoch(self, logs: dict[str, float]) -> None:
        self.callbacks.on_epoch_end(self.epoch, logs)
        self.epoch += 1
        self.logs = logs

    def end(self) -> None:
        optimizer = self.model.optimizer
        if isinstance(optimizer, keras.optimizers.Optimizer) and len(self.member.epochs):
            optimizer.finalize_variable_values(self.model.trainable_weights)
        self.callbacks.on_train_end(self.logs)
