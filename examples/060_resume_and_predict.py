"""A search that is interrupted, resumed, and used: predictions and a model file.

The same on the command line, with Ctrl-C in the middle:

    smarttune search examples/data/wine.csv --target quality --problem regression --run runs/wine
    smarttune resume runs/wine
    smarttune predict runs/wine new.csv -o predictions.csv
    smarttune export runs/wine model.keras
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

import smarttune

WINE = Path(__file__).parent / "data" / "wine.csv"
QUICK = os.environ.get("SMARTTUNE_QUICK") == "1"
NUM_TRIALS = 3 if QUICK else 8
# Short trainings, so that the example stays short.
PINNED = {"search.max_epochs": 3 if QUICK else 27}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wine"
        seen: list[str] = []

        def interrupt(event: Mapping[str, Any]) -> None:
            """Do what Ctrl-C does, when the second trial has ended."""
            if event["event"] == "trial_finished":
                seen.append(event["trial_id"])
                if len(seen) == 2:
                    raise KeyboardInterrupt

        try:
            smarttune.search(
                WINE,
                target="quality",
                problem="regression",
                trials=NUM_TRIALS,
                strategy="random",
                pinned=PINNED,
                run=path,
                on_event=interrupt,
            )
        except KeyboardInterrupt:
            kept = smarttune.Run.load(path)
            print(f"Interrupted. Trials kept: {[r.trial_id for r in kept.log]}")

        run = smarttune.resume(path)
        print(f"Resumed.     Trials now:  {[r.trial_id for r in run.log]}")

        new = pd.read_csv(WINE).drop(columns="quality").head(3)
        print("\nPredicted grades of three wines:")
        print(run.predict(new).round(2).to_string(index=False))

        # One Keras file with the preprocessing inside; it does not need SmartTune.
        shutil.copy(run.model_path, Path(folder) / "model.keras")
        print(f"\nmodel.keras: {run.model_path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
