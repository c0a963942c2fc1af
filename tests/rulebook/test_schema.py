"""The format of rules: YAML, the frozen rule, its JSON, and the schema for editors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from smarttune.errors import RangeError
from smarttune.portfolio import FOLDER
from smarttune.rulebook import Rule, Rulebook, builtin_folder, yaml
from smarttune.rulebook.consequences import Consequence, Proposal
from smarttune.rulebook.evidence import FOLDER as EVIDENCE
from smarttune.rulebook.explain import rule_json
from smarttune.rulebook.logic import Unknown
from smarttune.space import Choice, Fixed, FloatRange, IntRange
from tests.rulebook.json_schema import errors
from tests.rulebook.packs import RULE
from tests.strategies import rule, rule_data

FILES = sorted(
    p
    for p in builtin_folder().glob("*/*.yaml")
    if p.name != "pack.yaml" and p.parent.name not in (FOLDER, EVIDENCE)
)
SCHEMA: dict[str, Any] = Rule.model_json_schema()


def data_of(file: Path) -> Any:
    """The content of a rule file."""
    return yaml.load(file.read_text(encoding="utf-8"), str(file))[0]


def test_yaml_rule_json_rule_is_the_identity(book: Rulebook) -> None:
    """Every built-in rule survives the way to JSON and back."""
    for made in book.rules:
        assert Rule.model_validate(rule_json(made)) == made


def test_yaml_to_rule_is_deterministic() -> None:
    """The same text makes the same rule, and another text another rule."""
    first, second = (Rule.model_validate(yaml.load(RULE, "f")[0]) for _ in range(2))

    assert first == second
    assert first != Rule.model_validate(yaml.load(RULE.replace("0.5", "0.4"), "f")[0])


def test_the_schema_accepts_every_built_in_rule() -> None:
    """An editor marks nothing in the built-in rules."""
    assert len(FILES) > 150
    wrong = {file.name: found for file in FILES if (found := errors(data_of(file), SCHEMA, SCHEMA))}
    assert wrong == {}


TYPOS: list[tuple[str, str]] = [
    ("evidence:", "evidense:"),
    ("kind: static", "kind: statik"),
    ("why: Because it was seen.\n", ""),
    ("code: TST001", "code: tst1"),
    ("confidence: 0.6", "confidence: 1.6"),
    ("confidence: 0.6", "confidence: high"),
    ("hyperparameter:", "hyperparametre:"),
    ("default: 0.1", "defualt: 0.1"),
    ("low: 0.0, ", ""),
    ("supports: number", "supports: numbers"),
    ("verification: read", "verification: sure"),
    ("fires: true", "fires: often"),
    ("name: some-situation", "name: Some Situation"),
    ("then:", "then: []\nthem:"),
    ("  - data.num_samples > 1000", "  - [1]"),
]


@pytest.mark.parametrize(("old", "new"), TYPOS)
def test_the_schema_rejects_typos(old: str, new: str) -> None:
    """An editor marks what the loader would refuse."""
    assert errors(yaml.load(RULE, "f")[0], SCHEMA, SCHEMA) == []

    data = yaml.load(RULE.replace(old, new, 1), "f")[0]

    assert errors(data, SCHEMA, SCHEMA)
    with pytest.raises(ValidationError):
        Rule.model_validate(data)


def test_rules_are_frozen() -> None:
    """A rule and its parts cannot be changed."""
    made = rule()

    with pytest.raises(ValidationError):
        made.confidence = 0.9
    with pytest.raises(ValidationError):
        made.then[0].strength = "must"


@pytest.mark.parametrize(
    "changes",
    [
        {"provenance": []},
        {"then": []},
        {"then": [{"advice": "x", "hyperparameter": "model.dropout"}]},
        {"then": [{"fixed": 1}]},
        {"then": [{"hyperparameter": "model.loss", "int": {"low": 1, "high": 2}}]},
        {"then": [{"hyperparameter": "model.loss", "float": {"low": 1, "high": 2}}]},
        {"then": [{"hyperparameter": "model.units", "fixed": 1.5}]},
        {"then": [{"hyperparameter": "model.units", "fixed": True}]},
        {"then": [{"hyperparameter": "model.units", "choice": {"values": [1, "a"]}}]},
        {"then": [{"hyperparameter": "model.units", "fixed": {"expression": "data.task"}}]},
        {"then": [{"hyperparameter": "model.loss", "fixed": {"expression": "1 + 1"}}]},
        {"then": [{"hyperparameter": "model.loss", "choice": {"values": ["mse"], "weights": [0]}}]},
        {"then": [{"hyperparameter": "model.loss", "choice": {"values": ["a"], "weights": [-1]}}]},
        {"then": [{"hyperparameter": "model.loss", "choice": {"values": []}}]},
        {"examples": [{"facts": {"data.num_samples": 1}}]},
        {"summary": "short"},
        {"why": "  "},
    ],
)
def test_rules_that_mean_nothing_are_refused(changes: dict[str, Any]) -> None:
    """What cannot be carried out or is not grounded is no rule."""
    with pytest.raises(ValidationError):
        Rule.model_validate(rule_data() | changes)


def test_a_rule_of_our_own_needs_no_source() -> None:
    """Without provenance a rule says that it is ours."""
    assert rule(provenance=[], ours="We chose it.").ours == "We chose it."


def test_a_rule_with_several_conditions_holds_by_kleene() -> None:
    """One false condition silences a rule, whatever is unknown beside it."""
    made = rule(when=["data.num_samples > 10", "data.num_features > 2", "data.num_classes > 2"])

    assert made.holds({"data.num_samples": 5}) is False
    assert made.holds({"data.num_features": 1}) is False
    unknown = made.holds({"data.num_samples": 50})
    assert isinstance(unknown, Unknown)
    assert unknown.missing == {"data.num_features", "data.num_classes"}
    everything = {"data.num_samples": 50, "data.num_features": 3, "data.num_classes": 3}
    assert made.holds(everything) is True


def test_a_rule_knows_every_name_it_reads() -> None:
    """Names come from conditions, bounds, defaults and computed values."""
    made = rule(
        when=["data.num_samples > 3"],
        then=[
            {
                "hyperparameter": "model.units",
                "int": {
                    "low": "data.num_features",
                    "high": "data.num_features * 2",
                    "default": "training.batch_size * data.num_features / data.num_samples",
                },
            },
            {
                "hyperparameter": "model.loss",
                "fixed": {"expression": "'mae' if data.heavy_tailed else 'mse'"},
            },
        ],
    )

    assert made.names == {
        "data.num_samples",
        "data.num_features",
        "training.batch_size",
        "data.heavy_tailed",
    }


FACTS = {"data.num_samples": 1000, "data.heavy_tailed": True}


def proposed(line: dict[str, Any]) -> Proposal | Unknown:
    """What the line proposes for a thousand samples."""
    return rule(then=line).then[0].propose(FACTS)


@pytest.mark.parametrize(
    ("line", "range_", "value"),
    [
        ({"hyperparameter": "model.units", "fixed": 8}, Fixed(value=8), 8),
        ({"hyperparameter": "model.dropout", "fixed": 1}, Fixed(value=1.0), 1.0),
        (
            {
                "hyperparameter": "model.loss",
                "fixed": {"expression": "'mae' if data.heavy_tailed else 'mse'"},
            },
            Fixed(value="mae"),
            "mae",
        ),
        (
            {"hyperparameter": "model.units", "fixed": {"expression": "data.num_samples / 300"}},
            Fixed(value=3),
            3,
        ),
        (
            {"hyperparameter": "model.units", "int": {"low": 1, "high": "data.num_samples / 300"}},
            IntRange(low=1, high=3),
            2,
        ),
        (
            {
                "hyperparameter": "model.units",
                "int": {"low": "data.num_samples / 300", "high": 9, "default": 100},
            },
            IntRange(low=4, high=9),
            9,
        ),
        (
            {
                "hyperparameter": "model.units",
                "int": {
                    "low": 9,
                    "high": "data.num_samples / 4",
                    "default": 40,
                    "sampling": "power_of_two",
                },
            },
            IntRange(low=16, high=128, sampling="power_of_two"),
            32,
        ),
        ({"hyperparameter": "model.units", "int": {"low": 5, "high": 5}}, Fixed(value=5), 5),
        (
            {
                "hyperparameter": "optimizer.learning_rate",
                "float": {"low": 1e-4, "high": 1e-2, "sampling": "log"},
            },
            FloatRange(low=1e-4, high=1e-2, sampling="log"),
            pytest.approx(1e-3),
        ),
        (
            {"hyperparameter": "model.dropout", "float": {"low": 0, "high": 1, "default": 2}},
            FloatRange(low=0.0, high=1.0),
            1.0,
        ),
        (
            {"hyperparameter": "model.loss", "choice": {"values": ["mse", "mae"]}},
            Choice(values=("mae", "mse")),
            "mse",
        ),
        (
            {
                "hyperparameter": "model.loss",
                "choice": {"values": ["mse", "mae", "huber"], "weights": [1, 3, 2]},
            },
            Choice(values=("huber", "mae", "mse")),
            "mae",
        ),
        (
            {"hyperparameter": "model.loss", "choice": {"values": ["mse"]}},
            Fixed(value="mse"),
            "mse",
        ),
    ],
)
def test_lines_propose_ranges_and_values(
    line: dict[str, Any], range_: object, value: object
) -> None:
    """Bounds are rounded inwards, defaults clamped, single values fixed."""
    proposal = proposed(line)

    assert isinstance(proposal, Proposal)
    assert proposal.range == range_
    assert proposal.value == value


def test_weights_follow_their_values() -> None:
    """Weights are kept by value, whatever the order of the values."""
    proposal = proposed(
        {"hyperparameter": "model.loss", "choice": {"values": ["mse", "mae"], "weights": [1, 3]}}
    )

    assert isinstance(proposal, Proposal)
    assert proposal.weights == {"mse": 1.0, "mae": 3.0}


@pytest.mark.parametrize(
    "part",
    [
        {"int": {"low": 1, "high": "max(2, data.num_features)"}},
        {"int": {"low": 1, "high": 9, "default": "data.num_features"}},
        {"fixed": {"expression": "data.num_features * 2"}},
        {"choice": {"values": [1, 2], "default": {"expression": "data.num_features"}}},
    ],
)
def test_values_that_read_unknown_facts_are_unknown(part: dict[str, Any]) -> None:
    """A bound, default or value that lacks a fact names it."""
    proposal = proposed({"hyperparameter": "model.units"} | part)

    assert isinstance(proposal, Unknown)
    assert proposal.missing == {"data.num_features"}


def test_bounds_that_cross_are_an_error() -> None:
    """A range that is empty for these facts cannot be proposed."""
    with pytest.raises(RangeError):
        proposed(
            {"hyperparameter": "model.units", "int": {"low": 5, "high": "data.num_samples / 999"}}
        )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"hyperparameter": "optimizer.name", "fixed": "adamww"}, "Did you mean `adamw`"),
        ({"hyperparameter": "model.units", "int": {"low": 0, "high": 8}}, "int of at least 1"),
        ({"hyperparameter": "model.dropout", "fixed": 1.5}, "float between 0 and 1"),
    ],
)
def test_values_outside_of_their_domain_do_not_load(line: dict[str, Any], message: str) -> None:
    """A rule cannot recommend what no code understands."""
    with pytest.raises(ValidationError, match=message):
        Consequence.model_validate(line)
