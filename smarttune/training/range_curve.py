"""The curve of a learning-rate range test and what can be read off it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from smarttune.errors import DataError

# ours: fastai averages with 0.98, which lags by half of the curve when there are 100 steps.
SMOOTHING = 0.9
# ours: a shorter curve has no slope; and the first averages are single batches, which may
# differ by more than `divergence`.
FEWEST_STEPS = 10
# ours: a fall below this many deviations of the smoothed loss is what a flat curve shows too.
FALL_IN_NOISE = 4.0
# ours: suggestions read no slopes where the average has seen few batches; fastai leaves out the
# same share.
UNREAD_START = 0.1
# ours: the low region reaches up to this share of the fall above the least loss.
LOW_REGION = 0.1
# Common practice with the test, fastai's `minimum` among it: an order of magnitude before.
SAFETY = 10.0
CHOSEN = "middle"


@dataclass(frozen=True)
class RangeTest:
    """The curve of a learning-rate range test and what it suggests.

    All numbers are finite: a step whose loss is not ends the curve and is not part of it. Every
    suggestion is None where the loss never fell beyond its noise or the curve is too short.

    Attributes:
        learning_rates: Rate of each step, rising.
        losses: Loss of each step's batch, before the step.
        smoothed: Exponential average of the losses, corrected for its start.
        diverged_at: Rate at which the loss broke off; None if it never did.
        smoothing: Weight of the past in the average.
    """

    learning_rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    diverged_at: float | None = None
    smoothing: float = SMOOTHING

    @cached_property
    def _start(self) -> int:
        return int(len(self.smoothed) * UNREAD_START)

    @cached_property
    def _bottom(self) -> int:
        return int(np.argmin(self.smoothed)) if self.smoothed else 0

    @cached_property
    def _level(self) -> float:
        """The loss before the rate mattered."""
        return float(np.mean(self.losses[: max(1, self._start)])) if self.losses else math.nan

    @cached_property
    def _flaw(self) -> str:
        """Why nothing is suggested; empty if something is."""
        if len(self.smoothed) < FEWEST_STEPS:
            return f"The curve has {len(self.smoothed)} steps, and below {FEWEST_STEPS} it has no form."
        # Differences of neighbours hold the noise of single batches and hardly any trend.
        jumps = np.abs(np.diff(self.losses[: max(self._bottom, FEWEST_STEPS)]))
        noise = 1.4826 * float(np.median(jumps)) / math.sqrt(2.0)
        noise *= math.sqrt((1.0 - self.smoothing) / (1.0 + self.smoothing))
        fall = self._level - self.smoothed[self._bottom]
        # Equal losses differ by rounding.
        rounding = len(self.losses) * float(np.finfo(np.float32).eps) * abs(self._level)
        if self._bottom > self._start and fall > max(FALL_IN_NOISE * noise, rounding):
            return ""
        broke = (
            "" if self.diverged_at is None else f" before it broke off at {self.diverged_at:.2g}"
        )
        return (
            f"The loss never fell beyond its noise{broke}; try a lower first rate, a larger batch "
            "or more steps, or check that the model can learn."
        )

    def _at(self, index: int) -> float | None:
        return None if self._flaw else self.learning_rates[index]

    @property
    def minimum(self) -> float | None:
        """The rate at the least smoothed loss: too large to train with, a mark for others."""
        return self._at(self._bottom)

    @property
    def tenth_of_minimum(self) -> float | None:
        """A tenth of `minimum`."""
        return None if self.minimum is None else self.minimum / SAFETY

    @property
    def steepest(self) -> float | None:
        """The rate at which the smoothed loss falls fastest per step, before its minimum."""
        if self._flaw:
            return None
        slopes = np.gradient(np.array(self.smoothed), np.log(self.learning_rates))
        return self._at(self._start + int(np.argmin(slopes[self._start : self._bottom + 1])))

    @property
    def valley(self) -> float | None:
        """The middle of the longest decline: of the longest series of steps, gaps allowed, in
        which each smoothed loss is below the one before.
        """
        if self._flaw:
            return None
        decline = _longest_decline(np.array(self.smoothed[self._start : self._bottom + 1]))
        return self._at(self._start + (decline[0] + decline[-1]) // 2)

    @property
    def below_divergence(self) -> float | None:
        """A tenth of the rate at which the loss broke off, or of `minimum` if it never did."""
        if self._flaw or self.diverged_at is None:
            return self.tenth_of_minimum
        return self.diverged_at / SAFETY

    @property
    def middle(self) -> float | None:
        """The geometric mean of `valley` and `tenth_of_minimum`.

        ours: on real tables the first was mostly too small, as the average lags and much of the
        decline lies before the rates that train well, and the second too large.
        """
        if self.valley is None or self.tenth_of_minimum is None:
            return None
        return math.sqrt(self.valley * self.tenth_of_minimum)

    @property
    def largest_stable(self) -> float | None:
        """The largest rate, counted on from `minimum`, up to which the smoothed loss stays within
        a tenth of its whole fall above its least value.
        """
        if self._flaw:
            return None
        least = self.smoothed[self._bottom]
        bound = least + LOW_REGION * (self._level - least)
        above = (i for i in range(self._bottom, len(self.smoothed)) if self.smoothed[i] > bound)
        return self._at(next(above, len(self.smoothed)) - 1)

    def suggestions(self) -> dict[str, float]:
        """Every suggestion by its name; empty where there is none."""
        names = (
            "middle",
            "steepest",
            "valley",
            "tenth_of_minimum",
            "below_divergence",
            "largest_stable",
        )
        found = {name: getattr(self, name) for name in names}
        return {name: rate for name, rate in found.items() if rate is not None}

    @property
    def chosen(self) -> str:
        """The name of the suggestion that is `suggestion`."""
        return CHOSEN

    @property
    def suggestion(self) -> float | None:
        """The rate to train with: `middle`, whose worst loss in `benchmarks/range_test.py` is least."""
        return self.suggestions().get(CHOSEN)

    @property
    def evidence(self) -> str:
        """What was seen, and why this rate."""
        if self._flaw:
            return self._flaw
        end = (
            f"never broke off up to {self.learning_rates[-1]:.2g}"
            if self.diverged_at is None
            else f"broke off at {self.diverged_at:.2g}"
        )
        return (
            f"The loss fell from {self._level:.4g} to {self.smoothed[self._bottom]:.4g} at a rate "
            f"of {self.minimum:.2g} and {end}. {_REASON.format(self.suggestion)}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data; the suggestions are there for other programs."""
        return {
            "learning_rates": list(self.learning_rates),
            "losses": list(self.losses),
            "smoothed": list(self.smoothed),
            "diverged_at": self.diverged_at,
            "smoothing": self.smoothing,
            "suggestions": self.suggestions(),
            "suggestion": self.suggestion,
            "evidence": self.evidence,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RangeTest:
        """What `to_json` returned.

        Raises:
            DataError: If the curve is not there or its parts differ in length.
        """
        names = ("learning_rates", "losses", "smoothed")
        curve = {name: tuple(map(float, content.get(name, ()))) for name in names}
        if any(n not in content for n in names) or len({len(c) for c in curve.values()}) != 1:
            raise DataError(
                "range test",
                received="learning_rates, losses and smoothed are not all there and equally long",
                expected="what RangeTest.to_json() returned",
                mend="Run the test again.",
            )
        smoothing = float(content.get("smoothing", SMOOTHING))
        return cls(**curve, diverged_at=content.get("diverged_at"), smoothing=smoothing)


_REASON = (
    "Chosen is {:.2g}, between the middle of the decline, mostly too small, and a tenth of the "
    "rate at the least loss, mostly too large."
)


def _longest_decline(values: np.ndarray) -> list[int]:
    """Positions of the longest strictly falling subsequence, the earliest of equally long ones."""
    length, before = np.ones(len(values), int), np.full(len(values), -1)
    for i in range(1, len(values)):
        higher = np.flatnonzero(values[:i] > values[i])
        if len(higher):
            before[i] = higher[np.argmax(length[higher])]
            length[i] = length[before[i]] + 1
    found = [int(np.argmax(length))]
    while before[found[-1]] >= 0:
        found.append(int(before[found[-1]]))
    return found[::-1]


class GrowingCurve:
    """The curve while it grows."""

    def __init__(self, divergence: float, smoothing: float) -> None:
        self.divergence, self.smoothing = divergence, smoothing
        self.points: list[tuple[float, float, float]] = []
        self.average, self.least = 0.0, math.inf
        self.diverged_at: float | None = None

    def goes_on(self, rate: float, loss: float) -> bool:
        """Take in one step; False if the loss has broken off."""
        if math.isfinite(loss):
            self.average = self.smoothing * self.average + (1.0 - self.smoothing) * loss
            smoothed = self.average / (1.0 - self.smoothing ** (len(self.points) + 1))
            self.points.append((rate, loss, smoothed))
            self.least = min(self.least, smoothed)
            if len(self.points) < FEWEST_STEPS or smoothed <= self._bound():
                return True
        self.diverged_at = rate
        return False

    def _bound(self) -> float:
        if self.least > 0:
            return self.divergence * self.least
        # A loss that may be negative has no ratio; its fall is the measure then.
        fall = max(self.points[0][2] - self.least, abs(self.least))
        return self.least + (self.divergence - 1.0) * fall

    def finished(self) -> RangeTest:
        """The curve with its suggestions."""
        columns = zip(*self.points, strict=True) if self.points else ((), (), ())
        rates, losses, smoothed = (tuple(column) for column in columns)
        return RangeTest(rates, losses, smoothed, self.diverged_at, self.smoothing)
