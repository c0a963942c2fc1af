"""Probing batch sizes: throughput by a clock that is told, memory that is told, real steps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from smarttune.errors import OptionError
from smarttune.training import batch_probe
from smarttune.training.batch_probe import Memory, memory_was_full, probe_batch_size
from smarttune.training.checkpoint import state_of

ROWS = 1000


def data(rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Rows and targets."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, 3)).astype("float32"), rng.normal(size=(rows, 1))


class Told(Memory):
    """Memory that is what it is told to be: 100 MiB at rest and one more per sample."""

    def __init__(self, free: float | None = None, rest: float = 100.0) -> None:
        super().__init__()
        self.rest, self.left, self.size = rest, free, 0

    def in_use(self) -> float | None:
        return self.rest

    def peak(self) -> float | None:
        return self.rest + self.size

    def forget_peak(self) -> None:
        pass

    def free(self) -> float | None:
        return self.left


class Clocked(keras.Model):
    """A model whose steps take as long as `seconds(size)` says, and may fail."""

    def __init__(self, seconds: Any, full_at: int | None = None, error: Any = None) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.seconds, self.full_at, self.error = seconds, full_at, error
        self.now = 0.0
        self.memory = Told()
        self.seen: list[int] = []

    def call(self, x: Any) -> Any:
        """Apply the layer."""
        return self.dense(x)

    def compute_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None, **rest: Any):
        """Let time pass for the batch."""
        size = int(y.shape[0])
        if self.full_at is not None and size >= self.full_at:
            raise self.error
        self.seen.append(size)
        self.now += self.seconds(size)
        self.memory.size = size
        return super().compute_loss(x, y, y_pred, sample_weight, **rest)


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes such a model and gives its clock and memory to the probe."""

    def make(seconds: Any = lambda n: 1.0, *, memory: Any = None, **options: Any) -> Clocked:
        model = Clocked(seconds, **options)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", run_eagerly=True)
        model(np.zeros((1, 3), "float32"))
        model.memory = memory or Told()
        clock = SimpleNamespace(perf_counter=lambda: model.now)
        monkeypatch.setattr(batch_probe, "time", clock)
        monkeypatch.setattr(batch_probe, "memory_of_device", lambda: model.memory)
        return model

    return make


def sizes(probe: Any) -> list[int]:
    """The sizes in its table."""
    return [row.batch_size for row in probe.table]


def test_doubling_ends_where_it_no_longer_pays(clocked: Any) -> None:
    """Steps of 1 s + 1/32 s per sample: 16, 21.3, 25.6, 28.4, 30.1 a second; the last gains 6 %."""
    model = clocked(lambda n: 1 + n / 32)

    found = probe_batch_size(model, *data(), seconds=1e6)

    assert sizes(found) == [32, 64, 128, 256, 512]
    assert [r.samples_per_second for r in found.table] == pytest.approx(
        [16, 64 / 3, 25.6, 256 / 9, 512 / 17]
    )
    assert (found.largest_in_memory, found.largest_that_raises_throughput) == (512, 256)
    assert found.stopped_because == "throughput"


def test_the_gain_asked_for_decides(clocked: Any) -> None:
    """Whoever asks for 30 % stops earlier: 64 gains a third, 128 a fifth."""
    model = clocked(lambda n: 1 + n / 32)

    found = probe_batch_size(model, *data(), min_gain=1.3, seconds=1e6)

    assert sizes(found) == [32, 64, 128]
    assert found.largest_that_raises_throughput == 64


def test_the_first_step_of_a_size_is_not_timed(clocked: Any) -> None:
    """A first step that compiles for an hour changes no throughput."""
    met: set[int] = set()

    def seconds(size: int) -> float:
        first, _ = size not in met, met.add(size)
        return 3600.0 if first else 1.0

    found = probe_batch_size(clocked(seconds), *data(), largest=64, seconds=1e6)

    assert [r.samples_per_second for r in found.table] == pytest.approx([32, 64])


def test_bounds_of_size_data_and_time(clocked: Any) -> None:
    """The largest size asked for, the rows there are, and the seconds each end it."""
    largest = probe_batch_size(clocked(), *data(), largest=100, seconds=1e6)
    rows = probe_batch_size(clocked(), *data(100), seconds=1e6)
    short = probe_batch_size(clocked(), *data(), seconds=10)

    assert (sizes(largest), largest.stopped_because) == ([32, 64], "largest")
    assert (sizes(rows), rows.stopped_because) == ([32, 64], "data")
    # A warm step and three timed ones take 4 s, so three sizes begin within 10 s.
    assert (sizes(short)[:1], short.stopped_because) == ([32], "time")
    assert len(short.table) == 3


FULL = [
    MemoryError(),
    RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 2 bytes."),
    type("ResourceExhaustedError", (Exception,), {})("when allocating tensor"),
    type("OutOfMemoryError", (RuntimeError,), {})("CUDA"),
]


@pytest.mark.parametrize("error", FULL, ids=lambda e: type(e).__name__)
def test_a_full_memory_ends_the_probe(clocked: Any, error: Exception) -> None:
    """What each backend raises is caught, and the sizes before it count."""
    model = clocked(full_at=128, error=error)
    before = state_of(model)

    found = probe_batch_size(model, *data(), seconds=1e6)

    assert (sizes(found), found.stopped_because) == ([32, 64], "memory")
    assert found.largest_in_memory == 64
    for a, b in zip(before, state_of(model), strict=True):
        np.testing.assert_array_equal(a, b)


