"""Answers that look at no input: shares of the classes, means, the commonest token."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from smarttune.baselines.contest import Allowance, Contest, Made, Recipe, as_outputs

# ours: half a count for classes that the training rows lack, as in the target encoding.
_PRIOR = 0.5
# ours: enough to know frequencies, and few enough to hold.
_MOST_PLACES = 20_000_000


def class_shares(contest: Contest, allowance: Allowance) -> Made:
    """Every class with its share of the training rows; the largest one is the prediction."""
    codec = contest.codec
    shares = codec.priors()
    rows = np.broadcast_to(shares, (len(contest.split.test), len(shares)))
    return Made(as_outputs(codec, rows))


def mean_target(contest: Contest, allowance: Allowance) -> Made:
    """The mean of the raw training targets, which has the least squared error."""
    return _constant(contest, lambda raw: raw.mean(axis=0))


def median_target(contest: Contest, allowance: Allowance) -> Made:
    """The median of the training targets, which has the least absolute error."""
    return _constant(contest, lambda raw: np.median(raw, axis=0))


def _constant(contest: Contest, middle: Callable[[np.ndarray], np.ndarray]) -> Made:
    encoded = contest.encoded(contest.split.train)
    raw = contest.codec.raw_units(encoded.reshape(len(encoded), -1))
    value = contest.codec.standardized(middle(raw))
    return Made(np.tile(value, (len(contest.split.test), 1)))


def token_frequencies(contest: Contest, allowance: Allowance) -> Made:
    """Every token with its frequency in the training text, whatever comes before it."""
    truth = contest.encoded(contest.split.test)
    train = contest.encoded(_enough(contest))
    counts = np.bincount(train.ravel(), minlength=contest.codec.num_outputs) + _PRIOR
    logs = np.log(counts / counts.sum())
    return Made(_places(logs[truth], counts.argmax()))


def pixel_frequencies(contest: Contest, allowance: Allowance) -> Made:
    """Every class with its frequency among the training samples, at each pixel by itself."""
    truth = contest.encoded(contest.split.test)
    train = contest.encoded(_enough(contest))
    labels = range(contest.codec.num_outputs)
    counts = np.stack([(train == label).sum(axis=0) for label in labels], axis=-1) + _PRIOR
    logs = np.log(counts / counts.sum(axis=-1, keepdims=True))
    true = np.take_along_axis(logs[None], np.asarray(truth, np.int64)[..., None], axis=-1)[..., 0]
    return Made(_places(true, counts.argmax(axis=-1)))


def _places(logs: np.ndarray, best: np.ndarray | np.integer) -> np.ndarray:
    """Log-probabilities of the true classes beside the best class of each place."""
    return np.stack([logs, np.broadcast_to(best, logs.shape)], axis=-1).astype(np.float32)


def _enough(contest: Contest) -> np.ndarray:
    """Training rows that together have places enough to count frequencies."""
    places = max(1, contest.encoded(contest.split.train[:1]).size)
    return contest.drawn(contest.split.train, max(1, _MOST_PLACES // places))


SHARES = Recipe("class shares", "trivial", "the largest class of the training rows", class_shares)
LABELS = Recipe("label shares", "trivial", "each label as often as in training", class_shares)
MEAN = Recipe("mean", "trivial", "the mean of the training targets", mean_target)
MEDIAN = Recipe("median", "trivial", "the median of the training targets", median_target)
PIXELS = Recipe(
    "commonest class", "trivial", "the commonest class at each pixel", pixel_frequencies
)
TOKENS = Recipe("unigrams", "trivial", "each token as often as in training", token_frequencies)
