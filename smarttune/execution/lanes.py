"""Which lane a trial takes: stock `fit`, a compiled program, or one that takes several trials.

Programs are found by the signature of a trial's traced steps and shared by all trials that have
it, whatever their model is made of. Whatever a program cannot take is trained by `fit`, and the
reason is told.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from smarttune.execution.fit import TrainingData
from smarttune.execution.program import (
    Engine,
    Entrant,
    Feed,
    Program,
    Trace,
    Unsupported,
    digest,
    first_line,
    leaves,
)
from smarttune.execution.structure import Forms, structure_of
from smarttune.execution.together import Member, Pace, overrides, train_together
from smarttune.training.checkpoint import set_state, state_of

# ours: programs that are kept, and the size of the models that they hold. A program takes some
# megabytes beside its model, and about two seconds to make.
MOST_PROGRAMS, MOST_BYTES = 64, 2**30
# ours: seconds of one step from which it is worth timing whether `fit` takes it faster; of shorter
# ones most is the call itself, which a program saves.
HEAVY_STEP = 0.01
BYTES_PER_NUMBER = 12  # ours: with the two moments of an optimizer such as Adam
PROBE_STEPS = 6  # ours: steps of a probe; the first ones warm up
# ours: seconds of a trial; a probe costs `fit`'s own tracing and compiling, some seconds.
WORTH_PROBING = 60.0

_WITHIN_EPOCHS = tuple(
    f"on_{when}batch_{edge}" for when in ("", "train_", "test_") for edge in ("begin", "end")
)

OnChoice = Callable[[str, str], None]  # a lane and why


@dataclass
class _Known:
    """A program and what is known of its speed."""

    program: Program
    pace: Pace
    num_bytes: int
    fit_is_faster: str = ""  # why, once it was timed


class Lanes:
    """The lanes of one search.

    Args:
        lane: One of `choice.LANES`: `fit`, `compiled`, `fused`, or `auto` for the fastest.
        on_choice: Called with each new choice of a lane and its reason; may be set later.
    """

    def __init__(self, lane: str = "auto", *, on_choice: OnChoice | None = None) -> None:
        self.lane = lane
        self.on_choice = on_choice
        self._told: set[tuple[str, str]] = set()
        self._engine: Engine | Literal[False] | None = False  # False: not looked for yet
        self._programs: OrderedDict[str, _Known] = OrderedDict()
        self._forms = Forms()
        self._arrays: tuple[tuple[Any, ...], TrainingData | None] | None = None

    # What the search asks.

    def train(self, members: Sequence[Member]) -> list[Member]:
        """Train the trials that a program takes; return the others, which `fit` must train.

        Trials of one signature train together where the backend can do that.
        """
        left: list[Member] = []
        groups: OrderedDict[str, list[tuple[Member, Entrant]]] = OrderedDict()
        for member in members:
            found = self._entrant(member)
            if found is None:
                left.append(member)
            else:
                groups.setdefault(found[0], []).append((member, found[1]))
        for key, group in groups.items():
            for part in self._parts(key, group):
                self._run(self._programs[key], part)
        return left

    @property
    def batched(self) -> bool:
        """Whether several trials train in one program: if asked for, and by `auto` on a GPU.

        On processors a step of several trials takes about as long as their steps one after the
        other, and its program takes longer to compile (see the figures in docs/execution.md).
        """
        engine = self.engine
        if engine is None or not engine.batched:
            return False
        return self.lane == "fused" or (self.lane == "auto" and engine.is_accelerated)

    @property
    def engine(self) -> Engine | None:
        """What the backend can do; None if it has no compiled lane."""
        if self._engine is False:
            self._engine = None if self.lane == "fit" else _engine()
        return self._engine or None

    def arrays(
        self, given: tuple[Any, ...], make: Callable[[], TrainingData | None]
    ) -> TrainingData | None:
        """What is made of the same arrays is made once, and lies on the device once."""
        if self._arrays is None or any(
            a is not b for a, b in zip(self._arrays[0], given, strict=True)
        ):
            self._arrays = given, make()
        return self._arrays[1]

    def release(self) -> None:
        """Forget all programs, with the models and the data that they hold on the device."""
        self._programs.clear()
        self._arrays = None
        self._engine = False

    # One trial.

    def _entrant(self, member: Member) -> tuple[str, Entrant] | None:
        """The key of a trial's program, and the trial as it enters; None where `fit` must do."""
        if self.lane == "fit":
            return None
        try:
            key, numbers = self._located(member)
        except Unsupported as reason:
            self._tell("fit", str(reason))
            return None
        except Exception as error:  # noqa: BLE001 -- whatever a trace trips over, `fit` trains it
            self._tell("fit", f"it cannot be compiled ({first_line(error)})")
            return None
        known = self._programs[key]
        self._programs.move_to_end(key)
        if known.fit_is_faster:
            self._tell("fit", known.fit_is_faster)
            return None
        return key, Entrant(member.model, numbers, member.feed)

    def _located(self, member: Member) -> tuple[str, np.ndarray]:
        """The key of a trial's program, which is made if it is new, and the trial's numbers."""
        engine, model, feed = self.engine, member.model, member.feed
        if engine is None:
            raise Unsupported(f"no compiled lane on the backend {keras.backend.backend()}")
        _check(member)
        shapes = engine.shapes(feed)
        structure = structure_of(model)
        if structure is not None:
            structure = structure._replace(
                key=digest(structure.key, shapes), family=digest(structure.family, shapes)
            )
            predicted = self._forms.predict(structure)
            if predicted is not None and predicted[0] in self._programs:
                return predicted
        _build(model, feed)
        trace = engine.trace(model, feed)
        key = digest(trace.signature, shapes)
        if key not in self._programs:
            self._add(key, trace, member)
        if structure is not None:
            self._forms.learn(structure, key, trace.numbers)
        return key, trace.numbers

    def _add(self, key: str, trace: Trace, member: Member) -> None:
        """Make a program for what is new, and see that it is worth taking."""
        engine, model, feed = self.engine, member.model, member.feed
        assert engine is not None
        program = engine.program(trace, model, feed)
        program.check(feed)
        size = sum(int(np.prod(v.shape)) * BYTES_PER_NUMBER for v in model.variables)
        known = _Known(program, Pace(), size)
        if self.lane == "auto":
            known.fit_is_faster = _probe(known, Entrant(model, trace.numbers, feed), member.epochs)
        self._programs[key] = known
        if not known.fit_is_faster:
            alone = self.lane == "fused" and not engine.batched
            reason = f"one program on {engine.name} for trials of one structure"
            self._tell("compiled", reason + ("; several at a time need JAX" if alone else ""))
        while len(self._programs) > 1 and (
            len(self._programs) > MOST_PROGRAMS
            or sum(k.num_bytes for k in self._programs.values()) > MOST_BYTES
        ):
            self._programs.popitem(last=False)

    # Groups.

    def _parts(
        self, key: str, group: list[tuple[Member, Entrant]]
    ) -> list[list[tuple[Member, Entrant]]]:
        """Trials that enter together."""
        if not self.batched or len(group) == 1:
            return [[one] for one in group]
        self._tell("fused", "several trials of one structure at a time")
        most = self._programs[key].program.room()
        return [group[i : i + most] for i in range(0, len(group), most)]

    def _run(self, known: _Known, part: Sequence[tuple[Member, Entrant]]) -> None:
        session = known.program.enter([entrant for _, entrant in part])
        try:
            train_together([member for member, _ in part], session, known.pace)
        finally:
            session.close()

    def _tell(self, lane: str, reason: str) -> None:
        if self.on_choice is not None and (lane, reason) not in self._told:
            self._told.add((lane, reason))
            self.on_choice(lane, reason)


