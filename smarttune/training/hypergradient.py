"""Optimizers whose learning rate learns while they train.

The rate moves against the derivative of the loss by the rate itself, which is the product of
the gradient and the direction of the step before (Baydin, Cornish, Martinez Rubio, Schmidt and
Wood 2018, "Online Learning Rate Adaptation with Hypergradient Descent", ICLR, section 2):
SGD-HD, SGDN-HD and Adam-HD are its Algorithms 4, 5 and 6.

Per step, with gradient g, rate a, and the direction d in which the weights would go at rate 1::

    h = g . d_before                     the hypergradient; 0 in the first step
    a = a - b h                          rule "additive"; b is `hypergradient_rate`
    a = a (1 - b h / (|g| |d_before|))   rule "multiplicative"
    d = direction of the optimizer       -g for plain SGD, -m / (sqrt(v) + epsilon) for Adam
    w = w + a d

Products and norms run over all weights at once: there is one rate.

What enters the product:

- The gradient as it is used: averaged over accumulated batches, unscaled and clipped. A batch
  that clipping tames must not throw the rate either. Where clipping acts, h is the derivative
  of the clipped loss only.
- Decoupled weight decay is on neither side. It is no descent of the loss; as part of d it would
  push the rate down wherever decay costs loss, which is what it is there for. A step decays
  with the rate that it moves with.

Bounds: the rate is cut to [0, `maximum_rate`]. A negative rate would climb. The multiplicative
rule cannot reach 0, as b < 1. The additive one can; at 0 the weights stand still while
directions go on, so the next negative hypergradient lifts it again. A product that is not
finite leaves the rate as it is, and so does a step that loss scaling skips.

Limits: `hypergradient_rate` is a new knob. In the additive rule it carries the units of the
rate over those of the loss, so it does not carry over to another model; the multiplicative one
is free of units. The product sees one step ahead, and rates that are best for one step are too
small for a training (Wu, Ren, Liao and Grosse 2018, "Understanding Short-Horizon Bias in
Stochastic Meta-Optimization", ICLR). Batches add noise to it, small ones most. It takes no
schedule, and a callback that sets the rate works against it. The directions take the memory of
one more copy of the weights. Of replicas, each would see its own gradient: train on one device.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from smarttune.errors import OptionError, did_you_mean

HYPERGRADIENT_RULES = ("additive", "multiplicative")


class _Hypergradient:
    """What the optimizers below add to those of Keras; it stands before them as a parent.

    Keras hands every weight to `update_step` with the rate. Here it gets the weight at zero and
    a rate of 1: what it makes of that is the direction, whatever the optimizer. With momentum
    this keeps the rate out of the velocity, as the paper does and Keras's own SGD does not.
    """

    def __init__(
        self,
        learning_rate: float,
        *,
        hypergradient_rate: float,
        rule: str = "additive",
        maximum_rate: float | None = None,
        **options: Any,
    ) -> None:
        _check(learning_rate, hypergradient_rate, rule, maximum_rate)
        super().__init__(learning_rate=float(learning_rate), **options)  # type: ignore[call-arg]
        self.hypergradient_rate = float(hypergradient_rate)
        self.rule = rule
        self.maximum_rate = maximum_rate

    def build(self: Any, variables: Any) -> None:
        """Make room for the directions, one of the shape of every variable."""
        if self.built:
            return
        super().build(variables)  # type: ignore[misc]
        self._directions = self.add_optimizer_variables(variables, "direction")

    def _apply_weight_decay(self, variables: Any) -> None:
        """Nothing yet: decay waits for the rate of this step."""

    def _backend_update_step(self: Any, grads: Any, variables: Any, learning_rate: Any) -> None:
        self._move_rate(grads, variables)
        super()._apply_weight_decay(variables)  # type: ignore[misc]
        # A class that gives some variables a share of the rate multiplies this 1 by it.
        super()._backend_update_step(  # type: ignore[misc]
            grads, variables, ops.ones((), dtype=self._learning_rate.dtype)
        )

    def _move_rate(self: Any, grads: Any, variables: Any) -> None:
        product, of_gradient, of_direction = 0.0, 0.0, 0.0
        for given, variable in zip(grads, variables, strict=True):
            direction = ops.cast(self._directions[self._get_variable_index(variable)], "float32")
            # TensorFlow gives gradients of embeddings as rows; the sum is an array.
            gradient = ops.cast(given, "float32") + ops.zeros_like(direction)
            product += ops.sum(gradient * direction)
            of_gradient += ops.sum(ops.square(gradient))
            of_direction += ops.sum(ops.square(direction))
        rate = ops.cast(self._learning_rate, "float32")
        if self.rule == "additive":
            moved = rate - self.hypergradient_rate * product
        else:
            norms = ops.sqrt(of_gradient) * ops.sqrt(of_direction)
            moved = rate * (1.0 - self.hypergradient_rate * ops.divide_no_nan(product, norms))
        top = math.inf if self.maximum_rate is None else self.maximum_rate
        moved = ops.where(ops.isfinite(moved), ops.clip(moved, 0.0, top), rate)
        self._learning_rate.assign(ops.cast(moved, self._learning_rate.dtype))

    def update_step(self: Any, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Move one variable; `learning_rate` is its share of the rate, 1 unless scaled."""
        before = ops.copy(variable)  # TensorFlow would convert a variable into itself
        self.assign(variable, ops.zeros_like(before))
        super().update_step(gradient, variable, learning_rate)  # type: ignore[misc]
        direction = ops.copy(variable)
        rate = ops.cast(self._learning_rate, before.dtype)
        self.assign(self._directions[self._get_variable_index(variable)], direction)
        self.assign(variable, before + rate * direction)

    def get_config(self: Any) -> dict[str, Any]:
        """The arguments, with the rate as it is now."""
        return {
            **super().get_config(),  # type: ignore[misc]
            "hypergradient_rate": self.hypergradient_rate,
            "rule": self.rule,
            "maximum_rate": self.maximum_rate,
        }


