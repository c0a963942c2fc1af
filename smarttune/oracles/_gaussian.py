"""A Gaussian process over configurations: what a score may be where nothing was tried.

The covariance is a Matern kernel (smoothness 5/2) with a length scale per
dimension, times exp(-1 / length) for each unordered choice that differs, plus
noise. Lower scores are better throughout.

- *Inactive dimensions.* A position u lies on an arc of radius 1, at the angle u
  in radians; an inactive dimension is the centre. So active and inactive are 1
  apart wherever the active one lies, both inactive are 0 apart, active positions
  are as far apart as they were within 5 %, and the kernel stays valid because
  all distances are Euclidean (the idea is that of the "arc kernel", Swersky et
  al. 2014, "Raiders of the Lost Architecture"). An inactive choice is one more
  code.
- *Bad scores.* Standardizing by a loss of 1e6 would leave no difference among
  good ones. With `robust`, scores worse than the median are drawn in; those
  better stay as they are, so predictions of good scores need no way back. Rank
  transforms were left out because they have no such units.
- *Fidelity.* The logarithm of the share of training is one more dimension.

Kernels are learnt as maxima of the posterior, from the data alone: no start
depends on an earlier result. `ScheduledFit` learns anew whenever the data have
grown by a tenth, from the first rows, so that it may forget and still repeat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular  # type: ignore[import-untyped]
from scipy.optimize import minimize  # type: ignore[import-untyped]

from smarttune.oracles._cube import FloatArray, Points

SQRT5 = math.sqrt(5.0)

# Length scales: log-normal with a median of exp(sqrt 2) times the root of the number of
# dimensions and a spread of sqrt 3 (Hvarfner et al. 2024, "Vanilla Bayesian Optimization
# Performs Great in High Dimensions", the dimension-scaled prior).
LENGTH_MEAN = math.sqrt(2.0)
LENGTH_SPREAD = math.sqrt(3.0)

# ours: two choices that differ in one of D dimensions have, at the median, a correlation of
# exp(-1 / sqrt D): a third alone, two thirds among seven.
CATEGORY_SPREAD = 1.0

# ours: scores are standardized, so the signal's variance is about 1.
SIGNAL_SPREAD = 0.5

# The median of the noise's variance is exp(-4) of that of the scores (the value that Hvarfner
# et al. use with standardized scores); ours: twice their spread, for scores without noise.
NOISE_MEAN = -4.0
NOISE_SPREAD = 2.0

# ours: variances of noise below this are not told apart from rounding in a solved system.
NOISE_FLOOR = 1e-6

# ours: limits of the search for a kernel; beyond them it changes no prediction.
LENGTH_LIMITS = (1e-2, 1e3)
SIGNAL_LIMITS = (1e-2, 1e2)
NOISE_LIMIT = 1.0

# ours: where that search starts besides the median: lengths at which neighbours differ.
SHORT_LENGTH = 0.3

# ours: steps of the search; nine in ten end before.
MAX_STEPS = 60

# ours: a kernel is learnt from at most so many rows, spread evenly over all; the cost grows
# with their cube.
MAX_ROWS = 150

# ours: a kernel is learnt anew when the data have grown by this factor.
GROWTH = 1.1

# ours: in multiples of the distance from the best to the median, bad scores count as at most so
# much worse than the median.
WORST = 3.0


@dataclass(frozen=True)
class Kernel:
    """What a Gaussian process assumes about scores, in standardized units.

    Args:
        lengths: The length scale of each column of the points.
        signal: Variance of the scores.
        noise: Variance of what repeated trials differ by.
        fidelity_length: The length scale of the logarithm of the fidelity; None without.
    """

    lengths: tuple[float, ...]
    signal: float
    noise: float
    fidelity_length: float | None = None


@dataclass(frozen=True)
class GaussianProcess:
    """Scores that were seen, and the kernel under which others are predicted."""

    kernel: Kernel
    offset: float
    scale: float
    _sites: _Sites
    _targets: FloatArray
    _factor: FloatArray
    _weights: FloatArray

    def predict(
        self, points: Points, fidelity: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Return the mean and standard deviation of the score without noise.

        Args:
            points: Where.
            fidelity: Shares of a full training; full where the model knows fidelities and
                none is given.
        """
        sites = _Sites.of(points, self._shares(points, fidelity))
        cross = _covariance(self.kernel, self._sites, sites)
        mean = cross.T @ self._weights
        half = solve_triangular(self._factor, cross, lower=True, check_finite=False)
        variance = self.kernel.signal - np.einsum("ij,ij->j", half, half)
        std = np.sqrt(np.maximum(variance, self.kernel.signal * np.finfo(float).eps))
        return self.offset + self.scale * mean, self.scale * std

    def imagining(self, points: Points, fidelity: FloatArray | None = None) -> GaussianProcess:
        """Return the model as if points had got the score that it expects there.

        Its mean stays as it is; it only grows surer around them.
        """
        sites = _Sites.of(points, self._shares(points, fidelity))
        imagined = _covariance(self.kernel, self._sites, sites).T @ self._weights
        targets = np.concatenate([self._targets, imagined])
        return _condition(
            self.kernel, self._sites.joined(sites), targets, offset=self.offset, scale=self.scale
        )

    def _shares(self, points: Points, fidelity: FloatArray | None) -> FloatArray | None:
        if fidelity is None and self.kernel.fidelity_length is not None:
            return np.ones(len(points))
        return fidelity


