"""Whether it pays that results change the space on the way: the same searches with and without.

    python benchmarks/adaptation.py [--seeds N] [--trials N] [--rows N] [--seconds N]
                                    [--strategies NAMES] [--spaces NAMES] [--ignore CODES]

Each search runs twice with equal epochs, seeds and data, once with `adapt=True` and once with
`adapt=False`, on two of the tables of `tables.py`. The spaces:

- rates-too-high: learning rates from 1e-3 to 10, so that most trials diverge or do badly;
- optimum-outside: learning rates from 1e-6 to 3e-5, a decade or two below the good ones;
- overfitting: 150 rows, a wide network, hardly any dropout, three times the epochs;
- recommended: the space as the rules give it.

Gain: how much better the best trial is with adapting, over the spread of the trials without it
(standard deviation of the better half of the full trainings), so that tables can be averaged; with
the standard error over tables and seeds. Validation scores of equally many epochs, so both sides
are as lucky. A line is printed for each pair of searches. Seeds come outermost: when the seconds
are spent, every space was tried about as often. What is trained is the network of
`small_network.py`, so that there are enough searches to tell a gain from luck.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from tables import Table, tables

RATE = "optimizer.learning_rate"
EPOCHS = 8
# What the small network can do.
SMALL: dict[str, Any] = {
    "model.family": "mlp",
    "training.batch_size": 64,
    "model.normalization": "none",
    "optimizer.name": "adamw",
    "optimizer.regularization": "weight_decay",
    "optimizer.schedule": "constant",
}
LARGE: dict[str, Any] = {"training.batch_size": 32, "search.max_epochs": 24}

SPACES: dict[str, dict[str, Any]] = {
    "recommended": {},
    "rates-too-high": {RATE: {"type": "float", "low": 1e-3, "high": 10.0, "sampling": "log"}},
    "optimum-outside": {RATE: {"type": "float", "low": 1e-6, "high": 3e-5, "sampling": "log"}},
    "overfitting": {"model.dropout": {"type": "float", "low": 0.0, "high": 0.05}},
}


def frame_of(table: Table, rows: int) -> tuple[Any, str]:
    """A random part of a table and its target's name."""
    import pandas as pd

    header = None if isinstance(table.target, int) else "infer"
    frame = pd.read_csv(table.path, header=header, skipinitialspace=True)
    frame.columns = [str(c) for c in frame.columns]
    target = frame.columns[table.target] if isinstance(table.target, int) else table.target
    return frame.sample(rows, random_state=0).reset_index(drop=True), str(target)


def prepared(
    table: Table, space: str, strategy: str, *, rows: int, seed: int, book: Any
) -> tuple[Any, Any]:
    """The search as it begins, with the ranges of one of the spaces, and its rules."""
    from smarttune.facts import Facts
    from smarttune.preparation import prepare
    from smarttune.recommendation import Recommendation

    small = space == "overfitting"
    frame, target = frame_of(table, 150 if small else rows)
    pins = {**SMALL, "search.max_epochs": EPOCHS, **(LARGE if small else {})}
    made = prepare(
        frame,
        target,
        declared=Facts(),
        pinned={**pins, "search.strategy": strategy},
        rulebook=book,
        seed=seed,
        problem=table.problem,
    )
    job = made.job
    raw = job.recommendation.to_json()
    # A length that is pinned for speed shall not count as one that the user insists on.
    raw["settings"]["search.max_epochs"]["because"] = []
    for name, range_ in SPACES[space].items():
        middle = (range_["low"] * range_["high"]) ** 0.5 or range_["high"] / 2
        raw["settings"][name] |= {"range": range_, "value": middle, "prior": None}
    return job.with_recommendation(Recommendation.from_json(raw)), made.suggestion.rulebook


