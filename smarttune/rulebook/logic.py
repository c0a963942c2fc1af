"""Three-valued evaluation: true, false, or unknown and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from smarttune.space import Value

MAX_NUMBER = 1e18  # ours: far beyond any sensible rule, so that a hostile pack fails fast


@dataclass(frozen=True)
class Unknown:
    """The third truth value: what would have to be known, or why there is no value."""

    missing: frozenset[str] = frozenset()
    reason: str = ""

    def __or__(self, other: Unknown) -> Unknown:
        return Unknown(self.missing | other.missing, self.reason or other.reason)


Result = bool | int | float | str | tuple[Any, ...] | Unknown
Names = Mapping[str, Value]
Evaluate = Callable[[Names], Any]


def strict(function: Callable[..., Any], runs: list[Evaluate]) -> Evaluate:
    """Apply `function` to known operands; any unknown one makes the result unknown."""

    def run(names: Names) -> Any:
        values = [evaluate(names) for evaluate in runs]
        for value in values:
            if type(value) is Unknown:
                return _joined(values)
        try:
            result = function(*values)
        except (ZeroDivisionError, ValueError, OverflowError) as error:
            return Unknown(reason=f"it has no value here ({error})")
        if isinstance(result, (int, float)) and not abs(result) <= MAX_NUMBER:
            return Unknown(reason="its value is too large")
        return result

    return run


def compared(test: Callable[[Any, Any], bool], left: Evaluate, right: Evaluate) -> Evaluate:
    """Compare two operands of one type, which cannot fail."""

    def run(names: Names) -> bool | Unknown:
        a, b = left(names), right(names)
        if type(a) is Unknown or type(b) is Unknown:
            return _joined([a, b])
        return test(a, b)

    return run


def compared_name(test: Callable[[Any, Any], bool], name: str, value: Any) -> Evaluate:
    """Compare what is known under a name with a literal: most conditions are of this form."""
    missing = Unknown(frozenset({name}))

    def run(names: Names) -> bool | Unknown:
        known = names.get(name, missing)
        return missing if type(known) is Unknown else test(known, value)

    return run


def _joined(values: list[Any]) -> Unknown:
    """Everything that is missing among some operands of which one is unknown."""
    unknown = [value for value in values if isinstance(value, Unknown)]
    return reduce(or_, unknown)


def all_hold(tests: list[Evaluate]) -> Evaluate:
    """Kleene's and: false if any test is, else unknown if any is."""

    def run(names: Names) -> bool | Unknown:
        unknown: Unknown | None = None
        for test in tests:
            value = test(names)
            if isinstance(value, Unknown):
                unknown = value if unknown is None else unknown | value
            elif not value:
                return False
        return True if unknown is None else unknown

    return run
