"""How a search shows itself: lines, JSON, or a live table."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from smarttune.cli.progress import LiveView, PlainView, reading, shown, values_line

Capture = pytest.CaptureFixture[str]

STARTED = {
    "event": "search_started",
    "run": "runs/a",
    "strategy": "hyperband",
    "objective": ["val_auc", "max"],
    "budget": {"seconds": None, "trials": 4, "epochs": None},
}


def finished(trial_id: str, score: float | None, **details: Any) -> dict[str, Any]:
    """The event of a trial that has ended."""
    base = {
        "event": "trial_finished",
        "trial_id": trial_id,
        "is_default": trial_id == "0",
        "outcome": "completed" if score is not None else "failed",
        "score": score,
        "best_score": 0.9,
        "num_epochs": 3,
        "seconds": 1.25,
    }
    return {**base, **details}


def epoch(number: int, value: float = 0.8, trial_id: str = "0") -> dict[str, Any]:
    """The event of an epoch of four."""
    logs = {"loss": 0.5, "val_auc": value}
    return {"event": "epoch", "trial_id": trial_id, "epoch": number, "epochs": 4, "logs": logs}


def drawn(view: LiveView) -> str:
    """What the live view shows just now."""
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_plain_lines_tell_each_trial(capsys: Capture) -> None:
    """One line for the start, for each trial with score, outcome and best, and for the end."""
    view = PlainView()

    for event in (
        STARTED,
        {"event": "trial_started", "trial_id": "0", "values": {}},
        epoch(1),
        finished("0", 0.9),
        finished("1", None),
        {"event": "trials_ended", "reason": "all trials are run"},
    ):
        view(event)

    assert capsys.readouterr().out.splitlines() == [
        "Searching with hyperband by val_auc (higher is better); run directory runs/a",
        "trial 0 (recommended): 0.9 after 3 epochs in 1.2 s; best 0.9",
        "trial 1: - after 3 epochs in 1.2 s, failed; best 0.9",
        "Trials ended: all trials are run. Testing, exporting, reporting.",
    ]


@pytest.mark.parametrize(
    ("event", "line"),
    [
        ({"event": "resumed", "num_trials": 7}, "7 finished trials are kept."),
        ({"event": "warning", "text": "take care"}, "Warning: take care"),
        ({"event": "something new"}, ""),
    ],
)
def test_plain_lines_tell_the_rest(capsys: Capture, event: Mapping[str, Any], line: str) -> None:
    """Resuming and warnings have their lines, and unknown events have none."""
    PlainView()(event)

    assert capsys.readouterr().out == (line + "\n" if line else "")


def test_json_is_one_event_a_line(capsys: Capture) -> None:
    """Every event is printed as it came, epochs included."""
    with shown(plain=False, as_json=True) as view:
        view(STARTED)
        view(epoch(1))

    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [STARTED, epoch(1)]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_of_a_diverged_epoch_is_json(capsys: Capture, value: float) -> None:
    """A loss that is no number does not break strict readers such as jq."""
    with shown(plain=False, as_json=True) as view:
        view(epoch(1, value))

    def refuse(word: str) -> float:
        raise AssertionError(word)

    assert json.loads(capsys.readouterr().out, parse_constant=refuse)["event"] == "epoch"


def test_what_libraries_print_is_no_event(capsys: Capture) -> None:
    """Beside events nothing comes to standard output while a search runs."""
    with shown(plain=False, as_json=True) as tell:
        print("a worker died")
        tell({"event": "trials_ended"})
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"event": "trials_ended"}
    assert printed.err == "a worker died\n"


def test_quiet_is_quiet(capsys: Capture) -> None:
    """Nothing is printed before the final report."""
    with shown(plain=True, as_json=False, quiet=True) as view:
        view(STARTED)
        view(finished("0", 0.9))

    assert capsys.readouterr().out == ""


def test_without_a_terminal_lines_are_printed(capsys: Capture) -> None:
    """A pipe gets plain lines, not control sequences, unasked."""
    with shown(plain=False, as_json=False) as view:
        view(STARTED)

    printed = capsys.readouterr().out
    assert printed.startswith("Searching with hyperband")
    assert "\x1b" not in printed


def test_the_live_view_shows_what_runs() -> None:
    """The table holds finished trials, the running one with its epoch, totals and best."""
    view = LiveView()
    for event in (
        STARTED,
        {"event": "trial_started", "trial_id": "0", "values": {}},
        *(epoch(n) for n in (1, 2, 3)),
        finished("0", 0.9),
        {"event": "trial_started", "trial_id": "1", "values": {}},
        epoch(2, 0.75, "1"),
    ):
        view(event)

    text = drawn(view)

    assert "hyperband search by val_auc in runs/a" in text
    assert "0 (recommended)" in text
    assert "epoch 2/4" in text
    assert "0.75" in text
    assert "1 trials, 4 epochs" in text
    assert "best 0.9" in text
    assert "left" in text


def test_the_live_view_shows_every_stage() -> None:
    """Before, between and after trials there is a heading, and nothing running is shown."""
    view = LiveView()
    assert "Preparing the data" in drawn(view)
    view({"event": "reading", "share": 0.5})
    assert "50%" in drawn(view)
    view(STARTED)
    view({"event": "trial_started", "trial_id": "0", "values": {}})
    assert "building" in drawn(view)
    view(finished("0", None, outcome="diverged"))
    assert "diverged" in drawn(view)
    assert "building" not in drawn(view)
    view({"event": "warning", "text": "a state is gone"})
    view({"event": "trials_ended", "reason": "the time is up"})
    text = drawn(view)
    assert "Warning: a state is gone" in text
    assert "the time is up" in text


def test_the_live_view_shows_trials_side_by_side() -> None:
    """Each trial that a worker trains has a line until it ends, and its epochs are counted then."""
    view = LiveView()
    view(STARTED)
    for trial_id in ("0", "1", "2"):
        view({"event": "trial_started", "trial_id": trial_id, "values": {}})
    view({"event": "worker_lost", "text": "trial 2 lost its worker"})
    view(finished("1", 0.5, initial_epoch=1))

    text = drawn(view)

    assert "trial 0 training" in text
    assert "trial 1 training" not in text
    assert "trial 2 training" in text
    assert "1 trials, 2 epochs" in text
    assert "Warning: trial 2 lost its worker" in text


def test_the_live_view_stays_small() -> None:
    """However many trials there were, only the latest are shown."""
    view = LiveView()
    view(STARTED)
    for number in range(50):
        view(finished(str(number), 0.5))

    text = drawn(view)

    assert len(text.splitlines()) < 16
    assert "50 trials" in text


@pytest.mark.parametrize(
    ("budget", "left"),
    [({"seconds": 600.0}, "9m5"), ({"trials": 4}, "s left"), ({"epochs": 8}, "s left"), ({}, None)],
)
def test_the_time_left_follows_the_budget(budget: dict[str, Any], left: str | None) -> None:
    """The estimate comes from whatever limits the search, and is left out where nothing does."""
    view = LiveView()
    view({**STARTED, "budget": budget})
    view(epoch(1))
    view(finished("0", 0.5))

    text = drawn(view)

    assert (left in text) if left else ("left" not in text)


def test_small_files_are_read_without_a_bar(tmp_path: Path) -> None:
    """A bar is shown only where reading takes time and somebody watches."""
    path = tmp_path / "small.csv"
    path.write_text("a\n1\n")

    for source in (path, tmp_path / "absent.csv", None):
        with reading(source) as progress:
            assert progress is None


def test_values_fit_a_line() -> None:
    """Hyperparameters are shown by name and value."""
    line = values_line({"model.units": 64, "optimizer.learning_rate": 0.001, "flag": True})

    assert line == "model.units=64, optimizer.learning_rate=0.001, flag=true"
