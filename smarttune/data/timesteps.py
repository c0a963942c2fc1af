"""The regular grid under the time stamps of a series: its step, gaps in it, stamps to come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from smarttune.data.kinds import datetime_format
from smarttune.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

Stamps = npt.NDArray[Any]  # datetime64[ns], or int64 where time is counted in numbers
Steps = npt.NDArray[np.int64]

DAY = np.timedelta64(1, "D")
_NANOSECONDS = {"day": 86_400_000_000_000, "hour": 3_600_000_000_000, "minute": 60_000_000_000,
                "second": 1_000_000_000}  # fmt: skip
_WEEKDAYS = 5
_SHORTEST_MONTH = np.timedelta64(28, "D")
# ours: a few unreadable stamps are slips, more of them mean that the column is no time.
MAX_UNREADABLE = 0.05


@dataclass(frozen=True)
class Step:
    """What lies between two neighbours of a regular series.

    Attributes:
        kind: `rows` (no stamps), `number` (stamps are whole numbers), `time` (always the same
            span), `months` (the calendar decides the span), `business_days` (no weekends).
        size: Nanoseconds of `time`, numbers of `number`, months of `months`; else 1.
    """

    kind: Literal["rows", "number", "time", "months", "business_days"]
    size: int = 1

    def __str__(self) -> str:
        if self.kind == "time":
            for unit, length in _NANOSECONDS.items():
                if self.size % length == 0:
                    count = self.size // length
                    return unit if count == 1 else f"{count} {unit}s"
            return f"{self.size} nanoseconds"
        word = {"rows": "row", "number": "number", "months": "month"}.get(self.kind, "business day")
        return word if self.size == 1 else f"{self.size} {word}s"

    def after(self, last: Any, count: int) -> Stamps:
        """The next stamps after `last`, shape (count,)."""
        ahead = np.arange(1, count + 1) * self.size
        if self.kind in ("rows", "number"):
            return np.asarray(int(last) + ahead)
        if self.kind == "time":
            return np.asarray(last + ahead.astype("timedelta64[ns]"))
        if self.kind == "business_days":
            days = np.busday_offset(np.datetime64(last, "D"), ahead, roll="forward")
            return np.asarray(days.astype("datetime64[ns]") + (last - np.datetime64(last, "D")))
        month = np.datetime64(last, "M")
        if last + DAY >= (month + 1).astype("datetime64[ns]"):  # the last day of each month
            ends: Stamps = (month + ahead + 1).astype("datetime64[ns]") - ((month + 1) - last)
            return ends
        return np.asarray((month + ahead).astype("datetime64[ns]") + (last - month))

    def between(self, first: Any, later: Any) -> int:
        """Steps from one stamp of the grid to another; negative where the other is earlier."""
        if self.kind in ("rows", "number"):
            return round((int(later) - int(first)) / self.size)
        if self.kind == "time":
            return round(float((later - first) / np.timedelta64(self.size, "ns")))
        if self.kind == "business_days":
            days = np.busday_count(np.datetime64(first, "D"), np.datetime64(later, "D"))
            return int(days)
        months: Any = np.datetime64(later, "M") - np.datetime64(first, "M")
        return round(int(months.astype(np.int64)) / self.size)


def stamps_of(column: pd.Series, *, where: str) -> tuple[Stamps, npt.NDArray[np.bool_]]:
    """Read a column of time stamps.

    Args:
        column: Dates, text that nearly always is a date, or whole numbers.
        where: The source, for errors.

    Returns:
        The stamps, and which of them could be read.

    Raises:
        DataError: If the column holds no time.
    """
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        found = column
    elif pd.api.types.is_numeric_dtype(column.dtype):
        known = column.notna().to_numpy()
        numbers = column.to_numpy(dtype="float64", na_value=0.0)
        if not np.equal(numbers, np.round(numbers)).all():
            raise _no_time(column, where)
        return numbers.astype(np.int64), known
    else:
        cells = column.dropna().astype("str")
        written = datetime_format(sorted(cells.unique().tolist())) if len(cells) else None
        if written is None:
            raise _no_time(column, where)
        parsed = pd.to_datetime(column, format=written, errors="coerce", utc=True)
        found = parsed.dt.tz_localize(None)
    known = found.notna().to_numpy()
    if known.mean() < 1 - MAX_UNREADABLE:
        raise _no_time(column, where)
    return found.to_numpy().astype("datetime64[ns]"), known


def _no_time(column: pd.Series, where: str) -> DataError:
    return DataError(
        where,
        received=f"column `{column.name}` holds no time stamps (for example `{column.iloc[0]}`)",
        expected="dates such as 2024-05-31 or 2024-05-31 14:00, or whole numbers",
        mend="Name the column with the time (--time-column), or leave it out to take rows as steps.",
    )


def grid(stamps: Stamps, starts: Steps, *, where: str) -> tuple[Step, Steps]:
    """Find the step of sorted series and the place of every stamp on its grid.

    Args:
        stamps: Strictly rising within each series.
        starts: First row of each series, and the number of rows at the end.
        where: The source, for errors.

    Returns:
        The step, and whole numbers that count steps from the earliest stamp of all.

    Raises:
        DataError: If some stamps lie off the grid.
    """
    inside = np.ones(max(0, len(stamps) - 1), dtype=bool)
    inside[starts[1:-1] - 1] = False  # between two series
    if not inside.any():  # no series has two rows
        return Step("number" if stamps.dtype.kind == "i" else "time"), np.zeros(len(stamps), int)
    if stamps.dtype.kind == "i":
        kind: Literal["number", "time"] = "number"
        ticks = stamps.astype(np.int64)
    else:
        calendar = _months(stamps, inside) or _business_days(stamps, inside)
        if calendar is not None:
            return calendar
        kind, ticks = "time", stamps.astype("datetime64[ns]").astype(np.int64)
    gaps = np.diff(ticks)[inside]
    size = _commonest(gaps)
    off = gaps % size != 0
    if off.any():
        raise _irregular(stamps, inside, off, Step(kind, size), where)
    return Step(kind, size), (ticks - ticks.min()) // size


def _commonest(values: Steps) -> int:
    found, counts = np.unique(values, return_counts=True)
    return int(found[counts.argmax()])


def _months(stamps: Stamps, inside: npt.NDArray[np.bool_]) -> tuple[Step, Steps] | None:
    """The grid where every stamp is the same moment of a month, such as its first or last day."""
    if np.diff(stamps)[inside].min() < _SHORTEST_MONTH:
        return None
    months = stamps.astype("datetime64[M]")
    from_start = stamps - months
    from_end = (months + 1) - stamps
    if len(np.unique(from_start)) > 1 and len(np.unique(from_end)) > 1:
        return None
    places = months.astype(np.int64)
    gaps = np.diff(places)[inside]
    size = _commonest(gaps)
    if (gaps % size).any():
        size = int(np.gcd.reduce(gaps))
    return Step("months", size), (places - places.min()) // size


def _business_days(stamps: Stamps, inside: npt.NDArray[np.bool_]) -> tuple[Step, Steps] | None:
    """The grid of Mondays to Fridays, where stamps are daily and none is on a weekend."""
    days = stamps.astype("datetime64[D]")
    gaps = np.diff(days)[inside]
    daily = _commonest(gaps.astype(np.int64)) == 1 and len(np.unique(stamps - days)) == 1
    # 1970-01-01 was a Thursday, the fourth day of the week.
    weekdays = (days.astype(np.int64) + 3) % 7
    if not daily or (weekdays >= _WEEKDAYS).any() or len(np.unique(weekdays)) < _WEEKDAYS:
        return None
    places = np.busday_count(days.min(), days)
    return Step("business_days"), np.asarray(places, dtype=np.int64)


def _irregular(
    stamps: Stamps,
    inside: npt.NDArray[np.bool_],
    off: npt.NDArray[np.bool_],
    step: Step,
    where: str,
) -> DataError:
    row = np.flatnonzero(inside)[np.flatnonzero(off)[0]]
    return DataError(
        where,
        received=f"{int(off.sum()):,} of {len(off):,} steps are no multiple of the usual one "
        f"(1 {step}), the first from {shown(stamps[row])} to {shown(stamps[row + 1])}",
        expected="a regular series: the same span between neighbours, perhaps with gaps",
        mend="Resample it first, for example with pandas: df.resample('1h').mean().",
    )


def shown(stamp: Any) -> str:
    """A stamp as text, no longer than it needs to be."""
    text = str(np.datetime_as_string(stamp, unit="s")) if stamp.dtype.kind == "M" else str(stamp)
    return text.removesuffix("T00:00:00").replace("T", " ")
