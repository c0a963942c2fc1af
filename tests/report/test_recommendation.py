"""What a person reads after `smarttune suggest`."""

from __future__ import annotations

import pytest

from smarttune.errors import SettingError
from smarttune.facts import Facts
from smarttune.recommendation import Recommendation, recommend
from smarttune.report.recommendation import explanation_text, recommendation_text
from smarttune.rulebook import Rulebook
from smarttune.suggestion import suggest
from tests.strategies import book_of, rule

FACTS = Facts.of({"data.num_samples": 1000})
RULES = book_of(
    rule(
        "TST001",
        when=["data.num_samples > 100"],
        ours="The bounds.",
        then={"hyperparameter": "model.units", "int": {"low": 8, "high": 64, "default": 16}},
    ),
    rule("TST002", then={"hyperparameter": "model.units", "fixed": 99, "strength": "may"}),
    rule(
        "TST003",
        then={
            "hyperparameter": "model.loss",
            "choice": {"values": ["mse", "mae"], "weights": [3, 1]},
        },
    ),
    rule(
        "TST004",
        then={
            "hyperparameter": "optimizer.l2",
            "fixed": 0.5,
            "active_when": {"model.units": [8, 9, 10]},
        },
    ),
    rule(
        "TST005", when=["data.num_features > 3"], then={"hyperparameter": "model.units", "fixed": 3}
    ),
    rule(
        "TST006",
        when=["history.num_trials > 3"],
        kind="dynamic",
        then={"hyperparameter": "model.units", "fixed": 3},
    ),
    rule("TST007", then={"advice": "Look at the labels."}),
    rule(
        "TST008",
        when=["column.cardinality > 1"],
        then={"hyperparameter": "model.encoding", "fixed": "one_hot"},
    ),
    rule("TST009", when=["data.num_samples > 9999"], provenance=[], ours="All of it."),
)


@pytest.fixture
def found() -> Recommendation:
    """A recommendation with something of everything."""
    columns = {c: Facts.of({"column.cardinality": 3}) for c in ("city", "town")}
    made = recommend(FACTS, rules=RULES, columns=columns, pinned={"optimizer.momentum": 0.5})
    return made.with_warnings(["Half of the cells are missing."])


def test_the_text_holds_everything(found: Recommendation) -> None:
    """Facts, settings with ranges and reasons, losers, unknown facts, advice and warnings."""
    text = recommendation_text(found, heading="people.csv")

    for part in (
        "people.csv",
        "Facts: data.num_samples = 1000",
        "Model\n-----",
        "Optimizer\n---------",
        "model.units = 16   search 8 to 64, mostly 8 to 30",
        "    TST001: Reason of the rule TST001. [src]",
        "    overruled TST002 (99): TST001 wins by strength",
        "model.loss = mse   search one of mae, mse, weights mse 75 %, mae 25 %",
        "optimizer.l2 = 0.5   only where model.units is 8 to 10",
        "model.encoding[city, town] = one_hot",
        "    you: You set this value.\n",
        "data.num_features (--num-features) would let speak:\n    TST005: Reason",
        "1 rules wait for the history of a search.",
        "- TST007: Look at the labels.",
        "- Half of the cells are missing.",
        "5 rules spoke, 1 were silent, 2 lacked a fact.",
    ):
        assert part in text
    assert "history.num_trials" not in text


def test_lines_fit_a_screen() -> None:
    """A real recommendation has no line beyond 96 characters, links and names apart."""
    found = suggest(
        facts={
            "data.task": "tabular",
            "model.problem": "multiclass",
            "data.num_samples": 4000,
            "data.num_features": 20,
            "hardware.device": "cpu",
        }
    )

    text = recommendation_text(found)

    assert max(len(line) for line in text.splitlines() if " " in line.strip()) <= 110
    assert "optimizer.learning_rate = " in text
    for name in found.settings:
        assert f"{name} = " in text


def test_an_explanation_is_the_whole_chain(found: Recommendation) -> None:
    """Setting, conditions, reason, source, judgement, limits, losers and what is unknown."""
    text = explanation_text(found, "model.units", RULES)

    for part in (
        "model.units = 16",
        "TST001 decides: Reason of the rule TST001.",
        "    [holds] data.num_samples = 1000 > 100",
        "    why: Because it was seen.",
        "source (number, read): A. Author (2020), A work, p. 1: It was so.",
        "    our own judgement: The bounds.",
        "    limits: Seen once.",
        "TST002 overruled (99): Reason of the rule TST002.",
        "TST001 wins by strength",
        "TST005 unknown, data.num_features missing",
    ):
        assert part in text


def test_an_explanation_covers_all_columns_of_a_setting(found: Recommendation) -> None:
    """Asked without a column, equal columns are explained once; with one, that one alone."""
    assert "model.encoding[city, town] = one_hot" in explanation_text(
        found, "model.encoding", RULES
    )
    assert "[city] = one_hot" in explanation_text(found, "model.encoding[city]", RULES)


def test_a_pin_is_explained_without_a_rule(found: Recommendation) -> None:
    """A value that the user set has the user as its only reason."""
    text = explanation_text(found, "optimizer.momentum", RULES)

    assert "you decides: You set this value." in text
    assert "why:" not in text


def test_what_no_rule_settled_cannot_be_explained(found: Recommendation) -> None:
    """A wrong name is answered with the closest one."""
    with pytest.raises(SettingError, match=r"Did you mean `model\.units`"):
        explanation_text(found, "model.unit", RULES)


def test_every_setting_of_a_real_recommendation_is_explained(book: Rulebook) -> None:
    """The built-in rules have all that an explanation prints."""
    found = suggest(
        facts={
            "data.task": "text",
            "model.problem": "binary",
            "hardware.device": "gpu",
            "data.num_samples": 90_000,
            "data.words_per_sample": 30.0,
        }
    )

    for name, setting in found.settings.items():
        text = explanation_text(found, name, book)
        assert setting.because[0].rule in text
        assert "limits: " in text
