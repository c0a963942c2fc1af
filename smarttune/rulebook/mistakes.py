"""What is wrong with a rule file, told with file:line:column."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from smarttune.errors import RuleMistake, SmartTuneError, did_you_mean
from smarttune.rulebook import yaml
from smarttune.rulebook.reading import short


def position(positions: yaml.Positions, path: yaml.Path) -> tuple[int, int]:
    """The position of a value, or of the nearest value around it."""
    while path and path not in positions:
        path = path[:-1]
    return positions.get(path, (1, 1))


def validation_mistakes(
    error: ValidationError,
    model: type[BaseModel],
    file: Path,
    positions: yaml.Positions,
    prefix: yaml.Path,
) -> list[SmartTuneError]:
    """What pydantic found wrong, as mistakes at their places in the file."""
    found: dict[str, SmartTuneError] = {}
    items = error.errors(include_url=False)
    inner = {item["loc"][:n] for item in items for n in range(len(item["loc"]))}
    for item in items:
        if item["type"] == "too_short" and item["loc"] in inner:
            continue  # too short only because its items have mistakes, told by themselves
        # Union members and aliases add words to the path that the file does not hold.
        path: yaml.Path = prefix
        for part in item["loc"]:
            longer = (*path, part)
            if longer in positions or item["type"] in ("missing", "extra_forbidden"):
                path = longer
        where, received, expected, mend = _explained(item, path, model, file, positions)
        found.setdefault(where, RuleMistake(where, received=received, expected=expected, mend=mend))
    return list(found.values())


def _explained(
    item: Any, path: yaml.Path, model: type[BaseModel], file: Path, positions: yaml.Positions
) -> tuple[str, str, str, str]:
    dotted = ".".join(str(part) for part in path) or "the file"
    kind, context = item["type"], item.get("ctx") or {}
    line, column = position(positions, path)
    if kind == "extra_forbidden":
        line, column = positions.get((*path, yaml.KEY), (line, column))
        known = _keys_beside(model, path)
        hint = did_you_mean(str(path[-1]), known) or " Delete it."
        received = f"{dotted}: `{path[-1]}` is not a key here"
        return (
            f"{short(file)}:{line}:{column}",
            received,
            "one of " + ", ".join(known),
            hint.strip(),
        )
    if kind == "missing":
        line, column = position(positions, path[:-1])
        received = f"{dotted}: the key `{path[-1]}` is missing"
        return f"{short(file)}:{line}:{column}", received, f"`{path[-1]}`", "Add it."
    if "column" in context:
        column += context["column"] - 1
    message = context.get("message") or item["msg"].removeprefix("Value error, ")
    shown = (
        ""
        if "message" in context or kind == "value_error"
        else f" (received {item['input']!r:.80})"
    )
    return (
        f"{short(file)}:{line}:{column}",
        f"{dotted}: {message}{shown}",
        "what `smarttune rules schema` describes",
        "Correct it there.",
    )


@lru_cache(maxsize=8)
def _json_schema(model: type[BaseModel]) -> Any:
    return model.model_json_schema()


def _keys_beside(model: type[BaseModel], path: yaml.Path) -> list[str]:
    """The keys allowed where `path` ends, found by walking the model's JSON Schema."""
    schema = _json_schema(model)
    definitions = schema.get("$defs", {})

    def resolve(part: Any) -> list[Any]:
        if "$ref" in part:
            return resolve(definitions[part["$ref"].rsplit("/", 1)[-1]])
        if "anyOf" in part:
            return [r for option in part["anyOf"] for r in resolve(option)]
        return [part]

    level = resolve(schema)
    for key in path[:-1]:
        step = "items" if isinstance(key, int) else "properties"
        following = [p[step] if step == "items" else p[step].get(key) for p in level if step in p]
        level = [r for p in following if p for r in resolve(p)]
    return sorted({key for part in level for key in part.get("properties", {})})
