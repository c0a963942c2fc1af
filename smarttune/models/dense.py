"""Dense networks for tables: plain and residual, built from recommended values."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from smarttune.errors import SettingError
from smarttune.models.codec import TargetCodec
from smarttune.models.compiling import (
    kernel_regularizer,
    make_loss,
    make_metrics,
    make_optimizer,
    needed,
)
from smarttune.models.declaration import declare
from smarttune.models.hypermodel import HyperModel
from smarttune.models.preprocessing import TablePreprocessor
from smarttune.space import Value

FAMILIES = ("mlp", "resnet_mlp")
# Groups of hyperparameters that a dense model reads; the rest concerns data and search.
_READ = (
    "model.",
    "optimizer.",
    "training.batch_size",
    "training.precision",
    "training.label_smoothing",
    "training.class_weight",
    "training.gradient_accumulation_steps",
)
# Settings that preprocessing has used up before a model is built.
_USED_BEFORE = (
    "model.encoding",
    "model.embedding_dim",
    "model.numeric_preprocessing",
    "model.missing_values",
    "model.target_transform",
)
_INITIALIZERS: dict[str, Any] = {
    "he_normal": keras.initializers.HeNormal,
    "lecun_normal": keras.initializers.LecunNormal,
    "glorot_uniform": keras.initializers.GlorotUniform,
    "orthogonal": keras.initializers.Orthogonal,
}
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


@dataclass(frozen=True)
class TrainingPlan:
    """What a model must know about its training before it is compiled.

    Args:
        num_samples: Training rows.
        max_epochs: Epochs of a full training; schedules are drawn on this horizon,
            however few epochs a rung trains.
        seed: Seed of initial weights and dropout.
        precision: Dtype policy, over the setting `training.precision`.
        metrics: Metrics to compute; None means all of the problem.
    """

    num_samples: int
    max_epochs: int
    seed: int = 0
    precision: str | None = None
    metrics: tuple[str, ...] | None = None


def network_settings(names: Iterable[str]) -> list[str]:
    """Those hyperparameters that a dense network reads; the rest concerns data and search."""
    return [n for n in names if n.startswith(_READ) and "[" not in n and n not in _USED_BEFORE]


class DenseHyperModel(HyperModel):
    """A dense network on the arrays of a `TablePreprocessor`.

    The model takes {"numeric": (batch, p) float32, "categorical": (batch, q) int32}
    (either may be absent) and gives logits or encoded targets, float32, shape
    (batch, num_outputs).

    Args:
        source: A recommendation, or a `SearchSpace`.
        preprocessor: The fitted preprocessing, for the shape of the inputs.
        codec: The fitted target codec, for the shape and start of the output.
        plan: Rows, horizon, seed and precision. May be replaced between trials, for
            example to seed each trial apart: `hypermodel.plan = replace(plan, seed=7)`.
    """

    def __init__(
        self,
        source: Any,
        preprocessor: TablePreprocessor,
        codec: TargetCodec,
        plan: TrainingPlan,
    ) -> None:
        super().__init__(source)
        self.preprocessor = preprocessor
        self.codec = codec
        self.plan = plan

    # A tuner need not build models to find out what they declare.
    declares_everything = True

    def reseed(self, seed: int) -> None:
        """Give the next model another start: initial weights and dropout."""
        self.plan = replace(self.plan, seed=seed)

    def declare_hyperparameters(self, hp: Any) -> None:
        """Declare the whole space before the first build."""
        self.values(hp)

    def values(self, hp: Any) -> dict[str, Value]:
        """Declare the space on `hp` and return the active values of the trial."""
        assert self.space is not None
        return declare(hp, self.space, network_settings(self.space.by_name))

    def build(self, hp: Any) -> keras.Model:
        """Build and compile the model of one trial under its dtype policy."""
        return self.build_from(self.values(hp))

    def build_from(self, values: Mapping[str, Value]) -> keras.Model:
        """Build and compile a model from plain values, without a tuner.

        Args:
            values: Canonical name to value.

        Returns:
            A compiled model. The dtype policy in force before is in force after.

        Raises:
            SettingError: If a value is missing or means nothing here.
        """
        batch_size = int(needed(values, "training.batch_size"))
        precision = self.plan.precision or values.get("training.precision", "float32")
        if precision not in PRECISIONS:
            raise _bad("training.precision", precision, PRECISIONS)
        before = keras.config.dtype_policy()
        # KerasTuner clears the session before each build, which forgets a policy set outside.
        keras.config.set_dtype_policy(precision)
        try:
            model = _Network(values, self.preprocessor, self.codec, self.plan.seed).model()
            model.compile(
                optimizer=make_optimizer(
                    values,
                    steps_per_epoch=math.ceil(self.plan.num_samples / batch_size),
                    epochs=self.plan.max_epochs,
                ),
                loss=make_loss(values, self.codec.problem),
                metrics=make_metrics(self.codec, self.plan.metrics),
            )
        finally:
            keras.config.set_dtype_policy(before)
        return model


@dataclass(frozen=True)
class _Network:
    """Builds the layers of one trial; every random part has a seed of its own name."""

    values: Mapping[str, Value]
    preprocessor: TablePreprocessor
    codec: TargetCodec
    root_seed: int

    def model(self) -> keras.Model:
        inputs, x = self._features()
        return keras.Model(inputs, self._output(self._hidden(x)), name="dense")

    def _seed(self, name: str) -> int:
        digest = hashlib.blake2b(f"{self.root_seed}/{name}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") >> 1  # Keras wants a signed 32-bit seed

    def _features(self) -> tuple[dict[str, Any], Any]:
        inputs: dict[str, Any] = {}
        parts: list[Any] = []
        width = len(self.preprocessor.numeric_inputs)
        if width:
            inputs["numeric"] = keras.Input((width,), name="numeric")
            parts.append(inputs["numeric"])
        columns = self.preprocessor.categorical
        if columns:
            indices = keras.Input((len(columns),), dtype="int32", name="categorical")
            inputs["categorical"] = indices
            parts += [self._column(indices[:, i], i) for i in range(len(columns))]
        if len(parts) == 1:
            return inputs, parts[0]
        return inputs, layers.Concatenate(name="features")(parts)

    def _column(self, indices: Any, place: int) -> Any:
        column = self.preprocessor.categorical[place]
        if column.encoding == "one_hot":
            # Index 0 (missing or unseen) has no weight of its own: a vector of zeros.
            return ops.one_hot(indices, column.num_indices)[:, 1:]
        name = f"embedding_{place}"
        start = keras.initializers.RandomUniform(seed=self._seed(name))
        return layers.Embedding(
            column.num_indices, column.embedding_dim, embeddings_initializer=start, name=name
        )(indices)

    def _hidden(self, x: Any) -> Any:
        family = self.values.get("model.family", "mlp")
        if family not in FAMILIES:
            raise _bad("model.family", family, FAMILIES)
        count = int(needed(self.values, "model.num_layers"))
        if family == "resnet_mlp" or self.values.get("model.skip_connections", False):
            return self._residual(x, count)
        for i in range(count):
            x = self._activate(self._normalize(self._dense(x, f"hidden_{i}"), f"{i}"), f"{i}")
            x = self._drop(x, f"{i}")
        return x

    def _residual(self, x: Any, count: int) -> Any:
        """A first layer that sets the width, then blocks normalized before their weights.

        The order inside a block follows Gorishniy et al. 2021, section 3.2.
        """
        if not count:
            return x
        x = self._dense(x, "hidden_0")
        for i in range(1, count):
            y = self._dense(self._normalize(x, f"{i}"), f"hidden_{i}")
            y = self._drop(self._activate(y, f"{i}"), f"{i}")
            x = layers.Add(name=f"skip_{i}")([x, y])
        return self._activate(self._normalize(x, "last"), "last")

    def _dense(self, x: Any, name: str) -> Any:
        return layers.Dense(
            int(needed(self.values, "model.units")),
            kernel_initializer=self._initializer(name),
            kernel_regularizer=kernel_regularizer(self.values),
            name=name,
        )(x)

    def _initializer(self, name: str) -> Any:
        kind = self.values.get("model.kernel_initializer", "glorot_uniform")  # Keras's own default
        if kind not in _INITIALIZERS:
            raise _bad("model.kernel_initializer", kind, tuple(_INITIALIZERS))
        return _INITIALIZERS[str(kind)](seed=self._seed(name))

    def _normalize(self, x: Any, name: str) -> Any:
        kind = self.values.get("model.normalization", "none")
        if kind == "none":
            return x
        if kind == "batch":
            return layers.BatchNormalization(name=f"normalization_{name}")(x)
        if kind == "layer":
            return layers.LayerNormalization(name=f"normalization_{name}")(x)
        raise _bad("model.normalization", kind, ("none", "batch", "layer"))

    def _activate(self, x: Any, name: str) -> Any:
        kind = str(needed(self.values, "model.activation"))
        try:
            return layers.Activation(kind, name=f"activation_{name}")(x)
        except ValueError as error:
            raise _bad(
                "model.activation", kind, ("an activation of Keras, such as relu",)
            ) from error

    def _drop(self, x: Any, name: str) -> Any:
        rate = float(self.values.get("model.dropout", 0.0))
        if not rate:
            return x
        # SELU keeps mean and variance only under alpha dropout (Klambauer et al. 2017).
        selu = self.values.get("model.activation") == "selu"
        layer = layers.AlphaDropout if selu else layers.Dropout
        return layer(rate, seed=self._seed(f"dropout_{name}"), name=f"dropout_{name}")(x)

    def _output(self, x: Any) -> Any:
        bounds = self._bounds()
        # Logits and their loss stay in float32 under every precision.
        x = layers.Dense(
            self.codec.num_outputs,
            kernel_initializer=keras.initializers.GlorotUniform(seed=self._seed("output")),
            bias_initializer=keras.initializers.Constant(
                output_bias(self.codec, self.values, bounds)
            ),
            kernel_regularizer=kernel_regularizer(self.values),
            dtype="float32",
            name="output",
        )(x)
        if bounds is None:
            return x
        low, high = bounds
        return ops.sigmoid(x) * (high - low) + low

    def _bounds(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Encoded bounds of a regression target whose output is a sigmoid, else None."""
        if self.codec.problem != "regression":
            return None
        if self.values.get("model.output_activation", "linear") != "sigmoid":
            return None
        if self.codec.bounds is None:
            raise SettingError(
                "model.output_activation",
                received="sigmoid, without known bounds of the target",
                expected="the facts data.target_min and data.target_max",
                mend="Declare both, or set model.output_activation=linear.",
            )
        edges = np.array(self.codec.bounds)[:, None] * np.ones(self.codec.num_outputs)
        encoded = self.codec.standardized(edges).astype(np.float32)
        return encoded[0], encoded[1]


