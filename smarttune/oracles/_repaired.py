"""What all oracles share: KerasTuner's contract with its defects repaired.

A strategy inherits from `RepairedOracle` and writes `propose`. It is given
seeded draws (`rng`, `new_values`), priors, the recommended configurations
first, failures as outcomes, files that are whole, and a lock that an exception
releases.

Proposals are a function of the seed and of the order of the calls
`create_trial` and `end_trial` alone: each draw has its own generator, seeded
with a hash of the seed, the trial and the attempt. So neighbouring seeds share
nothing, and nothing but the trials has to be saved to go on as if never
interrupted.
"""

from __future__ import annotations

import abc
import collections
import copy
import hashlib
import itertools
import math
import random
import secrets
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from smarttune.errors import RunError
from smarttune.oracles import _domain, _outcomes, _project, _reshaping
from smarttune.oracles._domain import Values
from smarttune.oracles._options import OracleOptions, locked
from smarttune.oracles._outcomes import Proposal
from smarttune.oracles.directions import with_direction
from smarttune.space import Dimension, Prior, Value

# ours: half of the draws follow the priors, the other half is uniform, so that a wrong prior
# costs at most a factor of two. PriorBand's share on its lowest rung is the same (Mallik et
# al. 2023, p_U = 1 / (1 + eta^0)).
PRIOR_SHARE = 0.5


