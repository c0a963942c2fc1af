"""The arguments that every oracle takes, and the lock that every oracle holds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypedDict, TypeVar

from smarttune.space import Prior, Value

_P = ParamSpec("_P")
_R = TypeVar("_R")


class OracleOptions(TypedDict, total=False):
    """Arguments that every oracle takes by keyword.

    Args:
        hyperparameters: `keras_tuner.HyperParameters` known in advance.
        allow_new_entries: Whether the model may declare others.
        tune_new_entries: Whether those are tuned or keep their defaults.
        seed: Any integer, 0 included; None draws one.
        max_retries_per_trial: How often a trial that crashed or diverged is run again.
        max_consecutive_failed_trials: So many crashes in a row end the search; trials that
            diverged do not count. 0 or None means never.
        initial_trials: Configurations to try first, in this order; what one of them leaves
            out gets its default.
        priors: Where good values of a hyperparameter are expected, under its name.
        persist: Whether to keep KerasTuner's JSON files in the project's folder.
    """

    hyperparameters: Any
    allow_new_entries: bool
    tune_new_entries: bool
    seed: int | None
    max_retries_per_trial: int
    max_consecutive_failed_trials: int | None
    initial_trials: Sequence[Mapping[str, Value]]
    priors: Mapping[str, Prior] | None
    persist: bool


def locked(method: Callable[Concatenate[Any, _P], _R]) -> Callable[Concatenate[Any, _P], _R]:
    """Let one thread at a time into the decorated methods of an oracle.

    Unlike `keras_tuner.synchronized` it lets go when the method raises, and it
    goes by the thread itself, not by its name, which two threads may share.
    """

    @functools.wraps(method)
    def wrapper(self: Any, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with self._lock:
            return method(self, *args, **kwargs)

    return wrapper
