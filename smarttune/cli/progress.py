"""How a search shows itself: a live table, plain lines, or one JSON event a line."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from smarttune.files import finite
from smarttune.space import show_value

_ROWS = 8  # ours: trials shown live
_REFRESHES = 4  # ours: per second; smooth enough and cheap
_LARGE = 50_000_000  # ours: bytes that take about a second to read

OnEvent = Callable[[Mapping[str, Any]], None]


@contextlib.contextmanager
def shown(*, plain: bool, as_json: bool, quiet: bool = False) -> Iterator[OnEvent]:
    """Yield the function that a search calls with its events."""
    console = Console(stderr=False)
    if quiet:
        yield lambda event: None
    elif as_json:
        out = sys.stdout
        with contextlib.redirect_stdout(sys.stderr):  # for libraries that print, as Ray does
            yield lambda event: typer.echo(json.dumps(finite(event)), file=out)
    elif plain or not console.is_terminal:
        yield PlainView()
    else:
        view = LiveView()
        with Live(view, console=console, refresh_per_second=_REFRESHES) as live:
            view.live = live
            yield view


@contextlib.contextmanager
def reading(path: Path | None) -> Iterator[Callable[[float], None] | None]:
    """Show how much of a large file is read; yield what `read` calls, or None."""
    console = Console(stderr=True)
    if (
        path is None
        or not path.is_file()
        or path.stat().st_size < _LARGE
        or not console.is_terminal
    ):
        yield None
        return
    columns = (TextColumn(f"Reading {path.name}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda share: progress.update(task, completed=share)


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


class PlainView:
    """One line for each trial."""

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Print what the event says, if it says something new."""
        handler = getattr(self, f"_{event['event']}", None)
        if handler is not None:
            typer.echo(handler(event))

    def _range_test(self, event: Mapping[str, Any]) -> str:
        return f"Range test of the {event['family']} network: {event['evidence']}"

    def _batch_probe(self, event: Mapping[str, Any]) -> str:
        fits, pays = event["largest_in_memory"], event["largest_that_raises_throughput"]
        return (
            f"Batches of the {event['family']} network: {fits} samples fit, more than {pays} do "
            f"not raise the throughput (ended by: {event['stopped_because']})."
        )

    def _batch_cut(self, event: Mapping[str, Any]) -> str:
        return f"trial {event['trial_id']}: {event['text']}"

    def _lane_chosen(self, event: Mapping[str, Any]) -> str:
        return f"Lane {event['lane']}: {event['reason']}"

    def _worker_lost(self, event: Mapping[str, Any]) -> str:
        return f"Warning: {event['text']}"

    def _adapted(self, event: Mapping[str, Any]) -> str:
        return f"{event['rule']} changed the search: {event['text']}. {event['summary']}"

    def _adaptation_undone(self, event: Mapping[str, Any]) -> str:
        return f"{event['rule']} is taken back: {event['text']}."

    def _adaptation_declined(self, event: Mapping[str, Any]) -> str:
        return f"{event['rule'] or 'Rules'} did not change the search: {event['text']}."

    def _search_started(self, event: Mapping[str, Any]) -> str:
        name, direction = event["objective"]
        better = "higher" if direction == "max" else "lower"
        return (
            f"Searching with {event['strategy']} by {name} ({better} is better); "
            f"run directory {event['run']}"
        )

    def _resumed(self, event: Mapping[str, Any]) -> str:
        return f"{event['num_trials']} finished trials are kept."

    def _trial_finished(self, event: Mapping[str, Any]) -> str:
        note = " (recommended)" if event["is_default"] else ""
        outcome = "" if event["outcome"] == "completed" else f", {event['outcome']}"
        return (
            f"trial {event['trial_id']}{note}: {_score(event['score'])} after "
            f"{event['num_epochs']} epochs in {event['seconds']:.1f} s{outcome}; "
            f"best {_score(event['best_score'])}"
        )

    def _trials_ended(self, event: Mapping[str, Any]) -> str:
        return f"Trials ended: {event['reason']}. Testing, exporting, reporting."

    def _confirmation_started(self, event: Mapping[str, Any]) -> str:
        return f"Confirming: {event['text']}."

    def _portfolio(self, event: Mapping[str, Any]) -> str:
        return f"Portfolio: {event['text']}."

    def _confirming(self, event: Mapping[str, Any]) -> str:
        return f"Confirming {event['k']} of {event['n']}: trial {event['repeat_of']} again"

    def _warning(self, event: Mapping[str, Any]) -> str:
        return f"Warning: {event['text']}"


