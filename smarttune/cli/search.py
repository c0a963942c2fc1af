"""`smarttune search` and `smarttune resume`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from smarttune.cli.options import (
    Delimiter,
    Encoding,
    FactPairs,
    Group,
    Header,
    Horizon,
    Ignore,
    Masks,
    Pins,
    RuleFolders,
    SampleRate,
    Select,
    SeriesColumn,
    Task,
    TimeColumn,
    Weights,
    WindowLength,
    given,
    load_rules,
    pairs,
    source_options,
    words,
)
from smarttune.cli.suggest import declared_facts, target_of
from smarttune.facts import PROBLEMS
from smarttune.space import HYPERPARAMETERS

Time = Annotated[
    str | None, typer.Option("--time", help="Wall time, all included: 90s, 10m, 1h30m.")
]
Workers = Annotated[
    int | None,
    typer.Option(help="Trials that run at a time, each in a process of its own, such as 4."),
]
ExecutorName = Annotated[
    str,
    typer.Option(
        help="How trials train: auto, fit, compiled (programs that trials share), fused (several "
        "in one, on JAX); or where: processes, ray.",
    ),
]
Address = Annotated[
    str | None, typer.Option(help="A cluster of Ray: auto, or host:port. Implies --executor ray.")
]
GpusPerWorker = Annotated[
    float, typer.Option(help="GPUs that each worker of Ray reserves; 0.25 lets four share one.")
]
Plain = Annotated[bool, typer.Option("--plain", help="One line for each trial.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON event a line.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only the final report.")]


def search(
    data: Annotated[Path, typer.Argument(help="A file with samples, or a folder by class.")],
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="Column to predict; several: a,b,c.")
    ] = None,
    time: Time = None,
    trials: Annotated[int | None, typer.Option(help="Trials to run.")] = None,
    epochs_total: Annotated[
        int | None, typer.Option(help="Epochs to train, over all trials.")
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(
            help="auto, or one of " + ", ".join(sorted(HYPERPARAMETERS["search.strategy"].values))
        ),
    ] = "auto",
    objective: Annotated[
        str | None, typer.Option(help="Metric that ranks trials, such as val_auc; else by rule.")
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="A cost to weigh against the metric: num_parameters | latency; repeatable."
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="auto | float32 | mixed_float16 | mixed_bfloat16")
    ] = "auto",
    run: Annotated[
        Path | None, typer.Option(help="Run directory; else runs/NAME-DATE-TIME.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides everything random.")] = 0,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="The same bits each time; slower.")
    ] = False,
    workers: Workers = None,
    executor: ExecutorName = "auto",
    address: Address = None,
    gpus_per_worker: GpusPerWorker = 0.0,
    confirm: Annotated[
        bool,
        typer.Option(help="Train the finalists again; the best on average wins."),
    ] = True,
    refit: Annotated[
        bool,
        typer.Option("--refit", help="Export the winner trained on validation rows, too."),
    ] = False,
    adapt: Annotated[
        bool,
        typer.Option("--adapt/--no-adapt", help="Whether results change the space on the way."),
    ] = True,
    portfolio: Annotated[
        str, typer.Option(help="Configurations tried early: auto | none | FILE of `learn`.")
    ] = "auto",
    problem: Annotated[
        str | None, typer.Option(help="What is predicted: " + " | ".join(PROBLEMS))
    ] = None,
    fact: FactPairs = None,
    drop: Annotated[
        list[str] | None, typer.Option(help="A column to leave out; repeatable.")
    ] = None,
    task: Task = None,
    horizon: Horizon = None,
    window_length: WindowLength = None,
    time_column: TimeColumn = None,
    series_column: SeriesColumn = None,
    group: Group = None,
    sample_rate: SampleRate = None,
    masks: Masks = None,
    weights: Weights = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    header: Header = None,
    set_: Pins = None,
    rules: RuleFolders = None,
    select: Select = None,
    ignore: Ignore = None,
    plain: Plain = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search for a better model than the recommended one.

    Starts with the recommendation itself, keeps every finished trial, and ends with
    a model that takes raw rows and a report. Ctrl-C stops it; `smarttune resume`
    goes on.

    Examples:
    - `smarttune search data.csv --target y --time 10m`
    - `smarttune search pictures/ --time 10m`
    - `smarttune search sales.csv --target sold --horizon 28 --time 10m`
    - `smarttune search data.csv --target y --trials 40 --strategy bayesian`
    - `smarttune search data.csv --target y --time 10m --against num_parameters`
    - `smarttune search data.csv --target y --time 10m --workers 4`
    - `smarttune search data.csv --target y --set model.activation=relu --objective val_auc`
    """
    load_rules(rules, select, ignore)  # mistakes in rules are told before anything is imported
    facts = given(
        **{
            "data.task": task,
            "data.horizon": horizon,
            "data.window_length": window_length,
            "data.sample_rate": sample_rate,
        }
    )
    source = source_options(
        delimiter, encoding, header, group, time_column, series_column, masks, weights
    )

    def job(on_event: Any, job: Any) -> Any:
        return job.search(
            data,
            target_of(target),
            time=time,
            trials=trials,
            epochs=epochs_total,
            strategy=strategy,
            objective=objective,
            against=against or (),
            precision=precision,
            run=run,
            seed=seed,
            deterministic=deterministic,
            workers=1 if workers is None else workers,
            executor=executor,
            address=address,
            gpus_per_worker=gpus_per_worker,
            adapt=adapt,
            portfolio=portfolio,
            confirm=confirm,
            refit=refit,
            facts=declared_facts(facts, fact),
            pinned=pairs(set_, "--set"),
            rules=[folder.resolve() for folder in rules or ()],
            select=words(select),
            ignore=words(ignore),
            problem=problem,
            drop=drop or (),
            on_event=on_event,
            **source,
        )

    _watched(job, plain=plain, as_json=json, quiet=quiet)


def resume(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    time: Time = None,
    trials: Annotated[int | None, typer.Option(help="Trials in all.")] = None,
    epochs_total: Annotated[int | None, typer.Option(help="Epochs in all.")] = None,
    workers: Workers = None,
    rules: RuleFolders = None,
    plain: Plain = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Go on with an interrupted search, or give a finished one more to spend.

    Examples:
    - `smarttune resume runs/data-20260101-120000`
    - `smarttune resume runs/data-20260101-120000 --time 30m`
    """

    def job(on_event: Any, job: Any) -> Any:
        folders = list(rules or ())
        return job.resume(
            run,
            time=time,
            trials=trials,
            epochs=epochs_total,
            workers=workers,
            rules=folders,
            on_event=on_event,
        )

    _watched(job, plain=plain, as_json=json, quiet=quiet)


def _watched(call: Any, *, plain: bool, as_json: bool, quiet: bool) -> None:
    """Run a search under a view, then print its report."""
    from smarttune import job as jobs
    from smarttune.cli.progress import shown
    from smarttune.report.text import report_text

    where: dict[str, str] = {}
    try:
        with shown(plain=plain, as_json=as_json, quiet=quiet) as view:

            def on_event(event: Any) -> None:
                where.update({"run": event["run"]} if "run" in event else {})
                view(event)

            finished = call(on_event, jobs)
    except KeyboardInterrupt:
        if "run" in where:
            typer.echo(
                f"\nInterrupted; every finished trial is kept. Go on with: "
                f"smarttune resume {where['run']}",
                err=True,
            )
        raise
    if not as_json:
        typer.echo(report_text(finished.report()))
        typer.echo(f"\nReport: {finished.path / 'report.html'}")
