"""A search on a table: the recommendation first, then whatever may beat it.

The same on the command line:

    smarttune search examples/data/wine.csv --target quality --problem regression --time 1m
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import smarttune

WINE = Path(__file__).parent / "data" / "wine.csv"
QUICK = os.environ.get("SMARTTUNE_QUICK") == "1"
# A time limit is what one usually gives; the tests want few trials of few epochs.
LIMITS: dict[str, Any] = (
    {"trials": 2, "strategy": "random", "pinned": {"search.max_epochs": 3}}
    if QUICK
    else {"time": "1m"}
)


def show(event: Mapping[str, Any]) -> None:
    """Print the trials as they end; a search without `on_event` is silent."""
    if event["event"] == "trial_finished":
        score = "none" if event["score"] is None else f"{event['score']:.4f}"
        note = ", the recommendation" if event["is_default"] else ""
        print(f"trial {event['trial_id']}: {score} after {event['num_epochs']} epochs{note}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = smarttune.search(
            WINE,
            target="quality",
            problem="regression",
            run=Path(folder) / "wine",  # keep yours: by default it is runs/wine-DATE-TIME
            on_event=show,
            **LIMITS,
        )

        best = run.log.best()
        print(f"\n{len(run.log)} trials by {run.objective.name}; the best is {best.trial_id}")
        report = run.report()
        for change in report["changes"]:
            name, before, after = change["hyperparameter"], change["default"], change["best"]
            print(f"  {name}: {before} became {after}")
        test = report["test"]["best"]
        error, r2 = test["mean_absolute_error"], test["r2_score"]
        print(f"On held-back rows: mean absolute error {error:.3f} grades, R2 {r2:.3f}")
        print("The run directory holds:", ", ".join(sorted(p.name for p in run.path.iterdir())))


if __name__ == "__main__":
    main()