class LiveView:
    """A table of the latest trials with epochs, best score and time left."""

    def __init__(self) -> None:
        self.live: Any = None
        self.started = time.monotonic()
        self.budget: Mapping[str, Any] = {}
        self.heading = "Preparing the data"
        self.trials: list[Mapping[str, Any]] = []
        self.running: dict[str, Mapping[str, Any] | None] = {}  # each with its last epoch, if known
        self.num_epochs = 0
        self.best: float | None = None
        self.objective = ""
        self.warnings: list[str] = []
        self.changes: list[str] = []

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take in an event."""
        handler = getattr(self, f"_{event['event']}", None)
        if handler is not None:
            handler(event)

    def _reading(self, event: Mapping[str, Any]) -> None:
        self.heading = f"Reading the data: {event['share']:.0%}"

    def _probing(self, event: Mapping[str, Any]) -> None:
        self.heading = f"Measuring the {event['family']} network"

    def _batch_cut(self, event: Mapping[str, Any]) -> None:
        self.warnings.append(f"trial {event['trial_id']}: {event['text']}")

    def _worker_lost(self, event: Mapping[str, Any]) -> None:
        self.warnings.append(event["text"])

    def _adapted(self, event: Mapping[str, Any]) -> None:
        self.changes.append(f"{event['rule']}: {event['text']}")

    def _adaptation_undone(self, event: Mapping[str, Any]) -> None:
        self.changes.append(f"{event['rule']} taken back: {event['text']}")

    def _search_started(self, event: Mapping[str, Any]) -> None:
        self.budget, self.objective = event["budget"], event["objective"][0]
        self.heading = f"{event['strategy']} search by {self.objective} in {event['run']}"

    def _trial_started(self, event: Mapping[str, Any]) -> None:
        self.running[event["trial_id"]] = None

    def _epoch(self, event: Mapping[str, Any]) -> None:
        self.running[event["trial_id"]] = event
        self.num_epochs += 1

    def _trial_finished(self, event: Mapping[str, Any]) -> None:
        self.trials.append(event)
        self.best = event["best_score"]
        # Workers tell of no epochs before the end.
        if event["trial_id"] in self.running and self.running.pop(event["trial_id"]) is None:
            self.num_epochs += event["num_epochs"] - event.get("initial_epoch", 0)

    def _trials_ended(self, event: Mapping[str, Any]) -> None:
        self.heading = f"Trials ended: {event['reason']}; testing, exporting, reporting"

    def _portfolio(self, event: Mapping[str, Any]) -> None:
        self.changes.append(event["text"])

    def _confirming(self, event: Mapping[str, Any]) -> None:
        self.heading = f"Confirming {event['k']} of {event['n']}: trial {event['repeat_of']} again"

    def _warning(self, event: Mapping[str, Any]) -> None:
        self.warnings.append(event["text"])

    def __rich__(self) -> Group:
        """What Rich draws."""
        table = Table(box=None, pad_edge=False)
        for column in ("trial", self.objective, "epochs", "seconds", "outcome"):
            table.add_column(column)
        for trial in self.trials[-_ROWS:]:
            best = trial["score"] is not None and trial["score"] == self.best
            name = trial["trial_id"] + (" (recommended)" if trial["is_default"] else "")
            table.add_row(
                name,
                _score(trial["score"]),
                str(trial["num_epochs"]),
                f"{trial['seconds']:.1f}",
                trial["outcome"],
                style="bold green" if best else None,
            )
        parts: list[Any] = [Text(self.heading, style="bold"), table]
        parts += [self._running(*trial) for trial in self.running.items()]
        parts.append(self._totals())
        parts += [Text(f"Changed: {c}", style="cyan") for c in self.changes[-2:]]
        parts += [Text(f"Warning: {w}", style="yellow") for w in self.warnings[-2:]]
        return Group(*parts)

    def _running(self, trial_id: str, epoch: Mapping[str, Any] | None) -> Any:
        row = Table.grid(padding=(0, 1))
        name = f"trial {trial_id}"
        if epoch is None:
            row.add_row(name, "building" if len(self.running) == 1 else "training")
        else:
            done, total = epoch["epoch"], epoch["epochs"]
            row.add_row(
                name,
                ProgressBar(total=total, completed=done, width=30),
                f"epoch {done}/{total}",
                _score(epoch["logs"].get(self.objective)),
            )
        return row

    def _totals(self) -> Text:
        elapsed = time.monotonic() - self.started
        text = (
            f"{len(self.trials)} trials, {self.num_epochs} epochs, {_duration(elapsed)}, "
            f"best {_score(self.best)}"
        )
        left = self._seconds_left(elapsed)
        return Text(text + (f", about {_duration(left)} left" if left is not None else ""))

    def _seconds_left(self, elapsed: float) -> float | None:
        if self.budget.get("seconds"):
            return max(0.0, float(self.budget["seconds"]) - elapsed)
        done = {"trials": len(self.trials), "epochs": self.num_epochs}
        for name, count in done.items():
            if self.budget.get(name) and count:
                return max(0.0, elapsed * (float(self.budget[name]) / count - 1))
        return None


def values_line(values: Mapping[str, Any]) -> str:
    """Hyperparameters on one line."""
    return ", ".join(f"{name}={show_value(value)}" for name, value in values.items())
