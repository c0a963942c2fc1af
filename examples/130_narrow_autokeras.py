"""An AutoKeras search whose ranges the rules narrow.

AutoKeras is no dependency of SmartTune: pip install autokeras. Its graphs are hypermodels
of KerasTuner, so `smarttune.narrow` takes them as it takes any other.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

import smarttune

WINE = Path(__file__).parent / "data" / "wine.csv"
QUICK = os.environ.get("SMARTTUNE_QUICK") == "1"
NUM_TRIALS, NUM_EPOCHS, NUM_ROWS = (2, 1, 500) if QUICK else (10, 20, 6000)


def main() -> None:
    try:
        import autokeras
    except ImportError:
        raise SystemExit("This example needs AutoKeras: pip install autokeras") from None

    class Head(autokeras.RegressionHead):
        """AutoKeras 3.0 hands on sizes as NumPy integers, which Keras 3.13 and later refuse."""

        def build(self, hp: Any, inputs: Any = None) -> Any:
            self.shape = [int(size) for size in self.shape]
            return super().build(hp, inputs)

    wine = pd.read_csv(WINE).head(NUM_ROWS)
    x = wine.drop(columns=["color", "quality"]).to_numpy("float32")
    y = wine[["quality"]].to_numpy("float32")
    recommendation = smarttune.suggest(WINE, target="quality", problem="regression")

    with tempfile.TemporaryDirectory() as folder:
        start = autokeras.Input(shape=x.shape[1:])
        end = Head(output_dim=1)(autokeras.DenseBlock()(autokeras.Normalization()(start)))
        auto = autokeras.AutoModel(
            start, end, max_trials=NUM_TRIALS, tuner="random", directory=folder, seed=1
        )
        narrowed = smarttune.narrow(auto.tuner.hypermodel, recommendation)
        auto.tuner.hypermodel = narrowed  # the one line
        auto.fit(x, y, epochs=NUM_EPOCHS, verbose=0)

    print("\nWhat became of the declared ranges")
    for name, change in narrowed.narrowed.items():
        print(f"  {name}: {change}")


if __name__ == "__main__":
    main()
