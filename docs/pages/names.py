"""The references of hyperparameters and facts, and a page for each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pages.layout import Links, cell, code, head, table
from smarttune.facts import FACTS, Facts
from smarttune.recommendation import Recommendation, recommend
from smarttune.rulebook import Rule, Rulebook
from smarttune.rulebook.explain import describe
from smarttune.space import Fixed, Value, show_value

HYPERPARAMETERS_PAGE = "docs/hyperparameters.md"
FACTS_PAGE = "docs/facts.md"

_HYPERPARAMETERS_INTRO = """
The names that rules, spaces, `--set`, JSON and reports share. `smarttune.narrow` maps common
spellings of your own (`lr`, `units_2`, `dropout_rate`) to them; its argument `names` maps the rest.
"""
_FACTS_INTRO = """
What rules may read. A fact is measured from the file or the machine, declared by you
(`--fact name=value`, or its own flag), or derived. One that is absent is unknown, and a rule that
needs it is listed as such instead of being counted as false.
"""

# ours: more would make a row longer than its meaning; the fact's own page has all.
_SHOWN_READERS = 4

# ours: a data set of middling size of each kind, with the facts that its first rules ask for.
_NUM_SAMPLES = 10_000


class _Example(NamedTuple):
    """A data set as a reader would put it, and its facts."""

    said: str
    facts: dict[str, Value]


_EXAMPLES = {
    "tabular": _Example("table, binary", {"model.problem": "binary"}),
    "text": _Example(
        "texts of 100 words, multiclass",
        {"model.problem": "multiclass", "data.words_per_sample": 100.0},
    ),
    "image": _Example(
        "images of 64 pixels, multiclass", {"model.problem": "multiclass", "data.image_side": 64}
    ),
    "audio": _Example(
        "recordings of a second, multiclass",
        {"model.problem": "multiclass", "data.clip_seconds": 1.0, "data.long_clip_seconds": 1.0},
    ),
    "sequence": _Example(
        "sequences of 100 steps, multiclass",
        {"model.problem": "multiclass", "data.sequence_length": 100},
    ),
    "timeseries": _Example(
        "time series, 24 steps to forecast", {"model.problem": "forecasting", "data.horizon": 24}
    ),
}

_TYPICAL = f"""
For {_NUM_SAMPLES:,} samples, and nothing known of device and budget. The value is the one of the first
trial; the range is what a search looks at.
""".strip()
_SETTING = """
Where several fire, constraints bound the others. Among these a dynamic rule goes before a static
one; then an explicit override, the strength (must, should, may), the number of conditions, the
evidence and the confidence decide, in that order. `smarttune suggest --explain`
shows it for your data.
""".strip()


def hyperparameter_reference(book: Rulebook, *, site: bool = False) -> str:
    """Return every hyperparameter with its type, unit, meaning, and the rules that set it."""
    links = Links(book, HYPERPARAMETERS_PAGE, site)
    lines = head("Hyperparameters", "smarttune/space and the rules", _HYPERPARAMETERS_INTRO)
    rows = []
    for definition in book.hyperparameters.values():
        unit = f", {definition.unit}" if definition.unit else ""
        rules = links.rules((rule.code for rule in setters(book, definition.name)), "none yet")
        name = links.hyperparameter(definition.name)
        rows.append((definition.name, name, definition.kind + unit, cell(definition.about), rules))
    return "\n".join(lines + _grouped(("name", "type", "meaning", "rules"), rows)) + "\n"


def fact_reference(book: Rulebook, *, site: bool = False) -> str:
    """Return every fact with its type, unit, meaning, and the rules that read it."""
    links = Links(book, FACTS_PAGE, site)
    lines = head("Facts", "smarttune/facts.py and the rules", _FACTS_INTRO)
    rows = []
    for definition in FACTS.values():
        kind = " \\| ".join(definition.values) or definition.kind
        shown = kind + (f", {definition.unit}" if definition.unit else "")
        name, about = definition.name, cell(definition.about)
        rows.append((name, links.fact(name), shown, about, _few_readers(name, links)))
    return "\n".join(lines + _grouped(("fact", "type", "meaning", "read by"), rows)) + "\n"


def _few_readers(name: str, links: Links) -> str:
    """The first rules that read a fact, and how many more there are."""
    found = sorted(rule.code for rule in readers(links.book, name))
    more = len(found) - _SHOWN_READERS
    shown = links.rules(found[:_SHOWN_READERS], "no rule")
    return f"{shown} and {more} more" if more > 0 else shown


def _grouped(columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """One table for each first word of the dotted names, which each row begins with."""
    groups = dict.fromkeys(row[0].split(".")[0] for row in rows)
    lines: list[str] = []
    for group in groups:
        mine = [row[1:] for row in rows if row[0].split(".")[0] == group]
        lines += ["", f"## {group}", *table(columns, mine)]
    return lines


def setters(book: Rulebook, name: str) -> list[Rule]:
    """Return the rules that set a hyperparameter."""
    return [r for r in book.rules if any(line.hyperparameter == name for line in r.then)]


def readers(book: Rulebook, name: str) -> list[Rule]:
    """Return the rules whose conditions or values read a fact or hyperparameter."""
    return [r for r in book.rules if name in r.names]


def hyperparameter_page(
    name: str, book: Rulebook, recommended: Mapping[str, Recommendation]
) -> str:
    """Return the page of a hyperparameter: what it is, and which rules set and read it.

    Args:
        name: The hyperparameter.
        book: The rules.
        recommended: Kind of data to what is recommended for it; see `typical`.
    """
    definition = book.hyperparameters[name]
    links = Links(book, f"docs/hyperparameters/{name}.md", site=True)
    unit = f", counted in {definition.unit}" if definition.unit else ""
    lines = [f"# {name}", "", f"{_sentence(definition.about)} Type: {definition.kind}{unit}."]
    bounded = definition.values or definition.low is not None or definition.high is not None
    lines += [f"Allowed: {definition.domain}."] if bounded else []
    lines += ["", "## What is recommended before a search", "", _TYPICAL]
    lines += _typical_table(name, links, recommended) or [
        "",
        "Nothing: no rule sets it on its own account.",
    ]
    lines += ["", "## Rules that set it", "", _SETTING]
    lines += table(("rule", "kind", "where", "what it says"), _setting_rows(name, links)) or [
        "None."
    ]
    lines += ["", "## Rules that read it"]
    lines += _reading_table(name, links) or ["", "None."]
    see = f"All of them: [hyperparameters]({links.to(HYPERPARAMETERS_PAGE)})."
    return "\n".join([*lines, "", see]) + "\n"


def fact_page(name: str, book: Rulebook) -> str:
    """Return the page of a fact: what it is, and which rules read it."""
    definition = FACTS[name]
    links = Links(book, f"docs/facts/{name}.md", site=True)
    unit = f", counted in {definition.unit}" if definition.unit else ""
    lines = [f"# {name}", "", f"{_sentence(definition.about)} Type: {definition.kind}{unit}."]
    lines += [f"Allowed: one of {', '.join(definition.values)}."] if definition.values else []
    flag = f"`{definition.flag}` or " if definition.flag else ""
    lines += ["", f"To declare it: {flag}`--fact {name}=VALUE`."]
    lines += ["", "## Rules that read it", *(_reading_table(name, links) or ["", "None."])]
    return "\n".join([*lines, "", f"All of them: [facts]({links.to(FACTS_PAGE)})."]) + "\n"


def _sentence(about: str) -> str:
    return f"{about[:1].upper()}{about[1:]}."


def _setting_rows(name: str, links: Links) -> list[tuple[str, ...]]:
    return [
        (f"{links.rule(rule.code)} {rule.name}", rule.kind, _conditions(rule), cell(describe(line)))
        for rule in setters(links.book, name)
        for line in rule.then
        if line.hyperparameter == name
    ]


def _reading_table(name: str, links: Links) -> list[str]:
    rows = [
        (f"{links.rule(rule.code)} {rule.name}", _conditions(rule, name), cell(rule.summary))
        for rule in readers(links.book, name)
    ]
    return table(("rule", "condition", "what it says"), rows)


def _conditions(rule: Rule, name: str | None = None) -> str:
    """The conditions of a rule, or those that read a name."""
    found = [c.text for c in rule.when if name is None or name in c.names]
    if not found:
        return "always" if name is None else "in its values"
    return "<br>".join(map(code, found))


def _typical_table(name: str, links: Links, recommended: Mapping[str, Recommendation]) -> list[str]:
    rows = []
    for task, made in recommended.items():
        setting = made.settings.get(name)
        if setting is None:
            continue
        fixed = isinstance(setting.range, Fixed)
        searched = "not searched" if fixed else cell(str(setting.range))
        decided = links.rules(_deciding(r.rule for r in setting.because))
        value = show_value(setting.value)
        rows.append((_EXAMPLES[task].said, f"`{value}`", searched, decided))
    return table(("data", "value", "range", "because of"), rows)


def _deciding(rules: Iterable[str]) -> list[str]:
    """Codes of rules, without what the user or the engine said."""
    return [rule for rule in rules if rule[-1].isdigit()]


def typical(book: Rulebook) -> dict[str, Recommendation]:
    """Return what is recommended for an example of each kind of data."""
    return {
        task: recommend(
            Facts.of({"data.task": task, "data.num_samples": _NUM_SAMPLES, **example.facts}),
            rules=book,
        )
        for task, example in _EXAMPLES.items()
    }
