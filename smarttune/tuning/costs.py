"""What a trained network costs to use: the further objectives of a search.

The score stays the first objective. It ranks the trials, and by it one model is exported; the
costs say what the others on the Pareto front would save.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from smarttune.errors import OptionError, did_you_mean
from smarttune.execution import TrainingData
from smarttune.objectives import Objective
from smarttune.trials import TrialLog, TrialRecord

# The strategy that searches for a front instead of for one best trial.
SEVERAL = "nsga2"

# ours: a small batch, as a service that answers a few people at once has it; a single sample
# would measure the call more than the network.
LATENCY_SAMPLES = 32
# ours: the first call traces and compiles, the second may still allocate.
WARM_UP_CALLS = 3
# ours: the middle of so many leaves out the calls that something else held up.
TIMED_CALLS = 15


class Cost(NamedTuple):
    """One cost: its unit, and where a record keeps it. Less is better."""

    unit: str
    of: Callable[[TrialRecord], float | None]


COSTS: dict[str, Cost] = {
    "num_parameters": Cost("trainable parameters", lambda record: record.num_parameters),
    "latency": Cost(f"ms for {LATENCY_SAMPLES} samples", lambda record: record.latency),
}


def checked_costs(names: Sequence[str], strategy: str = "auto") -> tuple[str, ...]:
    """Return the costs that a user named.

    Args:
        names: Names of `COSTS`.
        strategy: The strategy that was asked for, or auto.

    Raises:
        OptionError: If one is unknown or named twice, or the strategy does not fit.
    """
    if isinstance(names, str):
        names = (names,)
    for name in names:
        if name not in COSTS:
            raise OptionError(
                "--against",
                received=f"`{name}` is no cost that is measured",
                expected="one of " + ", ".join(COSTS),
                mend=f"Name one of these; the score is always an objective.{did_you_mean(name, COSTS)}",
            )
    if len(set(names)) < len(names):
        raise OptionError(
            "--against",
            received="one cost twice (" + ", ".join(names) + ")",
            expected="each of " + ", ".join(COSTS) + " at most once",
            mend="Name it once.",
        )
    if names and strategy not in ("auto", SEVERAL):
        raise OptionError(
            "--strategy",
            received=f"{strategy} with several objectives",
            expected=f"auto or {SEVERAL}",
            mend="Leave out --strategy, or leave out --against.",
        )
    if strategy == SEVERAL and not names:
        raise OptionError(
            "--strategy",
            received=f"{SEVERAL} with a single objective",
            expected="a cost to hold against the score: " + ", ".join(COSTS),
            mend="Add --against num_parameters, or choose another strategy.",
        )
    return tuple(names)


def goal_of(objective: Any) -> Objective:
    """What ranks trials under an objective of KerasTuner's: of several the first."""
    first = getattr(objective, "objectives", [objective])[0]
    return Objective(first.name, first.direction)


def costs_in(objective: Any) -> tuple[str, ...]:
    """The costs among several objectives of KerasTuner's kind; none where there is one."""
    names = (o.name for o in getattr(objective, "objectives", ()))
    return tuple(name for name in names if name in COSTS)


def with_costs(record: TrialRecord, objective: Any, model: Any, args: Sequence[Any]) -> TrialRecord:
    """Measure of a trained network what an oracle wants to hear and nobody knows yet.

    Args:
        record: A finished trial.
        objective: The oracle's, of KerasTuner's kind.
        model: The network.
        args: What it was trained on.

    Returns:
        The record with its latency, if that is an objective and the trial left a score; the
        time that this took counts as the trial's.
    """
    wanted = "latency" in costs_in(objective) and record.is_scored
    samples = few_samples(args) if wanted else None
    if samples is None:
        return record
    began = time.monotonic()
    latency = latency_of(model, samples)
    seconds = record.seconds + time.monotonic() - began
    return record.model_copy(update={"latency": latency, "seconds": seconds})


def few_samples(args: Sequence[Any]) -> Any:
    """The first inputs of the training data; None where they are no arrays."""
    given: Any = args[0] if args else None
    x: Any = given.x if isinstance(given, TrainingData) else given
    if isinstance(x, Mapping):
        return {name: part[:LATENCY_SAMPLES] for name, part in x.items()}
    return x[:LATENCY_SAMPLES] if hasattr(x, "shape") else None


def latency_of(
    model: Any, samples: Any, *, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Milliseconds in which a network predicts a batch: the median of some calls when warm.

    Args:
        model: A Keras model.
        samples: One batch of inputs.
        clock: Tells the time in seconds.
    """
    for _ in range(WARM_UP_CALLS):
        model.predict_on_batch(samples)
    calls = []
    for _ in range(TIMED_CALLS):
        began = clock()
        model.predict_on_batch(samples)
        calls.append(clock() - began)
    return 1000.0 * median(calls)


def front_of(log: TrialLog, names: Sequence[str]) -> list[TrialRecord]:
    """The trials that no other one beats: none is at least as good in all and better in one.

    Args:
        log: Finished trials.
        names: The costs beside the score.

    Returns:
        The Pareto front, the best score first; without costs nothing. A trial of which a cost
        is unknown is not on it.
    """
    if not names:
        return []
    # It brings Optuna, which a search has loaded, and reading a record need not.
    from smarttune.oracles.nsga2 import front_numbers

    sign = -1.0 if log.objective.direction == "max" else 1.0
    rows = [(r, (sign * (r.score or 0.0), *_costs(r, names))) for r in log.ranked()]
    known = [(record, row) for record, row in rows if all(map(math.isfinite, row))]
    numbers = front_numbers([row for _, row in known])
    return [record for (record, _), number in zip(known, numbers, strict=True) if number == 0]


def _costs(record: TrialRecord, names: Sequence[str]) -> tuple[float, ...]:
    values = (COSTS[name].of(record) for name in names)
    return tuple(math.nan if value is None else float(value) for value in values)
