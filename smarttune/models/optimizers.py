"""The optimizer of a trial, and how its batches grow, from recommended values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from smarttune.errors import SettingError, did_you_mean
from smarttune.models.transfer import phased
from smarttune.space import Value
from smarttune.training.gradients import watched
from smarttune.training.growth import BatchGrowth, Growth, NoiseScaleGrowth
from smarttune.training.hypergradient import hypergradient
from smarttune.training.momentum import with_momentum_cycle
from smarttune.training.schedules import OneCycle, ScaledSchedule, learning_rate

_ADAM_LIKE = ("adam", "adamw", "nadam")
OPTIMIZERS: dict[str, Any] = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "nadam": keras.optimizers.Nadam,
    "sgd": keras.optimizers.SGD,
    "rmsprop": keras.optimizers.RMSprop,
    "adagrad": keras.optimizers.Adagrad,
    "lion": keras.optimizers.Lion,
}
# Variables that weight decay leaves alone, as patterns of their paths.
_NOT_DECAYED = ("bias", "gamma", "beta")
NUM_BATCH_PHASES = 4  # ours, as in rule BAT012
# ours: a batch that follows the noise scale may grow to this many times its first size.
LARGEST_GROWTH = 64


def make_optimizer(
    values: Mapping[str, Value],
    *,
    num_samples: int,
    epochs: int,
    pretrained: Sequence[Any] = (),
    num_micro_batches: int = 1,
) -> Any:
    """The optimizer of one trial.

    Weight decay is on only where `optimizer.regularization` is `weight_decay` (or says
    nothing and a decay is given), and spares biases and normalization weights unless
    `optimizer.decay_exclusions` is false. The norms of the gradients are kept in the optimizer
    (see `smarttune.training.gradients`).

    Args:
        values: Active values of the trial.
        num_samples: Training rows.
        epochs: Epochs of a full training, on which schedules are drawn.
        pretrained: Variables with pretrained weights. They are not decayed, stay as they are
            for `training.frozen_fraction` of all steps, and then learn with
            `training.unfrozen_factor` times the rate.
        num_micro_batches: Parts into which each batch is cut; their gradients are summed.

    Returns:
        An unbuilt `keras.optimizers.Optimizer`.

    Raises:
        SettingError: If name, rate or schedule is missing or unknown.
        OptionError: If a number makes no sense, or a rate that moves itself has a schedule.
    """
    name = str(needed(values, "optimizer.name"))
    if name not in OPTIMIZERS:
        raise SettingError(
            "optimizer.name",
            received=f"`{name}`",
            expected="one of " + ", ".join(OPTIMIZERS),
            mend=f"Set it to one of them.{did_you_mean(name, OPTIMIZERS)}",
        )
    growth = batch_growth(
        values, epochs=epochs, num_samples=num_samples, num_micro_batches=num_micro_batches
    )
    total_steps = _total_steps(values, num_samples, epochs, growth, num_micro_batches)
    rate = _rate(values, num_samples, total_steps, growth, num_micro_batches)
    decay = weight_decay(values)
    options = _options(name, values, num_micro_batches) | {
        "learning_rate": rate,
        # AdamW refuses None and would decay by 0.004 if told nothing.
        "weight_decay": decay or (0.0 if name == "adamw" else None),
    }
    kind = OPTIMIZERS[name]
    if hypergradient_rate := float(values.get("optimizer.hypergradient_rate", 0.0)):
        kind = hypergradient(kind)
        options["hypergradient_rate"] = hypergradient_rate
    if isinstance(rate, OneCycle) and values.get("optimizer.momentum_cycling", False):
        kind = with_momentum_cycle(kind, rate)
    kind = watched(kind)
    if pretrained:
        fraction = float(needed(values, "training.frozen_fraction"))
        kind = phased(
            kind,
            pretrained,
            # An optimizer that sums gradients counts updates, not batches.
            frozen_steps=round(
                fraction * total_steps / options.get("gradient_accumulation_steps", 1)
            ),
            factor=float(needed(values, "training.unfrozen_factor")),
        )
    optimizer = kind(**options)
    spared = list(_NOT_DECAYED) if values.get("optimizer.decay_exclusions", True) else []
    if decay and (spared or pretrained):
        optimizer.exclude_from_weight_decay(var_list=list(pretrained), var_names=spared)
    return optimizer


def _options(name: str, values: Mapping[str, Value], num_micro_batches: int) -> dict[str, Any]:
    """Arguments of the optimizer beside rate and decay."""
    options: dict[str, Any] = {
        "global_clipnorm": float(values.get("optimizer.clipnorm", 0.0)) or None
    }
    if name == "sgd":
        momentum = float(values.get("optimizer.momentum", 0.0))
        options |= {"momentum": momentum, "nesterov": momentum > 0}
    if name in _ADAM_LIKE:
        for key in ("beta_1", "beta_2", "epsilon"):
            if f"optimizer.{key}" in values:
                options[key] = float(values[f"optimizer.{key}"])
    if average := float(values.get("optimizer.ema_momentum", 0.0)):
        # Keras averages after every part of a batch.
        options |= {"use_ema": True, "ema_momentum": average ** (1 / num_micro_batches)}
    steps = int(values.get("training.gradient_accumulation_steps", 1)) * num_micro_batches
    if steps > 1:
        options["gradient_accumulation_steps"] = steps
    return options


def _total_steps(
    values: Mapping[str, Value],
    num_samples: int,
    epochs: int,
    growth: Growth | None,
    num_micro_batches: int,
) -> int:
    """Batches of a full training, as the optimizer counts them."""
    if isinstance(growth, BatchGrowth):
        return growth.total_steps(num_samples)
    batch_size = int(needed(values, "training.batch_size")) // num_micro_batches
    return math.ceil(num_samples / batch_size) * epochs


def _rate(
    values: Mapping[str, Value],
    num_samples: int,
    total_steps: int,
    growth: Growth | None,
    num_micro_batches: int,
) -> Any:
    """A number or a schedule over the whole horizon, lowered where the batch grows."""
    rate = learning_rate(
        str(values.get("optimizer.schedule", "constant")),
        float(needed(values, "optimizer.learning_rate")),
        total_steps=total_steps,
        warmup_steps=int(values.get("optimizer.warmup_steps", 0)) * num_micro_batches,
    )
    # A plain number is an optimizer's variable, which the growth multiplies itself.
    if isinstance(growth, BatchGrowth) and growth.num_phases > 1 and callable(rate):
        return ScaledSchedule(rate, growth.boundaries(num_samples), growth.rate_factors()[1:])
    return rate


def batch_growth(
    values: Mapping[str, Value], *, epochs: int, num_samples: int, num_micro_batches: int = 1
) -> Growth | None:
    """How the batch of a trial grows while it trains; None where it stays.

    Args:
        values: Active values of the trial.
        epochs: Epochs of a full training.
        num_samples: Training rows; no batch grows beyond them.
        num_micro_batches: Parts into which each batch is cut.

    Raises:
        SettingError: If `training.batch_growth` is unknown.
    """
    kind = values.get("training.batch_growth", "none")
    batch_size = int(needed(values, "training.batch_size")) // num_micro_batches
    if kind == "none":
        return None
    # A batch that had to be cut has no room to grow.
    largest = batch_size if num_micro_batches > 1 else max(batch_size, num_samples)
    if kind == "doubling":
        phases = min(int(values.get("training.num_batch_phases", NUM_BATCH_PHASES)), epochs)
        return BatchGrowth(batch_size, epochs, phases, largest=largest)
    if kind == "noise_scale":
        adaptive = values.get("optimizer.name") not in ("sgd", "lion")
        return NoiseScaleGrowth(
            batch_size,
            min(largest, batch_size * LARGEST_GROWTH),
            rule="sqrt" if adaptive else "linear",
        )
    raise SettingError(
        "training.batch_growth",
        received=f"`{kind}`",
        expected="none, doubling or noise_scale",
        mend="Set it to one of them.",
    )


def needed(values: Mapping[str, Value], name: str) -> Any:
    """The value of a hyperparameter without which nothing can be built."""
    if name not in values:
        raise SettingError(
            name,
            received="no rule and no setting gives it a value",
            expected="a value for every hyperparameter that the model needs",
            mend=f"Give one, for example with --set {name}=VALUE.",
        )
    return values[name]


def weight_decay(values: Mapping[str, Value]) -> float:
    """Decoupled weight decay of a trial; 0 where another penalty or none is chosen."""
    if values.get("optimizer.regularization", "weight_decay") != "weight_decay":
        return 0.0
    return float(values.get("optimizer.weight_decay", 0.0))


def kernel_regularizer(values: Mapping[str, Value]) -> Any | None:
    """The L1 or L2 penalty on kernels of a trial, or None."""
    kind = values.get("optimizer.regularization")
    l1 = float(values.get("optimizer.l1", 0.0)) if kind in (None, "l1", "l1_l2") else 0.0
    l2 = float(values.get("optimizer.l2", 0.0)) if kind in (None, "l2", "l1_l2") else 0.0
    return keras.regularizers.L1L2(l1=l1, l2=l2) if l1 or l2 else None
