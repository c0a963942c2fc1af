"""The machine, measured without importing any framework."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from smarttune.facts import Facts

_GIB = 1024**3
# ours: a healthy driver answers in well under a second; a broken one must not block us.
_QUERY_TIMEOUT_SECONDS = 5.0
_GPU_QUERY = ("--query-gpu=index,uuid,memory.total,compute_cap", "--format=csv,noheader,nounits")
# Control group files, version 2 then version 1 (Linux kernel documentation, cgroup-v2.rst
# and cgroup-v1/memory.rst).
_CPU_MAX = "fs/cgroup/cpu.max"
_CPU_QUOTA_V1 = ("fs/cgroup/cpu/cpu.cfs_quota_us", "fs/cgroup/cpu/cpu.cfs_period_us")
_MEMORY_LIMITS = ("fs/cgroup/memory.max", "fs/cgroup/memory/memory.limit_in_bytes")


def measure_hardware(*, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> Facts:
    """Return what is known of the machine.

    Cores and memory are what this process may use: processor affinity and the limits of a
    container count. GPUs are those that `nvidia-smi` lists and `CUDA_VISIBLE_DEVICES` leaves
    visible; of several, the smallest memory and capability count.

    Args:
        proc: Where the kernel describes processes and processors.
        sys: Where the kernel describes devices and control groups.
    """
    main = {
        "hardware.num_cores": num_cores(sys),
        "hardware.memory": memory_gib(proc, sys),
        "hardware.cpu_amx": _has_amx(proc),
    }
    gpus = visible_gpus(os.environ)
    graphics: dict[str, Any] = {
        "hardware.device": "gpu" if gpus else "cpu",
        "hardware.num_gpus": len(gpus),
    }
    if gpus:
        memories = [memory for memory, _ in gpus if memory is not None]
        capabilities = [capability for _, capability in gpus if capability is not None]
        graphics["hardware.gpu_memory"] = min(memories, default=None)
        graphics["hardware.compute_capability"] = min(capabilities, default=None)
    return Facts.of(main, origin="measured", how="operating system") | Facts.of(
        graphics, origin="measured", how="nvidia-smi" if gpus else "no NVIDIA GPU was found"
    )


def num_cores(sys: Path = Path("/sys")) -> int:
    """Return the processor cores this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _cpu_quota(sys)
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def _cpu_quota(sys: Path) -> float | None:
    """Return the processor time a container may use, in cores."""
    words = _text(sys / _CPU_MAX).split()
    if len(words) != 2:
        words = [_text(sys / name).strip() for name in _CPU_QUOTA_V1]
    quota, period = _number(words[0]), _number(words[1])
    if quota is None or period is None or quota <= 0 or period <= 0:
        return None
    return quota / period


def memory_gib(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> float | None:
    """Return the main memory this process may use, GiB."""
    found = [_number(_text(sys / name).strip()) for name in _MEMORY_LIMITS]
    for line in _text(proc / "meminfo").splitlines():
        if line.startswith("MemTotal:"):
            kibibytes = _number(line.split()[1])
            found.append(kibibytes * 1024 if kibibytes else None)
    if all(n is None for n in found):
        try:
            found.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
        except (AttributeError, OSError, ValueError):
            return None
    return min(n for n in found if n is not None) / _GIB


def _has_amx(proc: Path) -> bool | None:
    """Whether the processor multiplies bfloat16 matrices; None where the kernel does not say."""
    for line in _text(proc / "cpuinfo").splitlines():
        if line.startswith("flags"):
            return "amx_bf16" in line.split()
    return None


def visible_gpus(environment: Mapping[str, str]) -> list[tuple[float | None, float | None]]:
    """Return memory (GiB) and compute capability of every visible GPU; unknown ones are None.

    Args:
        environment: Environment variables; `CUDA_VISIBLE_DEVICES` hides GPUs.
    """
    program = shutil.which("nvidia-smi", path=environment.get("PATH"))
    if program is None:
        return []
    try:
        answer = subprocess.run(
            [program, *_GPU_QUERY],
            capture_output=True,
            text=True,
            timeout=_QUERY_TIMEOUT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[word.strip() for word in line.split(",")] for line in answer.stdout.splitlines()]
    rows = [row for row in rows if len(row) == 4]
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        rows = _chosen(rows, chosen)
    found = []
    for _, _, mebibytes, capability in rows:
        memory = _number(mebibytes)
        found.append((None if memory is None else memory / 1024, _number(capability)))
    return found


def _chosen(rows: list[list[str]], visible: str) -> list[list[str]]:
    """Return the GPUs named in `CUDA_VISIBLE_DEVICES`; the first unknown name ends the list."""
    kept = []
    for word in (w.strip() for w in visible.split(",")):
        match = [r for r in rows if word and (r[0] == word or r[1].startswith(word))]
        if not match:
            break
        kept.append(match[0])
    return kept


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
