"""Steps of series that come twice, out of order, or not at all: mended, counted or refused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from smarttune.data.names import SHOWN_NAMES, listed
from smarttune.data.timesteps import Stamps, Steps, shown
from smarttune.errors import DataError

Values = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

# ours: clock changes and repeated exports leave a few double stamps; more are several series.
MAX_REPEATED = 0.01
# ours: a straight line over more steps than this, or for more than this share of a variable,
# would invent the series rather than mend it.
LONGEST_GAP, MAX_FILLED = 24, 0.1


def sorted_by_time(stamps: Stamps, owner: Steps, *, has_time: bool) -> tuple[Steps, list[str]]:
    """The order of rows by series, then time, and a note where it is not theirs."""
    order = np.lexsort((stamps, owner))
    moved = int((np.diff(order) < 0).sum())
    if not moved or not has_time or not _unsorted(stamps, owner):
        return order, []
    return order, ["Rows were not in the order of time; they were sorted."]


def _unsorted(stamps: Stamps, owner: Steps) -> bool:
    """Whether time runs backwards inside a series; series that alternate are no disorder."""
    by_owner = np.argsort(owner, kind="stable")
    stamps, owner = stamps[by_owner], owner[by_owner]
    return bool(((stamps[1:] < stamps[:-1]) & (owner[1:] == owner[:-1])).any())


def one_row_per_step(
    values: Values, stamps: Stamps, owner: Steps, *, labels: Sequence[str], where: str
) -> tuple[Values, Stamps, Steps, list[str]]:
    """Join rows of one series with the same stamp.

    Args:
        values: Shape (rows, variables), sorted by series and time like the others.
        stamps: Times.
        owner: Number of the series of each row.
        labels: Names of the series.
        where: The source, for errors.

    Returns:
        Values, stamps, first rows of the series with the number of rows at the end, and notes.

    Raises:
        DataError: If more than 1 % of the rows repeat a stamp with other values.
    """
    same = (stamps[1:] == stamps[:-1]) & (owner[1:] == owner[:-1])
    first = np.append(True, ~same)
    notes: list[str] = []
    if same.any():
        again = np.flatnonzero(same) + 1
        equal = (
            (values[again] == values[again - 1])
            | (np.isnan(values[again]) & np.isnan(values[again - 1]))
        ).all(axis=1)
        differing = int((~equal).sum())
        places = ", ".join(
            shown(stamps[r]) + (f" in `{labels[owner[r]]}`" if len(labels) > 1 else "")
            for r in again[:SHOWN_NAMES]
        )
        if differing > MAX_REPEATED * len(stamps):
            raise DataError(
                where,
                received=f"{len(again):,} row(s) repeat a time stamp with other values: {places}",
                expected="one row per step of a series",
                mend="If the table holds several series, name the column that tells them apart "
                "(--series-column); else join the rows first.",
            )
        values = _averaged(values, first)
        notes.append(f"{len(again):,} row(s) repeat a time stamp and were averaged: {places}.")
    stamps, owner = stamps[first], owner[first]
    starts = np.searchsorted(owner, np.arange(len(labels) + 1))
    return values, stamps, starts, notes


def _averaged(values: Values, first: Flags) -> Values:
    """The mean over each run of rows that begins where `first` is true, missing cells aside."""
    runs = np.flatnonzero(first)
    known = ~np.isnan(values)
    sums = np.add.reduceat(np.where(known, values, 0).astype(np.float64), runs)
    counts = np.add.reduceat(known.astype(np.int64), runs)
    means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return np.asarray(means, dtype=np.float32)


def whole_grid(
    values: Values, starts: Steps, places: Steps, *, stamps: Stamps, where: str
) -> tuple[Values, Steps, Steps, Flags]:
    """Give every place of the grid between the ends of a series a row.

    Returns:
        Values with NaN in new rows, first rows, places, and which rows are new.

    Raises:
        DataError: If a gap is too long to be filled.
    """
    skipped = np.diff(places, prepend=places[:1]) - 1
    skipped[starts[:-1][np.diff(starts) > 0]] = 0
    if skipped.max(initial=0) > LONGEST_GAP:
        row = int(skipped.argmax())
        raise DataError(
            where,
            received=f"{skipped[row]:,} steps are absent between {shown(stamps[row - 1])} and "
            f"{shown(stamps[row])}",
            expected=f"gaps of at most {LONGEST_GAP} steps",
            mend="Use the part after the gap, or fill it by what you know.",
        )
    if not skipped.any():
        return values, starts, places, np.zeros(len(values), dtype=bool)
    shift = np.cumsum(skipped)
    rows = np.arange(len(values)) + shift
    total = int(rows[-1]) + 1
    whole = np.full((total, values.shape[1]), np.nan, dtype=np.float32)
    whole[rows] = values
    inserted = np.ones(total, dtype=bool)
    inserted[rows] = False
    new_starts = np.append(rows[starts[:-1]], total)
    owner = np.repeat(np.arange(len(starts) - 1), np.diff(new_starts))
    within = np.arange(total) - new_starts[owner]
    return whole, new_starts, places[starts[:-1]][owner] + within, inserted


def filled(
    values: Values,
    starts: Steps,
    inserted: Flags,
    *,
    names: Sequence[str],
    num_targets: int,
    labels: Sequence[str],
    where: str,
) -> tuple[Values, Steps, list[str]]:
    """Fill missing cells along straight lines; ends without a target are cut off.

    Args:
        values: Shape (steps, variables), NaN where missing; targets first.
        starts: First row of each series, and the number of rows at the end.
        inserted: Rows that the source does not have.
        names: The variables.
        num_targets: How many of them are to be forecast.
        labels: Names of the series.
        where: The source, for errors.

    Returns:
        The steps that are kept, without NaN; their row numbers; notes.

    Raises:
        DataError: If a gap is too long or too much is missing.
    """
    missing = np.isnan(values)
    if not missing.any():
        return values, np.arange(len(values)), []
    kept = np.ones(len(values), dtype=bool)
    values = values.copy()
    holes: list[str] = []
    for i, label in enumerate(labels):
        rows = slice(int(starts[i]), int(starts[i + 1]))
        if not missing[rows].any():
            continue
        known = ~missing[rows, : max(1, num_targets)].any(axis=1)
        ends = np.flatnonzero(known)
        if len(ends) == 0:
            kept[rows] = False
            continue
        kept[rows.start : rows.start + ends[0]] = False
        kept[rows.start + ends[-1] + 1 : rows.stop] = False
        inner = slice(rows.start + int(ends[0]), rows.start + int(ends[-1]) + 1)
        for j, name in enumerate(names):
            if not missing[inner, j].any():
                continue
            what = name + (f" of series {label}" if len(labels) > 1 else "")
            if (missing[inner, j] & ~inserted[inner]).any():
                holes.append(what)
            _draw_lines(values[inner, j], f"`{what}`", is_target=j < num_targets, where=where)
    if not kept.any():
        raise DataError(
            where,
            received=f"no step has a value of {listed(list(names[: max(1, num_targets)]))}",
            expected="numbers to learn from",
            mend="Check the column.",
        )
    return values[kept], np.flatnonzero(kept), _notes(missing, inserted, kept, holes)


def _draw_lines(column: Values, what: str, *, is_target: bool, where: str) -> None:
    """Fill one variable of one series in place; beyond its ends with the nearest value.

    A covariate that is missing as a whole becomes 0.
    """
    missing = np.isnan(column)
    if missing.all():
        column[:] = 0.0
        return
    edges = np.flatnonzero(np.diff(np.concatenate([[False], missing, [False]]).astype(np.int8)))
    longest = int((edges[1::2] - edges[::2]).max())
    if is_target and (longest > LONGEST_GAP or missing.mean() > MAX_FILLED):
        first = int(edges[0])
        raise DataError(
            where,
            received=f"{int(missing.sum()):,} of {len(column):,} steps are missing in {what}, up to "
            f"{longest:,} in a row, the first after {first:,} steps",
            expected=f"gaps of at most {LONGEST_GAP} steps and {MAX_FILLED:.0%} of the series",
            mend="Use the part after the longest gap, or fill the gaps by what you know.",
        )
    steps = np.arange(len(column))
    column[missing] = np.interp(steps[missing], steps[~missing], column[~missing])


def _notes(missing: Flags, inserted: Flags, kept: Flags, holes: Sequence[str]) -> list[str]:
    notes = []
    absent = int((inserted & kept).sum())
    if absent:
        notes.append(f"{absent:,} step(s) were absent from the grid and filled along a line.")
    cells = int((missing[kept].sum(axis=1) * ~inserted[kept]).sum())
    if cells:
        notes.append(f"{cells:,} missing cell(s) were filled along a line, in {listed(holes)}.")
    cut = int((~kept & ~inserted).sum())
    if cut:
        notes.append(f"{cut:,} step(s) at the ends of series have no target and were left out.")
    return notes
