"""What a budget pays, computed before the first trial: trials, rungs, epochs.

A search is a fixed sequence of trainings: the recommendation in full, then the rungs of its
brackets from the lowest up, bracket after bracket. A budget pays a beginning of that sequence,
so that twice the budget never pays less.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from smarttune.fidelity import Bracket, Cost, Rung, cost, hyperband_brackets
from smarttune.tuning.budget import longest_trial


@dataclass(frozen=True)
class Pace:
    """How fast trials train.

    Attributes:
        seconds_per_epoch: One epoch, its validation included, once everything is compiled.
        startup: What a trial takes beside its epochs: building and compiling its network.
    """

    seconds_per_epoch: float
    startup: float = 0.0

    def seconds(self, num_epochs: float, num_trials: int = 1) -> float:
        """What so many trials take that train so many epochs between them."""
        return num_trials * self.startup + num_epochs * self.seconds_per_epoch


@dataclass(frozen=True)
class Limits:
    """What the trials of a search may spend; None means no limit.

    Attributes:
        seconds: Wall time of training, what comes before and after it taken off.
        trials: Trials, promotions included.
        epochs: Epochs over all trials.
    """

    seconds: float | None = None
    trials: int | None = None
    epochs: int | None = None

    def num_paid(self, wanted: float, num_epochs: int, pace: Pace, *, trials: int = 1) -> float:
        """How many of the wanted steps, each of some trials and epochs, are paid."""
        prices = (
            (self.seconds, pace.seconds(num_epochs, trials)),
            (self.trials, trials),
            (self.epochs, num_epochs),
        )
        bounds = (left // price for left, price in prices if left is not None and price > 0)
        return max(0, min((wanted, *bounds)))

    def without(self, spent: Cost, pace: Pace) -> Limits:
        """What is left after some trials."""
        return Limits(
            None
            if self.seconds is None
            else self.seconds - pace.seconds(spent.epochs, spent.trials),
            None if self.trials is None else self.trials - spent.trials,
            None if self.epochs is None else self.epochs - spent.epochs,
        )

    @property
    def are_open(self) -> bool:
        """Whether nothing is limited."""
        return (self.seconds, self.trials, self.epochs) == (None, None, None)


@dataclass(frozen=True)
class Schedule:
    """The trainings of a strategy in their order.

    Attributes:
        longest: Epochs of a full training, with which the recommendation begins.
        brackets: What follows; empty if nothing does.
        iterations: How often; None means until the budget is spent.
    """

    longest: int
    brackets: tuple[Bracket, ...] = ()
    iterations: int | None = None


@dataclass(frozen=True)
class Forecast:
    """What a budget pays if no trial fails or stops early.

    Attributes:
        rungs: Epochs that trials reach and how many reach them, the shortest first.
        cost: Configurations, trials and epochs in all.
        seconds: Wall time of the trials.
    """

    rungs: tuple[Rung, ...]
    cost: Cost
    seconds: float


def in_full(longest: int, num_trials: int | None = None) -> Schedule:
    """Trials that are all trained in full, so many of them or as many as are paid."""
    bracket = Bracket(0, (Rung(longest, 1),))
    return Schedule(longest, (bracket,), None if num_trials is None else num_trials - 1)


def in_brackets(shortest: int, longest: int, factor: int) -> Schedule:
    """Hyperband without end."""
    return Schedule(longest, hyperband_brackets(shortest, longest, factor))


def forecast(schedule: Schedule, limits: Limits, pace: Pace) -> Forecast:
    """Say what the limits pay of a schedule.

    The first trial is always run: where less is left than it takes, it is cut, as the search
    cuts it, and under a limit of time it takes at most `longest_trial`.

    Args:
        schedule: What would be trained.
        limits: What may be spent; an endless schedule needs at least one limit.
        pace: How fast it goes.
    """
    first, seconds = _first(schedule.longest, limits, pace)
    reached = Counter({first.epochs: 1})
    left = limits.without(first, pace)
    if limits.seconds is not None:
        left = replace(left, seconds=limits.seconds - seconds)
    total = first
    once = cost(schedule.brackets)
    if once.trials and (schedule.iterations is not None or not limits.are_open):
        rounds = _num_rounds(schedule, left, pace, once)
        total += _times(once, rounds)
        for rung in _rungs(schedule.brackets):
            reached[rung.epochs] += rounds * rung.num_trials
        left = left.without(_times(once, rounds), pace)
        if rounds != schedule.iterations:
            total += _partly(schedule.brackets, left, pace, reached)
    rest = Cost(0, total.trials - first.trials, total.epochs - first.epochs)
    rungs = tuple(Rung(epochs, num) for epochs, num in sorted(reached.items()) if num)
    return Forecast(rungs, total, seconds + pace.seconds(rest.epochs, rest.trials))


def _first(longest: int, limits: Limits, pace: Pace) -> tuple[Cost, float]:
    """The recommended trial, and the seconds that it takes."""
    epochs = longest if limits.epochs is None else min(longest, limits.epochs)
    seconds = pace.seconds(epochs)
    if limits.seconds is not None:
        most = longest_trial(limits.seconds)
        if seconds > most:
            epochs = max(1, math.floor((most - pace.startup) / pace.seconds_per_epoch))
            seconds = most
    return Cost(1, 1, epochs), max(seconds, 0.0)


def _num_rounds(schedule: Schedule, left: Limits, pace: Pace, once: Cost) -> int:
    wanted = math.inf if schedule.iterations is None else schedule.iterations
    return int(left.num_paid(wanted, once.epochs, pace, trials=once.trials))


def _times(once: Cost, number: int) -> Cost:
    return Cost(once.configurations * number, once.trials * number, once.epochs * number)


def _rungs(brackets: Sequence[Bracket]) -> list[Rung]:
    return [rung for bracket in brackets for rung in bracket.rungs]


def _partly(brackets: Sequence[Bracket], left: Limits, pace: Pace, reached: Counter[int]) -> Cost:
    """The beginning of one more iteration, up to the first rung that is not paid in whole."""
    total = Cost(0, 0, 0)
    for bracket in brackets:
        trained = 0
        for level, rung in enumerate(bracket.rungs):
            price = rung.epochs - trained
            paid = int(left.num_paid(rung.num_trials, price, pace))
            part = Cost(0 if level else paid, paid, paid * price)
            total, left, trained = total + part, left.without(part, pace), rung.epochs
            reached[rung.epochs] += paid
            if paid < rung.num_trials:
                return total
    return total
