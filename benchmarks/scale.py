"""Time and peak memory of `smarttune suggest` on large sources, each in a process of its own.

    python benchmarks/scale.py [--rows 5000000] [--files 200000] [--only csv,png,wav,txt]

Makes, in a temporary folder, a csv file of about 65 bytes a row (100,000 random rows, repeated)
and folders of small files in ten classes: pictures of 8 x 8 pixels, recordings of 0.1 s, texts
of twelve words. Each is fingerprinted by the command line, with its progress bar where this
runs in a terminal. Beside the csv file stands `pandas.read_csv` of the whole of it, in the same
run on the same machine. A tenth of each source is measured as well: where memory is bounded, the
whole takes no more than a tenth does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

BLOCK_ROWS = 100_000
CLASSES = 10

# What is imported here counts as memory of the children until they begin, so data are made in
# processes of their own too.
MAKE_CSV = """
import sys, numpy as np, pandas as pd
rng, n = np.random.default_rng(0), int(sys.argv[2])
amount = rng.lognormal(3, 1, n).round(2)
score = rng.normal(size=(n, 4)).round(4)
frame = pd.DataFrame({
    "amount": amount, "a": score[:, 0], "b": score[:, 1], "c": score[:, 2], "d": score[:, 3],
    "age": rng.integers(18, 90, n), "city": rng.choice([f"city{i}" for i in range(60)], n),
    "plan": rng.choice(["basic", "plus", "pro"], n),
    "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 1500, n), unit="D"),
    "y": np.where(score[:, 0] + np.log(amount) / 3 + rng.normal(size=n) > 1, "yes", "no"),
})
frame.to_csv(sys.argv[1], index=False)
"""
MAKE_FILES = """
import io, os, sys, wave, numpy as np
from PIL import Image
folder, kind, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
classes = [os.path.join(folder, f"class{i}") for i in range(10)]
for path in classes:
    os.makedirs(path)
def content(label, rng):
    file = io.BytesIO()
    if kind == "png":
        Image.fromarray(rng.integers(0, 100, (8, 8)).astype("uint8") + 15 * label).save(file, "png")
    elif kind == "wav":
        with wave.open(file, "wb") as out:
            out.setparams((1, 2, 8000, 0, "NONE", ""))
            out.writeframes((rng.normal(size=800) * 1000).astype("<i2").tobytes())
    else:
        file.write(" ".join(f"word{i}" for i in rng.integers(0, 500, 12) + 40 * label).encode())
    return file.getvalue()
made = [[content(i, np.random.default_rng([i, j])) for j in range(50)] for i in range(10)]
for i in range(n):
    with open(os.path.join(classes[i % 10], f"{i:07d}.{kind}"), "wb") as out:
        out.write(made[i % 10][i // 10 % 50])
"""
READ_CSV = "import sys, pandas; print(len(pandas.read_csv(sys.argv[1])))"


class Cost(NamedTuple):
    """What one process took."""

    seconds: float
    mebibytes: float


def cost(*command: str) -> Cost:
    """Run a process and wait for it; its errors and progress bar are shown."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command[:6])} ended with {process.returncode}.")
    # Linux counts in KiB, macOS in bytes.
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return Cost(time.perf_counter() - began, used.ru_maxrss / unit)


def suggest(path: Path, *options: str) -> Cost:
    """What a recommendation from this source takes."""
    return cost(sys.executable, "-m", "smarttune", "suggest", str(path), *options)


def make_csv(path: Path, rows: int) -> None:
    """Write a table; its rows repeat after the first block."""
    block = path.with_suffix(".block")
    cost(sys.executable, "-c", MAKE_CSV, str(block), str(min(rows, BLOCK_ROWS)))
    header, _, body = block.read_bytes().partition(b"\n")
    block.unlink()
    with path.open("wb") as out:
        out.write(header + b"\n")
        for _ in range(rows // BLOCK_ROWS):
            out.write(body)
        out.writelines(body.splitlines(keepends=True)[: rows % BLOCK_ROWS])


def make_files(path: Path, kind: str, number: int) -> None:
    """Write a folder of small files."""
    cost(sys.executable, "-c", MAKE_FILES, str(path), kind, str(number))


def show(name: str, found: Cost, note: str = "") -> None:
    print(f"{name:<34} {found.seconds:>8.1f} {found.mebibytes:>9.0f}  {note}", flush=True)


def table(folder: Path, rows: int) -> None:
    path = folder / "table.csv"
    make_csv(path, rows // 10)
    part = suggest(path, "--target", "y")
    show(f"suggest, csv of {rows // 10:,} rows", part)
    make_csv(path, rows)
    size = path.stat().st_size / 1024**2
    whole = suggest(path, "--target", "y")
    show(f"suggest, csv of {rows:,} rows", whole, f"{size:,.0f} MiB on disk")
    plain = cost(sys.executable, "-c", READ_CSV, str(path))
    show("pandas.read_csv of it", plain, f"suggest / read_csv: {ratios(whole, plain)}")
    path.unlink()


def files(folder: Path, kind: str, number: int) -> None:
    path = folder / kind
    costs = []
    for count in (number // 10, number):
        make_files(path, kind, count)
        options = ("--task", "text") if kind == "txt" else ()
        costs.append(suggest(path, *options))
        show(f"suggest, {count:,} {kind} files", costs[-1])
        shutil.rmtree(path)
    print(f"{'':<34} {'':>8} {'':>9}  ten times as many: {ratios(costs[1], costs[0])}")


def ratios(one: Cost, other: Cost) -> str:
    """How many times as much one took."""
    return (
        f"{one.seconds / other.seconds:.2f} x the time, "
        f"{one.mebibytes / other.mebibytes:.2f} x the memory"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--only", default="csv,png,wav,txt")
    options = parser.parse_args()
    print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'':<34} {'seconds':>8} {'peak MiB':>9}")
    jobs: dict[str, Callable[[Path], None]] = {
        "csv": lambda folder: table(folder, options.rows),
        **{k: lambda f, k=k: files(f, k, options.files) for k in ("png", "wav", "txt")},
    }
    for name in options.only.split(","):
        if name not in jobs:
            sys.exit(f"--only: `{name}` is none of {', '.join(jobs)}.")
        with tempfile.TemporaryDirectory() as folder:
            jobs[name](Path(folder))


if __name__ == "__main__":
    main()
