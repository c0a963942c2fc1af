"""The run directory: made whole, locked by one writer, refused where it cannot be trusted."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from smarttune.errors import RunError
from smarttune.files import write_json
from smarttune.trials import TrialRecord
from smarttune.tuning.run import SCHEMA, Run

MANIFEST = {"kind": "hypermodel", "objective": {"name": "val_loss", "direction": "min"}}

as_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


def made(path: Path) -> Run:
    """A new run directory."""
    return Run.create(path, MANIFEST, {"recommendation.json": {"a": 1}})


def test_a_new_run_is_read_back(tmp_path: Path) -> None:
    """What was asked for, the versions and the further files are on disk."""
    made(tmp_path / "deep" / "run")

    run = Run.load(str(tmp_path / "deep" / "run"))

    assert run.manifest["schema"] == SCHEMA
    assert run.manifest["kind"] == "hypermodel"
    assert run.manifest["smarttune"]
    assert run.objective == ("val_loss", "min")
    assert run.read("recommendation.json") == {"a": 1}
    assert len(run.log) == 0
    assert not run.is_finished


def test_a_directory_is_a_run_only_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """run.json is the last file to appear, so a start that is cut short leaves no run."""
    order: list[str] = []

    def noted(path: Path, content: Any) -> None:
        order.append(path.name)
        write_json(path, content)

    monkeypatch.setattr("smarttune.tuning.run.write_json", noted)
    Run.create(tmp_path / "run", MANIFEST, {"a.json": 1, "b.json": 2})

    assert order == ["a.json", "b.json", "run.json"]


def test_leftovers_of_a_start_are_no_obstacle(tmp_path: Path) -> None:
    """A start that was cut short is simply begun again in the same directory."""
    (tmp_path / "recommendation.json").write_text('{"a": 0}')
    (tmp_path / ".lock").touch()

    run = made(tmp_path)

    assert run.read("recommendation.json") == {"a": 1}


def test_temporary_files_of_a_start_are_no_obstacle(tmp_path: Path) -> None:
    """A start that was killed while it wrote leaves a temporary file, which is ignored."""
    (tmp_path / ".recommendation.json.k3j2_x").write_text('{"a"')

    assert made(tmp_path).path == tmp_path


def test_a_directory_with_other_files_is_refused(tmp_path: Path) -> None:
    """Somebody's own folder is neither used nor changed."""
    (tmp_path / "thesis.tex").write_text("precious")

    with pytest.raises(RunError, match=r"thesis\.tex") as caught:
        made(tmp_path)

    assert "--run" in caught.value.mend
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_directory_with_a_run_is_refused(tmp_path: Path) -> None:
    """A second search does not overwrite the first, and is told how to go on with it."""
    made(tmp_path)
    before = (tmp_path / "run.json").read_bytes()

    with pytest.raises(RunError, match="already holds a run") as caught:
        made(tmp_path)

    assert f"smarttune resume {tmp_path}" in caught.value.mend
    assert (tmp_path / "run.json").read_bytes() == before


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    """A path that leads through a file cannot be a run."""
    (tmp_path / "file").write_text("")

    with pytest.raises(RunError, match="cannot be written"):
        made(tmp_path / "file" / "run")


@as_root
def test_a_protected_folder_is_refused(tmp_path: Path) -> None:
    """A folder without the right to write is named, with a mend."""
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(RunError, match="cannot be written"):
            made(tmp_path / "run")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda path: None, "no such directory"),
        (lambda path: path.mkdir(), "no run.json"),
        (lambda path: _manifest(path, "{"), "cannot be read"),
        pytest.param(
            lambda path: _manifest(path, b"\xff\xfe\x00"),
            "cannot be read",
        ),
        (lambda path: _manifest(path, "[]"), "format None"),
        (lambda path: _manifest(path, '{"schema": "smarttune/run@99"}'), "smarttune/run@99"),
        (lambda path: _manifest(path, "{}"), "format None"),
    ],
    ids=["absent", "empty", "cut off", "binary", "no object", "newer", "no schema"],
)
def test_what_is_no_run_of_this_version_is_refused(tmp_path: Path, prepare: Any, says: str) -> None:
    """Each thing that is no run is an error that says what was found."""
    prepare(tmp_path / "run")

    with pytest.raises(RunError, match=says) as caught:
        Run.load(tmp_path / "run")

    assert str(tmp_path / "run") in caught.value.where


def _manifest(path: Path, content: str | bytes) -> None:
    path.mkdir()
    data = content.encode() if isinstance(content, str) else content
    (path / "run.json").write_bytes(data)


