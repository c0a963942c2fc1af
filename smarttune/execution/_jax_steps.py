"""One step of a model on JAX as a tape, and the state that it takes and returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from smarttune.execution._tapes import Tape
from smarttune.execution.program import Unsupported, first_line

State = list[Any]  # the arrays of a model, its optimizer and its metrics, in this order


@dataclass(frozen=True)
class Step:
    """One traced step.

    Attributes:
        tape: Its equations; takes the state and the arrays of a batch.
        logs: Names of what it logs.
        takes: Places in the state of the arrays that it takes, and returns after its logs.
    """

    tape: Tape
    logs: tuple[str, ...]
    takes: tuple[int, ...]

    def __call__(self, state: State, batch: Any, numbers: Any) -> tuple[State, Any]:
        """The state after the step, and what it logs."""
        given = [*(state[i] for i in self.takes), *jax.tree.leaves(batch)]
        results = self.tape.play(given, numbers)
        after = list(state)
        for i, value in zip(self.takes, results[len(self.logs) :], strict=True):
            after[i] = value
        logged = [jax.numpy.asarray(v, jax.numpy.float32) for v in results[: len(self.logs)]]
        return after, jax.numpy.stack(logged)


@dataclass(frozen=True)
class Steps:
    """The steps of a trial: full batches and smaller last ones, which may be missing."""

    train: Step
    train_last: Step | None
    test: Step
    test_last: Step | None
    state: tuple[Any, ...]

    @property
    def sizes(self) -> list[int]:
        """How many numbers each of them has."""
        parts = (self.train, self.train_last, self.test, self.test_last)
        return [0 if part is None else len(part.tape.numbers) for part in parts]


def parts_of(model: Any) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    return (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )


def variables_of(model: Any) -> list[Any]:
    """What a trial brings along, in the order of a program's state; its metrics come behind."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [v for part in parts_of(model)[:3] for v in part]


def traced(model: Any, batch: tuple[Any, ...], *, training: bool) -> Step:
    """The tape of one step."""
    parts = parts_of(model)
    starts = np.cumsum([0, *map(len, parts)])
    chosen = range(4) if training else (0, 1, 3)
    takes = tuple(i for part in chosen for i in range(starts[part], starts[part + 1]))
    state = tuple([spec_of(v.value) for v in parts[part]] for part in chosen)
    step = model.train_step if training else model.test_step
    given, tree = jax.tree.flatten((state, jax.tree.map(spec_of, batch)))
    try:
        jaxpr, shape = jax.make_jaxpr(
            lambda *flat: step(*jax.tree.unflatten(tree, flat)), return_shape=True
        )(*given)
    except Exception as error:
        raise Unsupported(f"its step cannot be traced ({first_line(error)})") from error
    logs, after = shape
    if not isinstance(logs, dict) or any(getattr(v, "shape", None) != () for v in logs.values()):
        raise Unsupported("its step logs something other than single numbers")
    if [*map(_shape, jax.tree.leaves(after))] != [*map(_shape, jax.tree.leaves(state))]:
        raise Unsupported("its step changes the shape of its state")
    return Step(Tape.of(jaxpr, [], []), tuple(sorted(logs)), takes)


def spec_of(array: Any) -> Any:
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    return jax.ShapeDtypeStruct(array.shape, dtype)


def _shape(array: Any) -> tuple[Any, ...]:
    return (tuple(array.shape), str(array.dtype))
