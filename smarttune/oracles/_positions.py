"""Single values as positions on the unit interval, and steps from one to another.

The positions are those of `smarttune.oracles._domain.draw`: scales as declared,
each of finitely many values in the middle of its bin. Whole configurations as
arrays, for models, are in `_cube`.
"""

from __future__ import annotations

import math
import random
from typing import Any

from smarttune.oracles import _domain
from smarttune.space import Prior, Value

# Where `draw` ends; the position 1 itself belongs to no value.
_LAST = math.nextafter(1.0, 0.0)


def key(hp: Any) -> str:
    """Return a name that differs where one name has several ranges under several conditions."""
    conditions = ",".join(f"{c.name}={c.values}" for c in hp.conditions)
    return f"{hp.name}|{conditions}" if conditions else str(hp.name)


def is_unordered(hp: Any) -> bool:
    """Whether the values of `hp` have no order, so that none lies between two others."""
    return _domain.is_discrete(hp) and not getattr(hp, "ordered", False)


def allows(hp: Any, value: Value) -> bool:
    """Whether `value` is one of `hp`, whose range may have changed since it was drawn."""
    if _domain.is_discrete(hp):
        return _domain.index_of(hp, value) >= 0
    if isinstance(value, (bool, str)):
        return False
    return bool(hp.min_value <= value <= hp.max_value)


def position(hp: Any, value: Value) -> float:
    """Return where an allowed `value` lies, from 0 to below 1; `draw` leads back to it."""
    if _domain.is_discrete(hp) or hp.step is not None or hp.min_value == hp.max_value:
        return (_domain.index_of(hp, value) + 0.5) / _domain.num_values(hp)
    return min(_LAST, max(0.0, float(hp.value_to_prob(value))))


def reflected(u: float) -> float:
    """Return `u` folded back into the unit interval at both ends."""
    folded = abs(u) % 2
    return min(_LAST, 2 - folded if folded > 1 else folded)


def mutated(
    hp: Any, value: Value, rng: random.Random, *, spread: float, prior: Prior | None = None
) -> Value:
    """Return another value of `hp`; the same one only if it has no other.

    Args:
        hp: A KerasTuner hyperparameter.
        value: The value to step away from; if `hp` does not allow it any more, a new
            one is drawn.
        rng: The generator to draw from.
        spread: Standard deviation of the step of a number on the unit interval; a step
            over an end is reflected there.
        prior: Where a new value is drawn from.
    """
    if not allows(hp, value):
        return _domain.draw(hp, rng.random(), prior)
    count = _domain.num_values(hp)
    if count == 1:
        return value
    if is_unordered(hp):
        return _domain.value_at(
            hp, (_domain.index_of(hp, value) + rng.randrange(1, int(count))) % int(count)
        )
    moved = _domain.draw(hp, reflected(position(hp, value) + rng.gauss(0, spread)))
    if moved != value or math.isinf(count):
        return moved
    return _neighbour(hp, value, rng)


def _neighbour(hp: Any, value: Value, rng: random.Random) -> Value:
    """Return the next value up or down of a finite range."""
    last = int(_domain.num_values(hp)) - 1
    index = _domain.index_of(hp, value)
    step = rng.choice((-1, 1))
    return _domain.value_at(hp, index + step if 0 <= index + step <= last else index - step)
