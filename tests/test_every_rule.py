"""Every built-in rule, and all of them together."""

from __future__ import annotations

import random
import re
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarttune.cli import run
from smarttune.facts import FACTS, Facts
from smarttune.recommendation import recommend
from smarttune.rulebook import Rulebook, builtin_folder, check_rule, explain, load_rulebook
from smarttune.rulebook.schema import Verification
from smarttune.space import HYPERPARAMETERS
from tests.strategies import plausible_facts

FOLDER = builtin_folder()
PACKS = sorted(p.parent for p in FOLDER.glob("*/pack.yaml"))
# Portfolios lie beside the packs; they are data, not rules.
FILES = sorted(p for pack in PACKS for p in pack.glob("*.yaml") if p.name != "pack.yaml")
IDS = {p.name.split("-", 1)[0]: p.stem for p in FILES}

# The claims of the seed texts that rules carried when this was written; none may vanish.
SEED_CLAIMS = [
    "S001-01",
    "S001-02",
    "S001-03",
    "S001-04",
    "S001-05",
    "S001-06",
    "S001-08",
    "S001-09",
    "S001-10",
    "S001-11",
    "S001-12",
    "S001-13",
    "S001-14",
    "S001-15",
    "S001-16",
    "S001-17",
    "S001-18",
    "S001-19",
    "S001-20",
    "S001-21",
    "S001-22",
    "S001-23",
    "S001-24",
    "S001-25",
    "S002-03",
    "S002-04",
    "S002-05",
    "S002-06",
    "S002-07",
    "S002-08",
    "S002-09",
    "S002-10",
    "S002-11",
    "S002-12",
    "S002-13",
    "S002-14",
    "S002-15",
    "S002-16",
    "S002-17",
    "S002-18",
    "S002-19",
    "S002-20",
    "S004-03",
    "S004-04",
    "S004-05",
    "S004-06",
    "S004-07",
    "S004-08",
    "S004-09",
    "S004-10",
    "S004-11",
    "S004-12",
    "S004-13",
    "S004-14",
    "S004-15",
    "S004-16",
    "S004-17",
    "S004-18",
    "S004-19",
    "S004-20",
    "S004-21",
    "S004-22",
]

INSTRUCTIONS = {
    "use",
    "avoid",
    "prefer",
    "set",
    "consider",
    "choose",
    "do",
    "never",
    "always",
    "try",
    "keep",
    "start",
    "pick",
    "make",
    "apply",
    "increase",
    "decrease",
    "reduce",
    "tune",
}

each_rule = pytest.mark.parametrize("code", IDS, ids=IDS.values())


@each_rule
def test_the_file_is_named_after_its_rule(book: Rulebook, code: str) -> None:
    """Every file is loaded, under the code and the name that it holds."""
    rule = book[code]

    assert book.files[code].name == rule.filename == f"{IDS[code]}.yaml"


@each_rule
def test_examples_hold_and_show_both_outcomes(book: Rulebook, code: str) -> None:
    """A rule's examples are its own tests."""
    rule = book[code]

    assert check_rule(rule, book) == []
    assert {e.fires for e in rule.examples} == {True, False}


@each_rule
def test_everything_a_rule_names_exists(book: Rulebook, code: str) -> None:
    """Hyperparameters, facts, sources and other rules are there."""
    rule = book[code]
    codes = {r.code for r in book.rules}

    for line in rule.then:
        assert line.hyperparameter in HYPERPARAMETERS or line.advice
        assert set(line.active_when) <= set(HYPERPARAMETERS)
    assert rule.names <= set(FACTS) | set(HYPERPARAMETERS)
    assert {p.source for p in rule.provenance} <= book.sources.keys()
    assert {c.with_ for c in rule.conflicts} | set(rule.overrides) <= codes - {code}


@each_rule
def test_the_page_is_complete(book: Rulebook, code: str) -> None:
    """The page has every section, each with content."""
    rule = book[code]

    sections = dict(
        re.findall(r"^## (.+)\n\n((?:(?!## ).*\n)+)", explain(rule, book.sources), re.MULTILINE)
    )

    wanted = ["When it fires", "What it does", "Why", "Limits", "Examples"]
    wanted += ["Provenance"] * bool(rule.provenance)
    wanted += ["What is our own judgement"] * bool(rule.ours)
    wanted += ["Put to the test"] * bool(rule.check)
    wanted += ["Conflicts"] * bool(rule.conflicts or rule.overrides)
    assert set(sections) == set(wanted)
    assert all(text.strip() for text in sections.values())


