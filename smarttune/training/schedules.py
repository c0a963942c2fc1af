"""The course of the learning rate, drawn over the whole horizon of a search.

A schedule is a pure function of the optimizer's step count and of the *final* number
of steps, never of the epochs that one rung of a search happens to train, so that a
promoted trial goes on exactly where it stopped.

Steps are batches: with accumulated gradients, Keras hands a schedule the number of batches
seen, not of updates made. Whole steps stay whole numbers until the last division, so a rate
is right far beyond the step at which float32 can no longer count.
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, final

import keras
from keras import ops

from smarttune.errors import OptionError, SettingError, did_you_mean
from smarttune.training.courses import (
    CYCLE_FLOOR,
    CYCLE_MODES,
    EXP_RANGE_END,
    HALF_CYCLE_SHARE,
    HIGH_MOMENTUM,
    LOW_MOMENTUM,
    ONE_CYCLE_END,
    ONE_CYCLE_RISE,
    ONE_CYCLE_START,
    RESTART_CYCLES,
    RESTART_FACTOR,
    SCHEDULES,
)


class HorizonSchedule(keras.optimizers.schedules.LearningRateSchedule, ABC):  # type: ignore[misc]
    """A learning rate that knows when the whole training will end.

    A warmup rises linearly, above 0 from the first step on, to where the course begins; it is
    cut where it would leave no step for the peak. Before step 0 and beyond `total_steps` the
    rate stays what it is there.

    Args:
        peak: Largest learning rate.
        total_steps: Batches of a full training.
        warmup_steps: Batches of linear rise before the course begins.

    Raises:
        OptionError: If the peak is not a positive number or a number of steps makes no sense.
    """

    # Steps of the course before its peak.
    _steps_to_peak = 0
    # Share of the peak at which the course begins.
    _first = 1.0

    def __init__(self, peak: float, *, total_steps: int, warmup_steps: int = 0) -> None:
        super().__init__()
        self.peak = _positive("peak", peak)
        self.total_steps = _whole("total_steps", total_steps)
        longest = max(0, self.total_steps - 1 - self._steps_to_peak)
        self.warmup_steps = min(_whole("warmup_steps", warmup_steps, least=0), longest)
        # Steps of the course itself.
        self.span = self.total_steps - self.warmup_steps

    @abstractmethod
    def _factor(self, after: Any) -> Any:
        """Share of the peak `after` so many steps of the course, from 0 to `span`; float32."""

    def _after(self, step: Any) -> Any:
        """Steps of the course at `step`; negative within the warmup."""
        return ops.clip(_counted(step), 0, self.total_steps) - self.warmup_steps

    def __call__(self, step: Any) -> Any:
        """Learning rate at `step`, counted from 0; float32, of the shape of `step`."""
        after = self._after(step)
        factor = self._factor(ops.maximum(after, 0))
        if self.warmup_steps:
            done = ops.cast(after + self.warmup_steps + 1, "float32")
            rise = self._first * done / (self.warmup_steps + 1.0)
            factor = ops.where(after < 0, ops.minimum(rise, self._first), factor)
        return self.peak * factor

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        return {
            "peak": self.peak,
            "total_steps": self.total_steps,
            "warmup_steps": self.warmup_steps,
        }


@final
@keras.saving.register_keras_serializable(package="smarttune")
class Constant(HorizonSchedule):
    """The peak from the end of the warmup on."""

    def _factor(self, after: Any) -> Any:
        return ops.ones_like(ops.cast(after, "float32"))


@final
@keras.saving.register_keras_serializable(package="smarttune")
class Linear(HorizonSchedule):
    """Falls in a straight line from the peak to 0 at the horizon."""

    def _factor(self, after: Any) -> Any:
        return _share(self.span - after, self.span)


@final
@keras.saving.register_keras_serializable(package="smarttune")
class Cosine(HorizonSchedule):
    """Falls along half a cosine from the peak to 0 at the horizon.

    Loshchilov and Hutter 2017 (SGDR), eq. 5 with a single cycle and a lower bound of 0.
    """

    def _factor(self, after: Any) -> Any:
        return _cosine(self.span - after, self.span)


@final
@keras.saving.register_keras_serializable(package="smarttune")
class OneCycle(HorizonSchedule):
    """One rise and one long fall, and a momentum that goes the other way.

    The rate rises along half a cosine from 1/25 of the peak to the peak in the first 25 % of the
    course (in whole steps, so that some batch is trained at the peak) and falls along half a
    cosine to 1e-5 of the peak. Policy: Smith 2018, section 4.1, and Smith and Topin 2018; both
    rise and fall linearly, the cosines and the numbers are fastai's.
    """

    _steps_to_peak = 1
    _first = ONE_CYCLE_START

    def __init__(self, peak: float, *, total_steps: int, warmup_steps: int = 0) -> None:
        super().__init__(peak, total_steps=total_steps, warmup_steps=warmup_steps)
        self.rise_steps = max(1, round(ONE_CYCLE_RISE * self.span))
        self.fall_steps = max(1, self.span - self.rise_steps)

    def _height(self, after: Any) -> Any:
        """From 0 at both ends to 1 at the peak."""
        rise = _cosine(ops.minimum(after, self.rise_steps), self.rise_steps)
        fall = _cosine(ops.clip(self.span - after, 0, self.fall_steps), self.fall_steps)
        return ops.where(after < self.rise_steps, rise, fall)

    def _factor(self, after: Any) -> Any:
        low = ops.where(after < self.rise_steps, ONE_CYCLE_START, ONE_CYCLE_END)
        return low + (1.0 - low) * self._height(after)

    def momentum(self, step: Any) -> Any:
        """Momentum at `step`: from 0.95 down to 0.85 at the peak of the rate, and back.

        Smith 2018, section 4.3, lets momentum fall while the rate rises; the bounds and the
        cosines are fastai's. Through a warmup it stays at 0.95.
        """
        height = self._height(ops.maximum(self._after(step), 0))
        return HIGH_MOMENTUM - (HIGH_MOMENTUM - LOW_MOMENTUM) * height


@final
@keras.saving.register_keras_serializable(package="smarttune")
class Cyclical(HorizonSchedule):
    """Rises and falls linearly, again and again, between the peak and a quarter of it.

    Smith 2017, section 3.1. `triangular` keeps its height; `triangular2` halves the height over
    the floor after every cycle; in `exp_range` both bounds shrink exponentially with the steps.

    Args:
        peak: Largest learning rate.
        total_steps: Batches of a full training.
        warmup_steps: Batches of linear rise to the floor before the first cycle.
        half_cycle: Batches of half a cycle, cut so that the peak is reached; without one, about four
            cycles fill the training.
        mode: One of `CYCLE_MODES`.
        gamma: Factor per step of `exp_range`, in (0, 1]; without one, a tenth is left at the
            horizon.

    Raises:
        OptionError: If the mode is unknown or a number makes no sense.
    """

    _first = CYCLE_FLOOR

    def __init__(
        self,
        peak: float,
        *,
        total_steps: int,
        warmup_steps: int = 0,
        half_cycle: int | None = None,
        mode: str = "triangular",
        gamma: float | None = None,
    ) -> None:
        total = _whole("total_steps", total_steps)
        if half_cycle is None:
            span = total - _whole("warmup_steps", warmup_steps, least=0)
            half_cycle = max(1, round(HALF_CYCLE_SHARE * span))
        self.half_cycle = max(1, min(_whole("half_cycle", half_cycle), total - 1))
        self._steps_to_peak = self.half_cycle
        super().__init__(peak, total_steps=total_steps, warmup_steps=warmup_steps)
        if mode not in CYCLE_MODES:
            raise OptionError(
                "mode",
                received=f"`{mode}`",
                expected="one of " + ", ".join(CYCLE_MODES),
                mend=f"Choose one of them.{did_you_mean(mode, CYCLE_MODES)}",
            )
        self.mode = mode
        self.gamma = EXP_RANGE_END ** (1.0 / self.span) if gamma is None else _gamma(gamma)

    def _factor(self, after: Any) -> Any:
        whole = 2 * self.half_cycle
        place = ops.mod(after, whole)
        height = _share(ops.minimum(place, whole - place), self.half_cycle)
        if self.mode == "triangular2":
            cycle = ops.cast(ops.floor_divide(after, whole), "float32")
            height = height * ops.power(0.5, cycle)
        factor = CYCLE_FLOOR + (1.0 - CYCLE_FLOOR) * height
        if self.mode == "exp_range":
            factor = factor * ops.exp(math.log(self.gamma) * ops.cast(after, "float32"))
        return factor

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        own = {"half_cycle": self.half_cycle, "mode": self.mode, "gamma": self.gamma}
        return {**super().get_config(), **own}


@final
@keras.saving.register_keras_serializable(package="smarttune")
class WarmRestarts(HorizonSchedule):
    """Falls along half a cosine to 0 and jumps back to the peak, in cycles that grow.

    Loshchilov and Hutter 2017 (SGDR), eq. 5 with a lower bound of 0.

    Args:
        peak: Largest learning rate.
        total_steps: Batches of a full training.
        warmup_steps: Batches of linear rise before the first cycle.
        first_cycle: Batches of the first cycle, T_0; without one, three cycles fill the training
            (the last is cut off by up to six batches, where sevenths are not whole).
        factor: How much longer each cycle is than the one before, T_mult; 1 or more.

    Raises:
        OptionError: If a number makes no sense.
    """

    def __init__(
        self,
        peak: float,
        *,
        total_steps: int,
        warmup_steps: int = 0,
        first_cycle: int | None = None,
        factor: int = RESTART_FACTOR,
    ) -> None:
        super().__init__(peak, total_steps=total_steps, warmup_steps=warmup_steps)
        self.factor = _whole("factor", factor)
        if first_cycle is None:
            parts = sum(self.factor**cycle for cycle in range(RESTART_CYCLES))
            first_cycle = -(-self.span // parts)
        self.first_cycle = _whole("first_cycle", first_cycle)

    def _factor(self, after: Any) -> Any:
        # The horizon itself closes a cycle; it does not open one.
        last = self.span - 1
        if self.factor == 1:
            length = self.first_cycle
            begin = ops.floor_divide(ops.minimum(after, last), length) * length
            return _cosine(ops.maximum(length - (after - begin), 0), length)
        starts, lengths = [0], [self.first_cycle]
        while starts[-1] + lengths[-1] <= last:
            starts.append(starts[-1] + lengths[-1])
            lengths.append(lengths[-1] * self.factor)
        index = _reached(ops.minimum(after, last), starts[1:])
        begin, length = (_pick(parts, index, after.dtype) for parts in (starts, lengths))
        return _cosine(ops.maximum(length - (after - begin), 0), length)

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        own = {"first_cycle": self.first_cycle, "factor": self.factor}
        return {**super().get_config(), **own}


@final
@keras.saving.register_keras_serializable(package="smarttune")
class ScaledSchedule(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Another rate, times a factor that changes at given steps.

    Args:
        rate: A learning rate, or a schedule of it.
        boundaries: Steps from which on the factors hold, growing; before the first it is 1.
        factors: One for each boundary. They do not multiply each other.

    Raises:
        OptionError: If there are not as many factors as boundaries, the boundaries do not grow,
            or a factor is not positive.
    """

    def __init__(self, rate: Any, boundaries: Sequence[int], factors: Sequence[float]) -> None:
        super().__init__()
        scheduled = isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
        self.rate = rate if scheduled else _positive("rate", rate)
        self.boundaries = [_whole("boundaries", one, least=0) for one in boundaries]
        self.factors = [_positive("factors", one) for one in factors]
        if len(self.factors) != len(self.boundaries):
            raise OptionError(
                "factors",
                received=f"{len(self.factors)} factors for {len(self.boundaries)} boundaries",
                expected="one factor for each boundary",
                mend="Give as many of the one as of the other.",
            )
        if sorted(set(self.boundaries)) != self.boundaries:
            raise OptionError(
                "boundaries",
                received=f"{self.boundaries}",
                expected="steps that grow",
                mend="Sort them and name each once.",
            )

    def __call__(self, step: Any) -> Any:
        """Learning rate at `step`, counted from 0; float32."""
        rate = self.rate(step) if callable(self.rate) else self.rate
        index = _reached(_counted(step), self.boundaries)
        return rate * _pick([1.0, *self.factors], index, "float32")

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        rate = self.rate
        return {
            "rate": keras.saving.serialize_keras_object(rate) if callable(rate) else rate,
            "boundaries": list(self.boundaries),
            "factors": list(self.factors),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ScaledSchedule:
        """The schedule that gave this configuration."""
        rate = config["rate"]
        if isinstance(rate, dict):
            rate = keras.saving.deserialize_keras_object(rate)
        return cls(rate, config["boundaries"], config["factors"])


def learning_rate(
    kind: str,
    peak: float,
    *,
    total_steps: int,
    warmup_steps: int = 0,
    half_cycle: int | None = None,
) -> float | HorizonSchedule:
    """The learning rate to give to an optimizer.

    Args:
        kind: One of `SCHEDULES`.
        peak: Largest learning rate.
        total_steps: Batches of a full training, whatever a rung trains.
        warmup_steps: Batches of linear rise; ignored by `plateau`.
        half_cycle: Batches of half a cycle of cyclical, triangular2 and exp_range; without one,
            an eighth of all steps. Ignored by the others.

    Returns:
        A schedule; a plain number for `constant` without warmup, and for `plateau`, which
        answers to the validation score and therefore lives in a callback
        (`smarttune.training.plateau`) that must be free to set the rate.

    Raises:
        SettingError: If the kind is unknown.
        OptionError: If a number makes no sense.
    """
    if kind not in SCHEDULES:
        raise SettingError(
            "optimizer.schedule",
            received=f"`{kind}`",
            expected="one of " + ", ".join(SCHEDULES),
            mend=f"Set it to one of them.{did_you_mean(kind, SCHEDULES)}",
        )
    rate = _positive("peak", peak)
    horizon = {
        "total_steps": _whole("total_steps", total_steps),
        "warmup_steps": _whole("warmup_steps", warmup_steps, least=0),
    }
    if kind == "plateau" or (kind == "constant" and not warmup_steps):
        return rate
    if kind in _COURSES:
        return _COURSES[kind](rate, **horizon)
    mode = "triangular" if kind == "cyclical" else kind
    return Cyclical(rate, **horizon, half_cycle=half_cycle, mode=mode)


_COURSES: dict[str, type[HorizonSchedule]] = {
    "constant": Constant,
    "cosine": Cosine,
    "linear": Linear,
    "one_cycle": OneCycle,
    "warm_restarts": WarmRestarts,
}


def _counted(step: Any) -> Any:
    """The step as a signed whole number where it is one, else as float32."""
    step = ops.convert_to_tensor(step)
    kind = keras.backend.standardize_dtype(step.dtype)
    if kind in ("int32", "int64"):
        return step
    return ops.cast(step, "int32" if "int" in kind else "float32")


def _share(part: Any, whole: int) -> Any:
    return ops.cast(part, "float32") / ops.cast(whole, "float32")


def _cosine(left: Any, whole: Any) -> Any:
    # (1 + cos(pi * done)) / 2 without its loss of digits near the end.
    return ops.square(ops.sin((math.pi / 2.0) * _share(left, whole)))


def _reached(step: Any, boundaries: Sequence[int]) -> Any:
    """How many of the boundaries the step has reached."""
    bounds = ops.convert_to_tensor(boundaries, dtype=step.dtype)
    return ops.sum(ops.cast(ops.expand_dims(step, -1) >= bounds, "int32"), axis=-1)


def _pick(values: Sequence[float], index: Any, dtype: Any) -> Any:
    return ops.take(ops.convert_to_tensor(values, dtype=dtype), index)


def _whole(name: str, value: Any, *, least: int = 1) -> int:
    known = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if known and int(value) >= least:
        return int(value)
    raise OptionError(
        name,
        received=f"{value!r}",
        expected=f"a whole number, {least} or more",
        mend="Count it in batches.",
    )


def _positive(name: str, value: Any) -> float:
    known = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if known and 0.0 < float(value) < math.inf:
        return float(value)
    raise OptionError(
        name,
        received=f"{value!r}",
        expected="a finite number above 0",
        mend="Give one, for example 0.001.",
    )


def _gamma(gamma: float) -> float:
    if _positive("gamma", gamma) <= 1.0:
        return float(gamma)
    raise OptionError(
        "gamma",
        received=f"{gamma!r}",
        expected="a factor in (0, 1]",
        mend="Give one a little below 1, for example 0.9999.",
    )
