"""Dataset to fingerprint: what the data hold, measured, and the facts that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from smarttune.data import Dataset
from smarttune.data.content import Content, Progress
from smarttune.data.kinds import ColumnKind, Kind, kind_of
from smarttune.data.leakage import leaking_columns, row_hashes
from smarttune.data.names import SHOWN_NAMES, listed
from smarttune.data.problem import Label, TargetProfile, target_profile
from smarttune.data.statistics import ColumnStatistics, column_statistics
from smarttune.errors import DataError, OptionError, did_you_mean
from smarttune.facts import Facts
from smarttune.space import Value

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

# ours: with fewer rows, training, validation and test parts say nothing.
MIN_ROWS = 10
# ours: from this many columns on, single cells matter less than the choice of columns.
# Kinds of data that pretrained networks are built for.
PRETRAINED_TASKS = ("text", "image")
MANY_COLUMNS = 1_000
# ours: below one row in ten of the largest class, accuracy misleads.
IMBALANCE_TO_WARN = 10.0
# ours: shares of repeated rows and of missing cells that deserve a sentence.
DUPLICATES_TO_WARN = 0.01
MISSING_TO_WARN = 0.5


USABLE = ("numeric", "categorical", "boolean", "datetime", "text")


class ColumnProfile(BaseModel):
    """One input column: what it is, the evidence, and whether the model uses it.

    `datetime_format` is the `format` with which `pandas.to_datetime` reads a datetime column
    that is stored as text; None for columns stored as dates.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: ColumnKind
    used: bool
    reason: str
    num_missing: int
    cardinality: int
    heavy_tailed: bool = False
    datetime_format: str | None = None


