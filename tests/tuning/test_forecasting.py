"""What a budget pays: arithmetic, without a network."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.fidelity import Bracket, Rung, cost, hyperband_brackets
from smarttune.tuning.budget import longest_trial
from smarttune.tuning.forecasting import (
    Forecast,
    Limits,
    Pace,
    Schedule,
    forecast,
    in_brackets,
    in_full,
)

# Eighths of seconds are exact in floating point, so that no promise hangs on rounding.
eighths = st.integers(1, 400).map(lambda n: n / 8)
paces = st.builds(Pace, eighths, st.integers(0, 200).map(lambda n: n / 8))
lengths = st.tuples(st.integers(1, 9), st.integers(1, 81), st.integers(2, 4)).map(
    lambda t: (min(t[0], t[1]), max(t[0], t[1]), t[2])
)
schedules = st.one_of(
    lengths.map(lambda length: in_brackets(*length)),
    st.builds(in_full, st.integers(1, 81), st.one_of(st.none(), st.integers(1, 50))),
)
amounts = st.one_of(st.none(), st.integers(1, 5000))
limits_of_some_kind = st.builds(
    Limits, st.one_of(st.none(), st.integers(1, 100_000).map(float)), amounts, amounts
).filter(lambda limits: not limits.are_open)


def counted(found: Forecast) -> list[int]:
    """What must not shrink with the budget."""
    return [found.cost.configurations, found.cost.trials, found.cost.epochs]


@given(lengths, st.integers(0, 20), paces)
def test_whole_iterations_cost_what_the_schedule_says(
    length: tuple[int, int, int], iterations: int, pace: Pace
) -> None:
    """A limit that pays exactly so many iterations plans what `fidelity.cost` counts."""
    brackets = hyperband_brackets(*length)
    expected = cost(brackets, iterations=iterations, num_full_trials=1)

    found = forecast(in_brackets(*length), Limits(trials=expected.trials), pace)

    assert found.cost == expected
    assert found.seconds == pace.seconds(expected.epochs, expected.trials)
    assert sum(r.num_trials for r in found.rungs) == expected.trials


@given(schedules, limits_of_some_kind, paces)
def test_no_more_is_planned_than_there_is(schedule: Schedule, limits: Limits, pace: Pace) -> None:
    """Trials, epochs and seconds stay within their limits, and one trial is always planned."""
    found = forecast(schedule, limits, pace)

    assert found.cost.trials >= found.cost.configurations >= 1
    assert limits.trials is None or found.cost.trials <= limits.trials
    assert limits.epochs is None or found.cost.epochs <= limits.epochs
    assert limits.seconds is None or found.seconds <= limits.seconds * (1 + 1e-12)


@given(schedules, limits_of_some_kind, paces)
def test_twice_the_budget_pays_no_less(schedule: Schedule, limits: Limits, pace: Pace) -> None:
    """Of configurations, trials and epochs none shrinks when every limit is doubled."""
    doubled = Limits(
        *(None if v is None else 2 * v for v in (limits.seconds, limits.trials, limits.epochs))
    )

    once, twice = (forecast(schedule, given_, pace) for given_ in (limits, doubled))

    assert all(a <= b for a, b in zip(counted(once), counted(twice), strict=True))


@given(lengths, st.integers(1, 500), paces)
def test_rungs_thin_out(length: tuple[int, int, int], trials: int, pace: Pace) -> None:
    """Every rung is one of the schedule, and the epochs of all trials add up over the rungs."""
    found = forecast(in_brackets(*length), Limits(trials=trials), pace)
    known = {r.epochs for b in hyperband_brackets(*length) for r in b.rungs}

    assert {r.epochs for r in found.rungs} <= known
    assert sum(r.num_trials for r in found.rungs) == found.cost.trials == trials


def test_a_tail_pays_the_lowest_rung_first() -> None:
    """What does not pay an iteration pays its beginning, and nothing beyond a broken rung."""
    schedule = Schedule(9, (Bracket(2, (Rung(1, 9), Rung(3, 3), Rung(9, 1))),))

    found = forecast(schedule, Limits(trials=1 + 9 + 2), Pace(1.0))

    assert found.rungs == (Rung(1, 9), Rung(3, 2), Rung(9, 1))
    assert found.cost.epochs == 9 + 9 * 1 + 2 * 2


@given(st.integers(20, 1000).map(float), paces)
def test_the_first_trial_is_cut_as_the_search_cuts_it(seconds: float, pace: Pace) -> None:
    """Where the recommendation would eat the time it is planned with its share of it."""
    found = forecast(Schedule(10_000), Limits(seconds=seconds), replace(pace, startup=0.0))

    share = longest_trial(seconds) / pace.seconds_per_epoch
    assert found.cost.trials == 1
    assert found.cost.epochs == pytest.approx(max(1.0, share), abs=1)


def test_a_grid_ends_by_itself() -> None:
    """Full trainings that are counted beforehand are not repeated, however much time is left."""
    found = forecast(in_full(5, 12), Limits(seconds=1e9), Pace(1.0, 1.0))

    assert (found.cost.trials, found.cost.epochs) == (12, 60)
    assert found.seconds == 12 * 6.0


@pytest.mark.parametrize("schedule", [in_full(5), in_brackets(1, 9, 3)])
def test_without_any_limit_only_the_first_is_sure(schedule: Schedule) -> None:
    """An endless schedule without a limit plans the recommendation alone instead of hanging."""
    assert forecast(schedule, Limits(), Pace(1.0)).cost.trials == 1


def test_nothing_is_planned_beyond_a_rung_that_is_not_paid() -> None:
    """A cheaper bracket further on does not take what a promotion before it waits for."""
    brackets = (Bracket(1, (Rung(1, 3), Rung(10, 1))), Bracket(0, (Rung(4, 1),)))

    found = forecast(Schedule(10, brackets), Limits(epochs=10 + 3 + 5), Pace(1.0))

    assert found.rungs == (Rung(1, 3), Rung(10, 1))
