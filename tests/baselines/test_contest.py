"""What every baseline shares: it never breaks a search, and its answers have a network's form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.baselines import Contest
from smarttune.baselines.contest import (
    Allowance,
    Made,
    Recipe,
    Unsuited,
    all_classes,
    as_outputs,
    few_threads,
)
from smarttune.models import TargetCodec
from tests.baselines.contests import Clock, contest_of, mixed_table


@pytest.fixture(scope="module")
def contest() -> Contest:
    """A small question."""
    return contest_of(*mixed_table("binary", rows=40))


def tried(contest: Contest, made: Any) -> Made:
    """What comes of a recipe that returns or raises."""

    def make(contest: Contest, allowance: Allowance) -> Made:
        if isinstance(made, Exception):
            raise made
        result: Made = made
        return result

    return Recipe("x", "strong", "tries", make).tried(contest, 1.0).made


def test_failures_become_notes(contest: Contest) -> None:
    """A baseline that fails or does not suit says why in its note, and raises nothing."""
    assert tried(contest, Unsuited("No column.")) == Made(note="No column.")
    note = tried(contest, ValueError("bad shape")).note
    assert note == "It could not be fitted (ValueError: bad shape)."


def test_unusable_answers_become_notes(contest: Contest) -> None:
    """Answers for too few rows, or that are no numbers, are not scored."""
    rows = len(contest.split.test)
    good = np.zeros((rows, 1))
    assert tried(contest, Made(good)).outputs is good
    for bad in (good[1:], np.full((rows, 1), np.nan), np.full((rows, 1), np.inf)):
        made = tried(contest, Made(bad))
        assert made.outputs is None
        assert "no usable answer" in made.note


def test_the_library_is_named_with_its_version(contest: Contest) -> None:
    """Reports can tell which version of a package fitted a baseline."""
    recipe = Recipe("x", "strong", "tries", lambda c, a: Made(), library="scikit-learn")

    name, version = recipe.tried(contest, 1.0).library.split()

    assert name == "scikit-learn"
    assert version[0].isdigit()


def test_an_allowance_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left falls as time passes, below zero when overdrawn."""
    clock = Clock()
    monkeypatch.setattr("smarttune.baselines.contest.time", clock)
    allowance = Allowance(5.0)

    clock.now = 3.0
    assert allowance.left == 2.0
    clock.now = 6.0
    assert allowance.left == -1.0


CODECS = {
    "binary": TargetCodec.fit(pd.Series(["n", "y", "y"]), "binary", ("n", "y"), {}),
    "multiclass": TargetCodec.fit(pd.Series(list("aab")), "multiclass", ("a", "b", "c"), {}),
    "multilabel": TargetCodec.fit(pd.DataFrame({"p": [0, 1], "q": [1, 1]}), "multilabel", (), {}),
}


@pytest.mark.parametrize("problem", CODECS)
@given(raw=st.lists(st.floats(1e-6, 1.0), min_size=6, max_size=6))
def test_outputs_are_the_logits_of_the_shares(problem: str, raw: list[float]) -> None:
    """The target encoding turns outputs back into the probabilities that a model gave."""
    codec = CODECS[problem]
    width = 3 if problem == "multiclass" else 2
    shares = np.array(raw)[: 2 * width].reshape(2, width)
    if problem != "multilabel":
        shares /= shares.sum(axis=1, keepdims=True)

    outputs = as_outputs(codec, shares)

    assert outputs.shape == (2, codec.num_outputs)
    assert codec.probabilities(outputs) == pytest.approx(shares, abs=1e-5)


def test_certainty_has_finite_outputs() -> None:
    """A probability of 0 or 1 does not become an infinite logit."""
    for problem, codec in CODECS.items():
        width = 3 if problem == "multiclass" else 2
        assert np.isfinite(as_outputs(codec, np.eye(width))).all()


@dataclass
class Seen:
    """A classifier that has seen some classes."""

    classes_: np.ndarray


def test_classes_that_training_lacks_keep_their_prior() -> None:
    """Absent classes have the share of the target encoding, the others share the rest."""
    codec = CODECS["multiclass"]  # two of a, one of b, none of c

    shares = all_classes(Seen(np.array([0, 1])), np.array([[0.9, 0.1], [0.5, 0.5]]), codec)

    assert shares.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert shares[:, 2] == pytest.approx([codec.priors()[2]] * 2)
    assert shares[0, 0] == pytest.approx(9 * shares[0, 1])


def test_threads_are_few() -> None:
    """scikit-learn has at most half of the cores inside, and what it had before outside."""
    import sklearn.utils  # noqa: F401
    from threadpoolctl import threadpool_info

    def widest() -> int:
        return max(pool["num_threads"] for pool in threadpool_info())

    before = widest()
    with few_threads():
        assert widest() <= max(1, before // 2)
    assert widest() == before


def test_rows_are_drawn_alike(contest: Contest) -> None:
    """The same rows for the same seed, rising, and all where they are few."""
    rows = contest.split.train
    few = contest.drawn(rows, 5)

    assert np.array_equal(few, contest.drawn(rows, 5))
    assert len(few) == 5
    assert (np.diff(few) > 0).all()
    assert set(few) <= set(rows)
    assert contest.drawn(rows, len(rows)) is rows
