"""Trial-epochs per second of KerasTuner and of every lane, on six pairs of data and network.

    python benchmarks/throughput.py [--cases digits,...] [--lanes fit,auto] [--backend jax] [--trials N]

A trial-epoch is one trial trained for one epoch, validated. Whole searches are measured, from
making the tuner to the return of `search`, with checkpoints and the record: KerasTuner's random
search over the same hypermodel on the same rows, in its own tuner on TensorFlow and in `SmartTuner`
with each lane on each backend. Each pair and system has a process of its own, whose start and imports do not count.
*Cold* is the first search in it, compiling included, without programs kept from earlier processes
(`--kept` runs each system on JAX twice, so that the second finds what the first has kept on disk);
*warm* is a second one with other seeds and the same lanes. Processor seconds are those of all
threads and child processes.

SmartTune's search is given its own `TrainingData`, with which trials may train together;
`--as-peer` gives it `x`, `y` and `validation_data`, as KerasTuner gets them. `--lanes` may name
`processes`: two workers, each of which chooses its lane.

Each figure is followed by how many times KerasTuner's it is. The sentences at the end compare with
the aims of the project: of the best lane beside KerasTuner, and of `auto` beside the best lane of
its backend, both per processor second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from throughput_cases import CASES, Rows, build_model

PEER = "kerastuner"
PEER_BACKEND = "tensorflow"
LANES = ("fit", "compiled", "fused", "auto")
WORKERS = "processes"
NUM_WORKERS = 2
BACKENDS = ("tensorflow", "jax")
BATCHED = ("jax",)  # backends where several trials fit into one program
# ours: of systems that compile every trial anew, these many tell as much as more would. They are the
# first ones of the others, so that all train the same networks.
STOCK_TRIALS = 8
STOCK = (PEER, "fit")
SLOWEST = ("fit", "jax")  # seconds of compiling for every trial; only where it is asked for
AUTO_SHARE = 0.9  # the aim of the project: `auto` within a tenth of the best lane
GRACE = 900.0  # ours: seconds after which a system is given up
WARM_SEED = 1000  # ours: far from those of cold searches

Note = Callable[[Mapping[str, Any]], None]
# From trials, a seed and a folder to trial-epochs, trials that ended well and the least loss.
Search = Callable[[int, int, str], tuple[int, int, float]]


class Part(NamedTuple):
    """One search.

    Attributes:
        epochs: Trial-epochs.
        trials: Trials that ended well.
        cpu: Processor seconds.
        wall: Seconds.
        score: The least validation loss.
    """

    epochs: int
    trials: int
    cpu: float
    wall: float
    score: float

    @property
    def rates(self) -> tuple[float, float]:
        """Trial-epochs per processor second and per second."""
        return self.epochs / self.cpu, self.epochs / self.wall


class Result(NamedTuple):
    """What became of one system on one pair."""

    lane: str
    backend: str
    cold: Part | None = None
    warm: Part | None = None
    note: str = ""

    @property
    def rates(self) -> tuple[float, ...]:
        """Cold and warm, each per processor second and per second; NaN where it failed."""
        parts = (self.cold, self.warm)
        return tuple(rate for p in parts for rate in (p.rates if p else (math.nan, math.nan)))


# In the process of one system.


def processor_seconds() -> float:
    """Of this process and of the children that it has waited for."""
    return sum(os.times()[:4])


def stock_search(case: str, rows: Rows) -> Search:
    """KerasTuner's random search."""
    import keras_tuner

    build = build_model(CASES[case], rows.x.shape[1:])

    def search(trials: int, seed: int, folder: str) -> tuple[int, int, float]:
        tuner = keras_tuner.RandomSearch(
            build, "val_loss", max_trials=trials, seed=seed, directory=folder
        )
        tuner.search(*rows[:2], **_fit_arguments(case, rows))
        ended = [t for t in tuner.oracle.trials.values() if t.status == "COMPLETED"]
        return len(ended) * CASES[case].epochs, len(ended), min(t.score for t in ended)

    return search


