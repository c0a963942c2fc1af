"""Arithmetic of narrowing: a declared hyperparameter met with a recommended range.

What the user declared is never widened, and what he spelled out is kept: the values of
a choice and of a stepped range stay his, and only those outside the recommended bounds
go. A recommended scale (log, powers of two) shapes only ranges that he left free.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from smarttune.space import (
    Choice,
    Fixed,
    FloatRange,
    IntRange,
    Range,
    Value,
    meet,
    show_value,
    simplest,
)

Method = Literal["Int", "Float", "Choice", "Boolean", "Fixed"]


@dataclass(frozen=True)
class Declaration:
    """One call of `hp.Int`, `hp.Float`, `hp.Choice`, `hp.Boolean` or `hp.Fixed`.

    Args:
        method: Which of them.
        options: Its arguments without the name.
    """

    method: Method
    options: dict[str, Any] = field(default_factory=dict)

    def values(self) -> list[Value] | None:
        """Every allowed value where the user spelled them out, else None."""
        o = self.options
        if self.method == "Choice":
            return list(o["values"])
        if self.method == "Boolean":
            return [False, True]
        if self.method == "Fixed":
            return [o["value"]]
        if o.get("step") is None:
            return None
        return grid(
            o["min_value"],
            o["max_value"],
            step=o["step"],
            sampling=_sampling(o),
            whole=self.method == "Int",
        )

    def allows(self, value: Value) -> bool:
        """Whether `value` lies in the declared range, up to the last digits of a float."""
        listed = self.values()
        if listed is not None:
            return any(_near(value, v) for v in listed)
        low, high = self.options["min_value"], self.options["max_value"]
        return low <= value <= high or _near(value, low) or _near(value, high)

    def text(self) -> str:
        """The range in words."""
        listed = self.values()
        if self.method in ("Int", "Float"):
            scale = _sampling(self.options)
            note = "" if scale == "linear" else f" ({scale})"
            low, high = (show_value(v) for v in _ends(listed, self.options))
            return f"{low} to {high}{note}"
        return ", ".join(show_value(v) for v in listed or ())


def _ends(listed: list[Value] | None, options: dict[str, Any]) -> tuple[Value, Value]:
    if listed:
        return listed[0], listed[-1]
    return options["min_value"], options["max_value"]


def _sampling(options: dict[str, Any]) -> str:
    return str(options.get("sampling") or "linear").lower()


def _near(a: Value, b: Value) -> bool:
    if isinstance(a, str) or isinstance(b, str) or isinstance(a, bool) != isinstance(b, bool):
        return a == b
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


def grid(low: float, high: float, *, step: float, sampling: str, whole: bool) -> list[Value]:
    """The values of a stepped KerasTuner range, ascending.

    Args:
        low: Smallest value.
        high: Largest value, reached only if a step ends there.
        step: Added, or multiplied on a log scale.
        sampling: linear, log or reverse_log.
        whole: Whether the values are integers.
    """
    if sampling == "linear":
        count = int((high - low) // step + 1)
        values = [low + i * step for i in range(count)]
    else:
        count = int(math.log(high / low, step) + 1e-8) + 1
        values = [low * math.pow(step, i) for i in range(count)]
        if sampling == "reverse_log":
            values = [high + low - v for v in reversed(values)]
    return [int(v) if whole else float(v) for v in values]


def narrow_declaration(
    declared: Declaration, recommended: Range, value: Value
) -> Declaration | None:
    """Meet a declaration with a recommended range.

    Args:
        declared: What the user wrote.
        recommended: Range of the recommendation.
        value: Its value, which becomes the default where the meet allows it.

    Returns:
        The narrower declaration, or None if nothing would be left.
    """
    listed = declared.values()
    if listed is not None:
        allowed = _bounds_of(recommended)
        kept = [v for v in listed if allowed.contains(_plain(v, recommended))]
        return _of_values(declared, listed, kept, value) if kept else None
    return _of_free(declared, recommended, value)


def _bounds_of(range_: Range) -> Range:
    """The range without its scale: its values, or everything between its bounds."""
    if isinstance(range_, IntRange):
        return IntRange(low=range_.low, high=range_.high)
    return range_


def _plain(value: Value, recommended: Range) -> Value:
    """`value` in the kind of the recommendation where both write the same thing apart.

    A learning rate may be declared as the text "1e-3", a flag as 0 or 1.
    """
    if isinstance(value, str) and isinstance(recommended, (FloatRange, IntRange)):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _of_values(
    declared: Declaration, listed: Sequence[Value], kept: list[Value], value: Value
) -> Declaration:
    default = _default(declared, kept, value)
    if declared.method == "Fixed":
        return declared
    if len(kept) == 1:
        return Declaration("Fixed", {"value": kept[0]})
    if declared.method == "Boolean":
        return Declaration("Boolean", {"default": default})
    if declared.method == "Choice":
        return Declaration("Choice", {**declared.options, "values": kept, "default": default})
    first = next(i for i, v in enumerate(listed) if v == kept[0])
    contiguous = list(listed[first : first + len(kept)]) == kept
    stepped = {**declared.options, "min_value": kept[0], "max_value": kept[-1], "default": default}
    narrowed = Declaration(declared.method, stepped)
    if contiguous and _same_values(narrowed.values(), kept):
        return narrowed
    # Steps that no longer line up with their start are spelled out instead.
    return Declaration("Choice", {"values": kept, "ordered": True, "default": default})


def _same_values(a: list[Value] | None, b: list[Value]) -> bool:
    return (
        a is not None and len(a) == len(b) and all(_near(x, y) for x, y in zip(a, b, strict=True))
    )


def _default(declared: Declaration, kept: Sequence[Value], value: Value) -> Value:
    """The recommended value, else the user's default, else the nearest that is left."""
    for wanted in (value, declared.options.get("default")):
        for v in kept:
            if wanted is not None and _near(v, wanted):
                return v
    numbers = [v for v in kept if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if numbers and isinstance(value, (int, float)) and not isinstance(value, bool):
        return min(numbers, key=lambda v: abs(v - value))
    return kept[0]


def _of_free(declared: Declaration, recommended: Range, value: Value) -> Declaration | None:
    o, sampling = declared.options, _sampling(declared.options)
    whole = declared.method == "Int"
    scale = sampling if sampling == "log" else "linear"
    own: Range
    if whole:
        own = IntRange(low=int(o["min_value"]), high=int(o["max_value"]), sampling=scale)  # type: ignore[arg-type]
    else:
        own = FloatRange(low=o["min_value"], high=o["max_value"], sampling=scale)  # type: ignore[arg-type]
    met = meet(own, _as_float(recommended) if not whole else recommended)
    if met is None:
        return None
    met = simplest(met)
    kind = int if whole else float
    if isinstance(met, Fixed):
        return Declaration("Fixed", {"value": kind(met.value)})
    if isinstance(met, Choice):
        kept: list[Value] = [kind(v) for v in met.values]
        options = {"values": kept, "ordered": True, "default": _default(declared, kept, value)}
        return Declaration("Choice", options)
    # KerasTuner rounds integers of a reversed log scale below their lower bound.
    reverse = sampling == "reverse_log" and not whole
    narrowed: dict[str, Any] = {
        "min_value": met.low,
        "max_value": met.high,
        "sampling": sampling if reverse else _kt_sampling(met),
        "default": kind(met.clamp(value)),
    }
    if met.sampling == "power_of_two":
        narrowed |= {"step": 2, "sampling": "log"}
    if not met.contains(value) and o.get("default") is not None and met.contains(o["default"]):
        narrowed["default"] = o["default"]
    return Declaration(declared.method, narrowed)


def _kt_sampling(range_: IntRange | FloatRange) -> str:
    return "linear" if range_.sampling == "linear" else "log"


def _as_float(range_: Range) -> Range:
    """A recommended range of integers as seen by a hyperparameter declared as a float."""
    if not isinstance(range_, IntRange):
        return range_
    sampling: Literal["linear", "log"] = "linear" if range_.sampling == "linear" else "log"
    return FloatRange(low=float(range_.low), high=float(range_.high), sampling=sampling)
