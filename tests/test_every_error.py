"""Every error of the tree, raised by what a user can do, and what its message says."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from pathlib import Path

import pytest

import smarttune
from smarttune import errors
from smarttune.data import read
from smarttune.errors import (
    ConflictingRulesError,
    DataError,
    FactError,
    MissingExtraError,
    OptionError,
    RangeError,
    RuleMistake,
    RulePackError,
    RunError,
    SettingError,
    SmartTuneError,
    did_you_mean,
)
from smarttune.facts import Facts
from smarttune.files import write_text
from smarttune.objectives import Objective, objective
from smarttune.recommendation import recommend
from smarttune.rulebook import Rulebook, select, yaml
from smarttune.space import IntRange
from smarttune.trials import TrialLog
from tests.rulebook.packs import RULE, load, write_pack
from tests.strategies import book_of, rule

Scenario = Callable[[Path, pytest.MonkeyPatch], object]


def no_such_rule(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Ask for a rule that does not exist."""
    return book_of(rule())["TST002"]


def broken_pack(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Load a pack with a misspelt fact."""
    return load(write_pack(tmp, RULE.replace("data.num_samples >", "data.num_sample >")))


def broken_yaml(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Read a text with one key twice."""
    return yaml.load("a: 1\na: 2", "rule.yaml")


def two_musts(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Two rules that must hold and cannot."""
    lines = [{"hyperparameter": "model.units", "fixed": v, "strength": "must"} for v in (1, 2)]
    rules = [rule(f"TST00{i}", then=line) for i, line in enumerate(lines)]
    return recommend(Facts(), rules=book_of(*rules))


def wrong_fact(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Declare a fact in a wrong type."""
    return smarttune.suggest(facts={"data.num_samples": "many"})


def empty_range(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Make a range that holds nothing."""
    return IntRange(low=3, high=1)


def wrong_pin(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Set what is no hyperparameter."""
    return recommend(Facts(), rules=Rulebook(()), pinned={"model.unitz": 3})


def absent_data(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Read a file that is not there."""
    return read(tmp / "absent.csv", "y")


def absent_extra(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Read a parquet file without a reader for it."""
    import importlib.util

    (tmp / "table.parquet").write_bytes(b"PAR1")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "pyarrow" else find(name, *a)
    )
    return read(tmp / "table.parquet", "y")


def wrong_option(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Rank trials by a metric that does not exist."""
    return objective("val_acc")


def nothing_selected(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Select rules that do not exist."""
    return select(book_of(rule()), ["XYZ"])


def no_data(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Ask for a suggestion about nothing."""
    return smarttune.suggest()


def no_score(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Ask an empty log for its best trial."""
    return TrialLog(Objective("val_loss", "min")).best()


def no_folder(tmp: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Write below a file."""
    (tmp / "file").write_text("")
    return write_text(tmp / "file" / "x", "x")


SCENARIOS: list[tuple[type[SmartTuneError], Scenario]] = [
    (SmartTuneError, no_such_rule),
    (RulePackError, broken_pack),
    (RuleMistake, broken_yaml),
    (ConflictingRulesError, two_musts),
    (FactError, wrong_fact),
    (RangeError, empty_range),
    (SettingError, wrong_pin),
    (DataError, absent_data),
    (MissingExtraError, absent_extra),
    (OptionError, wrong_option),
    (OptionError, nothing_selected),
    (OptionError, no_data),
    (RunError, no_score),
    (RunError, no_folder),
]


def tree(root: type[SmartTuneError]) -> set[type[SmartTuneError]]:
    """A class and all below it that belong to the package."""
    below = {c for child in root.__subclasses__() for c in tree(child)}
    # Oracles refine one of these for KerasTuner's sake; it is not a kind of its own.
    return {c for c in {root, *below} if c.__module__ == "smarttune.errors"}


@pytest.mark.parametrize(
    ("kind", "scenario"), SCENARIOS, ids=[f"{k.__name__}-{s.__name__}" for k, s in SCENARIOS]
)
def test_an_error_says_where_what_and_how_to_mend_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[SmartTuneError], scenario: Scenario
) -> None:
    """The message holds place, finding, expectation and mend, in full sentences."""
    with pytest.raises(SmartTuneError) as caught:
        scenario(tmp_path, monkeypatch)

    error, text = caught.value, str(caught.value)
    assert type(error) is kind
    for part in (error.where, error.received, error.expected, error.mend):
        assert len(part.strip()) >= 4
        assert "None" not in part
        assert part in text
    assert text.startswith(error.where)
    assert f"Expected {error.expected}." in text
    assert error.mend[0].isupper() or error.mend[0] == "`"
    assert error.mend.endswith((".", "?"))
    assert ".." not in text.replace("...", "").replace("..", "", text.count("../"))


def test_every_error_has_a_scenario() -> None:
    """No class of the tree is left without a way to it, and all of it stands in one module."""
    assert tree(SmartTuneError) == {kind for kind, _ in SCENARIOS}
    assert {c.__module__ for c in tree(SmartTuneError)} == {"smarttune.errors"}


def test_the_drawn_tree_is_complete() -> None:
    """The tree at the top of the module shows every class that users meet."""
    drawn = errors.__doc__ or ""

    hidden = {RuleMistake}  # always raised within a RulePackError by the loader
    assert [c.__name__ for c in tree(SmartTuneError) - hidden if c.__name__ not in drawn] == []


def test_no_error_is_defined_elsewhere() -> None:
    """Modules of the light rooms define no SmartTuneError of their own."""
    names = [m.name for m in pkgutil.iter_modules(smarttune.__path__)]

    assert "errors" in names
    for path in Path(smarttune.__file__).parent.rglob("*.py"):
        if path.name != "errors.py":
            text = path.read_text(encoding="utf-8")
            assert "(SmartTuneError):" not in text, path


def test_all_mistakes_of_a_pack_are_in_its_message(tmp_path: Path) -> None:
    """A pack's error holds its mistakes, and shows the first one's parts as its own."""
    text = RULE.replace("kind: static", "kind: statik").replace("0.6", "6.0")

    with pytest.raises(RulePackError) as caught:
        load(write_pack(tmp_path, text))

    first, second = caught.value.mistakes
    assert str(caught.value) == f"{first}\n{second}"
    assert caught.value.where == first.where


@pytest.mark.parametrize(
    ("word", "hint"),
    [("adan", " Did you mean `adam`?"), ("adam", " Did you mean `adam`?"), ("zzz", ""), ("", "")],
)
def test_did_you_mean_names_the_closest(word: str, hint: str) -> None:
    """A close word is offered, a far one is not."""
    assert did_you_mean(word, ["adam", "sgd"]) == hint


def test_questions_and_full_stops_are_not_doubled() -> None:
    """A finding that ends in a mark gets no second one."""
    error = SmartTuneError("x", received="is it?", expected="y", mend="Do z.")

    assert str(error) == "x: is it? Expected y. Do z."
