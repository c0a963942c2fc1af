"""Other people's searches on the surrogate, each as its makers set it up.

    python benchmarks/peers.py [--seeds 5] [--slow-seeds 1] [--budget 12] [--default best-of-25]
        [--peers optuna_tpe,smac] [--tasks 3945,34539] [--quick]

All pay alike (see `surrogate.py`). KerasTuner's and NePS' promotions continue a trial and pay the
difference; SMAC gives a promoted configuration no past, so it pays from epoch 0 again; Optuna's
pruners watch each epoch and end a trial, which costs what it trained. A recommended configuration
is handed over where the library has a documented way: queued first (Optuna), as prior and first
trial (NePS), in the initial design (SMAC). KerasTuner has none. Options are those of the libraries
but for what a search of some fidelity must be told: 1 to 52 epochs, one in three kept.

Prints the mean normalized regret after some full trainings, its standard error over seeds at the
end, seconds of processor time per search, and a row for each library that is not installed.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import logging
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from surrogate import (
    Axis,
    Setup,
    Simulation,
    Spent,
    Task,
    a_persons_default,
    hashed,
    hyperparameters,
    play,
    task,
)

from smarttune.evidence.surrogate import DEVELOPMENT_TASKS, MAX_EPOCHS, SPACE

Method = Callable[[Simulation, Setup], None]

# Li et al. 2018; also the default of KerasTuner, NePS and SMAC (Optuna's is 4 or 3 by pruner).
FACTOR = 3

# ours: KerasTuner waits for 3 points per hyperparameter, 21 here, before its model proposes, which
# a budget of 12 trainings never sees; the second row of it starts its model after so many.
EARLY_POINTS = 5

REPORTED = (1, 2, 4, 8, 12, 24)  # full trainings after which regret is shown


def axes(setup: Setup) -> tuple[Axis, ...]:
    """The space, narrowed where the setup says so."""
    narrowed = {a.name: setup.ranges.get(a.name, (a.low, a.high, a.log)) for a in SPACE}
    return tuple(
        a._replace(low=narrowed[a.name][0], high=narrowed[a.name][1], log=narrowed[a.name][2])
        for a in SPACE
    )


def starts(setup: Setup) -> list[dict[str, Any]]:
    """Configurations to try first."""
    return [dict(values) for values in (setup.default, *setup.portfolio) if values]


# Ours, to compare with.


def plain_random(search: Simulation, setup: Setup) -> None:
    """Draw configurations at random, after those to try first, and train each in full."""
    from smarttune.oracles import RandomOracle

    play(_of_ours(RandomOracle, "random", setup, max_trials=None), search)


def default_then_hyperband(search: Simulation, setup: Setup) -> None:
    """Train what is to be tried first in full, then run Hyperband without a prior."""
    from smarttune.oracles import HyperbandOracle

    options = {"max_epochs": MAX_EPOCHS, "factor": FACTOR, "hyperband_iterations": None}
    play(_of_ours(HyperbandOracle, "hyperband", setup, **options), search)


def _of_ours(oracle: Any, name: str, setup: Setup, **options: Any) -> Any:
    import keras_tuner

    return oracle(
        keras_tuner.Objective("error", "min"),
        hyperparameters=hyperparameters(setup),
        initial_trials=starts(setup),
        seed=hashed(name, setup.seed),
        persist=False,
        **options,
    )


# KerasTuner.


def _keras_tuner(search: Simulation, setup: Setup, *, oracle: str, **options: Any) -> None:
    import keras_tuner

    made = getattr(keras_tuner.oracles, oracle)(
        keras_tuner.Objective("error", "min"),
        hyperparameters=hyperparameters(setup),
        seed=hashed(oracle, setup.seed),
        **options,
    )
    made.verbose = 0
    with tempfile.TemporaryDirectory() as folder:  # it always writes files
        made._set_project_dir(folder, "search")  # noqa: SLF001 -- its tuner does this
        play(made, search)


def _unlimited(search: Simulation, setup: Setup, *, oracle: str, **options: Any) -> None:
    """Strategies that train in full need no more trials than fit the budget."""
    _keras_tuner(search, setup, oracle=oracle, max_trials=search.left // MAX_EPOCHS + 1, **options)


# Optuna.


def _optuna(
    search: Simulation, setup: Setup, *, name: str, sampler: Callable[[Any, int], Any], pruner: str
) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    options = {"min_resource": 1, "max_resource": MAX_EPOCHS, "reduction_factor": FACTOR}
    # The pruner of Hyperband draws the bracket of a trial from the study's name.
    study = optuna.create_study(
        study_name=f"{name} {setup.seed}",
        sampler=sampler(optuna.samplers, hashed(name, setup.seed)),
        pruner=getattr(optuna.pruners, pruner)(**(options if pruner == "HyperbandPruner" else {})),
    )
    for values in starts(setup):
        study.enqueue_trial(values)
    while True:
        trial = study.ask()
        values = {axis.name: _suggested(trial, axis) for axis in axes(setup)}
        error = _watched(trial, search, values) if pruner != "NopPruner" else search.train(values)
        pruned = None if error is not None else optuna.trial.TrialState.PRUNED
        study.tell(trial, error, state=pruned)


def _suggested(trial: Any, axis: Axis) -> float | int:
    if axis.integer:
        return int(trial.suggest_int(axis.name, int(axis.low), int(axis.high), log=axis.log))
    return float(trial.suggest_float(axis.name, axis.low, axis.high, log=axis.log))


def _watched(trial: Any, search: Simulation, values: Mapping[str, Any]) -> float | None:
    """Train epoch by epoch; None if the pruner ends it."""
    error = None
    for epoch in range(1, MAX_EPOCHS + 1):
        error = search.train(values, epoch - 1, epoch)
        trial.report(error, epoch)
        if epoch < MAX_EPOCHS and trial.should_prune():
            return None
    return error


def _tpe(samplers: Any, seed: int) -> Any:
    return samplers.TPESampler(multivariate=True, seed=seed)


def _gaussian_process(samplers: Any, seed: int) -> Any:
    return samplers.GPSampler(deterministic_objective=True, seed=seed)


# SMAC.


def smac(search: Simulation, setup: Setup) -> None:
    """SMAC's multi-fidelity facade: Hyperband whose configurations a random forest proposes."""
    from ConfigSpace import Configuration, ConfigurationSpace, Float, Integer
    from smac import MultiFidelityFacade, Scenario
    from smac.runhistory.dataclasses import TrialValue

    space = ConfigurationSpace(seed=hashed("smac space", setup.seed))
    for a in axes(setup):
        low, high = (int(a.low), int(a.high)) if a.integer else (a.low, a.high)
        space.add((Integer if a.integer else Float)(a.name, (low, high), log=a.log))
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            space,
            deterministic=True,
            min_budget=1,
            max_budget=MAX_EPOCHS,
            n_trials=_num_trials_of_hyperband(search.left),
            output_directory=folder,
            seed=hashed("smac", setup.seed),
        )
        design = MultiFidelityFacade.get_initial_design(
            scenario, additional_configs=[Configuration(space, v) for v in starts(setup)]
        )
        facade = MultiFidelityFacade(
            scenario,
            _never_called,
            initial_design=design,
            intensifier=MultiFidelityFacade.get_intensifier(scenario, eta=FACTOR),
            logging_level=logging.ERROR,
            overwrite=True,
        )
        while True:
            asked = facade.ask()
            error = search.train(dict(asked.config), 0, round(asked.budget))
            facade.tell(asked, TrialValue(cost=error), save=False)


