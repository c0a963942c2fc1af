"""From finished runs to a portfolio: what was good in one is tried on the data of the others.

Each training is kept in a folder beside the portfolio as soon as it has ended, so that
learning that was broken off goes on with what is missing.

A run's own trials count with the score that they had there. A configuration from elsewhere
is trained as long as a full trial of the run, on the same rows, from one seed for all of
them. The best trial of a run was chosen among many, so its regret of 0 flatters it a little;
what it lost elsewhere does not.
"""

from __future__ import annotations

import hashlib
import json
import math
import time as clocks
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from smarttune.backend import prepare_backend
from smarttune.errors import OptionError, RunError
from smarttune.files import write_json
from smarttune.portfolio import (
    COMPARED,
    PROBLEM,
    Candidate,
    Portfolio,
    Task,
    fitting,
    write_portfolio,
)
from smarttune.space import SearchSpace, Value
from smarttune.trials import TrialLog, TrialRecord
from smarttune.tuning import Run, parse_duration
from smarttune.tuning.budget import Clock
from smarttune.version import __version__

if TYPE_CHECKING:
    from smarttune.tuning.preparing import SearchJob

OnEvent = Callable[[Mapping[str, Any]], None]

# ours: the best few of a run differ in luck more than in worth, and each costs a training on
# every other run's data.
CANDIDATES = 5

# Settings without which the others mean little, kept even where a run did not search them.
IDENTITY = ("model.family", "optimizer.name", "optimizer.schedule")

# ours: regrets with more digits than this would tell of noise only.
DIGITS = 4

# The facts that a portfolio keeps of a task.
_KEPT_FACTS = ("data.task", PROBLEM, *COMPARED)

_BY_HAND = "learnt"  # seeds and files of trainings are derived from it


@dataclass(frozen=True)
class Source:
    """A finished run and what it tells.

    Args:
        run: The run.
    """

    run: Run

    @property
    def name(self) -> str:
        """What the data are called."""
        return Path(str(self.run.manifest["data"]["where"])).stem

    @property
    def kind(self) -> str:
        """What kind of data they are."""
        return str(self.run.manifest["kind"])

    @property
    def digest(self) -> str:
        """The hash of the data."""
        return str(self.run.manifest["data"]["digest"])

    @cached_property
    def log(self) -> TrialLog:
        """Its trials."""
        return self.run.log

    @cached_property
    def space(self) -> SearchSpace:
        """What its trials differed in, without reading its data."""
        from smarttune.models import modality_of

        found = modality_of(self.kind, str(self.run.fingerprint.problem))
        recommendation = self.run.recommendation
        return recommendation.space(found.network_settings(recommendation.settings))

    @cached_property
    def job(self) -> SearchJob:
        """Its search, data included."""
        from smarttune.job import job_of_run

        return job_of_run(self.run)

    @property
    def longest(self) -> int:
        """Epochs of a full training."""
        value = self.run.recommendation.value
        return int(value("search.max_epochs") or value("training.epochs"))

    def full_trials(self) -> list[TrialRecord]:
        """Scored trials that had a full training, the best first."""
        from smarttune.tuning.watching import TIME_LIMIT

        ranked = (r for r in self.log.ranked() if r.message != TIME_LIMIT)
        return [r for r in ranked if r.max_epochs >= self.longest]

    def task(self, about: Mapping[str, str]) -> Task:
        """How the portfolio tells of its data."""
        facts = self.run.recommendation.facts
        known = {n: v for n in _KEPT_FACTS if (v := facts.value(n)) is not None}
        return Task(name=self.name, facts=known, about=dict(about))


