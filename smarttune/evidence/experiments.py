"""A rule's check -> the trainings of both sides -> what they say.

Every training is kept in the user's folder for caches as soon as it has ended, so that an
experiment that was broken off goes on where it stopped, and one that shares configurations with
another does not train them twice.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from smarttune.errors import OptionError, RunError
from smarttune.evidence import surrogate
from smarttune.evidence.datasets import LCBENCH, data_folder, open_data
from smarttune.evidence.verdicts import Side, Training, judge
from smarttune.facts import Facts
from smarttune.files import cache_folder, write_json
from smarttune.objectives import Objective
from smarttune.rulebook import Rule, Rulebook
from smarttune.rulebook.checks import Check
from smarttune.rulebook.evidence import Result
from smarttune.space import Value
from smarttune.version import __version__

if TYPE_CHECKING:
    from smarttune.data import Dataset
    from smarttune.execution.lanes import Lanes
    from smarttune.trials import TrialRecord
    from smarttune.tuning.preparing import SearchJob

OnEvent = Callable[[Mapping[str, Any]], None]

# ours: smaller errors are noise, and logarithms would make much of them.
LEAST_ERROR = 1e-3
DIGITS = 4  # of figures that are kept; more would tell of noise


@dataclass(frozen=True)
class Measured:
    """What one training showed.

    Attributes:
        error: Of its best epoch on validation rows, more than 0; None if it diverged.
        epochs: Until the best one.
        seconds: Of training.
    """

    error: float | None
    epochs: int
    seconds: float

    def amount(self, measure: str) -> float:
        """What a check compares; infinite where the training diverged."""
        if self.error is None:
            return math.inf
        amounts = {"error": self.error, "epochs": float(self.epochs), "seconds": self.seconds}
        return amounts[measure]


class Bench(Protocol):
    """One data set, on which configurations can be trained."""

    name: str

    def measure(self, values: Mapping[str, Value], seed: int) -> Measured:
        """Train what the rules recommend under these settings."""

    def identity(self, values: Mapping[str, Value]) -> Any:
        """All that a training depends on but the seed, fit for JSON."""


def put_to_the_test(
    rule: Rule,
    *,
    book: Rulebook,
    on: Sequence[str] = (),
    own: tuple[Dataset, str | None] | None = None,
    seeds: int | None = None,
    on_event: OnEvent | None = None,
) -> Result:
    """Run the experiment of a rule's `check`.

    Args:
        rule: The rule.
        book: All rules; they settle what the check leaves open.
        on: Names of data sets in the place of the check's.
        own: Data in their place, and the kind of prediction where it has to be told.
        seeds: Repetitions in the place of the check's.
        on_event: Called with every event as a dict.

    Returns:
        Effect, interval, verdict and cost.

    Raises:
        OptionError: If the rule has no check, or a data set is unknown.
        RunError: If a network cannot be trained.
    """
    check = rule.check
    if check is None:
        raise OptionError(
            f"rule {rule.code}",
            received="it has no `check`",
            expected="a rule that says how it can be put to the test",
            mend="`smarttune rules test` without a code lists those that have one.",
        )
    benches = list(_benches(check, book, on, own))
    jobs = [
        _Job(bench, side, values, seed)
        for bench in benches
        for seed in range(check.seeds if seeds is None else seeds)
        for side, values in _sides(check)
    ]
    tell = on_event or (lambda event: None)
    tell({"event": "test_started", "rule": rule.code, "question": check.question, "n": len(jobs)})
    trainings: list[Training] = []
    for k, job in enumerate(jobs, start=1):
        training = job.done(check)
        trainings.append(training)
        tell(
            {
                "event": "trained",
                "k": k,
                "data": training.data,
                "side": training.side,
                "values": dict(training.values),
                "seed": training.seed,
                check.measure: training.amount if math.isfinite(training.amount) else None,
            }
        )
    return _result(check, trainings, _environment(benches))


@dataclass(frozen=True)
class _Job:
    """One training that an experiment asks for."""

    bench: Bench
    side: Side
    values: Mapping[str, Value]
    seed: int

    def done(self, check: Check) -> Training:
        """Train, unless that was done before."""
        found = _kept(self.bench, {**check.given, **self.values}, self.seed)
        amount = found.amount(check.measure)
        name = self.bench.name
        # The surrogate tells how long a training would have taken; it took none.
        spent = 0.0 if isinstance(self.bench, SurrogateBench) else found.seconds
        return Training(name, self.side, self.values, self.seed, amount, spent)


def _result(check: Check, trainings: Sequence[Training], environment: Mapping[str, str]) -> Result:
    """What is kept of an experiment."""
    finding = judge(trainings, check)
    low, high = finding.interval or (None, None)
    shortened = ("effect", "recommended_mean", "against_mean")
    return Result(
        date=time.strftime("%Y-%m-%d"),
        environment=dict(environment),
        question=check.question,
        measure=check.measure,
        expects=check.expects,
        margin=check.margin,
        effect=_rounded(finding.effect),
        low=None if low is None else _rounded(low),
        high=None if high is None else _rounded(high),
        verdict=finding.verdict,
        trainings=len(trainings),
        diverged=sum(math.isinf(t.amount) for t in trainings),
        seconds=round(sum(t.seconds for t in trainings), 1),
        data=tuple(
            d.model_copy(update={name: _rounded(getattr(d, name)) for name in shortened})
            for d in finding.data
        ),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _sides(check: Check) -> Iterator[tuple[Side, Mapping[str, Value]]]:
    for values in check.recommended:
        yield "recommended", values
    for values in check.against:
        yield "against", values


def _environment(benches: Sequence[Bench]) -> dict[str, str]:
    if all(isinstance(bench, SurrogateBench) for bench in benches):
        return {"smarttune": __version__, "surrogate": "YAHPO Gym, LCBench"}
    from smarttune.job import environment

    return environment()


def _benches(
    check: Check, book: Rulebook, on: Sequence[str], own: tuple[Dataset, str | None] | None
) -> Iterator[Bench]:
    lanes: list[Lanes] = []  # shared, so that a structure is compiled once
    if own is not None:
        yield TrainingBench(own[0].name, own[0], own[1], book, check.facts, lanes)
        return
    for name in on or check.data:
        if name == LCBENCH:
            for task in surrogate.DEVELOPMENT_TASKS:
                yield SurrogateBench(f"{LCBENCH}-{task}", task, book, check.facts)
            continue
        dataset, problem = open_data(name)
        yield TrainingBench(name, dataset, problem, book, check.facts, lanes)


def _kept(bench: Bench, values: Mapping[str, Value], seed: int) -> Measured:
    """What a training showed, now or in an earlier sitting."""
    if isinstance(bench, SurrogateBench):
        return bench.measure(values, seed)
    key = json.dumps([__version__, bench.identity(values), seed], sort_keys=True, default=str)
    folder = cache_folder() / "trainings"
    file = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    try:
        return Measured(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        found = bench.measure(values, seed)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, asdict(found))
    return found


@dataclass
class SurrogateBench:
    """A table behind the surrogate.

    The first repetition has everything else as recommended; the others draw it from the
    recommended ranges, since the surrogate knows no noise.
    """

    name: str
    task: int
    book: Rulebook
    facts: Mapping[str, Value]

    def measure(self, values: Mapping[str, Value], seed: int) -> Measured:
        """Ask for the curve of the recommended network under these settings."""
        from smarttune.recommendation import recommend

        known = Facts.of({**surrogate.FACTS[self.task].facts(), **self.facts})
        made = recommend(known, rules=self.book, pinned={**surrogate.PINNED, **values})
        rng = np.random.default_rng([self.task, seed])
        row: dict[str, Any] = {}
        for axis in surrogate.SPACE:
            setting = made.settings[axis.canonical]
            u = float(rng.random())
            free = seed > 0 and axis.canonical not in values
            row[axis.name] = setting.range.from_unit(u) if free else setting.value
        epochs = np.arange(1, int(made.value("training.epochs")) + 1)
        rows = np.repeat(surrogate.as_row(row)[None], len(epochs), axis=0)
        output = surrogate.predict(data_folder().resolve() / LCBENCH, self.task, epochs, rows)
        errors = surrogate.errors_of(output)
        best = int(errors.argmin())
        seconds = float(surrogate.seconds_of(output)[-1])
        return Measured(max(float(errors[best]), LEAST_ERROR), best + 1, seconds)

    def identity(self, values: Mapping[str, Value]) -> Any:
        """The task and the settings."""
        return [self.name, dict(values), dict(self.facts)]


@dataclass
class TrainingBench:
    """Real data, on which networks are trained."""

    name: str
    dataset: Dataset
    problem: str | None
    book: Rulebook
    facts: Mapping[str, Value]
    lanes: list[Lanes] | None = None

    def __post_init__(self) -> None:
        self._jobs: dict[str, SearchJob] = {}

    def measure(self, values: Mapping[str, Value], seed: int) -> Measured:
        """Train the recommended network under these settings, once, to its end."""
        from smarttune.execution.choice import Executor
        from smarttune.tuning import Budget, Run, SmartTuner

        job = replace(self._job(values), seed=_hashed(self.name, seed))
        with tempfile.TemporaryDirectory() as folder:
            run = Run.create(Path(folder) / "run", {"objective": job.objective._asdict()})
            tuner = SmartTuner(
                job.oracle("random", Budget(trials=1)),
                job.hypermodel(),
                run=run,
                policy=job.policy(),
                budget=Budget(trials=1),
                executor=Executor(),
                lanes=self.lanes[0] if self.lanes else None,
            )
            if self.lanes is not None and not self.lanes:
                self.lanes.append(tuner.lanes)
            tuner.search(job.training_data)
            record = tuner.log[0]
        if record.outcome in ("failed", "out_of_memory"):
            raise RunError(
                f"{self.name}, {dict(values)}",
                received=record.message.strip().rpartition("\n")[2],
                expected="a network that can be trained",
                mend="Correct the rule's `check`, or leave the data set out with --on.",
            )
        return Measured(
            _error(record, job.objective, len(job.split.validation)),
            record.best_epoch,
            record.seconds,
        )

    def identity(self, values: Mapping[str, Value]) -> Any:
        """The data and every setting that the rules settled."""
        from smarttune.job import digest_of

        job = self._job(values)
        return [digest_of(self.dataset), job.settings, job.objective]

    def _job(self, values: Mapping[str, Value]) -> SearchJob:
        from smarttune.preparation import prepare

        key = repr(sorted(values.items()))
        if key not in self._jobs:
            self._jobs[key] = prepare(
                self.dataset,
                declared=Facts.of(dict(self.facts)),
                pinned=dict(values),
                rulebook=self.book,
                problem=self.problem,
                source={},
            ).job
        return self._jobs[key]


def _error(record: TrialRecord, objective: Objective, num_rows: int) -> float | None:
    """The best epoch's error: the score itself, or what it lacks of 1 and one row more.

    The one row is Laplace's: where next to nothing is wrong, ratios of errors would make much of
    a single row. ours: that AUC and R2 are treated as shares of rows.
    """
    if record.outcome == "diverged" or record.score is None:
        return None
    if objective.direction == "max":
        return 1.0 - record.score + 1.0 / num_rows
    return max(record.score, LEAST_ERROR)


def _hashed(name: str, seed: int) -> int:
    digest = hashlib.sha256(f"{name}/check/{seed}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
