"""Bayesian optimization by tree-structured Parzen estimators."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, Unpack

from optuna.samplers import TPESampler

from smarttune.oracles import _outcomes
from smarttune.oracles._domain import Values, configuration
from smarttune.oracles._options import OracleOptions
from smarttune.oracles._optuna import Mirror, Seen
from smarttune.oracles._outcomes import Proposal, running
from smarttune.oracles._repaired import RepairedOracle

# Trials before the model takes over; the default of Optuna's TPESampler (n_startup_trials).
DEFAULT_INITIAL_POINTS = 10

# Share of the trials that TPE calls good: Optuna's default_gamma takes a tenth, rounded up.
GOOD_SHARE = 0.1

# ours: fewer finite scores say nothing about what is good.
MIN_FINITE = 3

# ours: proposals that repeat a trial are drawn again so often; then a random one is tried.
MAX_ASKS = 5


class TPEOracle(RepairedOracle):
    """Proposes by a tree-structured Parzen estimator (Optuna's TPE).

    Two densities are fitted, one to the best tenth of the trials and one to the
    others, and a configuration is proposed where their ratio is largest. They
    are joint over all hyperparameters that are active together (Optuna's
    `multivariate` and `group`); running trials count as bad, so that parallel
    proposals keep apart.

    Trials that diverged or crashed count as the worst of all, so that their
    region is tried less; KerasTuner's own Bayesian oracle scores an infinite
    loss 0.

    Source: Bergstra et al. (2011), "Algorithms for Hyper-Parameter
    Optimization", section 4.

    Limits: TPE keeps exploring and may return to a choice that always fails.
    Once the model has taken over, priors have no part any more.

    Args:
        objective: A metric's name, a `keras_tuner.Objective`, a list of them, or None.
        max_trials: Most trials to run; 10 is KerasTuner's default.
        num_initial_points: Trials, initial ones included, before the model takes over.
        **options: See `OracleOptions`. Priors are used until the model takes over.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = 10,
        *,
        num_initial_points: int = DEFAULT_INITIAL_POINTS,
        **options: Unpack[OracleOptions],
    ) -> None:
        super().__init__(objective, max_trials, **options)
        self.num_initial_points = num_initial_points
        self._mirror = Mirror([self.objective.direction])

    def propose(self, trial_id: str) -> Proposal:
        """Return a configuration that the model expects to do well."""
        values = self._suggest(trial_id) if self._has_seen_enough() else None
        if values is None:
            values = self.new_values(trial_id)
        return self.exhausted() if values is None else running(values)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `get_state` returned."""
        super().set_state(state)
        self._mirror = Mirror([self.objective.direction])

    def _suggest(self, trial_id: str) -> Values | None:
        seen = [
            Seen(configuration(t.hyperparameters.values), _scores(t))
            for t in self._in_start_order()
        ]
        for attempt in range(MAX_ASKS):
            sampler = functools.partial(
                TPESampler,
                multivariate=True,
                group=True,
                constant_liar=True,
                n_startup_trials=0,  # it is asked only when enough was seen
                seed=self.rng(f"model {trial_id.lstrip('0')}", attempt).getrandbits(32),
            )
            values = self._mirror.suggest(self.hyperparameters.space, seen, sampler=sampler)
            if not self._duplicate(values):
                return values
        return None

    def _has_seen_enough(self) -> bool:
        trials = self.trials.values()
        ended = sum(_outcomes.is_over(t) for t in trials)
        finite = sum(_outcomes.is_completed(t) for t in trials)
        # Were there fewer finite scores than TPE calls good, it would call failures good.
        return (
            bool(self.hyperparameters.space)
            and ended >= self.num_initial_points
            and finite >= max(MIN_FINITE, math.ceil(GOOD_SHARE * ended))
        )


def _scores(trial: Any) -> tuple[float] | None:
    if not _outcomes.is_over(trial):
        return None
    return (float(trial.score) if _outcomes.is_completed(trial) else math.nan,)
