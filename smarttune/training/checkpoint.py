"""The whole state of a training, so that stopping and continuing changes nothing.

KerasTuner reloads the weights of the best epoch only: moments of the optimizer,
its step count, and with it the schedule, and the seeds of dropout are lost. Here
every variable of model and optimizer goes into one file, in order.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

from smarttune.errors import RunError
from smarttune.files import write_bytes

# What NumPy and zipfile raise for a file that was cut short or overwritten.
_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
)


def state_of(model: Any, *, optimizer: bool = True) -> list[Any]:
    """Every variable of a compiled model and its optimizer, as NumPy arrays.

    Holds weights, statistics of normalization, states of seed generators, and,
    with `optimizer`, its moments and step count.
    """
    return [variable.numpy() for variable in _variables(model, optimizer)]


def set_state(model: Any, values: list[Any], *, optimizer: bool = True) -> None:
    """Put back what `state_of` returned, into a model of the same structure.

    Raises:
        RunError: If the structure differs.
    """
    variables = _variables(model, optimizer)
    shapes = [tuple(v.shape) for v in variables]
    if shapes != [tuple(v.shape) for v in values]:
        raise RunError(
            "checkpoint",
            received=f"{len(values)} variables with other shapes",
            expected=f"{len(variables)} variables of this model",
            mend="The model-building code has changed since the checkpoint; start a new run.",
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def save_state(values: list[Any], path: Path) -> None:
    """Write variables to a file, whole or not at all."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, **{f"v{i:05d}": value for i, value in enumerate(values)})
    write_bytes(path, buffer.getvalue())


def restore_state(path: Path) -> list[Any]:
    """Read what `save_state` wrote.

    Raises:
        RunError: If the file is missing or damaged.
    """
    import numpy as np

    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return [file[name] for name in sorted(file.files)]
    except _DAMAGED as error:
        raise RunError(
            str(path),
            received=f"the checkpoint cannot be read ({error})",
            expected="a checkpoint that this run wrote",
            mend="Start the search again in a new run directory.",
        ) from None


def _variables(model: Any, optimizer: bool) -> list[Any]:
    variables = list(model.variables)
    if optimizer and getattr(model, "optimizer", None) is not None:
        if not model.optimizer.built:  # a loss-scaling optimizer built twice has other variables
            model.optimizer.build(model.trainable_variables)
        variables += list(model.optimizer.variables)
    return variables
