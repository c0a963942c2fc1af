"""A search on texts, and a model file that takes raw strings.

The same on the command line:

    smarttune search examples/data/sms.tsv --target label --time 1m --run runs/sms
    smarttune predict runs/sms new.csv -o predictions.csv
    smarttune export runs/sms model.keras
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import smarttune

SMS = Path(__file__).parent / "data" / "sms.tsv"
QUICK = os.environ.get("SMARTTUNE_QUICK") == "1"
# A time limit is what one usually gives; the tests want few trials of few epochs.
LIMITS: dict[str, Any] = (
    {"trials": 2, "strategy": "random", "pinned": {"search.max_epochs": 10}}
    if QUICK
    else {"time": "1m"}
)
NEW = [
    "URGENT! You have won a 1000 cash prize. Call 09061701461 now to claim",
    "ok, see you at home after the lecture then",
]


def main() -> None:
    suggestion = smarttune.suggest(SMS, target="label")
    family = suggestion.settings["model.family"]
    print(f"Recommended: {family.value}, because {family.because[0].summary}")

    with tempfile.TemporaryDirectory() as folder:
        run = smarttune.search(SMS, target="label", run=Path(folder) / "sms", **LIMITS)
        test = run.report()["test"]["best"]
        print(f"On held-back messages: accuracy {test['accuracy']:.3f}, AUC {test['auc']:.3f}")

        # The file holds vocabulary and weights; here Keras alone reads it, SmartTune does not.
        import keras

        model = keras.saving.load_model(run.model_path)
        texts = keras.ops.convert_to_tensor(NEW)
        print("\nProbability of spam:")
        for text, (spam,) in zip(NEW, model.predict({"text": texts}, verbose=0), strict=True):
            print(f"  {spam:.2f}  {text}")


if __name__ == "__main__":
    main()
