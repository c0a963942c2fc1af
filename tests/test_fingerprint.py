"""Fingerprints: problems, facts, warnings, and what does not change them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarttune.data import read
from smarttune.errors import DataError, OptionError, SmartTuneError
from smarttune.fingerprint import ColumnProfile, Fingerprint, measure

RANDOM = np.random.default_rng(0)
N = 200
NOISE = RANDOM.normal(size=N)


def table(seed: int = 0, num_rows: int = N) -> pd.DataFrame:
    """Return a table with every kind of column and some gaps."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "id": np.arange(num_rows) * 3,
            "age": random.integers(18, 90, num_rows).astype(float),
            "income": np.exp(random.normal(size=num_rows) * 3),
            "town": random.choice(["Rom", "Wien", "Oslo", "Bern"], num_rows),
            "member": random.choice(["yes", "no"], num_rows),
            "since": pd.Series(pd.date_range("2020", periods=num_rows)).dt.strftime("%Y-%m-%d"),
            "note": [f"words and words {i}" for i in range(num_rows)],
            "one": 1,
            "y": random.choice(["good", "bad"], num_rows, p=[0.8, 0.2]),
        }
    )
    frame.loc[::10, "age"] = np.nan
    return frame


def test_every_column_is_profiled() -> None:
    """A table of all kinds gives each column its kind and its use."""
    columns = {c.name: c for c in measure(read(table(), "y")).columns}

    assert {n: (c.kind, c.used) for n, c in columns.items()} == {
        "id": ("identifier", False),
        "age": ("numeric", True),
        "income": ("numeric", True),
        "town": ("categorical", True),
        "member": ("boolean", True),
        "since": ("datetime", True),
        "note": ("text", True),
        "one": ("constant", False),
    }
    assert columns["age"].num_missing == 20
    assert columns["town"].cardinality == 4
    assert columns["since"].datetime_format == "ISO8601"
    assert (columns["income"].heavy_tailed, columns["age"].heavy_tailed) == (True, False)


def test_facts_are_counted_by_hand() -> None:
    """The facts of a small table are those that a person counts."""
    frame = pd.DataFrame(
        {
            "a": [1.5, 2.5, np.nan, 4.5, 1.5, 2.5, 3.5, 4.5, 5.5, 1.5, 2.0, 3.0],
            "c": list("uvwuuvwuuuvw"),
            "y": list("nnpnnnpnnpnp"),
        }
    )

    fingerprint = measure(read(frame, "y"))
    facts = fingerprint.facts().values_dict()

    # Rows 4, 5 and 7 repeat 0, 1 and 3; row 9 has the inputs of row 0 and another target.
    assert facts == {
        "data.task": "tabular",
        "data.num_samples": 12,
        "data.num_features": 2,
        "data.num_numeric_features": 1,
        "data.num_categorical_features": 1,
        "data.num_text_features": 0,
        "data.max_cardinality": 3,
        "data.missing_fraction": pytest.approx(1 / 24),
        "data.duplicate_fraction": pytest.approx(3 / 12),
        "data.heavy_tailed": False,
        "data.num_outputs": 1,
        "data.num_classes": 2,
        "data.num_negatives": 8,
        "data.num_positives": 4,
        "data.imbalance_ratio": 2.0,
        "data.min_class_fraction": pytest.approx(1 / 3),
        "model.problem": "binary",
    }
    assert fingerprint.facts()["data.num_samples"].origin == "measured"
    assert "two distinct values" in fingerprint.facts()["model.problem"].how
    assert fingerprint.column_facts()["c"].values_dict() == {
        "column.cardinality": 3,
        "column.rows_per_level": 4.0,
    }


@pytest.mark.parametrize(
    ("target", "problem", "num_outputs", "num_classes"),
    [
        (RANDOM.integers(0, 2, N), "binary", 1, 2),
        (RANDOM.integers(0, 2, N) == 1, "binary", 1, 2),
        (RANDOM.choice([0.5, 1.5], N), "binary", 1, 2),
        (RANDOM.integers(3, 10, N), "multiclass", 7, 7),
        (RANDOM.integers(3, 10, N).astype(float), "multiclass", 7, 7),
        (RANDOM.choice(list("abc"), N), "multiclass", 3, 3),
        (np.eye(4)[RANDOM.integers(0, 4, N)], "multiclass", 4, 4),
        (RANDOM.integers(0, 2, (N, 3)), "multilabel", 3, 3),
        (RANDOM.normal(size=N), "regression", 1, None),
        (RANDOM.integers(0, 1000, N), "regression", 1, None),
        (RANDOM.integers(0, 10, N) * 100, "regression", 1, None),
        (np.arange(N), "regression", 1, None),
        (RANDOM.choice([0.5, 1.0, 1.5], N), "regression", 1, None),
    ],
)
def test_problems_are_told_from_targets(
    target: Any, problem: str, num_outputs: int, num_classes: int | None
) -> None:
    """The form and values of a target tell the problem, its outputs and classes."""
    fingerprint = measure(read((NOISE, target)))

    facts = fingerprint.facts()
    assert fingerprint.problem == problem
    assert facts.value("model.problem") == problem
    assert facts.value("data.num_outputs") == num_outputs
    assert facts.value("data.num_classes") == num_classes
    assert fingerprint.problem_evidence.endswith(".")


