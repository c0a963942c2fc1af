"""Sequences from archives and arrays: lengths, gaps, targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarttune.data import read
from smarttune.data.sequences import SequenceArrays
from smarttune.errors import DataError, OptionError
from smarttune.fingerprint import measure

COUNTS = [3, 5, 4, 1, 5, 2, 4, 3, 5, 2, 4, 6]


def steps(seed: int = 0) -> list[np.ndarray]:
    """Sequences of two features and different lengths."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, 2)).astype(np.float32) for n in COUNTS]


def filled(sequences: list[np.ndarray], value: float = 0.0) -> np.ndarray:
    """The same padded at the end to one length."""
    x = np.full((len(sequences), max(map(len, sequences)), 2), value, np.float32)
    for i, one in enumerate(sequences):
        x[i, : len(one)] = one
    return x


def contents(dataset: Any) -> SequenceArrays:
    """The sequences of a data set."""
    assert isinstance(dataset.content, SequenceArrays)
    return dataset.content


def test_joined_archive_gives_each_sequence_back(tmp_path: Path) -> None:
    """Steps that lie end to end are cut by the lengths beside them."""
    wanted = steps()
    path = tmp_path / "s.npz"
    np.savez(path, x=np.concatenate(wanted), length=COUNTS, y=np.arange(12) % 3)

    dataset = read(path)

    assert dataset.task == "sequence"
    for found, one in zip(contents(dataset).take(np.arange(12)), wanted, strict=True):
        np.testing.assert_array_equal(found, one)
    assert dataset.target is not None
    assert dataset.target.tolist() == (np.arange(12) % 3).tolist()


def test_padded_archive_is_the_same_data(tmp_path: Path) -> None:
    """Padding of any value is cut off where lengths are given."""
    path = tmp_path / "s.npz"
    np.savez(path, x=filled(steps(), 99.0), lengths=COUNTS, y=np.arange(12) % 3)

    found = contents(read(path))

    assert found.lengths.tolist() == COUNTS
    np.testing.assert_array_equal(found.take(np.array([4]))[0], steps()[4])


def test_array_padded_with_nan_tells_lengths_itself() -> None:
    """In memory, steps of NaN at the end are padding, not gaps."""
    dataset = read(filled(steps(), np.nan), np.arange(12) % 3)

    assert contents(dataset).lengths.tolist() == COUNTS
    assert contents(dataset).warnings() == ()


def test_equal_lengths_need_no_lengths() -> None:
    """An array without NaN has sequences of all its steps, and the facts say so."""
    x = np.random.default_rng(0).normal(size=(20, 7, 3))

    facts = measure(read(x, np.arange(20) % 2)).facts()

    assert facts.value("data.sequence_length") == 7
    assert facts.value("data.num_features") == 3
    assert facts.value("data.equal_lengths") is True
    assert facts.value("data.missing_fraction") == 0.0


def test_facts_count_only_real_steps() -> None:
    """Padding is no missing value; lengths that differ are told."""
    x = filled(steps(), np.nan)
    x[1, 0, 0] = np.nan

    facts = measure(read(x, np.arange(12) % 2)).facts()

    assert facts.value("data.missing_fraction") == pytest.approx(1 / (2 * sum(COUNTS)))
    assert facts.value("data.equal_lengths") is False
    assert facts.value("data.max_sequence_length") == 6


def test_gaps_and_infinite_values_are_counted() -> None:
    """A step that lacks a value is told; an infinite value is none."""
    x = filled(steps(), np.nan)
    x[0, 1, 0], x[1, 2, 1] = np.nan, np.inf

    found = contents(read(x, np.arange(12) % 2))

    assert any(w.startswith("2 step(s) lack values") for w in found.warnings())
    assert np.isnan(found.take(np.array([1]))[0][2, 1])


def test_empty_sequences_go_with_their_targets(tmp_path: Path) -> None:
    """A sequence without steps is skipped and counted; the others keep their labels."""
    path = tmp_path / "s.npz"
    lengths = [0, *COUNTS[1:]]
    labels = np.arange(12)
    np.savez(path, x=filled(steps()), lengths=lengths, y=labels % 5, place=labels)

    dataset = read(path)

    assert len(contents(dataset)) == 11
    assert dataset.features["place"].tolist() == labels[1:].tolist()
    assert any("1 of 12 sequence(s) have no steps" in w for w in contents(dataset).warnings())


