"""`smarttune learn`: what it prints, and how it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from smarttune import learning
from tests.cli.calling import assert_mendable, call

EVENTS: list[Mapping[str, Any]] = [
    {"event": "learning_started", "candidates": 3, "trainings": 2},
    {
        "event": "trained",
        "k": 1,
        "n": 2,
        "data": "red",
        "outcome": "diverged",
        "score": None,
        "num_epochs": 4,
        "seconds": 0.25,
    },
    {"event": "learning_ended", "reason": "the time is up", "left": 1},
]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let `learn` only tell its events; what it was called with."""
    received: dict[str, Any] = {}

    def instead(runs: Any, output: Path, **options: Any) -> list[Path]:
        received.update(options, runs=runs, output=output)
        for event in EVENTS:
            options["on_event"](event)
        return [output]

    monkeypatch.setattr(learning, "learn", instead)
    return received


def test_options_reach_the_library(told: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs, file and options arrive as they were given, and defaults are the library's."""
    call(
        capsys, "learn", "a", "b", "-o", "p.yaml", "--name", "n", "--no-evaluate",
        "--candidates", "2", "--time", "9m",
    )  # fmt: skip
    told.pop("on_event")
    assert told == {
        "runs": [Path("a"), Path("b")],
        "output": Path("p.yaml"),
        "name": "n",
        "evaluate": False,
        "candidates": 2,
        "time": "9m",
    }
    call(capsys, "learn", "a", "-o", "p.yaml")
    assert (told["evaluate"], told["candidates"]) == (True, learning.CANDIDATES)


def test_progress_is_shown(told: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Each training is a line, and the last line says what to do with the file."""
    lines = call(capsys, "learn", "a", "-o", "p.yaml").out.splitlines()

    assert lines == [
        "3 configurations, 2 trainings to do.",
        "1 of 2: red - after 4 epochs in 0.2 s, diverged",
        "1 trainings were left out: the time is up.",
        "p.yaml: use it with --portfolio p.yaml",
    ]
    assert call(capsys, "learn", "a", "-o", "p.yaml", "-q").out.splitlines() == lines[-1:]


def test_json_is_one_event_a_line(told: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json every line is an event, the written file among them."""
    lines = call(capsys, "learn", "a", "-o", "p.yaml", "--json").out.splitlines()

    assert [json.loads(line) for line in lines] == [*EVENTS, {"event": "written", "path": "p.yaml"}]


def test_mistakes_are_paragraphs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A run that is none, and a number that means nothing, are user errors."""
    output = tmp_path / "p.yaml"
    assert_mendable(call(capsys, "learn", tmp_path, "-o", output), "run.json")
    ended = call(capsys, "learn", tmp_path, "-o", output, "--candidates", "0")
    assert_mendable(ended, "--candidates")
    ended = call(capsys, "learn", tmp_path, "-o", output, "--time", "soon")
    assert_mendable(ended, "--time")
    assert not output.exists()
