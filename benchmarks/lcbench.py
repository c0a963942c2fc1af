"""SmartTune and its peers on a surrogate of real training runs, at equal epochs, in one run.

    python benchmarks/lcbench.py [--seeds 20] [--budget 12] [--methods priorband,optuna_tpe]
        [--prior rules|best25|worst] [--portfolio] [--tasks 3945,34539] [--jobs 2]

Prints the mean normalized regret after 1, 2, 4, 8, 12, 20 and 50 full trainings with its
standard error over seeds (see `surrogate.py` for what regret and cost are).

Our own searches start from a recommendation and its priors:
- `rules`: what SmartTune's rules say for a table of so many rows, columns and classes, with
  SGD, weight decay and a cosine schedule, since that is what the surrogate trains;
- `best25`: the best of 25 random configurations, another one for each seed;
- `worst`: the worst of 50,000. Priors of the last two are normal, with a spread of a quarter.
The peers start from nothing, as their users do; with `best25` and `worst` those that have a
way to be told a configuration are told it.

`--portfolio` adds configurations that were good on the other tasks: each task is left out of
the portfolio that it is searched with.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from surrogate import (
    Setup,
    Simulation,
    Spent,
    a_persons_default,
    as_values,
    hashed,
    hyperparameters,
    play,
    task,
)

from smarttune.evidence.surrogate import DEVELOPMENT_TASKS, FACTS, MAX_EPOCHS, PINNED, SPACE

Method = Callable[[Simulation, Setup], None]

MARKS = (1, 2, 4, 8, 12, 20, 50)

# The surrogate's names, in its order, as SmartTune calls them.
CANONICAL = {axis.name: axis.canonical for axis in SPACE}

# The width of priors that come from a configuration alone ("medium" of the PriorBand paper).
SPREAD = 0.25

# Configurations of a portfolio that a search gets to see.
PORTFOLIO_SIZE = 8

# Candidates of a portfolio: so many of the best of each task, and of the first of all.
BEST_OF_EACH = 25
FIRST_OF_ALL = 500


def recommended(number: int, budget: float, tuned: tuple[str, ...] = ()) -> Any:
    """What the rules recommend for a task, as a search space by the surrogate's names.

    Of the hyperparameters only the `tuned` ones may vary, all of them if none is named.
    """
    from smarttune.facts import Facts
    from smarttune.recommendation import recommend
    from smarttune.space import Dimension, Fixed, SearchSpace
    from smarttune.suggestion import rulebook_of

    known = FACTS[number]
    facts = Facts.of(
        {
            **known.facts(),
            "budget.type": "epochs",
            "budget.num_epochs": round(budget * MAX_EPOCHS),
        }
    )
    found = recommend(facts, rules=rulebook_of(None, (), ()), pinned=PINNED)
    dimensions = []
    for name, ours in CANONICAL.items():
        setting = found.settings[ours]
        range_, prior = setting.range, setting.prior
        if tuned and name not in tuned:
            range_, prior = Fixed(value=setting.value), None
        dimensions.append(Dimension(name=name, range=range_, value=setting.value, prior=prior))
    return SearchSpace(dimensions=tuple(dimensions))


@functools.cache
def setup_of(
    number: int, seed: int, budget: float, prior: str, tuned: tuple[str, ...] = ()
) -> Setup:
    """The start of our searches on a task."""
    if prior == "rules":
        space = recommended(number, budget, tuned)
        return Setup(hashed(number, seed), budget, space.default, space=space)
    on = task(number)
    if prior == "worst":
        values = as_values(on.pool[np.argmax(on.errors)])
    else:
        values = a_persons_default(on, seed)
    return Setup(hashed(number, seed), budget, values)


def priors_of(setup: Setup, hp: Any) -> dict[str, Any]:
    """The priors of the recommended space, or such as surround the recommended values."""
    from smarttune.space import NormalPrior

    if setup.space is not None:
        return {d.name: d.prior for d in setup.space.dimensions if d.prior is not None}
    assert setup.default is not None
    return {
        p.name: NormalPrior(center=float(p.value_to_prob(setup.default[p.name])), spread=SPREAD)
        for p in hp.space
    }


@functools.cache
def portfolio_without(left_out: int | None, tasks: tuple[int, ...]) -> Any:
    """A portfolio of the other tasks, as `smarttune.portfolio` keeps it."""
    from smarttune.portfolio import Candidate, Portfolio
    from smarttune.portfolio import Task as Elsewhere

    others = [task(number) for number in tasks if number != left_out]
    rows = {*range(FIRST_OF_ALL)}
    for on in others:
        rows |= {int(i) for i in np.argsort(on.errors)[:BEST_OF_EACH]}
    candidates = []
    for row in sorted(rows):
        values = as_values(others[0].pool[row])
        candidates.append(
            Candidate(
                values={CANONICAL[n]: v for n, v in values.items()},
                regrets=tuple(round(float(on.regret(on.errors[row])), 4) for on in others),
            )
        )
    elsewhere = [
        Elsewhere(
            name=f"OpenML task {on.number}",
            facts={f"data.{n}": v for n, v in FACTS[on.number]._asdict().items()},
        )
        for on in others
    ]
    return Portfolio(
        name="lcbench-tables",
        summary="Dense networks under SGD with a cosine schedule on tables.",
        about={},
        requires={"optimizer.name": "sgd", "optimizer.schedule": "cosine"},
        tasks=tuple(elsewhere),
        candidates=tuple(candidates),
    )


def from_portfolio(number: int, setup: Setup, tasks: tuple[int, ...]) -> list[dict[str, Any]]:
    """Configurations that were good on other tasks, moved into the space searched."""
    from smarttune.facts import Facts
    from smarttune.portfolio import fitting

    facts = Facts.of({f"data.{n}": v for n, v in FACTS[number]._asdict().items()})
    named = {ours: name for name, ours in CANONICAL.items()}
    found = []
    for values in portfolio_without(number, tasks).ordered(facts, PORTFOLIO_SIZE):
        theirs = {named[n]: v for n, v in values.items()}
        moved = theirs if setup.space is None else fitting(theirs, setup.space)
        if moved is not None:
            found.append(moved)
    return found


def ours(search: Simulation, setup: Setup, *, strategy: str, **options: Any) -> None:
    """One of SmartTune's strategies, told the recommendation and its priors."""
    import keras_tuner

    from smarttune.oracles import STRATEGIES

    hp = hyperparameters(setup)
    if strategy in ("priorband", "hyperband"):
        options = {"hyperband_iterations": None, "num_full_initial_trials": 1, **options}
    if strategy in ("priorband", "hyperband", "asha"):
        options = {"max_epochs": MAX_EPOCHS, "min_epochs": MAX_EPOCHS // 9, **options}
    else:
        options = {"max_trials": int(setup.budget), **options}
    oracle = STRATEGIES[strategy](
        keras_tuner.Objective("error", "min"),
        hyperparameters=hp,
        initial_trials=[values for values in (setup.default, *setup.portfolio) if values],
        priors=priors_of(setup, hp),
        seed=hashed(strategy, setup.seed),
        persist=False,
        **options,
    )
    play(oracle, search)


def portfolio_alone(search: Simulation, setup: Setup) -> None:
    """The configurations of the portfolio in order, each trained in full."""
    for values in setup.portfolio:
        search.train(values)


OURS: dict[str, Method] = {
    "priorband": functools.partial(ours, strategy="priorband"),
    "priorband_brackets": functools.partial(ours, strategy="priorband", model=False),
    "hyperband_default_first": functools.partial(ours, strategy="hyperband"),
    "asha": functools.partial(ours, strategy="asha", max_trials=None),
    "bayesian": functools.partial(ours, strategy="bayesian"),
    "random_priors": functools.partial(ours, strategy="random"),
    "portfolio_alone": portfolio_alone,
}


def method_of(name: str) -> Method:
    """One of ours or a peer."""
    if name in OURS:
        return OURS[name]
    from peers import PEERS

    return PEERS[name]


def regrets(job: tuple[str, int, int, argparse.Namespace]) -> list[float]:
    """Run one search and return its regret at each mark."""
    name, number, seed, options = job
    on = task(number)
    bare = Setup(hashed(number, seed), options.budget)
    if name in OURS or options.prior != "rules":
        setup = setup_of(number, seed, options.budget, options.prior, options.tuned)
    else:
        setup = bare
    if options.portfolio and name in OURS:
        found = from_portfolio(number, setup, options.all_tasks)
        if options.portfolio_first and found:
            setup = replace(setup, default=found[0], portfolio=tuple(found[1:]))
        else:
            setup = replace(setup, portfolio=tuple(found))
    search = Simulation(on, options.budget)
    with contextlib.suppress(Spent):
        method_of(name)(search, setup)
    marks = [m for m in MARKS if m <= options.budget]
    return [search.regret_after(min(m, len(search.bests) / MAX_EPOCHS)) for m in marks]


def table(options: argparse.Namespace) -> None:
    """Print one row per method."""
    marks = [m for m in MARKS if m <= options.budget]
    print(f"{len(options.tasks)} tasks, {options.seeds} seeds, prior: {options.prior}, ", end="")
    print(f"portfolio: {'tasks left out' if options.portfolio else 'none'}\n")
    print("| method | " + " | ".join(f"{m}x" for m in marks) + " |")
    print("|---" * (len(marks) + 1) + "|")
    absent: Mapping[str, str] = {}
    if any(name not in OURS for name in options.methods):
        from peers import missing

        absent = missing()
    with multiprocessing.get_context("spawn").Pool(options.jobs) as workers:
        for name in options.methods:
            if name in absent:
                print(f"| {name} | {absent[name]} |")
                continue
            jobs = [(name, t, s, options) for s in range(options.seeds) for t in options.tasks]
            found = np.array(workers.map(regrets, jobs, chunksize=1))
            by_seed = found.reshape(options.seeds, len(options.tasks), -1).mean(axis=1)
            errors = by_seed.std(axis=0, ddof=1) / options.seeds**0.5 if options.seeds > 1 else 0
            cells = zip(by_seed.mean(axis=0), np.broadcast_to(errors, len(marks)), strict=True)
            print(f"| {name} | " + " | ".join(f"{m:.3f} ± {e:.3f}" for m, e in cells) + " |")
            sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default="priorband,priorband_brackets,hyperband_default_first")
    parser.add_argument("--tasks", default=",".join(map(str, DEVELOPMENT_TASKS)))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", type=float, default=12, help="full trainings")
    parser.add_argument("--prior", choices=("rules", "best25", "worst"), default="rules")
    parser.add_argument(
        "--tuned", default="", help="only these vary, such as learning_rate,max_dropout"
    )
    parser.add_argument("--portfolio", action="store_true")
    parser.add_argument(
        "--portfolio-first", action="store_true", help="and its first one instead of the default"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    options.methods = options.methods.split(",")
    options.tuned = tuple(name for name in options.tuned.split(",") if name)
    options.tasks = tuple(int(t) for t in options.tasks.split(","))
    options.all_tasks = tuple(dict.fromkeys((*DEVELOPMENT_TASKS, *options.tasks)))
    for number in options.all_tasks if options.portfolio else options.tasks:
        task(number)  # computed once, before the workers would all do it
    table(options)


if __name__ == "__main__":
    main()
