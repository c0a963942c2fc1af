"""Samples as matrices, as many of them as the time allows, for models without a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from smarttune.baselines.contest import Allowance, Contest

# From row numbers to samples in memory: an array with one row each, or a list.
Reader = Callable[[Contest, np.ndarray], Any]
# From the training samples to what turns samples into a matrix with one row each.
Fitter = Callable[[Any], Callable[[Any], Any]]

# ours: samples read to tell how long one takes.
_PILOT = 64
# ours: share of the time that reading may take; the rest is for fitting.
_READING = 0.5


@dataclass(frozen=True)
class Matrices:
    """What a model is fitted on and asked about.

    Attributes:
        x: Features of training, validation and test rows; dense or sparse, shape (rows,
            features).
        y: Encoded targets of the training and validation rows, as networks see them.
        notes: What limited it, sentences.
        categorical: Which features are numbers of categories; empty if none is.
        maker: The call of scikit-learn that makes such features, if one does.
    """

    x: tuple[Any, Any, Any]
    y: tuple[np.ndarray, np.ndarray]
    notes: tuple[str, ...] = ()
    categorical: tuple[bool, ...] = ()
    maker: str = ""


def matrices_of(  # noqa: PLR0913 -- reading and fitting differ by the kind of data
    contest: Contest,
    allowance: Allowance,
    read: Reader,
    fit: Fitter,
    *,
    most: int,
    maker: str = "",
) -> Matrices:
    """Read samples and describe them by numbers that are learnt from the training rows.

    Args:
        contest: The question.
        allowance: At most about half of it is spent here, unless the test rows need more.
        read: Reads samples.
        fit: Learns features from the training samples.
        most: Training rows used; drawn at random where there are more, or where reading is
            slow.
        maker: As in `Matrices`.
    """
    most = _affordable(contest, allowance, read, most)
    split = contest.split
    train = contest.drawn(split.train, most)
    validation = contest.drawn(split.validation, most)
    samples = read(contest, train)
    features = fit(samples)
    x = (
        features(samples),
        features(read(contest, validation)),
        features(read(contest, split.test)),
    )
    return Matrices(
        x,
        (contest.encoded(train), contest.encoded(validation)),
        drawn_note(train, split.train),
        maker=maker,
    )


def drawn_note(used: np.ndarray, there: np.ndarray) -> tuple[str, ...]:
    """A sentence where not all training rows were used."""
    if len(used) == len(there):
        return ()
    return (f"It was fitted on {len(used):,} of {len(there):,} training rows.",)


def _affordable(contest: Contest, allowance: Allowance, read: Reader, most: int) -> int:
    """Training rows that can be read in time, beside as many validation rows and the test."""
    pilot = contest.drawn(contest.split.train, _PILOT)
    before = allowance.left
    read(contest, pilot)
    each = (before - allowance.left) / len(pilot)
    if each <= 0:
        return most
    room = int(_READING * allowance.left / each) - len(contest.split.test)
    return min(most, max(_PILOT, room // 2))
