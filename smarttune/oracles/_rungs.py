"""Rungs without brackets: who completed on each, who was promoted, who is next.

The state is read off an oracle's trials as they start and end, so nothing of it
is saved. A rung is filled at any time by the best trial of the rung below that
still waits. A trial that completes stands on its rung until a promotion of it
fails: then it holds no place above any more and the next best can take it.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from smarttune.oracles import _outcomes
from smarttune.oracles._control import NO_BRACKET


class Standing(NamedTuple):
    """A completed trial; sorts by rank, then by the order in which trials ended."""

    rank: float
    order: int
    trial_id: str


@dataclass
class Rung:
    """One level.

    Args:
        num_started: Trials that were started here.
        num_completed: Trials that completed here.
        num_failed: Trials that failed here.
        standing: Completed trials, best first, but those whose promotion failed.
        waiting: The ones of them that were not promoted.
    """

    num_started: int = 0
    num_completed: int = 0
    num_failed: int = 0
    standing: list[Standing] = field(default_factory=list)
    waiting: list[Standing] = field(default_factory=list)

    @property
    def num_open(self) -> int:
        """Trials that run or wait for a retry."""
        return self.num_started - self.num_completed - self.num_failed

    @property
    def num_held(self) -> int:
        """Places that are taken: trials that completed or may yet."""
        return self.num_started - self.num_failed


class Rungs:
    """All levels of a search, the shortest training first.

    Args:
        num_rungs: How many there are.
        direction: "min" or "max": which scores are better.
    """

    def __init__(self, num_rungs: int, direction: str) -> None:
        self.rungs = [Rung() for _ in range(num_rungs)]
        self._sign = -1 if direction == "max" else 1
        self._num_started = self._num_ended = 0  # of the trials that were read
        self._rung_of: dict[str, int] = {}
        self._parent_of: dict[str, str] = {}
        self._child_of: dict[str, str] = {}  # promotions that did not fail
        self._open: set[str] = set()
        self._standing_of: dict[str, Standing] = {}

    def follow(self, oracle: Any) -> None:
        """Read the trials that started or ended since the last call."""
        for trial_id in oracle.start_order[self._num_started :]:
            self._start(trial_id, oracle.trials[trial_id].hyperparameters.values)
        for order in range(self._num_ended, len(oracle.end_order)):
            self._end(oracle.trials[oracle.end_order[order]], order)
        self._num_started = len(oracle.start_order)
        self._num_ended = len(oracle.end_order)

    def is_among_best(self, rung: int, num_best: int) -> bool:
        """Whether the best waiting trial of a rung is among the best `num_best` standing."""
        level = self.rungs[rung]
        return bool(level.waiting) and (
            bisect.bisect_left(level.standing, level.waiting[0]) < num_best
        )

    def is_continued(self, trial_id: str) -> bool:
        """Whether a trial's promotion runs or waits for a retry."""
        return self._child_of.get(trial_id) in self._open

    def num_ahead(self, trial_id: str) -> int | None:
        """Return how many trials of its rung would be promoted before this one.

        Returns:
            0 for one that has yet to end; None for one that will not be promoted, or not
            again.
        """
        rung = self._rung_of.get(trial_id)
        if rung is None or rung == len(self.rungs) - 1:
            return None
        if trial_id in self._open:
            return 0
        standing = self._standing_of.get(trial_id)
        if standing is None or trial_id in self._child_of:
            return None
        return bisect.bisect_left(self.rungs[rung].waiting, standing)

    def _start(self, trial_id: str, values: Mapping[str, Any]) -> None:
        if values.get("tuner/bracket", NO_BRACKET) == NO_BRACKET:
            return
        rung = int(values["tuner/round"])
        self._rung_of[trial_id] = rung
        self.rungs[rung].num_started += 1
        self._open.add(trial_id)
        if parent := values.get("tuner/trial_id"):
            self._parent_of[trial_id] = parent
            self._child_of[parent] = trial_id
            # When a search is read anew, all starts come before the ends.
            if parent in self._standing_of:
                _remove(self.rungs[rung - 1].waiting, self._standing_of[parent])

    def _end(self, trial: Any, order: int) -> None:
        rung = self._rung_of.get(trial.trial_id)
        if rung is None:
            return
        level = self.rungs[rung]
        self._open.discard(trial.trial_id)
        if _outcomes.is_completed(trial):
            level.num_completed += 1
            standing = Standing(self._sign * float(trial.score), order, trial.trial_id)
            self._standing_of[trial.trial_id] = standing
            bisect.insort(level.standing, standing)
            if trial.trial_id not in self._child_of:
                bisect.insort(level.waiting, standing)
            return
        level.num_failed += 1
        if parent := self._parent_of.get(trial.trial_id):
            _remove(self.rungs[rung - 1].standing, self._standing_of.pop(parent))
            del self._child_of[parent]


def _remove(standings: list[Standing], one: Standing) -> None:
    position = bisect.bisect_left(standings, one)
    assert standings[position] == one
    del standings[position]
