"""Optimizers that record how large the gradient was and how often clipping cut it.

Recorded inside the compiled step, in variables of the optimizer: nothing is sent to the host while
an epoch runs, and what is saved and continued with the optimizer is continued with its record.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

# ours: an epoch of small data whole, and of large data its end; the median of 128 norms is known
# within a tenth of their spread.
NUM_NORMS = 128
_PACKAGE = "smarttune"


class _Watched:
    """What `watched` adds to a class of optimizers; see there."""

    built: bool
    global_clipnorm: float | None

    def build(self, variables: Any) -> None:
        """Add the record to the optimizer's variables."""
        if self.built:
            return
        super().build(variables)  # type: ignore[misc]
        self.gradient_norms = self._record((NUM_NORMS,), "float32", "gradient_norms")
        self.num_gradient_norms = self._record((), "int", "num_gradient_norms")
        self.num_clipped = self._record((), "int", "num_clipped")

    def _record(self, shape: tuple[int, ...], dtype: str, name: str) -> Any:
        # Aggregated as Keras's count of steps is: replicas record their own share of the batch.
        return self.add_variable(  # type: ignore[attr-defined]
            shape, dtype=dtype, name=name, aggregation="only_first_replica"
        )

    def _clip_gradients(self, grads: Any) -> Any:
        """Record the norm, then clip as ever."""
        merged, as_clipped = _norms_of([g for g in grads if g is not None])
        finite = ops.isfinite(merged)
        here = ops.equal(
            ops.arange(NUM_NORMS),
            ops.mod(ops.convert_to_tensor(self.num_gradient_norms), NUM_NORMS),
        )
        here = ops.logical_and(here, finite)
        # Not as a product with a mask: that of 0 and infinity is no number.
        self.gradient_norms.assign(
            ops.where(here, merged, ops.convert_to_tensor(self.gradient_norms))
        )
        counted = ops.cast(finite, self.num_gradient_norms.dtype)
        self.num_gradient_norms.assign(self.num_gradient_norms + counted)
        limit = self.global_clipnorm
        if limit and limit > 0:
            cut = ops.cast(as_clipped > limit, self.num_clipped.dtype)
            self.num_clipped.assign(self.num_clipped + counted * cut)
        return super()._clip_gradients(grads)  # type: ignore[misc]


def _norms_of(gradients: list[Any]) -> tuple[Any, Any]:
    """The global norm of the gradients, and the one that Keras clips by.

    They differ for the gradients of embeddings on TensorFlow, which come as rows with their
    indices: a row that is looked up twice comes twice, and Keras squares before it adds.
    """
    merged, as_clipped = [], []
    for gradient in gradients:
        if not (hasattr(gradient, "indices") and hasattr(gradient, "values")):
            square = _sum_of_squares(gradient)
            merged.append(square)
            as_clipped.append(square)
            continue
        merged.append(_sum_of_squares(_merged_rows(gradient)))
        as_clipped.append(_sum_of_squares(gradient.values))
    return _root_of_sum(merged), _root_of_sum(as_clipped)


def _sum_of_squares(tensor: Any) -> Any:
    return ops.sum(ops.square(ops.cast(tensor, "float32")))


def _root_of_sum(squares: list[Any]) -> Any:
    return ops.sqrt(ops.sum(ops.stack(squares)))


def _merged_rows(gradient: Any) -> Any:
    """Sums of the rows with equal indices; the work is that of the rows, not of the vocabulary."""
    order = ops.argsort(gradient.indices)
    indices = ops.take(gradient.indices, order, axis=0)
    rows = ops.take(gradient.values, order, axis=0)
    starts = ops.cast(ops.not_equal(indices[1:], indices[:-1]), "int32")
    groups = ops.concatenate([ops.zeros((1,), "int32"), ops.cumsum(starts)], axis=0)
    return ops.segment_sum(rows, groups, num_segments=ops.shape(rows)[0])


def _watched_class(kind: Any) -> Any:
    made = type(kind.__name__, (_Watched, kind), {"__doc__": kind.__doc__, "__module__": __name__})
    if kind.__module__.partition(".")[0] == "keras":
        keras.saving.register_keras_serializable(package=_PACKAGE, name=kind.__name__)(made)
    return made


_MADE: dict[Any, Any] = {
    kind: _watched_class(kind)
    for kind in (
        keras.optimizers.Adam,
        keras.optimizers.AdamW,
        keras.optimizers.Nadam,
        keras.optimizers.SGD,
        keras.optimizers.RMSprop,
        keras.optimizers.Adagrad,
        keras.optimizers.Lion,
    )
}


def watched(kind: Any) -> Any:
    """A class of optimizers that does the same and records the norm of its gradients.

    Recorded are the global norm before clipping (after accumulation and unscaling, once per update
    of the weights) and whether `global_clipnorm` cut it. Norms that are no finite numbers are left
    out. Other mixins of optimizers can be put around it.

    Args:
        kind: A class of `keras.optimizers`, or one that inherits from it.

    Returns:
        A subclass with the same name and arguments; `kind` itself if it records already. Those of
        Keras's own classes are registered under the package "smarttune", so that a saved model
        loads where this module was imported; register those of other classes yourself.
    """
    if issubclass(kind, _Watched):
        return kind
    if kind not in _MADE:
        made = _watched_class(kind)
        if kind.__module__.partition(".")[0] != "keras":
            return made  # not kept: classes made for one trial would stay for ever
        _MADE[kind] = made
    return _MADE[kind]


def gradient_statistics(model: Any) -> dict[str, float]:
    """What the gradients were like since `begin_epoch`, at the end of an epoch.

    Args:
        model: A compiled model.

    Returns:
        `gradient_norm` and `gradient_norm_p90`, median and 90th percentile of the latest 128
        global norms before clipping, and `clipped_fraction`, the share of all updates that
        `global_clipnorm` cut. Empty if the optimizer is not watched or nothing was recorded.
    """
    optimizer = _watched_optimizer(model)
    if optimizer is None:
        return {}
    num = int(optimizer.num_gradient_norms.numpy())
    if num == 0:
        return {}
    norms = np.asarray(optimizer.gradient_norms.numpy())[:num]
    return {
        "gradient_norm": float(np.median(norms)),
        "gradient_norm_p90": float(np.quantile(norms, 0.9)),
        "clipped_fraction": int(optimizer.num_clipped.numpy()) / num,
    }


def begin_epoch(model: Any) -> None:
    """Forget what was recorded; call it before an epoch. Does nothing to other optimizers."""
    optimizer = _watched_optimizer(model)
    if optimizer is not None:
        optimizer.num_gradient_norms.assign(0)
        optimizer.num_clipped.assign(0)


def _watched_optimizer(model: Any) -> Any | None:
    """The built, watched optimizer of a model, also inside one that scales the loss."""
    optimizer = getattr(model, "optimizer", None)
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    return optimizer if isinstance(optimizer, _Watched) and optimizer.built else None
