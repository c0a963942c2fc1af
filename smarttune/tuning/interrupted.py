"""What a trial that is cut off by a crash leaves, and how the next sitting goes on with it.

While a trial trains, its state, its best weights and its curve are written now and then. The
two checkpoints carry the epoch in their names, and a small file that names them is replaced
last, so that a kill at any moment leaves one whole set. The next sitting takes it for a parent
of the same trial. It goes away when the trial has ended, as do all checkpoints that nobody needs.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from pydantic import ValidationError

from smarttune.errors import RunError
from smarttune.files import write_bytes
from smarttune.space import Value
from smarttune.training import restore_state, save_state
from smarttune.training.checkpoint import state_of
from smarttune.trials import TrialRecord
from smarttune.tuning.policy import TrialPlan
from smarttune.tuning.run import Run
from smarttune.tuning.watching import TrialWatcher

INTERRUPTED = "interrupted"

# ours: seconds of training that a crash may cost.
KEEP_EVERY = 20.0
# ours: writing may slow a trial by one part in so many, however large its network.
WRITING_SHARE = 20.0


class ProgressKeeper(keras.callbacks.Callback):  # type: ignore[misc]
    """Writes what a trial has come to, after some epochs.

    Must be the last callback: those before it may still change the state after an epoch.

    Args:
        run: Where to.
        trial_id: The trial.
        values: Its configuration.
        plan: What it trains.
        watcher: Follows it.
        at_once: Whether the first epoch is written, however short it was.
    """

    def __init__(  # noqa: PLR0913, PLR0917 -- a trial and where it goes
        self,
        run: Run,
        trial_id: str,
        values: Mapping[str, Value],
        plan: TrialPlan,
        watcher: TrialWatcher,
        at_once: bool,
    ) -> None:
        super().__init__()
        self.run, self.trial_id, self.values = run, trial_id, dict(values)
        self.plan, self.watcher = plan, watcher
        self.next_at = time.monotonic() + (0.0 if at_once else KEEP_EVERY)
        left = plan.parent if plan.parent and plan.parent.message == INTERRUPTED else None
        self.began = time.monotonic() - (left.seconds if left else 0.0)
        self.kept = left.trial_id if left else ""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Write if it is time; a trial that ends now is recorded anyway."""
        now, watcher = time.monotonic(), self.watcher
        if now < self.next_at or watcher.ended_by or watcher.best_score is None:
            return
        try:
            self._keep()
        except (
            RunError
        ):  # without a net the trial goes on; its record will say that the disk is full
            self.next_at = math.inf
            return
        took = time.monotonic() - now
        self.next_at = time.monotonic() + max(KEEP_EVERY, WRITING_SHARE * took)

    def _keep(self) -> None:
        watcher, run = self.watcher, self.run
        name = f"{self.trial_id}.at{len(watcher.curve)}"
        save_state(state_of(self.model), run.state_path(name))
        if watcher.best_weights is not None:
            save_state(watcher.best_weights, run.best_weights_path(name))
        record = TrialRecord(
            trial_id=name,
            values=self.values,
            outcome="stopped",
            message=INTERRUPTED,
            score=watcher.best_score,
            best_epoch=watcher.best_epoch,
            num_epochs=len(watcher.curve),
            max_epochs=self.plan.epochs.stop,
            curve=tuple(watcher.curve),
            seconds=time.monotonic() - self.began,
            seed=self.plan.seed,
            num_micro_batches=self.plan.num_micro_batches,
            initial_loss=watcher.guard.initial_loss,
        )
        write_bytes(_path(run, self.trial_id), record.model_dump_json().encode())
        if self.kept:
            _remove(run, self.kept)
        self.kept = name


def left_of(
    run: Run, trial_id: str, values: Mapping[str, Value], plan: TrialPlan
) -> TrialRecord | None:
    """What an earlier sitting left of a trial; None if nothing, or nothing that fits.

    Args:
        run: The run.
        trial_id: The trial.
        values: Its configuration.
        plan: What it shall train.
    """
    try:
        left = TrialRecord.model_validate_json(_path(run, trial_id).read_bytes())
    except (OSError, ValidationError):
        return None
    fits = left.values == dict(values) and left.seed == plan.seed
    epochs = plan.epochs.start < left.num_epochs < plan.epochs.stop
    return left if fits and epochs and run.state_path(left.trial_id).exists() else None


def going_on(plan: TrialPlan, left: TrialRecord | None) -> TrialPlan:
    """The rest of a plan, with what is left of the trial in the place of a parent."""
    if left is None:
        return plan
    epochs = range(left.num_epochs, plan.epochs.stop)
    return replace(plan, parent=left, epochs=epochs, num_micro_batches=left.num_micro_batches)


def best_of(run: Run, left: TrialRecord | None) -> list[np.ndarray] | None:
    """The weights of the best epoch so far; None if it was a parent's."""
    if left is None or not run.best_weights_path(left.trial_id).exists():
        return None
    return restore_state(run.best_weights_path(left.trial_id))


def _path(run: Run, trial_id: str) -> Path:
    return run.path / "checkpoints" / f"{trial_id}.unfinished.json"


def _remove(run: Run, name: str) -> None:
    for path in (run.state_path(name), run.best_weights_path(name)):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
