"""`smarttune rules new`: a rule of one's own, with the pack around it."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from smarttune.cli.options import words
from smarttune.facts import TASKS


class Kind(StrEnum):
    """The kinds of rules."""

    static = "static"
    dynamic = "dynamic"
    constraint = "constraint"


Task = StrEnum("Task", list(TASKS))  # type: ignore[misc]


def new(
    code: Annotated[str, typer.Argument(help="The rule's code, or code and name: ACM001-name.")],
    name: Annotated[
        str | None, typer.Argument(help="The rule's name: the situation, with hyphens.")
    ] = None,
    pack: Annotated[
        Path, typer.Option("--pack", help="The pack's folder; made if there is none.")
    ] = Path("my_rules"),
    hyperparameter: Annotated[
        str | None,
        typer.Option(help="What the rule is about, such as model.units; else it gives advice."),
    ] = None,
    kind: Annotated[
        Kind,
        typer.Option(help="static; dynamic: reads history.*; constraint: cuts the other rules."),
    ] = Kind.static,
    task: Annotated[
        Task | None, typer.Option(help="The kind of data to which the rule is limited.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option(help="A rule over which this one wins; repeatable.")
    ] = None,
    package: Annotated[
        bool, typer.Option("--package", help="Make a new pack an installable package.")
    ] = False,
) -> None:
    """Write the draft of a rule, and a pack around it where there is none.

    The draft passes `smarttune rules check` at once; what is yours to write is marked TODO.
    Nothing that exists is overwritten.

    Examples:
    - `smarttune rules new ACM001 wide-tables --pack acme --hyperparameter model.units`
    - `smarttune rules new ACM002-small-batches --pack acme --hyperparameter training.batch_size
      --task tabular --overrides BAT004`
    - `smarttune rules new ACM001 wide-tables --pack acme-rules --package`
    """
    from smarttune.rulebook.scaffold import Draft, write_draft

    if name is None:
        code, _, name = code.partition("-")
    draft = Draft(
        code,
        name,
        kind.value,
        hyperparameter,
        None if task is None else task.value,
        tuple(words(overrides)),
    )
    written = write_draft(draft, pack, package=package)
    for path in written:
        typer.echo(path)
    typer.echo("\n".join(["", *_next_steps(written, hyperparameter)]), err=True)


def _next_steps(written: list[Path], hyperparameter: str | None) -> list[str]:
    rule = shlex.quote(str(written[-1]))
    folder = shlex.quote(str(written[-1].parent))
    project = next((p.parent for p in written if p.name == "pyproject.toml"), None)
    explain = f" --explain {hyperparameter}" if hyperparameter else ""
    steps = [
        f"Write what is marked TODO in {rule}; an editor with YAML support completes and checks.",
        f"smarttune rules check {folder}",
        f"smarttune suggest data.csv --target y --rules {folder}{explain}",
    ]
    if project is not None:
        steps.append(
            f"pip install -e {shlex.quote(str(project))}   # then it takes part without --rules"
        )
    return [f"{number}. {step}" for number, step in enumerate(steps, start=1)]
