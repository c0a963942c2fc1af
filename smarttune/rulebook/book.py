"""The rules that take part, with their packs and bibliography."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from smarttune.errors import SmartTuneError, did_you_mean
from smarttune.rulebook.agenda import Agenda
from smarttune.rulebook.schema import PackInfo, Rule, Source
from smarttune.space import HyperparameterDef


@dataclass(frozen=True)
class Pack:
    """One folder of rules."""

    info: PackInfo
    folder: Path
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Rulebook:
    """All rules that take part, with their bibliography.

    Attributes:
        rules: Ordered by code.
        sources: Key to work.
        packs: Where the rules come from.
        hyperparameters: The canonical hyperparameters and those that packs add.
        files: Rule code to file.
    """

    rules: tuple[Rule, ...]
    sources: Mapping[str, Source] = field(default_factory=dict)
    packs: tuple[Pack, ...] = ()
    hyperparameters: Mapping[str, HyperparameterDef] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def _by_name(self) -> dict[str, Rule]:
        names = {rule.name: rule for rule in reversed(self.rules)}
        return names | {rule.code.lower(): rule for rule in reversed(self.rules)}

    @cached_property
    def agenda(self) -> Agenda:
        """What all rules speak of."""
        return Agenda.of(self.rules)

    @cached_property
    def agenda_without_columns(self) -> Agenda:
        """What the rules speak of that do not decide about single columns."""
        return Agenda.of(r for r in self.agenda.rules if not reads_column(r))

    @cached_property
    def agenda_of_columns(self) -> Agenda:
        """What the rules speak of that decide about single columns."""
        return Agenda.of(r for r in self.agenda.rules if reads_column(r))

    def __getitem__(self, code_or_name: str) -> Rule:
        if (rule := self._by_name.get(code_or_name.lower())) is not None:
            return rule
        known = [r.code for r in self.rules] + [r.name for r in self.rules]
        raise SmartTuneError(
            "rules",
            received=f"there is no rule `{code_or_name}`",
            expected="a rule's code or name",
            mend=f"`smarttune rules list` lists them.{did_you_mean(code_or_name, known)}",
        )

    def replace_rules(self, rules: Iterable[Rule]) -> Rulebook:
        """The same book with only these rules."""
        return Rulebook(tuple(rules), self.sources, self.packs, self.hyperparameters, self.files)


def reads_column(rule: Rule) -> bool:
    """Whether a rule decides about single columns."""
    return any(name.startswith("column.") for name in rule.names)
