"""What an editor is told: a meaning for every key, and known names to choose from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from smarttune.facts import FACTS
from smarttune.rulebook import Rule, yaml
from smarttune.space import HYPERPARAMETERS
from tests.rulebook.json_schema import errors
from tests.rulebook.packs import RULE

SCHEMA: dict[str, Any] = Rule.model_json_schema()
PARTS: dict[str, dict[str, Any]] = {"Rule": SCHEMA, **SCHEMA["$defs"]}


def keys() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every key that a rule file may hold, with its place and its schema."""
    for part, schema in PARTS.items():
        for name, found in schema.get("properties", {}).items():
            yield part, name, found


@pytest.mark.parametrize(
    ("part", "name", "found"), list(keys()), ids=lambda v: v if type(v) is str else ""
)
def test_every_key_has_a_meaning(part: str, name: str, found: dict[str, Any]) -> None:
    """A cursor on any key shows a sentence that says more than its name."""
    assert len(found.get("description", "").split()) >= 3, (part, name)


@pytest.mark.parametrize("part", PARTS)
def test_meanings_stand_at_their_keys_only(part: str) -> None:
    """The description of a part is what it is, without the list of its attributes."""
    assert PARTS[part]["description"]
    assert "Attributes:" not in PARTS[part]["description"]


def test_names_of_hyperparameters_are_completed() -> None:
    """A line of `then` offers every canonical name, and lets a pack's own name pass."""
    enumerated, free = PARTS["Consequence"]["properties"]["hyperparameter"]["anyOf"]

    assert enumerated["enum"] == list(HYPERPARAMETERS)
    assert errors("model.num_gates", free, SCHEMA) == []
    assert errors("Units", free, SCHEMA) != []


def test_names_of_facts_are_completed() -> None:
    """The facts of an example offer the whole vocabulary, with meanings and closed sets."""
    offered = PARTS["Example"]["properties"]["facts"]["properties"]

    assert set(offered) == {*FACTS, *HYPERPARAMETERS}
    for name, fact in FACTS.items():
        assert fact.about in offered[name]["description"]
        assert offered[name].get("enum", []) == list(fact.values)
    choices, _ = offered["optimizer.name"]["anyOf"]
    assert choices["enum"] == list(HYPERPARAMETERS["optimizer.name"].values)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("data.num_samples: 2000", "data.num_samples: many"),
        ("data.num_samples: 2000", "data.task: tables"),
        ("data.num_samples: 2000", "model.units: 1.5"),
        ("hyperparameter: model.dropout", "hyperparameter: Dropout"),
        ("default: 0.1}", "default: 0.1}\n    active_when: {optimizer.beta_1: adam}"),
    ],
)
def test_values_that_a_name_cannot_take_are_marked(old: str, new: str) -> None:
    """An editor underlines a value of the wrong type or outside of a closed set."""
    assert errors(yaml.load(RULE, "f")[0], SCHEMA, SCHEMA) == []

    assert old in RULE
    data = yaml.load(RULE.replace(old, new, 1), "f")[0]

    assert errors(data, SCHEMA, SCHEMA)


@pytest.mark.parametrize("value", ["adamw", "[adamw, adam]", "lamb"])
def test_one_parent_value_or_several_are_allowed(value: str) -> None:
    """`active_when` takes a value, a list of them, and names of one's own, as the loader does."""
    new = f"default: 0.1}}\n    active_when: {{optimizer.name: {value}}}"
    data = yaml.load(RULE.replace("default: 0.1}", new), "f")[0]

    assert errors(data, SCHEMA, SCHEMA) == []
    assert Rule.model_validate(data).then[0].active_when
