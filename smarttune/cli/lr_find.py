"""`smarttune lr-find`: a learning-rate range test of the recommended network."""

from __future__ import annotations

import contextlib
import json as json_format
import shlex
from collections.abc import Callable, Iterator
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
)
from smarttune.cli.suggest import declared_facts, target_of
from smarttune.facts import PROBLEMS

_RATE = "optimizer.learning_rate"


def lr_find(
    data: Annotated[Path, typer.Argument(help="A file with samples, or a folder by class.")],
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="Column to predict; several: a,b,c.")
    ] = None,
    low: Annotated[float, typer.Option(help="Rate of the first step.")] = 1e-7,
    high: Annotated[float, typer.Option(help="Rate of the last step.")] = 10.0,
    steps: Annotated[int, typer.Option(help="Steps from the first rate to the last.")] = 100,
    batch_size: Annotated[
        int | None, typer.Option(help="Samples per batch; else the recommended number.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the curve into this PNG file.")] = None,
    precision: Annotated[
        str, typer.Option(help="auto | float32 | mixed_float16 | mixed_bfloat16")
    ] = "auto",
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
    plain: Annotated[bool, typer.Option("--plain", help="No curve and no progress.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Find a learning rate for the recommended network by a short training.

    The rate grows from step to step until the loss breaks off; nothing is kept of the training.

    Examples:
    - `smarttune lr-find data.csv --target y`
    - `smarttune lr-find pictures/ --plot curve.png`
    - `smarttune lr-find data.csv --target y --set optimizer.name=sgd --high 100`
    - `smarttune lr-find sales.csv --target sold --horizon 28 --json`
    """
    facts = given(
        **{
            "data.task": task,
            "data.horizon": horizon,
            "data.window_length": window_length,
            "data.sample_rate": sample_rate,
        }
    )
    pins: dict[str, Any] = dict(pairs(set_, "--set"))
    pins |= {} if precision == "auto" else {"training.precision": precision}
    pins |= {} if batch_size is None else {"training.batch_size": batch_size}
    source = source_options(
        delimiter, encoding, header, group, time_column, series_column, masks, weights
    )
    book = load_rules(rules, select, ignore)
    declared = declared_facts(facts, fact)

    from smarttune.backend import prepare_backend

    prepare_backend()
    from smarttune.cli.progress import reading
    from smarttune.preparation import prepare

    with reading(data) as progress:
        job = prepare(
            data,
            target_of(target),
            declared=declared,
            pinned=pins,
            rulebook=book,
            seed=seed,
            problem=problem,
            drop=drop or (),
            progress=progress,
            source=source,
        ).job
    with _training(quiet=plain or json) as tell:
        tell("Preparing the network")
        options = {"low": low, "high": high, "num_steps": steps}
        test = tested(job, options, tell)
    if plot is not None:
        from smarttune.report.curves import range_test_picture

        range_test_picture(test, plot)
    typer.echo(_printed(test, _next_command(data, target, test), plain=plain, as_json=json))


def tested(job: Any, options: dict[str, Any], tell: Callable[[str], None]) -> Any:
    """The range test of the recommended network.

    Args:
        job: A prepared search.
        options: As for `find_learning_rate`.
        tell: Shows what is being done.
    """
    from smarttune.tuning.probing import range_test_of, recommended_model

    values = job.default_of(job.families[0])
    model = recommended_model(job, values)
    tell("Training with growing rates")
    return range_test_of(job, model, values, **options)


@contextlib.contextmanager
def _training(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Show on standard error what is being done, where somebody watches."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda text: None
        return
    with console.status("") as status:
        yield status.update


def _next_command(data: Path, target: str | None, test: Any) -> str | None:
    """What to type now, with the reading options left as they were."""
    if test.suggestion is None:
        return None
    words = ["smarttune", "search", str(data)]
    words += [] if target is None else ["--target", target]
    return shlex.join([*words, "--set", f"{_RATE}={test.suggestion:.2g}"])


def _printed(test: Any, command: str | None, *, plain: bool, as_json: bool) -> str:
    if as_json:
        return json_format.dumps({**test.to_json(), "command": command}, indent=2)
    from smarttune.report.curves import range_test_text

    if plain:
        parts = [f"{name} {rate:.2g}" for name, rate in test.suggestions().items()]
    else:
        parts = [range_test_text(test)]
    parts += ["", test.evidence]
    if command is not None:
        parts += ["", f"Search with it (and the options given here): {command}"]
    return "\n".join(parts).lstrip("\n")