def fit(
    points: Points,
    y: FloatArray,
    *,
    fidelity: FloatArray | None = None,
    kernel: Kernel | None = None,
    robust: bool = True,
) -> GaussianProcess:
    """Return a model of scores.

    Args:
        points: Where they were seen, at least one.
        y: The scores, finite, lower is better.
        fidelity: The share of a full training that each had, above 0 and up to 1.
        kernel: The kernel; learnt from these data if None.
        robust: Whether bad scores are drawn in.
    """
    if kernel is None:
        kernel = learn(points, y, fidelity=fidelity, robust=robust)
    drawn = draw_in(y) if robust else np.asarray(y, dtype=float)
    offset, scale = _units(drawn)
    sites = _Sites.of(points, fidelity)
    return _condition(kernel, sites, (drawn - offset) / scale, offset=offset, scale=scale)


def learn(
    points: Points, y: FloatArray, *, fidelity: FloatArray | None = None, robust: bool = True
) -> Kernel:
    """Return the most probable kernel; see `fit` for the arguments."""
    drawn = draw_in(y) if robust else np.asarray(y, dtype=float)
    offset, scale = _units(drawn)
    rows = _spread_rows(len(drawn))
    shares = None if fidelity is None else fidelity[rows]
    posterior = Posterior(_Sites.of(points.take(rows), shares), (drawn[rows] - offset) / scale)
    found = [
        minimize(
            posterior,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=posterior.bounds,
            options={"maxiter": MAX_STEPS},
        )
        for start in posterior.starts
    ]
    best = min(found, key=lambda result: float(result.fun))
    return posterior.kernel(best.x)


class ScheduledFit:
    """Fits models to growing data and learns their kernels only now and then.

    What it returns depends on the arguments alone; what it remembers only saves time. The rows
    have to be in the order in which they came.
    """

    def __init__(self) -> None:
        self._known: tuple[tuple[bytes, ...], Kernel] | None = None

    def fit(
        self,
        points: Points,
        y: FloatArray,
        *,
        fidelity: FloatArray | None = None,
        robust: bool = True,
    ) -> GaussianProcess:
        """Return a model of scores; see the function `fit` for the arguments."""
        first = slice(learning_size(len(y)))
        shares = None if fidelity is None else fidelity[first]
        seen = points.take(first)
        parts = (seen.u, y[first], shares if shares is not None else np.empty(0))
        key = (*(part.tobytes() for part in parts), bytes([robust, *seen.categorical]))
        if self._known is None or self._known[0] != key:
            kernel = learn(seen, y[first], fidelity=shares, robust=robust)
            self._known = (key, kernel)
        return fit(points, y, fidelity=fidelity, kernel=self._known[1], robust=robust)


