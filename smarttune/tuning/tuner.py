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

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from keras_tuner.engine.trial import Trial, TrialStatus

from smarttune.execution import collect_garbage, prepare_process
from smarttune.execution.choice import Executor, chosen_executor
from smarttune.execution.lanes import Lanes
from smarttune.oracles import CUT_SHORT
from smarttune.trials import Ranking, TrialRecord
from smarttune.tuning.adapting import Adapt
from smarttune.tuning.budget import Budget, Clock
from smarttune.tuning.checkpoints import KEPT_MODELS, prune
from smarttune.tuning.costs import costs_in, front_of, goal_of
from smarttune.tuning.driving import DONE, PoolMaker, checked_pool, own_way, side_by_side
from smarttune.tuning.living import LivingSearch
from smarttune.tuning.planning import plan_of
from smarttune.tuning.policy import Given, TrialPlan, TrialPolicy, TrialTask
from smarttune.tuning.recorded import RecordedTuner, open_run
from smarttune.tuning.recording import bookkeeping, configuration, is_another, told
from smarttune.tuning.replaying import Replay, free_slot
from smarttune.tuning.run import Run
from smarttune.tuning.running import TrialRunner
from smarttune.tuning.watching import TIME_LIMIT

OnEvent = Callable[[Mapping[str, Any]], None]

# ours: trials that are asked for at a time where programs take several.
WAVE = 64
# ours: checkpoints that are needed, for each that may lie there though it is not. To look through
# them after every trial would take longer the more there are.
KEPT_PER_SUPERFLUOUS = 20


