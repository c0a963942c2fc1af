"""Text of a file that may be anything: a pipe, a device, a link, a hundred megabytes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from smarttune.errors import RuleMistake

MAX_BYTES = 200_000  # ours: a rule file has about 3,000


def read_text(file: Path, within: Path | None = None) -> str:
    """Return the text of a small regular file, without ever waiting for it.

    Args:
        file: The file.
        within: The folder that links must not leave; None if they may.

    Raises:
        RuleMistake: If it is not such a file, cannot be read, or is not UTF-8.
    """
    if within is not None and not _lies_within(file, within):
        raise _mistake(
            file, "it is a link that leads out of its folder", "a file of the pack", "Copy it."
        )
    try:
        # Opening a pipe would wait for its writer, unless told not to.
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as opened:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _mistake(file, "it is not a regular file", "a rule file", "Move it away.")
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        received = f"it cannot be read ({error.strerror})"
        raise _mistake(file, received, "a readable file", "Check its permissions.") from None
    if len(content) > MAX_BYTES:
        size = f"the file has {status.st_size} bytes"
        raise _mistake(file, size, f"at most {MAX_BYTES}", "Write one rule per file.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        received = f"byte {error.start} is not UTF-8"
        raise _mistake(file, received, "UTF-8 text", "Save it as UTF-8.") from None


def _lies_within(file: Path, folder: Path) -> bool:
    return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder))


def _mistake(file: Path, received: str, expected: str, mend: str) -> RuleMistake:
    return RuleMistake(short(file), received=received, expected=expected, mend=mend)


def short(file: Path) -> str:
    """A file as messages name it: from here if it lies below, in characters that print."""
    try:
        name = str(file.relative_to(Path.cwd()))
    except (ValueError, OSError):  # it lies elsewhere, or there is no "here" any more
        name = str(file)
    return printable(name)


def printable(text: str) -> str:
    """The text, with escapes for characters that would steer a terminal or do not encode."""
    return text if text.isprintable() else ascii(text)[1:-1]
