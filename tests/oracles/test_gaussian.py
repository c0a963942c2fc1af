"""The Gaussian process predicts as others do, and knows choices, branches and bad scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from smarttune.oracles import _gaussian
from smarttune.oracles._cube import Points
from smarttune.oracles._gaussian import (
    Kernel,
    Posterior,
    ScheduledFit,
    draw_in,
    fit,
    learn,
    learning_size,
)


def numeric(u: np.ndarray) -> Points:
    """Points without choices."""
    return Points(u, (False,) * u.shape[1])


def mixed(rng: np.random.Generator, count: int) -> Points:
    """Points with a number, a choice, and a number that one choice leaves inactive."""
    code = rng.integers(3, size=count).astype(float)
    third = np.where(code == 2, np.nan, rng.random(count))
    return Points(np.column_stack([rng.random(count), code, third]), (False, True, False))


def bowl(u: np.ndarray) -> np.ndarray:
    """A smooth function of two numbers."""
    return np.asarray(np.sin(3 * u[:, 0]) + u[:, 1] ** 2)


@pytest.mark.parametrize("with_fidelity", [False, True])
def test_predictions_equal_those_of_scikit_learn(with_fidelity: bool) -> None:
    """With one kernel both give the same means and deviations, inactive dimensions included."""
    rng = np.random.default_rng(0)
    u = rng.random((40, 3))
    u[::4, 2] = np.nan
    y = 5 + 3 * rng.standard_normal(40)
    shares = rng.uniform(0.1, 1, 40) if with_fidelity else None
    kernel = Kernel((0.3, 0.8, 0.5), 1.7, 0.05, 2.0 if with_fidelity else None)
    model = fit(numeric(u[:25]), y[:25], fidelity=_part(shares, 25), kernel=kernel, robust=False)
    mean, std = model.predict(numeric(u[25:]), None if shares is None else shares[25:])

    # The same distances, written as coordinates: an arc around the centre.
    arcs = np.nan_to_num(np.concatenate([np.cos(u), np.sin(u)], axis=1))
    lengths = [0.3, 0.8, 0.5] * 2
    if shares is not None:
        arcs, lengths = np.column_stack([arcs, np.log(shares)]), [*lengths, 2.0]
    theirs = GaussianProcessRegressor(
        ConstantKernel(1.7) * Matern(lengths, nu=2.5), alpha=0.05, optimizer=None, normalize_y=True
    ).fit(arcs[:25], y[:25])
    their_mean, their_std = theirs.predict(arcs[25:], return_std=True)
    np.testing.assert_allclose(mean, their_mean, rtol=1e-6)
    np.testing.assert_allclose(std, their_std, rtol=1e-6)


def _part(shares: np.ndarray | None, count: int) -> np.ndarray | None:
    return None if shares is None else shares[:count]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_gradient_is_that_of_the_posterior(seed: int) -> None:
    """The gradient of every hyperparameter agrees with finite differences."""
    rng = np.random.default_rng(seed)
    sites = _gaussian._Sites.of(mixed(rng, 12), rng.uniform(0.1, 1, 12))
    posterior = Posterior(sites, rng.standard_normal(12))
    theta = posterior.starts[seed % 2] + 0.3 * rng.standard_normal(6)
    theta[-1] = -2.0
    slopes = approx_fprime(theta, lambda t: posterior(t)[0], 1e-6)
    np.testing.assert_allclose(posterior(theta)[1], slopes, rtol=1e-3, atol=1e-4)


def test_learning_climbs_the_posterior() -> None:
    """The learnt kernel is at least as probable as both starts and kernels around it."""
    rng = np.random.default_rng(0)
    points = mixed(rng, 30)
    y = np.nan_to_num(points.u).sum(axis=1)
    targets = (y - y.mean()) / y.std()
    posterior = Posterior(_gaussian._Sites.of(points, None), targets)
    kernel = learn(points, y, robust=False)
    theta = np.log([kernel.lengths[0], kernel.lengths[2], kernel.lengths[1]])
    theta = np.append(theta, np.log([kernel.signal, kernel.noise]))
    found = posterior(theta)[0]
    assert all(found <= posterior(start)[0] for start in posterior.starts)
    low, high = np.array(posterior.bounds).T
    for _ in range(20):
        beside = np.clip(theta + 0.2 * rng.standard_normal(5), low, high)
        assert found <= posterior(beside)[0] + 1e-3


def test_scores_without_noise_are_interpolated() -> None:
    """At the points themselves the score is met, and it is surer there than elsewhere."""
    u = np.random.default_rng(0).random((30, 2))
    model = fit(numeric(u), bowl(u))
    mean, std = model.predict(numeric(u))
    better = bowl(u) <= np.median(bowl(u))
    np.testing.assert_allclose(mean[better], bowl(u)[better], atol=0.01)
    assert std.max() < model.predict(numeric(np.array([[2.0, -1.0]])))[1][0]


def test_unseen_scores_are_foretold() -> None:
    """Between the points most scores lie within two deviations, near their means."""
    rng = np.random.default_rng(1)
    u, new = rng.random((40, 2)), rng.random((200, 2))
    mean, std = fit(numeric(u), bowl(u), robust=False).predict(numeric(new))
    error = np.abs(mean - bowl(new))
    assert np.sqrt(np.mean(error**2)) < 0.05 * bowl(new).std()
    assert np.mean(error < 2 * std) > 0.8


def test_units_of_scores_do_not_matter() -> None:
    """Scores in other units are foretold in those units."""
    rng = np.random.default_rng(1)
    u, new = rng.random((20, 2)), numeric(rng.random((5, 2)))
    mean, std = fit(numeric(u), bowl(u)).predict(new)
    other, wide = fit(numeric(u), 1000 * bowl(u) - 7).predict(new)
    np.testing.assert_allclose(other, 1000 * mean - 7, rtol=1e-6)
    np.testing.assert_allclose(wide, 1000 * std, rtol=1e-5)


def test_choices_differ_by_their_scores() -> None:
    """A choice seen to be bad is foretold as bad where only others were tried."""
    rng = np.random.default_rng(0)
    points = mixed(rng, 40)
    y = points.u[:, 0] + np.where(points.u[:, 1] == 1, 1.0, 0.0)
    ask = Points(np.array([[0.5, 0.0, 0.3], [0.5, 1.0, 0.3]]), points.categorical)
    good, bad = fit(points, y, robust=False).predict(ask)[0]
    assert (good, bad) == (pytest.approx(0.5, abs=0.1), pytest.approx(1.5, abs=0.1))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 20))
def test_kernels_are_valid(seed: int, length: float) -> None:
    """No set of points, inactive dimensions among them, has a negative variance."""
    points = mixed(np.random.default_rng(seed), 30)
    sites = _gaussian._Sites.of(points, None)
    covariance = _gaussian._covariance(Kernel((length,) * 3, 1.0, 1e-6), sites, sites)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9
    np.testing.assert_allclose(np.diag(covariance), 1.0)


def test_inactive_dimensions_are_equally_far() -> None:
    """Both inactive are the same point; one inactive is as far from any active position."""
    u = np.array([[np.nan], [0.0], [0.5], [1.0]])
    sites = _gaussian._Sites.of(numeric(u), None)
    row = _gaussian._covariance(Kernel((1.0,), 1.0, 1e-6), sites, sites)[0]
    assert row[0] == 1.0
    assert row[1] == pytest.approx(row[2]) == pytest.approx(row[3])
    assert row[1] < 0.6


def test_a_huge_loss_leaves_differences_among_good_ones() -> None:
    """With one loss of 1e6 among forty the good region is still foretold; without robustness not."""
    rng = np.random.default_rng(0)
    u, new = rng.random((40, 2)), rng.random((50, 2))
    y = bowl(u)
    y[np.argmax(u.sum(axis=1))] = 1e6
    new = new[bowl(new) < np.median(y)]
    robust, plain = (
        np.abs(fit(numeric(u), y, robust=flag).predict(numeric(new))[0] - bowl(new)).mean()
        for flag in (True, False)
    )
    assert robust < 0.1
    assert plain > 10 * robust


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_drawing_in_keeps_order_and_the_better_half(y: list[float]) -> None:
    """Scores up to the median stay, worse ones keep their order and come no nearer than it."""
    scores = np.array(y)
    drawn, middle = draw_in(scores), np.median(scores)
    np.testing.assert_array_equal(drawn[scores <= middle], scores[scores <= middle])
    assert (np.diff(drawn[np.argsort(scores, kind="stable")]) >= 0).all()
    if scores.min() < middle:
        assert drawn.max() <= middle + _gaussian.WORST * (middle - scores.min()) * (1 + 1e-9)


def test_equal_scores_are_no_problem() -> None:
    """From scores that are all the same the same is foretold."""
    u = np.random.default_rng(0).random((5, 2))
    mean, std = fit(numeric(u), np.full(5, 3.0)).predict(numeric(u[:2] / 2))
    np.testing.assert_allclose(mean, 3.0)
    assert (std > 0).all()


def test_imagined_scores_change_no_mean() -> None:
    """Around imagined points the mean stays and the deviation falls."""
    rng = np.random.default_rng(0)
    u, asked = rng.random((15, 2)), numeric(np.array([[0.9, 0.9], [0.85, 0.95]]))
    model = fit(numeric(u), bowl(u))
    imagining = model.imagining(asked.take(slice(0, 1)))
    np.testing.assert_allclose(imagining.predict(asked)[0], model.predict(asked)[0], rtol=1e-6)
    assert (imagining.predict(asked)[1] < 0.9 * model.predict(asked)[1]).all()


def test_fidelity_moves_predictions() -> None:
    """Scores of short trainings are foretold as such, and the full one where none is asked."""
    rng = np.random.default_rng(0)
    u, shares = rng.random((60, 1)), rng.choice([1 / 27, 1 / 9, 1 / 3, 1.0], 60)
    y = u[:, 0] - 0.3 * np.log(shares)
    model = fit(numeric(u), y, fidelity=shares, robust=False)
    ask = numeric(np.array([[0.5]]))
    assert model.predict(ask)[0][0] == pytest.approx(0.5, abs=0.05)
    short = model.predict(ask, np.array([1 / 9]))[0][0]
    assert short == pytest.approx(0.5 + 0.3 * np.log(9), abs=0.05)


def test_scheduled_fits_forget_and_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new fitter gives what an old one gives, which learns one kernel per scheduled size."""
    u = np.random.default_rng(0).random((30, 2))
    learnt = []
    monkeypatch.setattr(
        _gaussian,
        "learn",
        lambda points, *a, **k: learnt.append(len(points)) or learn(points, *a, **k),
    )
    old = ScheduledFit()
    for n in range(20, 31):
        kernel = old.fit(numeric(u[:n]), bowl(u[:n])).kernel
    assert learnt == [19, 21, 24, 27, 30]
    assert ScheduledFit().fit(numeric(u), bowl(u)).kernel == kernel
    changed = bowl(u) + np.eye(30)[20]
    assert old.fit(numeric(u), changed).kernel != kernel


@given(st.integers(1, 2000))
def test_kernels_are_learnt_from_recent_data(num_rows: int) -> None:
    """The rows that a kernel is learnt from are at most a tenth and one row behind."""
    assert num_rows / 1.1 - 1 <= learning_size(num_rows) <= num_rows
    assert learning_size(learning_size(num_rows)) == learning_size(num_rows)
