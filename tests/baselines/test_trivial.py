"""Trivial baselines are the best answers that look at no input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from smarttune.baselines import Contest, baselines_for
from smarttune.baselines.contest import Allowance
from smarttune.baselines.trivial import (
    class_shares,
    mean_target,
    median_target,
    pixel_frequencies,
    token_frequencies,
)
from smarttune.data import Split
from smarttune.models import TargetCodec
from smarttune.tuning.comparing import metrics_of
from tests.baselines.contests import contest_of, mixed_table, two_amounts

ENOUGH = Allowance(60.0)


def scores(contest: Contest, make: Any) -> dict[str, float]:
    """Test metrics of a baseline."""
    outputs = make(contest, ENOUGH).outputs
    return metrics_of(contest.codec, outputs, contest.encoded(contest.split.test))


@pytest.mark.parametrize("problem", ["binary", "multiclass"])
def test_class_shares_have_the_loss_of_the_prior(problem: str) -> None:
    """Their cross-entropy is that of the training shares, their accuracy that of one class."""
    contest = contest_of(*mixed_table(problem))
    found = scores(contest, class_shares)
    truth = contest.encoded(contest.split.test).reshape(-1).astype(int)
    prior = contest.codec.priors()

    assert found["crossentropy"] == pytest.approx(-np.log(prior[truth]).mean(), rel=1e-6)
    assert found["accuracy"] == pytest.approx((truth == prior.argmax()).mean())


def test_label_shares_have_the_loss_of_each_label() -> None:
    """With several labels the share of each by itself is the answer."""
    contest = contest_of(*mixed_table("multilabel"))
    truth, p = contest.encoded(contest.split.test), contest.codec.priors()

    found = scores(contest, class_shares)["crossentropy"]

    assert found == pytest.approx(-(truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean())


@pytest.mark.parametrize("transform", ["none", "standardize", "log1p_standardize"])
def test_mean_and_median_are_those_of_the_raw_target(transform: str) -> None:
    """Whatever the network's units, no constant has a smaller error on the training rows."""
    settings = {"model.target_transform": transform}
    contest = contest_of(*mixed_table("regression"), settings=settings)
    assert contest.dataset.target is not None
    train = contest.dataset.target.iloc[contest.split.train]

    for make, middle in ((mean_target, train.mean()), (median_target, train.median())):
        outputs = make(contest, ENOUGH).outputs
        assert outputs is not None
        assert contest.codec.raw_units(outputs) == pytest.approx(middle, rel=1e-5)


def test_several_outputs_have_a_mean_each() -> None:
    """Two targets of different size are answered by their own means."""
    contest, y = two_amounts()

    outputs = mean_target(contest, ENOUGH).outputs

    assert outputs is not None
    assert contest.codec.raw_units(outputs)[0] == pytest.approx(
        y.iloc[contest.split.train].mean().to_numpy(), rel=1e-5
    )


def dense_contest(targets: np.ndarray, problem: Any, num_classes: int) -> Contest:
    """A question with a class for every place: 4 training rows, 1 to validate, 2 to test."""
    base = contest_of(*mixed_table("binary", rows=40))
    codec = TargetCodec(problem=problem, names=("y",), classes=tuple(range(num_classes)))
    parts = Split(np.arange(4), np.array([4]), np.array([5, 6]))
    values: dict[str, Any] = {**vars(base), "codec": codec, "split": parts}
    return Contest(**{**values, "targets": lambda rows: targets[rows]})


def test_tokens_come_as_often_as_in_training() -> None:
    """Unigrams give each token its training frequency and predict the commonest."""
    targets = np.array([[0, 0, 1]] * 4 + [[2, 2, 2]] + [[0, 1, 1], [0, 0, 2]])
    contest = dense_contest(targets, "language_model", 3)

    outputs = token_frequencies(contest, ENOUGH).outputs

    assert outputs is not None
    shares = np.array([8.5, 4.5, 0.5]) / 13.5  # half a count for each
    assert outputs[..., 0] == pytest.approx(np.log(shares[targets[5:]]), rel=1e-5)
    assert (outputs[..., 1] == 0).all()


def test_pixels_have_frequencies_of_their_own() -> None:
    """Each place is answered by what was commonest there in training."""
    targets = np.array([[[0, 1]]] * 3 + [[[1, 1]]] * 2 + [[[0, 0]], [[0, 1]]])
    contest = dense_contest(targets, "segmentation", 2)

    outputs = pixel_frequencies(contest, ENOUGH).outputs

    assert outputs is not None
    assert outputs[..., 1].tolist() == [[[0, 1]]] * 2
    assert np.exp(outputs[0, 0, :, 0]) == pytest.approx([3.5 / 5, 0.5 / 5])
    assert metrics_of(contest.codec, outputs, targets[5:])["accuracy"] == 0.75


def test_every_learnt_problem_has_a_trivial_baseline() -> None:
    """No report lacks something that the network must beat."""
    for problem in ("binary", "multiclass", "multilabel", "regression"):
        contest = contest_of(*mixed_table(problem, rows=60))
        made = baselines_for(contest, seconds=5.0)
        assert made[0].role == "trivial"
        assert made[0].made.outputs is not None
