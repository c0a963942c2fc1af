"""The reference of the commands, from their help texts."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer

from pages.layout import cell, head, table
from smarttune.cli.app import app

_KINDS = {str: "TEXT", int: "N", float: "NUMBER", Path: "PATH"}

_INTRO = """
`smarttune COMMAND --help` shows the same in the terminal; `python -m smarttune` is the same
program. `smarttune --install-completion` sets up completion in your shell.

Exit codes: 0 done; 2 something you can mend, said in one paragraph; 1 a bug of ours, with its
traceback; 130 interrupted, and a search can be resumed.
"""


def command_reference() -> str:
    """Return the help of every command as one page."""
    lines = head("Commands", "the help texts of the commands", _INTRO)
    for name, command in commands(typer.main.get_command(app)):
        lines += _section(name, command)
    return "\n".join(lines) + "\n"


def commands(group: Any, prefix: str = "smarttune") -> Iterator[tuple[str, Any]]:
    """Yield (full name, command) for every command that does something."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def _section(name: str, command: Any) -> list[str]:
    hints = get_type_hints(getattr(command.callback, "__wrapped__", command.callback))
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p not in arguments]
    words = [p.name.upper() if p.required else f"[{p.name.upper()}]" for p in arguments]
    usage = " ".join([name, *words, *(["[OPTIONS]"] if options else [])])
    lines = ["", f"## {name}", "", f"`{usage}`", "", command.help.strip()]
    lines += table(
        ("argument", "means"), [(f"`{p.name.upper()}`", cell(p.help)) for p in arguments]
    )
    panels = dict.fromkeys(p.rich_help_panel for p in options)
    for panel in sorted(panels, key=lambda p: p is not None):
        lines += ["", f"{panel}:"] if panel else []
        mine = [p for p in options if p.rich_help_panel == panel]
        rows = [_option(option, hints.get(option.name)) for option in mine]
        lines += table(("option", "means", "default"), rows)
    return lines


def _option(option: Any, hint: Any) -> tuple[str, str, str]:
    names = ", ".join(f"`{n}`" for n in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag else f" {_kind(hint)}"
    default = option.default.value if isinstance(option.default, Enum) else option.default
    shown = "" if option.is_flag or default is None else f"`{default}`"
    return names + value, cell(option.help), shown


def _kind(hint: Any) -> str:
    """Return a word for what an option takes, from its annotation."""
    for part in (hint, *get_args(hint)):
        if isinstance(part, type) and issubclass(part, Enum):
            return " \\| ".join(member.value for member in part)
        if part in _KINDS:
            return _KINDS[part]
        if get_args(part):
            return _kind(get_args(part)[0])
    return "VALUE"