def lane_search(case: str, lane: str, rows: Rows, *, as_peer: bool, note: Note) -> Search:
    """The search of SmartTune through a lane."""
    import keras_tuner

    from smarttune import SmartTuner
    from smarttune.execution import TrainingData
    from smarttune.execution.lanes import Lanes

    build, data = build_model(CASES[case], rows.x.shape[1:]), TrainingData(*rows)
    where: dict[str, Any] = {"executor": WORKERS, "workers": NUM_WORKERS}
    if lane != WORKERS:
        where = {"executor": lane, "lanes": Lanes(lane)}
    objective = keras_tuner.Objective("val_loss", "min")

    def search(trials: int, seed: int, folder: str) -> tuple[int, int, float]:
        oracle = keras_tuner.oracles.RandomSearchOracle(objective, max_trials=trials, seed=seed)
        tuner = SmartTuner(
            oracle, build, directory=folder, project_name="run", on_event=note, **where
        )
        if as_peer:
            tuner.search(*rows[:2], **_fit_arguments(case, rows))
        else:
            tuner.search(data, epochs=CASES[case].epochs)
        log = tuner.log
        return log.num_epochs, len(log.ranked()), log.best().score

    return search


def _fit_arguments(case: str, rows: Rows) -> dict[str, Any]:
    return {
        "validation_data": rows[2:],
        "batch_size": CASES[case].batch_size,
        "epochs": CASES[case].epochs,
        "verbose": 0,
    }


