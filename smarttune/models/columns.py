"""What is remembered of each raw column, and how it becomes numbers.

A column is fitted on the training rows once; afterwards `encode` is a pure function
of the cells. Everything is plain numbers and text, so it survives JSON.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from smarttune.models.cells import (
    FALSE_TEXTS,
    TRUE_TEXTS,
    dates,
    numbers,
    text_of,
    texts,
    writes_day_first,
)
from smarttune.models.ngrams import NgramVocabulary, SparseRows

if TYPE_CHECKING:
    import pandas as pd

Scaling = Literal["standardize", "robust_scale_smooth_clip", "quantile_normal"]

# Holzmüller et al. 2024 (RealMLP), section 3: x / sqrt(1 + (x / 3)^2) keeps values in (-3, 3).
SMOOTH_CLIP = 3.0
# ours: no training row lies this many deviations off (that takes 10^8 rows), and float16
# holds numbers up to 65504; a cell beyond it is a slip of the pen or another unit.
FARTHEST = 1e4
# ours: one knot per this many rows keeps each quantile stable ...
ROWS_PER_KNOT = 30
# ... and these bounds keep small tables smooth and the saved model small.
MIN_KNOTS, MAX_KNOTS = 10, 256

DatePart = Literal["year", "month", "day", "weekday", "hour"]
_PARTS: tuple[DatePart, ...] = ("year", "month", "day", "weekday", "hour")
# First value and number of values of each cyclic part of a date.
CYCLES: dict[str, tuple[int, int]] = {
    "month": (1, 12),
    "day": (1, 31),
    "weekday": (0, 7),
    "hour": (0, 24),
}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NumericColumn(_Frozen):
    """A column of numbers.

    Args:
        name: Column name.
        fill: What stands in for a missing cell: the median of the training rows.
        center: Subtracted before scaling.
        scale: Divisor, never 0.
        scaling: Which of the three scalings is used.
        knots: Values of the training rows (quantile_normal only), ascending.
        scores: Normal scores of the knots.
        indicator: Whether a 0/1 input says that the cell was missing.
    """

    kind: Literal["numeric"] = "numeric"
    name: str
    fill: float
    center: float = 0.0
    scale: float = 1.0
    scaling: Scaling = "standardize"
    knots: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()
    indicator: bool = False

    @classmethod
    def fit(
        cls, name: str, column: pd.Series[Any], *, scaling: Scaling, indicate: bool
    ) -> NumericColumn:
        """Learn fill, center and scale from the training rows."""
        values = numbers(column)
        seen = values[~np.isnan(values)]
        if seen.size == 0:
            seen = np.zeros(1)
        filled = np.where(np.isnan(values), np.median(seen), values)
        return cls(
            name=name,
            fill=float(np.median(seen)),
            scaling=scaling,
            indicator=bool(indicate and np.isnan(values).any()),
            **_scale(filled if filled.size else seen, scaling),
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs that the column becomes."""
        return (self.name, f"{self.name} missing") if self.indicator else (self.name,)

    def encode(self, column: pd.Series[Any]) -> np.ndarray:
        """Cells as inputs, float32, shape (rows, len(inputs))."""
        values = numbers(column)
        missing = np.isnan(values)
        values = np.where(missing, self.fill, values)
        if self.scaling == "quantile_normal":
            scaled = np.interp(values, self.knots, self.scores)
        else:
            with np.errstate(over="ignore"):  # an infinite quotient is clipped like a large one
                scaled = (values - self.center) / self.scale
            scaled = np.clip(scaled, -FARTHEST, FARTHEST)
            if self.scaling == "robust_scale_smooth_clip":
                scaled = scaled / np.sqrt(1.0 + (scaled / SMOOTH_CLIP) ** 2)
        parts = [scaled, missing] if self.indicator else [scaled]
        return np.stack(parts, axis=1).astype(np.float32)


