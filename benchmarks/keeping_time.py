"""Whether a search ends within its time: wall seconds of whole processes, one after the other.

    python benchmarks/keeping_time.py [--runs 10] [--time 40s] [--data FILE --target NAME]

Each run is `smarttune search --time` in a process of its own, confirmation included, from the
start of Python to its end. `preparing` is what passes before the first trial. A limit counts as
held if the process ends by it.
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

from smarttune.tuning.budget import parse_duration

WINE = Path(__file__).parents[1] / "examples" / "data" / "wine.csv"
ROW = "{:>3}  {:>8}  {:>10}  {:>6}  {:>8}  {:>5}"


class Ended(NamedTuple):
    """One process."""

    code: int
    seconds: float
    preparing: float
    num_trials: int
    num_repeats: int


def main() -> None:
    """Run the processes and print the table."""
    options = _options()
    limit = parse_duration(options.time)
    print(ROW.format("run", "seconds", "preparing", "trials", "repeats", "held"))
    held = 0
    for seed in range(options.runs):
        ended = searched(options, seed)
        is_held = ended.code == 0 and ended.seconds <= limit
        held += is_held
        print(
            ROW.format(
                seed,
                f"{ended.seconds:.1f}",
                f"{ended.preparing:.1f}",
                ended.num_trials,
                ended.num_repeats,
                "yes" if is_held else "no",
            ),
            flush=True,
        )
    print(f"limit of {limit:g} s held {held} of {options.runs} times")


def searched(options: argparse.Namespace, seed: int) -> Ended:
    """One search in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "smarttune", "search", str(options.data)]
        command += ["--target", options.target, "--time", options.time, "--quiet"]
        command += ["--seed", str(seed), "--run", str(run)]
        began, started = time.monotonic(), time.time()
        ended = subprocess.run(
            command,
            check=False,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        seconds = time.monotonic() - began
        events = _events(run / "events.jsonl")
    first = next((e["time"] for e in events if e["event"] == "trial_started"), started)
    kinds = [e["event"] for e in events]
    return Ended(
        ended.returncode,
        seconds,
        first - started,
        kinds.count("trial_finished"),
        kinds.count("repeat_finished"),
    )


def _events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--time", default="40s")
    parser.add_argument("--data", type=Path, default=WINE)
    parser.add_argument("--target", default="quality")
    return parser.parse_args()


if __name__ == "__main__":
    main()
