"""The ledger of the knowledge: which documented heuristic became which rule."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from pages.layout import ROOT, Links, cell, count, head, table
from smarttune.rulebook import Rulebook

FILE = ROOT / "rules" / "knowledge.yaml"
PAGE = "docs/knowledge.md"

_INTRO = """
SmartTune was built from heuristics that others had written down. This page accounts for each of
them: the rules that carry it, or why none does. The rules add what they say in detail, where they
stop, and where in which work it stands; our words here are only titles.
"""
_NAMED = "What people know by name, what became of it, and which rules say so."
_ROWS = "Heuristics gathered from papers, courses, code bases and documentation, {carried}."
_CLAIMS = """
Single statements of three texts for practitioners, {carried}. A statement is carried where a rule
takes it up, also to contradict or to bound it.
"""
_CONFLICTS = "Where these texts contradict each other or themselves, and what the rules make of it."
_WORKS = """
{cited} of {all} works in [the bibliography](sources.md) are cited by rules. One that no rule cites
would be listed here with the reason.
"""


@dataclass(frozen=True)
class Ledger:
    """The content of rules/knowledge.yaml.

    Attributes:
        documents: Prefix of a claim to the kind of its document and the key of its source.
        rows: Heuristics, id to title.
        claims: Statements of the documents, id to title.
        refused: What no rule carries, id to reason.
        conflicts: Id to its claims, issue, decision and rules.
        named: Heuristics by the name that people know, with a reading and rules.
    """

    documents: dict[str, dict[str, str]]
    rows: dict[str, str]
    claims: dict[str, str]
    refused: dict[str, str]
    conflicts: dict[str, dict[str, Any]]
    named: list[dict[str, Any]]

    def kind(self, claim: str) -> str:
        """What kind of document a claim was taken from."""
        return self.documents[claim.partition("-")[0]]["kind"]


@lru_cache(maxsize=1)
def load_ledger(file: Path = FILE) -> Ledger:
    """Read the ledger."""
    return Ledger(**yaml.safe_load(file.read_text(encoding="utf-8")))


def carriers(book: Rulebook) -> dict[str, list[str]]:
    """Return the codes of the rules that carry each row and claim."""
    found: dict[str, list[str]] = {}
    for rule in book.rules:
        for entry in (*rule.knowledge, *rule.seed_claims):
            found.setdefault(entry, []).append(rule.code)
    return found


def ledger_page(book: Rulebook, *, site: bool = False) -> str:
    """Return the ledger as a page."""
    ledger, links = load_ledger(), Links(book, PAGE, site)
    lines = head("Where the rules come from", "rules/knowledge.yaml and the rules", _INTRO)
    lines += ["", "## The heuristics by name", "", _NAMED]
    lines += table(
        ("heuristic", "in SmartTune", "rules"),
        [(n["name"], cell(n["reading"]), links.rules(n["rules"])) for n in ledger.named],
    )
    lines += _entries("Documented heuristics", _ROWS, ledger.rows, ledger, links)
    lines += _entries("Statements of the first texts", _CLAIMS, ledger.claims, ledger, links)
    lines += ["", "## Contradictions", "", _CONFLICTS]
    lines += table(
        ("id", "statements", "issue", "decision", "rules"),
        [_conflict(name, conflict, links) for name, conflict in ledger.conflicts.items()],
    )
    return "\n".join(lines + _works(ledger, links)) + "\n"


def _works(ledger: Ledger, links: Links) -> list[str]:
    """How many works are cited, and which are not."""
    cited = {item.source for rule in links.book.rules for item in rule.provenance}
    left = sorted(set(links.book.sources) - cited)
    said = _WORKS.strip().format(cited=len(cited), all=len(links.book.sources))
    return ["", "## Works", "", said, *(f"- `{key}`: {_reason(ledger, key)}" for key in left)]


def _entries(
    title: str, intro: str, entries: dict[str, str], ledger: Ledger, links: Links
) -> list[str]:
    """One section: what each entry says and where it went."""
    by = carriers(links.book)
    refused = sum(entry in ledger.refused for entry in entries)
    carried = f"{len(entries) - refused} of {len(entries)} carried by rules"
    lines = ["", f"## {title}", "", intro.strip().format(carried=carried)]
    if entries is ledger.claims:
        counts = Counter(map(ledger.kind, entries))
        said = [f"{kind} ({count(number, 'statement')})" for kind, number in counts.items()]
        lines += ["", f"The texts: {'; '.join(said)}."]
    rows = [
        (entry, cell(text), links.rules(by.get(entry, []), f"refused: {_reason(ledger, entry)}"))
        for entry, text in entries.items()
    ]
    return lines + table(("id", "heuristic", "rules"), rows)


def _reason(ledger: Ledger, entry: str) -> str:
    return cell(ledger.refused.get(entry, "no reason given"))


def _conflict(name: str, conflict: dict[str, Any], links: Links) -> tuple[str, ...]:
    return (
        name,
        ", ".join(conflict["claims"]),
        cell(conflict["issue"]),
        cell(conflict["decision"]),
        links.rules(conflict["rules"]),
    )
