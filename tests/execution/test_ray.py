"""The lane `ray`: the contract of all pools, who can reach its cluster, and what it says."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
import pytest

from smarttune import SmartTuner
from smarttune.errors import MissingExtraError, OptionError, RunError
from smarttune.execution import TrainingData
from smarttune.execution import ray as ray_lane
from smarttune.execution.ray import RayPool, check_shared
from smarttune.execution.workers import Ended, Setup, WorkerPool
from smarttune.oracles import RandomOracle
from smarttune.tuning.run import Run
from tests.execution.pools import WorkerPoolContract, applying, await_death, collect

# Ray itself must not be imported before the first pool.
pytestmark = [
    pytest.mark.slow,  # a cluster takes ten seconds to start
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
]

SHARE = 0.1  # cores that a worker of these tests reserves, so that all find room on two
FREE_PORT = 9  # of the protocol `discard`, which nobody serves


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayPool]:
    """A local cluster that all tests share, of a pool that stays open."""
    with RayPool(applying(lambda task: task), 1, num_cpus=SHARE) as pool:
        yield pool
    with warnings.catch_warnings():  # Ray does not wait for the processes that it has ended
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def printed_by(program: str, *arguments: str, **environment: str) -> str:
    """What a program prints in a process of its own that knows of no cluster."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return ended.stdout


JOIN = """
import sys
from smarttune.errors import OptionError
from smarttune.execution.ray import RayPool
try:
    RayPool(None, 1, address=sys.argv[1])
except OptionError as error:
    print(error)
"""


@pytest.mark.parametrize("address", ["auto", f"127.0.0.1:{FREE_PORT}", "nonsense:port"])
def test_no_cluster_is_an_error_that_helps(address: str) -> None:
    """Without a cluster the error says how to start one."""
    said = printed_by(JOIN, address)

    assert f"--address {address}: Ray does not connect" in said
    assert "`ray start --head`" in said


class TestRayPool(WorkerPoolContract):
    """The contract, on a cluster that is there already."""

    @pytest.fixture(autouse=True)
    def _connected(self, cluster: RayPool) -> None:
        self.cluster = cluster

    def make(self, setup: Setup, num_workers: int) -> WorkerPool:
        return RayPool(setup, num_workers, num_cpus=SHARE)


def descendants() -> set[int]:
    """This process and all that it started, by whatever detour: Ray's are among them."""
    parents = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(file.parent.name)] = int(file.read_text().rpartition(")")[2].split()[1])
    found, size = {os.getpid()}, 0
    while size < len(found):
        size = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return found


def listening(pids: set[int]) -> dict[int, set[str]]:
    """The addresses on which each of these processes listens for TCP connections."""
    sockets = {}
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A":  # listening
                sockets[rest[5]] = address_of(local.partition(":")[0])
    found: dict[int, set[str]] = {}
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inode = os.readlink(link).partition("socket:[")[2].rstrip("]")
            except OSError:
                continue
            if inode in sockets:
                found.setdefault(pid, set()).add(sockets[inode])
    return found


