"""Traces of JAX as tapes: their equations in a row, calls opened, scalar constants as inputs.

A tape has a text, equal for tapes that differ in those constants only, and can be played with
other constants in their place, inside whatever transformation is at work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from smarttune.execution.program import digest

# Calls that only wrap equations, and where these stand. Rules of differentiation have done their
# work when a training step is traced.
_CALLS = {
    "pjit": "jaxpr",
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "remat": "jaxpr",
    "checkpoint": "jaxpr",
}

# Loops and branches, whose bodies become tapes of their own.
_BODIES = {"scan": ("jaxpr",), "while": ("cond_jaxpr", "body_jaxpr"), "cond": ("branches",)}

# Parameters that say where an equation comes from, not what it computes.
_ORIGIN = frozenset({"name", "debug_info", "ctx_mesh", "compiler_options_kvs", "donated_invars"})

# What an equation reads: a place on the tape, or one of the numbers.
_Place = tuple[str, int]


@dataclass
class _Line:
    primitive: Any
    params: Mapping[str, Any]
    inputs: tuple[_Place, ...]
    outputs: tuple[int, ...]
    bodies: tuple[Tape, ...] = ()


@dataclass
class Tape:
    """Equations in a row.

    Attributes:
        num_inputs: Places that are given.
        lines: The equations.
        outputs: Where the results are read.
        constants: Arrays that the trace held on to, and scalars that are no numbers.
        numbers: All scalar floating-point constants so far; bodies share them.
        types: Their types.
        num_bytes: What the results of all equations take together.
    """

    numbers: list[float]
    types: list[Any]
    num_inputs: int = 0
    lines: list[_Line] = field(default_factory=list)
    outputs: tuple[_Place, ...] = ()
    constants: list[Any] = field(default_factory=list)
    num_bytes: int = 0
    _num_places: int = 0

    @classmethod
    def of(cls, jaxpr: Any, numbers: list[float], types: list[Any]) -> Tape:
        """The tape of a trace; its numbers are added to those given."""
        tape = cls(numbers, types, num_inputs=len(jaxpr.jaxpr.invars))
        tape._num_places = tape.num_inputs
        tape.outputs = tuple(tape._open(jaxpr, [("place", i) for i in range(tape.num_inputs)]))
        return tape

    def _open(self, jaxpr: Any, given: Sequence[_Place]) -> list[_Place]:
        """Write the equations of a trace onto the tape; returns where its results are."""
        consts: Sequence[Any] = ()
        if isinstance(jaxpr, ClosedJaxpr):
            consts, jaxpr = jaxpr.consts, jaxpr.jaxpr
        where: dict[Any, _Place] = dict(zip(jaxpr.invars, given, strict=True))
        where |= {v: self._constant(c) for v, c in zip(jaxpr.constvars, consts, strict=True)}

        def place(v: Any) -> _Place:
            return self._constant(v.val, v.aval.dtype) if isinstance(v, Literal) else where[v]

        for equation in jaxpr.eqns:
            inputs = [place(v) for v in equation.invars]
            name = equation.primitive.name
            inner = equation.params.get(_CALLS.get(name, ""))
            if isinstance(inner, (ClosedJaxpr, Jaxpr)):
                results = self._open(inner, inputs)
            else:
                results = self._write(equation, tuple(inputs))
            where.update(zip(equation.outvars, results, strict=True))
        return [place(v) for v in jaxpr.outvars]

    def _write(self, equation: Any, inputs: tuple[_Place, ...]) -> list[_Place]:
        """Write one equation."""
        outputs = tuple(range(self._num_places, self._num_places + len(equation.outvars)))
        self._num_places += len(outputs)
        self.num_bytes += sum(v.aval.size * v.aval.dtype.itemsize for v in equation.outvars)
        bodies: list[Tape] = []
        for name in _BODIES.get(equation.primitive.name, ()):
            found = equation.params[name]
            several = found if isinstance(found, tuple) else (found,)
            bodies += [Tape.of(body, self.numbers, self.types) for body in several]
        self.lines.append(
            _Line(equation.primitive, equation.params, inputs, outputs, tuple(bodies))
        )
        return [("place", i) for i in outputs]

    def _constant(self, value: Any, dtype: Any = None) -> _Place:
        """Where a constant stands: among the numbers, or on the tape."""
        array = np.asarray(value)
        dtype = array.dtype if dtype is None else dtype
        if array.ndim == 0 and jax.numpy.issubdtype(dtype, jax.numpy.floating):
            self.numbers.append(float(array))
            self.types.append(dtype)
            return "number", len(self.numbers) - 1
        self.constants.append(value)
        return "constant", len(self.constants) - 1

    def has(self, primitive: str) -> bool:
        """Whether an operation is among the equations, those within loops apart."""
        return any(line.primitive.name == primitive for line in self.lines)

    def text(self) -> str:
        """What is equal for tapes that differ in numbers only."""
        lines = [
            f"{line.outputs} {line.primitive.name} {line.inputs} {_told(line)}"
            f" {[body.text() for body in line.bodies]}"
            for line in self.lines
        ]
        held = [_hashed(c) for c in self.constants]
        return digest(self.num_inputs, *lines, self.outputs, *held)

    def play(self, inputs: Sequence[Any], numbers: Any) -> list[Any]:
        """Compute the results.

        Args:
            inputs: What the trace took.
            numbers: The constants, an array of all of them.
        """
        places: dict[int, Any] = dict(enumerate(inputs))

        def read(place: _Place) -> Any:
            kind, i = place
            if kind == "number":
                return jax.numpy.asarray(numbers[i], self.types[i])
            return places[i] if kind == "place" else self.constants[i]

        for line in self.lines:
            results = _played(line, [read(place) for place in line.inputs], numbers)
            places.update(zip(line.outputs, results, strict=True))
        return [read(place) for place in self.outputs]


def _played(line: _Line, inputs: list[Any], numbers: Any) -> Sequence[Any]:
    """The results of one equation."""
    if line.bodies:
        return _LOOPS[line.primitive.name](line, inputs, numbers)
    bound = line.primitive.get_bind_params(line.params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    results = line.primitive.bind(*functions, *inputs, **params)
    return results if line.primitive.multiple_results else [results]


def _scan(line: _Line, inputs: list[Any], numbers: Any) -> list[Any]:
    params, (body,) = line.params, line.bodies
    num_consts, num_carry = params["num_consts"], params["num_carry"]
    consts, carry = inputs[:num_consts], inputs[num_consts : num_consts + num_carry]

    def step(carry: tuple[Any, ...], x: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        results = body.play([*consts, *carry, *x], numbers)
        return tuple(results[:num_carry]), tuple(results[num_carry:])

    options = {name: params[name] for name in ("length", "reverse", "unroll")}
    last, rows = jax.lax.scan(
        step, tuple(carry), tuple(inputs[num_consts + num_carry :]), **options
    )
    return [*last, *rows]


def _while(line: _Line, inputs: list[Any], numbers: Any) -> list[Any]:
    condition, body = line.bodies
    first = line.params["cond_nconsts"]
    second = first + line.params["body_nconsts"]
    return list(
        jax.lax.while_loop(
            lambda carry: condition.play([*inputs[:first], *carry], numbers)[0],
            lambda carry: tuple(body.play([*inputs[first:second], *carry], numbers)),
            tuple(inputs[second:]),
        )
    )


def _cond(line: _Line, inputs: list[Any], numbers: Any) -> list[Any]:
    branches = [lambda *x, b=body: tuple(b.play(x, numbers)) for body in line.bodies]
    return list(jax.lax.switch(inputs[0], branches, *inputs[1:]))


_LOOPS: dict[str, Callable[[_Line, list[Any], Any], list[Any]]] = {
    "scan": _scan,
    "while": _while,
    "cond": _cond,
}


def _told(line: _Line) -> str:
    """What an equation is told beside its inputs."""
    bodies = _BODIES.get(line.primitive.name, ())
    told = {k: v for k, v in line.params.items() if k not in _ORIGIN and k not in bodies}
    return " ".join(f"{name}={_param(told[name])}" for name in sorted(told))


def _param(value: Any) -> str:
    if isinstance(value, (np.ndarray, jax.Array)):
        return _hashed(value)
    if isinstance(value, (tuple, list)):
        return f"({', '.join(map(_param, value))})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{k}: {_param(v)}' for k, v in value.items())}}}"
    if callable(value) and not isinstance(value, type):
        return f"{getattr(value, '__qualname__', type(value).__name__)} at {id(value)}"
    return str(value)


def _hashed(array: Any) -> str:
    array = np.asarray(array)
    return f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()[:24]}"
