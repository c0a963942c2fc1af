"""Column names: every column has one, and no two share it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# ours: names shown in a sentence before it says how many more there are.
SHOWN_NAMES = 5


def clean_names(raw: Iterable[object]) -> tuple[list[str], list[str]]:
    """Return usable column names and one warning for each kind of change.

    Args:
        raw: The names as found; empty ones become `column_1` and so on by position,
            repeated ones get a number behind them.

    Returns:
        The names, as many as given, and the warnings.
    """
    stripped = ["" if name is None else str(name).strip() for name in raw]
    taken = {name for name in stripped if name}
    seen: set[str] = set()
    names: list[str] = []
    renamed: list[str] = []
    for position, wanted in enumerate(stripped, start=1):
        name = wanted or _free(f"column_{position}", taken, start=2)
        if name in seen:
            name = _free(f"{wanted}_2", taken, start=3)
            renamed.append(f"`{wanted}` -> `{name}`")
        seen.add(name)
        taken.add(name)
        names.append(name)
    warnings = []
    if renamed:
        shown = ", ".join(renamed[:3]) + (", ..." if len(renamed) > 3 else "")
        warnings.append(f"{len(renamed)} repeated column name(s) were changed: {shown}.")
    return names, warnings


def _free(name: str, taken: set[str], *, start: int) -> str:
    """Return `name`, or it with the first number that makes it new."""
    stem = name.rsplit("_", 1)[0] if start > 2 else name
    number = start
    while name in taken:
        name = f"{stem}_{number}"
        number += 1
    return name


def listed(names: Sequence[object]) -> str:
    """Return names for a sentence: the first few, then how many more there are."""
    shown = ", ".join(f"`{name}`" for name in names[:SHOWN_NAMES])
    more = len(names) - SHOWN_NAMES
    return shown + (f" and {more} more" if more > 0 else "")
