"""A search on recordings: WAV files in a folder for each class.

The same on the command line:

    smarttune search FOLDER --time 5m
"""

from __future__ import annotations

import os
import tempfile
import wave
from pathlib import Path
from typing import Any

import keras
import numpy as np

import smarttune

QUICK = os.environ.get("SMARTTUNE_QUICK") == "1"
RATE = 8000  # samples per second
EACH = 20 if QUICK else 60  # recordings of each class
LIMITS: dict[str, Any] = (
    {"trials": 2, "strategy": "random", "pinned": {"search.max_epochs": 2, "model.filters": 8}}
    if QUICK
    else {"time": "3m"}
)


def sound(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Half a second of a steady, a rising or a falling tone in noise, between -1 and 1."""
    seconds = np.arange(int(rng.uniform(0.3, 0.5) * RATE)) / RATE
    slope = {"steady": 0.0, "rising": 1000.0, "falling": -1000.0}[kind]
    hertz = rng.uniform(900, 1500)
    phase = 2 * np.pi * (hertz * seconds + slope * seconds**2 / 2)
    tone = rng.uniform(0.1, 0.5) * np.sin(phase) + 0.05 * rng.normal(size=len(seconds))
    return np.clip(tone, -1, 1)


def write(path: Path, samples: np.ndarray) -> None:
    """Write samples as a WAV file of 16 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())


def main() -> None:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        recordings = Path(folder) / "tones"
        for kind in ("steady", "rising", "falling"):
            for i in range(EACH):
                write(recordings / kind / f"{i:03d}.wav", sound(kind, rng))

        run = smarttune.search(recordings, run=Path(folder) / "run", **LIMITS)
        test = run.report()["test"]["best"]
        print(f"On held-back recordings: accuracy {test['accuracy']:.3f}")

        # New files are predicted in the same form: a folder, a csv of paths, an archive.
        write(Path(folder) / "new" / "new.wav", sound("rising", rng))
        print(run.predict(Path(folder) / "new").round(3).to_string(index=False))

        # The exported model is plain Keras. It takes samples between -1 and 1 at 8,000 a second.
        model = keras.saving.load_model(run.path / "model.keras")
        shares = model.predict(sound("falling", rng)[None].astype("float32"), verbose=0)[0]
        print("model.keras on a falling tone:", shares.round(3))


if __name__ == "__main__":
    main()
