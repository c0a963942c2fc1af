"""What a column is good for, told from its statistics and its name."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from smarttune.data.statistics import ColumnStatistics
from smarttune.data.tidy import BOOLEAN_WORDS

ColumnKind = Literal[
    "numeric", "categorical", "boolean", "datetime", "text", "identifier", "constant"
]

# ours: with fewer rows, distinct values say nothing about a column.
MIN_ROWS_FOR_IDENTIFIER = 20
# ours: whole numbers that repeat less often than this and are named like an id are one.
MIN_DISTINCT_IDENTIFIER = 0.99
# ours: a level seen fewer than twice on average teaches nothing about new rows.
MAX_DISTINCT_CATEGORICAL = 0.5
# ours: names and codes have one or two words, titles and messages more.
MIN_TEXT_WORDS = 3
# ours: share of cells that must parse, as for numbers.
MIN_DATETIME_SHARE = 0.95
# ours: distinct cells tried; each format costs about 0.2 ms for so many.
_DATETIME_SAMPLE = 200

_CAMEL_IDENTIFIER = re.compile(r"[a-z](?:Id|ID)$")
_PLAIN_IDENTIFIER = re.compile(
    r"(?:^|[_\s.\-])(?:id|ids|uuid|guid|key|index|idx|rownum|row[_\s]?number|row[_\s]?name)$",
    re.IGNORECASE,
)
_DATE_LIKE = re.compile(
    r"\d{1,4}[-/.]\d{1,2}|\d{1,2}[-/. ][A-Za-z]{3}|[A-Za-z]{3,9}\.? \d{1,2}, ?\d{4}"
)
# Month before day where both fit, as pandas does.
_DATES = (
    "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%m-%d-%Y", "%d-%m-%Y", "%m/%d/%y", "%d/%m/%y",
    "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%B %d, %Y", "%d %B %Y",
)  # fmt: skip
_TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
ISO = "ISO8601"


class Kind(NamedTuple):
    """A kind with its evidence; `datetime_format` is for `pandas.to_datetime(format=...)`."""

    kind: ColumnKind
    reason: str
    datetime_format: str | None = None
    row_numbers: bool = False


def kind_of(statistics: ColumnStatistics, num_rows: int) -> Kind:
    """Decide what one input column is.

    Args:
        statistics: What the column holds.
        num_rows: Rows of the table.
    """
    count, missing = statistics.cardinality, statistics.num_missing
    if count == 0:
        return Kind("constant", "every cell is missing")
    if count == 1 and (missing == 0 or statistics.storage != "text"):
        apart = f", {missing:,} missing" if missing else ""
        return Kind("constant", f"one value in all {num_rows:,} rows{apart}")
    if statistics.storage == "boolean":
        return Kind("boolean", "true and false")
    if statistics.storage == "datetime":
        return Kind("datetime", "stored as dates")
    if statistics.storage == "number":
        return _number(statistics, num_rows)
    return _text(statistics, num_rows)


def _number(statistics: ColumnStatistics, num_rows: int) -> Kind:
    count, low, high = statistics.cardinality, statistics.low, statistics.high
    if count == 2 and (low, high) == (0, 1):
        return Kind("boolean", "only 0 and 1")
    if statistics.whole and num_rows >= MIN_ROWS_FOR_IDENTIFIER:
        if count >= MIN_DISTINCT_IDENTIFIER * num_rows and named_like_identifier(statistics.name):
            return Kind("identifier", f"{count:,} distinct whole numbers, named like an id")
        if count == num_rows and low in (0, 1) and high - low == num_rows - 1:
            return Kind("identifier", f"the row numbers {low:g} to {high:,.0f}", row_numbers=True)
    shape = "whole numbers" if statistics.whole else "numbers"
    return Kind("numeric", f"{count:,} distinct {shape} from {low:g} to {high:g}")


def _text(statistics: ColumnStatistics, num_rows: int) -> Kind:
    count, levels = statistics.cardinality, statistics.levels
    truths = {BOOLEAN_WORDS.get(level.lower()) for level in levels[:3]}
    if count == 2 and truths == {True, False}:
        return Kind("boolean", f"only `{levels[0]}` and `{levels[1]}`")
    written = datetime_format(levels)
    if written is not None:
        return Kind("datetime", f"dates such as `{levels[0]}`", written)
    present = num_rows - statistics.num_missing
    if present >= MIN_ROWS_FOR_IDENTIFIER and count > MAX_DISTINCT_CATEGORICAL * present:
        if statistics.words >= MIN_TEXT_WORDS:
            return Kind("text", f"{statistics.words:g} words per cell, hardly any repeats")
        return Kind("identifier", f"{count:,} distinct texts in {present:,} cells")
    return Kind("categorical", f"{count:,} distinct text(s)")


def named_like_identifier(name: str) -> bool:
    """Whether a column is called id, key, index or the like."""
    return bool(_PLAIN_IDENTIFIER.search(name) or _CAMEL_IDENTIFIER.search(name))


def datetime_format(levels: list[str]) -> str | None:
    """Return the format in which nearly all texts are dates, or None.

    Args:
        levels: Distinct texts in sorted order, of which evenly spaced ones are tried.
    """
    import pandas as pd

    step = max(1, len(levels) // _DATETIME_SAMPLE)
    tried = levels[::step]
    if sum(bool(_DATE_LIKE.match(t)) for t in tried) < MIN_DATETIME_SHARE * len(tried):
        return None
    sample = pd.Series(tried, dtype=object)
    best, best_share = None, 0.0
    for written in (ISO, *(date + time for date in _DATES for time in _TIMES)):
        parsed = pd.to_datetime(sample, format=written, errors="coerce", utc=True)
        share = float(parsed.notna().mean())
        if share > best_share:
            best, best_share = written, share
        if share == 1:
            break
    return best if best_share >= MIN_DATETIME_SHARE else None
