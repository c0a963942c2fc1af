"""What was found on somebody's data, as rules of a pack of their own.

Such a rule speaks of data like those that it was found on: the same kind, the same problem, and
a number of samples within a factor of three. It has more conditions than the rule it came from,
so it goes before it; where the finding contradicts that rule, it overrides it by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smarttune.errors import OptionError, RulePackError, SmartTuneError
from smarttune.facts import Facts
from smarttune.files import write_text
from smarttune.rulebook import Rule, Rulebook, check_rulebook, load_rulebook
from smarttune.rulebook.evidence import Result, add_result, shown_effect
from smarttune.rulebook.explain import rule_json
from smarttune.space import Value, show_value

if TYPE_CHECKING:
    from smarttune.data import Dataset

PREFIX = "LOC"
# ours: as many times more or fewer samples count as like; the steps in which rules that go by the
# number of rows change what they recommend are not narrower.
LIKE = 3.0
# ours: an experiment on one data set, repeated over seeds, is worth more than advice for all data
# and less than a study of many.
CONFIDENCE = 0.6
NAME_LENGTH = 60
_MOST_RULES = 999


@dataclass(frozen=True)
class LocalRule:
    """The parts of a rule file that differ from one local rule to the next.

    Attributes:
        name: Tells the situation.
        summary: One line.
        when: Conditions.
        then: Lines as in a rule file.
        why: What was found.
        limits: Where it stops.
        facts: On which it fires.
        confidence: From 0 to 1.
        overrides: Codes of rules that it beats.
        conflicts: Code of another rule to what decides between the two.
    """

    name: str
    summary: str
    when: tuple[str, ...]
    then: tuple[Mapping[str, Any], ...]
    why: str
    limits: str
    facts: Mapping[str, Value]
    confidence: float = CONFIDENCE
    overrides: tuple[str, ...] = ()
    conflicts: Mapping[str, str] = field(default_factory=dict)


def add_finding(  # noqa: PLR0913 -- a finding, where it is from and where it goes
    folder: Path,
    rule: Rule,
    result: Result,
    dataset: Dataset,
    book: Rulebook,
    *,
    problem: str | None = None,
) -> Path | None:
    """Write what an experiment on somebody's data showed into a pack.

    Args:
        folder: The pack; it is begun if it is not there.
        rule: The rule that was put to the test.
        result: What came of it; it is kept in the pack's `evidence/` as well.
        dataset: The data.
        book: All rules.
        problem: The kind of prediction, where the guess from the target is wrong.

    Returns:
        The file of the new rule; None where the experiment made no difference.

    Raises:
        RulePackError: If the pack, or what was to be written, is no pack of rules.
    """
    from smarttune.fingerprint import measure
    from smarttune.suggestion import suggestion_of

    begin_pack(folder)
    add_result(folder, rule.code, result)
    if result.verdict == "no difference":
        return None
    found = result.data[0]
    contradicted = result.verdict == "contradicted"
    values = found.against if contradicted else found.recommended
    fingerprint = measure(dataset, problem=problem)
    made = suggestion_of(dataset, fingerprint, Facts(), book, values).recommendation
    names = {
        **made.facts.values_dict(),
        **{name: setting.value for name, setting in made.settings.items()},
        **values,
    }
    when, like = likeness(made.facts)
    own = tuple(c.text for c in rule.when if c.text not in when)
    draft = LocalRule(
        name=named(rule.name, "on", dataset.name),
        summary=f"On data like {dataset.name}: "
        + ", ".join(f"{n} {show_value(v)}" for n, v in values.items())
        + ".",
        when=(*when, *own),
        then=tuple(_line(rule, name, value) for name, value in values.items()),
        why=f"{result.question} On {dataset.name}: {shown_effect(result)}, over "
        f"{found.seeds} seeds ({result.date}). {rule.code} "
        + ("said otherwise." if contradicted else "holds there."),
        limits="One data set. What holds on it may not hold on others of its kind and size.",
        facts={n: names[n] for n in {*like, *_names(rule)} if n in names},
        overrides=(rule.code,) if contradicted else (),
        conflicts={}
        if contradicted
        else {rule.code: "measured on data like these, which the general rule was not"},
    )
    return add_rule(folder, draft)


def likeness(facts: Facts) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The conditions under which data are like some, and the facts that these read.

    Args:
        facts: Of the data; `data.task` must be among them.
    """
    known = {n: facts.value(n) for n in ("data.task", "model.problem")}
    when = [f'{name} == "{value}"' for name, value in known.items() if value is not None]
    names = [name for name, value in known.items() if value is not None]
    if (rows := facts.value("data.num_samples")) is not None:
        least, most = math.floor(float(rows) / LIKE), math.ceil(float(rows) * LIKE)
        when.append(f"{least} <= data.num_samples <= {most}")
        names.append("data.num_samples")
    return tuple(when), tuple(names)


