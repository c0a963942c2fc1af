"""The machine as the operating system and nvidia-smi describe it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smarttune.hardware import measure_hardware, memory_gib, num_cores, visible_gpus

ANSWER = "0, GPU-aaa, 24564, 8.9\n1, GPU-bbb, 16384, 7.5\n"


def machine(root: Path, files: dict[str, str]) -> tuple[Path, Path]:
    """Write a pretended /proc and /sys."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root / "proc", root / "sys"


def smi(folder: Path, script: str) -> dict[str, str]:
    """Write a pretended nvidia-smi; returns the environment that finds it."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_this_machine_is_described() -> None:
    """The real machine has cores and memory, and every fact says that it was measured."""
    facts = measure_hardware()

    cores, memory = facts.value("hardware.num_cores"), facts.value("hardware.memory")
    assert isinstance(cores, int)
    assert 1 <= cores <= (os.cpu_count() or 1)
    assert isinstance(memory, float)
    assert memory > 0.1
    assert {fact.origin for fact in facts.values()} == {"measured"}


def test_memory_is_the_smaller_of_machine_and_container(tmp_path: Path) -> None:
    """A container's limit counts where it is below the machine's memory."""
    proc, sys = machine(
        tmp_path,
        {
            "proc/meminfo": "MemTotal:       8388608 kB\nMemFree: 1 kB\n",
            "sys/fs/cgroup/memory.max": f"{2 * 1024**3}\n",
        },
    )

    assert memory_gib(proc, sys) == 2.0
    (sys / "fs/cgroup/memory.max").write_text("max\n", encoding="utf-8")
    assert memory_gib(proc, sys) == 8.0


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"sys/fs/cgroup/cpu.max": "150000 100000"}, 2),
        ({"sys/fs/cgroup/cpu.max": "20000 100000"}, 1),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, 8),
        (
            {
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n"}, 8),
        ({}, 8),
    ],
)
def test_cores_respect_the_limits_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int
) -> None:
    """Affinity and quota both bound the cores; a part of a core counts as one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    _, sys = machine(tmp_path, files)

    assert num_cores(sys) == cores


@pytest.mark.parametrize(("flags", "amx"), [("fpu amx_bf16 sse", True), ("fpu avx512f", False)])
def test_matrix_instructions_are_read_from_the_flags(tmp_path: Path, flags: str, amx: bool) -> None:
    """The processor's flags tell of bfloat16 matrix instructions."""
    proc, sys = machine(tmp_path, {"proc/cpuinfo": f"model name: x\nflags\t\t: {flags}\n"})

    assert measure_hardware(proc=proc, sys=sys).value("hardware.cpu_amx") is amx


def test_unknown_processors_leave_the_fact_unknown(tmp_path: Path) -> None:
    """Without flags nothing is claimed."""
    assert "hardware.cpu_amx" not in measure_hardware(proc=tmp_path, sys=tmp_path)


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [(24564 / 1024, 8.9), (16.0, 7.5)]),
        ("1", [(16.0, 7.5)]),
        ("1,0", [(16.0, 7.5), (24564 / 1024, 8.9)]),
        ("GPU-bbb", [(16.0, 7.5)]),
        ("0,9,1", [(24564 / 1024, 8.9)]),
        ("", []),
        ("-1", []),
    ],
)
def test_visible_gpus_are_listed(
    tmp_path: Path, visible: str | None, expected: list[tuple[float, float]]
) -> None:
    """The environment chooses among the GPUs that nvidia-smi lists."""
    environment = smi(tmp_path, f"printf '{ANSWER.encode('unicode_escape').decode()}'")
    if visible is not None:
        environment["CUDA_VISIBLE_DEVICES"] = visible

    assert visible_gpus(environment) == expected


@pytest.mark.parametrize("script", ["exit 9", "echo nonsense", "exec sleep 5"])
def test_a_broken_driver_means_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """A driver that fails, babbles or hangs does not stop us."""
    monkeypatch.setattr("smarttune.hardware._QUERY_TIMEOUT_SECONDS", 0.2)

    assert visible_gpus(smi(tmp_path, script)) == []


def test_unknown_values_of_a_gpu_stay_unknown(tmp_path: Path) -> None:
    """An old driver that knows no compute capability still counts."""
    environment = smi(tmp_path, "echo '0, GPU-a, [N/A], [N/A]'")

    assert visible_gpus(environment) == [(None, None)]


def test_gpus_make_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With GPUs the device is gpu and the smallest of them counts."""
    environment = smi(tmp_path, f"printf '{ANSWER.encode('unicode_escape').decode()}'")
    monkeypatch.setenv("PATH", environment["PATH"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    values = measure_hardware().values_dict()

    assert values["hardware.device"] == "gpu"
    assert values["hardware.num_gpus"] == 2
    assert values["hardware.gpu_memory"] == 16.0
    assert values["hardware.compute_capability"] == 7.5
