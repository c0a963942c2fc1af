"""From data to a search that can begin: recommended, settled, and measured on the networks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from smarttune.errors import OptionError
from smarttune.facts import Fact, Facts
from smarttune.objectives import Direction, Objective, objective
from smarttune.rulebook import Rulebook
from smarttune.space import Value
from smarttune.suggestion import Suggestion, make_suggestion, suggestion_of
from smarttune.tuning.budget import Budget
from smarttune.tuning.forecasting import Limits, Pace
from smarttune.tuning.outlook import (
    SearchPlan,
    limits_of,
    narrowed,
    num_full_trainings,
    plan_of_search,
)
from smarttune.tuning.preparing import SearchJob, with_budget
from smarttune.tuning.probing import probe
from smarttune.tuning.strategies import check_strategy
from smarttune.tuning.timing import paces

if TYPE_CHECKING:
    from smarttune.training.range_test import RangeTest

# ours: rows held back for one honest test at the end; a large table needs a smaller share.
TEST_FRACTION = 0.15
MAX_TEST_ROWS = 10_000

_HOW_TIMED = "some epochs of the recommended network"

# ours: below two minutes compiling a network once more costs a search more than knowing its pace
# gains.
TIMED_FROM = 120.0

MOST_SEEDS = 2**31  # Keras takes signed 32-bit seeds

OnEvent = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Preparation:
    """All that is known before the first trial.

    Attributes:
        suggestion: The recommendation and what it was measured on.
        job: The search that it leads to.
        declared: Facts that the user declared, or that follow from what was asked.
        pinned: Hyperparameters that the user fixed.
        range_tests: Family to the learning-rate range test of its recommended network.
        families: Family to the facts that were measured on its network.
        paces: Family to how fast its network trains.
    """

    suggestion: Suggestion
    job: SearchJob
    declared: Facts
    pinned: Mapping[str, Value]
    range_tests: Mapping[str, RangeTest] = field(default_factory=dict)
    families: Mapping[str, Facts] = field(default_factory=dict)
    paces: Mapping[str, Pace] = field(default_factory=dict)


def prepare(
    data: Any,
    target: Any = None,
    *,
    declared: Facts,
    pinned: Mapping[str, Value],
    rulebook: Rulebook,
    seed: int = 0,
    direction: Direction | None = None,
    **reading: Any,
) -> Preparation:
    """Read the data, recommend, and recommend again for the rows that training will have.

    Args:
        data: As in `smarttune.search`.
        target: As in `smarttune.search`.
        declared: Facts that win over measured ones.
        pinned: Hyperparameters fixed by the user.
        rulebook: The rules.
        seed: Decides the split.
        direction: Of the objective, where it is not known.
        **reading: `problem`, `drop`, `progress` and `source`, as
            `smarttune.suggestion.make_suggestion` takes them.

    Raises:
        SmartTuneError: For anything the user can mend.
    """
    if not 0 <= seed < MOST_SEEDS:
        raise OptionError(
            "--seed",
            received=f"{seed}",
            expected=f"a whole number from 0 to {MOST_SEEDS - 1}",
            mend="Any of them will do; 0 is one.",
        )
    suggestion = make_suggestion(
        data,
        target,
        facts=declared,
        pinned=pinned,
        rulebook=rulebook,
        **reading,
    )
    declared = _known_of_training(suggestion) | declared
    suggestion = _again(suggestion, declared, pinned)
    dataset = suggestion.dataset
    assert dataset is not None
    job = job_of(
        suggestion,
        _objective(direction, suggestion),
        seed,
        held_back(len(dataset.features)),
    )
    return Preparation(suggestion, job, declared, pinned)


def measured(
    prepared: Preparation, *, seconds: float | None = None, on_event: OnEvent | None = None
) -> Preparation:
    """Measure the recommended networks where rules ask for it, and recommend once more.

    Args:
        prepared: What is known so far.
        seconds: Wall time that the measurements may take; None means no limit.
        on_event: Called when a measurement begins and ends.
    """
    families: dict[str, Facts] = {}
    ends = None if seconds is None else time.monotonic() + seconds
    # Batches first: a tested rate belongs to one batch size.
    stages: tuple[tuple[str, Literal["batches", "rates"]], ...] = (
        ("search.batch_probe", "batches"),
        ("search.range_test", "rates"),
    )
    for setting, what in stages:
        if not prepared.job.recommendation.value(setting):
            continue
        left = None if ends is None else ends - time.monotonic()
        probes = probe(prepared.job, what, seconds=left, on_event=on_event)
        families = {
            f: families.get(f, Facts()) | probes.families.get(f, Facts())
            for f in {**families, **probes.families}
        }
        suggestion = _again(
            prepared.suggestion, prepared.declared, prepared.pinned, families=families
        )
        job = prepared.job.with_recommendation(suggestion.recommendation)
        tests = {**prepared.range_tests, **probes.range_tests}
        prepared = replace(prepared, suggestion=suggestion, job=job, range_tests=tests)
    return replace(prepared, families=families) if families else prepared


def timed(
    prepared: Preparation,
    limits: Callable[[], Limits],
    *,
    seconds: float | None = None,
    acts: bool = True,
    on_event: OnEvent | None = None,
) -> Preparation:
    """Time the recommended networks, and let rules shorten trials and vary less by it.

    Args:
        prepared: What is known so far.
        limits: Says, once the networks are timed, what the trials may spend.
        seconds: Wall time that timing may take; None means no limit.
        acts: Whether rules hear of it.
        on_event: Called before and after.
    """
    tell = on_event if on_event is not None else lambda event: None
    tell({"event": "probing", "family": prepared.job.families[0]})
    found = paces(prepared.job, seconds=seconds)
    prepared = replace(prepared, paces=found)
    pace = found.get(prepared.job.families[0])
    left = limits()
    if pace is None or left.seconds is None or not acts:
        return prepared
    tell({"event": "timed", "seconds_per_epoch": pace.seconds_per_epoch, "startup": pace.startup})
    prepared = _knowing(prepared, {"budget.seconds_per_epoch": pace.seconds_per_epoch}, _HOW_TIMED)
    # The length of a full training follows from the first fact, their number from both.
    trainings = num_full_trainings(left, prepared.job.max_epochs, pace)
    return _knowing(prepared, {"budget.num_full_trainings": trainings}, _HOW_TIMED)


def _knowing(prepared: Preparation, found: Mapping[str, Any], how: str) -> Preparation:
    """Recommend with further facts, which declared ones outdo, and narrow by the budget."""
    declared = Facts.of(found, origin="measured", how=how) | prepared.declared
    suggestion = _again(
        prepared.suggestion, declared, prepared.pinned, families=prepared.families or None
    )
    suggestion = replace(suggestion, recommendation=narrowed(suggestion.recommendation))
    job = prepared.job.with_recommendation(suggestion.recommendation)
    return replace(prepared, suggestion=suggestion, job=job, declared=declared)


def planned(  # noqa: PLR0913 -- what a search is asked
    data: Any,
    target: Any,
    *,
    budget: Budget,
    rulebook: Rulebook,
    probing_share: float,
    strategy: str = "auto",
    confirm: bool = True,
    refit: bool = False,
    facts: Mapping[str, Value] | Facts | None = None,
    pinned: Mapping[str, Value] | None = None,
    on_event: OnEvent | None = None,
    seed: int = 0,
    problem: str | None = None,
    drop: Sequence[str] = (),
    **source: Any,
) -> SearchPlan:
    """Prepare a search as it would be prepared, and say what it would do.

    Args:
        data: This and what is not named below as in `smarttune.search`.
        target: See `data`.
        budget: What the search may spend.
        rulebook: The rules.
        probing_share: Of a time budget, what each kind of measurement may take.
        strategy: See `data`.
        confirm: See `data`.
        refit: See `data`.
        facts: See `data`.
        pinned: See `data`.
        on_event: Called when a measurement begins and ends.
        seed: See `data`.
        problem: See `data`.
        drop: See `data`.
        **source: What the source itself does not tell.
    """
    began = time.monotonic()
    declared = facts if isinstance(facts, Facts) else Facts.of(facts or {})
    pins = dict(pinned or {})
    if strategy != "auto":
        pins["search.strategy"] = check_strategy(strategy)
    asked = Facts({n: Fact(v) for n, v in budget.facts().items() if v is not None})
    prepared = prepare(
        data,
        target,
        declared=asked | declared,
        pinned=pins,
        rulebook=rulebook,
        seed=seed,
        problem=problem,
        drop=drop,
        source=source,
    )
    share = None if budget.seconds is None else probing_share * budget.seconds
    prepared = measured(prepared, seconds=share, on_event=on_event)

    def limits() -> Limits:
        return limits_of(budget, time.monotonic() - began, confirms=confirm, refits=refit)

    acts = budget.seconds is None or budget.seconds >= TIMED_FROM
    prepared = timed(prepared, limits, seconds=share, acts=acts, on_event=on_event)
    made = prepared.suggestion.recommendation
    return plan_of_search(
        prepared.job,
        with_budget(budget, made),
        check_strategy(str(made.value("search.strategy", "random"))),
        paces=prepared.paces,
        prepared=time.monotonic() - began,
        confirms=confirm,
        refits=refit,
    )


def job_of(suggestion: Suggestion, goal: Objective, seed: int, test_fraction: float) -> SearchJob:
    """The search that a suggestion leads to."""
    assert suggestion.dataset is not None
    assert suggestion.fingerprint is not None
    return SearchJob(
        suggestion.dataset,
        suggestion.fingerprint,
        suggestion.recommendation,
        goal,
        seed,
        test_fraction,
    )


def held_back(rows: int) -> float:
    """Share of the rows that is held back for the end."""
    return min(TEST_FRACTION, MAX_TEST_ROWS / max(rows, 1))


def _known_of_training(suggestion: Suggestion) -> Facts:
    """Training rows and the number of free settings, once a first recommendation is there."""
    recommendation = suggestion.recommendation
    rows = int(recommendation.facts.value("data.num_samples") or 0)
    held = held_back(rows) + float(recommendation.value("data.validation_fraction"))
    tuned = [n for n in recommendation.space().tuned if not n.startswith(("data.", "search."))]
    return Facts(
        {
            "data.num_samples": Fact(round(rows * (1 - held)), "derived", "rows left for training"),
            "budget.num_tuned": Fact(len(tuned), "derived", "settings with more than one value"),
        }
    )


def _again(
    suggestion: Suggestion,
    declared: Facts,
    pins: Mapping[str, Value],
    families: Mapping[str, Facts] | None = None,
) -> Suggestion:
    """Recommend for the same data with more facts."""
    assert suggestion.fingerprint is not None
    assert suggestion.dataset is not None
    return suggestion_of(
        suggestion.dataset,
        suggestion.fingerprint,
        declared,
        suggestion.rulebook,
        pins,
        families=families,
    )


def _objective(direction: Direction | None, suggestion: Suggestion) -> Objective:
    assert suggestion.fingerprint is not None
    name = str(suggestion.recommendation.value("search.objective", "val_loss"))
    return objective(name, direction, problem=suggestion.fingerprint.problem)
