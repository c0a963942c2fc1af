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


@dataclass(frozen=True)
class Dialect:
    """All that is needed to parse the file in one way only.

    Attributes:
        encoding: As Python names it.
        delimiter: The character between fields.
        quoted: Whether quotation marks may enclose a field.
        decimal: The decimal mark, "." or ",".
        header: Whether the first line holds the names.
        names: One unique name per column.
        row_bytes: Mean size of a row, bytes.
        warnings: What was changed or guessed, one sentence each.
    """

    encoding: str
    delimiter: str
    quoted: bool
    decimal: str
    header: bool
    names: tuple[str, ...]
    row_bytes: float
    warnings: tuple[str, ...] = ()


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
    names, warnings = _names(rows, has_header)
    if has_header and len(rows) == 1 and whole:
        raise DataError(
            str(path),
            received=f"the file holds a header with {len(names)} names and no rows",
            expected="at least one line of data below the header",
            mend="If that line is data, say that there is no header.",
        )
    return Dialect(
        encoding=encoding,
        delimiter=delimiter,
        quoted=quoted,
        decimal=_decimal_of(rows[has_header:], delimiter),
        header=has_header,
        names=tuple(names),
        row_bytes=len(text.encode("utf-8", "replace")) / max(1, text.count("\n")),
        warnings=tuple(warnings),
    )


def parse(text: str, delimiter: str, *, quoted: bool, whole: bool = True) -> Rows:
    """Split the first rows of a text into fields; blank lines are skipped.

    A text that was cut off (`whole` is False) loses its last, broken line.
    """
    if not whole and "\n" in text:
        text = text[: text.rindex("\n") + 1]
    style = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
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


def _names(rows: Rows, has_header: bool) -> tuple[list[str], list[str]]:
    """Return one name per column; without a header they are numbered from 1."""
    width = Counter(len(row) for row in rows[has_header:] or rows).most_common(1)[0][0]
    if not has_header:
        names = [f"column_{i}" for i in range(1, width + 1)]
        return names, [
            "The first line holds data, not names: the columns are called "
            f"{names[0]} to {names[-1]}."
        ]
    first: Sequence[str] = rows[0]
    body = [row for row in rows[1:] if len(row) == len(first) + 1]
    if rows[1:] and len(body) == len(rows) - 1:
        # Every row is one field longer: a trailing delimiter, or row names as R writes them.
        trailing = all(not row[-1].strip() for row in body)
        first = [*first, "trailing"] if trailing else ["row_name", *first]
    return clean_names(first)