class RepairedOracle(keras_tuner.Oracle, abc.ABC):  # type: ignore[misc]
    """Base of all oracles.

    Args:
        objective: A metric's name, a `keras_tuner.Objective`, a list of them, or None.
        max_trials: Most trials to run, failed ones included; None means no limit.
        **options: See `OracleOptions`.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = None,
        **options: Unpack[OracleOptions],
    ) -> None:
        self._lock = threading.RLock()
        given: dict[str, Any] = dict(options)
        seed = given.pop("seed", None)
        self.initial_trials = tuple(dict(values) for values in given.pop("initial_trials", ()))
        self.priors: dict[str, Prior] = dict(given.pop("priors", None) or {})
        self.persist = bool(given.pop("persist", True))
        # Any seed but 0 and None keeps KerasTuner away from the global random generator.
        super().__init__(with_direction(objective), max_trials=max_trials, seed=1, **given)
        self.seed: int = secrets.randbits(31) if seed is None else int(seed)
        self._seed_state = self.seed
        self.verbose = 0
        self._directory: Any = None
        self._num_initial_taken = 0
        # Digits of a trial's id where the trials of another budget are told again.
        self.id_width: int | None = None
        # A promotion has the hash of its parent, so a hash may stand for several trials.
        self._num_with_hash: collections.Counter[str] = collections.Counter()

    # What a strategy writes.

    @abc.abstractmethod
    def propose(self, trial_id: str) -> Proposal:
        """Return `running(values)`, `idle()` or `stopped()` for a new trial."""

    def frame(self, values: Values) -> Values:
        """Add to an initial configuration what the tuner must know, such as epochs."""
        return values

    def may_continue(self, trial_id: str) -> bool:
        """Whether a finished trial may still be continued; a tuner keeps its state as long."""
        del trial_id
        return False

    def settings(self) -> dict[str, Any]:
        """Return what must be the same when a search is resumed."""
        return {"strategy": type(self).__name__, "objective": str(self.objective)}

    # What a strategy uses.

    def rng(self, trial_id: str, attempt: int = 0) -> random.Random:
        """Return the random generator of one attempt at one trial."""
        # Leading zeros depend on max_trials; draws should not.
        text = f"{self.seed}|{trial_id.lstrip('0')}|{attempt}"
        return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest()))

    def new_values(self, trial_id: str) -> Values | None:
        """Draw a configuration that was not tried; None if there seems to be none left."""
        for attempt in range(self._max_collisions):
            rng = self.rng(trial_id, attempt)
            values = self.draw(rng, use_priors=rng.random() < PRIOR_SHARE)
            if not self._duplicate(values):
                return values
        untried = _domain.untried(self.hyperparameters.space, self._duplicate)
        return self.rng(trial_id, self._max_collisions).choice(untried) if untried else None

    def draw(self, rng: random.Random, *, use_priors: bool) -> Values:
        """Draw a configuration, tried or not."""
        values: Values = {}
        for hp in self.hyperparameters.space:
            u = rng.random()  # drawn for inactive ones too, so that branches stay comparable
            if hp.name not in values and _domain.is_active(hp, values):
                prior = self.priors.get(hp.name) if use_priors else None
                values[hp.name] = _domain.draw(hp, u, prior)
        return values

    def exhausted(self) -> Proposal:
        """Answer when no configuration is left; running trials may still find some."""
        return _outcomes.idle_or_stopped(
            bool(self.ongoing_trials) and not self.hyperparameters.space
        )

    # KerasTuner's contract.

    def populate_space(self, trial_id: str) -> Proposal:
        """Return the status and values of a new trial: initial ones first."""
        initial = self._next_initial()
        if initial is not None:
            return _outcomes.running(self.frame(initial))
        return self.propose(str(trial_id))

    def create_trial(self, tuner_id: str) -> Any:
        """Return the trial that this tuner shall run, or one that says to wait or stop."""
        return self.create_trials([tuner_id])[0]

    @locked
    def create_trials(self, tuner_ids: Sequence[str]) -> list[Any]:
        """Return trials for several tuners at once, as many as may run now.

        The proposals are those of asking one after the other, up to the first answer to
        wait or to stop.

        Args:
            tuner_ids: Who asks; one that already has a trial gets it again.

        Returns:
            Running trials in the order of the tuners, fewer than asked for if no more may
            run now; if none may, the one trial that says to wait or stop.
        """
        running: list[Any] = []
        num_ongoing = len(self.ongoing_trials)
        try:
            for tuner_id in dict.fromkeys(tuner_ids):
                trial = self.ongoing_trials.get(tuner_id) or self._assign(tuner_id)
                if trial.status != TrialStatus.RUNNING:
                    return running or [trial]
                running.append(trial)
        finally:
            # One write for all, also of those that were assigned before an error.
            if len(self.ongoing_trials) > num_ongoing:
                self.save()
        return running

    @locked
    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> Any:
        """Record the metrics of a trial at a step; values that are no numbers are allowed.

        Raises:
            ValueError: If the objective is not among the metrics.
        """
        trial = self.trials[trial_id]
        self._check_objective_found(metrics)
        for name, value in metrics.items():
            if not trial.metrics.exists(name):
                trial.metrics.register(name, direction=_outcomes.direction(name, self.objective))
            trial.metrics.metrics[name].update(float(value), step=step)
        self._save_trial(trial)
        return trial

    def score_trial(self, trial: Any) -> None:
        """Set the trial's score to the best finite value of the objective, else to nan."""
        best = _outcomes.best_score(trial.metrics, self.objective)
        if best is None:
            raise RunError(
                f"trial {trial.trial_id}",
                received=f"it completed without a value of `{self.objective.name}`",
                expected="the objective among the reported metrics",
                mend="Report it with update_trial before end_trial.",
            )
        trial.score, trial.best_step = best

    @locked
    def end_trial(self, trial: Any, status: str = TrialStatus.COMPLETED) -> None:
        """Take note of how a trial ended.

        Args:
            trial: The trial with its status and message, or its id (KerasTuner's old form).
            status: The status, where only an id is given.

        Raises:
            ConsecutiveFailuresError: If trials keep crashing.
        """
        known = self.trials[trial if isinstance(trial, str) else trial.trial_id]
        if isinstance(trial, str):
            known.status = status
        else:
            known.hyperparameters = trial.hyperparameters
            known.status, known.message = trial.status, trial.message
        if known.status == TrialStatus.COMPLETED:
            self._judge(known)
        self._run_times[known.trial_id] += 1
        self._settle(known)
        self._save_trial(known)
        for tuner_id in [k for k, t in self.ongoing_trials.items() if t is known]:
            del self.ongoing_trials[tuner_id]
        self.save()
        if known.trial_id in self._display.trial_start:
            self._display.on_trial_end(known)
        self._check_consecutive_failures()

    @locked
    def get_best_trials(self, num_trials: int = 1) -> list[Any]:
        """Return the best completed trials; fewer than asked for if there are no more."""
        # Not by start order: scripts put trials of earlier searches into `trials` by hand.
        done = [t for t in self.trials.values() if _outcomes.is_completed(t)]
        sign = -1 if self.objective.direction == "max" else 1
        return sorted(done, key=lambda t: sign * t.score)[:num_trials]

    @locked
    def reshape(self, changes: Sequence[Dimension]) -> None:
        """Propose by other ranges and priors from now on; trials so far keep their values.

        Args:
            changes: Declared hyperparameters with their new range, default and prior.

        Raises:
            SettingError: If one of them is not declared.
        """
        dimensions = {d.name: d for d in changes}
        for dimension in dimensions.values():
            _reshaping.swap(self.hyperparameters, dimension)
            self.priors.pop(dimension.name, None)
            if dimension.prior is not None:
                self.priors[dimension.name] = dimension.prior
        taken, space = self._num_initial_taken, list(self.hyperparameters.space)
        waiting = [_reshaping.moved(v, space, {*dimensions}) for v in self.initial_trials[taken:]]
        self.initial_trials = (*self.initial_trials[:taken], *waiting)
        # A model of past trials is made anew, under the new ranges.
        self.set_state(self.get_state())

    # Files.

    def _set_project_dir(self, directory: Any, project_name: str) -> None:
        if self.persist:
            _project.local_folder(directory)
        super()._set_project_dir(directory, project_name)

    @locked
    def save(self) -> None:
        """Write the oracle's file, whole or not at all."""
        if self._keeps_files:
            _project.write_json(Path(self._get_oracle_fname()), self.get_state())

    @locked
    def reload(self) -> None:
        """Read the project's files; trials that ran at the end wait to be run again.

        Raises:
            RunError: If a file is missing or damaged, or another search wrote it.
        """
        if not self._keeps_files:
            return
        state = _project.read_json(Path(self._get_oracle_fname()))
        self.trials = {
            trial_id: Trial.from_state(_project.read_json(self._trial_file(trial_id)))
            for trial_id in state.get("start_order", [])
        }
        self.set_state(state)
        self.ongoing_trials.clear()
        for trial in self._in_start_order():
            if trial.trial_id in self.end_order or trial.trial_id in self._retry_queue:
                continue
            # Either the oracle's file missed the end of the trial, or the trial never ended.
            if _outcomes.is_over(trial):
                self._settle(trial)
            else:
                self._retry_queue.append(trial.trial_id)

    def get_state(self) -> dict[str, Any]:
        """Return everything but the trials, fit for JSON."""
        state: dict[str, Any] = super().get_state()
        del state["tried_so_far"]  # the hashes of the trials are written once already
        state["settings"] = self.settings()
        state["num_initial_taken"] = self._num_initial_taken
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `get_state` returned.

        Raises:
            RunError: If another search wrote it.
        """
        _project.check_settings(self.settings(), state.get("settings", {}))
        # KerasTuner changes what it reads.
        super().set_state({**copy.deepcopy(dict(state)), "tried_so_far": []})
        self._num_with_hash = collections.Counter(self._id_to_hash.values())
        self._tried_so_far = set(self._num_with_hash)
        self._num_initial_taken = state.get("num_initial_taken", 0)

    def _save_trial(self, trial: Any) -> None:
        if self._keeps_files:
            _project.write_json(self._trial_file(trial.trial_id), trial.get_state())

    @property
    def _keeps_files(self) -> bool:
        return self.persist and self._directory is not None

    def _trial_file(self, trial_id: str) -> Path:
        return Path(self._project_dir) / f"trial_{trial_id}" / "trial.json"

    # Trials.

    def _assign(self, tuner_id: str) -> Any:
        """Find a trial for a tuner that has none."""
        self.tuner_ids.add(tuner_id)
        trial = self._restarted() if self._retry_queue else self._new_trial()
        if trial.status == TrialStatus.RUNNING:
            self.ongoing_trials[tuner_id] = trial
            self._save_trial(trial)
            self._display.on_trial_begin(trial)
        elif trial.status == TrialStatus.STOPPED:
            self.tuner_ids.discard(tuner_id)
        return trial

    def _new_trial(self) -> Any:
        # KerasTuner's numbering: as many digits as max_trials has, four without a limit.
        width = self.id_width or len(str(self.max_trials))
        trial_id = str(len(self.trials)).zfill(width)
        if self.max_trials and len(self.trials) >= self.max_trials:
            proposal = _outcomes.stopped()
        else:
            proposal = self.populate_space(trial_id)
        hyperparameters = self.hyperparameters.copy()
        hyperparameters.values = proposal.get("values") or {}
        trial = Trial(hyperparameters, trial_id=trial_id, status=proposal["status"])
        if trial.status == TrialStatus.RUNNING:
            self.trials[trial_id] = trial
            self.start_order.append(trial_id)
            self._record_values(trial)
        return trial

    def _restarted(self) -> Any:
        trial = self.trials[self._retry_queue.pop(0)]
        trial.status, trial.message = TrialStatus.RUNNING, None
        trial.metrics = type(trial.metrics)()  # what the earlier run reported is not this one's
        return trial

    def _judge(self, trial: Any) -> None:
        """Score a completed trial; one without a finite score has diverged."""
        self.score_trial(trial)
        if not math.isfinite(trial.score):
            trial.message = f"{_outcomes.DIVERGED} {self.objective.name} is not a finite number"
            trial.status, trial.score = TrialStatus.INVALID, None

    def _settle(self, trial: Any) -> None:
        """Learn a trial's values and put it where it belongs: ended, or to be run again."""
        self.update_space(trial.hyperparameters)
        self._record_values(trial)
        if trial.status == TrialStatus.INVALID:
            if self._run_times[trial.trial_id] <= self.max_retries_per_trial:
                self._retry_queue.append(trial.trial_id)
                return
            trial.status = TrialStatus.FAILED
        self.end_order.append(trial.trial_id)

    def _check_consecutive_failures(self) -> None:
        limit = self.max_consecutive_failed_trials
        if not limit:
            return
        last_first = (self.trials[trial_id] for trial_id in reversed(self.end_order))
        streak = itertools.takewhile(_outcomes.has_crashed, itertools.islice(last_first, limit))
        crashed = list(streak)
        if len(crashed) == limit:
            raise _outcomes.ConsecutiveFailuresError(limit, crashed[0].message)

    def _in_start_order(self) -> list[Any]:
        return [self.trials[trial_id] for trial_id in self.start_order]

    # Configurations.

    def _next_initial(self) -> Values | None:
        while self._num_initial_taken < len(self.initial_trials):
            values = _domain.complete(
                self.hyperparameters.space,
                self.initial_trials[self._num_initial_taken],
                allow_unknown=self.allow_new_entries,
            )
            self._num_initial_taken += 1
            if not self._duplicate(values):
                return values
        return None

    def _compute_values_hash(self, values: Mapping[str, Value]) -> str:
        return _domain.fingerprint(values)

    def _record_values(self, trial: Any) -> None:
        _domain.settle(trial.hyperparameters)
        new = self._compute_values_hash(trial.hyperparameters.values)
        old = self._id_to_hash.get(trial.trial_id)
        if new == old:
            return
        self._id_to_hash[trial.trial_id] = new
        self._num_with_hash[new] += 1
        self._tried_so_far.add(new)
        if old is not None:
            self._num_with_hash[old] -= 1
            if not self._num_with_hash[old]:
                del self._num_with_hash[old]
                self._tried_so_far.discard(old)
