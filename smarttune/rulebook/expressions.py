"""The language of conditions and computed values in rules.

Python-flavoured text over a short whitelist, parsed once, typed against the
vocabulary when it is loaded, three-valued when it is evaluated. There is no
attribute access (a dotted name is one word), no subscript, no call but those in
`FUNCTIONS`, and the size is bounded, so a rule pack cannot run code or stall.
"""

from __future__ import annotations

import ast
import math
import operator
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from smarttune.errors import did_you_mean
from smarttune.facts import FACTS
from smarttune.rulebook.logic import (
    MAX_NUMBER,
    Evaluate,
    Names,
    Result,
    Unknown,
    all_hold,
    compared,
    compared_name,
    strict,
)
from smarttune.rulebook.trace import SYMBOLS, Parts, Tracer, dotted, tracer
from smarttune.rulebook.units import Unit, combine, parse_unit, unit_text
from smarttune.space import (
    HYPERPARAMETERS,
    HyperparameterDef,
    pow2_ceil,
    pow2_floor,
    pow2_round,
)

# ours: bounds far above any sensible rule, so that a hostile pack fails fast.
MAX_CHARACTERS = 500
MAX_NODES = 200
MAX_DEPTH = 30


class ExpressionError(ValueError):
    """An expression is not one of the language; `column` counts from 1."""

    def __init__(self, message: str, column: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.column = column


@dataclass(frozen=True)
class _Typed:
    """A compiled node: how to evaluate it, its type and its unit."""

    run: Evaluate
    kind: str  # num | str | bool | tuple
    unit: Unit = None


FUNCTIONS: dict[str, tuple[int, Callable[..., float]]] = {
    # name: (number of arguments, at least one where negative; function)
    "log": (1, math.log),
    "log2": (1, math.log2),
    "exp": (1, math.exp),
    "sqrt": (1, math.sqrt),
    "pow": (2, math.pow),
    "abs": (1, abs),
    "floor": (1, math.floor),
    "ceil": (1, math.ceil),
    "round": (1, round),
    "min": (-1, min),
    "max": (-1, max),
    "clamp": (3, lambda x, low, high: min(max(x, low), high)),
    "pow2_floor": (1, pow2_floor),
    "pow2_ceil": (1, pow2_ceil),
    "pow2_round": (1, pow2_round),
}
_KEEPS_UNIT = {"abs", "floor", "ceil", "round", "min", "max", "clamp"} | {
    "pow2_floor",
    "pow2_ceil",
    "pow2_round",
}
SPECIAL = ("opt", "known")

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda a, b: a in b,
    "not in": lambda a, b: a not in b,
}
_ARITHMETIC = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Mod: ("%", operator.mod),
}
_KINDS = {"float": "num", "int": "num", "str": "str", "bool": "bool"}
_ARTICLE = {"num": "a number", "str": "text", "bool": "true or false", "tuple": "a list"}


@dataclass(frozen=True)
class _Code:
    """What an expression was compiled to."""

    run: Evaluate
    tree: ast.expr
    parts: Parts


