"""The WAV format: a short header, then samples; whole numbers or floats of any usual width.

The standard library's reader knows neither floats nor, before Python 3.12, the extensible
header that most recorders write; both are a few lines here.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Format tags (Microsoft, "Multiple channel audio data and WAVE files").
_WHOLE, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
# The first bytes of an extensible header that name the real tag stand here.
_SUBFORMAT = 24
_CODED = {
    2: "ADPCM",
    6: "A-law",
    7: "mu-law",
    17: "IMA ADPCM",
    49: "GSM",
    80: "MPEG",
    85: "MP3",
}
_WIDTHS = {_WHOLE: (8, 16, 24, 32), _FLOAT: (32, 64)}
# Sizes that programs write which do not know the length yet: the data go on to the end.
_OPEN_SIZES = (0, 0xFFFFFFFF, 0xFFFFFFFF - 36, 0x7FFFFFFF, 0x7FFFFFFF - 36)
# ours: rates outside of these are damage, not sound (telephones take 8,000, studios 192,000).
_LOWEST_RATE, _HIGHEST_RATE = 100, 1_000_000


class UnreadableRecordingError(Exception):
    """A file that is no recording; its message says why, as a clause."""


class WavHeader(NamedTuple):
    """Where the samples of a file lie and how they are written.

    `bits` is the width of one sample, `is_float` tells floats from whole numbers, `start` is
    the position of the first byte, `num_frames` the samples per channel, `rate` those of
    one second.
    """

    rate: int
    channels: int
    bits: int
    is_float: bool
    start: int
    num_frames: int


def read_header(path: Path) -> WavHeader:
    """Read the header only.

    Raises:
        UnreadableRecordingError: If the file cannot be opened, is none of this format, ends
            early or holds no samples.
    """
    try:
        with path.open("rb") as file:
            return _header(file, os.fstat(file.fileno()).st_size)
    except OSError as error:
        reason = f"the system could not open it ({error.strerror or error})"
        raise UnreadableRecordingError(reason) from None
    except struct.error:
        raise UnreadableRecordingError("it ends within its header") from None


def read_samples(path: Path, header: WavHeader) -> npt.NDArray[np.int16]:
    """Read all samples; several channels become their mean.

    Returns:
        Shape (num_frames,). Wider numbers keep their upper 16 bits, floats are taken to lie
        between -1 and 1.

    Raises:
        UnreadableRecordingError: If the file cannot be opened or has become shorter.
    """
    size = header.num_frames * header.channels * header.bits // 8
    try:
        with path.open("rb") as file:
            file.seek(header.start)
            data = file.read(size)
    except OSError as error:
        reason = f"the system could not open it ({error.strerror or error})"
        raise UnreadableRecordingError(reason) from None
    if len(data) < size:
        raise UnreadableRecordingError("it has become shorter since it was first read")
    samples = _decoded(data, header)
    if header.channels == 1:
        return samples
    mixed = samples.reshape(-1, header.channels).astype("int32").sum(axis=1)
    result: npt.NDArray[np.int16] = (mixed // header.channels).astype("int16")
    return result


def whole_samples(values: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    """Floats between -1 and 1 as 16-bit samples; what is louder is cut, NaN is silence."""
    import numpy as np

    clean = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=-1.0)
    result: npt.NDArray[np.int16] = np.rint(np.clip(clean, -1.0, 1.0) * 32767).astype("int16")
    return result


def _header(file: Any, size: int) -> WavHeader:
    if size == 0:
        raise UnreadableRecordingError("it is empty")
    riff = file.read(12)
    if riff[:4] != b"RIFF" or riff[8:12] != b"WAVE":
        raise UnreadableRecordingError("it is not a WAV file")
    written: tuple[int, ...] | None = None
    while len(lead := file.read(8)) == 8:
        name, length = lead[:4], struct.unpack("<I", lead[4:])[0]
        if name == b"fmt ":
            written = _format(file.read(length))
            file.seek(length % 2, os.SEEK_CUR)
        elif name == b"data":
            if written is None:
                raise UnreadableRecordingError("its samples stand before their description")
            return _checked(written, file.tell(), length, size)
        else:
            file.seek(length + length % 2, os.SEEK_CUR)
    raise UnreadableRecordingError("it ends before its samples")


def _format(chunk: bytes) -> tuple[int, ...]:
    """Tag, channels, rate and bits."""
    tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", chunk[:16])
    if tag == _EXTENSIBLE and len(chunk) >= _SUBFORMAT + 2:
        tag = struct.unpack("<H", chunk[_SUBFORMAT : _SUBFORMAT + 2])[0]
    return tag, channels, rate, bits


def _checked(written: tuple[int, ...], start: int, length: int, size: int) -> WavHeader:
    tag, channels, rate, bits = written
    if tag not in _WIDTHS:
        raise UnreadableRecordingError(
            f"its samples are coded ({_CODED.get(tag, f'format {tag}')}), not plain PCM"
        )
    if bits not in _WIDTHS[tag]:
        raise UnreadableRecordingError(f"its samples are {bits} bits wide")
    if not channels or not _LOWEST_RATE <= rate <= _HIGHEST_RATE:
        raise UnreadableRecordingError(f"it claims {channels} channel(s) at {rate:,} hertz")
    available = size - start
    if length in _OPEN_SIZES:
        length = available
    if length > available:
        raise UnreadableRecordingError(
            f"it ends early: {available:,} of {length:,} bytes of samples are there"
        )
    num_frames = length // (channels * bits // 8)
    if num_frames == 0:
        raise UnreadableRecordingError("it holds no samples")
    return WavHeader(rate, channels, bits, tag == _FLOAT, start, num_frames)


def _decoded(data: bytes, header: WavHeader) -> npt.NDArray[np.int16]:
    """All channels of all frames, one after the other."""
    import numpy as np

    if header.is_float:
        return whole_samples(np.frombuffer(data, "<f4" if header.bits == 32 else "<f8"))
    if header.bits == 8:  # the only width without sign
        return (np.frombuffer(data, "u1").astype("int16") - 128) * 256
    if header.bits == 16:
        return np.frombuffer(data, "<i2").astype("int16")
    upper = np.frombuffer(data, "u1").reshape(-1, header.bits // 8)[:, -2:]
    return np.ascontiguousarray(upper).view("<i2")[:, 0].astype("int16")
