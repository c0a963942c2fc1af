"""A search on sequences of different lengths: measured steps, one label for each sequence.

The same on the command line, with the sequences joined end to end in an archive:

    smarttune search sequences.npz --time 5m
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

import smarttune

QUICK = os.environ.get("SMARTTUNE_QUICK") == "1"
COUNT = 60 if QUICK else 400
LIMITS: dict[str, Any] = (
    {"trials": 2, "strategy": "random", "pinned": {"search.max_epochs": 2, "model.rnn_units": 8}}
    if QUICK
    else {"time": "3m"}
)


def movement(label: int, rng: np.random.Generator) -> np.ndarray:
    """Two sensors on something that swings slowly (0), fast (1) or ever faster (2)."""
    steps = np.arange(rng.integers(20, 41))
    pace = (0.3, 0.6, 0.3 + 0.01 * steps)[label]
    angle = pace * steps + rng.uniform(0, 6)
    both = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    return (both + 0.3 * rng.normal(size=both.shape)).astype(np.float32)


def main() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, COUNT)
    sequences = [movement(label, rng) for label in labels]
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "movements.npz"
        np.savez(
            archive,
            x=np.concatenate(sequences),  # all steps of all sequences, (steps, sensors)
            length=[len(one) for one in sequences],
            y=np.array(["slow", "fast", "faster"])[labels],
        )

        run = smarttune.search(archive, run=Path(folder) / "run", **LIMITS)
        test = run.report()["test"]["best"]
        print(f"On held-back sequences: accuracy {test['accuracy']:.3f}")
        print(run.predict(archive).head(3).round(3).to_string(index=False))

        # The exported model is plain Keras: (batch, steps, sensors), NaN for what is missing.
        model = keras.saving.load_model(run.path / "model.keras")
        shares = model.predict(movement(2, rng)[None], verbose=0)[0]
        print("model.keras on a movement that gets faster:", shares.round(3))


if __name__ == "__main__":
    main()
