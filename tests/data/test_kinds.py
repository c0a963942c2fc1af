"""Each column is told by its cells and its name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from smarttune.data import read
from smarttune.data.kinds import Kind, datetime_format, kind_of, named_like_identifier
from smarttune.data.statistics import column_statistics

N = 60


def kind(cells: Any, name: str = "column") -> Kind:
    """Return the kind of one column."""
    frame = read({name: cells}).features
    return kind_of(column_statistics(frame)[name], len(frame))


@pytest.mark.parametrize(
    ("name", "cells", "expected"),
    [
        ("x", [i * 0.37 for i in range(N)], "numeric"),
        ("year", [1950 + i for i in range(N)], "numeric"),
        ("grade", [i % 5 for i in range(N)], "numeric"),
        ("flag", [i % 2 for i in range(N)], "boolean"),
        ("flag", [i % 2 == 0 for i in range(N)], "boolean"),
        ("flag", ["yes", "No"] * (N // 2), "boolean"),
        ("flag", [True, None, False] * (N // 3), "boolean"),
        ("sex", ["male", "female"] * (N // 2), "categorical"),
        ("town", [f"t{i % 7}" for i in range(N)], "categorical"),
        ("cabin", ["x", None] * (N // 2), "categorical"),
        ("customer_id", [7 * i for i in range(N)], "identifier"),
        ("PassengerId", [i + 1 for i in range(N)], "identifier"),
        ("anything", list(range(N)), "identifier"),
        ("ticket", [f"PC {i}" for i in range(N)], "identifier"),
        ("review", [f"this is my text number {i}" for i in range(N)], "text"),
        ("day", [f"2020-01-{i % 28 + 1:02d}" for i in range(N)], "datetime"),
        ("day", [f"{i % 28 + 1}.01.2020 12:30" for i in range(N)], "datetime"),
        ("day", [np.datetime64("2020-01-01") + i for i in range(N)], "datetime"),
        ("same", ["x"] * N, "constant"),
        ("same", [3.5, None] * (N // 2), "constant"),
        ("gone", [None] * N, "constant"),
        ("solid", [f"{i % 6}-{i % 3}-x" for i in range(N)], "categorical"),
    ],
)
def test_kinds_are_told_from_cells(name: str, cells: Any, expected: str) -> None:
    """Cells and names give the kind that a person would give."""
    assert kind(cells, name).kind == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("id", True),
        ("ID", True),
        ("customer_id", True),
        ("PassengerId", True),
        ("userID", True),
        ("row number", True),
        ("humid", False),
        ("paid", False),
        ("acid", False),
        ("casino", False),
    ],
)
def test_names_of_identifiers(name: str, expected: bool) -> None:
    """Names that only end in the letters id are no identifiers."""
    assert named_like_identifier(name) is expected


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (["2020-01-31", "2021-12-01"], "ISO8601"),
        (["1949-01", "1949-02"], "ISO8601"),
        (["2020-01-31T10:00:00Z"], "ISO8601"),
        (["31/01/2020", "01/02/2020"], "%d/%m/%Y"),
        (["01/31/2020", "02/01/2020"], "%m/%d/%Y"),
        (["31.01.2020 08:15"], "%d.%m.%Y %H:%M"),
        (["31 Jan 2020", "01 Feb 2021"], "%d %b %Y"),
        (["January 5, 2020"], "%B %d, %Y"),
        (["1-2", "3-4"], None),
        (["10.5.3", "11.2.1"], None),
        (["alpha", "beta"], None),
        (["2020-01-31", "n.d.", "later"], None),
    ],
)
def test_date_formats_are_found(levels: list[str], expected: str | None) -> None:
    """The format that parses the dates is named; other texts have none."""
    assert datetime_format(levels) == expected
