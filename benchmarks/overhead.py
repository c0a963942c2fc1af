"""What a strategy costs beside the training: time per suggestion, bytes per trial.

    python benchmarks/overhead.py [--quick] [--strategies random,tpe] [--limit 120]
        [--gp-trials 200] [--without-files]

Every strategy of SmartTune and the oracles of KerasTuner, in one run on one thread, on the seven
hyperparameters of `surrogate.py`. Trials are played: a smooth function of the values is their
loss. At each size a suggestion (`create_trial`) and its report (`update_trial` and `end_trial`)
are timed in processor time, ten times; the median is shown. Both sides write their files then, as
they do by default; SmartTune's own tuner keeps its record elsewhere, which `--without-files`
shows. Up to a size the files are left out, and strategies whose model alone is of interest are
given random trials, so that a slow model need not make them all. KerasTuner's Bayesian oracle
draws at random until it has seen 21 trials.

Memory is what Python has allocated since before the oracle was made (`tracemalloc`, in a second
run), per trial. Disk is `oracle.json` per trial and the median `trial.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import inspect
import logging
import math
import os
import random
import statistics
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read by NumPy

import keras_tuner
from surrogate import hyperparameters

from smarttune.evidence.surrogate import SPACE

SIZES = (10, 50, 100, 200, 400, 500, 1000, 2000)
QUICK_SIZES = (10, 50)
ASKS, QUICK_ASKS = 10, 3
MAX_EPOCHS = 81  # ours: five rungs of a factor of three, as KerasTuner's own overhead was measured
SEED = 5

# KerasTuner's oracles, by what they are compared with.
RANDOM, HYPERBAND, BAYESIAN = "RandomSearch", "Hyperband", "BayesianOptimization"
STOCK = {RANDOM: "RandomSearchOracle", HYPERBAND: "HyperbandOracle", BAYESIAN: f"{BAYESIAN}Oracle"}

# What a strategy of ours would replace; the others replace random search.
REPLACES = {
    **dict.fromkeys(("hyperband", "asha", "priorband", "i_epoch"), HYPERBAND),
    **dict.fromkeys(("bayesian", "tpe", "cma", "evolution", "nsga2"), BAYESIAN),
}

# Their cost depends on how many trials they saw, not on which.
FILLED = ("bayesian", "tpe", BAYESIAN)

LOSS, SIZE = (keras_tuner.Objective(name, "min") for name in ("loss", "size"))

# ours: the finest grid of seven hyperparameters that `MAX_GRID` allows; 3**7 is 2187.
OPTIONS: dict[str, dict[str, Any]] = {
    "grid": {"levels": 3},
    "nsga2": {"objective": [LOSS, SIZE]},
}


@dataclass
class Cost:
    """What was measured of one strategy, by number of trials."""

    ask: dict[int, float] = field(default_factory=dict)  # milliseconds
    tell: dict[int, float] = field(default_factory=dict)  # milliseconds
    memory: dict[int, float] = field(default_factory=dict)  # bytes per trial
    disk: dict[int, float] = field(default_factory=dict)  # bytes per trial


def made(name: str, max_trials: int, **options: Any) -> Any:
    """An oracle that goes on for at least `max_trials`."""
    from smarttune.oracles import STRATEGIES

    kind = getattr(keras_tuner.oracles, STOCK[name]) if name in STOCK else STRATEGIES[name]
    inits = [vars(c)["__init__"] for c in kind.__mro__ if "__init__" in vars(c)]
    takes = {p for init in inits for p in inspect.signature(init).parameters}
    if "max_epochs" in takes:
        options["max_epochs"] = MAX_EPOCHS
    if "hyperband_iterations" in takes:
        options["hyperband_iterations"] = sys.maxsize
    else:
        options["max_trials"] = max_trials
    options = {"objective": LOSS, **options, **OPTIONS.get(name, {})}
    oracle = kind(hyperparameters=hyperparameters(), seed=SEED, **options)
    oracle.verbose = 0
    return oracle


def loss(values: Mapping[str, Any]) -> float:
    """Smooth, with its best inside the space, and better the longer a trial trains."""
    total = 1 / values.get("tuner/epochs", MAX_EPOCHS)
    for place, axis in enumerate(SPACE, start=1):
        scale = math.log if axis.log else float
        low, high, value = (scale(x) for x in (axis.low, axis.high, values[axis.name]))
        total += ((value - low) / (high - low) - place / (len(SPACE) + 1)) ** 2
    return total


def asked(oracle: Any) -> Any:
    """The next trial; None where the strategy has no more."""
    trial = oracle.create_trial("tuner0")
    return trial if trial.status == "RUNNING" else None


def told(oracle: Any, trial: Any) -> None:
    """Report a trial as a tuner does."""
    values = trial.hyperparameters.values
    metrics = {LOSS.name: loss(values), SIZE.name: float(values["max_units"])}
    wanted = getattr(oracle.objective, "objectives", [oracle.objective])
    oracle.update_trial(trial.trial_id, {o.name: metrics[o.name] for o in wanted})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)


@contextlib.contextmanager
def replaced(oracle: Any, **methods: Any) -> Iterator[None]:
    """Give an oracle other methods for a while."""
    vars(oracle).update(methods)
    yield
    for name in methods:
        del vars(oracle)[name]


def grow(oracle: Any, size: int, until: float, *, fill: bool) -> bool:
    """Play trials until there are `size`; whether it came so far in time."""
    rng = random.Random(SEED + size)

    def drawn(_: str) -> dict[str, Any]:
        space = oracle.hyperparameters.space
        values = {hp.name: hp.random_sample(rng.getrandbits(31)) for hp in space}
        return {"status": "RUNNING", "values": values}

    methods: dict[str, Any] = {"save": lambda *_: None, "_save_trial": lambda *_: None}
    if fill:
        methods["populate_space"] = drawn
    with replaced(oracle, **methods):
        while len(oracle.trials) < size:
            trial = asked(oracle) if time.process_time() < until else None
            if trial is None:
                return False
            told(oracle, trial)
    return True


def timed(name: str, cost: Cost, options: argparse.Namespace, sizes: list[int]) -> None:
    """Fill in the milliseconds and the bytes on disk."""
    with tempfile.TemporaryDirectory() as folder:
        own = {"persist": False} if options.without_files and name not in STOCK else {}
        oracle = made(name, sizes[-1] + options.asks, **own)
        oracle._set_project_dir(folder, "p")  # noqa: SLF001 -- a tuner does this
        until = time.process_time() + options.limit
        for size in sizes:
            if not grow(oracle, size, until, fill=name in FILLED):
                return
            asks, tells = [], []
            for _ in range(options.asks):
                began = time.process_time()
                trial = asked(oracle)
                asks.append(time.process_time() - began)
                if trial is None:
                    return
                began = time.process_time()
                told(oracle, trial)
                tells.append(time.process_time() - began)
            cost.ask[size] = 1e3 * statistics.median(asks)
            cost.tell[size] = 1e3 * statistics.median(tells)
            cost.disk[size] = on_disk(Path(folder), len(oracle.trials))


def on_disk(folder: Path, num_trials: int) -> float:
    """Bytes per trial; 0 where nothing is written."""
    common = sum(f.stat().st_size for f in folder.rglob("oracle.json"))
    each = [f.stat().st_size for f in folder.rglob("trial.json")]
    return common / num_trials + (statistics.median(each) if each else 0)


def weighed(name: str, cost: Cost, options: argparse.Namespace) -> None:
    """Fill in the memory of the sizes that were timed."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    oracle = made(name, max(cost.ask, default=0) + 1)
    until = time.process_time() + options.limit
    for size in cost.ask:
        # The last one is asked for truly, so that a model is there.
        if not grow(oracle, size - 1, until, fill=name in FILLED):
            break
        if not grow(oracle, size, until, fill=False):
            break
        gc.collect()
        cost.memory[size] = (tracemalloc.get_traced_memory()[0] - before) / size
    tracemalloc.stop()


