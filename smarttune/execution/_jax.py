"""Programs of JAX: the equations of one step inside a loop, for one trial or for many at once.

State goes in and comes out as arrays, so no model belongs to a program. Several trials are one
program with a leading dimension; such programs come in a ladder of sizes, so that trials which end
do not keep the others waiting. Smaller sizes are compiled while larger ones run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from smarttune.execution._jax_steps import State, Steps, parts_of, spec_of, traced, variables_of
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
from smarttune.files import cache_folder

# ours: trials at once; between two sizes, some places of a program stay empty.
SIZES = (1, 4, 16, 64, 128)

# ours: of the memory that is free when trials enter.
MEMORY_SHARE = 0.5
COPIES = 3  # states at a time: going in, inside, coming out
CACHED_FROM = 0.1  # ours: seconds of compiling from which a program is kept for later processes

# Where the data stand among the arguments of a compiled function, and the weights among the data.
_DATA, _WEIGHT = 2, 2
_OWN = (0, 1, 3)  # arguments of which each trial has its own: state, numbers, order

_CONVOLUTION = "conv_general_dilated"

_COMPILER = ThreadPoolExecutor(1, thread_name_prefix="compiler")


class JaxEngine(Engine):
    """Traces and programs of JAX."""

    name = "jax"
    batched = True

    def __init__(self) -> None:
        self._rows = Residence(jax.numpy.asarray)
        self.is_accelerated = jax.default_backend() != "cpu"
        _keep_compiled()

    def trace(self, model: Any, feed: Feed) -> Trace:
        """Trace `train_step` and `test_step` for the batches that there are."""
        rows, held_out = len(feed.data.y), len(feed.data.y_validation)
        size, other = feed.batch_size, feed.validation_batch_size
        steps = Steps(
            traced(model, feed.example, training=True),
            traced(model, feed.batch(np.arange(rows % size)), training=True)
            if rows % size
            else None,
            traced(model, feed.validation_example, training=False),
            traced(model, feed.validation_batch(np.arange(held_out % other)), training=False)
            if held_out % other
            else None,
            tuple(spec_of(v.value) for part in parts_of(model) for v in part),
        )
        parts = [p for p in (steps.train, steps.train_last, steps.test, steps.test_last) if p]
        numbers = np.concatenate([np.asarray(p.tape.numbers, np.float32) for p in parts])
        texts = [f"{p.tape.text()} {p.logs} {p.takes}" for p in parts]
        return Trace(digest(*texts), numbers, steps)

    def program(self, trace: Trace, model: Any, feed: Feed) -> Program:
        """A program that refers to no model."""
        model.reset_metrics()
        metrics = [v.value for v in model.metrics_variables]
        return _Program(trace.steps, self._rows, feed, metrics)

    def shapes(self, feed: Feed) -> str:
        """Shapes of the batches, and how many there are."""
        batches = specs((*feed.example, *feed.validation_example), batch_free=False)
        return f"{batches} {len(feed.data.y)} {len(feed.data.y_validation)}"


def _keep_compiled() -> None:
    """Keep compiled programs for later processes, unless the user has said where or not to."""
    if jax.config.jax_compilation_cache_dir or "JAX_ENABLE_COMPILATION_CACHE" in os.environ:
        return
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", CACHED_FROM)


class _Program(Program):
    def __init__(self, steps: Steps, rows: Residence, feed: Feed, metrics: State) -> None:
        self.steps, self.rows = steps, rows
        self.metrics = metrics  # as they begin
        self.num_full = len(feed.data.y) // feed.batch_size
        self.num_rows_last = len(feed.data.y) % feed.batch_size
        self.batch_size, self.num_steps = feed.batch_size, feed.num_steps
        self.test_size = feed.validation_batch_size
        # On processors XLA runs convolutions within a loop on one thread, by its slowest kernel: four
        # times as long for pictures of 28 x 28.
        self.step_by_step = jax.default_backend() == "cpu" and steps.train.tape.has(_CONVOLUTION)
        self._compiled: dict[str, Future[Any]] = {}
        self._latest: dict[tuple[str, int], Future[Any]] = {}  # by function and trials at once

    def check(self, feed: Feed) -> None:
        """Play the tapes once, without computing anything."""
        rows = self.rows.of(feed)
        numbers = jax.ShapeDtypeStruct((sum(self.steps.sizes),), np.float32)
        state = [jax.ShapeDtypeStruct(s.shape, s.dtype) for s in self.steps.state]
        place = jax.ShapeDtypeStruct((), np.int32)
        try:
            data, order, _ = rows.training(np.arange(len(feed.data.y)), 0, feed.batch_size)
            order = jax.ShapeDtypeStruct(order.shape, np.int32)
            jax.eval_shape(self._train, state, numbers, data, order, place, place, place)
            jax.eval_shape(self._test, state, numbers, next(rows.validation()))
        except Exception as error:
            raise Unsupported(f"its loop cannot be built ({first_line(error)})") from error

    def room(self) -> int:
        """Trials whose states and intermediate results the device holds at once."""
        state = sum(s.size * s.dtype.itemsize for s in self.steps.state)
        needed = COPIES * state + self.steps.train.tape.num_bytes
        fitting = int(MEMORY_SHARE * _memory() / max(1, needed))
        return max(1, min(fitting, SIZES[-1]))

    def enter(self, entrants: Sequence[Entrant]) -> Session:
        """Stack the states of trials."""
        return _Session(self, entrants)

    # What is compiled.

    def call(self, name: str, size: int, *arguments: Any) -> Any:
        """Run a function for so many trials, once it is compiled."""
        first = (name, size) not in self._latest
        compiled = self._wanted(name, size, _specs(arguments))
        result = compiled.result()(*arguments)
        if first and size > 1:  # trials will end, and those left need less
            smaller = SIZES[SIZES.index(size) - 1]
            self._wanted(name, smaller, _shrunk(_specs(arguments), smaller))
        return result

    def train(
        self, size: int, state: State, numbers: Any, data: Any, order: Any, places: Sequence[int]
    ) -> Any:
        """State, losses and logs after full batches from one to another, and a smaller last one."""
        start, stop, last = places
        given = (numbers, data, order)
        if size > 1 or not self.step_by_step:
            return self.call("train", size, state, *given, *map(np.int32, places))
        losses = []
        for name, some in (("step", range(start, stop)), ("rest", range(last, last + (last >= 0)))):
            for place in some:
                if place == some.start:
                    specs = _specs((state, *given, np.int32(place)))
                    function = self._wanted(name, size, specs).result()
                state, loss, logs = function(state, *given, np.int32(place))
                losses.append(loss)
        return state, jax.numpy.stack(losses), logs

    def is_compiled(self, size: int) -> bool:
        """Whether so many trials can go on at once."""
        found = [self._latest.get((name, size)) for name in ("train", "test")]
        return all(future is not None and future.done() for future in found)

    def _wanted(self, name: str, size: int, specs: tuple[Any, ...]) -> Future[Any]:
        key = f"{name} {size} {specs}"
        if key not in self._compiled:
            self._compiled[key] = _COMPILER.submit(self._compile, name, size, specs)
        self._latest[name, size] = self._compiled[key]
        return self._compiled[key]

    def _compile(self, name: str, size: int, specs: tuple[Any, ...]) -> Any:
        function = getattr(self, f"_{name}")
        if size > 1:
            # Weights are a trial's own; the rest of the data belongs to all.
            data = tuple(0 if i == _WEIGHT else None for i in range(len(specs[_DATA])))
            axes = (0, 0, data, 0, None, None, None) if name == "train" else (0, 0, None)
            function = jax.vmap(function, in_axes=axes)
        return jax.jit(function).lower(*specs).compile()

    def _train(  # noqa: PLR0913, PLR0917 -- what a compiled function takes
        self, state: State, numbers: Any, data: Any, order: Any, start: Any, stop: Any, last: Any
    ) -> tuple[State, Any, Any]:
        """Full batches `start` to `stop`; then the smaller one that begins in place `last`, if any."""

        def body(i: Any, carried: Any) -> Any:
            state, losses, _ = carried
            state, loss, logs = self._step(state, numbers, data, order, i)
            return state, losses.at[i - start].set(loss), logs

        logs = jax.numpy.zeros(len(self.steps.train.logs), np.float32)
        losses = jax.numpy.full(self.num_steps, np.nan, np.float32)
        carried: tuple[State, Any, Any]
        carried = jax.lax.fori_loop(start, stop, body, (state, losses, logs))
        if self.steps.train_last is None:
            return carried

        def rest(carried: Any) -> Any:
            state, losses, _ = carried
            state, loss, logs = self._rest(state, numbers, data, order, last)
            return state, losses.at[stop - start].set(loss), logs

        carried = jax.lax.cond(last >= 0, rest, lambda carried: carried, carried)
        return carried

    def _step(self, state: State, numbers: Any, data: Any, order: Any, i: Any) -> Any:
        """Full batch number `i`."""
        rows = jax.lax.dynamic_slice(order, (i * self.batch_size,), (self.batch_size,))
        batch = jax.tree.map(lambda a: a[rows], data)
        state, logs = self.steps.train(state, batch, self._numbers(numbers)[0])
        return state, self._loss(logs), logs

    def _rest(self, state: State, numbers: Any, data: Any, order: Any, last: Any) -> Any:
        """The smaller batch that begins in place `last`."""
        assert self.steps.train_last is not None
        rows = jax.lax.dynamic_slice(order, (last,), (self.num_rows_last,))
        batch = jax.tree.map(lambda a: a[rows], data)
        state, logs = self.steps.train_last(state, batch, self._numbers(numbers)[1])
        return state, self._loss(logs), logs

    def _loss(self, logs: Any) -> Any:
        names = self.steps.train.logs
        return logs[names.index("loss")] if "loss" in names else np.float32(np.nan)

    def _test(self, state: State, numbers: Any, data: Any) -> tuple[State, Any]:
        """All batches of the rows given, the last of which may be smaller."""
        *_, first, second = self._numbers(numbers)
        size = self.test_size
        num_rows = jax.tree.leaves(data)[0].shape[0]

        def body(i: Any, carried: Any) -> Any:
            state, _ = carried
            batch = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, i * size, size), data)
            return self.steps.test(state, batch, first)

        logs = jax.numpy.zeros(len(self.steps.test.logs), np.float32)
        state, logs = jax.lax.fori_loop(0, num_rows // size, body, (state, logs))
        if num_rows % size and self.steps.test_last is not None:
            batch = jax.tree.map(lambda a: a[num_rows - num_rows % size :], data)
            state, logs = self.steps.test_last(state, batch, second)
        return state, logs

    def _numbers(self, numbers: Any) -> list[Any]:
        """The numbers of each step."""
        ends = np.cumsum(self.steps.sizes)[:-1]
        return list(jax.numpy.split(numbers, ends))


def _specs(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Shapes and types of the arguments of a compiled function."""
    specs: tuple[Any, ...]
    specs = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arguments)
    return specs