def measured(search: Search, trials: int, seed: int) -> Part:
    """One search, from its call to its return."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter(), processor_seconds()
        epochs, ended, score = search(trials, seed, folder)
        now = time.perf_counter(), processor_seconds()
    return Part(epochs, ended, now[1] - began[1], now[0] - began[0], score)


def run_one(options: argparse.Namespace) -> None:
    """Measure one system in this process, and print what was measured as JSON."""
    case, lane, said = options.one, options.lanes[0], list[str]()

    def note(event: Mapping[str, Any]) -> None:
        if event["event"] == "lane_chosen":
            said.append(f"{event['lane']}: {event['reason']}")

    with contextlib.redirect_stdout(sys.stderr):
        rows = CASES[case].load()
        if lane == PEER:
            search = stock_search(case, rows)
        else:
            search = lane_search(case, lane, rows, as_peer=options.as_peer, note=note)
        seeds = (options.seed, options.seed + WARM_SEED)
        parts = [measured(search, options.trials, seed) for seed in seeds]
    print(json.dumps({"parts": parts, "said": list(dict.fromkeys(said))}))


# In the process that asks for them.


def result_of(case: str, lane: str, backend: str, options: argparse.Namespace) -> Result:
    """Measure a system in a process of its own."""
    trials = options.trials or CASES[case].trials
    trials = min(trials, STOCK_TRIALS) if lane in STOCK else trials
    command = [sys.executable, str(Path(__file__).resolve()), "--one", case, "--lanes", lane]
    command += ["--trials", str(trials), "--seed", str(options.seed)]
    command += ["--as-peer"] * options.as_peer
    settings = {"KERAS_BACKEND": backend, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    try:
        with tempfile.TemporaryDirectory() as kept:
            if options.kept and backend in BATCHED:
                settings = {"KERAS_BACKEND": backend, "XDG_CACHE_HOME": kept}
                _ended(command, settings)
            ended = _ended(command, settings)
    except subprocess.TimeoutExpired:
        return Result(lane, backend, note="did not end")
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        return Result(lane, backend, note=f"failed with {ended.returncode}: {last}")
    found = json.loads(ended.stdout.splitlines()[-1])
    cold, warm = (Part(*part) for part in found["parts"])
    lost = 2 * trials - cold.trials - warm.trials
    said = "; ".join(found["said"])
    return Result(lane, backend, cold, warm, f"{lost} trials lost! {said}" if lost else said)


def _ended(command: Sequence[str], settings: Mapping[str, str]) -> Any:
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=GRACE,
        env=os.environ | settings,
    )


def systems(options: argparse.Namespace) -> list[tuple[str, str]]:
    """What is measured: KerasTuner, and each lane on each backend that has it."""
    pairs = [(lane, backend) for backend in options.backend for lane in options.lanes]
    pairs = [p for p in pairs if p[0] != "fused" or p[1] in BATCHED]
    return [(PEER, PEER_BACKEND), *(p for p in pairs if p != SLOWEST or options.all)]


def row(case: str, result: Result, peer: Result) -> str:
    """A line of the table."""
    head = f"| {case} | {result.lane} | {result.backend} | "
    if result.cold is None or result.warm is None:
        return f"{head}{result.note} | | | | | |"
    pairs = zip(result.rates, peer.rates, strict=True)
    rates = [f"{own:.3g} ({own / other:.1f}x)" for own, other in pairs]
    score = min(result.cold.score, result.warm.score)
    return f"{head}{result.cold.trials} | {' | '.join(rates)} | {score:.4g} |"


def verdicts(case: str, results: Sequence[Result]) -> list[str]:
    """The best lane beside KerasTuner, and `auto` beside the best lane of its backend."""
    peer, *lanes = results
    lanes = [r for r in lanes if r.cold and r.warm]
    if peer.cold is None or not lanes:
        return [f"{case}: nothing to compare."]
    lines = []
    for place, when, aim in ((0, "cold", None), (2, "warm", CASES[case].target)):
        best = max(lanes, key=lambda r: r.rates[place])
        times = best.rates[place] / peer.rates[place]
        line = f"{case}, {when}: {best.lane} on {best.backend}, {times:.1f} times KerasTuner"
        lines.append(line + (f" (aim: {aim:g}, {_met(times >= aim)})." if aim else "."))
        for auto in (r for r in lanes if r.lane == "auto"):
            rivals = [r for r in lanes if r.backend == auto.backend and r.lane != "auto"]
            if rivals:
                rival = max(rivals, key=lambda r: r.rates[place])
                share = auto.rates[place] / rival.rates[place]
                lines.append(
                    f"{case}, {when}: auto on {auto.backend} at {share:.2f} of {rival.lane} "
                    f"(aim: {AUTO_SHARE:g}, {_met(share >= AUTO_SHARE)})."
                )
    return lines


def _met(is_met: bool) -> str:
    return "met" if is_met else "missed"


def compared(options: argparse.Namespace) -> list[str]:
    """Print the table, line by line; returns the sentences on it."""
    print(
        "| pair | lane | backend | trials | cold, per CPU s | cold, per s | warm, per CPU s "
        "| warm, per s | best loss |\n|---|---|---|---|---|---|---|---|---|"
    )
    sentences = []
    for case in options.cases:
        results: list[Result] = []
        for lane, backend in systems(options):
            results.append(result_of(case, lane, backend, options))
            print(row(case, results[-1], results[0]), flush=True)
            if options.verbose and results[-1].note:
                print(f"    {results[-1].note}", file=sys.stderr, flush=True)
        sentences += verdicts(case, results)
    return sentences


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    several = {"type": lambda text: text.split(",")}
    parser.add_argument("--cases", default=list(CASES), **several)
    parser.add_argument("--lanes", default=list(LANES), **several)
    parser.add_argument("--backend", default=list(BACKENDS), **several)
    parser.add_argument("--all", action="store_true", help="also `fit` on JAX, which takes long")
    parser.add_argument(
        "--trials", type=int, help=f"of each search; those by `fit` run {STOCK_TRIALS} at most"
    )
    parser.add_argument("--seed", type=int, default=1, help="not 0: KerasTuner takes that for none")
    parser.add_argument("--as-peer", action="store_true", help="the lanes called as KerasTuner is")
    parser.add_argument("--kept", action="store_true", help="with programs kept on disk")
    parser.add_argument("--verbose", action="store_true", help="also why which lane was taken")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # a pair, measured in this process
    options = parser.parse_args()
    if options.one:
        run_one(options)
        return
    known = (CASES, (*LANES, WORKERS), BACKENDS)
    given = (options.cases, options.lanes, options.backend)
    for words, of in zip(given, known, strict=True):
        if strangers := sorted(set(words) - set(of)):
            parser.error(f"`{strangers[0]}` is none of {', '.join(of)}")
    packages = ("keras", "keras-tuner", "numpy")
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python "
        f"{platform.python_version()}, {', '.join(f'{p} {version(p)}' for p in packages)}\n"
    )
    began = time.perf_counter()
    sentences = compared(options)
    print("\n" + "\n".join(sentences))
    print(f"\n{time.perf_counter() - began:.0f} s in all, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
