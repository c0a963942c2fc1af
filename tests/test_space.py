"""Ranges, priors and search spaces."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from smarttune.errors import RangeError, SettingError
from smarttune.space import (
    HYPERPARAMETERS,
    Choice,
    Dimension,
    Fixed,
    FloatRange,
    IntRange,
    NormalPrior,
    Prior,
    Range,
    SearchSpace,
    Value,
    WeightsPrior,
    canonical_order,
    meet,
    pow2_ceil,
    pow2_floor,
    pow2_round,
    show_value,
    simplest,
)
from tests.strategies import normal_priors, ranges, spaces, values, weights_priors

GRID = [i / 20 for i in range(21)]


def points(range_: Range) -> list[Value]:
    """Values spread over a range, both ends included."""
    return [range_.from_unit(u) for u in GRID]


@given(ranges, ranges)
def test_meet_is_commutative(a: Range, b: Range) -> None:
    """The order of two ranges does not change what they share."""
    assert meet(a, b) == meet(b, a)


@given(ranges, ranges, ranges)
def test_meet_is_associative(a: Range, b: Range, c: Range) -> None:
    """Three ranges share the same values however they are grouped."""
    left = meet(a, b)
    right = meet(b, c)

    first = None if left is None else meet(left, c)
    second = None if right is None else meet(a, right)

    assert first == second


@given(ranges)
def test_meet_is_idempotent(a: Range) -> None:
    """A range met with itself is the same range in its simplest form."""
    assert meet(a, a) == simplest(a)


@given(ranges, ranges)
def test_meet_is_never_wider_than_either_side(a: Range, b: Range) -> None:
    """Every value of the meet is a value of both sides."""
    met = meet(a, b)

    assert met is None or all(a.contains(v) and b.contains(v) for v in points(met))


@given(ranges, ranges)
def test_meet_keeps_every_shared_value(a: Range, b: Range) -> None:
    """No value that both sides allow is lost by their meet."""
    met = meet(a, b)

    for value in [*points(a), *points(b)]:
        if a.contains(value) and b.contains(value):
            assert met is not None
            assert met.contains(value)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (
            IntRange(low=1, high=9),
            IntRange(low=4, high=64, sampling="power_of_two"),
            IntRange(low=4, high=8, sampling="power_of_two"),
        ),
        (
            FloatRange(low=0.1, high=5.0, sampling="log"),
            IntRange(low=0, high=9),
            IntRange(low=1, high=5, sampling="log"),
        ),
        (FloatRange(low=0.0, high=1.0), FloatRange(low=1.0, high=2.0), Fixed(value=1.0)),
        (FloatRange(low=0.0, high=1.0), FloatRange(low=1.5, high=2.0), None),
        (Choice(values=("a", 4, 200)), IntRange(low=1, high=9), Fixed(value=4)),
        (Choice(values=(True, "x")), IntRange(low=0, high=1), None),
        (IntRange(low=3, high=3), IntRange(low=1, high=8, sampling="power_of_two"), None),
    ],
)
def test_meet_of_known_pairs(a: Range, b: Range, expected: Range | None) -> None:
    """The more binding scale wins, and one remaining value is fixed."""
    assert meet(a, b) == expected


@given(ranges, st.floats(0, 1))
def test_unit_positions_round_trip(range_: Range, u: float) -> None:
    """A value goes to the unit interval and comes back."""
    value = range_.from_unit(u)

    position = range_.to_unit(value)
    back = range_.from_unit(position)

    assert 0.0 <= position <= 1.0
    assert range_.contains(value)
    if isinstance(range_, FloatRange):
        assert back == pytest.approx(value, rel=1e-9, abs=1e-9 * (range_.high - range_.low))
    else:
        assert back == value


@given(ranges, st.floats(0, 1), st.floats(0, 1))
def test_from_unit_is_monotone(range_: Range, a: float, b: float) -> None:
    """A larger position never gives a smaller number."""
    low, high = (range_.from_unit(u) for u in sorted([a, b]))

    if isinstance(range_, (FloatRange, IntRange)):
        assert float(low) <= float(high)


@pytest.mark.parametrize("sampling", ["linear", "log", "power_of_two"])
def test_positions_of_whole_numbers_spread_evenly(sampling: str) -> None:
    """Equal shares of the unit interval go to each value (of a scale with equal steps)."""
    range_ = IntRange(low=1, high=8, sampling=sampling)  # type: ignore[arg-type]
    drawn = [range_.from_unit((i + 0.5) / 4000) for i in range(4000)]

    counts = [drawn.count(v) for v in dict.fromkeys(drawn)]

    assert len(counts) == range_.num_values
    if sampling == "log":
        assert counts == sorted(counts, reverse=True)
    else:
        assert max(counts) - min(counts) <= 1


@given(ranges, st.one_of(values, st.floats(-1e9, 1e9), st.integers(-(10**9), 10**9)))
def test_clamp_lands_inside(range_: Range, value: Value) -> None:
    """Whatever is asked for, the clamped value is one of the range."""
    assert range_.contains(range_.clamp(value))


@given(ranges, st.floats(0, 1))
def test_clamp_leaves_members_alone(range_: Range, u: float) -> None:
    """A value of the range is its own nearest value."""
    value = range_.from_unit(u)

    assert range_.clamp(value) == value


@pytest.mark.parametrize(
    ("range_", "value", "expected"),
    [
        (FloatRange(low=1.0, high=2.0), 5, 2.0),
        (IntRange(low=1, high=9), 4.4, 4),
        (IntRange(low=8, high=64, sampling="power_of_two"), 45, 32),
        (IntRange(low=8, high=64, sampling="power_of_two"), 46, 64),
        (IntRange(low=8, high=64, sampling="power_of_two"), 1, 8),
        (Choice(values=(16, 64)), 50, 64),
        (Choice(values=("b", "a")), "z", "a"),
        (Fixed(value="x"), 3, "x"),
    ],
)
def test_clamp_takes_the_nearest(range_: Range, value: Value, expected: Value) -> None:
    """The clamped value is the nearest one on the scale of the range."""
    assert range_.clamp(value) == expected


@pytest.mark.parametrize(
    "build",
    [
        lambda: FloatRange(low=2.0, high=1.0),
        lambda: FloatRange(low=0.0, high=1.0, sampling="log"),
        lambda: FloatRange(low=0.0, high=math.inf),
        lambda: IntRange(low=2, high=1),
        lambda: IntRange(low=0, high=4, sampling="log"),
        lambda: IntRange(low=3, high=8, sampling="power_of_two"),
        lambda: Choice(values=()),
    ],
)
def test_ranges_without_values_are_refused(build: object) -> None:
    """A range that cannot hold a value cannot be made."""
    with pytest.raises(RangeError, match="Expected a range that holds at least one value"):
        build()  # type: ignore[operator]


def test_choice_has_one_canonical_order() -> None:
    """Numbers come first by size, then names; equal values stand once; true is not 1."""
    assert Choice(values=("b", 3, "a", 1, 3)).values == (1, 3, "a", "b")
    assert len(canonical_order([True, 1, 1.0, False, 0])) == 4
    assert Choice(values=(True, 1)).index(1) != Choice(values=(True, 1)).index(True)


def test_ranges_are_frozen_and_strict() -> None:
    """A range cannot be changed, and takes neither text for numbers nor unknown keys."""
    range_ = IntRange(low=1, high=2)

    with pytest.raises(ValidationError):
        range_.low = 0  # type: ignore[misc]
    with pytest.raises(ValidationError):
        IntRange.model_validate({"low": "1", "high": 2})
    with pytest.raises(ValidationError):
        IntRange.model_validate({"low": 1, "high": 2, "step": 1})


@given(st.floats(0, 1e15))
def test_powers_of_two_enclose_their_number(value: float) -> None:
    """The floor is at most the number, the ceiling at least, the rounded one of the two."""
    low, high = pow2_floor(value), pow2_ceil(value)

    assert low <= max(value, 1) <= high or value < 1
    assert high in (low, 2 * low)
    assert pow2_round(value) in (low, high) or value < 1


@given(normal_priors, st.floats(0, 1), st.floats(0, 1))
def test_normal_quantile_is_monotone_and_inside(prior: NormalPrior, a: float, b: float) -> None:
    """More mass lies further to the right, never outside of the unit interval."""
    low, high = (prior.quantile(u) for u in sorted([a, b]))

    assert 0.0 <= low <= high <= 1.0


@given(weights_priors, st.floats(0, 1), st.floats(0, 1))
def test_weights_quantile_is_monotone_and_inside(prior: WeightsPrior, a: float, b: float) -> None:
    """A larger draw never selects an earlier value."""
    low, high = (prior.quantile(u) for u in sorted([a, b]))

    assert 0.0 <= low <= high + 1e-12 < 1.0 + 1e-9


@given(st.one_of(normal_priors, weights_priors))
def test_densities_integrate_to_one(prior: Prior) -> None:
    """The density over the unit interval holds all of the mass."""
    # 4,200 cells divide evenly into bins of 1 to 6 values.
    mass = sum(prior.density((i + 0.5) / 4200) for i in range(4200)) / 4200

    assert mass == pytest.approx(1.0, abs=2e-3)


@given(normal_priors, st.floats(0.01, 0.99))
def test_quantile_is_the_inverse_of_the_mass(prior: NormalPrior, u: float) -> None:
    """Below the quantile of `u` lies the share `u` of the density's mass."""
    end = prior.quantile(u)

    mass = sum(prior.density((i + 0.5) * end / 2000) for i in range(2000)) * end / 2000

    assert mass == pytest.approx(u, abs=5e-3)


