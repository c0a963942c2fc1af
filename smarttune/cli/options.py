"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from smarttune.errors import OptionError
from smarttune.facts import TASKS

if TYPE_CHECKING:
    from smarttune.data.dataset import ReadOptions
    from smarttune.rulebook import Rulebook


class Format(StrEnum):
    """How to print."""

    text = "text"
    json = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="How to print.")]
RuleFolders = Annotated[
    list[Path] | None,
    typer.Option("--rules", help="A folder with rules of your own; repeatable."),
]
Select = Annotated[
    list[str] | None,
    typer.Option("--select", help="Only these rules: code, prefix, name or pack; repeatable."),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option("--ignore", help="Without these rules: code, prefix, name or pack; repeatable."),
]
Pins = Annotated[
    list[str] | None,
    typer.Option("--set", help="Fix a hyperparameter: name=value; repeatable."),
]
FactPairs = Annotated[
    list[str] | None,
    typer.Option("--fact", help="Declare any fact: name=value; repeatable."),
]
_SOURCE = "Say how the data are written (what can be seen is detected)"

Delimiter = Annotated[
    str | None,
    typer.Option(help="Character between fields of a text file.", rich_help_panel=_SOURCE),
]
Encoding = Annotated[
    str | None,
    typer.Option(help="Encoding of text, such as latin-1; else UTF-8.", rich_help_panel=_SOURCE),
]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="Whether the first line names the columns.",
        rich_help_panel=_SOURCE,
    ),
]
Group = Annotated[
    str | None,
    typer.Option(
        help="Column whose equal values (a patient, a speaker) are never parted by a split.",
        rich_help_panel=_SOURCE,
    ),
]
TimeColumn = Annotated[
    str | None,
    typer.Option(help="Column with the time of each step of a series.", rich_help_panel=_SOURCE),
]
SeriesColumn = Annotated[
    str | None,
    typer.Option(help="Column that tells several series apart.", rich_help_panel=_SOURCE),
]
Masks = Annotated[
    Path | None,
    typer.Option(help="Folder with a label picture per picture.", rich_help_panel=_SOURCE),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="Pretrained weights on disk, for texts or images; nothing is downloaded.",
        rich_help_panel=_SOURCE,
    ),
]
Task = Annotated[
    str | None, typer.Option(help="Kind of data: " + " | ".join(TASKS), rich_help_panel=_SOURCE)
]
Horizon = Annotated[
    int | None, typer.Option(help="Steps to forecast of a series.", rich_help_panel=_SOURCE)
]
WindowLength = Annotated[
    int | None,
    typer.Option(help="Steps of history that a forecast reads.", rich_help_panel=_SOURCE),
]
SampleRate = Annotated[
    float | None,
    typer.Option(
        help="Samples per second of recordings that do not say so.", rich_help_panel=_SOURCE
    ),
]


def given(**options: Any) -> dict[str, Any]:
    """Those options that the user gave."""
    return {name: value for name, value in options.items() if value is not None}


def source_options(  # noqa: PLR0913, PLR0917 -- one for each option
    delimiter: str | None,
    encoding: str | None,
    header: bool | None,
    group: str | None,
    time_column: str | None,
    series_column: str | None,
    masks: Path | None,
    weights: Path | None,
) -> ReadOptions:
    """What the user said of the source, as keyword arguments of `read`."""
    said = {
        "delimiter": delimiter,
        "encoding": encoding,
        "header": header,
        "group": group,
        "time_column": time_column,
        "series_column": series_column,
        "masks": None if masks is None else str(masks),
        "weights": None if weights is None else str(weights),
    }
    return cast("ReadOptions", given(**said))


def load_rules(
    folders: Sequence[Path] | None = None,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
) -> Rulebook:
    """Load the rules that the shared options describe."""
    from smarttune.rulebook import load_rulebook
    from smarttune.rulebook import select as select_rules

    book = load_rulebook(tuple(folder.resolve() for folder in folders or ()))
    return select_rules(book, words(select), words(ignore))


def words(values: Sequence[str] | None) -> list[str]:
    """Each option may also hold several words, separated by commas."""
    return [word.strip() for value in values or () for word in value.split(",") if word.strip()]


def pairs(values: Sequence[str] | None, option: str) -> dict[str, str]:
    """Read `name=value` options.

    Raises:
        OptionError: If one has no equals sign.
    """
    read: dict[str, str] = {}
    for value in values or ():
        name, equals, content = value.partition("=")
        if not equals:
            raise OptionError(
                option,
                received=f"`{value}`",
                expected="name=value",
                mend=f"For example {option} training.batch_size=64.",
            )
        read[name.strip()] = content.strip()
    return read
