"""The arithmetic of narrowing, without a tuner."""

from __future__ import annotations

from typing import Any

import keras_tuner
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarttune.errors import SettingError
from smarttune.models.aliases import ALIASES, canonical_name, checked_names
from smarttune.models.narrowing import Declaration, grid, narrow_declaration
from smarttune.space import HYPERPARAMETERS, Choice, Fixed, FloatRange, IntRange, Range, Value

FREE: dict[str, Any] = {"step": None, "sampling": "linear", "default": None}
POWERS = IntRange(low=64, high=512, sampling="power_of_two")
RATES = FloatRange(low=1e-4, high=1e-2, sampling="log")


def narrowed(method: Any, options: dict[str, Any], range_: Range, value: Value) -> Declaration:
    """The narrowed declaration, which must exist."""
    result = narrow_declaration(Declaration(method, options), range_, value)
    assert result is not None
    return result


def test_a_free_float_takes_bounds_scale_and_default() -> None:
    """A linear range of rates becomes the recommended logarithmic one."""
    options = {**FREE, "min_value": 1e-6, "max_value": 5e-3}

    result = narrowed("Float", options, RATES, 1e-3)

    assert result == Declaration(
        "Float", {"min_value": 1e-4, "max_value": 5e-3, "sampling": "log", "default": 1e-3}
    )


def test_a_free_integer_takes_the_powers_of_two() -> None:
    """They become steps of two on a log scale."""
    result = narrowed("Int", {**FREE, "min_value": 10, "max_value": 300}, POWERS, 128)

    assert result.values() == [64, 128, 256]
    assert result.options["default"] == 128


def test_a_users_steps_are_kept_within_the_bounds() -> None:
    """Multiples of 48 stay multiples of 48; the scale of the rule does not delete them."""
    options = {**FREE, "min_value": 48, "max_value": 960, "step": 48}

    result = narrowed("Int", options, POWERS, 128)

    assert result.method == "Int"
    assert result.values() == list(range(96, 481, 48))
    assert result.options["default"] == 144


def test_a_users_choice_is_kept_within_the_bounds() -> None:
    """Values, their order and type stay; the recommended one becomes the default."""
    options = {"values": [1024, 256, 100, 16], "ordered": None, "default": 1024}

    result = narrowed("Choice", options, POWERS, 256)

    assert result.options["values"] == [256, 100]
    assert result.options["default"] == 256


def test_a_fixed_recommendation_leaves_its_value_alone() -> None:
    """What the rules say not to tune is not tuned."""
    result = narrowed("Choice", {"values": [32, 64, 128], "default": None}, Fixed(value=64), 64)

    assert result == Declaration("Fixed", {"value": 64})


def test_a_flag_can_be_fixed() -> None:
    """One value of two is left."""
    assert narrowed("Boolean", {"default": False}, Fixed(value=True), True) == Declaration(
        "Fixed", {"value": True}
    )


def test_an_empty_meet_is_none() -> None:
    """The caller then keeps the user's own range."""
    declared = Declaration("Float", {**FREE, "min_value": 0.1, "max_value": 1.0})

    assert narrow_declaration(declared, RATES, 1e-3) is None


def test_a_reversed_log_scale_is_kept() -> None:
    """Only its bounds move."""
    options = {**FREE, "min_value": 0.5, "max_value": 0.999, "sampling": "reverse_log"}

    result = narrowed("Float", options, FloatRange(low=0.8, high=0.95), 0.9)

    assert result.options["sampling"] == "reverse_log"
    assert (result.options["min_value"], result.options["max_value"]) == (0.8, 0.95)


def test_a_users_own_default_stays_where_the_recommended_value_is_out_of_reach() -> None:
    """The recommendation is 0.01, the user's range ends at 0.002 and starts at 0.001."""
    options = {**FREE, "min_value": 5e-4, "max_value": 2e-3, "default": 1e-3}

    assert narrowed("Float", options, RATES, 1e-2).options["default"] == 1e-3


NUMBERS = st.floats(0.001, 1000.0)
RANGES: st.SearchStrategy[Range] = st.one_of(
    st.tuples(NUMBERS, NUMBERS, st.sampled_from(["linear", "log"])).map(
        lambda t: FloatRange(low=min(t[:2]), high=max(t[:2]), sampling=t[2])
    ),
    st.tuples(st.integers(1, 900), st.integers(1, 900), st.sampled_from(["linear", "log"])).map(
        lambda t: IntRange(low=min(t[:2]), high=max(t[:2]), sampling=t[2])
    ),
    st.tuples(st.integers(0, 9), st.integers(0, 9)).map(
        lambda t: IntRange(low=2 ** min(t), high=2 ** max(t), sampling="power_of_two")
    ),
    st.lists(st.integers(1, 900), min_size=1, max_size=5).map(lambda v: Choice(values=tuple(v))),
    st.integers(1, 900).map(lambda v: Fixed(value=v)),
)


