"""Where a trial promises most: the logarithm of the expected improvement, and its search.

The improvement expected over the best score falls below any float long before
it stops telling points apart, so its logarithm is computed directly (Ament et
al. 2023, "Unexpected Improvements to Expected Improvement for Bayesian
Optimization", section 4 on LogEI). It is searched among drawn points and then
around the best of them; a space with steps, choices and branches has no
gradient to follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, ndtr  # type: ignore[import-untyped]

from smarttune.oracles._cube import Cube, FloatArray, Points
from smarttune.space import Prior

# The logarithm of what may be expected at points; larger is better.
LogGain = Callable[[Points], FloatArray]

# Below -1 the plain formula loses digits, below this the next one does (Ament et al. 2023:
# -1 / sqrt(eps) for float64).
FAR = -1.0 / math.sqrt(np.finfo(float).eps)

LOG_SQRT_2PI = math.log(2 * math.pi) / 2
LOG_SQRT_HALF_PI = math.log(math.pi / 2) / 2

# ours: how many points are drawn evenly, and as many from the priors where there are any; more
# than 400 gained nothing measurable in seven dimensions.
NUM_DRAWN = 400

# ours: so many of the best known points are searched around.
NUM_CENTERS = 5

# ours: the search around the best points: rounds, points per round and centre, and by how much
# a coordinate moves at first (standard deviation); each round it moves a third as far.
NUM_ROUNDS = 4
NUM_NEAR = 24
FIRST_STEP = 0.15
SHRINK = 3.0

# ours: each coordinate of a neighbour moves with this chance, at least one does; steps in all
# coordinates at once rarely improve.
MOVE_SHARE = 0.4


def log_expected_improvement(mean: FloatArray, std: FloatArray, best: float) -> FloatArray:
    """Return the logarithm of how much lower than `best` a score is expected to be.

    Args:
        mean: Expected scores.
        std: Their standard deviations, above 0.
        best: The score to improve upon; lower is better.
    """
    return np.asarray(np.log(std) + log_h((best - mean) / std))


def log_h(z: FloatArray) -> FloatArray:
    """Return log(pdf(z) + z cdf(z)) of the standard normal distribution for any z."""
    near, middle = z > -1, (z <= -1) & (z > FAR)
    result = -(z**2) / 2 - LOG_SQRT_2PI
    x = z[near]
    result[near] = np.log(np.exp(-(x**2) / 2 - LOG_SQRT_2PI) + x * ndtr(x))
    x = z[middle]
    result[middle] += _log1mexp(np.log(-x * erfcx(-x / math.sqrt(2))) + LOG_SQRT_HALF_PI)
    far = ~(near | middle)
    result[far] -= 2 * np.log(-z[far])
    return np.asarray(result)


def search(
    cube: Cube,
    gain: LogGain,
    known: Points,
    rng: np.random.Generator,
    priors: Mapping[str, Prior],
) -> Points:
    """Return points in the order of what they promise, the best first.

    Args:
        cube: The space.
        gain: What to make large.
        known: The best known points, where the search around points starts too.
        rng: Draws the points; the same draws give the same answer.
        priors: Where to draw half of the points; none means evenly.
    """
    points = cube.draw(rng, NUM_DRAWN).joined(known)
    if priors:
        points = points.joined(cube.draw(rng, NUM_DRAWN, priors))
    values = gain(points)
    step = FIRST_STEP
    for _ in range(NUM_ROUNDS):
        centers = points.take(_first(values, NUM_CENTERS))
        near = neighbours(cube, centers, rng, step=step)
        values = np.concatenate([values, gain(near)])
        points = points.joined(near)
        step /= SHRINK
    return points.take(_first(values, len(values)))


def neighbours(cube: Cube, centers: Points, rng: np.random.Generator, *, step: float) -> Points:
    """Return points near others: numbers move by about `step`, choices are drawn anew.

    Inactive coordinates are drawn anew as well, for the case that a choice activates them.
    """
    unit = np.repeat(cube.unit(centers), NUM_NEAR, axis=0)
    moves = rng.random(unit.shape) < MOVE_SHARE
    moves[np.arange(len(unit)), rng.integers(unit.shape[1], size=len(unit))] = True
    moved = unit + step * rng.standard_normal(unit.shape)
    # Reflected at the ends: cut off, half of the neighbours of an end would be the end itself.
    moved = 1.0 - np.abs(1.0 - np.abs(moved))
    fresh = rng.random(unit.shape)
    moved = np.where(np.array(cube.categorical), fresh, np.clip(moved, 0.0, 1.0))
    unit = np.where(moves, moved, unit)
    return cube.snap(np.where(np.isnan(unit), fresh, unit))


def _first(values: FloatArray, count: int) -> NDArray[np.int64]:
    """Return the rows of the largest values; of equals the first come first."""
    return np.argsort(-values, kind="stable")[:count]


def _log1mexp(x: FloatArray) -> FloatArray:
    """Return log(1 - exp(x)) for x below 0."""
    large = x > -math.log(2)
    with np.errstate(divide="ignore"):
        return np.where(large, np.log(-np.expm1(x)), np.log1p(-np.exp(x)))
