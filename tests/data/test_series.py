"""Tables of steps in time: put in order, mended, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.data import Dataset, read
from smarttune.data.seasons import season_length
from smarttune.data.series import SeriesContent
from smarttune.data.timesteps import Step
from smarttune.errors import DataError, OptionError
from smarttune.fingerprint import measure
from tests.development import development_data

SEASON = 7


def days(steps: int = 84, *, seed: int = 0) -> pd.DataFrame:
    """Daily sales with a week in them, and a covariate."""
    rng = np.random.default_rng(seed)
    week = 10 + 4 * np.sin(2 * np.pi * np.arange(steps) / SEASON)
    return pd.DataFrame(
        {
            "day": pd.date_range("2024-01-01", periods=steps, freq="D").strftime("%Y-%m-%d"),
            "sales": week + rng.normal(0, 0.2, steps),
            "heat": rng.normal(20, 3, steps),
        }
    )


def series(frame: Any, target: Any = "sales", **options: Any) -> tuple[Dataset, SeriesContent]:
    """A table read as series."""
    data = read(frame, target, **({"task": "timeseries"} | options))
    assert isinstance(data.content, SeriesContent)
    return data, data.content


def warned(data: Dataset, part: str) -> bool:
    """Whether a warning says so."""
    return any(part in warning for warning in data.warnings)


def test_season_and_horizon_are_found() -> None:
    """A week is found in days, becomes the horizon, and the user is told."""
    data, content = series(days())

    found = measure(data)

    assert content.step == Step("time", 86_400_000_000_000)
    assert (content.season, content.horizon) == (SEASON, SEASON)
    assert found.problem == "forecasting"
    assert found.content["data.season_length"] == SEASON
    assert found.content["data.num_variables"] == 2
    assert any("No horizon was given: 7 step(s) of 1 day" in w for w in found.warnings)


def test_rows_in_any_order_are_the_same_series() -> None:
    """Shuffled rows are sorted by time, and the user is told."""
    data, content = series(days().sample(frac=1.0, random_state=1))
    _, plain = series(days())

    np.testing.assert_array_equal(content.values, plain.values)
    assert warned(data, "sorted")


def test_short_gaps_are_filled_along_a_line_and_counted() -> None:
    """Absent rows and empty cells lie on the line between their neighbours."""
    frame = days()
    frame.loc[20, "sales"] = np.nan
    gone = frame.drop(index=[40, 41])

    data, content = series(gone)

    assert len(content) == 84
    values = content.values[:, 0]
    assert values[20] == pytest.approx((values[19] + values[21]) / 2, rel=1e-5)
    assert values[41] - values[40] == pytest.approx(values[40] - values[39], rel=1e-3)
    assert warned(data, "2 step(s) were absent")
    assert warned(data, "1 missing cell(s) were filled along a line, in `sales`")


def test_long_gaps_are_refused_with_their_place() -> None:
    """A month without rows, or without values, is not invented."""
    with pytest.raises(DataError, match="30 steps are absent between 2024-01-20 and 2024-02-20"):
        series(days().drop(index=range(20, 50)))
    frame = days(400)
    frame.loc[100:130, "sales"] = np.nan
    with pytest.raises(DataError, match="31 of 400 steps are missing in `sales`, up to 31"):
        series(frame)


def test_ends_without_target_are_cut_off() -> None:
    """Days before the first and after the last known sale are no part of the series."""
    frame = days()
    frame.loc[:2, "sales"] = np.nan
    frame.loc[80:, "sales"] = np.nan

    data, content = series(frame)

    assert len(content) == 77
    assert str(content.stamps[0]).startswith("2024-01-04")
    assert warned(data, "7 step(s) at the ends of series have no target")


def test_single_double_stamps_are_averaged_and_many_are_several_series() -> None:
    """One repeated day is a slip; all days twice are two series without a name."""
    frame = days(200)
    again = pd.concat([frame, frame.iloc[[5]].assign(sales=99.0)])

    data, content = series(again)

    assert len(content) == 200
    assert content.values[5, 0] == pytest.approx((frame["sales"].iloc[5] + 99.0) / 2, rel=1e-5)
    assert warned(data, "1 row(s) repeat a time stamp and were averaged: 2024-01-06")
    with pytest.raises(DataError, match="200 row.s. repeat a time stamp") as caught:
        series(pd.concat([frame, frame.assign(sales=1.0)]))
    assert "--series-column" in str(caught.value)


def test_equal_rows_that_come_twice_are_no_reason_to_refuse() -> None:
    """An export that holds everything twice loses nothing when joined."""
    _, content = series(pd.concat([days(), days()]))

    assert len(content) == 84


def test_many_series_share_a_grid() -> None:
    """Each series keeps its own rows, in the order of time, under its own name."""
    two = pd.concat([days(60, seed=1).assign(shop="b"), days(84, seed=2).assign(shop="a")])

    data, content = series(two, series_column="shop", horizon=3)

    assert content.labels == ("a", "b")
    np.testing.assert_array_equal(np.diff(content.starts), [84, 60])
    np.testing.assert_array_equal(content.places[:60], content.places[84:])
    assert list(data.features.columns) == ["day", "shop", "heat"]
    assert measure(data).content["data.num_series"] == 2


@given(order=st.permutations(list(range(12))))
def test_series_without_times_count_their_own_rows(order: list[int]) -> None:
    """Rows of two series may be mixed in any way; their own order is kept, and no gap is seen."""
    shops = np.array(["a", "b"] * 6)[order]
    sales = np.arange(12, dtype=float)

    _, content = series(pd.DataFrame({"shop": shops, "sales": sales}), series_column="shop")

    assert len(content) == 12
    np.testing.assert_array_equal(content.values[:6, 0], sales[shops == "a"])
    np.testing.assert_array_equal(content.places, [*range(6), *range(6)])


def test_series_too_short_to_learn_from_are_named() -> None:
    """Short ones are told; if none is long enough the error names the horizon."""
    two = pd.concat([days(4, seed=1).assign(shop="tiny"), days().assign(shop="a")])
    data, _ = series(two, series_column="shop", horizon=5)
    assert any(
        "1 series shorter than 6 steps" in w and "`tiny`" in w for w in measure(data).warnings
    )
    with pytest.raises(DataError, match="for a horizon of 90") as caught:
        measure(series(days(), horizon=90)[0])
    assert "--horizon" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "options", "error", "received"),
    [
        ({"sales": "many"}, {}, DataError, "the target `sales` holds text, such as 'many'"),
        ({}, {"time_column": "date"}, OptionError, "`date` is no column"),
        ({}, {"series_column": "shop"}, OptionError, "`shop` is no column"),
        ({}, {"time_column": "sales"}, OptionError, "`sales` is a target"),
        ({}, {"time_column": "heat"}, DataError, "column `heat` holds no time stamps"),
        ({}, {"horizon": 0}, OptionError, "0"),
        ({"end": lambda t: t["day"]}, {}, OptionError, "2 columns hold dates: `day`, `end`"),
    ],
)
def test_what_cannot_be_a_series_is_refused(
    change: dict[str, Any], options: dict[str, Any], error: type[Exception], received: str
) -> None:
    """The error names the column or option that is wrong."""
    with pytest.raises(error, match=received):
        series(days().assign(**change), **options)


def test_missing_target_is_refused_when_measured() -> None:
    """Without a target there is nothing to forecast."""
    with pytest.raises(DataError, match="--target"):
        measure(series(days(), None)[0])


def test_irregular_steps_are_refused_with_the_place() -> None:
    """Half an hour off the grid of days is no step; the error says where and how to resample."""
    frame = days().assign(day=pd.date_range("2024-01-01", periods=84, freq="D"))
    frame.loc[30, "day"] += pd.Timedelta(minutes=30)
    with pytest.raises(DataError, match="2 of 83 steps are no multiple") as caught:
        series(frame)
    assert "resample" in str(caught.value)


def test_unreadable_times_are_left_out_and_named() -> None:
    """A broken date among many costs its row; a column of none is no time."""
    frame = days()
    frame.loc[9, "day"] = "soon"

    data, content = series(frame)

    assert len(content) == 84  # the gap that it leaves is filled
    assert warned(data, "1 row(s) without a readable `day` left out, the first in row 10")


def test_text_columns_are_named_as_unused() -> None:
    """They are told, not silently lost."""
    data, content = series(days().assign(mood=["good", "bad"] * 42))

    assert content.names == ("sales", "heat")
    assert warned(data, "1 column(s) without numbers not used: `mood`")


def test_parquet_and_csv_are_the_same_series(tmp_path: Path) -> None:
    """Dates stored as dates and dates stored as text."""
    frame = days()
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.assign(day=pd.to_datetime(frame["day"])).to_parquet(tmp_path / "a.parquet")

    _, a = series(tmp_path / "a.csv")
    _, b = series(tmp_path / "a.parquet")

    np.testing.assert_allclose(a.values, b.values, rtol=1e-6)
    np.testing.assert_array_equal(a.stamps, b.stamps)


STARTS = {
    "D": "2024-01-01", "h": "2024-02-28 22:00", "15min": "2023-12-31 23:30", "MS": "2023-11-01",
    "ME": "2023-10-31", "QS": "2023-01-01", "B": "2024-01-04", "YS": "2001-01-01",
    "W": "2024-01-07",
}  # fmt: skip


@pytest.mark.parametrize("freq", STARTS)
def test_stamps_to_come_continue_the_calendar(freq: str) -> None:
    """Months keep their first or last day, business days leave out weekends."""
    whole = pd.date_range(STARTS[freq], periods=40, freq=freq)
    frame = pd.DataFrame({"when": whole[:30], "y": np.arange(30.0)})

    _, content = series(frame, "y", time_column="when")
    ahead = content.step.after(content.stamps[-1], 10)

    np.testing.assert_array_equal(pd.DatetimeIndex(ahead), whole[30:])
    assert content.step.between(content.stamps[3], ahead[-1]) == 36
    assert content.step.between(ahead[-1], content.stamps[3]) == -36


@given(
    length=st.integers(4, 40),
    noise=st.floats(0.0, 0.3),
    slope=st.floats(-0.05, 0.05),
    seed=st.integers(0, 5),
)
def test_season_of_a_clean_oscillation_is_its_period(
    length: int, noise: float, slope: float, seed: int
) -> None:
    """Noise and trend do not hide it."""
    rng = np.random.default_rng(seed)
    steps = np.arange(12 * length)
    shape = rng.normal(0, 1, length)
    shape[0] += 4.0  # one peak, so that no shorter period repeats
    values = np.tile(shape, 12) + slope * steps + rng.normal(0, noise, len(steps))

    assert season_length([values], Step("rows")) == length


@pytest.mark.parametrize("kind", ["noise", "walk", "line", "constant"])
def test_no_season_where_there_is_none(kind: str) -> None:
    """Noise, a random walk, a trend and a constant have none."""
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 1, 2000)
    values = {
        "noise": noise,
        "walk": noise.cumsum(),
        "line": np.arange(2000.0),
        "constant": np.ones(2000),
    }[kind]

    assert season_length([values], Step("rows")) is None


def test_steps_cannot_be_picked_out_of_a_series() -> None:
    """A stretch is a series, a sample is not."""
    _, content = series(days())

    part = content.select(np.arange(10, 30))

    np.testing.assert_array_equal(part.values, content.values[10:30])
    with pytest.raises(DataError, match="cannot be sampled"):
        content.select(np.array([1, 3, 4]))


def test_changed_cell_has_another_digest() -> None:
    """A run on other data is told apart."""
    frame = days()
    before = series(frame)[1].digest()
    frame.loc[3, "heat"] += 0.5

    assert series(frame)[1].digest() != before


@pytest.mark.parametrize(
    ("name", "target", "season", "steps"),
    [
        ("ETTh1.csv", "OT", 24, 17_420),
        ("airline-passengers.csv", "Passengers", 12, 144),
        ("daily-min-temperatures.csv", "Temp", 365, 3_652),
    ],
)
def test_real_series_are_understood(name: str, target: str, season: int, steps: int) -> None:
    """Hours, months and days with two of them missing."""
    _, content = series(development_data(f"timeseries/{name}"), target)

    assert len(content) == steps
    assert content.season == season