def learning_size(num_rows: int) -> int:
    """Return how many of the first rows a kernel is learnt from: 1, 2, ... 10, 11, 13, 15, ..."""
    size = min(1, num_rows)
    while (larger := max(size + 1, math.ceil(size * GROWTH))) <= num_rows:
        size = larger
    return size


def draw_in(y: FloatArray) -> FloatArray:
    """Return the scores with those worse than the median drawn in, their order kept.

    A score that is d worse than the median becomes d / (1 + d / limit) worse, where the limit
    is `WORST` times the distance from the best score to the median.
    """
    scores = np.asarray(y, dtype=float)
    middle = float(np.median(scores))
    limit = WORST * (middle - float(scores.min()))
    if limit <= 0:
        return scores
    worse = np.maximum(scores - middle, 0.0)
    return np.where(scores > middle, middle + worse / (1.0 + worse / limit), scores)


class _Sites(NamedTuple):
    """Points as the kernel sees them.

    `arcs` holds for each numeric column two coordinates, `codes` the unordered choices with -1
    where inactive, `levels` the logarithms of the fidelities (no column without).
    """

    arcs: FloatArray
    codes: FloatArray
    levels: FloatArray
    categorical: tuple[bool, ...]

    @classmethod
    def of(cls, points: Points, fidelity: FloatArray | None) -> _Sites:
        categorical = np.array(points.categorical, dtype=bool)
        angles = points.u[:, ~categorical]
        arcs = np.stack([np.cos(angles), np.sin(angles)], axis=2)
        codes = np.nan_to_num(points.u[:, categorical], nan=-1.0)
        levels = np.empty((len(points), 0)) if fidelity is None else np.log(fidelity)[:, None]
        return cls(np.nan_to_num(arcs, nan=0.0), codes, levels, points.categorical)

    def joined(self, other: _Sites) -> _Sites:
        both = [np.concatenate(pair) for pair in zip(self[:3], other[:3], strict=True)]
        return _Sites(both[0], both[1], both[2], self.categorical)


class Posterior:
    """The negative log posterior of kernels, with its gradient.

    A kernel is a vector of logarithms: lengths of numeric columns, of the fidelity and of
    choices, then signal and noise.
    """

    def __init__(self, sites: _Sites, targets: FloatArray) -> None:
        self._targets = targets
        self._categorical = np.array(sites.categorical, dtype=bool)
        gaps = sites.arcs[:, None] - sites.arcs[None]
        levels = sites.levels[:, None] - sites.levels[None]
        # One matrix per column: squared distances, and whether choices differ.
        squares = np.concatenate([(gaps**2).sum(axis=3), levels**2], axis=2)
        self._squares = np.ascontiguousarray(np.moveaxis(squares, 2, 0))
        differs = sites.codes[:, None] != sites.codes[None]
        self._differs = np.ascontiguousarray(np.moveaxis(differs.astype(float), 2, 0))
        self._num_numeric = sites.arcs.shape[1]
        self._means, self._spreads = self._prior()

    def __call__(self, theta: FloatArray) -> tuple[float, FloatArray]:
        """Return the negative log posterior and its gradient."""
        n, m, c = len(self._targets), len(self._squares), len(self._differs)
        inverse, closeness = np.exp(-2 * theta[:m]), np.exp(-theta[m : m + c])
        signal, noise = np.exp(theta[-2:])
        r = SQRT5 * np.sqrt(np.tensordot(inverse, self._squares, 1))
        decay = signal * np.exp(-r - np.tensordot(closeness, self._differs, 1))
        covariance = (1 + r + r**2 / 3) * decay
        factor = _cholesky(covariance + noise * np.eye(n))
        weights = cho_solve((factor, True), self._targets, check_finite=False)
        inner = cho_solve((factor, True), np.eye(n), check_finite=False)
        inner -= np.outer(weights, weights)
        inner /= 2
        pull = (theta - self._means) / self._spreads
        value = self._targets @ weights / 2 + np.log(np.diag(factor)).sum() + pull @ pull / 2
        gradient = pull / self._spreads
        slope = inner * (1 + r) * decay * (5 / 3)
        gradient[:m] += np.tensordot(self._squares, slope, 2) * inverse
        smooth = inner * covariance
        gradient[m : m + c] += np.tensordot(self._differs, smooth, 2) * closeness
        gradient[-2] += smooth.sum()
        gradient[-1] += noise * np.trace(inner)
        return float(value), gradient

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """The limits of each logarithm."""
        limits = [LENGTH_LIMITS] * (len(self._means) - 2)
        limits += [SIGNAL_LIMITS, (NOISE_FLOOR, NOISE_LIMIT)]
        return [(math.log(low), math.log(high)) for low, high in limits]

    @property
    def starts(self) -> list[FloatArray]:
        """Where to start: the medians of the prior, and short lengths."""
        short = self._means.copy()
        short[: len(self._squares)] = math.log(SHORT_LENGTH)
        return [self._means, short]

    def kernel(self, theta: FloatArray) -> Kernel:
        """Return the kernel that a vector of logarithms stands for."""
        values, m = np.exp(theta), len(self._squares)
        lengths = np.empty(len(self._categorical))
        lengths[~self._categorical] = values[: self._num_numeric]
        lengths[self._categorical] = values[m:-2]
        return Kernel(
            tuple(lengths.tolist()),
            signal=float(values[-2]),
            noise=float(values[-1]),
            fidelity_length=float(values[self._num_numeric]) if m > self._num_numeric else None,
        )

    def _prior(self) -> tuple[FloatArray, FloatArray]:
        m, c = len(self._squares), len(self._differs)
        width = math.log(max(1, self._num_numeric + c)) / 2
        means = [LENGTH_MEAN + width] * self._num_numeric
        means += [LENGTH_MEAN] * (m - self._num_numeric)
        means += [width] * c + [0.0, NOISE_MEAN]
        spreads = [LENGTH_SPREAD] * m + [CATEGORY_SPREAD] * c + [SIGNAL_SPREAD, NOISE_SPREAD]
        return np.array(means), np.array(spreads)


