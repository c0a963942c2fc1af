"""Configurations as points of the unit cube, where models measure distances.

Each hyperparameter with more than one value is a dimension. Numbers and ordered
choices lie at their position in the unit interval, that of `smarttune.space`:
values with steps in the middle of their bins, scales as declared. Choices
without an order are codes 0, 1, 2, ... in canonical order. A dimension whose
conditions do not hold is nan. A name that has several ranges under several
conditions has a dimension for each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, ndtri  # type: ignore[import-untyped]

from smarttune.oracles import _domain
from smarttune.oracles._domain import Values
from smarttune.space import NormalPrior, Prior, Value, WeightsPrior

FloatArray = NDArray[np.float64]
Mask = NDArray[np.bool_]

# ours: a range of more integers than this is treated as one of real numbers; neighbours are
# then closer than any length scale that could be learnt.
MAX_LEVELS = 1000

# ours: relative slack for the rounding of bounds, far above one float64 ulp.
SLACK = 1e-9

# A prior never rules a value out: densities below this count as this (the floor of piBO's
# implementation in SMAC, PriorAcquisitionFunction).
DENSITY_FLOOR = 1e-12


@dataclass(frozen=True)
class Points:
    """Rows of a cube.

    Args:
        u: One row per point: a position from 0 to 1, a code, or nan where inactive.
        categorical: Which columns hold codes.
    """

    u: FloatArray
    categorical: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.u)

    def take(self, rows: Any) -> Points:
        """Return some of the rows: an index array, a mask or a slice."""
        return Points(self.u[rows], self.categorical)

    def joined(self, other: Points) -> Points:
        """Return these rows and then those of `other`."""
        return Points(np.vstack([self.u, other.u]), self.categorical)


class Cube:
    """The unit cube of a search space.

    Args:
        space: KerasTuner hyperparameters, parents before those that depend on them.
    """

    def __init__(self, space: Sequence[Any]) -> None:
        self._axes = [_Axis(hp) for hp in space]
        self._varying = [axis for axis in self._axes if axis.count > 1]
        self.names: tuple[str, ...] = tuple(axis.hp.name for axis in self._varying)
        self.categorical: tuple[bool, ...] = tuple(axis.categorical for axis in self._varying)

    @property
    def num_dimensions(self) -> int:
        """How many hyperparameters have more than one value."""
        return len(self._varying)

    def num_choices(self, column: int) -> int:
        """Return how many codes a categorical column has."""
        return int(self._varying[column].count)

    def encode(self, configurations: Sequence[Mapping[str, Value]]) -> Points:
        """Return the points of configurations; what one of them lacks counts as inactive."""
        u = np.full((len(configurations), self.num_dimensions), np.nan)
        for row, values in zip(u, configurations, strict=True):
            seen: set[str] = set()
            column = 0
            for axis in self._axes:
                name = axis.hp.name
                if name in values and name not in seen and _domain.is_active(axis.hp, values):
                    seen.add(name)
                    if axis.count > 1:
                        row[column] = axis.position(values[name])
                column += axis.count > 1
        return Points(u, self.categorical)

    def contains(self, values: Mapping[str, Value]) -> bool:
        """Whether the known active values are allowed; ranges may have changed since a trial."""
        return all(
            axis.allows(values[axis.hp.name])
            for axis in self._axes
            if axis.hp.name in values and _domain.is_active(axis.hp, values)
        )

    def decode(self, row: FloatArray) -> Values:
        """Return the configuration of a point; conditions decide which columns are read."""
        values: Values = {}
        column = 0
        for axis in self._axes:
            if axis.hp.name not in values and _domain.is_active(axis.hp, values):
                values[axis.hp.name] = axis.value(row[column] if axis.count > 1 else 0.0)
            column += axis.count > 1
        return values

    def snap(self, uniform: FloatArray) -> Points:
        """Return the points that uniform draws, one per dimension, stand for.

        Draws are moved to the nearest allowed value, and columns whose conditions do not
        hold become nan.
        """
        u = np.empty(uniform.shape)
        active: list[Mask] = []
        column = 0
        columns: list[FloatArray] = []
        for axis in self._axes:
            mask = self._active(axis, active, columns, len(u))
            if axis.count > 1:
                columns.append(axis.snap(uniform[:, column]))
                u[:, column] = np.where(mask, columns[-1], np.nan)
                column += 1
            else:
                columns.append(np.zeros(len(u)))
            active.append(mask)
        return Points(u, self.categorical)

    def draw(
        self,
        rng: np.random.Generator,
        num_points: int,
        priors: Mapping[str, Prior] | None = None,
    ) -> Points:
        """Draw points from the priors, evenly where there is none."""
        uniform = rng.random((num_points, self.num_dimensions))
        return self.snap(self.quantiles(uniform, priors or {}))

    def quantiles(self, uniform: FloatArray, priors: Mapping[str, Prior]) -> FloatArray:
        """Pass uniform draws through the priors.

        Raises:
            OptionError: If a prior has a weight too many or too few.
        """
        drawn = uniform.copy()
        for column, axis, prior in self._with_prior(priors):
            _domain.draw(axis.hp, 0.5, prior)  # refuses weights that do not fit
            drawn[:, column] = _quantiles(prior, uniform[:, column])
        return drawn

    def mode(self, priors: Mapping[str, Prior]) -> Points:
        """Return the one point where the priors are densest; the middle where there is none."""
        uniform = np.full((1, self.num_dimensions), 0.5)
        for column, axis, prior in self._with_prior(priors):
            _domain.draw(axis.hp, 0.5, prior)
            if isinstance(prior, WeightsPrior):
                heaviest = max(range(len(prior.weights)), key=prior.weights.__getitem__)
                uniform[0, column] = (heaviest + 0.5) / len(prior.weights)
            else:
                uniform[0, column] = min(1.0, max(0.0, prior.center))
        return self.snap(uniform)

    def log_prior(self, points: Points, priors: Mapping[str, Prior]) -> FloatArray:
        """Return the log density of the priors at points, relative to the even density.

        Columns that are inactive or have no prior add nothing.
        """
        total = np.zeros(len(points))
        unit = self.unit(points)
        for column, _, prior in self._with_prior(priors):
            density = _log_density(prior, unit[:, column])
            total += np.where(np.isnan(density), 0.0, density)
        return total

    def unit(self, points: Points) -> FloatArray:
        """Return the points with codes as positions too, the middles of their bins."""
        unit = points.u.copy()
        for column, axis in enumerate(self._varying):
            if axis.categorical:
                unit[:, column] = (unit[:, column] + 0.5) / axis.count
        return unit

    def _with_prior(self, priors: Mapping[str, Prior]) -> list[tuple[int, _Axis, Prior]]:
        return [
            (column, axis, priors[axis.hp.name])
            for column, axis in enumerate(self._varying)
            if axis.hp.name in priors
        ]

    def _active(
        self, axis: _Axis, active: list[Mask], columns: list[FloatArray], num_points: int
    ) -> Mask:
        """Which points have the conditions of an axis fulfilled by those before it."""
        before = list(zip(self._axes, active, columns, strict=False))
        mask = np.ones(num_points, dtype=bool)
        for condition in axis.hp.conditions:
            holds = np.zeros(num_points, dtype=bool)
            for parent, there, column in before:
                if parent.hp.name == condition.name:
                    holds |= there & parent.fulfils(condition, column)
            mask &= holds
        for other, there, _ in before:
            if other.hp.name == axis.hp.name:
                mask &= ~there
        return mask


class _Axis:
    """One hyperparameter of a cube."""

    def __init__(self, hp: Any) -> None:
        self.hp = hp
        self.count = _domain.num_values(hp)
        self.categorical = (
            self.count > 1 and _domain.is_discrete(hp) and not getattr(hp, "ordered", False)
        )

    @cached_property
    def levels(self) -> tuple[Value, ...] | None:
        """All values, or None if there are too many."""
        if self.count > MAX_LEVELS and not _domain.is_discrete(self.hp):
            return None
        return tuple(_domain.value_at(self.hp, i) for i in range(int(self.count)))

    @cached_property
    def positions(self) -> FloatArray:
        """The positions of the levels, ascending; for codes those of their bins."""
        assert self.levels is not None
        if _domain.is_discrete(self.hp) or self.hp.step is not None:
            return (np.arange(len(self.levels)) + 0.5) / len(self.levels)
        return np.array([self.hp.value_to_prob(value) for value in self.levels])

    @cached_property
    def borders(self) -> FloatArray:
        """The positions half-way between neighbouring levels."""
        return (self.positions[1:] + self.positions[:-1]) / 2

    @cached_property
    def codes(self) -> dict[tuple[bool, Value], int]:
        """The numbers of the choices; `True` and `1` are two of them."""
        return {(isinstance(v, bool), v): i for i, v in enumerate(self.levels or ())}

    def allows(self, value: Value) -> bool:
        """Whether a value is one of this axis."""
        if _domain.is_discrete(self.hp):
            return (isinstance(value, bool), value) in self.codes
        if isinstance(value, (bool, str)):
            return False
        slack = SLACK * max(abs(self.hp.min_value), abs(self.hp.max_value))
        return bool(self.hp.min_value - slack <= value <= self.hp.max_value + slack)

    def position(self, value: Value) -> float:
        """Return where a value lies, moved into the range; nan if it is of another kind."""
        if _domain.is_discrete(self.hp):
            code = self.codes.get((isinstance(value, bool), value))
            if code is None:
                return math.nan
            return code if self.categorical else float(self.positions[code])
        if isinstance(value, (bool, str)):
            return math.nan
        inside = min(self.hp.max_value, max(self.hp.min_value, value))
        if self.levels is not None:
            return float(self.positions[_domain.index_of(self.hp, inside)])
        if self.hp.step is not None:
            return (_domain.index_of(self.hp, inside) + 0.5) / self.count
        return min(1.0, max(0.0, float(self.hp.value_to_prob(inside))))

    def value(self, position: float) -> Value:
        """Return the value at a position or of a code."""
        if self.levels is None:
            return _domain.draw(self.hp, position)
        if self.categorical:
            return self.levels[int(position)]
        return self.levels[int(np.searchsorted(self.borders, position))]

    def snap(self, uniform: FloatArray) -> FloatArray:
        """Return the positions or codes that uniform draws stand for."""
        if self.levels is None:
            return uniform
        index = np.searchsorted(self.borders, uniform)
        return index.astype(float) if self.categorical else self.positions[index]

    def fulfils(self, condition: Any, column: FloatArray) -> Mask:
        """Which points of a column of this axis fulfil a condition."""
        unique, inverse = np.unique(column, return_inverse=True)
        name = self.hp.name
        holds = [condition.is_active({name: self.value(float(v))}) for v in unique]
        return np.array(holds, dtype=bool)[inverse]


def _quantiles(prior: Prior, u: FloatArray) -> FloatArray:
    """Return `prior.quantile` of many draws at once."""
    if not isinstance(prior, NormalPrior):
        return np.array([prior.quantile(float(v)) for v in u])
    below, above = ndtr((np.array([0.0, 1.0]) - prior.center) / prior.spread)
    inside = np.clip(below + u * (above - below), 1e-15, 1 - 1e-15)
    return np.asarray(np.clip(prior.center + prior.spread * ndtri(inside), 0.0, 1.0))


def _log_density(prior: Prior, unit: FloatArray) -> FloatArray:
    """Return the log of `prior.density` at many positions, floored; nan where they are."""
    floor = math.log(DENSITY_FLOOR)
    if isinstance(prior, NormalPrior):
        z = (unit - prior.center) / prior.spread
        ends = (np.array([0.0, 1.0]) - prior.center) / prior.spread
        # The mass between the ends, exact also where it is tiny on either side.
        below, above = log_ndtr(ends if ends[0] < 0 else -ends[::-1])
        log_mass = above + math.log(-math.expm1(below - above))
        scale = math.log(prior.spread * math.sqrt(2 * math.pi))
        return np.asarray(np.maximum(floor, -0.5 * z**2 - scale - log_mass), dtype=np.float64)
    weights = np.array(prior.weights) * len(prior.weights) / sum(prior.weights)
    code = np.minimum(np.nan_to_num(unit) * len(weights), len(weights) - 1).astype(int)
    density = np.log(np.maximum(weights[code], DENSITY_FLOOR))
    return np.where(np.isnan(unit), np.nan, density)