def _check(rate: Any, hypergradient_rate: Any, rule: Any, maximum_rate: Any) -> None:
    if not _number(rate) or rate < 0.0:
        raise OptionError(
            "learning_rate",
            received=f"{rate!r}",
            expected="a number from 0, where the rate begins",
            mend="Leave out the schedule; the optimizer moves the rate itself.",
        )
    if rule not in HYPERGRADIENT_RULES:
        raise OptionError(
            "rule",
            received=f"`{rule}`",
            expected=" or ".join(HYPERGRADIENT_RULES),
            mend=f"Choose one of them.{did_you_mean(str(rule), HYPERGRADIENT_RULES)}",
        )
    top = 1.0 if rule == "multiplicative" else math.inf
    if not _number(hypergradient_rate) or not 0.0 <= hypergradient_rate < top:
        raise OptionError(
            "hypergradient_rate",
            received=f"{hypergradient_rate!r}",
            expected="a number from 0" + (", below 1" if rule == "multiplicative" else ""),
            mend="A step of the multiplicative rule changes the rate by at most this share."
            if rule == "multiplicative"
            else "Begin with 0.001 for SGD and 1e-7 for Adam.",
        )
    # The rate is held in float32; one that was saved at the bound may lie a rounding above it.
    if maximum_rate is not None and (
        not _number(maximum_rate) or np.float32(maximum_rate) < np.float32(rate)
    ):
        raise OptionError(
            "maximum_rate",
            received=f"{maximum_rate!r}",
            expected=f"None, or a number that is at least the first rate, {rate:g}",
            mend="Raise it, or begin with a smaller rate.",
        )


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