def test_a_declared_problem_wins() -> None:
    """Whole-number grades become amounts where the user says so."""
    dataset = read((NOISE, RANDOM.integers(3, 10, N)))

    guessed, declared = measure(dataset), measure(dataset, problem="regression")

    assert "--problem regression" in guessed.problem_evidence
    assert declared.problem == "regression"
    assert declared.classes == ()
    assert declared.target_skew is not None


def test_classes_are_sorted_with_their_counts() -> None:
    """Labels come in sorted order, as plain values, each with its rows."""
    fingerprint = measure(read((NOISE, np.array([3, 1, 2, 1] * (N // 4)))))

    assert fingerprint.classes == (1, 2, 3)
    assert fingerprint.class_counts == (100, 50, 50)
    assert all(type(label) is int for label in fingerprint.classes)


def test_skew_is_that_of_the_sample() -> None:
    """An exponential target is skewed to the right, its negative to the left."""
    values = np.random.default_rng(1).exponential(size=20_000)

    inputs = np.resize(NOISE, 20_000)
    right, left = (measure(read((inputs, v))).target_skew for v in (values, -values))

    # The skewness of the exponential distribution is 2.
    assert right is not None
    assert right == pytest.approx(2, abs=0.2)
    assert left == pytest.approx(-right)


@pytest.mark.parametrize("target", ["y", "town", "age"])
def test_json_keeps_everything(target: str) -> None:
    """A fingerprint read back from JSON is equal, and its classes keep their types."""
    fingerprint = measure(read(table(), target))

    again = Fingerprint.model_validate_json(fingerprint.model_dump_json())

    assert again == fingerprint
    assert again.facts() == fingerprint.facts()
    assert [type(c) for c in again.classes] == [type(c) for c in fingerprint.classes]


@given(order=st.permutations(range(60)), columns=st.permutations(list(table(3, 60).columns)))
@settings(max_examples=15, deadline=None)
def test_order_changes_nothing(order: list[int], columns: list[str]) -> None:
    """Shuffled rows and columns give the same facts and the same columns."""
    frame = table(3, 60)

    one = measure(read(frame, "y"))
    other = measure(read(frame.iloc[order][columns], "y"))

    assert other.facts().values_dict() == pytest.approx(one.facts().values_dict())
    assert {c.name: c for c in other.columns} == {c.name: c for c in one.columns}
    assert other.class_counts == one.class_counts


def test_dropped_columns_stay_visible_but_unused() -> None:
    """A column that is dropped counts nowhere, and its profile says why."""
    whole, less = (measure(read(table(), "y"), drop=d) for d in ((), ("town",)))

    town = next(c for c in less.columns if c.name == "town")
    assert (town.used, town.reason) == (False, "left out on request")
    assert less.facts().value("data.num_categorical_features") == 0
    assert whole.facts().value("data.num_features") == 6
    assert less.facts().value("data.num_features") == 5
    assert "town" not in less.column_facts()


@pytest.mark.parametrize(
    ("columns", "target", "message"),
    [
        ({"x": NOISE, "paid": [0, 1] * 100}, [0, 1] * 100, "--drop paid"),
        ({"x": NOISE}, [0] * 190 + [1] * 10, "unbalanced: `1` has 10"),
        ({"x": np.resize(NOISE[:50], N)}, [0, 1] * 100, "150 row(s) (75.0%) repeat"),
        ({"x": NOISE, "g": [None] * 150 + [1.5] * 25 + [2.5] * 25}, [0, 1] * 100, "missing in `g`"),
        ({"x": NOISE, "k": [5] * N}, [0, 1] * 100, "1 constant column(s) not used: `k`"),
        ({"x": [*map(str, NOISE[1:]), "n.d."]}, [0, 1] * 100, "such as 'n.d.'"),
    ],
)
def test_warnings_name_what_to_look_at(columns: Any, target: Any, message: str) -> None:
    """Leaks, imbalance, copies, gaps, unused columns and stray words are reported."""
    warnings = measure(read(columns, target)).warnings

    assert sum(message in warning for warning in warnings) == 1


def test_a_clean_table_has_no_warnings() -> None:
    """Nothing to report, nothing reported."""
    assert measure(read((RANDOM.normal(size=(N, 3)), RANDOM.integers(0, 2, N)))).warnings == ()


@pytest.mark.parametrize(
    ("columns", "target", "options", "error", "message"),
    [
        ({"x": [1.0]}, [1], {}, DataError, "1 row"),
        ({"x": NOISE}, None, {}, DataError, "no target"),
        ({"x": NOISE}, np.ones(N), {}, DataError, "only the value `1`"),
        ({"x": np.ones(N)}, [0, 1] * 100, {}, DataError, "every input column is constant"),
        ({"x": [f"n{i}" for i in range(N)]}, [0, 1] * 100, {}, DataError, "no input column"),
        ({"x": NOISE}, [f"n{i}" for i in range(N)], {}, DataError, "classes that repeat"),
        ({"x": NOISE}, RANDOM.normal(size=(N, 2)), {}, DataError, "other values than 0 and 1"),
        ({"x": NOISE}, np.c_[np.ones(N), [0, 1] * 100], {}, DataError, "is the same in all"),
        ({"x": NOISE}, [0, 1] * 100, {"drop": ["z"]}, DataError, "`z` to drop"),
        ({"x": NOISE}, [0, 1] * 100, {"drop": ["x"]}, DataError, "all were dropped"),
        ({"x": NOISE}, [0, 1] * 100, {"problem": "binry"}, OptionError, "Did you mean `binary`"),
        ({"x": NOISE}, [0, 1] * 100, {"problem": "multilabel"}, OptionError, "one column"),
        ({"x": NOISE}, NOISE, {"problem": "binary"}, OptionError, "200 distinct values"),
        ({"x": NOISE}, list("ab") * 100, {"problem": "regression"}, OptionError, "not a number"),
        ({"x": NOISE}, NOISE, {"problem": "multiclass"}, DataError, "classes that repeat"),
    ],
)
def test_tables_that_cannot_be_learnt_are_refused(
    columns: Any, target: Any, options: dict[str, Any], error: type[SmartTuneError], message: str
) -> None:
    """Each hopeless table or wrong option is an error with its reason and remedy."""
    with pytest.raises(error) as caught:
        measure(read(columns, target), **options)

    assert message in str(caught.value)
    assert caught.value.mend


def test_row_numbers_are_used_where_nothing_else_is() -> None:
    """A function of the position alone can be learnt."""
    columns = measure(read({"t": np.arange(N)}, NOISE)).columns

    assert (columns[0].kind, columns[0].used) == ("numeric", True)


def test_a_sample_counts_the_rows_of_the_source() -> None:
    """Facts about a sample speak of the whole table, without the rows that lack a target."""
    frame = pd.DataFrame({"x": np.resize(NOISE, 1000), "y": [0.0, 1.0, 0.0, np.nan] * 250})

    fingerprint = measure(read(frame, "y", max_rows=400))

    assert (fingerprint.num_rows, fingerprint.sampled) == (1000, True)
    # A quarter of the rows has no target; 70 rows are four standard errors of the estimate
    # from 400 of 1000 rows drawn without replacement.
    assert fingerprint.num_usable == pytest.approx(750, abs=70)
    assert fingerprint.facts()["data.num_samples"].how == "estimated from a sample"


def test_ten_thousand_columns_are_measured() -> None:
    """A very wide table works, with a warning."""
    frame = pd.DataFrame(RANDOM.normal(size=(50, 10_000))).add_prefix("f")

    fingerprint = measure(read(frame, [0, 1] * 25))

    assert fingerprint.facts().value("data.num_features") == 10_000
    assert any("10,000 input columns" in w for w in fingerprint.warnings)


def test_profiles_are_frozen() -> None:
    """What was measured cannot be edited."""
    profile = ColumnProfile(
        name="a", kind="numeric", used=True, reason="r", num_missing=0, cardinality=2
    )

    with pytest.raises(ValueError, match="frozen"):
        profile.used = False


def test_importing_loads_no_pandas() -> None:
    """The rooms of data and the fingerprint import pandas and NumPy only when used."""
    code = (
        "import sys, smarttune.data, smarttune.fingerprint, smarttune.hardware;"
        "sys.exit(any(m in sys.modules for m in ('pandas', 'numpy', 'pyarrow', 'keras')))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "target", "problem", "facts"),
    [
        (
            "tabular/adult/adult-train.csv",
            "-1",
            "binary",
            {"num_positives": 7841, "num_features": 14, "num_categorical_features": 8},
        ),
        ("tabular/winequality-white.csv", "-1", "multiclass", {"num_classes": 7}),
        ("tabular/california_housing.csv", "median_house_value", "regression", {"num_features": 9}),
        ("tabular/titanic.csv", "Survived", "binary", {"num_positives": 342, "num_features": 8}),
    ],
)
def test_real_tables_are_understood(
    name: str, target: str, problem: str, facts: dict[str, int]
) -> None:
    """Well-known tables give the problem and the counts that are known of them."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("SMARTTUNE_DATA", default)) / name
    if not path.exists():
        pytest.skip(f"needs {name} of the development data (set SMARTTUNE_DATA)")

    fingerprint = measure(read(path, target))

    assert fingerprint.problem == problem
    assert fingerprint.leaks == ()
    measured = fingerprint.facts()
    assert {n: measured.value(f"data.{n}") for n in facts} == facts
