"""Files with one JSON object per line; its keys are the columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smarttune.data.content import Progress
from smarttune.data.dataset import RawTable, ReadOptions
from smarttune.data.names import clean_names
from smarttune.data.opening import broken_archive, is_compressed, open_binary, undecodable
from smarttune.data.reservoir import Reservoir, row_limit
from smarttune.data.text_sources import known_encoding
from smarttune.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

# Files above this size (bytes) are sampled. ours: as for delimited text.
STREAM_ABOVE = 256 * 1024 * 1024
# ours: how often such a file shrinks when compressed, for judging a .gz by its size.
_COMPRESSION = 5
# ours: objects turned into rows at a time; some megabytes of ordinary texts.
_PIECE = 20_000


def read_jsonl(
    path: Path,
    options: ReadOptions,
    max_rows: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> RawTable:
    """Read one JSON object per line.

    Args:
        path: An existing file.
        options: Read is `encoding`, UTF-8 unless given.
        max_rows: Rows to keep of a file too large to hold, chosen at random.
        seed: Seeds that choice.
        progress: Called with the share read so far.

    Returns:
        One column per key; a key that an object lacks is a missing cell.

    Raises:
        DataError: If a line is no object of plain values, or the file holds none.
    """
    large = path.stat().st_size * (_COMPRESSION if is_compressed(path) else 1) > STREAM_ABOVE
    reservoir: Reservoir | None = None
    for piece in _pieces(path, known_encoding(options.get("encoding") or "utf-8"), progress):
        if reservoir is None:
            limit = row_limit(piece.shape[1], max_rows) if large else path.stat().st_size
            reservoir = Reservoir(max(1, limit), seed=seed)
        reservoir.add(piece)
    if reservoir is None:
        raise DataError(
            str(path),
            received="the file is empty",
            expected="one JSON object per line",
            mend="Check that it was written completely.",
        )
    frame = reservoir.rows()
    names, notes = clean_names(frame.columns)
    return RawTable(
        frame.set_axis(names, axis="columns"), reservoir.num_rows, reservoir.sampled, tuple(notes)
    )


def _pieces(path: Path, encoding: str, progress: Progress | None) -> Iterator[pd.DataFrame]:
    import pandas as pd

    total = max(1, path.stat().st_size)
    held: list[dict[str, Any]] = []
    stream, raw = open_binary(path)
    with raw, stream:
        try:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    held.append(_row(line, path, number, encoding))
                if len(held) == _PIECE:
                    yield pd.DataFrame(held, dtype=object)
                    held = []
                    if progress is not None:
                        progress(min(1.0, raw.tell() / total))
        except (EOFError, OSError) as error:
            raise broken_archive(path, error) from None
    if held:
        yield pd.DataFrame(held, dtype=object)


def _row(line: bytes, path: Path, number: int, encoding: str) -> dict[str, Any]:
    """The object on one line, all values plain."""
    where = f"{path}:{number}"
    try:
        row = json.loads(line.decode(encoding).removeprefix("\ufeff"))
    except UnicodeDecodeError:
        raise undecodable(path, encoding) from None
    except (ValueError, RecursionError) as error:
        begun = number == 1 and line.lstrip().startswith((b"[", b"{"))
        raise DataError(
            where,
            received=f"this line is no JSON ({error})",
            expected="one whole JSON object per line",
            mend=f"Put each object on a line of its own: jq -c '.[]' FILE > {path.stem}.jsonl."
            if begun
            else "Correct or remove the line; the file may have been cut short.",
        ) from None
    if not isinstance(row, dict):
        raise DataError(
            where,
            received=f"this line holds a {_NAMES.get(type(row), 'single value')}, not an object",
            expected='one JSON object per line, such as {"text": "...", "label": "..."}',
            mend="Put each object on a line of its own.",
        )
    for key, value in row.items():
        if isinstance(value, (dict, list)):
            raise _nested(where, key, value)
        if isinstance(value, str) and not value.isascii():
            # JSON may write half of a character, which no text file can hold.
            row[key] = value.encode("utf-8", "replace").decode()
    return row


_NAMES: dict[type, str] = {list: "list", str: "text", int: "number", float: "number"}


def _nested(where: str, key: str, value: dict[str, Any] | list[Any]) -> DataError:
    inner = next(iter(value), "key") if isinstance(value, dict) else "0"
    kind = "an object" if isinstance(value, dict) else "a list"
    return DataError(
        where,
        received=f"`{key}` holds {kind}",
        expected="text, numbers, true, false or null",
        mend=f"Flatten it first, for example into a key `{key}_{inner}`, or remove the key.",
    )
