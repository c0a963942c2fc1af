"""The IDX format: one array of numbers behind a short header, as the MNIST files have it."""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smarttune.data.opening import broken_archive, open_binary
from smarttune.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Third byte of the magic number (LeCun, Cortes, Burges: the MNIST database, file formats).
_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def is_idx(path: Path) -> bool:
    """Whether the name is that of an IDX file, perhaps compressed."""
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(".idx") or ("-idx" in name and name.endswith("-ubyte"))


def read_idx(path: Path) -> npt.NDArray[np.generic]:
    """Read the array of an IDX file.

    Raises:
        DataError: If the file cannot be opened, is none of this format, or is cut short.
    """
    import numpy as np

    stream, raw = open_binary(path)
    with raw, stream:
        try:
            data = stream.read()
        except (EOFError, OSError, zlib.error) as error:
            raise broken_archive(path, error) from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        raise _not_idx(path, "it does not begin with the magic number of an IDX file")
    dims, start = data[3], 4 + 4 * data[3]
    if len(data) < start:
        raise _not_idx(path, "it ends within its header")
    shape = struct.unpack(f">{dims}I", data[4:start])
    kind = np.dtype(_TYPES[data[2]])
    wanted = math.prod(shape) * kind.itemsize
    if len(data) - start < wanted:
        found = f"{len(data) - start:,} bytes follow the header"
        raise _not_idx(path, f"{found} and an array of shape {shape} takes {wanted:,}")
    array: npt.NDArray[Any] = np.frombuffer(data, kind, math.prod(shape), start).reshape(shape)
    return array.astype(kind.newbyteorder("="))


def label_file(path: Path) -> Path | None:
    """The labels beside a file of pictures: `...-images-idx3...` and `...-labels-idx1...`."""
    name = path.name.removesuffix(".gz").replace("idx3", "idx1").replace("idx4", "idx1")
    bare = path.with_name(name.replace("images", "labels"))
    found = (p for p in (bare, bare.with_name(f"{bare.name}.gz")) if p.exists() and p != path)
    return next(found, None)


def _not_idx(path: Path, received: str) -> DataError:
    return DataError(
        str(path),
        received=received,
        expected="a complete IDX file, such as train-images-idx3-ubyte.gz",
        mend="Download it again.",
    )
