"""Folds: every row judges at most once, never on itself, and never what it must not know."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.data import Split
from smarttune.tuning.folding import chained_folds, grouped_folds, shuffled_folds

row_numbers = st.lists(st.integers(0, 400), min_size=2, max_size=60, unique=True).map(
    lambda rows: np.sort(np.array(rows))
)
nums = st.integers(2, 7)
seeds = st.integers(0, 5)


def check_parts(folds: tuple[Split, ...], rows: np.ndarray) -> None:
    """Both parts of each fold hold only rows that were given, and none of them twice."""
    for fold in folds:
        together = np.concatenate([fold.train, fold.validation])
        assert len(fold.train)
        assert len(fold.validation)
        assert len(fold.test) == 0
        assert len(np.unique(together)) == len(together)
        assert set(together) <= set(rows)


@given(rows=row_numbers, num=nums, seed=seeds)
def test_every_row_is_judged_once(rows: np.ndarray, num: int, seed: int) -> None:
    """Shuffled folds judge each row once and train on all others, in parts of even size."""
    folds = shuffled_folds(rows, num, seed=seed)

    check_parts(folds, rows)
    assert len(folds) == min(num, len(rows))
    judged = np.concatenate([f.validation for f in folds])
    assert sorted(judged) == list(rows)
    sizes = [len(f.validation) for f in folds]
    assert max(sizes) - min(sizes) <= 1
    assert all(len(f.train) + len(f.validation) == len(rows) for f in folds)


@given(data=st.data(), num=nums, seed=seeds)
def test_classes_keep_their_shares(data: st.DataObject, num: int, seed: int) -> None:
    """No fold has over one row more of a class than another."""
    classes = np.array(data.draw(st.lists(st.integers(0, 3), min_size=num, max_size=60)))
    rows = np.arange(len(classes)) + 100

    folds = shuffled_folds(rows, num, seed=seed, classes=classes)

    for label in np.unique(classes):
        counts = [int((classes[f.validation - 100] == label).sum()) for f in folds]
        assert max(counts) - min(counts) <= 1


@given(data=st.data(), rows=row_numbers, num=nums, seed=seeds)
def test_groups_are_never_parted(
    data: st.DataObject, rows: np.ndarray, num: int, seed: int
) -> None:
    """All rows of a group are judged in the same fold, and each row in exactly one."""
    labels = np.array(
        data.draw(st.lists(st.sampled_from("abcdefg"), min_size=len(rows), max_size=len(rows)))
    )

    folds = grouped_folds(rows, labels, num, seed=seed)

    check_parts(folds, rows)
    assert len(folds) == (min(num, len(set(labels))) if len(set(labels)) > 1 else 0)
    group = dict(zip(rows, labels, strict=True))
    for fold in folds:
        assert not {group[r] for r in fold.train} & {group[r] for r in fold.validation}
    if folds:
        assert sorted(np.concatenate([f.validation for f in folds])) == list(rows)


def test_rows_without_a_group_go_alone() -> None:
    """A missing label does not bind rows together."""
    labels = np.array([np.nan] * 4, object)

    folds = grouped_folds(np.arange(4), labels, 4, seed=0)

    assert [len(f.validation) for f in folds] == [1, 1, 1, 1]


@given(data=st.data(), num=nums, horizon=st.integers(0, 4))
def test_nobody_learns_from_the_future(data: st.DataObject, num: int, horizon: int) -> None:
    """All that training predicts lies before all that validation starts from."""
    times = np.array(data.draw(st.lists(st.integers(0, 40), min_size=2, max_size=60)))
    rows = np.arange(len(times)) + 7

    folds = chained_folds(rows, times, num, horizon=horizon)

    check_parts(folds, rows)
    assert len(folds) <= num
    for fold in folds:
        assert times[fold.train - 7].max() + horizon < times[fold.validation - 7].min()
    later = [int(times[f.validation - 7].min()) for f in folds]
    assert later == sorted(set(later))


def test_a_long_history_gives_all_its_folds() -> None:
    """Twelve moments in three folds: each trains on all before its stretch of three."""
    folds = chained_folds(np.arange(12), np.arange(12), 3)

    assert [(len(f.train), list(f.validation)) for f in folds] == [
        (3, [3, 4, 5]),
        (6, [6, 7, 8]),
        (9, [9, 10, 11]),
    ]


@pytest.mark.parametrize("num", [0, 1])
def test_one_fold_is_none(num: int) -> None:
    """Less than two folds are no cross-validation."""
    rows = np.arange(9)

    assert shuffled_folds(rows, num, seed=0) == ()
    assert grouped_folds(rows, rows, num, seed=0) == ()
    assert chained_folds(rows, rows, num) == ()
