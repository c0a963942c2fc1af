"""Opening a source file, and saying what is wrong when it cannot be read."""

from __future__ import annotations

import codecs
import gzip
from pathlib import Path
from typing import IO, cast

from smarttune.errors import DataError, did_you_mean

# ours: enough for hundreds of ordinary rows, read in well under a millisecond.
HEAD_BYTES = 256 * 1024
# ours: the size of the pieces in which a file is searched for a broken character.
_BLOCK_BYTES = 1024 * 1024

TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".data", ".jsonl", ".ndjson")
PARQUET_SUFFIXES = (".parquet", ".pq")
_SPREADSHEETS = (".xlsx", ".xls", ".ods")


def check_path(path: Path) -> None:
    """Refuse a path that is missing or of a kind that is not read.

    Raises:
        DataError: With the nearest file name of the folder where the file is missing.
    """
    if not path.exists():
        folder = path.parent if path.parent.is_dir() else None
        near = [p.name for p in folder.iterdir()] if folder else []
        hint = did_you_mean(path.name, near)
        missing = "there is no such file" if folder else f"there is no folder {path.parent}"
        raise DataError(
            str(path),
            received=missing,
            expected="the path of a data file or of a folder of samples",
            mend=f"Check the path and the folder you are in.{hint}",
        )
    if not (is_text(path) or is_parquet(path)):
        sheet = path.suffix.lower() in _SPREADSHEETS
        raise DataError(
            str(path),
            received=f"the kind of file `{path.suffix or 'without extension'}` is not read",
            expected="a folder, or one of .csv, .tsv, .txt, .data, .jsonl, these with .gz, "
            ".parquet, .npz or an idx file",
            mend="Save the sheet as csv." if sheet else "Convert it to csv or rename it.",
        )


def is_text(path: Path) -> bool:
    """Whether the name is that of a text table, perhaps compressed."""
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(TEXT_SUFFIXES)


def is_parquet(path: Path) -> bool:
    """Whether the name is that of a parquet file."""
    return path.suffix.lower() in PARQUET_SUFFIXES


def is_compressed(path: Path) -> bool:
    """Whether the file is read through gzip."""
    return path.suffix.lower() == ".gz"


def open_binary(path: Path) -> tuple[IO[bytes], IO[bytes]]:
    """Open a file for reading.

    Returns:
        The stream of the contents, and the file below it whose position tells the progress;
        the same object unless the file is compressed. Closing both is the caller's part.

    Raises:
        DataError: If the system refuses.
    """
    try:
        raw = cast(IO[bytes], path.open("rb"))
    except PermissionError:
        raise DataError(
            str(path),
            received="you may not read this file",
            expected="a file with read permission",
            mend=f"Ask its owner, or run: chmod u+r '{path}'.",
        ) from None
    except OSError as error:
        raise DataError(
            str(path),
            received=f"the system could not open it ({error.strerror or error})",
            expected="a readable file",
            mend="Check the disk or copy the file elsewhere.",
        ) from None
    if is_compressed(path):
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw)), raw
    return raw, raw


def head_of(path: Path, size: int = HEAD_BYTES) -> bytes:
    """Return the first bytes of the (uncompressed) contents.

    Raises:
        DataError: If the file cannot be opened or its compression is broken.
    """
    stream, raw = open_binary(path)
    with raw, stream:
        try:
            return stream.read(size)
        except (EOFError, OSError) as error:
            raise broken_archive(path, error) from None


def broken_archive(path: Path, error: Exception) -> DataError:
    """The error for a compressed file that cannot be unpacked."""
    return DataError(
        str(path),
        received=f"the compressed file cannot be unpacked ({error})",
        expected="a complete gzip file",
        mend="Download or compress it again; drop `.gz` from the name if it is plain text.",
    )


def undecodable(path: Path, encoding: str) -> DataError:
    """The error for text in another encoding, with the line and byte where it shows."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line, position = 1, 0
    stream, raw = open_binary(path)
    found = "a byte"
    with raw, stream:
        while block := stream.read(_BLOCK_BYTES):
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                start = max(0, error.start - pending)
                line += block.count(b"\n", 0, start)
                position += start
                found = f"byte 0x{error.object[error.start]:02x}"
                break
            except UnicodeError:
                break
            line += block.count(b"\n")
            position += len(block)
    return DataError(
        f"{path}:{line}",
        received=f"{found} at position {position:,} is not {encoding.upper()}",
        expected=f"text in {encoding.upper()}",
        mend="Name its encoding, for example --encoding latin-1 or --encoding cp1252.",
    )