def test_a_manifest_without_its_parts_is_refused(tmp_path: Path) -> None:
    """A run.json of the right format that lacks the objective is an error of the user's."""
    _manifest(tmp_path / "run", json.dumps({"schema": SCHEMA}))

    with pytest.raises(RunError):
        _ = Run.load(tmp_path / "run").objective


def test_a_missing_or_damaged_part_is_named(tmp_path: Path) -> None:
    """A file of the run that is gone or cut off is an error with its path."""
    run = made(tmp_path / "run")
    (run.path / "recommendation.json").write_text('{"a": ')

    with pytest.raises(RunError, match=r"recommendation\.json"):
        run.read("recommendation.json")
    with pytest.raises(RunError, match=r"fingerprint\.json"):
        _ = run.fingerprint


def test_an_unfinished_run_has_no_report(tmp_path: Path) -> None:
    """Asking for the report of a search that goes on says how to finish it."""
    run = made(tmp_path / "run")

    with pytest.raises(RunError, match="has not ended") as caught:
        run.report()

    assert f"smarttune resume {run.path}" in caught.value.mend
    run.write("report.json", {"ok": True})
    assert run.report() == {"ok": True}


def _hold(path: str, started: Any, release: Any) -> None:
    with Run.load(path).locked():
        started.set()
        release.wait(30)


def test_two_processes_never_write_one_run(tmp_path: Path) -> None:
    """While one process searches another is refused; when it ends, however, the run is free."""
    made(tmp_path / "run")
    context = multiprocessing.get_context("spawn")
    started, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(str(tmp_path / "run"), started, release))
    other.start()
    try:
        assert started.wait(60)
        run = Run.load(tmp_path / "run")
        with pytest.raises(RunError, match="another process"), run.locked():
            pass
        other.kill()
        other.join(30)
        with run.locked():
            pass
    finally:
        other.kill()


def test_an_exception_frees_the_lock(tmp_path: Path) -> None:
    """A search that fails does not keep its own directory locked."""
    run = made(tmp_path / "run")

    with pytest.raises(ZeroDivisionError), run.locked():
        _ = 1 / 0

    with run.locked():
        pass


def test_a_lock_in_a_vanished_directory_is_an_error_of_the_users(tmp_path: Path) -> None:
    """A run whose directory was deleted meanwhile is named."""
    run = made(tmp_path / "run")
    shutil.rmtree(run.path)

    with pytest.raises(RunError, match="cannot be written"), run.locked():
        pass


def test_events_are_appended(tmp_path: Path) -> None:
    """Each event is one line of JSON after those that were there, over several openings."""
    run = made(tmp_path / "run")
    before = time.time()
    first = run.note("started", number=1)
    Run.load(run.path).note("went on", text="ä\nb")

    lines = (run.path / "events.jsonl").read_text(encoding="utf-8").splitlines()

    assert json.loads(lines[0]) == first
    assert json.loads(lines[1])["text"] == "ä\nb"
    assert len(lines) == 2
    assert before - 1 <= first["time"] <= time.time() + 1


def test_a_trial_is_recorded_at_once(tmp_path: Path) -> None:
    """A recorded trial is there for a process that opens the run later."""
    run = made(tmp_path / "run")
    trial = TrialRecord(trial_id="3", values={"a": 1}, outcome="completed", score=0.5)

    run.record(trial)

    assert list(Run.load(run.path).log) == [trial]
    with sqlite3.connect(run.path / "study.db") as file:
        assert file.execute("pragma integrity_check").fetchone() == ("ok",)


def test_pruning_keeps_what_it_is_told(tmp_path: Path) -> None:
    """Only checkpoints that are not wanted go, and a run without any is fine."""
    run = made(tmp_path / "run")
    run.prune_checkpoints(set())
    for trial_id in ("0", "1"):
        for path in (run.best_weights_path(trial_id), run.state_path(trial_id)):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x")

    run.prune_checkpoints({run.best_weights_path("1").name, run.state_path("0").name})

    assert sorted(p.name for p in (run.path / "checkpoints").iterdir()) == [
        "0.last.npz",
        "1.best.npz",
    ]


def test_a_run_is_opened_without_a_framework(tmp_path: Path) -> None:
    """Reading a run and its trials imports neither Keras nor TensorFlow."""
    run = made(tmp_path / "run")
    run.record(TrialRecord(trial_id="0", values={}, outcome="completed", score=1.0))
    program = (
        "import sys; from smarttune.tuning import Run; run = Run.load(sys.argv[1]);"
        "assert run.log.best().score == 1.0;"
        "heavy = {'keras', 'tensorflow', 'keras_tuner'} & set(sys.modules); assert not heavy, heavy"
    )

    subprocess.run([sys.executable, "-c", program, str(run.path)], check=True)
