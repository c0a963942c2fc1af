"""Checked rule files, kept between commands.

Parsing and checking 270 files takes most of a second, so what came of the built-in
ones is kept under the user's cache folder, each file under its time and size, and
all of it only for the very code and vocabulary that checked it. The cache is JSON,
and nothing but rules, packs and sources can come out of it; expressions are compiled
anew, by the same compiler. One that is missing, damaged or not writable costs time
and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import zlib
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pydantic

from smarttune.errors import RunError
from smarttune.files import cache_folder, write_bytes
from smarttune.rulebook.consequences import Frozen
from smarttune.rulebook.expressions import Expression, constant
from smarttune.rulebook.schema import PackInfo, Rule, Source
from smarttune.version import __version__

_TAG = "$"  # the key of every object that is kept: what it was


class CheckedFiles:
    """What came of the files of one folder of packs."""

    def __init__(self, folder: Path) -> None:
        name = hashlib.sha256(f"{__version__}\n{folder}".encode()).hexdigest()[:16]
        self.path = cache_folder() / f"rules-{name}.json"
        self.stamps: dict[str, tuple[int, ...]] = {}  # as the files were before they were read
        self.changed = False

    @cached_property
    def entries(self) -> dict[str, Any]:
        """What is kept: file to stamp and content; read when it is first asked for."""
        with contextlib.suppress(OSError, ValueError):
            seal, _, content = self.path.read_bytes().partition(b"\n")
            if int(seal) == _seal(content):
                kept: dict[str, Any] = json.loads(content, object_hook=_restored)
                return kept
        return {}

    def get(self, file: Path) -> Any:
        """What came of a file as it is now on disk, or None."""
        with contextlib.suppress(OSError):
            stamp = self.stamps[str(file)] = _stamp(file)
            kept, content = self.entries.get(str(file), (None, None))
            return content if kept == stamp else None
        return None

    def put(self, file: Path, content: Any) -> None:
        """Keep what came of a file that was asked for: a model, or text to models."""
        self.entries[str(file)] = (self.stamps[str(file)], content)
        self.changed = True

    def save(self) -> None:
        """Write the cache if it has changed."""
        if self.changed:
            content = json.dumps(_plain(self.entries)).encode()
            with contextlib.suppress(RunError, OSError):
                write_bytes(self.path, b"%d\n%b" % (_seal(content), content))


def _stamp(file: Path) -> tuple[int, ...]:
    status = file.stat()
    return (status.st_mtime_ns, status.st_size)


def _seal(content: bytes) -> int:
    """A number that other content, and content that other code made, will not have.

    Code counts because other code may find other mistakes in the same file, or none.
    """
    here = Path(__file__).parent
    code = [*here.glob("*.py"), here.parent / "facts.py", *(here.parent / "space").glob("*.py")]
    maker = (pydantic.VERSION, *((file.name, *_stamp(file)) for file in sorted(code)))
    return zlib.crc32(content, zlib.crc32(repr(maker).encode()))


def _plain(value: Any) -> Any:
    """A value as JSON; every object says what it was."""
    if isinstance(value, Expression):
        number = value.evaluate({}) if value.kind == "num" and not value.names else None
        if isinstance(number, (int, float)) and value == constant(number):
            return {_TAG: "number", "value": number}
        return {_TAG: "=", "text": value.text, "kind": value.kind, "names": sorted(value.names)}
    if isinstance(value, Frozen):
        given = {name: _plain(getattr(value, name)) for name in value.model_fields_set}
        return {_TAG: type(value).__name__, **given}
    if isinstance(value, dict):
        return {_TAG: "dict", "items": [[k, _plain(v)] for k, v in value.items()]}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _restored(data: dict[str, Any]) -> Any:
    """The inverse for one object, whose parts are restored already; lists were tuples."""
    match data.pop(_TAG):
        case "number":
            return constant(data["value"])
        case "=":
            return Expression(data["text"], data["kind"], frozenset(data["names"]))
        case "dict":
            return {k: _frozen(v) for k, v in data["items"]}
        case name:
            given = {k: _frozen(v) if type(v) is list else v for k, v in data.items()}
            return _made(_MODELS[name], given)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if type(value) is list else value


def _made(model: type[Frozen], given: dict[str, Any]) -> Frozen:
    """A model of values that were checked before, as unpickling makes one."""
    defaults, factories = _defaults(model)
    made = model.__new__(model)
    made.__setstate__(
        {
            "__dict__": {**defaults, **{n: make() for n, make in factories.items()}, **given},
            "__pydantic_fields_set__": set(given),
            "__pydantic_extra__": None,
            "__pydantic_private__": None,
        }
    )
    return made


@cache
def _defaults(model: type[Frozen]) -> tuple[dict[str, Any], dict[str, Callable[[], Any]]]:
    """The values that fields have where a file is silent, and what makes new ones."""
    fields = model.model_fields.items()
    made: dict[str, Any] = {n: f.default_factory for n, f in fields if f.default_factory}
    return {n: None if f.is_required() else f.default for n, f in fields}, made


# Imported so that all of them are known here: whatever a rule, a pack or a source consists of.
_KEPT = (Rule, PackInfo, Source)
_MODELS = {model.__name__: model for model in Frozen.__subclasses__()}
