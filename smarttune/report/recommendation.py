"""Recommendation -> text: what a person reads after `smarttune suggest`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from smarttune.errors import SettingError, did_you_mean
from smarttune.facts import FACTS
from smarttune.recommendation import Overruled, Recommendation, Setting
from smarttune.rulebook import Rulebook
from smarttune.space import Choice, Fixed, NormalPrior, Value, WeightsPrior, show_value

_WIDTH = 96
_GROUPS = {
    "model": "Model",
    "optimizer": "Optimizer",
    "training": "Training",
    "data": "Data",
    "search": "Search",
}


def recommendation_text(recommendation: Recommendation, *, heading: str = "") -> str:
    """Return the whole recommendation as plain text."""
    lines = [heading, ""] if heading else []
    lines += _facts_lines(recommendation)
    for prefix, title in _GROUPS.items():
        settings = {n: s for n, s in recommendation.settings.items() if n.startswith(prefix + ".")}
        if settings:
            lines += [f"{title}", "-" * len(title)]
            for name, setting in _folded(settings).items():
                lines += _setting_lines(name, setting)
            lines.append("")
    lines += _unknown_lines(recommendation)
    lines += _bullets("Advice", (f"{a.rule}: {a.text}" for a in recommendation.advice))
    lines += _bullets("Warnings", recommendation.warnings)
    num_rules = len(recommendation.rules_fired)
    lines.append(
        f"{num_rules} rules spoke, {len(recommendation.silent)} were silent, "
        f"{len(recommendation.unknown)} lacked a fact."
    )
    return "\n".join(lines)


def _facts_lines(recommendation: Recommendation) -> list[str]:
    known = recommendation.facts
    shown = ", ".join(f"{name} = {show_value(fact.value)}" for name, fact in known.items())
    return [*_wrapped(f"Facts: {shown}", ""), ""]


def _folded(settings: Mapping[str, Setting]) -> dict[str, Setting]:
    """Join columns that share a setting, so that ten columns do not take ten entries."""
    joined: dict[tuple[str, str], list[str]] = {}
    for name, setting in settings.items():
        base, _, column = name.partition("[")
        key = (base, setting.model_dump_json(exclude={"active_when"}) if column else "")
        joined.setdefault(key, []).append(column.rstrip("]") if column else "")
    folded: dict[str, Setting] = {}
    for (base, per_column), columns in joined.items():
        first = f"{base}[{columns[0]}]" if per_column else base
        folded[f"{base}[{', '.join(columns)}]" if per_column else base] = settings[first]
    return folded


def _setting_lines(name: str, setting: Setting) -> list[str]:
    lines = _wrapped(f"{name} = {show_value(setting.value)}{_range_text(setting)}", "    ")
    for reason in setting.because:
        cited = f" [{', '.join(reason.sources)}]" if reason.sources else " [ours]"
        if reason.rule == "you":
            cited = ""
        role = "" if reason.role == "decides" else f" ({reason.role})"
        lines += _wrapped(f"    {reason.rule}{role}: {reason.summary}{cited}", "        ")
    for loser in setting.overruled:
        text = f"    overruled {loser.rule} ({_said(loser)}): {loser.decided_by}"
        lines += _wrapped(text, "        ")
    return lines


def _said(loser: Overruled) -> str:
    """What an overruled rule would have said."""
    value = show_value(loser.value)
    return value if isinstance(loser.range, Fixed) else f"{value} from {loser.range}"


def _range_text(setting: Setting) -> str:
    text = (
        ""
        if isinstance(setting.range, Fixed)
        else f"   search {setting.range}{_prior_text(setting)}"
    )
    for parent, values in setting.active_when.items():
        text += f"   only where {parent} is {_listed(values)}"
    return text


def _listed(values: Sequence[Value]) -> str:
    """`5 to 16` for a run of whole numbers, else `a or b`."""
    numbers = [v for v in values if isinstance(v, int) and not isinstance(v, bool)]
    if len(numbers) == len(values) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]} to {numbers[-1]}"
    return " or ".join(show_value(v) for v in values)


def _prior_text(setting: Setting) -> str:
    """The prior in the hyperparameter's own values."""
    prior, range_ = setting.prior, setting.range
    if isinstance(prior, NormalPrior):
        # One standard deviation to each side, which holds about two thirds of the mass.
        low, high = (
            range_.from_unit(min(1.0, max(0.0, prior.center + side * prior.spread)))
            for side in (-1, 1)
        )
        return f", mostly {show_value(low)} to {show_value(high)}"
    if isinstance(prior, WeightsPrior) and isinstance(range_, Choice):
        total = sum(prior.weights)
        shares = ", ".join(
            f"{show_value(v)} {100 * w / total:.0f} %"
            for v, w in sorted(zip(range_.values, prior.weights, strict=True), key=lambda p: -p[1])
        )
        return f", weights {shares}"
    return ""


