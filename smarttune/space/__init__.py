"""Hyperparameters, their ranges and priors, and the search space they form.

Knows no tuner and no framework. A range is a set of values with a scale; every
range maps onto the unit interval, where priors live, so that any sampler that
draws uniform numbers can be given a prior by passing its draws through
`Prior.quantile`.
"""

from smarttune.space.ranges import (
    Choice,
    Fixed,
    FloatRange,
    IntRange,
    Range,
    Value,
    canonical_order,
    meet,
    pow2_ceil,
    pow2_floor,
    pow2_round,
    show_value,
    simplest,
)
from smarttune.space.search_space import (
    Dimension,
    NormalPrior,
    Prior,
    SearchSpace,
    WeightsPrior,
)
from smarttune.space.vocabulary import HYPERPARAMETERS, HyperparameterDef

__all__ = [
    "HYPERPARAMETERS",
    "Choice",
    "Dimension",
    "Fixed",
    "FloatRange",
    "HyperparameterDef",
    "IntRange",
    "NormalPrior",
    "Prior",
    "Range",
    "SearchSpace",
    "Value",
    "WeightsPrior",
    "canonical_order",
    "meet",
    "pow2_ceil",
    "pow2_floor",
    "pow2_round",
    "show_value",
    "simplest",
]
