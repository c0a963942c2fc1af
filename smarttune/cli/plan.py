"""`smarttune plan`: what a search with this budget would do, before it is paid for."""

from __future__ import annotations

import datetime as dt
import json as json_format
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
)
from smarttune.cli.search import Time
from smarttune.cli.suggest import declared_facts, target_of
from smarttune.facts import PROBLEMS

if TYPE_CHECKING:
    from smarttune.tuning.outlook import Outlook, SearchPlan

_MINUTE, _HOUR = 60, 3600


class Format(StrEnum):
    """How the plan is printed."""

    text = "text"
    json = "json"


def plan(
    data: Annotated[Path, typer.Argument(help="A file with samples, or a folder by class.")],
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="Column to predict; several: a,b,c.")
    ] = None,
    time: Time = None,
    trials: Annotated[int | None, typer.Option(help="Trials to run.")] = None,
    epochs_total: Annotated[
        int | None, typer.Option(help="Epochs to train, over all trials.")
    ] = None,
    strategy: Annotated[str, typer.Option(help="auto, or a strategy of `search`.")] = "auto",
    confirm: Annotated[bool, typer.Option(help="As for `search`.")] = True,
    refit: Annotated[bool, typer.Option("--refit", help="As for `search`.")] = False,
    seed: Annotated[int, typer.Option(help="Decides everything random.")] = 0,
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
    format: Annotated[Format, typer.Option("--format", "-f", help="How to print.")] = Format.text,
) -> None:
    """Say what a search with this budget would do, after training the network for some epochs.

    Examples:
    - `smarttune plan data.csv --target y --time 2h`
    - `smarttune plan pictures/ --time 30m --format json`
    - `smarttune plan data.csv --target y --trials 40 --strategy bayesian`
    """
    facts = given(
        **{
            "data.task": task,
            "data.horizon": horizon,
            "data.window_length": window_length,
            "data.sample_rate": sample_rate,
        }
    )
    from smarttune import job

    made = job.plan(
        data,
        target_of(target),
        time=time,
        trials=trials,
        epochs=epochs_total,
        strategy=strategy,
        confirm=confirm,
        refit=refit,
        facts=declared_facts(facts, fact),
        pinned=pairs(set_, "--set"),
        rules=load_rules(rules, select, ignore),
        seed=seed,
        problem=problem,
        drop=drop or (),
        **source_options(
            delimiter, encoding, header, group, time_column, series_column, masks, weights
        ),
    )
    now = dt.datetime.now().astimezone()
    if format is Format.json:
        typer.echo(json_format.dumps(_json(made, now), indent=2))
    else:
        typer.echo("\n".join(_lines(made, now)))


def _json(made: SearchPlan, now: dt.datetime) -> dict[str, Any]:
    finish = made.finish(now)
    return {
        **made.to_json(),
        "finish": None if finish is None else finish.isoformat("T", "seconds"),
    }


def _lines(made: SearchPlan, now: dt.datetime) -> Iterator[str]:
    yield from _pace_lines(made)
    yield f"Strategy: {made.strategy}"
    yield from (f"  {reason}" for reason in made.because)
    yield (
        f"About {made.num_configurations} configurations in {made.num_trials} trials, "
        f"{made.num_epochs} epochs:"
    )
    yield from (f"  {r.num_trials:>6} reach {r.epochs} epochs" for r in made.rungs)
    yield f"Varied: {', '.join(made.tuned) or 'nothing'}"
    if made.kept:
        kept = ", ".join(f"{name} = {value}" for name, value in made.kept.items())
        yield f"Left at the recommended value for want of budget: {kept}"
    yield from _share_lines(made)
    finish = made.finish(now)
    if finish is not None and made.expected_seconds is not None:
        yield (
            f"Started now, it ends by {finish:%Y-%m-%d %H:%M:%S} "
            f"({duration(made.expected_seconds)}), sooner if trials stop early."
        )
    yield f"Half of the budget: {_outlook(made.half)}"
    yield f"Twice the budget: {_outlook(made.double)}"


def _pace_lines(made: SearchPlan) -> Iterator[str]:
    for family, pace in made.paces.items():
        yield (
            f"{family}: {pace.seconds_per_epoch:.3g} s per epoch, "
            f"{pace.startup:.3g} s to start a trial"
        )
    if made.seconds_of_full_training is None:
        yield "The time did not suffice to measure an epoch; time is left out of the count."
        return
    yield (
        f"A full training of {made.max_epochs} epochs takes "
        f"{duration(made.seconds_of_full_training)}"
    )
    if made.num_full_trainings is not None:
        yield f"The budget pays {made.num_full_trainings:.1f} full trainings"


def _share_lines(made: SearchPlan) -> Iterator[str]:
    shares = made.shares
    named = {
        "preparation": shares.preparation,
        "trials": shares.trials,
        "confirmation": shares.confirmation,
        "refit": shares.refit,
        "baselines": shares.baselines,
        "report": shares.report,
    }
    told = [f"{name} {duration(s)}" for name, s in named.items() if s]
    yield f"Time: {', '.join(told)}"


def _outlook(outlook: Outlook) -> str:
    trainings = outlook.num_full_trainings
    full = "" if trainings is None else f"{trainings:.1f} full trainings, "
    return f"{full}about {outlook.num_configurations} configurations in {outlook.num_trials} trials"


def duration(seconds: float) -> str:
    """Seconds as `--time` reads them, rounded to what matters."""
    if seconds < _MINUTE:
        return f"{seconds:.3g}s"
    whole = round(seconds)
    hours, minutes, rest = whole // _HOUR, whole % _HOUR // _MINUTE, whole % _MINUTE
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"