def begin_pack(folder: Path) -> None:
    """Write what a pack needs, where it is not there yet."""
    if (folder / "pack.yaml").exists():
        return
    if folder.is_file():
        raise OptionError(
            "--pack", received=f"{folder} is a file", expected="a folder", mend="Name another."
        )
    folder.mkdir(parents=True, exist_ok=True)
    info = {
        "pack": named(folder.resolve().name) or "local",
        "prefixes": [PREFIX],
        "version": "1",
        "title": "Found on our own data",
        "about": "Rules that `smarttune rules test --pack` and `smarttune learn --pack` wrote.",
    }
    write_text(folder / "pack.yaml", _dumped(info))


def add_rule(folder: Path, draft: LocalRule) -> Path:
    """Add a rule to a pack, under the next free code; one of the same name is replaced.

    Returns:
        Its file.

    Raises:
        RulePackError: If the pack does not load with it; then it is not left there.
    """
    begin_pack(folder)
    code, earlier = _free_code(folder, draft.name)
    rule: dict[str, Any] = {
        "code": code,
        "name": draft.name,
        "summary": draft.summary[:200],
        "kind": "static",
        "evidence": "controlled_study",
        "confidence": draft.confidence,
        "when": list(draft.when),
        "then": [dict(line) for line in draft.then],
        "why": draft.why,
        "limits": draft.limits,
        "ours": "Everything: it was measured here, by SmartTune.",
    }
    if draft.conflicts:
        rule["conflicts"] = [{"with": c, "decided_by": why} for c, why in draft.conflicts.items()]
    if draft.overrides:
        rule["overrides"] = list(draft.overrides)
    elsewhere = {**draft.facts, "data.task": _another_task(draft.facts.get("data.task"))}
    rule["examples"] = [
        {"facts": dict(draft.facts), "fires": True},
        {"facts": elsewhere, "fires": False},
    ]
    file = folder / f"{code}-{draft.name}.yaml"
    before = None if earlier is None else earlier.read_text(encoding="utf-8")
    write_text(file, _dumped(rule))
    mistakes = _mistakes(folder, code)
    if mistakes:
        file.unlink()
        if earlier is not None and before is not None:
            write_text(earlier, before)
        raise RulePackError(mistakes)
    return file


def _mistakes(folder: Path, code: str) -> list[SmartTuneError]:
    """What is wrong with a rule that was just written, or with the pack around it."""
    load_rulebook.cache_clear()
    try:
        book = load_rulebook((folder.resolve(),))
    except RulePackError as error:
        return list(error.mistakes)
    return check_rulebook(book.replace_rules([book[code]]))


def _free_code(folder: Path, name: str) -> tuple[str, Path | None]:
    """The code for a rule of that name, and the file that it replaces."""
    taken = {file.name[:6]: file for file in sorted(folder.glob(f"{PREFIX}[0-9]*-*.yaml"))}
    for code, file in taken.items():
        if file.name == f"{code}-{name}.yaml":
            return code, file
    free = (f"{PREFIX}{n:03}" for n in range(1, _MOST_RULES + 1))
    return next(code for code in free if code not in taken), None


def _line(rule: Rule, name: str, value: Value) -> dict[str, Any]:
    """The rule's own range around the value that was best, or that value alone."""
    lines: Sequence[Mapping[str, Any]] = rule_json(rule)["then"]
    for line in lines:
        if line.get("hyperparameter") != name:
            continue
        for kind in ("float", "int", "choice"):
            about = line.get(kind)
            if about is None:
                continue
            inside = (
                value in about["values"]
                if kind == "choice"
                else all(isinstance(about[end], (int, float)) for end in ("low", "high"))
                and about["low"] <= value <= about["high"]
            )
            if inside:
                return {"hyperparameter": name, kind: {**about, "default": value}}
    return {"hyperparameter": name, "fixed": value}


def _names(rule: Rule) -> set[str]:
    return {name for condition in rule.when for name in condition.names}


def _another_task(task: object) -> str:
    return "image" if task != "image" else "tabular"


def named(*parts: Value) -> str:
    """Some words as the name of a rule or pack."""
    text = "-".join(map(str, parts)).lower()
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")[:NAME_LENGTH].strip("-")


def _dumped(content: Mapping[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(
        dict(content), sort_keys=False, width=100, default_flow_style=None, allow_unicode=True
    )
