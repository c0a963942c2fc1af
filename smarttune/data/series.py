"""Tables whose rows are the steps of one or many time series."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from smarttune.data.content import Content, Progress
from smarttune.data.dataset import Dataset, ReadOptions
from smarttune.data.gaps import filled, one_row_per_step, sorted_by_time, whole_grid
from smarttune.data.names import SHOWN_NAMES, listed
from smarttune.data.problem import TargetProfile
from smarttune.data.seasons import season_length
from smarttune.data.timesteps import Stamps, Step, Steps, grid, stamps_of
from smarttune.errors import DataError, OptionError, did_you_mean
from smarttune.space import Value

if TYPE_CHECKING:
    import pandas as pd

# ours: without a wish the horizon is one season, but no more than four weeks of days.
LONGEST_DEFAULT_HORIZON = 28


@dataclass(frozen=True)
class SeriesContent(Content):
    """Series on a regular grid, one after the other, each in the order of time.

    Attributes:
        names: The variables; those to forecast come first.
        num_targets: How many are to be forecast; 0 where no target was named.
        values: All steps of all series, shape (steps, variables).
        starts: First row of each series, and the number of steps at the end.
        labels: What each series is called.
        stamps: The time of each step; row numbers where there is none.
        places: The place of each step on the grid that all series share.
        step: What lies between two neighbours.
        asked_horizon: Steps to forecast, where the user said so.
        notes: What the user should know.
    """

    task: ClassVar[str] = "timeseries"

    names: tuple[str, ...]
    num_targets: int
    values: npt.NDArray[np.float32]
    starts: Steps
    labels: tuple[str, ...]
    stamps: Stamps
    places: Steps
    step: Step
    asked_horizon: int | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The variables of some steps, shape (len(rows), variables)."""
        return np.asarray(self.values[rows])

    def select(self, rows: npt.NDArray[np.int64]) -> SeriesContent:
        """The content of some steps only.

        Raises:
            DataError: If the steps of a series are not consecutive; a window would then reach
                over a hole.
        """
        owner = self.owners[rows]
        new_series = np.diff(owner, prepend=-1) != 0
        if (np.diff(rows)[~new_series[1:]] != 1).any() or (np.diff(owner) < 0).any():
            raise DataError(
                "series",
                received="steps were picked that do not follow each other",
                expected="a stretch of each series",
                mend="Cut series by time; they cannot be sampled at random.",
            )
        return replace(
            self,
            values=self.values[rows],
            starts=np.append(np.flatnonzero(new_series), len(rows)),
            labels=tuple(self.labels[i] for i in owner[new_series]),
            stamps=self.stamps[rows],
            places=self.places[rows],
            notes=(),
        )

    @cached_property
    def owners(self) -> Steps:
        """The number of the series that each step belongs to."""
        return np.repeat(np.arange(len(self.labels)), np.diff(self.starts))

    @cached_property
    def season(self) -> int | None:
        """Steps of the strongest season of the first variable; None where there is none."""
        first = [self.values[a:b, 0] for a, b in zip(self.starts, self.starts[1:], strict=False)]
        return season_length(first, self.step)

    @cached_property
    def horizon(self) -> int:
        """Steps to forecast: as asked, else one season (at most 28 steps), else one step."""
        return self.asked_horizon or min(self.season or 1, LONGEST_DEFAULT_HORIZON)

    def facts(self, progress: Progress | None = None) -> dict[str, Value]:
        """Size, season and horizon of the series.

        Raises:
            DataError: If no series is long enough for one forecast.
        """
        lengths = np.diff(self.starts)
        # The last step before each forecast is its origin; one season of history at least.
        origins = np.maximum(0, lengths - self.horizon - (self.season or 1) + 1)
        if not origins.any():
            longest = int(lengths.max())
            raise DataError(
                "series",
                received=f"the longest series has {longest:,} steps, for a horizon of "
                f"{self.horizon:,}" + (f" and a season of {self.season:,}" if self.season else ""),
                expected="history and horizon to fit into a series",
                mend="Forecast fewer steps (--horizon) or bring longer series.",
            )
        found: dict[str, Value] = {
            "data.num_steps": len(self),
            "data.num_series": len(self.labels),
            "data.num_variables": len(self.names),
            "data.steps_per_series": int(lengths.max()),
            "data.time_stamped": self.step.kind != "rows",
            "data.horizon": self.horizon,
            "data.num_samples": int(origins.sum()),
            "data.num_outputs": self.horizon * max(1, self.num_targets),
            "data.time_ordered": True,
        }
        return found | ({"data.season_length": self.season} if self.season else {})

    def goal(self, problem: str | None) -> TargetProfile:
        """A forecast of the target columns.

        Raises:
            DataError: If no target was named.
            OptionError: If another problem is asked for.
        """
        if problem not in (None, "forecasting"):
            raise OptionError(
                "--problem",
                received=f"`{problem}` for time series",
                expected="forecasting",
                mend="Leave out --horizon and --task to read the rows as a plain table.",
            )
        if not self.num_targets:
            raise DataError(
                "series",
                received="no target was named",
                expected="the column to forecast",
                mend="Name it: --target NAME.",
            )
        targets = self.values[:, : self.num_targets].astype(np.float64)
        spread = targets.std(axis=0)
        skews = ((targets - targets.mean(axis=0)) ** 3).mean(axis=0) / np.where(
            spread, spread, 1
        ) ** 3
        return TargetProfile(
            name=", ".join(self.names[: self.num_targets]),
            problem="forecasting",
            evidence=f"the next {self.horizon} step(s) of a series",
            skew=float(skews[np.abs(skews).argmax()]),
        )

    def digest(self) -> str:
        """A hash of every value and its place."""
        digest = hashlib.sha256(repr((self.names, self.labels, self.step)).encode())
        for part in (self.values, self.places, self.starts):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def warnings(self) -> tuple[str, ...]:
        """What was mended while reading, and what was chosen for want of a wish."""
        found = list(self.notes)
        if self.asked_horizon is None and self.num_targets:
            why = f"one season ({self.season} steps)" if self.season else "no season was found"
            found.append(
                f"No horizon was given: {self.horizon} step(s) of 1 {self.step} are forecast "
                f"({why}); change it with --horizon."
            )
        needed = self.horizon + 1
        short = [self.labels[i] for i in np.flatnonzero(np.diff(self.starts) < needed)]
        if short and self.num_targets:
            found.append(
                f"{len(short)} series shorter than {needed} steps cannot be learnt from: "
                f"{listed(short)}."
            )
        return tuple(found)


