"""Dividing rows into training, validation and test parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from smarttune.errors import DataError, OptionError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

_STRATIFIED = ("binary", "multiclass")


@dataclass(frozen=True)
class Split:
    """Row numbers of each part, rising; disjoint, together all rows."""

    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


def split(
    target: pd.Series | pd.DataFrame | npt.NDArray[np.generic],
    *,
    problem: str,
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    stratify: bool = True,
    time_ordered: bool = False,
) -> Split:
    """Divide rows into three parts, the same way for the same seed.

    Args:
        target: One value or one row per sample.
        problem: "binary" and "multiclass" are stratified: each part holds every class in
            its overall share, as nearly as whole rows allow; training holds every class if
            it has a row for each.
        validation_fraction: Share of all rows used to compare trials.
        test_fraction: Share of all rows held back until the end.
        seed: Seeds the shuffle.
        stratify: Whether to stratify where the problem has classes.
        time_ordered: Whether rows are ordered in time; then nothing is shuffled, and
            validation and test follow training in this order.

    Returns:
        The parts; a part with a positive share has at least one row.

    Raises:
        OptionError: If a share is negative or they leave nothing for training.
        DataError: If there are too few rows for the parts asked for.
    """
    import numpy as np

    num_rows = len(target)
    num_validation, num_test = _sizes(num_rows, validation_fraction, test_fraction)
    num_train = num_rows - num_validation - num_test
    if time_ordered:
        order = np.arange(num_rows)
    else:
        order = np.random.default_rng(seed).permutation(num_rows)
        if stratify and problem in _STRATIFIED:
            order = _stratified(target, order)
    return Split(
        train=np.sort(order[:num_train]),
        validation=np.sort(order[num_train : num_train + num_validation]),
        test=np.sort(order[num_train + num_validation :]),
    )


def _sizes(num_rows: int, validation: float, test: float) -> tuple[int, int]:
    """Return the number of validation and test rows."""
    for name, share in (("validation_fraction", validation), ("test_fraction", test)):
        if not 0 <= share < 1:
            raise OptionError(
                name,
                received=f"the share is {share}",
                expected="a number from 0 to below 1",
                mend="0.2 keeps a fifth of the rows.",
            )
    if validation + test >= 1:
        raise OptionError(
            "validation_fraction",
            received=f"validation and test take {validation} + {test} of the rows",
            expected="shares that sum to less than 1",
            mend="Leave at least half of the rows for training.",
        )
    sizes = [max(1, round(num_rows * share)) if share > 0 else 0 for share in (validation, test)]
    if num_rows - sum(sizes) < 1:
        raise DataError(
            "data",
            received=f"{num_rows} row(s) cannot be divided into the parts asked for",
            expected="at least one row for each of training, validation and test",
            mend="Add data or ask for fewer parts.",
        )
    return sizes[0], sizes[1]


def _stratified(
    target: pd.Series | pd.DataFrame | npt.NDArray[np.generic], order: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Reorder shuffled rows so that every stretch holds all classes in their shares.

    The i-th of the m rows of a class, counted from 0, gets the key (i + 1/2) / m; sorted by
    key, the classes interleave evenly. The first row of every class comes before all others.
    """
    import numpy as np
    import pandas as pd

    labels = target.to_numpy() if hasattr(target, "to_numpy") else np.asarray(target)
    if labels.ndim == 2:  # (num_samples, num_classes), one-hot
        labels = labels.argmax(axis=1) if labels.shape[1] > 1 else labels[:, 0]
    codes = pd.factorize(labels)[0]
    codes = np.where(codes < 0, codes.max(initial=0) + 1, codes)[order]  # missing: its own class
    by_class = np.argsort(codes, kind="stable")
    counts = np.bincount(codes)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    ranks = np.empty(len(codes), dtype="float64")
    ranks[by_class] = np.arange(len(codes)) - starts[codes[by_class]]
    keys = np.where(ranks == 0, 0, (ranks + 0.5) / counts[codes])
    return order[np.argsort(keys, kind="stable")]
