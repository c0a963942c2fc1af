"""YAML 1.2 values with their positions.

PyYAML follows YAML 1.1: it reads `1e-6` as text, `on` and `no` as booleans and
`010` as 8, keeps the last of two equal keys silently, and expands alias bombs.
Its libyaml parser is fast and knows positions, so only the parse tree is taken
from it and the values are made here, by the core schema of YAML 1.2.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from smarttune.errors import RuleMistake
from smarttune.rulebook.reading import MAX_BYTES

Path = tuple[str | int, ...]
Positions = dict[Path, tuple[int, int]]

KEY = "<key>"  # ends the path of a key's own position

MAX_VALUES = 20_000  # ours: a rule file has about 100, a large bibliography 5,000
MAX_DEPTH = 20  # ours: a rule is 6 levels deep
_SURELY_SHALLOW = 200  # ours: what the composer's recursion bears with ease

_TAG = re.compile(r"(?<![^\s\[{,])![\w!<]")  # where a tag could stand; prose may match too
_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]{1,20}|0x[0-9a-fA-F]{1,16}")  # up to 64 bits
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
# Control characters and those that turn the direction of text: they would steer the terminal.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@cache
def _loader() -> Any:
    """PyYAML's fastest parser, without the guesses at types that YAML 1.1 makes of plain text.

    PyYAML is imported here and below, as rules from the cache need none.
    """
    import yaml

    parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(parser):  # type: ignore[misc]
        def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
            return ""

        def descend_resolver(self, *_: Any) -> None:
            """Needed for those guesses only."""

        ascend_resolver = descend_resolver

    return Loader


def load(text: str, where: str) -> tuple[Any, Positions]:
    """Return the document and the line and column of every value.

    Positions count from 1; that of quoted text is its first character inside
    the quotes, so that columns of an expression can be added to it.

    Raises:
        RuleMistake: If the text is not YAML, repeats a key, or uses aliases or tags.
    """
    import yaml

    if len(text) > MAX_BYTES:
        raise RuleMistake(
            where,
            received=f"the file has {len(text)} characters",
            expected=f"at most {MAX_BYTES}",
            mend="Write one rule per file.",
        )
    try:
        _refuse_hostile(text, where)
        node = yaml.compose(text, Loader=_loader())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise RuleMistake(
            at,
            received=f"this is not YAML: {problem}",
            expected="YAML 1.2",
            mend="Quote text that holds `: `, ` #` or starts with a special character.",
        ) from None
    if node is None:
        raise RuleMistake(
            where, received="the file is empty", expected="a mapping", mend="Fill or delete it."
        )
    positions: Positions = {}
    return _Maker(positions, where).value(node, ()), positions


def _refuse_hostile(text: str, where: str) -> None:
    """Stop before deep nesting exhausts the composer's stack, and refuse tags.

    Counting brackets, question marks and indentation bounds the depth from above at
    once, and a tag needs an exclamation mark; only a text that fails these tests pays
    for a walk through its events.
    """
    indent = max((len(line) - len(line.lstrip(" -")) for line in text.splitlines()), default=0)
    depth_bound = indent + text.count("[") + text.count("{") + text.count("?")
    if depth_bound <= _SURELY_SHALLOW and not _TAG.search(text):
        return
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=_loader()):
        if (tag := getattr(event, "tag", None)) is not None:
            received = f"the tag `{tag}` is not allowed"
            raise _mistake(where, event, received, "a plain value")
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
            if depth > MAX_DEPTH:
                received = "values are nested too deeply"
                raise _mistake(where, event, received, f"at most {MAX_DEPTH} levels")
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1


def _mistake(where: str, node: Any, received: str, expected: str) -> RuleMistake:
    mark = node.start_mark
    return RuleMistake(
        f"{where}:{mark.line + 1}:{mark.column + 1}",
        received=received,
        expected=expected,
        mend="Change it there.",
    )


class _Maker:
    """Makes values of nodes and notes where each stands."""

    def __init__(self, positions: Positions, where: str) -> None:
        self.positions = positions
        self.where = where
        self.seen: set[int] = set()

    def value(self, node: Any, path: Path) -> Any:
        if len(self.seen) >= MAX_VALUES:
            received = f"here are more than {MAX_VALUES} values"
            raise _mistake(self.where, node, received, "a file of sensible size")
        if id(node) in self.seen:
            raise _mistake(self.where, node, "an alias repeats a value", "values written out")
        self.seen.add(id(node))
        quoted = node.id == "scalar" and node.style in ("'", '"')
        mark = node.start_mark
        self.positions[path] = (mark.line + 1, mark.column + 1 + quoted)
        if node.id == "mapping":
            return self.mapping(node, path)
        if node.id == "sequence":
            return [self.value(v, (*path, i)) for i, v in enumerate(node.value)]
        text = self.printable(node)
        return text if node.style in ("'", '"', "|", ">") else _plain(text)

    def printable(self, node: Any) -> str:
        text: str = node.value
        if (found := _UNPRINTABLE.search(text)) is not None:
            received = f"the text holds the character {found[0]!a}"
            raise _mistake(self.where, node, received, "text that prints")
        return text

    def mapping(self, node: Any, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.id != "scalar":
                raise _mistake(self.where, key_node, "a key is not plain text", "a plain key")
            key = self.printable(key_node)
            if "\n" in key:
                raise _mistake(self.where, key_node, "a key has several lines", "a plain key")
            if key in result:
                received = f"the key `{key[:60]}` stands twice"
                raise _mistake(self.where, key_node, received, "each key once")
            mark = key_node.start_mark
            self.positions[(*path, key, KEY)] = (mark.line + 1, mark.column + 1)
            result[key] = self.value(value_node, (*path, key))
        return result


def _plain(text: str) -> Any:
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text) if len(text) < 30 else float(text)
    if _BASED.fullmatch(text):
        return int(text, base=0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _SPECIAL.fullmatch(text):
        return float(text.replace(".", ""))
    return text