def _never_called(config: Any, seed: int = 0, budget: float = 0.0) -> float:
    raise NotImplementedError  # SMAC wants a function even where trials are asked for and told


def _num_trials_of_hyperband(epochs: int) -> int:
    """Trials that Hyperband runs in so many epochs where promotions pay anew.

    SMAC spends at most a quarter of them on its initial design.
    """
    from smarttune.fidelity import hyperband_brackets

    rungs = [r for b in hyperband_brackets(1, MAX_EPOCHS, FACTOR) for r in b.rungs]
    paid = sum(rung.num_trials * rung.epochs for rung in rungs)
    return max(1, round(epochs * sum(rung.num_trials for rung in rungs) / paid))


# NePS.


def neps_priorband(search: Simulation, setup: Setup) -> None:
    """PriorBand by the authors' library; the prior is the default, of medium confidence."""
    import neps
    import torch

    seed = hashed("neps", setup.seed)
    random.seed(seed)  # it draws from the global generators
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    logging.getLogger("neps").setLevel(logging.ERROR)
    parameters: dict[str, Any] = {"epochs": neps.IntegerFidelity(1, MAX_EPOCHS)}
    for a in axes(setup):
        prior = (
            {"prior": setup.default[a.name], "prior_confidence": "medium"} if setup.default else {}
        )
        low, high = (int(a.low), int(a.high)) if a.integer else (a.low, a.high)
        parameters[a.name] = (neps.Integer if a.integer else neps.Float)(
            low, high, log=a.log, **prior
        )
    space = type("Space", (neps.PipelineSpace,), parameters)()
    first = "highest_fidelity" if setup.default else False
    made = neps.AskAndTell(
        neps.algorithms.priorband(space, eta=FACTOR, sample_prior_first=first, base="hyperband")
    )
    reached: dict[str, int] = {}
    while True:
        trial = made.ask()
        epochs = int(trial.config["epochs"])
        start = reached.get(trial.metadata.previous_trial_id or "", 0)
        error = search.train(trial.config, start, epochs)
        reached[trial.metadata.id] = epochs
        made.tell(trial, error)


def _peer(function: Callable[..., None], **options: Any) -> Method:
    return functools.partial(function, **options)


