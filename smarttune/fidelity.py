"""Epochs as fidelity: rungs, brackets, and what a schedule of them costs.

Successive halving trains many trials for a few epochs, keeps one in `factor`
of them, and trains those on; each such level is a *rung*, the ladder of them a
*bracket*. Hyperband runs several brackets that trade the number of trials
against the length of the shortest training.

Source: Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar (2018), "Hyperband: A
Novel Bandit-Based Approach to Hyperparameter Optimization", JMLR 18(185),
Algorithm 1 (R, eta, s, n, r there are `max_epochs`, `factor`, `number`,
`num_trials`, `epochs` here). Two differences: the shortest training is
`min_epochs`, not always one unit, and epochs are whole numbers, rounded down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smarttune.errors import OptionError


@dataclass(frozen=True)
class Rung:
    """One level of a bracket.

    Args:
        epochs: Epochs that a trial has trained in total at the end of this rung.
        num_trials: Trials that are trained up to it.
    """

    epochs: int
    num_trials: int


@dataclass(frozen=True)
class Bracket:
    """One ladder of successive halving.

    Args:
        number: How many times the trials are thinned out; 0 is plain random search.
        rungs: The levels, the shortest training first.
    """

    number: int
    rungs: tuple[Rung, ...]

    @property
    def num_configurations(self) -> int:
        """Configurations that enter the lowest rung."""
        return self.rungs[0].num_trials


@dataclass(frozen=True)
class Cost:
    """What a schedule costs when every trial succeeds.

    Args:
        configurations: Distinct configurations that are trained.
        trials: Trials as a KerasTuner oracle counts them: a promotion is a new trial.
        epochs: Epochs trained. A promoted trial continues its parent, so it pays only
            the epochs between its parent's rung and its own.
    """

    configurations: int
    trials: int
    epochs: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.configurations + other.configurations,
            self.trials + other.trials,
            self.epochs + other.epochs,
        )


def rung_epochs(min_epochs: int, max_epochs: int, factor: int) -> tuple[int, ...]:
    """Return the epochs of each rung, ascending; the last is `max_epochs`.

    Args:
        min_epochs: Fewest epochs after which trials may be compared, at least 1.
        max_epochs: Epochs of a full training, at least `min_epochs`.
        factor: Ratio of the epochs of neighbouring rungs, at least 2.

    Raises:
        OptionError: If one of the three is out of its bounds.
    """
    _check(min_epochs, max_epochs, factor)
    epochs = [max_epochs]
    while max_epochs >= min_epochs * factor ** len(epochs):
        epochs.append(max_epochs // factor ** len(epochs))
    return tuple(reversed(epochs))


def successive_halving(
    num_trials: int, min_epochs: int, max_epochs: int, *, factor: int = 3
) -> Bracket:
    """Return one bracket that starts `num_trials` trials at the lowest rung.

    Each rung keeps the `factor`-th part of the one below, rounded down, and at least one.

    Raises:
        OptionError: If `num_trials` is below 1 or the epochs do not fit together.
    """
    if num_trials < 1:
        raise _option("num_trials", num_trials, "a whole number of at least 1")
    epochs = rung_epochs(min_epochs, max_epochs, factor)
    rungs = tuple(Rung(e, max(1, num_trials // factor**i)) for i, e in enumerate(epochs))
    return Bracket(len(rungs) - 1, rungs)


def hyperband_brackets(min_epochs: int, max_epochs: int, factor: int) -> tuple[Bracket, ...]:
    """Return the brackets of one Hyperband iteration, the most thinning one first.

    Bracket `s` of `s_max + 1` starts `ceil((s_max + 1) / (s + 1) * factor**s)` trials and
    keeps the `factor`-th part at each rung (Li et al. 2018, Algorithm 1, lines 3-9).

    Raises:
        OptionError: If the epochs do not fit together.
    """
    epochs = rung_epochs(min_epochs, max_epochs, factor)
    num_brackets = len(epochs)
    brackets = []
    for number in reversed(range(num_brackets)):
        first = -(-num_brackets * factor**number // (number + 1))  # the ceiling, in integers
        rungs = tuple(
            Rung(e, first // factor**i) for i, e in enumerate(epochs[num_brackets - 1 - number :])
        )
        brackets.append(Bracket(number, rungs))
    return tuple(brackets)


def cost(brackets: Sequence[Bracket], *, iterations: int = 1, num_full_trials: int = 0) -> Cost:
    """Return what brackets cost when no trial fails and none stops early.

    Args:
        brackets: The brackets of one iteration.
        iterations: How often they are run.
        num_full_trials: Further trials that are trained to the last rung at once, as the
            recommended configurations are.
    """
    total = Cost(0, 0, 0)
    for bracket in brackets:
        total += _bracket_cost(bracket)
    longest = max((b.rungs[-1].epochs for b in brackets), default=0)
    once = Cost(
        total.configurations * iterations, total.trials * iterations, total.epochs * iterations
    )
    return once + Cost(num_full_trials, num_full_trials, num_full_trials * longest)


def _bracket_cost(bracket: Bracket) -> Cost:
    epochs, trained = 0, 0
    for rung in bracket.rungs:
        epochs += rung.num_trials * (rung.epochs - trained)
        trained = rung.epochs
    return Cost(bracket.num_configurations, sum(r.num_trials for r in bracket.rungs), epochs)


def _check(min_epochs: int, max_epochs: int, factor: int) -> None:
    if min_epochs < 1:
        raise _option("min_epochs", min_epochs, "a whole number of at least 1")
    if max_epochs < min_epochs:
        raise _option("max_epochs", max_epochs, f"at least min_epochs, which is {min_epochs}")
    if factor < 2:
        raise _option("factor", factor, "a whole number of at least 2")


def _option(name: str, value: int, expected: str) -> OptionError:
    return OptionError(
        name,
        received=f"{name} is {value}",
        expected=expected,
        mend=f"Give `{name}` such a value.",
    )
