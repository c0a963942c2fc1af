"""Early stopping on a window of epochs, with a state that can be saved.

A validation score is a signal plus noise of its own: the weights move on at random, and a finite
validation set ranks the models of two epochs by luck. So the rule here looks at a statistic of the
last few scores, and asks for a gain that is large beside what noise alone would give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist, fmean, median
from typing import Literal, get_args

from smarttune.errors import OptionError, did_you_mean
from smarttune.objectives import Direction

Statistic = Literal["mean", "median", "quantile", "slope"]
STATISTICS: tuple[str, ...] = get_args(Statistic)

_NORMAL = NormalDist()
# The median of |z| for a standard normal z, which makes a median of sizes a standard deviation.
_MEDIAN_SIZE = _NORMAL.inv_cdf(0.75)
# ours: noise grows or shrinks while a rate decays, so only the latest scores tell it. Drawn from
# normal noise, the estimate from 20 scores has a standard error of a third; from 10, of a half.
NOISE_EPOCHS = 20
# ours: three second differences are the fewest of which one outlier cannot be the median.
MIN_NOISE_EPOCHS = 5
# ours: a score beyond this is an overflow that is about to happen; its square is still finite.
_LARGEST = 1e100


def curve_noise(scores: Sequence[float]) -> float:
    """Standard deviation of the noise of a learning curve, from the curve alone.

    Let score t be f(t) + e(t) with a smooth f and independent noise e of standard deviation s.
    A successive difference holds the local trend and noise: f' + e(t) - e(t-1). The difference of
    two neighbouring ones has lost a linear trend, and what is left,
    e(t) - 2 e(t-1) + e(t-2), has the variance (1 + 4 + 1) s^2. So s is the median size of the
    second differences, divided by sqrt(6) and by the median size of a standard normal variable.
    The median, and not the mean square that Gasser, Sroka and Jennen-Steinmetz 1986 ("Residual
    variance and residual pattern in nonlinear regression") take of the same differences, because
    a loss that jumps once spoils three of them.

    Args:
        scores: One finite score per epoch, in order; the last 20 are used.

    Returns:
        The noise, in units of the score; 0.0 for fewer than 5 scores, and where more than half of
        the second differences vanish (a straight line, or a score with very few values).
    """
    last = list(scores[-NOISE_EPOCHS:])
    if len(last) < MIN_NOISE_EPOCHS:
        return 0.0
    sizes = [abs(c - b - (b - a)) for a, b, c in zip(last, last[1:], last[2:], strict=False)]
    return median(sizes) / (_MEDIAN_SIZE * math.sqrt(6.0))


@dataclass
class WindowedStopping:
    """Stops when a statistic of the last scores has not improved for `patience` epochs.

    An epoch is a gain if the statistic beats its best value at the last gain by more than a
    threshold, `noise_factor` times the standard error of the statistic: the noise of the curve
    (`curve_noise`) over the square root of the number of scores for the mean, and the
    large-sample error of a normal sample's quantile for median and quantile. Small gains add up,
    because they are measured from the last gain. With `slope` an epoch is a gain while the
    least-squares line through the window improves by more per epoch than `noise_factor` standard
    errors of its slope; nothing is compared with the past, and until the window is full every
    epoch is a gain.

    Scores that are no finite numbers are never gains, and stay out of the window.

    Patience on windows is a relative of the classes that Prechelt 1998 ("Early Stopping - But
    When?") compares: GL stops when the score is worse than the best one by some share, PQ weighs
    that by the progress that training still makes, UP counts successive strips of epochs whose
    ends got worse. Here the windows overlap, and gains are counted instead of losses.

    Args:
        patience: Epochs without a gain before `update` says stop.
        window: Epochs that the statistic is taken of; 1 compares single scores.
        direction: Whether higher or lower scores are better.
        statistic: mean, median, quantile or slope.
        noise_factor: Standard errors that a gain must exceed; 0 counts every gain.
        quantile: Which quantile of the window, between 0 and 1, counted from its best score to
            its worst; 0.5 is the median.

    Attributes:
        recent: The latest finite scores, as many as the rule needs.
        best: The statistic at the last gain, None before it.
        epochs_since_best: Epochs since the last gain.

    Raises:
        OptionError: If an argument is not allowed.
    """

    patience: int
    window: int = 1
    direction: Direction = "min"
    statistic: Statistic = field(default="mean", kw_only=True)
    noise_factor: float = field(default=0.0, kw_only=True)
    quantile: float = field(default=0.5, kw_only=True)
    recent: list[float] = field(default_factory=list, init=False)
    best: float | None = field(default=None, init=False)
    epochs_since_best: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.statistic not in STATISTICS:
            raise OptionError(
                "statistic",
                received=f"`{self.statistic}`",
                expected="one of " + ", ".join(STATISTICS),
                mend=f"Choose one of these.{did_you_mean(self.statistic, STATISTICS)}",
            )
        if self.direction not in ("min", "max"):
            raise _wrong("direction", self.direction, "min or max")
        least = 2 if self.statistic == "slope" else 1
        if self.window < least:
            raise _wrong("window", self.window, f"at least {least} for the {self.statistic}")
        if self.patience < 1:
            raise _wrong("patience", self.patience, "at least 1")
        if not 0.0 <= self.noise_factor < math.inf:
            raise _wrong("noise_factor", self.noise_factor, "a finite number, 0 or more")
        if not 0.0 < self.quantile < 1.0:
            raise _wrong("quantile", self.quantile, "a number between 0 and 1")

    def update(self, score: float) -> bool:
        """Take in one epoch's score; return whether to stop."""
        if abs(score) <= _LARGEST and self._gains(score):
            self.epochs_since_best = 0
        else:
            self.epochs_since_best += 1
        return self.epochs_since_best >= self.patience

    def replay(self, scores: Sequence[float]) -> None:
        """Take in the scores of epochs that were trained before."""
        for score in scores:
            self.update(score)

    def _gains(self, score: float) -> bool:
        """Take in one finite score; return whether its epoch is a gain."""
        kept = max(self.window, NOISE_EPOCHS if self.noise_factor else 0)
        self.recent = [*self.recent, score][-kept:]
        seen = self.recent[-self.window :]
        sign = -1.0 if self.direction == "max" else 1.0
        threshold = 0.0
        if self.noise_factor:
            threshold = self.noise_factor * curve_noise(self.recent) * self._error(len(seen))
        if self.statistic == "slope":
            return len(seen) < self.window or -sign * _slope(seen) > threshold
        value = self._level(seen, sign)
        if self.best is None or sign * value < sign * self.best - threshold:
            self.best = value
            return True
        return False

    def _level(self, seen: Sequence[float], sign: float) -> float:
        if self.statistic == "mean":
            return fmean(seen)
        ranked = sorted(seen, key=lambda score: sign * score)
        place = (len(ranked) - 1) * (0.5 if self.statistic == "median" else self.quantile)
        low = math.floor(place)
        if place == low:
            return ranked[low]
        return ranked[low] + (place - low) * (ranked[low + 1] - ranked[low])

    def _error(self, num: int) -> float:
        """The standard error of the statistic of `num` scores whose noise is 1."""
        if self.statistic == "slope":
            return math.sqrt(12.0 / (num * (num * num - 1.0))) if num > 1 else math.inf
        if self.statistic == "mean" or num < 3:  # noqa: PLR2004 -- of two, the median is the mean
            return 1.0 / math.sqrt(num)
        share = 0.5 if self.statistic == "median" else self.quantile
        density = _NORMAL.pdf(_NORMAL.inv_cdf(share))
        return math.sqrt(share * (1.0 - share) / num) / density


def _slope(seen: Sequence[float]) -> float:
    """Slope per epoch of the least-squares line through the scores."""
    middle = (len(seen) - 1) / 2.0
    spread = len(seen) * (len(seen) ** 2 - 1.0) / 12.0
    # From the first score: large scores that differ little would cancel badly.
    return math.fsum((i - middle) * (score - seen[0]) for i, score in enumerate(seen)) / spread


def _wrong(where: str, received: object, expected: str) -> OptionError:
    return OptionError(
        where,
        received=f"`{received}`",
        expected=expected,
        mend=f"Give {where} such a value.",
    )
