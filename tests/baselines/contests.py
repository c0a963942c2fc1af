"""Questions for baselines, from data in memory, without any network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from smarttune.baselines import Baseline, Contest
from smarttune.data import Dataset, read, split
from smarttune.fingerprint import measure
from smarttune.models import TargetCodec
from smarttune.space import Value


def contest_of(
    data: Any,
    target: Any = None,
    *,
    problem: str | None = None,
    metric: str = "crossentropy",
    settings: Mapping[str, Value] | None = None,
    **options: Any,
) -> Contest:
    """The question of a search on these data: a fifth to validate, a fifth to test."""
    dataset = data if isinstance(data, Dataset) else read(data, target, **options)
    fingerprint = measure(dataset, problem=problem)
    assert dataset.target is not None
    parts = split(
        dataset.target,
        problem=str(fingerprint.problem),
        validation_fraction=0.2,
        test_fraction=0.2,
        seed=0,
    )
    codec = TargetCodec.fit(
        dataset.target.iloc[parts.train],
        str(fingerprint.problem),
        fingerprint.classes,
        settings or {},
    )
    goal: Any = dataset.target
    return Contest(
        dataset=dataset,
        fingerprint=fingerprint,
        codec=codec,
        split=parts,
        settings=settings or {},
        targets=lambda rows: codec.encode(goal.iloc[rows]),
        metric=metric,
        seed=0,
    )


def sealed(contest: Contest) -> Contest:
    """The same question, where looking at the target of a test row is an error."""
    test = set(contest.split.test.tolist())

    def targets(rows: np.ndarray) -> np.ndarray:
        assert not set(rows.tolist()) & test, "a baseline looked at test targets"
        return contest.encoded(rows)

    return replace(contest, targets=targets)


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        """Seconds so far."""
        return self.now


def mixed_table(problem: str, *, rows: int = 300, seed: int = 4) -> tuple[pd.DataFrame, Any]:
    """Columns of every kind with missing cells, and the name of a target that they decide."""
    rng = np.random.default_rng(seed)
    size = rng.normal(50.0, 9.0, rows)
    color = rng.choice(["red", "green", "blue"], rows)
    member = rng.choice([True, False], rows)
    score = (size - 50.0) / 9.0 + 2.0 * (color == "red") - 1.5 * member
    table = pd.DataFrame(
        {
            "size": np.where(rng.random(rows) < 0.05, np.nan, size),
            "color": pd.Series(color).mask(rng.random(rows) < 0.05),
            "member": member,
            "bought": pd.date_range("2021-03-01", periods=rows, freq="19h"),
        }
    )
    noisy = score + rng.normal(0.0, 0.2, rows)
    if problem == "binary":
        return table.assign(y=np.where(noisy > 0, "yes", "no")), "y"
    if problem == "multiclass":
        return table.assign(y=pd.cut(noisy, [-99, -1, 1, 99], labels=["a", "b", "c"])), "y"
    if problem == "regression":
        return table.assign(y=np.exp(noisy)), "y"
    return table.assign(up=(noisy > 0).astype(int), red=(color == "red").astype(int)), ["up", "red"]


def two_amounts() -> tuple[Contest, pd.DataFrame]:
    """A question with two regression targets of different size, and these."""
    base = contest_of(*mixed_table("regression"), metric="mean_squared_error")
    y = pd.DataFrame({"p": base.dataset.target, "q": 1000.0 - 50 * base.dataset.features["member"]})
    settings: dict[str, Value] = {"model.target_transform": "standardize"}
    codec = TargetCodec.fit(y.iloc[base.split.train], "regression", (), settings)
    return replace(base, codec=codec, targets=lambda rows: codec.encode(y.iloc[rows])), y


def by_name(made: list[Baseline]) -> dict[str, Baseline]:
    """Baselines under their names."""
    return {baseline.name: baseline for baseline in made}
