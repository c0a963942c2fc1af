"""Parts are disjoint, complete, stratified, and the same for the same seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarttune.data import split
from smarttune.errors import DataError, OptionError

CLASSES = st.lists(st.integers(0, 4), min_size=10, max_size=200)
SHARE = st.sampled_from([0.1, 0.15, 0.2, 0.25])


@given(
    labels=CLASSES,
    validation=SHARE,
    test=st.one_of(st.just(0.0), SHARE),
    problem=st.sampled_from(["multiclass", "regression"]),
    time_ordered=st.booleans(),
    seed=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None)
def test_parts_divide_the_rows(
    labels: list[int], validation: float, test: float, problem: str, time_ordered: bool, seed: int
) -> None:
    """Every row is in exactly one part, and the sizes are those asked for."""
    parts = split(
        np.array(labels),
        problem=problem,
        validation_fraction=validation,
        test_fraction=test,
        seed=seed,
        time_ordered=time_ordered,
    )

    joined = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(joined.tolist()) == list(range(len(labels)))
    assert len(parts.validation) == max(1, round(validation * len(labels)))
    assert len(parts.test) == (max(1, round(test * len(labels))) if test else 0)
    if time_ordered:
        assert joined.tolist() == list(range(len(labels)))


@given(labels=CLASSES, seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_classes_keep_their_shares(labels: list[int], seed: int) -> None:
    """Each part holds each class in its share, and training holds all classes."""
    parts = split(
        np.array(labels),
        problem="multiclass",
        validation_fraction=0.2,
        test_fraction=0.2,
        seed=seed,
    )

    counts = Counter(labels)
    for rows in (parts.train, parts.validation, parts.test):
        found = Counter(labels[i] for i in rows)
        for label, count in counts.items():
            share = count / len(labels)
            # One row of rounding at either end of the part, and the place that the rounding
            # of the other classes takes or leaves.
            assert abs(found[label] - share * len(rows)) <= 1 + len(counts) * share
    assert {labels[i] for i in parts.train} == set(labels)


def test_rare_classes_are_divided_exactly() -> None:
    """Ten rows of a rare class in a thousand fall six, two and two."""
    labels = np.array(["rare"] * 10 + ["common"] * 990)

    parts = split(labels, problem="binary", validation_fraction=0.2, test_fraction=0.2, seed=3)

    found = [int((labels[p] == "rare").sum()) for p in (parts.train, parts.validation, parts.test)]
    assert found == [6, 2, 2]


def test_seeds_decide_the_parts() -> None:
    """The same seed repeats the parts, another changes them."""
    labels = np.arange(100) % 2
    arguments = {"problem": "binary", "validation_fraction": 0.2, "test_fraction": 0.2}

    one, two, other = (split(labels, seed=s, **arguments) for s in (0, 0, 1))  # type: ignore[arg-type]

    assert np.array_equal(one.test, two.test)
    assert not np.array_equal(one.test, other.test)


def test_stratifying_can_be_switched_off() -> None:
    """Without it a rare class may miss a part."""
    labels = np.array([1] * 5 + [0] * 495)

    found = [
        int(
            labels[
                split(
                    labels,
                    problem="binary",
                    validation_fraction=0.2,
                    test_fraction=0.2,
                    seed=seed,
                    stratify=stratify,
                ).validation
            ].sum()
        )
        for stratify in (True, False)
        for seed in range(8)
    ]

    assert set(found[:8]) == {1}
    assert len(set(found[8:])) > 1


@pytest.mark.parametrize(
    ("num_rows", "validation", "test", "error"),
    [
        (2, 0.2, 0.2, DataError),
        (10, -0.1, 0.2, OptionError),
        (10, 1.0, 0.0, OptionError),
        (10, 0.5, 0.5, OptionError),
    ],
)
def test_impossible_parts_are_refused(
    num_rows: int, validation: float, test: float, error: type[Exception]
) -> None:
    """Shares that leave nothing to train on are errors."""
    with pytest.raises(error):
        split(
            np.arange(num_rows),
            problem="regression",
            validation_fraction=validation,
            test_fraction=test,
            seed=0,
        )
