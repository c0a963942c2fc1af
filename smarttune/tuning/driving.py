"""Several trials at a time: the search asks the oracle, workers train.

The oracle, the record and the events stay in this one process. Workers get a task each, write
its checkpoints into the run directory and send back a record. What dies with a worker is one
task, which is handed in again and goes on from what the trial had written.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from keras_tuner.engine.trial import Trial, TrialStatus

from smarttune.errors import OptionError, RunError
from smarttune.execution.choice import Executor
from smarttune.execution.workers import Ended, Setup, WorkerPool
from smarttune.trials import TrialRecord
from smarttune.tuning.policy import Given, TrialTask
from smarttune.tuning.recording import crashed, is_fatal, may_be_retried
from smarttune.tuning.replaying import free_slot
from smarttune.tuning.working import Done, WorkerTraceback, raised, share

# From what every worker runs once, and the number of workers, to the workers.
PoolMaker = Callable[[Setup, int], WorkerPool]

DONE = "the strategy is done"

# ours: a worker may be lost by chance, by a machine that is taken away or by a neighbour that
# filled the memory; a trial that takes down three workers would take down the next one.
RESUBMISSIONS = 2

# Where a tuner's trials are trained in other processes, these would not be called there.
_NOT_IN_WORKERS = (
    "run_trial",
    "on_epoch_begin",
    "on_epoch_end",
    "on_batch_begin",
    "on_batch_end",
    "_build_hypermodel",
)
_NOT_PASSED_ON = ("optimizer", "loss", "metrics", "distribution_strategy")

SHARED = ".workers"  # folder of what all workers of a run read


def checked_pool(
    tuner: Any, executor: Executor, pool: PoolMaker | None, options: Mapping[str, Any]
) -> PoolMaker | None:
    """What makes the workers; None where trials run in this process.

    Args:
        tuner: Whose trials they shall train.
        executor: Where they shall run.
        pool: Makes the workers, instead of what the executor says.
        options: Further arguments of the tuner.

    Raises:
        OptionError: If the tuner trains in a way of its own.
    """
    if not executor.pool and pool is None:
        return None
    own = own_way(tuner) or next(
        (f"{name}=" for name in _NOT_PASSED_ON if options.get(name) is not None), None
    )
    if own is not None:
        raise OptionError(
            "workers",
            received=f"a tuner with `{own}` of its own, which workers cannot call",
            expected="trials whose code is in the hypermodel",
            mend="Move it into `build` or `fit` of a HyperModel, or leave `workers` out.",
        )
    if pool is not None:
        return pool
    return _processes if executor.pool == "processes" else partial(_on_ray, executor, tuner)


def own_way(tuner: Any) -> str | None:
    """What a tuner of the user's overrides of the way a single trial is trained; None if nothing."""
    return next((n for n in _NOT_IN_WORKERS if _is_overridden(type(tuner), n)), None)


def _is_overridden(kind: type, name: str) -> bool:
    """Whether a class of the user's defines a method that we or KerasTuner define, too."""
    home = next((c.__module__ for c in kind.__mro__ if name in vars(c)), "")
    return home.partition(".")[0] not in ("smarttune", "keras_tuner")


def _processes(setup: Setup, num_workers: int) -> WorkerPool:
    from smarttune.execution.processes import ProcessPool

    return ProcessPool(setup, num_workers)


def _on_ray(executor: Executor, tuner: Any, setup: Setup, num_workers: int) -> WorkerPool:
    from smarttune.execution.ray import RayPool, check_shared

    pool = RayPool(setup, num_workers, address=executor.address, num_gpus=executor.gpus_per_worker)
    try:
        check_shared(pool, tuner.run.path)
    except BaseException:
        pool.close()
        raise
    return pool


