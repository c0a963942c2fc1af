"""Early stopping on a window of epochs."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from statistics import fmean, median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.errors import OptionError
from smarttune.training import WindowedStopping
from smarttune.training.stopping import STATISTICS, curve_noise

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
        # Means 9, 7.5, 7, 7.
        (WindowedStopping(1, 3), [9.0, 6.0, 6.0, 9.0], 4),
        # Medians 3, 2.5, 3; then 4, 3.5, 3, 3.
        (WindowedStopping(1, 3, statistic="median"), [3.0, 2.0, 90.0, 1.0], 3),
        (WindowedStopping(1, 3, statistic="median"), [4.0, 3.0, 2.0, 90.0, 1.0], 4),
        # Halfway from the best to the middle one: 4, 3.25, 2.5, 1.5, 1.5; mirrored for "max".
        (WindowedStopping(1, 3, statistic="quantile", quantile=0.25), [4, 3, 2, 1, 9], 5),
        (WindowedStopping(1, 3, "max", statistic="quantile", quantile=0.25), [0, 1, 2, 3, -5], 5),
        # A slope needs a full window: 3, 1, 2, 3 falls over its first three and rises after.
        (WindowedStopping(1, 3, statistic="slope"), [3.0, 1.0, 2.0, 3.0], 4),
        (WindowedStopping(1, 3, "max", statistic="slope"), [3.0, 1.0, 2.0], 3),
    ],
)
def test_known_curves_stop_where_they_should(
    rule: WindowedStopping, values: list[float], epoch: int | None
) -> None:
    """The rule stops after `patience` epochs without a better windowed statistic."""
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


# The statistics, the noise, and what does not matter to them.

statistics = st.sampled_from(STATISTICS)
directions = st.sampled_from(["min", "max"])
factors = st.sampled_from([0.0, 0.7, 1.3])
# Scores in general position, so that no gain equals its threshold but for rounding.
jagged = st.lists(st.integers(-40, 40), min_size=1, max_size=30).map(
    lambda values: [v + math.sin(i) / 64 for i, v in enumerate(values)]
)


def rule_of(statistic: str, direction: str, factor: float, **options: float) -> WindowedStopping:
    """A rule with a window that all statistics allow."""
    return WindowedStopping(
        3,
        4,
        direction,  # type: ignore[arg-type]
        statistic=statistic,  # type: ignore[arg-type]
        noise_factor=factor,
        quantile=0.3,
    )


def decisions(rule: WindowedStopping, values: list[float]) -> list[tuple[bool, int]]:
    """What the rule says after each score, and its count."""
    return [(rule.update(value), rule.epochs_since_best) for value in values]


@given(jagged, statistics, directions, factors, st.sampled_from([0.25, 3.0, 1000.0]), st.just(5.0))
def test_scale_and_origin_of_the_score_do_not_matter(
    values: list[float], statistic: str, direction: str, factor: float, scale: float, shift: float
) -> None:
    """Percent and shares, or a loss with a constant added, stop in the same epoch."""
    moved = [scale * value + shift for value in values]

    assert decisions(rule_of(statistic, direction, factor), moved) == decisions(
        rule_of(statistic, direction, factor), values
    )


@given(jagged, statistics, factors)
def test_directions_mirror_each_other(values: list[float], statistic: str, factor: float) -> None:
    """Minimizing a score is maximizing its negative."""
    assert decisions(rule_of(statistic, "min", factor), values) == decisions(
        rule_of(statistic, "max", factor), [-value for value in values]
    )


@given(
    st.lists(st.sampled_from([0.5, 1.25, -3.0, 40.0, math.nan, math.inf]), max_size=40),
    st.integers(0, 40),
    statistics,
    directions,
    factors,
)
def test_every_rule_is_its_scores_alone(
    values: list[float], cut: int, statistic: str, direction: str, factor: float
) -> None:
    """Replayed, copied or written down as JSON, a rule goes on as if uninterrupted."""
    through = rule_of(statistic, direction, factor)
    expected = decisions(through, values)
    replayed = rule_of(statistic, direction, factor)

    replayed.replay(values[:cut])
    state = json.loads(json.dumps(dataclasses.asdict(replayed)))
    copied = copy.deepcopy(replayed)

    assert state == dataclasses.asdict(replayed)
    assert decisions(copied, values[cut:]) == expected[cut:]
    assert copied == through


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=60),
    statistics,
    st.integers(2, 6),
    st.integers(1, 3),
)
def test_a_score_that_always_improves_never_stops(
    falls: list[int], statistic: str, window: int, patience: int
) -> None:
    """Whatever statistic, a strictly better score is a gain where noise is not asked for."""
    rule = WindowedStopping(patience, window, statistic=statistic)  # type: ignore[arg-type]
    values = [1000.0 - total for total in np.cumsum(falls)]

    assert not any(count for _, count in decisions(rule, values))


@pytest.mark.parametrize("factor", [0.0, 2.0])
@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_score_that_stands_still_stops_after_patience(statistic: str, factor: float) -> None:
    """One gain, or a full window for a slope, and then exactly `patience` epochs."""
    rule = WindowedStopping(5, 4, statistic=statistic, noise_factor=factor)  # type: ignore[arg-type]

    assert stopped_after(rule, [0.1] * 20) == (4 - 1 if statistic == "slope" else 1) + 5


@given(jagged, statistics, directions, factors, st.sampled_from([math.nan, math.inf, -math.inf]))
def test_scores_that_are_no_numbers_cost_patience_and_nothing_else(
    values: list[float], statistic: str, direction: str, factor: float, spoilt: float
) -> None:
    """The window and the best value are those of the other scores, and the epoch is no gain."""
    rule, clean = (rule_of(statistic, direction, factor) for _ in range(2))
    for value in values:
        rule.update(value)
        clean.update(value)
        waited = rule.epochs_since_best
        rule.update(spoilt)
        assert rule.epochs_since_best == waited + 1
        assert (rule.recent, rule.best) == (clean.recent, clean.best)


def test_scores_about_to_overflow_do_not_break_the_window() -> None:
    """The mean of two numbers of 1e308 cannot be taken, and is not needed."""
    rule = WindowedStopping(3, 2)

    assert [rule.update(v) for v in (1e308, 1e308, 1.0)] == [False, False, False]
    assert rule.best == 1.0


# Noise.


def test_noise_of_a_known_curve() -> None:
    """By hand: second differences 2, -4, 4 have the median size 4."""
    expected = 4 / (0.6744897501960817 * math.sqrt(6))

    assert curve_noise([0.0, 0.0, 2.0, 0.0, 2.0]) == pytest.approx(expected)
    assert curve_noise([5.0, 4.0, 3.0, 2.0, 1.0]) == 0.0
    assert curve_noise([0.0, 0.0, 2.0, 0.0]) == 0.0


@pytest.mark.parametrize("trend", [0.0, 0.3, -2.0])
def test_noise_is_found_under_a_trend_and_outliers(trend: float) -> None:
    """On average over curves, known noise is found again, also with one spike in twenty."""
    rng = np.random.default_rng(3)
    found, spiked = [], []
    for _ in range(400):
        scores = rng.normal(0.0, 0.05, 20) + trend * np.arange(20)
        found.append(curve_noise(scores.tolist()))
        scores[7] += 50.0
        spiked.append(curve_noise(scores.tolist()))

    assert fmean(found) == pytest.approx(0.05, rel=0.06)
    assert median(spiked) < 1.5 * 0.05


def test_gains_within_the_noise_do_not_count() -> None:
    """Pure noise makes new lows for long; asked for noise, the rule stops sooner and at times."""
    rng = np.random.default_rng(5)
    curves = [rng.normal(size=200).tolist() for _ in range(60)]

    plain = [stopped_after(WindowedStopping(20), curve) or 200 for curve in curves]
    aware = [stopped_after(WindowedStopping(20, noise_factor=1.0), c) or 200 for c in curves]

    assert fmean(aware) < 0.8 * fmean(plain)


def test_a_slow_gain_is_seen_through_noise() -> None:
    """A clear trend under noise is not stopped, because gains add up since the last one."""
    rng = np.random.default_rng(6)
    trend = 10.0 - 0.2 * np.arange(80)
    stops = 0
    for _ in range(40):
        curve = (trend + rng.normal(0.0, 0.4, 80)).tolist()
        stops += stopped_after(WindowedStopping(10, 3, noise_factor=1.0), curve) is not None

    assert stops <= 2


@pytest.mark.parametrize(
    ("statistic", "quantile"),
    [("mean", 0.5), ("median", 0.5), ("quantile", 0.2), ("slope", 0.5)],
)
def test_standard_errors_are_those_of_simulated_windows(statistic: str, quantile: float) -> None:
    """The spread of each statistic over windows of normal noise is what the rule takes it for."""
    num = 25
    rule = WindowedStopping(1, num, statistic=statistic, quantile=quantile)  # type: ignore[arg-type]
    windows = np.random.default_rng(7).normal(size=(4000, num))
    places = np.arange(num)

    spread = {
        "mean": lambda: windows.mean(axis=1).std(),
        "median": lambda: np.median(windows, axis=1).std(),
        "quantile": lambda: np.quantile(windows, 0.2, axis=1).std(),
        "slope": np.polyfit(places, windows.T, 1)[0].std,
    }[statistic]()

    assert rule._error(num) == pytest.approx(spread, rel=0.07)


@given(jagged, st.integers(1, 6), st.sampled_from(["median", "quantile"]))
def test_quantiles_agree_with_numpy(values: list[float], window: int, statistic: str) -> None:
    """The best value so far is the least of NumPy's quantiles of all windows."""
    share = 0.5 if statistic == "median" else 0.3
    rule = WindowedStopping(99, window, statistic=statistic, quantile=0.3)  # type: ignore[arg-type]
    rule.replay(values)

    expected = min(
        float(np.quantile(values[max(0, i - window + 1) : i + 1], share))
        for i in range(len(values))
    )

    assert rule.best == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"statistic": "medain"},
        {"direction": "up"},
        {"window": 0},
        {"window": 1, "statistic": "slope"},
        {"patience": 0},
        {"noise_factor": -0.1},
        {"noise_factor": math.nan},
        {"quantile": 1.0},
    ],
)
def test_impossible_rules_are_refused(options: dict[str, object]) -> None:
    """The error names the argument at fault."""
    with pytest.raises(OptionError) as raised:
        WindowedStopping(**{"patience": 2, **options})  # type: ignore[arg-type]

    assert raised.value.where in options
    assert raised.value.mend