def series_dataset(
    frame: pd.DataFrame, targets: Sequence[str], options: ReadOptions, where: str
) -> Dataset:
    """Turn a table into series on a regular grid.

    Rows are sorted by series and time. Up to 1 % of repeated stamps are averaged, short gaps
    filled along a straight line; both are counted. More of either is refused.

    Args:
        frame: Clean columns; every row is one step of one series.
        targets: Columns to forecast; empty at prediction time.
        options: Read are `time_column`, `series_column` and `horizon`.
        where: The source, for errors.

    Returns:
        A data set with one row per step and `SeriesContent`. Its features are time, series
        and covariates, its target the columns to forecast.

    Raises:
        DataError: If the table holds no regular series.
        OptionError: If an option names no column or asks for no step.
    """
    horizon = options.get("horizon")
    if horizon is not None and horizon < 1:
        raise OptionError(
            "--horizon",
            received=f"{horizon}",
            expected="at least one step to forecast",
            mend="Leave it out to forecast one season.",
        )
    time, series = _time_and_series(frame, targets, options, where)
    num_rows = len(frame)
    frame, stamps, notes = _with_stamps(frame, time, where)
    owner, labels = _owners(frame, series)
    names, more = _variables(frame, targets, {time, series}, where)
    notes += more
    values = frame[names].to_numpy(dtype=np.float32, na_value=np.nan)
    if time is None:  # each series counts its own rows
        stamps = _own_numbers(owner)
    order, more = sorted_by_time(stamps, owner, has_time=time is not None)
    notes += more
    steps = (values[order], stamps[order], owner[order])
    values, stamps, starts, more = one_row_per_step(*steps, labels=labels, where=where)
    notes += more
    if time is None:
        step, places = Step("rows"), stamps.astype(np.int64)
    else:
        step, places = grid(stamps, starts, where=where)
    values, starts, places, inserted = whole_grid(
        values, starts, places, stamps=stamps, where=where
    )
    stamps = _all_stamps(stamps, step, inserted)
    values, kept, more = filled(
        values, starts, inserted, names=names, num_targets=len(targets), labels=labels, where=where
    )
    notes += more
    content = SeriesContent(
        names=tuple(names),
        num_targets=len(targets),
        values=values,
        starts=np.searchsorted(kept, starts),
        labels=labels,
        stamps=stamps[kept],
        places=places[kept],
        step=step,
        asked_horizon=horizon,
        notes=tuple(notes),
    )
    return _dataset(content, time, series, num_rows, where)


def _dataset(
    content: SeriesContent, time: str | None, series: str | None, num_rows: int, where: str
) -> Dataset:
    import pandas as pd

    stamps: Any = content.stamps
    features = pd.DataFrame({time or "step": stamps})
    if series is not None:
        features[series] = np.asarray(content.labels, dtype=object)[content.owners]
    for i in range(content.num_targets, len(content.names)):
        features[content.names[i]] = content.values[:, i]
    targets = {n: content.values[:, i] for i, n in enumerate(content.names[: content.num_targets])}
    target: pd.Series | pd.DataFrame | None = pd.DataFrame(targets) if targets else None
    if len(targets) == 1:
        target = pd.Series(content.values[:, 0], name=content.names[0])
    return Dataset(
        name="series",
        features=features,
        target=target,
        num_rows=num_rows,
        warnings=content.notes,
        where=where,
        task="timeseries",
        content=content,
    )


