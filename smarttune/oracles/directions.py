"""Which way a metric is better, for objectives that are given by name alone.

KerasTuner builds the metric to find out, which takes F1, R2, Dice and correlations for losses
and fails for metrics that need arguments. The table of `smarttune.objectives` is asked first.
"""

from __future__ import annotations

import re
from typing import Any

from keras_tuner.engine.oracle import Objective
from keras_tuner.src.engine.objective import create_objective

from smarttune.errors import OptionError
from smarttune.objectives import DIRECTIONS, Direction

# `val_` in front, and the number that Keras gives to a second metric of one name.
_AFFIXES = re.compile(r"^val_|_\d+$")


def known_direction(metric: str) -> Direction | None:
    """Which way a logged metric is better; None if the table does not say."""
    return DIRECTIONS.get(_AFFIXES.sub("", metric))


def with_direction(objective: Any) -> Any:
    """An objective in one of KerasTuner's forms, with its direction.

    Args:
        objective: A metric's name, a `keras_tuner.Objective`, a list of them, or None.

    Raises:
        OptionError: If a name's direction cannot be found out.
    """
    if isinstance(objective, list):
        return [with_direction(part) for part in objective]
    if not isinstance(objective, str):
        return objective
    direction = known_direction(objective)
    if direction is not None:
        return Objective(objective, direction)
    try:
        return create_objective(objective)
    except TypeError:  # from a metric that needs arguments
        raise OptionError(
            "objective",
            received=f"it is not known whether less or more of `{objective}` is better",
            expected="a `keras_tuner.Objective` for this metric",
            mend=f'Give keras_tuner.Objective("{objective}", "max"), or "min".',
        ) from None
