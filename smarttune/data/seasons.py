"""The season of a series: after how many steps it resembles itself again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from smarttune.data.timesteps import Step

# ours: series and steps looked at; more of either do not change which season is found.
MAX_SERIES, MAX_STEPS = 20, 100_000
# ours: a season must have been seen five times before it is believed, ...
LEAST_SEASONS = 5
# ours: ... and what lies these many seasons apart must be alike too.
REPEATED = (2, 3)
# ours: steps one season apart must be this much alike (correlation), ...
LEAST_CORRELATION = 0.3
# ... and this much more alike than steps half a season apart, or it is mere inertia.
LEAST_PROMINENCE = 0.1
# ours: a longer season must beat a shorter one by this much, for it also repeats the shorter.
LONGER_MUST_GAIN = 0.05
# ours: where time has no unit every lag is tried up to this one.
MOST_LAGS = 400
# Lengths that the calendar gives reason to expect, in seconds: hour, day, week, year.
_CYCLES = (3_600, 86_400, 604_800, 31_557_600)
_SHORTEST, _LONGEST = 4, 10_000  # ours


def season_length(series: Sequence[npt.NDArray[np.floating]], step: Step) -> int | None:
    """The strongest season of some series of one kind, in steps; None where there is none.

    For each lag, what changes more slowly (a moving average over one lag) is taken off. A season
    is a lag at which the autocorrelation of the rest, averaged over the series, is high and well
    above that of half the lag.

    Args:
        series: Values of one variable, without gaps, one array per series.
        step: What lies between two neighbours; it decides which lags make sense.
    """
    longest = sorted(series, key=len, reverse=True)[:MAX_SERIES]
    tails = [values[-MAX_STEPS:].astype(np.float64) for values in longest]
    best, strength = None, 0.0
    for lag in plausible_lags(step):
        rest = [_without_trend(v, lag) for v in tails if len(v) >= LEAST_SEASONS * lag]
        rest = [values for values in rest if values.any()]
        if not rest:
            continue
        here = _correlation(rest, lag)
        if here < LEAST_CORRELATION or here - _correlation(rest, lag // 2) < LEAST_PROMINENCE:
            continue
        # Wandering series resemble themselves after some lag as well, but not after twice it.
        if min(_correlation(rest, again * lag) for again in REPEATED) < LEAST_CORRELATION:
            continue
        if step.kind in ("rows", "number") and here < max(
            _correlation(rest, lag - 1), _correlation(rest, lag + 1)
        ):
            continue
        if best is None or here > strength + LONGER_MUST_GAIN:
            best, strength = lag, here
    return best


def plausible_lags(step: Step) -> list[int]:
    """Lags that may be seasons, rising."""
    if step.kind == "months":
        return [12 // step.size] if 12 % step.size == 0 and 12 // step.size >= _SHORTEST else []
    if step.kind == "business_days":
        return [5, 21, 261]  # a week, a month, a year of them
    if step.kind == "time":
        lags = [round(cycle * 1e9 / step.size) for cycle in _CYCLES]
        return [lag for lag in lags if _SHORTEST <= lag <= _LONGEST]
    return list(range(_SHORTEST, MOST_LAGS + 1))


def _without_trend(values: npt.NDArray[np.float64], lag: int) -> npt.NDArray[np.float64]:
    """Less the moving average over one lag; all zeros where only rounding is left."""
    sums = np.cumsum(np.insert(values - values.mean(), 0, 0.0))
    slow = (sums[lag:] - sums[:-lag]) / lag + values.mean()
    before = (lag - 1) // 2
    rest = values[before : before + len(slow)] - slow
    noise = 1e-6 * np.abs(values).max()
    return rest if np.abs(rest).max() > noise else np.zeros(0)


def _correlation(series: Sequence[npt.NDArray[np.float64]], lag: int) -> float:
    each = [(v[lag:] @ v[:-lag]) / (v @ v) * len(v) / (len(v) - lag) for v in series]
    return float(np.mean(each))
