"""What stays on disk of the trials: few models, and the states of those that may go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from smarttune.files import write_json
from smarttune.training import restore_state, save_state
from smarttune.training.checkpoint import state_of
from smarttune.trials import TrialRecord
from smarttune.tuning.policy import TrialPlan
from smarttune.tuning.run import Run
from smarttune.tuning.watching import TrialWatcher

KEPT_MODELS = 3  # ours: finalists whose weights stay on disk, beside the default's


def keep_trial(
    run: Run, trial_id: str, plan: TrialPlan, watcher: TrialWatcher, model: Any | None
) -> None:
    """Save the weights of a trial's best epoch and, if `model` is given, its whole state."""
    best = run.best_weights_path(trial_id)
    if watcher.best_weights is not None:
        save_state(watcher.best_weights, best)
    elif plan.parent is not None:
        save_state(restore_state(run.best_weights_path(plan.parent.trial_id)), best)
    if model is not None:
        save_state(state_of(model), run.state_path(trial_id))


def copy_trial(run: Run, parent_id: str, trial_id: str) -> None:
    """Give a trial the weights and the state of its parent."""
    for path in (run.best_weights_path, run.state_path):
        save_state(restore_state(path(parent_id)), path(trial_id))


def keep_build(run: Run, model: Any, trial_id: str) -> None:
    """Note the shapes of a model that training has built."""
    config = model.get_build_config()
    if config:
        write_json(_build_path(run, trial_id), config)


def build_like(run: Run, model: Any, trial_id: str) -> None:
    """Give a model that is not built the weights' shapes of an earlier trial's."""
    path = _build_path(run, trial_id)
    if not model.built and path.exists():
        model.build_from_config(json.loads(path.read_text(encoding="utf-8")))


def _build_path(run: Run, trial_id: str) -> Path:
    """Where KerasTuner keeps these, too."""
    return run.path / f"trial_{trial_id}" / "build_config.json"


def prune(
    run: Run,
    records: Mapping[str, TrialRecord],
    may_continue: Callable[[str], bool] | None,
    *,
    exportable: Iterable[TrialRecord] = (),
    running: Mapping[str, str | None] = MappingProxyType({}),
) -> int:
    """Delete checkpoints that neither the report nor a promotion can need.

    Args:
        run: The run.
        records: Its finished trials by their ids.
        may_continue: Whether the oracle may still promote a trial; None where it does not say,
            as those of KerasTuner, and then whatever stands in a bracket is kept.
        exportable: Trials whose models may be asked for.
        running: Trials that have not ended and the parent of each, if it has one.

    Returns:
        Checkpoints that are needed.
    """
    keep = {run.best_weights_path(r.trial_id).name for r in exportable}
    parents = set(running.values())
    # Of thousands of trials only these can lose anything.
    for trial_id in run.trials_on_disk():
        record = records.get(trial_id)
        if record is None:
            continue
        waits = record.bracket is not None if may_continue is None else may_continue(trial_id)
        if waits or trial_id in parents:
            keep.add(run.best_weights_path(trial_id).name)
            keep.add(run.state_path(trial_id).name)
    run.prune_checkpoints(keep, running)
    return len(keep)
