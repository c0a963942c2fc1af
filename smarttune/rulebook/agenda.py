"""In which order rules settle hyperparameters, worked out once for a set of rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from smarttune.rulebook.consequences import Consequence, Proposal
from smarttune.rulebook.logic import Names, Unknown
from smarttune.rulebook.schema import Rule

Lines = tuple[tuple[Rule, Consequence], ...]


@dataclass(frozen=True, eq=False)
class Agenda:
    """What some rules speak of.

    Attributes:
        rules: Ordered by code, whatever order they came in.
        lines: Each hyperparameter with the lines of `then` that speak of it, each after those
            that its rules read, otherwise in the order of the codes.
        advice: The lines that give advice.
        needs: Each hyperparameter with those that must be settled before it.
    """

    rules: tuple[Rule, ...]
    lines: Mapping[str, Lines]
    advice: Lines
    needs: Mapping[str, tuple[str, ...]]
    _proposals: dict[int, Proposal | None] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, rules: Iterable[Rule]) -> Self:
        """The agenda of these rules."""
        ordered = tuple(sorted(rules, key=lambda rule: rule.code))
        lines: dict[str, list[tuple[Rule, Consequence]]] = {}
        for rule in ordered:
            for line in rule.then:
                lines.setdefault(line.hyperparameter or "", []).append((rule, line))
        needs = hyperparameter_dependencies(ordered)
        settled = {name: tuple(lines[name]) for name in _settling_order(needs)}
        return cls(ordered, settled, tuple(lines.get("", ())), needs)

    def propose(self, line: Consequence, names: Names) -> Proposal | Unknown:
        """What a line proposes; worked out once where it does not depend on `names`.

        Raises:
            RangeError: If computed bounds leave no value.
        """
        key = id(line)  # the agenda keeps the line alive
        if key not in self._proposals:
            fixed = None if any(e.names for e in line.expressions) else line.propose({})
            self._proposals[key] = None if isinstance(fixed, Unknown) else fixed
        return self._proposals[key] or line.propose(names)


def hyperparameter_dependencies(rules: Iterable[Rule]) -> dict[str, tuple[str, ...]]:
    """Return, for each hyperparameter, those that must be settled before it."""
    needed: dict[str, set[str]] = {}
    for rule in rules:
        read = {name for condition in rule.when for name in condition.names}
        for line in rule.then:
            if line.hyperparameter is not None:
                names = read.union(*(e.names for e in line.expressions), line.active_when)
                needed.setdefault(line.hyperparameter, set()).update(names)
    return {
        name: tuple(sorted(other for other in names if other in needed))
        for name, names in sorted(needed.items())
    }


def _settling_order(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Each node after its successors, otherwise as they come; without recursion."""
    order: list[str] = []
    seen: set[str] = set()
    for start in graph:
        path: list[tuple[str, Iterator[str]]] = []
        following = None if start in seen else start
        while following is not None or path:
            if following is not None:
                seen.add(following)
                path.append((following, iter(graph[following])))
            else:
                order.append(path.pop()[0])
            following = next((n for n in path[-1][1] if n not in seen), None) if path else None
    return order


def find_cycle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the nodes of one circle, first node repeated at the end, or []."""
    done: set[str] = set()
    for start in graph:
        # Depth first without recursion: the path so far, and what is left at each node.
        path, rest = [start], [iter(graph[start])]
        on_path = {start}
        while path and start not in done:
            successor = next(rest[-1], None)
            if successor is None:
                done.add(path[-1])
                on_path.discard(path.pop())
                rest.pop()
            elif successor in on_path:
                return [*path[path.index(successor) :], successor]
            elif successor not in done and successor in graph:
                path.append(successor)
                on_path.add(successor)
                rest.append(iter(graph[successor]))
    return []
