"""The recommendation for the wine table, without and with a pack of house rules."""

from __future__ import annotations

from pathlib import Path

import smarttune

HERE = Path(__file__).parent
WINE = HERE.parent / "data" / "wine.csv"
CHANGED = ("model.units", "training.batch_size")


def main() -> None:
    plain = smarttune.suggest(WINE, target="quality", problem="regression")
    housed = smarttune.suggest(WINE, target="quality", problem="regression", rules=[HERE / "lab"])

    for name in CHANGED:
        before, after = plain.settings[name], housed.settings[name]
        print(f"{name}: {before.value} ({before.range}) becomes {after.value} ({after.range})")
        for reason in after.because:
            print(f"  {reason.rule} {reason.role}: {reason.summary}")
            print(f"    because {'; '.join(reason.trace)}")
        for loser in after.overruled:
            print(f"  {loser.rule} is overruled: {loser.decided_by}")


if __name__ == "__main__":
    main()
