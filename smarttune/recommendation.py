"""Facts x rules -> Recommendation.

Hyperparameters are settled one after the other, each after those that its rules
read, so a rule may depend on the recommended optimizer as on any fact. For each,
the rules that fire are ordered once, strongest first, and never folded pairwise:
the result does not depend on the order in which rules were loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

from smarttune.errors import ConflictingRulesError, RangeError, SettingError, did_you_mean
from smarttune.facts import Facts, as_kind, parse_kind
from smarttune.rulebook import Rule, Rulebook, load_rulebook
from smarttune.rulebook.explain import describe
from smarttune.rulebook.expressions import Unknown
from smarttune.rulebook.load import hyperparameter_dependencies
from smarttune.rulebook.schema import Consequence, Proposal
from smarttune.space import (
    HYPERPARAMETERS,
    Choice,
    Dimension,
    Fixed,
    HyperparameterDef,
    NormalPrior,
    Prior,
    Range,
    SearchSpace,
    Value,
    WeightsPrior,
    meet,
    show_value,
    simplest,
)

SCHEMA = "smarttune/recommendation@1"

_STRENGTH = {"may": 0, "should": 1, "must": 2}
# A documented fact of a library or device is as sure as a theorem.
_EVIDENCE = {
    "folklore": 0,
    "practitioner": 1,
    "controlled_study": 2,
    "large_scale_study": 3,
    "theorem": 4,
    "documented_api": 4,
}
# Spread of a numeric prior on the unit scale, and weight of the default among the
# values of a choice: the settings low, medium and high of PriorBand (Mallik et al.
# 2023, arXiv 2306.12370, released configuration). ours: which confidence counts as which.
_PRIOR_LEVELS = ((0.8, 0.125, 6.0), (0.5, 0.25, 4.0), (0.0, 0.5, 2.0))


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Reason(_Frozen):
    """One rule that shaped a setting.

    Attributes:
        rule: Its code; "you" for a value that the user set.
        summary: Its one-line reason.
        role: What it did: decides, limits or agrees.
        sources: Keys of the works it rests on.
        trace: Its conditions with the values that made them hold.
    """

    rule: str
    summary: str
    role: str = "decides"
    sources: tuple[str, ...] = ()
    trace: tuple[str, ...] = ()


class Overruled(_Frozen):
    """A rule that fired and lost, what it would have said, and why it lost."""

    rule: str
    summary: str
    range: Range
    value: Value
    decided_by: str


class Setting(_Frozen):
    """One hyperparameter, settled.

    Attributes:
        value: The recommended value.
        range: The values worth searching.
        prior: Where good values are expected within the range.
        because: The rules behind it, the deciding one first.
        overruled: The rules that lost.
        active_when: Values of other hyperparameters without which this one does nothing.
    """

    value: Value
    range: Range
    prior: Prior | None = None
    because: tuple[Reason, ...] = ()
    overruled: tuple[Overruled, ...] = ()
    active_when: dict[str, tuple[Value, ...]] = Field(default_factory=dict)


class UnknownRule(_Frozen):
    """A rule that could not be judged: the missing facts, and what it would say."""

    rule: str
    summary: str
    missing: tuple[str, ...]
    would: tuple[str, ...]


class Advice(_Frozen):
    """A fired rule's word to the user that is no value of a hyperparameter."""

    rule: str
    text: str
    trace: tuple[str, ...] = ()


