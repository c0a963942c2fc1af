"""Data that are not bundled: found beside the project, or the test is skipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"
DEFAULT = SHARED / "data"


def development_data(name: str) -> Path:
    """The path of one file or folder of the development data; skips where it is absent."""
    path = Path(os.environ.get("SMARTTUNE_DATA", DEFAULT)) / name
    if not path.exists():
        pytest.skip(f"{name} is not here; set SMARTTUNE_DATA to the folder that holds it")
    return path


def development_knowledge() -> Path:
    """The file that the rules were written from; skips where it is absent."""
    path = Path(os.environ.get("SMARTTUNE_KNOWLEDGE", SHARED / "knowledge" / "heuristics.yaml"))
    if not path.exists():
        pytest.skip(f"{path.name} is not here; set SMARTTUNE_KNOWLEDGE to it")
    return path