PEERS: dict[str, Method] = {
    "random": plain_random,
    "default_then_hyperband": default_then_hyperband,
    "kerastuner_random": _peer(_unlimited, oracle="RandomSearchOracle"),
    "kerastuner_bayesian": _peer(_unlimited, oracle="BayesianOptimizationOracle"),
    "kerastuner_bayesian_early": _peer(
        _unlimited, oracle="BayesianOptimizationOracle", num_initial_points=EARLY_POINTS
    ),
    "kerastuner_hyperband": _peer(
        _keras_tuner,
        oracle="HyperbandOracle",
        max_epochs=MAX_EPOCHS,
        factor=FACTOR,
        hyperband_iterations=sys.maxsize,
    ),
    "optuna_tpe": _peer(_optuna, name="tpe", sampler=_tpe, pruner="NopPruner"),
    "optuna_tpe_hyperband": _peer(
        _optuna, name="tpe hyperband", sampler=_tpe, pruner="HyperbandPruner"
    ),
    "optuna_tpe_median": _peer(_optuna, name="tpe median", sampler=_tpe, pruner="MedianPruner"),
    "optuna_gp": _peer(_optuna, name="gp", sampler=_gaussian_process, pruner="NopPruner"),
    "smac": smac,
    "neps_priorband": neps_priorband,
}

# A proposal costs them seconds of processor time, so that they may be run with fewer seeds.
SLOW = frozenset({"kerastuner_bayesian", "kerastuner_bayesian_early"})

# Modules that a peer needs, by the start of its name, and what installs them.
NEEDS: dict[str, dict[str, str]] = {
    "kerastuner_bayesian": {"sklearn": "scikit-learn"},
    "optuna": {"optuna": "optuna"},
    "optuna_gp": {"torch": "torch", "scipy": "scipy"},
    "smac": {"smac": "smac"},
    "neps": {"neps": "neural-pipeline-search"},
}


def missing() -> dict[str, str]:
    """Peers that cannot run here, each with what to do about it."""
    reasons = {}
    for name in PEERS:
        needed = [needs for start, needs in NEEDS.items() if name.startswith(start)]
        wanted = {module: package for needs in needed for module, package in needs.items()}
        absent = [p for module, p in wanted.items() if importlib.util.find_spec(module) is None]
        if absent:
            reasons[name] = f"not installed: pip install {' '.join(absent)}"
    return reasons


class Result(NamedTuple):
    """One search."""

    regrets: list[float]  # after the budgets that are reported
    seconds: float  # of processor time


def searched(method: Method, on: Task, setup: Setup, reported: list[int]) -> Result:
    """Run one search; the regret of one that ends early stays what it was."""
    search = Simulation(on, setup.budget)
    began = time.process_time()
    with contextlib.suppress(Spent):
        method(search, setup)
    seconds = time.process_time() - began
    places = (min(n * MAX_EPOCHS, len(search.bests)) - 1 for n in reported)
    return Result([float(on.regret(search.bests[place])) for place in places], seconds)


def row(name: str, tasks: list[Task], options: argparse.Namespace, reported: list[int]) -> str:
    """Run one peer on all tasks and describe it as a row of the table."""
    seeds = min(options.slow_seeds, options.seeds) if name in SLOW else options.seeds
    by_seed, seconds = [], []
    for seed in range(seeds):
        results = []
        for on in tasks:
            default = None if options.default == "none" else a_persons_default(on, seed)
            setup = Setup(hashed(on.number, seed), options.budget, default)
            results.append(searched(PEERS[name], on, setup, reported))
        by_seed.append(np.mean([r.regrets for r in results], axis=0))
        seconds += [r.seconds for r in results]
    means = " | ".join(f"{x:.3f}" for x in np.mean(by_seed, axis=0))
    error = f"{np.std([r[-1] for r in by_seed], ddof=1) / seeds**0.5:.3f}" if seeds > 1 else "-"
    return f"| {name} | {means} | {error} | {seeds} | {statistics.median(seconds):.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--tasks", default=",".join(map(str, DEVELOPMENT_TASKS)))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--slow-seeds", type=int, default=1, help=f"for {', '.join(sorted(SLOW))}")
    parser.add_argument("--budget", type=int, default=12, help="full trainings")
    parser.add_argument("--default", choices=("none", "best-of-25"), default="none")
    parser.add_argument("--quick", action="store_true", help="only see that it works")
    options = parser.parse_args()
    if unknown := set(options.peers.split(",")) - PEERS.keys():
        parser.error(
            f"no peer is called {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}"
        )
    if options.quick:
        options.tasks, options.seeds, options.budget = options.tasks.split(",")[0], 1, 2
    warnings.simplefilter("ignore")  # of other people's libraries
    tasks = [task(int(number)) for number in options.tasks.split(",")]
    reported = [n for n in REPORTED if n < options.budget] + [options.budget]
    print(f"{len(tasks)} tasks, {options.budget} full trainings, default: {options.default}\n")
    budgets = " | ".join(f"{n}x" for n in reported)
    print(f"| peer | {budgets} | standard error | seeds | seconds |")
    print("|---" * (len(reported) + 4) + "|")
    absent = missing()
    for name in options.peers.split(","):
        print(
            f"| {name} | {absent[name]} |"
            if name in absent
            else row(name, tasks, options, reported),
            flush=True,
        )


if __name__ == "__main__":
    main()
