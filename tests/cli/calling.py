"""The command line called in this process, and what every user error owes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from smarttune.cli import EXIT_USER, run

# A user error on one line: where, received, expected, mend; each with something in it.
_PARAGRAPH = re.compile(r"Error: (?P<where>.+?): (?P<received>.+?)[.?] Expected (?P<rest>.+)\n")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Ended:
    """How a call ended."""

    code: int
    out: str
    err: str


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Ended:
    """Run the command line and take what it printed, without colours."""
    capsys.readouterr()
    code = run([str(a) for a in arguments])
    printed = capsys.readouterr()
    return Ended(code, _ANSI.sub("", printed.out), _ANSI.sub("", printed.err))


def assert_mendable(ended: Ended, *parts: str) -> None:
    """The call ended as a user's mistake: one paragraph with all four parts, and no output."""
    assert ended.code == EXIT_USER, ended
    assert ended.out == ""
    assert "Traceback" not in ended.err
    assert ended.err.count("\n") == 1, ended.err
    found = _PARAGRAPH.fullmatch(ended.err)
    assert found, ended.err
    # What was expected ends with a full stop; the mend is a sentence of its own after it.
    expected, _, mend = found["rest"].partition(". ")
    assert len(expected) > 3, ended.err
    assert len(mend) > 5, ended.err
    assert mend.endswith((".", "?")), ended.err
    for part in parts:
        assert part in ended.err, (part, ended.err)


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
