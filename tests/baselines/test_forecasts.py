"""Naive forecasts, a linear one, and compression of text."""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from smarttune.baselines import corpora, series
from smarttune.baselines.contest import Allowance, Contest, Made, Unsuited
from smarttune.data import Dataset, read
from smarttune.data.series import SeriesContent
from smarttune.fingerprint import measure
from smarttune.models.modalities import modality_of
from smarttune.space import Value

PLENTY = Allowance(60.0)


def contest(data: Dataset, settings: dict[str, Value]) -> Contest:
    """The question of a data set, as a search would put it."""
    found = measure(data)
    learnt = modality_of(found.task, str(found.problem))
    parts = learnt.split(data, found, settings, validation_fraction=0.2, test_fraction=0.2)
    inputs = learnt.fit(data, found, parts.train, settings, ())
    codec = learnt.codec(data, found, parts.train, settings, None)
    return Contest(
        data,
        found,
        codec,
        parts,
        settings,
        lambda rows: inputs.targets(data, rows, codec),
        "mean_absolute_error",
        0,
    )


def weeks(noise: float = 0.0) -> Dataset:
    """Days with a week and a trend in them."""
    rng = np.random.default_rng(1)
    day = np.arange(200)
    sales = 5.0 * (day % 7 == 6) + 0.02 * day + rng.normal(0, noise, 200)
    frame = pd.DataFrame({"day": pd.date_range("2024-01-01", periods=200), "sales": sales})
    return read(frame, "sales", horizon=10)


SETTINGS: dict[str, Value] = {
    "model.window_length": 21,
    "model.target_transform": "standardize",
}


def forecast(asked: Contest, outputs: np.ndarray | None) -> np.ndarray:
    """Forecasts of the test rows in own units."""
    assert outputs is not None
    assert outputs.shape == (len(asked.split.test), 10)
    return asked.codec.raw_units(outputs)


def test_naive_forecasts_repeat_what_was_known() -> None:
    """The last value, and the last season of which ten days need more than one."""
    asked = contest(weeks(), SETTINGS)
    assert isinstance(asked.dataset.content, SeriesContent)
    values = asked.dataset.content.values[:, 0]
    origin = asked.split.test[3]

    last = forecast(asked, series.last_value(asked, PLENTY).outputs)[3]
    season = forecast(asked, series.last_season(asked, PLENTY).outputs)[3]

    np.testing.assert_allclose(last, values[origin], rtol=1e-5)
    week = values[origin - 6 : origin + 1]
    np.testing.assert_allclose(season, [*week, *week[:3]], rtol=1e-5)


def test_seasonal_forecast_needs_a_season() -> None:
    """A series without one has no such baseline, and the note says why."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"y": rng.normal(size=200).cumsum()})
    asked = contest(read(frame, "y", horizon=10), SETTINGS)
    with pytest.raises(Unsuited, match="no season"):
        series.last_season(asked, PLENTY)


def test_linear_map_learns_week_and_trend() -> None:
    """It beats both naive forecasts where the future is a linear function of the past."""
    asked = contest(weeks(noise=0.05), SETTINGS)
    truth = asked.codec.raw_units(asked.encoded(asked.split.test))

    errors = [
        np.abs(forecast(asked, make(asked, PLENTY).outputs) - truth).mean()
        for make in (series.linear_map, series.last_value, series.last_season)
    ]

    assert errors[0] < 0.2
    assert errors[0] < min(errors[1:])


@pytest.mark.parametrize("make", [series.last_value, series.last_season, series.linear_map])
def test_forecasts_never_look_ahead(make: Callable[[Contest, Allowance], Made]) -> None:
    """What comes after the last origin changes no forecast."""
    plain = contest(weeks(noise=0.1), SETTINGS)
    changed = contest(weeks(noise=0.1), SETTINGS)
    assert isinstance(changed.dataset.content, SeriesContent)
    changed.dataset.content.values[int(changed.split.test[0]) + 1 :] = 1e6

    a, b = make(plain, PLENTY).outputs, make(changed, PLENTY).outputs

    assert a is not None
    assert b is not None
    np.testing.assert_allclose(a[0], b[0], rtol=1e-6)


def test_compression_counts_what_the_test_text_adds(tmp_path: Path) -> None:
    """Bits of the whole less bits of what came before, by the better of two compressors."""
    rng = np.random.default_rng(3)
    text = " ".join(rng.choice(["ask", "bring", "carry", "draw"], 2000))
    path = tmp_path / "a.txt"
    path.write_text(text)
    settings: dict[str, Value] = {
        "model.max_sequence_length": 50,
        "model.vocabulary_size": 100,
    }
    asked = contest(read(path, task="text"), settings)
    rows = asked.split.test
    first, last = rows[0] * 50 + 1, (rows[-1] + 1) * 50 + 1

    made = corpora.compression(asked, PLENTY)
    hurried = corpora.compression(asked, Allowance(0.01))

    xz = [
        len(lzma.compress(text[:n].encode(), preset=9 | lzma.PRESET_EXTREME)) for n in (first, last)
    ]
    bz = [len(bz2.compress(text[:n].encode())) for n in (first, last)]
    wanted = 8 * min(xz[1] - xz[0], bz[1] - bz[0]) / (last - first)
    assert made.metrics["bits_per_character"] == pytest.approx(wanted)
    assert made.metrics["crossentropy"] == pytest.approx(wanted * np.log(2))
    assert made.note == ""
    assert "It saw the last 2,000 characters" in hurried.note
