"""Rows in folds: each fold judges once what was learnt from other rows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from smarttune.data import Split

_FEWEST = 2  # folds; one alone has no other to compare with

Rows = npt.NDArray[np.int64]


def shuffled_folds(
    rows: Rows, num_folds: int, *, seed: int, classes: npt.NDArray[np.int64] | None = None
) -> tuple[Split, ...]:
    """Deal rows out at random, each to the validation part of one fold.

    Args:
        rows: Row numbers; no other row is in any part.
        num_folds: Folds; fewer where there are fewer rows.
        seed: Seeds the shuffle.
        classes: The class of each of these rows, to keep their shares; None for no classes.

    Returns:
        The folds, test parts empty; none if there are not two.
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    if classes is not None:
        order = order[np.argsort(classes[order], kind="stable")]
    place = np.empty(len(rows), np.int64)
    place[order] = np.arange(len(rows)) % max(1, num_folds)
    return _by_place(rows, place, min(num_folds, len(rows)))


def grouped_folds(
    rows: Rows, groups: npt.NDArray[np.generic], num_folds: int, *, seed: int
) -> tuple[Split, ...]:
    """Deal whole groups out, the largest first, each to the fold with the fewest rows so far.

    Args:
        rows: Row numbers; no other row is in any part.
        groups: The label of each of these rows; rows without one go alone.
        num_folds: Folds; fewer where there are fewer groups.
        seed: Decides among groups of one size.

    Returns:
        The folds, test parts empty; none if there are not two.
    """
    codes, labels = pd.factorize(np.asarray(groups))
    alone = codes < 0
    codes[alone] = len(labels) + np.arange(int(alone.sum()))
    sizes = np.bincount(codes)
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    num_folds = min(num_folds, len(sizes))
    filled = np.zeros(max(1, num_folds), np.int64)
    fold_of = np.zeros(len(sizes), np.int64)
    for group in order:
        fold_of[group] = np.argmin(filled)
        filled[fold_of[group]] += sizes[group]
    return _by_place(rows, fold_of[codes], num_folds)


def chained_folds(
    rows: Rows, times: npt.NDArray[np.int64], num_folds: int, *, horizon: int = 0
) -> tuple[Split, ...]:
    """Learn from the past and judge on what comes next, from one cut in time to the next.

    Args:
        rows: Row numbers; no other row is in any part.
        times: When each of these rows is.
        num_folds: Folds, each judged on a stretch of equally many moments; fewer where the
            history is too short.
        horizon: Moments ahead that a row predicts; what training predicts lies before the cut.

    Returns:
        The folds, test parts empty; none if there are not two.
    """
    moments = np.unique(times)
    places = [round(i * len(moments) / (num_folds + 1)) for i in range(1, num_folds + 1)]
    cuts = [*(int(moments[i]) for i in places if i < len(moments)), int(moments[-1]) + 1]
    found = []
    for cut, end in pairwise(cuts):
        train = rows[times + horizon < cut]
        validation = rows[(times >= cut) & (times < end)]
        if len(train) and len(validation):
            found.append(_fold(train, validation))
    return tuple(found) if len(found) >= _FEWEST else ()


def _by_place(rows: Rows, place: npt.NDArray[np.int64], num_folds: int) -> tuple[Split, ...]:
    if num_folds < _FEWEST:
        return ()
    return tuple(_fold(rows[place != i], rows[place == i]) for i in range(num_folds))


def _fold(train: Rows, validation: Rows) -> Split:
    return Split(np.sort(train), np.sort(validation), np.array([], np.int64))