def learn(
    runs: Sequence[str | Path | Run],
    output: str | Path,
    *,
    name: str | None = None,
    evaluate: bool = True,
    candidates: int = CANDIDATES,
    time: str | float | None = None,  # noqa: A002
    on_event: OnEvent | None = None,
) -> list[Path]:
    """Write a portfolio of what was good in finished runs.

    Args:
        runs: Runs or their directories. Only data of one kind can be compared: with several
            kinds each gets a file of its own, `OUTPUT-KIND.yaml`.
        output: The file to write. Trainings are kept in a folder beside it that has its name
            and ends in `.trained`.
        name: Of the portfolio; that of the file if None.
        evaluate: Whether candidates are trained on the data of the other runs. Without it a
            candidate is known only where it was tried already.
        candidates: Configurations taken of each run, the best ones; the recommendation is
            taken besides.
        time: Wall time for the trainings, as "20m" or in seconds; what was not tried by then
            stays unknown.
        on_event: Called with every event as a dict.

    Returns:
        The files that were written.

    Raises:
        SmartTuneError: For anything the user can mend.
    """
    if candidates < 1:
        raise OptionError(
            "--candidates",
            received=f"{candidates}",
            expected="at least 1",
            mend=f"Leave it out for {CANDIDATES}.",
        )
    seconds = parse_duration(time) if isinstance(time, str) else time
    ends = math.inf if seconds is None else clocks.monotonic() + seconds
    sources = sources_of(runs)
    prepare_backend()
    path = Path(output)
    kinds = dict.fromkeys(s.kind for s in sources)
    written: list[Path] = []
    for kind in kinds:
        alike = [s for s in sources if s.kind == kind]
        file = path if len(kinds) == 1 else path.with_name(f"{path.stem}-{kind}{path.suffix}")
        lesson = _Lesson(alike, candidates, Path(f"{path}.trained"), on_event)
        lesson.check_comparable()
        if evaluate:
            lesson.train(ends)
        write_portfolio(file, lesson.portfolio(name or file.stem))
        written.append(file)
    return written


def sources_of(runs: Sequence[str | Path | Run]) -> list[Source]:
    """Open finished runs, each once.

    Raises:
        OptionError: If there is none, or one is named twice.
        RunError: If one is no run of `smarttune search`, or left no score.
    """
    if not runs:
        raise OptionError(
            "runs", received="none", expected="at least one finished run", mend="Name one."
        )
    sources = [Source(r if isinstance(r, Run) else Run.load(r)) for r in runs]
    seen: set[Path] = set()
    for source in sources:
        run = source.run
        if "data" not in run.manifest:
            raise RunError(
                str(run.path),
                received="it searched a network of its user's own, whose data it does not know",
                expected="a run that `smarttune search` made",
                mend="Leave it out.",
            )
        if run.path.resolve() in seen:
            raise OptionError(
                str(run.path),
                received="the run is named twice",
                expected="each run once",
                mend="Leave it out the second time.",
            )
        seen.add(run.path.resolve())
        source.log.best()  # says what to do where no trial left a score
    return sources


def carried(record: TrialRecord, space: SearchSpace) -> dict[str, Value]:
    """The part of a trial's configuration that is worth trying elsewhere.

    That is what its run searched, and what the rest means little without; all else is better
    left to what is recommended there.
    """
    from smarttune.models.modality import of_family

    tuned = {n.partition("[")[0] for n in space.tuned}
    return {n: v for n, v in of_family(record.values).items() if n in tuned or n in IDENTITY}


