"""One real search twice, with stock `fit` and with the lanes that are chosen by themselves.

    python benchmarks/before_after.py [--time 3m] [--seeds 1] [--data FILE --target NAME]

`smarttune.search` of the bundled wines, with the same seed and the same wall time, each in a
process of its own, one after the other; the time counts from the call of `search`. *Trials* are
those that ended well, *epochs* all of the search itself. *Reached* is the second at which a search
was first as good on validation rows as the one with `fit` was at its end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from real import epochs_of, improvements, second_of

WINE = Path(__file__).parents[1] / "examples" / "data" / "wine.csv"
BEFORE, AFTER = "fit", "auto"
GRACE = 300.0  # ours: seconds after the limit in which a search must have ended by itself
BEGAN, EVENTS = "began.json", "events.jsonl"


class Searched(NamedTuple):
    """What one search came to.

    Attributes:
        executor: How its trials trained.
        trials: Trials that ended well.
        epochs: Epochs of all trials.
        scores: Each improvement of the best validation score, with its second.
        metric: What ranks trials.
        direction: The better end of the metric.
        test: The exported model's score on test rows, as the report tells it.
    """

    executor: str
    trials: int
    epochs: int
    scores: Any
    metric: str
    direction: str
    test: float


def search_here(options: argparse.Namespace, executor: str, folder: Path) -> None:
    """Search in this process; its events go to a file."""
    import smarttune

    began = time.time()
    with (folder / EVENTS).open("w") as file:
        smarttune.search(
            options.data,
            options.target,
            time=options.time,
            seed=options.seed,
            run=folder / "run",
            executor=executor,
            on_event=lambda event: print(json.dumps(event, default=str), file=file),
        )
    (folder / BEGAN).write_text(json.dumps(began))


def searched(options: argparse.Namespace, executor: str, seed: int) -> Searched:
    """Search in a process of its own, and read what it left."""
    from smarttune.tuning import Run, parse_duration

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        command = [sys.executable, str(Path(__file__).resolve()), "--here", executor]
        command += ["--folder", scratch, "--time", options.time, "--seed", str(seed)]
        command += ["--data", str(options.data), "--target", options.target]
        limit = parse_duration(options.time)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=limit + GRACE)
        run = Run.load(folder / "run")
        log, test = run.log, run.report()["test"]["best"]
        events = [json.loads(line) for line in (folder / EVENTS).read_text().splitlines()]
        began = json.loads((folder / BEGAN).read_text())
    metric, direction = log.objective.name, log.objective.direction
    scores = improvements(epochs_of(events, metric, began), direction, limit)
    return Searched(
        executor,
        len(log.ranked()),
        log.num_epochs,
        scores,
        metric,
        direction,
        test[metric.removeprefix("val_")],
    )


def row(seed: int, found: Searched, before: Searched) -> str:
    """A line of the Markdown table."""
    mark = before.scores[-1][1]
    second = second_of(found.scores, mark, found.direction)
    cells = [
        *(str(seed), found.executor, str(found.trials), str(found.epochs)),
        *(f"{found.scores[-1][1]:.4f}", f"{found.test:.4f}"),
        "never" if second is None else f"{second:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--time", default="3m", help="of each search")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--data", type=Path, default=WINE)
    parser.add_argument("--target", default="quality")
    for hidden in ("--here", "--folder"):  # one search, in this process
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    options = parser.parse_args()
    if options.here:
        search_here(options, options.here, Path(options.folder))
        return
    print(f"{options.time} each; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| seed | executor | trials | epochs | best (validation) | test | reached |")
    print("|---|---|---|---|---|---|---|")
    for seed in range(options.seed, options.seed + options.seeds):
        before = searched(options, BEFORE, seed)
        print(row(seed, before, before), flush=True)
        after = searched(options, AFTER, seed)
        print(row(seed, after, before), flush=True)
    print(f"\n{before.metric}, {before.direction}; load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
