"""Early stopping on a window of epochs."""

from __future__ import annotations

import copy
import math
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.training import WindowedStopping

scores = st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=30)


def stopped_after(rule: WindowedStopping, values: list[float]) -> int | None:
    """The epoch, counted from 1, after which the rule stops; None if it does not."""
    return next((i for i, v in enumerate(values, 1) if rule.update(v)), None)


@pytest.mark.parametrize(
    ("rule", "values", "epoch"),
    [
        (WindowedStopping(patience=2), [3.0, 2.0, 2.5, 2.6, 1.0], 4),
        (WindowedStopping(patience=3), [3.0, 2.0, 2.5, 2.6, 1.0], None),
        (WindowedStopping(patience=2, direction="max"), [1.0, 2.0, 1.5, 1.6], 4),
        (WindowedStopping(patience=1), [1.0, 1.0], 2),
        (WindowedStopping(patience=1, window=2), [4.0, 2.0, 3.5], None),
        (WindowedStopping(patience=1, window=2), [4.0, 2.0, 4.5], 3),
        (WindowedStopping(patience=2), [math.nan, 1.0, 2.0, 3.0], 4),
        (WindowedStopping(patience=2), [1.0, math.nan, math.nan], 3),
    ],
)
def test_known_curves_stop_where_they_should(
    rule: WindowedStopping, values: list[float], epoch: int | None
) -> None:
    """The rule stops after `patience` epochs without a better windowed mean."""
    assert stopped_after(rule, values) == epoch


@given(scores, st.integers(1, 5), st.integers(1, 5), st.sampled_from(["min", "max"]))
def test_stopping_agrees_with_brute_force(
    values: list[float], patience: int, window: int, direction: str
) -> None:
    """Stopping is as in the definition: means of the last scores, the epoch of the best one."""
    sign = 1 if direction == "min" else -1
    means = [sign * fmean(values[max(0, i - window + 1) : i + 1]) for i in range(len(values))]
    expected = next(
        (i + 1 for i in range(len(means)) if i - means.index(min(means[: i + 1])) >= patience), None
    )

    rule = WindowedStopping(patience, window, direction)  # type: ignore[arg-type]

    assert stopped_after(rule, values) == expected


@given(scores, st.integers(0, 30), st.integers(1, 4))
def test_a_replayed_training_goes_on_as_if_uninterrupted(
    values: list[float], cut: int, window: int
) -> None:
    """Replaying the first epochs leaves the same state as training them."""
    through = WindowedStopping(patience=3, window=window)
    decisions = [through.update(v) for v in values]

    resumed = WindowedStopping(patience=3, window=window)
    resumed.replay(values[:cut])

    assert [resumed.update(v) for v in values[cut:]] == decisions[cut:]
    assert resumed == through


def test_rules_share_no_state() -> None:
    """Two rules, and a copy of one, are independent."""
    first, second = WindowedStopping(patience=1), WindowedStopping(patience=1)
    first.update(1.0)
    kept = copy.deepcopy(first)
    first.update(5.0)

    assert second.recent == []
    assert kept.epochs_since_best == 0
    assert first.epochs_since_best == 1
