"""One line of a rule's `then`: what it says of a hyperparameter, and how it is evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import WithJsonSchema
from pydantic_core import PydanticCustomError

from smarttune.errors import did_you_mean
from smarttune.facts import as_kind
from smarttune.rulebook.completion import HYPERPARAMETER_NAME, KnownNames, add_meanings
from smarttune.rulebook.expressions import Expression, ExpressionError, constant, parse
from smarttune.rulebook.logic import MAX_NUMBER, Names, Unknown
from smarttune.space import (
    HYPERPARAMETERS,
    Choice,
    Fixed,
    FloatRange,
    HyperparameterDef,
    IntRange,
    Range,
    Value,
    pow2_ceil,
    pow2_floor,
    show_value,
    simplest,
)

Strength = Literal["must", "should", "may"]

# ours: a list in a rule has about 5 items; checking a hostile one must end soon.
MAX_ITEMS = 200


class Frozen(BaseModel):
    """Part of a rule file: immutable, strict, and without unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        arbitrary_types_allowed=True,
        defer_build=True,  # rules from the cache need no validator
    )

    @model_validator(mode="before")
    @classmethod
    def _lists_become_tuples(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        for name, part in (("it", data), *data.items()):
            if isinstance(part, (dict, list)) and len(part) > MAX_ITEMS:
                raise PydanticCustomError(
                    "too_many",
                    "{message}",
                    {"message": f"`{name}` has {len(part)} items; at most {MAX_ITEMS} are allowed"},
                )
        return {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: Any, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        schema: dict[str, Any] = handler(core_schema)
        add_meanings(handler.resolve_ref_schema(schema), cls.__doc__ or "")
        return schema


def _hyperparameters(info: ValidationInfo) -> Mapping[str, HyperparameterDef]:
    """The hyperparameters known to the pack under validation."""
    context = info.context or {}
    known: Mapping[str, HyperparameterDef] = context.get("hyperparameters", HYPERPARAMETERS)
    return known


def _parse(text: str, info: ValidationInfo) -> Expression:
    try:
        return parse(text, _hyperparameters(info))
    except ExpressionError as error:
        raise PydanticCustomError(
            "expression", "{message}", {"message": error.message, "column": error.column}
        ) from None


def _condition(value: object, info: ValidationInfo) -> Expression:
    if isinstance(value, Expression):
        return value
    if not isinstance(value, str):
        raise PydanticCustomError(
            "condition",
            "{message}",
            {"message": f"a condition is an expression in quotes, not {value!r}"},
        )
    expression = _parse(value, info)
    if expression.kind != "bool":
        raise PydanticCustomError(
            "condition", "{message}", {"message": f"`{value}` is not true or false"}
        )
    return expression


def _numeric(value: object, info: ValidationInfo) -> Expression:
    if isinstance(value, Expression):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise PydanticCustomError(
            "number",
            "{message}",
            {"message": f"{value!r} is neither a number nor an expression in quotes"},
        )
    if not isinstance(value, str):
        if not abs(value) <= MAX_NUMBER:
            raise PydanticCustomError(
                "number", "{message}", {"message": f"numbers beyond {MAX_NUMBER:g} are not allowed"}
            )
        return constant(value)
    expression = _parse(value, info)
    if expression.kind != "num":
        raise PydanticCustomError("number", "{message}", {"message": f"`{value}` is not a number"})
    return expression


class _ExpressionSchema:
    """How an expression shows in the JSON Schema that editors read."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return handler(source)

    def __get_pydantic_json_schema__(
        self, core_schema: Any, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return self.schema


def _written(expression: Expression) -> float | str:
    """An expression as a rule file writes it."""
    if expression.names or expression.kind != "num":
        return expression.text
    value = expression.evaluate({})
    return value if isinstance(value, (int, float)) else expression.text


Condition = Annotated[
    Expression,
    PlainValidator(_condition),
    PlainSerializer(_written, return_type=Any),
    _ExpressionSchema({"type": "string", "description": "an expression that is true or false"}),
]
Number = Annotated[
    Expression,
    PlainValidator(_numeric),
    PlainSerializer(_written, return_type=Any),
    _ExpressionSchema({"anyOf": [{"type": "number"}, {"type": "string"}]}),
]


class Computed(Frozen):
    """A value given by an expression where plain text would be a literal.

    Attributes:
        expression: Reads facts and hyperparameters that are settled before this one.
    """

    expression: Annotated[
        Expression,
        PlainValidator(lambda v, info: v if isinstance(v, Expression) else _parse(str(v), info)),
        PlainSerializer(_written, return_type=Any),
        _ExpressionSchema({"type": "string"}),
    ]


Literalish = Annotated[bool | int | float | str, Field(union_mode="smart")]
# Values of facts or hyperparameters by name; editors complete the names.
Values = Annotated[dict[str, Literalish], KnownNames(facts=True)]


class FloatThen(Frozen):
    """A range of numbers; bounds and default may be expressions.

    Attributes:
        low: The smallest value that is worth a trial.
        high: The largest value that is worth a trial.
        default: The recommended value; without it, the middle of the range on its scale.
        sampling: The scale of the range: linear, or log where values act by factors.
    """

    low: Number
    high: Number
    default: Number | None = None
    sampling: Literal["linear", "log"] = "linear"


class IntThen(Frozen):
    """A range of whole numbers; computed bounds are rounded inwards.

    Attributes:
        low: The smallest value that is worth a trial.
        high: The largest value that is worth a trial.
        default: The recommended value; without it, the middle of the range on its scale.
        sampling: The scale of the range: linear, log, or powers of two only.
    """

    low: Number
    high: Number
    default: Number | None = None
    sampling: Literal["linear", "log", "power_of_two"] = "linear"


class ChoiceThen(Frozen):
    """One of several values, with optional weights in the same order.

    Attributes:
        values: The values that are worth a trial.
        default: The recommended value; without it, the one of the largest weight, or the first.
        weights: How likely each value is the best one, in the order of the values.
    """

    values: tuple[Literalish, ...] = Field(min_length=1)
    default: Literalish | Computed | None = None
    weights: tuple[Annotated[float, Field(strict=False)], ...] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.weights is not None:
            if len(self.weights) != len(self.values):
                raise ValueError(
                    f"{len(self.weights)} weights stand beside {len(self.values)} values"
                )
            if not all(0 <= weight <= MAX_NUMBER for weight in self.weights):
                raise ValueError(f"weights lie between 0 and {MAX_NUMBER:g}")
            if sum(self.weights) <= 0:
                raise ValueError("weights are not all zero")
        literal = not isinstance(self.default, Computed) and self.default is not None
        if literal and self.default not in self.values:
            raise ValueError(f"the default {self.default!r} is not among the values")
        return self


class Proposal(Frozen):
    """What a fired rule says of one hyperparameter, with its expressions evaluated."""

    range: Range
    value: Value
    weights: dict[str, float] | None = None


class Consequence(Frozen):
    """One line of `then`: a range for a hyperparameter, or a piece of advice.

    Attributes:
        hyperparameter: What the line is about.
        float: A range of numbers.
        int: A range of whole numbers.
        choice: Some values, one of which is best.
        fixed: The only value worth a trial; text is taken as it stands, and
            `{expression: ...}` is computed.
        strength: Where no override decides, `must` beats `should`, and `should` beats `may`.
        active_when: Values of other hyperparameters without which this one does nothing.
        advice: A sentence to the user, in a line without a hyperparameter.
    """

    hyperparameter: Annotated[str | None, WithJsonSchema(HYPERPARAMETER_NAME)] = None
    float_: FloatThen | None = Field(default=None, alias="float")
    int_: IntThen | None = Field(default=None, alias="int")
    choice: ChoiceThen | None = None
    fixed: Literalish | Computed | None = None
    strength: Strength = "should"
    active_when: Annotated[dict[str, tuple[Literalish, ...]], KnownNames(facts=False)] = Field(
        default_factory=dict
    )
    advice: str | None = None

    @field_validator("active_when", mode="before")
    @classmethod
    def _tuples(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: tuple(v) if isinstance(v, list) else (v,) for k, v in value.items()}

    @field_validator("hyperparameter")
    @classmethod
    def _known(cls, value: str | None, info: ValidationInfo) -> str | None:
        known = _hyperparameters(info)
        if value is not None and value not in known:
            hint = did_you_mean(value, known) or " Declare it under `hyperparameters` in pack.yaml."
            raise ValueError(f"`{value}` is not a hyperparameter.{hint}")
        return value

    @model_validator(mode="after")
    def _one_of_each(self, info: ValidationInfo) -> Self:
        given = [k for k in ("float_", "int_", "choice", "fixed") if getattr(self, k) is not None]
        names = ", ".join(k.rstrip("_") for k in given)
        if self.advice is not None:
            if self.hyperparameter is not None or given:
                raise ValueError("advice stands in a line of its own")
            return self
        if self.hyperparameter is None:
            raise ValueError("a line of `then` names a hyperparameter or gives advice")
        if len(given) != 1:
            raise ValueError(
                f"expected exactly one of float, int, choice, fixed; received {names or 'none'}"
            )
        self._check_kind(_hyperparameters(info)[self.hyperparameter])
        for parent in self.active_when:
            if parent not in _hyperparameters(info) or parent == self.hyperparameter:
                raise ValueError(f"active_when: `{parent}` is not another hyperparameter")
        return self

    def _check_kind(self, definition: HyperparameterDef) -> None:
        wrong = f"`{definition.name}` holds {definition.kind} values"
        if self.float_ is not None and definition.kind != "float":
            raise ValueError(f"{wrong}, so a float range does not fit")
        if self.int_ is not None and definition.kind not in ("int", "float"):
            raise ValueError(f"{wrong}, so an int range does not fit")
        literals: list[object] = list(self.choice.values) if self.choice else []
        if self.fixed is not None and not isinstance(self.fixed, Computed):
            literals.append(self.fixed)
        numeric = self.float_ or self.int_
        bounds = (numeric.low, numeric.high) if numeric else ()
        literals += [bound.evaluate({}) for bound in bounds if not bound.names]
        for literal in literals:
            if as_kind(literal, definition.kind) is None:
                raise ValueError(f"{wrong}, so {literal!r} does not fit")
            if not definition.allows(literal):  # type: ignore[arg-type]
                hint = did_you_mean(str(literal), definition.values)
                raise ValueError(
                    f"`{definition.name}` is {definition.domain}, not {literal!r}.{hint}"
                )
        computed = self.fixed if self.fixed is not None else self.choice and self.choice.default
        if isinstance(computed, Computed):
            kind = {"int": "num", "float": "num"}.get(definition.kind, definition.kind)
            if computed.expression.kind != kind:
                raise ValueError(f"{wrong}, so `{computed.expression.text}` does not fit")

    @property
    def expressions(self) -> tuple[Expression, ...]:
        """Every expression of this line."""
        found: list[Expression] = []
        for part in (self.float_, self.int_):
            if part is not None:
                found += [e for e in (part.low, part.high, part.default) if e is not None]
        for value in (self.fixed, self.choice.default if self.choice else None):
            if isinstance(value, Computed):
                found.append(value.expression)
        return tuple(found)

    def propose(self, names: Names) -> Proposal | Unknown:
        """Evaluate the line for known facts and settled hyperparameters.

        Raises:
            RangeError: If computed bounds leave no value.
        """
        if self.fixed is not None:
            value = _evaluate(self.fixed, names)
            if isinstance(value, Unknown):
                return value
            return Proposal(range=Fixed(value=self._typed(value)), value=self._typed(value))
        if self.choice is not None:
            return _propose_choice(self.choice, names)
        numeric = self.float_ or self.int_
        assert numeric is not None
        return _propose_number(numeric, names)

    def _typed(self, value: Value) -> Value:
        definition = HYPERPARAMETERS.get(self.hyperparameter or "")
        if definition is None:
            return value
        if definition.kind == "int" and isinstance(value, float):
            return round(value)
        typed = as_kind(value, definition.kind)
        return value if typed is None else typed


def _evaluate(value: Value | Computed, names: Names) -> Value | Unknown:
    if not isinstance(value, Computed):
        return value
    result = value.expression.evaluate(names)
    assert not isinstance(result, tuple)
    return result


def _propose_choice(then: ChoiceThen, names: Names) -> Proposal | Unknown:
    choice = Choice(values=then.values)
    value = then.values[0]
    if then.default is not None:
        default = _evaluate(then.default, names)
        if isinstance(default, Unknown):
            return default
        value = default
    elif then.weights:
        value = then.values[then.weights.index(max(then.weights))]
    weights = None
    if then.weights is not None:
        weights = {show_value(v): w for v, w in zip(then.values, then.weights, strict=True)}
    return Proposal(range=simplest(choice), value=choice.clamp(value), weights=weights)


def _propose_number(then: FloatThen | IntThen, names: Names) -> Proposal | Unknown:
    low, high = then.low.evaluate(names), then.high.evaluate(names)
    default = None if then.default is None else then.default.evaluate(names)
    unknown = [x for x in (low, high, default) if isinstance(x, Unknown)]
    if unknown:
        return unknown[0]
    range_: Range
    if isinstance(then, FloatThen):
        range_ = FloatRange(low=float(low), high=float(high), sampling=then.sampling)  # type: ignore[arg-type]
    else:
        range_ = _whole(float(low), float(high), then.sampling)  # type: ignore[arg-type]
    value = range_.from_unit(0.5) if default is None else range_.clamp(default)  # type: ignore[arg-type]
    return Proposal(range=simplest(range_), value=value)


def _whole(low: float, high: float, sampling: Literal["linear", "log", "power_of_two"]) -> IntRange:
    if sampling == "power_of_two":
        return IntRange(low=pow2_ceil(low), high=pow2_floor(high), sampling=sampling)
    # A tiny slack, so that 3.0000000001 from a division still means 3.
    first, last = -int(-(low - 1e-9) // 1), int((high + 1e-9) // 1)
    return IntRange(low=first, high=last, sampling=sampling)
