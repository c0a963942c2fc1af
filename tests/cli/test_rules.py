"""`smarttune rules`: list, show, check, schema, facts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from smarttune.facts import FACTS
from smarttune.rulebook import Rulebook, builtin_folder
from tests.cli.calling import Ended, assert_mendable, call, files_in
from tests.rulebook.json_schema import errors as schema_errors
from tests.rulebook.packs import RULE, rule_text, write_pack

Capture = pytest.CaptureFixture[str]


def codes(ended: Ended) -> list[str]:
    """The codes that a listing begins its lines with."""
    return [line.split()[0] for line in ended.out.splitlines()]


def test_the_list_holds_every_rule(book: Rulebook, capsys: Capture) -> None:
    """One line for each rule, with its reason, and the count beside the output."""
    ended = call(capsys, "rules", "list")

    assert ended.code == 0
    assert codes(ended) == [r.code for r in book.rules]
    for rule, line in zip(book.rules, ended.out.splitlines(), strict=True):
        assert line.endswith(f"{rule.kind:<10}  {rule.summary}")
    assert f"{len(book.rules)} rules in {len(book.packs)} packs." in ended.err


def test_the_list_as_json_is_the_same_list(capsys: Capture) -> None:
    """JSON holds the same rules in the same order, whole."""
    text = call(capsys, "rules", "list", "--select", "BAT")
    ended = call(capsys, "rules", "list", "--select", "BAT", "--format", "json")

    rules = json.loads(ended.out)
    assert [r["code"] for r in rules] == codes(text)
    assert all({"when", "then", "why", "limits"} <= r.keys() for r in rules)


def test_selections_narrow_the_list(capsys: Capture) -> None:
    """Prefixes, codes, names and packs select; several words may share an option."""
    learning = codes(call(capsys, "rules", "list", "--select", "LRN"))
    pack = codes(call(capsys, "rules", "list", "--select", "learning-rate"))
    two = codes(call(capsys, "rules", "list", "--select", "LRN001, table-width"))
    without = codes(call(capsys, "rules", "list", "--select", "LRN", "--ignore", "LRN001,LRN002"))

    assert len(learning) > 10
    assert all(code.startswith("LRN") for code in learning)
    assert pack == learning
    assert sorted(two) == ["CAP003", "LRN001"]
    assert without == [c for c in learning if c not in ("LRN001", "LRN002")]


def test_a_selection_counts_the_packs_it_shows(capsys: Capture) -> None:
    """The rules of one pack are counted as one pack's."""
    ended = call(capsys, "rules", "list", "--select", "LRN")

    assert ended.err.rstrip() == f"{len(codes(ended))} rules in 1 pack."


def test_own_rules_stand_in_the_list(tmp_path: Path, capsys: Capture) -> None:
    """A folder of rules is listed beside the built-in ones."""
    folder = write_pack(tmp_path / "mine", rule_text())

    ended = call(capsys, "rules", "list", "--rules", folder)

    assert {"TST001", "LRN001"} <= set(codes(ended))


def test_a_page_tells_everything_about_a_rule(book: Rulebook, capsys: Capture) -> None:
    """A rule's page holds summary, conditions, effect, limits and sources with their links."""
    ended = call(capsys, "rules", "show", "CAP003")

    rule = book["CAP003"]
    text = " ".join(ended.out.split())
    assert ended.code == 0
    for part in (rule.name, rule.summary, rule.why, rule.limits, *(str(w.text) for w in rule.when)):
        assert " ".join(part.split()) in text
    for item in rule.provenance:
        assert item.locator in text
        assert book.sources[item.source].title in text


@pytest.mark.parametrize("options", [[], ["--format", "json"]], ids=["text", "json"])
def test_a_rule_goes_by_code_or_name(options: list[str], capsys: Capture) -> None:
    """Code and name open the same page."""
    by_code = call(capsys, "rules", "show", "CAP003", *options)
    by_name = call(capsys, "rules", "show", "table-width", *options)

    assert by_code.code == 0
    assert by_code.out == by_name.out
    assert not options or json.loads(by_code.out)["code"] == "CAP003"


def test_an_unknown_rule_suggests_another(capsys: Capture) -> None:
    """A slip in a rule's name is answered with the right one."""
    assert_mendable(call(capsys, "rules", "show", "table-widht"), "Did you mean `table-width`?")


