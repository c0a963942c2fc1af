"""A learning rate that tunes itself while it trains, and restarts from where it went."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Unpack

from smarttune.errors import OptionError, did_you_mean
from smarttune.oracles import _domain, _outcomes
from smarttune.oracles._domain import Values, configuration
from smarttune.oracles._options import OracleOptions
from smarttune.oracles._outcomes import Proposal, running
from smarttune.oracles._repaired import RepairedOracle

# What a tuner reports of a rate that moves: where it stands after the epoch.
LEARNED = "learned_learning_rate"

# ours: the first round spans two powers of ten, as a recommended rate may be wrong by one; each
# later round takes the root, and below 10 ** 0.25 rates differ less than seeds do.
SPREADS = (10.0, 10.0**0.5, 10.0**0.25)

# ours: rates closer than this share are one; a learned rate that hardly moved is no news.
SAME_RATE = 0.02


class GradientOracle(RepairedOracle):
    """Tunes the learning rate by its hypergradient inside each training, and restarts it.

    The first round trains the recommended configuration from three rates: the recommended one,
    a tenth of it and ten times it. While a network trains, its optimizer moves the rate against
    the derivative of the loss by the rate (see `smarttune.training.hypergradient`). Each later
    round begins where the best trial so far took its rate, and at that times and over a spread
    that shrinks from round to round; rates that were tried are left out. If all trials
    diverged, the next round lies below the lowest rate. After the last round the search ends:
    seven to nine trials beside the initial ones.

    Where the tuner does not report `learned_learning_rate`, the rate from which the best trial
    began stands in: then this is a line search. All other hyperparameters stay at the
    recommendation, which is the first initial trial, or else the defaults.

    Sources: Baydin et al. (2018), "Online Learning Rate Adaptation with Hypergradient Descent"
    for what happens inside a training; the rounds are ours.

    Limits: continuous hyperparameters of the optimizer only, and of them the rate alone. Weight
    decay is not moved: its derivative is that of the training loss, which decay is there to
    raise, so it would be driven to zero. The rate is judged one step ahead, which favours
    rates too small for a whole training (Wu, Ren, Liao and Grosse 2018, "Understanding
    Short-Horizon Bias in Stochastic Meta-Optimization"); restarting at larger rates, judged by
    validation, is what we set against it. It needs SGD, Adam or AdamW and no schedule.

    Args:
        objective: See `RepairedOracle`.
        max_trials: Most trials to run; None lets the rounds decide.
        rate: Name of the learning rate in the space.
        hypergradient_rate: Name of the hyperparameter that lets the rate move. Where the space
            has none, the model decides; where it is off, it is put in the middle of its range.
        **options: See `OracleOptions`.
    """

    # Metrics that a tuner reports beside the objective, if the trial logged them.
    listens_to = (LEARNED,)

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = None,
        *,
        rate: str = "optimizer.learning_rate",
        hypergradient_rate: str = "optimizer.hypergradient_rate",
        **options: Unpack[OracleOptions],
    ) -> None:
        super().__init__(objective, max_trials, **options)
        self.rate_name = rate
        self.hypergradient_name = hypergradient_rate
        self._waiting: list[float] = []
        self._num_rounds = 0

    def propose(self, trial_id: str) -> Proposal:
        """Return the next rate of this round; a new round begins when the last one has ended."""
        del trial_id
        if not self.hyperparameters.space:
            return self._undeclared()
        while True:
            while self._waiting:
                values = self._configuration(self._waiting.pop(0))
                if not self._duplicate(values):
                    return running(values)
            if self._num_rounds == len(SPREADS):
                return _outcomes.stopped()
            if self._num_rounds and self.ongoing_trials:
                return _outcomes.idle()
            self._waiting = self._new_round()

    def settings(self) -> dict[str, Any]:
        """Return what must be the same when a search is resumed."""
        names = {"rate": self.rate_name, "hypergradient_rate": self.hypergradient_name}
        return {**super().settings(), **names}

    def get_state(self) -> dict[str, Any]:
        """Return everything but the trials, fit for JSON."""
        rounds = {"waiting": list(self._waiting), "num_rounds": self._num_rounds}
        return {**super().get_state(), **rounds}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `get_state` returned."""
        super().set_state(state)
        self._waiting = list(state.get("waiting", []))
        self._num_rounds = state.get("num_rounds", 0)

    # Rounds.

    def _new_round(self) -> list[float]:
        """Begin a round; return the rates it starts from, no two alike and none tried before."""
        spread = SPREADS[self._num_rounds]
        middle = self._center() if self._num_rounds else float(self._base()[self.rate_name])
        self._num_rounds += 1
        tried = [] if self._num_rounds == 1 else [start for start, _ in self._known()]
        chosen: list[float] = []
        for wanted in (middle, middle / spread, middle * spread):
            rate = self._within(wanted)
            if not any(_alike(rate, other) for other in (*tried, *chosen)):
                chosen.append(rate)
        return chosen

    def _center(self) -> float:
        """Where the best trial took its rate; below all rates if every trial diverged."""
        known = self._known()
        if not known:  # hyperparameters came or went since; begin again
            return float(self._base()[self.rate_name])
        scored = [(start, trial) for start, trial in known if _outcomes.is_completed(trial)]
        if not scored:
            lowest = min(start for start, _ in known)
            return lowest / SPREADS[self._num_rounds]
        sign = -1 if self.objective.direction == "max" else 1
        start, best = min(scored, key=lambda pair: sign * pair[1].score)
        learned = _learned(best)
        return start if learned is None else learned

    def _known(self) -> list[tuple[float, Any]]:
        """Ended trials of the recommended configuration, each with the rate it began at."""
        base, moved = self._base(), {self.rate_name, self.hypergradient_name}
        found = []
        for trial in (self.trials[trial_id] for trial_id in self.end_order):
            values = configuration(trial.hyperparameters.values)
            alike = all(values.get(n) == v for n, v in base.items() if n not in moved)
            if alike and self.rate_name in values:
                found.append((float(values[self.rate_name]), trial))
        return found

    # Configurations.

    def _base(self) -> Values:
        """The recommended configuration.

        Raises:
            OptionError: If there is no rate in it that could be tuned.
        """
        first = self.initial_trials[0] if self.initial_trials else {}
        values = _domain.complete(
            self.hyperparameters.space,
            {n: v for n, v in first.items() if n in self._ranges()},
            allow_unknown=False,
        )
        rate = values.get(self.rate_name)
        if isinstance(rate, (int, float)) and not isinstance(rate, bool) and rate > 0:
            return values
        raise OptionError(
            "rate",
            received=f"the recommended configuration has no positive `{self.rate_name}`",
            expected="the name of its learning rate, one of " + ", ".join(values),
            mend="Name it with `rate`, or choose another strategy."
            + did_you_mean(self.rate_name, values),
        )

    def _configuration(self, rate: float) -> Values:
        values = self._base()
        values[self.rate_name] = self._within(rate)
        switch = self._ranges().get(self.hypergradient_name)
        if switch is not None and not values.get(self.hypergradient_name, 1):
            values[self.hypergradient_name] = _domain.draw(switch, 0.5)
        return values

    def _within(self, rate: float) -> float:
        """The rate, or the end of its range where it lies beyond."""
        hp = self._ranges()[self.rate_name]
        if _domain.is_discrete(hp):
            positive = [float(v) for v in hp.values if float(v) > 0]
            return min(positive, key=lambda v: abs(math.log(v / rate)))
        return float(_domain.fit(hp, min(hp.max_value, max(hp.min_value, rate))))

    def _ranges(self) -> dict[str, Any]:
        return {hp.name: hp for hp in self.hyperparameters.space}

    def _undeclared(self) -> Proposal:
        """A space that only a trial declares: one trial of defaults, and the others wait."""
        return self.exhausted() if self._duplicate({}) else running({})


def _learned(trial: Any) -> float | None:
    """Where a trial took its rate; None where that is unknown or of no use as a start."""
    if not trial.metrics.exists(LEARNED):
        return None
    history = sorted(trial.metrics.get_history(LEARNED), key=lambda seen: seen.step)
    rate = float(history[-1].mean()) if history else math.nan
    return rate if math.isfinite(rate) and rate > 0 else None


def _alike(one: float, other: float) -> bool:
    return abs(math.log(one / other)) < SAME_RATE
