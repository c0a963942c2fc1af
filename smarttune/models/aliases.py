"""Which canonical hyperparameter a user's own name means.

In this order: the user's `names` (by qualified name, then by bare name), the canonical
name itself, the table below. A name that is indexed, such as `units_0` or `dropout2`,
means what it means without the index. Scopes count only for `names`: `head/units` and
`units` are alike otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from smarttune.errors import SettingError, did_you_mean
from smarttune.space import HYPERPARAMETERS

# ours: the names found most in KerasTuner's and Keras's own guides. A name that could
# mean several things (`size`, `rate`, `decay`, `alpha`) is left out on purpose.
ALIASES: dict[str, str] = {
    "activation": "model.activation",
    "batch_size": "training.batch_size",
    "batchsize": "training.batch_size",
    "beta_1": "optimizer.beta_1",
    "beta_2": "optimizer.beta_2",
    "clipnorm": "optimizer.clipnorm",
    "dense_units": "model.units",
    "dropout": "model.dropout",
    "dropout_rate": "model.dropout",
    "embedding_dim": "model.embedding_dim",
    "epsilon": "optimizer.epsilon",
    "filters": "model.filters",
    "hidden_units": "model.units",
    "kernel_initializer": "model.kernel_initializer",
    "kernel_size": "model.kernel_size",
    "l1": "optimizer.l1",
    "l2": "optimizer.l2",
    "label_smoothing": "training.label_smoothing",
    "learning_rate": "optimizer.learning_rate",
    "lr": "optimizer.learning_rate",
    "momentum": "optimizer.momentum",
    "n_layers": "model.num_layers",
    "n_units": "model.units",
    "normalization": "model.normalization",
    "num_hidden_layers": "model.num_layers",
    "num_layers": "model.num_layers",
    "num_units": "model.units",
    "optimizer": "optimizer.name",
    "rnn_units": "model.rnn_units",
    "units": "model.units",
    "warmup_steps": "optimizer.warmup_steps",
    "weight_decay": "optimizer.weight_decay",
}

_INDEX = re.compile(r"[_\-]?\d+$")


def canonical_name(name: str, names: Mapping[str, str | None] | None = None) -> str | None:
    """The canonical hyperparameter that a declared name means.

    Args:
        name: Name as declared, qualified by its scopes (`scope/units_0`).
        names: The user's own table; None as a value means "leave this one alone".

    Returns:
        The canonical name, or None if the name is the user's own affair.
    """
    bare = name.rsplit("/", 1)[-1]
    for key in (name, bare):
        if names is not None and key in names:
            return names[key]
    for key in (bare, _INDEX.sub("", bare)):
        if key in HYPERPARAMETERS:
            return key
        if ALIASES.get(key.lower()):
            return ALIASES[key.lower()]
    return None


def checked_names(names: Mapping[str, str | None] | None) -> dict[str, str | None]:
    """The user's table with its right-hand sides checked.

    Args:
        names: Declared name to canonical name; short names such as `learning_rate`
            are accepted on the right as well.

    Raises:
        SettingError: If a right-hand side is no hyperparameter.
    """
    table: dict[str, str | None] = {}
    for key, value in (names or {}).items():
        if value is not None and value not in HYPERPARAMETERS:
            meant = canonical_name(value)
            if meant is None:
                raise SettingError(
                    f"names[{key!r}]",
                    received=f"`{value}` is not a hyperparameter",
                    expected="a canonical name such as optimizer.learning_rate, or None",
                    mend=f"Correct the name.{did_you_mean(value, HYPERPARAMETERS)}",
                )
            table[key] = meant
        else:
            table[key] = value
    return table
