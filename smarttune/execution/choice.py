"""What users may ask for: in which lane trials train, and where they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from smarttune.errors import OptionError, did_you_mean

# In which way one process trains its trials.
LANES = ("auto", "fit", "compiled", "fused")
# Where several trials run at a time.
POOLS = ("processes", "ray")
EXECUTORS = (*LANES, *POOLS)


@dataclass(frozen=True)
class Executor:
    """How and where the trials of a search train.

    Attributes:
        lane: One of `LANES`, in every process.
        pool: One of `POOLS`; "" runs trials in the process of the search.
        workers: Trials that run at a time.
        address: A cluster of Ray, `auto` or `host:port`; None starts one on this machine.
        gpus_per_worker: GPUs, or a share of one, that each worker of Ray reserves.
    """

    lane: str = "auto"
    pool: str = ""
    workers: int = 1
    address: str | None = None
    gpus_per_worker: float = 0.0


def chosen_executor(
    name: str = "auto",
    workers: int = 1,
    *,
    address: str | None = None,
    gpus_per_worker: float = 0.0,
) -> Executor:
    """The executor that options ask for.

    Args:
        name: One of `EXECUTORS`. A lane with several workers runs in child processes; a pool
            leaves the lane to `auto`.
        workers: Trials that run at a time.
        address: See `Executor`; asks for Ray.
        gpus_per_worker: See `Executor`.

    Raises:
        OptionError: If there is no such executor, or options contradict each other.
    """
    if name not in EXECUTORS:
        raise OptionError(
            "executor",
            received=f"`{name}`",
            expected="one of " + ", ".join(EXECUTORS),
            mend="`auto` takes the fastest lane that a model allows."
            + did_you_mean(name, EXECUTORS),
        )
    check_workers(workers)
    if address is not None and name in (*LANES[1:], "processes"):
        raise OptionError(
            "address",
            received=f"`{address}` with the executor `{name}`",
            expected="the executor `ray`",
            mend="Leave the address out, or take --executor ray.",
        )
    on_ray = name == "ray" or address is not None
    if gpus_per_worker < 0 or (gpus_per_worker and not on_ray):
        raise OptionError(
            "gpus_per_worker",
            received=f"{gpus_per_worker:g} with the executor `{name}`",
            expected="0 or more, and the executor `ray`",
            mend="Child processes share the GPUs by themselves; on a cluster take --executor ray.",
        )
    if name in POOLS:
        return Executor("auto", name, workers, address, gpus_per_worker)
    if on_ray:
        return Executor("auto", "ray", workers, address, gpus_per_worker)
    return Executor(name, "processes" if workers > 1 else "", workers)


def executor_of_run(recorded: Mapping[str, Any], workers: int | None) -> Executor:
    """The executor with which a search goes on.

    Args:
        recorded: The fields of the one that it began with; empty for runs of earlier versions.
        workers: Trials that run at a time from now on; as many as before if None.

    Raises:
        OptionError: If that is no number of workers.
    """
    executor = Executor(**recorded)
    if workers is None:
        return executor
    check_workers(workers)
    pool = executor.pool or ("processes" if workers > 1 else "")
    return replace(executor, workers=workers, pool=pool)


def check_workers(workers: object) -> None:
    """Make sure that a number of workers is one.

    Raises:
        OptionError: If it is not.
    """
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise OptionError(
            "workers",
            received=f"{workers!r} workers",
            expected="a whole number from 1",
            mend="Give the number of trials that shall run at a time.",
        )
