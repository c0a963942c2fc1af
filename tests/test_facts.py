"""The vocabulary and the facts that use it."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.errors import FactError
from smarttune.facts import FACTS, Fact, Facts, as_kind, check_value, fact_def, parse_kind
from smarttune.space import HYPERPARAMETERS, Value
from tests.strategies import plausible_facts


@pytest.mark.parametrize("name", FACTS)
def test_every_fact_is_well_formed(name: str) -> None:
    """A fact has a dotted name, a kind, a meaning, and no hyperparameter of its name."""
    definition = FACTS[name]

    assert re.fullmatch(r"[a-z]+\.[a-z0-9_]+", name)
    assert definition.kind in ("float", "int", "str", "bool")
    assert definition.about
    assert not definition.values or definition.kind == "str"
    assert re.fullmatch(r"(--[a-z-]+)?", definition.flag)
    assert name not in HYPERPARAMETERS


def test_flags_are_unique() -> None:
    """No two facts share a command-line flag."""
    flags = [d.flag for d in FACTS.values() if d.flag]

    assert len(flags) == len(set(flags))
    assert "--task" in flags


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("data.num_samples", 5.0, 5),
        ("data.num_samples", 5, 5),
        ("data.missing_fraction", 1, 1.0),
        ("data.time_ordered", False, False),
        ("data.task", "text", "text"),
        ("history.edge_hyperparameter", "model.units", "model.units"),
    ],
)
def test_values_take_the_type_of_their_fact(name: str, value: object, expected: Value) -> None:
    """What loses nothing is converted, and the type is the fact's."""
    typed = check_value(name, value)

    assert typed == expected
    assert type(typed) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("data.num_samples", 5.5, "a whole number"),
        ("data.num_samples", True, "a whole number"),
        ("data.num_samples", "5", "a whole number"),
        ("data.missing_fraction", math.nan, "a number"),
        ("data.missing_fraction", math.inf, "a number"),
        ("data.time_ordered", 1, "true or false"),
        ("data.task", "tabula", "Did you mean `tabular`"),
        ("data.task", 3, "one of tabular, text"),
    ],
)
def test_wrong_values_are_refused_with_what_was_expected(
    name: str, value: object, hint: str
) -> None:
    """A value that does not fit is an error that names the fact and the right form."""
    with pytest.raises(FactError, match=re.escape(hint)) as caught:
        check_value(name, value, where="--fact")

    assert caught.value.where == "--fact"
    assert name in caught.value.received


def test_unknown_names_are_refused_with_the_closest() -> None:
    """A misspelt fact is answered with the right one."""
    with pytest.raises(FactError, match=r"Did you mean `data\.num_samples`"):
        fact_def("data.num_sample")
    with pytest.raises(FactError):
        Facts.of({"data.nonsense": 1})


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("60_000", "int", 60000),
        ("1e3", "int", 1000),
        ("2.5", "int", None),
        ("2.5", "float", 2.5),
        ("inf", "float", None),
        ("nan", "float", None),
        ("ten", "float", None),
        ("Yes", "bool", True),
        ("false", "bool", False),
        ("1", "bool", None),
        ("text", "str", "text"),
    ],
)
def test_words_are_parsed_by_kind(text: str, kind: str, expected: Value | None) -> None:
    """A command-line word becomes a value of its kind, or nothing."""
    assert parse_kind(text, kind) == expected  # type: ignore[arg-type]


@given(st.floats(allow_nan=True, allow_infinity=True), st.sampled_from(["int", "float"]))
def test_numbers_are_kept_or_refused(number: float, kind: str) -> None:
    """A number of the kind keeps its size; anything else gives None."""
    typed = as_kind(number, kind)  # type: ignore[arg-type]

    assert typed is None or typed == number
    if math.isfinite(number) and kind == "float":
        assert typed == number


def test_none_means_unknown() -> None:
    """A value of None leaves the fact out, and an absent fact has no value."""
    facts = Facts.of({"data.num_samples": 10, "data.num_features": None})

    assert list(facts) == ["data.num_samples"]
    assert facts.value("data.num_features") is None


def test_the_right_side_of_a_union_wins() -> None:
    """Joined facts keep the value and the origin of the right side."""
    measured = Facts.of({"data.num_samples": 10, "data.num_features": 3}, origin="measured")
    declared = Facts.of({"data.num_samples": 20}, how="by flag")

    both = measured | declared

    assert both["data.num_samples"] == Fact(20, "declared", "by flag")
    assert both["data.num_features"].origin == "measured"
    assert measured.value("data.num_samples") == 10


def test_facts_cannot_be_changed() -> None:
    """Facts offer no assignment, and neither does one fact."""
    facts = Facts.of({"data.num_samples": 10})

    with pytest.raises(TypeError):
        facts["data.num_samples"] = Fact(1)  # type: ignore[index]
    with pytest.raises(AttributeError):
        facts["data.num_samples"].value = 1  # type: ignore[misc]


@given(plausible_facts)
def test_facts_survive_json(facts: Facts) -> None:
    """Facts written as JSON come back equal, with the same hash and order."""
    back = Facts.from_json(facts.to_json())

    assert back == facts
    assert hash(back) == hash(facts)
    assert list(back) == sorted(facts)


def test_facts_differ_by_origin() -> None:
    """The same value measured and declared are two different facts."""
    declared, measured = (
        Facts.of({"data.num_samples": 1}, origin=o) for o in ("declared", "measured")
    )

    assert declared != measured
    assert declared.values_dict() == measured.values_dict()
