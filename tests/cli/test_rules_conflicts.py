"""`smarttune rules conflicts`: what disagrees, what decides, and why."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from smarttune.rulebook import Rulebook
from tests.cli.calling import Ended, assert_mendable, call
from tests.rulebook.packs import rule_text, write_pack

Capture = pytest.CaptureFixture[str]
PRECISION = ("--hyperparameter", "training.precision")
# Two lines tell a pair: what decides, and an example; a ground between them if there is one.
PAIR = re.compile(
    r"  (CONTRADICTION: )?[A-Z]+\d+ \(.+\) over [A-Z]+\d+ \(.+\): (excludes|differs|differs in range)\n"
    r"      decided by: .+\n(      ground( \([A-Z]+\d+\))?: .+\n)?      for example: .+\n"
)


def as_json(capsys: Capture, *options: str | Path) -> list[dict[str, Any]]:
    """The conflicts as data."""
    ended = call(capsys, "rules", "conflicts", *options, "--format", "json")
    assert ended.code == 0, ended
    read: list[dict[str, Any]] = json.loads(ended.out)
    return read


def planted(folder: Path) -> Path:
    """A pack with two rules that contradict each other, and one that yields to them."""
    b = rule_text("TST002", **{"default: 0.1": "default: 0.2"})
    c = rule_text("TST003", **{"default: 0.1": "default: 0.3", "0.6": "0.5"})
    return write_pack(folder / "mine", rule_text(), b, c)


def of_planted(capsys: Capture, folder: Path, *options: str) -> Ended:
    """The conflicts within that pack."""
    return call(capsys, "rules", "conflicts", "--rules", folder, "--select", "TST", *options)


def test_each_pair_is_told_with_decision_ground_and_example(capsys: Capture) -> None:
    """Each hyperparameter heads its pairs, and each pair has all its parts."""
    ended = call(capsys, "rules", "conflicts", "--hyperparameter", "model.num_layers")

    heading, rest = ended.out.split("\n", 1)
    assert ended.code == 0
    assert heading == "model.num_layers"
    assert PAIR.sub("", rest) == ""
    assert "ground (CAP006): the number of trials" in rest


def test_the_last_line_counts(tmp_path: Path, capsys: Capture) -> None:
    """Pairs, kinds, missing grounds and contradictions are counted beside the output."""
    ended = of_planted(capsys, planted(tmp_path))

    assert ended.err == (
        "3 pairs: 0 excludes, 3 differs, 0 differs in range; 3 without a ground, 1 contradiction.\n"
    )
    assert len(PAIR.findall(ended.out)) == 3


def test_a_contradiction_stands_out(tmp_path: Path, capsys: Capture) -> None:
    """What only the order of codes decides is called a contradiction, and nothing else is."""
    ended = of_planted(capsys, planted(tmp_path))

    marked = [line for line in ended.out.splitlines() if "CONTRADICTION" in line]
    assert marked == [
        "  CONTRADICTION: TST001 (0.1 of 0 to 0.5) over TST002 (0.2 of 0 to 0.5): differs"
    ]
    assert "decided by: nothing: the code breaks the tie" in ended.out
    assert "for example: data.num_samples=2000" in ended.out


def test_kinds_narrow_the_list(capsys: Capture) -> None:
    """Only the asked kinds are listed, and together they are all."""
    name = ("--hyperparameter", "model.units")

    every = as_json(capsys, *name)
    by_kind = {k: as_json(capsys, *name, "--kind", k) for k in ("excludes", "differs", "range")}

    assert sorted(map(str, every)) == sorted(str(c) for cs in by_kind.values() for c in cs)
    assert all(c["kind"] == kind for kind, cs in by_kind.items() for c in cs)
    assert by_kind["excludes"]


def test_undeclared_leaves_out_what_has_a_ground(tmp_path: Path, capsys: Capture) -> None:
    """A declared ground takes a pair off the list of those without."""
    without, folder = planted(tmp_path / "a"), planted(tmp_path / "b")
    with (folder / "TST001-situation-tst001.yaml").open("a") as file:
        file.write('conflicts:\n  - {with: TST003, decided_by: "so it is"}\n')
    options = ("--rules", folder, "--select", "TST")

    before = as_json(capsys, "--rules", without, "--select", "TST", "--undeclared")
    after = as_json(capsys, *options, "--undeclared")

    gone = [c for c in before if c not in after]
    assert [(c["winner"]["rule"], c["loser"]["rule"]) for c in gone] == [("TST001", "TST003")]
    assert len(after) == 2
    assert {c["ground"] for c in as_json(capsys, *options)} == {"", "so it is"}


def test_json_and_text_tell_the_same(book: Rulebook, capsys: Capture) -> None:
    """JSON holds the pairs of the text, with facts on which both rules fire."""
    text = call(capsys, "rules", "conflicts", *PRECISION).out
    conflicts = as_json(capsys, *PRECISION)

    assert len(conflicts) == len(PAIR.findall(text))
    for conflict in conflicts:
        codes = [conflict[side]["rule"] for side in ("winner", "loser")]
        assert f"{codes[0]} (" in text
        assert all(book[code].holds(conflict["facts"]) is True for code in codes)


def test_selected_rules_only(capsys: Capture) -> None:
    """Rules that are not selected, or are ignored, conflict with none."""
    selected = as_json(capsys, "--select", "CAP")
    fewer = as_json(capsys, "--select", "CAP", "--ignore", "CAP001")

    codes = {conflict[side]["rule"] for conflict in selected for side in ("winner", "loser")}
    assert "CAP001" in codes
    assert {code[:3] for code in codes} == {"CAP"}
    assert fewer == [
        c for c in selected if "CAP001" not in (c["winner"]["rule"], c["loser"]["rule"])
    ]


def test_an_unknown_hyperparameter_suggests_another(capsys: Capture) -> None:
    """A slip in a name is answered with the right one."""
    ended = call(capsys, "rules", "conflicts", "--hyperparameter", "model.dropuot")

    assert_mendable(ended, "--hyperparameter", "Did you mean `model.dropout`?")


def test_no_conflict_is_no_error(capsys: Capture) -> None:
    """Where nothing disagrees the list is empty, as text and as JSON."""
    ended = call(capsys, "rules", "conflicts", "--select", "CAP001")

    assert (ended.code, ended.out) == (0, "")
    assert ended.err.startswith("0 pairs: ")
    assert as_json(capsys, "--select", "CAP001") == []