@given(weights_priors)
def test_weights_are_the_shares_of_the_draws(prior: WeightsPrior) -> None:
    """Each value gets draws in proportion to its weight."""
    n = len(prior.weights)
    choice = Choice(values=tuple(range(n)))
    drawn = [choice.from_unit(prior.quantile((i + 0.5) / 2000)) for i in range(2000)]

    for i, weight in enumerate(prior.weights):
        assert drawn.count(i) / 2000 == pytest.approx(weight / sum(prior.weights), abs=2e-3)


def test_a_value_without_weight_is_never_drawn() -> None:
    """Weight zero means never, in the middle and at the ends."""
    prior = WeightsPrior(weights=(0.0, 1.0, 0.0, 3.0, 0.0))
    choice = Choice(values=(0, 1, 2, 3, 4))

    drawn = {choice.from_unit(prior.quantile(i / 1000)) for i in range(1000)}

    assert drawn == {1, 3}


@given(spaces(), st.integers(0, 2**32), st.booleans())
def test_samples_lie_in_their_space(space: SearchSpace, seed: int, use_prior: bool) -> None:
    """Every draw is a complete configuration of the space."""
    assert space.contains(space.sample(random.Random(seed), use_prior=use_prior))


@given(spaces())
def test_the_default_lies_in_its_space(space: SearchSpace) -> None:
    """The recommended configuration is one of the space."""
    assert space.contains(space.default)
    assert all(space.default[n] == space[n].value for n in space.default)