def test_a_sound_pack_is_approved(tmp_path: Path, capsys: Capture) -> None:
    """A pack, the folder above it, and one of its files all check out, and stay as they are."""
    folder = write_pack(tmp_path / "packs" / "mine", rule_text())
    before = files_in(tmp_path)

    for path in (folder, folder.parent, folder / "TST001-situation-tst001.yaml"):
        ended = call(capsys, "rules", "check", path)
        assert (ended.code, ended.out) == (0, "1 rules checked: all is well.\n"), ended.err

    assert files_in(tmp_path) == before


def test_the_built_in_rules_are_sound(book: Rulebook, capsys: Capture) -> None:
    """The built-in rules pass their own check."""
    ended = call(capsys, "rules", "check", builtin_folder())

    assert (ended.code, ended.out) == (0, f"{len(book.rules)} rules checked: all is well.\n")


@pytest.mark.parametrize(
    ("old", "new", "place", "hint"),
    [
        ("data.num_samples >", "data.num_sample >", "8:5", "Did you mean `data.num_samples`?"),
        ("kind: static", "kind: statik", "4:7", "'static', 'dynamic' or 'constraint'"),
        ("limits:", "limit:", "13:1", "Did you mean `limits`?"),
        ("model.dropout", "model.drop_out", "10:21", "Did you mean `model.dropout`?"),
    ],
)
def test_a_typo_is_found_at_its_place(
    tmp_path: Path, capsys: Capture, old: str, new: str, place: str, hint: str
) -> None:
    """Each mistake names file, line and column, and what was probably meant."""
    assert old in RULE
    folder = write_pack(tmp_path, RULE.replace(old, new))

    ended = call(capsys, "rules", "check", folder)

    assert ended.code == 2
    assert ended.out == ""
    assert f"TST001-some-situation.yaml:{place}: " in ended.err
    assert hint in ended.err
    for line in ended.err.splitlines():
        assert re.search(r"\.yaml(:\d+:\d+)?: .+ Expected .+\. .+[.?]$", line), line


def test_every_mistake_is_told_at_once(tmp_path: Path, capsys: Capture) -> None:
    """Two mistakes in one file are two lines of one error."""
    text = RULE.replace("kind: static", "kind: statik").replace("0.6", "6.0")

    ended = call(capsys, "rules", "check", write_pack(tmp_path, text))

    assert ended.code == 2
    assert [":4:7: " in ended.err, ":6:13: " in ended.err] == [True, True]
    assert ended.err.count("\n") == 2


def test_an_example_that_fails_is_told(tmp_path: Path, capsys: Capture) -> None:
    """A rule that does not do what its examples say is not approved."""
    text = rule_text(**{"20}, fires: false": "2000}, fires: false"})

    ended = call(capsys, "rules", "check", write_pack(tmp_path, text))

    assert_mendable(ended, "example 2", "data.num_samples = 2000 > 1000", "`fires: false`")


def test_the_schema_describes_the_rules(book: Rulebook, capsys: Capture) -> None:
    """The printed schema is JSON that accepts the built-in rules and refuses a broken one."""
    schema: dict[str, Any] = json.loads(call(capsys, "rules", "schema").out)

    assert schema["type"] == "object"
    assert {"code", "when", "then", "why", "limits", "provenance"} <= schema["properties"].keys()
    listed = call(capsys, "rules", "show", "CAP003", "--format", "json")
    rule = json.loads(listed.out)
    assert schema_errors(rule, schema, schema) == []
    assert schema_errors(rule | {"kind": "statik"}, schema, schema) != []


def test_the_facts_are_the_vocabulary(capsys: Capture) -> None:
    """Text and JSON list every fact with its type, unit and meaning."""
    text = call(capsys, "rules", "facts").out
    table = {
        f["name"]: f for f in json.loads(call(capsys, "rules", "facts", "--format", "json").out)
    }

    assert set(table) == set(FACTS)
    for name, fact in FACTS.items():
        assert table[name]["about"] == fact.about
        assert table[name]["unit"] == fact.unit
        assert f"{name}  (" in text
    assert "CAP003" in table["data.task"]["rules"] or "more" in table["data.task"]["rules"]


def test_the_facts_know_the_readers_of_own_rules(tmp_path: Path, capsys: Capture) -> None:
    """A fact that only a user's rule reads names that rule."""
    text = rule_text(**{"data.num_samples > 1000": "data.audio_hours > 1000"})
    text = text.replace("data.num_samples:", "data.audio_hours:")
    folder = write_pack(tmp_path, text)
    options = ["--rules", str(folder), "--format", "json"]

    table = {f["name"]: f for f in json.loads(call(capsys, "rules", "facts", *options).out)}

    assert "TST001" in table["data.audio_hours"]["rules"]
