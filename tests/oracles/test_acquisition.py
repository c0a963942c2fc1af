"""The expected improvement is right in all its range, and its search finds where it is large."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from smarttune.oracles._acquisition import (
    FAR,
    log_expected_improvement,
    log_h,
    neighbours,
    search,
)
from smarttune.oracles._cube import Cube
from smarttune.space import NormalPrior

from .contract import space

CUBE = Cube(space().space)


@given(st.floats(-3, 3), st.floats(0.05, 3), st.floats(-3, 3))
def test_expected_improvement_is_the_integral(mean: float, std: float, best: float) -> None:
    """Its exponential equals the improvement integrated over the normal distribution."""
    found = log_expected_improvement(np.array([mean]), np.array([std]), best)[0]
    low = min(mean - 40 * std, best)
    points = [p for p in (mean - 5 * std, mean, mean + 5 * std) if low < p < best]
    expected, _ = quad(
        lambda y: (best - y) * norm.pdf(y, mean, std), low, best, points=points, epsabs=0
    )
    if expected > 1e-250:
        assert found == pytest.approx(math.log(expected), rel=1e-6, abs=1e-6)


@given(st.floats(-1e12, 30), st.floats(1e-6, 1))
def test_it_grows_with_the_mean_everywhere(z: float, factor: float) -> None:
    """It stays finite and grows however far the best score is."""
    step = factor * max(1.0, abs(z))
    near, far = log_h(np.array([z + step, z]))
    assert math.isfinite(far)
    assert near > far


@pytest.mark.parametrize("border", [-1.0, FAR])
def test_its_formulas_meet(border: float) -> None:
    """Where one formula hands over to the next there is no jump."""
    left, right = log_h(border * np.array([1 + 1e-9, 1 - 1e-9]))
    assert left == pytest.approx(right, rel=1e-7)


def test_far_away_it_is_the_tail_of_the_density() -> None:
    """Far below, it is the log of the density less twice the log of the distance."""
    z = -1e8  # the square is told apart from its neighbours by 1 only
    assert log_h(np.array([z]))[0] + z**2 / 2 == pytest.approx(-2 * math.log(1e8) - 0.92, abs=2)


@pytest.mark.parametrize("wanted", ["sgd", "adam"])
def test_search_finds_a_narrow_peak(wanted: str) -> None:
    """A peak far narrower than the spacing of draws is found, in either branch."""
    branch = {"sgd": "momentum", "adam": "rate"}[wanted]
    columns = [CUBE.names.index(name) for name in ("x", branch)]
    code = float(["adam", "sgd"].index(wanted))

    def gain(points):
        distance = np.abs(points.u[:, columns] - 0.62).sum(axis=1)
        wrong = points.u[:, CUBE.names.index("optimizer")] != code
        return np.where(wrong, -9.0, -np.nan_to_num(distance, nan=9.0))

    known = CUBE.draw(np.random.default_rng(1), 3)
    found = search(CUBE, gain, known, np.random.default_rng(0), {})
    values = CUBE.decode(found.u[0])
    assert values["optimizer"] == wanted
    assert gain(found.take([0]))[0] > -0.01
    assert (np.diff(gain(found)) <= 0).all()


def test_search_repeats_itself() -> None:
    """The same draws give the same points."""
    known = CUBE.draw(np.random.default_rng(1), 3)
    one, other = (
        search(CUBE, lambda p: -p.u[:, 0], known, np.random.default_rng(0), {}).u for _ in range(2)
    )
    np.testing.assert_array_equal(one, other)


def test_search_draws_from_priors() -> None:
    """Where nothing promises more than anything else, half of what is drawn follows the priors."""
    priors = {"x": NormalPrior(center=0.9, spread=1e-4)}
    known = CUBE.draw(np.random.default_rng(1), 1)
    shares = [
        np.mean(
            np.abs(
                search(CUBE, lambda p: np.zeros(len(p)), known, np.random.default_rng(0), given).u[
                    :, 0
                ]
                - 0.9
            )
            < 1e-3
        )
        for given in ({}, priors)
    ]
    assert shares[0] < 0.05
    assert shares[1] > 0.25


def test_neighbours_are_near_and_move() -> None:
    """Each neighbour differs from its centre or has another branch; numbers move a little."""
    centers = CUBE.draw(np.random.default_rng(2), 4)
    near = neighbours(CUBE, centers, np.random.default_rng(0), step=0.01)
    column = CUBE.names.index("x")
    origin = np.repeat(centers.u[:, column], len(near) // len(centers))
    assert np.abs(near.u[:, column] - origin).max() < 0.05
    assert 0.1 < np.mean(near.u[:, column] != origin) < 0.9
    values = [CUBE.decode(row) for row in near.u]
    assert all(("rate" in v) == (v["optimizer"] == "adam") for v in values)
