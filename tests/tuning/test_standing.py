"""Finalists that were trained again: intervals, pairing, the winner, and a plain sentence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from smarttune.objectives import Objective
from smarttune.trials import TrialRecord
from smarttune.tuning.standing import (
    Standing,
    interval_of,
    noise_of,
    paired_gains,
    sentence,
    weighed,
    winner_of,
)

LOSS, AUC = Objective("val_loss", "min"), Objective("val_auc", "max")
scores = st.floats(-100, 100).map(lambda x: round(x, 3))


def standing(name: str, *values: float | None, is_default: bool = False) -> Standing:
    """A finalist with its scores; in the search it had 0.1."""
    record = TrialRecord(
        trial_id=name, values={}, outcome="completed", score=0.1, is_default=is_default
    )
    return Standing(record, values)


@given(st.lists(scores, min_size=2, max_size=20))
def test_the_interval_is_students(values: list[float]) -> None:
    """It is what SciPy gives for the mean of independent measurements."""
    found = interval_of(values)

    std = float(np.std(values, ddof=1))
    assert found.mean == pytest.approx(np.mean(values))
    assert found.std == pytest.approx(std, abs=1e-9)
    if std > 1e-9:
        low, high = stats.t.interval(
            0.95, len(values) - 1, np.mean(values), std / math.sqrt(len(values))
        )
        assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_the_interval_covers_as_often_as_it_says() -> None:
    """Of 4000 means of three normal draws about 95 % lie within their interval."""
    draws = np.random.default_rng(1).normal(3.0, 2.0, (4000, 3))

    found = [interval_of(row.tolist()) for row in draws]

    share = np.mean([(f.low or 0) <= 3.0 <= (f.high or 0) for f in found])
    assert share == pytest.approx(0.95, abs=0.015)  # four standard errors


@given(st.lists(scores, min_size=2, max_size=9), st.floats(0.01, 1.0))
def test_shared_training_rows_widen_the_interval(values: list[float], overlap: float) -> None:
    """The variance of a mean over folds grows from 1/k to 1/k + overlap, around the same mean."""
    plain, wide = interval_of(values), interval_of(values, overlap=overlap)

    assert wide.mean == plain.mean
    assert None not in (*plain, *wide)
    factor = math.sqrt(1 + len(values) * overlap)
    assert wide.high - wide.low == pytest.approx(factor * (plain.high - plain.low), abs=1e-9)  # type: ignore[operator]


def test_one_run_has_no_interval() -> None:
    """A single measurement tells its value and nothing of its spread."""
    assert interval_of([2.5]) == (2.5, None, None, None)


@given(
    st.lists(st.tuples(scores, scores), min_size=2, max_size=9),
    st.sampled_from([LOSS, AUC]),
    st.lists(st.floats(-50, 50), min_size=9, max_size=9),
)
def test_what_moves_both_alike_moves_no_difference(
    pairs: list[tuple[float, float]], goal: Objective, shifts: list[float]
) -> None:
    """Gains are taken run by run, so that an easy fold favours nobody; their order is no matter."""
    new, old = zip(*pairs, strict=True)
    moved = [(a + s, b + s) for (a, b), s in zip(pairs, shifts, strict=False)]
    a, b = zip(*reversed(moved), strict=True)

    gains = paired_gains(standing("1", *new), standing("0", *old), goal)
    again = paired_gains(standing("1", *a), standing("0", *b), goal)

    assert again[::-1] == pytest.approx(gains, abs=1e-9)
    sign = 1 if goal is AUC else -1
    assert gains == pytest.approx([sign * (x - y) for x, y in pairs])


def test_a_run_without_a_score_has_no_pair() -> None:
    """Where one of the two diverged, that repeat compares nothing."""
    gains = paired_gains(standing("1", 1.0, None, 3.0), standing("0", 2.0, 2.0, None), LOSS)

    assert gains == [1.0]


@pytest.mark.parametrize(("goal", "winner"), [(LOSS, "a"), (AUC, "b")])
def test_the_best_mean_wins(goal: Objective, winner: str) -> None:
    """Only the repeats decide, in the direction of the objective."""
    found = winner_of([standing("b", 0.2, 0.6), standing("a", 0.1, 0.5)], goal)

    assert found.record.trial_id == winner


def test_who_fails_when_trained_again_is_not_trusted() -> None:
    """A finalist that diverged once stands behind one that never did, whatever its mean."""
    risky, safe, lost = standing("a", 0.1, None), standing("b", 0.9, 0.9), standing("c", None, None)

    assert winner_of([lost, risky, safe], LOSS) is safe
    assert winner_of([lost, risky], LOSS) is risky


@given(st.lists(st.lists(scores, min_size=3, max_size=3), min_size=2, max_size=4))
def test_noise_is_the_spread_within_a_configuration(rows: list[list[float]]) -> None:
    """It is the pooled deviation from each finalist's own mean."""
    found = noise_of([standing(str(i), *row) for i, row in enumerate(rows)])

    expected = math.sqrt(np.mean([np.var(row, ddof=1) for row in rows]))
    assert found == pytest.approx(expected, abs=1e-9)


