"""Several kinds of network in one search space, each with its own settings."""

from __future__ import annotations

import random
from typing import Any

from smarttune.facts import Facts
from smarttune.models.modality import of_family
from smarttune.recommendation import Recommendation, recommend, searched_families
from smarttune.rulebook import Rule, load_rulebook
from smarttune.space import IntRange
from tests.strategies import book_of, rule

BOTH = {"values": ["mlp", "rnn"], "default": "mlp"}
CHOICE = rule("TST001", then={"hyperparameter": "model.family", "choice": BOTH})


def line(name: str, **kind: Any) -> dict[str, Any]:
    """A line of `then`."""
    return {"hyperparameter": name, **kind}


def only(code: str, family: str, *lines: dict[str, Any]) -> Rule:
    """A rule for one family."""
    return rule(code, when=[f'model.family == "{family}"'], then=list(lines))


DENSE = only("TST002", "mlp", line("model.units", int={"low": 8, "high": 64, "default": 32}))
RECURRENT = only(
    "TST003",
    "rnn",
    line("model.units", int={"low": 4, "high": 16, "default": 8}),
    line("model.rnn_cell", choice={"values": ["gru", "lstm"], "default": "gru"}),
)
SHARED = rule("TST004", then=line("optimizer.name", fixed="adam"))


def found(*rules: Rule, **options: Any) -> Recommendation:
    """What these rules recommend."""
    return recommend(Facts.of({"data.num_samples": 1000}), rules=book_of(*rules), **options)


def test_each_family_has_a_range_of_its_own() -> None:
    """The first family keeps the plain name; both ranges hold only where their family is chosen."""
    made = found(CHOICE, DENSE, RECURRENT, SHARED)

    plain, own = made.settings["model.units"], made.settings["model.units[rnn]"]
    assert searched_families(made.settings) == ("mlp", "rnn")
    assert (plain.range, plain.value) == (IntRange(low=8, high=64), 32)
    assert (own.range, own.value) == (IntRange(low=4, high=16), 8)
    assert plain.active_when == {"model.family": ("mlp",)}
    assert own.active_when == {"model.family": ("rnn",)}
    assert own.because[0].rule == "TST003"


def test_what_only_one_family_has_is_asked_of_it_alone() -> None:
    """A recurrent cell is part of the space where the network is recurrent."""
    made = found(CHOICE, DENSE, RECURRENT, SHARED)

    assert made.settings["model.rnn_cell"].active_when == {"model.family": ("rnn",)}
    assert made.settings["optimizer.name"].active_when == {}


def test_settings_that_agree_stay_one() -> None:
    """A range that all families share keeps its name and no condition."""
    shared = rule("TST005", then=line("model.dropout", float={"low": 0.0, "high": 0.5}))

    made = found(CHOICE, DENSE, RECURRENT, shared)

    assert "model.dropout[rnn]" not in made.settings
    assert made.settings["model.dropout"].active_when == {}


def test_conditions_within_a_family_follow_its_names() -> None:
    """A setting that depends on one with another name in this family depends on that one."""
    skip = line("model.skip_connections", fixed=True, active_when={"model.units": [8, 16]})
    conditional = only("TST006", "rnn", skip)

    made = found(CHOICE, DENSE, RECURRENT, conditional)

    assert made.settings["model.skip_connections"].active_when == {
        "model.family": ("rnn",),
        "model.units[rnn]": (8, 16),
    }


def test_a_pinned_family_is_no_choice() -> None:
    """Who names the family gets its settings alone, under their plain names."""
    made = found(CHOICE, DENSE, RECURRENT, pinned={"model.family": "rnn"})

    assert searched_families(made.settings) == ()
    assert made.settings["model.units"].range == IntRange(low=4, high=16)
    assert not any("[" in name for name in made.settings)


def test_every_point_of_the_space_has_the_settings_of_its_family() -> None:
    """Random points of the joint space hold exactly what their family is asked for."""
    space = found(CHOICE, DENSE, RECURRENT, SHARED).space()
    rng = random.Random(0)

    seen = set()
    for _ in range(50):
        point = space.sample(rng)
        seen.add(point["model.family"])
        values = of_family(point)
        if point["model.family"] == "mlp":
            assert values["model.units"] >= 8
            assert "model.rnn_cell" not in values
        else:
            assert values["model.units"] <= 16
            assert values["model.rnn_cell"] in ("gru", "lstm")
    assert seen == {"mlp", "rnn"}


def test_tables_compare_designs_only_when_there_is_room() -> None:
    """Twenty trials or ten minutes make the family of a table a choice, less does not."""
    table = {"data.task": "tabular", "model.problem": "binary", "data.num_samples": 5000}
    book = load_rulebook()

    def families(**budget: float) -> tuple[str, ...]:
        facts = Facts.of(table | {f"budget.{k}": v for k, v in budget.items()})
        return searched_families(recommend(facts, rules=book).settings)

    assert families(num_trials=20) == families(seconds=600) == ("mlp", "resnet_mlp")
    assert families(num_trials=19) == families(seconds=599) == families() == ()
