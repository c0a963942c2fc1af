"""Small tables and settings that the tests of this room share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from smarttune.models import NetworkHyperModel, TablePreprocessor, TargetCodec, TrainingPlan
from smarttune.space import Choice, Dimension, Fixed, FloatRange, IntRange, SearchSpace, Value

NUM_ROWS = 120


@dataclass(frozen=True)
class Profile:
    """A column profile as the fingerprint gives it."""

    name: str
    kind: str
    used: bool = True


KINDS = {
    "size": "numeric",
    "price/unit": "numeric",
    "member": "boolean",
    "side": "boolean",
    "bought": "datetime",
    "written": "datetime",
    "color": "categorical",
    "city": "categorical",
    "grade": "categorical",
}
PROFILES = tuple(Profile(name, kind) for name, kind in KINDS.items())
EMBEDDED: dict[str, Value] = {"model.encoding[city]": "embedding", "model.embedding_dim[city]": 3}


def frame(*, seed: int = 0, missing: float = 0.1) -> pd.DataFrame:
    """A table with a column of every kind, some cells missing."""
    rng = np.random.default_rng(seed)
    n = NUM_ROWS
    table = pd.DataFrame(
        {
            "size": rng.normal(50.0, 9.0, n),
            "price/unit": rng.lognormal(0.0, 2.0, n),
            "member": rng.choice(["yes", "no"], n),
            "side": rng.choice(["left", "right"], n),
            "bought": pd.date_range("2019-12-25", periods=n, freq="41h"),
            "written": pd.date_range("1999-11-20", periods=n, freq="31h").strftime(
                "%d.%m.%Y %H:%M"
            ),
            "color": rng.choice(["red", "green", "blue"], n),
            "city": rng.choice(list("abcdefgh"), n),
            "grade": rng.integers(1, 5, n).astype(float),
        }
    ).astype({"bought": "datetime64[ns]"})
    if missing:
        for name in table:
            table.loc[rng.random(n) < missing, name] = None
    return table


VALUES: dict[str, Value] = {
    "model.family": "mlp",
    "model.num_layers": 2,
    "model.units": 8,
    "model.activation": "relu",
    "model.kernel_initializer": "he_normal",
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 0.01,
    "training.batch_size": 32,
}


def hypermodel(
    values: dict[str, Value] | None = None,
    *,
    problem: str = "binary",
    seed: int = 0,
    rows: int = 64,
) -> NetworkHyperModel:
    """A dense hypermodel on two numeric columns and one categorical column."""
    table, target = learnable(problem, rows=rows)
    settings = {**VALUES, **(values or {})}
    profiles = [Profile("x", "numeric"), Profile("z", "numeric"), Profile("c", "categorical")]
    preprocessor = TablePreprocessor.fit(table, profiles, settings)
    classes = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c")}.get(problem, ())
    codec = TargetCodec.fit(target, problem, classes, settings)
    space = SearchSpace(
        dimensions=tuple(
            Dimension(name=n, range=Fixed(value=v), value=v) for n, v in settings.items()
        )
    )
    return NetworkHyperModel(space, preprocessor, codec, TrainingPlan(rows, 4, seed=seed))


def learnable(problem: str, *, rows: int = 64) -> tuple[pd.DataFrame, pd.Series | pd.DataFrame]:
    """Features, and a target that depends on them."""
    rng = np.random.default_rng(7)
    table = pd.DataFrame(
        {"x": rng.normal(size=rows), "z": rng.normal(size=rows), "c": rng.choice(["u", "v"], rows)}
    )
    score = table["x"] + 0.5 * (table["c"] == "u")
    if problem == "regression":
        return table, (3.0 * score + 10.0).rename("y")
    if problem == "multilabel":
        labels = {"up": (score > 0).astype(int), "right": (table["z"] > 0).astype(int)}
        return table, pd.DataFrame(labels)
    if problem == "binary":
        return table, pd.Series(np.where(score > 0, "yes", "no"), name="y")
    return table, pd.Series(np.select([score < -0.3, score < 0.6], ["a", "b"], "c"), name="y")


def small_space() -> SearchSpace:
    """A space with every kind of range and a conditional one."""
    return SearchSpace(
        dimensions=(
            Dimension(name="model.num_layers", range=IntRange(low=1, high=4), value=3),
            Dimension(
                name="model.units",
                range=IntRange(low=16, high=128, sampling="power_of_two"),
                value=32,
            ),
            Dimension(name="model.dropout", range=FloatRange(low=0.0, high=0.4), value=0.1),
            Dimension(
                name="model.skip_connections", range=Choice(values=(False, True)), value=True
            ),
            Dimension(
                name="optimizer.learning_rate",
                range=FloatRange(low=1e-4, high=1e-2, sampling="log"),
                value=1e-3,
            ),
            Dimension(name="training.batch_size", range=Fixed(value=64), value=64),
            Dimension(
                name="optimizer.regularization",
                range=Choice(values=("none", "l1", "l2")),
                value="none",
            ),
            Dimension(
                name="optimizer.l1",
                range=FloatRange(low=1e-6, high=1e-3, sampling="log"),
                value=1e-5,
                active_when={"optimizer.regularization": ("l1", "l1_l2")},
            ),
        )
    )
