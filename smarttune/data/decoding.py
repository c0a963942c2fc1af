"""One picture from its file, whatever its format, mode and state; and scaling of arrays."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smarttune.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# First bytes, and where the format has them the last bytes, of a whole file (PNG: ISO 15948,
# JPEG: ITU T.81, GIF: GIF89a specification).
_WHOLE = (
    (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"),
    (b"\xff\xd8\xff", b"\xff\xd9"),
    (b"GIF8", b"\x3b"),
)
_DEEP = 65535.0  # largest value of a picture of 16 bits per channel
# What Pillow's readers raise for a file that is cut short or overwritten.
_DAMAGED = (ValueError, SyntaxError, EOFError, TypeError, IndexError, KeyError, struct.error)


def decoded(path: Path, channels: int, side: int | None = None) -> npt.NDArray[np.uint8]:
    """Decode one picture.

    It is turned upright as its camera noted; transparent parts lie on white; 16 bits per
    channel are cut to 8.

    Args:
        path: The file.
        channels: 1 for grey, 3 for colour.
        side: Side of the square to scale to; None keeps the size.

    Returns:
        uint8, shape (height, width, channels).

    Raises:
        OSError: If the file is no picture or is cut short.
    """
    import numpy as np

    image, ops = _pillow()
    mode = "L" if channels == 1 else "RGB"
    with _opened(path) as opened:
        if side is not None:
            opened.draft(mode, (side, side))  # JPEG: fewer pixels are decoded
        picture = _flat(ops.exif_transpose(opened), mode)
        if side is not None and picture.size != (side, side):
            picture = picture.resize((side, side), image.Resampling.BILINEAR)
        pixels = np.asarray(picture, np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def read_mask(path: Path) -> npt.NDArray[np.int64]:
    """Classes of the pixels of a label picture, shape (height, width).

    Raises:
        DataError: If it cannot be decoded, or has several channels.
    """
    import numpy as np

    try:
        with _opened(path) as opened:
            labels = np.asarray(opened)
    except OSError as error:
        raise _bad_mask(path, f"it cannot be decoded ({error})") from None
    if labels.ndim == 3:
        if not (labels[..., :3] == labels[..., :1]).all():
            raise _bad_mask(path, f"it has {labels.shape[2]} channels that differ")
        labels = labels[..., 0]  # a grey picture that was saved in colour
    return labels.astype(np.int64)


def header_of(path: Path) -> tuple[tuple[int, int], str] | None:
    """Size (width, height) and mode of a picture, from its header; None if unreadable."""
    try:
        with _opened(path) as opened:
            return opened.size, opened.mode
    except OSError:
        return None


def why_broken(path: Path, *, thorough: bool) -> str | None:
    """Why a file is no whole picture, or None if it is one.

    Args:
        path: The file.
        thorough: Decode it; otherwise its first and last bytes vouch for it where its format
            has an end mark.
    """
    try:
        with path.open("rb") as file:
            head = file.read(8)
            if not head:
                return "empty file"
            if not thorough and _has_both_ends(file, head):
                return None
    except OSError as error:
        return error.strerror or str(error)
    try:
        decoded(path, 1)
    except OSError as error:
        return str(error).replace(f" '{path}'", "").replace(f" {str(path)!r}", "")
    return None


def _has_both_ends(file: Any, head: bytes) -> bool:
    for first, last in _WHOLE:
        if head.startswith(first):
            file.seek(-min(len(last), len(head)), 2)
            return bool(file.read().endswith(last))
    return False


def smooth(pixels: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Scale pictures to a square by averaging over a triangle as wide as the shrinking.

    The same filter as in Pillow's and TensorFlow's antialiased bilinear scaling.

    Args:
        pixels: uint8, shape (n, height, width, channels).
        side: Side of the square, in pixels.

    Returns:
        uint8, shape (n, side, side, channels).
    """
    import numpy as np

    height, width = pixels.shape[1:3]
    if (height, width) == (side, side):
        return pixels
    down, across = _weights(height, side), _weights(width, side)
    out = np.empty((len(pixels), side, side, pixels.shape[3]), np.uint8)
    for i, picture in enumerate(pixels):  # one at a time: large ones would not fit as floats
        scaled = np.einsum("yh,hwc,xw->yxc", down, picture, across, optimize=True)
        out[i] = np.clip(np.rint(scaled), 0, 255)
    return out


def _weights(size: int, side: int) -> npt.NDArray[np.float32]:
    """Share of each old pixel in each new one, shape (side, size), rows summing to 1."""
    import numpy as np

    scale = size / side
    centers = (np.arange(side) + 0.5) * scale
    distance = np.abs(np.arange(size)[None] + 0.5 - centers[:, None]) / max(scale, 1.0)
    shares = np.maximum(1.0 - distance, 0.0)
    normalized: npt.NDArray[np.float32] = shares / shares.sum(axis=1, keepdims=True)
    return normalized.astype(np.float32)


def nearest(labels: npt.NDArray[np.int64], side: int) -> npt.NDArray[np.int64]:
    """Scale labels of pixels, shape (..., height, width), to a square without mixing them."""
    import numpy as np

    height, width = labels.shape[-2:]
    y = ((np.arange(side) + 0.5) * height / side).astype(np.int64)
    x = ((np.arange(side) + 0.5) * width / side).astype(np.int64)
    return labels[..., y[:, None], x[None]]


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise MissingExtraError("reading of pictures", module="PIL", extra="image") from None
    return Image, ImageOps


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An opened picture; whatever a broken file raises inside becomes an OSError."""
    image, _ = _pillow()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata and large pictures are no concern here
        try:
            with image.open(path) as opened:
                yield opened
        except image.UnidentifiedImageError:
            raise OSError("no picture in a format that is read") from None
        except (*_DAMAGED, image.DecompressionBombError) as error:
            raise OSError(str(error) or type(error).__name__) from None


def _flat(picture: Any, mode: str) -> Any:
    """A picture without transparency, in one of the modes L and RGB."""
    import numpy as np

    image, _ = _pillow()
    if picture.mode.startswith(("I", "F")):  # 16 or 32 bits per pixel
        values = np.asarray(picture, np.float32)
        values = values / _DEEP * 255.0 if values.max(initial=0) > 255 else values
        picture = image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    if "A" in picture.mode or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = image.alpha_composite(image.new("RGBA", picture.size, "white"), picture)
    return picture.convert(mode)


def _bad_mask(path: Path, received: str) -> DataError:
    return DataError(
        str(path),
        received=received,
        expected="a label picture: one channel whose values are the classes of the pixels",
        mend="Save label pictures as grey or palette PNG.",
    )
