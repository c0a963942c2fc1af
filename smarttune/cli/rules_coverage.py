"""`smarttune rules coverage`: what the rules decide for every network that is built."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from smarttune.cli.options import Format, FormatOption, Ignore, RuleFolders, Select, load_rules
from smarttune.errors import OptionError, did_you_mean

if TYPE_CHECKING:
    from smarttune.coverage import Cell
    from smarttune.models.built import Built

# Kinds of evidence in one word, as there is room for in a table.
_SHORT = {
    "theorem": "theorem",
    "documented_api": "api",
    "large_scale_study": "large",
    "controlled_study": "study",
    "practitioner": "practice",
    "folklore": "folklore",
}
_HOLE, _RESTS, _NOT_READ = "HOLE", "rests", "."


def coverage(
    task: Annotated[str | None, typer.Option(help="Only this kind of data.")] = None,
    problem: Annotated[str | None, typer.Option(help="Only this kind of prediction.")] = None,
    family: Annotated[str | None, typer.Option(help="Only this kind of network.")] = None,
    holes: Annotated[
        bool, typer.Option("--holes", help="Only what is read and no rule decides.")
    ] = False,
    rules: RuleFolders = None,
    select: Select = None,
    ignore: Ignore = None,
    format: FormatOption = Format.text,
) -> None:
    """Tell which rules decide each hyperparameter of each network, and on what evidence.

    Each kind of network is asked about in a few typical situations. `large` and `study` are
    published experiments, `practice` is a practitioner's advice, `api` a library's own
    documentation. A hyperparameter `rests` where silence means that nothing is done, and is a
    HOLE where a network reads it and no rule speaks.

    Examples:
    - `smarttune rules coverage --task image`
    - `smarttune rules coverage --holes --ignore OPT005`
    """
    from smarttune.coverage import counts
    from smarttune.coverage import coverage as covered

    cells = covered(load_rules(rules, select, ignore), of=_chosen(task, problem, family))
    if format is Format.json:
        shown = [cell.to_json() for cell in cells if cell.is_hole or not holes]
        typer.echo(json.dumps({"cells": shown, "counts": counts(cells)}, indent=2))
        return
    if not holes:
        for modality in dict.fromkeys(cell.built.modality for cell in cells):
            typer.echo(_table([cell for cell in cells if cell.built.modality == modality]))
    for line in _holes(cells):
        typer.echo(line)
    typer.echo(_last_line(counts(cells)))


def _chosen(task: str | None, problem: str | None, family: str | None) -> tuple[Built, ...]:
    """The networks that the options leave.

    Raises:
        OptionError: If an option names nothing that is built, or all of them together.
    """
    from smarttune.models.built import built

    left = built()
    for field, value in (("task", task), ("problem", problem), ("family", family)):
        if value is None:
            continue
        known = tuple(dict.fromkeys(getattr(one, field) for one in left))
        left = tuple(one for one in left if getattr(one, field) == value)
        if not left:
            raise OptionError(
                f"--{field}",
                received=f"`{value}`",
                expected="one of " + ", ".join(known),
                mend=f"Name one of them, or leave it out.{did_you_mean(value, known)}",
            )
    return left


def _table(cells: Sequence[Cell]) -> str:
    """Hyperparameters by families of one modality, problems joined, and why some rest."""
    from smarttune.space import HYPERPARAMETERS

    problems = tuple(dict.fromkeys(cell.built.problem for cell in cells))
    families = tuple(dict.fromkeys(cell.built.family for cell in cells))
    rows = [(f"{cells[0].built.modality}: {', '.join(problems)}",), ("", *families)]
    reasons: dict[str, str] = {}
    read = {cell.hyperparameter for cell in cells}
    for name in filter(read.__contains__, HYPERPARAMETERS):
        here = [cell for cell in cells if cell.hyperparameter == name]
        if reason := next((cell.reason for cell in here if cell.reason), None):
            reasons[name] = reason
        rows.append((name, *(_joined([c for c in here if c.built.family == f]) for f in families)))
    widths = [max(len(row[i]) for row in rows[1:]) for i in range(len(families) + 1)]
    lines = ["  ".join(f"{w:<{n}}" for w, n in zip(row, widths, strict=True)) for row in rows[1:]]
    notes = [f"{name} {_RESTS}: {why}." for name, why in reasons.items()]
    return "\n".join([rows[0][0], *(line.rstrip() for line in lines), *notes, ""])


def _joined(cells: Sequence[Cell]) -> str:
    """One cell of the table: its weakest evidence over the problems, and who decides."""
    if not cells:
        return _NOT_READ
    if any(cell.is_hole for cell in cells):
        return _HOLE
    codes = Counter(code for cell in cells for code in cell.rules)
    if not codes:
        return _RESTS
    kinds = tuple(_SHORT)
    weakest = max((str(c.evidence) for c in cells if c.evidence), key=kinds.index)
    first, more = codes.most_common(1)[0][0], len(codes) - 1
    return f"{_SHORT[weakest]} {first}" + (f" +{more}" if more else "")


def _holes(cells: Iterable[Cell]) -> Iterator[str]:
    for cell in cells:
        if cell.is_hole:
            where = f"{cell.built.modality} {cell.built.problem} {cell.built.family}"
            yield f"{_HOLE}  {where}: {cell.hyperparameter} ({'; '.join(cell.silent)})"


def _last_line(found: dict[str, int]) -> str:
    kinds = ", ".join(f"{found[kind]:,} {short}" for kind, short in _SHORT.items() if found[kind])
    return (
        f"{found['networks']} kinds of network read {found['read']:,} hyperparameters: "
        f"{found['decided']:,} decided by {found['rules']} rules"
        + (f" ({kinds})" if kinds else "")
        + f", {found['resting']:,} at rest, {found['holes']:,} hole(s)."
    )
