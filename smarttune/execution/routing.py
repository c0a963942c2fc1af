"""The lanes behind `model.fit`, for code of the user's that calls it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import wraps
from typing import Any

import keras
import numpy as np

from smarttune.execution.fit import TrainingData
from smarttune.execution.lanes import Lanes
from smarttune.execution.program import Feed
from smarttune.execution.together import Member

# Arguments of `fit` that a program can do without, where they say no more than this.
_INDIFFERENT = {
    "verbose", "shuffle", "steps_per_epoch", "validation_steps", "validation_batch_size",
    "validation_freq",
}  # fmt: skip


@contextlib.contextmanager
def routed(model: Any, lanes: Lanes, seed: int) -> Iterator[None]:
    """Let calls of `model.fit` on arrays in memory take a lane; others stay what they are.

    The samples then come in the order that `seed` and the epoch decide, so that a training that
    is continued sees what an uninterrupted one would have seen.

    Args:
        model: A compiled model.
        lanes: Those of the search.
        seed: Decides the order of the samples in every epoch.
    """
    stock = model.fit

    @wraps(stock)
    def fit(*args: Any, **kwargs: Any) -> Any:
        history = keras.callbacks.History()
        member = member_of_fit(model, lanes, seed, args, kwargs)
        if member is not None:
            member.callbacks = [*member.callbacks, history]
        model.__dict__.pop("fit", None)
        if member is None or lanes.train([member]):
            return stock(*args, **kwargs)
        history.set_model(model)
        model.history = history
        return history

    model.__dict__["fit"] = fit  # Keras tracks what is assigned in the usual way
    try:
        yield
    finally:
        model.__dict__.pop("fit", None)


def _arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    names = ("x", "y", "batch_size", "epochs", "verbose", "callbacks")
    return {**dict(zip(names, args, strict=False)), **kwargs}


def member_of_fit(
    model: Any, lanes: Lanes, seed: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Member | None:
    """The trial that a call of `fit` asks for; None if it asks for more than arrays.

    Args:
        model: A compiled model.
        lanes: Keep what is made of the same arrays.
        seed: Decides the order of the samples in every epoch.
        args: Arguments of `fit` without names.
        kwargs: Those by name.
    """
    left = _arguments(args, kwargs)
    x, y = left.pop("x", None), left.pop("y", None)
    batch_size = left.pop("batch_size", None) or 32  # Keras's own default
    epochs = range(left.pop("initial_epoch", 0), left.pop("epochs", 1))
    callbacks = left.pop("callbacks", None) or []
    held_out, share = left.pop("validation_data", None), left.pop("validation_split", 0.0)
    weight = _weight(y, left.pop("class_weight", None), left.pop("sample_weight", None))
    if left.pop("shuffle", True) is not True or left.keys() - _INDIFFERENT:
        return None
    if any(left.get(name) is not None for name in _INDIFFERENT - {"verbose", "validation_freq"}):
        return None
    if left.get("validation_freq", 1) != 1 or isinstance(callbacks, keras.callbacks.CallbackList):
        return None
    data = lanes.arrays((x, y, held_out, share), lambda: _data(x, y, held_out, share))
    if data is None:
        return None
    feed = Feed.of(model, data, batch_size, weight)
    return Member(model, feed, seed, epochs, list(callbacks))


def _data(x: Any, y: Any, held_out: Any, share: float) -> TrainingData | None:
    """Training and validation arrays; None where they are anything else."""
    if isinstance(held_out, (tuple, list)) and len(held_out) == 2:
        parts = (x, y, *held_out)
    elif held_out is None and share and _plain(x) and _plain(y) and not isinstance(y, Mapping):
        kept = int(len(y) * (1.0 - share))
        parts = (_rows(x, slice(kept)), y[:kept], _rows(x, slice(kept, None)), y[kept:])
    else:
        return None
    if not all(map(_plain, parts)) or any(isinstance(y, Mapping) for y in parts[1::2]):
        return None
    return TrainingData(*map(_as_keras_does, parts))


def _as_keras_does(x: Any) -> Any:
    """Floating-point arrays in the precision that Keras computes in."""
    if isinstance(x, Mapping):
        return {name: _as_keras_does(array) for name, array in x.items()}
    return x.astype(keras.config.floatx()) if x.dtype.kind == "f" else x


def _plain(x: Any) -> bool:
    arrays = list(x.values()) if isinstance(x, Mapping) else [x]
    return bool(arrays) and all(
        isinstance(a, np.ndarray) and a.dtype.kind in "fiub" for a in arrays
    )


def _rows(x: Any, rows: slice) -> Any:
    return {name: a[rows] for name, a in x.items()} if isinstance(x, Mapping) else x[rows]


def _weight(y: Any, of_classes: Mapping[int, float] | None, of_samples: Any) -> Any:
    """Weights of the samples; None for equal ones."""
    if of_samples is not None or of_classes is None or not isinstance(y, np.ndarray):
        return of_samples
    classes = y.reshape(-1) if y.ndim == 1 or y.shape[1:] == (1,) else y.argmax(-1)
    return np.asarray([of_classes.get(int(c), 1.0) for c in classes], np.float32)
