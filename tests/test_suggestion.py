"""From data or declared facts to a recommendation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import smarttune
from smarttune.errors import OptionError, RulePackError, SettingError
from smarttune.facts import Facts
from smarttune.rulebook import Rulebook
from smarttune.suggestion import make_suggestion, measured_hardware, rulebook_of, suggest
from tests.rulebook.packs import rule_text, write_pack
from tests.strategies import book_of, rule

TABLE: dict[str, Any] = {
    "data.task": "tabular",
    "model.problem": "binary",
    "data.num_samples": 26_000,
    "data.num_features": 14,
    "hardware.device": "cpu",
}


def people(rows: int = 120) -> pd.DataFrame:
    """A small table with a number, a category and two classes."""
    return pd.DataFrame(
        {
            "age": [20 + (i * 7) % 50 for i in range(rows)],
            "city": [("paris", "rome", "oslo")[i % 3] for i in range(rows)],
            "rich": ["yes" if (i * 5) % 7 > 2 else "no" for i in range(rows)],
        }
    )


def test_facts_alone_are_enough(book: Rulebook) -> None:
    """Declared facts give a complete recommendation for a table."""
    found = suggest(facts=TABLE)

    assert found.value("model.family") == "mlp"
    assert found.value("model.num_layers") == 3
    assert found.value("model.loss") == "binary_crossentropy"
    assert found.space().contains(found.default)
    assert {"optimizer.learning_rate", "training.batch_size"} <= found.settings.keys()


@pytest.mark.parametrize(
    ("facts", "outputs"),
    [
        ({"model.problem": "binary"}, 1),
        ({"model.problem": "multiclass", "data.num_classes": 7}, 7),
        ({"model.problem": "multiclass"}, None),
        ({"model.problem": "regression"}, 1),
        ({"model.problem": "regression", "data.num_outputs": 3}, 3),
    ],
)
def test_the_size_of_the_output_follows_from_the_problem(
    facts: dict[str, Any], outputs: int | None
) -> None:
    """Outputs are derived where the problem says them, and never where they were declared."""
    found = suggest(facts={"data.task": "tabular", "hardware.device": "cpu"} | facts)

    assert found.facts.value("data.num_outputs") == outputs


def test_nothing_to_go_by_is_an_error() -> None:
    """Neither data nor facts is a mistake with its mend."""
    with pytest.raises(OptionError, match="declare at least `--task`"):
        suggest()


def test_data_are_measured() -> None:
    """A frame gives measured facts, a fingerprint, and settings for its columns."""
    made = make_suggestion(people(), "rich", facts={"hardware.device": "cpu"})

    facts = made.recommendation.facts
    assert facts["data.num_samples"].origin == "measured"
    assert facts.value("model.problem") == "binary"
    assert "model.encoding[city]" in made.recommendation.settings
    assert "model.encoding[age]" not in made.recommendation.settings
    assert made.fingerprint is not None
    assert made.dataset is not None
    assert set(made.fingerprint.warnings) <= set(made.recommendation.warnings)


def test_declared_facts_win_over_measured_ones() -> None:
    """What the user declares replaces what was measured."""
    declared = {"data.num_samples": 50_000, "hardware.device": "cpu"}

    found = suggest(people(), "rich", facts=declared)

    assert found.facts["data.num_samples"].value == 50_000
    assert found.facts["data.num_samples"].origin == "declared"


def test_problem_and_columns_follow_the_user() -> None:
    """The problem is the user's, and dropped columns have no settings."""
    numbers = people().assign(rich=[float(i % 4) for i in range(120)])

    found = suggest(
        numbers, "rich", problem="regression", drop=["city"], facts={"hardware.device": "cpu"}
    )

    assert found.facts.value("model.problem") == "regression"
    assert not any("[city]" in name for name in found.settings)


def test_a_declared_device_is_not_measured() -> None:
    """Where the user declares a device, this machine's hardware says nothing."""
    assert measured_hardware(Facts.of({"hardware.device": "gpu"})) == Facts()
    assert "hardware.num_cores" in measured_hardware(Facts())


def test_pins_and_ignored_rules_are_passed_on(book: Rulebook) -> None:
    """Pins stand, and an ignored rule has no say."""
    found = suggest(facts=TABLE, pinned={"model.units": 77}, ignore=["CAP003"])

    assert found.value("model.units") == 77
    assert "CAP003" not in {o.rule for o in found.settings["model.units"].overruled}
    with pytest.raises(SettingError):
        suggest(facts=TABLE, pinned={"model.unit": 77})


def test_only_selected_rules_speak() -> None:
    """With one pack selected, only its rules are listed anywhere."""
    found = suggest(facts=TABLE, select=["LRN"])
    codes = {*found.rules_fired, *found.silent, *(u.rule for u in found.unknown)}

    assert codes
    assert all(code.startswith("LRN") for code in codes)


def test_rules_come_as_a_book_or_as_folders(tmp_path: Path) -> None:
    """A rulebook is used as it is; folders stand beside the built-in rules."""
    own = book_of(rule())
    folder = write_pack(tmp_path, rule_text())

    assert rulebook_of(own) is own
    assert list(suggest(facts=TABLE, rules=own).settings) == ["model.dropout"]
    codes = {r.code for r in rulebook_of([folder], ignored=["CAP"]).rules}
    assert {"TST001", "LRN001"} <= codes
    assert "CAP003" not in codes
    with pytest.raises(RulePackError):
        rulebook_of([tmp_path / "absent"])


def test_the_public_function_is_this_one() -> None:
    """`smarttune.suggest` is the documented function."""
    assert smarttune.suggest is suggest
