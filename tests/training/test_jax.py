"""What is marked `jax` holds on that backend as well, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rooms", "at_least"),
    [("tests/training", 16), ("tests/execution", 20), ("tests/tuning", 7)],
)
def test_the_promises_marked_so_hold_on_jax(root: Path, rooms: str, at_least: int) -> None:
    """The marked tests of a room pass with JAX as the backend of Keras."""
    pytest.importorskip("jax")
    plain = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plain, "-m", "jax", rooms],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-4000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= at_least