@each_rule
def test_the_name_describes_a_situation(book: Rulebook, code: str) -> None:
    """A name is no instruction, and the summary is one short sentence."""
    rule = book[code]

    assert rule.name.split("-")[0] not in INSTRUCTIONS
    assert rule.summary[0].isupper() or rule.summary[0].isdigit()
    assert rule.summary.endswith(".")
    assert len(rule.summary) <= 140


@each_rule
def test_provenance_says_what_supports_what(book: Rulebook, code: str) -> None:
    """Each item has a locator, a claim in words, and an honest verification."""
    rule = book[code]

    assert rule.provenance or rule.ours
    for item in rule.provenance:
        assert item.verification in get_args(Verification)
        assert item.locator.strip()
        assert len(item.claim.split()) >= 3


def test_every_file_is_in_the_book(book: Rulebook) -> None:
    """No file is passed over, and no code stands for two."""
    assert sorted(IDS) == [r.code for r in book.rules if book.files[r.code].is_relative_to(FOLDER)]
    assert len(IDS) == len(FILES) >= 190


@pytest.mark.parametrize("folder", PACKS, ids=lambda p: p.name)
def test_packs_own_their_prefixes(book: Rulebook, folder: Any) -> None:
    """A pack is named after its folder, and each of its prefixes is used and its alone."""
    pack = next(p for p in book.packs if p.folder == folder)
    others = [prefix for p in book.packs if p is not pack for prefix in p.info.prefixes]

    assert pack.info.pack == folder.name
    assert len(pack.rules) == len(list(folder.glob("*.yaml"))) - 1
    assert {r.code[:-3] for r in pack.rules} == set(pack.info.prefixes)
    assert not set(pack.info.prefixes) & set(others)


def test_no_seed_claim_vanishes(book: Rulebook) -> None:
    """Every claim of the seed texts that a rule carried is still carried by one."""
    carried = {claim for rule in book.rules for claim in rule.seed_claims}

    assert set(SEED_CLAIMS) - carried == set()


def test_every_source_is_complete(book: Rulebook) -> None:
    """A work in the bibliography has authors, title and year, and its link is one."""
    for source in book.sources.values():
        assert source.authors.strip()
        assert source.title.strip()
        assert source.year.strip()
        assert not source.url or source.url.startswith("http")


def test_rules_check_is_content(capsys: pytest.CaptureFixture[str]) -> None:
    """`smarttune rules check` ends with success and counts every rule."""
    assert run(["rules", "check", str(FOLDER)]) == 0

    assert f"{len(FILES)} rules checked" in capsys.readouterr().out


def with_task_defaults(facts: Facts) -> Facts:
    """Facts whose classes agree with the problem."""
    if facts.value("model.problem") == "binary":
        return facts | Facts.of({"data.num_classes": 2})
    return facts


@given(plausible_facts)
@settings(max_examples=60)
def test_no_facts_break_the_book(book: Rulebook, facts: Facts) -> None:
    """Whatever is known, there is a recommendation, its default lies in its space, and no two
    rules of equal standing contradict each other.
    """
    found = recommend(with_task_defaults(facts), rules=book)

    assert found.space().contains(found.default)
    told = {*found.rules_fired, *found.silent, *(u.rule for u in found.unknown)}
    told |= {o.rule for s in found.settings.values() for o in s.overruled}
    assert told == {r.code for r in book.rules}
    for name, setting in found.settings.items():
        ties = [o for o in setting.overruled if "order of codes" in o.decided_by]
        assert not ties, f"{name}: {setting.because[0].rule} against {ties[0].rule}"


@given(plausible_facts, st.randoms(use_true_random=False))
@settings(max_examples=15)
def test_the_order_of_built_in_rules_changes_nothing(
    book: Rulebook, facts: Facts, rng: random.Random
) -> None:
    """The settings are the same in whatever order rules are loaded."""
    shuffled = book.replace_rules(rng.sample(book.rules, len(book.rules)))
    columns = {"c": Facts.of({"column.cardinality": 30, "column.rows_per_level": 50.0})}

    one = recommend(facts, rules=book, columns=columns)
    other = recommend(facts, rules=shuffled, columns=columns)

    assert one.settings == other.settings
    assert (one.silent, one.unknown) == (other.silent, other.unknown)
    assert set(one.advice) == set(other.advice)


def test_loading_twice_gives_the_same_book(book: Rulebook) -> None:
    """From the cache or not, the rules are equal."""
    assert load_rulebook.__wrapped__().rules == book.rules
