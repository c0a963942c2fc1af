"""An expression with its values: why a condition held, for a person to read."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from smarttune.rulebook.logic import Evaluate, Names, Unknown
from smarttune.space import show_value

Parts = Mapping[ast.expr, Evaluate]
Tracer = Callable[[Names], str]

_CUT = "\x00"  # no expression holds it

SYMBOLS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
}


def dotted(node: ast.expr) -> str | None:
    """`a.b.c` as one word, or None for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


def tracer(node: ast.expr, parts: Parts) -> Tracer:
    """Return what writes an expression with the values that decided it.

    Whatever does not depend on the values is written once, here.

    Args:
        node: Its syntax tree.
        parts: How to evaluate each part of the tree.
    """
    if isinstance(node, ast.BoolOp):
        word = " and " if isinstance(node.op, ast.And) else " or "
        pieces = [_grouped(part, parts) for part in node.values]
        return lambda names: word.join([piece(names) for piece in pieces])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        denied = _grouped(node.operand, parts)
        return lambda names: f"not {denied(names)}"
    if isinstance(node, ast.Compare):
        return _comparison(node, parts)
    return _operand(node, parts)


def _comparison(node: ast.Compare, parts: Parts) -> Tracer:
    sides = [_operand(side, parts) for side in (node.left, *node.comparators)]
    symbols = ["", *(f" {SYMBOLS[type(op)]} " for op in node.ops)]

    def full(names: Names) -> str:
        return "".join([s + side(names) for s, side in zip(symbols, sides, strict=True)])

    return _equality(node, full) or full


def _equality(node: ast.Compare, full: Tracer) -> Tracer | None:
    """`data.task = 'image', not 'tabular'` for the commonest of conditions."""
    name, right = dotted(node.left), node.comparators[0]
    if len(node.ops) > 1 or name is None or not isinstance(right, ast.Constant):
        return None
    if not isinstance(node.ops[0], (ast.Eq, ast.NotEq)):
        return None
    wanted = _shown(right.value)

    def plain(names: Names) -> str:
        if name not in names:
            return full(names)
        value = _shown(names[name])
        return f"{name} = {value}" + ("" if value == wanted else f", not {wanted}")

    return plain


def _grouped(node: ast.expr, parts: Parts) -> Tracer:
    inner = tracer(node, parts)
    return (lambda names: f"({inner(names)})") if isinstance(node, ast.BoolOp) else inner


def _operand(node: ast.expr, parts: Parts) -> Tracer:
    """`text = text with values = value`, leaving out what says nothing new."""
    text = ast.unparse(node)
    if isinstance(node, (ast.Constant, ast.Tuple, ast.List)):
        return lambda names: text
    pieces, evaluate = _pieces(node), parts[node]

    def operand(names: Names) -> str:
        value = evaluate(names)
        shown = "unknown" if isinstance(value, Unknown) else _shown(value)
        return " = ".join(dict.fromkeys((text, _filled(pieces, names), shown)))

    return operand


def _filled(pieces: list[str], names: Names) -> str:
    """Literal text and names in turn, with values for the names."""
    filled = list(pieces)
    for i in range(1, len(pieces), 2):
        value = names.get(pieces[i])
        filled[i] = "unknown" if value is None else _shown(value)
    return "".join(filled)


def _pieces(node: ast.expr) -> list[str]:
    """The expression's text, cut around its names: literal, name, literal, ..."""

    class Mark(ast.NodeTransformer):
        def _mark(self, word: Any) -> Any:
            name = dotted(word)
            return self.generic_visit(word) if name is None else ast.Name(f"{_CUT}{name}{_CUT}")

        # The names that ast.NodeTransformer calls.
        def visit_Name(self, node: ast.Name) -> Any:
            return self._mark(node)

        def visit_Attribute(self, node: ast.Attribute) -> Any:
            return self._mark(node)

        def visit_Call(self, call: ast.Call) -> ast.AST:
            call.args = [self.visit(argument) for argument in call.args]
            return call

    copy = ast.parse(ast.unparse(node), mode="eval").body
    return ast.unparse(Mark().visit(copy)).split(_CUT)


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else show_value(value)
