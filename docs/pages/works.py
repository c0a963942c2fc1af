"""The bibliography, and a page for each work."""

from __future__ import annotations

from pages.layout import Links, cell, count, head, table
from smarttune.rulebook import Rule, Rulebook
from smarttune.rulebook.explain import VERIFICATIONS

PAGE = "docs/sources.md"

_INTRO = """
Every work that a rule cites. A rule says which part of it a work supports (the condition, the
direction, the number), where in the work that stands, in our own words, and whether we read it
there. What no work supports stands under `ours` in the rule.
"""


def work_reference(book: Rulebook, *, site: bool = False) -> str:
    """Return the bibliography with the rules that cite each work."""
    links = Links(book, PAGE, site)
    lines = head("Sources", "rules/sources.yaml and the rules", _INTRO)
    rows = []
    for key, work in sorted(book.sources.items()):
        title = f"[{cell(work.title)}]({work.url})" if work.url else cell(work.title)
        cited = links.rules(rule.code for rule in citing(book, key))
        rows.append((links.work(key), f"{cell(work.authors)} ({work.year}): {title}", cited))
    return "\n".join(lines + table(("key", "work", "rules"), rows)) + "\n"


def citing(book: Rulebook, key: str) -> list[Rule]:
    """Return the rules that cite a work."""
    return [r for r in book.rules if any(item.source == key for item in r.provenance)]


def work_page(key: str, book: Rulebook) -> str:
    """Return the page of a work: what the rules took from it."""
    links, work = Links(book, f"docs/sources/{key}.md", site=True), book.sources[key]
    rules = citing(book, key)
    rows = [
        (
            links.rule(rule.code),
            item.supports,
            cell(item.claim),
            cell(item.locator),
            f"{item.verification}: {VERIFICATIONS[item.verification]}",
        )
        for rule in rules
        for item in rule.provenance
        if item.source == key
    ]
    lines = [f"# {work.title}", "", f"{work.authors} ({work.year}). Key: `{key}`."]
    lines += ["", f"<{work.url}>"] if work.url else []
    lines += ["", f"{count(len(rules), 'rule')} took {count(len(rows), 'claim')} from it."]
    lines += [
        "The claims are in our own words; the last column says how we know that they stand there."
    ]
    lines += table(("rule", "supports the", "claim", "where", "verification"), rows)
    return "\n".join([*lines, "", f"All works: [sources]({links.to(PAGE)})."]) + "\n"
