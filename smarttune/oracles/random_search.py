"""Random search."""

from __future__ import annotations

from typing import Any, Unpack

from smarttune.oracles._options import OracleOptions
from smarttune.oracles._outcomes import Proposal, running
from smarttune.oracles._repaired import RepairedOracle


class RandomOracle(RepairedOracle):
    """Draws each configuration anew, half of them from the priors where there are any.

    Args:
        objective: A metric's name, a `keras_tuner.Objective`, a list of them, or None.
        max_trials: Most trials to run; 10 is KerasTuner's default.
        **options: See `OracleOptions`.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = 10,
        **options: Unpack[OracleOptions],
    ) -> None:
        super().__init__(objective, max_trials, **options)

    def propose(self, trial_id: str) -> Proposal:
        """Return a configuration that was not tried."""
        values = self.new_values(trial_id)
        return self.exhausted() if values is None else running(values)
