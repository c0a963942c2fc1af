"""`SmartTuner`: KerasTuner's search loop with its defects repaired.

Takes any `keras_tuner.Oracle` and any `keras_tuner.HyperModel`. What differs:

- a finished trial is in the run's study before the oracle hears of it, and a search
  is resumed by telling a fresh oracle the recorded trials in their order, so that a
  resumed search proposes what an uninterrupted one would have;
- a promoted trial continues with weights, optimizer, step count, seeds and order of
  the data, not with the weights of its best epoch alone;
- a diverged trial is an outcome, a programming error in the first trial stops the
  search with its traceback, and out of memory costs one trial;
- budgets of time and epochs hold.
"""

from __future__ import annotations

import copy
import math
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
from keras_tuner.engine.trial import Trial, TrialStatus

from smarttune.execution import (
    TrainingData,
    collect_garbage,
    fit_arrays,
    prepare_process,
    release_memory,
)
from smarttune.oracles import CUT_SHORT
from smarttune.training import WindowedStopping, restore_state
from smarttune.training.averaging import AveragedWeights
from smarttune.training.checkpoint import set_state
from smarttune.trials import TrialRecord
from smarttune.tuning.adapting import Adapt
from smarttune.tuning.budget import Budget, Clock
from smarttune.tuning.checkpoints import copy_trial, keep_trial, prune
from smarttune.tuning.costs import costs_in, front_of, goal_of, with_costs
from smarttune.tuning.foreign import ForeignWatcher, averaged, executions
from smarttune.tuning.interrupted import ProgressKeeper, best_of, going_on, left_of
from smarttune.tuning.living import LivingSearch
from smarttune.tuning.planning import batch_size_of, plan_of
from smarttune.tuning.policy import TrialPlan, TrialPolicy
from smarttune.tuning.recorded import RecordedTuner, open_run
from smarttune.tuning.recording import (
    bookkeeping,
    configuration,
    is_another,
    is_out_of_memory,
    record_of,
    told,
)
from smarttune.tuning.run import Run
from smarttune.tuning.watching import (
    DIVERGED,
    EARLY_STOPPING,
    TIME_LIMIT,
    TrialWatcher,
    guard_of,
)

OnEvent = Callable[[Mapping[str, Any]], None]


