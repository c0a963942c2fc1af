"""What an oracle of several fidelities tells the tuner, in KerasTuner's words.

`tuner/epochs` (epochs in total), `tuner/initial_epoch`, `tuner/bracket`,
`tuner/round` (the rung) and, on promotions, `tuner/trial_id` (the trial to
continue).
"""

from __future__ import annotations

from smarttune.oracles._domain import Values

# `tuner/bracket` of a trial that belongs to none: an initial one, trained in full at once.
NO_BRACKET = -1


def control(start: int, epochs: int, *, bracket: int, rung: int, parent: str = "") -> Values:
    """Return the values that steer the tuner.

    Args:
        start: Epochs that the trial has trained before.
        epochs: Epochs that it shall have trained in the end.
        bracket: How many times the trials of its bracket are thinned out, or `NO_BRACKET`.
        rung: Which rung of the bracket it trains to, from 0.
        parent: The trial that it continues; "" for a new configuration.
    """
    values: Values = {
        "tuner/epochs": epochs,
        "tuner/initial_epoch": start,
        "tuner/bracket": bracket,
        "tuner/round": rung,
    }
    return {**values, "tuner/trial_id": parent} if parent else values
