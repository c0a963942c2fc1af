"""Graphs of TensorFlow as text that is equal for graphs that compute the same.

Names do not count, since Keras numbers those of layers anew for each model; nor do the scalar
floating-point constants, which programs take as inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from smarttune.execution.program import digest

_LIFTED = ("float32", "float64", "bfloat16", "float16")


def is_lifted(node: Any) -> bool:
    """Whether a node is a constant with a single floating-point number."""
    if node.op != "Const":
        return False
    return (
        tf.as_dtype(node.attr["dtype"].type).name in _LIFTED
        and not node.attr["value"].tensor.tensor_shape.dim
    )


class GraphText:
    """Texts of a graph and of the functions that it calls.

    Args:
        library: Their definitions.
    """

    def __init__(self, library: Any) -> None:
        self._functions = {f.signature.name: f for f in library.function}
        self._known: dict[str, str] = {}

    def of(
        self,
        nodes: Iterable[Any],
        places: Mapping[str, str],
        ends: Iterable[str],
        *,
        lifts: bool = True,
    ) -> str:
        """The text of a graph.

        Args:
            nodes: Its nodes in the order of their creation.
            places: What inputs stand for, by their names.
            ends: Tensors that it returns.
            lifts: Whether its scalar constants are inputs; those of called functions are not.
        """
        nodes = list(nodes)
        numbers = {node.name: str(i) for i, node in enumerate(nodes)}

        def tensor(name: str) -> str:
            sign, name = ("^", name[1:]) if name.startswith("^") else ("", name)
            node, _, output = name.partition(":")
            return f"{sign}{places.get(node) or numbers[node]}:{output if output != '0' else ''}"

        def inputs(node: Any) -> str:
            # What must only have run before comes out of a set, in any order.
            before = sorted(tensor(name) for name in node.input if name.startswith("^"))
            given = [tensor(name) for name in node.input if not name.startswith("^")]
            return ", ".join([*given, *before])

        lines = [
            f"{places.get(node.name, node.op)}({inputs(node)})"
            f"{self._attributes(node, lifted=lifts and is_lifted(node))}"
            for node in nodes
        ]
        return digest(*lines, *map(tensor, ends))

    def _attributes(self, node: Any, *, lifted: bool) -> str:
        """What a node is told beside its inputs; names of underscored attributes are numbered."""
        told = []
        for name, value in sorted(node.attr.items()):
            if name.startswith("_") or (lifted and name == "value"):
                continue
            if value.WhichOneof("value") == "func":
                text = self._function(value.func.name)
            elif value.list.func:
                text = ", ".join(self._function(f.name) for f in value.list.func)
            else:
                text = value.SerializeToString(deterministic=True).hex()
            told.append(f"{name}={text}")
        return " ".join(told)

    def _function(self, name: str) -> str:
        """The text of a function that a node calls."""
        if name not in self._known:
            self._known[name] = "itself"  # what a function that calls itself reads
            function = self._functions[name]
            places = {
                argument.name: f"argument {i} {argument.type}"
                for i, argument in enumerate(function.signature.input_arg)
            }
            ends = [
                *(function.ret[a.name] for a in function.signature.output_arg),
                *(f"^{node}" for node in sorted(function.control_ret.values())),
            ]
            self._known[name] = self.of(function.node_def, places, ends, lifts=False)
        return self._known[name]
