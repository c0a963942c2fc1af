"""ASHA: successive halving that waits for nobody.

Source: Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht, Talwalkar
(2020), "A System for Massively Parallel Hyperparameter Tuning", MLSys,
Algorithm 2 (R, r, eta there are `max_epochs`, `min_epochs`, `factor` here; s
is 0).

What the paper leaves open is ours: a promotion that fails gives its place to
the next best; the best of several candidates is promoted first; and when the
space holds no new configuration, the best trial is promoted to the end
although fewer than `factor` completed beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from smarttune.fidelity import rung_epochs
from smarttune.oracles import _domain
from smarttune.oracles._control import NO_BRACKET, control
from smarttune.oracles._domain import Values
from smarttune.oracles._options import OracleOptions
from smarttune.oracles._outcomes import Proposal, idle, running, stopped
from smarttune.oracles._repaired import RepairedOracle
from smarttune.oracles._rungs import Rungs


class AshaOracle(RepairedOracle):
    """Promotes a trial as soon as it is among the best of those that completed beside it.

    Never lets a worker wait while the space holds a new configuration. What a search costs
    depends on the order in which its trials end: a trial that was among the best when it was
    promoted may fall behind later, and then more than one in `factor` is promoted. Tells the
    tuner what Hyperband tells it (see `smarttune.oracles._control`).

    Args:
        objective: A metric's name, a `keras_tuner.Objective`, a list of them, or None.
        max_epochs: Epochs of a full training.
        min_epochs: Fewest epochs after which trials are compared.
        factor: One trial in so many is kept at each rung; the paper runs 4, Hyperband 3.
        max_trials: Most trials to run, promotions and failed ones included; None means no
            limit.
        **options: See `OracleOptions`. Initial trials are trained in full, first, outside
            the rungs.

    Raises:
        OptionError: If the epochs and the factor do not fit together.
    """

    def __init__(
        self,
        objective: Any = None,
        max_epochs: int = 100,
        *,
        min_epochs: int = 1,
        factor: int = 3,
        max_trials: int | None = None,
        **options: Unpack[OracleOptions],
    ) -> None:
        self.epochs = rung_epochs(min_epochs, max_epochs, factor)
        self.max_epochs = max_epochs
        self.min_epochs = min_epochs
        self.factor = factor
        self._is_over = False
        super().__init__(objective, max_trials, **options)
        self._rungs = Rungs(len(self.epochs), self.objective.direction)

    def propose(self, trial_id: str) -> Proposal:
        """Return a promotion if one is due, the highest rung first, else a new configuration."""
        self._rungs.follow(self)
        rung = self._rung_to_promote()
        if rung is not None:
            return self._promote(rung)
        values = self.sample(trial_id, 0)
        if values is not None:
            return self._enter(values)
        if self.ongoing_trials:
            return idle()  # its end may allow a promotion, or declare hyperparameters
        rung = self._rung_to_finish()
        if rung is not None:
            return self._promote(rung)
        self._is_over = True
        return stopped()

    def may_continue(self, trial_id: str) -> bool:
        """Whether the state of a finished trial may still be needed by a promotion.

        The trials that wait on a rung are promoted best first, so one that has as many
        before it as trials may still be started is not.
        """
        self._rungs.follow(self)
        if self._rungs.is_continued(trial_id):
            return True
        ahead, left = self._rungs.num_ahead(trial_id), self.remaining_trials()
        return ahead is not None and not self._is_over and (left is None or ahead < left)

    def sample(self, trial_id: str, rung: int) -> Values | None:
        """Return a new configuration for a rung; None if the space holds no more.

        What a strategy that samples otherwise (PriorBand, BOHB) overrides. New
        configurations start on rung 0.
        """
        del rung  # random search samples alike everywhere
        return self.new_values(trial_id)

    def frame(self, values: Values) -> Values:
        """Train an initial configuration in full at once."""
        return {**values, **control(0, self.max_epochs, bracket=NO_BRACKET, rung=0)}

    def settings(self) -> dict[str, Any]:
        """Return what must be the same when a search is resumed."""
        return {
            **super().settings(),
            "max_epochs": self.max_epochs,
            "min_epochs": self.min_epochs,
            "factor": self.factor,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `get_state` returned."""
        super().set_state(state)
        self._is_over = False
        self._rungs = Rungs(len(self.epochs), self.objective.direction)

    def _rung_to_promote(self) -> int | None:
        """The highest rung whose best waiting trial is among its best `1 / factor`."""
        for rung in reversed(range(len(self.epochs) - 1)):
            num_best = self._rungs.rungs[rung].num_completed // self.factor
            if self._rungs.is_among_best(rung, num_best):
                return rung
        return None

    def _rung_to_finish(self) -> int | None:
        """The highest rung from which nothing was promoted although something waits."""
        for rung in reversed(range(len(self.epochs) - 1)):
            level, above = self._rungs.rungs[rung : rung + 2]
            if level.waiting and not above.num_held:
                return rung
        return None

    def _promote(self, rung: int) -> Proposal:
        parent = self._rungs.rungs[rung].waiting[0].trial_id
        return running(
            {
                **_domain.configuration(self.trials[parent].hyperparameters.values),
                **control(
                    self.epochs[rung],
                    self.epochs[rung + 1],
                    bracket=len(self.epochs) - 1,
                    rung=rung + 1,
                    parent=parent,
                ),
            }
        )

    def _enter(self, values: Values) -> Proposal:
        bracket = len(self.epochs) - 1
        return running({**values, **control(0, self.epochs[0], bracket=bracket, rung=0)})
