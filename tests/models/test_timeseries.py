"""Windows of series, the networks on them, and forecasts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.data import Dataset, read
from smarttune.data.origins import temporal_split
from smarttune.data.series import SeriesContent
from smarttune.errors import DataError, SettingError
from smarttune.fingerprint import Fingerprint, measure
from smarttune.models import TargetCodec
from smarttune.models.family import NetworkHyperModel, TrainingPlan
from smarttune.models.modalities import modality, preprocessor_of
from smarttune.models.timeseries import SeriesPreprocessor
from smarttune.models.windows import Windows, gathered
from smarttune.space import SearchSpace, Value
from smarttune.training.outputs import outputs_of

# Keras 3.15 turns TensorFlow variables into arrays in a way that NumPy 2.4 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

WINDOW, HORIZON, SEASON = 6, 3, 24
SERIES = modality("timeseries")
BODY: dict[str, dict[str, Value]] = {
    "mlp": {"model.num_layers": 1, "model.units": 8, "model.activation": "relu"},
    "rnn": {"model.num_rnn_layers": 1, "model.rnn_units": 4, "model.rnn_cell": "gru"},
    "tcn": {
        "model.num_stages": 2,
        "model.convolutions_per_stage": 1,
        "model.filters": 4,
        "model.kernel_size": 2,
        "model.dilation_base": 2,
        "model.activation": "relu",
    },
}
SETTINGS: dict[str, Value] = {
    "model.window_length": WINDOW,
    "model.target_transform": "standardize",
    "model.window_normalization": "last_value",
    "optimizer.name": "adam",
    "optimizer.learning_rate": 0.01,
    "training.batch_size": 16,
}


def table(*, steps: int = 160, seed: int = 0) -> pd.DataFrame:
    """Hours of two series with a daily season, a trend and a covariate."""
    rng = np.random.default_rng(seed)
    parts = []
    for place in ("north", "south"):
        hours = np.arange(steps)
        heat = 20 + 0.02 * hours + 5 * np.sin(2 * np.pi * hours / SEASON)
        parts.append(
            pd.DataFrame(
                {
                    "hour": pd.date_range("2024-03-01", periods=steps, freq="h"),
                    "place": place,
                    "heat": heat + rng.normal(0, 0.3, steps),
                    "wind": rng.normal(3.0, 2.0, steps),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def dataset(frame: pd.DataFrame | None = None, target: Any = "heat") -> Dataset:
    """The table as series."""
    rows = table() if frame is None else frame
    return read(rows, target, horizon=HORIZON, series_column="place", time_column="hour")


def fitted(
    data: Dataset, **settings: Value
) -> tuple[SeriesPreprocessor, TargetCodec, np.ndarray, dict[str, Value]]:
    """Preprocessing and encoding learnt on the training part."""
    known = {**SETTINGS, **{k.replace("__", "."): v for k, v in settings.items()}}
    print_ = measured(data)
    rows = SERIES.split(data, print_, known, validation_fraction=0.2, test_fraction=0.2).train
    preprocessor = SERIES.fit(data, print_, rows, known, ("mlp",))
    codec = SERIES.codec(data, print_, rows, known, None)
    assert isinstance(preprocessor, SeriesPreprocessor)
    return preprocessor, codec, rows, known


def measured(data: Dataset) -> Fingerprint:
    """The fingerprint of a data set."""
    return measure(data)


def built(
    preprocessor: SeriesPreprocessor, codec: TargetCodec, values: dict[str, Value], family: str
) -> Any:
    """The network of a family."""
    hm = NetworkHyperModel(SearchSpace(dimensions=()), preprocessor, codec, TrainingPlan(100, 1))
    return hm.build_from({**values, **BODY[family], "model.family": family})


def content_of(lengths: list[int], horizon: int, late: int = 0) -> SeriesContent:
    """Series of some lengths whose values are their row numbers; the last one begins later."""
    starts = np.cumsum([0, *lengths])
    total = int(starts[-1])
    places = np.concatenate([np.arange(n) for n in lengths])
    places[starts[-2] :] += late
    from smarttune.data.timesteps import Step

    return SeriesContent(
        names=("x",),
        num_targets=1,
        values=np.arange(total, dtype=np.float32)[:, None],
        starts=starts,
        labels=tuple(f"s{i}" for i in range(len(lengths))),
        stamps=places.copy(),
        places=places,
        step=Step("number"),
        asked_horizon=horizon,
    )


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    horizon=st.integers(1, 5),
    window=st.integers(1, 8),
    late=st.integers(0, 20),
)
def test_no_step_is_predicted_in_two_parts(
    lengths: list[int], horizon: int, window: int, late: int
) -> None:
    """Whole windows only, inside one series, and all that a part predicts lies after the former."""
    content = content_of(lengths, horizon, late)
    try:
        parts = temporal_split(content, window=window, validation_fraction=0.2, test_fraction=0.15)
    except DataError:
        return

    predicted = []
    for rows in (parts.train, parts.validation, parts.test):
        assert len(rows)
        steps = rows[:, None] + np.arange(1 - window, horizon + 1)[None]
        assert (content.owners[steps] == content.owners[rows][:, None]).all()
        predicted.append(content.places[steps[:, window:]])

    assert predicted[0].max() < predicted[1].min()
    assert predicted[1].max() < predicted[2].min()


def test_series_too_short_for_three_parts_are_refused_with_the_mend() -> None:
    """The error says which part has no forecast and what to change."""
    with pytest.raises(DataError, match="fits into the training part") as caught:
        temporal_split(content_of([20], 4), window=12, validation_fraction=0.2, test_fraction=0.15)

    assert "--horizon" in str(caught.value)


def test_windows_hold_history_and_targets_hold_the_future() -> None:
    """Decoded inputs and targets are the very steps before and after the origin."""
    data = dataset()
    preprocessor, codec, rows, _ = fitted(data)
    heat = np.asarray(data.target)

    x = preprocessor.inputs(data, rows)["window"]
    y = preprocessor.targets(data, rows, codec)

    for i in (0, len(rows) // 2, len(rows) - 1):
        past = slice(rows[i] - WINDOW + 1, rows[i] + 1)
        future = heat[rows[i] + 1 : rows[i] + 1 + HORIZON]
        own = preprocessor.target.raw_units(np.asarray(x)[i, :, :1])
        np.testing.assert_allclose(own[:, 0], heat[past], rtol=1e-5)
        np.testing.assert_allclose(codec.raw_units(np.asarray(y)[i]), future, rtol=1e-5)


def test_scales_come_from_the_training_steps_alone() -> None:
    """Nothing that happens after the training part changes the preprocessing."""
    frame = table()
    late = frame["hour"] >= frame["hour"].sort_values().iloc[230]
    changed = frame.assign(
        heat=frame["heat"] + 1000.0 * late, wind=frame["wind"] * np.where(late, 50.0, 1.0)
    )

    before, after = fitted(dataset(frame)), fitted(dataset(changed))

    assert before[0] == after[0]
    assert before[1] == after[1]


def test_windows_are_the_same_lazily_and_in_memory() -> None:
    """Batches of an object that reads when asked equal the gathered array."""
    source = np.arange(60, dtype=np.float32).reshape(20, 3)
    windows = Windows(source, np.array([0, 5, 16]), 4, lambda raw: raw * 2)

    whole = gathered(windows)

    assert isinstance(whole, np.ndarray)
    assert windows.shape == whole.shape == (3, 4, 3)
    np.testing.assert_array_equal(windows[np.array([2, 0])], whole[[2, 0]])
    np.testing.assert_array_equal(windows[1], source[5:9] * 2)
    np.testing.assert_array_equal(np.asarray(windows), whole)


@pytest.mark.parametrize("family", BODY)
@pytest.mark.parametrize("normalization", ["last_value", "mean"])
def test_forecasts_follow_the_level_of_their_window(family: str, normalization: str) -> None:
    """A window lifted by a constant lifts the forecast of its target by as much."""
    data = dataset()
    preprocessor, codec, rows, known = fitted(data, model__window_normalization=normalization)
    model = built(preprocessor, codec, known, family)
    x = np.asarray(preprocessor.inputs(data, rows[:5])["window"])
    lift = np.array([2.0, 0.0], np.float32)

    low, high = outputs_of(model, {"window": x}), outputs_of(model, {"window": x + lift})

    np.testing.assert_allclose(high, low + 2.0, atol=1e-4)


def test_bounded_output_and_window_level_exclude_each_other() -> None:
    """A level given back would leave the bounds, so the setting is refused."""
    data = dataset()
    preprocessor, codec, _, known = fitted(data)
    with pytest.raises(SettingError, match="window_normalization"):
        built(preprocessor, codec, {**known, "model.output_activation": "sigmoid"}, "mlp")


@pytest.mark.parametrize("family", BODY)
@pytest.mark.parametrize("targets", ["heat", ["wind", "heat"]])
def test_exported_model_forecasts_raw_windows(family: str, targets: Any, tmp_path: Path) -> None:
    """The saved model gives, from raw windows, what core and decoding give from encoded ones."""
    data = dataset(table().assign(heat=lambda t: t["heat"].clip(lower=0)), targets)
    preprocessor, codec, rows, known = fitted(data, model__target_transform="log1p_standardize")
    core = built(preprocessor, codec, known, family)
    rows = rows[::17]
    assert isinstance(data.content, SeriesContent)
    raw = data.content.values[rows[:, None] + np.arange(1 - WINDOW, 1)[None]]

    SERIES.exported(core, preprocessor, codec).save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    found = model.predict({"window": raw}, verbose=0)

    encoded = outputs_of(core, preprocessor.inputs(data, rows))
    wanted = codec.raw_units(encoded).reshape(found.shape)
    assert found.shape == (len(rows), HORIZON, 2 if isinstance(targets, list) else 1)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_exported_model_places_a_window_in_its_season(tmp_path: Path) -> None:
    """With a season the step number from the anchor replaces the phase, a season later too."""
    data = dataset()
    preprocessor, codec, rows, known = fitted(data, model__season_phase=True)
    assert preprocessor.season is not None
    assert preprocessor.season.length == SEASON
    core = built(preprocessor, codec, known, "mlp")
    assert isinstance(data.content, SeriesContent)
    rows = rows[::9]
    raw = data.content.values[rows[:, None] + np.arange(1 - WINDOW, 1)[None]]
    number = data.content.places[rows][:, None].astype(np.float32)

    model = SERIES.exported(core, preprocessor, codec)
    found = model.predict({"window": raw, "step": number}, verbose=0)
    later = model.predict({"window": raw, "step": number + 40 * SEASON}, verbose=0)
    shifted = model.predict({"window": raw, "step": number + 5}, verbose=0)

    wanted = codec.raw_units(outputs_of(core, preprocessor.inputs(data, rows)))
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=1e-4)
    np.testing.assert_allclose(found, later, rtol=1e-4)
    assert np.abs(found - shifted).max() > 1e-3


def test_phase_of_later_data_is_counted_from_the_same_moment() -> None:
    """A file that begins in the middle of a season has the phases of the training data."""
    data = dataset()
    preprocessor, _, _, _ = fitted(data, model__season_phase=True)
    frame = table()
    cut = dataset(frame[frame["hour"] >= frame["hour"].iloc[31]])
    rows = np.array([40, 50])

    whole = preprocessor.inputs(data, rows + 31)["phase"]
    later = preprocessor.inputs(cut, rows)["phase"]

    np.testing.assert_allclose(whole, later, atol=1e-6)


def test_forecast_follows_the_end_of_each_series() -> None:
    """One row per series and step, stamped after its last time; columns may be reordered."""
    data = dataset()
    preprocessor, codec, _, known = fitted(data)
    core = built(preprocessor, codec, known, "mlp")
    frame = table()
    frame = frame[(frame["place"] == "north") | (frame["hour"] < frame["hour"].iloc[100])]
    new = dataset(frame[["wind", "place", "hour", "heat"]])

    found = SERIES.predictions(new, preprocessor, codec, core)

    assert list(found.columns) == ["hour", "place", "prediction"]
    assert len(found) == 2 * HORIZON
    first = found.groupby("place")["hour"].min()
    assert first["north"] == pd.Timestamp("2024-03-01") + pd.Timedelta(hours=160)
    assert first["south"] == pd.Timestamp("2024-03-01") + pd.Timedelta(hours=100)
    assert isinstance(new.content, SeriesContent)
    row = np.array([159])
    wanted = codec.raw_units(outputs_of(core, preprocessor.inputs(new, row)))[0]
    np.testing.assert_allclose(found.loc[found["place"] == "north", "prediction"], wanted)


def test_series_shorter_than_the_window_are_named_when_forecast() -> None:
    """A short series is left out with a warning; if all are short, an error says how long."""
    data = dataset()
    preprocessor, codec, _, known = fitted(data)
    core = built(preprocessor, codec, known, "mlp")
    frame = table()
    short = frame[(frame["place"] == "north") | (frame["hour"] < frame["hour"].iloc[WINDOW - 1])]

    with pytest.warns(UserWarning, match="1 series shorter than 6 steps .* `south`"):
        found = SERIES.predictions(dataset(short), preprocessor, codec, core)
    with pytest.raises(DataError, match="at least 6 steps"):
        tiny = frame[frame["hour"] < frame["hour"].iloc[WINDOW - 1]]
        SERIES.predictions(dataset(tiny), preprocessor, codec, core)

    assert set(found["place"]) == {"north"}


def test_new_data_of_another_kind_are_refused() -> None:
    """Absent variables and steps of another size are named."""
    data = dataset()
    preprocessor, _, rows, _ = fitted(data)
    with pytest.raises(DataError, match="`wind`"):
        preprocessor.inputs(dataset(table().drop(columns="wind")), rows[:1])
    whole = table()
    thinned = whole[whole.groupby("place").cumcount() % 2 == 0]
    with pytest.raises(DataError, match="steps of 1 hour, as in training"):
        preprocessor.inputs(dataset(thinned), rows[:1])


def test_preprocessing_survives_its_file() -> None:
    """What a run keeps as JSON is the preprocessing itself."""
    preprocessor, _, _, _ = fitted(dataset(), model__season_phase=True)

    assert preprocessor_of(preprocessor.model_dump(mode="json")) == preprocessor


def test_same_seed_same_network() -> None:
    """Weights are a function of the seed."""
    preprocessor, codec, _, known = fitted(dataset())
    for family in BODY:
        a, b = (built(preprocessor, codec, known, family).get_weights() for _ in range(2))
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.slow
def test_search_beats_the_naive_forecast_and_predicts(tmp_path: Path) -> None:
    """A small search on a seasonal series beats the last value, reports it, and forecasts."""
    import smarttune

    path = tmp_path / "heat.csv"
    table(steps=400).to_csv(path, index=False)

    run = smarttune.search(
        path,
        target="heat",
        horizon=HORIZON,
        series_column="place",
        trials=2,
        epochs=24,
        run=tmp_path / "run",
    )
    report = run.report()
    baselines = {b["name"]: b["metrics"] for b in report["baselines"]}
    forecast = run.predict(path)

    assert report["test"]["best"]["mean_absolute_error"] < baselines["naive"]["mean_absolute_error"]
    assert {"naive", "seasonal naive", "ridge"} <= set(baselines)
    assert len(forecast) == 2 * HORIZON
    assert forecast["prediction"].between(20, 40).all()
