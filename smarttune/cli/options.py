"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smarttune.errors import OptionError

if TYPE_CHECKING:
    from smarttune.rulebook import Rulebook

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
Delimiter = Annotated[
    str | None, typer.Option(help="Character between fields of a text file; else detected.")
]
Encoding = Annotated[
    str | None, typer.Option(help="Encoding of a text file, such as latin-1; else UTF-8.")
]
Header = Annotated[
    bool | None,
    typer.Option("--header/--no-header", help="Whether the first line names the columns."),
]


def read_options(
    delimiter: str | None, encoding: str | None, header: bool | None
) -> dict[str, Any]:
    """How to read a text file; what is not given is detected."""
    given = {"delimiter": delimiter, "encoding": encoding, "header": header}
    return {name: value for name, value in given.items() if value is not None}


def load_rules(
    folders: Sequence[Path] | None = None,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
) -> Rulebook:
    """Load the rules that the shared options describe."""
    from smarttune.rulebook import load_rulebook
    from smarttune.rulebook import select as select_rules

    book = load_rulebook(tuple(folder.resolve() for folder in folders or ()))
    return select_rules(book, _words(select), _words(ignore))


def _words(values: Sequence[str] | None) -> list[str]:
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
