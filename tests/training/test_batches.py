"""The order in which samples are seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.training import epoch_batches, num_batches

sizes = st.tuples(st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**31))


def batches(n: int, batch_size: int, seed: int, epochs: range, **more: Any) -> list[Any]:
    """Batches of n samples whose inputs and targets are their numbers."""
    x = np.arange(n)[:, None] * np.ones((1, 3))
    return list(
        epoch_batches(x, np.arange(n), batch_size=batch_size, seed=seed, epochs=epochs, **more)
    )


def order(found: list[Any]) -> list[int]:
    """The samples in the order in which they were seen."""
    return [int(i) for batch in found for i in batch[1]]


@given(sizes, st.integers(0, 5))
def test_an_epoch_has_one_order_wherever_training_began(size: tuple[int, int, int], e: int) -> None:
    """Epochs e.. of a training from 0 equal a training that begins at e."""
    n, batch_size, seed = size
    through = batches(n, batch_size, seed, range(e + 2))

    continued = batches(n, batch_size, seed, range(e, e + 2))

    assert order(through)[e * n :] == order(continued)


@given(sizes)
def test_every_sample_is_seen_once_per_epoch(size: tuple[int, int, int]) -> None:
    """An epoch is a permutation in batches of full size but for the last."""
    n, batch_size, seed = size
    found = batches(n, batch_size, seed, range(3, 4))

    assert sorted(order(found)) == list(range(n))
    assert len(found) == num_batches(n, batch_size)
    assert all(len(y) == batch_size for _, y in found[:-1])
    assert 1 <= len(found[-1][1]) <= batch_size


@given(sizes)
def test_inputs_targets_and_weights_stay_together(size: tuple[int, int, int]) -> None:
    """Row i of every part of a batch belongs to the same sample."""
    n, batch_size, seed = size
    x = {"a": np.arange(n) * 2, "b": np.arange(n)[:, None] * np.ones((1, 2)) + 0.5}
    y = np.stack([np.arange(n), -np.arange(n)], axis=1)

    found = epoch_batches(
        x, y, sample_weight=np.arange(n) / 4, batch_size=batch_size, seed=seed, epochs=range(2)
    )

    for inputs, targets, weights in found:
        sample = targets[:, 0]
        assert (inputs["a"] == 2 * sample).all()
        assert (inputs["b"] == sample[:, None] + 0.5).all()
        assert (targets[:, 1] == -sample).all()
        assert (weights == sample / 4).all()


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    """The order changes from epoch to epoch and from seed to seed; seed 0 is a seed."""
    one = order(batches(50, 8, 0, range(2)))

    assert one[:50] != one[50:]
    assert order(batches(50, 8, 0, range(2))) == one
    assert order(batches(50, 8, 1, range(1))) != one[:50]
    # Neighbouring seeds do not share epochs one off.
    assert order(batches(50, 8, 1, range(1))) != one[50:]


def test_no_epochs_give_no_batches() -> None:
    """An empty range of epochs yields nothing."""
    assert batches(5, 2, 0, range(3, 3)) == []


@pytest.mark.parametrize(("n", "size", "count"), [(1, 1, 1), (8, 4, 2), (9, 4, 3), (3, 100, 1)])
def test_num_batches_counts_the_last_smaller_one(n: int, size: int, count: int) -> None:
    """A remainder is a batch."""
    assert num_batches(n, size) == count
