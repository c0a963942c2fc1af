"""How trials are trained: what holds for all of them, and what one of them shall do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from smarttune.execution import TrainingData
from smarttune.space import Value
from smarttune.training.stopping import Statistic
from smarttune.trials import TrialRecord


@dataclass(frozen=True)
class TrialPolicy:
    """How each trial is trained, apart from its hyperparameters.

    Attributes:
        max_epochs: Epochs of a full training.
        patience: Epochs without gain before a trial stops; None never stops one.
        window: Epochs that are compared together.
        statistic: What is compared of them; see `smarttune.training.WindowedStopping`.
        noise_factor: Standard errors that a gain must exceed.
        seed: From which every trial's seed is derived.
        default: The recommended configuration, to know its trial by.
        sample_weight: From a trial's values to the weights of the training rows.
        extra_callbacks: From a trial's values to further Keras callbacks.
        growth: From a trial's values, the parts into which its batches are cut and the epochs of
            a full training to how the batch grows; None where it stays.
    """

    max_epochs: int = 100
    patience: int | None = None
    window: int = 1
    statistic: Statistic = "mean"
    noise_factor: float = 0.0
    seed: int = 0
    default: Mapping[str, Value] = field(default_factory=dict)
    sample_weight: Callable[[Mapping[str, Value]], Any] | None = None
    extra_callbacks: Callable[[Mapping[str, Value]], list[Any]] | None = None
    growth: Callable[[Mapping[str, Value], int, int], Any] | None = None


@dataclass(frozen=True)
class TrialPlan:
    """What one trial shall train.

    Attributes:
        parent: The trial that it continues.
        epochs: Epochs to train, counted from 0 over the whole lineage.
        seed: Seeds weights, dropout and the order of the data.
        num_micro_batches: Parts into which each batch is cut; their gradients are summed.
    """

    parent: TrialRecord | None
    epochs: range
    seed: int
    num_micro_batches: int = 1


@dataclass(frozen=True)
class TrialTask:
    """One trial as it is handed to who trains it, here or in another process.

    Attributes:
        trial_id: The oracle's name for it.
        hyperparameters: KerasTuner's, with the values of the trial; `build` may add to them.
        plan: What it shall train.
        max_epochs: Epochs of a full training, on which schedules are drawn.
        is_first: Whether no trial of the search has ended yet, so that a crash is its user's.
        retries_left: How often it may be run again if it crashes.
        ends_at: Seconds since the epoch of the clock at which all training must have stopped;
            None is no limit.
        shares_time: Whether it leaves time to others before that.
        added: Arguments of a `fit` of the user's, beside those that `search` was given.
    """

    trial_id: str
    hyperparameters: Any
    plan: TrialPlan
    max_epochs: int
    is_first: bool = False
    retries_left: int = 0
    ends_at: float | None = None
    shares_time: bool = False
    added: Mapping[str, Any] = field(default_factory=dict)


class Given(NamedTuple):
    """What `search` was given to train on.

    Attributes:
        args: Its arguments without names.
        kwargs: Its arguments by name, `epochs` apart.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}  # noqa: RUF012 -- never written to

    @property
    def arrays(self) -> TrainingData | None:
        """Our arrays; None where the user's data are passed to his `fit`."""
        first = self.args[0] if self.args else None
        return first if isinstance(first, TrainingData) else None
