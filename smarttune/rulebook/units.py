"""Units of numbers in rules: samples and features cannot be compared, their ratio can."""

from __future__ import annotations

from fractions import Fraction

Unit = tuple[tuple[str, Fraction], ...] | None  # None: a literal, which fits any unit


def parse_unit(text: str) -> Unit:
    """`samples/levels` as ((levels, -1), (samples, 1)); a plain number has the unit ()."""
    powers: dict[str, Fraction] = {}
    for i, part in enumerate(text.split("/") if text else []):
        powers[part] = powers.get(part, Fraction(0)) + (1 if i == 0 else -1)
    return tuple(sorted(powers.items()))


def combine(a: Unit, b: Unit, sign: int) -> Unit:
    """The unit of a product (`sign` 1) or a quotient (-1)."""
    if a is None and b is None:
        return None
    powers = dict(a or ())
    for name, power in b or ():
        powers[name] = powers.get(name, Fraction(0)) + sign * power
    return tuple(sorted((n, p) for n, p in powers.items() if p))


def unit_text(unit: Unit) -> str:
    """A unit as people write it."""
    over = [n for n, p in unit or () if p > 0]
    under = [n for n, p in unit or () if p < 0]
    return ("*".join(over) or "1") + ("/" + "/".join(under) if under else "") if unit else "a share"
