"""Optuna's TPE behind an interface of values: what was seen, what to try next.

Optuna keeps a study in memory that mirrors the oracle's trials, in the order of
their start: finished ones with their score, running ones as running, so that
parallel proposals keep apart. Trials without a finite score count as worse than
any other. Each proposal has a sampler of its own with its own seed; with the
study a function of the trials, a proposal is a function of both.

Source of the sampler: Bergstra et al. (2011), "Algorithms for Hyper-Parameter
Optimization"; joint over all hyperparameters that are active together
(Optuna's `multivariate` and `group`).
"""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import optuna
from keras_tuner.engine import hyperparameters as kt
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from smarttune.oracles import _domain
from smarttune.oracles._domain import Values
from smarttune.space import Value


class Seen(NamedTuple):
    """A trial as the model sees it.

    `score` is None while the trial runs and nan if it ended without a finite one.
    """

    values: Values
    score: float | None


class TreeParzenModel:
    """A model of which configurations do well.

    Args:
        direction: "min" or "max".
    """

    def __init__(self, direction: str) -> None:
        self._maximize = direction == "max"
        self._study = self._new_study()
        self._mirrored: list[tuple[int, Seen]] = []  # with its number in the study

    def suggest(self, space: Sequence[Any], seen: Sequence[Seen], *, seed: int) -> Values:
        """Return a promising configuration.

        Args:
            space: KerasTuner hyperparameters, parents before those that depend on them.
            seen: All trials in the order of their start.
            seed: Seed of this proposal.
        """
        with _quiet():
            self._mirror(space, seen)
            # No start-up phase here: whoever asks has seen enough.
            self._study.sampler = optuna.samplers.TPESampler(
                multivariate=True, group=True, constant_liar=True, n_startup_trials=0, seed=seed
            )
            trial = self._study.ask()
            values: Values = {}
            for hp in space:
                if hp.name in values or not _domain.is_active(hp, values):
                    continue
                distribution = _distribution(hp)
                if distribution is None:
                    values[hp.name] = _domain.value_at(hp, 0)
                else:
                    values[hp.name] = _decode(hp, _suggest(trial, _key(hp), distribution))
            # The trial that is really run comes in with the next call.
            self._study.tell(trial, state=TrialState.FAIL)
        return values

    def _mirror(self, space: Sequence[Any], seen: Sequence[Seen]) -> None:
        known = [trial for _, trial in self._mirrored]
        # A trial may have met new hyperparameters while it ran; then the study starts anew.
        if [trial.values for trial in known] != [trial.values for trial in seen[: len(known)]]:
            self._study, self._mirrored = self._new_study(), []
        for position, trial in enumerate(seen):
            if position == len(self._mirrored):
                self._study.add_trial(self._frozen(space, trial))
                number = len(self._study.get_trials(deepcopy=False)) - 1
                self._mirrored.append((number, trial))
            elif self._mirrored[position][1].score is None and trial.score is not None:
                number = self._mirrored[position][0]
                self._study.tell(number, self._value(trial.score))
                self._mirrored[position] = (number, trial)

    def _frozen(self, space: Sequence[Any], trial: Seen) -> Any:
        params: dict[str, Any] = {}
        distributions: dict[str, BaseDistribution] = {}
        for hp in space:
            distribution = _distribution(hp)
            if distribution is None or hp.name not in trial.values:
                continue
            if _domain.is_active(hp, trial.values):
                params[_key(hp)] = _encode(hp, trial.values[hp.name])
                distributions[_key(hp)] = distribution
        return optuna.trial.create_trial(
            state=TrialState.RUNNING if trial.score is None else TrialState.COMPLETE,
            value=None if trial.score is None else self._value(trial.score),
            params=params,
            distributions=distributions,
        )

    def _value(self, score: float) -> float:
        """Return the score, worse than any other if it is not finite."""
        worst = -math.inf if self._maximize else math.inf
        return score if math.isfinite(score) else worst

    def _new_study(self) -> Any:
        with _quiet():
            return optuna.create_study(direction="maximize" if self._maximize else "minimize")


def _key(hp: Any) -> str:
    """Return a name that differs where one name has several ranges under several conditions."""
    conditions = ",".join(f"{c.name}={c.values}" for c in hp.conditions)
    return f"{hp.name}|{conditions}" if conditions else str(hp.name)


def _distribution(hp: Any) -> BaseDistribution | None:
    """Return Optuna's form of a hyperparameter; None if it has one value only.

    Steps and ordered choices are positions on an even scale, so that a log scale
    with steps (16, 32, 64) is even in its exponents.
    """
    count = _domain.num_values(hp)
    if count == 1:
        return None
    if _is_unordered(hp):
        return CategoricalDistribution(tuple(range(int(count))))
    if _has_positions(hp):
        return IntDistribution(0, int(count) - 1)
    if hp.sampling == "reverse_log":
        return FloatDistribution(0.0, 1.0)
    kind = IntDistribution if isinstance(hp, kt.Int) else FloatDistribution
    return kind(hp.min_value, hp.max_value, log=hp.sampling == "log")


def _suggest(trial: Any, key: str, distribution: BaseDistribution) -> float:
    if isinstance(distribution, IntDistribution):
        return int(
            trial.suggest_int(key, distribution.low, distribution.high, log=distribution.log)
        )
    if isinstance(distribution, FloatDistribution):
        return float(
            trial.suggest_float(key, distribution.low, distribution.high, log=distribution.log)
        )
    assert isinstance(distribution, CategoricalDistribution)
    return int(trial.suggest_categorical(key, distribution.choices))


def _is_unordered(hp: Any) -> bool:
    return _domain.is_discrete(hp) and not getattr(hp, "ordered", False)


def _has_positions(hp: Any) -> bool:
    return _domain.is_discrete(hp) or hp.step is not None


def _encode(hp: Any, value: Value) -> float:
    if _has_positions(hp):
        return _domain.index_of(hp, value)
    if hp.sampling == "reverse_log":
        return min(1.0, max(0.0, float(hp.value_to_prob(value))))
    return value  # type: ignore[return-value]


def _decode(hp: Any, position: float) -> Value:
    if _has_positions(hp):
        return _domain.value_at(hp, int(position))
    if hp.sampling == "reverse_log":
        return _domain.draw(hp, position)
    return _domain.fit(hp, position)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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
