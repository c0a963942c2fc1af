"""How a text table is written: encoding, delimiter, quoting, decimal mark and header."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from smarttune.data.dataset import ReadOptions
from smarttune.data.names import clean_names
from smarttune.data.opening import HEAD_BYTES, head_of, undecodable
from smarttune.data.tidy import MISSING_WORDS
from smarttune.errors import DataError, OptionError

DELIMITERS = (",", ";", "\t", "|")
# ours: rows enough to tell the dialect; more only cost time.
SNIFFED_ROWS = 200
# ours: a delimiter under which fewer rows than this agree on their width is chance.
MIN_AGREEMENT = 0.5

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_COMMA_DECIMAL = re.compile(r"[-+]?\d+,\d+\Z")
_COMMA_NUMBER = re.compile(r"[-+]?\d+(,\d+)?\Z")

Rows = list[list[str]]
# Parsing with and without quotation marks as such.
Quoting = Literal[0, 3]
QUOTED: Quoting = csv.QUOTE_MINIMAL
UNQUOTED: Quoting = csv.QUOTE_NONE


@dataclass(frozen=True)
class Dialect:
    """All that is needed to parse the file in one way only.

    Attributes:
        encoding: As Python names it.
        delimiter: The character between fields.
        quoted: Whether quotation marks may enclose a field.
        decimal: The decimal mark, "." or ",".
        header: Whether the first line holds the names.
        names: One unique name per field of a row.
        trailing: Whether rows end with a delimiter, so that the last field is no column.
        row_bytes: Mean size of a row, bytes.
        warnings: What was changed or guessed, one sentence each.
    """

    encoding: str
    delimiter: str
    quoted: bool
    decimal: str
    header: bool
    names: tuple[str, ...]
    trailing: bool
    row_bytes: float
    warnings: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return self.names[:-1] if self.trailing else self.names


def dialect_of(options: ReadOptions) -> dict[str, Any]:
    """Those options that say how a text table is written, as keyword arguments of `sniff`."""
    return {k: v for k, v in options.items() if k in ("delimiter", "encoding", "header")}


def sniff(
    path: Path,
    *,
    encoding: str | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
) -> Dialect:
    """Detect how the table is written from its first rows; what is given is kept.

    Raises:
        DataError: If the file is empty, is not text, or holds only a header.
        OptionError: If the encoding does not exist.
    """
    if delimiter is not None:
        delimiter = _single(delimiter)
    head = head_of(path)
    encoding = encoding or _encoding_of(head, path)
    text = _decoded(head, encoding, path)
    whole = len(head) < HEAD_BYTES
    if not text.strip():
        raise DataError(
            str(path),
            received="the file is empty" if whole else "the file starts with blank lines only",
            expected="a table with a header line and one line per sample",
            mend="Check that the file was written completely.",
        )
    delimiter = delimiter or _delimiter_of(text, path, whole)
    quoted = '"' in text and not _quotes_are_text(text, delimiter)
    rows = parse(text, delimiter, quoted=quoted, whole=whole)
    has_header = _has_header(rows) if header is None else header
    trailing = _ends_with_delimiter(rows, has_header)
    names, warnings = _names(rows, has_header, trailing)
    if has_header and len(rows) == 1 and whole:
        raise DataError(
            str(path),
            received=f"the file holds a header with {len(names)} names and no rows",
            expected="at least one line of data below the header",
            mend="If that line is data, say so with --no-header (header=False).",
        )
    return Dialect(
        encoding=encoding,
        delimiter=delimiter,
        quoted=quoted,
        decimal=_decimal_of(rows[has_header:], delimiter),
        header=has_header,
        names=tuple(names),
        trailing=trailing,
        row_bytes=len(text.encode("utf-8", "replace")) / max(1, text.count("\n")),
        warnings=tuple(warnings),
    )


def _single(delimiter: str) -> str:
    r"""Return a delimiter given by the user as one character; `tab` and `\t` are tabs."""
    delimiter = {"tab": "\t", "\\t": "\t"}.get(delimiter, delimiter)
    if len(delimiter) == 1 and delimiter not in '"\n\r':
        return delimiter
    raise OptionError(
        "--delimiter",
        received=f"{delimiter!r} cannot stand between fields",
        expected="one character such as , ; | or the word tab",
        mend="Leave it out to have it detected.",
    )


def parse(text: str, delimiter: str, *, quoted: bool, whole: bool = True) -> Rows:
    """Split the first rows of a text into fields; blank lines are skipped.

    A text that was cut off (`whole` is False) loses its last, broken line.
    """
    if not whole and "\n" in text:
        text = text[: text.rindex("\n") + 1]
    style = QUOTED if quoted else UNQUOTED
    lines = io.StringIO(text, newline="")
    rows: Rows = []
    reader = csv.reader(lines, delimiter=delimiter, quoting=style, skipinitialspace=True)
    for row in reader:
        if row and (len(row) > 1 or row[0].strip()):
            rows.append(row)
        if len(rows) >= SNIFFED_ROWS:
            break
    return rows


def _encoding_of(head: bytes, path: Path) -> str:
    for mark, name in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return name
    if b"\0" in head:
        raise DataError(
            str(path),
            received=f"the file is not text (a zero byte at position {head.index(0):,})",
            expected="a csv, tsv or parquet table",
            mend="Save the table as csv, or give the encoding if it is text (--encoding utf-16).",
        )
    return "utf-8"


def _decoded(head: bytes, encoding: str, path: Path) -> str:
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError:
        raise OptionError(
            "--encoding",
            received=f"there is no encoding {encoding!r}",
            expected="a name such as utf-8, latin-1, cp1252 or utf-16",
            mend="Leave it out for UTF-8.",
        ) from None
    try:
        return decoder.decode(head, final=len(head) < HEAD_BYTES)
    except UnicodeError:
        raise undecodable(path, encoding) from None


def _delimiter_of(text: str, path: Path, whole: bool) -> str:
    """Return the delimiter under which most rows have the same width, more than one."""
    scored: list[tuple[float, int, str]] = []
    for delimiter in DELIMITERS:
        quoted = '"' in text and not _quotes_are_text(text, delimiter)
        rows = parse(text, delimiter, quoted=quoted, whole=whole)
        width, count = Counter(map(len, rows)).most_common(1)[0] if rows else (1, 0)
        share = count / max(1, len(rows))
        if delimiter == ";" and width > 1 and _commas_are_decimal(rows):
            return delimiter
        if width > 1 and share >= MIN_AGREEMENT:
            scored.append((share, width, delimiter))
    tabs = ".tsv" in path.name or ".tab" in path.name
    if tabs and (not scored or any(d == "\t" for *_, d in scored)):
        return "\t"
    return max(scored)[2] if scored else ","


def _commas_are_decimal(rows: Rows) -> bool:
    commas = [field.strip() for row in rows[1:] for field in row if "," in field]
    return bool(commas) and all(_COMMA_DECIMAL.match(field) for field in commas)


def _quotes_are_text(text: str, delimiter: str) -> bool:
    """Whether quotation marks are ordinary characters: common in tab-separated files.

    They are if every single line has as many tabs as the first one, so that no quoted
    field needs to hold a tab or a line break.
    """
    if delimiter != "\t":
        return False
    lines = [line for line in text.splitlines()[:-1] if line.strip()]
    return bool(lines) and len({line.count("\t") for line in lines}) == 1


def _decimal_of(rows: Rows, delimiter: str) -> str:
    """Return "," if some column is written with decimal commas throughout."""
    if delimiter == ",":
        return "."
    for column in zip(*rows, strict=False):
        cells = [c.strip() for c in column if c.strip() not in MISSING_WORDS]
        if any("," in c for c in cells) and all(_COMMA_NUMBER.match(c) for c in cells):
            return ","
    return "."


def is_number(text: str) -> bool:
    """Whether a field reads as a number, with either decimal mark."""
    try:
        float(text.strip().replace(",", "."))
    except ValueError:
        return False
    return True


def _has_header(rows: Rows) -> bool:
    """Whether the first row names the columns instead of being data.

    A column speaks for a header if it is numeric below a first cell that is not, and
    against one if the first cell is a number like the rest or a word that comes again below.
    """
    first, body = rows[0], rows[1:]
    if first == [str(n) for n in range(len(first))] and len(first) > 1:
        return True  # how pandas writes unnamed columns
    if not body:
        return not any(map(is_number, first))
    against = 0
    for position, name in enumerate(first):
        if name.strip() in MISSING_WORDS:
            continue
        cells = {row[position].strip() for row in body if position < len(row)}
        cells -= set(MISSING_WORDS)
        numeric = bool(cells) and all(map(is_number, cells))
        if numeric and not is_number(name):
            return True
        against += name.strip() in cells or is_number(name)
    return against == 0


def _ends_with_delimiter(rows: Rows, has_header: bool) -> bool:
    """Whether every row has an empty last field that the header does not name."""
    body = rows[has_header:]
    if not body or any(len(row) < 2 or row[-1].strip() for row in body):
        return False
    if not has_header:
        return False  # an empty last column without a name is dropped as constant anyway
    width = len(rows[0])
    unnamed = not rows[0][-1].strip()
    return all(len(row) == (width if unnamed else width + 1) for row in body)


def _has_row_names(rows: Rows) -> bool:
    """Whether each row starts with its own name, which has no heading, as R writes tables."""
    body = rows[1:]
    one_more = bool(body) and all(len(row) == len(rows[0]) + 1 for row in body)
    return one_more and len({row[0] for row in body}) == len(body)


def _names(rows: Rows, has_header: bool, trailing: bool) -> tuple[list[str], list[str]]:
    """Return one name per field; without a header they are numbered from 1."""
    width = Counter(len(row) for row in rows[has_header:] or rows).most_common(1)[0][0]
    if not has_header:
        names = [f"column_{i}" for i in range(1, width + 1)]
        called = f"{names[0]} to {names[-1]}"
        return names, [f"The first line holds data, not names: the columns are called {called}."]
    first: Sequence[str] = rows[0]
    if trailing:
        first = [*first[: width - 1], ""]
    elif _has_row_names(rows):
        first = ["row_name", *first]
    return clean_names(first)
