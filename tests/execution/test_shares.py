"""The part of the machine that each worker of the pool of child processes gets."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.execution import processes
from smarttune.execution.processes import ProcessPool, shares_of_machine
from tests.execution.pools import applying, collect


def run_one(program: Callable[[Any], Any], task: Any = None) -> Any:
    """The result of one task on one worker."""
    with ProcessPool(applying(program), 1) as pool:
        pool.submit("one", task)
        return collect(pool, 1)["one"].result


@given(num_cores=st.integers(1, 70), num_workers=st.integers(1, 80))
def test_cores_are_dealt_evenly(num_cores: int, num_workers: int) -> None:
    """Nobody goes without a core, none lies idle if it can be used, and slices are even."""
    cores = {3 * i for i in range(num_cores)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda pid: cores, raising=False)
        patch.setattr(processes, "num_cores", lambda: num_cores)
        shares = shares_of_machine(num_workers)

    slices = [set(share.cores) for share in shares]
    assert len(slices) == num_workers
    assert max(map(len, slices)) - min(map(len, slices)) <= 1
    assert all(s and s <= cores for s in slices)
    assert all(share.num_threads == max(1, num_cores // num_workers) for share in shares)
    if num_workers <= num_cores:
        assert sorted(core for s in slices for core in s) == sorted(cores)
    else:
        uses = Counter(core for s in slices for core in s)
        assert set(uses) == cores
        assert max(uses.values()) - min(uses.values()) <= 1


def test_a_worker_stays_on_its_cores() -> None:
    """The processes are pinned to the cores of their shares."""
    pool = ProcessPool(applying(lambda task: (os.getpid(), os.sched_getaffinity(0))), 2)
    with pool:
        for key in "ab":
            pool.submit(key, key)
        found = {pid: tuple(sorted(cores)) for pid, cores in
                 (e.result for e in collect(pool, 2).values())}  # fmt: skip

    assert set(found.values()) <= {share.cores for share in shares_of_machine(2)}


@pytest.mark.parametrize(
    ("chosen", "present", "dealt"),
    [
        ("3,5", 0, ["3", "5", "3"]),
        (" GPU-a , -1, 2", 0, ["GPU-a"] * 3),
        ("-1", 2, [None] * 3),
        ("", 2, [None] * 3),
        (None, 2, ["0", "1", "0"]),
        (None, 0, [None] * 3),
    ],
)
def test_gpus_are_dealt_in_turn(
    monkeypatch: pytest.MonkeyPatch,
    chosen: str | None,
    present: int,
    dealt: list[str | None],
) -> None:
    """Workers get the visible GPUs in turn; more workers than GPUs share them."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    monkeypatch.setattr(processes, "visible_gpus", lambda environment: [(8.0, 8.0)] * present)

    shares = shares_of_machine(3)

    assert [share.gpu for share in shares] == dealt
    for share in shares:
        seen = share.environment().get("CUDA_VISIBLE_DEVICES")
        assert seen == (chosen if share.gpu is None else share.gpu)


def test_libraries_keep_to_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker computes with its share of threads, takes GPU memory as it needs it, and
    keeps what the user has set.
    """
    names = (
        "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS",
        "TF_FORCE_GPU_ALLOW_GROWTH", "XLA_PYTHON_CLIENT_PREALLOCATE",
        "TF_CPP_MIN_LOG_LEVEL", "KERAS_BACKEND",
    )  # fmt: skip
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "7")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(processes, "num_cores", lambda: 4)
    monkeypatch.setattr(processes, "shares_of_machine", lambda n: [shares_of_machine(2 * n)[0]])

    seen = run_one(lambda names: [os.environ.get(n) for n in names], names)

    assert seen == ["2", "2", "7", "true", "false", "3", "jax"]


def test_the_kernel_takes_a_worker_first() -> None:
    """When memory runs out, workers are killed before the driver."""
    score = Path("/proc/self/oom_score_adj")
    if not score.exists():
        pytest.skip("no such score on this system")

    worker = int(run_one(lambda task: score.read_text()))

    assert worker > int(score.read_text())