def searched(
    job: Any, book: Any, strategy: str, *, trials: int, adapt: bool
) -> tuple[list[float], list[dict[str, Any]]]:
    """The scores of a search's full trainings as losses, and what it changed."""
    from small_network import SmallNetworkTuner

    from smarttune.tuning import Budget, Run
    from smarttune.tuning.adapting import adaptations
    from smarttune.tuning.living import adaptation

    # As many epochs for each: what a longer trial costs is taken from the number of trials.
    budget = Budget(epochs=trials * job.max_epochs)
    goal = job.objective
    manifest = {"kind": "tabular", "objective": goal._asdict(), "strategy": strategy}
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", manifest | {"adapt": adapt})
        tuner = SmallNetworkTuner(
            job.oracle(strategy, budget),
            job.hypermodel(),
            run=run,
            policy=job.policy(),
            budget=budget,
            adapt=adaptation(run, job, book),
        )
        tuner.search(job.training_data)
        sign = -1.0 if goal.direction == "max" else 1.0
        scored = [r for r in tuner.log if r.is_scored and r.max_epochs >= job.max_epochs]
        return [sign * r.score for r in scored], adaptations(run.path)


def gain(plain: list[float], adapted: list[float]) -> float:
    """By how many spreads the best adapted trial beats the best plain one."""
    better = sorted(plain)[: max(2, len(plain) // 2)]
    spread = statistics.pstdev(better) or 1e-9
    return (min(plain) - min(adapted)) / spread


def told(events: list[dict[str, Any]]) -> str:
    """What was changed, after how many trials."""
    signs = {"adapted": "", "adaptation_undone": "back ", "adaptation_declined": "not "}
    return (
        ", ".join(
            f"{signs[e['event']]}{e['rule']} {e['hyperparameter'].split('.')[-1]} "
            f"at {e['num_trials']}"
            for e in events
        )
        or "nothing"
    )


def main() -> None:
    """Run pairs of searches while there is time, then print a line for each space."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--trials", type=int, default=16, help="full trainings a search may cost")
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--seconds", type=float, default=420.0, help="no pair begins after them")
    parser.add_argument("--strategies", nargs="+", default=["priorband", "random"])
    parser.add_argument("--spaces", nargs="+", default=list(SPACES), choices=list(SPACES))
    parser.add_argument("--ignore", nargs="*", default=[], help="rules that shall not act")
    options = parser.parse_args()

    from smarttune.rulebook import load_rulebook, select

    book = select(load_rulebook(), ignore=options.ignore)
    began = time.monotonic()
    gains: dict[tuple[str, str], list[float]] = defaultdict(list)
    pairs = itertools.product(
        range(options.seeds), tables()[1:], options.spaces, options.strategies
    )
    for seed, table, space, strategy in pairs:
        if time.monotonic() - began > options.seconds:
            print("The time is up; what follows averages the pairs above.", flush=True)
            break
        job, rules = prepared(table, space, strategy, rows=options.rows, seed=seed, book=book)
        size = {"trials": options.trials}
        adapted, events = searched(job, rules, strategy, adapt=True, **size)
        changed = any(e["event"] != "adaptation_declined" for e in events)
        # A search that nothing changed is, seed for seed, the one without adapting.
        plain = searched(job, rules, strategy, adapt=False, **size)[0] if changed else adapted
        gains[space, strategy].append(gain(plain, adapted))
        print(
            f"{strategy} {space} {table.name} {seed}: {min(plain):.4g} -> {min(adapted):.4g}, "
            f"gain {gains[space, strategy][-1]:+.2f}; {told(events)}; "
            f"{time.monotonic() - began:.0f} s",
            flush=True,
        )
    for (space, strategy), found in sorted(gains.items()):
        error = statistics.stdev(found) / len(found) ** 0.5 if len(found) > 1 else float("nan")
        print(
            f"{strategy} {space}: gain {statistics.fmean(found):+.2f} +- {error:.2f} spreads "
            f"over {len(found)} pairs",
            flush=True,
        )


if __name__ == "__main__":
    main()
