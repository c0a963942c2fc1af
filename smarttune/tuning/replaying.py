"""A fresh oracle is brought to where the recorded trials left it.

What an oracle proposes depends on the order in which it was asked and told. The records tell in
which order trials ended, and each after how many of them its trial was asked for. So the oracle
is asked and told again in that order. Trials that were running when the search was broken off
have no record; that they were begun is among the events.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Protocol

from keras_tuner.engine.trial import Trial, TrialStatus

from smarttune.trials import TrialRecord


class Retell(Protocol):
    """Tells of a recorded trial again."""

    def __call__(self, trial: Trial, record: TrialRecord, *, is_last: bool) -> None:
        """Tell; `is_last` if no later trial is on record."""


class Replay:
    """Asks and tells an oracle in the order in which it was.

    Args:
        tuner: The tuner, whose oracle is fresh.
        asked: Filled with the trials that have not ended, and how many had when they were
            asked for.
        retell: Told each recorded trial.

    Attributes:
        is_cut: Whether the oracle ended before its recorded trials.
    """

    def __init__(self, tuner: Any, asked: MutableMapping[str, int], retell: Retell) -> None:
        self.tuner = tuner
        self.asked = asked
        self.retell = retell
        self.is_cut = False
        self._open: dict[str, Trial] = {}

    def run(self) -> list[Trial]:
        """Replay all trials; return those that were running, in the order of their asking."""
        oracle, records = self.tuner.oracle, tuple(self.tuner.records.values())
        begun = self.tuner.run.events("trial_started")
        started = {e["trial_id"]: e["asked_after"] for e in begun if "asked_after" in e}
        # A resumed search may have another budget, with more digits or fewer.
        oracle.id_width = max(map(len, (*self.tuner.records, *started)), default=0) or None
        moments = asked_after(records, started)
        for position, record in enumerate(records):
            self._ask(moments, position)
            trial = self._open.pop(record.trial_id, None)
            if trial is None:
                self.is_cut = True
                break
            del self.asked[record.trial_id]
            self.retell(trial, record, is_last=position == len(records) - 1)
        else:
            self._ask(moments, len(records))
        return list(self._open.values())

    def _ask(self, moments: list[int], position: int) -> None:
        """Ask for the trials that were asked for before the next one ended."""
        while moments and moments[0] <= position:
            trial = self.tuner.oracle.create_trial(free_slot(self.tuner))
            if trial.status != TrialStatus.RUNNING:
                return
            self.asked[trial.trial_id] = moments.pop(0)
            self._open[trial.trial_id] = trial


def asked_after(records: Sequence[TrialRecord], started: Mapping[str, int]) -> list[int]:
    """For each trial, in the order of asking, how many others had ended by then.

    Args:
        records: Finished trials in the order in which they ended.
        started: The same number for trials that were begun, finished or not.
    """
    known = {int(trial_id): moment for trial_id, moment in started.items()}
    for position, record in enumerate(records):
        told = record.asked_after
        known[int(record.trial_id)] = position if told is None else told
    # Of a trial of which nothing is known but that others came after it, these tell the latest.
    moments: list[int] = []
    latest = len(records)
    for number in range(max(known, default=-1), -1, -1):
        latest = min(latest, known.get(number, latest))
        moments.append(latest)
    return moments[::-1]


def free_slot(tuner: Any) -> str:
    """A name under which the oracle can be asked for one more trial: it has none that runs."""
    own = str(tuner.tuner_id)
    others = (f"{own}.{number}" for number in itertools.count(1))
    taken = tuner.oracle.ongoing_trials
    return next(name for name in (own, *itertools.islice(others, len(taken))) if name not in taken)