def side_by_side(tuner: Any, make_pool: PoolMaker, workers: int, given: Given) -> str:
    """Run the trials of a search in workers; return why no further one is run.

    Args:
        tuner: The search.
        make_pool: Makes the workers.
        workers: How many.
        given: What `search` was given.
    """
    folder = tuner.run.path / SHARED
    kwargs = dict(given.kwargs)
    epochs = kwargs.pop("epochs", None)
    shutil.rmtree(folder, ignore_errors=True)  # a sitting that was killed has left it
    try:
        setup = share(folder, tuner.runner(), Given(given.args, kwargs))
        with make_pool(setup, workers) as pool:
            return _Driver(tuner, pool, epochs).search()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Driver:
    """Keeps all workers busy until the oracle or the budget says stop.

    Args:
        tuner: The search.
        pool: Its workers.
        epochs: Epochs of trials to which the oracle gives none.
    """

    def __init__(self, tuner: Any, pool: WorkerPool, epochs: int | None) -> None:
        self.tuner = tuner
        self.pool = pool
        self.epochs = epochs
        self._trials: dict[str, Trial] = {}
        self._num_lost: Counter[str] = Counter()

    def search(self) -> str:
        """Search; return why no further trial is run."""
        try:
            reason = self._hand_out()
            while self._trials:
                for ended in self.pool.wait():
                    self._take_in(ended)
                    reason = self._hand_out()
            return reason
        finally:  # whoever searches again with this tuner goes on with them
            self.tuner.left[:0] = self._trials.values()
            self.tuner.running.clear()

    def _hand_out(self) -> str:
        """Start trials until all workers are busy; return why no more are started, if so."""
        while len(self._trials) < self.pool.num_workers:
            if reason := self.tuner.spent():
                return str(reason)
            trial = self.tuner.next_trial(free_slot(self.tuner))
            if trial.status != TrialStatus.RUNNING:
                return DONE
            self._trials[trial.trial_id] = trial
            self.tuner.begin_trial(trial)
            retries = self.tuner.oracle.max_retries_per_trial
            task = replace(self.tuner.task_of(trial, self.epochs), retries_left=retries)
            self._submit(task)
        return ""

    def _submit(self, task: TrialTask) -> None:
        self.tuner.running[task.trial_id] = task
        self.pool.submit(task.trial_id, task)

    def _take_in(self, ended: Ended) -> None:
        """Record a trial that has ended, or hand it in again."""
        task = self.tuner.running[ended.key]
        if ended.error:
            raise _unusable(ended.error)
        if ended.lost:
            record = self._lost(task, ended.lost)
        else:
            record = self._of(task, ended.result)
            if task.retries_left and may_be_retried(record):
                task, record = replace(task, retries_left=task.retries_left - 1), None
        if record is None:
            self._submit(task)
            return
        trial = self._trials.pop(task.trial_id)
        del self.tuner.running[task.trial_id]
        self.tuner.end_trial(trial, record)

    def _of(self, task: TrialTask, done: Done) -> TrialRecord:
        """The record of a trial that a worker ran to its end.

        Raises:
            Exception: What the trial raised, if that ends the search.
        """
        for event, details in done.events:
            self.tuner.note(event, **details)
        self.tuner.starts.extend(done.starts)
        trial = self._trials[task.trial_id]
        trial.hyperparameters = done.hyperparameters
        if done.record is not None:
            return done.record
        error = raised(done)
        first = not self.tuner.records and not task.retries_left
        if is_fatal(error, is_first=first):
            raise error from WorkerTraceback(done.trace)
        return crashed(trial, task.plan, self.tuner.policy.default, done.trace)

    def _lost(self, task: TrialTask, reason: str) -> TrialRecord | None:
        """What becomes of a trial whose worker is gone: its record, or None if it runs again."""
        self._num_lost[task.trial_id] += 1
        count = self._num_lost[task.trial_id]
        runs_again = count <= RESUBMISSIONS
        text = f"trial {task.trial_id} lost its worker ({reason})"
        then = "it runs again from what it had written" if runs_again else "it has failed"
        told = {"reason": reason, "text": f"{text}; {then}"}
        self.tuner.note("worker_lost", trial_id=task.trial_id, **told)
        if runs_again:
            return None
        message = (
            f"{text}, {count} times in all. The machine may have run out of memory: search with "
            "fewer workers, smaller batches or smaller networks."
        )
        return crashed(task, task.plan, self.tuner.policy.default, message)


def _unusable(trace: str) -> RunError:
    """The error for workers that cannot even begin."""
    last = trace.strip().splitlines()[-1]
    return RunError(
        "workers",
        received=f"a worker could not use what it was sent ({last})\n{trace}",
        expected="a hypermodel and data that can be rebuilt in another process",
        mend="Mend what the traceback names, or search with one worker.",
    )
