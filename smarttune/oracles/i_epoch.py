"""i-Epoch: all configurations for a few epochs, then the best of them to the end.

Source: Egele, Guyon, Sun, Balaprakash (2023), "Is One Epoch All You Need For
Multi-Fidelity Hyperparameter Optimization?", ESANN: stopping every trial after
one epoch and training the best three on does about as well as methods with
many rungs, for less. The default here is five epochs, ours: on the learning
curves that we measured one epoch was too few to tell trials apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from smarttune.errors import OptionError
from smarttune.fidelity import Bracket, Cost, Rung, cost
from smarttune.oracles import _domain
from smarttune.oracles._control import NO_BRACKET, control
from smarttune.oracles._domain import Values
from smarttune.oracles._options import OracleOptions
from smarttune.oracles._outcomes import Proposal, idle, idle_or_stopped, running
from smarttune.oracles._repaired import RepairedOracle
from smarttune.oracles._rungs import Rungs

# ours: see above.
DEFAULT_EPOCHS = 5

# Egele et al. 2023 train the best three in full.
DEFAULT_FINALISTS = 3


class IEpochOracle(RepairedOracle):
    """Compares configurations after a fixed number of epochs and finishes the best.

    The simple rival that an elaborate strategy has to beat. Tells the tuner what Hyperband
    tells it (see `smarttune.oracles._control`).

    Args:
        objective: A metric's name, a `keras_tuner.Objective`, a list of them, or None.
        max_trials: Configurations to compare, failed ones included; the finalists are
            trials besides, as are initial ones.
        num_epochs: Epochs after which they are compared.
        num_finalists: How many of them are trained on; one that fails is replaced by the
            next best.
        max_epochs: Epochs of a full training.
        **options: See `OracleOptions`. Initial trials are trained in full, first.

    Raises:
        OptionError: If one of the numbers is too small, or `num_epochs` is not below
            `max_epochs`.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int = 10,
        *,
        num_epochs: int = DEFAULT_EPOCHS,
        num_finalists: int = DEFAULT_FINALISTS,
        max_epochs: int = 100,
        **options: Unpack[OracleOptions],
    ) -> None:
        _check("max_trials", max_trials, max_trials >= 1, "at least 1")
        _check("num_finalists", num_finalists, num_finalists >= 1, "at least 1")
        _check("num_epochs", num_epochs, num_epochs >= 1, "at least 1")
        fits = num_epochs < max_epochs
        _check("num_epochs", num_epochs, fits, f"below max_epochs, which is {max_epochs}")
        self.num_configurations = max_trials
        self.num_epochs = num_epochs
        self.num_finalists = min(num_finalists, max_trials)
        self.max_epochs = max_epochs
        super().__init__(objective, None, **options)  # promotions do not count
        self._rungs = Rungs(2, self.objective.direction)

    @property
    def planned_cost(self) -> Cost:
        """Trials and epochs if no trial fails and the space is large enough."""
        first = Rung(self.num_epochs, self.num_configurations)
        plan = Bracket(1, (first, Rung(self.max_epochs, self.num_finalists)))
        return cost([plan], num_full_trials=len(self.initial_trials))

    def propose(self, trial_id: str) -> Proposal:
        """Return a new configuration until there are enough, then the finalists."""
        self._rungs.follow(self)
        first, last = self._rungs.rungs
        if first.num_started < self.num_configurations:
            values = self.new_values(trial_id)
            if values is not None:
                return running({**values, **control(0, self.num_epochs, bracket=1, rung=0)})
            if self.ongoing_trials and not self.hyperparameters.space:
                return idle()  # the first trial has yet to declare its hyperparameters
        # Even if all that runs beat the best that waits, it would be a finalist.
        if first.waiting and self.num_finalists - last.num_held > first.num_open:
            return self._promote(first.waiting[0].trial_id)
        return idle_or_stopped(bool(self.ongoing_trials))

    def may_continue(self, trial_id: str) -> bool:
        """Whether the state of a finished trial may still be needed by a promotion."""
        self._rungs.follow(self)
        if self._rungs.is_continued(trial_id):
            return True
        # Finalists may fail one after the other, so every trial that waits may be the next.
        is_decided = self._rungs.rungs[1].num_completed >= self.num_finalists
        return not is_decided and self._rungs.num_ahead(trial_id) is not None

    def frame(self, values: Values) -> Values:
        """Train an initial configuration in full at once."""
        return {**values, **control(0, self.max_epochs, bracket=NO_BRACKET, rung=0)}

    def settings(self) -> dict[str, Any]:
        """Return what must be the same when a search is resumed."""
        return {
            **super().settings(),
            "num_epochs": self.num_epochs,
            "max_epochs": self.max_epochs,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `get_state` returned."""
        super().set_state(state)
        self._rungs = Rungs(2, self.objective.direction)

    def _promote(self, parent: str) -> Proposal:
        steering = control(self.num_epochs, self.max_epochs, bracket=1, rung=1, parent=parent)
        return running(
            {**_domain.configuration(self.trials[parent].hyperparameters.values), **steering}
        )


def _check(name: str, value: int, fits: bool, expected: str) -> None:
    if not fits:
        raise OptionError(
            name,
            received=f"{name} is {value}",
            expected=f"a whole number {expected}",
            mend=f"Give `{name}` such a value.",
        )
