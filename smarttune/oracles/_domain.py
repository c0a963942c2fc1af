"""KerasTuner's hyperparameters as sets of values: draw, enumerate, check, compare.

Works on `keras_tuner` hyperparameter objects (`Any` here: KerasTuner has no
types). KerasTuner's own walk loses the last value of a float range whose step
does not divide it exactly in binary (0 to 1 in steps of 0.1 ends at 0.9), and
its `ensure_active_values` drops an active value whose name is inactive in a
sister scope; both are mended here.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from keras_tuner.engine import hyperparameters as kt

from smarttune.errors import OptionError, SettingError, did_you_mean
from smarttune.space import Prior, Value, WeightsPrior, canonical_order

Values = dict[str, Value]

# KerasTuner's prefix for what an oracle tells the tuner; never part of a configuration.
CONTROL = "tuner/"

# ours: relative slack for the rounding of bounds and steps, far above one float64 ulp.
_SLACK = 1e-9

# ours: up to so many configurations a space is listed to find those not tried yet; for four
# hyperparameters that took 0.02 s of processor time.
LISTABLE = 5000


def is_active(hp: Any, values: Mapping[str, Value]) -> bool:
    """Whether all conditions of `hp` hold among `values`."""
    return all(condition.is_active(values) for condition in hp.conditions)


def configuration(values: Mapping[str, Value]) -> Values:
    """Return `values` without what steers the tuner."""
    return {name: value for name, value in values.items() if not name.startswith(CONTROL)}


def fingerprint(values: Mapping[str, Value]) -> str:
    """Return a digest that equal configurations share, whatever epochs they get."""
    text = repr(sorted(configuration(values).items()))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def is_discrete(hp: Any) -> bool:
    """Whether `hp` is a choice among listed values."""
    return not isinstance(hp, (kt.Int, kt.Float))


def num_values(hp: Any) -> float:
    """Return how many values `hp` has; infinite for a float range without a step."""
    if is_discrete(hp):
        return len(canonical_order(hp.values))
    if hp.min_value == hp.max_value:
        return 1
    if hp.step is None:
        return int(hp.max_value - hp.min_value) + 1 if isinstance(hp, kt.Int) else math.inf
    steps: float
    if hp.sampling == "linear":
        steps = (hp.max_value - hp.min_value) / hp.step
    else:
        steps = math.log(hp.max_value / hp.min_value, hp.step)
    return math.floor(steps + _SLACK) + 1


def value_at(hp: Any, index: int) -> Value:
    """Return the value number `index`, from 0, of a hyperparameter with finitely many.

    Choices are counted in canonical order, ranges from their lower end.
    """
    if is_discrete(hp):
        return canonical_order(hp.values)[index]
    if hp.step is None:
        return int(hp.min_value + index) if isinstance(hp, kt.Int) else float(hp.min_value)
    if hp.sampling == "linear":
        value = hp.min_value + index * hp.step
    elif hp.sampling == "log":
        value = hp.min_value * hp.step**index
    else:  # reverse_log: dense at the upper end
        value = hp.max_value + hp.min_value - hp.min_value * hp.step**index
    return _typed(hp, value)


def index_of(hp: Any, value: Value) -> int:
    """Return the number of the value nearest to `value`; the inverse of `value_at`."""
    if is_discrete(hp):
        return _find(canonical_order(hp.values), value)
    index: float
    if hp.step is None or hp.min_value == hp.max_value:
        index = float(value) - hp.min_value
    elif hp.sampling == "linear":
        index = (float(value) - hp.min_value) / hp.step
    elif hp.sampling == "log":
        index = math.log(float(value) / hp.min_value, hp.step)
    else:
        index = math.log((hp.max_value + hp.min_value - float(value)) / hp.min_value, hp.step)
    return min(int(num_values(hp)) - 1, max(0, round(index)))


def draw(hp: Any, u: float, prior: Prior | None = None) -> Value:
    """Return the value that the uniform draw `u` stands for.

    Args:
        hp: A KerasTuner hyperparameter.
        u: A number from 0 (included) to 1 (excluded).
        prior: Where good values are expected; its positions are those of
            `smarttune.space`, in which choices stand in canonical order.

    Raises:
        OptionError: If the prior has a weight too many or too few.
    """
    if prior is not None:
        if isinstance(prior, WeightsPrior):
            _check_weights(hp, prior)
        u = prior.quantile(u)
    if is_discrete(hp) or hp.step is not None or hp.min_value == hp.max_value:
        count = int(num_values(hp))
        return value_at(hp, min(count - 1, int(u * count)))
    return _typed(hp, hp.prob_to_value(u))


def fit(hp: Any, value: Value) -> Value:
    """Return `value` as a value of `hp`, moved to the nearest step.

    Raises:
        SettingError: If it is not one of the choices or outside the range.
    """
    if is_discrete(hp):
        known = canonical_order(hp.values)
        index = _find(known, value)
        if index < 0:
            raise _not_allowed(hp, value, "one of " + ", ".join(str(v) for v in known))
        return known[index]
    expected = f"a number from {hp.min_value:g} to {hp.max_value:g}"
    if isinstance(value, (bool, str)) or not math.isfinite(value):
        raise _not_allowed(hp, value, expected)
    slack = _SLACK * max(abs(hp.min_value), abs(hp.max_value))
    if not hp.min_value - slack <= value <= hp.max_value + slack:
        raise _not_allowed(hp, value, expected)
    if hp.step is not None:
        return value_at(hp, index_of(hp, value))
    return _typed(hp, round(value) if isinstance(hp, kt.Int) else value)


def levels(hp: Any, count: int) -> list[Value]:
    """Return every value of `hp`, or `count` spread over its range if it has no steps.

    A range of integers on a log scale counts as one without steps. The default
    comes first where it is among them.
    """
    if num_values(hp) <= count or is_discrete(hp) or hp.step is not None:
        found = [value_at(hp, i) for i in range(int(num_values(hp)))]
    else:
        found = []
        for i in range(count):
            value = _typed(hp, hp.prob_to_value(i / (count - 1) if count > 1 else 0.5))
            if value not in found:
                found.append(value)
    first = _find(found, hp.default)
    return [found[first], *found[:first], *found[first + 1 :]] if first > 0 else found


def all_values(hp: Any, most: int) -> list[Value] | None:
    """Return every value of `hp`, or None if there are more than `most`."""
    count = num_values(hp)
    return [value_at(hp, i) for i in range(int(count))] if count <= most else None


def configurations(
    space: Sequence[Any], values_of: Callable[[Any], Sequence[Value]]
) -> Iterator[Values]:
    """Yield every configuration, the last hyperparameter changing fastest.

    Args:
        space: Hyperparameters, parents before those that depend on them.
        values_of: Returns the values to walk through for one of them.
    """

    def walk(position: int, values: Values) -> Iterator[Values]:
        if position == len(space):
            yield dict(values)
            return
        hp = space[position]
        if hp.name in values or not is_active(hp, values):
            yield from walk(position + 1, values)
            return
        for value in values_of(hp):
            yield from walk(position + 1, {**values, hp.name: value})

    return walk(0, {})


def untried(space: Sequence[Any], is_tried: Callable[[Values], bool]) -> list[Values]:
    """Return all configurations not tried yet; none if the space is too large to list."""
    lists = {id(hp): all_values(hp, LISTABLE) for hp in space}
    if any(values is None for values in lists.values()):
        return []
    every = configurations(space, lambda hp: lists[id(hp)] or [])
    found = list(itertools.islice(every, LISTABLE + 1))
    return [v for v in found if not is_tried(v)] if len(found) <= LISTABLE else []


def complete(space: Sequence[Any], wanted: Mapping[str, Value], *, allow_unknown: bool) -> Values:
    """Return the active values of a configuration that may name only some of them.

    Args:
        space: Hyperparameters, parents before those that depend on them.
        wanted: Values by name; what they leave out gets its default.
        allow_unknown: Whether names outside the space are kept, for a model that may yet
            declare them.

    Raises:
        SettingError: If a value is not allowed, or a name is unknown and may not be.
    """
    values: Values = {}
    for hp in space:
        if hp.name not in values and is_active(hp, values):
            values[hp.name] = fit(hp, wanted[hp.name]) if hp.name in wanted else hp.default
    known = [hp.name for hp in space]
    for name in [n for n in wanted if n not in known]:
        received = f"`{name}` is not a hyperparameter of the space"
        if not allow_unknown:
            raise SettingError(
                "initial_trials",
                received=received,
                expected="names of declared hyperparameters",
                mend=f"Correct the name or leave it out.{did_you_mean(name, known)}",
            )
        if known:
            kept = "it holds if the model declares it later."
            warnings.warn(f"initial_trials: {received}; {kept}", stacklevel=2)
        values[name] = wanted[name]
    return values


def settle(hyperparameters: Any) -> None:
    """Leave only active values in `hyperparameters`, and give missing ones their default."""
    values = hyperparameters.values
    names = {hp.name for hp in hyperparameters.space}
    others = {name: value for name, value in values.items() if name not in names}
    kept: Values = {}
    for hp in hyperparameters.space:
        if hp.name not in kept and is_active(hp, {**others, **kept}):
            kept[hp.name] = values.get(hp.name, hp.default)
    hyperparameters.values = {**kept, **others}


def _typed(hp: Any, value: float) -> Value:
    """Return `value` inside the bounds of a range and in its type."""
    if isinstance(hp, kt.Int):
        # Truncated like KerasTuner's own draw, once rounding errors are out of the way.
        return min(hp.max_value, max(hp.min_value, math.floor(value + _SLACK)))  # type: ignore[no-any-return]
    return min(hp.max_value, max(hp.min_value, float(value)))  # type: ignore[no-any-return]


def _find(values: Sequence[Value], value: Value) -> int:
    """Position of `value`, -1 if absent; `True` and `1` are two values."""
    return next(
        (
            i
            for i, v in enumerate(values)
            if isinstance(v, bool) == isinstance(value, bool) and v == value
        ),
        -1,
    )


def _check_weights(hp: Any, prior: WeightsPrior) -> None:
    if len(prior.weights) != num_values(hp):
        raise OptionError(
            "priors",
            received=f"the prior of `{hp.name}` has {len(prior.weights)} weights",
            expected=f"one weight for each of its {num_values(hp):g} values",
            mend="Give one weight per value, numbers ascending and names in alphabetical order.",
        )


def _not_allowed(hp: Any, value: Value, expected: str) -> SettingError:
    return SettingError(
        "initial_trials",
        received=f"`{hp.name}` is {value!r}",
        expected=expected,
        mend="Correct the value, or widen the range of the hyperparameter.",
    )
