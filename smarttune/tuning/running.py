"""One trial is trained by its task, whoever asks for it: the search itself or a worker.

Nothing here knows the oracle or other trials. A task says what is to be done, the run directory
holds what earlier trials and earlier sittings left, and a record comes back.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras_tuner.errors import FailedTrialError, FatalTypeError

from smarttune.execution import fit_arrays, release_memory
from smarttune.execution.lanes import Lanes
from smarttune.execution.program import Feed
from smarttune.execution.routing import member_of_fit, routed
from smarttune.execution.together import Member
from smarttune.training import WindowedStopping, restore_state
from smarttune.training.averaging import AveragedWeights
from smarttune.training.checkpoint import set_state
from smarttune.training.determinism import seed_everything
from smarttune.trials import TrialRecord
from smarttune.tuning.budget import Clock
from smarttune.tuning.checkpoints import build_like, copy_trial, keep_build, keep_trial
from smarttune.tuning.costs import goal_of, with_costs
from smarttune.tuning.foreign import ForeignWatcher, accepted, averaged, executions, has_own_fit
from smarttune.tuning.interrupted import ProgressKeeper, best_of, going_on, left_of
from smarttune.tuning.planning import batch_size_of
from smarttune.tuning.policy import Given, TrialPlan, TrialPolicy, TrialTask
from smarttune.tuning.recording import (
    configuration,
    crashed,
    is_fatal,
    is_out_of_memory,
    record_of,
)
from smarttune.tuning.run import Run
from smarttune.tuning.watching import DIVERGED, EARLY_STOPPING, TrialWatcher, guard_of


@dataclass
class _Begun:
    """A trial that trains beside others."""

    task: TrialTask
    watcher: TrialWatcher
    member: Member
    was_built: bool
    began: tuple[float, float]


# Told of what happens: the event and its details.
Note = Callable[..., Any]


@dataclass
class TrialRunner:
    """Trains trials one after the other.

    Attributes:
        run: Where checkpoints are written; records and events are not written here.
        hypermodel: Builds the models.
        policy: How trials are trained.
        objective: KerasTuner's.
        executions: How often each trial is trained.
        max_model_size: Parameters above which a model is refused; None refuses none.
        lanes: What trials can train in beside stock `fit`; None for `fit` alone.
        clock: Says when trials must stop.
        build: From hyperparameters to a compiled model; the hypermodel's own if None.
        dress: From a task and the callbacks of a `fit` of the user's to those that it gets.
        note: Told what belongs into the events.
        announce: Told of every epoch.
        began: Told the seconds until the first epoch of a training was over.
    """

    run: Run
    hypermodel: Any
    policy: TrialPolicy
    objective: Any
    executions: int = 1
    max_model_size: int | None = None
    lanes: Lanes | None = None
    clock: Clock | None = None
    build: Callable[[Any], Any] | None = None
    dress: Callable[[TrialTask, list[Any]], list[Any]] | None = None
    note: Note | None = None
    announce: Note | None = None
    began: Callable[[float], None] | None = None

    def __post_init__(self) -> None:
        self.goal = goal_of(self.objective)
        if self.clock is None:
            self.clock = Clock(None)

    def train(self, task: TrialTask, given: Given) -> TrialRecord:
        """Train one trial and return its record.

        Raises:
            Exception: What ends the search: a mistake that the user can mend, or whatever goes
                wrong before any trial has ended.
        """
        plan = task.plan
        if plan.parent is not None and plan.parent.message == EARLY_STOPPING:
            return self._carried_over(task, time.time())
        records: list[TrialRecord] = []
        for execution in executions(plan, self.executions):
            record = self._execute(task, execution, given, [r.score for r in records])
            if not record.is_scored:
                return record
            records.append(record)
        return averaged(records, self.goal)

    def train_together(self, tasks: Sequence[TrialTask], given: Given) -> list[TrialRecord]:
        """Train several trials, those of one structure at a time where the lanes can do that."""
        begun: dict[str, _Begun] = {}
        for task in tasks:
            if self.lanes is not None and self._may_share(task, given):
                began = time.monotonic(), time.time()
                watcher = self._watcher(task, task.plan, given)
                try:
                    model, was_built = self._prepared(task, task.plan)
                    member = self._member(task, task.plan, watcher, model, given)
                    if member is None:
                        continue
                except Exception:  # noqa: BLE001, S112 -- alone it meets the same, and is judged
                    continue
                begun[task.trial_id] = _Begun(task, watcher, member, was_built, began)
        left = self._tried_together(begun)
        records = []
        for task in tasks:
            one = begun.get(task.trial_id)
            if one is None or one.member in left:
                records.append(self.train(task, given))
            else:
                records.append(self._ended(one, given))
        return records

    def _may_share(self, task: TrialTask, given: Given) -> bool:
        """Whether a trial can train beside others from its first epoch on."""
        stopped = task.plan.parent is not None and task.plan.parent.message == EARLY_STOPPING
        left = left_of(self.run, task.trial_id, configuration(task), task.plan)
        alone = stopped or left is not None or self.executions > 1
        takes = given.arrays is not None or not has_own_fit(self.hypermodel)
        return takes and not alone and self._growth(task, task.plan) is None

    def _tried_together(self, begun: Mapping[str, _Begun]) -> list[Member]:
        """Train trials together; returns those that must be trained alone, all if it fails."""
        members = [one.member for one in begun.values()]
        if self.lanes is None or not members:
            return members
        try:
            return self.lanes.train(members)
        except Exception as error:  # noqa: BLE001 -- alone each meets its own error again
            if self.note is not None:
                self.note("warning", text=f"trials could not train together ({error})")
            self._release()
            return members

    def _ended(self, one: _Begun, given: Given) -> TrialRecord:
        """The record of a trial that has trained."""
        task, watcher, model = one.task, one.watcher, one.member.model
        if self._is_best(watcher, ()):
            may_continue = "tuner/epochs" in task.hyperparameters.values
            keep_trial(self.run, task.trial_id, task.plan, watcher, model if may_continue else None)
        if not one.was_built:
            keep_build(self.run, model, task.trial_id)
        record = self._finished(task, task.plan, watcher, model, one.began)
        return with_costs(record, self.objective, model, given.args)

    def _execute(
        self, task: TrialTask, plan: TrialPlan, given: Given, to_beat: Sequence[float | None]
    ) -> TrialRecord:
        """Train a trial once; `to_beat` are the scores of its earlier executions."""
        began, started = time.monotonic(), time.time()
        left = left_of(self.run, task.trial_id, configuration(task), plan)
        if left is not None:
            plan = replace(plan, num_micro_batches=left.num_micro_batches)
            began -= left.seconds
        while True:
            going = going_on(plan, left)
            watcher: Any = self._watcher(task, going, given)
            watcher.best_weights = best_of(self.run, left)
            try:
                model = self._train(task, going, watcher, given)
            except Exception as error:
                if not (is_out_of_memory(error) and self._can_cut(task, going, given)):
                    if is_fatal(error, is_first=task.is_first and not task.retries_left):
                        raise
                    return crashed(task, plan, self.policy.default, error, (began, started))
            else:
                if self._is_best(watcher, to_beat):
                    may_continue = "tuner/epochs" in task.hyperparameters.values
                    kept = model if may_continue else None
                    keep_trial(self.run, task.trial_id, plan, watcher, kept)
                record = self._finished(task, plan, watcher, model, (began, started))
                return with_costs(record, self.objective, model, given.args)
            # Only here is the error gone, whose traceback holds the model, and so is its memory.
            watcher = None
            self._release()
            plan = self._cut(task, plan)

    def _train(self, task: TrialTask, plan: TrialPlan, watcher: TrialWatcher, given: Given) -> Any:
        """Build a trial's model, put it where its parent stopped, and train it."""
        model, was_built = self._prepared(task, plan)
        self._fit(task, model, plan, watcher, given)
        if not was_built:
            keep_build(self.run, model, task.trial_id)
        return model

    def _prepared(self, task: TrialTask, plan: TrialPlan) -> tuple[Any, bool]:
        """A trial's model as it shall start, and whether it was built before its first batch."""
        seed_everything(plan.seed, goes_on=plan.epochs.start > 0)
        if hasattr(self.hypermodel, "prepare"):
            self.hypermodel.prepare(plan.seed, plan.num_micro_batches)
        model = (self.build or self.hypermodel.build)(task.hyperparameters)
        was_built = self._checked(model).built
        if plan.epochs.start:
            assert plan.parent is not None
            build_like(self.run, model, plan.parent.trial_id)
            set_state(model, restore_state(self.run.state_path(plan.parent.trial_id)))
        return model, was_built

    def _release(self) -> None:
        """Free what is left of trials, programs included."""
        if self.lanes is not None:
            self.lanes.release()
        release_memory()

    def _checked(self, model: Any) -> Any:
        """Return a model; refuse what `build` must not return, and models that are too large.

        Raises:
            FatalTypeError: If it is no Keras model.
            FailedTrialError: If it is too large.
        """
        if not isinstance(model, keras.Model):
            raise FatalTypeError(f"build() must return a Keras model, not a {type(model).__name__}")
        size = model.count_params() if model.built else 0
        if self.max_model_size and size > self.max_model_size:
            raise FailedTrialError(f"Oversized model: {size} parameters. Skip model.")
        return model

    def _can_cut(self, task: TrialTask, plan: TrialPlan, given: Given) -> bool:
        """Whether half the samples at a time may fit where the whole batch did not."""
        batch_size = batch_size_of(task.hyperparameters.values)
        return (
            plan.parent is None  # its state holds no room for summed gradients
            and hasattr(self.hypermodel, "prepare")
            and given.arrays is not None
            and batch_size >= 2 * plan.num_micro_batches
        )

    def _cut(self, task: TrialTask, plan: TrialPlan) -> TrialPlan:
        """The same trial with gradients summed over twice as many, half as large parts."""
        cut = replace(plan, num_micro_batches=2 * plan.num_micro_batches)
        if self.note is not None:
            self.note(
                "batch_cut",
                trial_id=task.trial_id,
                batch_size=batch_size_of(task.hyperparameters.values),
                num_micro_batches=cut.num_micro_batches,
                text="out of memory; the batch goes through in smaller parts, its gradients summed",
            )
        return cut

    def _watcher(self, task: TrialTask, plan: TrialPlan, given: Given) -> TrialWatcher:
        assert self.clock is not None
        policy, arrays = self.policy, given.arrays
        num_samples = None if arrays is None else len(arrays.y)
        stopping, began = None, self.clock.elapsed
        if policy.patience is not None:
            stopping = WindowedStopping(
                policy.patience,
                policy.window,
                self.goal.direction,
                statistic=policy.statistic,
                noise_factor=policy.noise_factor,
            )
        size = batch_size_of(task.hyperparameters.values)
        return (ForeignWatcher if num_samples is None else TrialWatcher)(
            self.goal,
            stopping=stopping,
            clock=self.clock,
            deadline=self.clock.deadline(shared=task.shares_time),
            on_epoch=lambda epoch, logs: self._epoch_ended(task, plan, epoch, (began, logs)),
            guard=guard_of(plan, task.max_epochs, size, num_samples),
            num_samples=num_samples,
        )

    def _epoch_ended(
        self, task: TrialTask, plan: TrialPlan, epoch: int, seen: tuple[float, Any]
    ) -> None:
        assert self.clock is not None
        began, logs = seen
        if epoch == plan.epochs.start + 1 and self.began is not None:
            self.began(self.clock.elapsed - began)
        if self.announce is not None:
            told = {"epoch": epoch, "epochs": plan.epochs.stop, "logs": dict(logs)}
            self.announce("epoch", trial_id=task.trial_id, **told)

    def _fit(
        self, task: TrialTask, model: Any, plan: TrialPlan, watcher: TrialWatcher, given: Given
    ) -> None:
        """Train a model in a lane, or by `fit` where none takes it."""
        if given.arrays is None:
            callbacks = self._callbacks(task, plan, watcher, given)
            if self.lanes is None:
                self._fit_foreign(task, model, watcher, given, callbacks)
                return
            with routed(model, self.lanes, plan.seed):
                self._fit_foreign(task, model, watcher, given, callbacks)
            return
        growth = self._growth(task, plan)
        member = self._member(task, plan, watcher, model, given)
        assert member is not None
        if self.lanes is not None and growth is None and not self.lanes.train([member]):
            return
        fit_arrays(
            model,
            given.arrays,
            batch_size=member.feed.batch_size,
            growth=growth,
            seed=plan.seed,
            epochs=plan.epochs,
            sample_weight=member.feed.sample_weight,
            callbacks=member.callbacks,
        )

    def _callbacks(
        self, task: TrialTask, plan: TrialPlan, watcher: TrialWatcher, given: Given
    ) -> list[Any]:
        """The callbacks of one training; they have a state of their own, and inherit no other's."""
        callbacks: list[Any] = [watcher, *copy.deepcopy(list(given.kwargs.get("callbacks") or ()))]
        if self.policy.extra_callbacks is not None:
            callbacks += self.policy.extra_callbacks(task.hyperparameters.values)
        watcher.averages = any(isinstance(c, AveragedWeights) for c in callbacks)
        if plan.parent is not None:
            for callback in callbacks:
                if hasattr(callback, "inherit"):
                    callback.inherit(plan.parent.curve)
        return callbacks

    def _member(
        self, task: TrialTask, plan: TrialPlan, watcher: TrialWatcher, model: Any, given: Given
    ) -> Member | None:
        """A training as a lane takes it; None where arguments for `fit` ask for more."""
        if given.arrays is None:
            assert self.lanes is not None
            callbacks = self._callbacks(task, plan, watcher, given)
            arguments = self._fit_arguments(task, given, callbacks)
            return member_of_fit(model, self.lanes, plan.seed, given.args, arguments)
        values, weigh = task.hyperparameters.values, self.policy.sample_weight
        # What the models of others do between epochs, and what they can go on from, is not known.
        keeper = ProgressKeeper(
            self.run, task.trial_id, configuration(task), plan, watcher, task.is_first
        )
        weight = None if weigh is None else weigh(values)
        size = batch_size_of(values) // plan.num_micro_batches
        return Member(
            model,
            Feed.of(model, given.arrays, size, weight),
            plan.seed,
            plan.epochs,
            [*self._callbacks(task, plan, watcher, given), keeper],
        )

    def _fit_foreign(
        self, task: TrialTask, model: Any, watcher: Any, given: Given, callbacks: list[Any]
    ) -> None:
        """Train a model by the `fit` of its hypermodel."""
        watcher.may_be_late = has_own_fit(self.hypermodel)
        arguments = self._fit_arguments(task, given, callbacks)
        result = self.hypermodel.fit(task.hyperparameters, model, *given.args, **arguments)
        if watcher.may_be_late:
            watcher.settle(result, model, self.objective)

    def _fit_arguments(self, task: TrialTask, given: Given, callbacks: list[Any]) -> dict[str, Any]:
        """What the `fit` of a hypermodel is given by name."""
        added = accepted(self.hypermodel.fit, task.added)
        dressed = callbacks if self.dress is None else self.dress(task, callbacks)
        return {**added, **given.kwargs, "callbacks": dressed}

    def _growth(self, task: TrialTask, plan: TrialPlan) -> Any:
        """How the batch of a trial grows, from where its parent stopped."""
        if self.policy.growth is None:
            return None
        values = task.hyperparameters.values
        growth = self.policy.growth(values, plan.num_micro_batches, task.max_epochs)
        if plan.parent is not None and hasattr(growth, "continued"):
            return growth.continued(plan.parent.curve)
        return growth

    def _is_best(self, watcher: TrialWatcher, to_beat: Sequence[float | None]) -> bool:
        """Whether a training did not diverge, and no earlier one of the trial was as good."""
        if watcher.ended_by.startswith(DIVERGED):
            return False
        score = watcher.best_score
        earlier = [s for s in to_beat if s is not None]
        return score is None or all(self.goal.better(score, s) for s in earlier)

    def _finished(
        self,
        task: TrialTask,
        plan: TrialPlan,
        watcher: TrialWatcher,
        model: Any,
        measured: tuple[float, float],
    ) -> TrialRecord:
        began, started = measured
        diverged = watcher.ended_by.startswith(DIVERGED)
        return record_of(
            task,
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

    def _carried_over(self, task: TrialTask, started: float) -> TrialRecord:
        """A promotion of a trial that had stopped gaining: nothing is left to train."""
        parent = task.plan.parent
        assert parent is not None
        copy_trial(self.run, parent.trial_id, task.trial_id)
        return record_of(
            task,
            task.plan,
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
