"""`smarttune suggest`: formats, explanations, choices of the user, facts by flag, real tables."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from smarttune.cli.app import app
from smarttune.facts import FACTS
from smarttune.rulebook import Rulebook
from tests.cli.calling import call
from tests.rulebook.packs import rule_text, write_pack

Capture = pytest.CaptureFixture[str]

WINE = Path(__file__).parents[2] / "examples" / "data" / "wine.csv"
KEYS = {"schema", "facts", "settings", "advice", "silent", "unknown", "warnings"}
SETTING_KEYS = {"value", "range", "prior", "because", "overruled", "active_when"}
# Declared, so that the machine that runs the tests does not take part.
CPU = ("--device", "cpu")
TABLE = ("--task", "tabular", "--problem", "binary", "--num-samples", "26000",
         "--num-features", "14", *CPU)  # fmt: skip
RATE = "optimizer.learning_rate"
FLAGS = {d.flag: d for d in FACTS.values() if d.flag}
SAMPLES: dict[str, Any] = {"int": 4096, "float": 7.5, "bool": True}


def recommended(capsys: Capture, *arguments: str | Path) -> dict[str, Any]:
    """The recommendation as JSON."""
    ended = call(capsys, "suggest", *arguments, "--format", "json")
    assert (ended.code, ended.err) == (0, "")
    found: dict[str, Any] = json.loads(ended.out)
    return found


def heard(setting: dict[str, Any]) -> set[str]:
    """The rules that decide or limit a setting."""
    return {reason["rule"] for reason in setting["because"]}


def test_json_has_its_keys(capsys: Capture) -> None:
    """The recommendation is whole: facts with origin, settings with reasons, what is unknown."""
    found = recommended(capsys, *TABLE)

    assert set(found) == KEYS
    assert found["facts"]["data.num_samples"]["value"] == 26_000
    assert found["facts"]["data.num_samples"]["origin"] == "declared"
    assert len(found["settings"]) > 30
    for name, setting in found["settings"].items():
        assert set(setting) == SETTING_KEYS, name
        assert setting["because"], name
    assert all({"rule", "missing", "would"} <= u.keys() for u in found["unknown"])


def test_yaml_says_what_json_says(capsys: Capture) -> None:
    """Both formats hold the same recommendation."""
    ended = call(capsys, "suggest", *TABLE, "-f", "yaml")

    assert yaml.safe_load(ended.out) == recommended(capsys, *TABLE)


def test_text_names_every_setting_and_its_reasons(capsys: Capture) -> None:
    """The text, which is the usual format, leaves no setting and no rule out."""
    found = recommended(capsys, *TABLE)

    ended = call(capsys, "suggest", *TABLE)

    assert ended.out == call(capsys, "suggest", *TABLE, "--format", "text").out
    for name, setting in found["settings"].items():
        assert f"\n{name} = " in ended.out
        assert all(f"    {rule}" in ended.out for rule in heard(setting)), name
        for loser in setting["overruled"]:
            assert f"overruled {loser['rule']} (" in ended.out
    spoke, silent = "rules spoke, ", f"{len(found['silent'])} were silent"
    assert spoke + silent in ended.out


@pytest.mark.parametrize("target", ["quality", "color"])
def test_python_is_a_script_of_its_own(target: str, capsys: Capture) -> None:
    """The script compiles, holds the recommended rate, and needs no SmartTune."""
    ended = call(capsys, "suggest", WINE, "-t", target, *CPU, "--format", "python")

    tree = ast.parse(ended.out)
    compile(tree, "train.py", "exec")
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        )
    }
    rate = recommended(capsys, WINE, "-t", target, *CPU)["settings"][RATE]["value"]
    numbers = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
    assert "keras" in imported
    assert "smarttune" not in imported
    assert rate in numbers
    assert {str(WINE), target} <= {str(n) for n in numbers}


def test_the_chain_behind_a_setting_is_printed(book: Rulebook, capsys: Capture) -> None:
    """The explanation holds each rule, its evaluated conditions, its sources, and the overruled."""
    setting = recommended(capsys, *TABLE)["settings"][RATE]

    ended = call(capsys, "suggest", *TABLE, "--explain", RATE)

    text = " ".join(ended.out.split())
    assert ended.out.startswith(f"{RATE} = {setting['value']}")
    assert setting["overruled"]
    for reason in setting["because"]:
        rule = book[reason["rule"]]
        assert f"{rule.code} {reason['role']}: {rule.summary}" in ended.out
        assert all(f"[holds] {trace}" in ended.out for trace in reason["trace"])
        assert " ".join(rule.why.split()) in text
        assert all(book.sources[p.source].title in text for p in rule.provenance)
        assert all(p.locator in text for p in rule.provenance)
    for loser in setting["overruled"]:
        assert f"{loser['rule']} overruled (" in text
        assert loser["decided_by"] in text


def test_a_pin_decides_and_is_explained(capsys: Capture) -> None:
    """`--set` fixes a value, says so, and shows whom it overruled."""
    setting = recommended(capsys, *TABLE, "--set", "model.units=77")["settings"]["model.units"]

    ended = call(capsys, "suggest", *TABLE, "--set", "model.units=77", "--explain", "model.units")

    assert setting["value"] == 77
    assert setting["range"]["type"] == "fixed"
    assert "you" in heard(setting)
    assert "CAP003" in {o["rule"] for o in setting["overruled"]}
    assert "you decides" in ended.out


def test_an_ignored_rule_has_no_say(capsys: Capture) -> None:
    """Without the deciding rule the next one decides."""
    before = recommended(capsys, *TABLE)["settings"][RATE]

    after = recommended(capsys, *TABLE, "--ignore", "LRN003")["settings"][RATE]

    assert "LRN003" in heard(before)
    assert before["overruled"][0]["rule"] == "LRN001"
    assert "LRN001" in heard(after)
    assert "LRN003" not in json.dumps(after)
    assert after["range"] == before["overruled"][0]["range"] != before["range"]


def test_only_selected_rules_speak(capsys: Capture) -> None:
    """`--select` leaves all other rules out."""
    found = recommended(capsys, *TABLE, "--select", "BAT,output")

    spoke = {rule for s in found["settings"].values() for rule in heard(s)}
    assert {rule[:3] for rule in spoke} == {"BAT", "OUT"}


@pytest.mark.parametrize(("rows", "fires"), [("26000", True), ("900", False)])
def test_own_rules_take_part(tmp_path: Path, capsys: Capture, rows: str, fires: bool) -> None:
    """A rule from `--rules` is heard where its conditions hold, and silent elsewhere."""
    folder = write_pack(tmp_path, rule_text())

    found = recommended(capsys, "--task", "tabular", "--num-samples", rows, *CPU, "--rules", folder)

    dropout = found["settings"]["model.dropout"]
    assert ("TST001" in json.dumps(dropout)) is fires
    assert ("TST001" in json.dumps(found["silent"])) is not fires


def small_table(path: Path) -> Path:
    """Sixty rows of three unequal classes, with a category and missing cells."""
    names = ["setosa"] * 4 + ["virginica"] * 2 + ["rare"]
    rows = [
        f"{i * 37 % 19 / 7:.3f},{'' if i % 9 == 4 else i * 11 % 5},{'abc'[i % 3]},{names[i % 7]}"
        for i in range(60)
    ]
    path.write_text("\n".join(["length,petals,site,kind", *rows]) + "\n", encoding="utf-8")
    return path


def test_three_tables_get_three_recommendations(
    tmp_path: Path, book: Rulebook, capsys: Capture
) -> None:
    """Different tables get different numbers, and each number leads to a rule and its source."""
    tables = {
        "quality": (WINE, "-t", "quality", "--problem", "regression"),
        "color": (WINE, "-t", "color"),
        "kind": (small_table(tmp_path / "flowers.csv"), "-t", "kind"),
    }

    found = {name: recommended(capsys, *t, *CPU) for name, t in tables.items()}

    problems = {n: f["facts"]["model.problem"]["value"] for n, f in found.items()}
    assert problems == {"quality": "regression", "color": "binary", "kind": "multiclass"}
    values = {n: {k: s["value"] for k, s in f["settings"].items()} for n, f in found.items()}
    for one, other in (("quality", "color"), ("color", "kind"), ("quality", "kind")):
        differing = {k for k, v in values[one].items() if values[other].get(k) != v}
        assert {"model.loss", "search.objective"} <= differing
    assert values["kind"]["training.batch_size"] < values["color"]["training.batch_size"]
    for recommendation in found.values():
        for name, setting in recommendation["settings"].items():
            for reason in setting["because"]:
                rule = book[reason["rule"]]
                assert rule.ours or reason["sources"], (name, rule.code)
                assert set(reason["sources"]) <= set(book.sources)


def options() -> set[str]:
    """Every option of the command."""
    root: Any = typer.main.get_command(app)
    return {o for p in root.commands["suggest"].params for o in (*p.opts, *p.secondary_opts)}


@pytest.mark.parametrize("flag", FLAGS)
def test_every_fact_with_a_flag_can_be_declared(flag: str, capsys: Capture) -> None:
    """The flag that the vocabulary names exists, and its value arrives as declared."""
    fact = FLAGS[flag]
    value = fact.values[0] if fact.values else SAMPLES.get(fact.kind, "cpu")
    if flag == "--device":
        value = "cpu"
    assert flag in options()

    found = recommended(capsys, flag, *([] if fact.kind == "bool" else [str(value)]), "--task",
                        "tabular")  # fmt: skip

    arrived = found["facts"][fact.name]
    assert arrived["value"] == ("tabular" if flag == "--task" else value)
    assert arrived["origin"] == "declared"


def test_a_fact_equals_its_flag(capsys: Capture) -> None:
    """`--fact name=value` says the same as the fact's own flag."""
    flag = ("--task", "tabular", *CPU, "--num-samples", "5000", "--gpu-memory", "16")
    fact: tuple[str, ...] = ("--task", "tabular", *CPU)
    for pair in ("data.num_samples=5000", "hardware.gpu_memory=16"):
        fact = (*fact, "--fact", pair)

    assert recommended(capsys, *fact) == recommended(capsys, *flag)


