"""`smarttune show`, `predict` and `export`: what a finished run is good for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from smarttune.errors import OptionError

# What an exported model is given, by kind of data.
_TAKES = {
    "tabular": "a dict of raw columns, text as object arrays",
    "text": "raw strings as an object array, those of several columns joined by a blank",
    "image": "pictures of any size, 0 to 255",
    "audio": "samples between -1 and 1 at the rate of the training recordings",
    "sequence": "steps of raw values, shape (batch, steps, values), NaN for missing ones",
    "timeseries": "the last steps of raw values, shape (batch, window, values)",
}
RunArgument = Annotated[Path, typer.Argument(help="A run directory.")]


def show(
    run: RunArgument,
    trial: Annotated[str | None, typer.Option(help="Show one trial with its curve.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Print a run's report, or its trials so far if it has not ended.

    Examples:
    - `smarttune show runs/data-20260101-120000`
    - `smarttune show runs/data-20260101-120000 --trial 0003`
    """
    from smarttune.report.text import report_text
    from smarttune.tuning import Run

    opened = Run.load(run)
    if trial is not None:
        typer.echo(_trial(opened, trial, as_json=as_json))
    elif as_json:
        typer.echo(json.dumps(_as_json(opened), indent=2))
    elif opened.is_finished:
        typer.echo(report_text(opened.report()))
    else:
        for record in opened.log:
            value = "none" if record.score is None else f"{record.score:.5g}"
            typer.echo(
                f"trial {record.trial_id}: {value} ({record.outcome}, {record.num_epochs} epochs)"
            )
        typer.echo(f"Not finished; go on with: smarttune resume {run}")


def _as_json(run: Any) -> Any:
    if run.is_finished:
        return run.report()
    return {"manifest": run.manifest, "trials": [r.model_dump(mode="json") for r in run.log]}


def _trial(run: Any, wanted: str, *, as_json: bool) -> str:
    from smarttune.cli.progress import values_line
    from smarttune.errors import did_you_mean

    by_id = {r.trial_id: r for r in run.log}
    if wanted not in by_id:
        raise OptionError(
            "--trial",
            received=f"there is no trial `{wanted}`",
            expected="one of " + ", ".join(list(by_id)[:20]),
            mend=f"`smarttune show {run.path}` lists them.{did_you_mean(wanted, by_id)}",
        )
    record = by_id[wanted]
    if as_json:
        return str(record.model_dump_json(indent=2))
    lines = [
        (
            f"trial {record.trial_id}: {record.outcome}, score {record.score}, "
            f"best epoch {record.best_epoch} of {record.num_epochs}, {record.seconds:.1f} s"
        ),
        values_line(record.values),
    ]
    lines += [record.message.rstrip()] if record.message else []
    for epoch, logs in enumerate(record.curve, start=1):
        lines.append(f"epoch {epoch:>4}  " + "  ".join(f"{k} {v:.5g}" for k, v in logs.items()))
    return "\n".join(lines)


def predict(
    run: RunArgument,
    data: Annotated[Path, typer.Argument(help="New samples, as a file or a folder.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A csv to write; else standard output.")
    ] = None,
) -> None:
    """Predict new samples with the best model of a run.

    Example: `smarttune predict runs/data-20260101-120000 new.csv -o predictions.csv`
    """
    from smarttune.backend import prepare_backend
    from smarttune.tuning import Run

    opened = Run.load(run)
    prepare_backend()
    text = opened.predict(data).to_csv(index=False)
    if output is None:
        typer.echo(text, nl=False)
        return
    from smarttune.files import write_text

    write_text(output, text)
    typer.echo(f"{text.count(chr(10)) - 1} predictions in {output}", err=True)


def export(
    run: RunArgument,
    output: Annotated[Path, typer.Argument(help="Where to write the model, *.keras.")],
    trial: Annotated[
        str | None,
        typer.Option(help="Another trial than the best, such as one of the Pareto front."),
    ] = None,
) -> None:
    """Write the best model, preprocessing inside, as one Keras file.

    Examples:
    - `smarttune export runs/data-20260101-120000 model.keras`
    - `smarttune export runs/data-20260101-120000 small.keras --trial 0007`
    """
    from smarttune.files import write_bytes
    from smarttune.tuning import Run

    if output.suffix != ".keras":
        raise OptionError(
            "output",
            received=f"`{output.name}`",
            expected="a name that ends in .keras",
            mend=f"For example {output.with_suffix('.keras')}.",
        )
    opened = Run.load(run)
    export = opened.report()["export"]
    if export["model"] is None:
        raise OptionError(
            str(run),
            received="the model could not be exported with its preprocessing: " + export["reason"],
            expected="a model.keras in the run",
            mend="`smarttune predict` works without it.",
        )
    if trial is None:
        write_bytes(output, opened.model_path.read_bytes())
    else:
        from smarttune.backend import prepare_backend
        from smarttune.job import job_of_run

        prepare_backend()
        from smarttune.tuning.exporting import export_model

        export_model(opened, job_of_run(opened), trial, output)
    typer.echo(
        f"{output}: load it with keras.saving.load_model; "
        f"it takes {_TAKES[opened.manifest['kind']]}.",
        err=True,
    )
