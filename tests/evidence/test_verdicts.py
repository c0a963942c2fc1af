"""An effect, its interval and a verdict follow from trainings of two sides."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.evidence.verdicts import Side, Training, judge, verdict_of
from smarttune.rulebook.checks import Check

SIDES: tuple[Side, Side] = ("recommended", "against")


def check(**changed: Any) -> Check:
    """A check of one value against another."""
    told = {
        "question": "Is one better than two?",
        "data": ["a"],
        "recommended": [{"model.num_layers": 1}],
        "against": [{"model.num_layers": 2}],
        "falsified_if": "Two leaves less error than one.",
    }
    return Check.model_validate(told | changed)


def trainings(amounts: dict[str, list[tuple[float, float]]]) -> list[Training]:
    """Data set to pairs of amounts, one for each seed: the rule's and the other side's."""
    return [
        Training(name, side, {"model.num_layers": number}, seed, pair[number - 1], 1.0)
        for name, pairs in amounts.items()
        for seed, pair in enumerate(pairs)
        for number, side in enumerate(SIDES, start=1)
    ]


amounts = st.floats(0.01, 10.0)
pairs = st.lists(st.tuples(amounts, amounts), min_size=2, max_size=4)
experiments = st.dictionaries(st.sampled_from("abcd"), pairs, min_size=1)


@given(experiments)
def test_exchanged_sides_turn_the_effect_and_the_verdict_round(
    found: dict[str, list[tuple[float, float]]],
) -> None:
    """What speaks for one side speaks as strongly against the other."""
    turned = {name: [(b, a) for a, b in pairs] for name, pairs in found.items()}
    one, other = judge(trainings(found), check()), judge(trainings(turned), check())
    assert one.effect == pytest.approx(-other.effect)
    opposite = {"holds": "contradicted", "contradicted": "holds", "no difference": "no difference"}
    assert other.verdict == opposite[one.verdict]


@given(experiments, st.floats(0.1, 10.0))
def test_the_unit_of_what_is_measured_does_not_matter(
    found: dict[str, list[tuple[float, float]]], unit: float
) -> None:
    """An error in dollars and the same in cents give one effect."""
    scaled = {n: [(a * unit, b * unit) for a, b in pairs] for n, pairs in found.items()}
    assert judge(trainings(scaled), check()).effect == pytest.approx(
        judge(trainings(found), check()).effect, abs=1e-9
    )


def test_a_clear_difference_on_every_data_set_holds() -> None:
    """Half the error on three data sets, give or take little, is a finding."""
    found = judge(trainings({n: [(0.5, 1.0), (0.5, 1.05)] for n in "abc"}), check())
    assert found.verdict == "holds"
    assert found.effect == pytest.approx(math.log(2), abs=0.05)
    assert found.interval is not None
    assert found.interval[0] <= found.effect <= found.interval[1]


def test_data_sets_that_disagree_make_no_difference() -> None:
    """Better here and worse there says nothing in general, however sure each of them is."""
    steady = {"a": [(0.5, 1.0)] * 3, "b": [(1.0, 0.5)] * 3, "c": [(1.0, 1.0)] * 3}
    assert judge(trainings(steady), check()).verdict == "no difference"


def test_one_data_set_is_judged_over_its_seeds() -> None:
    """Somebody's own data are what the finding is about, so repetitions speak."""
    found = judge(trainings({"mine": [(0.5, 1.0), (0.6, 1.0), (0.55, 1.0)]}), check())
    assert found.verdict == "holds"
    assert judge(trainings({"mine": [(0.5, 1.0)]}), check()).interval is None


def test_the_best_of_several_configurations_speaks_for_its_side() -> None:
    """A side that names several values is as good as the best of them, told by name."""
    several = [
        Training("a", "against", {"model.num_layers": number}, seed, amount, 1.0)
        for number, amount in ((2, 1.0), (3, 0.2))
        for seed in range(2)
    ]
    rule = [Training("a", "recommended", {"model.num_layers": 1}, s, 0.5, 1.0) for s in range(2)]
    found = judge([*rule, *several], check())
    assert found.data[0].against == {"model.num_layers": 3}
    assert found.effect == pytest.approx(math.log(0.2 / 0.5))


def test_a_training_that_diverged_is_worse_than_any_other() -> None:
    """Infinite errors count as twice the worst finite one of their data set."""
    found = judge(trainings({"a": [(0.5, math.inf), (0.8, math.inf)]}), check())
    assert found.data[0].against_mean == pytest.approx(1.6)


@pytest.mark.parametrize(
    ("expects", "interval", "verdict"),
    [
        ("better", (0.01, 0.2), "holds"),
        ("better", (-0.2, -0.01), "contradicted"),
        ("better", (-0.1, 0.1), "no difference"),
        ("no_worse", (-0.04, 0.01), "holds"),
        ("no_worse", (-0.3, -0.01), "contradicted"),
        ("no_worse", (-0.3, 0.1), "no difference"),
        ("level", (-0.04, 0.04), "holds"),
        ("level", (0.01, 0.2), "contradicted"),
        ("level", (-0.2, -0.01), "contradicted"),
        ("level", (-0.2, 0.2), "no difference"),
    ],
)
def test_verdicts(expects: Any, interval: tuple[float, float], verdict: str) -> None:
    """Each expectation has intervals that agree, that contradict, and that say nothing."""
    effect = sum(interval) / 2
    assert verdict_of(effect, interval, expects, 0.05) == verdict


def test_a_small_but_certain_loss_does_not_contradict_a_rule_that_allows_it() -> None:
    """Two percent worse for sure is within a margin of five."""
    assert verdict_of(-0.02, (-0.03, -0.01), "no_worse", 0.05) == "holds"
    assert verdict_of(-0.045, (-0.06, -0.03), "no_worse", 0.05) == "no difference"
