"""A run directory: one search and all it left on disk.

    run.json             what was asked for: data, budget, strategy, seed, versions, command
    recommendation.json  every setting with its reasons
    fingerprint.json     what was measured of the data
    range_tests.json     learning-rate range tests, where rules asked for them
    preprocessing.json   fitted preprocessing and target encoding
    study.db             every finished trial: an Optuna study, for optuna-dashboard too
    events.jsonl         what happened, a line each, append-only
    checkpoints/         weights of the best trials, states of trials that may go on
    model.keras          the best model; it takes raw rows
    report.json/.md/.html

The study is the truth. A trial is in it, whole, or not at all; everything else
can be made again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smarttune.errors import RunError
from smarttune.files import cannot_write, write_json
from smarttune.objectives import Objective
from smarttune.recommendation import Recommendation
from smarttune.trials import TrialLog, TrialRecord
from smarttune.tuning.study import Study
from smarttune.version import __version__

if TYPE_CHECKING:
    import pandas as pd

    from smarttune.fingerprint import Fingerprint

SCHEMA = "smarttune/run@1"
RANGE_TESTS = "range_tests.json"


class Run:
    """A search on disk. Make one with `Run.create`, open one with `Run.load`."""

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def create(
        cls, path: Path, manifest: Mapping[str, Any], files: Mapping[str, Any] | None = None
    ) -> Run:
        """Start a new run directory.

        Args:
            path: A new or empty directory.
            manifest: What was asked for.
            files: Further JSON files by name. run.json is written last: a directory
                without it holds no run.

        Raises:
            RunError: If the directory holds a run or other files, or cannot be written.
        """
        if (path / "run.json").exists():
            raise RunError(
                str(path),
                received="it already holds a run",
                expected="a new or empty directory",
                mend=f"Continue that run with `smarttune resume {path}`, or name another "
                "directory with --run.",
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
            # What a start that was cut short may have left is no obstacle.
            ours = (*(files or {}), "run.json", ".lock")
            unfinished = tuple(f".{name}." for name in ours)
            occupied = next(
                (
                    p
                    for p in path.iterdir()
                    if p.name not in ours and not p.name.startswith(unfinished)
                ),
                None,
            )
        except OSError as error:
            raise cannot_write(path, error) from error
        if occupied is not None:
            raise RunError(
                str(path),
                received=f"it is not empty (it holds `{occupied.name}`)",
                expected="a new or empty directory",
                mend="Name another directory with --run.",
            )
        manifest = {
            "schema": SCHEMA,
            "smarttune": __version__,
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            **manifest,
        }
        for name, content in (files or {}).items():
            write_json(path / name, content)
        write_json(path / "run.json", manifest)
        return cls(path, manifest)

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Open a run directory.

        Raises:
            RunError: If it is none, or another version wrote it.
        """
        path = Path(path)
        try:
            manifest = json.loads((path / "run.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(
                str(path),
                received="there is no run.json in it"
                if path.is_dir()
                else "there is no such directory",
                expected="a run directory that `smarttune search` made",
                mend="Check the path; `smarttune search` prints it.",
            ) from None
        except (OSError, ValueError) as error:
            raise RunError(
                str(path / "run.json"),
                received=f"it cannot be read ({error})",
                expected="the file that `smarttune search` wrote",
                mend="Restore it from a copy, or start a new run.",
            ) from None
        if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
            found = manifest.get("schema") if isinstance(manifest, dict) else None
            raise RunError(
                str(path),
                received=f"it was written in the format {found!r}",
                expected=f"the format {SCHEMA!r} of smarttune {__version__}",
                mend="Use the version of smarttune that wrote it (run.json names it), "
                "or start a new run.",
            )
        if set(manifest.get("objective") or {}) != set(Objective._fields):
            raise RunError(
                str(path / "run.json"),
                received="it does not say what ranks the trials",
                expected="the file that `smarttune search` wrote",
                mend="Restore it from a copy, or start a new run.",
            )
        return cls(path, manifest)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run for writing; the lock goes with the process, however it ends.

        Raises:
            RunError: If another process searches in this directory.
        """
        try:
            file = open(self.path / ".lock", "w", encoding="utf-8")  # noqa: SIM115 -- closed below
        except OSError as error:
            raise cannot_write(self.path, error) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunError(
                    str(self.path),
                    received="another process is searching in it",
                    expected="a run that nobody writes to",
                    mend="Wait for that search, or stop it first.",
                ) from None
            yield

    @cached_property
    def objective(self) -> Objective:
        """What ranks the trials."""
        return Objective(**self.manifest["objective"])

    @cached_property
    def recommendation(self) -> Recommendation:
        """Where the search started from."""
        return Recommendation.from_json(self.read("recommendation.json"))

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What was measured of the data."""
        from smarttune.fingerprint import Fingerprint

        return Fingerprint.model_validate_json(json.dumps(self.read("fingerprint.json")))

    @cached_property
    def study(self) -> Study:
        """The record of finished trials."""
        return Study(self.path / "study.db", self.objective)

    @property
    def log(self) -> TrialLog:
        """All finished trials."""
        return TrialLog(self.objective, self.study.records())

    @property
    def model_path(self) -> Path:
        """Where the final model is, once the search has ended."""
        return self.path / "model.keras"

    @property
    def is_finished(self) -> bool:
        """Whether the search ended with a report."""
        return (self.path / "report.json").exists()

    def report(self) -> dict[str, Any]:
        """The final report as data.

        Raises:
            RunError: If the search has not ended.
        """
        if not self.is_finished:
            raise RunError(
                str(self.path),
                received="the search has not ended, so there is no report",
                expected="a finished run",
                mend=f"Finish it with `smarttune resume {self.path}`.",
            )
        report: dict[str, Any] = self.read("report.json")
        return report

    def best_weights_path(self, trial_id: str) -> Path:
        """Weights of a trial's best epoch."""
        return self.path / "checkpoints" / f"{trial_id}.best.npz"

    def state_path(self, trial_id: str) -> Path:
        """The whole state after a trial's last epoch, to go on from."""
        return self.path / "checkpoints" / f"{trial_id}.last.npz"

    def record(self, trial: TrialRecord) -> None:
        """Add a finished trial, in one transaction."""
        self.study.add(trial)

    def note(self, event: str, **details: Any) -> dict[str, Any]:
        """Append a line to the events and return it."""
        line = {"event": event, "time": round(time.time(), 3), **details}
        try:
            with open(self.path / "events.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise cannot_write(self.path / "events.jsonl", error) from error
        return line

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """The events of some kinds, in their order."""
        return events_in(self.path, kinds)

    def trials_on_disk(self) -> set[str]:
        """Ids of the trials that have checkpoints."""
        return {trial_id for _, trial_id in self._checkpoints()}

    def _checkpoints(self) -> list[tuple[Path, str]]:
        """Files of checkpoints with the ids of their trials."""
        folder = self.path / "checkpoints"
        files = list(folder.iterdir()) if folder.is_dir() else []
        return [(file, file.name.lstrip(".").partition(".")[0]) for file in files]

    def prune_checkpoints(self, keep: Collection[str], running: Collection[str] = ()) -> None:
        """Delete checkpoint files whose names are not in `keep`.

        Args:
            keep: Names of files.
            running: Trials all of whose files stay, those included that are being written.
        """
        for file, trial_id in self._checkpoints():
            if file.name not in keep and trial_id not in running:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(file)

    def write(self, name: str, content: Any) -> None:
        """Write one of the run's JSON files, whole."""
        write_json(self.path / name, content)

    def read(self, name: str) -> Any:
        """Read one of the run's JSON files.

        Raises:
            RunError: If it is missing or damaged.
        """
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(
                str(self.path / name),
                received=f"it cannot be read ({error})",
                expected="the file that `smarttune search` wrote",
                mend="The search was stopped before it began; start it again in a new directory.",
            ) from None

    def predict(self, data: Any) -> pd.DataFrame:
        """Predict for new rows with the final model.

        Args:
            data: New rows as a file, frame or array; the target is not needed.

        Returns:
            One row per row of `data`: `prediction`, and `probability_LABEL` for classes.

        Raises:
            RunError: If the search has not ended.
            DataError: If the rows cannot be read or lack columns.
        """
        from smarttune.tuning.predicting import predict

        if not (self.path / "core.keras").exists():
            raise RunError(
                str(self.path),
                received="it holds no final model",
                expected="a finished run",
                mend=f"Finish it with `smarttune resume {self.path}`.",
            )
        written = self.manifest["data"]["read_options"]
        return predict(self.path / "core.keras", self.read("preprocessing.json"), data, written)


def events_in(folder: Path, kinds: Collection[str]) -> list[dict[str, Any]]:
    """The events of some kinds that a run directory holds, in their order."""
    file = folder / "events.jsonl"
    if not file.exists():
        return []
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except ValueError:  # a line that was being written when the process was killed
            continue
        if isinstance(event, dict) and event.get("event") in kinds:
            found.append(event)
    return found
