"""The index of the rules, and a page for each rule."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import get_args

from pages import ledger
from pages.layout import Links, cell, head, table
from smarttune.facts import FACTS
from smarttune.rulebook import Pack, Rule, Rulebook, explain
from smarttune.rulebook.evidence import evidence_on
from smarttune.rulebook.explain import EVIDENCE, KINDS, VERIFICATIONS
from smarttune.rulebook.schema import Evidence, Verification

PAGE = "rules/README.md"

_INTRO = """
{rules} rules in {packs} packs. Each is one file: the situation, what it recommends, why, where
that stops, who says so, and what is our own judgement. `smarttune rules show CODE` prints one as a
page; `smarttune suggest --explain HYPERPARAMETER` shows which of them decided and which were
overruled.

How to write your own: [examples/050_write_a_rule](../examples/050_write_a_rule/README.md). The
words: [facts](../docs/facts.md), [hyperparameters](../docs/hyperparameters.md),
[sources](../docs/sources.md). Which documented heuristic became which rule, which were refused, and
how contradictions were decided: [where the rules come from](../docs/knowledge.md).
"""
_COUNTS = """
Of each pack: how many rules there are, and how strong the evidence of each is. *Ours* are rules
that cite no work at all.
"""
_WITHOUT = """
To do without this rule: `--ignore {code}`. To settle a hyperparameter yourself: `--set NAME=VALUE`.
"""
_CLAIMS = """
A rule names the works it rests on claim by claim, and says how we know that the claim stands there.
"""


def rule_index(book: Rulebook, *, site: bool = False) -> str:
    """Return the index of all rules, by pack."""
    links = Links(book, PAGE, site)
    intro = _INTRO.format(rules=len(book.rules), packs=len(book.packs))
    lines = head("The rules", "the rule files", intro)
    lines += ["", "## How many, and how sure", ""]
    lines += [f"- **{kind}**: {meaning}" for kind, meaning in KINDS.items()]
    lines += ["", _COUNTS.strip(), *_evidence_counts(book)]
    lines += ["", *(f"- **{_words(name)}**: {meaning}" for name, meaning in EVIDENCE.items())]
    lines += ["", _CLAIMS.strip(), *_verification_counts(book)]
    for pack in book.packs:
        lines += _pack_section(pack, links)
    return "\n".join(lines) + "\n"


def _evidence_counts(book: Rulebook) -> list[str]:
    classes = get_args(Evidence)
    rows: list[tuple[object, ...]] = []
    everything = [("**all**", book.rules)]
    for title, rules in [*((f"`{p.info.pack}`", p.rules) for p in book.packs), *everything]:
        counts = Counter(rule.evidence for rule in rules)
        ours = sum(not rule.provenance for rule in rules)
        rows.append((title, len(rules), *(counts[c] or "" for c in classes), ours or ""))
    return table(("pack", "rules", *map(_words, classes), "ours"), rows)


def _verification_counts(book: Rulebook) -> list[str]:
    counts = Counter(item.verification for rule in book.rules for item in rule.provenance)
    rows = [(name, VERIFICATIONS[name], counts[name]) for name in get_args(Verification)]
    return table(("verification", "means", "claims"), [*rows, ("**all**", "", counts.total())])


def _words(name: str) -> str:
    return name.replace("_", " ")


def _pack_section(pack: Pack, links: Links) -> list[str]:
    lines = ["", f"## {pack.info.title}", "", f"Pack `{pack.info.pack}`. {pack.info.about.strip()}"]
    rows = []
    for rule in sorted(pack.rules, key=lambda r: r.code):
        sets = dict.fromkeys(line.hyperparameter for line in rule.then)
        shown = ", ".join("advice" if s is None else links.hyperparameter(s) for s in sets)
        rows.append((f"{links.rule(rule.code)} {rule.name}", rule.kind, cell(rule.summary), shown))
    return lines + table(("rule", "kind", "what it says", "sets"), rows)


def rule_page(rule: Rule, book: Rulebook) -> str:
    """Return the page of a rule, with links to all that it names."""
    links = Links(book, f"docs/rules/{rule.code}.md", site=True)
    lines = [
        _linked(explain(rule, book.sources, evidence_on(book, rule.code)), rule, links).rstrip()
    ]
    lines += _words_used(rule, links) + _named_by(rule, links) + _carried(rule, links)
    file = links.rule_file(rule.code)
    pack = next((p for p in book.packs if rule.code in {r.code for r in p.rules}), None)
    index = f"Pack `{pack.info.pack}` in [the index]({links.to(PAGE)}). " if pack else ""
    lines += ["", f"{index}The file: [{file}]({links.to(file)})."]
    lines += ["", _WITHOUT.strip().format(code=rule.code)]
    return "\n".join(lines) + "\n"


def _linked(text: str, rule: Rule, links: Links) -> str:
    """Turn codes of other rules, names of hyperparameters and keys of works into links."""
    others = "|".join(r.code for r in links.book.rules if r.code != rule.code)
    # Codes in backticks are expressions or commands, and a link inside them would show as text.
    text = re.sub(rf"(?<![`\w\[])({others})(?![`\w])", lambda m: links.rule(m[1]), text)
    text = re.sub(r"Source `(\w+)`", lambda m: f"Source {links.work(m[1])}", text)
    named = re.compile(r"(?<!\[)`([a-z]+(?:\.[a-z0-9_]+)+)`")
    known = links.book.hyperparameters
    return named.sub(lambda m: links.hyperparameter(m[1]) if m[1] in known else m[0], text)


def _words_used(rule: Rule, links: Links) -> list[str]:
    """The facts and hyperparameters that a rule reads and sets, with what they mean."""
    rows: list[tuple[str, str, str]] = []
    for name in dict.fromkeys(line.hyperparameter for line in rule.then if line.hyperparameter):
        about = links.book.hyperparameters[name].about
        rows.append((links.hyperparameter(name), "sets", cell(about)))
    for name in sorted(rule.names):
        if name in FACTS:
            rows.append((links.fact(name), "reads", cell(FACTS[name].about)))
        else:
            about = links.book.hyperparameters[name].about
            rows.append((links.hyperparameter(name), "reads", cell(about)))
    found = table(("name", "the rule", "meaning"), rows)
    return ["", "## Its words", *found] if found else []


def _named_by(rule: Rule, links: Links) -> list[str]:
    """Rules that name this one without being named by it."""
    named = {c.with_ for c in rule.conflicts} | set(rule.overrides)
    lines = [
        f"- {links.rule(other.code)}: {text}"
        for other in links.book.rules
        if other.code not in named
        for text in _said_of(other, rule)
    ]
    said = "They name it among their conflicts; what decides, seen from their side:"
    return ["", "## Rules that name this one", "", said, "", *lines] if lines else []


def _said_of(other: Rule, rule: Rule) -> Iterator[str]:
    yield from (c.decided_by for c in other.conflicts if c.with_ == rule.code)
    if rule.code in other.overrides:
        yield "overrides it wherever both fire"


def _carried(rule: Rule, links: Links) -> list[str]:
    """The documented heuristics that a rule carries."""
    book = ledger.load_ledger()
    entries = book.rows | book.claims
    lines = [f"- {e}: {entries[e]}" for e in (*rule.knowledge, *rule.seed_claims) if e in entries]
    if not lines:
        return []
    origin = f"From the ledger, [where the rules come from]({links.to(ledger.PAGE)}):"
    return ["", "## Documented heuristics it carries", "", origin, "", *lines]