class SmartTuner(RecordedTuner):
    """Runs trials and keeps them in a run directory.

    Args:
        oracle: Proposes trials; ours or any of KerasTuner's.
        hypermodel: Builds models; a `keras_tuner.HyperModel` or a function of `hp`.
        directory: With `project_name` the run directory; a run found there is resumed.
        project_name: See `directory`.
        run: An open run, instead of the two.
        policy: How trials are trained; with the seed of the oracle that began the run if None.
        budget: What the search may spend beside what the oracle limits.
        on_event: Called with every event, epochs included.
        clock: Counts the time budget; made from `budget` if None.
        adapt: Told the finished trials and the adaptations so far after each trial, says what
            else changes (see `smarttune.tuning.adapting`); None leaves the space as it is.
        overwrite: Delete what the run directory holds, and begin anew.
        workers: Trials that run at a time, each in a process of its own; 1 runs them here.
        pool: Makes the workers of a setup and their number; child processes if None.
        executor: How a trial trains: `fit`, in a `compiled` program that it shares with others of
            its structure, `fused` with several at a time, `auto` for the fastest that its model
            allows; or where: `processes`, `ray`. See `smarttune.execution.choice`.
        lanes: Lanes of an earlier search, whose programs this one goes on using.
        **options: Further arguments of `keras_tuner.Tuner`, such as `executions_per_trial`.

    Example:
        >>> tuner = SmartTuner(RandomOracle("val_loss", max_trials=10), build_model,
        ...                    directory="runs", project_name="first")
        >>> tuner.search(x, y, validation_data=(xv, yv), epochs=20)
    """

    default_policy: ClassVar[TrialPolicy] = TrialPolicy()

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
        workers: int = 1,
        pool: PoolMaker | None = None,
        executor: str | Executor = "auto",
        lanes: Lanes | None = None,
        **options: Any,
    ) -> None:
        asked = executor if isinstance(executor, Executor) else chosen_executor(executor, workers)
        self.lanes = lanes if lanes is not None else Lanes(asked.lane)
        self.lanes.on_choice = self._lane_chosen
        self.workers, self.make_pool = asked.workers, checked_pool(self, asked, pool, options)
        if run is None:
            run = open_run(oracle, directory, project_name, overwrite=overwrite)
        self.run = run
        self.policy = policy or replace(self.default_policy, seed=run.manifest.get("seed", 0))
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
        self._ranking = Ranking(self.goal, self.records.values())
        self._living = LivingSearch(self, adapt, self.note)
        self._until_prune = 0  # trials that may still end before checkpoints are looked through
        self.running: dict[str, TrialTask] = {}  # what workers train
        self.left: list[Trial] = []  # what was running when an earlier sitting was broken off
        self._asked: dict[str, int] = {}  # trials that had ended when these were asked for
        self.starts: list[float] = []  # seconds until the first epoch of each trial was over
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
                self.note("resumed", num_trials=len(self.records))
            self.on_search_begin()
            if self.make_pool is None:
                batched = self.lanes.batched and own_way(self) is None
                loop = self._in_waves if batched else self._one_by_one
                reason = loop(args, kwargs)
            else:
                reason = side_by_side(self, self.make_pool, self.workers, Given(args, kwargs))
            self._prune()
            self.note("trials_ended", reason=reason, num_trials=len(self.records))
            self.on_search_end()

    def _lane_chosen(self, lane: str, reason: str) -> None:
        self.note("lane_chosen", lane=lane, reason=reason)

    def _one_by_one(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Run trials in this process; return why no further one is run."""
        while (reason := self.spent()) == "":
            trial = self.next_trial(self.tuner_id)
            if trial.status != TrialStatus.RUNNING:
                return DONE
            self.begin_trial(trial)
            self.end_trial(trial, self._attempted(trial, args, kwargs))
        return reason

    def _in_waves(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Run trials in this process, several in one program; return why no further one is run.

        The first trial runs alone: its errors are those of the code.
        """
        kwargs = dict(kwargs)
        epochs = kwargs.pop("epochs", None)
        while True:
            wave: list[Trial] = []
            while (reason := self.spent()) == "" and len(wave) < self._wave_size:
                trial = self.next_trial(free_slot(self))
                if trial.status != TrialStatus.RUNNING:
                    reason = DONE
                    break
                self.begin_trial(trial)
                self.running[trial.trial_id] = self.task_of(trial, epochs)
                wave.append(trial)
            if not wave:
                return reason
            tasks = list(self.running.values())
            try:
                records = self.runner().train_together(tasks, Given(args, kwargs))
                for record in records:
                    del self.running[record.trial_id]
                    self.end_trial(wave.pop(0), record)
            finally:  # whoever searches again with this tuner goes on with them
                self.left[:0] = wave
                self.running.clear()

    @property
    def _wave_size(self) -> int:
        return WAVE if self.records else 1

    def spent(self) -> str:
        """Which part of the budget is used up; "" while there is some left.

        The first trial is always run, be it for one epoch: a search ends with a model.
        """
        budget = self.budget
        if self.records and not self.clock.has_room_for(self._least_useful()):
            return "the time is up"
        if budget.trials is not None and len(self.records) + len(self.running) >= budget.trials:
            return "all trials are run"
        if (
            budget.epochs is not None
            and self.log.num_epochs + self._promised_epochs >= budget.epochs
        ):
            return "all epochs are trained"
        return self._living.ended

    def _least_useful(self) -> float:
        """Seconds for which a trial is worth starting: until its first epoch is over.

        The clock cuts it then, so that no tail is lost; no trial so far that was shorter shows
        that even less will do.
        """
        shortest = min((r.seconds for r in self.records.values() if r.seconds > 0), default=0.0)
        return min(shortest, max(self.starts, default=shortest))

    def next_trial(self, slot: str) -> Trial:
        """The trial that runs next, or one that says to wait or to stop.

        First come those that were running when an earlier sitting was broken off.

        Args:
            slot: Who asks; may not have a trial that runs.
        """
        if self.left:
            return self.left.pop(0)
        self.pre_create_trial()
        trial = self.oracle.create_trial(slot)
        if trial.status == TrialStatus.RUNNING:
            self._asked.setdefault(trial.trial_id, len(self.records))
        return trial

    def begin_trial(self, trial: Trial) -> None:
        """Say that a trial begins, with what a later sitting needs to ask for it again."""
        asked_after = self._asked[trial.trial_id]
        told = {"values": configuration(trial), "asked_after": asked_after}
        self.note("trial_started", trial_id=trial.trial_id, **told)
        self.on_trial_begin(trial)

    def end_trial(self, trial: Trial, record: TrialRecord) -> None:
        """Record a finished trial, tell the oracle, and clear away what nobody needs."""
        if (asked_after := self._asked.pop(trial.trial_id)) != len(self.records):
            record = record.model_copy(update={"asked_after": asked_after})
        self.run.record(record)
        self.records[record.trial_id] = record
        self._tell(trial, record, self.on_trial_end)
        self._living.tell(record)
        self._ranking.add(record)
        best = self._ranking.top(KEPT_MODELS)
        if self._until_prune:
            self._until_prune -= 1
        else:
            self._prune()
        collect_garbage(len(self.records))
        self.note(
            "trial_finished",
            **record.model_dump(mode="json", exclude={"curve"}),
            best_score=best[0].score if best else None,
        )

    def _prune(self) -> None:
        """Delete the checkpoints that nobody needs, next time when some more may have come."""
        left = prune(
            self.run,
            self.records,
            getattr(self.oracle, "may_continue", None),
            exportable=[*self._ranking.top(KEPT_MODELS), *self._exportable()],
            running={
                t.trial_id: t.hyperparameters.values.get("tuner/trial_id")
                for t in (*self.running.values(), *self.left)
            },
        )
        self._until_prune = left // KEPT_PER_SUPERFLUOUS

    def _exportable(self) -> list[TrialRecord]:
        """Trials beside the best whose models may be asked for: the default's, and a front's."""
        costs = costs_in(self.oracle.objective)
        default = next((r for r in self.records.values() if r.is_default and r.is_scored), None)
        front = front_of(self.log, costs) if costs else []
        return [*front, *([] if default is None else [default])]

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
        self.oracle.max_consecutive_failed_trials = None  # judged when these trials ran
        replay = Replay(self, self._asked, self._retell)
        self.left = replay.run()
        if replay.is_cut:
            self.note("warning", text="the strategy ends before its recorded trials")
        self.oracle.max_consecutive_failed_trials = limit

    def _retell(self, trial: Trial, record: TrialRecord, *, is_last: bool) -> None:
        """Tell the oracle and the rules of a recorded trial again."""
        if is_another(trial, record):
            self.note(
                "warning",
                text=f"trial {record.trial_id} would be proposed otherwise today; the record stands",
            )
            trial.hyperparameters.values = {**record.values, **bookkeeping(trial, record)}
        self._tell(trial, record)
        self._living.tell(record, is_last=is_last)

    # One trial.

    def run_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> TrialRecord:
        """Train one trial and return its record.

        A subclass may override this as in KerasTuner and return a history, a dict of
        metrics or a number.
        """
        task = self.task_of(trial, kwargs.pop("epochs", None))
        return self.runner().train(task, Given(args, kwargs))

    def runner(self) -> TrialRunner:
        """What trains a trial in this process."""
        return TrialRunner(
            self.run,
            self.hypermodel,
            self.policy,
            self.oracle.objective,
            executions=self.executions_per_trial,
            max_model_size=self.max_model_size,
            lanes=self.lanes,
            clock=self.clock,
            build=self._build_hypermodel,
            dress=self._dressed,
            note=self.note,
            announce=self._announce,
            began=self.starts.append,
        )

    def task_of(self, trial: Trial, epochs: int | None) -> TrialTask:
        """What a trial shall train, as it is handed to who trains it.

        Args:
            trial: The oracle's trial.
            epochs: Epochs that `search` was given for trials to which the oracle gives none.
        """
        plan, ends = self._plan(trial, epochs), self.clock.training_ends
        return TrialTask(
            trial.trial_id,
            trial.hyperparameters,
            plan,
            self.policy.max_epochs,
            is_first=not self.records,
            retries_left=self._retries_left,
            ends_at=None if ends is None else time.time() + ends - self.clock.elapsed,
            shares_time=self._shares_time,
            added=self._added(trial, plan, epochs_given=epochs is not None),
        )

    def _plan(self, trial: Trial, epochs: int | None) -> TrialPlan:
        parent = self.records.get(trial.hyperparameters.values.get("tuner/trial_id", ""))
        if parent is not None and not self.run.state_path(parent.trial_id).exists():
            self.note(
                "warning", text=f"the state of trial {parent.trial_id} is gone; starting anew"
            )
            parent = None
        budget = self.budget
        if budget.epochs is not None and self.running:
            budget = replace(budget, epochs=max(1, budget.epochs - self._promised_epochs))
        return plan_of(trial, parent, self.log, policy=self.policy, budget=budget, epochs=epochs)

    @property
    def _promised_epochs(self) -> int:
        """Epochs that the running trials will have trained."""
        return sum(len(task.plan.epochs) for task in self.running.values())

    @property
    def _shares_time(self) -> bool:
        return not self.records or bool(getattr(self.oracle, "resumes_cut_trials", False))

    # Events.

    def note(self, event: str, **details: Any) -> None:
        """Write an event to the run and announce it."""
        line = self.run.note(event, **details)
        if self.on_event is not None:
            self.on_event(line)

    def _announce(self, event: str, **details: Any) -> None:
        """Announce what is too frequent to be written."""
        if self.on_event is not None:
            self.on_event({"event": event, "time": round(time.time(), 3), **details})
