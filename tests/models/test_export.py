"""Models that take raw rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from smarttune.models import (
    NetworkHyperModel,
    TablePreprocessor,
    TargetCodec,
    TrainingPlan,
    raw_inputs,
)
from smarttune.models.export import exported_table, input_names
from smarttune.space import SearchSpace, Value
from tests.models.tables import EMBEDDED, NUM_ROWS, PROFILES, VALUES, frame, learnable

pytestmark = [
    # Keras 3.15 turns TensorFlow variables into arrays in a way that NumPy 2.4 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="text needs TensorFlow"),
]
SCALINGS = ["standardize", "robust_scale_smooth_clip", "quantile_normal"]


def trained(scaling: str, missing: str) -> tuple[Any, TablePreprocessor, TargetCodec]:
    """A core network on the table of every kind, after one epoch."""
    settings: dict[str, Value] = {
        **EMBEDDED,
        "model.numeric_preprocessing": scaling,
        "model.missing_values": missing,
    }
    table = frame()
    target = pd.Series(np.where(table["size"].fillna(0) > 50, "big", "small"), name="y")
    preprocessor = TablePreprocessor.fit(table, PROFILES, settings)
    codec = TargetCodec.fit(target, "binary", ("big", "small"), {})
    hm = NetworkHyperModel(
        SearchSpace(dimensions=()), preprocessor, codec, TrainingPlan(NUM_ROWS, 1)
    )
    core = hm.build_from({**VALUES, "model.normalization": "batch", "model.dropout": 0.2})
    core.fit(preprocessor.transform(table), codec.encode(target), verbose=0)
    return core, preprocessor, codec


def strange_rows() -> pd.DataFrame:
    """Rows with missing cells, unseen levels, odd flags and infinite numbers."""
    table = frame(seed=9, missing=0.2)
    table.loc[:3, "color"] = "violet"
    table.loc[2:5, "member"] = "perhaps"
    table.loc[4:6, "size"] = np.inf
    table.loc[0:1, "written"] = "someday"
    table.loc[7, "price/unit"] = 1e9
    table["bought"] = table["bought"].dt.strftime("%Y-%m-%d %H:%M:%S")
    return table


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("missing", ["median", "median_and_indicator"])
def test_raw_rows_give_what_prepared_arrays_give(scaling: str, missing: str) -> None:
    """Every kind of column, missing and unseen cells included, agrees to 1e-5."""
    core, preprocessor, codec = trained(scaling, missing)
    rows = strange_rows()
    wanted = codec.probabilities(core.predict(preprocessor.transform(rows), verbose=0))[:, 1:]

    got = exported_table(core, preprocessor, codec).predict(
        raw_inputs(rows, preprocessor), verbose=0
    )

    assert np.abs(got - wanted).max() < 1e-5
    assert wanted.std() > 1e-3


def test_the_saved_model_loads_without_smarttune(tmp_path: Path) -> None:
    """A process that cannot import SmartTune predicts the same from the file."""
    core, preprocessor, codec = trained("quantile_normal", "median_and_indicator")
    model = exported_table(core, preprocessor, codec)
    raw = raw_inputs(strange_rows(), preprocessor)
    model.save(tmp_path / "model.keras")
    np.savez(
        tmp_path / "raw.npz", names=list(raw), **{f"c{i}": v for i, v in enumerate(raw.values())}
    )
    script = """
import sys
sys.modules["smarttune"] = None
import keras, numpy as np
stored = np.load("raw.npz", allow_pickle=True)
raw = {str(n): stored[f"c{i}"] for i, n in enumerate(stored["names"])}
np.save("out.npy", keras.saving.load_model("model.keras").predict(raw, verbose=0))
"""

    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)

    wanted = model.predict(raw, verbose=0)
    assert np.load(tmp_path / "out.npy") == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("transform", ["none", "standardize", "log1p_standardize"])
def test_regression_comes_out_in_its_own_units(transform: str) -> None:
    """The exported model and the codec undo the transform alike, bounds included."""
    table, target = learnable("regression")
    codec = TargetCodec.fit(
        target, "regression", (), {"model.target_transform": transform}, bounds=(5.0, 15.0)
    )
    settings: dict[str, Value] = {}
    profiles = [p for p in PROFILES if p.name == "size"]
    preprocessor = TablePreprocessor.fit(table.rename(columns={"x": "size"}), profiles, settings)
    core = NetworkHyperModel(
        SearchSpace(dimensions=()), preprocessor, codec, TrainingPlan(64, 1)
    ).build_from(VALUES)
    rows = table.rename(columns={"x": "size"})

    got = exported_table(core, preprocessor, codec).predict(
        raw_inputs(rows, preprocessor), verbose=0
    )

    wanted = codec.decode(core.predict(preprocessor.transform(rows), verbose=0))["prediction"]
    assert got[:, 0] == pytest.approx(wanted.to_numpy(), abs=1e-4)


def test_dates_are_read_as_the_calendar_has_them() -> None:
    """Weekdays and leap years over two centuries agree with pandas."""
    cells = pd.Series(
        pd.date_range("1899-12-28", "2101-03-02", freq="59D17h").astype("datetime64[s]")
    )
    table = pd.DataFrame({"bought": cells})
    profiles = [p for p in PROFILES if p.name == "bought"]
    preprocessor = TablePreprocessor.fit(table, profiles, {})
    codec = TargetCodec.fit(pd.Series(range(len(cells)), dtype=float), "regression", (), {})
    inputs = keras.Input((len(preprocessor.numeric_inputs),), name="numeric")
    identity = keras.Model({"numeric": inputs}, inputs * 1.0)
    wide = codec.model_copy(update={"scale": (1.0,) * 9, "center": (0.0,) * 9})

    got = exported_table(identity, preprocessor, wide).predict(
        raw_inputs(table, preprocessor), verbose=0
    )

    assert got == pytest.approx(preprocessor.transform(table)["numeric"], abs=1e-5)


def test_column_names_that_keras_refuses_are_replaced() -> None:
    """A slash becomes an underscore, and no two inputs share a name."""
    preprocessor = TablePreprocessor.fit(
        pd.DataFrame({"a/b": [1.0, 2.0], "a_b": [1.0, 2.0]}),
        [type(PROFILES[0])("a/b", "numeric"), type(PROFILES[0])("a_b", "numeric")],
        {},
    )

    assert input_names(preprocessor) == {"a/b": "a_b", "a_b": "a_b_"}
