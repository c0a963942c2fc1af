"""What portfolios are worth on data that they were not learnt from, and how one is made.

    python benchmarks/portfolio.py [--surrogate] [--file learnt.yaml]
    python benchmarks/portfolio.py --write rules/portfolios/lcbench-tables.yaml

Leaves out each task, lets the others choose, and prints the regret on the task left out after
1, 2, 4, 8 and 12 full trainings of the portfolio alone; 0 is the best known score of a task
and 1 that of its median configuration.

- `--surrogate` (the default): the development tasks of `surrogate.py`, beside random search,
  whose expected regret follows from 50,000 configurations without any luck. `nearest` weighs
  tasks by their facts as a search does, `alike` lets them count alike, and `2 of it` goes on
  with random search after the first two of `nearest`.
- `--file`: a portfolio that `smarttune learn` wrote, beside its own candidates in random
  order; a training that is unknown counts as the worst known of its task.
- `--write` makes the surrogate's portfolio from the development tasks, those for checking left
  alone: what the greedy choice takes, and the best of each task.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
from lcbench import CANONICAL, portfolio_without
from surrogate import POOL, task

from smarttune.evidence.surrogate import DEVELOPMENT_TASKS, FACTS, NAMES
from smarttune.facts import Facts
from smarttune.portfolio import Portfolio, greedy, read_portfolio, write_portfolio
from smarttune.version import __version__

MARKS = (1, 2, 4, 8, 12)
MOST = 60  # candidates of the bundled portfolio: a file of some 20 kB

PARTS = (1, 2, 4, 8)  # so many of a portfolio, and random search after them

# Digits of the rate and its like that a configuration is worth telling with.
SIGNIFICANT = 3


def trimmed(whole: Portfolio) -> Portfolio:
    """The best of each task and what the greedy choice takes, again and again of what is left.

    A second choice serves where the first does not fit the space searched.
    """
    table = whole.regrets
    kept = sorted({int(row) for row in table.argmin(axis=0)})
    while left := min(MOST, len(table)) - len(kept):
        rest = [i for i in range(len(table)) if i not in kept]
        kept += [rest[i] for i in greedy(table[rest], left)]
    return whole.model_copy(update={"candidates": tuple(whole.candidates[i] for i in sorted(kept))})


def expected_random(errors: np.ndarray, k: int) -> float:
    """The mean of the lowest of `k` errors drawn at random from many."""
    ranks = np.arange(1, len(errors) + 1)
    at_least = ((len(errors) - ranks + 1) / len(errors)) ** k
    return float(np.sort(errors) @ (at_least - np.append(at_least[1:], 0.0)))


def _then_random(first: Sequence[float], errors: np.ndarray, num: int) -> float:
    """The mean of the lowest error after some known ones and `num` random ones."""
    return expected_random(np.minimum(errors, min(first)), num) if num > 0 else min(first)


def on_surrogate(num_tasks: int | None) -> None:
    """Print regrets on tasks left out."""
    numbers = DEVELOPMENT_TASKS[:num_tasks]
    names = ("nearest", "alike", *(f"{n} of it" for n in PARTS), "random search")
    rows: dict[str, list[list[float]]] = {name: [] for name in names}
    for number in numbers:
        on, others = task(number), trimmed(portfolio_without(number, numbers))
        here = Facts.of({f"data.{n}": v for n, v in FACTS[number]._asdict().items()})
        for name, facts in (("nearest", here), ("alike", None)):
            errors = [_error(on, values) for values in others.ordered(facts, MARKS[-1])]
            rows[name].append([float(on.regret(min(errors[:k]))) for k in MARKS])
            for n in PARTS if name == "nearest" else ():
                lowest = [_then_random(errors[: min(n, k)], on.errors, k - n) for k in MARKS]
                rows[f"{n} of it"].append([float(on.regret(e)) for e in lowest])
        rows["random search"].append(
            [float(on.regret(expected_random(on.errors, k))) for k in MARKS]
        )
    _print(f"Surrogate, {len(numbers)} tasks, each left out", rows)


def _error(on: Any, values: dict[str, Any]) -> float:
    return float(on.curve({theirs: values[CANONICAL[theirs]] for theirs in NAMES})[-1])


def on_file(path: Path) -> None:
    """Print regrets of a learnt portfolio on each of its tasks, which takes no part then."""
    whole = read_portfolio(path)
    rows: dict[str, list[list[float]]] = {"nearest": [], "alike": [], "random order": []}
    for j, left_out in enumerate(whole.tasks):
        column = whole.regrets[:, j]
        # A training that is unknown or failed gains nothing.
        column = np.where(np.isfinite(column), column, column[np.isfinite(column)].max())
        by_values = {_text(c.values): r for c, r in zip(whole.candidates, column, strict=True)}
        others = _without(whole, j)
        if not others.candidates:
            continue  # all of them came from this task's run
        # The best trials of the task itself were chosen by its own scores.
        fair = [by_values[_text(c.values)] for c in others.candidates]
        for name, facts in (("nearest", Facts.of(left_out.facts)), ("alike", None)):
            found = others.ordered(facts, MARKS[-1])
            regrets = [by_values[_text(values)] for values in found]
            rows[name].append([min(regrets[:k]) for k in MARKS])
        rows["random order"].append([_expected_best(fair, k) for k in MARKS])
    if not rows["nearest"]:
        sys.exit("No task has candidates from the run of another; learn from more runs.")
    _print(f"{whole.name}, {len(rows['nearest'])} tasks, each left out", rows)


def _without(whole: Portfolio, j: int) -> Portfolio:
    """The same without a task, and without the candidates that only its own run brought."""
    kept = tuple(
        c.model_copy(update={"regrets": (*c.regrets[:j], *c.regrets[j + 1 :])})
        for c in whole.candidates
        if c.origin != whole.tasks[j].name
    )
    tasks = (*whole.tasks[:j], *whole.tasks[j + 1 :])
    return whole.model_copy(update={"tasks": tasks, "candidates": kept})


def _expected_best(regrets: Sequence[float], k: int) -> float:
    """The mean of the least of `k` regrets drawn without replacement."""
    ordered, n = sorted(regrets), len(regrets)
    k = min(k, n)
    return sum(r * comb(n - i - 1, k - 1) for i, r in enumerate(ordered)) / comb(n, k)


def _text(values: Any) -> str:
    return json.dumps(values, sort_keys=True)


def _print(title: str, rows: dict[str, list[list[float]]]) -> None:
    print(f"\n{title}\n\n| order | " + " | ".join(f"{k}x" for k in MARKS) + " |")
    print("|---" * (len(MARKS) + 1) + "|")
    for name, regrets in rows.items():
        means = np.mean(regrets, axis=0)
        print(f"| {name} | " + " | ".join(f"{m:.3f}" for m in means) + " |")


def write(path: Path) -> None:
    """Write the surrogate's portfolio."""
    found = trimmed(portfolio_without(None, DEVELOPMENT_TASKS))
    requires = {"data.task": "tabular", **found.requires}
    about = {
        "made": time.strftime("%Y-%m-%d"),
        "command": "python benchmarks/portfolio.py --write rules/portfolios/lcbench-tables.yaml",
        "data": "LCBench through the surrogate of YAHPO Gym: OpenML tables, 52 epochs, "
        "funnel-shaped networks under SGD with a cosine schedule",
        "regret": "0 is the lowest balanced error of 50,000 random configurations, 1 their median",
        "candidates": f"of {POOL} random configurations, the best of each task and what the "
        "greedy choice takes of the rest",
        "versions": f"smarttune {__version__}",
    }
    _write_rounded(path, found.model_copy(update={"requires": requires, "about": about}))
    print(f"{path}: {len(found.candidates)} candidates, {len(found.tasks)} tasks")


def _write_rounded(path: Path, whole: Portfolio) -> None:
    shorten: Callable[[Any], Any] = lambda v: (  # noqa: E731
        float(f"{v:.{SIGNIFICANT}g}") if isinstance(v, float) else v
    )
    short = tuple(
        c.model_copy(update={"values": {n: shorten(v) for n, v in c.values.items()}})
        for c in whole.candidates
    )
    write_portfolio(path, whole.model_copy(update={"candidates": short}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--surrogate", action="store_true", help="the default")
    parser.add_argument("--num-tasks", type=int, help="only the first so many")
    parser.add_argument("--file", type=Path, help="a learnt portfolio")
    parser.add_argument("--write", type=Path, help="write the surrogate's portfolio here")
    options = parser.parse_args()
    if options.write:
        write(options.write)
    if options.file:
        on_file(options.file)
    if options.surrogate or not (options.write or options.file):
        on_surrogate(options.num_tasks)


if __name__ == "__main__":
    main()
