"""Configurations and points of the unit cube stand for each other; densities are those of priors."""

from __future__ import annotations

import math
import random
from typing import Any

import keras_tuner
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.errors import OptionError
from smarttune.oracles import RandomOracle, _domain
from smarttune.oracles._cube import DENSITY_FLOOR, Cube
from smarttune.space import NormalPrior, WeightsPrior

from .contract import space


def everything() -> Any:
    """Every kind of hyperparameter, a constant parent, and one name with two ranges."""
    hp = keras_tuner.HyperParameters()
    hp.Int("plain", 3, 9)
    hp.Int("stepped", 0, 10, step=5)
    hp.Int("log", 1, 40, sampling="log")
    hp.Int("many", 1, 100_000)
    hp.Float("linear", -1.0, 1.0)
    hp.Float("tenths", 0.0, 1.0, step=0.1)
    hp.Float("reverse", 0.5, 0.999, sampling="reverse_log")
    hp.Choice("ordered", [30, 10, 20])
    hp.Choice("unordered", [3, 1, 2], ordered=False)
    hp.Boolean("flag")
    hp.Fixed("fixed", "yes")
    with hp.conditional_scope("fixed", ["yes"]):
        hp.Choice("kind", ["a", "b", "c"])
        with hp.conditional_scope("kind", ["a"]):
            hp.Float("rate", 0.0, 1.0)
        with hp.conditional_scope("kind", ["b"]):
            hp.Float("rate", 1e-4, 1e-1, sampling="log")
    with hp.conditional_scope("plain", [3, 4, 5]):
        hp.Float("deep", 0.0, 1.0)
    return hp


EVERYTHING = everything()
CUBE = Cube(EVERYTHING.space)


def drawn(seed: int) -> dict[str, Any]:
    """A configuration as random search draws it."""
    oracle = RandomOracle("val_loss", hyperparameters=EVERYTHING, persist=False)
    return oracle.draw(random.Random(seed), use_priors=False)


@given(st.integers(0, 10**6))
def test_configurations_are_found_again(seed: int) -> None:
    """A configuration's point leads back to it, through every kind of hyperparameter."""
    values = drawn(seed)
    back = CUBE.decode(CUBE.encode([values]).u[0])
    assert back.keys() == values.keys()
    for name, value in values.items():
        assert back[name] == (pytest.approx(value) if isinstance(value, float) else value)
    assert [type(back[n]) for n in values] == [type(v) for v in values.values()]


@given(st.integers(0, 10**6))
def test_snapped_draws_are_points_of_configurations(seed: int) -> None:
    """Draws become the very points of the configurations that they stand for."""
    points = CUBE.draw(np.random.default_rng(seed), 5)
    again = CUBE.encode([CUBE.decode(row) for row in points.u])
    np.testing.assert_allclose(again.u, points.u, atol=1e-4)


def test_positions_are_those_of_draws() -> None:
    """The position of a value is one from which `draw` leads to it."""
    for values in map(drawn, range(50)):
        row = CUBE.unit(CUBE.encode([values]))[0]
        for name in ("plain", "stepped", "log", "ordered", "unordered", "flag"):
            hp = next(hp for hp in EVERYTHING.space if hp.name == name)
            assert _domain.draw(hp, row[CUBE.names.index(name)]) == values[name]


def test_branches_have_dimensions_of_their_own() -> None:
    """Of a name with two ranges the active one has a position; inactive ones are nan."""
    first, second = (i for i, name in enumerate(CUBE.names) if name == "rate")
    base = {**drawn(0), "plain": 9}
    rows = CUBE.encode(
        [{**base, "kind": "a", "rate": 0.25}, {**base, "kind": "b", "rate": 1e-2}, {"kind": "c"}]
    ).u
    assert rows[0, first] == 0.25
    assert rows[1, second] == pytest.approx(2 / 3)
    assert np.isnan(rows[[0, 1, 2, 2], [second, first, first, second]]).all()
    assert np.isnan(rows[:, CUBE.names.index("deep")]).all()