class Recommendation(_Frozen):
    """Every hyperparameter settled, each with its reasons.

    Settings that hold for one column are named like `model.encoding[education]`.
    """

    facts: Annotated[
        Facts,
        PlainValidator(lambda v: v if isinstance(v, Facts) else Facts.from_json(v)),
        PlainSerializer(lambda facts: facts.to_json()),
    ]
    settings: dict[str, Setting]
    advice: tuple[Advice, ...] = ()
    silent: tuple[str, ...] = ()
    unknown: tuple[UnknownRule, ...] = ()
    warnings: tuple[str, ...] = ()

    def value(self, name: str, default: Any = None) -> Any:
        """The recommended value of a hyperparameter, or `default` if no rule spoke."""
        setting = self.settings.get(name)
        return default if setting is None else setting.value

    def space(self, names: Iterable[str] | None = None) -> SearchSpace:
        """The search space of all hyperparameters, or of those in `names` and their parents."""
        wanted = set(self.settings) if names is None else set(names)
        while (
            more := {
                parent
                for name in wanted & self.settings.keys()
                for parent in self.settings[name].active_when
            }
            - wanted
        ):
            wanted |= more
        return SearchSpace(
            dimensions=tuple(
                Dimension(
                    name=name,
                    range=s.range,
                    value=s.value,
                    prior=s.prior,
                    active_when={k: v for k, v in s.active_when.items() if k in self.settings},
                )
                for name, s in self.settings.items()
                if name in wanted
            )
        )

    @cached_property
    def default(self) -> dict[str, Value]:
        """The recommended configuration."""
        return self.space().default

    @property
    def rules_fired(self) -> tuple[str, ...]:
        """Codes of all rules that had a say, deciding, limiting, agreeing or advising."""
        codes = {r.rule for s in self.settings.values() for r in s.because if r.rule != "you"}
        return tuple(sorted(codes | {a.rule for a in self.advice}))

    def with_warnings(self, warnings: Iterable[str]) -> Recommendation:
        """The same recommendation with more warnings."""
        return self.model_copy(update={"warnings": (*self.warnings, *warnings)})

    def to_json(self) -> dict[str, Any]:
        """The form kept in files and printed by `suggest --format json`."""
        return {"schema": SCHEMA, **self.model_dump(mode="json")}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recommendation:
        """The inverse of `to_json`.

        Raises:
            SettingError: If the data are of another schema.
        """
        if data.get("schema") != SCHEMA:
            raise SettingError(
                "recommendation",
                received=f"the schema is {data.get('schema')!r}",
                expected=repr(SCHEMA),
                mend="Make the recommendation again with this version of smarttune.",
            )
        return cls.model_validate_json(json.dumps({k: v for k, v in data.items() if k != "schema"}))


@dataclass(frozen=True)
class _Candidate:
    """What one fired rule says of the hyperparameter under decision."""

    rule: Rule
    line: Consequence
    proposal: Proposal
    trace: tuple[str, ...]
    overridden_by: str = ""

    @cached_property
    def standing(self) -> tuple[tuple[str, Any], ...]:
        """What decides between two candidates, in order; larger wins."""
        return (
            ("a dynamic rule goes before a static one", self.rule.kind == "dynamic"),
            (f"{self.overridden_by} overrides it", not self.overridden_by),
            ("strength", _STRENGTH[self.line.strength]),
            ("more specific conditions", len(self.rule.when)),
            ("stronger evidence", _EVIDENCE[self.rule.evidence]),
            ("higher confidence", self.rule.confidence),
        )

    @property
    def rank(self) -> tuple[Any, ...]:
        """Sorts the strongest candidate first; the code breaks exact ties."""
        return (*(-int(v) if isinstance(v, bool) else -v for _, v in self.standing), self.rule.code)

    def reason(self, role: str) -> Reason:
        sources = tuple(dict.fromkeys(p.source for p in self.rule.provenance))
        return Reason(
            rule=self.rule.code,
            summary=self.rule.summary,
            role=role,
            sources=sources,
            trace=self.trace,
        )


