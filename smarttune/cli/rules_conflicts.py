"""`smarttune rules conflicts`: which rules disagree, and what decides."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from smarttune.cli.options import (
    Format,
    FormatOption,
    Ignore,
    RuleFolders,
    Select,
    load_rules,
    words,
)

if TYPE_CHECKING:
    from smarttune.recommendation.conflicts import RuleConflict
    from smarttune.rulebook import Rulebook
    from smarttune.space import Range, Value

_PATIENCE = 1.0  # ours: seconds without a sign of life before a bar is shown
_SAYS = {"excludes": "excludes", "differs": "differs", "range": "differs in range"}


class KindChoice(StrEnum):
    """How two rules disagree."""

    excludes = "excludes"
    differs = "differs"
    range = "range"


def conflicts(  # noqa: PLR0913, PLR0917 -- one for each option
    hyperparameter: Annotated[
        list[str] | None, typer.Option(help="Only this hyperparameter; repeatable.")
    ] = None,
    kind: Annotated[
        list[KindChoice] | None,
        typer.Option(
            help="Only where the value of one rule lies outside the range of the other (excludes), "
            "where both allow it but recommend another (differs), or where only the ranges differ "
            "(range); repeatable."
        ),
    ] = None,
    undeclared: Annotated[
        bool, typer.Option("--undeclared", help="Only pairs for whose decision no ground is given.")
    ] = False,
    rules: RuleFolders = None,
    select: Select = None,
    ignore: Ignore = None,
    format: FormatOption = Format.text,
) -> None:
    """List the rules that can fire together and disagree, what decides, and why.

    Found by search over facts: each pair is shown with one example of facts on which both fire.
    A pair that nothing but the order of codes decides is marked as a contradiction.

    Examples:
    - `smarttune rules conflicts --hyperparameter training.batch_size`
    - `smarttune rules conflicts --kind excludes --undeclared --rules my_rules/`
    """
    from smarttune.recommendation.conflicts import find_conflicts

    book = load_rules(rules, select, ignore)
    names = words(hyperparameter)
    _check_names(book, names)
    with _late_bar() as on_progress:
        found = find_conflicts(book, hyperparameters=names or None, on_progress=on_progress)
    shown = [c for c in found if (not kind or c.kind in kind) and not (undeclared and c.ground)]
    if format is Format.json:
        typer.echo(json.dumps([c.to_json() for c in shown], indent=2))
        return
    _print(shown)


def _check_names(book: Rulebook, names: Sequence[str]) -> None:
    from smarttune.errors import OptionError, did_you_mean

    for name in names:
        if name not in book.hyperparameters:
            raise OptionError(
                "--hyperparameter",
                received=f"`{name}` is not a hyperparameter",
                expected="a name that rules set, such as training.batch_size",
                mend=f"Correct the name.{did_you_mean(name, book.hyperparameters)}",
            )


def _print(shown: Sequence[RuleConflict]) -> None:
    name = ""
    for conflict in shown:
        if conflict.hyperparameter != name:
            name = conflict.hyperparameter
            typer.echo(name)
        typer.echo("\n".join(_lines(conflict)))
    counts = Counter(str(conflict.kind) for conflict in shown)
    contradictions = sum(conflict.contradiction for conflict in shown)
    undeclared = sum(not conflict.ground for conflict in shown)
    kinds = ", ".join(f"{counts[kind]} {_SAYS[kind]}" for kind in KindChoice)
    typer.echo(
        f"{len(shown)} pair{_s(len(shown))}: {kinds}; {undeclared} without a ground, "
        f"{contradictions} contradiction{_s(contradictions)}.",
        err=True,
    )


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _lines(conflict: RuleConflict) -> Iterator[str]:
    mark = "CONTRADICTION: " if conflict.contradiction else ""
    yield (
        f"  {mark}{conflict.winner} {_said(conflict.winner_value, conflict.winner_range)} "
        f"over {conflict.loser} {_said(conflict.loser_value, conflict.loser_range)}"
        f": {_SAYS[conflict.kind]}"
    )
    yield f"      decided by: {conflict.decided_by}"
    if conflict.ground:
        source = f" ({conflict.declared_by})" if conflict.declared_by else ""
        yield f"      ground{source}: {conflict.ground}"
    yield f"      for example: {_facts(conflict.facts) or 'whatever is known'}"


def _said(value: Value, range_: Range) -> str:
    from smarttune.space import Fixed, show_value

    return f"({show_value(value)}{'' if isinstance(range_, Fixed) else f' of {range_}'})"


def _facts(facts: Mapping[str, Value]) -> str:
    from smarttune.space import show_value

    return ", ".join(f"{name}={show_value(value)}" for name, value in sorted(facts.items()))


@contextlib.contextmanager
def _late_bar() -> Iterator[Callable[[float], None] | None]:
    """A bar on a terminal's error output once the search takes long; yield what moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("Comparing rules"), BarColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True)
    task, begun = progress.add_task("", total=1.0), time.monotonic()

    def move(share: float) -> None:
        progress.update(task, completed=share)
        if not progress.live.is_started and time.monotonic() - begun > _PATIENCE:
            progress.start()

    try:
        yield move
    finally:
        if progress.live.is_started:
            progress.stop()