@dataclass(frozen=True)
class Expression:
    """A checked expression.

    Attributes:
        text: As written.
        kind: Type of its value: num, str or bool.
        names: Facts and hyperparameters that it reads.
        code: What it was compiled to; one that was checked in an earlier process is compiled
            when it is first evaluated.
    """

    text: str
    kind: str
    names: frozenset[str]
    code: _Code | None = None

    @cached_property
    def _code(self) -> _Code:
        code = self.code if self.code is not None else _parse_canonical(self.text).code
        assert code is not None
        return code

    @cached_property
    def evaluate(self) -> Callable[[Names], Result]:
        """Returns the value for the known names, or `Unknown`."""
        return self._code.run

    @cached_property
    def trace(self) -> Tracer:
        """Returns the expression with the values that decided it.

        For example `data.num_samples / data.words_per_sample = 7440 / 18 = 413 < 1500`.
        """
        return tracer(self._code.tree, self._code.parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


def constant(value: float) -> Expression:
    """An expression that is the number `value`."""
    code = _Code(lambda names: value, ast.Constant(value), {})
    return Expression(repr(value), "num", frozenset(), code)


def parse(
    text: str, hyperparameters: Mapping[str, HyperparameterDef] = HYPERPARAMETERS
) -> Expression:
    """Parse and check an expression.

    Args:
        text: The expression.
        hyperparameters: The hyperparameters that it may name beside the facts.

    Raises:
        ExpressionError: If it is too large, is not of the language, names something
            unknown, or mixes types or units.
    """
    if len(hyperparameters) == len(HYPERPARAMETERS):  # a pack can only add to them
        return _parse_canonical(text)
    return _parse(text, hyperparameters)


@lru_cache(maxsize=4096)
def _parse_canonical(text: str) -> Expression:
    """Parse against the canonical vocabulary; rules share many of their conditions."""
    return _parse(text, HYPERPARAMETERS)


def _parse(text: str, hyperparameters: Mapping[str, HyperparameterDef]) -> Expression:
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(
            f"the expression has {len(text)} characters; at most {MAX_CHARACTERS} are allowed"
        )
    if "\\" in text or "\x00" in text:
        raise ExpressionError("a backslash is not allowed", max(text.find("\\"), 0) + 1)
    if not text.isascii() and unicodedata.normalize("NFKC", text) != text:
        # Python would read these as other characters: a full-width letter as a plain one.
        twin = next(i for i, c in enumerate(text) if unicodedata.normalize("NFKC", c) != c)
        raise ExpressionError(f"the character {text[twin]!a} only looks like another", twin + 1)
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ExpressionError(f"not an expression: {error.msg}", error.offset or 1) from None
    except (ValueError, RecursionError, MemoryError):
        raise ExpressionError("the expression is nested too deeply") from None
    compiler = _Compiler(hyperparameters)
    typed = compiler.compile(tree)
    if typed.kind.startswith("tuple"):
        raise ExpressionError("a list may stand only after `in`")
    code = _Code(typed.run, tree, compiler.parts)
    return Expression(text.strip(), typed.kind, frozenset(compiler.names), code)


class _Compiler:
    """Turns a syntax tree into closures while it checks names, types and units."""

    def __init__(self, hyperparameters: Mapping[str, HyperparameterDef]) -> None:
        self.hyperparameters = hyperparameters
        self.names: set[str] = set()
        self.parts: dict[ast.expr, Evaluate] = {}

    def compile(self, node: ast.expr, depth: int = 0) -> _Typed:
        if len(self.parts) > MAX_NODES or depth > MAX_DEPTH:
            raise ExpressionError("the expression is nested too deeply or has too many parts")
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise _refuse(node, f"{_snippet(node)} is not allowed in a rule")
        typed: _Typed = method(node, depth + 1)
        self.parts[node] = typed.run
        return typed

    def _constant(self, node: ast.Constant, depth: int) -> _Typed:
        value = node.value
        if isinstance(value, bool):
            return _Typed(lambda names: value, "bool")
        if isinstance(value, (int, float)):
            if not abs(value) <= MAX_NUMBER:
                raise _refuse(node, f"numbers beyond {MAX_NUMBER:g} are not allowed")
            return _Typed(lambda names: value, "num")
        if isinstance(value, str):
            return _Typed(lambda names: value, "str")
        raise _refuse(node, f"{_snippet(node)} is not allowed in a rule")

    def _name(self, node: ast.Name, depth: int) -> _Typed:
        return self._word(node)

    def _attribute(self, node: ast.Attribute, depth: int) -> _Typed:
        return self._word(node)

    def _word(self, node: ast.expr) -> _Typed:
        name = dotted(node)
        if name is None:
            raise _refuse(node, f"{_snippet(node)} is not allowed in a rule")
        definition = FACTS.get(name) or self.hyperparameters.get(name)
        if definition is None:
            known = [*FACTS, *self.hyperparameters]
            hint = did_you_mean(name, known) or " `smarttune rules facts` lists them."
            raise _refuse(node, f"`{name}` is neither a fact nor a hyperparameter.{hint}")
        self.names.add(name)
        missing = Unknown(frozenset({name}))
        return _Typed(
            lambda names: names.get(name, missing),
            _KINDS[definition.kind],
            parse_unit(definition.unit) if definition.kind in ("int", "float") else None,
        )

    def _tuple(self, node: ast.Tuple | ast.List, depth: int) -> _Typed:
        items = [self.compile(item, depth) for item in node.elts]
        if not all(isinstance(item, ast.Constant) for item in node.elts) or not items:
            raise _refuse(node, "a list holds one or more literal values")
        values = _literal(node)
        if len({item.kind for item in items}) != 1:
            raise _refuse(node, "a list holds values of one type")
        return _Typed(lambda names: values, "tuple:" + items[0].kind)

    _list = _tuple

    def _boolop(self, node: ast.BoolOp, depth: int) -> _Typed:
        parts = [self.compile(value, depth) for value in node.values]
        for value, part in zip(node.values, parts, strict=True):
            _expect(value, part, "bool")
        runs = [part.run for part in parts]
        decisive = isinstance(node.op, ast.Or)  # what one operand alone decides

        def run(names: Names) -> bool | Unknown:
            unknown: Unknown | None = None
            for evaluate in runs:
                value = evaluate(names)
                if isinstance(value, Unknown):
                    unknown = value if unknown is None else unknown | value
                elif bool(value) is decisive:
                    return decisive
            return (not decisive) if unknown is None else unknown

        return _Typed(run, "bool")

    def _unaryop(self, node: ast.UnaryOp, depth: int) -> _Typed:
        part = self.compile(node.operand, depth)
        if isinstance(node.op, ast.Not):
            _expect(node.operand, part, "bool")
            return _Typed(strict(operator.not_, [part.run]), "bool")
        if isinstance(node.op, ast.USub):
            _expect(node.operand, part, "num")
            return _Typed(strict(operator.neg, [part.run]), "num", part.unit)
        raise _refuse(node, "only `not` and `-` may stand before a value")

    def _binop(self, node: ast.BinOp, depth: int) -> _Typed:
        left, right = self.compile(node.left, depth), self.compile(node.right, depth)
        if type(node.op) not in _ARITHMETIC:
            raise _refuse(node, "this operator is not allowed; use + - * / // % or pow(x, y)")
        _expect(node.left, left, "num")
        _expect(node.right, right, "num")
        symbol, function = _ARITHMETIC[type(node.op)]
        if symbol in "+-%":
            unit = _same_unit(node, left.unit, right.unit)
        else:
            unit = combine(left.unit, right.unit, 1 if symbol == "*" else -1)
        return _Typed(strict(function, [left.run, right.run]), "num", unit)

    def _compare(self, node: ast.Compare, depth: int) -> _Typed:
        nodes = [node.left, *node.comparators]
        parts = [self.compile(part, depth) for part in nodes]
        tests: list[Evaluate] = []
        for i, op in enumerate(node.ops):
            symbol = SYMBOLS.get(type(op))
            if symbol is None:
                raise _refuse(node, "this comparison is not allowed; use == != < <= > >= or in")
            self._check_pair(nodes[i], parts[i], symbol, nodes[i + 1], parts[i + 1])
            name, literal = dotted(nodes[i]), _literal(nodes[i + 1])
            tests.append(
                compared(_COMPARE[symbol], parts[i].run, parts[i + 1].run)
                if name is None or literal is None
                else compared_name(_COMPARE[symbol], name, literal)
            )
        return _Typed(tests[0] if len(tests) == 1 else all_hold(tests), "bool")

    def _check_pair(
        self, left_node: ast.expr, left: _Typed, symbol: str, right_node: ast.expr, right: _Typed
    ) -> None:
        kind = right.kind
        if symbol in ("in", "not in"):
            if not kind.startswith("tuple:"):
                raise _refuse(right_node, '`in` needs a list such as ("a", "b")')
            kind = kind.removeprefix("tuple:")
        if left.kind != kind:
            raise _refuse(
                left_node,
                f"cannot compare {_snippet(left_node)} ({_ARTICLE.get(left.kind, 'a list')}) "
                f"with {_snippet(right_node)} ({_ARTICLE.get(kind, 'a list')})",
            )
        if symbol in ("<", "<=", ">", ">=") and kind != "num":
            raise _refuse(left_node, f"`{symbol}` compares numbers only")
        if kind == "num":
            _same_unit(left_node, left.unit, right.unit)
        for a, b in ((left_node, right_node), (right_node, left_node)):
            _check_allowed(a, b)

    def _ifexp(self, node: ast.IfExp, depth: int) -> _Typed:
        test = self.compile(node.test, depth)
        body, other = self.compile(node.body, depth), self.compile(node.orelse, depth)
        _expect(node.test, test, "bool")
        if body.kind != other.kind:
            raise _refuse(node, "both sides of `if ... else` must have one type")
        unit = _same_unit(node, body.unit, other.unit) if body.kind == "num" else None

        def run(names: Names) -> Result:
            choice = test.run(names)
            if isinstance(choice, Unknown):
                return choice
            result: Result = body.run(names) if choice else other.run(names)
            return result

        return _Typed(run, body.kind, unit)

    def _call(self, node: ast.Call, depth: int) -> _Typed:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in FUNCTIONS and name not in SPECIAL:
            known = [*FUNCTIONS, *SPECIAL]
            raise _refuse(
                node,
                f"{_snippet(node.func)} is not a function of the language ({', '.join(known)})."
                f"{did_you_mean(name, known)}",
            )
        if node.keywords or any(isinstance(a, ast.Starred) for a in node.args):
            raise _refuse(node, f"`{name}` takes plain arguments only")
        parts = [self.compile(argument, depth) for argument in node.args]
        if name in SPECIAL:
            return self._special(name, node, parts)
        arity, function = FUNCTIONS[name]
        if len(parts) != arity and not (arity < 0 and len(parts) >= -arity):
            raise _refuse(node, f"`{name}` takes {abs(arity)} argument(s), not {len(parts)}")
        unit: Unit = None
        for argument, part in zip(node.args, parts, strict=True):
            _expect(argument, part, "num")
            if name in _KEEPS_UNIT:
                unit = _same_unit(argument, unit, part.unit)
        if arity < 0 and len(parts) == 1:
            raise _refuse(node, f"`{name}` needs two or more arguments")
        return _Typed(strict(function, [part.run for part in parts]), "num", unit)

    def _special(self, name: str, node: ast.Call, parts: list[_Typed]) -> _Typed:
        if len(parts) != (2 if name == "opt" else 1) or dotted(node.args[0]) is None:
            raise _refuse(node, "write known(name) or opt(name, default)")
        first = parts[0]
        if name == "known":
            return _Typed(lambda names: not isinstance(first.run(names), Unknown), "bool")
        _expect(node.args[1], parts[1], first.kind)
        unit = _same_unit(node, first.unit, parts[1].unit) if first.kind == "num" else None
        default = parts[1].run

        def run(names: Names) -> Result:
            value: Result = first.run(names)
            if isinstance(value, Unknown):
                value = default(names)
            return value

        return _Typed(run, first.kind, unit)


def _literal(node: ast.expr) -> Any:
    """The value of a literal or of a list of them, None for anything else."""
    if isinstance(node, (ast.Tuple, ast.List)):
        return tuple(item.value for item in node.elts if isinstance(item, ast.Constant))
    return node.value if isinstance(node, ast.Constant) else None


def _snippet(node: ast.expr) -> str:
    """A part of an expression in quotes, shortened; one that is too deep to print is told so."""
    try:
        text = ast.unparse(node)
    except RecursionError:
        return "a deeply nested part"
    return f"`{text[:60]}`"


def _refuse(node: ast.expr, message: str) -> ExpressionError:
    return ExpressionError(message, node.col_offset + 1)


def _expect(node: ast.expr, part: _Typed, kind: str) -> None:
    if part.kind != kind:
        raise _refuse(
            node,
            f"{_snippet(node)} is {_ARTICLE.get(part.kind, 'a list')} "
            f"where {_ARTICLE[kind]} is needed",
        )


def _check_allowed(name_node: ast.expr, value_node: ast.expr) -> None:
    """A literal compared with a fact of a closed set must be one of its values."""
    definition = FACTS.get(dotted(name_node) or "")
    if definition is None or not definition.values:
        return
    literals = value_node.elts if isinstance(value_node, (ast.Tuple, ast.List)) else [value_node]
    for literal in literals:
        if isinstance(literal, ast.Constant) and literal.value not in definition.values:
            raise _refuse(
                literal,
                f"`{definition.name}` is never {literal.value!r}; "
                f"it is one of {', '.join(definition.values)}."
                f"{did_you_mean(str(literal.value), definition.values)}",
            )


def _same_unit(node: ast.expr, a: Unit, b: Unit) -> Unit:
    if a is None or b is None:
        return b if a is None else a
    if a != b:
        raise _refuse(
            node,
            f"{_snippet(node)} mixes units: {unit_text(a)} and {unit_text(b)}; "
            "divide one by the other to compare a ratio",
        )
    return a
