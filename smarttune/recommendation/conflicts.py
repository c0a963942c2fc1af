"""Which rules can fire together and disagree, and what decides between them.

Found by search over the fact space (`smarttune.rulebook.witness`), so a pair that is
not listed is one for which the search found no facts, which is no proof. What decides
is asked of the resolution itself, never worked out a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from smarttune.errors import ConflictingRulesError
from smarttune.recommendation.resolution import Candidate, resolve
from smarttune.rulebook import Rule, Rulebook
from smarttune.rulebook.consequences import Consequence, Proposal
from smarttune.rulebook.logic import Unknown
from smarttune.rulebook.witness import fires, witnesses
from smarttune.space import HYPERPARAMETERS, HyperparameterDef, Range, Value

Kind = Literal["excludes", "differs", "range"]
KINDS: tuple[Kind, ...] = ("excludes", "differs", "range")  # the gravest first

BY_CODE = "nothing: the code breaks the tie"
BOTH_MUST = "nothing: both must hold"
# ours: why any rule that reads results goes before any that does not; where the two rules
# have more to say of it, they declare it.
MEASURED = "what this search has shown goes before what was expected of it"
_TIED = "order of codes"  # as the resolution calls it


@dataclass(frozen=True)
class RuleConflict:
    """Two rules that fire on the same facts and say different things of a hyperparameter.

    Attributes:
        hyperparameter: What they disagree on.
        winner: Code of the rule that decides.
        loser: Code of the rule that is overruled.
        facts: One example of facts and hyperparameter values on which both fire.
        winner_value: What the winner recommends there.
        winner_range: What it allows there.
        loser_value: What the loser recommends there.
        loser_range: What it allows there.
        kind: `excludes` where the recommended value of one lies outside the range of the
            other, `differs` where both allow either value but recommend another, `range`
            where they recommend the same value and only the ranges or weights differ.
        decided_by: The first property in which their standing differs.
        ground: Why, as one of the two rules declares it; else the general reason why results
            go before expectations; "" if there is neither.
        declared_by: Code of the rule that gives the ground; "" if neither does.
    """

    hyperparameter: str
    winner: str
    loser: str
    facts: Mapping[str, Value]
    winner_value: Value
    winner_range: Range
    loser_value: Value
    loser_range: Range
    kind: Kind
    decided_by: str
    ground: str
    declared_by: str = ""

    @property
    def contradiction(self) -> bool:
        """Whether nothing but chance, such as the order of codes, decides."""
        return self.decided_by in (BY_CODE, BOTH_MUST)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "hyperparameter": self.hyperparameter,
            "kind": self.kind,
            "winner": _side(self.winner, self.winner_value, self.winner_range),
            "loser": _side(self.loser, self.loser_value, self.loser_range),
            "decided_by": self.decided_by,
            "ground": self.ground,
            "declared_by": self.declared_by,
            "facts": dict(self.facts),
        }


@dataclass(frozen=True)
class _Line:
    """One line of a rule, standing as a rule of its own."""

    rule: Rule
    line: Consequence

    @property
    def alone(self) -> Rule:
        """The rule with no other line, whose facts then need not be known."""
        return self.rule.model_copy(update={"then": (self.line,)})

    def competes_with(self, other: _Line) -> bool:
        """Whether both can settle one value, neither bounding the other.

        What is said of a column settles that column's own value, and what is said for
        other values of a parent is a branch of its own.
        """
        return (
            (self.rule.kind == "constraint") == (other.rule.kind == "constraint")
            and self._per_column == other._per_column
            and all(
                set(values) & set(other.line.active_when.get(parent, values))
                for parent, values in self.line.active_when.items()
            )
        )

    @property
    def _per_column(self) -> bool:
        return any(name.startswith("column.") for name in self.rule.names)


def find_conflicts(
    book: Rulebook,
    *,
    hyperparameters: Collection[str] | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> tuple[RuleConflict, ...]:
    """Every pair of rules that can fire together and disagree, for each hyperparameter.

    A constraint bounds other rules and conflicts only with what must hold as well.

    Args:
        book: The rules; their order does not matter.
        hyperparameters: Only these; all if None.
        on_progress: Called with the share of pairs that were looked at.

    Returns:
        Sorted by hyperparameter, gravity and codes.
    """
    pairs = list(_pairs(book, hyperparameters))
    found: list[RuleConflict] = []
    for number, (name, a, b) in enumerate(pairs, start=1):
        conflict = _conflict(name, a, b, book.hyperparameters or HYPERPARAMETERS)
        found += [conflict] if conflict is not None else []
        if on_progress is not None:
            on_progress(number / len(pairs))
    return tuple(
        sorted(
            found, key=lambda c: (c.hyperparameter, KINDS.index(c.kind), c.winner, c.loser)
        )
    )  # fmt: skip


def _pairs(
    book: Rulebook, hyperparameters: Collection[str] | None
) -> Iterator[tuple[str, _Line, _Line]]:
    """Lines of two rules on one hyperparameter that are settled together."""
    lines: dict[str, list[_Line]] = {}
    for rule in sorted(book.rules, key=lambda rule: rule.code):
        for line in rule.then:
            if line.hyperparameter is not None:
                lines.setdefault(line.hyperparameter, []).append(_Line(rule, line))
    for name in sorted(lines):
        if hyperparameters is None or name in hyperparameters:
            for a, b in combinations(lines[name], 2):
                if a.rule.code != b.rule.code and a.competes_with(b):
                    yield name, a, b


def _conflict(
    name: str, a: _Line, b: _Line, definitions: Mapping[str, HyperparameterDef]
) -> RuleConflict | None:
    """The gravest disagreement of two lines that the search finds, on as few facts as it needs."""
    worst: RuleConflict | None = None
    computed = any(e.names for side in (a, b) for e in side.line.expressions)
    for facts in witnesses([a.alone, b.alone], definitions):
        if not (_active(a.line, facts) and _active(b.line, facts)):
            continue
        found = _disagreement(name, a, b, facts)
        if found is not None and (
            worst is None or KINDS.index(found.kind) < KINDS.index(worst.kind)
        ):
            worst = found
        if not computed or (worst is not None and worst.kind == KINDS[0]):
            break
    return None if worst is None else _fewer_facts(worst, a, b)


def _fewer_facts(conflict: RuleConflict, a: _Line, b: _Line) -> RuleConflict:
    """The same conflict without the facts that it does not need."""
    for name in conflict.facts:
        facts = {n: v for n, v in conflict.facts.items() if n != name}
        if fires([a.alone, b.alone], facts):
            fewer = _disagreement(conflict.hyperparameter, a, b, facts)
            if fewer is not None and fewer.kind == conflict.kind:
                conflict = fewer
    return conflict


def _active(line: Consequence, facts: Mapping[str, Value]) -> bool:
    """Whether the hyperparameter is used at all, as far as its parents are known."""
    return all(
        parent not in facts or facts[parent] in values
        for parent, values in line.active_when.items()
    )


def _disagreement(name: str, a: _Line, b: _Line, facts: Mapping[str, Value]) -> RuleConflict | None:
    """How the resolution decides between two lines on these facts; None if it need not."""
    first, second = _candidates(a, b, facts)
    try:
        setting = resolve(name, sorted([first, second], key=lambda c: c.rank))
    except ConflictingRulesError:
        return _told(name, first, second, facts, BOTH_MUST)
    if not setting.overruled:
        return None
    won, lost = (second, first) if setting.overruled[0].rule == a.rule.code else (first, second)
    _, ground = _declared(won.rule, lost.rule)
    decided = setting.overruled[0].decided_by.removeprefix(f"{won.rule.code} wins by ")
    decided = decided.removesuffix(f": {ground}") if ground else decided
    return _told(name, won, lost, facts, BY_CODE if decided == _TIED else decided)


def _candidates(a: _Line, b: _Line, facts: Mapping[str, Value]) -> tuple[Candidate, Candidate]:
    made = []
    for mine, other in ((a, b), (b, a)):
        proposal = mine.line.propose(facts)
        assert not isinstance(proposal, Unknown)
        by = other.rule.code if mine.rule.code in other.rule.overrides else ""
        made.append(Candidate(mine.rule, mine.line, proposal, (), by))
    return made[0], made[1]


def _told(
    name: str, won: Candidate, lost: Candidate, facts: Mapping[str, Value], decided_by: str
) -> RuleConflict:
    declared_by, ground = _declared(won.rule, lost.rule)
    measured = won.rule.kind == "dynamic" and lost.rule.kind != "dynamic"
    return RuleConflict(
        hyperparameter=name,
        winner=won.rule.code,
        loser=lost.rule.code,
        facts=dict(facts),
        winner_value=won.proposal.value,
        winner_range=won.proposal.range,
        loser_value=lost.proposal.value,
        loser_range=lost.proposal.range,
        kind=_kind(won.proposal, lost.proposal),
        decided_by=decided_by,
        ground=ground or (MEASURED if measured else ""),
        declared_by=declared_by,
    )


def _kind(a: Proposal, b: Proposal) -> Kind:
    if not a.range.contains(b.value) or not b.range.contains(a.value):
        return "excludes"
    return "differs" if a.value != b.value else "range"


def _declared(a: Rule, b: Rule) -> tuple[str, str]:
    """Which of two rules gives a ground for the decision, the first asked first, and the ground."""
    for rule, other in ((a, b), (b, a)):
        for conflict in rule.conflicts:
            if conflict.with_ == other.code:
                return rule.code, conflict.decided_by
    return "", ""


def _side(code: str, value: Value, range_: Range) -> dict[str, Any]:
    return {"rule": code, "value": value, "range": range_.model_dump(mode="json")}
