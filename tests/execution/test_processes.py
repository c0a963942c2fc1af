"""The pool of child processes: recycling, kills, and what goes with whom."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from smarttune.errors import OptionError
from smarttune.execution import processes
from smarttune.execution.processes import ProcessPool
from smarttune.execution.workers import Ended, Setup, WorkerPool
from tests.execution.pools import (
    GLANCE,
    PATIENCE,
    WorkerPoolContract,
    applying,
    await_death,
    await_file,
    collect,
    waiting,
)

KILLS = 20
MEGABYTE = 10**6
LIMIT_GIB = 0.2  # a bare worker holds about a tenth of it


class TestContract(WorkerPoolContract):
    """What every pool promises."""

    def make(self, setup: Setup, num_workers: int) -> WorkerPool:
        """A pool without limits."""
        return ProcessPool(setup, num_workers)


def run_one(setup: Setup, task: Any = None, **options: Any) -> Ended:
    """What becomes of one task on one worker."""
    with ProcessPool(setup, 1, **options) as pool:
        pool.submit("one", task)
        return collect(pool, 1)["one"]


def run_in_turn(pool: WorkerPool, tasks: list[Any]) -> list[Any]:
    """The results of tasks of which each is handed in after the one before came back."""
    results = []
    for task in tasks:
        pool.submit("next", task)
        results.append(collect(pool, 1)["next"].result)
    return results


def start_script(folder: Path, code: str) -> subprocess.Popen[str]:
    """Run a script without a guard around its main part, in a process group of its own."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(code))
    return subprocess.Popen(
        [sys.executable, str(script)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        start_new_session=True,
    )


class TestEnds:
    """How a worker ended stands in the outcome."""

    def test_the_signal_is_named(self) -> None:
        """The outcome of a killed worker says which signal it was."""
        ended = run_one(applying(lambda task: os.kill(os.getpid(), task)), signal.SIGKILL)

        assert ended == Ended("one", lost="killed by signal 9 (SIGKILL)")

    def test_the_status_is_named(self) -> None:
        """The outcome of a worker that ended itself says with which status."""
        assert run_one(applying(os._exit), 3) == Ended("one", lost="exited with status 3")

    def test_a_setup_that_kills_its_worker_costs_one_start_per_task(self, tmp_path: Path) -> None:
        """A worker that dies in its setup is not started over and over for the same task."""

        def setup() -> Any:
            (tmp_path / str(os.getpid())).touch()
            os._exit(4)

        with ProcessPool(setup, 2) as pool:
            for key in "abc":
                pool.submit(key, key)
            ended = collect(pool, 3)

        assert {e.lost for e in ended.values()} == {"exited with status 4"}
        assert len(list(tmp_path.iterdir())) == 3

    def test_a_worker_killed_idle_costs_no_task(self) -> None:
        """A worker that dies between two tasks is replaced, and the next task returns."""
        with ProcessPool(applying(lambda task: os.getpid()), 1) as pool:
            (first,) = run_in_turn(pool, [None])
            os.kill(first, signal.SIGKILL)
            # Its threads may outlive its entry in the table of processes by a moment.
            while not pool._workers[0].has_ended():
                time.sleep(GLANCE)

            (second,) = run_in_turn(pool, [None])

        assert second not in (None, first)

    def test_a_result_that_cannot_be_read_is_an_outcome(self) -> None:
        """A result that fails to be unpickled here ends its task with an error."""

        class Broken:
            def __reduce__(self) -> Any:
                return int, ("no number",)

        assert "no number" in run_one(applying(lambda task: Broken())).error

    def test_kills_at_any_moment_end_every_task_exactly_once(self) -> None:
        """Workers killed while starting, reading, computing or sending lose only their task."""
        rng = random.Random(11)
        sent = 0
        ended: dict[str, Ended] = {}

        def program(task: int) -> tuple[int, bytes]:
            return task, bytes([task % 256]) * MEGABYTE

        with ProcessPool(applying(program), 2) as pool:
            for _ in range(KILLS):
                while sent - len(ended) < 4:
                    pool.submit(str(sent), sent)
                    sent += 1
                time.sleep(rng.uniform(0.0, 0.15))
                victim = rng.choice([w for w in pool._workers if w is not None])
                os.kill(victim.process.pid, signal.SIGKILL)
                for one in pool.wait(timeout=rng.choice([0.0, 0.05])):
                    assert one.key not in ended
                    ended[one.key] = one
            rest = collect(pool, sent - len(ended))
            assert not pool.wait(timeout=0.0)

        assert not rest.keys() & ended.keys()
        ended |= rest
        lost = [e for e in ended.values() if e.lost]
        assert {e.lost for e in lost} <= {"killed by signal 9 (SIGKILL)"}
        assert 0 < len(lost) <= KILLS
        for key, one in ended.items():
            assert one.lost or one.result == (int(key), bytes([int(key) % 256]) * MEGABYTE)


def growing() -> Setup:
    """The setup of a program that keeps so many megabytes more with each task."""

    def setup() -> Any:
        held: list[bytes] = []

        def program(megabytes: int) -> int:
            held.append(b"x" * (megabytes * MEGABYTE))
            return os.getpid()

        return program

    return setup


class TestRecycling:
    """A worker is replaced between two tasks."""

    def test_after_so_many_tasks(self) -> None:
        """With two tasks per worker, six tasks are run by three processes, two each."""
        with ProcessPool(applying(lambda task: os.getpid()), 1, tasks_per_worker=2) as pool:
            pids = run_in_turn(pool, [None] * 6)

        assert sorted(Counter(pids).values()) == [2, 2, 2]

    def test_when_it_holds_too_much_memory(self) -> None:
        """A worker that has grown beyond the limit returns its result and is then replaced."""
        with ProcessPool(growing(), 1, memory_limit=LIMIT_GIB) as pool:
            first, second, third, fourth = run_in_turn(pool, [1, 300, 1, 1])

        assert first == second != third == fourth

    @pytest.mark.parametrize(("memory", "is_replaced"), [(0.25, True), (0.6, False), (None, False)])
    def test_without_a_limit_it_may_hold_its_share(
        self, monkeypatch: pytest.MonkeyPatch, memory: float | None, is_replaced: bool
    ) -> None:
        """By default a worker is replaced beyond four fifths of the machine's memory, divided by
        the number of workers; where that memory is unknown, never.
        """
        monkeypatch.setattr(processes, "memory_gib", lambda: memory)

        with ProcessPool(growing(), 1) as pool:
            first, second, third = run_in_turn(pool, [1, 300, 1])

        assert first == second
        assert (second != third) is is_replaced

    def test_one_that_has_not_grown_stays(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A share that a new worker exceeds at once does not replace it after every task."""
        monkeypatch.setattr(processes, "memory_gib", lambda: 0.001)

        with ProcessPool(growing(), 1) as pool:
            assert len(set(run_in_turn(pool, [1] * 3))) == 1


class TestDriver:
    """What a worker takes from the program that started it, and what it does not."""

    @pytest.mark.slow
    def test_a_script_needs_no_guard(self, tmp_path: Path) -> None:
        """A plain script runs once, its lambdas and classes work in a worker, and instances of
        its classes come back as such.
        """
        script = start_script(
            tmp_path,
            """
            from smarttune.execution.processes import ProcessPool

            class Point:
                def __init__(self, x):
                    self.x = x

            offset = 40
            print("started")
            with ProcessPool(lambda: lambda task: Point(task.x + offset), 1) as pool:
                pool.submit("a", Point(2))
                (ended,) = pool.wait()
            print(isinstance(ended.result, Point), ended.result.x, ended.error)
            """,
        )

        output, errors = script.communicate(timeout=PATIENCE)

        assert (output, script.returncode) == ("started\nTrue 42 \n", 0)
        assert "Traceback" not in errors

    def test_a_worker_starts_bare(self) -> None:
        """No framework and nothing of ours is imported that the setup does not ask for."""
        loaded = run_one(applying(lambda task: sorted(sys.modules))).result

        roots = {name.partition(".")[0] for name in loaded}
        assert not roots & {"smarttune", "keras", "tensorflow", "jax", "numpy"}

    def test_modules_of_the_script_can_be_imported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A worker finds modules where the driver finds them."""
        (tmp_path / "only_here.py").write_text("answer = 42\n")
        monkeypatch.syspath_prepend(str(tmp_path))

        assert run_one(applying(lambda task: __import__("only_here").answer)).result == 42

    @pytest.mark.slow
    def test_workers_end_with_a_killed_driver(self, tmp_path: Path) -> None:
        """A worker that computes without a break ends soon after its driver is killed, and so
        does what it has started.
        """
        driver = start_script(
            tmp_path,
            """
            import os, subprocess
            from pathlib import Path
            from smarttune.execution.processes import ProcessPool

            def program(task):
                child = subprocess.Popen(["sleep", "1000"])
                Path("draft").write_text(f"{os.getpid()} {child.pid}")
                Path("draft").rename("pids")
                while True:
                    pass

            pool = ProcessPool(lambda: program, 1)
            pool.submit("a", None)
            pool.wait()
            """,
        )
        worker, child = map(int, await_file(tmp_path / "pids").split())

        driver.kill()
        driver.communicate(timeout=PATIENCE)

        await_death(worker)
        await_death(child)

    @pytest.mark.slow
    def test_ctrl_c_prints_one_traceback(self, tmp_path: Path) -> None:
        """An interrupt reaches the driver alone: no worker writes a traceback."""
        driver = start_script(
            tmp_path,
            """
            import signal
            from pathlib import Path
            from smarttune.execution.processes import ProcessPool
            from tests.execution.pools import waiting

            # A test run in the background is deaf to Ctrl-C, and so would be its children.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            with ProcessPool(waiting(Path.cwd()), 2) as pool:
                pool.submit("a", "a")
                pool.submit("b", "b")
                pool.wait()
            """,
        )
        workers = [int(await_file(tmp_path / f"{key}.pid")) for key in "ab"]

        os.killpg(driver.pid, signal.SIGINT)
        _, errors = driver.communicate(timeout=PATIENCE)

        assert errors.count("Traceback") == 1
        assert errors.rstrip().endswith("KeyboardInterrupt")
        for pid in workers:
            await_death(pid)

    def test_a_worker_is_deaf_to_interrupts(self, tmp_path: Path) -> None:
        """An interrupt that is sent to a worker itself does not disturb its task."""
        with ProcessPool(waiting(tmp_path), 1) as pool:
            pool.submit("a", "a")
            os.kill(int(await_file(tmp_path / "a.pid")), signal.SIGINT)
            (tmp_path / "a.go").touch()

            assert collect(pool, 1)["a"] == Ended("a", result="a")

    def test_what_a_worker_prints_goes_to_standard_error(self, capfd: Any) -> None:
        """The driver's standard output is its own; what workers write is not lost."""

        def program(task: str) -> None:
            sys.stdout.write(task)
            sys.stdout.flush()
            sys.stderr.write("beside")
            sys.stderr.flush()

        run_one(applying(program), "aloud, ")

        assert capfd.readouterr() == ("", "aloud, beside")


class TestClosing:
    """Closing leaves nothing behind."""

    @pytest.mark.parametrize("killed", [True, False])
    def test_what_a_worker_started_ends_with_it(self, tmp_path: Path, killed: bool) -> None:
        """Processes of a worker that is killed or closed amid its task end too."""

        def program(task: Any) -> None:
            child = subprocess.Popen(["sleep", "1000"])
            (tmp_path / "draft").write_text(f"{os.getpid()} {child.pid}")
            (tmp_path / "draft").rename(tmp_path / "pids")
            time.sleep(1000)

        with ProcessPool(applying(program), 1) as pool:
            pool.submit("a", None)
            worker, child = map(int, await_file(tmp_path / "pids").split())
            if killed:
                os.kill(worker, signal.SIGKILL)
                assert collect(pool, 1)["a"].lost
                await_death(child)

        await_death(child)

    def test_a_busy_worker_is_not_waited_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Only a worker without a task gets time to leave; one amid its task is killed."""
        monkeypatch.setattr(processes, "_GRACE_SECONDS", 10 * PATIENCE)
        pool = ProcessPool(waiting(tmp_path), 1)
        pool.submit("a", "a")
        await_file(tmp_path / "a.pid")

        closing = threading.Thread(target=pool.close, daemon=True)
        closing.start()
        closing.join(PATIENCE)

        assert not closing.is_alive()

    def test_exit_hooks_of_a_worker_run(self, tmp_path: Path) -> None:
        """A worker that is closed idle runs what was registered for its exit."""

        def setup() -> Any:
            import atexit

            atexit.register((tmp_path / "left").touch)
            return lambda task: task

        run_one(setup)

        await_file(tmp_path / "left")

    def test_a_worker_that_will_not_leave_is_killed(self) -> None:
        """A worker that hangs in its exit does not hold up the closing for long."""

        def setup() -> Any:
            import atexit

            atexit.register(time.sleep, 1000)
            return lambda task: os.getpid()

        with ProcessPool(setup, 1) as pool:
            (pid,) = run_in_turn(pool, [None])

        await_death(pid)

    def test_a_closed_pool_takes_no_task(self) -> None:
        """A task for a closed pool is a mistake of the program."""
        pool = ProcessPool(applying(repr), 1)
        pool.close()

        with pytest.raises(RuntimeError, match="closed"):
            pool.submit("a", 1)
        assert not pool.wait()


class TestMistakes:
    """What the user can mend is said as such."""

    @pytest.mark.parametrize(
        ("num_workers", "options", "name"),
        [
            (0, {}, "num_workers"),
            (1, {"memory_limit": 0.0}, "memory_limit"),
            (1, {"memory_limit": float("nan")}, "memory_limit"),
            (1, {"tasks_per_worker": -1}, "tasks_per_worker"),
        ],
    )
    def test_numbers_are_positive(
        self, num_workers: int, options: dict[str, Any], name: str
    ) -> None:
        """A number that is not above zero is refused by its name."""
        with pytest.raises(OptionError, match=name):
            ProcessPool(applying(repr), num_workers, **options)

    def test_a_setup_that_cannot_be_pickled(self) -> None:
        """A setup that holds a lock is refused with the reason."""
        lock = threading.Lock()

        with pytest.raises(OptionError, match=r"setup.*cannot pickle '_thread\.lock'"):
            ProcessPool(lambda: lambda task: lock, 1)

    def test_a_task_that_cannot_be_pickled(self) -> None:
        """A task that holds a lock is refused by its key, and the pool goes on."""
        with ProcessPool(applying(repr), 1) as pool:
            with pytest.raises(OptionError, match=r"`bad`.*cannot pickle '_thread\.lock'"):
                pool.submit("bad", threading.Lock())

            assert run_in_turn(pool, [1]) == ["1"]
