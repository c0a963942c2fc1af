"""A search on pictures: digits in a folder per class, and the exported model on one file.

scikit-learn brings 1,797 digits of 8 x 8 pixels, so that nothing is downloaded. The same on the
command line, with a folder of your own:

    smarttune search digits --time 3m --run runs/digits
    smarttune predict runs/digits seven.png -o predictions.csv
    smarttune export runs/digits model.keras
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import smarttune

QUICK = os.environ.get("SMARTTUNE_QUICK") == "1"
LIMITS: dict[str, Any] = (
    {"trials": 2, "strategy": "random", "pinned": {"search.max_epochs": 6}}
    if QUICK
    else {"time": "3m"}
)


def write_digits(folder: Path, kept_back: Path) -> int:
    """Write the digits as PNG files, folder/CLASS/NUMBER.png; the last one elsewhere."""
    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # stored as 0 to 16
    for number, (pixels, label) in enumerate(zip(grey[:-1], digits.target[:-1], strict=True)):
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number:04d}.png")
    Image.fromarray(grey[-1]).save(kept_back)
    return int(digits.target[-1])


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth = write_digits(folder / "digits", folder / "new.png")

        recommendation = smarttune.suggest(folder / "digits")
        kind = recommendation.value("training.augmentation")
        print(f"Augmentation: {kind}, for a mirrored digit is another one or none.")

        run = smarttune.search(folder / "digits", run=folder / "run", **LIMITS)
        report = run.report()
        print(f"{len(run.log)} trials; on held-back pictures:")
        for model in ("default", "best"):
            print(f"  {model}: {report['test'][model]['accuracy']:.1%} right")

        # The run predicts for files, folders and arrays, and says how sure it is.
        predicted = run.predict(folder / "new.png")
        print(f"A new picture of a {truth} is taken for a {predicted['prediction'][0]}.")

        # The exported model is plain Keras: pictures of any size in, 0 to 255, shares out.
        model = keras.saving.load_model(run.model_path)
        with Image.open(folder / "new.png") as opened:
            large = np.asarray(opened.resize((40, 40)))[None, ..., None]
        shares = model.predict(large, verbose=0)[0]
        print(f"Enlarged to 40 x 40, the exported model takes it for a {shares.argmax()}.")


if __name__ == "__main__":
    main()