def test_several_targets_are_labels_of_their_own() -> None:
    """A matrix of 0 and 1 beside sequences is a multilabel problem."""
    y = np.random.default_rng(0).integers(0, 2, (40, 3))
    x = np.random.default_rng(1).normal(size=(40, 6, 2))

    fingerprint = measure(read(x, y))

    assert fingerprint.problem == "multilabel"
    assert len(fingerprint.classes) == 3


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((12, 5, 2)), np.arange(11), "12 sequences and 11 targets"),
        (np.zeros((12, 5, 2)), np.zeros((12, 5, 1)), "one target per sequence"),
        (np.full((12, 5, 2), np.nan), np.arange(12), "all 12 sequences are empty"),
        (np.full((12, 5, 2), "a"), np.arange(12), "numbers, one row of them per step"),
    ],
)
def test_what_does_not_fit_is_refused(x: np.ndarray, y: np.ndarray, message: str) -> None:
    """Wrong numbers of targets, labels for steps, and emptiness are named."""
    with pytest.raises(DataError, match=message):
        read(x, y, task="sequence")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((9, 2)), "length": [5, 5]}, "sum up to 10 and there are 9"),
        ({"x": np.zeros((2, 4, 2)), "length": [5, 2]}, "a length of 5 among sequences of 4"),
        ({"x": np.zeros((2, 4, 2)), "length": [-1, 2]}, "lengths from 0"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    """The error gives both numbers."""
    path = tmp_path / "s.npz"
    np.savez(path, **arrays, y=[0, 1])

    with pytest.raises(DataError, match=message):
        read(path, task="sequence")


def test_archive_of_python_objects_says_how_to_write_it(tmp_path: Path) -> None:
    """Ragged object arrays are never unpickled; the error shows the form that works."""
    ragged = np.empty(12, object)
    ragged[:] = steps()
    np.savez(tmp_path / "s.npz", x=ragged, y=np.arange(12))

    with pytest.raises(DataError, match=r"np\.concatenate"):
        read(tmp_path / "s.npz")


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", b"something else"])
def test_damaged_archive_is_a_clear_error(tmp_path: Path, damage: bytes) -> None:
    """What is no archive is named as such."""
    (tmp_path / "s.npz").write_bytes(damage)

    with pytest.raises(DataError, match="not a readable NumPy archive"):
        read(tmp_path / "s.npz")


def test_task_that_the_shape_forbids_is_refused(tmp_path: Path) -> None:
    """Four axes are pictures, whatever the user says."""
    np.savez(tmp_path / "s.npz", x=np.zeros((12, 8, 8, 3), np.uint8), y=np.arange(12))

    with pytest.raises(OptionError, match="has the shape"):
        read(tmp_path / "s.npz", task="sequence")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=12).filter(any), st.integers(1, 3))
def test_joined_and_padded_archives_agree(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], width: int
) -> None:
    """Both forms give the same sequences for any lengths, in the order of any selection."""
    folder = tmp_path_factory.mktemp("archives")
    rng = np.random.default_rng(len(counts))
    parts = [rng.normal(size=(n, width)).astype(np.float32) for n in counts]
    wide = np.zeros((len(counts), 6, width), np.float32)
    for i, part in enumerate(parts):
        wide[i, : len(part)] = part
    y = np.arange(len(counts))
    np.savez(folder / "a.npz", x=np.concatenate(parts), length=counts, y=y)
    np.savez(folder / "b.npz", x=wide, length=counts, y=y)

    one, other = (contents(read(folder / f"{n}.npz", task="sequence")) for n in "ab")

    kept = [p for p in parts if len(p)]
    order = rng.permutation(len(kept))
    for found in (one, other):
        for sequence, i in zip(found.select(order).take(np.arange(len(kept))), order, strict=True):
            np.testing.assert_array_equal(sequence, kept[i])
