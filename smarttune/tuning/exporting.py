"""The model of any trial whose weights a run has kept, as one file."""

from __future__ import annotations

import os
from pathlib import Path

from smarttune.errors import OptionError, did_you_mean
from smarttune.files import cannot_write
from smarttune.tuning.finishing import restored
from smarttune.tuning.preparing import SearchJob
from smarttune.tuning.run import Run


def export_model(run: Run, job: SearchJob, trial_id: str, output: Path) -> None:
    """Write a trial's network with the weights of its best epoch, preprocessing inside.

    Args:
        run: A run.
        job: Its search.
        trial_id: A trial whose weights were kept: one of the best, or of the Pareto front.
        output: The file to write, complete or not at all; its name ends in .keras.

    Raises:
        OptionError: If there is no such trial, or its weights are gone.
        RunError: If the file cannot be written.
    """
    kept = {r.trial_id: r for r in run.log if run.best_weights_path(r.trial_id).exists()}
    if trial_id not in kept:
        known = trial_id in (r.trial_id for r in run.log)
        raise OptionError(
            "--trial",
            received=f"the weights of trial `{trial_id}` were not kept"
            if known
            else f"there is no trial `{trial_id}`",
            expected="one of " + (", ".join(kept) or "none: no weights are left"),
            mend=f"Choose one of these.{did_you_mean(trial_id, kept)}",
        )
    core = restored(run, job, kept[trial_id])
    whole = job.modality.exported(core, job.preprocessor, job.codec)
    temporary = output.with_name(f".unfinished.{output.name}")
    try:
        whole.save(temporary)
        os.replace(temporary, output)
    except OSError as error:
        raise cannot_write(output, error) from error
