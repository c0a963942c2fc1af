"""The gradient noise scale: up to which batch size a larger batch still pays.

With G the mean gradient and Sigma the covariance of the gradients of single samples, the
simple noise scale is tr(Sigma) / |G|^2. Far below it, a batch twice as large needs half as
many steps; far above it, almost as many (McCandlish, Kaplan, Amodei et al. 2018, "An Empirical
Model of Large-Batch Training", arXiv 1812.06162, section 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from smarttune.errors import OptionError
from smarttune.training.checkpoint import set_state, state_of
from smarttune.training.outputs import some_rows

# From inputs, targets and weights of one batch to its gradients and their squared norm.
Gradients = Callable[[Any, Any, Any], tuple[Sequence[Any], Any]]


@dataclass(frozen=True)
class NoiseScale:
    """What was measured.

    Attributes:
        noise_scale: tr(Sigma) / |G|^2, in samples; infinite where the estimate of |G|^2 is not
            above zero, that is, where the noise hides the gradient.
        gradient_norm_squared: Unbiased estimate of |G|^2; may be negative.
        gradient_variance: Unbiased estimate of tr(Sigma), per sample.
        small: Samples of a small batch.
        big: Samples of a big batch.
    """

    noise_scale: float
    gradient_norm_squared: float
    gradient_variance: float
    small: int
    big: int


def gradient_noise_scale(  # noqa: PLR0913 -- data and sizes, each by its name
    model: Any,
    x: Any,
    y: Any,
    *,
    small: int,
    big: int,
    num_pairs: int,
    seed: int | Sequence[int],
    sample_weight: Any = None,
) -> NoiseScale:
    """Measure the simple noise scale of a compiled model as it is now.

    See `GradientNoise.measure`; use that class to measure more than once without compiling again.
    """
    return GradientNoise(model).measure(
        x,
        y,
        small=small,
        big=big,
        num_pairs=num_pairs,
        seed=seed,
        sample_weight=sample_weight,
    )


class GradientNoise:
    """Measures the noise scale of one model, compiled once per size of the small batch.

    Args:
        model: A compiled and built Keras model, on TensorFlow or JAX.

    Raises:
        OptionError: If the model is not compiled or built, or Keras runs on another backend.
    """

    def __init__(self, model: Any) -> None:
        if not getattr(model, "compiled", False) or not model.built:
            raise OptionError(
                "model",
                received="a model that is not compiled or not built",
                expected="a model with a loss, an optimizer and weights",
                mend="Call `compile`, and declare the inputs or call the model once.",
            )
        backends: dict[str, type[_TensorFlow | _Jax]] = {"tensorflow": _TensorFlow, "jax": _Jax}
        name = keras.backend.backend()
        if name not in backends:
            raise OptionError(
                "gradient_noise_scale",
                received=f"the Keras backend `{name}`",
                expected="`tensorflow` or `jax`",
                mend="Set KERAS_BACKEND to one of them before Keras is imported.",
            )
        self.model = model
        self._backend = backends[name](model)

    def measure(  # noqa: PLR0913 -- data and sizes, each by its name
        self,
        x: Any,
        y: Any,
        *,
        small: int,
        big: int,
        num_pairs: int,
        seed: int | Sequence[int],
        sample_weight: Any = None,
    ) -> NoiseScale:
        """Measure on random batches; weights, statistics, seeds and optimizer stay as they are.

        A batch of B samples has a gradient whose squared norm is |G|^2 + tr(Sigma) / B on
        average. Two sizes give two such equations, and their solution is unbiased
        (McCandlish et al. 2018, appendix A.1). Here the small batches are the parts of the big
        one, whose gradient is the mean of theirs, as on the devices of a data-parallel training;
        so the memory of a small batch is enough. Both estimates are averaged over the pairs
        before they are divided. Samples of a pair are drawn without replacement, which keeps
        the estimates unbiased for the distribution that the data were drawn from.

        Losses that layers add, and dropout, count as they do in training. Batch normalization
        sees the small batches.

        Args:
            x: Inputs, shape (n, ...), or a dict of such.
            y: Targets, shape (n,) or (n, outputs).
            small: Samples of a small batch.
            big: Samples of a big batch, a multiple of `small`, at most n.
            num_pairs: Big batches that are averaged; costs `num_pairs * big` gradients.
            seed: Decides which samples are drawn.
            sample_weight: Weight of each sample, shape (n,).

        Raises:
            OptionError: If the sizes do not fit to each other or to the data.
        """
        _check_sizes(small, big, num_pairs, len(y))
        before = state_of(self.model)
        metrics = [variable.numpy() for variable in self.model.metrics_variables]
        random = np.random.default_rng(seed)
        squares_small, squares_big = [], []
        gradients = self._backend.gradients()
        try:
            for _ in range(num_pairs):
                rows = random.choice(len(y), big, replace=False)
                total: list[Any] = []
                for part in rows.reshape(-1, small):
                    weight = None if sample_weight is None else _array(sample_weight[part])
                    found, square = gradients(_array(some_rows(x, part)), _array(y[part]), weight)
                    squares_small.append(float(ops.convert_to_numpy(square)))
                    total = (
                        [a + b for a, b in zip(total, found, strict=True)] if total else [*found]
                    )
                mean = [g * (small / big) for g in total]
                squares_big.append(float(ops.convert_to_numpy(_square(mean))))
        finally:
            set_state(self.model, before)
            for variable, value in zip(self.model.metrics_variables, metrics, strict=False):
                variable.assign(value)
        scale = _loss_scale(self.model) ** 2
        return _estimate(
            float(np.mean(squares_small)) / scale,
            float(np.mean(squares_big)) / scale,
            small,
            big,
        )


def _estimate(square_small: float, square_big: float, small: int, big: int) -> NoiseScale:
    """Solve the two equations for |G|^2 and tr(Sigma)."""
    norm = (big * square_big - small * square_small) / (big - small)
    variance = (square_small - square_big) / (1 / small - 1 / big)
    if math.isnan(norm) or math.isnan(variance):
        scale = math.nan
    else:
        scale = max(0.0, variance) / norm if norm > 0 else math.inf
    return NoiseScale(scale, norm, variance, small, big)


def _check_sizes(small: int, big: int, num_pairs: int, num_samples: int) -> None:
    if num_pairs < 1:
        raise OptionError(
            "num_pairs", received=f"{num_pairs}", expected="at least 1", mend="Give a number."
        )
    if not 1 <= small < big <= num_samples or big % small:
        raise OptionError(
            "small, big",
            received=f"{small} and {big} for {num_samples} samples",
            expected="1 <= small < big <= samples, with big a multiple of small",
            mend="Take for example small=32 and big=512, or less with few samples.",
        )


def _array(values: Any) -> Any:
    """Tensors of what was read, real numbers in the precision of Keras."""
    if isinstance(values, Mapping):
        return {name: _array(part) for name, part in values.items()}
    values = np.asarray(values)
    real = np.issubdtype(values.dtype, np.floating)
    return ops.convert_to_tensor(values, dtype=keras.config.floatx() if real else None)


def _square(gradients: Sequence[Any]) -> Any:
    """The squared norm over all variables."""
    return sum(ops.sum(ops.square(ops.cast(g, "float32"))) for g in gradients)


def _loss_scale(model: Any) -> float:
    """By what mixed precision multiplies the loss, so that small gradients do not vanish."""
    return float(ops.convert_to_numpy(model.optimizer.scale_loss(ops.ones(()))))


class _TensorFlow:
    """Gradients by a tape; the measurement changes seeds and statistics, which are put back."""

    def __init__(self, model: Any) -> None:
        import tensorflow as tf

        def gradients(x: Any, y: Any, weight: Any) -> tuple[Sequence[Any], Any]:
            variables = model.trainable_variables
            with tf.GradientTape() as tape:
                outputs = model(x, training=True)
                loss = model.compute_loss(x, y, outputs, weight, training=True)
                loss = model.optimizer.scale_loss(loss)
            zero = tf.UnconnectedGradients.ZERO
            found = tape.gradient(loss, variables, unconnected_gradients=zero)
            found = [tf.convert_to_tensor(g) for g in found]  # embeddings give slices
            return found, _square(found)

        self._function = (
            gradients if model.run_eagerly else tf.function(gradients, reduce_retracing=True)
        )

    def gradients(self) -> Gradients:
        """The function for one measurement."""
        function: Gradients = self._function
        return function


class _Jax:
    """Gradients of the stateless model; states of layers are handed from batch to batch."""

    def __init__(self, model: Any) -> None:
        import jax

        def function(states: Any, x: Any, y: Any, weight: Any) -> Any:
            trainable, *others, optimizer = states
            # Calls the stateless model and adds the losses of its layers.
            compute = jax.value_and_grad(model.compute_loss_and_updates, has_aux=True)
            (_, updates), found = compute(
                trainable, *others, x, y, weight, training=True, optimizer_variables=optimizer
            )
            return found, _square(found), updates[2]

        self.model = model
        self._function = function if model.run_eagerly else jax.jit(function)

    def gradients(self) -> Gradients:
        """The function for one measurement, which begins with the states of now."""
        model = self.model
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        groups = (
            model.trainable_variables,
            model.non_trainable_variables,
            model.metrics_variables,
            model.optimizer.variables,
        )
        states = [[variable.value for variable in group] for group in groups]

        def gradients(x: Any, y: Any, weight: Any) -> tuple[Sequence[Any], Any]:
            found, square, states[1] = self._function(states, x, y, weight)
            return found, square

        return gradients
