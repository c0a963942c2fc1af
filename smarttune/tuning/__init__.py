"""The search loop: `SmartTuner`, the run directory, budgets and the record of trials."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smarttune.tuning.budget import Budget, parse_duration
    from smarttune.tuning.policy import TrialPolicy
    from smarttune.tuning.run import RANGE_TESTS, Run
    from smarttune.tuning.tuner import SmartTuner

# Opened on first use: a run can be shown without Keras, a budget parsed without Optuna.
_HOMES = {
    "RANGE_TESTS": "run",
    "Budget": "budget",
    "Run": "run",
    "SmartTuner": "tuner",
    "TrialPolicy": "policy",
    "parse_duration": "budget",
}

__all__ = ["RANGE_TESTS", "Budget", "Run", "SmartTuner", "TrialPolicy", "parse_duration"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
