"""Loss, metrics and weights of samples from recommended values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from smarttune.errors import OptionError, SettingError, did_you_mean
from smarttune.models.codec import TargetCodec
from smarttune.objectives import PROBLEM_METRICS
from smarttune.space import Value

_REGRESSION_LOSSES: dict[str, Any] = {
    "mse": keras.losses.MeanSquaredError,
    "huber": keras.losses.Huber,
    "mae": keras.losses.MeanAbsoluteError,
}
_LOSSES = {
    "binary": ("binary_crossentropy",),
    "multilabel": ("binary_crossentropy",),
    "multiclass": ("sparse_categorical_crossentropy",),
    "regression": tuple(_REGRESSION_LOSSES),
}


@keras.saving.register_keras_serializable(package="smarttune")
class SmoothedSparseCrossentropy(keras.losses.Loss):  # type: ignore[misc]
    """Cross-entropy of logits against class indices, with label smoothing.

    Keras smooths one-hot targets only; this spares the caller from widening them.

    Args:
        label_smoothing: Share of the target spread evenly over all classes.
    """

    def __init__(
        self, label_smoothing: float = 0.0, name: str = "smoothed_crossentropy", **kwargs: Any
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss per class index, shape (batch, ...)."""
        indices = ops.cast(ops.reshape(y_true, ops.shape(y_pred)[:-1]), "int32")
        targets = ops.one_hot(indices, y_pred.shape[-1], dtype=y_pred.dtype)
        return keras.losses.categorical_crossentropy(
            targets, y_pred, from_logits=True, label_smoothing=self.label_smoothing
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments, for saving."""
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


def make_loss(values: Mapping[str, Value], problem: str) -> Any:
    """The training loss that fits the problem; classification losses take logits.

    Args:
        values: Active values of the trial.
        problem: The kind of the codec.

    Raises:
        SettingError: If `model.loss` does not fit the problem.
    """
    allowed = _LOSSES[problem]
    name = str(values.get("model.loss", allowed[0]))
    if name not in allowed:
        raise SettingError(
            "model.loss",
            received=f"`{name}` for a {problem} target",
            expected=" or ".join(allowed),
            mend="Set it to a loss of this problem, or leave it to the rules.",
        )
    if problem == "regression":
        return _REGRESSION_LOSSES[name]()
    smoothing = float(values.get("training.label_smoothing", 0.0))
    if problem != "multiclass":
        return keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing)
    if smoothing:
        return SmoothedSparseCrossentropy(smoothing)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _auc(name: str, curve: str, codec: TargetCodec) -> Any:
    many = codec.problem == "multilabel"
    return keras.metrics.AUC(
        curve=curve,
        from_logits=True,
        multi_label=many,
        num_labels=codec.num_outputs if many else None,
        name=name,
    )


def make_metrics(codec: TargetCodec, names: Sequence[str] | None = None) -> list[Any]:
    """Fresh metrics of a model.

    Args:
        codec: Says which problem it is.
        names: Which of `PROBLEM_METRICS`; None means all. Regression metrics are in the
            units of the raw target. `crossentropy` and the errors hold no penalties and no
            label smoothing: unlike `val_loss` they compare fairly across trials.

    Raises:
        OptionError: If a name is not a metric of the problem.
    """
    known = PROBLEM_METRICS[codec.problem]
    for name in names or ():
        if name not in known:
            raise OptionError(
                "metrics",
                received=f"`{name}` for a {codec.problem} target",
                expected="one of " + ", ".join(known),
                mend=f"Choose a metric of this problem.{did_you_mean(name, known)}",
            )
    return [_metric(name, codec) for name in (known if names is None else names)]


def _metric(name: str, codec: TargetCodec) -> Any:
    metrics = keras.metrics
    if name in ("auc", "pr_auc"):
        return _auc(name, "ROC" if name == "auc" else "PR", codec)
    if codec.kind == "regression":
        return InRawUnits(_ERRORS[name](name=name), codec)
    if codec.kind == "multiclass":
        if name in _FROM_CROSSENTROPY:
            return FromCrossentropy(name)
        if name == "mean_io_u":
            return metrics.MeanIoU(codec.num_outputs, sparse_y_pred=False, name=name)
        if name == "accuracy":
            return metrics.SparseCategoricalAccuracy(name=name)
        return metrics.SparseCategoricalCrossentropy(name=name, from_logits=True)
    if name == "crossentropy":
        return metrics.BinaryCrossentropy(name=name, from_logits=True)
    return metrics.BinaryAccuracy(name=name, threshold=0.0)  # a logit of 0 is probability 1/2


_ERRORS: dict[str, Any] = {
    "mean_absolute_error": keras.metrics.MeanAbsoluteError,
    "mean_squared_error": keras.metrics.MeanSquaredError,
    "root_mean_squared_error": keras.metrics.RootMeanSquaredError,
    "r2_score": keras.metrics.R2Score,
}


# What is read off the mean cross-entropy in nats.
_FROM_CROSSENTROPY: dict[str, Any] = {
    "perplexity": ops.exp,
    "bits_per_character": lambda nats: nats / math.log(2.0),
}


class FromCrossentropy(keras.metrics.SparseCategoricalCrossentropy):  # type: ignore[misc]
    """Perplexity or bits per character: functions of the mean cross-entropy."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, from_logits=True)

    def result(self) -> Any:
        """The metric so far."""
        return _FROM_CROSSENTROPY[self.name](super().result())


class InRawUnits(keras.metrics.Metric):  # type: ignore[misc]
    """A regression metric on targets and predictions turned back into raw units.

    Args:
        inner: The metric.
        codec: Knows how the target was encoded.
    """

    def __init__(self, inner: keras.metrics.Metric, codec: TargetCodec) -> None:
        super().__init__(name=inner.name)
        self.inner = inner
        self.codec = codec

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Take in a batch of encoded targets and predictions, shape (batch, outputs)."""
        return self.inner.update_state(self._raw(y_true), self._raw(y_pred), sample_weight)

    def _raw(self, encoded: Any) -> Any:
        scale, center, shift = (
            np.asarray(part, np.float32)
            for part in (self.codec.scale, self.codec.center, self.codec.shift)
        )
        raw = ops.cast(encoded, "float32") * scale + center
        if self.codec.transform == "log1p_standardize":
            # Beyond this exponent float32 has no number left.
            raw = ops.expm1(ops.minimum(raw, 80.0)) + shift
        return raw if self.codec.bounds is None else ops.clip(raw, *self.codec.bounds)

    def result(self) -> Any:
        """The metric so far."""
        return self.inner.result()

    def reset_state(self) -> None:
        """Begin anew."""
        self.inner.reset_state()


def sample_weights(
    encoded: np.ndarray, codec: TargetCodec, class_weight: Value = "balanced"
) -> np.ndarray | None:
    """Weights that let every class count alike in the loss.

    Args:
        encoded: Encoded targets of the training rows.
        codec: Holds the class counts of the training rows.
        class_weight: `balanced` or `none`.

    Returns:
        float32, shape (rows,), averaging 1 over the training rows; None for `none`,
        regression and multilabel targets, where a weight per row means nothing.

    Raises:
        SettingError: If `class_weight` is neither.
    """
    if class_weight not in ("none", "balanced"):
        raise SettingError(
            "training.class_weight",
            received=f"{class_weight!r}",
            expected="none or balanced",
            mend="Set it to one of them.",
        )
    if class_weight == "none" or codec.problem not in ("binary", "multiclass"):
        return None
    counts = np.maximum(np.asarray(codec.class_counts, np.float64), 1.0)
    weights = codec.num_rows / (len(counts) * counts)
    chosen: np.ndarray = weights[encoded.astype(np.int64).ravel()].astype(np.float32)
    return chosen