def conditional_space() -> SearchSpace:
    """A momentum that matters for SGD only, and Nesterov that needs a momentum."""
    return SearchSpace(
        dimensions=(
            Dimension(name="optimizer.name", range=Choice(values=("adam", "sgd")), value="adam"),
            Dimension(
                name="optimizer.momentum",
                range=FloatRange(low=0.5, high=0.9),
                value=0.9,
                active_when={"optimizer.name": ("sgd",)},
            ),
            Dimension(
                name="x.nesterov",
                range=Fixed(value=True),
                value=True,
                active_when={"optimizer.momentum": (0.9,)},
            ),
        )
    )


def test_inactive_dimensions_take_their_children_along() -> None:
    """Where a parent is inactive, nothing below it is active, whatever its value."""
    space = conditional_space()
    everything: dict[str, Value] = {
        "optimizer.name": "adam",
        "optimizer.momentum": 0.9,
        "x.nesterov": True,
    }

    assert space.default == {"optimizer.name": "adam"}
    assert space.active(everything) == {"optimizer.name": "adam"}
    assert space.active(everything | {"optimizer.name": "sgd"}).keys() == everything.keys()


@pytest.mark.parametrize(
    ("configuration", "inside"),
    [
        ({"optimizer.name": "adam"}, True),
        ({"optimizer.name": "sgd", "optimizer.momentum": 0.6}, True),
        ({"optimizer.name": "sgd"}, False),
        ({"optimizer.name": "adam", "optimizer.momentum": 0.6}, False),
        ({"optimizer.name": "sgd", "optimizer.momentum": 0.95}, False),
        ({"optimizer.name": "lion"}, False),
        ({"optimizer.name": "adam", "extra": 1}, False),
        ({}, False),
    ],
)
def test_contains_wants_active_values_and_no_others(
    configuration: dict[str, Value], inside: bool
) -> None:
    """A configuration holds every active dimension, nothing inactive, nothing unknown."""
    assert conditional_space().contains(configuration) is inside


def test_tuned_names_have_more_than_one_value() -> None:
    """What is fixed is not tuned."""
    assert conditional_space().tuned == ("optimizer.name", "optimizer.momentum")


def test_unknown_names_are_answered_with_the_closest() -> None:
    """A misspelt dimension is an error that names the right one."""
    with pytest.raises(SettingError, match=r"Did you mean `optimizer\.momentum`"):
        conditional_space()["optimizer.momentun"]


@given(spaces())
def test_spaces_survive_json(space: SearchSpace) -> None:
    """A space written as JSON comes back the same."""
    assert SearchSpace.model_validate_json(space.model_dump_json()) == space


def test_canonical_hyperparameters_are_well_formed() -> None:
    """Each has a dotted name, a known kind and a meaning."""
    for name, definition in HYPERPARAMETERS.items():
        assert "." in name
        assert definition.name == name
        assert definition.kind in ("float", "int", "str", "bool")
        assert definition.about
        assert not definition.about.endswith(".")


@pytest.mark.parametrize(
    ("value", "text"), [(0.000123456, "0.0001235"), (True, "true"), (7, "7"), ("adam", "adam")]
)
def test_values_are_shown_briefly(value: Value, text: str) -> None:
    """Numbers show four digits, booleans are lower case."""
    assert show_value(value) == text