@st.composite
def declarations(draw: st.DrawFn) -> Declaration:
    """What a user might declare with positive numbers."""
    method = draw(st.sampled_from(["Int", "Float", "Choice"]))
    number: Any = st.integers(1, 1000) if method != "Float" else NUMBERS
    if method == "Choice":
        return Declaration(
            "Choice", {"values": draw(st.lists(number, min_size=1, max_size=6, unique=True))}
        )
    low, high = sorted((draw(number), draw(number)))
    sampling = draw(st.sampled_from(["linear", "log", "reverse_log"]))
    steps = [None, 2, 3, 10] if method == "Int" else [None, 1.5, 2.0, 7.0]
    return Declaration(
        method,
        {
            "min_value": low,
            "max_value": high,
            "step": draw(st.sampled_from(steps)),
            "sampling": sampling,
            "default": draw(st.sampled_from([None, low])),
        },
    )


@settings(max_examples=400, deadline=None)
@given(declarations(), RANGES, st.floats(0, 0.999999), st.data())
def test_no_draw_leaves_either_range(
    declared: Declaration, recommended: Range, u: float, data: st.DataObject
) -> None:
    """KerasTuner's draws and default lie in what the user and, but for scale, the rules allow."""
    value = recommended.from_unit(data.draw(st.floats(0, 1)))
    result = narrow_declaration(declared, recommended, value)
    if result is None:
        return
    hp = keras_tuner.HyperParameters()

    default = getattr(hp, result.method)("x", **result.options)
    drawn = hp.space[0].prob_to_value(u)

    low, high = (recommended.from_unit(0.0), recommended.from_unit(1.0))
    for got in (default, drawn):
        assert declared.allows(got)
        assert result.allows(got)
        assert float(low) * (1 - 1e-9) <= got <= float(high) * (1 + 1e-9)
        if isinstance(recommended, Choice | Fixed):
            assert recommended.contains(got)


@settings(max_examples=200, deadline=None)
@given(declarations())
def test_the_grid_is_that_of_kerastuner(declared: Declaration) -> None:
    """Stepped ranges have the values that KerasTuner draws from."""
    if declared.method == "Choice" or declared.options["step"] is None:
        return
    hp = keras_tuner.HyperParameters()
    getattr(hp, declared.method)("x", **declared.options)

    values = sorted({hp.space[0].prob_to_value(i / 5000) for i in range(5000)})

    listed = declared.values() or []
    assert len(set(listed)) >= len(values)
    assert all(declared.allows(v) for v in values)


def test_log_grids_multiply_and_linear_ones_add() -> None:
    """As KerasTuner documents them."""
    assert grid(2, 32, step=2, sampling="log", whole=True) == [2, 4, 8, 16, 32]
    assert grid(6, 13, step=3, sampling="linear", whole=True) == [6, 9, 12]


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("optimizer.learning_rate", "optimizer.learning_rate"),
        ("lr", "optimizer.learning_rate"),
        ("Learning_Rate", "optimizer.learning_rate"),
        ("units_0", "model.units"),
        ("units1", "model.units"),
        ("dropout_2", "model.dropout"),
        ("head/units", "model.units"),
        ("l1", "optimizer.l1"),
        ("beta_2", "optimizer.beta_2"),
        ("model.units_3", "model.units"),
        ("size", None),
        ("lr_sgd", None),
    ],
)
def test_common_names_are_understood(name: str, canonical: str | None) -> None:
    """Exact names, usual short names, indices and scopes; nothing is guessed."""
    assert canonical_name(name) == canonical


def test_the_users_table_goes_first() -> None:
    """It may map a name, by its scope or not, or leave one alone."""
    names = checked_names({"speed": "learning_rate", "lr": None, "head/units": None})

    assert canonical_name("speed", names) == "optimizer.learning_rate"
    assert canonical_name("lr", names) is None
    assert canonical_name("head/units", names) is None
    assert canonical_name("units", names) == "model.units"


def test_the_users_table_is_checked() -> None:
    """A slip in a canonical name is an error with a guess."""
    with pytest.raises(SettingError, match="Did you mean `optimizer.momentum`"):
        checked_names({"m": "optimizer.momentun"})


def test_every_alias_means_a_hyperparameter() -> None:
    """No alias points nowhere."""
    assert set(ALIASES.values()) <= set(HYPERPARAMETERS)
