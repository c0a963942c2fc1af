"""What an oracle's trials have shown so far, promotions joined to what they continue.

Read off the trials in the order in which they ended, so nothing of it is saved.
Scores are turned so that lower is better.
"""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from smarttune.oracles import _domain, _outcomes
from smarttune.oracles._curves import Row, Waiting
from smarttune.oracles._domain import Values


class Result(NamedTuple):
    """A configuration and its best score up to some epoch."""

    score: float
    values: Values


class Lineages:
    """Rows for a model of learning curves, results by rung, and trials that wait.

    Args:
        objective: KerasTuner's objective of the oracle.
        milestones: Epochs at which curves are read, ascending; the last is a full training.
        max_waiting: At most so many trials wait; the worst of more are given up for good.
    """

    def __init__(self, objective: Any, milestones: Sequence[int], max_waiting: int) -> None:
        self.rows: list[Row] = []
        self.results: dict[int, list[Result]] = defaultdict(list)  # by epochs
        self.num_epochs = 0  # trained by all
        self.num_configurations = 0  # that left a score
        self._objective = objective
        self._sign = -1.0 if objective.direction == "max" else 1.0
        self._milestones = milestones
        self._max_waiting = max_waiting
        self._waiting: dict[str, Waiting] = {}
        self._best: dict[str, float] = {}  # of each scored trial, its parents included
        self._num_read = 0

    @property
    def max_epochs(self) -> int:
        """Epochs of a full training."""
        return self._milestones[-1]

    @property
    def waiting(self) -> list[Waiting]:
        """Trials that can be trained on."""
        return list(self._waiting.values())

    def is_waiting(self, trial_id: str) -> bool:
        """Whether a trial can be trained on."""
        return trial_id in self._waiting

    def take(self, trial_id: str) -> None:
        """Take note that a trial is being trained on."""
        self._waiting.pop(trial_id, None)

    def read(self, trials: Mapping[str, Any], end_order: Sequence[str]) -> None:
        """Take in the trials that ended since the last call."""
        for trial_id in end_order[self._num_read :]:
            self._read(trials[trial_id])
        self._num_read = len(end_order)

    def epochs_of(self, trial: Any) -> int:
        """Epochs to which a trial trains."""
        return int(trial.hyperparameters.values.get("tuner/epochs", self.max_epochs))

    def _read(self, trial: Any) -> None:
        control = trial.hyperparameters.values
        values = _domain.configuration(control)
        epochs, start = self.epochs_of(trial), int(control.get("tuner/initial_epoch", 0))
        parent = str(control.get("tuner/trial_id", ""))
        self._waiting.pop(parent, None)
        if not _outcomes.is_completed(trial):
            self.rows.append(Row(values, epochs / self.max_epochs, math.nan))
            return
        curve = self._curve(trial, start, epochs, self._best.get(parent, math.inf))
        reached, best = curve[-1]
        self._best[trial.trial_id] = best
        self.num_epochs += reached - start
        self.num_configurations += not parent
        # A trial that stopped by itself has shown what it can do; one that was cut has not.
        by_itself = reached < epochs and trial.message != _outcomes.CUT_SHORT
        is_over = reached >= self.max_epochs or by_itself
        shares = [(e / self.max_epochs, score) for e, score in curve]
        if is_over:
            shares[-1] = (1.0, best)
        self.rows += [Row(values, share, score) for share, score in shares]
        self.results[self.max_epochs if is_over else reached].append(Result(best, values))
        if not is_over:
            self._waiting[trial.trial_id] = Waiting(trial.trial_id, values, shares[-1][0])
            self._give_up_the_worst()

    def _curve(self, trial: Any, start: int, epochs: int, best: float) -> list[tuple[int, float]]:
        """Epochs and best scores so far: the last report up to each milestone, and the end."""
        reported = _outcomes.objective_by_step(trial.metrics, self._objective)
        if len(reported) < 2:  # noqa: PLR2004 -- a tuner that reports the best step alone
            return [(epochs, min(best, self._sign * float(trial.score)))]
        bests: dict[int, float] = {}  # by the milestone that comes next; the last report stands
        epochs_at: dict[int, int] = {}
        for epoch in sorted(reported):
            score = self._sign * reported[epoch]
            best = min(best, score) if math.isfinite(score) else best
            if epoch > start and math.isfinite(best):
                place = bisect.bisect_left(self._milestones, epoch)
                bests[place], epochs_at[place] = best, epoch
        return [(epochs_at[place], bests[place]) for place in sorted(bests)]

    def _give_up_the_worst(self) -> None:
        if len(self._waiting) > self._max_waiting:
            worst = max(self._waiting, key=lambda trial_id: self._best[trial_id])
            del self._waiting[worst]
