"""Training that leaves no trace: a copy of the optimizer, and everything put back afterwards."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
from keras.src.backend.common import global_state  # the global generator has no public door

from smarttune.errors import OptionError
from smarttune.training.checkpoint import state_of

# Attributes of a model that training sets, or that a caller replaces meanwhile.
_REPLACED = ("optimizer", "train_function", "train_step", "_jax_state", "_jax_state_synced")
_ABSENT = object()
_NOT_IN_CONFIG = ("_exclude_from_weight_decay", "_exclude_from_weight_decay_pattern")
_SEEDS = "global_seed_generator"


@contextlib.contextmanager
def model_kept(model: Any) -> Iterator[None]:
    """Put back variables, metrics, optimizer and compiled steps, whatever happens."""
    attributes = {name: vars(model).get(name, _ABSENT) for name in _REPLACED}
    # Copies: an array from JAX may be a view of what a training step overwrites.
    values = [np.array(value) for value in state_of(model, optimizer=False)]
    state = list(zip(model.variables, values, strict=True))
    state += [(v, np.array(v.numpy())) for v in model.metrics_variables]
    try:
        yield
    finally:
        for name, value in attributes.items():
            vars(model).pop(name, None)
            if value is not _ABSENT:
                vars(model)[name] = value
        model.reset_metrics()  # those that the training made
        for variable, value in state:
            variable.assign(value)


@contextlib.contextmanager
def random_states_kept() -> Iterator[None]:
    """Put back the global random states of Python, NumPy and Keras."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 -- the global one
    seeds = global_state.get_global_attribute(_SEEDS)
    value = None if seeds is None else np.array(seeds.state.numpy())
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        global_state.set_global_attribute(_SEEDS, seeds)
        if seeds is not None:
            seeds.state.assign(value)


def copy_of_optimizer(optimizer: Any, model: Any) -> Any:
    """The same optimizer with variables of its own, without a past if its class allows."""
    try:
        made = type(optimizer).from_config(optimizer.get_config())
    except Exception:  # noqa: BLE001 -- a class with other arguments, or without a config
        return _deep_copy(optimizer, model)
    for name in _NOT_IN_CONFIG:
        if hasattr(optimizer, name):
            setattr(made, name, copy.copy(getattr(optimizer, name)))
    return made


def _deep_copy(optimizer: Any, model: Any) -> Any:
    """A copy attribute by attribute that shares nothing but the model's variables.

    `copy.deepcopy` of an optimizer saves its model and loads it, which needs a config again.
    """
    made = object.__new__(type(optimizer))
    strategy = getattr(optimizer, "_distribution_strategy", None)
    shared = {id(part): part for part in (model, strategy, *model.variables)}
    try:
        vars(made).update(copy.deepcopy(vars(optimizer), {**shared, id(optimizer): made}))
    except Exception as error:
        raise OptionError(
            "model.optimizer",
            received=f"a {type(optimizer).__name__} that cannot be copied ({error})",
            expected="an optimizer that its get_config describes",
            mend="Let get_config return every argument of its __init__.",
        ) from error
    return made