def test_of_two_ranges_that_both_apply_the_first_holds() -> None:
    """Where the conditions of two ranges of one name overlap, draws and values use the first."""
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["a", "b"])
    with hp.conditional_scope("kind", ["a"]):
        hp.Float("rate", 0.0, 1.0)
    with hp.conditional_scope("kind", ["a", "b"]):
        hp.Float("rate", 2.0, 3.0)
    cube = Cube(hp.space)
    points = cube.draw(np.random.default_rng(0), 20)
    assert (np.isnan(points.u[:, 1:]).sum(axis=1) == 1).all()
    for row in points.u:
        values = cube.decode(row)
        assert (values["rate"] <= 1) == (values["kind"] == "a")
        np.testing.assert_allclose(cube.encode([values]).u[0], row)


def test_constants_have_no_dimension() -> None:
    """What has one value only is no column, yet is decoded and fulfils conditions."""
    assert "fixed" not in CUBE.names
    assert CUBE.decode(CUBE.draw(np.random.default_rng(0), 1).u[0])["fixed"] == "yes"
    assert CUBE.categorical[CUBE.names.index("flag")]
    assert not CUBE.categorical[CUBE.names.index("ordered")]


def test_values_outside_are_told() -> None:
    """A value that its range or choice does not hold is told apart from one that it holds."""
    cube = Cube(space().space)
    inside = {"x": 0.5, "units": 64, "optimizer": "sgd", "momentum": 0.9}
    assert cube.contains(inside)
    assert cube.contains({**inside, "rate": 9.0})  # inactive
    for wrong in ({"x": 1.5}, {"x": "big"}, {"optimizer": "lion"}, {"momentum": 0.1}):
        assert not cube.contains({**inside, **wrong})


@given(st.floats(0, 1), st.floats(0.01, 2))
def test_log_prior_is_the_log_of_the_density(center: float, spread: float) -> None:
    """The log density is the sum of the logs of the priors' own densities, floored."""
    priors = {
        "linear": NormalPrior(center=center, spread=spread),
        "kind": WeightsPrior(weights=(0.7, 0.3, 0.0)),
        "rate": NormalPrior(center=0.5, spread=0.3),
    }
    points = CUBE.draw(np.random.default_rng(1), 20)
    unit = CUBE.unit(points)
    for row, found in zip(unit, CUBE.log_prior(points, priors), strict=True):
        expected = sum(
            math.log(max(priors[name].density(u), DENSITY_FLOOR))
            for name, u in zip(CUBE.names, row, strict=True)
            if name in priors and not math.isnan(u)
        )
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_without_priors_the_log_density_is_zero() -> None:
    """No prior adds nothing."""
    points = CUBE.draw(np.random.default_rng(0), 5)
    assert CUBE.log_prior(points, {}).tolist() == [0.0] * 5


def test_draws_follow_priors() -> None:
    """Draws from a narrow prior lie around its centre, and weights decide on choices."""
    priors = {
        "linear": NormalPrior(center=0.8, spread=0.01),
        "kind": WeightsPrior(weights=(0.0, 1.0, 0.0)),
    }
    points = CUBE.draw(np.random.default_rng(0), 100, priors)
    assert abs(points.u[:, CUBE.names.index("linear")] - 0.8).max() < 0.05
    assert set(points.u[:, CUBE.names.index("kind")]) == {1.0}
    mode = CUBE.decode(CUBE.mode(priors).u[0])
    assert (mode["linear"], mode["kind"]) == (pytest.approx(0.6), "b")


def test_weights_that_do_not_fit_are_refused() -> None:
    """A prior with a weight too many is an error."""
    with pytest.raises(OptionError, match="has 4 weights"):
        CUBE.draw(np.random.default_rng(0), 1, {"kind": WeightsPrior(weights=(1, 1, 1, 1))})
