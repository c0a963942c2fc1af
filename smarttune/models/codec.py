"""Targets to arrays and raw network outputs back to predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from pydantic import BaseModel, ConfigDict

from smarttune.errors import DataError, SettingError, did_you_mean
from smarttune.models.cells import numbers, text_of, texts
from smarttune.space import Value

if TYPE_CHECKING:
    import pandas as pd

Problem = Literal[
    "binary",
    "multiclass",
    "multilabel",
    "regression",
    "forecasting",
    "segmentation",
    "language_model",
    "char_language_model",
]
Kind = Literal["binary", "multiclass", "multilabel", "regression"]
# Problems that are learnt as others are: many values at once, or a class at each place.
_KINDS: dict[str, Kind] = {
    "forecasting": "regression",
    "segmentation": "multiclass",
    "language_model": "multiclass",
    "char_language_model": "multiclass",
}
TRANSFORMS = ("none", "standardize", "log1p_standardize")
# ours: half a row is added to every class so that a class absent from the training
# rows still has a finite log-probability (Jeffreys' prior).
PRIOR_ROWS = 0.5
# A label is given where it is at least as likely as not.
_EVEN = 0.5
# Largest exponent whose exp fits a float64.
_MAX_EXPONENT = math.log(np.finfo(np.float64).max)


class TargetCodec(BaseModel):
    """How the target is written as numbers, learnt from the training rows. Immutable.

    Args:
        problem: What is predicted.
        names: Target columns; one unless multilabel or regression with several outputs.
        classes: Labels in order (binary: negative then positive); empty otherwise.
        class_counts: Training rows of each class, or positive rows of each label.
        num_rows: Training rows.
        transform: Transformation of a regression target.
        shift: Subtracted before the logarithm, so that its argument is at least 1.
        center: Mean of each (log-)target; 0 where not standardized.
        scale: Standard deviation of each (log-)target; 1 where not standardized.
        means: Mean of each encoded target among the training rows.
        bounds: Lowest and highest possible target in raw units, where declared.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    problem: Problem
    names: tuple[str, ...]
    classes: tuple[bool | int | float | str, ...] = ()
    class_counts: tuple[int, ...] = ()
    num_rows: int = 0
    transform: Literal["none", "standardize", "log1p_standardize"] = "none"
    shift: tuple[float, ...] = ()
    center: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    means: tuple[float, ...] = ()
    bounds: tuple[float, float] | None = None

    @classmethod
    def fit(
        cls,
        target: pd.Series[Any] | pd.DataFrame,
        problem: str,
        classes: Sequence[Value],
        settings: Mapping[str, Value],
        *,
        bounds: tuple[float, float] | None = None,
    ) -> TargetCodec:
        """Learn classes, counts and scale from the training rows.

        Args:
            target: Training targets; a frame for several labels or outputs.
            problem: binary, multiclass, multilabel or regression.
            classes: Labels in order, for binary and multiclass.
            settings: Recommended values; read is `model.target_transform`.
            bounds: Lowest and highest possible target, if declared (regression).

        Returns:
            The fitted codec.

        Raises:
            DataError: If the problem is not one of tables, or the classes do not fit it.
            SettingError: If the target transform is unknown.
        """
        names = (
            tuple(str(c) for c in target.columns)
            if target.ndim == 2
            else (str(target.name) if target.name is not None else "target",)
        )
        if problem in ("binary", "multiclass"):
            draft = cls(problem=problem, names=names, classes=_labels(problem, classes))
            indices = draft.encode(target).astype(np.int64).ravel()
            counts = np.bincount(indices, minlength=len(draft.classes))
            return draft.model_copy(
                update={"class_counts": tuple(counts.tolist()), "num_rows": len(indices)}
            )
        if problem == "multilabel":
            draft = cls(problem="multilabel", names=names)
            counts = draft.encode(target).sum(axis=0).astype(np.int64)
            return draft.model_copy(
                update={"class_counts": tuple(counts.tolist()), "num_rows": len(target)}
            )
        if _KINDS.get(problem, problem) == "regression":
            draft = cls(problem=cast("Problem", problem), names=names)
            return _fit_regression(draft, target, settings, bounds)
        raise DataError(
            "problem",
            received=f"`{problem}`",
            expected="binary, multiclass, multilabel or regression",
            mend="Give one of these with --problem.",
        )

    @property
    def kind(self) -> Kind:
        """The problem as losses see it: a forecast is a regression, a class per place multiclass."""
        return _KINDS.get(self.problem, cast("Kind", self.problem))

    @property
    def is_dense(self) -> bool:
        """Whether there is a class for every place of a sample: each pixel or each token."""
        return self.kind == "multiclass" and self.problem != "multiclass"

    @property
    def num_outputs(self) -> int:
        """Width of the network's output layer."""
        return len(self.classes) if self.kind == "multiclass" else len(self.names)

    def reduced(self, output: np.ndarray, encoded: np.ndarray) -> np.ndarray:
        """What comparisons need of raw outputs, so that those of every place need not be kept.

        Args:
            output: Raw network outputs of some rows.
            encoded: Encoded targets of the same rows.

        Returns:
            The outputs, or where every place has a class, shape (rows, ..., 2): the
            log-probability of the true class, and the most probable class.
        """
        if not self.is_dense:
            return output
        peaks = output.max(axis=-1, keepdims=True)
        total = np.log(np.exp(output - peaks).sum(axis=-1)) + peaks[..., 0]
        places = np.asarray(encoded, np.int64)[..., None]
        true = np.take_along_axis(output, places, axis=-1)[..., 0]
        return np.stack([true - total, output.argmax(axis=-1)], axis=-1).astype(np.float32)

    def encode(self, target: pd.Series[Any] | pd.DataFrame) -> np.ndarray:
        """Targets as the network sees them.

        Args:
            target: Targets of any rows, without missing values.

        Returns:
            multiclass: int32 class indices, shape (rows,); otherwise float32, shape
            (rows, num_outputs): 0 or 1, or the transformed value.

        Raises:
            DataError: If a cell is no known label or no number.
        """
        if self.problem in ("binary", "multiclass"):
            indices = self._class_indices(_columns(target)[0])
            if self.problem == "multiclass":
                return indices
            return np.asarray(indices.astype(np.float32)[:, None])
        raw = self.raw_targets(target)
        if self.problem == "multilabel":
            if not np.isin(raw, (0.0, 1.0)).all():
                raise _bad_cells("label columns hold values other than 0 and 1", self.names)
            return raw.astype(np.float32)
        return self.standardized(raw).astype(np.float32)

    def standardized(self, raw: np.ndarray) -> np.ndarray:
        """Raw regression targets, shape (..., num_outputs), in the network's units."""
        if self.transform == "log1p_standardize":
            raw = np.log1p(np.maximum(raw - np.asarray(self.shift), 0.0))
        result: np.ndarray = (raw - np.asarray(self.center)) / np.asarray(self.scale)
        return result

    def raw_units(self, encoded: np.ndarray) -> np.ndarray:
        """The inverse of `standardized`; kept inside the declared bounds."""
        raw = np.asarray(encoded, np.float64) * np.asarray(self.scale) + np.asarray(self.center)
        if self.transform == "log1p_standardize":
            raw = np.expm1(np.minimum(raw, _MAX_EXPONENT)) + np.asarray(self.shift)
        return np.asarray(raw if self.bounds is None else np.clip(raw, *self.bounds))

    def probabilities(self, output: np.ndarray) -> np.ndarray:
        """Logits to probabilities.

        Args:
            output: Logits, shape (rows, num_outputs), or (rows, ..., num_classes) where
                every place has a class.

        Returns:
            Shape (rows, ..., number of classes) for binary and multiclass, summing to 1
            along the last axis; shape (rows, number of labels) for multilabel.
        """
        logits = np.asarray(output, np.float64)
        if self.kind == "multiclass":
            powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
            normalized: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
            return normalized
        logits = logits.reshape(len(output), -1)
        positive = 0.5 * (1.0 + np.tanh(0.5 * logits))  # a sigmoid that cannot overflow
        return np.concatenate([1.0 - positive, positive], 1) if self.classes else positive

    def decode(self, output: np.ndarray) -> pd.DataFrame:
        """Raw network outputs to predictions.

        Args:
            output: Logits or scaled values, shape (rows, num_outputs) or (rows,).

        Returns:
            Classification: column `prediction` (the label) and `probability_LABEL` per
            class. Multilabel: `LABEL` (0 or 1) and `probability_LABEL` per label.
            Regression: `prediction`, or one column per output under its own name.

        Classes of single places (pixels, tokens) have no table; their modality decodes them.
        """
        import pandas as pd

        output = np.asarray(output, np.float64).reshape(len(output), -1)
        if self.kind == "regression":
            raw = self.raw_units(output)
            names = ["prediction"] if len(self.names) == 1 else list(self.names)
            return pd.DataFrame(dict(zip(names, raw.T, strict=True)))
        shares = self.probabilities(output)
        labels: Sequence[Any] = self.classes or self.names
        columns = {f"probability_{n}": shares[:, i] for i, n in enumerate(labels)}
        if self.problem == "multilabel":
            chosen = {n: (shares[:, i] >= _EVEN).astype(int) for i, n in enumerate(self.names)}
            return pd.DataFrame({**chosen, **columns})
        winners = [self.classes[i] for i in shares.argmax(axis=1)]
        return pd.DataFrame({"prediction": winners, **columns})

    def priors(self) -> np.ndarray:
        """Share of each class, or of positives per label, with half a row added to each."""
        counts = np.asarray(self.class_counts, np.float64) + PRIOR_ROWS
        if self.problem == "multilabel":
            shares: np.ndarray = counts / (self.num_rows + 2 * PRIOR_ROWS)
            return shares
        normalized: np.ndarray = counts / counts.sum()
        return normalized

    def _class_indices(self, column: pd.Series[Any]) -> np.ndarray:
        places = {text_of(label): i for i, label in enumerate(self.classes)}
        cells = texts(column)
        strangers = sorted({c for c in cells if c not in places})
        if strangers:
            raise DataError(
                f"target `{self.names[0]}`",
                received=f"it holds {strangers[0]!r}, which is no known class",
                expected="only the classes " + ", ".join(list(places)[:10]),
                mend="Remove those rows or correct the cells." + did_you_mean(strangers[0], places),
            )
        return np.array([places[c] for c in cells], dtype=np.int32)

    def raw_targets(self, target: pd.Series[Any] | pd.DataFrame) -> np.ndarray:
        """Target columns as float64, shape (rows, columns).

        Raises:
            DataError: If a cell is missing, infinite or no number.
        """
        raw = np.stack([numbers(c) for c in _columns(target)], axis=1)
        if np.isnan(raw).any():
            raise _bad_cells("some targets are missing, infinite or no numbers", self.names)
        return raw


