"""`smarttune learn`: a portfolio, or rules, of what was good in finished runs."""

from __future__ import annotations

import json as json_format
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from smarttune.errors import OptionError
from smarttune.files import finite


def learn(
    runs: Annotated[list[Path], typer.Argument(help="Run directories.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The portfolio to write, *.yaml.")
    ] = None,
    pack: Annotated[
        Path | None,
        typer.Option(help="Write rules about where the best trials lay into this pack."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the portfolio; else the file's.")] = None,
    evaluate: Annotated[
        bool,
        typer.Option(help="Train what was good in one run on the data of the others."),
    ] = True,
    candidates: Annotated[
        int | None,
        typer.Option(help="Best configurations taken of each run, beside the recommendation."),
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Wall time of the trainings: 90s, 10m, 1h30m.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON event a line.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the files written.")] = False,
) -> None:
    """Learn from finished runs which configurations to try first on other data.

    The best configurations of each run are trained on the data of the others, and what each
    lost there is written down. Ctrl-C stops it; the same command goes on where it stopped.
    With --pack past runs become rules: on data like theirs, ranges and defaults are where their
    best trials lay. That trains nothing.

    Examples:
    - `smarttune learn runs/adult runs/titanic runs/credit -o tables.yaml`
    - `smarttune learn runs/adult runs/titanic -o tables.yaml --candidates 3 --time 20m`
    - `smarttune search data.csv --target y --portfolio tables.yaml`
    - `smarttune learn runs/adult runs/titanic --pack our_rules`, then
      `smarttune suggest data.csv --target y --rules our_rules`
    """
    if output is None and pack is None:
        raise OptionError(
            "learn",
            received="neither --output nor --pack",
            expected="where to write what was learnt",
            mend="Add --output FILE.yaml for a portfolio, or --pack DIR for rules.",
        )
    if pack is not None:
        from smarttune.evidence.lessons import learn_pack

        for path in learn_pack(runs, pack):
            line = {"event": "written", "path": str(path)}
            typer.echo(json_format.dumps(line) if json else f"{path}: use it with --rules {pack}")
    if output is None:
        return
    from smarttune import learning

    def on_event(event: Mapping[str, Any]) -> None:
        if json:
            typer.echo(json_format.dumps(finite(event)))
        elif not quiet and (line := _line(event)):
            typer.echo(line)

    written = learning.learn(
        runs,
        output,
        name=name,
        evaluate=evaluate,
        candidates=learning.CANDIDATES if candidates is None else candidates,
        time=time,
        on_event=on_event,
    )
    for path in written:
        line = {"event": "written", "path": str(path)}
        typer.echo(json_format.dumps(line) if json else f"{path}: use it with --portfolio {path}")


def _line(event: Mapping[str, Any]) -> str:
    """What an event says, on one line; "" if it is not for people."""
    if event["event"] == "learning_started":
        return f"{event['candidates']} configurations, {event['trainings']} trainings to do."
    if event["event"] == "trained":
        score = "-" if event["score"] is None else f"{event['score']:.5g}"
        outcome = "" if event["outcome"] == "completed" else f", {event['outcome']}"
        return (
            f"{event['k']} of {event['n']}: {event['data']} {score} after "
            f"{event['num_epochs']} epochs in {event['seconds']:.1f} s{outcome}"
        )
    if event["event"] == "learning_ended":
        return f"{event['left']} trainings were left out: {event['reason']}."
    return ""
