"""What the recommendation is worth without any search, counted in random configurations.

    python benchmarks/defaults.py [--draws 2000]                the 17 tables of the surrogate
    python benchmarks/defaults.py --real [--draws 20] [--only wine,sms] [--seeds 2]

A default equals K random trials if its regret (error, on real data) is that of the best of K
configurations drawn at random, in the mean of all draws. The draws come from (a) a space as
people write it by hand: the whole space of LCBench on the surrogate, the networks of `real.py` on
real data; and (b) the space that the rules recommend. On the surrogate a regret of 0 is the best
of 50,000 configurations and 1 the median of them.

Real data: at most 2,000 rows, the same validation rows and epochs for every training, the best
epoch counts. What is absent from the data folder is skipped.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from lcbench import recommended
from surrogate import hashed, predict, task

from smarttune.evidence.surrogate import DEVELOPMENT_TASKS, FACTS, MAX_EPOCHS, NAMES, as_row

BUDGET = 12  # full trainings, as far as rules ask for it
MOST = 1_000  # random trials are counted up to here


class Real(NamedTuple):
    """A data set, how it is scored, and how long each network trains.

    Attributes:
        kind: table, image or text.
        problem: binary, multiclass or regression.
        metric: What ranks the networks.
        epochs: Of every training.
    """

    kind: str
    problem: str
    metric: str
    epochs: int


REAL = {
    "wine": Real("table", "multiclass", "accuracy", 30),
    "adult": Real("table", "binary", "auc", 30),
    "titanic": Real("table", "binary", "auc", 30),
    "housing": Real("table", "regression", "mean_absolute_error", 30),
    "digits": Real("table", "multiclass", "accuracy", 30),
    "sms": Real("text", "binary", "auc", 20),
    "sst2": Real("text", "binary", "auc", 20),
    "trec": Real("text", "multiclass", "accuracy", 20),
    "digit-images": Real("image", "multiclass", "accuracy", 12),
    "mnist": Real("image", "multiclass", "accuracy", 12),
}


def expected_best(errors: np.ndarray, most: int) -> np.ndarray:
    """The mean error of the best of 1, 2, ... `most` draws, shape (most,).

    Args:
        errors: Of all configurations that may be drawn, shape (n,); draws are put back.
        most: Where counting ends.
    """
    ordered = np.sort(errors)
    n = len(ordered)
    below = 1.0 - np.arange(n + 1) / n  # the chance that a draw is at least the i-th
    powers = below[None] ** np.arange(1, most + 1)[:, None]
    return np.asarray((powers[:, :-1] - powers[:, 1:]) @ ordered)


def equal_draws(error: float, best_of: np.ndarray) -> float:
    """As many draws as equal an error; below 1 if it is worse than the mean of all."""
    if error > best_of[0]:
        return 0.0
    return float(np.flatnonzero(best_of >= error)[-1] + 1)


def on_the_surrogate(draws: int) -> None:
    """Print regret, rank and equal draws for each task, and for their mean."""
    print(
        f"{'task':>7} {'rows':>8} {'columns':>8} {'regret':>8} {'wide space':>22} {'own space':>22}"
    )
    print(f"{'':>34} {'rank in 1000':>14} {'equals':>7} {'rank in 1000':>14} {'equals':>7}")
    regrets, curves = [], {"wide": [], "own": []}  # type: ignore[var-annotated]
    for number in DEVELOPMENT_TASKS:
        on, space = task(number), recommended(number, BUDGET)
        row = as_row(space.default)
        error = float(predict(number, np.array([MAX_EPOCHS]), row[None])[0])
        rng = np.random.default_rng(hashed("defaults", number))
        drawn = [
            {d.name: d.range.from_unit(float(rng.random())) for d in space.dimensions}
            for _ in range(draws)
        ]
        rows = np.stack([as_row({n: values[n] for n in NAMES}) for values in drawn])
        own = predict(number, np.full(draws, MAX_EPOCHS), rows)
        shown = []
        for name, errors in (("wide", on.errors), ("own", own)):
            best_of = expected_best(on.regret(errors), MOST)
            curves[name].append(best_of)
            rank = 1 + round(1000 * float((errors < error).mean()))
            shown += [f"{rank:>14}", f"{equal_draws(on.regret(error), best_of):>7.0f}"]
        regrets.append(on.regret(error))
        facts = FACTS[number]
        print(
            f"{number:>7} {facts.num_samples:>8} {facts.num_features:>8} {regrets[-1]:>8.3f} "
            + " ".join(shown),
            flush=True,
        )
    mean = float(np.mean(regrets))
    for name, where in (("wide", "the wide space"), ("own", "our own space")):
        equal = equal_draws(mean, np.mean(curves[name], axis=0))
        print(f"Mean regret {mean:.3f}: equals the best of {equal:.0f} random trials in {where}.")


def on_real_data(names: Sequence[str], draws: int, seeds: int) -> None:
    """Print error, rank and equal draws for each data set."""
    from smarttune.evidence.datasets import DATA, data_folder, open_data
    from smarttune.execution import prepare_process

    if "SMARTTUNE_DATA" not in os.environ:
        os.environ["SMARTTUNE_DATA"] = str(Path(__file__).parents[1] / ".." / "shared" / "data")
    prepare_process()
    print(
        f"{'data':<14} {'metric':<20} {'default':>8} {'best wide':>10} {'median':>8} "
        f"{'rank':>9} {'equals':>7} {'best own':>9} {'rank':>9} {'equals':>7}"
    )
    equal: dict[str, list[float]] = {"wide": [], "own": []}
    for name in names:
        source = DATA[name].load(data_folder())[0]
        if isinstance(source, Path) and not source.exists():
            print(f"{name:<14} not in {data_folder()}")
            continue
        dataset, problem = open_data(name)
        found: dict[str, list[float]] = {"default": [], "wide": [], "own": []}
        for seed in range(seeds):
            case, job = REAL[name], _job(REAL[name], dataset, problem, seed)
            found["default"].append(_trained(job, None, seed))
            for k in range(draws // seeds):
                found["wide"].append(_by_hand(name, case, job, hashed(name, "wide", seed, k)))
                found["own"].append(_trained(job, hashed(name, "own", seed, k), seed))
        error = float(np.mean(found["default"]))
        shown = []
        for side in ("wide", "own"):
            errors = np.array(found[side])
            equals = equal_draws(error, expected_best(errors, len(errors)))
            equal[side].append(equals)
            rank = f"{1 + int((errors < error).sum())} of {1 + len(errors)}"
            shown.append((errors.min(), np.median(errors), rank, equals))
        (best, median, rank, equals), (own_best, _, own_rank, own_equals) = shown
        print(
            f"{name:<14} {REAL[name].metric:<20} {error:>8.4f} {best:>10.4f} {median:>8.4f} "
            f"{rank:>9} {equals:>7.0f} {own_best:>9.4f} {own_rank:>9} {own_equals:>7.0f}",
            flush=True,
        )
    for side, where in (("wide", "hand-written space"), ("own", "own space")):
        print(
            f"Median over the data: equals the best of {np.median(equal[side]):.0f} random "
            f"trials of the {where} ({draws} were drawn on each)."
        )


def _job(case: Real, dataset: Any, problem: str | None, seed: int) -> Any:
    from smarttune.facts import Facts
    from smarttune.preparation import prepare
    from smarttune.suggestion import rulebook_of

    return prepare(
        dataset,
        declared=Facts(),
        pinned={
            "search.objective": f"val_{case.metric}",
            "training.epochs": case.epochs,
            "search.max_epochs": case.epochs,
            "training.early_stopping.mode": "best_checkpoint",
        },
        rulebook=rulebook_of(None),
        problem=problem,
        seed=hashed("defaults", seed),
        source={},
    ).job


def _trained(job: Any, draw: int | None, seed: int) -> float:
    """The error of the recommended configuration, or of one drawn from its space."""
    from smarttune.oracles import RandomOracle
    from smarttune.tuning import Budget, Run, SmartTuner

    values = job.space.default
    if draw is not None:
        rng = np.random.default_rng(draw)
        drawn = {d.name: d.range.from_unit(float(rng.random())) for d in job.space.dimensions}
        values = job.space.active(drawn)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", {"objective": job.objective._asdict()})
        oracle = RandomOracle(
            job.oracle("random", Budget(trials=1)).objective, max_trials=1, initial_trials=[values]
        )
        tuner = SmartTuner(oracle, job.hypermodel(), run=run, policy=job.policy())
        tuner.search(job.training_data)
        record = tuner.log[0]
    return _error(record.score if record.has_score else None, job.objective.direction)


def _by_hand(name: str, case: Real, job: Any, draw: int) -> float:
    """The error of a hand-written network with hyperparameters drawn at random."""
    import keras
    import keras_tuner
    from real_data import Case, rows_of
    from real_networks import arrays_of, builder

    written = Case(name, case.kind, Path(), "", case.problem, case.metric)
    rows = rows_of(written, job)
    arrays = arrays_of(written, rows)
    hp = keras_tuner.HyperParameters()
    build = builder(written, arrays)
    build(hp)
    rng = np.random.default_rng(draw)
    for parameter in hp.space:
        hp.values[parameter.name] = parameter.random_sample(int(rng.integers(2**31)))
    keras.utils.set_random_seed(draw)
    model = build(hp)
    log = model.fit(
        arrays.x[rows.train],
        arrays.y[rows.train],
        epochs=case.epochs,
        validation_data=(arrays.x[rows.validation], arrays.y[rows.validation]),
        verbose=0,
    ).history[f"val_{case.metric}"]
    scores = [s * arrays.scale for s in log if math.isfinite(s)]
    best = max if written.direction == "max" else min
    error = _error(best(scores) if scores else None, written.direction)
    keras.backend.clear_session()
    return error


def _error(score: float | None, direction: str) -> float:
    if score is None:
        return math.inf
    return 1.0 - score if direction == "max" else score


def main() -> None:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--real", action="store_true", help="real data in place of the surrogate")
    parser.add_argument("--draws", type=int, help="random configurations of each space")
    parser.add_argument("--only", help="names of real data, with commas")
    parser.add_argument("--seeds", type=int, default=2, help="splits of real data")
    asked = parser.parse_args()
    if asked.real:
        on_real_data(
            asked.only.split(",") if asked.only else list(REAL), asked.draws or 20, asked.seeds
        )
    else:
        on_the_surrogate(asked.draws or 2_000)


if __name__ == "__main__":
    main()
