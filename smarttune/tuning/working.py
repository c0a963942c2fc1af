"""What workers are given, and what they do with a task.

Everything that the trials of a search share is written to a folder once. Large arrays are files
of their own, which all workers on a machine map into their memory instead of copying them.
"""

from __future__ import annotations

import io
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np

from smarttune.errors import OptionError
from smarttune.execution import collect_garbage, prepare_process
from smarttune.execution.lanes import Lanes
from smarttune.trials import TrialRecord
from smarttune.tuning.budget import Clock
from smarttune.tuning.policy import Given, TrialTask
from smarttune.tuning.run import Run
from smarttune.tuning.running import TrialRunner

# ours: below this an array is sooner read with the rest than opened as a file of its own.
LARGE_ARRAY = 100_000  # bytes

_CONTENT = "content.pickle"


class WorkerTraceback(Exception):  # noqa: N818 -- it is shown as the cause of one
    """Where in a worker an exception was raised."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclass(frozen=True)
class Done:
    """What a worker sends back of a task.

    Attributes:
        hyperparameters: Those of the task, with what `build` declared.
        record: The finished trial; None if it raised what may end the search.
        events: What happened on the way, with details.
        starts: Seconds until the first epoch of each training was over.
        error: What it raised, pickled; see `raised`.
        trace: Its traceback.
    """

    hyperparameters: Any
    record: TrialRecord | None = None
    events: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    starts: tuple[float, ...] = ()
    error: bytes = b""
    trace: str = ""


@dataclass(frozen=True)
class _Shared:
    """What a worker runs once: it reads the folder.

    Attributes:
        folder: Where it is.
        path: Where modules were found when it was written.
    """

    folder: Path
    path: tuple[str, ...]

    def __call__(self) -> Callable[[TrialTask], Done]:
        sys.path.extend(p for p in self.path if p not in sys.path)
        content = (self.folder / _CONTENT).read_bytes()
        runner, given, deterministic, lane = _Unpickler(io.BytesIO(content), self.folder).load()
        runner = replace(runner, lanes=Lanes(lane))
        if deterministic:
            from smarttune.training.determinism import make_deterministic

            make_deterministic(runner.policy.seed)
        prepare_process()
        return _Program(runner, given)


def share(folder: Path, runner: TrialRunner, given: Given) -> Callable[[], Any]:
    """Write what workers need to a folder; return what each of them runs once.

    Args:
        folder: A new folder that all of them can read.
        runner: Trains the trials in this process.
        given: What `search` was given.

    Raises:
        OptionError: If something cannot be sent to another process.
    """
    folder.mkdir(parents=True)
    manifest = runner.run.manifest
    sent = TrialRunner(
        Run(runner.run.path.resolve(), manifest),
        runner.hypermodel,
        runner.policy,
        runner.objective,
        executions=runner.executions,
        max_model_size=runner.max_model_size,
    )
    file = io.BytesIO()
    try:
        lane = "fit" if runner.lanes is None else runner.lanes.lane
        content = (sent, given, bool(manifest.get("deterministic")), lane)
        _Pickler(file, folder).dump(content)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise OptionError(
            "workers",
            received=f"the hypermodel or the data cannot be sent to another process ({error})",
            expected="what can be pickled",
            mend="Open files, locks and data sets inside `build` or `fit`, or search with one "
            "worker.",
        ) from error
    (folder / _CONTENT).write_bytes(file.getvalue())
    found = tuple(str(Path(p).resolve()) for p in sys.path if not p.endswith(".zip"))
    return _Shared(folder.resolve(), found)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Writes large arrays to files of their own, each once."""

    def __init__(self, file: io.BytesIO, folder: Path) -> None:
        super().__init__(file)
        self.folder = folder
        self.arrays: list[np.ndarray] = []  # held, so that no two have one id
        self.names: dict[int, str] = {}

    def persistent_id(self, obj: Any) -> str | None:
        """The file of a large array; None for all that is written in place."""
        if not isinstance(obj, np.ndarray) or obj.nbytes < LARGE_ARRAY or obj.dtype.hasobject:
            return None
        if id(obj) not in self.names:
            name = f"{len(self.arrays)}.npy"
            np.save(self.folder / name, obj, allow_pickle=False)
            self.arrays.append(obj)
            self.names[id(obj)] = name
        return self.names[id(obj)]


class _Unpickler(pickle.Unpickler):
    """Reads what `_Pickler` has written, arrays as maps of their files."""

    def __init__(self, file: io.BytesIO, folder: Path) -> None:
        super().__init__(file)
        self.folder = folder

    def persistent_load(self, pid: str) -> np.ndarray:
        """Open an array; who writes to it finds that others read it."""
        array: np.ndarray = np.load(self.folder / pid, mmap_mode="r", allow_pickle=False)
        return array.view(np.ndarray)


class _TaskClock(Clock):
    """Counts in a worker, which knows no more than when all training must have stopped."""

    def __init__(self, ends_at: float | None) -> None:
        super().__init__(None)
        self._left = None if ends_at is None else ends_at - time.time()

    @property
    def training_ends(self) -> float | None:
        """Elapsed seconds at which the training must have stopped."""
        return self._left


class _Program:
    """Trains the tasks that a worker gets."""

    def __init__(self, runner: TrialRunner, given: Given) -> None:
        self.runner, self.given = runner, given
        self.length = runner.policy.max_epochs
        self.num_trials = 0

    def __call__(self, task: TrialTask) -> Done:
        events: list[tuple[str, Mapping[str, Any]]] = []
        starts: list[float] = []

        def note(event: str, **details: Any) -> None:
            events.append((event, details))

        if self.runner.lanes is not None:
            self.runner.lanes.on_choice = lambda lane, why: note(
                "lane_chosen", lane=lane, reason=why
            )
        self._set_length(task.max_epochs)
        runner = replace(
            self.runner,
            clock=_TaskClock(task.ends_at),
            note=note,
            began=starts.append,
        )
        record, error, trace = None, b"", ""
        try:
            record = runner.train(task, self.given)
        except Exception as raised_here:  # noqa: BLE001 -- the driver decides what it means
            trace = "".join(traceback.format_exception(raised_here))
            error = _portable(raised_here)
        self.num_trials += 1
        collect_garbage(self.num_trials)
        return Done(task.hyperparameters, record, tuple(events), tuple(starts), error, trace)

    def _set_length(self, epochs: int) -> None:
        """Follow a search that has changed the length of a full training on its way."""
        if epochs != self.length:
            self.length = epochs
            set_length(self.runner.hypermodel, epochs)


def set_length(hypermodel: Any, epochs: int) -> None:
    """Tell a hypermodel of ours the epochs of a full training, on which schedules are drawn."""
    plan = getattr(hypermodel, "plan", None)
    if plan is not None:
        hypermodel.plan = replace(plan, max_epochs=epochs)


def _portable(error: Exception) -> bytes:
    """An exception as bytes; no bytes if it holds what cannot leave the process."""
    try:
        return bytes(cloudpickle.dumps((type(error), error.args, vars(error))))
    except Exception:  # noqa: BLE001 -- whatever pickling meets, the traceback can be sent
        return b""


def raised(done: Done) -> Exception:
    """The exception that a worker sent back, or one with its words."""
    try:
        # Without its constructor, whose arguments nobody knows.
        kind, args, state = pickle.loads(done.error)
        error: Exception = kind.__new__(kind, *args)
        error.args = args
        vars(error).update(state)
    except Exception:  # noqa: BLE001 -- its class may not be found here, or be no class by now
        return RuntimeError(done.trace.strip().splitlines()[-1])
    return error
