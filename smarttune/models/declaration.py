"""Our search space, declared on a KerasTuner `HyperParameters`.

The one place where a `SearchSpace` becomes `hp.Float`, `hp.Int`, `hp.Choice`,
`hp.Boolean` and `hp.Fixed`; every built-in model family goes through it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from keras_tuner.src.engine import conditions as conditions_module

from smarttune.errors import RangeError
from smarttune.space import Choice, Dimension, Fixed, FloatRange, SearchSpace, Value, simplest

# Relative; a float carries 16 digits and one power and one product may cost the last two.
_ROUNDING = 1e-12


def declare(hp: Any, space: SearchSpace, names: Iterable[str] | None = None) -> dict[str, Value]:
    """Declare the dimensions of `space` on `hp` and return the active values.

    The recommended value of each dimension is its default, so that KerasTuner's
    first trial is the recommendation. A condition on a hyperparameter that is not
    declared is decided by that hyperparameter's recommended value; a dimension
    whose condition can never hold is not declared at all.

    Args:
        hp: A `keras_tuner.HyperParameters`, or anything that stands for one.
        space: The space to declare, parents before children.
        names: Declare only these dimensions; None declares all of them.

    Returns:
        Name to value for every declared dimension that is active in `hp`.

    Raises:
        RangeError: If a choice mixes numbers with text or flags, which KerasTuner
            cannot hold.
    """
    wanted = set(space.by_name if names is None else names)
    declared: dict[str, Dimension] = {}
    chains: dict[str, dict[str, list[Value]]] = {}
    values: dict[str, Value] = {}
    for dimension in space.dimensions:
        if dimension.name not in wanted:
            continue
        conditions = _conditions(dimension, space, declared)
        if conditions is None:
            continue
        declared[dimension.name] = dimension
        # A grandparent's condition is repeated: KerasTuner activates each chain by itself.
        chain = {k: v for parent in conditions for k, v in chains[parent].items()} | conditions
        chains[dimension.name] = chain
        with ExitStack() as scopes:
            for parent, allowed in chain.items():
                scopes.enter_context(_scope(hp, parent, allowed))
            value = _declare_one(hp, dimension)
        if value is not None:
            values[dimension.name] = _within(dimension, value)
    return values


def _conditions(
    dimension: Dimension, space: SearchSpace, declared: Mapping[str, Dimension]
) -> dict[str, list[Value]] | None:
    """The conditions left to KerasTuner, or None where they can never hold."""
    left: dict[str, list[Value]] = {}
    for parent, allowed in dimension.active_when.items():
        if parent in declared:
            possible = [v for v in allowed if declared[parent].range.contains(v)]
            if not possible:
                return None
            left[parent] = possible
        elif parent not in space.by_name or not Choice(values=allowed).contains(
            space[parent].value
        ):
            return None
    return left


@contextmanager
def _scope(hp: Any, parent: str, allowed: list[Value]) -> Iterator[None]:
    """`hp.conditional_scope` for any declared parent.

    KerasTuner's own wants the parent to be declared under the very conditions that are
    open now, so it cannot nest two hyperparameters that do not depend on each other.
    """
    open_conditions: list[Any] = hp._conditions  # noqa: SLF001 -- there is no public way in
    condition = conditions_module.Parent(hp._get_name(parent), allowed)  # noqa: SLF001
    open_conditions.append(condition)
    reached = condition.is_active(hp.values)
    (hp.active_scopes if reached else hp.inactive_scopes).append(list(open_conditions))
    try:
        yield
    finally:
        open_conditions.pop()


def _within(dimension: Dimension, value: Value) -> Value:
    """Undo the last-digit rounding with which KerasTuner may step over a float's edge."""
    if not isinstance(dimension.range, FloatRange) or isinstance(value, str):
        return value
    clamped = float(dimension.range.clamp(value))
    return clamped if math.isclose(clamped, value, rel_tol=_ROUNDING) else value


def _declare_one(hp: Any, dimension: Dimension) -> Value | None:
    range_, name = simplest(dimension.range), dimension.name
    default = range_.clamp(dimension.value)
    if isinstance(range_, Fixed):
        return hp.Fixed(name, range_.value)  # type: ignore[no-any-return]
    if isinstance(range_, Choice):
        return _declare_choice(hp, name, range_, default)
    bounds = {"min_value": range_.low, "max_value": range_.high, "default": default}
    if isinstance(range_, FloatRange):
        return hp.Float(name, **bounds, sampling=range_.sampling)  # type: ignore[no-any-return]
    if range_.sampling == "power_of_two":
        return hp.Int(name, **bounds, step=2, sampling="log")  # type: ignore[no-any-return]
    return hp.Int(name, **bounds, sampling=range_.sampling)  # type: ignore[no-any-return]


def _declare_choice(hp: Any, name: str, choice: Choice, default: Value) -> Value | None:
    types = {type(v) for v in choice.values}
    if types == {bool}:  # KerasTuner would turn a choice of flags into 0 and 1
        return hp.Boolean(name, default=default)  # type: ignore[no-any-return]
    values: list[Value] = list(choice.values)
    if types == {int, float}:
        values, default = [float(v) for v in values], float(default)
    elif len(types) > 1:
        raise RangeError(
            name,
            received=f"a choice of {choice}, which mixes kinds of values",
            expected="values of one kind: numbers, or names, or flags",
            mend="Give all values of the choice in one kind.",
        )
    return hp.Choice(name, values, default=default)  # type: ignore[no-any-return]
