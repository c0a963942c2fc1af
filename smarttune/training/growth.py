"""Batches that grow while a model trains.

Early in training a few samples show the way; later the gradient is mostly noise, and larger
batches use the machine better. `BatchGrowth` multiplies the batch at fixed epochs;
`NoiseScaleGrowth` measures when a larger batch pays. Both are followed by `fit_growing`.

Keras trains with one number of steps per epoch, so `fit` is called once per batch size; to
callbacks it is one training. TensorFlow does not trace again when the batch grows, because the
first axis of its batches is left open; with XLA, and on JAX always, every batch size is
compiled once, as is the remainder that ends an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol, TypedDict, Unpack

import keras
from keras import ops

from smarttune.errors import OptionError
from smarttune.training.batches import epoch_batches, num_batches
from smarttune.training.noise_scale import GradientNoise

RATE_FACTOR = 0.75  # AdaBatch, see `BatchGrowth`
# ours: sixteen small batches make a big one, so that the two equations differ clearly.
SMALL_IN_BIG = 16
# ours: with SMALL_IN_BIG, a measurement costs the gradients of 64 first batches.
NUM_PAIRS = 4
# ours: sets the draws of measurements apart from the order of the samples.
_MEASUREMENT = 1


@dataclass
class Samples:
    """What a growth may look at: the model and all that it is trained on.

    Attributes:
        model: The compiled model.
        x: Inputs, shape (n, ...), or a dict of such.
        y: Targets, shape (n,) or (n, outputs).
        sample_weight: Weight of each sample, shape (n,), or None.
        seed: Seed of the training.
    """

    model: Any
    x: Any
    y: Any
    sample_weight: Any
    seed: int

    @cached_property
    def noise(self) -> GradientNoise:
        """Measures the noise scale; compiled at most once in a training."""
        return GradientNoise(self.model)


class Growth(Protocol):
    """A way for the batch to grow, as `fit_growing` and `fit_arrays` follow it."""

    def first_batch_size(self, model: Any, epochs: range) -> int:
        """Batch size of the epoch before `epochs`, or of the first; raises if it cannot grow."""

    def next_change(self, epoch: int) -> int:
        """The next epoch after `epoch` before which the batch may grow."""

    def batch_size_before(self, epoch: int, batch_size: int, samples: Samples) -> int:
        """Batch size of `epoch`, of what it was before; changes the learning rate with it."""


@dataclass(frozen=True)
class BatchGrowth:
    """The batch is multiplied at fixed epochs, as in AdaBatch.

    Devarakonda, Naumov and Garland 2017 (arXiv 1712.02029) double the batch at fixed intervals
    and multiply the learning rate by 0.75 where training with a fixed batch would multiply it
    by 0.375: rate per sample falls alike in both.

    Everything is a function of the final horizon, so that a training which is stopped and
    continued has the same batches as one that runs through. Where `largest` holds the batch
    back, the rate falls by what is lacking (ours, to the same principle).

    Args:
        batch_size: Samples of the first batches.
        epochs: Epochs of a full training; later ones keep the last batch size.
        num_phases: Equal parts of the training, each with its batch size; 1 never grows.
        factor: By what the batch grows from phase to phase.
        rate_factor: By what the learning rate is multiplied when the batch grows by `factor`.
        largest: Upper bound of the batch size.

    Raises:
        OptionError: If a number is out of range.
    """

    batch_size: int
    epochs: int
    num_phases: int
    factor: int = 2
    rate_factor: float = RATE_FACTOR
    largest: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("epochs", 1), ("num_phases", 1), ("factor", 2)):
            _check_whole("BatchGrowth", name, getattr(self, name), least)
        if self.largest is not None:
            _check_whole("BatchGrowth", "largest", self.largest, self.batch_size)
        if self.num_phases > self.epochs:
            raise OptionError(
                "BatchGrowth.num_phases",
                received=f"{self.num_phases} phases in {self.epochs} epochs",
                expected="at least one epoch per phase",
                mend="Train longer or take fewer phases.",
            )
        if not (math.isfinite(self.rate_factor) and self.rate_factor > 0):
            raise OptionError(
                "BatchGrowth.rate_factor",
                received=f"{self.rate_factor}",
                expected="a finite number above 0",
                mend=f"Leave it at {RATE_FACTOR}, or take 1 for a rate that stays.",
            )

    def batch_size_at(self, epoch: int) -> int:
        """Samples per batch in an epoch, counted from 0 over the whole training."""
        return self._sizes[self._phase(epoch)]

    def phases(self, epochs: range) -> list[tuple[range, int]]:
        """Consecutive parts of `epochs`, each with its batch size."""
        parts = []
        epoch = epochs.start
        while epoch < epochs.stop:
            stop = min(self.next_change(epoch), epochs.stop)
            parts.append((range(epoch, stop), self.batch_size_at(epoch)))
            epoch = stop
        return parts

    def steps(self, num_samples: int, epochs: range) -> int:
        """Optimizer steps of the given epochs."""
        return sum(len(part) * num_batches(num_samples, n) for part, n in self.phases(epochs))

    def total_steps(self, num_samples: int) -> int:
        """Optimizer steps of the full training, for the horizon of a schedule."""
        return self.steps(num_samples, range(self.epochs))

    def boundaries(self, num_samples: int) -> list[int]:
        """Number of steps done when the second and each later phase begins.

        These are the first steps, counted from 0, that have the next of `rate_factors`.
        (Keras's `PiecewiseConstantDecay` wants the last step before: subtract 1.)
        """
        return [self.steps(num_samples, range(epoch)) for epoch in self._starts[1:]]

    def rate_factors(self) -> tuple[float, ...]:
        """What the first learning rate is multiplied by in each phase; the first is 1."""
        per_sample = self.rate_factor / self.factor
        return tuple(per_sample**i * n / self.batch_size for i, n in enumerate(self._sizes))

    # What `fit_growing` asks.

    def first_batch_size(self, model: Any, epochs: range) -> int:
        """Batch size of the first of `epochs`."""
        return self.batch_size_at(epochs.start)

    def next_change(self, epoch: int) -> int:
        """First epoch of the phase after that of `epoch`."""
        later = [start for start in self._starts if start > epoch]
        return later[0] if later else max(self.epochs, epoch + 1)

    def batch_size_before(self, epoch: int, batch_size: int, samples: Samples) -> int:
        """Batch size of `epoch`; a constant rate is multiplied where a phase begins.

        A schedule is left alone: it is drawn over `boundaries` and `total_steps`.
        """
        phase = self._phase(epoch)
        rate = _constant_rate(samples.model)
        if phase > 0 and epoch == self._starts[phase] and rate is not None:
            factors = self.rate_factors()
            rate.assign(ops.convert_to_tensor(rate) * (factors[phase] / factors[phase - 1]))
        return self._sizes[phase]

    def _phase(self, epoch: int) -> int:
        return sum(start <= epoch for start in self._starts) - 1

    @property
    def _starts(self) -> list[int]:
        """First epoch of each phase."""
        return [math.ceil(i * self.epochs / self.num_phases) for i in range(self.num_phases)]

    @property
    def _sizes(self) -> list[int]:
        sizes = [self.batch_size * self.factor**i for i in range(self.num_phases)]
        return sizes if self.largest is None else [min(n, self.largest) for n in sizes]


@dataclass(frozen=True)
class NoiseScaleGrowth:
    """The batch grows to the measured noise scale of the gradient, and never shrinks.

    After every `every_epochs` epochs the simple noise scale is measured (McCandlish et al.
    2018, arXiv 1812.06162) and the batch becomes the power of two at or below it, if that is
    larger. The learning rate follows the batch: in proportion for gradient descent
    (Goyal et al. 2017, arXiv 1706.02677), with its square root for Adam and its kin
    (Malladi et al. 2022, arXiv 2205.10287; their changes of the decay rates are left out).

    A noise scale above the largest batch that was measured is hardly more than "larger": the
    batch then grows to that size at most, or doubles (ours).

    Args:
        batch_size: Samples of the first batches, and of the small batches of a measurement.
        largest: Upper bound of the batch size.
        every_epochs: Epochs between two measurements.
        rule: How the learning rate follows, `linear` or `sqrt`.
        num_trained: Epochs trained before; set by `continued`.
        last_batch_size: Batch size of the last of them; set by `continued`.

    Raises:
        OptionError: If a number is out of range or the rule is unknown.
    """

    batch_size: int
    largest: int
    every_epochs: int = 1
    rule: Literal["linear", "sqrt"] = "linear"
    num_trained: int = 0
    last_batch_size: int | None = None

    def __post_init__(self) -> None:
        _check_whole("NoiseScaleGrowth", "batch_size", self.batch_size, 1)
        _check_whole("NoiseScaleGrowth", "largest", self.largest, self.batch_size)
        _check_whole("NoiseScaleGrowth", "every_epochs", self.every_epochs, 1)
        if self.rule not in ("linear", "sqrt"):
            raise OptionError(
                "NoiseScaleGrowth.rule",
                received=f"`{self.rule}`",
                expected="`linear` or `sqrt`",
                mend="Take `linear` for SGD and `sqrt` for Adam and its kin.",
            )

    def continued(self, logs: Sequence[Mapping[str, float]]) -> NoiseScaleGrowth:
        """The same growth where a training left off.

        Args:
            logs: Logs of each epoch that was trained, as `fit_growing` wrote them.

        Raises:
            OptionError: If the last of them does not tell its batch size.
        """
        if not logs:
            return replace(self, num_trained=0, last_batch_size=None)
        if "batch_size" not in logs[-1]:
            raise OptionError(
                "NoiseScaleGrowth.continued",
                received="logs without `batch_size`",
                expected="the logs of each epoch of a training with this growth",
                mend="Hand over what callbacks got in `on_epoch_end`.",
            )
        return replace(self, num_trained=len(logs), last_batch_size=int(logs[-1]["batch_size"]))

    # What `fit_growing` asks.

    def first_batch_size(self, model: Any, epochs: range) -> int:
        """Batch size of the epoch before, from the logs.

        Raises:
            OptionError: If the learning rate cannot follow, or the trained epochs are missing.
        """
        if _constant_rate(model) is None:
            raise OptionError(
                "NoiseScaleGrowth",
                received="an optimizer with a learning-rate schedule",
                expected="a constant learning rate, which follows the batch size",
                mend="Give the optimizer a number, or let the batch grow by `BatchGrowth`.",
            )
        if epochs.start != self.num_trained:
            raise OptionError(
                "NoiseScaleGrowth",
                received=f"epochs from {epochs.start} after {self.num_trained} trained ones",
                expected="epochs that follow the trained ones",
                mend="Continue with `growth.continued(logs)`, the logs of each trained epoch.",
            )
        return self.last_batch_size or self.batch_size

    def next_change(self, epoch: int) -> int:
        """The next epoch before which is measured."""
        return (epoch // self.every_epochs + 1) * self.every_epochs

    def batch_size_before(self, epoch: int, batch_size: int, samples: Samples) -> int:
        """Measure where it is time; the rate follows if the batch grows."""
        num_samples = len(samples.y)
        small = min(self.batch_size, num_samples // 2)
        if epoch == 0 or epoch % self.every_epochs or small < 1:
            return batch_size
        big = min(SMALL_IN_BIG, num_samples // small) * small
        found = samples.noise.measure(
            samples.x,
            samples.y,
            small=small,
            big=big,
            num_pairs=NUM_PAIRS,
            seed=(samples.seed, epoch, _MEASUREMENT),
            sample_weight=samples.sample_weight,
        )
        grown = self._grown(batch_size, found.noise_scale, big, min(self.largest, num_samples))
        rate = _constant_rate(samples.model)
        if grown > batch_size and rate is not None:
            ratio = grown / batch_size
            factor = ratio if self.rule == "linear" else math.sqrt(ratio)
            rate.assign(ops.convert_to_tensor(rate) * factor)
        return grown

    def _grown(self, batch_size: int, noise_scale: float, big: int, largest: int) -> int:
        if math.isnan(noise_scale):
            return batch_size
        bound = min(noise_scale, max(big, 2 * batch_size), largest)
        return max(batch_size, 2 ** math.floor(math.log2(bound))) if bound >= 1 else batch_size


class FitOptions(TypedDict, total=False):
    """What else `fit_growing` takes.

    Attributes:
        sample_weight: Weight of each sample, shape (n,).
        callbacks: Keras callbacks.
        validation_data: As in `keras.Model.fit`.
        validation_batch_size: As in `keras.Model.fit`.
        validation_steps: As in `keras.Model.fit`.
        validation_freq: As in `keras.Model.fit`.
        verbose: 0 for no progress bar (the default), 1 or 2 as in `keras.Model.fit`.
    """

    sample_weight: Any
    callbacks: Sequence[Any]
    validation_data: Any
    validation_batch_size: int | None
    validation_steps: int | None
    validation_freq: int
    verbose: int


def fit_growing(  # noqa: PLR0913 -- as `fit`, with what makes it repeatable
    model: Any,
    x: Any,
    y: Any,
    *,
    growth: Growth,
    epochs: int | range,
    seed: int,
    **options: Unpack[FitOptions],
) -> keras.callbacks.History:
    """Train a compiled model with batches that grow.

    The samples come in the order of `epoch_batches`. Each epoch's logs hold `batch_size`.
    Training epochs 0 to 5 and then 5 to 15 gives the same weights as 0 to 15, if the state of
    model and optimizer is carried over (`NoiseScaleGrowth`: and `continued` is used). An optimizer
    with `use_ema=True` leaves its averages in the model, as after every `fit`; to go on from the
    weights themselves, pass `AveragedWeights(keep=False)` as a callback.

    Args:
        model: A compiled Keras model.
        x: Inputs, shape (n, ...), or a dict of such.
        y: Targets, shape (n,) or (n, outputs).
        growth: A `BatchGrowth` or `NoiseScaleGrowth`.
        epochs: Epochs to train, counted from 0 over the whole training, or their number.
        seed: Decides the order of the samples in every epoch, and what is measured on.
        options: See `FitOptions`.

    Returns:
        The history of all epochs that were trained.

    Raises:
        OptionError: If the optimizer cannot be used with this growth.
    """
    span = range(epochs) if isinstance(epochs, int) else epochs
    weight = options.pop("sample_weight", None)
    given, verbose = options.pop("callbacks", ()), options.pop("verbose", 0)
    size = growth.first_batch_size(model, span)
    history = keras.callbacks.History()
    callbacks = OneTraining([*given, history], model=model, epochs=span.stop, verbose=verbose)
    samples = Samples(model, x, y, weight, seed)
    epoch = span.start
    while epoch < span.stop:
        size = growth.batch_size_before(epoch, size, samples)
        part = range(epoch, min(growth.next_change(epoch), span.stop))
        num_steps = num_batches(len(y), size)
        callbacks.expect(size, num_steps)
        model.fit(
            epoch_batches(x, y, sample_weight=weight, batch_size=size, seed=seed, epochs=part),
            steps_per_epoch=num_steps,
            initial_epoch=part.start,
            epochs=part.stop,
            callbacks=callbacks,
            shuffle=False,  # the batches come shuffled
            **options,
        )
        if model.stop_training:
            break
        epoch = part.stop
    callbacks.finish()
    return history


class OneTraining(keras.callbacks.CallbackList):  # type: ignore[misc]
    """Callbacks to which several calls of `fit` are one training.

    An optimizer with `use_ema` overwrites the weights with their average whenever `fit` ends;
    here it does so when the training ends.

    Args:
        callbacks: Keras callbacks.
        model: The model they watch.
        epochs: Last epoch of the training.
        verbose: Whether a progress bar is shown.
    """

    def __init__(
        self, callbacks: Sequence[Any], *, model: Any, epochs: int, verbose: int = 0
    ) -> None:
        self._shared = {"verbose": verbose, "epochs": epochs}
        self._began = False
        self._last_logs: Any = None
        self._weights: list[Any] = []
        self._batch_size = 0
        super().__init__(callbacks, add_progbar=verbose != 0, model=model, **self._shared, steps=0)

    def expect(self, batch_size: int, num_steps: int) -> None:
        """Say what the next call of `fit` trains with."""
        self._batch_size = batch_size
        self.set_params({**self._shared, "steps": num_steps})

    def on_train_begin(self, logs: Any = None) -> None:
        """Pass on the first begin only."""
        if not self._began:
            self._began = True
            super().on_train_begin(logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Add the batch size to the logs."""
        self._last_logs = {**(logs or {}), "batch_size": self._batch_size}
        super().on_epoch_end(epoch, self._last_logs)
        # Loss scaling wraps the optimizer that averages.
        optimizer = self.model.optimizer
        if getattr(optimizer, "inner_optimizer", optimizer).use_ema:
            self._weights = [v.numpy() for v in self.model.trainable_variables]

    def on_train_end(self, logs: Any = None) -> None:
        """Keep back the end of one part; `finish` ends the training."""
        for variable, value in zip(self.model.trainable_variables, self._weights, strict=False):
            variable.assign(value)

    def finish(self) -> None:
        """Tell the callbacks that the training has ended."""
        if self._began:
            self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
            super().on_train_end(self._last_logs)


def _constant_rate(model: Any) -> Any:
    """The variable that holds the learning rate, or None if a schedule gives it."""
    rate = model.optimizer.learning_rate
    return rate if isinstance(rate, keras.Variable) else None


def _check_whole(kind: str, name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise OptionError(
            f"{kind}.{name}",
            received=f"{value!r}",
            expected=f"a whole number of at least {least}",
            mend="Give such a number.",
        )