def recommend(
    facts: Facts,
    *,
    columns: Mapping[str, Facts] | None = None,
    rules: Rulebook | None = None,
    pinned: Mapping[str, Value] | None = None,
) -> Recommendation:
    """Settle every hyperparameter that the rules speak of.

    Args:
        facts: What is known; rules that read anything else come out as unknown.
        columns: Facts `column.*` of each categorical column.
        rules: The rules to use; the built-in and installed ones if None.
        pinned: Values that the user fixed; they win over every rule.

    Raises:
        ConflictingRulesError: If two rules that must hold exclude each other.
        SettingError: If a pinned name or value means nothing.
    """
    book = rules if rules is not None else load_rulebook()
    pins = check_pins(pinned or {}, book.hyperparameters or HYPERPARAMETERS)
    per_column = tuple(r for r in book.rules if any(n.startswith("column.") for n in r.names))
    overall = _Pass([r for r in book.rules if r not in per_column or not columns], pins)
    overall.run(facts.values_dict())
    settings, warnings = dict(overall.settings), list(overall.warnings)
    column_passes: dict[tuple[Any, ...], _Pass] = {}
    for column, column_facts in (columns or {}).items():
        column_pins = {
            n[: -len(column) - 2]: v for n, v in pins.items() if n.endswith(f"[{column}]")
        }
        key = (*column_facts.values_dict().items(), *column_pins.items())
        if key not in column_passes:
            column_passes[key] = _Pass(per_column, column_pins)
            column_passes[key].run({**overall.names, **column_facts.values_dict()})
        for name, setting in column_passes[key].settings.items():
            settings[f"{name}[{column}]"] = _for_column(
                setting, column, column_passes[key].settings
            )
    passes = [overall, *column_passes.values()]
    fired = {code for p in passes for code in p.fired}
    advice = {(a.rule, a.text): a for p in passes for a in p.advice}
    unknown = {u.rule: u for p in passes for u in p.unknown if u.rule not in fired}
    silent = {r.code for r in book.rules} - fired - unknown.keys()
    return Recommendation(
        facts=facts,
        settings=settings,
        advice=tuple(advice.values()),
        silent=tuple(sorted(silent)),
        unknown=tuple(unknown[code] for code in sorted(unknown)),
        warnings=tuple(warnings),
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
        if typed is None:
            raise SettingError(
                "--set",
                received=f"`{name}` is set to {value!r}",
                expected=f"a value of type {definition.kind}",
                mend=f"It means: {definition.about}.",
            )
        checked[name] = typed
    return checked


class _Pass:
    """One run over some rules: settles their hyperparameters in order of dependence."""

    def __init__(self, rules: Sequence[Rule], pins: Mapping[str, Value]) -> None:
        self.rules = rules
        self.pins = pins
        self.names: dict[str, Value] = {}
        self.settings: dict[str, Setting] = {}
        self.fired: dict[str, tuple[str, ...]] = {}  # code -> trace
        self.outcomes: dict[str, bool | Unknown] = {}
        self.unknown: list[UnknownRule] = []
        self.advice: list[Advice] = []
        self.warnings: list[str] = []

    def run(self, names: Mapping[str, Value]) -> None:
        self.names = {**names, **{n: v for n, v in self.pins.items() if "[" not in n}}
        lines: dict[str, list[tuple[Rule, Consequence]]] = {}
        for rule in self.rules:
            for line in rule.then:
                lines.setdefault(line.hyperparameter or "", []).append((rule, line))
        for name in _settling_order(self.rules):
            self._settle(name, lines[name])
        for pinned in self.pins.keys() - self.settings.keys():
            if "[" not in pinned:
                self.settings[pinned] = _pinned_setting(self.pins[pinned], ())
        for rule, line in lines.get("", []):
            if self._holds(rule) is True:
                assert line.advice is not None
                self.advice.append(
                    Advice(rule=rule.code, text=line.advice, trace=self._trace(rule))
                )

    def _holds(self, rule: Rule) -> bool | Unknown:
        outcome = self.outcomes.get(rule.code)
        if outcome is None:
            outcome = self.outcomes[rule.code] = rule.holds(self.names)
            if outcome is True:
                self._trace(rule)
            elif isinstance(outcome, Unknown):
                self._note_unknown(rule, outcome)
        return outcome

    def _trace(self, rule: Rule) -> tuple[str, ...]:
        if rule.code not in self.fired:
            self.fired[rule.code] = tuple(c.trace(self.names) for c in rule.when)
        return self.fired[rule.code]

    def _note_unknown(self, rule: Rule, unknown: Unknown) -> None:
        self.unknown.append(
            UnknownRule(
                rule=rule.code,
                summary=rule.summary,
                missing=tuple(sorted(unknown.missing)) or (unknown.reason,),
                would=tuple(describe(line) for line in rule.then),
            )
        )

    def _settle(self, name: str, lines: Sequence[tuple[Rule, Consequence]]) -> None:
        candidates = self._candidates(lines)
        if name in self.pins:
            setting = _pinned_setting(self.pins[name], candidates)
            self.warnings += _broken_by_pin(name, self.pins[name], candidates)
        elif candidates:
            setting = _resolve(name, candidates)
        else:
            return
        self.settings[name] = setting
        self.names[name] = setting.value

    def _candidates(self, lines: Sequence[tuple[Rule, Consequence]]) -> list[_Candidate]:
        found: list[_Candidate] = []
        for rule, line in lines:
            if self._holds(rule) is not True:
                continue
            try:
                proposal = line.propose(self.names)
            except RangeError as error:
                raise RangeError(
                    f"rule {rule.code}",
                    received=f"its range for `{line.hyperparameter}` is empty here: {error.received}",
                    expected="low below high for these facts",
                    mend=f"Leave it out with `--ignore {rule.code}`, and correct the rule.",
                ) from None
            if isinstance(proposal, Unknown):
                self.fired.pop(rule.code, None)
                self._note_unknown(rule, proposal)
                continue
            found.append(_Candidate(rule, line, proposal, self._trace(rule)))
        overriders = {code: c.rule.code for c in found for code in c.rule.overrides}
        marked = [
            _Candidate(c.rule, c.line, c.proposal, c.trace, overriders.get(c.rule.code, ""))
            for c in found
        ]
        return sorted(marked, key=lambda c: c.rank)


def _settling_order(rules: Iterable[Rule]) -> list[str]:
    """Hyperparameters, each after those it depends on, otherwise by name."""
    graph = hyperparameter_dependencies(rules)
    order: list[str] = []

    def visit(name: str) -> None:
        if name not in order:
            for needed in graph[name]:
                visit(needed)
            order.append(name)

    for name in graph:
        visit(name)
    return order


def _resolve(name: str, candidates: Sequence[_Candidate]) -> Setting:
    """Settle one hyperparameter from the rules that fired, strongest first.

    Constraints and `must` rules bound what is possible; the strongest other rule
    that leaves a value within the bound gives range and value.
    """
    limits = [c for c in candidates if c.rule.kind == "constraint"]
    rest = [c for c in candidates if c.rule.kind != "constraint"]
    musts = [c for c in rest if c.line.strength == "must"]
    bound = _bound(name, [*limits, *musts])
    winner, range_ = _winner(rest, bound)
    if winner is None:
        winner = limits[0]
        assert bound is not None
        range_ = bound
    value = range_.clamp(winner.proposal.value)
    because, overruled = [winner.reason("decides")], []
    for other in candidates:
        if other is winner:
            continue
        if other in limits or other in musts:
            because.append(other.reason("limits"))
        elif other.proposal == winner.proposal:
            because.append(other.reason("agrees"))
        else:
            overruled.append(_lost(other, winner, bound))
    return Setting(
        value=value,
        range=range_,
        prior=_prior(range_, value, winner),
        because=tuple(because),
        overruled=tuple(overruled),
        active_when=winner.line.active_when,
    )


def _bound(name: str, binding: Sequence[_Candidate]) -> Range | None:
    """The values that all binding rules allow; None if nothing binds."""
    bound: Range | None = None
    for candidate in binding:
        narrower = (
            candidate.proposal.range if bound is None else meet(bound, candidate.proposal.range)
        )
        if narrower is None:
            raise _conflict(name, candidate, binding)
        bound = simplest(narrower)
    return bound


def _conflict(name: str, last: _Candidate, binding: Sequence[_Candidate]) -> ConflictingRulesError:
    others = [
        c for c in binding if c is not last and meet(c.proposal.range, last.proposal.range) is None
    ] or [c for c in binding if c is not last]
    says = "; ".join(f"{c.rule.code}: {c.proposal.range}" for c in (*others, last))
    return ConflictingRulesError(
        f"rules for `{name}`",
        received=f"no value suits all that must hold: {says}",
        expected="rules that leave a value",
        mend=f"Leave one out with `--ignore {last.rule.code}`, or fix the value with "
        f"`--set {name}=...`.",
    )


def _winner(
    candidates: Sequence[_Candidate], bound: Range | None
) -> tuple[_Candidate | None, Range]:
    for candidate in candidates:
        range_ = candidate.proposal.range if bound is None else _within(candidate, bound)
        if range_ is not None:
            return candidate, simplest(range_)
    return None, Fixed(value=0)


def _within(candidate: _Candidate, bound: Range) -> Range | None:
    """What a bound leaves of a candidate's range.

    A fixed number beyond the bound means as near to it as may be: a batch of 256
    where 128 fit is 128, not whatever the next rule says.
    """
    range_ = candidate.proposal.range
    met = meet(range_, bound)
    if met is None and isinstance(range_, Fixed) and not isinstance(range_.value, (str, bool)):
        nearest = bound.clamp(range_.value)
        return Fixed(value=nearest) if not isinstance(nearest, (str, bool)) else None
    return met


def _lost(loser: _Candidate, winner: _Candidate, bound: Range | None) -> Overruled:
    decided_by = next(
        (
            conflict.decided_by
            for rule, other in ((winner.rule, loser.rule), (loser.rule, winner.rule))
            for conflict in rule.conflicts
            if conflict.with_ == other.code
        ),
        "",
    )
    ground = "no value within what must hold"
    if bound is None or meet(loser.proposal.range, bound) is not None:
        ground = next(
            (
                text
                for (text, mine), (_, theirs) in zip(loser.standing, winner.standing, strict=True)
                if mine != theirs
            ),
            "order of codes",
        )
    return Overruled(
        rule=loser.rule.code,
        summary=loser.rule.summary,
        range=loser.proposal.range,
        value=loser.proposal.value,
        decided_by=f"{winner.rule.code} wins by {ground}"
        + (f": {decided_by}" if decided_by else ""),
    )


def _prior(range_: Range, value: Value, winner: _Candidate) -> Prior | None:
    if isinstance(range_, Fixed):
        return None
    _, spread, weight = next(level for level in _PRIOR_LEVELS if winner.rule.confidence >= level[0])
    if not isinstance(range_, Choice):
        return NormalPrior(center=range_.to_unit(value), spread=spread)
    given = winner.proposal.weights
    weights = tuple(
        given.get(show_value(v), 0.0) if given else (weight if v == value else 1.0)
        for v in range_.values
    )
    if sum(weights) <= 0:
        return None
    return WeightsPrior(weights=weights)


def _pinned_setting(value: Value, candidates: Sequence[_Candidate]) -> Setting:
    return Setting(
        value=value,
        range=Fixed(value=value),
        because=(Reason(rule="you", summary="You set this value."),),
        overruled=tuple(
            Overruled(
                rule=c.rule.code,
                summary=c.rule.summary,
                range=c.proposal.range,
                value=c.proposal.value,
                decided_by="a value that you set wins over every rule",
            )
            for c in candidates
            if c.proposal.value != value or not isinstance(c.proposal.range, Fixed)
        ),
        active_when=candidates[0].line.active_when if candidates else {},
    )


def _broken_by_pin(name: str, value: Value, candidates: Sequence[_Candidate]) -> list[str]:
    return [
        f"{name}={show_value(value)}, which you set, breaks {c.rule.code}: {c.rule.summary}"
        for c in candidates
        if (c.rule.kind == "constraint" or c.line.strength == "must")
        and not c.proposal.range.contains(value)
    ]


def _for_column(setting: Setting, column: str, beside: Mapping[str, Setting]) -> Setting:
    """Point the conditions of a column's setting at the same column's parents."""
    if not setting.active_when:
        return setting
    renamed = {(f"{k}[{column}]" if k in beside else k): v for k, v in setting.active_when.items()}
    return setting.model_copy(update={"active_when": renamed})
