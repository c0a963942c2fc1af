"""Hyperband: many short trainings, the best of them continued."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from smarttune.errors import OptionError
from smarttune.fidelity import Bracket, Cost, cost, hyperband_brackets
from smarttune.oracles import _domain, _outcomes
from smarttune.oracles._control import NO_BRACKET, control
from smarttune.oracles._domain import Values
from smarttune.oracles._ladder import Entry, Ladder, State, ladder_from_state
from smarttune.oracles._options import OracleOptions
from smarttune.oracles._outcomes import Proposal, idle_or_stopped, running
from smarttune.oracles._repaired import RepairedOracle


class HyperbandOracle(RepairedOracle):
    """Runs the brackets of Hyperband (Li et al. 2018, see `smarttune.fidelity`).

    Tells the tuner what to train by the values that KerasTuner's own tells it (see
    `smarttune.oracles._control`).

    Args:
        objective: A metric's name, a `keras_tuner.Objective`, a list of them, or None.
        max_epochs: Epochs of a full training.
        min_epochs: Fewest epochs after which trials are compared.
        factor: One trial in so many is kept at each rung; 3 as in Li et al. 2018.
        hyperband_iterations: How often all brackets are run; None means without end.
        num_full_initial_trials: So many of the initial trials are trained in full, first,
            outside the brackets; further ones are the first configurations of the brackets.
            None means all of them.
        **options: See `OracleOptions`.

    Raises:
        OptionError: If epochs, factor and iterations do not fit together.
    """

    def __init__(
        self,
        objective: Any = None,
        max_epochs: int = 100,
        *,
        min_epochs: int = 1,
        factor: int = 3,
        hyperband_iterations: int | None = 1,
        num_full_initial_trials: int | None = None,
        **options: Unpack[OracleOptions],
    ) -> None:
        self.brackets: tuple[Bracket, ...] = hyperband_brackets(min_epochs, max_epochs, factor)
        if hyperband_iterations is not None and hyperband_iterations < 1:
            raise OptionError(
                "hyperband_iterations",
                received=f"hyperband_iterations is {hyperband_iterations}",
                expected="a whole number of at least 1, or None",
                mend="Give the number of times that all brackets are run.",
            )
        self.max_epochs = max_epochs
        self.min_epochs = min_epochs
        self.factor = factor
        self.hyperband_iterations = hyperband_iterations
        self._ladders: list[Ladder] = []
        self._num_opened = 0  # brackets started so far, over all iterations
        super().__init__(objective, None, **options)
        num_initial = len(self.initial_trials)
        wanted = num_initial if num_full_initial_trials is None else num_full_initial_trials
        self.num_full_initial_trials = min(num_initial, wanted)

    @property
    def planned_cost(self) -> Cost | None:
        """Trials and epochs if no trial fails; None for a search without end."""
        if self.hyperband_iterations is None:
            return None
        return cost(
            self.brackets,
            iterations=self.hyperband_iterations,
            num_full_trials=self.num_full_initial_trials,
        )

    def populate_space(self, trial_id: str) -> Proposal:
        """Return the status and values of a new trial: the recommendation first."""
        if self._num_initial_taken < self.num_full_initial_trials:
            return super().populate_space(trial_id)
        return self.propose(str(trial_id))

    def propose(self, trial_id: str) -> Proposal:
        """Return a promotion if one is due, else a new configuration, oldest bracket first."""
        self._ladders = [x for x in self._ladders if not x.is_finished(self._state_of)]
        for ladder in self._ladders:
            proposal = self._promote(ladder, trial_id) or self._start(ladder, trial_id)
            if proposal:
                return proposal
        return self._open(trial_id) or idle_or_stopped(bool(self.ongoing_trials))

    def may_continue(self, trial_id: str) -> bool:
        """Whether the state of a finished trial may still be needed by a promotion."""
        return any(ladder.may_continue(trial_id, self._state_of) for ladder in self._ladders)

    def sample(self, trial_id: str, bracket: Bracket) -> Values | None:
        """Return a new configuration for a bracket; None if the space holds no more.

        What a strategy that samples otherwise (PriorBand, BOHB) overrides.
        """
        del bracket  # Hyperband samples alike everywhere
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

    def get_state(self) -> dict[str, Any]:
        """Return everything but the trials, fit for JSON."""
        return {
            **super().get_state(),
            "ladders": [ladder.to_state() for ladder in self._ladders],
            "num_opened": self._num_opened,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `get_state` returned."""
        super().set_state(state)
        self._ladders = [ladder_from_state(s, self.brackets) for s in state["ladders"]]
        self._num_opened = state["num_opened"]

    def _promote(self, ladder: Ladder, trial_id: str) -> Proposal | None:
        due = ladder.promotion(self._state_of, self._rank)
        if due is None:
            return None
        rung, parent = due
        ladder.rungs[rung].append(Entry(trial_id, parent))
        plan = ladder.bracket.rungs
        return running(
            {
                **_domain.configuration(self.trials[parent].hyperparameters.values),
                **control(
                    plan[rung - 1].epochs,
                    plan[rung].epochs,
                    bracket=ladder.bracket.number,
                    rung=rung,
                    parent=parent,
                ),
            }
        )

    def _start(self, ladder: Ladder, trial_id: str) -> Proposal | None:
        if not ladder.wants_configuration(self._state_of):
            return None
        values = self._next_initial() or self.sample(trial_id, ladder.bracket)
        if values is not None:
            return self._enter(ladder, trial_id, values)
        if not self.hyperparameters.space and self.ongoing_trials:
            return None  # the first trial has yet to declare its hyperparameters
        ladder.closed = True
        return self._promote(ladder, trial_id)

    def _open(self, trial_id: str) -> Proposal | None:
        """Start the next bracket, if there is one and a configuration for it."""
        iteration, position = divmod(self._num_opened, len(self.brackets))
        if self.hyperband_iterations is not None and iteration >= self.hyperband_iterations:
            return None
        values = self._next_initial() or self.sample(trial_id, self.brackets[position])
        if values is None:
            return None
        self._num_opened += 1
        self._ladders.append(Ladder(self.brackets[position], iteration))
        return self._enter(self._ladders[-1], trial_id, values)

    def _enter(self, ladder: Ladder, trial_id: str, values: Values) -> Proposal:
        ladder.rungs[0].append(Entry(trial_id, ""))
        epochs, number = ladder.bracket.rungs[0].epochs, ladder.bracket.number
        return running({**values, **control(0, epochs, bracket=number, rung=0)})

    def _state_of(self, trial_id: str) -> State:
        trial = self.trials.get(trial_id)
        if trial is not None and _outcomes.has_failed(trial):
            return "failed"
        return "done" if trial is not None and _outcomes.is_completed(trial) else "open"

    def _rank(self, trial_id: str) -> float:
        score = float(self.trials[trial_id].score)
        return -score if self.objective.direction == "max" else score
