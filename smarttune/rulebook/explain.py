"""Rule -> its page. Text, Markdown and JSON come from the same fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from smarttune.facts import FACTS
from smarttune.rulebook.consequences import ChoiceThen, Computed, Consequence
from smarttune.rulebook.evidence import Findings, told
from smarttune.rulebook.expressions import Expression
from smarttune.rulebook.load import Rulebook
from smarttune.rulebook.schema import Rule, Source
from smarttune.space import Value, show_value

# What the words of a rule file mean to who reads its page.
KINDS = {
    "static": "reads data, task, hardware and budget",
    "dynamic": "reads what finished trials showed",
    "constraint": "bounds what other rules may say",
}
EVIDENCE = {
    "theorem": "follows from mathematics",
    "documented_api": "documented behaviour of a library or device",
    "large_scale_study": "measured over many data sets or workloads",
    "controlled_study": "measured by varying just this",
    "practitioner": "experience of authors, tutorials and code bases",
    "folklore": "often repeated, measured nowhere that we know of",
}
VERIFICATIONS = {
    "read": "we read the passage",
    "abstract": "we read the abstract only",
    "secondary": "seen as others report it",
    "unverified": "from memory, not looked up",
    "derived": "computed or measured by us",
}

# Words of conditions that do not explain themselves.
_CALLS = {
    "opt(": "`opt(a, b)` is `a` where it is known, else `b`.",
    "known(": "`known(a)` asks whether `a` is known at all.",
}


def explain(rule: Rule, sources: Mapping[str, Source], findings: Findings | None = None) -> str:
    """Return the rule's page as Markdown.

    Args:
        rule: The rule.
        sources: The bibliography.
        findings: What came of putting it to the test.
    """
    lines = [f"# {rule.name} ({rule.code})", "", rule.summary, "", _standing(rule)]
    lines += _section("When it fires", _conditions(rule))
    lines += _section("What it does", [f"- {describe(line)}" for line in rule.then])
    lines += _section("Why", [rule.why])
    lines += _section("Limits", [rule.limits])
    lines += _section("Provenance", _provenance(rule, sources))
    lines += _section("What is our own judgement", [rule.ours] if rule.ours else [])
    lines += _section("Put to the test", _tests(rule, findings))
    lines += _section("Conflicts", _conflicts(rule))
    lines += _section("Examples", _examples(rule))
    return "\n".join(lines) + "\n"


def _section(title: str, content: list[str]) -> list[str]:
    return ["", f"## {title}", "", *content] if content else []


def _tests(rule: Rule, findings: Findings | None) -> list[str]:
    """The experiment that could prove the rule wrong, and what came of it."""
    check = rule.check
    if check is None:
        return []
    under = f", all with {_settings(check.given)}" if check.given else ""
    lines = [f"{check.question} On {', '.join(check.data)}{under}:", ""]
    lines += [f"- the rule: {_settings(values)}" for values in check.recommended]
    lines += [f"- against it: {_settings(values)}" for values in check.against]
    lines += ["", f"It would speak against the rule if: {check.falsified_if}", ""]
    if findings is None:
        return [*lines, f"Not done yet: `smarttune rules test {rule.code}`."]
    return lines + [line for result in findings.results for line in told(result)]


def _settings(values: Mapping[str, Value]) -> str:
    return ", ".join(f"`{name} = {show_value(value)}`" for name, value in values.items())


def _standing(rule: Rule) -> str:
    """How much the rule weighs, in one paragraph."""
    stage = rule.stage.stable_since
    since = f"Stable since {stage}" if stage else f"Preview since {rule.stage.preview_since}"
    evidence = f"{rule.evidence.replace('_', ' ')} ({EVIDENCE[rule.evidence]})"
    return (
        f"{since}. {rule.kind.capitalize()} rule ({KINDS[rule.kind]}), evidence: {evidence}, "
        f"confidence {rule.confidence:g} of 1 by our own estimate."
    )


def _conditions(rule: Rule) -> list[str]:
    if not rule.when:
        return ["Always."]
    lines = ["All of these hold:", ""] if len(rule.when) > 1 else []
    lines += [f"- `{condition.text}`" for condition in rule.when]
    called = " ".join(condition.text for condition in rule.when)
    words = [text for call, text in _CALLS.items() if call in called]
    return lines + (["", " ".join(words)] if words else [])


def _provenance(rule: Rule, sources: Mapping[str, Source]) -> list[str]:
    lines = []
    for item in rule.provenance:
        source = sources[item.source]
        title = f"[{source.title}]({source.url})" if source.url else source.title
        lines += [
            f"- supports the {item.supports}: {item.claim.strip()}",
            (
                f"  {source.authors} ({source.year}), {title}, {item.locator}. "
                f"Verification: {item.verification} ({VERIFICATIONS[item.verification]}). "
                f"Source `{item.source}`."
            ),
        ]
    return lines


def _conflicts(rule: Rule) -> list[str]:
    if not rule.conflicts and not rule.overrides:
        return []
    lines = ["Rules that may say something else of the same thing, and what decides:", ""]
    lines += [f"- with {c.with_}: {c.decided_by}" for c in rule.conflicts]
    return lines + [f"- overrides {code} wherever both fire" for code in rule.overrides]


def _examples(rule: Rule) -> list[str]:
    lines = []
    for example in rule.examples:
        facts = ", ".join(f"`{k} = {show_value(v)}`" for k, v in example.facts.items())
        lines.append(f"- {'fires' if example.fires else 'stays silent'}: {facts or 'no facts'}")
    return lines


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
        values = ", ".join(_shown_choices(line.choice))
        default = (
            "" if line.choice.default is None else f", {_shown(line.choice.default)} by default"
        )
        return f"one of {values}{default}"
    numeric = line.float_ or line.int_
    assert numeric is not None
    scale = "" if numeric.sampling == "linear" else f" ({numeric.sampling.replace('_', ' ')})"
    default = "" if numeric.default is None else f", {_shown(numeric.default)} by default"
    return f"searched over {_shown(numeric.low)} to {_shown(numeric.high)}{scale}{default}"


def _shown_choices(choice: ChoiceThen) -> list[str]:
    """The values of a choice, each with its share of the draws if shares are given."""
    shown = [show_value(v) for v in choice.values]
    if choice.weights is None:
        return shown
    total = sum(choice.weights)
    shares = [f"{100 * w / total:.0f} %" for w in choice.weights]
    shares[0] += " of the draws"
    return [f"{value} ({share})" for value, share in zip(shown, shares, strict=True)]


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