def test_not_even_the_first_size_fits(clocked: Any) -> None:
    """An empty table names no size."""
    found = probe_batch_size(clocked(full_at=1, error=MemoryError()), *data())

    assert (found.table, found.largest_in_memory) == ((), None)
    assert found.largest_that_raises_throughput is None


def test_other_errors_come_through(clocked: Any) -> None:
    """A mistake in the model is no full memory; the state is put back all the same."""
    model = clocked(full_at=64, error=KeyError("typo"))
    before = state_of(model)

    with pytest.raises(KeyError, match="typo"):
        probe_batch_size(model, *data(), seconds=1e6)

    for a, b in zip(before, state_of(model), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not memory_was_full(ValueError("shapes do not fit"))


@pytest.mark.parametrize(
    ("free", "largest"),
    # 100 MiB at rest and one per sample: 64, 128, 256 need 64, 128, 256 more than at rest.
    [(127.0, 32), (128.0, 64), (300.0, 128), (512.0, 256)],
)
def test_half_of_the_free_memory_is_never_passed(clocked: Any, free: float, largest: int) -> None:
    """The next size is foretold from the last two, and left out before it is trained."""
    model = clocked(memory=Told(free=free))

    found = probe_batch_size(model, *data(), largest=256 if largest == 256 else 8192, seconds=1e6)

    assert found.largest_in_memory == largest
    assert max(model.seen) == largest
    assert found.stopped_because == ("largest" if largest == 256 else "memory")


def test_a_limit_is_kept(clocked: Any) -> None:
    """A peak that is foretold above the limit is not tried; one measured above does not count."""
    model = clocked()
    found = probe_batch_size(model, *data(), memory_limit=100.0 + 128, seconds=1e6)
    first = probe_batch_size(clocked(), *data(), memory_limit=110.0, seconds=1e6)

    assert sizes(found) == [32, 64, 128]
    assert max(model.seen) == 128
    assert [r.peak_memory for r in found.table] == [132.0, 164.0, 228.0]
    assert (first.table, first.stopped_because) == ((), "memory")


@pytest.mark.jax
@pytest.mark.slow
def test_a_real_network_is_left_as_it_was() -> None:
    """Weights, moments, seeds, statistics and the history are the same after real steps."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(8),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.1), "mse", metrics=["mae"])
    history = model.fit(*data(64), epochs=1, verbose=0)
    before = state_of(model)

    found = probe_batch_size(model, *data(), start=16, largest=64, min_gain=0.01, seconds=60)

    assert sizes(found) == [16, 32, 64]
    assert all(row.samples_per_second > 0 for row in found.table)
    assert found.stopped_because == "largest"
    for a, b in zip(before, state_of(model), strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.history is history
    model.fit(*data(64), epochs=1, verbose=0)
    assert not np.array_equal(before[0], state_of(model)[0])


def test_linux_tells_of_memory(tmp_path: Path) -> None:
    """Sizes are read in MiB; a container's limit counts, without the files it may drop."""
    proc, group = tmp_path / "proc", tmp_path / "sys" / "fs" / "cgroup"
    (proc / "self").mkdir(parents=True)
    group.mkdir(parents=True)
    (proc / "self" / "status").write_text("VmHWM:\t 4096 kB\nVmRSS:\t 2048 kB\n")
    (proc / "meminfo").write_text("MemTotal: 99999 kB\nMemAvailable: 10240 kB\n")
    memory = Memory(proc, tmp_path / "sys")

    assert (memory.in_use(), memory.peak(), memory.free()) == (2.0, 4.0, 10.0)

    (group / "memory.max").write_text(f"{8 * 2**20}\n")
    (group / "memory.current").write_text(f"{5 * 2**20}\n")
    (group / "memory.stat").write_text(f"anon 1\ninactive_file {2**20}\n")
    assert memory.free() == 4.0

    (group / "memory.max").write_text("max\n")
    assert memory.free() == 10.0


def test_other_systems_tell_nothing(tmp_path: Path) -> None:
    """Without these files nothing is known, and nothing fails."""
    memory = Memory(tmp_path / "proc", tmp_path / "sys")
    memory.forget_peak()

    assert (memory.in_use(), memory.peak(), memory.free()) == (None, None, None)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux only")
def test_a_peak_is_seen_and_forgotten() -> None:
    """A large array raises the peak, also when it is gone; then a new peak begins."""
    memory = Memory()
    memory.forget_peak()
    before = memory.in_use()
    assert before is not None
    block = np.ones(64 * 2**20, "uint8")
    del block

    peak = memory.peak()
    assert peak is not None
    assert peak >= before + 60
    memory.forget_peak()
    again = memory.peak()
    assert again is not None
    if again == peak:
        pytest.skip("this system does not let a process forget its peak")
    assert again < peak - 30


@pytest.mark.parametrize(
    "options",
    [{"start": 0}, {"start": 64, "largest": 32}, {"min_gain": 0.0}, {"seconds": 0.0}],
)
def test_bounds_that_cannot_be(clocked: Any, options: dict[str, Any]) -> None:
    """Bounds out of range are refused before anything is trained."""
    model = clocked()
    model.seen.clear()

    with pytest.raises(OptionError):
        probe_batch_size(model, *data(), **options)
    assert model.seen == []


def test_a_model_that_cannot_train() -> None:
    """A model that is not compiled is told so."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])

    with pytest.raises(OptionError, match="not compiled"):
        probe_batch_size(model, *data())
