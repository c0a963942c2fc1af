"""The page of a rule, and the table of facts."""

from __future__ import annotations

import pytest

from smarttune.facts import FACTS
from smarttune.rulebook import Rulebook, explain, fact_table
from smarttune.rulebook.explain import describe, rule_json
from tests.strategies import SOURCE, rule


def test_a_page_holds_everything_a_rule_says() -> None:
    """Conditions, ranges, reasons, limits, sources, judgement, conflicts and examples."""
    made = rule(
        "TST001",
        when=["data.num_samples > 1000"],
        then=[
            {"hyperparameter": "model.units", "int": {"low": 8, "high": 64, "default": 16}},
            {"advice": "Look at your labels."},
        ],
        why="Because of this.",
        limits="Not beyond that.",
        ours="The number 8.",
        conflicts=[{"with": "TST002", "decided_by": "size"}],
        overrides=["TST003"],
        examples=[
            {"facts": {"data.num_samples": 2000}, "fires": True},
            {"facts": {}, "fires": False},
        ],
    )

    page = explain(made, {"src": SOURCE})

    for part in (
        "# situation-tst001 (TST001)",
        made.summary,
        "Stable since 0.1.0",
        "evidence: practitioner",
        "confidence 0.6",
        "## When it fires",
        "- `data.num_samples > 1000`",
        "## What it does",
        "`model.units` should be searched over 8 to 64, 16 by default.",
        "Look at your labels.",
        "## Why\n\nBecause of this.",
        "## Limits\n\nNot beyond that.",
        "## Provenance",
        "supports the number: It was so.",
        "A. Author (2020), [A work](https://example.org), p. 1",
        "Verification: read",
        "## What is our own judgement\n\nThe number 8.",
        "## Conflicts",
        "- with TST002: size",
        "- overrides TST003",
        "## Examples",
        "- fires: `data.num_samples = 2000`",
        "- stays silent: no facts",
    ):
        assert part in page


def test_sections_without_content_are_left_out() -> None:
    """A rule without conditions fires always; without judgement it has no such section."""
    page = explain(rule(), {"src": SOURCE})

    assert "## When it fires\n\nAlways." in page
    assert "judgement" not in page
    assert "Conflicts" not in page


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ({"hyperparameter": "model.dropout", "fixed": 0.1}, "`model.dropout` should be 0.1."),
        (
            {"hyperparameter": "model.dropout", "fixed": 0.1, "strength": "must"},
            "`model.dropout` must be 0.1.",
        ),
        (
            {
                "hyperparameter": "optimizer.name",
                "choice": {"values": ["sgd", "adam"], "default": "adam"},
            },
            "`optimizer.name` should be one of sgd, adam, adam by default.",
        ),
        (
            {
                "hyperparameter": "optimizer.learning_rate",
                "float": {"low": 1e-4, "high": "1 / data.num_samples", "sampling": "log"},
            },
            "`optimizer.learning_rate` should be searched over 0.0001 to `1 / data.num_samples` (log).",
        ),
        (
            {
                "hyperparameter": "model.loss",
                "fixed": {"expression": "'mae' if data.heavy_tailed else 'mse'"},
            },
            "`model.loss` should be `'mae' if data.heavy_tailed else 'mse'`.",
        ),
        (
            {
                "hyperparameter": "optimizer.l2",
                "fixed": 0.1,
                "active_when": {"optimizer.regularization": ["l2", "l1_l2"]},
            },
            "`optimizer.l2` should be 0.1, where `optimizer.regularization` is l2 or l1_l2.",
        ),
        (
            {"hyperparameter": "model.bidirectional", "fixed": True},
            "`model.bidirectional` should be true.",
        ),
    ],
)
def test_consequences_are_sentences(line: dict[str, object], text: str) -> None:
    """Each line of `then` reads as one sentence."""
    assert describe(rule(then=line).then[0]) == text


def test_the_fact_table_holds_every_fact_and_its_readers(book: Rulebook) -> None:
    """Every fact has a row with the rules that read it."""
    rows = {row[0]: row for row in fact_table(book)}

    assert rows.keys() == FACTS.keys()
    assert rows["data.task"][1].startswith("tabular|text")
    assert " more" in rows["data.num_samples"][4]
    for name, row in rows.items():
        readers = [r.code for r in book.rules if name in r.names]
        assert bool(row[4]) is bool(readers)
        assert all(code in row[4] for code in readers[:4])


def test_a_rule_as_data_has_the_form_of_its_file() -> None:
    """Numbers stay numbers and expressions their text; defaults are left out."""
    made = rule(
        when=["data.num_samples > 3"],
        then={"hyperparameter": "model.units", "int": {"low": 8, "high": "data.num_samples * 2"}},
    )

    data = rule_json(made)

    assert data["when"] == ["data.num_samples > 3"]
    assert data["then"] == [
        {"hyperparameter": "model.units", "int": {"low": 8, "high": "data.num_samples * 2"}}
    ]
