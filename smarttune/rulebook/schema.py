"""What a rule is: the frozen form of one rule file."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from smarttune.rulebook.checks import Check
from smarttune.rulebook.consequences import Condition, Consequence, Frozen, Values
from smarttune.rulebook.expressions import Expression
from smarttune.rulebook.logic import Names, Unknown

Kind = Literal["static", "dynamic", "constraint"]
Evidence = Literal[
    "theorem",
    "documented_api",
    "large_scale_study",
    "controlled_study",
    "practitioner",
    "folklore",
]
Verification = Literal["read", "abstract", "secondary", "unverified", "derived"]

# Names describe a situation. These first words would make them instructions.
_INSTRUCTIONS = ("use", "avoid", "prefer", "set", "consider", "choose", "do", "never", "always")


class Provenance(Frozen):
    """What one place in one work supports.

    Attributes:
        source: The key of the work in a sources.yaml.
        locator: Where in the work it stands: a page, a section, a table, a file.
        supports: Whether the work backs the condition, the direction or the number.
        claim: What the work says there, in words of one's own.
        verification: `read` at that place; its `abstract` only; `secondary`: read elsewhere;
            `derived`: follows by arithmetic or judgement; `unverified`.
    """

    source: str
    locator: str
    supports: Literal["condition", "direction", "number"]
    claim: str
    verification: Verification


class Conflict(Frozen):
    """Another rule that disagrees, and what decides between the two.

    Attributes:
        with: The code of the other rule.
        decided_by: Why one of the two wins where both fire.
    """

    with_: str = Field(alias="with")
    decided_by: str


class Example(Frozen):
    """Facts and hyperparameter values, and whether the rule fires on them.

    Attributes:
        facts: Values by name; what is not named is unknown.
        fires: Whether every condition holds on them.
    """

    facts: Values
    fires: bool


class Stage(Frozen):
    """Since which version a rule stands.

    Attributes:
        stable_since: The version since which its recommendation is kept.
        preview_since: The version since which it is on trial.
    """

    stable_since: str | None = None
    preview_since: str | None = None


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Rule(Frozen):
    """One rule: when it holds, what it recommends, why, and who says so.

    Attributes:
        code: The pack's prefix and three digits; the file is named `CODE-name.yaml`.
        name: The situation in small letters with hyphens, never an instruction.
        summary: The reason in one sentence; it is what users read first.
        stage: Since which version the rule stands.
        kind: `static` reads data, task, hardware and budget; `dynamic` reads what a search found
            (`history.*`) and beats static rules; `constraint` is a fact of a device or library
            and cuts what the others say.
        evidence: How strong the best evidence is, the strongest class first.
        confidence: How sure the author is, from 0 to 1; it decides between rules that are equal
            in everything else.
        knowledge: Entries of a knowledge base that the rule comes from.
        seed_claims: Claims that the rule takes up.
        when: Conditions, all of which must hold; a missing fact makes the rule unknown. For
            example `data.num_samples >= 1000`; `smarttune rules facts` lists what can be read.
        then: What the rule says, a line for each hyperparameter.
        why: Why it is so.
        limits: Where it stops, and where it was never tried.
        provenance: Which works back the rule, and in what.
        ours: What no work states and the author chose.
        conflicts: Rules that disagree with this one somewhere, and what decides.
        overrides: Codes of rules over which this one wins wherever both fire.
        examples: The rule's own tests: facts on which it fires, and facts on which it does not.
        check: The experiment that puts the rule to the test.
    """

    code: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2,4}[0-9]{3}$")]
    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
    summary: Annotated[str, StringConstraints(strip_whitespace=True, min_length=10, max_length=200)]
    stage: Stage = Stage(stable_since="0.1.0")
    kind: Kind
    evidence: Evidence
    confidence: Annotated[
        float, Field(ge=0, le=1), BeforeValidator(lambda v: float(v) if type(v) is int else v)
    ]
    knowledge: tuple[str, ...] = ()
    seed_claims: tuple[str, ...] = ()
    when: tuple[Condition, ...] = ()
    then: tuple[Consequence, ...] = Field(min_length=1)
    why: Text
    limits: Text
    provenance: tuple[Provenance, ...] = ()
    ours: Text | None = None
    conflicts: tuple[Conflict, ...] = ()
    overrides: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    check: Check | None = None

    @field_validator("name")
    @classmethod
    def _no_instruction(cls, value: str) -> str:
        first = value.split("-", maxsplit=1)[0]
        if first in _INSTRUCTIONS:
            raise ValueError(f"a name tells the situation, so it does not begin with `{first}`")
        return value

    @model_validator(mode="after")
    def _grounded(self) -> Self:
        if not self.provenance and not self.ours:
            raise ValueError("a rule has `provenance`, or says under `ours` that it is ours")
        reads_history = any(name.startswith("history.") for name in self.names)
        if self.kind != "dynamic" and reads_history:
            raise ValueError("a rule that reads history.* facts has `kind: dynamic`")
        if self.kind == "dynamic" and not reads_history:
            raise ValueError("a dynamic rule reads at least one history.* fact")
        return self

    @property
    def names(self) -> frozenset[str]:
        """Every fact and hyperparameter that the rule reads."""
        return frozenset().union(*(e.names for e in self._expressions()))

    def _expressions(self) -> list[Expression]:
        return [*self.when, *(e for line in self.then for e in line.expressions)]

    def holds(self, names: Names) -> bool | Unknown:
        """Whether every condition holds: True, False, or which facts are missing."""
        unknown: Unknown | None = None
        for condition in self.when:
            value = condition.evaluate(names)
            if isinstance(value, Unknown):
                unknown = value if unknown is None else unknown | value
            elif not value:
                return False
        return True if unknown is None else unknown

    @property
    def filename(self) -> str:
        """The name that the rule's file must have."""
        return f"{self.code}-{self.name}.yaml"


class Hyperparameter(Frozen):
    """A hyperparameter that a pack adds to the canonical ones."""

    type: Literal["float", "int", "str", "bool"]
    unit: str = ""
    about: str


class PackInfo(Frozen):
    """The content of pack.yaml."""

    pack: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=60)]
    prefixes: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z]{2,4}$")], ...]
    version: str
    title: Text
    about: Text
    hyperparameters: dict[
        Annotated[str, StringConstraints(pattern=re.compile(r"^[a-z]+(\.[a-z0-9_]+)+$"))],
        Hyperparameter,
    ] = Field(default_factory=dict)


class Source(Frozen):
    """A work in the bibliography."""

    authors: str
    title: str
    year: str
    url: str
