"""Rungs, brackets and their cost."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.errors import OptionError
from smarttune.fidelity import (
    Bracket,
    Cost,
    Rung,
    cost,
    hyperband_brackets,
    rung_epochs,
    successive_halving,
)


def test_brackets_equal_the_published_table() -> None:
    """For 81 epochs and factor 3 sizes and epochs are those of Li et al. 2018, Table 1."""
    brackets = hyperband_brackets(1, 81, 3)
    assert [[(r.num_trials, r.epochs) for r in b.rungs] for b in brackets] == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]
    assert [b.number for b in brackets] == [4, 3, 2, 1, 0]


def test_minimum_cuts_the_lowest_rungs() -> None:
    """No rung is shorter than `min_epochs`, and the rest keeps its epochs."""
    assert rung_epochs(1, 52, 3) == (1, 5, 17, 52)
    assert rung_epochs(4, 52, 3) == (5, 17, 52)
    assert rung_epochs(52, 52, 3) == (52,)


def test_exact_powers_are_not_lost_to_rounding() -> None:
    """243 epochs are five steps of 3, although log(243, 3) is slightly below 5."""
    assert rung_epochs(1, 243, 3) == (1, 3, 9, 27, 81, 243)


def test_promoted_trials_pay_only_what_they_add() -> None:
    """Nine trials of one epoch, of which three go on to 3 and one to 9, cost 9 + 6 + 6 epochs."""
    bracket = successive_halving(9, 1, 9)
    assert bracket == Bracket(2, (Rung(1, 9), Rung(3, 3), Rung(9, 1)))
    assert cost([bracket]) == Cost(configurations=9, trials=13, epochs=21)


def test_iterations_and_full_trials_add_up() -> None:
    """Iterations multiply the brackets; a trial in full costs the epochs of the last rung."""
    brackets = hyperband_brackets(1, 9, 3)
    once = cost(brackets)
    twice = cost(brackets, iterations=2, num_full_trials=3)
    assert twice == Cost(2 * once.configurations + 3, 2 * once.trials + 3, 2 * once.epochs + 27)


@given(st.integers(1, 20), st.integers(0, 300), st.integers(2, 5))
def test_brackets_are_consistent(low: int, more: int, factor: int) -> None:
    """Rungs grow in epochs and shrink in trials, end at the maximum and start at the minimum."""
    for bracket in hyperband_brackets(low, low + more, factor):
        epochs = [r.epochs for r in bracket.rungs]
        trials = [r.num_trials for r in bracket.rungs]
        assert epochs == sorted(set(epochs))
        assert low <= epochs[0]
        assert epochs[-1] == low + more
        assert all(b <= a // factor for a, b in itertools.pairwise(trials))
        assert trials[-1] >= 1


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((0, 9, 3), "min_epochs"), ((9, 3, 3), "max_epochs"), ((1, 9, 1), "factor")],
)
def test_impossible_plans_are_refused(arguments: tuple[int, int, int], name: str) -> None:
    """An argument out of its bounds is an error that names it."""
    with pytest.raises(OptionError, match=name):
        hyperband_brackets(*arguments)


def test_halving_of_nothing_is_refused() -> None:
    """A bracket needs a trial."""
    with pytest.raises(OptionError, match="num_trials"):
        successive_halving(0, 1, 9)
