"""Searches over real dense networks on a table of a few rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras_tuner

from smarttune.execution import TrainingData
from smarttune.models import NetworkHyperModel, TrainingPlan
from smarttune.oracles import STRATEGIES
from smarttune.space import Choice, Dimension, Fixed, FloatRange, SearchSpace, Value
from smarttune.tuning import SmartTuner
from tests.models.tables import VALUES, hypermodel, learnable

ROWS = 48
MAX_EPOCHS = 4

_RANGES: dict[str, Any] = {
    "optimizer.learning_rate": FloatRange(low=1e-3, high=1e-1, sampling="log"),
    "model.dropout": FloatRange(low=0.0, high=0.5),
    "model.activation": Choice(values=("relu", "silu")),
}


def dense_space(fixed: dict[str, Value] | None = None) -> SearchSpace:
    """Rate, dropout and activation are searched, the rest is fixed."""
    values = {**VALUES, "training.batch_size": 16, "model.dropout": 0.2, **(fixed or {})}
    pinned = set(fixed or ())
    return SearchSpace(
        dimensions=tuple(
            Dimension(
                name=name,
                range=_RANGES[name]
                if name in _RANGES and name not in pinned
                else Fixed(value=value),
                value=value,
            )
            for name, value in values.items()
        )
    )


def dense_model(
    fixed: dict[str, Value] | None = None, *, max_epochs: int = MAX_EPOCHS
) -> tuple[NetworkHyperModel, TrainingData]:
    """The real table model with its data."""
    base = hypermodel(rows=ROWS)
    plan = TrainingPlan(ROWS, max_epochs, metrics=("accuracy", "crossentropy"))
    model = NetworkHyperModel(dense_space(fixed), base.preprocessor, base.codec, plan)
    table, target = learnable("binary", rows=ROWS)
    x, y = base.preprocessor.transform(table), base.codec.encode(target)
    return model, TrainingData(x, y, x, y)


def dense_oracle(strategy: str, **options: Any) -> Any:
    """One of our strategies on the recommendation and what it proposes."""
    base: dict[str, Any] = {"objective": keras_tuner.Objective("val_loss", "min"), "seed": 1}
    if strategy == "hyperband":
        base |= {"max_epochs": MAX_EPOCHS, "min_epochs": 1, "factor": 2}
    else:
        base["max_trials"] = 20
    return STRATEGIES[strategy](**(base | options))


def dense_search(
    path: Path, strategy: str | Any = "random", **options: Any
) -> tuple[SmartTuner, TrainingData]:
    """A tuner over real networks; a run found in the folder is resumed."""
    model, data = dense_model()
    oracle = dense_oracle(strategy) if isinstance(strategy, str) else strategy
    made = SmartTuner(oracle, model, directory=path.parent, project_name=path.name, **options)
    return made, data
