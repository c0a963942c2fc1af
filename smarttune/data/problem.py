"""What kind of prediction a target asks for, with the evidence in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smarttune.errors import DataError, OptionError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

Label = str | int | float | bool

TABLE_PROBLEMS = ("binary", "multiclass", "multilabel", "regression")

# ours: up to so many whole numbers are commonly codes or grades rather than amounts.
MAX_CODED_CLASSES = 20
# ours: codes repeat; an amount rarely takes each value so often.
MIN_ROWS_PER_CODE = 5
# ours: codes lie close together (1, 2, 3, 5), amounts do not.
MIN_CODE_DENSITY = 0.5
# ours: a class seen fewer than twice on average cannot be learnt.
MAX_DISTINCT_LABELS = 0.5
# ours: classes shown in a sentence.
_SHOWN_CLASSES = 5


@dataclass(frozen=True)
class TargetProfile:
    """The target, measured.

    Attributes:
        name: The column, or columns joined by commas.
        problem: One of `TABLE_PROBLEMS`.
        evidence: Why, as a sentence.
        classes: Labels in sorted order; label columns for multilabel; empty for regression.
        class_counts: Rows of each class.
        skew: Sample skewness of a regression target.
    """

    name: str
    problem: str
    evidence: str
    classes: tuple[Label, ...] = ()
    class_counts: tuple[int, ...] = ()
    skew: float | None = None


def target_profile(
    target: pd.Series | pd.DataFrame, problem: str | None, *, where: str
) -> TargetProfile:
    """Measure the target and tell the problem, unless it is given.

    Args:
        target: Clean, without missing rows.
        problem: What the user says it is.
        where: The source, for errors.

    Raises:
        OptionError: If the problem does not exist or does not fit the target.
        DataError: If the target cannot be learnt.
    """
    if problem is not None and problem not in TABLE_PROBLEMS:
        raise OptionError(
            "--problem",
            received=f"`{problem}` is not a problem for tables",
            expected="one of " + ", ".join(TABLE_PROBLEMS),
            mend=f"Leave it out to have it detected.{did_you_mean(problem, TABLE_PROBLEMS)}",
        )
    if getattr(target, "ndim", 1) == 2:
        return _several(target, problem, where)
    series: Any = target
    levels = series.value_counts(sort=False)
    name, count = str(series.name), len(levels)
    if count < 2:
        shown = f"only the value `{levels.index[0]}`" if count else "no value"
        raise DataError(
            where,
            received=f"the target `{name}` holds {shown} in all {len(series):,} rows",
            expected="at least two different values to tell apart",
            mend="Check the name of the target and whether the rows were filtered by it.",
        )
    guessed, evidence = _guess(series, count)
    chosen = problem or guessed
    if problem is not None and problem != guessed:
        evidence = f"`{name}` holds {count:,} distinct values; declared to be {problem}."
    _check_fits(series, chosen, count, where)
    if chosen == "regression":
        return TargetProfile(name, chosen, evidence, skew=_skew(series))
    ordered = levels.sort_index()
    return TargetProfile(
        name,
        chosen,
        evidence,
        classes=tuple(_plain(label) for label in ordered.index),
        class_counts=tuple(int(n) for n in ordered),
    )


def _guess(series: pd.Series, count: int) -> tuple[str, str]:
    """Return the likely problem and the evidence for it."""
    name, rows = f"`{series.name}`", f"{len(series):,} rows"
    if count == 2:
        low, high = sorted(map(_plain, series.unique()), key=str)
        return "binary", f"{name} holds two distinct values ({low} and {high}) in {rows}."
    if series.dtype.kind not in "iuf":
        return "multiclass", f"{name} holds {count:,} distinct texts in {rows}."
    if series.dtype.kind == "f":
        return "regression", f"{name} holds {count:,} distinct numbers with fractions in {rows}."
    low, high = int(series.min()), int(series.max())
    found = f"{name} holds {count:,} distinct whole numbers from {low:,} to {high:,} in {rows}"
    coded = (
        count <= MAX_CODED_CLASSES
        and len(series) >= MIN_ROWS_PER_CODE * count
        and count >= MIN_CODE_DENSITY * (high - low + 1)
    )
    if coded:
        return "multiclass", (
            f"{found}: few and close together, so taken as classes. If they are amounts, "
            "say --problem regression."
        )
    return "regression", (
        f"{found}: taken as an amount. If they are classes, say --problem multiclass."
    )


def _check_fits(series: pd.Series, problem: str, count: int, where: str) -> None:
    """Refuse a problem that the values of the target rule out."""
    name, kind = series.name, series.dtype.kind
    if problem == "multilabel":
        raise OptionError(
            "--problem",
            received=f"multilabel was asked for and the target is one column, `{name}`",
            expected="several target columns of 0 and 1, not exactly one of them 1 in each row",
            mend="Name all label columns as targets, or say --problem multiclass.",
        )
    if problem == "binary" and count != 2:
        raise OptionError(
            "--problem",
            received=f"binary was asked for and `{name}` holds {count:,} distinct values",
            expected="a target with exactly two values",
            mend="Say --problem multiclass, or join the values to two.",
        )
    if problem == "regression" and kind not in "iufb":
        raise OptionError(
            "--problem",
            received=f"`{name}` holds {series.iloc[0]!r}, which is not a number",
            expected="a numeric target for regression",
            mend="Say --problem multiclass, or clean the column.",
        )
    too_many = count > max(2, MAX_DISTINCT_LABELS * len(series))
    if problem == "multiclass" and (kind == "M" or too_many):
        raise DataError(
            where,
            received=f"the target `{name}` holds {count:,} distinct values in {len(series):,} rows",
            expected="classes that repeat",
            mend="Name another target; dates and names must be turned into numbers or classes.",
        )


def _several(target: Any, problem: str | None, where: str) -> TargetProfile:
    """Measure several target columns, which must be 0/1 labels."""
    import numpy as np

    name = ", ".join(map(str, target.columns))
    if problem not in (None, "multilabel"):
        raise OptionError(
            "--problem",
            received=f"{problem} was asked for with {target.shape[1]} target columns",
            expected="one target column, or --problem multilabel",
            mend="Name a single target.",
        )
    numeric = all(dtype.kind in "biuf" for dtype in target.dtypes)
    values = target.to_numpy(dtype="float64") if numeric else None
    if values is None or not np.isin(values, (0, 1)).all():
        raise DataError(
            where,
            received=f"the target columns {name} hold other values than 0 and 1",
            expected="one 0/1 column per label",
            mend="Name a single target; several amounts at once are not predicted.",
        )
    counts = values.sum(axis=0).astype(int)  # (num_labels,)
    empty = [str(c) for c, n in zip(target.columns, counts, strict=True) if n in (0, len(target))]
    if empty:
        raise DataError(
            where,
            received=f"the label `{empty[0]}` is the same in all {len(target):,} rows",
            expected="labels that occur in some rows and not in others",
            mend="Leave it out of the targets.",
        )
    return TargetProfile(
        name,
        "multilabel",
        f"{target.shape[1]} target columns hold only 0 and 1, and rows have any number of them.",
        classes=tuple(str(c) for c in target.columns),
        class_counts=tuple(int(n) for n in counts),
    )


def _skew(series: pd.Series) -> float:
    """Third central moment over the cube of the standard deviation."""
    import numpy as np

    values = np.sort(series.to_numpy(dtype="float64"))  # sorted: the same sum in any row order
    scale = float(np.std(values))
    centred = (values - values.mean()) / (scale or 1.0)
    return float(np.mean(centred**3))


def _plain(label: Any) -> Label:
    """Return a label as a plain Python value."""
    plain = label.item() if hasattr(label, "item") else label
    return plain if isinstance(plain, (str, int, float, bool)) else str(plain)


def shown_classes(classes: tuple[Label, ...]) -> str:
    """Classes in a sentence, the first few by name."""
    shown = ", ".join(map(str, classes[:_SHOWN_CLASSES]))
    return shown + (", ..." if len(classes) > _SHOWN_CLASSES else "")
