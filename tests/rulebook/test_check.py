"""What a rule promises beyond its format."""

from __future__ import annotations

from typing import Any

import pytest

from smarttune.rulebook import Rulebook, check_rule, check_rulebook
from tests.strategies import book_of, rule

FIRES = {"facts": {"data.num_samples": 2000}, "fires": True}
SILENT = {"facts": {"data.num_samples": 20}, "fires": False}


def checked(*examples: dict[str, Any], **changes: Any) -> list[str]:
    """Mistakes of a rule that fires above 1000 samples, with these examples."""
    made = rule(**({"when": ["data.num_samples > 1000"], "examples": list(examples)} | changes))
    return [str(m) for m in check_rule(made, book_of(made))]


def test_examples_of_both_outcomes_that_hold_are_enough() -> None:
    """A rule with one right example of each outcome keeps its promises."""
    assert checked(FIRES, SILENT) == []


@pytest.mark.parametrize(("examples", "shown"), [((), 0), ((FIRES,), 1), ((SILENT, SILENT), 1)])
def test_both_outcomes_are_shown(examples: tuple[dict[str, Any], ...], shown: int) -> None:
    """Examples show the rule firing and staying silent."""
    mistakes = checked(*examples)

    assert len(mistakes) == 1
    assert f"show {shown} of 2 outcomes" in mistakes[0]


def test_examples_that_do_not_hold_are_told_with_their_trace() -> None:
    """A wrong example is told by number, with the values that decided."""
    mistakes = checked(FIRES, {**SILENT, "fires": True}, SILENT)

    assert len(mistakes) == 1
    assert "example 2" in mistakes[0]
    assert "stays silent (data.num_samples = 20 > 1000)" in mistakes[0]


def test_an_unknown_outcome_counts_as_silent() -> None:
    """Without the facts the rule does not fire."""
    assert checked(FIRES, {"facts": {}, "fires": False}) == []
    assert "stays silent" in checked(FIRES, SILENT, {"facts": {}, "fires": True})[0]


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"data.num_sample": 1}, "Did you mean `data.num_samples`"),
        ({"data.num_samples": "many"}, "a whole number"),
        ({"data.task": "tabula"}, "Did you mean `tabular`"),
        ({"model.units": "wide"}, "no fact or hyperparameter with such a value"),
    ],
)
def test_examples_use_the_vocabulary(facts: dict[str, Any], message: str) -> None:
    """Names and values of examples are checked, those of hyperparameters too."""
    mistakes = checked(FIRES, SILENT, {"facts": facts, "fires": False})

    assert len(mistakes) == 1
    assert message in mistakes[0]


def test_an_example_that_fires_gives_every_value() -> None:
    """Where the rule fires, its ranges can be computed from the example's facts."""
    line = {"hyperparameter": "model.units", "int": {"low": 1, "high": "max(2, data.num_features)"}}

    mistakes = checked(FIRES, SILENT, then=line)

    assert len(mistakes) == 1
    assert "data.num_features unknown" in mistakes[0]


def test_an_example_whose_range_is_empty_is_a_mistake() -> None:
    """Bounds that cross for the example's facts are told, not raised."""
    line = {"hyperparameter": "model.units", "int": {"low": 9, "high": 2}}

    mistakes = checked(FIRES, SILENT, then=line)

    assert len(mistakes) == 1
    assert "low (9) is above high (2)" in mistakes[0]


def test_the_built_in_book_keeps_its_promises(book: Rulebook) -> None:
    """Every example of every built-in rule holds."""
    assert [str(m) for m in check_rulebook(book)] == []
