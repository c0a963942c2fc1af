"""The whole job: from data to a finished run, and on from where one was interrupted."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from smarttune.backend import prepare_backend
from smarttune.errors import DataError, RunError
from smarttune.execution.choice import Executor, chosen_executor, executor_of_run
from smarttune.facts import Fact, Facts
from smarttune.objectives import Direction
from smarttune.rulebook import Rulebook
from smarttune.space import Value
from smarttune.suggestion import Suggestion, rulebook_of
from smarttune.tuning import RANGE_TESTS, Budget, Run, parse_duration

if TYPE_CHECKING:
    from smarttune.data import Dataset
    from smarttune.data.dataset import ReadOptions
    from smarttune.training.range_test import RangeTest
    from smarttune.tuning.outlook import SearchPlan
    from smarttune.tuning.preparing import SearchJob

OnEvent = Callable[[Mapping[str, Any]], None]

# ours: what measuring the networks beforehand may take of a time budget.
PROBING_SHARE = 0.06

_VERSIONED = (
    "keras",
    "keras-tuner",
    "tensorflow",
    "tensorflow-cpu",
    "jax",
    "optuna",
    "numpy",
    "pandas",
)


def search(
    data: Any,
    target: Any = None,
    *,
    time: str | float | None = None,  # noqa: A002
    trials: int | None = None,
    epochs: int | None = None,
    strategy: str = "auto",
    objective: str | None = None,  # noqa: A002
    direction: Direction | None = None,
    against: Sequence[str] = (),
    precision: str = "auto",
    run: str | Path | None = None,
    seed: int = 0,
    deterministic: bool = False,
    workers: int = 1,
    executor: str = "auto",
    address: str | None = None,
    gpus_per_worker: float = 0.0,
    adapt: bool = True,
    portfolio: str | Path = "auto",
    confirm: bool = True,
    refit: bool = False,
    facts: Mapping[str, Value] | Facts | None = None,
    pinned: Mapping[str, Value] | None = None,
    rules: Rulebook | Sequence[str | Path] | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    problem: str | None = None,
    drop: Sequence[str] = (),
    on_event: OnEvent | None = None,
    **source: Unpack[ReadOptions],
) -> Run:
    """Search for a better model than the recommended one, and keep everything in a run.

    Args:
        data: A file, a folder, a frame or arrays; see `smarttune.data.read`.
        target: Name of the target column, several for multilabel, or the array itself; None
            where the data hold it, such as folders of classes.
        time: Wall time as "10m" or in seconds, everything included.
        trials: Trials to run.
        epochs: Epochs to train over all trials.
        strategy: auto, or a name of `smarttune.oracles.STRATEGIES`.
        objective: Metric that ranks trials, for example `val_auc`; chosen by rule if None.
        direction: min or max; known for every metric that SmartTune logs.
        against: Further objectives that are weighed against the metric: num_parameters,
            latency. The search then looks for the Pareto front of all of them, by `nsga2`; the
            model that is exported stays the best by the metric.
        precision: auto, float32, mixed_float16 or mixed_bfloat16.
        run: The run directory; `runs/NAME-DATE-TIME` if None.
        seed: Decides split, proposals, weights and order of the data.
        deterministic: Also ask the backend for operations that give the same bits each time;
            slower (see `smarttune.training.determinism`).
        workers: Trials that run at a time, each in a process of its own with its share of the
            cores and GPUs; 1 runs them in this process.
        executor: How trials train: `fit`, in `compiled` programs that trials of one structure
            share, `fused` with several at a time (JAX), `auto` for the fastest that a model
            allows; or where they run: `processes`, `ray` (see docs/execution.md).
        address: A cluster of Ray: `auto` for the one that runs on this machine, or `host:port`.
        gpus_per_worker: GPUs that each worker of Ray reserves; 0.25 lets four share one.
        adapt: Whether rules that read the trials so far change ranges, the length of trials and
            the end of the search on its way (see `smarttune.tuning.adapting`).
        portfolio: Configurations that were good on other data are tried after the
            recommendation: `auto` for those that come with SmartTune and suit the search, `none`,
            or a file that `smarttune learn` wrote.
        confirm: Train the finalists again, with other seeds or on folds of small tables, and
            let the best of them on average win. Under a time limit a share of it is kept for
            that; limits of trials and epochs do not count it.
        refit: Export the winner trained once more on training and validation rows.
        facts: Declared facts; they win over measured ones.
        pinned: Hyperparameters fixed by the user.
        rules: A rulebook, or folders with rules beside the built-in ones.
        select: Only these rules.
        ignore: Without these rules.
        problem: The kind of prediction, where the guess from the target is wrong.
        drop: Columns to leave out.
        on_event: Called with every event as a dict.
        **source: What the source itself does not tell, such as `horizon=24` of a series; see
            `smarttune.data.dataset.ReadOptions`.

    Returns:
        The finished run.

    Raises:
        SmartTuneError: For anything the user can mend.
    """
    began = _now()
    budget = Budget(parse_duration(time) if isinstance(time, str) else time, trials, epochs)
    where = chosen_executor(executor, workers, address=address, gpus_per_worker=gpus_per_worker)
    prepare_backend()
    from smarttune.preparation import TIMED_FROM, measured, prepare, timed
    from smarttune.tuning.costs import checked_costs
    from smarttune.tuning.outlook import limits_of
    from smarttune.tuning.preparing import with_budget
    from smarttune.tuning.starting import starting
    from smarttune.tuning.strategies import check_strategy

    if strategy != "auto":
        check_strategy(strategy)
    if deterministic:
        from smarttune.training.determinism import make_deterministic

        make_deterministic(seed)
    pins = _pins(pinned, precision, strategy, objective)
    against = checked_costs(against, str(pins.get("search.strategy", "auto")))
    book = rulebook_of(rules, select, ignore)
    declared = facts if isinstance(facts, Facts) else Facts.of(facts or {})
    # Only what the user asked of the search is declared; a bare search has no limit yet.
    asked = Facts(
        {n: Fact(v) for n, v in budget.facts(num_workers=workers).items() if v is not None}
    )
    if against:
        asked |= Facts.of({"budget.num_objectives": 1 + len(against)})
    prepared = prepare(
        data,
        target,
        declared=asked | declared,
        pinned=pins,
        rulebook=book,
        seed=seed,
        direction=direction,
        problem=problem,
        drop=drop,
        progress=None if on_event is None else _reading(on_event),
        source=source,
    )
    share = None if budget.seconds is None else PROBING_SHARE * budget.seconds
    prepared = measured(prepared, seconds=share, on_event=on_event)
    if budget.seconds is not None and budget.seconds >= TIMED_FROM:
        prepared = timed(
            prepared,
            lambda: limits_of(budget, _now() - began, confirms=confirm, refits=refit),
            seconds=share,
            on_event=on_event,
        )
    suggestion, job = prepared.suggestion, prepared.job
    chosen = check_strategy(str(suggestion.recommendation.value("search.strategy", "random")))
    budget = with_budget(budget, suggestion.recommendation)
    manifest = _manifest(suggestion, budget, job)
    manifest |= {"strategy": chosen, "strategy_asked": strategy, "drop": list(drop)}
    manifest |= {"rules": {"select": list(select), "ignore": list(ignore)}, "pinned": pins}
    manifest |= {"deterministic": deterministic, "confirm": confirm, "refit": refit}
    manifest |= {"num_training": len(job.split.train), "num_validation": len(job.split.validation)}
    manifest |= {"adapt": adapt, "against": list(against), "executor": asdict(where)}
    manifest |= {"portfolio": starting(job, portfolio, chosen, budget)}
    job.check(chosen, budget, against)
    path = Path(run) if run is not None else _default_path(suggestion)
    made = _create(path, manifest, job, prepared.range_tests)
    return _carry_out(made, job, budget, book, began=began, spent=0.0, on_event=on_event)


def plan(
    data: Any,
    target: Any = None,
    *,
    time: str | float | None = None,  # noqa: A002
    trials: int | None = None,
    epochs: int | None = None,
    **options: Any,
) -> SearchPlan:
    """Say what `search` would do with a budget, after some epochs of the recommended network.

    Args:
        data: As in `search`.
        target: As in `search`.
        time: As in `search`.
        trials: As in `search`.
        epochs: As in `search`.
        **options: `strategy`, `confirm`, `refit`, `facts`, `pinned`, `rules`, `seed`, `problem`,
            `drop`, `on_event`, and what the source does not tell, all as in `search`.

    Raises:
        SmartTuneError: For anything the user can mend.
    """
    budget = Budget(parse_duration(time) if isinstance(time, str) else time, trials, epochs)
    prepare_backend()
    from smarttune.preparation import planned

    rulebook = rulebook_of(options.pop("rules", None))
    options |= {"probing_share": PROBING_SHARE, "rulebook": rulebook}
    return planned(data, target, budget=budget, **options)


def resume(
    run: str | Path | Run,
    *,
    data: Any = None,
    target: Any = None,
    time: str | float | None = None,  # noqa: A002
    trials: int | None = None,
    epochs: int | None = None,
    workers: int | None = None,
    rules: Rulebook | Sequence[str | Path] | None = None,
    on_event: OnEvent | None = None,
) -> Run:
    """Go on with an interrupted search, or give a finished one more to spend.

    Args:
        run: The run or its directory.
        data: The data again, where they were not a file.
        target: The target again, likewise.
        time: Further wall time; without any limit the rest of the first budget.
        trials: Trials in all.
        epochs: Epochs in all.
        workers: Trials that run at a time; as many as before if None.
        rules: As in `search`, if rules beside the built-in ones took part.
        on_event: Called with every event as a dict.

    Raises:
        SmartTuneError: If the run or its data cannot be used.
    """
    began = _now()
    prepare_backend()
    run = run if isinstance(run, Run) else Run.load(run)
    where = executor_of_run(run.manifest.get("executor", {}), workers)
    run.manifest = manifest = {**run.manifest, "executor": asdict(where)}
    book = rulebook_of(rules, manifest["rules"]["select"], manifest["rules"]["ignore"])
    job = job_of_run(run, data, target)
    if manifest.get("deterministic"):
        from smarttune.training.determinism import make_deterministic

        make_deterministic(job.seed)
    budget = Budget(**manifest["budget"])
    spent = run.log.seconds
    if time is not None or trials is not None or epochs is not None:
        seconds = parse_duration(time) if isinstance(time, str) else time
        budget = Budget(None if seconds is None else seconds + spent, trials, epochs)
    return _carry_out(run, job, budget, book, began=began, spent=spent, on_event=on_event)


def _pins(
    pinned: Mapping[str, Value] | None, precision: str, strategy: str, objective: str | None
) -> dict[str, Value]:
    """What the user decides, which rules must know: a constant rate suits rungs, say."""
    decided = {
        "training.precision": precision,
        "search.strategy": strategy,
        "search.objective": f"val_{objective.removeprefix('val_')}" if objective else "auto",
    }
    return {**(pinned or {}), **{n: value for n, value in decided.items() if value != "auto"}}


def job_of_run(run: Run, data: Any = None, target: Any = None) -> SearchJob:
    """The search that a run was made for, from its record and its data.

    Args:
        run: The run.
        data: The data again, where they were not a file.
        target: The target again, likewise.

    Raises:
        SmartTuneError: If its data cannot be read or have changed.
    """
    from smarttune.tuning.preparing import SearchJob

    return SearchJob(
        _same_data(run, data, target),
        run.fingerprint,
        run.recommendation,
        run.objective,
        run.manifest["seed"],
        run.manifest["test_fraction"],
    )


def _reading(on_event: OnEvent) -> Callable[[float], None]:
    return lambda share: on_event({"event": "reading", "share": round(share, 3)})


def _carry_out(
    run: Run,
    job: SearchJob,
    budget: Budget,
    book: Rulebook,
    *,
    began: float,
    spent: float,
    on_event: OnEvent | None,
) -> Run:
    """Run the trials, then test, export and report."""
    from smarttune.report.files import write_report
    from smarttune.report.summary import summarize
    from smarttune.tuning.budget import Clock
    from smarttune.tuning.confirming import REFIT_SHARE, EarlierClock, confirm, confirmation_share
    from smarttune.tuning.finishing import finish
    from smarttune.tuning.living import adaptation
    from smarttune.tuning.starting import announce, first_values, told
    from smarttune.tuning.tuner import SmartTuner

    clock = Clock(budget.seconds, spent=spent + _now() - began)
    # Runs of earlier versions asked for neither.
    confirms, refits = run.manifest.get("confirm", False), run.manifest.get("refit", False)
    later = REFIT_SHARE if refits else 0.0
    repeats = confirmation_share(budget.seconds) if confirms else 0.0
    trials_clock = EarlierClock(clock, later + repeats, spent)
    run.study.space = job.space
    tuner = SmartTuner(
        job.oracle(
            run.manifest["strategy"],
            budget,
            run.manifest.get("against", ()),
            further=first_values(run),
        ),
        job.hypermodel(),
        run=run,
        policy=job.policy(),
        budget=budget,
        on_event=on_event,
        clock=trials_clock,
        adapt=adaptation(run, job, book),
        executor=Executor(**run.manifest.get("executor", {})),
    )
    _announce(run, on_event, "search_started", budget, job)
    announce(run, on_event)
    tuner.search(job.training_data)
    found = confirm(run, job, EarlierClock(clock, later, spent), on_event) if confirms else None
    found = {**finish(run, job, clock, found), "seconds": clock.elapsed}
    found["extras"] |= told(run)
    report = summarize(run, found, book)
    write_report(run, report)
    line = run.note("search_finished", seconds=report["seconds"], best=report["best"]["score"])
    if on_event is not None:
        on_event(line)
    return run


def _announce(
    run: Run, on_event: OnEvent | None, event: str, budget: Budget, job: SearchJob
) -> None:
    details = {"run": str(run.path), "strategy": run.manifest["strategy"]}
    line = run.note(event, **details, budget=asdict(budget), objective=list(job.objective))
    if on_event is not None:
        on_event(line)


def _now() -> float:
    return time.monotonic()


def _manifest(suggestion: Suggestion, budget: Budget, job: SearchJob) -> dict[str, Any]:
    dataset = job.dataset
    return {
        "kind": suggestion.fingerprint.task if suggestion.fingerprint else "tabular",
        "objective": job.objective._asdict(),
        "budget": asdict(budget),
        "seed": job.seed,
        "test_fraction": job.test_fraction,
        "data": {
            "where": dataset.where,
            "digest": digest_of(dataset),
            "read_options": _read_options(dataset),
            "rows": len(dataset.features),
        },
        "command": sys.argv,
        "environment": environment(),
    }


def _read_options(dataset: Dataset) -> dict[str, Any]:
    """How to read the data again, from whatever folder."""
    paths = {
        name: str(Path(dataset.read_options[name]).absolute())
        for name in ("path", "masks", "weights")
        if dataset.read_options.get(name) is not None
    }
    return dataset.read_options | paths


def digest_of(dataset: Dataset) -> str:
    """A hash of every sample in its place; the split goes by the order of the rows."""
    from pandas.util import hash_pandas_object

    digest = hashlib.sha256()
    if dataset.content is not None:
        digest.update(dataset.content.digest().encode())
    for part in (dataset.features, dataset.target):
        if part is not None:
            digest.update(hash_pandas_object(part, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def environment() -> dict[str, str]:
    """Versions of Python, the platform and the packages on which results depend."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _VERSIONED:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _default_path(suggestion: Suggestion) -> Path:
    assert suggestion.dataset is not None
    base = Path("runs") / f"{suggestion.dataset.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = base, 1
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path