class Fingerprint(BaseModel):
    """Everything measured about a data set; turns to JSON and back without loss.

    Attributes:
        task: The kind of data: tabular, text, image, audio, sequence or timeseries.
        source: The path, or "X" for data in memory.
        num_rows: Rows of the source.
        num_rows_seen: Rows measured: those kept that have a target.
        num_usable: Rows of the source that have a target; an estimate where sampled.
        sampled: Whether only a random part was read.
        target: The target column, or columns joined by commas.
        problem: What is predicted, a value of the fact `model.problem`.
        problem_evidence: Why, as a sentence.
        classes: Labels in sorted order (the last one of two is the positive class); the label
            columns for multilabel; empty for regression.
        class_counts: Rows of each class among those seen.
        columns: Every input column of a table.
        content: Facts about what samples hold beyond columns, by name.
        missing_fraction: Share of missing cells in the columns used.
        duplicate_fraction: Share of rows that repeat an earlier row in the columns used and
            the target.
        target_skew: Sample skewness of a regression target.
        leaks: Columns that alone predict the target.
        warnings: What the user should know, one sentence each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = "tabular"
    source: str
    num_rows: int
    num_rows_seen: int
    num_usable: int
    sampled: bool
    target: str | None
    problem: str | None
    problem_evidence: str
    classes: tuple[Label, ...] = ()
    class_counts: tuple[int, ...] = ()
    columns: tuple[ColumnProfile, ...] = ()
    content: dict[str, Value] = {}
    missing_fraction: float = 0.0
    duplicate_fraction: float = 0.0
    target_skew: float | None = None
    leaks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def used_columns(self) -> tuple[ColumnProfile, ...]:
        """The columns that enter the model."""
        return tuple(column for column in self.columns if column.used)

    def facts(self) -> Facts:
        """Return what rules may read, each fact with how it was measured."""
        seen = f"{self.num_rows_seen:,} rows of {self.source}"
        counted = Facts.of(self._input_values(), origin="measured", how=f"inputs of {seen}")
        target = Facts.of(
            self._target_values(), origin="measured", how=f"target `{self.target}` of {seen}"
        )
        problem = Facts.of(
            {"model.problem": self.problem}, origin="measured", how=self.problem_evidence
        )
        estimated = "estimated from a sample" if self.sampled else "rows that have a target"
        rows = Facts.of({"data.num_samples": self.num_usable}, origin="measured", how=estimated)
        content = Facts.of(self.content, origin="measured", how=f"contents of {seen}")
        return counted | target | problem | rows | content

    def column_facts(self) -> dict[str, Facts]:
        """Return, for each used categorical column, the facts of rules on single columns."""
        return {
            column.name: Facts.of(
                {
                    "column.cardinality": column.cardinality,
                    "column.rows_per_level": self.num_usable / max(1, column.cardinality),
                },
                origin="measured",
                how=f"column `{column.name}`",
            )
            for column in self.used_columns
            if column.kind == "categorical"
        }

    def _input_values(self) -> dict[str, Any]:
        shared = {"data.task": self.task, "data.duplicate_fraction": self.duplicate_fraction}
        return shared | (self._column_values() if self.task == "tabular" else {})

    def _column_values(self) -> dict[str, Any]:
        used = self.used_columns
        levels = [c.cardinality for c in used if c.kind == "categorical"]
        return {
            "data.num_features": len(used),
            "data.num_numeric_features": sum(c.kind in ("numeric", "datetime") for c in used),
            "data.num_categorical_features": len(levels),
            "data.num_text_features": sum(c.kind == "text" for c in used),
            "data.missing_fraction": self.missing_fraction,
            "data.max_cardinality": max(levels, default=None),
            "data.heavy_tailed": any(c.heavy_tailed for c in used),
        }

    def _target_values(self) -> dict[str, Any]:
        several = len(self.classes) > 2 or self.problem in ("multiclass", "multilabel")  # noqa: PLR2004
        values: dict[str, Any] = {
            "data.num_outputs": len(self.classes) if several else 1,
            "data.num_classes": len(self.classes) or None,
            "data.target_skew": self.target_skew,
        }
        if self.problem in ("binary", "multiclass") and self.class_counts:
            counts = self.class_counts
            values["data.imbalance_ratio"] = max(counts) / min(counts)
            values["data.min_class_fraction"] = min(counts) / sum(counts)
        if self.problem == "binary":
            values["data.num_negatives"], values["data.num_positives"] = self.class_counts
        return values


def measure(
    dataset: Dataset,
    *,
    problem: str | None = None,
    drop: Sequence[str] = (),
    progress: Progress | None = None,
) -> Fingerprint:
    """Measure a data set. The same rows in another order measure the same up to rounding.

    Args:
        dataset: What `smarttune.data.read` returned.
        problem: What is predicted, where the guess is wrong.
        drop: Input columns that must not be used.
        progress: Called with the share that has been measured, from 0 to 1.

    Raises:
        DataError: If the data cannot be learnt from.
        OptionError: If `problem` does not fit the target.
    """
    if dataset.content is not None:
        return _measure_content(dataset, dataset.content, problem, progress)
    target = _checked_target(dataset, drop)
    goal = target_profile(target, problem, where=dataset.where)
    frame = dataset.features
    statistics = column_statistics(frame)
    kinds = {n: kind_of(s, len(frame)) for n, s in statistics.items()}
    columns = _profiles(statistics, kinds, set(drop), dataset.where)
    used = [c.name for c in columns if c.used]
    hashes = row_hashes(frame[used], statistics)
    leaks = _leaks(frame[used], statistics, target, goal.problem, hashes)
    missing = sum(c.num_missing for c in columns if c.used) / (len(frame) * len(used))
    content: dict[str, Value] = {}
    if texts := _only_texts(columns):
        from smarttune.data.texts import TextContent

        content = TextContent(dataset.features[texts]).facts(progress)
    fingerprint = Fingerprint(
        task="text" if texts else "tabular",
        source=dataset.where,
        num_rows=dataset.num_rows,
        num_rows_seen=len(frame),
        num_usable=_num_usable(dataset),
        sampled=dataset.sampled,
        target=goal.name,
        problem=goal.problem,
        problem_evidence=goal.evidence,
        classes=goal.classes,
        class_counts=goal.class_counts,
        columns=columns,
        content=content | _source_facts(dataset, "text" if texts else "tabular"),
        missing_fraction=missing,
        duplicate_fraction=_duplicate_fraction(hashes, target),
        target_skew=goal.skew,
        leaks=tuple(leaks),
        warnings=dataset.warnings,
    )
    return fingerprint.model_copy(
        update={"warnings": (*dataset.warnings, *_warnings(fingerprint, goal))}
    )


def _only_texts(columns: Sequence[ColumnProfile]) -> list[str]:
    """The used columns where all of them are free text."""
    used = [c for c in columns if c.used]
    return [c.name for c in used] if all(c.kind == "text" for c in used) else []


def _source_facts(dataset: Dataset, task: str) -> dict[str, Value]:
    """What the user's options say of the data.

    Raises:
        OptionError: If pretrained weights are named for data of another kind.
    """
    found: dict[str, Value] = {}
    if dataset.groups is not None:
        found["data.num_groups"] = int(dataset.groups.nunique())
    if dataset.read_options.get("weights") is None:
        return found
    if task not in PRETRAINED_TASKS:
        raise OptionError(
            "--weights",
            received=f"pretrained weights for {task} data",
            expected="texts or images",
            mend="Leave them out.",
        )
    return {**found, "data.pretrained_available": True, "model.fine_tuning": True}


def _measure_content(
    dataset: Dataset, content: Content, problem: str | None, progress: Progress | None
) -> Fingerprint:
    """Measure samples that are no rows of a table."""
    goal = content.goal(problem)
    if goal is None:
        goal = target_profile(_checked_target(dataset, ()), problem, where=dataset.where)
    facts = content.facts(progress)  # may find samples that cannot be read
    fingerprint = Fingerprint(
        task=dataset.task,
        source=dataset.where,
        num_rows=dataset.num_rows,
        num_rows_seen=len(dataset.features),
        num_usable=_num_usable(dataset),
        sampled=dataset.sampled,
        target=goal.name,
        problem=goal.problem,
        problem_evidence=goal.evidence,
        classes=goal.classes,
        class_counts=goal.class_counts,
        content=facts | _source_facts(dataset, dataset.task),
        target_skew=goal.skew,
    )
    warnings = (*dataset.warnings, *content.warnings(), *_warnings(fingerprint, goal))
    return fingerprint.model_copy(update={"warnings": tuple(dict.fromkeys(warnings))})


def _checked_target(dataset: Dataset, drop: Sequence[str]) -> pd.Series | pd.DataFrame:
    """Return the target of a dataset that can be measured at all."""
    if dataset.target is None:
        raise DataError(
            dataset.where,
            received="no target was named",
            expected="the column to predict",
            mend="Name it: --target NAME (-1 is the last column).",
        )
    names = [str(n) for n in dataset.features.columns]
    for name in drop:
        if name not in names:
            raise DataError(
                dataset.where,
                received=f"there is no input column `{name}` to drop",
                expected="the name of an input column",
                mend=f"Check the name after --drop.{did_you_mean(name, names)}",
            )
    if len(dataset.features) < MIN_ROWS:
        raise DataError(
            dataset.where,
            received=(
                f"the table has {len(dataset.features)} row(s) with a target"
                if dataset.content is None
                else f"there are {len(dataset.features)} sample(s) with a target"
            ),
            expected=f"at least {MIN_ROWS} rows, and better some hundreds",
            mend="Add data; parts for training, validation and test are cut from it.",
        )
    return dataset.target


def _profiles(
    statistics: dict[str, ColumnStatistics], kinds: dict[str, Kind], drop: set[str], where: str
) -> tuple[ColumnProfile, ...]:
    """Return every column, some of them used."""
    usable = {n for n, k in kinds.items() if k.kind in USABLE} - drop
    if not usable:  # row numbers may be all there is: y as a function of the position
        rows = [n for n, k in kinds.items() if k.row_numbers and n not in drop]
        kinds = kinds | {n: Kind("numeric", kinds[n].reason) for n in rows}
        usable = set(rows)
    if not usable:
        raise _nothing_usable(kinds, drop, where)
    return tuple(
        ColumnProfile(
            name=name,
            kind=kinds[name].kind,
            used=name in usable,
            reason="left out on request" if name in drop else kinds[name].reason,
            num_missing=found.num_missing,
            cardinality=found.cardinality,
            heavy_tailed=found.heavy_tailed and kinds[name].kind == "numeric",
            datetime_format=kinds[name].datetime_format,
        )
        for name, found in statistics.items()
    )


def _nothing_usable(kinds: dict[str, Kind], drop: set[str], where: str) -> DataError:
    shown = [f"`{n}` is {k.kind} ({k.reason})" for n, k in kinds.items() if n not in drop]
    constant = bool(shown) and all(k.kind == "constant" for n, k in kinds.items() if n not in drop)
    what = "every input column is constant" if constant else "no input column can be used"
    detail = "; ".join(shown[:SHOWN_NAMES]) or "all were dropped"
    return DataError(
        where,
        received=f"{what}: {detail}",
        expected="at least one numeric, categorical, boolean, date or text column that varies",
        mend="Check the delimiter and the columns.",
    )


def _num_usable(dataset: Dataset) -> int:
    """Rows of the whole source that have a target."""
    seen = len(dataset.features)
    if not dataset.sampled:
        return seen
    return round(dataset.num_rows * seen / (seen + dataset.num_without_target))


def _leaks(
    frame: pd.DataFrame,
    statistics: dict[str, ColumnStatistics],
    target: pd.Series | pd.DataFrame,
    problem: str,
    hashes: npt.NDArray[np.uint64],
) -> list[str]:
    if problem == "multilabel":
        return []
    single: Any = target
    return leaking_columns(frame, statistics, single, problem=problem, order=hashes)


def _duplicate_fraction(hashes: npt.NDArray[np.uint64], target: pd.Series | pd.DataFrame) -> float:
    """Share of rows whose used columns and target repeat an earlier row."""
    import pandas as pd

    goal = target.to_frame() if isinstance(target, pd.Series) else target
    both = row_hashes(goal, column_statistics(goal))
    distinct = int(pd.Series(hashes * 3 + both).nunique())
    return 1 - distinct / len(hashes)


def _warnings(fingerprint: Fingerprint, goal: TargetProfile) -> list[str]:
    """Sentences on what the user should look at before trusting a model."""
    found = [
        f"`{name}` alone predicts `{goal.name}` (nearly) without error. If it is not known at "
        f"prediction time, leave it out: --drop {name}"
        for name in fingerprint.leaks[:SHOWN_NAMES]
    ]
    unused: dict[str, list[str]] = {}
    for column in fingerprint.columns:
        if not column.used and column.reason != "left out on request":
            unused.setdefault(column.kind, []).append(column.name)
    for kind, names in unused.items():
        found.append(f"{len(names)} {kind} column(s) not used: {listed(names)}.")
    sparse = [
        c.name
        for c in fingerprint.used_columns
        if c.num_missing > MISSING_TO_WARN * fingerprint.num_rows_seen
    ]
    if sparse:
        found.append(f"More than half of the cells are missing in {listed(sparse)}.")
    if fingerprint.duplicate_fraction > DUPLICATES_TO_WARN:
        count = round(fingerprint.duplicate_fraction * fingerprint.num_rows_seen)
        found.append(
            f"{count:,} row(s) ({fingerprint.duplicate_fraction:.1%}) repeat an earlier row; "
            "copies on both sides of a split flatter the score."
        )
    counts = fingerprint.class_counts
    if goal.problem in ("binary", "multiclass"):
        rare = goal.classes[counts.index(min(counts))]
        if max(counts) >= IMBALANCE_TO_WARN * min(counts):
            found.append(
                f"The classes are unbalanced: `{rare}` has {min(counts):,} row(s), the largest "
                f"class {max(counts):,}; accuracy alone misleads."
            )
    if len(fingerprint.columns) >= MANY_COLUMNS:
        found.append(
            f"{len(fingerprint.columns):,} input columns for {fingerprint.num_rows_seen:,} rows: "
            "choosing columns first is likely to help."
        )
    return found