def test_declared_facts_win_over_the_file(capsys: Capture) -> None:
    """A flag replaces what was measured; the rest stays measured."""
    found = recommended(capsys, WINE, "-t", "color", *CPU, "--num-samples", "5000000")["facts"]

    assert found["data.num_samples"] | {"how": ""} == {
        "value": 5_000_000,
        "origin": "declared",
        "how": "",
    }
    assert found["data.num_features"]["origin"] == "measured"


def test_a_file_is_read_as_told(tmp_path: Path, capsys: Capture) -> None:
    """Delimiter, encoding, header, dropped columns and several targets are passed on."""
    lines = [f"{i % 13}|caf\u00e9{i % 3}|{i % 2}|{i // 2 % 2}" for i in range(80)]
    path = tmp_path / "t.txt"
    path.write_bytes("\n".join(["n|shop|a|b", *lines]).encode("latin-1"))
    bare = tmp_path / "bare.csv"
    bare.write_text("\n".join(f"{i % 13},{i % 7},{i % 2}" for i in range(80)), encoding="utf-8")
    told = ("--delimiter", "|", "--encoding", "latin-1")

    several = recommended(capsys, path, "-t", "a,b", *told)
    dropped = recommended(capsys, path, "-t", "a", *told, "--drop", "shop")
    headless = recommended(capsys, bare, "-t", "-1", "--no-header")

    assert several["facts"]["model.problem"]["value"] == "multilabel"
    assert "model.encoding[shop]" in several["settings"]
    assert not any("[shop]" in name for name in dropped["settings"])
    assert headless["facts"]["data.num_samples"]["value"] == 80


def test_warnings_do_not_end_the_job(tmp_path: Path, capsys: Capture) -> None:
    """A column of mixed types and rows without a target are told, and the rest is used."""
    rows = [f"{i if i % 50 else 'oops'},{i % 7},{'' if i % 10 == 3 else i % 2}" for i in range(300)]
    path = tmp_path / "mixed.csv"
    path.write_text("\n".join(["x,k,y", *rows]), encoding="utf-8")

    found = recommended(capsys, path, "-t", "y")
    text = call(capsys, "suggest", path, "-t", "y").out

    assert found["facts"]["data.num_samples"]["value"] == 270
    for part in ("`x` is numeric but for 6 cell(s) such as 'oops'", "30 row(s) without a value"):
        assert any(part in w for w in found["warnings"])
        assert part in " ".join(text.split())