def _create(
    path: Path,
    manifest: Mapping[str, Any],
    job: SearchJob,
    range_tests: Mapping[str, RangeTest],
) -> Run:
    files: dict[str, Any] = {
        "recommendation.json": job.recommendation.to_json(),
        "fingerprint.json": json.loads(job.fingerprint.model_dump_json()),
        "preprocessing.json": {
            "inputs": job.preprocessor.model_dump(mode="json"),
            "target": job.codec.model_dump(mode="json"),
        },
    }
    if range_tests:
        files[RANGE_TESTS] = {family: test.to_json() for family, test in range_tests.items()}
    return Run.create(path, manifest, files)


def _same_data(run: Run, data: Any, target: Any) -> Dataset:
    """Read the run's data again and make sure that they have not changed."""
    from smarttune.data import Dataset, read
    from smarttune.fingerprint import measure

    options = dict(run.manifest["data"]["read_options"])
    source, name = options.pop("path", None), options.pop("target", None)
    if data is None and source is None:
        raise RunError(
            str(run.path),
            received="its data were not a file",
            expected="the same data again",
            mend="Call smarttune.resume(run, data=..., target=...) with them.",
        )
    if data is None:
        dataset = read(source, name, **options)
    else:
        dataset = data if isinstance(data, Dataset) else read(data, target, **options)
    now = measure(dataset, problem=run.fingerprint.problem, drop=run.manifest["drop"])
    same = now.model_copy(update={"source": run.fingerprint.source}) == run.fingerprint
    if not same or digest_of(dataset) != run.manifest["data"]["digest"]:
        raise DataError(
            dataset.where,
            received="the data have changed since the run began",
            expected="the same rows and columns",
            mend="Restore the file, or start a new run.",
        )
    return dataset
