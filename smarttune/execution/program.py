"""What the compiled lanes need of a backend: traces that can be compared, and programs to share.

A trial's training step is traced once. Two traces that differ only in scalar constants (a rate
of dropout, a decay, a clip norm, a smoothing) have one *signature*; the constants are their
*numbers*. All trials of a signature share one program, which takes the numbers as inputs, keeps
the data on the device, and runs many steps, usually a whole epoch, in one call.
"""

from __future__ import annotations

import abc
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from smarttune.execution.fit import TrainingData
from smarttune.training import num_batches
from smarttune.training.outputs import batch_size_for, some_rows


class Unsupported(Exception):  # noqa: N818 -- no error: `fit` trains the model
    """A model that a compiled lane cannot take, with the reason."""


@dataclass(frozen=True)
class Feed:
    """What a trial is fed with.

    Attributes:
        data: Training and validation arrays, or what reads them.
        batch_size: Samples per step.
        validation_batch_size: Samples per step of the validation.
        sample_weight: Weight of each training sample; None for equal weights.
    """

    data: TrainingData
    batch_size: int
    validation_batch_size: int
    sample_weight: np.ndarray | None = None

    @classmethod
    def of(
        cls, model: Any, data: TrainingData, batch_size: int, sample_weight: np.ndarray | None
    ) -> Feed:
        """What `fit` would feed to a model."""
        size = min(batch_size_for(model, data.x_validation), len(data.y_validation))
        return cls(data, min(batch_size, len(data.y)), size, sample_weight)

    @cached_property
    def num_steps(self) -> int:
        """Steps of an epoch, that of the smaller last batch included."""
        return num_batches(len(self.data.y), self.batch_size)

    def batch(self, rows: np.ndarray) -> tuple[Any, ...]:
        """The given training rows as `train_step` takes them."""
        batch = (some_rows(self.data.x, rows), self.data.y[rows])
        return batch if self.sample_weight is None else (*batch, self.sample_weight[rows])

    def validation_batch(self, rows: np.ndarray) -> tuple[Any, ...]:
        """The given validation rows as `test_step` takes them."""
        return (some_rows(self.data.x_validation, rows), self.data.y_validation[rows])

    @property
    def example(self) -> tuple[Any, ...]:
        """A full training batch."""
        return self.batch(np.arange(self.batch_size))

    @property
    def validation_example(self) -> tuple[Any, ...]:
        """A full validation batch."""
        return self.validation_batch(np.arange(self.validation_batch_size))


@dataclass(frozen=True)
class Trace:
    """The steps of one trial.

    Attributes:
        signature: Equal for trials that can share a program.
        numbers: The constants in which they may differ, float32, in an order that the signature
            fixes.
        steps: What the backend makes a program of.
    """

    signature: str
    numbers: np.ndarray
    steps: Any


@dataclass(frozen=True)
class Entrant:
    """A trial that enters a program.

    Attributes:
        model: Its compiled model, as it shall start.
        numbers: Its constants.
        feed: What it is fed with.
    """

    model: Any
    numbers: np.ndarray
    feed: Feed


class Session(abc.ABC):
    """Trials inside a program, from their first epoch there to their last.

    Attributes:
        models: For each trial a model whose variables hold the trial's state whenever no method of
            the session runs; what is assigned to them counts.
        steps_at_once: Steps of one call, where all calls should be alike; None for any number.
    """

    models: Sequence[Any]
    steps_at_once: int | None = None

    @abc.abstractmethod
    def train(
        self, orders: Sequence[np.ndarray], start: int, stop: int
    ) -> tuple[np.ndarray, list[dict[str, float]]]:
        """Run some steps of an epoch.

        Args:
            orders: For each trial its training rows in the order of this epoch.
            start: First step.
            stop: Step before which to end.

        Returns:
            The mean loss of the epoch after each step, shape (trials, steps), and the logs of the
            last step of each trial.
        """

    @abc.abstractmethod
    def validate(self) -> list[dict[str, float]]:
        """The metrics of each trial on the validation rows."""

    @abc.abstractmethod
    def reset_metrics(self) -> None:
        """Begin to count metrics anew."""

    @abc.abstractmethod
    def keep(self, trials: Sequence[int]) -> None:
        """Go on with some of the trials only, in this order; the others' models stay as they are."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give every trial's own model its state."""


class Program(abc.ABC):
    """A compiled program that trials of one signature share."""

    @abc.abstractmethod
    def check(self, feed: Feed) -> None:
        """Build the program as far as it can fail without training.

        Raises:
            Unsupported: If the backend refuses it.
        """

    def room(self) -> int:
        """Trials that the device holds at once."""
        return 1

    @abc.abstractmethod
    def enter(self, entrants: Sequence[Entrant]) -> Session:
        """Let trials in, several only if the engine is `batched`."""


class Engine(abc.ABC):
    """What a backend can do.

    Attributes:
        name: The backend.
        batched: Whether a program takes several trials at once.
        is_accelerated: Whether that is done by more than a processor.
    """

    name: str = ""
    batched: bool = False
    is_accelerated: bool = False

    @abc.abstractmethod
    def trace(self, model: Any, feed: Feed) -> Trace:
        """Trace the steps of a trial.

        Raises:
            Unsupported: If that is not possible.
        """

    @abc.abstractmethod
    def program(self, trace: Trace, model: Any, feed: Feed) -> Program:
        """Make a program; it is compiled when it is first used.

        Args:
            trace: Steps of the first trial that needs it.
            model: That trial's model; it may serve the program as long as it lives.
            feed: What that trial is fed with.
        """

    @abc.abstractmethod
    def shapes(self, feed: Feed) -> str:
        """What of a feed a program depends on, beside the steps."""


def digest(*parts: Any) -> str:
    """A short hash of what has a stable text."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:24]


def leaves(x: Any) -> list[tuple[str, Any]]:
    """The arrays of an input with their names, sorted by name."""
    return sorted(x.items()) if isinstance(x, Mapping) else [("", x)]


def specs(batch: Sequence[Any], *, batch_free: bool) -> str:
    """Shapes and types of the arrays of a batch, as text."""
    return "; ".join(
        f"{name}:{a.dtype}{tuple(a.shape[1:] if batch_free else a.shape)}"
        for part in batch
        for name, a in leaves(part)
    )


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"
