"""Text tables: read whole when they fit, streamed and sampled when they do not."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Container, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from smarttune.data.content import Progress
from smarttune.data.dataset import RawTable, ReadOptions
from smarttune.data.dialect import QUOTED, UNQUOTED, Dialect, dialect_of, sniff
from smarttune.data.opening import (
    broken_archive,
    is_compressed,
    open_binary,
    undecodable,
)
from smarttune.data.reservoir import Reservoir, row_limit
from smarttune.data.tidy import MISSING_WORDS, TARGET_MISSING_WORDS
from smarttune.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

# Files above this size (bytes) are streamed. ours: parsed text takes up to eight times its
# size, so that this much fits a machine with 4 GB.
STREAM_ABOVE = 256 * 1024 * 1024
# ours: how often a table shrinks when compressed, for judging a .gz by its size.
_COMPRESSION = 5
# ours: text parsed at a time while streaming, bytes; larger pieces are not faster.
_CHUNK_BYTES = 32 * 1024 * 1024


def read_delimited(
    path: Path,
    options: ReadOptions,
    *,
    targets: Container[str],
    max_rows: int | None,
    seed: int,
    progress: Progress | None,
) -> RawTable:
    """Read a text table with detected or given dialect.

    Args:
        path: An existing file.
        options: What the user said about the dialect.
        targets: Target columns, in which "none" is an ordinary word.
        max_rows: Rows to keep, chosen at random; None keeps all of a file that fits.
        seed: Seeds that choice.
        progress: Called with the share read so far.

    Raises:
        DataError: If the contents cannot be read as a table.
    """
    dialect = sniff(path, **dialect_of(options))
    size = path.stat().st_size * (_COMPRESSION if is_compressed(path) else 1)
    try:
        with warnings.catch_warnings():
            _refuse_warnings()
            table = (
                _stream(path, dialect, targets, max_rows=max_rows, seed=seed, progress=progress)
                if size > STREAM_ABOVE
                else RawTable(_whole(path, dialect, targets), num_rows=-1)
            )
    except UnicodeError:
        raise undecodable(path, dialect.encoding) from None
    except (EOFError, OSError) as error:
        raise broken_archive(path, error) from None
    except ValueError as error:  # pandas.errors.ParserError, and ParserWarning made an error
        raise _ragged(path, dialect, error) from None
    except Warning as error:
        raise _ragged(path, dialect, error) from None
    frame = _columns(table, path, dialect)
    written: dict[str, Any] = {
        "delimiter": dialect.delimiter,
        "encoding": dialect.encoding,
        "header": dialect.header,
    }
    num_rows = table.num_rows if table.num_rows >= 0 else len(frame)
    return RawTable(_unquoted(frame, dialect), num_rows, table.sampled, dialect.warnings, written)


def _columns(table: RawTable, path: Path, dialect: Dialect) -> pd.DataFrame:
    """Return the parsed columns, once it is sure that no line is shorter or longer."""
    frame = table.frame
    gaps = frame.iloc[:, -1].isna()
    # Short lines are filled up by the parser. Looking for them reads the file once more,
    # which is spared where it is too large.
    if not dialect.trailing and not table.sampled and bool(gaps.any()):
        _refuse_short_rows(path, dialect)
    if not dialect.trailing:
        return frame
    if not bool(gaps.all()):
        line = int((~gaps).to_numpy().argmax()) + 1 + dialect.header
        raise _ragged_at(path, dialect, line, len(dialect.names))
    return frame.iloc[:, :-1]


def _refuse_warnings() -> None:
    import pandas as pd

    warnings.simplefilter("error", pd.errors.ParserWarning)


def _arguments(dialect: Dialect, targets: Container[str]) -> dict[str, Any]:
    """The keyword arguments under which pandas parses exactly this dialect."""
    special = [name for name in dialect.names if name in targets]
    words: Any = list(MISSING_WORDS)
    if special:
        words = {n: list(MISSING_WORDS) for n in dialect.names}
        words.update({n: list(TARGET_MISSING_WORDS) for n in special})
    return {
        "sep": dialect.delimiter,
        "header": 0 if dialect.header else None,
        "names": list(dialect.names),
        "index_col": False,
        "quoting": QUOTED if dialect.quoted else UNQUOTED,
        "decimal": dialect.decimal,
        "skipinitialspace": True,
        "keep_default_na": False,
        "na_values": words,
        "encoding": dialect.encoding,
    }


def _whole(path: Path, dialect: Dialect, targets: Container[str]) -> pd.DataFrame:
    import pandas as pd

    stream, raw = open_binary(path)
    with raw, stream:
        arguments = _arguments(dialect, targets)
        return cast("pd.DataFrame", pd.read_csv(stream, low_memory=False, **arguments))


def _stream(
    path: Path,
    dialect: Dialect,
    targets: Container[str],
    *,
    max_rows: int | None,
    seed: int,
    progress: Progress | None,
) -> RawTable:
    """Read the file in pieces and keep a random sample of its rows.

    Cells stay text until the sample is complete, so that column types do not depend on
    where the file was cut.
    """
    import pandas as pd

    arguments = _arguments(dialect, targets)
    reservoir = Reservoir(row_limit(len(dialect.names), max_rows), seed=seed)
    rows = max(1, int(_CHUNK_BYTES / max(1.0, dialect.row_bytes)))
    total = max(1, path.stat().st_size)
    stream, raw = open_binary(path)
    with raw, stream, pd.read_csv(stream, dtype=str, chunksize=rows, **arguments) as pieces:
        for piece in pieces:
            reservoir.add(piece)
            if progress is not None:
                progress(min(1.0, raw.tell() / total))
    text = io.BytesIO(reservoir.rows().to_csv(index=False).encode("utf-8"))
    again = {**arguments, "sep": ",", "header": 0, "quoting": QUOTED, "encoding": "utf-8"}
    frame = pd.read_csv(text, low_memory=False, skip_blank_lines=False, **again)
    return RawTable(frame, reservoir.num_rows, reservoir.sampled)


def _unquoted(frame: pd.DataFrame, dialect: Dialect) -> pd.DataFrame:
    """Drop the marks around fully quoted cells where quoting was switched off."""
    if dialect.quoted or dialect.delimiter != "\t":
        return frame
    changed = {}
    for name, dtype in zip(frame.columns, frame.dtypes, strict=True):
        if getattr(dtype, "kind", "O") not in "biuf":
            cells = frame[name].map(_unquote, na_action="ignore")
            changed[name] = cells
    return frame.assign(**changed) if changed else frame


def _unquote(cell: object) -> object:
    if isinstance(cell, str) and len(cell) > 1 and cell[0] == cell[-1] == '"':
        inner = cell[1:-1].replace('""', "")
        if '"' not in inner:
            return cell[1:-1].replace('""', '"')
    return cell


def _fields(path: Path, dialect: Dialect) -> Iterator[tuple[int, int]]:
    """Yield the line number and the number of fields of every row that is not blank."""
    stream, raw = open_binary(path)
    style = QUOTED if dialect.quoted else UNQUOTED
    with raw, stream, io.TextIOWrapper(stream, dialect.encoding, newline="") as text:
        reader = csv.reader(text, delimiter=dialect.delimiter, quoting=style, skipinitialspace=True)
        while True:
            line = reader.line_num + 1
            try:
                row = next(reader)
            except (StopIteration, csv.Error):
                return
            if row and (len(row) > 1 or row[0].strip()):
                yield line, len(row)


def _refuse_short_rows(path: Path, dialect: Dialect) -> None:
    """Raise for the first row with too few fields, which pandas fills up silently."""
    width = len(dialect.names)
    for index, (line, found) in enumerate(_fields(path, dialect)):
        if found < width and not (index == 0 and dialect.header):
            raise _ragged_at(path, dialect, line, found)


def _ragged(path: Path, dialect: Dialect, error: Exception) -> DataError:
    """The error for a table that the parser refused, with the first line at fault."""
    width = len(dialect.names)
    for index, (line, found) in enumerate(_fields(path, dialect)):
        if found > width and not (index == 0 and dialect.header):
            return _ragged_at(path, dialect, line, found)
    unclosed = re.search(r"EOF inside string starting at row (\d+)", str(error))
    if unclosed:
        return DataError(
            f"{path}:{int(unclosed.group(1)) + 1}",
            received="a quotation mark opens here or nearby and is never closed",
            expected="quotation marks in pairs",
            mend="Close it, or double the marks that belong to the text.",
        )
    return DataError(
        str(path),
        received=f"the table could not be parsed ({str(error).strip()})",
        expected="a table with one delimiter and equally long lines",
        mend="Check the delimiter and the quotation marks.",
    )


def _ragged_at(path: Path, dialect: Dialect, line: int, found: int) -> DataError:
    names = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}
    delimiter = names.get(dialect.delimiter, dialect.delimiter)
    return DataError(
        f"{path}:{line}",
        received=f"this line has {found} field(s) (delimiter: {delimiter})",
        expected=f"{len(dialect.columns)} fields as in the other lines",
        mend="Quote fields that hold the delimiter, or fill in or remove this line.",
    )
