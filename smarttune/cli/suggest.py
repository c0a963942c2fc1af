"""`smarttune suggest`: recommended defaults with reasons, from a file or from facts."""

from __future__ import annotations

import contextlib
import json
from enum import StrEnum
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
    load_rules,
    pairs,
    source_options,
)
from smarttune.errors import FactError
from smarttune.facts import FACTS, PROBLEMS, Facts, fact_def, parse_kind

_DATA = "Describe the data (what a file shows is measured)"
_HARDWARE = "Describe the hardware (this machine's is measured)"


class Format(StrEnum):
    """How to print a recommendation."""

    text = "text"
    json = "json"
    yaml = "yaml"
    python = "python"


def _choices(words: tuple[str, ...]) -> str:
    return " | ".join(words)


def suggest(
    data: Annotated[
        Path | None,
        typer.Argument(help="A file or a folder by class; leave out to declare facts."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="Column to predict; several: a,b,c.")
    ] = None,
    problem: Annotated[
        str | None, typer.Option(help=_choices(PROBLEMS), rich_help_panel=_DATA)
    ] = None,
    num_samples: Annotated[
        int | None, typer.Option(help="Training rows.", rich_help_panel=_DATA)
    ] = None,
    num_features: Annotated[
        int | None, typer.Option(help="Input columns.", rich_help_panel=_DATA)
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="Distinct labels.", rich_help_panel=_DATA)
    ] = None,
    words_per_sample: Annotated[
        float | None, typer.Option(help="Median words per text.", rich_help_panel=_DATA)
    ] = None,
    vocabulary_size: Annotated[
        int | None, typer.Option(help="Distinct words.", rich_help_panel=_DATA)
    ] = None,
    corpus_chars: Annotated[
        int | None, typer.Option(help="Characters of training text.", rich_help_panel=_DATA)
    ] = None,
    audio_hours: Annotated[
        float | None, typer.Option(help="Hours of audio.", rich_help_panel=_DATA)
    ] = None,
    image_side: Annotated[
        int | None, typer.Option(help="Shorter side in pixels.", rich_help_panel=_DATA)
    ] = None,
    sequence_length: Annotated[
        int | None, typer.Option(help="Steps per sequence.", rich_help_panel=_DATA)
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu | gpu | tpu", rich_help_panel=_HARDWARE)
    ] = None,
    compute_capability: Annotated[
        float | None, typer.Option(help="Of the GPU, for example 8.0.", rich_help_panel=_HARDWARE)
    ] = None,
    gpu_memory: Annotated[
        float | None, typer.Option(help="GiB of one GPU.", rich_help_panel=_HARDWARE)
    ] = None,
    num_gpus: Annotated[int | None, typer.Option(help="GPUs.", rich_help_panel=_HARDWARE)] = None,
    trials: Annotated[
        int | None, typer.Option(help="Trials that a search may run.", rich_help_panel=_DATA)
    ] = None,
    exploring: Annotated[
        bool | None,
        typer.Option(
            "--exploring", help="Learn about the space more than finish.", rich_help_panel=_DATA
        ),
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
    explain: Annotated[
        str | None, typer.Option(help="Print the whole chain behind one hyperparameter.")
    ] = None,
) -> None:
    """Recommend every hyperparameter, with range, prior, reason and source.

    Examples:
    - `smarttune suggest data.csv --target y`
    - `smarttune suggest pictures/`
    - `smarttune suggest sales.csv --target sold --horizon 28`
    - `smarttune suggest --task text --problem multiclass --num-samples 120000
      --words-per-sample 40 --classes 4`
    - `smarttune suggest data.csv --target y --explain optimizer.learning_rate`
    - `smarttune suggest data.csv --target y --format python > train.py`
    """
    from smarttune.suggestion import make_suggestion

    values = dict(locals())
    declared = {
        d.name: values[option]
        for d in FACTS.values()
        if (option := d.flag.lstrip("-").replace("-", "_")) in values
    }
    with _reading(data) as progress:
        suggestion = make_suggestion(
            data,
            target_of(target),
            facts=declared_facts({k: v for k, v in declared.items() if v is not None}, fact),
            pinned=pairs(set_, "--set"),
            rulebook=load_rules(rules, select, ignore),
            problem=problem,
            drop=drop or (),
            progress=progress,
            source=source_options(
                delimiter, encoding, header, group, time_column, series_column, masks, weights
            ),
        )
    if explain is not None:
        from smarttune.report.recommendation import explanation_text

        typer.echo(explanation_text(suggestion.recommendation, explain, suggestion.rulebook))
        return
    typer.echo(_printed(suggestion, format))


def _reading(data: Path | None) -> Any:
    """A progress bar for long reading; Rich is not imported for facts alone."""
    if data is None:
        return contextlib.nullcontext()
    from smarttune.cli.progress import reading

    return reading(data)


def target_of(text: str | None) -> str | list[str] | None:
    """`a,b,c` names several target columns; a name with a comma is not supported."""
    if text is None or "," not in text:
        return text
    return [part.strip() for part in text.split(",")]


def declared_facts(values: dict[str, Any], fact_pairs: list[str] | None) -> Facts:
    """Facts from their own flags and from `--fact name=value`."""
    for name, text in pairs(fact_pairs, "--fact").items():
        kind = fact_def(name, where="--fact").kind
        value = parse_kind(text, kind)
        if value is None:
            raise FactError(
                "--fact",
                received=f"`{name}={text}`",
                expected=f"a value of type {kind}",
                mend=f"`{name}` means: {FACTS[name].about}.",
            )
        values[name] = value
    return Facts.of(values, how="declared by flag")


def _printed(suggestion: Any, format: Format) -> str:
    recommendation = suggestion.recommendation
    if format is Format.json:
        return json.dumps(recommendation.to_json(), indent=2)
    if format is Format.yaml:
        import yaml

        return str(yaml.safe_dump(recommendation.to_json(), sort_keys=False)).rstrip()
    if format is Format.python:
        from smarttune.report.script import keras_script

        return str(keras_script(suggestion))
    from smarttune.report.recommendation import recommendation_text

    heading = ""
    if suggestion.fingerprint is not None:
        from smarttune.report.fingerprint import fingerprint_text

        heading = fingerprint_text(suggestion.fingerprint)
    return recommendation_text(recommendation, heading=heading)
