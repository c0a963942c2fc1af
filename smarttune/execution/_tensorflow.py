"""Programs of TensorFlow: the graph of one step inside a loop, with its constants as inputs.

The graph of a step refers to the variables of the model that it was traced from, so that model,
the *host*, serves all trials of its signature one after the other: their state is written into
its variables. The dimension of the batch stays free, so one program takes every batch size.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager.context import function_executor_type
from tensorflow.python.framework.func_graph import func_graph_from_py_func

from smarttune.execution._graphs import GraphText, is_lifted
from smarttune.execution.program import (
    Engine,
    Entrant,
    Feed,
    Program,
    Session,
    Trace,
    Unsupported,
    digest,
    first_line,
    specs,
)
from smarttune.execution.residence import Residence

# ours: multiplications of a step, up to which its operations are so short that handing each to
# another thread takes longer than running them in a row (half as long again on two cores).
SHORT_STEP = 3e7

# What has a body; such steps cannot run in a row.
_BRANCHING = frozenset({"While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase"})


@dataclass(frozen=True)
class _Step:
    """One traced step.

    Attributes:
        graph: Its nodes.
        inputs: Names of the tensors of a batch, in the order of its flat arrays.
        captured: What it reads from outside (variables, large constants), with the names of the
            tensors that stand for them.
        constants: Names of the scalar constants that are inputs, with their types.
        logs: Names of the logged values with those of their tensors.
        source: What it was traced into; with it the functions would go that its loops call.
    """

    graph: Any
    inputs: tuple[str, ...]
    captured: tuple[tuple[Any, str], ...]
    constants: tuple[tuple[str, Any], ...]
    logs: tuple[tuple[str, str], ...]
    source: Any

    def inline(self, batch: Sequence[Any], numbers: Any) -> list[Any]:
        """Put the step into the graph that is being built; its logs are returned."""
        graph = tf.compat.v1.get_default_graph()
        given = dict(zip(self.inputs, batch, strict=True))
        given |= {name: outside for outside, name in self.captured}
        for (name, dtype), number in zip(self.constants, tf.unstack(numbers), strict=True):
            given[name] = tf.cast(number, dtype)
        found: list[Any] = tf.graph_util.import_graph_def(
            self.graph,
            input_map={name: graph.capture(tensor) for name, tensor in given.items()},
            return_elements=[tensor for _, tensor in self.logs],
            name="",
        )
        return found


class TensorFlowEngine(Engine):
    """Traces and programs of TensorFlow."""

    name = "tensorflow"

    def __init__(self) -> None:
        self._rows = Residence(tf.constant)

    def trace(self, model: Any, feed: Feed) -> Trace:
        """Trace `train_step` and `test_step` of a model, whatever the size of the batch."""
        if model.distribute_strategy.num_replicas_in_sync > 1:
            raise Unsupported("it is trained by several replicas")
        train, train_text, train_numbers = _traced(model, model.train_step, feed.example)
        test, test_text, test_numbers = _traced(model, model.test_step, feed.validation_example)
        numbers = np.concatenate([train_numbers, test_numbers])
        return Trace(f"{train_text}-{test_text}", numbers, (train, test))

    def program(self, trace: Trace, model: Any, feed: Feed) -> Program:
        """A program around the model, which becomes its host."""
        return _Program(trace, model, self._rows, _executor(trace.steps, model, feed))

    def shapes(self, feed: Feed) -> str:
        """Shapes of one sample; one program takes all batch sizes."""
        return specs((*feed.example, *feed.validation_example), batch_free=True)


def _traced(model: Any, step: Any, batch: tuple[Any, ...]) -> tuple[_Step, str, np.ndarray]:
    """The graph of a step, its signature and its numbers."""
    shapes = tf.nest.map_structure(
        lambda a: tf.TensorSpec((None, *a.shape[1:]), keras.backend.standardize_dtype(a.dtype)),
        batch,
    )
    try:
        # `tf.function` would trace twice, and `wrap_function` leaves the order of effects open.
        graph = func_graph_from_py_func(
            "step", lambda *parts: step(parts), shapes, {}, add_control_dependencies=True
        )
    except Exception as error:
        raise Unsupported(f"its step cannot be traced ({first_line(error)})") from error
    outputs = graph.structured_outputs
    if not isinstance(outputs, dict) or any(
        not tf.is_tensor(t) or t.shape.rank != 0 for t in outputs.values()
    ):
        raise Unsupported("its step logs something other than single numbers")
    nodes = graph.as_graph_def()
    num_inputs = len(graph.inputs) - len(graph.captures)
    captured = tuple((outside, inside.name) for outside, inside in graph.captures)
    own = _places(model)
    places = {inside.op.name: _place(outside, own) for outside, inside in graph.captures}
    places |= {t.op.name: f"input {i}" for i, t in enumerate(graph.inputs[:num_inputs])}
    constants, numbers = [], []
    for node in nodes.node:
        if is_lifted(node):
            dtype = tf.as_dtype(node.attr["dtype"].type)
            constants.append((f"{node.name}:0", dtype))
            numbers.append(float(tf.make_ndarray(node.attr["value"].tensor)))
    logged = tuple((name, t.name) for name, t in outputs.items())
    step_ = _Step(
        nodes,
        tuple(t.name for t in graph.inputs[:num_inputs]),
        captured,
        tuple(constants),
        logged,
        graph,
    )
    signature = GraphText(nodes.library).of(nodes.node, places, [name for _, name in logged])
    return step_, digest(signature, *(name for name, _ in logged)), np.asarray(numbers)


def _variables(model: Any) -> list[Any]:
    """What a trial brings along; metrics of a model that was not traced have no variables yet."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def _copied(variables: Sequence[Any]) -> list[Any]:
    """What variables hold. NumPy arrays, or `assign`, would take ten times as long."""
    return [
        tf.raw_ops.ReadVariableOp(resource=v.value.handle, dtype=v.value.dtype) for v in variables
    ]


