"""PriorBand's draws: evenly, from the priors, or around the best configuration.

Source: Mallik et al. (2023), "PriorBand: Practical Hyperparameter Optimization in
the Age of Deep Learning", section 4, with the constants of the released
configuration `pb_mutation_dynamic_geometric-default-at-target`. Two differences:
densities of branches are compared over their active hyperparameters, and
resources are epochs really trained.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from smarttune.oracles import _domain, _positions, _reshaping
from smarttune.oracles._cube import Cube
from smarttune.oracles._domain import Values
from smarttune.oracles._lineages import Result
from smarttune.space import NormalPrior, Prior, WeightsPrior

# Standard deviation of a mutation and of the density around the best configuration, chance
# that a hyperparameter is mutated, attempts to get another configuration.
MUTATION_SPREAD = 0.25
MUTATION_RATE = 0.5
MUTATION_ATTEMPTS = 50

# Weight of the best configuration's choice where each other one weighs 1.
CHOICE_WEIGHT = 4.0


class Shares(NamedTuple):
    """How often each source is drawn from; they add up to 1."""

    even: float
    prior: float
    best: float


def shares(
    cube: Cube,
    priors: Mapping[str, Prior],
    *,
    rung: int,
    factor: int,
    top: Sequence[Result],
    best: Values | None,
) -> Shares:
    """Return the shares of the three sources.

    Args:
        cube: The space.
        priors: Where good values are expected.
        rung: The rung at which the configuration starts, from 0.
        factor: Hyperband's.
        top: The best results of the highest rung that has enough, best first; none if no
            rung has.
        best: The best configuration; None while too little is known to go by it.
    """
    even = 1.0 / (1.0 + factor**rung)
    guided = 1.0 - even
    if best is None:
        return Shares(even, guided, 0.0)
    if not top:
        return Shares(even, guided * factor / (1 + factor), guided / (1 + factor))
    points = cube.encode([result.values for result in top])
    weights = np.arange(len(top), 0, -1, dtype=float)
    by_prior = cube.log_prior(points, priors)
    by_best = cube.log_prior(points, around(cube, best))
    # Densities differ by orders of magnitude; only their ratio matters.
    level = max(by_prior.max(), by_best.max())
    of_prior = float(weights @ np.exp(by_prior - level))
    of_best = float(weights @ np.exp(by_best - level))
    share = of_best / (of_prior + of_best)
    return Shares(even, guided * (1 - share), guided * share)


def around(cube: Cube, values: Values) -> dict[str, Prior]:
    """Return the density around a configuration, in the form of priors."""
    found: dict[str, Prior] = {}
    row = cube.encode([values]).u[0]
    for column, name in enumerate(cube.names):
        if np.isnan(row[column]):
            continue
        if cube.categorical[column]:
            count = cube.num_choices(column)
            code = int(row[column])
            weights = tuple(CHOICE_WEIGHT if i == code else 1.0 for i in range(count))
            found[name] = WeightsPrior(weights=weights)
        else:
            found[name] = NormalPrior(center=float(row[column]), spread=MUTATION_SPREAD)
    return found


def mutation(
    space: Sequence[Any], values: Values, rng: random.Random, priors: Mapping[str, Prior]
) -> Values:
    """Return a configuration near `values`, different from it unless there is no other."""
    for _ in range(MUTATION_ATTEMPTS):
        mutant: Values = {}
        for hp in space:
            if hp.name in mutant or not _domain.is_active(hp, mutant):
                continue
            if hp.name not in values:  # a branch that the best configuration did not take
                mutant[hp.name] = _domain.draw(hp, rng.random(), priors.get(hp.name))
            elif rng.random() < MUTATION_RATE:
                mutant[hp.name] = _positions.mutated(
                    hp, values[hp.name], rng, spread=MUTATION_SPREAD
                )
            else:
                mutant[hp.name] = _reshaping.nearest(hp, values[hp.name])
        if mutant != values:
            return mutant
    return mutant
