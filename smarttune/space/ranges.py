"""Sets of values with a scale: what a hyperparameter may be.

Every range maps onto the unit interval, so that samplers and priors need not know
which kind of range they have before them.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from smarttune.errors import RangeError

Value = bool | int | float | str


class Frozen(BaseModel):
    """A value that never changes and refuses keys and types that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def same(a: Value, b: Value) -> bool:
    """Equality that keeps `True` and `1` apart."""
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def _range_error(text: str) -> RangeError:
    return RangeError(
        "range",
        received=text,
        expected="a range that holds at least one value",
        mend="Correct `low`, `high` or `values`.",
    )


class Fixed(Frozen):
    """Exactly one value."""

    type: Literal["fixed"] = "fixed"
    value: Value

    @property
    def num_values(self) -> float:
        """Always 1."""
        return 1

    def contains(self, value: Value) -> bool:
        """Whether `value` is the one value."""
        return same(self.value, value)

    def to_unit(self, value: Value) -> float:
        """The middle of the unit interval, whatever the value."""
        return 0.5

    def from_unit(self, u: float) -> Value:
        """The one value."""
        return self.value

    def clamp(self, value: Value) -> Value:
        """The one value."""
        return self.value

    def __str__(self) -> str:
        return show_value(self.value)


class Choice(Frozen):
    """One of several values, kept in a canonical order (numbers ascending, else by name)."""

    type: Literal["choice"] = "choice"
    values: tuple[Value, ...]

    @model_validator(mode="before")
    @classmethod
    def _in_canonical_order(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("values"), (list, tuple)):
            data = {**data, "values": canonical_order(data["values"])}
        return data

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.values:
            raise _range_error("a choice without values")
        return self

    @property
    def num_values(self) -> float:
        """How many values there are."""
        return len(self.values)

    def index(self, value: Value) -> int:
        """Position of `value`, -1 if it is not among the values."""
        return next((i for i, v in enumerate(self.values) if same(v, value)), -1)

    def contains(self, value: Value) -> bool:
        """Whether `value` is among the values."""
        return self.index(value) >= 0

    def to_unit(self, value: Value) -> float:
        """The middle of the value's bin."""
        return (self.index(value) + 0.5) / len(self.values)

    def from_unit(self, u: float) -> Value:
        """The value in whose bin `u` lies."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]

    def clamp(self, value: Value) -> Value:
        """`value`, or the nearest number, or the first value."""
        if self.contains(value):
            return value
        numbers = [(v, n) for v in self.values if (n := _number(v)) is not None]
        wanted = _number(value)
        if wanted is None or not numbers:
            return self.values[0]
        return min(numbers, key=lambda pair: abs(pair[1] - wanted))[0]

    def __str__(self) -> str:
        return "one of " + ", ".join(show_value(v) for v in self.values)


class FloatRange(Frozen):
    """All numbers between two bounds, both included."""

    type: Literal["float"] = "float"
    low: float
    high: float
    sampling: Literal["linear", "log"] = "linear"

    @model_validator(mode="before")
    @classmethod
    def _as_floats(cls, data: Any) -> Any:
        return _floats(data, ("low", "high"))

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not (math.isfinite(self.low) and math.isfinite(self.high)) or self.low > self.high:
            raise _range_error(
                f"low ({show_value(self.low)}) is above high ({show_value(self.high)})"
            )
        if self.sampling == "log" and self.low <= 0:
            raise _range_error(f"low ({show_value(self.low)}) is not above 0, as a log scale needs")
        return self

    @property
    def num_values(self) -> float:
        """Infinite, or 1 where the bounds meet."""
        return 1 if self.low == self.high else math.inf

    def contains(self, value: Value) -> bool:
        """Whether `value` is a number between the bounds."""
        number = _number(value)
        return number is not None and self.low <= number <= self.high

    def to_unit(self, value: Value) -> float:
        """Position of `value` between the bounds on the range's scale."""
        if self.low == self.high:
            return 0.5
        low, high, v = (self._scaled(x) for x in (self.low, self.high, float(value)))
        return min(1.0, max(0.0, (v - low) / (high - low)))

    def from_unit(self, u: float) -> Value:
        """The number at position `u`."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        v = low + u * (high - low)
        return min(self.high, max(self.low, math.exp(v) if self.sampling == "log" else v))

    def clamp(self, value: Value) -> Value:
        """The number of the range nearest to `value`."""
        number = _number(value)
        return self.from_unit(0.5) if number is None else min(self.high, max(self.low, number))

    def _scaled(self, value: float) -> float:
        return math.log(max(value, self.low)) if self.sampling == "log" else value

    def __str__(self) -> str:
        scale = " (log)" if self.sampling == "log" else ""
        return f"{show_value(self.low)} to {show_value(self.high)}{scale}"


class IntRange(Frozen):
    """All integers between two bounds, or only the powers of two among them."""

    type: Literal["int"] = "int"
    low: int
    high: int
    sampling: Literal["linear", "log", "power_of_two"] = "linear"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise _range_error(f"low ({self.low}) is above high ({self.high})")
        if self.sampling != "linear" and self.low < 1:
            raise _range_error(f"low ({self.low}) is below 1, which a {self.sampling} scale needs")
        if self.sampling == "power_of_two" and not (_is_pow2(self.low) and _is_pow2(self.high)):
            raise _range_error(f"{self.low} and {self.high} are not both powers of two")
        return self

    @property
    def num_values(self) -> float:
        """How many integers there are."""
        if self.sampling == "power_of_two":
            return self.high.bit_length() - self.low.bit_length() + 1
        return self.high - self.low + 1

    def contains(self, value: Value) -> bool:
        """Whether `value` is an integer of this range."""
        number = _number(value)
        if number is None or number != int(number) or not self.low <= number <= self.high:
            return False
        return self.sampling != "power_of_two" or _is_pow2(int(number))

    def to_unit(self, value: Value) -> float:
        """The middle of the value's bin on the range's scale."""
        low, high = self._edges()
        return min(1.0, max(0.0, (self._scaled(float(value)) - low) / (high - low)))

    def from_unit(self, u: float) -> Value:
        """The integer in whose bin `u` lies."""
        low, high = self._edges()
        v = low + u * (high - low)
        if self.sampling == "power_of_two":
            return int(min(self.high, max(self.low, 2 ** round(v))))
        return min(self.high, max(self.low, round(math.exp(v) if self.sampling == "log" else v)))

    def clamp(self, value: Value) -> Value:
        """The integer of the range nearest to `value`."""
        number = _number(value)
        if number is None:
            return self.from_unit(0.5)
        number = min(self.high, max(self.low, number))
        if self.sampling == "power_of_two":
            return pow2_round(number)
        return round(number)

    def _edges(self) -> tuple[float, float]:
        if self.sampling == "log":
            return math.log(self.low - 0.5), math.log(self.high + 0.5)
        return self._scaled(self.low) - 0.5, self._scaled(self.high) + 0.5

    def _scaled(self, value: float) -> float:
        if self.sampling == "linear":
            return value
        value = max(value, self.low)
        return math.log2(value) if self.sampling == "power_of_two" else math.log(value)

    def __str__(self) -> str:
        note = {"log": " (log)", "power_of_two": " (powers of two)", "linear": ""}[self.sampling]
        return f"{self.low} to {self.high}{note}"


Range = Annotated[FloatRange | IntRange | Choice | Fixed, Field(discriminator="type")]

_SCALES = ("linear", "log", "power_of_two")  # from the loosest to the most binding


def simplest(range_: Range) -> Range:
    """The same set of values in its simplest form: one value is `Fixed`."""
    if isinstance(range_, Fixed) or range_.num_values > 1:
        return range_
    return Fixed(value=range_.values[0] if isinstance(range_, Choice) else range_.low)


def meet(a: Range, b: Range) -> Range | None:
    """Return the values that both ranges allow, or None if there are none.

    Commutative, associative, idempotent (up to `simplest`) and never wider than
    either side. The more binding scale wins: power of two over log over linear.
    """
    for one, other in ((a, b), (b, a)):
        if isinstance(one, (Fixed, Choice)):
            values = one.values if isinstance(one, Choice) else (one.value,)
            kept = tuple(v for v in values if other.contains(v))
            return simplest(Choice(values=kept)) if kept else None
    assert not isinstance(a, (Fixed, Choice))
    assert not isinstance(b, (Fixed, Choice))
    low, high = max(a.low, b.low), min(a.high, b.high)
    sampling = max(a.sampling, b.sampling, key=_SCALES.index)
    if isinstance(a, IntRange) or isinstance(b, IntRange):
        return _int_range(low, high, sampling)
    if low > high:
        return None
    return simplest(FloatRange(low=low, high=high, sampling=sampling))  # type: ignore[arg-type]


def _int_range(low: float, high: float, sampling: str) -> Range | None:
    first, last = math.ceil(low), math.floor(high)
    if sampling == "power_of_two" and last >= 1:
        first, last = pow2_ceil(max(first, 1)), pow2_floor(last)
    if first > last:
        return None
    return simplest(IntRange(low=first, high=last, sampling=sampling))  # type: ignore[arg-type]


def _is_pow2(value: int) -> bool:
    return value >= 1 and value & (value - 1) == 0


def pow2_floor(value: float) -> int:
    """The largest power of two not above `value`; 1 for values below 1."""
    return 1 << max(0, math.floor(value).bit_length() - 1) if value >= 1 else 1


def pow2_ceil(value: float) -> int:
    """The smallest power of two not below `value`."""
    floor = pow2_floor(value)
    return floor if floor >= value else 2 * floor


def pow2_round(value: float) -> int:
    """The power of two nearest to `value` on a log scale."""
    return 1 << max(0, round(math.log2(value))) if value > 0 else 1


def canonical_order(values: Any) -> tuple[Value, ...]:
    """Distinct values, numbers ascending before the rest by name."""
    distinct: list[Value] = []
    for value in values:
        if not any(same(value, other) for other in distinct):
            distinct.append(value)
    return tuple(
        sorted(
            distinct,
            key=lambda v: (
                not isinstance(v, (int, float)),
                v if isinstance(v, (int, float)) else 0,
                str(v),
            ),
        )
    )


def _floats(data: Any, keys: tuple[str, ...]) -> Any:
    """Let integers stand where a strict model wants floats."""
    if not isinstance(data, dict):
        return data
    return {
        k: float(v) if k in keys and isinstance(v, int) and not isinstance(v, bool) else v
        for k, v in data.items()
    }


def show_value(value: Value) -> str:
    """A value as people write it: numbers with four digits, flags in lower case."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).lower() if isinstance(value, bool) else str(value)
