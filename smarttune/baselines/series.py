"""Forecasts without a network: the last value, the last season, and a linear map."""

from __future__ import annotations

import numpy as np

from smarttune.baselines.contest import Allowance, Contest, Made, Recipe, Unsuited
from smarttune.data.series import SeriesContent

# ours: windows and numbers that a linear map is fitted on; a few seconds and 200 MB.
_MOST_WINDOWS, _MOST_NUMBERS = 20_000, 2**25


def last_value(contest: Contest, allowance: Allowance) -> Made:
    """Every step of the horizon is as the last one known."""
    content = _content(contest)
    origins = contest.split.test[:, None]
    return _made(contest, np.repeat(origins, content.horizon, axis=1))


def last_season(contest: Contest, allowance: Allowance) -> Made:
    """Every step is as the one a season before, the last that is known where one is not yet.

    Seasonal naive in Hyndman and Athanasopoulos 2021, Forecasting, section 5.2.
    """
    content = _content(contest)
    season = content.season
    if season is None:
        raise Unsuited("The series has no season.")
    ahead = np.arange(1, content.horizon + 1)
    steps = ahead - season * -(-ahead // season)
    rows = contest.split.test[:, None] + steps[None]
    first = content.starts[content.owners[contest.split.test]][:, None]
    if (rows < first).any():
        raise Unsuited("Some forecasts have less than one season of history.")
    return _made(contest, rows)


def linear_map(contest: Contest, allowance: Allowance) -> Made:
    """Each future value as a weighted sum of the window, less its last value, plus that value.

    Ridge regression whose strength is chosen on the validation rows.
    """
    from sklearn.linear_model import Ridge

    content = _content(contest)
    window = int(contest.settings["model.window_length"])
    width = window * len(content.names)
    train = contest.drawn(contest.split.train, max(1, min(_MOST_WINDOWS, _MOST_NUMBERS // width)))
    parts = [train, contest.split.validation, contest.split.test]
    x, levels = zip(*(_window(content, rows, window) for rows in parts), strict=True)
    scale = np.maximum(x[0].std(axis=0), 1e-6)
    count = content.num_targets
    futures = [
        _future(content, rows) - level[:, None, :count]
        for rows, level in zip(parts[:2], levels[:2], strict=True)
    ]
    best, least = None, np.inf
    for strength in (1.0, 100.0, 10_000.0):
        model = Ridge(alpha=strength).fit(x[0] / scale, futures[0].reshape(len(train), -1))
        error = np.abs(model.predict(x[1] / scale) - futures[1].reshape(len(x[1]), -1)).mean()
        if error < least:
            best, least = model, error
        if allowance.left < 0:
            break
    assert best is not None
    changes = best.predict(x[2] / scale).reshape(len(x[2]), content.horizon, count)
    return Made(_encoded(contest, changes + levels[2][:, None, :count]))


def _content(contest: Contest) -> SeriesContent:
    assert isinstance(contest.dataset.content, SeriesContent)
    return contest.dataset.content


def _made(contest: Contest, rows: np.ndarray) -> Made:
    """Forecasts that are values of other steps, shape (test rows, horizon)."""
    content = _content(contest)
    return Made(_encoded(contest, content.values[rows][..., : content.num_targets]))


def _encoded(contest: Contest, raw: np.ndarray) -> np.ndarray:
    """Forecasts, shape (rows, horizon, targets), as a network gives them."""
    return contest.codec.standardized(raw.reshape(len(raw), -1).astype(np.float64))


def _window(content: SeriesContent, rows: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows less their last values, (rows, length * variables), and these, (rows, variables)."""
    steps = rows[:, None] + np.arange(1 - length, 1)[None]
    values = content.values[steps]
    return (values - values[:, -1:]).reshape(len(rows), -1), values[:, -1]


def _future(content: SeriesContent, rows: np.ndarray) -> np.ndarray:
    """What follows some rows, shape (rows, horizon, targets)."""
    steps = rows[:, None] + np.arange(1, content.horizon + 1)[None]
    return content.values[steps][..., : content.num_targets]


RECIPES: tuple[Recipe, ...] = (
    Recipe("naive", "trivial", "every step as the last known value", last_value),
    Recipe("seasonal naive", "trivial", "every step as one season before", last_season),
    Recipe("ridge", "strong", "a linear map from the window", linear_map, "scikit-learn"),
)
