"""The plan of a search: what its budget pays, what it varies, when it ends."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from smarttune.fidelity import Bracket, Rung, hyperband_brackets
from smarttune.oracles.i_epoch import DEFAULT_FINALISTS
from smarttune.recommendation import Reason, Recommendation, Setting
from smarttune.space import Fixed, Value
from smarttune.tuning.budget import Budget, Clock
from smarttune.tuning.confirming import REFIT_SHARE, confirmation_share
from smarttune.tuning.forecasting import (
    Forecast,
    Limits,
    Pace,
    Schedule,
    forecast,
    in_brackets,
    in_full,
)
from smarttune.tuning.preparing import SearchJob
from smarttune.tuning.strategies import IN_RUNGS, NUM_STARTED

SCHEMA = "smarttune/plan@1"
TUNED = "search.tuned"

# Settings of how a search works, which no trial varies.
_NOT_OF_TRIALS = ("data.", "search.")

# What each value of `search.tuned` varies; the kind of network stays open, for it is neither
# strength nor size.
_RATE = ("model.family", "optimizer.learning_rate")
_REGULARIZATION = (
    "model.dropout",
    "model.recurrent_dropout",
    "optimizer.regularization",
    "optimizer.weight_decay",
    "optimizer.l1",
    "optimizer.l2",
    "training.label_smoothing",
    "training.augmentation",
)
_VARIED = {"rate": _RATE, "rate_and_regularization": (*_RATE, *_REGULARIZATION)}


@dataclass(frozen=True)
class Shares:
    """Where the wall time of a search goes, in seconds; None where nothing limits it.

    Attributes:
        preparation: Reading, recommending and measuring.
        trials: The search itself.
        confirmation: Training the finalists again.
        refit: Training the winner once more on all rows.
        baselines: Models without a network.
        report: Restoring, testing, exporting, writing.
    """

    preparation: float
    trials: float | None
    confirmation: float | None
    refit: float | None
    baselines: float | None
    report: float | None


@dataclass(frozen=True)
class Outlook:
    """What another budget would pay."""

    num_full_trainings: float | None
    num_configurations: int
    num_trials: int


@dataclass(frozen=True)
class SearchPlan:
    """What a search with this budget would do.

    Attributes:
        budget: The limits that were asked for, and those that follow.
        strategy: How configurations are proposed.
        because: The rules that chose it; "you" where the user did.
        paces: Family to seconds of an epoch and start-up of a trial, measured.
        max_epochs: Epochs of a full training in the search.
        seconds_of_full_training: Its wall time; None if nothing was measured.
        num_full_trainings: How many of them the trials' share pays; None if unlimited.
        rungs: Epochs that trials reach, and about how many trials reach them.
        num_configurations: Configurations that are looked at, at least one.
        num_trials: Trials, promotions included.
        num_epochs: Epochs over all trials.
        tuned: Hyperparameters that are varied.
        kept: Those that stay at their recommended value because of the budget.
        shares: Where the time goes.
        expected_seconds: Wall time of the whole search.
        half: What half of the budget would pay.
        double: What twice the budget would pay.
    """

    budget: Budget
    strategy: str
    because: tuple[str, ...]
    paces: Mapping[str, Pace]
    max_epochs: int
    seconds_of_full_training: float | None
    num_full_trainings: float | None
    rungs: tuple[Rung, ...]
    num_configurations: int
    num_trials: int
    num_epochs: int
    tuned: tuple[str, ...]
    kept: Mapping[str, Value]
    shares: Shares
    expected_seconds: float | None
    half: Outlook
    double: Outlook

    def finish(self, now: dt.datetime) -> dt.datetime | None:
        """When a search that starts now ends; None if its pace is not known."""
        if self.expected_seconds is None:
            return None
        return now + dt.timedelta(seconds=self.expected_seconds)

    def to_json(self) -> dict[str, Any]:
        """The form that `smarttune plan --format json` prints."""
        return {"schema": SCHEMA, **asdict(self)}


def narrowed(recommendation: Recommendation) -> Recommendation:
    """Keep at their recommended values what the budget does not pay to vary."""
    decider = recommendation.settings.get(TUNED)
    if decider is None or decider.value not in _VARIED:
        return recommendation
    kept = not_varied(recommendation)
    settings = {
        name: _kept(s, decider) if name in kept else s
        for name, s in recommendation.settings.items()
    }
    return recommendation.model_copy(update={"settings": settings})


def not_varied(recommendation: Recommendation) -> set[str]:
    """The open hyperparameters that `search.tuned` leaves out."""
    varied = _VARIED.get(str(recommendation.value(TUNED, "all")))
    if varied is None:
        return set()
    return {n for n in _open(recommendation) if n.partition("[")[0] not in varied}


def limits_of(budget: Budget, prepared: float, *, confirms: bool, refits: bool) -> Limits:
    """What the trials of a search may spend.

    Args:
        budget: The budget.
        prepared: Seconds that went before the first trial.
        confirms: Whether finalists are trained again.
        refits: Whether the winner is.
    """
    seconds = shares_of(budget, prepared, confirms=confirms, refits=refits).trials
    return Limits(seconds, budget.trials, budget.epochs)


def shares_of(budget: Budget, prepared: float, *, confirms: bool, refits: bool) -> Shares:
    """Where the wall time goes, by the clock that the search keeps to."""
    clock = Clock(budget.seconds)
    ends = clock.training_ends
    if ends is None or budget.seconds is None:
        return Shares(prepared, None, None, None, None, None)
    confirmation = ends * confirmation_share(budget.seconds) if confirms else 0.0
    refit = ends * REFIT_SHARE if refits else 0.0
    return Shares(
        preparation=prepared,
        trials=max(0.0, ends - confirmation - refit - prepared),
        confirmation=confirmation,
        refit=refit,
        baselines=min(clock.baseline_seconds, budget.seconds - ends),
        report=max(0.0, budget.seconds - ends - clock.baseline_seconds),
    )


def num_full_trainings(limits: Limits, max_epochs: int, pace: Pace | None) -> float | None:
    """How many trainings of full length the limits pay; None if nothing limits them."""
    known = pace if pace is not None else Pace(0.0)
    paid = [
        limit / price
        for limit, price in (
            (limits.seconds, known.seconds(max_epochs)),
            (limits.trials, 1),
            (limits.epochs, max_epochs),
        )
        if limit is not None and price > 0
    ]
    return min(paid, default=None)


def plan_of_search(
    job: SearchJob,
    budget: Budget,
    strategy: str,
    *,
    paces: Mapping[str, Pace],
    prepared: float,
    confirms: bool,
    refits: bool,
) -> SearchPlan:
    """Put together what a search would do.

    Args:
        job: The prepared search.
        budget: Its limits.
        strategy: Its strategy.
        paces: How fast its networks train.
        prepared: Seconds that the preparation takes.
        confirms: Whether finalists are trained again.
        refits: Whether the winner is.
    """
    pace = paces.get(job.families[0])
    schedule = schedule_of(job, budget, strategy)

    def paid(scale: float) -> tuple[Forecast, float | None]:
        limits = limits_of(_scaled(budget, scale), prepared, confirms=confirms, refits=refits)
        if pace is None:  # time is no limit that could be counted
            limits = replace(limits, seconds=None)
        return (
            forecast(schedule, limits, pace or Pace(0.0)),
            num_full_trainings(limits, job.max_epochs, pace),
        )

    found, trainings = paid(1.0)
    shares = shares_of(budget, prepared, confirms=confirms, refits=refits)
    setting = job.recommendation.settings.get("search.strategy")
    reasons = () if setting is None else setting.because
    return SearchPlan(
        budget=budget,
        strategy=strategy,
        because=tuple(f"{r.rule}: {r.summary}" for r in reasons if r.role == "decides"),
        paces=dict(paces),
        max_epochs=job.max_epochs,
        seconds_of_full_training=None if pace is None else pace.seconds(job.max_epochs),
        num_full_trainings=trainings,
        rungs=found.rungs,
        num_configurations=found.cost.configurations,
        num_trials=found.cost.trials,
        num_epochs=found.cost.epochs,
        tuned=_tuned(job),
        kept=_kept_values(job),
        shares=shares,
        expected_seconds=_expected(budget, found, shares, pace),
        half=_outlook(*paid(0.5)),
        double=_outlook(*paid(2.0)),
    )


def schedule_of(job: SearchJob, budget: Budget, strategy: str) -> Schedule:
    """The trainings of a strategy; those that choose as they go are counted as Hyperband."""
    value = job.recommendation.value
    longest = job.max_epochs
    shortest = min(int(value("search.min_epochs", 1)), longest)
    factor = int(value("search.reduction_factor", 3))
    if strategy not in IN_RUNGS:
        return in_full(longest, _grid_size(job, budget) if strategy == "grid" else None)
    if strategy == "i_epoch":
        started = budget.trials or NUM_STARTED
        rungs = (Rung(shortest, started), Rung(longest, min(DEFAULT_FINALISTS, started)))
        return Schedule(longest, (Bracket(1, rungs),), 1)
    if strategy == "asha":
        return Schedule(longest, hyperband_brackets(shortest, longest, factor)[:1])
    return in_brackets(shortest, longest, factor)


def _grid_size(job: SearchJob, budget: Budget) -> int:
    oracle: Any = job.oracle("grid", budget)
    hp = oracle.get_space()
    job.hypermodel().declare_hyperparameters(hp)
    oracle.update_space(hp)
    return int(oracle.grid_size)


def _open(recommendation: Recommendation) -> list[str]:
    return [n for n in recommendation.space().tuned if not n.startswith(_NOT_OF_TRIALS)]


def _kept(setting: Setting, decider: Setting) -> Setting:
    by = [Reason(rule=r.rule, summary=r.summary, role="limits") for r in decider.because[:1]]
    return setting.model_copy(
        update={
            "range": Fixed(value=setting.value),
            "prior": None,
            "because": (*setting.because, *by),
        }
    )


def _tuned(job: SearchJob) -> tuple[str, ...]:
    return tuple(n for n in job.space.tuned if not n.startswith(_NOT_OF_TRIALS))


def _kept_values(job: SearchJob) -> dict[str, Value]:
    """What the budget, and not a rule of its own, holds at one value."""
    decider = job.recommendation.settings.get(TUNED)
    if decider is None or decider.value not in _VARIED or not decider.because:
        return {}
    rule, settings = decider.because[0].rule, job.recommendation.settings
    names = [d.name for d in job.space.dimensions if d.name in settings]
    return {n: settings[n].value for n in names if _is_limited_by(settings[n].because, rule)}


def _is_limited_by(reasons: Sequence[Reason], rule: str) -> bool:
    return any(r.rule == rule and r.role == "limits" for r in reasons)


def _scaled(budget: Budget, by: float) -> Budget:
    whole = {
        n: None if (v := getattr(budget, n)) is None else max(1, int(v * by))
        for n in ("trials", "epochs")
    }
    return Budget(None if budget.seconds is None else budget.seconds * by, **whole)


def _outlook(found: Forecast, trainings: float | None) -> Outlook:
    return Outlook(trainings, found.cost.configurations, found.cost.trials)


def _expected(budget: Budget, found: Forecast, shares: Shares, pace: Pace | None) -> float | None:
    """Wall time of the search: the limit, unless another limit ends it before."""
    if pace is None:
        return budget.seconds
    kept = (shares.confirmation, shares.refit, shares.baselines, shares.report)
    rest = sum(s for s in kept if s is not None)
    others = budget.trials is not None or budget.epochs is not None
    if budget.seconds is not None and not others:
        return budget.seconds
    expected = shares.preparation + found.seconds + rest
    return expected if budget.seconds is None else min(expected, budget.seconds)
