"""The ledger of the knowledge: nothing that was documented is lost without a reason."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from smarttune.rulebook import Rulebook, load_rulebook
from tests.development import development_knowledge

ROOT = Path(__file__).parents[1]
LONGEST_TITLE = 12


def _pages() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs"))
        from pages import ledger

        return ledger


PAGES = _pages()
LEDGER = PAGES.load_ledger()
ENTRIES: dict[str, str] = {**LEDGER.rows, **LEDGER.claims}


@pytest.fixture(scope="module")
def own_book() -> Rulebook:
    """The rules of this checkout."""
    return load_rulebook((ROOT / "rules",), builtin=False)


@pytest.fixture(scope="module")
def carried(own_book: Rulebook) -> set[str]:
    """Every row and claim that a rule carries."""
    return set(PAGES.carriers(own_book))


@pytest.fixture(scope="module")
def development() -> dict[str, Any]:
    """The file that the rules were written from."""
    found: dict[str, Any] = yaml.safe_load(development_knowledge().read_text(encoding="utf-8"))
    return found


def test_every_entry_is_carried_or_refused(carried: set[str]) -> None:
    """No documented heuristic and no statement is lost in silence."""
    assert set(ENTRIES) - carried - set(LEDGER.refused) == set()


def test_nothing_is_both_carried_and_refused(carried: set[str]) -> None:
    """A reason for refusing what a rule says would be untrue."""
    assert carried & set(LEDGER.refused) == set()


def test_rules_name_only_entries_of_the_ledger(carried: set[str]) -> None:
    """An id in a rule file leads to a title."""
    assert carried - set(ENTRIES) == set()


def test_rows_and_claims_stand_in_their_own_field(own_book: Rulebook) -> None:
    """`knowledge` holds rows and `seed_claims` holds claims, none of them twice."""
    for rule in own_book.rules:
        assert set(rule.knowledge) <= set(LEDGER.rows), rule.code
        assert set(rule.seed_claims) <= set(LEDGER.claims), rule.code
        for field in (rule.knowledge, rule.seed_claims):
            assert len(set(field)) == len(field), rule.code


def test_whoever_carries_a_claim_cites_its_document(own_book: Rulebook) -> None:
    """A statement counts as carried only if some rule that carries it names where it comes from."""
    uncited = []
    for claim, codes in PAGES.carriers(own_book).items():
        if claim in LEDGER.claims:
            source = LEDGER.documents[claim.partition("-")[0]]["source"]
            cited = {p.source for code in codes for p in own_book[code].provenance}
            uncited += [claim] if source not in cited else []

    assert uncited == []


def test_refusals_have_reasons_and_concern_entries(own_book: Rulebook) -> None:
    """A refusal is a sentence about an entry of the ledger or a work of the bibliography."""
    assert set(LEDGER.refused) <= set(ENTRIES) | set(own_book.sources)
    for entry, reason in LEDGER.refused.items():
        assert len(reason.split()) >= 5, entry


def test_every_work_is_cited_or_refused(own_book: Rulebook) -> None:
    """The bibliography holds nothing that nobody uses."""
    cited = {item.source for rule in own_book.rules for item in rule.provenance}

    assert set(own_book.sources) - cited - set(LEDGER.refused) == set()
    assert cited & set(LEDGER.refused) == set()


@pytest.mark.parametrize("name", LEDGER.conflicts)
def test_contradictions_are_decided_by_rules_that_carry_them(name: str, own_book: Rulebook) -> None:
    """Each has an issue, a decision, rules that exist, and claims that these rules carry."""
    conflict = LEDGER.conflicts[name]
    rules = [own_book[code] for code in conflict["rules"]]

    assert conflict["issue"].strip()
    assert len(conflict["decision"].split()) >= 5
    assert set(conflict["claims"]) <= set(LEDGER.claims)
    assert {c for rule in rules for c in rule.seed_claims} & set(conflict["claims"])


def test_heuristics_by_name_lead_to_rules(own_book: Rulebook) -> None:
    """Each has a reading and at least one rule, and no name comes twice."""
    names = [entry["name"] for entry in LEDGER.named]

    assert len(set(names)) == len(names) >= 30
    for entry in LEDGER.named:
        assert entry["reading"].strip()
        assert entry["rules"], entry["name"]
        assert all(own_book[code] for code in entry["rules"])


@pytest.mark.parametrize(
    ("strategy", "name"),
    [
        ("grid", "Grid search"),
        ("random", "Random search"),
        ("iterative_random", "Iterated random search"),
        ("bayesian", "Bayesian search"),
        ("evolution", "Evolutionary search"),
        ("gradient", "Gradient-based search"),
        ("priorband", "Early-stopping search, Hyperband"),
    ],
)
def test_every_kind_of_search_has_a_rule_that_says_when(
    strategy: str, name: str, own_book: Rulebook
) -> None:
    """A rule that the ledger gives for a kind of search names its strategy."""
    rules = next(entry["rules"] for entry in LEDGER.named if entry["name"] == name)
    texts = [own_book[code].model_dump_json() for code in rules]

    assert any(strategy in text for text in texts)


def test_titles_are_short_and_tell_apart() -> None:
    """No title is a paragraph, and no two entries share one."""
    titles = [*LEDGER.rows.values(), *LEDGER.claims.values()]

    assert max(len(title.split()) for title in titles) <= LONGEST_TITLE
    assert len(set(titles)) == len(titles)


def test_documents_of_claims_are_works_with_a_kind(own_book: Rulebook) -> None:
    """Each claim comes from a document in the bibliography of which is said what it is."""
    for claim in LEDGER.claims:
        document = LEDGER.documents[claim.partition("-")[0]]
        assert document["source"] in own_book.sources
        assert LEDGER.kind(claim) == document["kind"]


def test_the_page_accounts_for_every_entry(own_book: Rulebook) -> None:
    """Each row and claim has a line with its rules or the reason of its refusal."""
    page = PAGES.ledger_page(own_book)
    by = PAGES.carriers(own_book)

    for entry, title in ENTRIES.items():
        line = next(li for li in page.splitlines() if li.startswith(f"| {entry} | {title} |"))
        if entry in LEDGER.refused:
            assert "refused: " + " ".join(LEDGER.refused[entry].split()) in line
        else:
            assert all(f"[{code}](" in line for code in by[entry])
    for name, conflict in LEDGER.conflicts.items():
        assert f"| {name} | {', '.join(conflict['claims'])} |" in page


def test_the_ledger_is_that_of_the_knowledge_base(development: dict[str, Any]) -> None:
    """Rows, claims, contradictions and works are those of the file the rules were written from."""
    assert list(LEDGER.rows) == [row["id"] for row in development["rules"]]
    assert list(LEDGER.claims) == [claim["id"] for claim in development["seed_claims"]]
    conflicts = {c["id"]: sorted(c["claims"]) for c in development["seed_conflicts"]}
    assert {k: sorted(c["claims"]) for k, c in LEDGER.conflicts.items()} == conflicts


def test_every_work_of_the_knowledge_base_is_known(
    development: dict[str, Any], own_book: Rulebook
) -> None:
    """Its bibliography is part of ours, or the ledger refuses the work."""
    assert set(development["bibliography"]) <= set(own_book.sources) | set(LEDGER.refused)
