"""PriorBand: Hyperband that trusts a recommendation as far as it proves right."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from smarttune.fidelity import Bracket, cost
from smarttune.oracles._control import NO_BRACKET, control
from smarttune.oracles._cube import Cube
from smarttune.oracles._curves import CurveModel, Waiting, milestones
from smarttune.oracles._domain import Values
from smarttune.oracles._lineages import Lineages, Result
from smarttune.oracles._outcomes import Proposal, idle_or_stopped, running
from smarttune.oracles._prior_sampling import mutation, shares
from smarttune.oracles.hyperband import HyperbandOracle

# ours: configurations with a score before the model takes over.
MIN_CONFIGURATIONS = 5

# ours: trials that wait to be taken up again; what a tuner keeps of each takes space.
MAX_WAITING = 30


class PriorBandOracle(HyperbandOracle):
    """Trains the recommendation in full, then draws from its priors as far as they prove right.

    Each new configuration of Hyperband's brackets comes from one of three sources (Mallik
    et al. 2023, "PriorBand: Practical Hyperparameter Optimization in the Age of Deep
    Learning", section 4): even draws, with a share of 1 / (1 + factor**rung); else the
    priors or a mutation of the best configuration, in the proportion in which either
    explains the best results of the highest rung that has some.

    With `model`, a model of learning curves takes over after `MIN_CONFIGURATIONS` (see
    `smarttune.oracles._curves`). It picks new configurations and decides which trials are
    trained on, in steps half as wide as Hyperband's rungs; `docs/benchmarks.md` has what
    that gains. Priors then only say where half of its candidates are drawn: weighing its
    choice by them as well, as piBO does, lost a quarter after four full trainings there.

    Args:
        objective: A metric's name, a `keras_tuner.Objective`, a list of them, or None.
        max_epochs: Epochs of a full training.
        model: Whether the model takes over from the brackets.
        **options: As of `HyperbandOracle`. `priors` and the first of `initial_trials` are
            the recommendation; with the model, `hyperband_iterations` says only how many
            epochs are spent, as many as that number of iterations would.

    Raises:
        OptionError: If epochs, factor and iterations do not fit together.
    """

    def __init__(
        self, objective: Any = None, max_epochs: int = 100, *, model: bool = True, **options: Any
    ) -> None:
        super().__init__(objective, max_epochs, **options)
        self.model = model
        self._milestones = milestones(max_epochs, self.factor)
        lowest = self.brackets[0].rungs[0].epochs
        self._steps = [e for e in self._milestones if e > lowest]
        self._steps.insert(0, lowest)
        self._forget()

    @property
    def resumes_cut_trials(self) -> bool:
        """Whether a trial that the clock cut may go on later."""
        return self.model

    def propose(self, trial_id: str) -> Proposal:
        """Return what the model chooses, or, before it knows enough, what the brackets need."""
        self._read()
        if not self._leads:
            return super().propose(trial_id)
        initial = self._next_initial()
        if initial is not None:
            return self._begin(initial)
        return self._chosen(trial_id)

    def sample(self, trial_id: str, bracket: Bracket) -> Values | None:
        """Return a new configuration from one of PriorBand's three sources."""
        space = self.hyperparameters.space
        rung = len(self.brackets) - 1 - bracket.number
        best = self._incumbent()
        parts = shares(
            Cube(space),
            self.priors,
            rung=rung,
            factor=self.factor,
            top=self._top(),
            best=best,
        )
        for attempt in range(self._max_collisions):
            rng = self.rng(trial_id, attempt)
            u = rng.random()
            if best is not None and u < parts.best:
                values = mutation(space, best, rng, self.priors)
            else:
                values = self.draw(rng, use_priors=u < parts.best + parts.prior)
            if not self._duplicate(values):
                return values
        return self.new_values(trial_id)

    def may_continue(self, trial_id: str) -> bool:
        """Whether a finished trial may still be trained on, or is being trained on now."""
        self._read()
        if self._lineages.is_waiting(trial_id) or trial_id in self._taken():
            return True
        return not self._leads and super().may_continue(trial_id)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `get_state` returned."""
        super().set_state(state)
        self._forget()

    def settings(self) -> dict[str, Any]:
        """Return what must be the same when a search is resumed."""
        return {**super().settings(), "model": self.model}

    @property
    def _leads(self) -> bool:
        """Whether the model knows enough to choose."""
        return self.model and self._lineages.num_configurations >= MIN_CONFIGURATIONS

    def _read(self) -> None:
        """Take in what ended; what is being trained on does not wait."""
        self._lineages.read(self.trials, self.end_order)
        for trial_id in self._taken():
            self._lineages.take(trial_id)

    def _taken(self) -> set[str]:
        """The trials that those under way, or about to be tried again, continue."""
        waiting = [self.trials[trial_id] for trial_id in self._retry_queue]
        every = [*self._ongoing(), *waiting]
        return {str(t.hyperparameters.values.get("tuner/trial_id", "")) for t in every}

    # The brackets.

    def _incumbent(self) -> Values | None:
        """The best configuration, once a first bracket's worth of epochs was spent."""
        spent = self._lineages.num_epochs >= cost(self.brackets[:1]).epochs
        if not (spent and self._lineages.results.get(self.max_epochs)):
            return None
        every = [r for results in self._lineages.results.values() for r in results]
        return min(every, key=lambda result: result.score).values

    def _top(self) -> list[Result]:
        """The best results of the highest rung with as many as one promotion needs."""
        for epochs in sorted(self._lineages.results, reverse=True):
            results = self._lineages.results[epochs]
            if len(results) >= self.factor:
                ranked = sorted(results, key=lambda result: result.score)
                return ranked[: max(len(results) // self.factor, self.factor)]
        return []

    # The model.

    def _chosen(self, trial_id: str) -> Proposal:
        lineages, cube = self._lineages, Cube(self.hyperparameters.space)
        # Ranges may have changed since (see `reshape`); what lies outside has no place here.
        rows = [row for row in lineages.rows if cube.contains(row.values)]
        if not cube.num_dimensions or all(math.isnan(row.score) for row in rows):
            return self._unchosen(trial_id)
        choice = self._model.choose(
            cube,
            rows,
            [w for w in lineages.waiting if cube.contains(w.values)],
            [(t.hyperparameters.values, self._share(t)) for t in self._ongoing()],
            priors=self.priors,
            rng=np.random.default_rng(self.rng(f"model {trial_id.lstrip('0')}").getrandbits(64)),
        )
        if choice.waiting is not None:
            return self._continue(choice.waiting)
        for row in choice.new.u:
            values = cube.decode(row)
            if not self._duplicate(values):
                return self._begin(values)
        return self._unchosen(trial_id)

    def _unchosen(self, trial_id: str) -> Proposal:
        """Return what can be had without the model: a new draw, else what waits."""
        drawn = self.new_values(trial_id)
        return self._finishing() if drawn is None else self._begin(drawn)

    def _finishing(self) -> Proposal:
        """Train on what waits and can be paid, the furthest first; else wait or stop."""
        for waiting in sorted(self._lineages.waiting, key=lambda w: -w.share):
            values = self._continued(waiting)
            if self._is_affordable(values):
                return running(values)
        return idle_or_stopped(bool(self.ongoing_trials))

    def _begin(self, values: Values) -> Proposal:
        begun = {**values, **control(0, self._steps[0], bracket=NO_BRACKET, rung=0)}
        return running(begun) if self._is_affordable(begun) else self._finishing()

    def _continue(self, waiting: Waiting) -> Proposal:
        values = self._continued(waiting)
        return running(values) if self._is_affordable(values) else self._finishing()

    def _continued(self, waiting: Waiting) -> Values:
        done = round(waiting.share * self.max_epochs)
        rung = next(i for i, epochs in enumerate(self._steps) if epochs > done)
        steer = control(
            done, self._steps[rung], bracket=NO_BRACKET, rung=rung, parent=waiting.trial_id
        )
        return {**waiting.values, **steer}

    def _is_affordable(self, values: Values) -> bool:
        """Whether the planned iterations have as many epochs left."""
        plan = self.planned_cost
        if plan is None:
            return True
        started = sum(_paid(t.hyperparameters.values) for t in self.trials.values())
        return started + _paid(values) <= plan.epochs

    def _ongoing(self) -> list[Any]:
        return list(self.ongoing_trials.values())

    def _share(self, trial: Any) -> float:
        return self._lineages.epochs_of(trial) / self.max_epochs

    def _forget(self) -> None:
        """Start anew from the trials, which are all there is to know."""
        self._model = CurveModel()
        self._lineages = Lineages(self.objective, self._milestones, MAX_WAITING)


def _paid(values: Mapping[str, Any]) -> int:
    return int(values["tuner/epochs"]) - int(values["tuner/initial_epoch"])