def _covariance(kernel: Kernel, one: _Sites, other: _Sites) -> FloatArray:
    """Return the covariance without noise of each of the first with each of the second."""
    r = SQRT5 * np.sqrt(_squared_distances(_scaled(kernel, one), _scaled(kernel, other)))
    exponent = -r
    lengths = np.array(kernel.lengths)[np.array(one.categorical, dtype=bool)]
    for column, length in enumerate(lengths):
        exponent -= (one.codes[:, column, None] != other.codes[None, :, column]) / length
    covariance: FloatArray = kernel.signal * (1 + r + r**2 / 3) * np.exp(exponent)
    return covariance


def _scaled(kernel: Kernel, sites: _Sites) -> FloatArray:
    """Return coordinates in which the kernel's numeric distances are Euclidean."""
    lengths = np.array(kernel.lengths)[~np.array(sites.categorical, dtype=bool)]
    arcs = (sites.arcs / lengths[None, :, None]).reshape(len(sites.arcs), -1)
    return np.hstack([arcs, sites.levels / (kernel.fidelity_length or 1.0)])


def _squared_distances(one: FloatArray, other: FloatArray) -> FloatArray:
    norms = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None]
    return np.asarray(np.maximum(norms - 2 * (one @ other.T), 0.0), dtype=np.float64)


def _condition(
    kernel: Kernel, sites: _Sites, targets: FloatArray, *, offset: float, scale: float
) -> GaussianProcess:
    covariance = _covariance(kernel, sites, sites)
    factor = _cholesky(covariance + kernel.noise * np.eye(len(targets)))
    weights = cho_solve((factor, True), targets, check_finite=False)
    return GaussianProcess(kernel, offset, scale, sites, targets, factor, weights)


def _cholesky(matrix: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.cholesky(matrix), dtype=np.float64)


def _units(y: FloatArray) -> tuple[float, float]:
    """Return the mean and the spread of scores; 1 where they are all the same."""
    spread = float(y.std())
    return float(y.mean()), spread if spread > 0 else 1.0


def _spread_rows(num_rows: int) -> NDArray[np.int64]:
    count = min(num_rows, MAX_ROWS)
    return np.linspace(0, num_rows - 1, count).round().astype(np.int64)
