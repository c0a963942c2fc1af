"""Facts x rules -> Recommendation.

Hyperparameters are settled one after the other, each after those that its rules
read, so a rule may depend on the recommended optimizer as on any fact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from smarttune.errors import RangeError, SettingError, did_you_mean
from smarttune.facts import Facts, as_kind, parse_kind
from smarttune.recommendation.families import FAMILY, merged, searched_families
from smarttune.recommendation.resolution import (
    Candidate,
    broken_by_pin,
    pinned_setting,
    resolve,
)
from smarttune.recommendation.settings import Advice, Recommendation, Setting, UnknownRule
from smarttune.rulebook import Rule, Rulebook, load_rulebook
from smarttune.rulebook.agenda import Agenda, Lines
from smarttune.rulebook.explain import describe
from smarttune.rulebook.logic import Unknown
from smarttune.space import HYPERPARAMETERS, HyperparameterDef, Value


def recommend(
    facts: Facts,
    *,
    columns: Mapping[str, Facts] | None = None,
    families: Mapping[str, Facts] | None = None,
    rules: Rulebook | None = None,
    pinned: Mapping[str, Value] | None = None,
) -> Recommendation:
    """Settle every hyperparameter that the rules speak of.

    Args:
        facts: What is known; rules that read anything else come out as unknown.
        columns: Facts `column.*` of each categorical column.
        families: Facts that hold for networks of one family only.
        rules: The rules to use; the built-in and installed ones if None.
        pinned: Values that the user fixed; they win over every rule.

    Raises:
        ConflictingRulesError: If two rules that must hold exclude each other.
        SettingError: If a pinned name or value means nothing.
    """
    book = rules if rules is not None else load_rulebook()
    pins = check_pins(pinned or {}, book.hyperparameters or HYPERPARAMETERS)
    overall = _Pass(book.agenda_without_columns if columns else book.agenda, pins)
    overall.run(facts.values_dict())
    own, shared = families or {}, facts
    if (family := str(overall.names.get(FAMILY))) in own:
        facts = shared | own[family]
        overall = _Pass(overall.agenda, pins)
        overall.run(facts.values_dict())
    others = _other_families(overall, shared, own, pins)
    settings, warnings = dict(overall.settings), list(overall.warnings)
    if others:
        settings = merged({f: p.settings for f, p in others.items()})
    column_passes: dict[tuple[Any, ...], _Pass] = {}
    for column, column_facts in (columns or {}).items():
        column_pins = {
            n[: -len(column) - 2]: v for n, v in pins.items() if n.endswith(f"[{column}]")
        }
        key = (*column_facts.values_dict().items(), *column_pins.items())
        if key not in column_passes:
            column_passes[key] = _Pass(book.agenda_of_columns, column_pins)
            column_passes[key].run({**overall.names, **column_facts.values_dict()})
        for name, setting in column_passes[key].settings.items():
            settings[f"{name}[{column}]"] = _for_column(
                setting, column, column_passes[key].settings
            )
    passes = [overall, *others.values(), *column_passes.values()]
    advice = {(a.rule, a.text): a for p in passes for a in p.advice}
    # What a rule says of another family may be left out where one value holds for the search.
    told = {a.rule for a in advice.values()}
    for setting in settings.values():
        told |= {reason.rule for reason in setting.because}
        told |= {loser.rule for loser in setting.overruled}
    unknown: dict[str, Unknown] = {}
    for one in passes:
        for code, what in one.unknown.items():
            unknown[code] = unknown[code] | what if code in unknown else what
    silent = {r.code for r in book.rules} - told - unknown.keys()
    return Recommendation(
        facts=facts,
        settings=settings,
        advice=tuple(advice[key] for key in sorted(advice)),
        silent=tuple(sorted(silent)),
        unknown=tuple(_unknown_rule(book[code], unknown[code]) for code in sorted(unknown)),
        warnings=tuple(warnings),
    )


def _other_families(
    overall: _Pass, facts: Facts, own: Mapping[str, Facts], pins: Mapping[str, Value]
) -> dict[str, _Pass]:
    """One pass for each family that trials may choose, the recommended first; {} if there is one."""
    families = () if FAMILY in pins else searched_families(overall.settings)
    passes = dict.fromkeys(families[:1], overall)
    for family in families[1:]:
        passes[family] = _Pass(overall.agenda, {**pins, FAMILY: family})
        passes[family].run((facts | own.get(family, Facts())).values_dict())
    return passes


def _unknown_rule(rule: Rule, unknown: Unknown) -> UnknownRule:
    return UnknownRule(
        rule=rule.code,
        summary=rule.summary,
        missing=tuple(sorted(unknown.missing)) or (unknown.reason,),
        would=tuple(describe(line) for line in rule.then),
    )


def check_pins(
    pins: Mapping[str, Any], known: Mapping[str, HyperparameterDef] = HYPERPARAMETERS
) -> dict[str, Value]:
    """Return pinned values in the types of their hyperparameters; text is parsed.

    Raises:
        SettingError: If a name is unknown or a value does not fit it.
    """
    checked: dict[str, Value] = {}
    for name, value in pins.items():
        definition = known.get(name.split("[", 1)[0])
        if definition is None:
            raise SettingError(
                "--set",
                received=f"`{name}` is not a hyperparameter",
                expected="a name that `smarttune suggest` prints",
                mend=f"Correct the name.{did_you_mean(name, known)}",
            )
        read = parse_kind(value, definition.kind) if isinstance(value, str) else None
        typed = as_kind(value, definition.kind) if read is None else read
        if typed is None or not definition.allows(typed):
            raise SettingError(
                "--set",
                received=f"`{name}` is set to {value!r}",
                expected=definition.domain,
                mend=f"Set such a value; it means: {definition.about}."
                + did_you_mean(str(value), definition.values),
            )
        checked[name] = typed
    return checked


class _Pass:
    """One run over some rules: settles their hyperparameters in order of dependence."""

    def __init__(self, agenda: Agenda, pins: Mapping[str, Value]) -> None:
        self.agenda = agenda
        self.pins = pins
        self.names: dict[str, Value] = {}
        self.settings: dict[str, Setting] = {}
        self.traces: dict[str, tuple[str, ...]] = {}
        self.outcomes: dict[str, bool | Unknown] = {}
        self.unknown: dict[str, Unknown] = {}
        self.advice: list[Advice] = []
        self.warnings: list[str] = []

    def run(self, names: Mapping[str, Value]) -> None:
        self.names = {**names, **{n: v for n, v in self.pins.items() if "[" not in n}}
        for name, lines in self.agenda.lines.items():
            self._settle(name, lines)
        for pinned in sorted(self.pins.keys() - self.settings.keys()):
            if "[" not in pinned:
                self.settings[pinned] = pinned_setting(self.pins[pinned], ())
        for rule, line in self.agenda.advice:
            if self._holds(rule) is True:
                assert line.advice is not None
                self.advice.append(
                    Advice(rule=rule.code, text=line.advice, trace=self._trace(rule))
                )

    def _holds(self, rule: Rule) -> bool | Unknown:
        outcome = self.outcomes.get(rule.code)
        if outcome is None:
            outcome = self.outcomes[rule.code] = rule.holds(self.names)
            if isinstance(outcome, Unknown):
                self._note_unknown(rule, outcome)
        return outcome

    def _trace(self, rule: Rule) -> tuple[str, ...]:
        if rule.code not in self.traces:
            self.traces[rule.code] = tuple(c.trace(self.names) for c in rule.when)
        return self.traces[rule.code]

    def _note_unknown(self, rule: Rule, unknown: Unknown) -> None:
        known = self.unknown.get(rule.code)
        self.unknown[rule.code] = unknown if known is None else known | unknown

    def _settle(self, name: str, lines: Lines) -> None:
        candidates = self._candidates(lines)
        if name in self.pins:
            setting = pinned_setting(self.pins[name], candidates)
            self.warnings += broken_by_pin(name, self.pins[name], candidates)
        elif candidates:
            setting = resolve(name, candidates)
        else:
            return
        self.settings[name] = setting
        self.names[name] = setting.value

    def _candidates(self, lines: Lines) -> list[Candidate]:
        found: list[Candidate] = []
        for rule, line in lines:
            if self._holds(rule) is not True:
                continue
            try:
                proposal = self.agenda.propose(line, self.names)
            except RangeError as error:
                raise RangeError(
                    f"rule {rule.code}",
                    received=f"its range for `{line.hyperparameter}` is empty here: {error.received}",
                    expected="low below high for these facts",
                    mend=f"Leave it out with `--ignore {rule.code}`, and correct the rule.",
                ) from None
            if isinstance(proposal, Unknown):
                self._note_unknown(rule, proposal)
                continue
            found.append(Candidate(rule, line, proposal, partial(self._trace, rule)))
        return _ranked(found)


def _ranked(found: list[Candidate]) -> list[Candidate]:
    """Candidates, each with the rule that overrides it, strongest first."""
    by_code = sorted((c.rule for c in found if c.rule.overrides), key=lambda rule: rule.code)
    overriders = {code: rule.code for rule in reversed(by_code) for code in rule.overrides}
    if overriders:
        found = [replace(c, overridden_by=overriders.get(c.rule.code, "")) for c in found]
    return sorted(found, key=lambda c: c.rank) if len(found) > 1 else found


def _for_column(setting: Setting, column: str, beside: Mapping[str, Setting]) -> Setting:
    """Point the conditions of a column's setting at the same column's parents."""
    if not setting.active_when:
        return setting
    renamed = {(f"{k}[{column}]" if k in beside else k): v for k, v in setting.active_when.items()}
    return setting.model_copy(update={"active_when": renamed})