def test_noise_over_folds_leaves_out_what_folds_do_to_all() -> None:
    """Hard folds are no noise; what is left is estimated without bias."""
    rng = np.random.default_rng(2)
    found = []
    for _ in range(400):
        table = rng.normal(0, 0.5, (3, 5)) + rng.normal(0, 20.0, 5) + np.array([[1.0], [2], [3]])
        noise = noise_of([standing(str(i), *r.tolist()) for i, r in enumerate(table)], shared=True)
        found.append((noise or 0.0) ** 2)

    assert np.mean(found) == pytest.approx(0.25, abs=0.03)


def test_without_repeats_there_is_no_noise() -> None:
    """One score each says nothing of noise."""
    assert noise_of([standing("a", 0.1), standing("b", 0.2)]) is None


def judge(*standings: Standing, goal: Objective = LOSS, overlap: float = 0.0) -> dict[str, Any]:
    """The verdict with its sentence."""
    found = weighed(standings, goal, overlap=overlap)
    return found | {"sentence": sentence(found, goal.name)}


def test_a_clear_gain_is_called_true() -> None:
    """Better by far in every repeat, the winner truly beats the recommendation."""
    found = judge(standing("7", 0.10, 0.11, 0.12), standing("0", 0.5, 0.52, 0.51, is_default=True))

    assert found["winner"] == "7"
    assert found["difference"]["gain"] == pytest.approx(0.4)
    assert found["difference"]["is_real"]
    assert found["sentence"].startswith("Yes, trial 7 truly beats the recommendation: gain")


def test_a_lucky_gain_is_called_not_shown() -> None:
    """A better mean within the noise is no proof, and the sentence says so."""
    found = judge(standing("7", 0.1, 0.9, 0.4), standing("0", 0.5, 0.45, 0.52, is_default=True))

    assert found["winner"] == "7"
    assert not found["difference"]["is_real"]
    assert found["sentence"].startswith("Not shown: trial 7 has the better mean")


def test_the_recommendation_may_win() -> None:
    """Where no finalist is better on average, the recommendation is kept."""
    found = judge(standing("7", 0.6, 0.6), standing("0", 0.5, 0.4, is_default=True))

    assert (found["winner"], found["difference"]["old"]) == ("0", "7")
    assert found["sentence"].startswith("Keep the recommendation")


def test_a_single_repeat_proves_nothing() -> None:
    """One pair has a gain, but no interval."""
    found = judge(standing("7", 0.1), standing("0", 0.5, is_default=True))

    assert found["difference"]["is_real"] is None
    assert found["sentence"].startswith("Not known")


def test_a_recommendation_that_fails_again_is_told() -> None:
    """Without any pair the sentence counts the failures."""
    found = judge(standing("7", 0.1, 0.2), standing("0", None, None, is_default=True))

    assert found["difference"] is None
    assert "the recommendation failed in 2 of 2 repeats" in found["sentence"]
    assert judge(standing("7", 0.1), standing("8", 0.2))["sentence"].startswith("Trial 7 is the")


def test_folds_need_a_clearer_gain_than_seeds() -> None:
    """What convinces over independent repeats may not convince over folds that share rows."""
    pair = standing("7", 0.31, 0.35, 0.33), standing("0", 0.4, 0.4, 0.4, is_default=True)

    assert judge(*pair, overlap=0.0)["difference"]["is_real"]
    assert not judge(*pair, overlap=0.5)["difference"]["is_real"]
