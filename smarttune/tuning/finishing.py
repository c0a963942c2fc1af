"""The end of a search: the best model restored, tested once, exported whole."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from smarttune.errors import SmartTuneError
from smarttune.files import cannot_write
from smarttune.models.export import bare_copy
from smarttune.training import restore_state
from smarttune.training.checkpoint import set_state
from smarttune.training.outputs import outputs_of
from smarttune.trials import TrialLog, TrialRecord
from smarttune.tuning.budget import Clock
from smarttune.tuning.comparing import compare, metrics_of
from smarttune.tuning.judging import judged, verdict
from smarttune.tuning.preparing import SearchJob
from smarttune.tuning.refitting import TITLE, refitted
from smarttune.tuning.run import Run

if TYPE_CHECKING:
    from smarttune.tuning.comparing import Difference


def finish(
    run: Run, job: SearchJob, clock: Clock, confirmation: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Test the best model and the recommended one on held-back rows, and export the best.

    What is exported is the checkpoint of the winner's own trial, not that of a repeat: its
    weights were chosen by the same rows as all others, while to take the best-scored repeat
    would choose by luck once more, and a fold's network has another preprocessing.

    Args:
        run: A run whose trials have ended.
        job: Its search.
        clock: Tells how long the baselines may take.
        confirmation: What training the finalists again found; None if nobody asked for it.

    Returns:
        `confirmation`, test metrics of both, the difference with its interval, what was exported, how models
        without a network do on the same rows and what that comes to, and what else the kind of
        data has to show.

    Raises:
        RunError: If no trial left a model.
    """
    log = run.log
    best, default = winner_of(log, confirmation), log.default()
    model = restored(run, job, best)
    x, y = job.arrays(job.split.test)
    output = _outputs(job, model, x, y)
    tested: dict[str, Any] = {
        "rows": len(y),
        "best": metrics_of(job.codec, output, y),
        "default": None,
        "difference": None,
    }
    if default is not None:
        same = default.trial_id == best.trial_id
        other = output if same else _outputs(job, restored(run, job, default), x, y)
        tested["default"] = metrics_of(job.codec, other, y)
        difference: Difference = compare(
            job.codec, output, other, y, metric=_test_metric(job), seed=job.seed
        )
        tested["difference"] = {**difference._asdict(), "is_real": difference.is_real}
    tested["metric"] = _test_metric(job)
    told: dict[str, str] = {}
    if run.manifest.get("refit", False):
        model, said, is_refitted = refitted(run, job, best, model, clock=clock)
        told[TITLE] = said
        if is_refitted:
            tested["refitted"] = metrics_of(job.codec, _outputs(job, model, x, y), y)
            told[TITLE] = f"{said}\n{_before_and_after(tested)}"
    extras = job.modality.extras(job.dataset, job.preprocessor, job.codec, model, job.seed)
    found = {
        "confirmation": confirmation,
        "test": tested,
        "export": _export(run, job, model),
        "extras": told | extras,
    }
    baselines = judged(job, output, y, metric=_test_metric(job), seconds=clock.baseline_seconds)
    return {**found, "baselines": baselines, "verdict": verdict(baselines)}


def winner_of(log: TrialLog, confirmation: Mapping[str, Any] | None) -> TrialRecord:
    """The trial that won when the finalists were trained again, else the best one."""
    named = None if confirmation is None else confirmation["winner"]
    return next((r for r in log if r.trial_id == named), None) or log.best()


def _before_and_after(tested: Mapping[str, Any]) -> str:
    changes = (
        f"{name} {value:.4g} (before {tested['best'][name]:.4g})"
        for name, value in tested["refitted"].items()
    )
    return f"On the test rows: {', '.join(changes)}."


def restored(run: Run, job: SearchJob, record: TrialRecord) -> Any:
    """The network of a trial with the weights of its best epoch."""
    hypermodel = job.hypermodel()
    hypermodel.plan = replace(hypermodel.plan, seed=record.seed)
    model = hypermodel.build_from(record.values)
    weights = restore_state(run.best_weights_path(record.trial_id))
    set_state(model, weights, optimizer=False)
    return model


def _test_metric(job: SearchJob) -> str:
    """The objective, or for the loss the same without penalties and smoothing."""
    name = job.objective.name.removeprefix("val_")
    if name != "loss":
        return name
    return "mean_squared_error" if job.codec.kind == "regression" else "crossentropy"


def _outputs(job: SearchJob, model: Any, x: Any, y: Any) -> np.ndarray:
    return outputs_of(model, x, lambda output, rows: job.codec.reduced(output, y[rows]))


def _export(run: Run, job: SearchJob, core: Any) -> dict[str, Any]:
    """Save the network alone, and with preprocessing inside where the backend allows it."""
    _save_whole(bare_copy(core), run, "core.keras")
    try:
        whole = job.modality.exported(core, job.preprocessor, job.codec)
        _save_whole(whole, run, "model.keras")
    except SmartTuneError as error:
        return {"model": None, "reason": str(error)}
    return {"model": "model.keras", "reason": ""}


def _save_whole(model: Any, run: Run, name: str) -> None:
    """Save a Keras model so that the file is complete or absent."""
    temporary, final = run.path / f".unfinished.{name}", run.path / name
    try:
        model.save(temporary)
        os.replace(temporary, final)
    except OSError as error:
        raise cannot_write(final, error) from error
