"""Wall time of the light commands, and the heavy packages that they import.

    python benchmarks/suggest_time.py

Prints, for each command, the median over five processes and which of the heavy
packages it loaded, and beside it what `import keras_tuner` alone costs.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from tables import tables

HEAVY = ("tensorflow", "keras", "keras_tuner", "jax", "optuna", "matplotlib", "pandas")
REPEATS = 5


def measure(arguments: list[str]) -> tuple[float, str]:
    """Median seconds of a command, and the heavy packages it loads."""
    code = f"from smarttune.cli import run; raise SystemExit(run({arguments!r}))"
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    probe = (
        "import sys; from smarttune.cli import run; "
        f"run({arguments!r}); "
        f"print('LOADED', *[m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True)
    return statistics.median(seconds), done.stderr.rpartition("LOADED")[2].strip()


def main() -> None:
    flags = (
        "--task text --problem multiclass --num-samples 120000 --words-per-sample 40 --classes 4"
    )
    commands = [["rules", "list"], ["suggest", *flags.split()]]
    commands += [["suggest", str(t.path), "--target", str(t.target)] for t in tables()]
    print(f"{'command':<70} {'seconds':>8}  heavy packages loaded")
    for command in commands:
        seconds, loaded = measure(command)
        shown = " ".join(c.rsplit("/", 1)[-1] for c in command)
        print(f"smarttune {shown:<60.60} {seconds:>8.2f}  {loaded or 'none'}")
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import keras_tuner"], check=True, capture_output=True)
    print(f"{'import keras_tuner, for comparison':<70} {time.perf_counter() - began:>8.2f}")


if __name__ == "__main__":
    main()
