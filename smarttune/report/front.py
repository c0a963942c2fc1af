"""The Pareto front of a search with several objectives, and how to choose from it."""

from __future__ import annotations

import shlex
from typing import Any

from smarttune.trials import TrialLog
from smarttune.tuning.costs import COSTS, front_of
from smarttune.tuning.run import Run


def front_section(run: Run, log: TrialLog, exported: str) -> dict[str, Any]:
    """Return what a report holds of the front.

    Args:
        run: A run whose trials have ended.
        log: Its trials.
        exported: The trial whose model was exported.

    Returns:
        `front` with the unit of each cost, the trials and a note; nothing where the search had
        one objective.
    """
    names = tuple(run.manifest.get("against", ()))
    if not names:
        return {}
    trials = [
        {
            "trial_id": record.trial_id,
            "score": record.score,
            "costs": {name: COSTS[name].of(record) for name in names},
            "is_default": record.is_default,
            "is_exported": record.trial_id == exported,
            "values": record.values,
        }
        for record in front_of(log, names)
    ]
    costs = {name: COSTS[name].unit for name in names}
    return {"front": {"costs": costs, "trials": trials, "note": _note(run, exported)}}


def _note(run: Run, exported: str) -> str:
    return (
        f"No trial beats one of these in {run.objective.name} and in cost at once. Exported was "
        f"trial {exported}, the best by {run.objective.name}. Each line further down costs less "
        "and scores worse, so take the last one whose score still serves: "
        f"smarttune export {shlex.quote(str(run.path))} model.keras --trial ID. The scores are "
        "those of a single training each; small steps between them may be luck."
    )
