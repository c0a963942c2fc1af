"""Which of the rules that fired settles a hyperparameter.

Candidates are ordered once, strongest first, and never folded pairwise: the result
does not depend on the order in which rules were loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from smarttune.errors import ConflictingRulesError
from smarttune.recommendation.settings import Overruled, Reason, Setting
from smarttune.rulebook import Rule
from smarttune.rulebook.consequences import Consequence, Proposal
from smarttune.space import (
    Choice,
    Fixed,
    NormalPrior,
    Prior,
    Range,
    Value,
    WeightsPrior,
    meet,
    show_value,
    simplest,
)

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


@dataclass(frozen=True, eq=False)
class Candidate:
    """What one fired rule says of the hyperparameter under decision.

    Its trace may be a function, as most of those that lose never show it.
    """

    rule: Rule
    line: Consequence
    proposal: Proposal
    trace: tuple[str, ...] | Callable[[], tuple[str, ...]]
    overridden_by: str = ""

    @cached_property
    def standing(self) -> tuple[tuple[str, Any], ...]:
        """What decides between two candidates, in order; larger wins."""
        return (
            ("a dynamic rule goes before a static one", self.rule.kind == "dynamic"),
            ("overriding it", not self.overridden_by),
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
        """This candidate as a reason behind the setting."""
        sources = tuple(dict.fromkeys(p.source for p in self.rule.provenance))
        return Reason(
            rule=self.rule.code,
            summary=self.rule.summary,
            role=role,
            sources=sources,
            trace=self.trace() if callable(self.trace) else self.trace,
        )


def resolve(name: str, candidates: Sequence[Candidate]) -> Setting:
    """Settle one hyperparameter from the rules that fired, strongest first.

    Constraints and `must` rules bound what is possible; the strongest other rule
    that leaves a value within the bound gives range and value.
    """
    limits = [c for c in candidates if c.rule.kind == "constraint" and not c.overridden_by]
    rest = [c for c in candidates if c.rule.kind != "constraint"]
    musts = [c for c in rest if c.line.strength == "must" and not c.overridden_by]
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


def _bound(name: str, binding: Sequence[Candidate]) -> Range | None:
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


def _conflict(name: str, last: Candidate, binding: Sequence[Candidate]) -> ConflictingRulesError:
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


def _winner(candidates: Sequence[Candidate], bound: Range | None) -> tuple[Candidate | None, Range]:
    for candidate in candidates:
        range_ = candidate.proposal.range if bound is None else _within(candidate, bound)
        if range_ is not None:
            return candidate, simplest(range_)
    return None, Fixed(value=0)


def _within(candidate: Candidate, bound: Range) -> Range | None:
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


def _lost(loser: Candidate, winner: Candidate, bound: Range | None) -> Overruled:
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


def _prior(range_: Range, value: Value, winner: Candidate) -> Prior | None:
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


def pinned_setting(value: Value, candidates: Sequence[Candidate]) -> Setting:
    """The setting of a value that the user fixed; every rule that differs is overruled."""
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


def broken_by_pin(name: str, value: Value, candidates: Sequence[Candidate]) -> list[str]:
    """One sentence for each binding rule that a value fixed by the user breaks."""
    return [
        f"{name}={show_value(value)}, which you set, breaks {c.rule.code}: {c.rule.summary}"
        for c in candidates
        if (c.rule.kind == "constraint" or c.line.strength == "must")
        and not c.proposal.range.contains(value)
    ]
