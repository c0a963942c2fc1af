"""Other ranges for hyperparameters that are being searched.

A search that learns from its trials moves, widens or cuts ranges on its way. Trials tried
before keep their values; models of past trials take them for the nearest value that is now
allowed (`nearest`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from keras_tuner.engine import hyperparameters as kt

from smarttune.errors import SettingError, did_you_mean
from smarttune.oracles import _domain
from smarttune.space import Choice, Dimension, Fixed, FloatRange, Value, simplest


def swap(hyperparameters: Any, dimension: Dimension) -> None:
    """Give a declared hyperparameter another range under its name and its conditions.

    Args:
        hyperparameters: A `keras_tuner.HyperParameters`; changed in place.
        dimension: The name, the range and the value that becomes the default.

    Raises:
        SettingError: If no such hyperparameter is declared.
    """
    space = hyperparameters._space  # noqa: SLF001 -- there is no public way in
    places = [i for i, hp in enumerate(space) if hp.name == dimension.name]
    if not places:
        raise SettingError(
            "reshape",
            received=f"`{dimension.name}` is not a hyperparameter of the space",
            expected="the name of a declared hyperparameter",
            mend="Reshape only what the model declares."
            + did_you_mean(dimension.name, [hp.name for hp in space]),
        )
    for i in places:
        space[i] = _hyperparameter(dimension, space[i].conditions)
    hyperparameters._hps[dimension.name] = [space[i] for i in places]  # noqa: SLF001
    if dimension.name in hyperparameters.values:
        hyperparameters.values[dimension.name] = space[places[0]].default


def nearest(hp: Any, value: Value) -> Value:
    """Return `value`, or where it is not allowed (any more) the nearest that is.

    A choice that no longer holds a name has nothing near it; its default stands in.
    """
    if _domain.is_discrete(hp):
        range_: Any = Choice(values=tuple(hp.values))
        if range_.contains(value):
            return value
        numbers = not isinstance(value, (str, bool)) and not isinstance(hp.default, (str, bool))
        clamped: Value = range_.clamp(value) if numbers else hp.default
        return clamped
    if isinstance(value, (str, bool)) or not math.isfinite(value):
        default: Value = hp.default
        return default
    return _domain.fit(hp, min(hp.max_value, max(hp.min_value, value)))


def moved(values: Mapping[str, Value], space: list[Any], names: set[str]) -> dict[str, Value]:
    """A configuration whose values of the named hyperparameters are allowed in `space`."""
    by_name = {hp.name: hp for hp in space if hp.name in names}
    return {n: nearest(by_name[n], v) if n in by_name else v for n, v in values.items()}


def _hyperparameter(dimension: Dimension, conditions: Any) -> Any:
    range_, name = simplest(dimension.range), dimension.name
    default = range_.clamp(dimension.value)
    if isinstance(range_, Fixed):
        return kt.Fixed(name, range_.value, conditions=conditions)
    if isinstance(range_, Choice):
        if all(isinstance(v, bool) for v in range_.values):
            return kt.Boolean(name, default=default, conditions=conditions)
        return kt.Choice(name, list(range_.values), default=default, conditions=conditions)
    bounds: dict[str, Any] = {
        "min_value": range_.low,
        "max_value": range_.high,
        "default": default,
        "conditions": conditions,
    }
    if isinstance(range_, FloatRange):
        return kt.Float(name, **bounds, sampling=range_.sampling)
    if range_.sampling == "power_of_two":
        return kt.Int(name, **bounds, step=2, sampling="log")
    return kt.Int(name, **bounds, sampling=range_.sampling)
