"""Optuna's samplers behind an interface of values: what was seen, what to try next.

Optuna keeps a study in memory that mirrors the oracle's trials: finished ones
with their scores, running ones as running, so that parallel proposals keep
apart. Trials without a finite score count as worse than any other. Each
proposal has a sampler of its own with its own seed; with the study a function
of the trials, a proposal is a function of both.
"""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import optuna
from keras_tuner.engine import hyperparameters as kt
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from smarttune.oracles import _domain
from smarttune.oracles._domain import Values
from smarttune.space import Value

_NOTHING: Mapping[str, Value] = MappingProxyType({})


class Seen(NamedTuple):
    """A trial as a sampler sees it.

    Args:
        values: Its configuration.
        scores: One number per objective; None while the trial runs, nan where it ended
            without a finite one.
        dormant: Values that inactive hyperparameters would have, by `key`; for samplers
            that need the same hyperparameters in every trial.
    """

    values: Values
    scores: tuple[float, ...] | None
    dormant: Mapping[str, Value] = _NOTHING


class Mirror:
    """The oracle's trials as an Optuna study.

    Args:
        directions: "min" or "max", one per objective.
    """

    def __init__(self, directions: Sequence[str]) -> None:
        self._maximize = [direction == "max" for direction in directions]
        self._study = self._new_study()
        self._mirrored: list[tuple[int, Seen]] = []  # with its number in the study

    def suggest(
        self,
        space: Sequence[Any],
        seen: Sequence[Seen],
        *,
        sampler: Callable[[], BaseSampler],
        fresh: Callable[[Any], Value] | None = None,
    ) -> Values:
        """Return a promising configuration.

        Args:
            space: KerasTuner hyperparameters, parents before those that depend on them.
            seen: Trials in an order that only grows.
            sampler: Makes the sampler of this proposal, with a seed of its own.
            fresh: Draws a hyperparameter about which the sampler says nothing; without it
                the sampler draws uniformly.
        """
        with quiet():
            self._take_in(space, seen)
            self._study.sampler = sampler()
            trial = self._study.ask()
            values: Values = {}
            for hp in space:
                if hp.name in values or not _domain.is_active(hp, values):
                    continue
                distribution = _distribution(hp)
                if distribution is None:
                    values[hp.name] = _domain.value_at(hp, 0)
                elif fresh is not None and key(hp) not in trial.relative_params:
                    values[hp.name] = fresh(hp)
                else:
                    values[hp.name] = _decode(hp, _suggest(trial, key(hp), distribution))
            # The trial that is really run comes in with the next call.
            self._study.tell(trial, state=TrialState.FAIL)
        return values

    def _take_in(self, space: Sequence[Any], seen: Sequence[Seen]) -> None:
        known = [trial for _, trial in self._mirrored]
        # A trial may have met new hyperparameters while it ran; then the study starts anew.
        if list(map(_fixed, known)) != list(map(_fixed, seen[: len(known)])):
            self._study, self._mirrored = self._new_study(), []
        for position, trial in enumerate(seen):
            if position == len(self._mirrored):
                self._study.add_trial(self._frozen(space, trial))
                number = len(self._study.get_trials(deepcopy=False)) - 1
                self._mirrored.append((number, trial))
            elif self._mirrored[position][1].scores is None and trial.scores is not None:
                number = self._mirrored[position][0]
                self._study.tell(number, self._numbers(trial.scores))
                self._mirrored[position] = (number, trial)

    def _frozen(self, space: Sequence[Any], trial: Seen) -> Any:
        params: dict[str, Any] = {}
        distributions: dict[str, BaseDistribution] = {}
        for hp in space:
            distribution = _distribution(hp)
            if distribution is None:
                continue
            position = None
            if hp.name in trial.values and _domain.is_active(hp, trial.values):
                position = _encode(hp, trial.values[hp.name])
            if position is None and key(hp) in trial.dormant:
                position = _encode(hp, trial.dormant[key(hp)])
            if position is not None:
                params[key(hp)] = position
                distributions[key(hp)] = distribution
        return optuna.trial.create_trial(
            state=TrialState.RUNNING if trial.scores is None else TrialState.COMPLETE,
            values=None if trial.scores is None else self._numbers(trial.scores),
            params=params,
            distributions=distributions,
        )

    def _numbers(self, scores: Sequence[float]) -> list[float]:
        """Return the scores, worse than any other where they are not finite."""
        return [
            score if math.isfinite(score) else (-math.inf if maximize else math.inf)
            for score, maximize in zip(scores, self._maximize, strict=True)
        ]

    def _new_study(self) -> Any:
        with quiet():
            return optuna.create_study(
                directions=["maximize" if m else "minimize" for m in self._maximize]
            )


def key(hp: Any) -> str:
    """Return a name that differs where one name has several ranges under several conditions."""
    conditions = ",".join(f"{c.name}={c.values}" for c in hp.conditions)
    return f"{hp.name}|{conditions}" if conditions else str(hp.name)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's notes on experimental arguments and new studies from the user."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _fixed(trial: Seen) -> tuple[Values, Mapping[str, Value]]:
    """Return what a sampler may rely on from one proposal to the next."""
    return trial.values, trial.dormant


def _distribution(hp: Any) -> BaseDistribution | None:
    """Return Optuna's form of a hyperparameter; None if it has one value only.

    Steps and ordered choices are positions on an even scale, so that a log scale
    with steps (16, 32, 64) is even in its exponents.
    """
    count = _domain.num_values(hp)
    if count == 1:
        return None
    if _domain.is_discrete(hp) and not getattr(hp, "ordered", False):
        return CategoricalDistribution(tuple(range(int(count))))
    if _has_positions(hp):
        return IntDistribution(0, int(count) - 1)
    if hp.sampling == "reverse_log":
        return FloatDistribution(0.0, 1.0)
    kind = IntDistribution if isinstance(hp, kt.Int) else FloatDistribution
    return kind(hp.min_value, hp.max_value, log=hp.sampling == "log")


def _suggest(trial: Any, name: str, distribution: BaseDistribution) -> float:
    if isinstance(distribution, IntDistribution):
        return int(
            trial.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
        )
    if isinstance(distribution, FloatDistribution):
        return float(
            trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
        )
    assert isinstance(distribution, CategoricalDistribution)
    return int(trial.suggest_categorical(name, distribution.choices))


def _has_positions(hp: Any) -> bool:
    return _domain.is_discrete(hp) or hp.step is not None


def _encode(hp: Any, value: Value) -> float | None:
    """Return Optuna's form of a value.

    Ranges may change during a search: a number outside stands for the nearest one inside,
    for a choice that is gone there is none.
    """
    if _domain.is_discrete(hp):
        index = _domain.index_of(hp, value)
        return index if index >= 0 else None
    inside = min(hp.max_value, max(hp.min_value, value))
    if hp.step is not None:
        return _domain.index_of(hp, inside)
    if hp.sampling == "reverse_log":
        return min(1.0, max(0.0, float(hp.value_to_prob(inside))))
    return inside  # type: ignore[no-any-return]


def _decode(hp: Any, position: float) -> Value:
    if _has_positions(hp):
        return _domain.value_at(hp, int(position))
    if hp.sampling == "reverse_log":
        return _domain.draw(hp, position)
    return _domain.fit(hp, position)
