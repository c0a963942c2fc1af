"""Files of an oracle: JSON that is complete on disk or absent.

KerasTuner rewrites `oracle.json` and `trial.json` in place; a kill in that
moment loses the project. Here a file is replaced as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smarttune.errors import OptionError, RunError
from smarttune.files import write_text


def write_json(path: Path, data: Any) -> None:
    """Write `data` to `path`, whole or not at all; folders are made as needed.

    Raises:
        RunError: If the folder cannot be written or the disk is full.
    """
    write_text(path, json.dumps(data, default=_as_python))


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that `path` holds.

    Raises:
        RunError: If the file is missing or holds something else.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _unreadable(path, "the file is missing") from None
    except ValueError as error:
        raise _unreadable(path, f"it is not JSON ({error})") from None
    if not isinstance(data, dict):
        raise _unreadable(path, f"it holds a {type(data).__name__}")
    return data


def check_settings(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Compare an oracle's settings with those of the search that it resumes.

    Raises:
        RunError: If one of them differs.
    """
    for name, value in theirs.items():
        if mine.get(name) != value:
            raise RunError(
                "resume",
                received=f"{name} was {value} and is now {mine.get(name)}",
                expected="the settings that the search was started with",
                mend=f"Keep {name}, or start anew with another project name.",
            )


def local_folder(directory: object) -> Path:
    """Return `directory` as a path.

    Raises:
        OptionError: If it names a remote store, which has no atomic rename.
    """
    if "://" in str(directory):
        raise OptionError(
            "directory",
            received=f"the directory is {directory}",
            expected="a folder of this machine",
            mend="Give a local folder, or pass persist=False to the oracle.",
        )
    return Path(str(directory))


def _unreadable(path: Path, received: str) -> RunError:
    return RunError(
        str(path),
        received=received,
        expected="a file that an earlier search wrote",
        mend="Restore the project's folder, or start anew with overwrite=True.",
    )


def _as_python(value: Any) -> Any:
    """Turn a NumPy scalar, which metrics may hold, into a Python number."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"cannot write a {type(value).__name__} to JSON")