def table(title: str, rows: Mapping[str, Mapping[int, float]], sizes: list[int], form: str) -> None:
    """Print a Markdown table, a row per strategy and a column per size."""
    print(f"\n{title}\n\n| strategy | {' | '.join(map(str, sizes))} |")
    print("|---" * (len(sizes) + 1) + "|")
    for name, cells in rows.items():
        shown = (format(cells[size], form) if size in cells else "-" for size in sizes)
        print(f"| {name} | {' | '.join(shown)} |")


def ratios(costs: Mapping[str, Cost], what: str) -> dict[str, dict[int, float]]:
    """How many times as much as the oracle of KerasTuner that a strategy replaces."""
    found = {}
    for name in (n for n in costs if n not in STOCK):
        other = REPLACES.get(name, RANDOM)
        if other not in costs:
            continue
        mine, its = getattr(costs[name], what), getattr(costs[other], what)
        found[f"{name} / {other}"] = {s: mine[s] / its[s] for s in mine if its.get(s)}
    return found


def main() -> None:
    from smarttune.oracles import STRATEGIES

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only see that it works")
    parser.add_argument("--strategies", default=",".join((*STRATEGIES, *STOCK)))
    parser.add_argument("--limit", type=float, default=120, help="seconds to grow one search")
    parser.add_argument("--gp-trials", type=int, default=200, help=f"most trials of {BAYESIAN}")
    parser.add_argument("--max-trials", type=int, default=max(SIZES))
    parser.add_argument("--without-files", action="store_true", help="ours writes no files")
    options = parser.parse_args()
    options.asks = QUICK_ASKS if options.quick else ASKS
    sizes = [s for s in (QUICK_SIZES if options.quick else SIZES) if s <= options.max_trials]
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # KerasTuner warns of each collision
    costs: dict[str, Cost] = {}
    for name in options.strategies.split(","):
        print(name, file=sys.stderr, flush=True)
        costs[name] = Cost()
        most = options.gp_trials if name == BAYESIAN else options.max_trials
        timed(name, costs[name], options, [s for s in sizes if s <= most])
        weighed(name, costs[name], options)
        for size, ask in costs[name].ask.items():  # so that an interrupted run was not for nothing
            print(f"  {size}: {ask:.2f} ms, {costs[name].tell[size]:.2f} ms", file=sys.stderr)
    files = "SmartTune's without files" if options.without_files else "both write files"
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, one thread; {files}")
    table("Milliseconds per suggestion", {n: c.ask for n, c in costs.items()}, sizes, ".2f")
    table("Times KerasTuner's", ratios(costs, "ask"), sizes, ".3g")
    table("Milliseconds per report", {n: c.tell for n, c in costs.items()}, sizes, ".2f")
    table("Bytes of memory per trial", {n: c.memory for n, c in costs.items()}, sizes, ".0f")
    table("Times KerasTuner's", ratios(costs, "memory"), sizes, ".3g")
    table("Bytes on disk per trial", {n: c.disk for n, c in costs.items()}, sizes, ".0f")
    table("Times KerasTuner's", ratios(costs, "disk"), sizes, ".3g")


if __name__ == "__main__":
    main()
