"""Where the best trials lie: an interval per number, a list of values per choice.

Intervals are of the unit interval, on each hyperparameter's own scale. Each
step narrows them around the best trials or, where the very best one lies at an
end, moves that end outwards again, as far as the declared range goes: an
optimum at the edge of what was tried says that it lies beyond. Source of this
reading of edges: Godbole, Dahl, Gilmer, Shallue, Nado (2023), "Deep Learning
Tuning Playbook", on bad search space boundaries. The numbers are ours.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from smarttune.oracles import _domain
from smarttune.oracles._positions import allows, is_unordered, key, position, reflected
from smarttune.space import Prior, Value

# ours: fewer trials say nothing about where the good ones lie.
MIN_SHOWN = 3

# ours: a side moves in by at most so much of the width in one step, so that three lucky trials
# do not decide; with both sides an interval is at most halved.
MAX_SHRINK = 0.25

# ours: room left beside the outermost good trial, as a share of the width.
MARGIN = 0.1

# ours: the best trial lies at an end if it is nearer to it than this share of the width; of
# trials that are spread evenly one in five does so by chance, and then nothing is lost.
EDGE = 0.1

# ours: an end at which the best trial lies moves out by this share of the width; outwards it
# goes as fast as inwards.
EXPANSION = 0.25

# ours: no interval is narrower; noise decides below, and a narrow one could hardly move on.
MIN_WIDTH = 0.05

# ours: nor narrower than so many of a range's values, so that neighbours stay in reach.
MIN_VALUES = 2

# ours: share of the draws of a choice that go to any of its values, good so far or not.
FLOOR = 0.1


class Interval(NamedTuple):
    """Part of the unit interval."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """How long it is."""
        return self.high - self.low


WHOLE = Interval(0.0, 1.0)


class Boxes:
    """What is drawn from, hyperparameter by hyperparameter."""

    def __init__(self) -> None:
        self.intervals: dict[str, Interval] = {}
        self.shown: dict[str, tuple[int, ...]] = {}

    def tighten(self, space: Sequence[Any], best: Sequence[Mapping[str, Value]]) -> None:
        """Take one step.

        Args:
            space: KerasTuner hyperparameters.
            best: The configurations of the best trials, the very best first.
        """
        for hp in space:
            values = [
                v[hp.name]
                for v in best
                if hp.name in v and _domain.is_active(hp, v) and allows(hp, v[hp.name])
            ]
            if len(values) < MIN_SHOWN or _domain.num_values(hp) == 1:
                continue
            if is_unordered(hp):
                self.shown[key(hp)] = tuple(sorted({_domain.index_of(hp, v) for v in values}))
            else:
                positions = [position(hp, v) for v in values]
                least = max(MIN_WIDTH, min(1.0, MIN_VALUES / _domain.num_values(hp)))
                now = self.intervals.get(key(hp), WHOLE)
                self.intervals[key(hp)] = moved(now, positions, min_width=least)

    def draw(self, hp: Any, rng: random.Random, prior: Prior | None = None) -> Value:
        """Draw a value; the prior is used for what no step has narrowed yet."""
        u, is_free = rng.random(), rng.random() < FLOOR
        if is_unordered(hp):
            shown = self.shown.get(key(hp))
            if shown and not is_free:
                return _domain.value_at(hp, shown[int(u * len(shown))])
            return _domain.draw(hp, u, prior if shown is None else None)
        interval = self.intervals.get(key(hp))
        if interval is None:
            return _domain.draw(hp, u, prior)
        return _domain.draw(hp, reflected(interval.low + u * interval.width))


def moved(now: Interval, positions: Sequence[float], *, min_width: float = MIN_WIDTH) -> Interval:
    """Return the next interval, given where the best trials lie, the very best first."""
    best, width = positions[0], now.width
    low = _next_end(now.low, best, min(positions), width)
    # The upper end is the lower one seen in a mirror.
    high = 1 - _next_end(1 - now.high, 1 - best, 1 - max(positions), width)
    if high - low < min_width:
        low = max(0.0, min((low + high - min_width) / 2, 1 - min_width))
        high = low + min_width
    return Interval(low, high)


def _next_end(low: float, best: float, outermost: float, width: float) -> float:
    margin = MARGIN * width
    if best - low < EDGE * width:
        return max(0.0, min(low - EXPANSION * width, best - margin))
    return min(max(low, outermost - margin), low + MAX_SHRINK * width)
