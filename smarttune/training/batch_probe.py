"""Which batch sizes fit into memory, and which still train more samples per second.

The batch is doubled, each size trains a few steps, and the throughput is compared, as the
"Deep Learning Tuning Playbook" (Godbole et al. 2023, "Determining the feasible batch sizes and
estimating training throughput") advises: a batch that raises no throughput has no use.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

import keras
import numpy as np

from smarttune.errors import OptionError
from smarttune.training.checkpoint import set_state, state_of
from smarttune.training.outputs import some_rows

LARGEST = 8192  # ours: beyond it, small data give too few steps per epoch
MIN_GAIN = 1.1  # ours: what the playbook leaves open; less drowns in the noise of timing
# ours: the median of three steps withstands one that was disturbed; twenty are plenty.
FEWEST_STEPS, MOST_STEPS = 3, 20
SHARE_PER_SIZE = 0.1  # ours: of all seconds; 32 to 8192 are nine sizes
FREE_SHARE = 0.5  # ours: a process that takes too much is killed, and nobody can catch that
_MIB = 1024**2
# Words with which TensorFlow and XLA report that a device is full.
_FULL = ("RESOURCE_EXHAUSTED", "ResourceExhausted", "OutOfMemory", "out of memory")

Reason = Literal["memory", "throughput", "largest", "data", "time"]


@dataclass(frozen=True)
class ProbedBatch:
    """One row of the table.

    Attributes:
        batch_size: Samples per step.
        samples_per_second: Batch size over the median time of a step.
        peak_memory: Most memory held, MiB: of the process without a GPU, of the first GPU
            with one; None where it cannot be read.
    """

    batch_size: int
    samples_per_second: float
    peak_memory: float | None


@dataclass(frozen=True)
class BatchProbe:
    """What was found.

    Attributes:
        table: The sizes that were trained, smallest first.
        largest_in_memory: The largest of them, None if not even the first could be trained.
        largest_that_raises_throughput: The largest to which each doubling paid.
        stopped_because: `memory` (full, foretold to be, or over the limit), `throughput`,
            `largest` (the bound given), `data` (no larger batch exists), or `time`.
    """

    table: tuple[ProbedBatch, ...]
    largest_in_memory: int | None
    largest_that_raises_throughput: int | None
    stopped_because: Reason


def probe_batch_size(  # noqa: PLR0913 -- bounds, each by its name
    model: Any,
    x: Any,
    y: Any,
    *,
    start: int = 32,
    largest: int = LARGEST,
    min_gain: float = MIN_GAIN,
    memory_limit: float | None = None,
    seconds: float = 10.0,
) -> BatchProbe:
    """Double the batch until memory, throughput or time ends it.

    Each size trains one step that is not timed (it may compile) and then a few that are.
    Weights, optimizer, seeds and statistics are put back; metrics are reset, as at the start of
    an epoch.

    Without a GPU no error tells that memory is short: the process is killed. So the peak of
    the next size is foretold from the last two in a straight line, and it is not trained if
    that takes more than half of the free memory.

    Args:
        model: A compiled and built Keras model.
        x: Inputs, shape (n, ...), or a dict of such.
        y: Targets, shape (n,) or (n, outputs).
        start: First batch size.
        largest: Last batch size at most.
        min_gain: By what a doubling must multiply the throughput to count.
        memory_limit: Peak memory allowed, MiB, measured as in `ProbedBatch`.
        seconds: No further size is begun after them; one that compiles long may exceed them.

    Raises:
        OptionError: If the model is not compiled or built, or a bound is out of range.
    """
    _check(model, start=start, largest=largest, min_gain=min_gain, seconds=seconds)
    before = state_of(model)
    probing = _Probing(model, x, y, min_gain, memory_limit, seconds)
    try:
        reason = probing.double(start, largest)
    finally:
        set_state(model, before)
        model.reset_metrics()
    table = probing.table
    return BatchProbe(
        tuple(table),
        table[-1].batch_size if table else None,
        _largest_useful(table, min_gain),
        reason,
    )


def _largest_useful(table: Sequence[ProbedBatch], min_gain: float) -> int | None:
    found = None
    for i, row in enumerate(table):
        gain = row.samples_per_second / table[i - 1].samples_per_second if i else min_gain
        if gain < min_gain:
            break
        found = row.batch_size
    return found


@dataclass
class _Probing:
    """The loop over sizes, with what it has found."""

    model: Any
    x: Any
    y: Any
    min_gain: float
    memory_limit: float | None
    seconds: float
    table: list[ProbedBatch] = field(default_factory=list)

    def double(self, size: int, largest: int) -> Reason:
        """Train each size; return why no further one was."""
        began = time.perf_counter()
        memory = memory_of_device()
        at_rest = memory.in_use()
        while True:
            if size > len(self.y):
                return "data"
            if size > largest:
                return "largest"
            if self.table and time.perf_counter() - began >= self.seconds:
                return "time"
            if self._too_much(self._foretold(at_rest), memory):
                return "memory"
            row = self._train(size, memory)
            if row is None:
                return "memory"
            if self._over_limit(row.peak_memory):
                return "memory"
            self.table.append(row)
            if _largest_useful(self.table, self.min_gain) != size:
                return "throughput"
            size *= 2

    def _train(self, size: int, memory: Memory) -> ProbedBatch | None:
        """Some steps of one size; None if the memory was full."""
        memory.forget_peak()
        durations: list[float] = []
        budget = self.seconds * SHARE_PER_SIZE
        try:
            for step, batch in enumerate(self._batches(size)):
                began = time.perf_counter()
                self.model.train_on_batch(*batch)  # hands out a number, so the step is over
                if step > 0:
                    durations.append(time.perf_counter() - began)
                if len(durations) >= FEWEST_STEPS and sum(durations) >= budget:
                    break
        except Exception as error:
            if not memory_was_full(error):
                raise
            return None
        return ProbedBatch(size, size / median(durations), memory.peak())

    def _batches(self, size: int) -> Iterator[tuple[Any, Any]]:
        """Batches of consecutive rows, over and over."""
        for step in range(1 + MOST_STEPS):
            rows = np.arange(step * size, (step + 1) * size) % len(self.y)
            yield some_rows(self.x, rows), self.y[rows]

    def _foretold(self, at_rest: float | None) -> float | None:
        """Peak of the next size, MiB, on the line through the last two peaks.

        The first point is the process at rest; a line that falls is taken as level.
        """
        peaks = [at_rest, *(row.peak_memory for row in self.table)][-2:]
        if len(peaks) < 2 or peaks[0] is None or peaks[1] is None:
            return None
        # From half the last size to the last it rose by half of what the next size adds; from
        # rest to the first size by all of it.
        share = 1 if len(self.table) == 1 else 2
        return peaks[1] + share * max(0.0, peaks[1] - peaks[0])

    def _too_much(self, peak: float | None, memory: Memory) -> bool:
        if peak is None:
            return False
        if self._over_limit(peak):
            return True
        free, now = memory.free(), memory.in_use()
        return free is not None and now is not None and peak - now > FREE_SHARE * free

    def _over_limit(self, peak: float | None) -> bool:
        return self.memory_limit is not None and peak is not None and peak > self.memory_limit


def memory_was_full(error: BaseException) -> bool:
    """Whether an error says that memory was short, of whatever backend it is."""
    if isinstance(error, MemoryError):
        return True
    text = f"{type(error).__name__}: {error}"
    return any(words in text for words in _FULL)


class Memory:
    """Main memory of this process, MiB, as Linux tells it; None on other systems."""

    def __init__(self, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> None:
        self.proc, self.sys = proc, sys

    def in_use(self) -> float | None:
        """Resident memory now."""
        return self._line("self/status", "VmRSS")

    def peak(self) -> float | None:
        """Most resident memory since `forget_peak`, or since the start where that is denied."""
        return self._line("self/status", "VmHWM")

    def forget_peak(self) -> None:
        """Let the peak begin anew (5 does so: Linux man-pages, proc_pid_clear_refs)."""
        try:
            with open(self.proc / "self" / "clear_refs", "w", encoding="ascii") as file:
                file.write("5")
        except OSError:
            pass

    def free(self) -> float | None:
        """What can still be taken, in the machine and in the container."""
        found = [self._line("meminfo", "MemAvailable"), self._free_in_container()]
        return min((n for n in found if n is not None), default=None)

    def _free_in_container(self) -> float | None:
        group = self.sys / "fs" / "cgroup"
        limit, used = _number(group / "memory.max"), _number(group / "memory.current")
        if limit is None or used is None:
            return None
        # Files that were read count as used, but give way (cgroup-v2.rst, inactive_file).
        yielding = 0.0
        for line in _text(group / "memory.stat").splitlines():
            if line.startswith("inactive_file "):
                yielding = float(line.split()[1])
        return (limit - used + yielding) / _MIB

    def _line(self, file: str, name: str) -> float | None:
        """A line such as `VmRSS:  1024 kB`, in MiB."""
        for line in _text(self.proc / file).splitlines():
            if line.startswith(f"{name}:"):
                return float(line.split()[1]) / 1024
        return None


class _TensorFlowMemory(Memory):
    """Memory of the first GPU as TensorFlow allots it; a full one raises, so none is foretold."""

    def in_use(self) -> float | None:
        return None

    def peak(self) -> float | None:
        import tensorflow as tf

        return float(tf.config.experimental.get_memory_info("GPU:0")["peak"]) / _MIB

    def forget_peak(self) -> None:
        import tensorflow as tf

        tf.config.experimental.reset_memory_stats("GPU:0")

    def free(self) -> float | None:
        return None


class _JaxMemory(Memory):
    """As above for JAX, whose peak cannot be reset: it is that of the largest size so far."""

    def in_use(self) -> float | None:
        return None

    def peak(self) -> float | None:
        import jax

        found = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
        return None if found is None else float(found) / _MIB

    def forget_peak(self) -> None:
        """There is no way to."""

    def free(self) -> float | None:
        return None


def memory_of_device() -> Memory:
    """Reads the memory in which the backend trains."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return _TensorFlowMemory() if tf.config.list_logical_devices("GPU") else Memory()
    if backend == "jax":
        import jax

        return Memory() if jax.default_backend() == "cpu" else _JaxMemory()
    return Memory()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:  # absent, or `max` where there is no limit
        return None


def _check(model: Any, *, start: int, largest: int, min_gain: float, seconds: float) -> None:
    if not getattr(model, "compiled", False) or not model.built:
        raise OptionError(
            "model",
            received="a model that is not compiled or not built",
            expected="a model with a loss, an optimizer and weights",
            mend="Call `compile`, and declare the inputs or call the model once.",
        )
    if not 1 <= start <= largest:
        raise OptionError(
            "start, largest",
            received=f"{start} and {largest}",
            expected="1 <= start <= largest",
            mend="Swap or correct them.",
        )
    for name, value in (("min_gain", min_gain), ("seconds", seconds)):
        if not value > 0:
            raise OptionError(
                name, received=f"{value}", expected="a number above 0", mend="Correct it."
            )
