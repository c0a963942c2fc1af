"""The part of JSON Schema that a rule's schema uses, checked as an editor does."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}
_KNOWN = {
    "$defs",
    "$ref",
    "additionalProperties",
    "anyOf",
    "const",
    "default",
    "description",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "items",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "pattern",
    "properties",
    "required",
    "title",
    "type",
}


def errors(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str = "$") -> list[str]:
    """Return where `value` does not fit `schema`.

    Raises:
        NotImplementedError: If the schema uses a keyword that is not checked here.
    """
    if unknown := schema.keys() - _KNOWN:
        raise NotImplementedError(f"{at}: {unknown}")
    if "$ref" in schema:
        return errors(value, root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], root, at)
    found: list[str] = []
    if "anyOf" in schema:
        options = [errors(value, option, root, at) for option in schema["anyOf"]]
        if all(options):
            found += min(options, key=lambda option: len(option))  # noqa: PLW0108
    if "type" in schema:
        number = schema["type"] in ("integer", "number")
        if not isinstance(value, _TYPES[schema["type"]]) or (number and isinstance(value, bool)):
            return [*found, f"{at}: not of type {schema['type']}"]
    if "const" in schema and value != schema["const"]:
        found.append(f"{at}: not {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{at}: not one of {schema['enum']}")
    return found + _bounds(value, schema, at) + _parts(value, schema, root, at)


def _bounds(value: Any, schema: dict[str, Any], at: str) -> list[str]:
    tests: dict[str, Callable[[Any], bool]] = {
        "pattern": lambda p: re.search(p, value) is not None,
        "minLength": lambda n: len(value) >= n,
        "maxLength": lambda n: len(value) <= n,
        "minItems": lambda n: len(value) >= n,
        "minimum": lambda n: value >= n,
        "maximum": lambda n: value <= n,
        "minProperties": lambda n: len(value) >= n,
        "exclusiveMinimum": lambda n: value > n,
        "exclusiveMaximum": lambda n: value < n,
    }
    return [
        f"{at}: {key}" for key, test in tests.items() if key in schema and not test(schema[key])
    ]


def _parts(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str) -> list[str]:
    found: list[str] = []
    if isinstance(value, list) and "items" in schema:
        for i, item in enumerate(value):
            found += errors(item, schema["items"], root, f"{at}[{i}]")
    if isinstance(value, dict):
        properties, extra = schema.get("properties", {}), schema.get("additionalProperties", True)
        found += [
            f"{at}: {key} is missing" for key in schema.get("required", []) if key not in value
        ]
        for key, item in value.items():
            if key in properties:
                found += errors(item, properties[key], root, f"{at}.{key}")
            elif extra is False:
                found.append(f"{at}: {key} is not allowed")
            elif isinstance(extra, dict):
                found += errors(item, extra, root, f"{at}.{key}")
    return found