def output_bias(
    codec: TargetCodec,
    values: Mapping[str, Value],
    bounds: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Where the output starts, shape (num_outputs,).

    Anything but `zeros` starts at the best constant prediction: log-odds, log-priors or
    the mean target, whichever fits the problem. Balanced class weights make all classes
    equally likely in the loss, so the prior is then even.

    Args:
        codec: Counts and means of the training rows.
        values: Read are `model.output_bias` and `training.class_weight`.
        bounds: Encoded bounds where the output is a scaled sigmoid.
    """
    zeros = np.zeros(codec.num_outputs, np.float32)
    balanced = values.get("training.class_weight", "none") == "balanced"
    if values.get("model.output_bias", "zeros") == "zeros":
        return zeros
    if codec.problem == "regression":
        means = np.asarray(codec.means)
        if bounds is None:
            return np.asarray(means, np.float32)
        share = np.clip((means - bounds[0]) / (bounds[1] - bounds[0]), 1e-3, 1.0 - 1e-3)
        return np.asarray(np.log(share / (1.0 - share)), np.float32)
    priors = codec.priors()
    if codec.problem == "multilabel":
        return np.asarray(np.log(priors / (1.0 - priors)), np.float32)
    if balanced:
        return zeros
    logs = np.log(priors)
    return np.asarray(logs[1:] - logs[:1] if codec.problem == "binary" else logs, np.float32)


def _bad(name: str, value: object, allowed: tuple[str, ...]) -> SettingError:
    return SettingError(
        name,
        received=f"{value!r}",
        expected="one of " + ", ".join(allowed),
        mend=f"Set {name} to one of them.",
    )
