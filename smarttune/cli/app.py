"""The application and its command groups."""

from __future__ import annotations

from typing import Annotated

import typer

import smarttune
from smarttune.cli import rules
from smarttune.cli.cite import cite
from smarttune.cli.learn import learn
from smarttune.cli.lr_find import lr_find
from smarttune.cli.plan import plan
from smarttune.cli.runs import export, predict, show
from smarttune.cli.search import resume, search
from smarttune.cli.suggest import suggest

app = typer.Typer(
    name="smarttune",
    help="Hyperparameter tuning for Keras that starts from documented knowledge and says why.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)
for command in (suggest, lr_find, plan, search, resume, show, cite, predict, export, learn):
    app.command()(command)
app.add_typer(rules.app, name="rules")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"smarttune {smarttune.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
