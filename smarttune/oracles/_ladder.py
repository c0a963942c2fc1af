"""One bracket while it runs: who stands on which rung, and who climbs next.

A failed trial leaves its place, which the next best candidate or a new
configuration takes, so that a bracket ends with as many full trainings as
planned. A promotion is made as soon as no trial still to finish can change it;
the result equals that of waiting for the whole rung.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from smarttune.fidelity import Bracket

# A trial on a rung is one of these; `open` covers running and waiting for a retry.
State = Literal["open", "done", "failed"]

# ours: a rung replaces at most this multiple of its size, and at least the number below; a
# region where everything fails must not be sampled for ever. If trials fail independently with
# probability 0.3, a rung of any size runs out with a probability below 1e-4 (binomial; worst
# for three places).
REPLACEMENTS_PER_PLACE = 3
MIN_REPLACEMENTS = 10


class Entry(NamedTuple):
    """A trial on a rung; `parent` is the trial it continues, "" on the lowest rung."""

    trial_id: str
    parent: str


@dataclass
class Ladder:
    """The state of one bracket.

    Args:
        bracket: The plan.
        iteration: Which Hyperband iteration it belongs to, from 0.
        rungs: The trials of each rung in the order they were started.
        closed: Whether the space held no further configuration for the lowest rung.
    """

    bracket: Bracket
    iteration: int
    rungs: list[list[Entry]] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        self.rungs = self.rungs or [[] for _ in self.bracket.rungs]

    def wants_configuration(self, state: Callable[[str], State]) -> bool:
        """Whether the lowest rung has a place for a new configuration."""
        return self._to_fill(0, state) > 0

    def promotion(
        self, state: Callable[[str], State], rank: Callable[[str], float]
    ) -> tuple[int, str] | None:
        """Return the rung to fill and the trial to continue there, the highest rung first.

        Args:
            state: What became of a trial.
            rank: A completed trial's score, lower is better.
        """
        for rung in reversed(range(1, len(self.rungs))):
            candidates = self._candidates(rung, state)
            places = self._places(rung, state)
            # Even if all that is outstanding beat the best candidate, it would be kept.
            if candidates and places > self._outstanding(rung - 1, state):
                return rung, min(candidates, key=rank)
        return None

    def may_continue(self, trial_id: str, state: Callable[[str], State]) -> bool:
        """Whether a trial may still be promoted, or is being continued right now."""
        for above in range(1, len(self.rungs)):
            if any(e.trial_id == trial_id for e in self.rungs[above - 1]):
                children = [e for e in self.rungs[above] if e.parent == trial_id]
                if children:
                    return any(state(e.trial_id) == "open" for e in children)
                # If one that runs there fails, its place is free again.
                is_open = any(state(e.trial_id) == "open" for e in self.rungs[above])
                return is_open or self._places(above, state) > 0
        return False

    def is_finished(self, state: Callable[[str], State]) -> bool:
        """Whether nothing runs and nothing is left to start."""
        return all(self._outstanding(rung, state) == 0 for rung in range(len(self.rungs)))

    def to_state(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "bracket": self.bracket.number,
            "iteration": self.iteration,
            "rungs": [[list(entry) for entry in rung] for rung in self.rungs],
            "closed": self.closed,
        }

    def _outstanding(self, rung: int, state: Callable[[str], State]) -> int:
        """Trials of a rung that run or will be started."""
        open_ = sum(state(e.trial_id) == "open" for e in self.rungs[rung])
        return open_ + self._to_fill(rung, state)

    def _to_fill(self, rung: int, state: Callable[[str], State]) -> int:
        """Trials that will still be started on a rung if none of those open fails."""
        places = self._places(rung, state)
        if rung == 0:
            return 0 if self.closed else places
        below = len(self._candidates(rung, state)) + self._outstanding(rung - 1, state)
        return min(places, below)

    def _places(self, rung: int, state: Callable[[str], State]) -> int:
        """Places that are free: planned, not taken, and not given up after many failures."""
        planned, entries = self.bracket.rungs[rung].num_trials, self.rungs[rung]
        allowed = planned + max(MIN_REPLACEMENTS, REPLACEMENTS_PER_PLACE * planned)
        taken = sum(state(e.trial_id) != "failed" for e in entries)
        return min(planned - taken, allowed - len(entries))

    def _candidates(self, rung: int, state: Callable[[str], State]) -> list[str]:
        """Completed trials of the rung below that were not promoted."""
        promoted = {e.parent for e in self.rungs[rung]}
        return [
            e.trial_id
            for e in self.rungs[rung - 1]
            if e.trial_id not in promoted and state(e.trial_id) == "done"
        ]


def ladder_from_state(state: dict[str, Any], brackets: tuple[Bracket, ...]) -> Ladder:
    """Return the ladder that `to_state` described."""
    return Ladder(
        next(b for b in brackets if b.number == state["bracket"]),
        state["iteration"],
        [[Entry(*entry) for entry in rung] for rung in state["rungs"]],
        state["closed"],
    )