def _columns(target: pd.Series[Any] | pd.DataFrame) -> list[pd.Series[Any]]:
    import pandas as pd

    if isinstance(target, pd.DataFrame):
        return [target.iloc[:, i] for i in range(target.shape[1])]
    return [target]


def _bad_cells(received: str, names: Sequence[str]) -> DataError:
    return DataError(
        "target " + ", ".join(f"`{n}`" for n in names),
        received=received,
        expected="a usable value in every row",
        mend="Drop or correct those rows before training.",
    )


def _labels(problem: str, classes: Sequence[Value]) -> tuple[Value, ...]:
    labels = tuple(classes)
    enough = len(labels) == 2 if problem == "binary" else len(labels) >= 2
    if not enough or len({text_of(c) for c in labels}) != len(labels):
        raise DataError(
            "classes",
            received=f"{len(labels)} classes ({', '.join(map(str, labels[:10]))}) for `{problem}`",
            expected=("" if problem == "binary" else "at least ") + "two different classes",
            mend="Give the matching problem with --problem, or check the target column.",
        )
    return labels


def _fit_regression(
    draft: TargetCodec,
    target: pd.Series[Any] | pd.DataFrame,
    settings: Mapping[str, Value],
    bounds: tuple[float, float] | None,
) -> TargetCodec:
    transform = settings.get("model.target_transform", "none")
    if transform not in TRANSFORMS:
        raise SettingError(
            "model.target_transform",
            received=f"{transform!r}",
            expected="one of " + ", ".join(TRANSFORMS),
            mend=f"Set it to one of them.{did_you_mean(str(transform), TRANSFORMS)}",
        )
    if bounds is not None and not bounds[0] < bounds[1]:
        raise DataError(
            "target bounds",
            received=f"from {bounds[0]} to {bounds[1]}",
            expected="a lower bound below the upper one",
            mend="Correct the facts data.target_min and data.target_max.",
        )
    width = len(draft.names)
    neutral = {"shift": (0.0,) * width, "center": (0.0,) * width, "scale": (1.0,) * width}
    plain = draft.model_copy(update=neutral)
    raw = plain.raw_targets(target)
    codec = plain.model_copy(
        update={
            "num_rows": len(raw),
            "transform": transform,
            "bounds": bounds,
            "shift": tuple(np.minimum(raw.min(axis=0), 0.0).tolist()),
        }
    )
    if transform != "none":
        moved = codec.standardized(raw)
        scale = np.where(moved.std(axis=0) > 0, moved.std(axis=0), 1.0)
        codec = codec.model_copy(
            update={"center": tuple(moved.mean(axis=0).tolist()), "scale": tuple(scale.tolist())}
        )
    return codec.model_copy(update={"means": tuple(codec.standardized(raw).mean(axis=0).tolist())})
