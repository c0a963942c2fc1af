"""Rule -> its page. Text, Markdown and JSON come from the same fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from smarttune.facts import FACTS
from smarttune.rulebook.consequences import Computed, Consequence
from smarttune.rulebook.expressions import Expression
from smarttune.rulebook.load import Rulebook
from smarttune.rulebook.schema import Rule, Source
from smarttune.space import show_value


def explain(rule: Rule, sources: Mapping[str, Source]) -> str:
    """Return the rule's page as Markdown."""
    stage = rule.stage.stable_since
    since = f"Stable since {stage}" if stage else f"Preview since {rule.stage.preview_since}"
    origin = (
        f"{since}. {rule.kind.capitalize()} rule, evidence: {rule.evidence.replace('_', ' ')}, "
    )
    lines = [f"# {rule.name} ({rule.code})", "", rule.summary, ""]
    lines += [f"{origin}confidence {rule.confidence:g}.", ""]
    lines += ["## When it fires", ""]
    lines += [f"- `{condition.text}`" for condition in rule.when] or ["Always."]
    lines += ["", "## What it does", ""]
    lines += [f"- {describe(line)}" for line in rule.then]
    lines += ["", "## Why", "", rule.why, "", "## Limits", "", rule.limits, ""]
    if rule.provenance:
        lines += ["## Provenance", ""]
        lines += _provenance(rule, sources)
    if rule.ours:
        lines += ["## What is our own judgement", "", rule.ours, ""]
    if rule.conflicts or rule.overrides:
        lines += ["## Conflicts", ""]
        lines += [f"- with {c.with_}: {c.decided_by}" for c in rule.conflicts]
        lines += [f"- overrides {code}" for code in rule.overrides]
        lines.append("")
    lines += ["## Examples", ""]
    for example in rule.examples:
        facts = ", ".join(f"`{k} = {show_value(v)}`" for k, v in example.facts.items())
        lines.append(f"- {'fires' if example.fires else 'stays silent'}: {facts or 'no facts'}")
    return "\n".join(lines) + "\n"


def _provenance(rule: Rule, sources: Mapping[str, Source]) -> list[str]:
    lines = []
    for item in rule.provenance:
        source = sources[item.source]
        title = f"[{source.title}]({source.url})" if source.url else source.title
        lines += [
            f"- supports the {item.supports}: {item.claim.strip()}",
            (
                f"  {source.authors} ({source.year}), {title}, {item.locator}. "
                f"Verification: {item.verification}."
            ),
        ]
    return [*lines, ""]


def describe(line: Consequence) -> str:
    """Return what one line of `then` does, as a sentence."""
    if line.advice is not None:
        return line.advice
    text = f"`{line.hyperparameter}` {line.strength} be {_described_range(line)}"
    if line.active_when:
        conditions = [
            f"`{parent}` is {' or '.join(show_value(v) for v in values)}"
            for parent, values in line.active_when.items()
        ]
        text += f", where {' and '.join(conditions)}"
    return text + "."


def _described_range(line: Consequence) -> str:
    if line.fixed is not None:
        return _shown(line.fixed)
    if line.choice is not None:
        values = ", ".join(show_value(v) for v in line.choice.values)
        default = (
            "" if line.choice.default is None else f", {_shown(line.choice.default)} by default"
        )
        return f"one of {values}{default}"
    numeric = line.float_ or line.int_
    assert numeric is not None
    scale = "" if numeric.sampling == "linear" else f" ({numeric.sampling.replace('_', ' ')})"
    default = "" if numeric.default is None else f", {_shown(numeric.default)} by default"
    return f"searched over {_shown(numeric.low)} to {_shown(numeric.high)}{scale}{default}"


def _shown(value: Any) -> str:
    if isinstance(value, Computed):
        value = value.expression
    if isinstance(value, Expression):
        return f"`{value.text}`" if value.names else value.text
    return show_value(value)


def rule_json(rule: Rule) -> dict[str, Any]:
    """Return the rule as plain data, in the form of its file."""
    return rule.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def fact_table(book: Rulebook) -> list[tuple[str, str, str, str, str]]:
    """Return (name, type, unit, meaning, rules that read it) for every fact."""
    readers: dict[str, list[str]] = {}
    for rule in book.rules:
        for name in rule.names:
            readers.setdefault(name, []).append(rule.code)
    return [
        (
            d.name,
            "|".join(d.values) or d.kind,
            d.unit,
            d.about,
            _shortened(readers.get(d.name, [])),
        )
        for d in FACTS.values()
    ]


def _shortened(codes: Iterable[str]) -> str:
    codes = sorted(codes)
    shown = ", ".join(codes[:4])
    return f"{shown} and {len(codes) - 4} more" if len(codes) > 4 else shown