def _engine() -> Engine | None:
    """What the backend of this process can do."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        from smarttune.execution._tensorflow import TensorFlowEngine

        return TensorFlowEngine()
    if backend == "jax":
        from smarttune.execution._jax import JaxEngine

        return JaxEngine()
    return None


def _check(member: Member) -> None:
    """See that nothing acts on the model where a program does not stop.

    Raises:
        Unsupported: If something does.
    """
    model = member.model
    for part in member.feed.batch(np.arange(1)):
        if not all(isinstance(array, np.ndarray) for _, array in leaves(part)):
            raise Unsupported("its batches are no plain arrays")
    for callback in member.callbacks:
        within = overrides(callback, _WITHIN_EPOCHS)
        if within and not getattr(callback, "reads_only_losses", False):
            raise Unsupported(f"the callback {type(callback).__name__} acts within epochs")
    if model.run_eagerly:
        raise Unsupported("it runs eagerly")
    for name in ("fit", "make_train_function", "make_test_function", "evaluate"):
        if name in vars(model) or not _is_keras(getattr(type(model), name)):
            raise Unsupported(f"{type(model).__name__} has a `{name}` of its own")
    if keras.distribution.distribution() is not None:
        raise Unsupported("it is distributed")


def _is_keras(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).partition(".")[0] == "keras"


def _build(model: Any, feed: Feed) -> None:
    """Make every variable that training will have."""
    try:
        model._symbolic_build(data_batch=feed.example)  # noqa: SLF001 -- as Keras's `fit` does
    except Exception as error:
        raise Unsupported(f"it cannot be built without training ({error})") from error


def _probe(known: _Known, entrant: Entrant, epochs: range) -> str:
    """Time a program beside `fit` where much hangs on it; returns why `fit` is better, or "".

    The model is afterwards as it was.
    """
    feed, model = entrant.feed, entrant.model
    steps = min(PROBE_STEPS, feed.num_steps)
    order = np.arange(len(feed.data.y))
    before = state_of(model)
    try:
        session = known.program.enter([entrant])
        session.train([order], 0, steps)
        began = time.monotonic()
        session.train([order], 0, steps)
        compiled = (time.monotonic() - began) / steps
        session.close()
        if compiled < HEAVY_STEP or compiled * feed.num_steps * len(epochs) < WORTH_PROBING:
            return ""
        stock = _fit_step(model, feed, steps)
    finally:
        set_state(model, before)
        model.reset_metrics()
    if stock >= compiled:
        return ""
    return f"`fit` takes {stock / compiled:.2f} of the time of a compiled program"


def _fit_step(model: Any, feed: Feed, steps: int) -> float:
    """Seconds that `fit` takes for a step of this model."""
    rows = [
        np.arange(len(feed.data.y))[i * feed.batch_size :][: feed.batch_size] for i in range(steps)
    ]
    batches = [feed.batch(r) for r in rows]
    model.train_on_batch(*batches[0])
    began = time.monotonic()
    for batch in batches:
        model.train_on_batch(*batch)
    return (time.monotonic() - began) / steps
