"""Files that are complete or absent."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from smarttune.errors import RunError
from smarttune.files import write_bytes, write_json, write_text


def test_a_file_appears_with_its_folder(tmp_path: Path) -> None:
    """Missing folders are made, and nothing but the file is left in them."""
    file = tmp_path / "a" / "b" / "file.bin"

    write_bytes(file, b"\x00content")

    assert file.read_bytes() == b"\x00content"
    assert list(file.parent.iterdir()) == [file]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """A shorter text leaves nothing of a longer one behind."""
    file = tmp_path / "file.txt"
    write_text(file, "long text with ä")

    write_text(file, "ö")

    assert file.read_text(encoding="utf-8") == "ö"


def test_json_reads_back(tmp_path: Path) -> None:
    """What is written as JSON is read as the same value."""
    write_json(tmp_path / "x.json", {"a": [1, 2.5, None, "ä"]})

    assert json.loads((tmp_path / "x.json").read_text()) == {"a": [1, 2.5, None, "ä"]}


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    """A value that is no JSON fails before the file is touched."""
    file = tmp_path / "x.json"
    write_json(file, {"old": 1})

    with pytest.raises(TypeError):
        write_json(file, {"new": object()})

    assert json.loads(file.read_text()) == {"old": 1}


@pytest.mark.parametrize("step", ["replace", "fsync", "fchmod"])
@pytest.mark.parametrize(
    ("number", "mend"), [(errno.ENOSPC, "Free some space"), (errno.EACCES, "permissions")]
)
def test_a_failing_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int, mend: str
) -> None:
    """Whichever step fails, the old content stays, the temporary file goes, the mend fits."""
    file = tmp_path / "file.txt"
    write_text(file, "old")

    def fail(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(RunError, match=mend) as caught:
        write_text(file, "new")

    assert caught.value.where == str(file)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_the_content_is_on_disk_before_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The temporary file is flushed and synced before it takes the name."""
    events: list[tuple[str, int]] = []
    sync, replace = os.fsync, os.replace

    def noted_sync(descriptor: int) -> None:
        events.append(("sync", os.fstat(descriptor).st_size))
        sync(descriptor)

    def noted_replace(source: str, target: Path) -> None:
        events.append(("replace", Path(source).stat().st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_bytes(tmp_path / "file", b"12345")

    assert events == [("sync", 5), ("replace", 5)]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    """A process that dies before the rename has changed nothing under the name."""
    file = tmp_path / "file.txt"
    write_text(file, "old")
    program = (
        "import os, sys, pathlib\n"
        "from smarttune.files import write_text\n"
        "os.replace = lambda *a: os._exit(9)\n"
        "write_text(pathlib.Path(sys.argv[1]), 'new' * 100000)\n"
    )

    ended = subprocess.run([sys.executable, "-c", program, str(file)], check=False)

    assert ended.returncode == 9
    assert file.read_text() == "old"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file where a folder is needed is an error of the user's, not a traceback."""
    (tmp_path / "taken").write_text("")

    with pytest.raises(RunError, match="Choose another folder"):
        write_text(tmp_path / "taken" / "file.txt", "x")


def test_permissions_follow_the_mask(tmp_path: Path) -> None:
    """A written file may be read by whom the user's mask allows, not only by its owner."""
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "x")
        after = os.umask(0o027)
    finally:
        os.umask(before)

    assert after == 0o027
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