def _put(variables: Sequence[Any], values: Sequence[Any]) -> None:
    """Let variables hold what was copied from others of the same shapes."""
    for variable, value in zip(variables, values, strict=True):
        tf.raw_ops.AssignVariableOp(resource=variable.value.handle, value=value)


def _places(model: Any) -> dict[int, str]:
    """Where each variable stands in the state of its model, by the identity of its handle."""
    return {
        id(v.value.handle): f"variable {i} {v.dtype} {tuple(v.shape)}"
        for i, v in enumerate([*_variables(model), *model.metrics_variables])
    }


def _place(outside: Any, own: dict[int, str]) -> str:
    """What a step captured, as text that is equal for equal models."""
    if outside.dtype == tf.resource:
        if id(outside) not in own:
            raise Unsupported("its step uses a variable or a table that is not the model's")
        return own[id(outside)]
    return f"constant {hashlib.sha256(outside.numpy().tobytes()).hexdigest()}"


def _executor(steps: tuple[_Step, _Step], model: Any, feed: Feed) -> str:
    """How TensorFlow runs the operations of these steps; "" as it always does."""
    nodes = [n for s in steps for n in s.graph.node]
    functions = [f for s in steps for f in s.graph.library.function]
    if functions or any(node.op in _BRANCHING for node in nodes):
        return ""
    size = sum(math.prod(v.shape) for v in model.trainable_variables)
    reused = any(len(v.shape) > 2 for v in model.trainable_variables)  # as convolutions do
    return "" if reused or size * feed.batch_size > SHORT_STEP else "SINGLE_THREADED_EXECUTOR"


