"""An expression with its values: why a condition held, for a person to read."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from smarttune.facts import FACTS
from smarttune.rulebook.logic import Evaluate, Names, Unknown
from smarttune.space import show_value

Parts = Mapping[ast.expr, Evaluate]

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


def trace(node: ast.expr, names: Names, parts: Parts) -> str:
    """Return an expression with the values that decided it.

    Args:
        node: Its syntax tree.
        names: Known facts and settled hyperparameters.
        parts: How to evaluate each part of the tree.
    """
    if isinstance(node, ast.BoolOp):
        word = " and " if isinstance(node.op, ast.And) else " or "
        return word.join(_grouped(part, names, parts) for part in node.values)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return f"not {_grouped(node.operand, names, parts)}"
    if isinstance(node, ast.Compare):
        if (plain := _plain_equality(node, names)) is not None:
            return plain
        pieces = [_operand(node.left, names, parts)]
        for op, right in zip(node.ops, node.comparators, strict=True):
            pieces += [SYMBOLS[type(op)], _operand(right, names, parts)]
        return " ".join(pieces)
    return _operand(node, names, parts)


def _plain_equality(node: ast.Compare, names: Names) -> str | None:
    """`data.task = 'image', not 'tabular'` for the commonest of conditions."""
    name, right = dotted(node.left), node.comparators[0]
    if len(node.ops) > 1 or name is None or not isinstance(right, ast.Constant):
        return None
    if not isinstance(node.ops[0], (ast.Eq, ast.NotEq)) or name not in names:
        return None
    value, wanted = _shown(names[name]), _shown(right.value)
    return f"{name} = {value}" + ("" if value == wanted else f", not {wanted}")


def _grouped(node: ast.expr, names: Names, parts: Parts) -> str:
    text = trace(node, names, parts)
    return f"({text})" if isinstance(node, ast.BoolOp) else text


def _operand(node: ast.expr, names: Names, parts: Parts) -> str:
    """`text = text with values = value`, leaving out what says nothing new."""
    if isinstance(node, (ast.Constant, ast.Tuple, ast.List)):
        return ast.unparse(node)
    text, filled = ast.unparse(node), _filled(node, names)
    value = parts[node](names)
    shown = "unknown" if isinstance(value, Unknown) else _shown(value)
    return " = ".join(dict.fromkeys((text, filled, shown)))


def _filled(node: ast.expr, names: Names) -> str:
    class Fill(ast.NodeTransformer):
        def _swap(self, word: Any) -> Any:
            name = dotted(word)
            if name is None or (name not in FACTS and name not in names and "." not in name):
                return self.generic_visit(word)
            value = names.get(name)
            return ast.Name("unknown" if value is None else _shown(value))

        # The names that ast.NodeTransformer calls.
        def visit_Name(self, node: ast.Name) -> Any:
            return self._swap(node)

        def visit_Attribute(self, node: ast.Attribute) -> Any:
            return self._swap(node)

        def visit_Call(self, call: ast.Call) -> ast.AST:
            call.args = [self.visit(argument) for argument in call.args]
            return call

    return ast.unparse(Fill().visit(ast.parse(ast.unparse(node), mode="eval").body))


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else show_value(value)
