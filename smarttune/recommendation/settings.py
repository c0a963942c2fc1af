"""What a recommendation is: settled hyperparameters, each with its reasons."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

from smarttune.errors import SettingError
from smarttune.facts import Facts
from smarttune.space import Dimension, Prior, Range, SearchSpace, Value

SCHEMA = "smarttune/recommendation@1"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Reason(_Frozen):
    """One rule that shaped a setting.

    Attributes:
        rule: Its code; "you" for a value that the user set.
        summary: Its one-line reason.
        role: What it did: decides, limits or agrees.
        sources: Keys of the works it rests on.
        trace: Its conditions with the values that made them hold.
    """

    rule: str
    summary: str
    role: str = "decides"
    sources: tuple[str, ...] = ()
    trace: tuple[str, ...] = ()


class Overruled(_Frozen):
    """A rule that fired and lost, what it would have said, and why it lost."""

    rule: str
    summary: str
    range: Range
    value: Value
    decided_by: str


class Setting(_Frozen):
    """One hyperparameter, settled.

    Attributes:
        value: The recommended value.
        range: The values worth searching.
        prior: Where good values are expected within the range.
        because: The rules behind it, the deciding one first.
        overruled: The rules that lost.
        active_when: Values of other hyperparameters without which this one does nothing.
    """

    value: Value
    range: Range
    prior: Prior | None = None
    because: tuple[Reason, ...] = ()
    overruled: tuple[Overruled, ...] = ()
    active_when: dict[str, tuple[Value, ...]] = Field(default_factory=dict)


class UnknownRule(_Frozen):
    """A rule that could not be judged: the missing facts, and what it would say."""

    rule: str
    summary: str
    missing: tuple[str, ...]
    would: tuple[str, ...]


class Advice(_Frozen):
    """A fired rule's word to the user that is no value of a hyperparameter."""

    rule: str
    text: str
    trace: tuple[str, ...] = ()


class Recommendation(_Frozen):
    """Every hyperparameter settled, each with its reasons.

    Settings that hold for one column are named like `model.encoding[education]`.
    """

    facts: Annotated[
        Facts,
        PlainValidator(lambda v: v if isinstance(v, Facts) else Facts.from_json(v)),
        PlainSerializer(lambda facts: facts.to_json()),
    ]
    settings: dict[str, Setting]
    advice: tuple[Advice, ...] = ()
    silent: tuple[str, ...] = ()
    unknown: tuple[UnknownRule, ...] = ()
    warnings: tuple[str, ...] = ()

    def value(self, name: str, default: Any = None) -> Any:
        """The recommended value of a hyperparameter, or `default` if no rule spoke."""
        setting = self.settings.get(name)
        return default if setting is None else setting.value

    def space(self, names: Iterable[str] | None = None) -> SearchSpace:
        """The search space of all hyperparameters, or of those in `names` and their parents."""
        wanted = set(self.settings) if names is None else set(names)
        while (
            more := {
                parent
                for name in wanted & self.settings.keys()
                for parent in self.settings[name].active_when
            }
            - wanted
        ):
            wanted |= more
        return SearchSpace(
            dimensions=tuple(
                Dimension(
                    name=name,
                    range=s.range,
                    value=s.value,
                    prior=s.prior,
                    active_when={k: v for k, v in s.active_when.items() if k in self.settings},
                )
                for name, s in self.settings.items()
                if name in wanted
            )
        )

    @cached_property
    def default(self) -> dict[str, Value]:
        """The recommended configuration."""
        return self.space().default

    @property
    def rules_fired(self) -> tuple[str, ...]:
        """Codes of all rules that had a say, deciding, limiting, agreeing or advising."""
        codes = {r.rule for s in self.settings.values() for r in s.because if r.rule != "you"}
        return tuple(sorted(codes | {a.rule for a in self.advice}))

    def with_warnings(self, warnings: Iterable[str]) -> Recommendation:
        """The same recommendation with more warnings."""
        return self.model_copy(update={"warnings": (*self.warnings, *warnings)})

    def to_json(self) -> dict[str, Any]:
        """The form kept in files and printed by `suggest --format json`."""
        return {"schema": SCHEMA, **self.model_dump(mode="json")}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recommendation:
        """The inverse of `to_json`.

        Raises:
            SettingError: If the data are of another schema.
        """
        if data.get("schema") != SCHEMA:
            raise SettingError(
                "recommendation",
                received=f"the schema is {data.get('schema')!r}",
                expected=repr(SCHEMA),
                mend="Make the recommendation again with this version of smarttune.",
            )
        return cls.model_validate_json(json.dumps({k: v for k, v in data.items() if k != "schema"}))