class _Program(Program):
    def __init__(self, trace: Trace, host: Any, rows: Residence, executor: str) -> None:
        self.steps: tuple[_Step, _Step] = trace.steps
        self.host, self.rows, self.executor = host, rows, executor
        host.reset_metrics()
        self.fresh = _copied(host.metrics_variables)
        self.train = tf.function(self._train, autograph=False, reduce_retracing=True)
        self.validate = tf.function(self._validate, autograph=False, reduce_retracing=True)

    def check(self, feed: Feed) -> None:
        """Trace the loops around the steps."""
        rows = self.rows.of(feed)
        data, order, _ = rows.training(np.arange(len(feed.data.y)), 0, feed.batch_size)
        numbers = [tf.zeros(len(step.constants), tf.float64) for step in self.steps]
        size = tf.constant(feed.batch_size)
        order = tf.constant(order, tf.int32)
        try:
            with function_executor_type(self.executor):
                self.train.get_concrete_function(numbers[0], data, order, size, size, size)
                for piece in rows.validation():
                    self.validate.get_concrete_function(numbers[1], piece, size)
        except Exception as error:
            raise Unsupported(f"its loop cannot be built ({first_line(error)})") from error

    def enter(self, entrants: Sequence[Entrant]) -> Session:
        """Write the state of a trial into the host."""
        (entrant,) = entrants
        return _Session(self, entrant)

    def _train(self, numbers: Any, data: Any, rows: Any, start: Any, stop: Any, size: Any) -> Any:
        """The batches that begin in places `start` to `stop` of an order of rows."""
        step = self.steps[0]
        num_steps = (stop - start + size - 1) // size

        def body(i: Any, losses: Any, _: Any) -> Any:
            begin = start + i * size
            batch = tf.nest.map_structure(lambda a: tf.gather(a, rows[begin : begin + size]), data)
            logs = step.inline(tf.nest.flatten(batch), numbers)
            return i + 1, losses.write(i, _loss(step, logs)), _stacked(logs)

        losses = tf.TensorArray(tf.float32, size=num_steps)
        last = tf.zeros(len(step.logs))
        _, losses, last = tf.while_loop(
            lambda i, *_: i < num_steps, body, (0, losses, last), parallel_iterations=1
        )
        return losses.stack(), last

    def _validate(self, numbers: Any, data: Any, size: Any) -> Any:
        """All validation batches, one after the other."""
        step = self.steps[1]
        num_samples = tf.shape(tf.nest.flatten(data)[0])[0]

        def body(begin: Any, _: Any) -> Any:
            batch = tf.nest.map_structure(lambda a: a[begin : begin + size], data)
            return begin + size, _stacked(step.inline(tf.nest.flatten(batch), numbers))

        last = tf.zeros(len(step.logs))
        return tf.while_loop(
            lambda begin, _: begin < num_samples, body, (0, last), parallel_iterations=1
        )[1]


def _loss(step: _Step, logs: Sequence[Any]) -> Any:
    """The logged loss; not a number where a step of the user's logs none."""
    by_name = dict(zip((name for name, _ in step.logs), logs, strict=True))
    return (
        tf.cast(by_name["loss"], tf.float32)
        if "loss" in by_name
        else tf.constant(np.nan, tf.float32)
    )


def _stacked(logs: Sequence[Any]) -> Any:
    return tf.stack([tf.cast(value, tf.float32) for value in logs])


class _Session(Session):
    def __init__(self, program: _Program, entrant: Entrant) -> None:
        self.program, self.own, self.feed = program, entrant.model, entrant.feed
        host = program.host
        self.kept: list[Any] = []
        if self.own is not host:
            self.kept = _copied(_variables(host))  # it is the model of a trial, too
            _put(_variables(host), _copied(_variables(self.own)))
        self.models = [host]
        split = len(program.steps[0].constants)
        numbers = np.asarray(entrant.numbers, np.float64)
        self.numbers = [tf.constant(part) for part in np.split(numbers, [split])]
        self.rows = program.rows.of(self.feed)
        self.steps_at_once = self.rows.steps_at_once

    def train(
        self, orders: Sequence[np.ndarray], start: int, stop: int
    ) -> tuple[np.ndarray, list[dict[str, float]]]:
        """Run some steps of an epoch."""
        (order,) = orders
        size = self.feed.batch_size
        num_rows = (stop - start) * size
        data, rows, first = self.rows.training(order, start * size, stop * size)
        places = tf.constant(first), tf.constant(min(first + num_rows, len(rows)))
        rows = tf.constant(rows, tf.int32)
        arguments = self.numbers[0], data, rows, *places, tf.constant(size)
        with function_executor_type(self.program.executor):
            losses, last = self.program.train(*arguments)
        return losses.numpy()[None], [self._named(0, last)]

    def validate(self) -> list[dict[str, float]]:
        """Run all validation batches, in pieces where they are not in memory."""
        size = tf.constant(self.feed.validation_batch_size)
        for data in self.rows.validation():
            with function_executor_type(self.program.executor):
                last = self.program.validate(self.numbers[1], data, size)
        return [self._named(1, last)]

    def _named(self, step: int, last: Any) -> dict[str, float]:
        names = [name for name, _ in self.program.steps[step].logs]
        return dict(zip(names, map(float, last.numpy()), strict=True))

    def reset_metrics(self) -> None:
        """Begin to count metrics anew."""
        _put(self.program.host.metrics_variables, self.program.fresh)

    def keep(self, trials: Sequence[int]) -> None:
        """Nothing: there is one trial."""

    def close(self) -> None:
        """Give the trial's own model its state."""
        host = self.program.host
        if self.own is not host:
            _put(_variables(self.own), _copied(_variables(host)))
            _put(_variables(host), self.kept)
