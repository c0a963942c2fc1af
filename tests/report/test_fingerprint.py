"""What a person reads of the measured data."""

from __future__ import annotations

from typing import Any

from smarttune.fingerprint import ColumnProfile, Fingerprint
from smarttune.report.fingerprint import fingerprint_text


def column(
    name: str, kind: Any = "numeric", *, used: bool = True, reason: str = ""
) -> ColumnProfile:
    """A column without gaps."""
    return ColumnProfile(
        name=name, kind=kind, used=used, reason=reason, num_missing=0, cardinality=3
    )


def fingerprint(*columns: ColumnProfile, **changed: Any) -> Fingerprint:
    """Measured data with some fields changed."""
    fields: dict[str, Any] = {
        "source": "people.csv",
        "num_rows": 12345,
        "num_rows_seen": 12345,
        "num_usable": 12345,
        "sampled": False,
        "target": "income",
        "problem": "binary",
        "problem_evidence": "it has two distinct values.",
        "columns": columns,
    }
    return Fingerprint(**(fields | changed))


def test_rows_inputs_and_target_are_told() -> None:
    """Rows, the used columns by kind with the most frequent first, the target and why."""
    found = fingerprint(column("town", "categorical"), column("age"), column("height"))

    assert fingerprint_text(found).splitlines() == [
        "people.csv: 12,345 rows, inputs: 2 numeric, 1 categorical",
        "Target income: binary (it has two distinct values.)",
    ]


def test_a_sample_is_admitted() -> None:
    """Where only a part was read, its size stands beside the whole."""
    found = fingerprint(column("age"), sampled=True, num_rows=9_000_000, num_rows_seen=50_000)

    assert "9,000,000 rows (measured on a sample of 50,000), inputs: 1 numeric" in (
        fingerprint_text(found)
    )


def test_no_target_is_no_line() -> None:
    """Data without a target have no line on it."""
    found = fingerprint(column("age"), target=None, problem=None, problem_evidence="")

    assert fingerprint_text(found) == "people.csv: 12,345 rows, inputs: 1 numeric"


def test_unused_columns_have_their_reasons() -> None:
    """What is left out is named with its kind and reason, and counts as no input."""
    unused = column("id", "identifier", used=False, reason="every row has its own value")

    lines = fingerprint_text(fingerprint(column("age"), unused)).splitlines()

    assert lines[0].endswith("inputs: 1 numeric")
    assert lines[2:] == ["Left out: id (identifier: every row has its own value)"]


def test_many_unused_columns_are_counted() -> None:
    """Of twelve unused columns all are named, of more the rest is counted."""
    unused = [column(f"c{i}", "constant", used=False, reason="one value") for i in range(15)]

    few, many = (
        fingerprint_text(fingerprint(column("age"), *unused[:n])).splitlines()[-1] for n in (12, 15)
    )

    assert few.count("constant") == many.count("constant") == 12
    assert few.endswith("c11 (constant: one value)")
    assert many.endswith("c11 (constant: one value) and 3 more")
