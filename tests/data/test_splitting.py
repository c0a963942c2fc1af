"""Parts are disjoint, complete, stratified, and the same for the same seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
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


GROUPED = st.lists(
    st.tuples(st.integers(0, 11), st.integers(0, 2)), min_size=12, max_size=120
).filter(lambda rows: len({group for group, _ in rows}) >= 3)


@given(
    rows=GROUPED,
    validation=SHARE,
    test=SHARE,
    problem=st.sampled_from(["multiclass", "regression"]),
    seed=st.integers(0, 5),
)
def test_groups_stay_together(
    rows: list[tuple[int, int]], validation: float, test: float, problem: str, seed: int
) -> None:
    """No group is in two parts, every row is in one, no part is empty, equal seeds agree."""
    groups, labels = (np.array(column) for column in zip(*rows, strict=True))
    spread = {label: {g for g, other in rows if other == label} for label in set(labels)}
    alone = {min(found) for found in spread.values() if len(found) == 1}
    assume(len(set(groups)) - len(alone) >= 2)
    first, second = (
        split(
            labels,
            problem=problem,
            validation_fraction=validation,
            test_fraction=test,
            seed=seed,
            groups=groups,
        )
        for _ in range(2)
    )
    parts = (first.train, first.validation, first.test)

    assert sorted(np.concatenate(parts).tolist()) == list(range(len(rows)))
    assert all(len(part) and (np.diff(part) > 0).all() for part in parts)
    members = [set(groups[part].tolist()) for part in parts]
    assert not (members[0] & members[1] or members[0] & members[2] or members[1] & members[2])
    assert np.array_equal(first.train, second.train)
    assert np.array_equal(first.test, second.test)
    if problem == "multiclass":
        assert alone <= members[0]


@given(rows=GROUPED, validation=SHARE, test=SHARE, seed=st.integers(0, 5))
def test_grouped_parts_are_near_their_shares(
    rows: list[tuple[int, int]], validation: float, test: float, seed: int
) -> None:
    """Held-out parts miss their size by at most the largest group, training by two."""
    groups = np.array([group for group, _ in rows])
    largest = np.bincount(groups).max()

    parts = split(
        np.zeros(len(rows)),
        problem="regression",
        validation_fraction=validation,
        test_fraction=test,
        seed=seed,
        groups=groups,
    )

    wanted = [max(1, round(share * len(rows))) for share in (validation, test)]
    assert abs(len(parts.validation) - wanted[0]) <= largest
    assert abs(len(parts.test) - wanted[1]) <= largest
    assert abs(len(parts.train) - (len(rows) - sum(wanted))) <= 2 * largest


def test_groups_of_one_class_each_are_stratified() -> None:
    """Where every group has a single class, each part still gets each class in its share."""
    groups = np.repeat(np.arange(200), 5)
    labels = np.where(groups < 40, "rare", "common")

    parts = split(
        labels,
        problem="binary",
        validation_fraction=0.2,
        test_fraction=0.2,
        seed=1,
        groups=groups,
    )

    for rows, groups_wanted in ((parts.train, 24), (parts.validation, 8), (parts.test, 8)):
        assert abs(int((labels[rows] == "rare").sum()) - 5 * groups_wanted) <= 5


@given(labels=CLASSES, seed=st.integers(0, 5), named=st.booleans(), time_ordered=st.booleans())
def test_groups_of_one_row_each_are_no_groups(
    labels: list[int], seed: int, named: bool, time_ordered: bool
) -> None:
    """A column that differs in every row, or is empty, changes nothing."""
    ids = pd.Series([f"row {i}" if named else None for i in range(len(labels))], dtype=object)
    shares = {"validation_fraction": 0.2, "test_fraction": 0.2, "time_ordered": time_ordered}

    grouped, plain = (
        split(np.array(labels), problem="multiclass", seed=seed, groups=groups, **shares)  # type: ignore[arg-type]
        for groups in (ids, None)
    )

    for one, two in zip(vars(grouped).values(), vars(plain).values(), strict=True):
        assert np.array_equal(one, two)


def test_a_group_that_tells_the_class_is_refused() -> None:
    """Where each class lies in one group, nothing could be tested that was learnt."""
    speakers = np.repeat(list("abcdef"), 10)
    shares = {"validation_fraction": 0.2, "test_fraction": 0.2, "seed": 0}

    with pytest.raises(DataError, match="each lies in a single group"):
        split(speakers, problem="multiclass", groups=speakers, **shares)  # type: ignore[arg-type]
    split(np.arange(60), problem="regression", groups=speakers, **shares)  # type: ignore[arg-type]


@given(seed=st.integers(0, 20))
def test_a_class_of_one_group_is_trained_on(seed: int) -> None:
    """A class that a single group holds is never tested without having been learnt."""
    groups = np.repeat(np.arange(20), 5)
    labels = np.where(groups == 7, "only here", np.where(np.arange(100) % 2, "a", "b"))

    parts = split(
        labels,
        problem="multiclass",
        validation_fraction=0.2,
        test_fraction=0.2,
        seed=seed,
        groups=groups,
    )

    assert set(groups[parts.train]) >= {7}


def test_rows_without_a_group_go_alone() -> None:
    """Missing labels do not make one large group."""
    groups = pd.Series(["a"] * 4 + ["b"] * 4 + [None] * 92, dtype=object)

    parts = split(
        np.zeros(100),
        problem="regression",
        validation_fraction=0.2,
        test_fraction=0.2,
        seed=0,
        groups=groups,
    )

    assert [len(p) for p in (parts.train, parts.validation, parts.test)] == [60, 20, 20]


def test_too_few_groups_and_groups_in_time_are_refused() -> None:
    """Two groups make no three parts, and a time order cannot keep groups whole."""
    shares = {"problem": "regression", "validation_fraction": 0.2, "test_fraction": 0.2, "seed": 0}
    rows = np.arange(20)

    with pytest.raises(DataError, match=r"2 group\(s\)"):
        split(rows, groups=rows % 2, **shares)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="ordered in time"):
        split(rows, groups=rows % 5, time_ordered=True, **shares)  # type: ignore[arg-type]
    two = split(rows, groups=rows % 2, **(shares | {"test_fraction": 0.0}))  # type: ignore[arg-type]
    assert (len(two.train), len(two.validation), len(two.test)) == (10, 10, 0)


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
