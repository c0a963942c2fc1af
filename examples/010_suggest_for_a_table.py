"""Recommended hyperparameters for a table, each with its reason.

Nothing is trained, and no deep learning framework is imported. The same on the command line:

    smarttune suggest examples/data/wine.csv --target quality --problem regression
"""

from __future__ import annotations

import sys
from pathlib import Path

import smarttune

WINE = Path(__file__).parent / "data" / "wine.csv"


def main() -> None:
    recommendation = smarttune.suggest(WINE, target="quality", problem="regression")

    print("What was measured")
    for name in ("data.num_samples", "data.num_features", "data.duplicate_fraction"):
        print(f"  {name} = {recommendation.facts.value(name)}")

    print("\nWhat is recommended, and by which rule")
    for name in ("model.num_layers", "model.units", "optimizer.learning_rate", "model.dropout"):
        setting = recommendation.settings[name]
        decisive = setting.because[0]
        print(f"  {name} = {setting.value}, searched over {setting.range}")
        print(f"    {decisive.rule}: {decisive.summary} [{', '.join(decisive.sources)}]")
        for loser in setting.overruled:
            print(f"    overruled {loser.rule}, which says {loser.value}: {loser.decided_by}")

    print("\nWhich rules would speak if more were known")
    for rule in recommendation.unknown[:3]:
        print(f"  {rule.rule} waits for {', '.join(rule.missing)}: {rule.summary}")

    print("\nWhat a larger budget and a fixed activation change")
    other = smarttune.suggest(
        WINE,
        target="quality",
        problem="regression",
        facts={"budget.num_trials": 100},
        pinned={"model.activation": "relu"},
    )
    for name, setting in recommendation.settings.items():
        then = other.settings[name]
        if then.range != setting.range:
            print(f"  {name}: {setting.range} becomes {then.range} ({then.because[0].rule})")

    heavy = [m for m in ("tensorflow", "jax", "torch", "keras", "keras_tuner") if m in sys.modules]
    print(f"\nFrameworks imported: {', '.join(heavy) or 'none'}")


if __name__ == "__main__":
    main()
