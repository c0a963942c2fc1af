"""The hypermodel of every built-in family: a modality's network over the recommended space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras

from smarttune.models.codec import TargetCodec
from smarttune.models.compiling import make_loss, make_metrics
from smarttune.models.declaration import declare
from smarttune.models.hypermodel import HyperModel
from smarttune.models.layers import Layers, bad_value
from smarttune.models.modalities import modality
from smarttune.models.modality import Preprocessor, of_family
from smarttune.models.optimizers import make_optimizer
from smarttune.models.transfer import BACKBONE
from smarttune.space import Value

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
        num_micro_batches: Parts into which each batch is cut to fit the memory; the gradients
            of the parts are summed, so that a step is the same as with the whole batch.
    """

    num_samples: int
    max_epochs: int
    seed: int = 0
    precision: str | None = None
    metrics: tuple[str, ...] | None = None
    num_micro_batches: int = 1


class NetworkHyperModel(HyperModel):
    """A network on the arrays of a preprocessor.

    The model takes a dict of what `preprocessor.inputs` gives and returns logits or encoded
    targets, float32, shape (batch, ..., num_outputs).

    Args:
        source: A recommendation, or a `SearchSpace`.
        preprocessor: The fitted preprocessing; it tells which modality it belongs to.
        codec: The fitted target codec, for the shape and start of the output.
        plan: Rows, horizon, seed and precision. May be replaced between trials, for
            example to seed each trial apart: `hypermodel.plan = replace(plan, seed=7)`.
    """

    def __init__(
        self,
        source: Any,
        preprocessor: Preprocessor,
        codec: TargetCodec,
        plan: TrainingPlan,
    ) -> None:
        super().__init__(source)
        self.preprocessor = preprocessor
        self.modality = modality(preprocessor.kind)
        self.codec = codec
        self.plan = plan

    # A tuner need not build models to find out what they declare.
    declares_everything = True

    def prepare(self, seed: int, num_micro_batches: int = 1) -> None:
        """Say how the next model starts and trains.

        Args:
            seed: Of initial weights and dropout.
            num_micro_batches: Parts into which each batch is cut.
        """
        self.plan = replace(self.plan, seed=seed, num_micro_batches=num_micro_batches)

    def declare_hyperparameters(self, hp: Any) -> None:
        """Declare the whole space before the first build."""
        self.values(hp)

    def values(self, hp: Any) -> dict[str, Value]:
        """Declare the space on `hp` and return the active values of the trial."""
        assert self.space is not None
        return declare(hp, self.space, self.modality.network_settings(self.space.by_name))

    def build(self, hp: Any) -> keras.Model:
        """Build and compile the model of one trial under its dtype policy."""
        return self.build_from(self.values(hp))

    def build_from(self, values: Mapping[str, Value]) -> keras.Model:
        """Build and compile a model from plain values, without a tuner.

        Args:
            values: Canonical name to value; a name may carry its family.

        Returns:
            A compiled model. The dtype policy in force before is in force after.

        Raises:
            SettingError: If a value is missing or means nothing here.
        """
        values = of_family(values)
        precision = self.plan.precision or values.get("training.precision", "float32")
        if precision not in PRECISIONS:
            raise bad_value("training.precision", precision, PRECISIONS)
        before = keras.config.dtype_policy()
        # KerasTuner clears the session before each build, which forgets a policy set outside.
        keras.config.set_dtype_policy(precision)
        try:
            layers = Layers(values, self.codec, self.plan.seed)
            model = self.modality.network(layers, self.preprocessor)
            model.compile(
                optimizer=make_optimizer(
                    values,
                    num_samples=self.plan.num_samples,
                    epochs=self.plan.max_epochs,
                    pretrained=_pretrained(model),
                    num_micro_batches=self.plan.num_micro_batches,
                ),
                loss=make_loss(values, self.codec.kind),
                metrics=make_metrics(self.codec, self.plan.metrics),
            )
        finally:
            keras.config.set_dtype_policy(before)
        return model


def _pretrained(model: keras.Model) -> list[Any]:
    """The variables that came with pretrained weights."""
    found = [layer for layer in model.layers if layer.name == BACKBONE]
    return [variable for layer in found for variable in layer.trainable_variables]
