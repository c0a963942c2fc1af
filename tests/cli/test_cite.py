"""`smarttune cite`: what it prints, where it reads, and how it refuses."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from tests.cli.calling import assert_mendable, call
from tests.rulebook.packs import rule_text, write_pack
from tests.test_citing import parsed
from tests.test_light_imports import COMMAND, FRAMEWORKS, TABLES, loaded_by

Capture = pytest.CaptureFixture[str]
FLAGS = ("--task", "tabular", "--problem", "binary", "--num-samples", "26000", "--device", "cpu")


@pytest.fixture
def printed(tmp_path: Path, capsys: Capture) -> Path:
    """What `suggest --format json` printed, in a file."""
    file = tmp_path / "recommendation.json"
    file.write_text(call(capsys, "suggest", *FLAGS, "--format", "json").out)
    return file


def test_a_recommendation_becomes_a_bibliography(printed: Path, capsys: Capture) -> None:
    """Standard output holds nothing but entries, that of SmartTune last."""
    ended = call(capsys, "cite", printed)

    entries = parsed(ended.out.rstrip("\n"))
    assert (ended.code, ended.err) == (0, "")
    assert len(entries) > 5
    assert entries[-1].key == "smarttune"
    assert (
        len(parsed(call(capsys, "cite", printed, "--no-self").out.rstrip("\n"))) == len(entries) - 1
    )


def test_standard_input_is_read(
    printed: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dash reads what another command prints."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(printed.read_text()))

    assert call(capsys, "cite", "-").out == call(capsys, "cite", printed).out


def test_text_and_json_tell_the_same_works(printed: Path, capsys: Capture) -> None:
    """Every format lists the same works."""
    keys = [entry.key for entry in parsed(call(capsys, "cite", printed).out.rstrip("\n"))[:-1]]

    data = json.loads(call(capsys, "cite", printed, "--format", "json").out)
    text = call(capsys, "cite", printed, "--format", "text").out

    assert [work["key"] for work in data["works"]] == keys
    assert [line.partition(":")[0] for line in text.splitlines() if line[0] != " "] == keys
    assert all(taken["claim"] in text for work in data["works"] for taken in work["taken"])


def test_overruled_rules_add_works(printed: Path, capsys: Capture) -> None:
    """The option makes the list longer and takes nothing away."""
    few, many = (
        json.loads(call(capsys, "cite", printed, "--format", "json", *options).out)["works"]
        for options in ((), ("--overruled",))
    )

    assert {w["key"] for w in few} <= {w["key"] for w in many}
    assert sum(len(w["taken"]) for w in few) < sum(len(w["taken"]) for w in many)


def test_rules_of_a_pack_that_is_not_named_are_told(tmp_path: Path, capsys: Capture) -> None:
    """Without its pack a rule's works are unknown entries and a word on standard error."""
    text = rule_text(**{"default: 0.1}": "default: 0.1}\n    strength: must"})
    pack = write_pack(tmp_path / "pack", text)
    file = tmp_path / "r.json"
    file.write_text(call(capsys, "suggest", *FLAGS, "--rules", pack, "--format", "json").out)

    lacking = call(capsys, "cite", file)
    whole = call(capsys, "cite", file, "--rules", pack)

    assert lacking.code == whole.code == 0
    assert "Not installed: TST001" in lacking.err
    assert (
        {e.key: e for e in parsed(lacking.out.rstrip("\n"))}["src"]
        .fields["title"]
        .startswith("{Unknown")
    )
    assert whole.err == ""
    assert {e.key: e for e in parsed(whole.out.rstrip("\n"))}["src"].fields["title"] == "{A work}"


@pytest.mark.parametrize("content", [None, "", "text", "[]", '{"schema": 1}', "\xff"])
def test_anything_else_is_refused(content: str | None, tmp_path: Path, capsys: Capture) -> None:
    """A file that is absent or holds no recommendation is a user's mistake."""
    file = tmp_path / "other.json"
    if content is not None:
        file.write_bytes(content.encode("latin-1"))

    assert_mendable(call(capsys, "cite", file))


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: Capture) -> None:
    """A directory without a run is a user's mistake that names the missing file."""
    assert_mendable(call(capsys, "cite", tmp_path), "run.json")


def test_citing_loads_no_framework(printed: Path) -> None:
    """A bibliography needs neither Keras nor pandas nor NumPy."""
    loaded = loaded_by(COMMAND.format(arguments=["cite", str(printed)]))

    assert loaded & (FRAMEWORKS | TABLES) == set()
