"""What was found on somebody's data becomes a rule of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from smarttune import suggest
from smarttune.data import Dataset, read
from smarttune.errors import OptionError, RulePackError
from smarttune.evidence.packs import LocalRule, add_finding, add_rule
from smarttune.rulebook import Rulebook, check_rulebook, load_rulebook
from smarttune.rulebook.evidence import DataResult, Result, Verdict, read_evidence


def dataset(rows: int = 400) -> Dataset:
    """A table of two classes."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(rows, 3)), columns=["a", "b", "c"])
    frame["y"] = (frame["a"] > 0).map({True: "yes", False: "no"})
    return read(frame, "y")


def result(verdict: Verdict, recommended: Any, against: Any) -> Result:
    """An experiment on that table."""
    data = DataResult(
        data="mine",
        effect=0.2,
        seeds=3,
        recommended=recommended,
        against=against,
        recommended_mean=0.2,
        against_mean=0.25,
    )
    return Result(
        date="2026-01-01",
        environment={"smarttune": "0"},
        question="Is it so?",
        measure="error",
        expects="better",
        margin=0.05,
        effect=0.2,
        low=0.1,
        high=0.3,
        verdict=verdict,
        trainings=6,
        diverged=0,
        seconds=10.0,
        data=(data,),
    )


TANH, RELU = {"model.activation": "tanh"}, {"model.activation": "relu"}


def test_a_contradicted_rule_is_overridden_on_like_data(tmp_path: Path, book: Rulebook) -> None:
    """The suggestion for these data takes what was better, names the local rule, and the loser."""
    found, mine = result("contradicted", RELU, TANH), dataset()
    file = add_finding(tmp_path / "mine", book["CAP012"], found, mine, book)
    assert file is not None
    made = suggest(mine, rules=[tmp_path / "mine"])
    setting = made.settings["model.activation"]
    assert setting.value == "tanh"
    assert setting.because[0].rule == "LOC001"
    assert "CAP012" in {o.rule for o in setting.overruled}
    evidence = read_evidence(tmp_path / "mine", "CAP012")
    assert evidence is not None
    assert evidence.results == (found,)


def test_other_data_are_left_alone(tmp_path: Path, book: Rulebook) -> None:
    """Ten times the rows are no longer like the data of the experiment."""
    add_finding(tmp_path / "p", book["CAP012"], result("contradicted", RELU, TANH), dataset(), book)
    assert suggest(dataset(4_000), rules=[tmp_path / "p"]).value("model.activation") == "relu"


def test_a_rule_that_holds_is_sharpened(tmp_path: Path, book: Rulebook) -> None:
    """Its range stays, around the value that was tested, and nothing is overridden by name."""
    values = {"model.dropout": 0.1}
    found = result("holds", values, {"model.dropout": 0.5})
    file = add_finding(tmp_path / "p", book["REG002"], found, dataset(), book)
    assert file is not None
    local = load_rulebook(((tmp_path / "p").resolve(),))["LOC001"]
    assert not local.overrides
    setting = suggest(dataset(), rules=[tmp_path / "p"]).settings["model.dropout"]
    assert setting.value == 0.1
    assert setting.range.contains(0.5)


def test_no_difference_makes_no_rule(tmp_path: Path, book: Rulebook) -> None:
    """What was found is kept, and the pack has no rule from it."""
    pack = tmp_path / "p"
    found = result("no difference", RELU, TANH)
    assert add_finding(pack, book["CAP012"], found, dataset(), book) is None
    assert not list(pack.glob("LOC*"))
    assert read_evidence(pack, "CAP012") is not None


def test_a_later_finding_replaces_the_earlier_rule(tmp_path: Path, book: Rulebook) -> None:
    """The same rule on the same data is one local rule, with both experiments beside it."""
    pack, mine = tmp_path / "p", dataset()
    first = add_finding(pack, book["CAP012"], result("contradicted", RELU, TANH), mine, book)
    again = add_finding(pack, book["CAP012"], result("holds", RELU, TANH), mine, book)
    assert first == again
    assert suggest(mine, rules=[pack]).value("model.activation") == "relu"
    evidence = read_evidence(pack, "CAP012")
    assert evidence is not None
    assert len(evidence.results) == 2


def draft(**changed: Any) -> LocalRule:
    """A local rule about tables."""
    told: dict[str, Any] = {
        "name": "small-tables-here",
        "summary": "Small tables of ours take tanh.",
        "when": ('data.task == "tabular"',),
        "then": ({"hyperparameter": "model.activation", "fixed": "tanh"},),
        "why": "Seen.",
        "limits": "Here.",
        "facts": {"data.task": "tabular"},
    }
    return LocalRule(**(told | changed))


def test_several_rules_get_codes_of_their_own(tmp_path: Path) -> None:
    """Codes count up, and what is written keeps the promises of every rule."""
    files = [add_rule(tmp_path / "p", draft(name=name)) for name in ("one-kind", "another-kind")]
    assert [file.name[:6] for file in files] == ["LOC001", "LOC002"]
    book = load_rulebook(((tmp_path / "p").resolve(),))
    assert not check_rulebook(book.replace_rules([book["LOC001"], book["LOC002"]]))


def test_what_does_not_load_is_not_left_in_the_pack(tmp_path: Path) -> None:
    """A broken draft is an error, and the pack is as it was."""
    add_rule(tmp_path / "p", draft())
    before = {p.name: p.read_text() for p in (tmp_path / "p").glob("*.yaml")}
    with pytest.raises(RulePackError, match=r"data\.tsk"):
        add_rule(tmp_path / "p", draft(when=('data.tsk == "tabular"',)))
    assert {p.name: p.read_text() for p in (tmp_path / "p").glob("*.yaml")} == before


def test_a_file_is_no_pack(tmp_path: Path) -> None:
    """A path that is taken is told, not overwritten."""
    (tmp_path / "p").write_text("mine")
    with pytest.raises(OptionError, match="is a file"):
        add_rule(tmp_path / "p", draft())
