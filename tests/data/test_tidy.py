"""Columns of any type become bool, number, date or text."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from smarttune.data import read
from smarttune.data.names import clean_names, listed
from smarttune.data.tidy import tidy_column


@pytest.mark.parametrize(
    ("cells", "dtype"),
    [
        (["1", "2", " 3 "], "int64"),
        (["1", "2.5", None], "float64"),
        ([1, 2, None], "float64"),
        ([Decimal("1.5"), Decimal(2)], "float64"),
        ([True, False], "bool"),
        ([True, None, False], "str"),
        ([date(2020, 1, 1), None], "datetime64"),
        (["a", None], "str"),
        ([b"a", b"b"], "str"),
        ([1, "a"], "str"),
        (pd.array([1, None], dtype="Int64"), "float64"),
        (pd.array([1, 2], dtype="Int64"), "int64"),
        (pd.array([True, False], dtype="boolean"), "bool"),
        (pd.Categorical(["u", "v"]), "str"),
        (pd.Categorical([3, 4]), "int64"),
        (pd.date_range("2020", periods=2, tz="Europe/Berlin"), "datetime64"),
        (pd.period_range("2020-01", periods=2, freq="M"), "datetime64"),
        (pd.to_timedelta([1, 2], unit="s"), "float64"),
        ([10**30, 1], "float64"),
    ],
)
def test_every_type_becomes_a_plain_one(cells: Any, dtype: str) -> None:
    """Each storage of the same meaning ends in one type."""
    column = pd.Series(cells, dtype=object if isinstance(cells, list) else None, name="c")

    assert str(tidy_column(column).values.dtype).startswith(dtype)


def test_stray_words_in_numbers_become_missing() -> None:
    """A few words among numbers are missing cells, counted with an example."""
    column = pd.Series([*map(str, range(99)), "abc"], name="age")

    tidy = tidy_column(column)

    assert tidy.values.dtype == "float64"
    assert tidy.values.isna().sum() == 1
    assert "1 cell(s) such as 'abc'" in tidy.warning


def test_many_words_keep_a_column_text() -> None:
    """With one word in ten the numbers are taken for codes."""
    column = pd.Series([*map(str, range(90)), *["abc"] * 10], name="code")

    assert str(tidy_column(column).values.dtype) == "str"


def test_infinite_cells_become_missing_with_a_warning() -> None:
    """Infinity is counted, named and set to missing."""
    dataset = read({"a": [1.0, np.inf, -np.inf], "b": [1, 2, 3]})

    assert dataset.features["a"].isna().tolist() == [False, True, True]
    assert "2 infinite cell(s) in `a`" in dataset.warnings[0]


def test_columns_of_lists_are_left_out() -> None:
    """A column that is no column of values is named and left out."""
    dataset = read(pd.DataFrame({"a": [1, 2], "l": [[1], [2]]}))

    assert list(dataset.features.columns) == ["a"]
    assert "`l`" in dataset.warnings[0]


def test_reading_leaves_the_source_alone() -> None:
    """The user's frame is not changed."""
    frame = pd.DataFrame({"a": ["1", "?"], "b": [np.inf, 1.0]}, index=[7, 8])
    before = frame.copy(deep=True)

    read(frame)

    pd.testing.assert_frame_equal(frame, before)


def test_polars_frames_read_like_pandas() -> None:
    """The same columns from polars and pandas give the same dataset."""
    polars = pytest.importorskip("polars")
    columns = {"a": [1.5, 2.5, None], "c": ["u", None, "v"], "y": [True, False, True]}
    theirs = polars.DataFrame(columns).with_columns(polars.col("c").cast(polars.Categorical))

    ours = read(theirs, "y")

    pd.testing.assert_frame_equal(ours.features, read(pd.DataFrame(columns), "y").features)
    pd.testing.assert_frame_equal(ours.features, read(theirs.lazy(), "y").features)


@pytest.mark.parametrize("target", [[0, 1, 0], np.array([0, 1, 0]), pd.Series([0, 1, 0], name="t")])
def test_targets_in_memory_take_any_form(target: Any) -> None:
    """Lists, arrays and series are matched to the rows by position."""
    dataset = read(pd.DataFrame({"a": [1, 2, 3]}, index=[5, 6, 7]), target)

    assert isinstance(dataset.target, pd.Series)
    assert dataset.target.tolist() == [0, 1, 0]
    assert isinstance(dataset.target, pd.Series)
    assert dataset.target.name == ("t" if isinstance(target, pd.Series) else "y")


def test_labels_as_words_are_not_taken_for_columns() -> None:
    """A list of words as long as the rows holds labels."""
    dataset = read({"a": [1, 2, 3]}, ["p", "q", "p"])

    assert isinstance(dataset.target, pd.Series)
    assert dataset.target.tolist() == ["p", "q", "p"]


def test_names_are_unique_and_never_empty() -> None:
    """Empty and repeated names are replaced; free ones are never taken twice."""
    names, warnings = clean_names(["a", "a", "a_2", "", None, "column_4", " a "])

    assert len(set(names)) == 7
    assert all(names)
    assert names[2] == "a_2"
    assert names[5] == "column_4"
    assert "2 repeated" in warnings[0]


def test_long_lists_are_cut() -> None:
    """A sentence shows a few names and counts the rest."""
    assert listed(list("abcdefgh")) == "`a`, `b`, `c`, `d`, `e` and 3 more"
