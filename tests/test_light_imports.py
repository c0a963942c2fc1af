"""What each light command leaves unimported, seen from a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FRAMEWORKS = {
    "tensorflow",
    "keras",
    "keras_tuner",
    "matplotlib",
    "optuna",
    "sklearn",
    "jax",
    "torch",
}
TABLES = {"pandas", "numpy", "pyarrow", "polars", "scipy"}

PROGRAM = """
import json, sys
{body}
loaded = {{name.partition(".")[0] for name in sys.modules}}
print("LOADED" + json.dumps(sorted(loaded)), file=sys.stderr)
"""
COMMAND = "from smarttune.cli import run; assert run({arguments!r}) == 0"


def loaded_by(body: str) -> set[str]:
    """Top-level names of all modules that a process has loaded after `body`."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return set(json.loads(ended.stderr.rpartition("LOADED")[2]))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["rules", "list"],
        ["rules", "show", "CAP003"],
        ["search", "--help"],
        [
            "suggest",
            "--task",
            "tabular",
            "--problem",
            "binary",
            "--num-samples",
            "5000",
            "--num-features",
            "12",
            "--format",
            "json",
        ],
    ],
    ids=" ".join,
)
def test_light_commands_load_no_framework_and_no_tables(arguments: list[str]) -> None:
    """Rules, help and suggestions from flags need neither Keras nor pandas nor NumPy."""
    loaded = loaded_by(COMMAND.format(arguments=arguments))

    assert loaded & (FRAMEWORKS | TABLES) == set()
    assert "smarttune" in loaded


def test_a_suggestion_for_a_file_loads_its_reader_only(tmp_path: Path) -> None:
    """A csv file needs pandas, and no framework."""
    file = tmp_path / "table.csv"
    file.write_text("a,b,y\n" + "".join(f"{i},{i % 7},{i % 2}\n" for i in range(60)))

    loaded = loaded_by(COMMAND.format(arguments=["suggest", str(file), "--target", "y"]))

    assert loaded & FRAMEWORKS == set()
    assert "pandas" in loaded


@pytest.mark.parametrize(
    "body",
    [
        "import smarttune; smarttune.suggest; smarttune.recommend; smarttune.Facts",
        "from smarttune import rulebook, recommendation, trials, training, suggestion, report",
        "import smarttune; smarttune.suggest(facts={'data.task': 'tabular'})",
    ],
)
def test_importing_loads_nothing_heavy(body: str) -> None:
    """The package and its light rooms open without a framework or a table."""
    assert loaded_by(body) & (FRAMEWORKS | TABLES) == set()


def test_the_bare_package_loads_next_to_nothing() -> None:
    """`import smarttune` alone loads not even pydantic."""
    assert loaded_by("import smarttune") & {"pydantic", "typer", "yaml", "rich"} == set()


def test_this_test_can_fail() -> None:
    """A heavy import is seen."""
    assert "numpy" in loaded_by("import numpy")