@dataclass
class _Lesson:
    """Candidates, tasks of one kind, and the scores of the ones on the others."""

    sources: Sequence[Source]
    num_best: int
    folder: Path
    on_event: OnEvent | None
    outcomes: Counter[str] = field(default_factory=Counter)

    @cached_property
    def origins(self) -> list[tuple[str, dict[str, Value]]]:
        """Distinct configurations with the names of their data.

        The best of each run come first, then the second best, and so on.
        """
        queues = [list(self._best_of(source)) for source in self.sources]
        found: list[tuple[str, dict[str, Value]]] = []
        for place in range(max(map(len, queues))):
            for source, queue in zip(self.sources, queues, strict=True):
                if place < len(queue) and all(queue[place] != v for _, v in found):
                    found.append((source.name, queue[place]))
        return found

    @property
    def candidates(self) -> list[dict[str, Value]]:
        """Distinct configurations."""
        return [values for _, values in self.origins]

    def _best_of(self, source: Source) -> Iterator[dict[str, Value]]:
        found: list[dict[str, Value]] = []
        for record in source.full_trials() or source.log.ranked():
            values = carried(record, source.space)
            if values not in found and len(found) < self.num_best:
                found.append(values)
                yield values
        default = source.log.default()
        if default is not None:
            yield carried(default, source.space)

    @cached_property
    def configurations(self) -> list[list[dict[str, Value] | None]]:
        """Each candidate as each run would train it; None where it does not fit."""
        return [[fitting(v, s.space) for s in self.sources] for v in self.candidates]

    @cached_property
    def scores(self) -> list[list[float | None]]:
        """Of each candidate on each task; None where unknown."""
        return [
            [None if v is None else _tried(s, v) for v, s in zip(row, self.sources, strict=True)]
            for row in self.configurations
        ]

    def check_comparable(self) -> None:
        """Refuse runs that could never be compared.

        Raises:
            OptionError: If there are several, and no candidate fits more than one of them.
        """
        several = any(sum(v is not None for v in row) > 1 for row in self.configurations)
        if len(self.sources) > 1 and not several:
            raise OptionError(
                "runs",
                received="no configuration of one run is open in the space of another",
                expected="runs whose networks and optimizers can be compared",
                mend="Learn from runs with the same model.family and optimizer.name, or from "
                "each run by itself.",
            )

    def missing(self) -> list[tuple[int, int]]:
        """Candidates and tasks still to be trained, the most promising candidates first."""
        return [
            (i, j)
            for i, row in enumerate(self.configurations)
            for j, values in enumerate(row)
            if values is not None and self.scores[i][j] is None
        ]

    def train(self, ends: float) -> None:
        """Train what is missing, as far as the time allows."""
        from smarttune.execution import collect_garbage, prepare_process

        missing = self.missing()
        self._tell("learning_started", candidates=len(self.candidates), trainings=len(missing))
        prepare_process()
        for k, (i, j) in enumerate(missing, start=1):
            source, values = self.sources[j], self.configurations[i][j]
            assert values is not None
            found = self._kept(source, values)
            if found is None:
                found = _trained(source, values, ends)
                if found is None:
                    left = len(missing) - k + 1
                    self.outcomes["not tried"] += left
                    self._tell("learning_ended", reason="the time is up", left=left)
                    return
                write_json(self._file(source, values), found)
                collect_garbage(k)
            self.scores[i][j] = found["score"]
            self.outcomes[found["outcome"]] += 1
            self._tell("trained", k=k, n=len(missing), data=source.name, **found)

    def _file(self, source: Source, values: Mapping[str, Value]) -> Path:
        what = [source.digest, source.run.objective, _seed(source), source.longest, dict(values)]
        text = json.dumps(what, sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"

    def _kept(self, source: Source, values: Mapping[str, Value]) -> dict[str, Any] | None:
        """What an earlier sitting found; None where it did not come so far."""
        try:
            found: dict[str, Any] = json.loads(self._file(source, values).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return found

    def _tell(self, event: str, **details: Any) -> None:
        if self.on_event is not None:
            self.on_event({"event": event, **details})

    def portfolio(self, name: str) -> Portfolio:
        """What was learnt."""
        scales = [
            _scale(source, [row[j] for row in self.scores]) for j, source in enumerate(self.sources)
        ]
        found = [
            Candidate(
                values=values,
                regrets=tuple(
                    None if score is None else scale.regret(score)
                    for score, scale in zip(row, scales, strict=True)
                ),
                origin=origin,
            )
            for (origin, values), row in zip(self.origins, self.scores, strict=True)
        ]
        kind = self.sources[0].kind
        return Portfolio(
            name=name,
            summary=f"Good configurations of {len(self.sources)} run(s) on {kind} data.",
            about=self._about(),
            requires={"data.task": kind} | self._alike(),
            tasks=tuple(
                s.task(_provenance(s) | scale.about())
                for s, scale in zip(self.sources, scales, strict=True)
            ),
            candidates=tuple(found),
        )

    def _alike(self) -> dict[str, Value]:
        """The identity that all candidates have, without which none of them would be of use."""
        first, *others = self.candidates
        return {
            n: first[n]
            for n in IDENTITY
            if n in first and all(v.get(n) == first[n] for v in others)
        }

    def _about(self) -> dict[str, str]:
        from smarttune.job import environment

        versions = {"smarttune": __version__, **environment()}
        names = " ".join(s.run.path.name for s in self.sources)
        trained = ", ".join(f"{n} {outcome}" for outcome, n in sorted(self.outcomes.items()))
        return {
            "made": clocks.strftime("%Y-%m-%d"),
            "command": f"smarttune learn {names} --candidates {self.num_best}",
            "trainings": trained or "none beside those of the runs",
            "regret": "0 is the best score known on a task, 1 the median of its run's trials",
            "versions": ", ".join(f"{n} {v}" for n, v in versions.items() if n != "platform"),
        }


@dataclass(frozen=True)
class _Scale:
    """Which scores of a task have the regrets 0 and 1."""

    best: float
    middling: float

    def regret(self, score: float) -> float:
        """How far a score is from the best known one."""
        width = self.middling - self.best
        # Adding 0.0 makes a zero of either sign a plain one.
        return round((score - self.best) / width, DIGITS) + 0.0 if width else 0.0

    def about(self) -> dict[str, str]:
        """The two scores as text."""
        return {"best_score": f"{self.best:.6g}", "median_score": f"{self.middling:.6g}"}


def _scale(source: Source, learnt: Sequence[float | None]) -> _Scale:
    """Where no trial differs from the best, the worst score known stands for the median."""
    trials = [float(r.score or 0.0) for r in source.full_trials() or source.log.ranked()]
    known = [*trials, *(s for s in learnt if s is not None)]
    better, worse = (max, min) if source.run.objective.direction == "max" else (min, max)
    best, middling = better(known), median(trials)
    return _Scale(best, worse(known) if middling == best else middling)


def _provenance(source: Source) -> dict[str, str]:
    run = source.run
    return {
        "run": run.path.name,
        "digest": source.digest,
        "rows": str(run.manifest["data"]["rows"]),
        "objective": f"{run.objective.name} ({run.objective.direction})",
        "trials": str(len(source.log)),
        "epochs": str(source.longest),
        "seed": str(run.manifest["seed"]),
        "learning_seed": str(_seed(source)),
    }


def _tried(source: Source, values: Mapping[str, Value]) -> float | None:
    """The score of a configuration among a run's own full trainings."""
    same = (r for r in source.full_trials() if _agree(r.values, values))
    return next((r.score for r in same), None)


def _agree(one: Mapping[str, Value], other: Mapping[str, Value]) -> bool:
    return one.keys() == other.keys() and all(one[n] == v for n, v in other.items())


def _seed(source: Source) -> int:
    """One seed for all candidates on a task, so that they differ in nothing else."""
    digest = hashlib.sha256(f"{source.run.manifest['seed']}/{_BY_HAND}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


class _WholeClock(Clock):
    """A clock on which training may take all of the time; nothing comes after it."""

    @property
    def training_ends(self) -> float | None:
        """Elapsed seconds at which the training must have stopped."""
        return self.seconds


def _trained(source: Source, values: Mapping[str, Value], ends: float) -> dict[str, Any] | None:
    """Train a configuration on a run's data.

    Returns:
        What came of it, fit for JSON; None if the time does not suffice.
    """
    from smarttune.tuning.repeating import Repetition, repeated

    left = ends - clocks.monotonic()
    usual = min((r.seconds for r in source.full_trials()), default=0.0)
    if left <= usual:
        return None
    clock = _WholeClock(None if math.isinf(left) else left)
    record = TrialRecord(
        trial_id=_BY_HAND, values=dict(values), outcome="completed", max_epochs=source.longest
    )
    found = repeated(source.job, record, Repetition("seed", 1, _seed(source)), clock)
    if found is None:
        return None
    kept = {"values", "outcome", "score", "num_epochs", "seconds", "seed", "message"}
    return found.model_dump(mode="json", include=kept) | (
        {} if found.has_score else {"score": None}
    )
