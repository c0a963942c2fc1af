"""Our spaces as KerasTuner hyperparameters."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import keras_tuner
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarttune.errors import RangeError
from smarttune.models import declare
from smarttune.space import Choice, Dimension, Fixed, FloatRange, SearchSpace, Value
from tests.models.tables import small_space

# KerasTuner 1.4.8 asks for the current thread by names that Python 3.10 deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:getName:DeprecationWarning"),
]


def test_the_first_values_are_the_recommended_ones() -> None:
    """Declaring on fresh hyperparameters returns the space's default."""
    space = small_space()

    values = declare(keras_tuner.HyperParameters(), space)

    assert values == space.default


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_every_draw_is_a_configuration_of_the_space(seed: int) -> None:
    """Whatever KerasTuner draws, the active values form a complete configuration."""
    space = small_space()
    hp = keras_tuner.HyperParameters()
    declare(hp, space)
    rng = random.Random(seed)
    for entry in hp.space:
        hp.values.pop(entry.name, None)
        if hp.is_active(entry):
            hp.values[entry.name] = entry.random_sample(rng.random())

    values = declare(hp, space)

    assert space.contains(values)


def test_powers_of_two_stay_powers_of_two() -> None:
    """The grid that KerasTuner sees is the range's own."""
    hp = keras_tuner.HyperParameters()

    declare(hp, small_space(), ["model.units"])

    assert list(hp.space[0].values) == [16, 32, 64, 128]


def test_a_condition_becomes_a_conditional_scope() -> None:
    """The child is registered under its parent's values that are possible, and inactive."""
    hp = keras_tuner.HyperParameters()

    values = declare(hp, small_space())

    child = next(entry for entry in hp.space if entry.name == "optimizer.l1")
    assert child.conditions[0].values == ["l1"]
    assert "optimizer.l1" not in values


def test_a_condition_that_cannot_hold_declares_nothing() -> None:
    """A child whose parent is fixed at another value is left out."""
    space = small_space()
    fixed = [
        d.model_copy(update={"range": Fixed(value="l2"), "value": "l2"})
        if d.name == "optimizer.regularization"
        else d
        for d in space.dimensions
    ]
    hp = keras_tuner.HyperParameters()

    declare(hp, SearchSpace(dimensions=tuple(fixed)))

    assert "optimizer.l1" not in [entry.name for entry in hp.space]


def test_a_parent_that_is_left_out_counts_with_its_recommended_value() -> None:
    """With the parent at `none`, its child is not declared."""
    hp = keras_tuner.HyperParameters()

    values = declare(hp, small_space(), ["optimizer.l1", "model.dropout"])

    assert values == {"model.dropout": 0.1}


def test_a_choice_of_integers_and_floats_becomes_one_of_floats() -> None:
    """KerasTuner wants one type for all values."""
    dimension = Dimension(name="optimizer.clipnorm", range=Choice(values=(0, 0.5, 1)), value=1)

    values = declare(keras_tuner.HyperParameters(), SearchSpace(dimensions=(dimension,)))

    assert values == {"optimizer.clipnorm": 1.0}


def test_a_choice_of_numbers_and_names_is_refused() -> None:
    """The error names the hyperparameter."""
    dimension = Dimension(name="optimizer.clipnorm", range=Choice(values=(1, "off")), value=1)

    with pytest.raises(RangeError, match=r"optimizer\.clipnorm.*mixes kinds"):
        declare(keras_tuner.HyperParameters(), SearchSpace(dimensions=(dimension,)))


def test_conditions_may_depend_on_each_other_or_not(tmp_path: Path) -> None:
    """A grandchild and a child of two independent parents are found and drawn by a tuner."""
    flag = Choice(values=(False, True))
    rate = FloatRange(low=0.1, high=0.9)
    space = SearchSpace(
        dimensions=(
            Dimension(name="a", range=flag, value=False),
            Dimension(name="b", range=flag, value=False),
            Dimension(name="c", range=flag, value=False, active_when={"a": (True,)}),
            Dimension(name="d", range=rate, value=0.5, active_when={"c": (True,)}),
            Dimension(name="e", range=rate, value=0.5, active_when={"a": (True,), "b": (True,)}),
        )
    )
    seen: list[dict[str, Value]] = []

    class Recorder(keras_tuner.Tuner):
        """Declares the space and scores by nothing."""

        def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> float:
            """Keep the values of the trial."""
            seen.append(declare(trial.hyperparameters, space))
            return 0.0

    oracle = keras_tuner.oracles.RandomSearchOracle(
        objective=keras_tuner.Objective("loss", "min"), max_trials=30, seed=1
    )
    tuner = Recorder(
        oracle=oracle,
        hypermodel=lambda hp: declare(hp, space),
        directory=tmp_path,
        project_name="p",
    )
    tuner.search(verbose=0)

    assert all(space.contains(values) for values in seen)
    assert {"d", "e"} <= {name for values in seen for name in values}