def address_of(text: str) -> str:
    """The address behind the kernel's words of four bytes in the machine's order."""
    words = [int(text[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(words))
    return str(getattr(address, "ipv4_mapped", None) or address)


def test_a_local_cluster_listens_on_loopback_only(cluster: RayPool) -> None:
    """Every listening socket of every process of a local cluster is bound to loopback."""
    with RayPool(applying(lambda task: os.getpid()), 1, num_cpus=SHARE) as pool:
        pool.submit("a", None)
        worker = collect(pool, 1)["a"].result
        found = listening(descendants())

    assert worker in found
    assert len(found) >= 3  # the store of the cluster's state, the node's daemon, a worker
    assert {ipaddress.ip_address(a).is_loopback for s in found.values() for a in s} == {True}


CLIENT = """
import sys, ray
try:
    ray.init(sys.argv[1], log_to_driver=False)
    print("RESOURCES", ray.cluster_resources())
except Exception as error:
    print(type(error).__name__)
"""


def reply_to(environment: dict[str, str], address: str) -> str:
    """What a client gets that knows the address."""
    told = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_NUM_REDIS_GET_RETRIES": "1"}
    return printed_by(CLIENT, address, **told, **environment)


def test_a_client_without_the_token_is_refused(cluster: RayPool) -> None:
    """Only who has the token gets into a local cluster."""
    address = cluster.ray.get_runtime_context().gcs_address
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": os.environ["RAY_AUTH_TOKEN"]}

    assert "RESOURCES" in reply_to(token, address)
    assert "RESOURCES" not in reply_to({**token, "RAY_AUTH_TOKEN": "0" * 64}, address)
    assert "RESOURCES" not in reply_to({"RAY_AUTH_MODE": "disabled"}, address)


def test_a_pool_leaves_a_cluster_that_it_found(cluster: RayPool) -> None:
    """Closing a pool ends the cluster only if the pool started it."""
    RayPool(applying(lambda task: task), 1, num_cpus=SHARE).close()

    cluster.submit("still", "here")

    assert collect(cluster, 1) == {"still": Ended("still", result="here")}


def test_arrays_of_the_setup_are_shared(cluster: RayPool) -> None:
    """Workers read the arrays of a setup where the store keeps them, without a copy."""
    x = np.arange(1_000_000.0)

    def program(task: Any) -> tuple[float, bool]:
        return float(x.sum()), x.flags.writeable

    with RayPool(applying(program), 1, num_cpus=SHARE) as pool:
        pool.submit("a", None)

        assert collect(pool, 1)["a"].result == (x.sum(), False)


def test_a_worker_knows_the_backend_before_it_imports_anything(
    cluster: RayPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend of the search is that of its workers, and no framework is loaded unasked."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")

    def program(task: Any) -> tuple[Any, bool, bool]:
        modules = sys.modules
        backend = os.environ.get("KERAS_BACKEND")
        return backend, "keras" in modules, "TF_FORCE_GPU_ALLOW_GROWTH" in os.environ

    with RayPool(applying(program), 1, num_cpus=SHARE) as pool:
        pool.submit("a", None)

        assert collect(pool, 1)["a"].result == ("jax", False, True)


def test_workers_without_room_take_no_task(
    cluster: RayPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All tasks end although the cluster has room for one of two workers only."""
    monkeypatch.setattr(ray_lane, "START_TIMEOUT", 1.0)
    cores = cluster.ray.cluster_resources()["CPU"]

    with RayPool(applying(lambda task: task), 2, num_cpus=cores - SHARE) as pool:
        for key in "abcd":
            pool.submit(key, key)

        assert set(collect(pool, 4)) == set("abcd")


def test_a_worker_that_cannot_exist_is_refused(cluster: RayPool) -> None:
    """A reservation that no node can meet is an error, not a wait without end."""
    with pytest.raises(OptionError, match="no node has 1 CPUs and 64 GPUs"):
        RayPool(applying(lambda task: task), 1, num_gpus=64)


def test_a_folder_that_all_nodes_see_is_fine(cluster: RayPool, tmp_path: Path) -> None:
    """A shared run directory passes, and nothing is left in it."""
    check_shared(cluster, tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_a_node_does_not_have_is_refused(cluster: RayPool, tmp_path: Path) -> None:
    """A run directory where a node cannot write is an error that names the node."""
    with pytest.raises(RunError, match="written there on 127.0.0.1 is not seen here"):
        check_shared(cluster, tmp_path / "absent")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks Ray is told what to install."""
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(ray_lane, "_imported", ray_lane._imported.__wrapped__)

    with pytest.raises(MissingExtraError, match=r"pip install 'smarttune\[ray\]'"):
        RayPool(applying(lambda task: task), 1)


EARLY = """
import ray
from smarttune.errors import RunError
from smarttune.execution.ray import RayPool
try:
    RayPool(None, 1)
except RunError as error:
    print(error, ray.is_initialized())
"""


def test_a_local_cluster_that_could_be_reached_is_not_started() -> None:
    """Where Ray was imported too early to be kept on loopback, nothing is started."""
    assert "Make the pool before `import ray`" in (said := printed_by(EARLY))
    assert said.endswith("False\n")


def test_a_search_survives_a_killed_worker(cluster: RayPool, tmp_path: Path) -> None:
    """A search whose worker is killed in a trial ends with all its trials, each once."""
    killed, driver = tmp_path / "killed", os.getpid()
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 64, 1)).astype("float32")

    def build(hp: Any) -> Any:
        import keras

        if os.getpid() != driver:
            with contextlib.suppress(FileExistsError), killed.open("x"):
                os.kill(os.getpid(), signal.SIGKILL)
        hp.Choice("training.batch_size", [16, 32])
        model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1)])
        rate = hp.Float("optimizer.learning_rate", 1e-3, 1e-1, sampling="log")
        model.compile(keras.optimizers.SGD(rate), "mse")
        return model

    tuner = SmartTuner(
        RandomOracle(keras_tuner.Objective("val_loss", "min"), max_trials=4, seed=1),
        build,
        directory=tmp_path,
        project_name="run",
        workers=2,
        pool=lambda setup, workers: RayPool(setup, workers, num_cpus=SHARE),
    )
    tuner.search(TrainingData(x, y, x, y), epochs=2)

    recorded = list(Run.load(tmp_path / "run").log)
    events = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    assert killed.exists()
    assert sorted(r.trial_id for r in recorded) == ["0", "1", "2", "3"]
    assert [r.outcome for r in recorded] == ["completed"] * 4
    assert len([e for e in events if json.loads(e)["event"] == "worker_lost"]) == 1


ORPHAN = """
import sys
from pathlib import Path
from smarttune.execution.ray import RayPool
from smarttune.oracles import RandomOracle
from smarttune.tuning.run import Run
from tests.execution.pools import waiting
pool = RayPool(waiting(Path(sys.argv[1])), 1)
pool.submit("a", "a")
pool.wait()
"""


def test_workers_end_with_a_killed_driver(root: Path, tmp_path: Path) -> None:
    """A driver that is killed takes its workers with it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    driver = subprocess.Popen([sys.executable, "-c", ORPHAN, str(tmp_path)], cwd=root, env=kept)
    while not (tmp_path / "a.pid").exists():
        assert driver.poll() is None
        time.sleep(0.1)
    worker = int((tmp_path / "a.pid").read_text())

    driver.kill()
    driver.wait()

    await_death(worker)
