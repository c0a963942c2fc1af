"""Durations, budgets and the search's clock."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.errors import OptionError
from smarttune.facts import Facts
from smarttune.tuning import budget as module
from smarttune.tuning.budget import (
    BASELINE_SECONDS,
    BASELINE_SHARE,
    RESERVED_SECONDS,
    RESERVED_SHARE,
    Budget,
    Clock,
    longest_trial,
    parse_duration,
)

parts = st.integers(min_value=0, max_value=9999)


class Watch:
    """A clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))


@given(hours=parts, minutes=parts, seconds=parts, bare=st.booleans())
def test_a_duration_is_the_sum_of_its_parts(
    hours: int, minutes: int, seconds: int, bare: bool
) -> None:
    """Hours, minutes and seconds add up, whether or not the last part names its unit."""
    text = f"{hours}h{minutes}m{seconds}{'' if bare else 's'}"

    assert parse_duration(text) == 3600 * hours + 60 * minutes + seconds


@given(st.lists(st.sampled_from("hms"), unique=True, min_size=1).map(sorted), parts)
def test_any_parts_may_be_left_out(units: list[str], number: int) -> None:
    """A duration needs only one of its parts."""
    order = [unit for unit in "hms" if unit in units]
    text = "".join(f"{number}{unit}" for unit in order)

    sizes = {"h": 3600, "m": 60, "s": 1}

    assert parse_duration(text) == sum(number * sizes[unit] for unit in order)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("0.5m", 30)],
)
def test_durations_of_the_help_text(text: str, seconds: float) -> None:
    """The forms that the help names are read as they look."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "ten", "10 m", "-5", "1m1h", "5d", "1h-3m", "h", "1e3", "10mm"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Anything else is an error of --time that shows the right form."""
    with pytest.raises(OptionError, match="1h30m") as caught:
        parse_duration(text)

    assert caught.value.where == "--time"
    assert f"`{text}`" in caught.value.received


@pytest.mark.parametrize("name", ["seconds", "trials", "epochs"])
@pytest.mark.parametrize("value", [0, -1])
def test_an_empty_budget_is_refused(name: str, value: int) -> None:
    """A budget of nothing names the part that is empty."""
    with pytest.raises(OptionError, match=f"budget: {name}"):
        Budget(**{name: value})


@pytest.mark.parametrize(
    ("budget", "kind"),
    [
        (Budget(seconds=60.0, trials=3), "time"),
        (Budget(epochs=50, trials=3), "epochs"),
        (Budget(trials=3), "trials"),
        (Budget(), "trials"),
    ],
)
def test_a_budget_gives_known_facts(budget: Budget, kind: str) -> None:
    """Every limit is a fact of the vocabulary, and the tightest kind is named."""
    known = {name: value for name, value in budget.facts().items() if value is not None}

    facts = Facts.of(known)

    assert facts.value("budget.type") == kind
    assert facts.value("budget.num_trials") == budget.trials
    assert facts.value("budget.seconds") == budget.seconds
    assert facts.value("budget.num_epochs") == budget.epochs


def test_the_clock_counts_what_was_spent_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed clock goes on from the seconds that earlier sittings took."""
    watch = Watch(monkeypatch)
    clock = Clock(None, spent=40.0)

    watch.now += 2.5

    assert clock.elapsed == 42.5
    assert clock.training_ends is None
    assert clock.has_room_for(0)
    assert clock.deadline(shared=True) is None


@pytest.mark.parametrize(
    ("seconds", "ends"),
    [
        (1000.0, 1000.0 * (1 - RESERVED_SHARE) - BASELINE_SECONDS),
        (100.0, 100.0 * (1 - BASELINE_SHARE) - RESERVED_SECONDS),
        (10.0, 5.0),
    ],
)
def test_the_end_is_kept_free(seconds: float, ends: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training ends before the budget, but never takes less than half of it."""
    watch = Watch(monkeypatch)
    clock = Clock(seconds)

    assert clock.training_ends == ends
    watch.now += ends - 0.01
    assert clock.has_room_for(0)
    watch.now += 0.02
    assert not clock.has_room_for(0)


def test_the_first_trial_leaves_time_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first trial must stop after its share of what is left, later ones at the end."""
    watch = Watch(monkeypatch)
    clock = Clock(1000.0)
    ends = clock.training_ends
    assert ends is not None

    watch.now += 50.0

    assert clock.deadline(shared=False) == ends
    assert clock.deadline(shared=True) == pytest.approx(50.0 + longest_trial(ends - 50.0))
    assert longest_trial(1000.0) == pytest.approx(300.0)
    assert longest_trial(30.0) == pytest.approx(20.0)
    assert longest_trial(8.0) == pytest.approx(8.0)
