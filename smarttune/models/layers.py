"""The layers of one trial, made from its values; every random part has a seed of its own name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from smarttune.errors import SettingError
from smarttune.models.built import families_built
from smarttune.models.codec import TargetCodec
from smarttune.models.optimizers import kernel_regularizer, needed
from smarttune.space import Value

_INITIALIZERS: dict[str, Any] = {
    "he_normal": keras.initializers.HeNormal,
    "lecun_normal": keras.initializers.LecunNormal,
    "glorot_uniform": keras.initializers.GlorotUniform,
    "orthogonal": keras.initializers.Orthogonal,
}


@dataclass(frozen=True)
class Layers:
    """Makes the layers of one network.

    Args:
        values: Canonical name to value, as the trial chose them.
        codec: What the network predicts.
        root_seed: From which the seed of every initializer and dropout is derived.
    """

    values: Mapping[str, Value]
    codec: TargetCodec
    root_seed: int

    def value(self, name: str) -> Any:
        """The value of a hyperparameter without which the network cannot be built.

        Raises:
            SettingError: If no rule and no setting gives it one.
        """
        return needed(self.values, name)

    @property
    def family(self) -> str:
        """The kind of network."""
        return str(self.value("model.family"))

    def family_of(self, modality: str) -> str:
        """The kind of network, which must be one that is built here.

        Raises:
            SettingError: If a modality builds no such network for the problem.
        """
        allowed = families_built(modality, self.codec.problem)
        if self.family not in allowed:
            raise bad_value("model.family", self.family, allowed)
        return self.family

    def seed(self, name: str) -> int:
        """The seed of the random part called `name`."""
        digest = hashlib.blake2b(f"{self.root_seed}/{name}".encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") >> 1  # Keras wants a signed 32-bit seed

    def initializer(self, name: str) -> Any:
        """The initializer of the kernel called `name`."""
        kind = self.values.get("model.kernel_initializer", "glorot_uniform")  # Keras's own default
        if kind not in _INITIALIZERS:
            raise bad_value("model.kernel_initializer", kind, tuple(_INITIALIZERS))
        return _INITIALIZERS[str(kind)](seed=self.seed(name))

    def regularizer(self) -> Any | None:
        """The penalty on kernels, or None."""
        return kernel_regularizer(self.values)

    def dense(self, x: Any, name: str, units: int | None = None) -> Any:
        """A dense layer, `model.units` wide unless told otherwise."""
        return layers.Dense(
            int(self.value("model.units")) if units is None else units,
            kernel_initializer=self.initializer(name),
            kernel_regularizer=self.regularizer(),
            name=name,
        )(x)

    def embedding(
        self, x: Any, num_indices: int, width: int, name: str, *, mask_zero: bool = False
    ) -> Any:
        """Vectors for indices: (batch, ...) to (batch, ..., width)."""
        start = keras.initializers.RandomUniform(seed=self.seed(name))
        return layers.Embedding(
            num_indices, width, embeddings_initializer=start, mask_zero=mask_zero, name=name
        )(x)

    def normalize(self, x: Any, name: str) -> Any:
        """The normalization that `model.normalization` names, or nothing."""
        kind = self.values.get("model.normalization", "none")
        if kind == "none":
            return x
        if kind == "batch":
            momentum = float(self.values.get("model.normalization_momentum", 0.99))  # Keras's own
            return layers.BatchNormalization(momentum=momentum, name=f"normalization_{name}")(x)
        if kind == "layer":
            return layers.LayerNormalization(name=f"normalization_{name}")(x)
        raise bad_value("model.normalization", kind, ("none", "batch", "layer"))

    def activate(self, x: Any, name: str) -> Any:
        """The activation of hidden layers."""
        kind = str(self.value("model.activation"))
        try:
            return layers.Activation(kind, name=f"activation_{name}")(x)
        except ValueError as error:
            allowed = ("an activation of Keras, such as relu",)
            raise bad_value("model.activation", kind, allowed) from error

    def drop(self, x: Any, name: str) -> Any:
        """Dropout of hidden units, or nothing where the rate is 0."""
        rate = float(self.values.get("model.dropout", 0.0))
        if not rate:
            return x
        # SELU keeps mean and variance only under alpha dropout (Klambauer et al. 2017).
        selu = self.values.get("model.activation") == "selu"
        layer = layers.AlphaDropout if selu else layers.Dropout
        return layer(rate, seed=self.seed(f"dropout_{name}"), name=f"dropout_{name}")(x)

    def output(self, x: Any) -> Any:
        """Logits or encoded targets along the last axis, whatever the axes before it."""
        bounds = self._bounds()
        # Logits and their loss stay in float32 under every precision.
        x = layers.Dense(
            self.codec.num_outputs,
            kernel_initializer=keras.initializers.GlorotUniform(seed=self.seed("output")),
            bias_initializer=keras.initializers.Constant(
                output_bias(self.codec, self.values, bounds)
            ),
            kernel_regularizer=self.regularizer(),
            dtype="float32",
            name="output",
        )(x)
        if bounds is None:
            return x
        low, high = bounds
        return ops.sigmoid(x) * (high - low) + low

    def _bounds(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Encoded bounds of a regression target whose output is a sigmoid, else None."""
        if self.codec.kind != "regression":
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
    if codec.kind == "regression":
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


def bad_value(name: str, value: object, allowed: tuple[str, ...]) -> SettingError:
    """The error for a value that means nothing to a network."""
    return SettingError(
        name,
        received=f"{value!r}",
        expected="one of " + ", ".join(allowed),
        mend=f"Set {name} to one of them.",
    )
