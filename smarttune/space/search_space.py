"""Priors on the unit interval, dimensions, and the search space they form."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cached_property
from statistics import NormalDist
from typing import Annotated, Literal

from pydantic import Field

from smarttune.errors import SettingError, did_you_mean
from smarttune.space.ranges import Frozen, Range, Value, same


class NormalPrior(Frozen):
    """A normal density on the unit interval, cut off at its ends.

    Args:
        center: Where the recommended value lies, between 0 and 1.
        spread: Standard deviation in units of the range's (log) width.
    """

    type: Literal["normal"] = "normal"
    center: float
    spread: float

    def quantile(self, u: float) -> float:
        """Position in the unit interval below which the share `u` of the mass lies."""
        normal = NormalDist(self.center, self.spread)
        below, above = normal.cdf(0.0), normal.cdf(1.0)
        p = below + min(1 - 1e-12, max(1e-12, u)) * (above - below)
        return min(1.0, max(0.0, normal.inv_cdf(min(1 - 1e-15, max(1e-15, p)))))

    def density(self, u: float) -> float:
        """Density at `u`, relative to the uniform density 1."""
        normal = NormalDist(self.center, self.spread)
        return normal.pdf(u) / (normal.cdf(1.0) - normal.cdf(0.0))


class WeightsPrior(Frozen):
    """The share of the mass on each value of a `Choice`, in its canonical order."""

    type: Literal["weights"] = "weights"
    weights: tuple[float, ...]

    def quantile(self, u: float) -> float:
        """Map a uniform draw into the bin of the value that it selects."""
        total, passed = sum(self.weights), 0.0
        for i, weight in enumerate(self.weights):
            share = weight / total
            if u < passed + share or i == len(self.weights) - 1:
                within = min(1.0, max(0.0, (u - passed) / share)) if share else 0.5
                return min(1 - 1e-9, (i + min(within, 1 - 1e-9)) / len(self.weights))
            passed += share
        raise AssertionError("a prior has at least one weight")

    def density(self, u: float) -> float:
        """Density at `u`, relative to the uniform density 1."""
        i = min(int(u * len(self.weights)), len(self.weights) - 1)
        return self.weights[i] * len(self.weights) / sum(self.weights)


Prior = Annotated[NormalPrior | WeightsPrior, Field(discriminator="type")]


class Dimension(Frozen):
    """One hyperparameter of a search space.

    Args:
        name: Canonical, dotted name.
        range: Its allowed values.
        value: The recommended value, one of them.
        prior: Where good values are expected; None means everywhere alike.
        active_when: Values that other hyperparameters must have for this one to matter.
    """

    name: str
    range: Range
    value: Value
    prior: Prior | None = None
    active_when: dict[str, tuple[Value, ...]] = Field(default_factory=dict)

    def draw(self, u: float, *, use_prior: bool = True) -> Value:
        """The value that the uniform draw `u` stands for."""
        if use_prior and self.prior is not None:
            u = self.prior.quantile(u)
        return self.range.from_unit(u)


class SearchSpace(Frozen):
    """All hyperparameters of a search, each after those that it depends on."""

    dimensions: tuple[Dimension, ...]

    @cached_property
    def by_name(self) -> dict[str, Dimension]:
        """The dimensions under their names."""
        return {d.name: d for d in self.dimensions}

    @property
    def tuned(self) -> tuple[str, ...]:
        """Names of the hyperparameters that have more than one value."""
        return tuple(d.name for d in self.dimensions if d.range.num_values > 1)

    def __getitem__(self, name: str) -> Dimension:
        try:
            return self.by_name[name]
        except KeyError:
            raise SettingError(
                "search space",
                received=f"`{name}` is not a hyperparameter of it",
                expected="one of its hyperparameters",
                mend=f"Use one of its names.{did_you_mean(name, self.by_name)}",
            ) from None

    def is_active(self, name: str, values: Mapping[str, Value]) -> bool:
        """Whether the conditions of `name` hold among `values`."""
        return all(
            parent in values and any(same(values[parent], v) for v in allowed)
            for parent, allowed in self[name].active_when.items()
        )

    def active(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Return only those of `values` whose conditions hold, parents first."""
        kept: dict[str, Value] = {}
        for dimension in self.dimensions:
            if dimension.name in values and self.is_active(dimension.name, kept):
                kept[dimension.name] = values[dimension.name]
        return kept

    @property
    def default(self) -> dict[str, Value]:
        """The recommended configuration: the recommended value of each active dimension."""
        return self.active({d.name: d.value for d in self.dimensions})

    def contains(self, values: Mapping[str, Value]) -> bool:
        """Whether `values` is a complete configuration of this space."""
        if self.active(values).keys() != values.keys():
            return False
        needed = {d.name for d in self.dimensions if self.is_active(d.name, values)}
        return needed == values.keys() and all(
            self[name].range.contains(value) for name, value in values.items()
        )

    def sample(self, rng: random.Random, *, use_prior: bool = True) -> dict[str, Value]:
        """Draw one configuration, from the priors or evenly over the ranges."""
        return self.active(
            {d.name: d.draw(rng.random(), use_prior=use_prior) for d in self.dimensions}
        )
