"""Python source as text: literals, assignments and comments that keep within the line length."""

from __future__ import annotations

import json
import math
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

# The line length of the generated scripts, the same as ours.
LINE_LENGTH = 100
# ours: longer lists are filled line by line, since one entry a line takes too much room.
_SHORT_LIST = 12
# ours: a string wider than this is cut into pieces, which leaves room for any indentation.
_LONGEST_PIECE = 80


def width(text: str) -> int:
    """Columns that a text takes; wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def literal(value: Any) -> str:
    """Return a plain value as Python source on one line.

    Args:
        value: None, a truth value, a number, a text, or a list of these.
    """
    if isinstance(value, str):
        if value.isprintable():
            return json.dumps(value, ensure_ascii=False)
        # JSON would write characters beyond 16 bits as two; Python's escapes do not.
        return '"' + value.encode("unicode_escape").decode().replace('"', r"\"") + '"'
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(literal(v) for v in value) + "]"
    return repr(value)


def assignment(name: str, value: Any, comment: str = "") -> list[str]:
    """Return `name = value` with a trailing comment, on as many lines as it takes.

    A comment too long for the line goes before it.
    """
    line = f"{name} = {literal(value)}"
    note = f"  # {one_line(comment)}" if comment else ""
    if width(line + note) <= LINE_LENGTH:
        return [line + note]
    before = commented(comment) if comment else []
    if width(line) <= LINE_LENGTH:
        return [*before, line]
    if isinstance(value, str):
        return [*before, f"{name} = (", *_pieces(value, 4), ")"]
    return [*before, f"{name} = [", *_entries(value), "]  # fmt: skip"]


def mapping(name: str, entries: Mapping[str, Any], comments: Sequence[str] = ()) -> list[str]:
    """Return the assignment of a dict with one entry a line, each with its comment."""
    lines = [f"{name} = {{"]
    for place, (key, value) in enumerate(entries.items()):
        note = f"  # {comments[place]}" if place < len(comments) and comments[place] else ""
        line = f"    {literal(key)}: {literal(value)},"
        if width(line + note) <= LINE_LENGTH:
            lines.append(line + note)
        else:
            lines += ["    (", *_pieces(key, 8), f"    ): {literal(value)},{note}"]
    return [*lines, "}"]


def commented(text: str, *, indent: str = "") -> list[str]:
    """Return a text as comment lines; `indent` stands before each line but the first."""
    return [f"# {line}" for line in wrapped(text, indent=indent)]


def wrapped(text: str, *, indent: str = "", room: int = LINE_LENGTH - 2) -> list[str]:
    """Return a text in lines that fit behind `# `; line breaks in it are lost."""
    text = one_line(text)
    room = room // 2 if width(text) > len(text) else room
    return textwrap.wrap(text, room, subsequent_indent=indent) or [""]


def one_line(text: str) -> str:
    """Return a text without line breaks and other characters that do not print."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))


def _entries(values: Sequence[Any]) -> list[str]:
    """Entries of a list: one a line while they are few, else as many as fit."""
    lines: list[str] = []
    for value in values:
        entry = literal(value) + ","
        if width(entry) > LINE_LENGTH - 4:
            pieces = _pieces(str(value), 4)
            lines += [*pieces[:-1], pieces[-1] + ","]
        elif lines and len(values) > _SHORT_LIST and width(f"{lines[-1]} {entry}") <= LINE_LENGTH:
            lines[-1] += f" {entry}"
        else:
            lines.append(f"    {entry}")
    return lines


def _pieces(text: str, indent: int) -> list[str]:
    """A string literal as adjacent literals, one a line."""
    # Halved once more for wide characters and for escapes.
    step = _LONGEST_PIECE if width(literal(text)) == len(text) + 2 else _LONGEST_PIECE // 8
    cut = [text[i : i + step] for i in range(0, len(text), step)]
    return [" " * indent + literal(piece) for piece in cut]
