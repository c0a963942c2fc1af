"""`smarttune cite`: the works behind a recommendation or a run."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from smarttune.cli.options import RuleFolders, load_rules


class Format(StrEnum):
    """How to print works."""

    bibtex = "bibtex"
    text = "text"
    json = "json"


def cite(
    origin: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_RECOMMENDATION",
            help="A run directory, a recommendation as JSON, or - for standard input.",
        ),
    ],
    overruled: Annotated[
        bool, typer.Option("--overruled", help="Also the works behind rules that lost.")
    ] = False,
    no_self: Annotated[
        bool, typer.Option("--no-self", help="Without the entry of SmartTune itself.")
    ] = False,
    rules: RuleFolders = None,
    format: Annotated[Format, typer.Option("--format", "-f", help="How to print.")] = Format.bibtex,
) -> None:
    """Print the works whose rules shaped a recommendation or a run, ready to be cited.

    Each entry's note says which rules took what from the work, and how that was verified. Rules
    that had no say are left out, so the list is what the settings really rest on. With `-` what
    `smarttune suggest --format json` prints is read from a pipe.

    Examples:
    - `smarttune cite runs/wine > wine.bib`
    - `smarttune suggest data.csv --target y --format json > recommendation.json`
    - `smarttune cite recommendation.json --rules my_rules --format text`
    """
    from smarttune import citing

    if origin == "-":
        spoken = citing.spoken_in_text(sys.stdin.read(), "standard input", overruled=overruled)
    elif (path := Path(origin)).is_dir():
        spoken = citing.spoken_in_run(path, overruled=overruled)
    else:
        spoken = citing.spoken_in_file(path, overruled=overruled)
    found = citing.works_behind(spoken, load_rules(rules))
    if format is Format.json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    elif format is Format.text:
        typer.echo(citing.citations_text(found))
    else:
        typer.echo(citing.citations_bibtex(found, with_self=not no_self))
    if found.missing:
        typer.echo(
            f"Not installed: {', '.join(found.missing)}, so what these rules took from which place "
            "is unknown. Name their folder with --rules, or install their package.",
            err=True,
        )