class SmartTuner(RecordedTuner):
    """Runs trials and keeps them in a run directory.

    Args:
        oracle: Proposes trials; ours or any of KerasTuner's.
        hypermodel: Builds models; a `keras_tuner.HyperModel` or a function of `hp`.
        directory: With `project_name` the run directory; a run found there is resumed.
        project_name: See `directory`.
        run: An open run, instead of the two.
        policy: How trials are trained.
        budget: What the search may spend beside what the oracle limits.
        on_event: Called with every event, epochs included.
        clock: Counts the time budget; made from `budget` if None.
        adapt: Told the finished trials and the adaptations so far after each trial, says what
            else changes (see `smarttune.tuning.adapting`); None leaves the space as it is.
        overwrite: Delete what the run directory holds, and begin anew.
        **options: Further arguments of `keras_tuner.Tuner`, such as `executions_per_trial`.

    Example:
        >>> tuner = SmartTuner(RandomOracle("val_loss", max_trials=10), build_model,
        ...                    directory="runs", project_name="first")
        >>> tuner.search(x, y, validation_data=(xv, yv), epochs=20)
    """

    def __init__(
        self,
        oracle: Any,
        hypermodel: Any = None,
        *,
        directory: str | Path | None = None,
        project_name: str | None = None,
        run: Run | None = None,
        policy: TrialPolicy | None = None,
        budget: Budget | None = None,
        on_event: OnEvent | None = None,
        clock: Clock | None = None,
        adapt: Adapt | None = None,
        overwrite: bool = False,
        **options: Any,
    ) -> None:
        if run is None:
            run = open_run(oracle, directory, project_name, overwrite=overwrite)
        self.run = run
        self.policy = policy if policy is not None else TrialPolicy()
        self.budget = budget if budget is not None else Budget()
        self.on_event = on_event
        self.clock = clock if clock is not None else Clock(self.budget.seconds)
        self.goal = goal_of(oracle.objective)
        self.records: dict[str, TrialRecord] = {r.trial_id: r for r in self.run.log}
        # The study is the record; KerasTuner's own files would be a second one.
        if hasattr(oracle, "persist"):
            oracle.persist = False
        super().__init__(
            oracle, hypermodel, directory=str(run.path), project_name="kerastuner", **options
        )
        self.directory, self.project_name = str(run.path.parent), run.path.name
        self.oracle.verbose = 0
        self._living = LivingSearch(self, adapt, self._event)
        self._starts: list[float] = []  # seconds until the first epoch of each trial was over
        self._replay()

    # The loop.

    def search(self, *args: Any, **kwargs: Any) -> None:
        """Search until the oracle or the budget says stop.

        Args:
            *args: As for `Model.fit`, or one `TrainingData`.
            **kwargs: As for `Model.fit`. `epochs` limits every trial where the oracle
                gives none.
        """
        prepare_process()
        with self.run.locked():
            if self.records:
                self._event("resumed", num_trials=len(self.records))
            self.on_search_begin()
            while (reason := self._spent()) == "":
                self.pre_create_trial()
                trial = self.oracle.create_trial(self.tuner_id)
                if trial.status != TrialStatus.RUNNING:
                    reason = "the strategy is done"
                    break
                self._run(trial, *args, **kwargs)
            self._event("trials_ended", reason=reason, num_trials=len(self.records))
            self.on_search_end()

    def _spent(self) -> str:
        """Which part of the budget is used up; "" while there is some left.

        The first trial is always run, be it for one epoch: a search ends with a model.
        """
        if self.records and not self.clock.has_room_for(self._least_useful()):
            return "the time is up"
        if self.budget.trials is not None and len(self.records) >= self.budget.trials:
            return "all trials are run"
        if self.budget.epochs is not None and self.log.num_epochs >= self.budget.epochs:
            return "all epochs are trained"
        return self._living.ended

    def _least_useful(self) -> float:
        """Seconds for which a trial is worth starting: until its first epoch is over.

        The clock cuts it then, so that no tail is lost; no trial so far that was shorter shows
        that even less will do.
        """
        shortest = min((r.seconds for r in self.records.values() if r.seconds > 0), default=0.0)
        return min(shortest, max(self._starts, default=shortest))

    def _run(self, trial: Trial, *args: Any, **kwargs: Any) -> None:
        values = configuration(trial)
        self._event("trial_started", trial_id=trial.trial_id, values=values)
        self.on_trial_begin(trial)
        record = self._attempted(trial, args, kwargs)
        self.run.record(record)
        self.records[record.trial_id] = record
        self._tell(trial, record, self.on_trial_end)
        self._living.tell(record)
        front = front_of(self.log, costs_in(self.oracle.objective))
        prune(self.run, self.log, getattr(self.oracle, "may_continue", None), front=front)
        collect_garbage(len(self.records))
        self._event(
            "trial_finished",
            **record.model_dump(mode="json", exclude={"curve"}),
            best_score=ranked[0].score if (ranked := self.log.ranked()) else None,
        )

    def _tell(
        self, trial: Trial, record: TrialRecord, end: Callable[[Trial], None] | None = None
    ) -> None:
        """Report a finished trial to the oracle; `end` is what ends it there, if not it itself."""
        if record.is_scored:
            for epoch, metrics in told(record, self.goal, self.oracle):
                everything = self._everything(record, epoch, metrics)
                self.oracle.update_trial(trial.trial_id, everything, step=epoch)
            trial.status = TrialStatus.COMPLETED
            trial.message = CUT_SHORT if record.message == TIME_LIMIT else None
        else:
            trial.status = TrialStatus.FAILED
            trial.message = record.message
        (end or self.oracle.end_trial)(trial)

    def _replay(self) -> None:
        """Bring a fresh oracle to where the recorded trials left it."""
        limit = self.oracle.max_consecutive_failed_trials
        last = next(reversed(self.records), "")
        self.oracle.id_width = len(last) or None  # a resumed search may have another budget
        self.oracle.max_consecutive_failed_trials = None  # judged when these trials ran
        for record in self.records.values():
            trial = self.oracle.create_trial(self.tuner_id)
            if trial.status != TrialStatus.RUNNING or trial.trial_id != record.trial_id:
                self._event("warning", text="the strategy ends before its recorded trials")
                break
            if is_another(trial, record):
                self._event(
                    "warning",
                    text=f"trial {record.trial_id} would be proposed otherwise today; the record stands",
                )
                trial.hyperparameters.values = {**record.values, **bookkeeping(trial, record)}
            self._tell(trial, record)
            self._living.tell(record, is_last=record.trial_id == last)
        self.oracle.max_consecutive_failed_trials = limit

    # One trial.

    def run_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> TrialRecord:
        """Train one trial and return its record.

        A subclass may override this as in KerasTuner and return a history, a dict of
        metrics or a number.
        """
        plan = self._plan(trial, kwargs.pop("epochs", None))
        if plan.parent is not None and plan.parent.message == EARLY_STOPPING:
            return self._carried_over(trial, plan, time.time())
        records: list[TrialRecord] = []
        for execution in executions(plan, self.executions_per_trial):
            self._to_beat = [r.score for r in records]
            record = self._execute(trial, execution, args, kwargs)
            if not record.is_scored:
                return record
            records.append(record)
        return averaged(records, self.goal)

    def _execute(
        self, trial: Trial, plan: TrialPlan, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> TrialRecord:
        """Train a trial once."""
        began, started = time.monotonic(), time.time()
        left = left_of(self.run, trial.trial_id, configuration(trial), plan)
        if left is not None:
            plan = replace(plan, num_micro_batches=left.num_micro_batches)
            began -= left.seconds
        while True:
            going = going_on(plan, left)
            watcher: Any = self._watcher(trial, going, args)
            watcher.best_weights = best_of(self.run, left)
            try:
                model = self._train(trial, going, watcher, args, kwargs)
            except Exception as error:
                if not (is_out_of_memory(error) and self._can_cut(trial, going, args)):
                    if self._is_fatal(error):
                        raise
                    return self._failed(trial, plan, error, (began, started))
            else:
                record = self._finished(trial, plan, watcher, model, (began, started))
                return with_costs(record, self.oracle.objective, model, args)
            # Only here is the error gone, whose traceback holds the model, and so is its memory.
            watcher = None
            release_memory()
            plan = self._cut(trial, plan)

    def _train(
        self,
        trial: Trial,
        plan: TrialPlan,
        watcher: TrialWatcher,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Build a trial's model, put it where its parent stopped, and train it."""
        keras.utils.set_random_seed(plan.seed)
        if hasattr(self.hypermodel, "prepare"):
            self.hypermodel.prepare(plan.seed, plan.num_micro_batches)
        model = self._build_hypermodel(trial.hyperparameters)
        was_built = self._checked(model).built
        if plan.epochs.start:
            assert plan.parent is not None
            self._build_like(model, plan.parent.trial_id)
            set_state(model, restore_state(self.run.state_path(plan.parent.trial_id)))
        self._fit(trial, model, plan, watcher, args, kwargs)
        if not was_built:
            self._keep_build(model, trial.trial_id)
        return model

    def _can_cut(self, trial: Trial, plan: TrialPlan, args: tuple[Any, ...]) -> bool:
        """Whether half the samples at a time may fit where the whole batch did not."""
        batch_size = batch_size_of(trial.hyperparameters.values)
        return (
            plan.parent is None  # its state holds no room for summed gradients
            and hasattr(self.hypermodel, "prepare")
            and bool(args)
            and isinstance(args[0], TrainingData)
            and batch_size >= 2 * plan.num_micro_batches
        )

    def _cut(self, trial: Trial, plan: TrialPlan) -> TrialPlan:
        """The same trial with gradients summed over twice as many, half as large parts."""
        cut = replace(plan, num_micro_batches=2 * plan.num_micro_batches)
        self._event(
            "batch_cut",
            trial_id=trial.trial_id,
            batch_size=batch_size_of(trial.hyperparameters.values),
            num_micro_batches=cut.num_micro_batches,
            text="out of memory; the batch goes through in smaller parts, its gradients summed",
        )
        return cut

    def _plan(self, trial: Trial, epochs: int | None) -> TrialPlan:
        parent = self.records.get(trial.hyperparameters.values.get("tuner/trial_id", ""))
        if parent is not None and not self.run.state_path(parent.trial_id).exists():
            self._event(
                "warning", text=f"the state of trial {parent.trial_id} is gone; starting anew"
            )
            parent = None
        return plan_of(
            trial, parent, self.log, policy=self.policy, budget=self.budget, epochs=epochs
        )

    @property
    def _shares_time(self) -> bool:
        return not self.records or bool(getattr(self.oracle, "resumes_cut_trials", False))

    def _watcher(self, trial: Trial, plan: TrialPlan, args: tuple[Any, ...]) -> TrialWatcher:
        policy = self.policy
        num_samples = len(args[0].y) if args and isinstance(args[0], TrainingData) else None
        size = batch_size_of(trial.hyperparameters.values)
        stopping, began = None, self.clock.elapsed
        if policy.patience is not None:
            stopping = WindowedStopping(
                policy.patience,
                policy.window,
                self.goal.direction,
                statistic=policy.statistic,
                noise_factor=policy.noise_factor,
            )
        return (ForeignWatcher if num_samples is None else TrialWatcher)(
            self.goal,
            stopping=stopping,
            clock=self.clock,
            deadline=self.clock.deadline(shared=self._shares_time),
            on_epoch=lambda epoch, logs: self._epoch_ended(plan, epoch, began, logs),
            guard=guard_of(plan, self.policy.max_epochs, size, num_samples),
            num_samples=num_samples,
        )

    def _epoch_ended(
        self, plan: TrialPlan, epoch: int, began: float, logs: Mapping[str, float]
    ) -> None:
        if epoch == plan.epochs.start + 1:
            self._starts.append(self.clock.elapsed - began)
        self._announce("epoch", epoch=epoch, epochs=plan.epochs.stop, logs=dict(logs))

    def _fit(
        self,
        trial: Trial,
        model: Any,
        plan: TrialPlan,
        watcher: TrialWatcher,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:
        values = trial.hyperparameters.values
        # Callbacks have a state of their own; no trial may inherit another's.
        callbacks: list[Any] = [watcher, *copy.deepcopy(list(kwargs.get("callbacks") or ()))]
        if self.policy.extra_callbacks is not None:
            callbacks += self.policy.extra_callbacks(values)
        watcher.averages = any(isinstance(c, AveragedWeights) for c in callbacks)
        if plan.parent is not None:
            for callback in callbacks:
                if hasattr(callback, "inherit"):
                    callback.inherit(plan.parent.curve)
        if args and isinstance(args[0], TrainingData):
            weigh = self.policy.sample_weight
            # What the models of others do between epochs, and what they can go on from, is not known.
            keeper = ProgressKeeper(
                self.run, trial.trial_id, configuration(trial), plan, watcher, not self.records
            )
            fit_arrays(
                model,
                args[0],
                batch_size=batch_size_of(values) // plan.num_micro_batches,
                growth=self._growth(values, plan),
                seed=plan.seed,
                epochs=plan.epochs,
                sample_weight=None if weigh is None else weigh(values),
                callbacks=[*callbacks, keeper],
            )
            return
        callbacks += self._hooks(trial)
        self._redirect(callbacks, trial)
        self._fit_foreign(trial, model, watcher, args, {**kwargs, "callbacks": callbacks}, plan)

    def _growth(self, values: Mapping[str, Any], plan: TrialPlan) -> Any:
        """How the batch of a trial grows, from where its parent stopped."""
        if self.policy.growth is None:
            return None
        growth = self.policy.growth(values, plan.num_micro_batches, self.policy.max_epochs)
        if plan.parent is not None and hasattr(growth, "continued"):
            return growth.continued(plan.parent.curve)
        return growth

    # Records.

    def _finished(
        self,
        trial: Trial,
        plan: TrialPlan,
        watcher: TrialWatcher,
        model: Any,
        measured: tuple[float, float],
    ) -> TrialRecord:
        began, started = measured
        diverged = watcher.ended_by.startswith(DIVERGED)
        if not diverged and self._is_best_execution(watcher.best_score):
            may_continue = "tuner/epochs" in trial.hyperparameters.values
            keep_trial(self.run, trial.trial_id, plan, watcher, model if may_continue else None)
        return record_of(
            trial,
            plan,
            self.policy.default,
            outcome="diverged" if diverged else "stopped" if watcher.ended_by else "completed",
            message=watcher.ended_by,
            score=None if diverged else watcher.best_score,
            best_epoch=watcher.best_epoch,
            num_epochs=len(watcher.curve) or plan.epochs.stop,  # a silent loop of the user's
            curve=tuple(watcher.curve),
            seconds=time.monotonic() - began,
            started=started,
            num_parameters=sum(math.prod(v.shape) for v in model.trainable_variables),
            samples_per_second=watcher.samples_per_second,
            initial_loss=watcher.guard.initial_loss,
        )

    def _carried_over(self, trial: Trial, plan: TrialPlan, started: float) -> TrialRecord:
        """A promotion of a trial that had stopped gaining: nothing is left to train."""
        parent = plan.parent
        assert parent is not None
        copy_trial(self.run, parent.trial_id, trial.trial_id)
        return record_of(
            trial,
            plan,
            self.policy.default,
            outcome="stopped",
            message=EARLY_STOPPING,
            score=parent.score,
            best_epoch=parent.best_epoch,
            num_epochs=parent.num_epochs,
            curve=parent.curve,
            started=started,
            num_parameters=parent.num_parameters,
            initial_loss=parent.initial_loss,
        )

    def _failed(
        self, trial: Trial, plan: TrialPlan, error: Exception, measured: tuple[float, float]
    ) -> TrialRecord:
        began, started = measured
        return record_of(
            trial,
            plan,
            self.policy.default,
            outcome="out_of_memory" if is_out_of_memory(error) else "failed",
            message="".join(traceback.format_exception(error)),
            num_epochs=plan.epochs.start,
            seconds=time.monotonic() - began,
            started=started,
        )

    # Events.

    def _event(self, event: str, **details: Any) -> None:
        """Write an event to the run and announce it."""
        line = self.run.note(event, **details)
        if self.on_event is not None:
            self.on_event(line)

    def _announce(self, event: str, **details: Any) -> None:
        """Announce what is too frequent to be written."""
        if self.on_event is not None:
            self.on_event({"event": event, "time": round(time.time(), 3), **details})