def _shrunk(specs: tuple[Any, ...], size: int) -> tuple[Any, ...]:
    """The same for fewer trials: of what each of them has its own."""

    def shrunk(spec: Any) -> Any:
        leading = () if size == 1 else (size,)
        return jax.ShapeDtypeStruct((*leading, *spec.shape[1:]), spec.dtype)

    data = tuple(shrunk(s) if i == _WEIGHT else s for i, s in enumerate(specs[_DATA]))
    own = [jax.tree.map(shrunk, specs[i]) for i in _OWN if i < len(specs)]
    state, numbers, *order = own
    return (state, numbers, data, *order, *specs[_DATA + 1 + len(order) :])


class _Session(Session):
    def __init__(self, program: _Program, entrants: Sequence[Entrant]) -> None:
        self.program = program
        self.feeds = [e.feed for e in entrants]
        self.models = [e.model for e in entrants]
        self.lanes = list(range(len(entrants)))  # where each trial stands in the arrays
        self.size = next((s for s in SIZES if s >= len(entrants)), len(entrants))
        self.numbers = self._stack([np.asarray(e.numbers, np.float32) for e in entrants])
        states = [[v.value for v in variables_of(m)] for m in self.models]
        self.fresh = [self._stack([array] * len(entrants)) for array in program.metrics]
        own = [self._stack(list(arrays)) for arrays in zip(*states, strict=True)]
        self.num_state = len(own)
        self.state = [*own, *self.fresh]
        self.rows = [program.rows.of(feed) for feed in self.feeds]
        self.steps_at_once = self.rows[0].steps_at_once
        self._shown: list[list[Any]] = []
        self._show()

    def _stack(self, arrays: Sequence[Any]) -> Any:
        """One array for all places; those that are left over repeat the first trial."""
        if self.size == 1:
            return jax.numpy.asarray(arrays[0])
        filled = [*arrays, *([arrays[0]] * (self.size - len(arrays)))]
        return jax.numpy.stack(filled)

    # Models and arrays. What `assign` would do to each variable costs ten times as much.

    def _show(self) -> None:
        """Let the models' variables hold the state; the arrays themselves, nothing is copied."""
        arrays = self.state[: self.num_state]
        if self.size > 1:
            arrays = [np.asarray(a) for a in arrays]
        self._shown = []
        for model, lane in zip(self.models, self.lanes, strict=True):
            own = arrays if self.size == 1 else [a[lane] for a in arrays]
            for variable, value in zip(variables_of(model), own, strict=True):
                variable._value = value  # noqa: SLF001
            self._shown.append(own)

    def _take(self) -> None:
        """Take over what was assigned to the models' variables since they were shown."""
        for model, lane, shown in zip(self.models, self.lanes, self._shown, strict=True):
            for i, (variable, value) in enumerate(zip(variables_of(model), shown, strict=True)):
                if (assigned := variable._value) is not value:  # noqa: SLF001
                    new = jax.numpy.asarray(assigned)
                    self.state[i] = new if self.size == 1 else self.state[i].at[lane].set(new)

    # What the loop asks.

    def train(
        self, orders: Sequence[np.ndarray], start: int, stop: int
    ) -> tuple[np.ndarray, list[dict[str, float]]]:
        """Run some steps of an epoch."""
        self._take()
        program = self.program
        full = min(stop, program.num_full)
        places = (start * program.batch_size, stop * program.batch_size)
        data, order, first = self._pieces(orders, *places)
        first_step = first // program.batch_size
        last = first + (full - start) * program.batch_size if stop > program.num_full else -1
        self.state, losses, logs = program.train(
            self.size,
            self.state,
            self.numbers,
            data,
            order,
            (first_step, first_step + full - start, last),
        )
        self._show()
        losses, logs = self._own(losses), self._own(logs)
        return losses[:, : stop - start], self._named(logs, program.steps.train.logs)

    def _pieces(self, orders: Sequence[np.ndarray], start: int, stop: int) -> tuple[Any, Any, int]:
        """Data, the trials' orders of their rows, and where in these to begin."""
        found = [r.training(o, start, stop) for r, o in zip(self.rows, orders, strict=True)]
        data, order, first = found[0]
        if self.size == 1:
            return data, jax.numpy.asarray(order, np.int32), first
        placed = [found[0][1]] * self.size
        for (_, own, _), lane in zip(found, self.lanes, strict=True):
            placed[lane] = own
        if len(data) > _WEIGHT:
            weights = [found[0][0][_WEIGHT]] * self.size
            for (own, _, _), lane in zip(found, self.lanes, strict=True):
                weights[lane] = own[_WEIGHT]
            data = (*data[:_WEIGHT], jax.numpy.stack(weights))
        return data, jax.numpy.asarray(np.stack(placed), np.int32), first

    def validate(self) -> list[dict[str, float]]:
        """Run all validation batches."""
        self._take()
        for data in self.rows[0].validation():
            self.state, logs = self.program.call("test", self.size, self.state, self.numbers, data)
        self._show()
        return self._named(self._own(logs), self.program.steps.test.logs)

    def _own(self, array: Any) -> np.ndarray:
        """The rows of an array that belong to trials."""
        rows = np.asarray(array)
        return rows[None] if self.size == 1 else rows[self.lanes]

    def _named(self, logs: np.ndarray, names: Sequence[str]) -> list[dict[str, float]]:
        return [dict(zip(names, row.tolist(), strict=True)) for row in logs]

    def reset_metrics(self) -> None:
        """Put the metrics back to where they began."""
        self.state = [*self.state[: self.num_state], *self.fresh]

    def keep(self, trials: Sequence[int]) -> None:
        """Go on with some trials, in fewer places if that saves work and is compiled."""
        self._take()
        for name in ("models", "feeds", "rows", "lanes"):
            values = getattr(self, name)
            setattr(self, name, [values[i] for i in trials])
        for size in SIZES:
            if trials and len(trials) <= size < self.size and self.program.is_compiled(size):
                self._shrink(size)
        self._show()

    def _shrink(self, size: int) -> None:
        """Move the trials that are left into a smaller program."""
        lanes = np.asarray([*self.lanes, *([self.lanes[0]] * (size - len(self.lanes)))])
        picked = lanes[0] if size == 1 else lanes
        self.state = [a[picked] for a in self.state]
        self.numbers = self.numbers[picked]
        self.size, self.lanes = size, list(range(len(self.lanes)))
        self.fresh = [a[picked] for a in self.fresh]

    def close(self) -> None:
        """Nothing is left to do but to give arrays back that belong to one model only."""
        self._take()
        for model in self.models:
            for variable in variables_of(model):
                variable.assign(jax.numpy.array(variable.value))


def _memory() -> float:
    """Bytes that programs may use."""
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:
        return float(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
