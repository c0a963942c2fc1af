"""The rules that were put to the test, and what came of it."""

from __future__ import annotations

from collections import Counter

from pages.layout import Links, cell, head, table
from smarttune.rulebook import Rule, Rulebook
from smarttune.rulebook.checks import Check
from smarttune.rulebook.evidence import Result, cost_of, evidence_on, shown_effect
from smarttune.space import show_value

PAGE = "docs/evidence.md"

_INTRO = """
Rules that claim a number or a direction say in their file how they can be proved wrong (`check:`),
and `smarttune rules test CODE` trains both sides and says what difference it made. What we found is
kept in `rules/evidence/` with environment and date, and stands here, also where it speaks against a rule.

**How to read it.** The effect is how much less error the rule's side left (or seconds, or epochs), from
the mean difference of logarithms over data sets; in brackets its 95 % interval: Student's, over the
data sets where there are at least three, else over the seeds. A rule that expects to be *better* holds if the
whole interval does; one that expects to be *no worse* may lose the margin; *level* means within it on either side.
A rule is contradicted if the interval leaves out zero on the wrong side and, where a margin is
allowed, the effect goes beyond it. All else is *no difference*: the rule is neither shown nor
refuted by so few trainings.

**What it is not.** These are the data that SmartTune was developed on, so the tests are no independent
proof. Real data are small: at most 2,000 rows, short trainings, two to five seeds. `lcbench` stands for
17 tables of [LCBench](https://github.com/automl/LCBench), answered by a model of its trainings from [YAHPO
Gym](https://github.com/slds-lmu/yahpo_gym): SGD only, funnel-shaped networks, no noise, so that what is
not under test is drawn anew from its recommended range in the place of seeds. A side that names several
configurations speaks with the best of them on each data set, which favours the side that names more.
What holds here may not hold on yours: run the same with `--data`.
"""

_EXPECTS = {"better": "better", "no_worse": "no worse", "level": "level"}


def evidence_page(book: Rulebook, *, site: bool = False) -> str:
    """Return the table of all experiments, and of the checks that nobody ran yet."""
    links = Links(book, PAGE, site)
    lines = head("Rules put to the test", "rules/evidence/ and the rules", _INTRO)
    rows: list[tuple[object, ...]] = []
    verdicts: Counter[str] = Counter()
    waiting = []
    earlier: list[tuple[Rule, Result]] = []
    for rule in book.rules:
        if rule.check is None:
            continue
        findings = evidence_on(book, rule.code)
        if findings is None:
            waiting.append(rule)
            continue
        verdicts[findings.results[-1].verdict] += 1
        rows.append(_row(rule, findings.results[-1], rule.check, links))
        earlier += [(rule, result) for result in findings.results[:-1]]
    told = ", ".join(f"{verdict}: {number}" for verdict, number in sorted(verdicts.items()))
    checked = len(rows) + len(waiting)
    lines += ["", f"{checked} of {len(book.rules)} rules say how they can be tested, and"]
    lines += [f"{len(rows)} of them were ({told or 'none'})."]
    lines += table(
        ("rule", "question", "sides", "data", "expects", "effect", "verdict", "cost"), rows
    )
    if earlier:
        lines += ["", "Tests before these, after which the rule or its check was changed:", ""]
    lines += [
        f"- {links.rule(rule.code)}: {result.question} **{result.verdict}**, "
        f"{shown_effect(result)}; {cost_of(result)}, {result.date}."
        for rule, result in earlier
    ]
    if waiting:
        lines += ["", f"Not run yet: {links.rules(rule.code for rule in waiting)}."]
    return "\n".join(lines) + "\n"


def _row(rule: Rule, result: Result, check: Check, links: Links) -> tuple[object, ...]:
    sides = " : ".join(
        " / ".join(", ".join(show_value(v) for v in one.values()) for one in side)
        for side in (check.recommended, check.against)
    )
    return (
        links.rule(rule.code),
        cell(result.question),
        cell(sides),
        ", ".join(check.data),
        _EXPECTS[result.expects],
        shown_effect(result),
        f"**{result.verdict}**",
        f"{cost_of(result)}, {result.date}",
    )