def _time_and_series(
    frame: pd.DataFrame, targets: Sequence[str], options: ReadOptions, where: str
) -> tuple[str | None, str | None]:
    """The columns of time and of series; the time may be found, the series must be told."""
    import pandas as pd

    columns = [str(c) for c in frame.columns]
    for option in ("time_column", "series_column"):
        name = options.get(option)
        if name is not None and (name not in columns or name in targets):
            raise OptionError(
                f"--{option.replace('_', '-')}",
                received=f"`{name}` is " + ("a target" if name in targets else "no column"),
                expected="one of " + listed([c for c in columns if c not in targets]),
                mend=f"Correct the name.{did_you_mean(str(name), columns)}",
            )
    series = options.get("series_column")
    if options.get("time_column") is not None:
        return options["time_column"], series
    dates = []
    for name in columns:
        if name in targets or name == series or pd.api.types.is_numeric_dtype(frame[name].dtype):
            continue
        try:
            stamps_of(frame[name].head(1000), where=where)
        except DataError:
            continue
        dates.append(name)
    if len(dates) > 1:
        raise OptionError(
            "--time-column",
            received=f"{len(dates)} columns hold dates: {listed(dates)}",
            expected="to be told which of them is the time of a step",
            mend=f"Name it, for example --time-column {dates[0]}.",
        )
    return (dates[0] if dates else None), series


def _with_stamps(
    frame: pd.DataFrame, time: str | None, where: str
) -> tuple[pd.DataFrame, Stamps, list[str]]:
    """Rows that have a time, and their times; the order of rows where there is no time."""
    if time is None:
        note = "No column holds dates: rows are taken as equal steps in time (else: --time-column COLUMN)."
        return frame, np.arange(len(frame)), [note]
    stamps, known = stamps_of(frame[time], where=where)
    if known.all():
        return frame, stamps, []
    rows = np.flatnonzero(~known)
    note = (
        f"{len(rows):,} row(s) without a readable `{time}` left out, the first in row "
        f"{', '.join(f'{r + 1:,}' for r in rows[:SHOWN_NAMES])}."
    )
    return frame[known].reset_index(drop=True), stamps[known], [note]


def _owners(frame: pd.DataFrame, series: str | None) -> tuple[Steps, tuple[str, ...]]:
    if series is None:
        return np.zeros(len(frame), dtype=np.int64), ("the series",)
    codes, labels = frame[series].astype("str").factorize(sort=True)
    return codes.astype(np.int64), tuple(str(label) for label in labels)


def _own_numbers(owner: Steps) -> Steps:
    """The number of each row among the rows of its series, counted from 0."""
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], np.arange(owner.max(initial=0) + 1))
    numbers = np.empty(len(owner), dtype=np.int64)
    numbers[order] = np.arange(len(owner)) - starts[owner[order]]
    return numbers


def _variables(
    frame: pd.DataFrame, targets: Sequence[str], apart: set[str | None], where: str
) -> tuple[list[str], list[str]]:
    """The numeric columns, targets first; and a note on those that are none."""
    import pandas as pd

    numeric = [c for c in frame.columns if pd.api.types.is_numeric_dtype(frame[c].dtype)]
    for name in targets:
        if name not in numeric:
            raise DataError(
                where,
                received=f"the target `{name}` holds text, such as {frame[name].iloc[0]!r}",
                expected="numbers to forecast",
                mend="Name a numeric column, or correct the cells that are no numbers.",
            )
    others = [c for c in numeric if c not in targets and c not in apart]
    dull = [c for c in frame.columns if c not in numeric and c not in apart]
    notes = [f"{len(dull)} column(s) without numbers not used: {listed(dull)}."] if dull else []
    if not targets and not others:
        raise DataError(
            where,
            received="no column holds numbers",
            expected="at least one variable of a series",
            mend="Check the columns of the table.",
        )
    return [*targets, *others], notes


def _all_stamps(stamps: Stamps, step: Step, inserted: npt.NDArray[np.bool_]) -> Stamps:
    """The time of every step of the whole grid."""
    if not inserted.any():
        return stamps
    whole = np.empty(len(inserted), dtype=stamps.dtype)
    whole[~inserted] = stamps
    for row in np.flatnonzero(inserted):  # rising, so the step before is known
        whole[row] = step.after(whole[row - 1], 1)[0]
    return whole
