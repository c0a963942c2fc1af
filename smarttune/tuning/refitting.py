"""The winner trained once more on all rows but the test's, for as long as was best for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from smarttune.data import Split
from smarttune.training import restore_state, save_state
from smarttune.training.averaging import averaged_state
from smarttune.training.checkpoint import set_state
from smarttune.trials import TrialLog, TrialRecord
from smarttune.tuning.budget import Clock
from smarttune.tuning.preparing import SearchJob
from smarttune.tuning.recording import is_out_of_memory
from smarttune.tuning.repeating import as_trained, job_on, trained, watcher_of
from smarttune.tuning.run import Run
from smarttune.tuning.watching import DIVERGED, TIME_LIMIT

TITLE = "Refit on training and validation rows"


def refitted(
    run: Run, job: SearchJob, record: TrialRecord, model: Any, *, clock: Clock
) -> tuple[Any, str, bool]:
    """Train a trial's configuration on training and validation rows.

    The preprocessing stays as it was learnt from the training rows: the run holds one, which
    `predict`, the other checkpoints and a resumed search read, and the configuration was
    chosen for the inputs that it makes. The schedule keeps its course over the epochs of a full
    training; with more rows an epoch has more steps. There is no early stopping, for nobody is
    left to judge an epoch.

    Args:
        run: The run, which keeps the weights; a second call finds them there.
        job: Its search.
        record: The winner.
        model: Its network, built anew.
        clock: Tells whether there is time.

    Returns:
        The network that shall be exported, a sentence, and whether it is another than the one
        given; it is not where there was no time or memory or the training diverged.
    """
    path = run.path / "checkpoints" / f"{record.trial_id}.refit.npz"
    rows = len(job.split.train) + len(job.split.validation)
    epochs = record.best_epoch or record.num_epochs
    if not path.exists():
        if not clock.has_room_for(_seconds(run.log, job, record, epochs)):
            return model, "No refit: it does not fit into the time that is left.", False
        try:
            state, ended_by = _state(as_trained(job, run, record), record, epochs, clock)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return model, "No refit: out of memory.", False
        if ended_by:
            return model, f"No refit: training on all rows ended early ({ended_by}).", False
        save_state(state, path)
    set_state(model, restore_state(path), optimizer=False)
    said = (
        f"The exported network was trained once more for {epochs} epoch(s), the best number of "
        f"the winner, on {rows:,} rows: those of training and of validation. So no validation "
        "score of it exists; the test rows took no part and remain its honest test."
    )
    return model, said, True


def _seconds(log: TrialLog, job: SearchJob, record: TrialRecord, epochs: int) -> float:
    """About what it takes, going by the trial and those that it continues."""
    more = 1 + len(job.split.validation) / len(job.split.train)
    return log.lineage_seconds(record) * more * epochs / max(1, record.num_epochs)


def all_rows(job: SearchJob) -> SearchJob:
    """The search with validation rows among the training rows, and nothing learnt anew."""
    split = job.split
    together = np.sort(np.concatenate([split.train, split.validation]))
    parts = Split(together, split.validation, split.test)
    kept = {"preprocessor": job.preprocessor, "codec": job.codec, "max_epochs": job.max_epochs}
    return job_on(job, parts, kept)


def _state(job: SearchJob, record: TrialRecord, epochs: int, clock: Clock) -> tuple[list[Any], str]:
    """The weights after the last epoch, and why the training ended before it."""
    whole = all_rows(job)
    policy = replace(whole.policy(), patience=None)
    watcher = watcher_of(whole, record, record.seed, epochs, policy=policy, clock=clock)
    model = trained(whole, record, record.seed, epochs, policy=policy, watcher=watcher)
    ended = watcher.ended_by
    early = ended if ended == TIME_LIMIT or ended.startswith(DIVERGED) else ""
    # Without an average of the weights these are the weights themselves.
    return averaged_state(model), early
