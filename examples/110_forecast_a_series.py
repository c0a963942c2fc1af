"""A forecast: what the rules make of a series, a search, and the days to come.

Without an argument the program makes up the ice cream sales of two kiosks; otherwise

    python examples/110_forecast_a_series.py FILE.csv TARGET

forecasts a series of yours. The same on the command line:

    smarttune search kiosks.csv --target sold --horizon 14 --series-column kiosk --time 1m
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import smarttune

QUICK = os.environ.get("SMARTTUNE_QUICK") == "1"
LIMITS: dict[str, Any] = (
    {"trials": 2, "strategy": "random", "pinned": {"search.max_epochs": 3}}
    if QUICK
    else {"time": "1m"}
)


def kiosks(days: int = 500) -> pd.DataFrame:
    """Daily sales that follow the week, the temperature and a slow growth."""
    rng = np.random.default_rng(7)
    parts = []
    for number, kiosk in enumerate(["beach", "station"]):
        day = np.arange(days)
        warmth = 14 + 10 * np.sin(2 * np.pi * (day - 100) / 365) + rng.normal(0, 2, days)
        weekend = np.where(day % 7 >= 5, 1.6 - 0.8 * number, 1.0)
        sold = (40 + 5 * warmth + 0.1 * day) * weekend * rng.normal(1, 0.05, days)
        dates = pd.date_range("2024-01-01", periods=days)
        parts.append(pd.DataFrame({"date": dates, "kiosk": kiosk, "sold": sold, "warmth": warmth}))
    return pd.concat(parts)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, target = Path(folder) / "kiosks.csv", "sold"
        source: dict[str, Any] = {"horizon": 14, "series_column": "kiosk"}
        if len(sys.argv) > 2:
            path, target = Path(sys.argv[1]), sys.argv[2]
            source = {"task": "timeseries"}
        else:
            kiosks().to_csv(path, index=False)

        recommendation = smarttune.suggest(path, target=target, **source)
        for name in ("model.family", "model.window_length", "model.window_normalization"):
            setting = recommendation.settings[name]
            print(f"{name} = {setting.value}: {setting.because[0].summary}")

        run = smarttune.search(path, target=target, run=Path(folder) / "run", **source, **LIMITS)
        report = run.report()
        print(f"\nMean absolute error on the last days, by {len(run.log)} trials and without any:")
        print(f"  best network    {report['test']['best']['mean_absolute_error']:.2f}")
        for baseline in report["baselines"]:
            error = baseline["metrics"].get("mean_absolute_error")
            print(
                f"  {baseline['name']:15} {baseline['note'] if error is None else f'{error:.2f}'}"
            )

        forecast = run.predict(path)
        print(f"\nThe {len(forecast)} values that follow begin with:")
        print(forecast.head(3).to_string(index=False))


if __name__ == "__main__":
    main()
