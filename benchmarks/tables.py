"""The real tables that benchmarks run on."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple


class Table(NamedTuple):
    """One table and how it is scored in a comparison."""

    name: str
    path: Path
    target: str | int
    problem: str
    metric: str
    direction: str


def data_folder() -> Path:
    """The folder with data sets; ends the program with a message if there is none."""
    folder = Path(
        os.environ.get("SMARTTUNE_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")
    ).resolve()
    if not (folder / "tabular").is_dir():
        sys.exit(f"No data in {folder}. Set SMARTTUNE_DATA to a folder that holds tabular/*.csv.")
    return folder / "tabular"


def tables() -> list[Table]:
    """Two classification tables and one regression table, small to middle-sized."""
    folder = data_folder()
    return [
        Table("adult", folder / "adult" / "adult-train.csv", -1, "binary", "auc", "max"),
        Table(
            "california",
            folder / "california_housing.csv",
            "median_house_value",
            "regression",
            "mean_absolute_error",
            "min",
        ),
        Table("wine", folder / "winequality-white.csv", -1, "multiclass", "accuracy", "max"),
    ]
