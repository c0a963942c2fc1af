"""Half-trained trials weighed against new ones, by a model of their learning curves.

One Gaussian process covers configurations and shares of a full training. It is
asked one question: whose score after a full training promises the largest
improvement? The answer may be a new configuration, which then starts on the
lowest rung, or one that was trained for a while, which is trained on to the
next. So weak trials are not thinned out by counting; they are left waiting, and
may be taken up again when better ones disappoint.

The idea of spending the next few epochs where a model of all curves expects most
is that of freeze-thaw optimization (Swersky, Snoek and Adams 2014, "Freeze-Thaw
Bayesian Optimization", section 4); the model here is simpler.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from smarttune.oracles import _acquisition, _gaussian
from smarttune.oracles._cube import Cube, FloatArray, Points
from smarttune.oracles._domain import Values
from smarttune.space import Prior

# ours: kernels are learnt from at most so many of the first rows. Beyond, what a kernel says
# hardly changes, and the time of a proposal shall not grow with the search.
MAX_LEARNING_ROWS = 300

# ours: the model stands on at most so many rows: the best half of them, and the latest.
MAX_ROWS = 400

ROUNDING = 1e-9  # of powers of a root


class Row(NamedTuple):
    """What is known of a configuration after part of a training.

    `score` is lower for better, and nan where the trial failed.
    """

    values: Values
    share: float
    score: float


class Waiting(NamedTuple):
    """A trial that can be trained on, and the share of a full training that it has had."""

    trial_id: str
    values: Values
    share: float


class Choice(NamedTuple):
    """What to do next: train `waiting` on, or try the first untried one of `new`."""

    waiting: Waiting | None
    new: Points


class CurveModel:
    """Chooses among new configurations and waiting trials.

    What it answers is a function of its arguments; what it remembers only saves time.
    """

    def __init__(self) -> None:
        self._learnt = _gaussian.ScheduledFit()

    def choose(
        self,
        cube: Cube,
        rows: Sequence[Row],
        waiting: Sequence[Waiting],
        running: Sequence[tuple[Values, float]],
        *,
        priors: Mapping[str, Prior],
        rng: np.random.Generator,
    ) -> Choice:
        """Return where the next epochs promise most.

        Args:
            cube: The space.
            rows: What was seen, in the order in which it came; some of it finite.
            waiting: Trials that can be trained on.
            running: Configurations in training, with the shares that they will have had.
            priors: Where half of the candidates are drawn.
            rng: Draws candidates.
        """
        scores = _worst_for_failures(np.array([row.score for row in rows]))
        process = self._fit(cube, rows, scores)
        if running:
            shares = np.array([share for _, share in running])
            process = process.imagining(cube.encode([values for values, _ in running]), shares)
        best = float(scores.min())

        def gain(points: Points) -> FloatArray:
            return _acquisition.log_expected_improvement(*process.predict(points), best)

        known = cube.encode([rows[i].values for i in _best_distinct(rows, scores)])
        new = _acquisition.search(cube, gain, known, rng, priors)
        if not waiting:
            return Choice(None, new)
        # Per epoch still to pay; a new configuration has them all before it.
        promises = gain(cube.encode([w.values for w in waiting]))
        promises = promises - np.log1p(-np.array([w.share for w in waiting]))
        first = int(np.argmax(promises))
        taken = waiting[first] if promises[first] >= gain(new.take(slice(1)))[0] else None
        return Choice(taken, new)

    def _fit(
        self, cube: Cube, rows: Sequence[Row], scores: FloatArray
    ) -> _gaussian.GaussianProcess:
        points = cube.encode([row.values for row in rows])
        shares = np.array([row.share for row in rows])
        if len(rows) <= MAX_LEARNING_ROWS:
            return self._learnt.fit(points, scores, fidelity=shares)
        first = slice(MAX_LEARNING_ROWS)
        process = self._learnt.fit(points.take(first), scores[first], fidelity=shares[first])
        kept = _kept(scores)
        return _gaussian.fit(
            points.take(kept), scores[kept], fidelity=shares[kept], kernel=process.kernel
        )


def _worst_for_failures(scores: FloatArray) -> FloatArray:
    """A failed trial counts as the worst that was seen."""
    return np.where(np.isnan(scores), np.nanmax(scores), scores)


def _best_distinct(rows: Sequence[Row], scores: FloatArray) -> list[int]:
    """The rows of the best few configurations."""
    found: list[int] = []
    for i in np.argsort(scores, kind="stable"):
        if all(rows[i].values != rows[j].values for j in found):
            found.append(int(i))
        if len(found) == _acquisition.NUM_CENTERS:
            break
    return found


def _kept(scores: FloatArray) -> np.ndarray:
    """The rows that a large search is judged by: the best and the latest."""
    if len(scores) <= MAX_ROWS:
        return np.arange(len(scores))
    half = MAX_ROWS // 2
    best = np.argsort(scores, kind="stable")[:half]
    latest = np.arange(len(scores) - half, len(scores))
    return np.union1d(best, latest)


def milestones(max_epochs: int, factor: int) -> tuple[int, ...]:
    """Return the epochs at which curves are read, ascending; the last is `max_epochs`.

    ours: two for each rung of successive halving, in even ratios. With one alone the regret on
    the surrogate's development tables after eight full trainings was 0.12 instead of 0.04
    (three seeds of a first version).
    """
    ratio = math.sqrt(factor)
    steps = int(math.log(max_epochs) / math.log(ratio))
    return tuple(
        sorted({max(1, math.floor(max_epochs / ratio**i + ROUNDING)) for i in range(steps + 1)})
    )
