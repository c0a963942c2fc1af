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
# ours: orders in which groups are dealt out, of which the evenest is kept. Few groups gain
# much by it (six speakers, say), thousands come out even whatever their order.
_DEALS = 16
_GROUPS_PER_DEAL = 2_000


@dataclass(frozen=True)
class Split:
    """Row numbers of each part, rising; disjoint, together all rows."""

    train: npt.NDArray[np.int64]
    validation: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]


def split(  # noqa: PLR0913 -- one target, the rest are options by keyword
    target: pd.Series | pd.DataFrame | npt.NDArray[np.generic],
    *,
    problem: str,
    validation_fraction: float,
    test_fraction: float,
    seed: int,
    stratify: bool = True,
    time_ordered: bool = False,
    groups: pd.Series | npt.NDArray[np.generic] | None = None,
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
        groups: One label per row; rows with equal labels come into the same part, rows
            without a label go alone. Sizes and classes are then met as nearly as whole groups
            allow: without classes validation and test miss their size by at most the largest
            group, training by at most two of them. Where no two rows share a label, the parts
            are those without groups.

    Returns:
        The parts; a part with a positive share has at least one row.

    Raises:
        OptionError: If a share is negative, if they leave nothing for training, or if rows
            are both grouped and ordered in time.
        DataError: If there are too few rows or groups for the parts asked for.
    """
    import numpy as np

    num_rows = len(target)
    num_validation, num_test = _sizes(num_rows, validation_fraction, test_fraction)
    num_train = num_rows - num_validation - num_test
    members = None if groups is None else _group_codes(groups)
    if members is not None and members.max(initial=-1) + 1 < num_rows:
        if time_ordered:
            raise _grouped_in_time()
        by_class = stratify and problem in _STRATIFIED
        codes = _class_codes(target) if by_class else np.zeros(num_rows, np.int64)
        return _grouped(members, codes, (num_train, num_validation, num_test), seed)
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


def _grouped_in_time() -> OptionError:
    return OptionError(
        "groups",
        received="rows are said to be ordered in time and to belong together in groups",
        expected="one of the two, since a group may span all times",
        mend="Leave out --group, or do not declare data.time_ordered.",
    )


def _grouped(
    members: npt.NDArray[np.int64],
    classes: npt.NDArray[np.int64],
    sizes: tuple[int, int, int],
    seed: int,
) -> Split:
    """Deal whole groups out to the parts, in several orders, and keep the evenest deal."""
    import numpy as np

    num_groups = int(members.max(initial=-1)) + 1
    if num_groups < sum(size > 0 for size in sizes):
        raise DataError(
            "groups",
            received=f"{num_groups} group(s) cannot be divided into the parts asked for",
            expected="at least one group for each of training, validation and test",
            mend="Group by a column with more values, or leave out --group.",
        )
    held = np.zeros((num_groups, int(classes.max(initial=0)) + 1))  # rows by group and class
    np.add.at(held, (members, classes), 1)
    totals = held.sum(axis=0)
    # Whatever is known of a class is in one group: only training can use it.
    pinned = ((held > 0) & (held == totals)).any(axis=1)
    if int((~pinned).sum()) < sum(size > 0 for size in sizes[1:]):
        raise _class_in_one_group(int((totals > 0).sum()))
    wanted = np.outer(np.asarray(sizes) / len(members), totals)
    rng = np.random.default_rng(seed)
    deals = max(1, min(_DEALS, _DEALS * _GROUPS_PER_DEAL // num_groups))
    best, least = np.zeros(num_groups, np.int64), np.inf
    for _ in range(deals):
        part_of, unevenness = _dealt(held, wanted, pinned, rng.permutation(num_groups))
        if unevenness < least:
            best, least = part_of, unevenness
    parts = best[members]
    return Split(*(np.flatnonzero(parts == part) for part in range(3)))


def _class_in_one_group(num_classes: int) -> DataError:
    return DataError(
        "groups",
        received=f"of {num_classes:,} classes (nearly) each lies in a single group",
        expected="several groups for each class, some to learn it from and others to test it on",
        mend="Leave out --group, or group by a column that does not tell the class.",
    )


def _dealt(
    held: npt.NDArray[np.float64],
    wanted: npt.NDArray[np.float64],
    pinned: npt.NDArray[np.bool_],
    order: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], float]:
    """Give each group in turn to the part that lacks most of its classes.

    A part that gets a group lacked something of it, so that it never overshoots by more than
    one group; without classes this bounds the error of the sizes. Pinned groups are training.

    Returns:
        The part of each group, and the squared error left, rare classes counting as much as
        frequent ones.
    """
    import numpy as np

    lacking = wanted.copy()
    lacking[0] -= held[pinned].sum(axis=0)
    weights = 1.0 / np.maximum(held.sum(axis=0), 1.0)
    part_of = np.zeros(len(held), np.int64)
    for group in order[~pinned[order]]:
        part = np.argmax(lacking @ (weights * held[group]))
        part_of[group] = part
        lacking[part] -= held[group]
    for empty in np.flatnonzero(wanted.sum(axis=1)):
        if not (part_of == empty).any():  # few large groups: take the smallest of the most
            donor = np.argmax(np.bincount(part_of[~pinned], minlength=len(wanted)))
            candidates = np.flatnonzero((part_of == donor) & ~pinned)
            moved = candidates[np.argmin(held[candidates].sum(axis=1))]
            part_of[moved] = empty
            lacking[donor] += held[moved]
            lacking[empty] -= held[moved]
    return part_of, float((np.square(lacking) * weights**2).sum())


def _group_codes(groups: pd.Series | npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """Number the groups from 0; each row without a label is a group of its own."""
    import numpy as np
    import pandas as pd

    codes, labels = pd.factorize(np.asarray(groups))
    alone = codes < 0
    codes[alone] = len(labels) + np.arange(int(alone.sum()))
    return codes


def _stratified(
    target: pd.Series | pd.DataFrame | npt.NDArray[np.generic], order: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Reorder shuffled rows so that every stretch holds all classes in their shares.

    The i-th of the m rows of a class, counted from 0, gets the key (i + 1/2) / m; sorted by
    key, the classes interleave evenly. The first row of every class comes before all others.
    """
    import numpy as np

    codes = _class_codes(target)[order]
    by_class = np.argsort(codes, kind="stable")
    counts = np.bincount(codes)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    ranks = np.empty(len(codes), dtype="float64")
    ranks[by_class] = np.arange(len(codes)) - starts[codes[by_class]]
    keys = np.where(ranks == 0, 0, (ranks + 0.5) / counts[codes])
    return order[np.argsort(keys, kind="stable")]


def _class_codes(
    target: pd.Series | pd.DataFrame | npt.NDArray[np.generic],
) -> npt.NDArray[np.int64]:
    """Number the classes from 0; missing labels are a class of their own."""
    import numpy as np
    import pandas as pd

    labels = target.to_numpy() if hasattr(target, "to_numpy") else np.asarray(target)
    if labels.ndim == 2:  # (num_samples, num_classes), one-hot
        labels = labels.argmax(axis=1) if labels.shape[1] > 1 else labels[:, 0]
    codes = pd.factorize(labels)[0]
    return np.where(codes < 0, codes.max(initial=0) + 1, codes)
