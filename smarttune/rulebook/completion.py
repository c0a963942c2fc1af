"""What editors are told of rule files beyond their structure: meanings of keys, and known names.

The JSON Schema of a rule comes from its models. Here every key gets the meaning that stands in
the docstring of its model, and names of facts and hyperparameters become words to choose from.
Other names stay allowed, as packs may declare hyperparameters of their own.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

from smarttune.facts import FACTS, FactDef
from smarttune.space import HYPERPARAMETERS, HyperparameterDef

_TYPES = {"float": "number", "int": "integer", "str": "string", "bool": "boolean"}
_ATTRIBUTE = re.compile(r"^    (\w+): (.+(?:\n {8,}.+)*)", re.MULTILINE)

HYPERPARAMETER_NAME: dict[str, Any] = {
    "anyOf": [
        {"enum": list(HYPERPARAMETERS)},
        {
            "type": "string",
            "pattern": r"^[a-z]+(\.[a-z0-9_]+)+$",
            "description": "one that a pack declares under `hyperparameters` in pack.yaml",
        },
    ]
}


def add_meanings(schema: dict[str, Any], docstring: str) -> None:
    """Describe a model's keys in its JSON Schema by the `Attributes:` of its docstring."""
    about, _, attributes = inspect.cleandoc(docstring).partition("\n\nAttributes:\n")
    schema["description"] = about
    meanings = {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(attributes)}
    for name, part in schema.get("properties", {}).items():
        if name in meanings:
            part["description"] = meanings[name]


class KnownNames:
    """Marks a mapping whose keys are hyperparameters, and facts too if `facts` is set."""

    def __init__(self, *, facts: bool) -> None:
        self.known: Mapping[str, FactDef | HyperparameterDef] = {
            **(FACTS if facts else {}),
            **HYPERPARAMETERS,
        }

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return handler(source)

    def __get_pydantic_json_schema__(
        self, core_schema: Any, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        schema: dict[str, Any] = handler(core_schema)
        several = schema["additionalProperties"].get("type") == "array"
        schema["properties"] = {
            name: _value_schema(definition, several=several)
            for name, definition in self.known.items()
        }
        return schema


def _value_schema(definition: FactDef | HyperparameterDef, *, several: bool) -> dict[str, Any]:
    one: dict[str, Any] = {"type": _TYPES[definition.kind]}
    if definition.values:
        one = {"enum": list(definition.values)}
        if isinstance(definition, HyperparameterDef):
            # Its known names are to choose from only: a model of the user's may know others.
            one = {"anyOf": [one, {"type": "string"}]}
    about = f"{definition.about} ({definition.unit})" if definition.unit else definition.about
    if several:
        return {"anyOf": [one, {"type": "array", "items": one}], "description": about}
    return {**one, "description": about}
