"""Which hyperparameters of every network the rules decide: no hole, and holes that are told."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from smarttune.coverage import (
    EVIDENCE,
    ONLY_WITH,
    SILENCE,
    SITUATIONS,
    VERIFICATION,
    Cell,
    counts,
    coverage,
    facts_of,
)
from smarttune.models.built import Built, built
from smarttune.recommendation import recommend
from smarttune.rulebook import Rulebook, select
from smarttune.space import HYPERPARAMETERS
from tests.cli.calling import assert_mendable, call
from tests.strategies import book_of, rule, rule_data

Capture = pytest.CaptureFixture[str]
TABLE = Built("tabular", "tabular", "binary", "mlp")
PICTURES = Built("image", "image", "multiclass", "cnn")
SOME = (TABLE, PICTURES, Built("text", "text", "binary", "rnn"))
WIDTH = {"hyperparameter": "model.units", "int": {"low": 8, "high": 64, "default": 32}}


@pytest.fixture(scope="module")
def cells(book: Rulebook) -> tuple[Cell, ...]:
    """What the built-in rules decide of everything that is built."""
    return coverage(book)


def cell_of(found: tuple[Cell, ...], name: str, one: Built = TABLE) -> Cell:
    """The cell of a hyperparameter."""
    return next(c for c in found if (c.built, c.hyperparameter) == (one, name))


def test_the_built_in_rules_leave_no_hole(cells: tuple[Cell, ...]) -> None:
    """Whatever any network, its training or its search reads, a rule decides it everywhere."""
    holes = {(*c.built, c.hyperparameter): c.silent for c in cells if c.is_hole}

    assert holes == {}
    assert {c.built for c in cells} == set(built())


@pytest.mark.parametrize("name", HYPERPARAMETERS["optimizer.name"].values)
def test_no_optimizer_opens_a_hole(name: str, book: Rulebook) -> None:
    """Whoever pins an optimizer gets the hyperparameters that it brings, wherever it trains."""
    found = coverage(book, of=SOME, pinned={"optimizer.name": name})

    assert [(*c.built, c.hyperparameter) for c in found if c.is_hole] == []
    assert any(c.hyperparameter == "optimizer.momentum" for c in found) == (name == "sgd")
    assert not any(c.hyperparameter == "optimizer.name" for c in found)


@pytest.mark.parametrize(
    ("code", "name", "one"),
    [
        ("OPT005", "optimizer.momentum", TABLE),
        ("INI001", "model.kernel_initializer", PICTURES),
        ("RNN001", "model.rnn_cell", SOME[2]),
        ("TAB001", "model.family", TABLE),
        ("REG026", "training.early_stopping.statistic", PICTURES),
        ("REG027", "optimizer.l1", SOME[2]),
    ],
)
def test_a_rule_that_is_left_out_leaves_a_hole(
    code: str, name: str, one: Built, book: Rulebook
) -> None:
    """Without the only rule that decides it, a hyperparameter is told as a hole."""
    assert cell_of(coverage(book, of=[one]), name, one).rules[0] == code

    without = cell_of(coverage(select(book, (), (code,)), of=[one]), name, one)

    assert without.is_hole
    assert code not in without.rules


def test_who_is_named_decides(cells: tuple[Cell, ...], book: Rulebook) -> None:
    """The rules of a cell are those that the recommendation of some situation rests on."""
    rng = random.Random(1)
    drawn = [c for c in cells if c.hyperparameter not in (*ONLY_WITH, "model.family") and c.rules]
    for cell in rng.sample(drawn, 12):
        pins = {"model.family": cell.built.family}
        made = [recommend(facts_of(cell.built, w), rules=book, pinned=pins) for w in SITUATIONS]
        settings = [
            m.settings[cell.hyperparameter] for m in made if cell.hyperparameter in m.settings
        ]

        assert {s.because[0].rule for s in settings} == set(cell.rules)
        assert len(cell.silent) == len(SITUATIONS) - len(settings)


def test_evidence_is_the_strongest_and_verification_the_weakest() -> None:
    """Of two rules that decide in different situations the best evidence and least reading count."""
    source = rule_data()["provenance"][0]
    book = book_of(
        rule("TST001", then=WIDTH, when=['hardware.device == "cpu"'], evidence="folklore"),
        rule(
            "TST002",
            then=WIDTH,
            when=['hardware.device == "gpu"'],
            evidence="controlled_study",
            provenance=[source, {**source, "verification": "secondary"}],
        ),
        rule(
            "TST003",
            then={"hyperparameter": "model.num_layers", "fixed": 2},
            provenance=[],
            ours="X",
        ),
    )
    found = coverage(book, of=[TABLE])

    width, depth = cell_of(found, "model.units"), cell_of(found, "model.num_layers")
    assert (set(width.rules), width.silent) == ({"TST001", "TST002"}, ())
    assert (width.evidence, width.verification) == ("controlled_study", "secondary")
    assert (depth.evidence, depth.verification) == ("practitioner", "ours")


def test_a_rule_for_some_situations_leaves_a_hole_in_the_others() -> None:
    """A hole is told with the situations in which nothing decides."""
    book = book_of(rule(then=WIDTH, when=['hardware.device == "gpu"']))

    width = cell_of(coverage(book, of=[TABLE]), "model.units")

    assert width.rules == ("TST001",)
    assert width.is_hole
    assert set(width.silent) == {
        where for where, facts in SITUATIONS.items() if facts["hardware.device"] == "cpu"
    }


def test_what_another_choice_needs_is_asked_for_beside_it() -> None:
    """A momentum that only SGD reads is no hole under Adam, and one where SGD may be chosen."""
    adam = rule("TST001", then={"hyperparameter": "optimizer.name", "fixed": "adam"})
    both = rule(
        "TST001",
        then={
            "hyperparameter": "optimizer.name",
            "choice": {"values": ["adam", "sgd"], "default": "adam"},
        },
    )
    momentum = rule(
        "TST002",
        when=['optimizer.name == "sgd"'],
        then={"hyperparameter": "optimizer.momentum", "fixed": 0.9},
    )

    def found(*rules: Any) -> Cell:
        return cell_of(coverage(book_of(*rules), of=[TABLE]), "optimizer.momentum")

    assert not found(adam, momentum).is_hole  # asked for with SGD pinned
    assert found(adam).is_hole
    assert len(found(both).silent) == len(SITUATIONS)


def test_every_reason_for_silence_is_needed(cells: tuple[Cell, ...]) -> None:
    """Each line of the table excuses some silence, and excuses no more than that name."""
    resting = {c.hyperparameter for c in cells if c.reason}

    assert resting == set(SILENCE)
    assert all(c.silent for c in cells if c.reason)


def test_the_tables_name_hyperparameters_and_values_that_exist() -> None:
    """What is read only with another value, or may rest, is canonical, and the value means something."""
    for name, beside in ONLY_WITH.items():
        assert name in HYPERPARAMETERS
        for parent, values in beside.items():
            assert values
            assert all(HYPERPARAMETERS[parent].allows(value) for value in values)
    assert set(SILENCE) <= set(HYPERPARAMETERS)


def test_counts_add_up(cells: tuple[Cell, ...]) -> None:
    """What is read is decided, at rest, or a hole; each decided cell has one kind of evidence."""
    found = counts(cells)

    assert found["read"] == len(cells) == found["decided"] + found["resting"] + found["holes"]
    assert sum(found[kind] for kind in EVIDENCE) == found["decided"]
    assert found["networks"] == len(built())
    assert {c.verification for c in cells if c.rules} <= {*VERIFICATION, "ours"}


def test_the_command_prints_a_table_and_counts(capsys: Capture) -> None:
    """One row per hyperparameter, a column per family, and the sum in the last line."""
    ended = call(capsys, "rules", "coverage", "--task", "image", "--problem", "segmentation")

    lines = ended.out.splitlines()
    assert ended.code == 0
    assert lines[0] == "image: segmentation"
    assert lines[1].split() == ["unet", "cnn"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:] if "." in line.split(" ")[0]}
    assert rows["model.multiscale_head"][0] == "."
    assert rows["model.multiscale_head"][-1] == "CNN017"
    assert lines[-1].startswith("2 kinds of network read ")
    assert lines[-1].endswith(" 0 hole(s).")


def test_the_command_tells_holes_alone(capsys: Capture) -> None:
    """With --holes each hole has a line with network, name and situations, and the code stays 0."""
    ended = call(capsys, "rules", "coverage", "--holes", "--family", "unet", "--ignore", "CNN027")

    *holes, last = ended.out.splitlines()
    assert ended.code == 0
    assert len(holes) == 1
    assert holes[0].startswith("HOLE  image segmentation unet: model.dropout (few samples")
    assert last.endswith(" 1 hole(s).")


def test_the_command_gives_the_cells_as_json(capsys: Capture) -> None:
    """JSON holds every cell with its rules and evidence, and the counts."""
    arguments = ("rules", "coverage", "--task", "timeseries", "--family", "tcn", "--format", "json")
    given = json.loads(call(capsys, *arguments).out)

    by_name = {cell["hyperparameter"]: cell for cell in given["cells"]}
    assert given["counts"]["read"] == len(given["cells"])
    assert by_name["model.dilation_base"]["rules"] == ["TCN001"]
    assert by_name["model.season_phase"]["reason"] == SILENCE["model.season_phase"]
    assert {cell["family"] for cell in given["cells"]} == {"tcn"}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--task", "imge"), "--task"),
        (("--task", "image", "--family", "rnn"), "cnn, pretrained, unet"),
        (("--problem", "translation"), "--problem"),
    ],
)
def test_what_is_not_built_is_a_mistake(
    arguments: tuple[str, ...], part: str, capsys: Capture
) -> None:
    """A task, problem or family that nothing is built for is refused with those that are."""
    assert_mendable(call(capsys, "rules", "coverage", *arguments), part)
