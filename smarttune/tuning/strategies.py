"""How each strategy is made for a search: what it is told, and what ends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from smarttune.errors import OptionError, did_you_mean
from smarttune.oracles import STRATEGIES, RepairedOracle
from smarttune.oracles.i_epoch import DEFAULT_FINALISTS
from smarttune.tuning.budget import Budget

# Strategies that compare trials after part of their epochs and continue the better ones.
IN_RUNGS = ("hyperband", "asha", "priorband", "i_epoch")

# Those of them that run until the budget ends, not for a number of iterations.
_ITERATED = ("hyperband", "priorband")

# The recommendation and what was good on other data, and nothing else.
_GIVEN = "portfolio"

# ours: configurations of `i_epoch` where the budget counts no trials; the baseline of Egele et
# al. (2023) starts 200 on a cluster.
NUM_STARTED = 30


class Length(NamedTuple):
    """How long trials train, in epochs.

    Attributes:
        longest: A full training.
        shortest: The least after which trials are compared.
        factor: One trial in so many is kept at each rung.
    """

    longest: int
    shortest: int
    factor: int


def make_oracle(
    strategy: str, budget: Budget, length: Length, told: Mapping[str, Any]
) -> RepairedOracle:
    """Return the oracle of a strategy.

    Args:
        strategy: A name of `STRATEGIES`.
        budget: What limits the search.
        length: How long trials train.
        told: What every oracle is told: objective, seed, initial trials, priors.

    Raises:
        OptionError: If there is no such strategy, or it does not fit the search.
    """
    options: dict[str, Any] = dict(told)
    if strategy == _GIVEN:
        num = len(options["initial_trials"])
        return STRATEGIES["random"](**options, max_trials=min(num, budget.trials or num))
    if strategy not in IN_RUNGS:
        return STRATEGIES[check_strategy(strategy)](**options, max_trials=budget.trials)
    options["max_epochs"] = length.longest
    if strategy == "i_epoch":
        _check_rungs(strategy, length)
        options |= {"max_trials": _num_started(budget, told), "num_epochs": length.shortest}
    else:
        options |= {"min_epochs": length.shortest, "factor": length.factor}
    if strategy in _ITERATED:
        options |= {"hyperband_iterations": None, "num_full_initial_trials": 1}
    return STRATEGIES[strategy](**options)


def check_strategy(name: str) -> str:
    """Return the name of a strategy.

    Raises:
        OptionError: If there is no such strategy.
    """
    if name not in (*STRATEGIES, _GIVEN):
        raise OptionError(
            "--strategy",
            received=f"`{name}`",
            expected="auto or one of " + ", ".join((*STRATEGIES, _GIVEN)),
            mend=f"Choose one of these.{did_you_mean(name, (*STRATEGIES, _GIVEN))}",
        )
    return name


def _num_started(budget: Budget, told: Mapping[str, Any]) -> int:
    """Configurations of `i_epoch`; the given ones and the finalists are trials as well."""
    if budget.trials is None:
        return NUM_STARTED
    return max(1, budget.trials - len(told["initial_trials"]) - DEFAULT_FINALISTS)


def _check_rungs(strategy: str, length: Length) -> None:
    if length.shortest >= length.longest:
        raise OptionError(
            "--strategy",
            received=f"{strategy} with trials of {length.longest} epochs, compared after "
            f"{length.shortest}",
            expected="a comparison before the end",
            mend="Set search.min_epochs below search.max_epochs, or choose another strategy.",
        )