def _unknown_lines(recommendation: Recommendation) -> list[str]:
    """Missing facts, most wanted first, and what knowing them could change."""
    wanted: dict[str, list[str]] = {}
    for unknown in recommendation.unknown:
        for name in unknown.missing:
            wanted.setdefault(name, []).append(f"{unknown.rule}: {unknown.summary}")
    lines = []
    for name, rules in sorted(wanted.items(), key=lambda item: (-len(item[1]), item[0])):
        definition = FACTS.get(name)
        if name.startswith("history."):
            continue
        flag = definition.flag if definition and definition.flag else f"--fact {name}=..."
        lines.append(f"{name} ({flag}) would let speak:")
        lines += [f"    {rule}" for rule in rules[:3]]
        lines += [f"    and {len(rules) - 3} more"] if len(rules) > 3 else []
    later = sum(any(n.startswith("history.") for n in u.missing) for u in recommendation.unknown)
    if later:
        lines.append(f"{later} rules wait for the history of a search.")
    return ["Unknown facts", "-------------", *lines, ""] if lines else []


def _bullets(title: str, items: Iterable[str]) -> list[str]:
    lines = [line for item in items for line in _wrapped(f"- {item}", "  ")]
    return [title, "-" * len(title), *lines, ""] if lines else []


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent, break_long_words=False) or [""]


def explanation_text(recommendation: Recommendation, name: str, book: Rulebook) -> str:
    """Return the whole chain behind one hyperparameter: setting, rules, facts, sources.

    Raises:
        SettingError: If no rule settled such a hyperparameter.
    """
    matching = {
        n: s for n, s in recommendation.settings.items() if n == name or n.partition("[")[0] == name
    }
    if not matching:
        known = sorted({n.partition("[")[0] for n in recommendation.settings})
        raise SettingError(
            "--explain",
            received=f"no rule settled `{name}`",
            expected="one of " + ", ".join(known),
            mend=f"Choose one of these.{did_you_mean(name, known)}",
        )
    return "\n\n".join(
        "\n".join(_explained(n, setting, recommendation, book))
        for n, setting in _folded(matching).items()
    )


def _explained(
    name: str, setting: Setting, recommendation: Recommendation, book: Rulebook
) -> list[str]:
    lines = [f"{name} = {show_value(setting.value)}{_range_text(setting)}"]
    for reason in setting.because:
        lines += ["", f"{reason.rule} {reason.role}: {reason.summary}"]
        if reason.rule == "you":
            continue
        rule = book[reason.rule]
        lines += [f"    [holds] {trace}" for trace in reason.trace]
        lines += _wrapped(f"    why: {' '.join(rule.why.split())}", "    ")
        for item in rule.provenance:
            source = book.sources[item.source]
            lines += _wrapped(
                f"    source ({item.supports}, {item.verification}): {source.authors} "
                f"({source.year}), {source.title}, {item.locator}: {item.claim.strip()}",
                "        ",
            )
        if rule.ours:
            lines += _wrapped(f"    our own judgement: {' '.join(rule.ours.split())}", "    ")
        lines += _wrapped(f"    limits: {' '.join(rule.limits.split())}", "    ")
    for loser in setting.overruled:
        said = _said(loser)
        lines += ["", *_wrapped(f"{loser.rule} overruled ({said}): {loser.summary}", "    ")]
        lines += _wrapped(f"    {loser.decided_by}", "    ")
    base = name.partition("[")[0]
    could = [u for u in recommendation.unknown if any(w.startswith(f"`{base}`") for w in u.would)]
    for unknown in could:
        missing = ", ".join(unknown.missing)
        lines += [
            "",
            *_wrapped(f"{unknown.rule} unknown, {missing} missing: {unknown.summary}", "    "),
        ]
    return lines
