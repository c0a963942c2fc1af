"""Parsed rule files, kept between commands.

Two thirds of the time to load 200 rules is the YAML parser's. Parsed data are
kept as JSON under the user's cache folder, each file under its time and size; a
cache that is missing, damaged or not writable costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from smarttune.errors import RunError
from smarttune.files import write_text
from smarttune.version import __version__


def _folder() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "smarttune"


class ParsedFiles:
    """The parsed files of one folder of packs."""

    def __init__(self, folder: Path) -> None:
        name = hashlib.sha256(f"{__version__}\n{folder}".encode()).hexdigest()[:16]
        self.path = _folder() / f"rules-{name}.json"
        self.entries: dict[str, Any] = {}
        self.changed = False
        with contextlib.suppress(OSError, ValueError):
            loaded = json.loads(self.path.read_text(encoding="utf-8"))
            self.entries = loaded if isinstance(loaded, dict) else {}

    def get(self, file: Path) -> Any:
        """The data of a file as it is now on disk, or None."""
        match self.entries.get(str(file)):
            case [stamp, data] if stamp == _stamp(file):
                return data
        return None

    def put(self, file: Path, data: Any) -> None:
        """Keep the data of a file."""
        self.entries[str(file)] = [_stamp(file), data]
        self.changed = True

    def save(self) -> None:
        """Write the cache if it has changed."""
        if self.changed:
            with contextlib.suppress(RunError):
                write_text(self.path, json.dumps(self.entries))


def _stamp(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_mtime_ns, status.st_size]
