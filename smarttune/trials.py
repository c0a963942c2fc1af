"""What was tried: trial records and the log they form."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from smarttune.errors import RunError
from smarttune.objectives import Objective
from smarttune.space import Value

Outcome = Literal["completed", "stopped", "diverged", "failed", "out_of_memory"]

Scored = ("completed", "stopped")  # outcomes that leave a score and a model


class TrialRecord(BaseModel):
    """One finished trial: a configuration trained at one fidelity.

    Attributes:
        trial_id: The oracle's name for it.
        values: Active hyperparameters without bookkeeping.
        outcome: completed; stopped (by early stopping or the time limit); diverged
            (a non-finite loss); failed (an exception); out_of_memory.
        score: Best value of the objective over the epochs; None without one.
        best_epoch: Epoch of that value, counted from 1 over the whole lineage.
        initial_epoch: Epochs that its parent had trained.
        num_epochs: Epochs trained in all, the parent's included.
        max_epochs: Epochs that it was allowed.
        curve: Logs of each epoch of the whole lineage, from the first.
        seconds: Wall time.
        parent: The trial that it continues, in a rung above the first.
        rung: Level of successive halving, 0 for trials outside of brackets.
        bracket: The ladder it belongs to; None outside of brackets.
        is_default: It is the recommendation itself.
        seed: Seeds weights, dropout and the order of the data.
        num_parameters: Trainable parameters; None if unknown.
        num_micro_batches: Parts into which each batch was cut because it did not fit into
            memory whole.
        samples_per_second: Training samples a second, validation not counted; None if unknown.
        initial_loss: Loss of the first steps of the lineage; None if unknown.
        latency: Milliseconds to predict a small batch (see `smarttune.tuning.costs`); None where it
            was no objective.
        started: Seconds since the epoch of the clock, when it began.
        message: What went wrong.
        repeat_of: The trial whose configuration was trained again, to confirm its score; None
            for the trials of the search itself.
        fold: The fold on which it was trained again, counted from 1; None for the rows of the
            search.
        asked_after: Trials of the search that had ended when the strategy was asked for this
            one; None where it was asked for right before it ran, after all that ended before it.
    """

    # A curve may hold NaN, which must come back as it went.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    trial_id: str
    values: dict[str, Value]
    outcome: Outcome
    score: float | None = None
    best_epoch: int | None = None
    initial_epoch: int = 0
    num_epochs: int = 0
    max_epochs: int = 0
    curve: Annotated[tuple[dict[str, float], ...], Field(repr=False)] = ()
    seconds: float = 0.0
    parent: str | None = None
    rung: int = 0
    bracket: int | None = None
    is_default: bool = False
    seed: int = 0
    num_parameters: int | None = None
    num_micro_batches: int = 1
    samples_per_second: float | None = None
    initial_loss: float | None = None
    latency: float | None = None
    started: float = 0.0
    message: str = ""
    repeat_of: str | None = None
    fold: int | None = None
    asked_after: int | None = None

    @property
    def has_score(self) -> bool:
        """Whether it ended well, with a score that is a number."""
        return self.outcome in Scored and self.score is not None and math.isfinite(self.score)

    @property
    def is_scored(self) -> bool:
        """Whether it left a score and a model that may win; a repeat only bears witness."""
        return self.repeat_of is None and self.has_score


class TrialLog(Sequence[TrialRecord]):
    """Finished trials in the order in which they ended.

    Attributes:
        repeats: Trainings that confirm a trial; they are not among the trials, so that they
            are neither ranked nor counted.
    """

    def __init__(self, objective: Objective, records: Sequence[TrialRecord] = ()) -> None:
        self.objective = objective
        self._records = tuple(r for r in records if r.repeat_of is None)
        self.repeats = tuple(r for r in records if r.repeat_of is not None)

    def __getitem__(self, index: Any) -> Any:
        return self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[TrialRecord]:
        return iter(self._records)

    def ranked(self) -> list[TrialRecord]:
        """Scored trials, the best first; of a lineage only its last member counts."""
        return Ranking(self.objective, self._records).top(len(self._records))

    def best(self) -> TrialRecord:
        """The best trial.

        Raises:
            RunError: If no trial left a score.
        """
        ranked = self.ranked()
        if not ranked:
            outcomes = ", ".join(sorted({r.outcome for r in self._records})) or "none was run"
            raise RunError(
                "trials",
                received=f"no trial left a score (outcomes: {outcomes})",
                expected="at least one completed trial",
                mend="Read the messages of the failed trials with `smarttune show RUN`, "
                "or give the search more time.",
            )
        return ranked[0]

    def default(self) -> TrialRecord | None:
        """The trial of the recommendation itself, if it was run and left a score."""
        return next((r for r in self._records if r.is_default and r.is_scored), None)

    def lineage_seconds(self, record: TrialRecord) -> float:
        """Seconds that a trial and those that it continues took."""
        by_id = {r.trial_id: r for r in self._records}
        total, member = 0.0, record
        while True:
            total += member.seconds
            if member.parent is None or member.parent not in by_id:
                return total
            member = by_id[member.parent]

    @property
    def num_epochs(self) -> int:
        """Epochs trained over all trials; what a parent trained counts once."""
        return sum(r.num_epochs - r.initial_epoch for r in self._records)

    @property
    def seconds(self) -> float:
        """Wall time of all trainings, those of the repeats included."""
        return sum(r.seconds for r in (*self._records, *self.repeats))


class Ranking:
    """Scored trials in order, the best first, kept up to date while trials end.

    Of a lineage only its last member counts.

    Args:
        objective: What ranks them.
        records: Those that have ended.
    """

    def __init__(self, objective: Objective, records: Iterable[TrialRecord] = ()) -> None:
        self._sign = -1.0 if objective.direction == "max" else 1.0
        self._ranked: list[TrialRecord] = []
        self._by_id: dict[str | None, TrialRecord] = {}
        self._continued: set[str | None] = set()
        for record in records:
            self.add(record)

    def add(self, record: TrialRecord) -> None:
        """Take in a trial that has ended; it takes the place of the one that it continues."""
        if not record.is_scored:
            return
        self._continued.add(record.parent)
        if (parent := self._by_id.pop(record.parent, None)) is not None:
            place = bisect.bisect_left(self._ranked, self._place(parent), key=self._place)
            del self._ranked[place]
        if record.trial_id not in self._continued:
            self._by_id[record.trial_id] = record
            bisect.insort(self._ranked, record, key=self._place)

    def top(self, num: int) -> list[TrialRecord]:
        """The best trials, the very best first."""
        return self._ranked[:num]

    def _place(self, record: TrialRecord) -> tuple[float, str]:
        return self._sign * (record.score or 0.0), record.trial_id
