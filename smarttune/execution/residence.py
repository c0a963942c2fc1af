"""Where the rows of a search lie while compiled programs read them.

Arrays that fit are put on the device once and serve all trials. Larger ones, and those that are
read from files, are brought piece by piece; while one piece trains, the next one is read.
"""

from __future__ import annotations

import abc
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from smarttune.execution.fit import TrainingData
from smarttune.execution.program import Feed, leaves
from smarttune.training.outputs import chunks, in_memory

# ours: arrays beyond this stay where they are; on a processor the device's copy is a second one.
RESIDENT_BYTES = 2**30

# ours: what is brought at a time.
PIECE_BYTES = 2**26
# ours: validation rows that are brought at a time, in batches.
VALIDATION_BATCHES = 8


class Residence:
    """Device copies of the data of one search.

    Args:
        put: Puts an array on the device.
    """

    def __init__(self, put: Callable[[np.ndarray], Any]) -> None:
        self.put = put
        self._of: weakref.WeakKeyDictionary[TrainingData, tuple[Any, Any]]
        self._of = weakref.WeakKeyDictionary()
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="rows")

    def of(self, feed: Feed) -> Rows:
        """How the rows of a trial get to its steps."""
        weight = feed.sample_weight
        parts = (feed.data.x, feed.data.y, feed.data.x_validation, feed.data.y_validation)
        size = sum(getattr(a, "nbytes", 0) for part in parts for _, a in leaves(part))
        if not all(map(in_memory, parts)) or size > RESIDENT_BYTES:
            return StreamedRows(feed, self.put, self._reader)
        if feed.data not in self._of:
            x, y, x_validation, y_validation = (_placed(part, self.put) for part in parts)
            self._of[feed.data] = (x, y), (x_validation, y_validation)
        training, validation = self._of[feed.data]
        return ResidentRows(
            training if weight is None else (*training, self.put(weight)), validation
        )


def _placed(x: Any, put: Callable[[np.ndarray], Any]) -> Any:
    """An array, or a dict of such, on the device."""
    return {n: put(a) for n, a in x.items()} if isinstance(x, Mapping) else put(x)


class Rows(abc.ABC):
    """How rows get to the steps of a program.

    Attributes:
        steps_at_once: Steps of one piece, where all pieces should be alike; None for any number.
    """

    steps_at_once: int | None = None

    @abc.abstractmethod
    def training(self, order: np.ndarray, start: int, stop: int) -> tuple[Any, np.ndarray, int]:
        """Training rows for places `start` to `stop` of an order.

        Returns:
            Arrays, an order of their rows, and where in it to begin.
        """

    @abc.abstractmethod
    def validation(self) -> Iterator[Any]:
        """The validation rows, whole or in pieces of whole batches."""


class ResidentRows(Rows):
    """Rows that lie on the device.

    Args:
        data: Training arrays on the device.
        validation: Validation arrays on the device.
    """

    def __init__(self, data: Any, validation: Any) -> None:
        self.data, self._validation = data, validation

    def training(self, order: np.ndarray, start: int, stop: int) -> tuple[Any, np.ndarray, int]:
        """All rows, in the given order."""
        return self.data, order, start

    def validation(self) -> Iterator[Any]:
        """All of them at once."""
        yield self._validation


class StreamedRows(Rows):
    """Rows that are brought piece by piece.

    Args:
        feed: Where from.
        put: Puts an array on the device.
        reader: Reads ahead.
    """

    def __init__(self, feed: Feed, put: Callable[[Any], Any], reader: ThreadPoolExecutor) -> None:
        self.feed, self.put, self.reader = feed, put, reader
        nbytes = sum(a.nbytes for part in feed.batch(np.arange(1)) for _, a in leaves(part))
        self.steps_at_once = max(1, PIECE_BYTES // max(1, nbytes * feed.batch_size))
        self._ahead: tuple[tuple[int, int, int], Future[Any]] | None = None

    def training(self, order: np.ndarray, start: int, stop: int) -> tuple[Any, np.ndarray, int]:
        """The rows of the piece in their order; the piece behind it is read meanwhile."""
        stop = min(stop, len(order))
        key = (id(order), start, stop)
        if self._ahead is not None and self._ahead[0] == key:
            batch = self._ahead[1].result()
        else:
            batch = self._read(order, start, stop)
        behind = (id(order), stop, min(2 * stop - start, len(order)))
        self._ahead = None
        if behind[1] < behind[2]:
            self._ahead = behind, self.reader.submit(self._read, order, *behind[1:])
        return batch, np.arange(stop - start), 0

    def _read(self, order: np.ndarray, start: int, stop: int) -> Any:
        return self._brought(self.feed.batch(order[start:stop]))

    def validation(self) -> Iterator[Any]:
        """Some batches at a time."""
        size = VALIDATION_BATCHES * self.feed.validation_batch_size
        for rows in chunks(len(self.feed.data.y_validation), size):
            yield self._brought(self.feed.validation_batch(rows))

    def _brought(self, batch: tuple[Any, ...]) -> Any:
        return tuple(_placed(part, self.put) for part in batch)