def _scale(values: np.ndarray, scaling: Scaling) -> dict[str, Any]:
    if scaling == "standardize":
        return {"center": float(values.mean()), "scale": float(values.std()) or 1.0}
    if scaling == "robust_scale_smooth_clip":
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
        # Where half of the cells are equal the quartiles say nothing: fall back on the extremes.
        scale = float(high - low) or float(values.max() - values.min()) / 2.0
        return {"center": float(middle), "scale": scale or 1.0}
    count = int(np.clip(values.size // ROWS_PER_KNOT, MIN_KNOTS, MAX_KNOTS))
    shares = (np.arange(count) + 0.5) / count
    knots = np.quantile(values, shares)
    scores = np.array([NormalDist().inv_cdf(p) for p in shares])
    distinct, place = np.unique(knots, return_inverse=True)
    # A value that fills several quantiles gets their mean score.
    means = np.bincount(place, scores) / np.bincount(place)
    return {"knots": tuple(distinct.tolist()), "scores": tuple(means.tolist())}


class BooleanColumn(_Frozen):
    """A column of two values, which become 0 and 1.

    Args:
        name: Column name.
        yes: Texts that mean 1; the rest of the known texts, `no`, mean 0.
        no: Texts that mean 0.
        fill: Share of ones among the training rows, used where a cell is missing.
        indicator: Whether a 0/1 input says that the cell was missing.
    """

    kind: Literal["boolean"] = "boolean"
    name: str
    yes: tuple[str, ...]
    no: tuple[str, ...]
    fill: float
    indicator: bool = False

    @classmethod
    def fit(cls, name: str, column: pd.Series[Any], *, indicate: bool) -> BooleanColumn:
        """Learn which texts mean yes and no, and the share of yes."""
        seen = texts(column)
        words = sorted({t for t in seen if t})
        if all(w.lower() in TRUE_TEXTS | FALSE_TEXTS for w in words):
            yes, no = _spellings(TRUE_TEXTS), _spellings(FALSE_TEXTS)
        else:  # two names such as "left" and "right": the later one in the alphabet is 1
            yes, no = tuple(words[1:2]), tuple(words[0:1])
        draft = cls(name=name, yes=yes, no=no, fill=0.0)
        values = draft.flags(column)
        known = values[~np.isnan(values)]
        return cls(
            name=name,
            yes=yes,
            no=no,
            fill=float(known.mean()) if known.size else 0.0,
            indicator=bool(indicate and np.isnan(values).any()),
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs that the column becomes."""
        return (self.name, f"{self.name} missing") if self.indicator else (self.name,)

    def flags(self, column: pd.Series[Any]) -> np.ndarray:
        """Cells as 0, 1 or NaN (missing, or a text never seen), shape (rows,)."""
        meaning = dict.fromkeys(self.no, 0.0) | dict.fromkeys(self.yes, 1.0)
        codes, levels = column.factorize()
        table = [meaning.get(text_of(level), np.nan) for level in levels]
        return np.asarray(np.array([*table, np.nan])[codes])

    def encode(self, column: pd.Series[Any]) -> np.ndarray:
        """Cells as inputs, float32, shape (rows, len(inputs))."""
        values = self.flags(column)
        missing = np.isnan(values)
        values = np.where(missing, self.fill, values)
        parts = [values, missing] if self.indicator else [values]
        return np.stack(parts, axis=1).astype(np.float32)


def _spellings(words: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted({s for w in words for s in (w, w.upper(), w.capitalize())}))


def _part(parsed: pd.Series[Any], part: DatePart) -> np.ndarray:
    """One part of each date as float64, NaN where the date is missing."""
    attribute = "day_of_week" if part == "weekday" else part
    values: np.ndarray = getattr(parsed.dt, attribute).to_numpy(dtype=np.float64, na_value=np.nan)
    return values


class DatetimeColumn(_Frozen):
    """A column of dates, which become a scaled year and the sine and cosine of cyclic parts.

    Args:
        name: Column name.
        parts: The parts that vary among the training rows.
        day_first: Whether 05/06/2024 is the fifth of June.
        written: Format of the text, where it was measured.
        center: Mean year.
        scale: Standard deviation of the year, never 0.
        indicator: Whether a 0/1 input says that the cell was missing.
    """

    kind: Literal["datetime"] = "datetime"
    name: str
    parts: tuple[DatePart, ...]
    day_first: bool = False
    written: str | None = None
    center: float = 0.0
    scale: float = 1.0
    indicator: bool = False

    @classmethod
    def fit(
        cls, name: str, column: pd.Series[Any], *, indicate: bool, written: str | None = None
    ) -> DatetimeColumn:
        """Learn which parts vary, and the scale of the years."""
        day_first = writes_day_first(column)
        parsed = dates(column, day_first=day_first, written=written)
        seen = parsed[parsed.notna()]
        varying = tuple(p for p in _PARTS if np.unique(_part(seen, p)).size > 1)
        years = seen.dt.year.to_numpy(dtype=np.float64)
        return cls(
            name=name,
            parts=varying,
            day_first=day_first,
            written=written,
            center=float(years.mean()) if years.size else 0.0,
            scale=(float(years.std()) if years.size else 0.0) or 1.0,
            indicator=bool(indicate and parsed.isna().any()),
        )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs that the column becomes."""
        names: list[str] = []
        for part in self.parts:
            one = [f"{self.name} year"]
            names += one if part == "year" else [f"{self.name} {part} {f}" for f in ("sin", "cos")]
        return (*names, f"{self.name} missing") if self.indicator else tuple(names)

    def encode(self, column: pd.Series[Any]) -> np.ndarray:
        """Cells as inputs, float32, shape (rows, len(inputs)); a missing date is all zeros."""
        parsed = dates(column, day_first=self.day_first, written=self.written)
        missing = parsed.isna().to_numpy()
        parts: list[np.ndarray] = []
        for part in self.parts:
            value = _part(parsed, part)
            if part == "year":
                parts.append((value - self.center) / self.scale)
            else:
                first, length = CYCLES[part]
                angle = 2.0 * np.pi * (value - first) / length
                parts += [np.sin(angle), np.cos(angle)]
        parts = [np.where(missing, 0.0, p) for p in parts]
        if self.indicator:
            parts.append(missing.astype(np.float64))
        if not parts:
            return np.zeros((len(column), 0), np.float32)
        return np.stack(parts, axis=1).astype(np.float32)


class CategoricalColumn(_Frozen):
    """A column of names, which become indices.

    Args:
        name: Column name.
        levels: Distinct texts of the training rows, sorted; index 0 is kept for
            missing cells and for levels never seen, so level i has index i + 1.
        encoding: How the index enters a network.
        embedding_dim: Width of the embedding; 0 with one-hot.
    """

    kind: Literal["categorical"] = "categorical"
    name: str
    levels: tuple[str, ...]
    encoding: Literal["one_hot", "embedding"] = "one_hot"
    embedding_dim: int = 0

    @property
    def num_indices(self) -> int:
        """How many indices there are: the levels and index 0."""
        return len(self.levels) + 1

    def encode(self, column: pd.Series[Any]) -> np.ndarray:
        """Cells as indices, int32, shape (rows,)."""
        places = {level: i + 1 for i, level in enumerate(self.levels)}
        codes, found = column.factorize()
        table = np.array([places.get(text_of(v), 0) for v in found] + [0], dtype=np.int32)
        return np.asarray(table[codes])


class TextColumn(_Frozen):
    """A column of free text, which becomes tf-idf rows.

    Args:
        name: Column name.
        ngrams: The counted words and runs of words.
        embedding_dim: Numbers that a network makes of a row before it joins other columns.
    """

    kind: Literal["text"] = "text"
    name: str
    ngrams: NgramVocabulary
    embedding_dim: int

    def encode(self, column: pd.Series[Any]) -> SparseRows:
        """Cells as tf-idf rows, (rows, terms); a missing cell is all zeros."""
        return self.ngrams.rows(texts(column))