@keras.saving.register_keras_serializable(package="smarttune")
class HypergradientSGD(_Hypergradient, keras.optimizers.SGD):  # type: ignore[misc]
    """SGD-HD, and SGDN-HD with `momentum` and `nesterov` (Baydin et al. 2018, Algorithms 4, 5).

    Args:
        learning_rate: The rate it begins with.
        hypergradient_rate: How far a step moves the rate, at least 0; 0 leaves it where it is.
            0.001 in the paper's experiments (section 4).
        rule: `additive` or `multiplicative`; for the latter `hypergradient_rate` is below 1.
        maximum_rate: The largest rate; None sets no bound.
        **options: Those of `keras.optimizers.SGD`, by name.

    Raises:
        OptionError: If an argument cannot be used.
    """


@keras.saving.register_keras_serializable(package="smarttune")
class HypergradientAdam(_Hypergradient, keras.optimizers.Adam):  # type: ignore[misc]
    """Adam-HD (Baydin et al. 2018, Algorithm 6).

    Args:
        learning_rate: The rate it begins with.
        hypergradient_rate: How far a step moves the rate, at least 0; 0 leaves it where it is.
            1e-7 in most of the paper's experiments (section 4).
        rule: `additive` or `multiplicative`; for the latter `hypergradient_rate` is below 1.
        maximum_rate: The largest rate; None sets no bound.
        **options: Those of `keras.optimizers.Adam`, by name. `epsilon` stands where Keras has
            it, beside the root of the uncorrected second moment.

    Raises:
        OptionError: If an argument cannot be used.
    """


@keras.saving.register_keras_serializable(package="smarttune")
class HypergradientAdamW(_Hypergradient, keras.optimizers.AdamW):  # type: ignore[misc]
    """Adam-HD with decoupled weight decay, which the rate does not look at.

    Args:
        learning_rate: The rate it begins with.
        hypergradient_rate: As in `HypergradientAdam`.
        rule: `additive` or `multiplicative`; for the latter `hypergradient_rate` is below 1.
        maximum_rate: The largest rate; None sets no bound.
        **options: Those of `keras.optimizers.AdamW`, by name.

    Raises:
        OptionError: If an argument cannot be used.
    """


# AdamW is an Adam, so it comes first.
_MADE = {
    keras.optimizers.AdamW: HypergradientAdamW,
    keras.optimizers.Adam: HypergradientAdam,
    keras.optimizers.SGD: HypergradientSGD,
}


def learned_rate(model: Any) -> dict[str, float]:
    """Where a rate that moves itself stands, under the name of a metric.

    Args:
        model: A compiled Keras model.

    Returns:
        `learned_learning_rate`; nothing where the rate does not move itself.
    """
    optimizer = getattr(model, "optimizer", None)
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # under loss scaling
    if not isinstance(optimizer, _Hypergradient):
        return {}
    rate: Any = optimizer
    return {"learned_learning_rate": float(ops.convert_to_numpy(rate.learning_rate))}


def hypergradient(kind: Any) -> Any:
    """The optimizer class that moves its own learning rate, for a class of Keras.

    Args:
        kind: `keras.optimizers.SGD`, `Adam` or `AdamW`, or a class derived from one of them,
            such as one that gives some variables a share of the rate. It must take the rate as
            a factor of the whole step, as these do.

    Returns:
        A class with the arguments of `kind`, by name, and `hypergradient_rate`, `rule` and
        `maximum_rate`. For the three classes of Keras it is always the same one, which models
        save and load; for a derived one it is made anew.

    Raises:
        OptionError: If the paper's derivation was not made for `kind`.
    """
    if kind in _MADE:
        return _MADE[kind]
    if not isinstance(kind, type) or not issubclass(kind, tuple(_MADE)):
        raise OptionError(
            "optimizer.name",
            received=f"{getattr(kind, '__name__', repr(kind))}",
            expected="SGD, Adam or AdamW of keras.optimizers, or a class derived from them",
            mend="Choose one of them, or leave the learning rate to a schedule.",
        )
    if issubclass(kind, _Hypergradient):
        return kind
    return type(kind.__name__, (_Hypergradient, kind), {})
