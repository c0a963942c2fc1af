"""The learning-rate range test: one short training in which the rate grows with every step.

Smith 2017 (Cyclical Learning Rates, section 3.3): while the rate is too small the loss stays, then
it falls, then it rises or breaks off. Where it does what depends on model, optimizer, batch size
and data, so one curve tells more than a table of defaults. Everything that the training changes
is put back, so that the test may stand before any `fit`.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from smarttune.errors import DataError, OptionError
from smarttune.training.batches import epoch_batches
from smarttune.training.hypergradient import _Hypergradient
from smarttune.training.range_curve import FEWEST_STEPS, SMOOTHING, GrowingCurve, RangeTest
from smarttune.training.restoring import copy_of_optimizer, model_kept, random_states_kept

__all__ = ["RangeTest", "find_learning_rate"]

# What fastai's `lr_find` does: from 1e-7 to 10 in 100 steps, until four times the least loss.
LOW, HIGH, NUM_STEPS, DIVERGENCE = 1e-7, 10.0, 100, 4.0
# ours: float16 holds 40 powers of two, so that halving the loss scale more often mends nothing.
MOST_SKIPPED = 40


def find_learning_rate(  # noqa: PLR0913 -- all but two are options
    model: Any,
    data: Any,
    *,
    batch_size: int = 32,
    low: float = LOW,
    high: float = HIGH,
    num_steps: int = NUM_STEPS,
    divergence: float = DIVERGENCE,
    smoothing: float = SMOOTHING,
    seed: int = 0,
    sample_weight: Any = None,
    seconds: float | None = None,
) -> RangeTest:
    """Train a few steps, each with a larger learning rate, and tell which rate to train with.

    The model is afterwards as it was: weights, statistics, seeds, metrics, its optimizer (which
    takes no part; a copy without a past does), and the random states of Python, NumPy and Keras;
    also when the test is interrupted. Only a model that was not built yet is built then.

    Args:
        model: A compiled Keras model.
        data: (x, y) or (x, y, weight), each an array of shape (n, ...), an object with `shape`,
            `__len__` and `__getitem__(rows)`, or a dict of such; or batches, as a
            `tf.data.Dataset`, a `PyDataset` or any iterable, which is begun again when it ends.
        batch_size: Samples per batch, of arrays.
        low: Rate of the first step.
        high: Rate of the last step.
        num_steps: Steps, evenly spaced in the logarithm of the rate. A step of an optimizer that
            accumulates gradients takes several batches.
        divergence: The test ends where the smoothed loss exceeds this many times its least value.
        smoothing: Weight of the past in the smoothed loss, from 0 to below 1.
        seed: Decides the order of arrays.
        sample_weight: Weights of the samples of arrays, shape (n,).
        seconds: Wall time after which the test ends with the curve that it has; None means no
            limit.

    Returns:
        The curve with its suggestions.

    Raises:
        OptionError: If an option or the model cannot be used.
        DataError: If the data cannot be read or end too early.

    Source:
        Smith 2017, Cyclical Learning Rates for Training Neural Networks, section 3.3; an
        exponential instead of a linear rise, its limits and the end at four times the least loss
        are those of fastai.
    """
    _check(low, high, num_steps, batch_size, divergence, smoothing, seed)
    _check_model(model)
    began = time.monotonic()
    rates = np.geomspace(low, high, num_steps)
    batches = _batches(data, sample_weight, batch_size, seed)
    with random_states_kept():
        first = next(batches)
    _build(model, first)
    known = len(model.variables)
    with random_states_kept(), model_kept(model):
        optimizer, inner = _ramped_copy(model, rates)
        given_step = model.train_step

        # JAX finds what it compiled by the function: with the same one it would run, after a
        # `fit` on batches of this shape, steps of the other optimizer.
        def train_step(*arguments: Any) -> Any:
            return given_step(*arguments)

        replaced = {"optimizer": optimizer, "train_function": None, "train_step": train_step}
        vars(model).update(replaced)
        curve = GrowingCurve(divergence, smoothing)
        feed = _until(itertools.chain([first], batches), began, seconds)
        _sweep(model, inner, rates, feed, curve)
        if len(model.variables) != known:
            raise _unfit("it made variables while it trained", "a model with all its weights")
    return curve.finished()


def _check(  # noqa: PLR0913, PLR0917 -- one for each option
    low: float,
    high: float,
    num_steps: int,
    batch_size: int,
    divergence: float,
    smoothing: float,
    seed: int,
) -> None:
    rules = (
        ("low", low, "a number above 0", 0 < low < math.inf),
        ("high", high, f"a number above low, which is {low:g}", low < high < math.inf),
        ("num_steps", num_steps, f"at least {FEWEST_STEPS}", num_steps >= FEWEST_STEPS),
        ("batch_size", batch_size, "at least 1", batch_size >= 1),
        ("divergence", divergence, "a number above 1", divergence > 1),
        ("smoothing", smoothing, "a number from 0 to below 1", 0 <= smoothing < 1),
        ("seed", seed, "a whole number from 0", seed >= 0),
    )
    for name, value, expected, holds in rules:
        if not holds:
            mend = "Correct it, or leave it out."
            raise OptionError(name, received=f"{value:g}", expected=expected, mend=mend)


def _check_model(model: Any) -> None:
    optimizer = getattr(model, "optimizer", None)
    if isinstance(getattr(optimizer, "inner_optimizer", optimizer), _Hypergradient):
        raise OptionError(
            "model.optimizer",
            received="an optimizer that moves its own learning rate",
            expected="one that trains with the rate it is given",
            mend="Test the plain optimizer, such as keras.optimizers.Adam, and begin at its rate.",
        )
    if not getattr(model, "compiled", False) or optimizer is None:
        raise OptionError(
            "model",
            received="it is not compiled",
            expected="a Keras model with optimizer and loss",
            mend="Call model.compile(optimizer=..., loss=...) first.",
        )


def _unfit(received: str, expected: str) -> OptionError:
    mend = "Call the model on a batch first, and see that train_step returns its loss."
    return OptionError("model", received=received, expected=expected, mend=mend)


def _build(model: Any, batch: Any) -> None:
    """Make all variables, so that there is something to put back."""
    if model.built:
        return
    # A model whose `train_step` does everything may have no `call`.
    with contextlib.suppress(NotImplementedError):
        model(keras.utils.unpack_x_y_sample_weight(batch)[0])


# The data


def _batches(
    data: Any, sample_weight: Any, batch_size: int, seed: int
) -> Iterator[tuple[Any, ...]]:
    if isinstance(data, tuple) and len(data) in (2, 3):
        given = data if sample_weight is None else (*data, sample_weight)
        if len(given) <= 3:  # noqa: PLR2004 -- x, y and one weight
            return _array_batches(given, batch_size, seed)
    if sample_weight is not None:
        raise OptionError(
            "sample_weight",
            received="weights beside data that are batches or hold weights themselves",
            expected="weights beside (x, y)",
            mend="Leave sample_weight out and let each batch hold its weights.",
        )
    return _given_batches(data)


def _array_batches(given: tuple[Any, ...], batch_size: int, seed: int) -> Iterator[tuple[Any, ...]]:
    parts = keras.tree.map_structure(_indexable, given)
    counts = {len(part) for part in keras.tree.flatten(parts)}
    if len(counts) != 1 or 0 in counts:
        raise DataError(
            "data",
            received="arrays of the lengths " + ", ".join(map(str, sorted(counts))),
            expected="the same number of samples, at least one, in every array",
            mend="Give x, y and weights of the same samples.",
        )
    rows = np.arange(counts.pop())
    for _, chosen in epoch_batches(
        rows, rows, batch_size=batch_size, seed=seed, epochs=range(sys.maxsize)
    ):
        # A short last batch would be noisier than all others, and compile a second step.
        if len(chosen) == min(batch_size, len(rows)):
            yield keras.tree.map_structure(lambda part, at=chosen: part[at], parts)


def _indexable(part: Any) -> Any:
    """An array, or an object that reads the rows it is asked for."""
    if ops.is_tensor(part) or hasattr(part, "iloc"):
        return np.asarray(part)
    if all(hasattr(part, name) for name in ("shape", "__len__", "__getitem__")):
        return part
    raise DataError(
        "data",
        received=f"a {type(part).__name__} where an array should be",
        expected="(x, y) or (x, y, weight) of arrays, or of dicts of arrays",
        mend="Turn it into an array with numpy.asarray, or pass a list of batches.",
    )


def _given_batches(data: Any) -> Iterator[tuple[Any, ...]]:
    if not isinstance(data, (Iterable, keras.utils.PyDataset)) or isinstance(data, (str, Mapping)):
        raise DataError(
            "data",
            received=f"a {type(data).__name__}",
            expected="(x, y) of arrays, or an iterable of batches",
            mend="Pass (x, y), a tf.data.Dataset, a keras PyDataset or a list of batches.",
        )
    count = 0
    while True:
        before = count
        for batch in _one_pass(data):
            count += 1
            yield keras.tree.map_structure(
                _native, tuple(batch) if isinstance(batch, (list, tuple)) else (batch,)
            )
        if count == before:
            raise DataError(
                "data",
                received=f"the batches ended after {count} and cannot be begun again",
                expected="a batch for every step",
                mend="Pass fewer steps, or data that can be read again, such as a list or Dataset.",
            )


def _one_pass(data: Any) -> Iterator[Any]:
    if isinstance(data, keras.utils.PyDataset):  # has no end that iteration would notice
        numbers = itertools.count() if data.num_batches is None else range(data.num_batches)
        return (data[i] for i in numbers)
    return iter(data)


def _until(batches: Iterator[Any], began: float, seconds: float | None) -> Iterator[Any]:
    """The batches until the time is up."""
    for batch in batches:
        if seconds is not None and time.monotonic() - began > seconds:
            return
        yield batch


def _native(part: Any) -> Any:
    """Tensors of other frameworks as arrays."""
    if isinstance(part, np.ndarray) or ops.is_tensor(part) or not hasattr(part, "__array__"):
        return part
    return np.asarray(part)


# The training


def _sweep(
    model: Any, inner: Any, rates: np.ndarray, batches: Iterator[Any], curve: GrowingCurve
) -> None:
    """One update for each rate, with as many batches as the optimizer takes for it."""
    every = inner.gradient_accumulation_steps or 1
    start, patience = int(ops.convert_to_numpy(inner.iterations)), every
    patience += MOST_SKIPPED if inner is not model.optimizer else 0
    done, collected = 0, list[float]()
    for batch in batches:
        collected.append(_batch_loss(model, batch))
        now = int(ops.convert_to_numpy(inner.iterations)) - start
        if now > done or not math.isfinite(collected[-1]):
            if not curve.goes_on(float(rates[done]), float(np.mean(collected))):
                return
            done, collected = now, []
            if done >= len(rates):
                return
        elif len(collected) >= patience:
            if inner is model.optimizer:
                raise _unfit("its train_step makes no step of its optimizer", "a step per batch")
            curve.diverged_at = float(rates[done])  # no loss scale gives finite gradients
            return


def _batch_loss(model: Any, batch: Any) -> float:
    """Train on one batch; the metrics are begun anew, so that the loss is that of the batch."""
    x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
    logs = model.train_on_batch(x, y, sample_weight=weight, return_dict=True)
    if "loss" not in logs:
        raise _unfit("its train_step returns " + (", ".join(logs) or "nothing"), "`loss` among it")
    return float(np.mean(logs["loss"]))


# The optimizer


class _Ramp(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """The next rate after each update, however many batches one takes."""

    def __init__(self, rates: np.ndarray, first: int, every: int) -> None:
        super().__init__()
        self.rates, self.first, self.every = rates, first, every

    def __call__(self, step: Any) -> Any:
        """Rate at a step, counted in batches."""
        place = ops.floor_divide(ops.cast(step, "int32") - self.first, self.every)
        rates = ops.convert_to_tensor(self.rates.astype("float32"))
        return ops.take(rates, ops.clip(place, 0, len(self.rates) - 1))

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {"rates": self.rates, "first": self.first, "every": self.every}


def _ramped_copy(model: Any, rates: np.ndarray) -> tuple[Any, Any]:
    """A copy of the model's optimizer with rising rates, and the part of it that counts updates."""
    original = model.optimizer
    scaling = isinstance(original, keras.optimizers.LossScaleOptimizer)
    inner = copy_of_optimizer(original.inner_optimizer if scaling else original, model)
    every = inner.gradient_accumulation_steps or 1
    batches_seen = int(ops.convert_to_numpy(inner._iterations))  # noqa: SLF001 -- not of updates
    vars(inner)["_learning_rate"] = _Ramp(rates, batches_seen - batches_seen % every, every)
    made = inner
    if scaling:
        made = keras.optimizers.LossScaleOptimizer(
            inner,
            initial_scale=original.initial_scale,
            dynamic_growth_steps=original.dynamic_growth_steps,
        )
    if not made.built:
        made.build(model.trainable_variables)
    return made, inner
