"""An oracle is asked and told again in the order in which it was, whatever that order."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarttune.oracles import STRATEGIES
from smarttune.trials import TrialRecord
from smarttune.tuning.replaying import Replay, asked_after, free_slot
from tests.oracles.playing import finish, loss, space

# nsga2 needs several objectives, gradient an optimizer with a rate; both are asked as the others.
PLAYED = [name for name in STRATEGIES if name not in ("nsga2", "gradient")]
MOST_ENDINGS = 14


def fresh(strategy: str) -> Any:
    """An oracle that has proposed nothing."""
    size: dict[str, Any] = {"max_trials": 12}
    if strategy in ("hyperband", "priorband"):
        size = {"max_epochs": 9}
    if strategy in ("asha", "i_epoch"):
        size["max_epochs"] = 9
    kind: Any = STRATEGIES[strategy]
    return kind(objective="val_loss", hyperparameters=space(), seed=3, persist=False, **size)


def tuner_of(oracle: Any) -> Any:
    """As much of a tuner as a replay needs."""
    return SimpleNamespace(
        oracle=oracle, tuner_id="tuner0", records={}, run=SimpleNamespace(events=lambda _: [])
    )


class Played:
    """A search with several workers whose endings come in any order.

    Attributes:
        started: Events of trials that began.
        records: What ended, in that order.
    """

    def __init__(self, oracle: Any, workers: int) -> None:
        self.oracle, self.workers = oracle, workers
        self.tuner = tuner_of(oracle)
        self.running: dict[str, Any] = {}
        self.moments: dict[str, int] = {}
        self.started: list[dict[str, Any]] = []
        self.records: dict[str, TrialRecord] = {}

    def ask(self) -> None:
        """Ask until all workers are busy or the oracle says otherwise."""
        while len(self.running) < self.workers:
            trial = self.oracle.create_trial(free_slot(self.tuner))
            if trial.status != "RUNNING":
                return
            moment = self.moments.setdefault(trial.trial_id, len(self.records))
            self.started.append({"trial_id": trial.trial_id, "asked_after": moment})
            self.running[trial.trial_id] = trial

    def end(self, place: int) -> None:
        """End one of the running trials."""
        trial = self.running.pop(sorted(self.running)[place % len(self.running)])
        values = dict(trial.hyperparameters.values)
        tell(trial, self.oracle)
        self.records[trial.trial_id] = TrialRecord(
            trial_id=trial.trial_id,
            values=values,
            outcome="completed",
            asked_after=self.moments.pop(trial.trial_id),
        )

    def play(self, endings: list[int]) -> None:
        """Ask and end in turn."""
        self.ask()
        for place in endings:
            if not self.running:
                return
            self.end(place)
            self.ask()


def tell(trial: Any, oracle: Any) -> None:
    """Tell what comes of a trial; one in five crashes."""
    crashes = int(trial.trial_id) % 5 == 3
    result = "crash" if crashes else loss(trial.trial_id, trial.hyperparameters.values)
    finish(oracle, trial, result)


def replayed(search: Played, oracle: Any) -> tuple[Played, Replay]:
    """The same search on a fresh oracle, from what a killed process leaves."""
    again = Played(oracle, search.workers)
    again.tuner.records = search.records
    again.tuner.run.events = lambda _: search.started

    def retell(trial: Any, record: TrialRecord, *, is_last: bool) -> None:
        assert trial.hyperparameters.values == record.values
        tell(trial, oracle)

    replay = Replay(again.tuner, again.moments, retell)
    again.running = {trial.trial_id: trial for trial in replay.run()}
    again.records = dict(search.records)
    return again, replay


def proposals(running: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Values by trial."""
    return {i: dict(t.hyperparameters.values) for i, t in running.items()}


@pytest.mark.parametrize("strategy", PLAYED)
@settings(max_examples=8)
@given(
    workers=st.integers(1, 4),
    endings=st.lists(st.integers(0, 3), max_size=MOST_ENDINGS),
    later=st.lists(st.integers(0, 3), max_size=4),
)
def test_a_replay_reproduces_what_was_proposed(
    strategy: str, workers: int, endings: list[int], later: list[int]
) -> None:
    """Killed after any endings in any order, a search has the same trials running and to come."""
    search = Played(fresh(strategy), workers)
    search.play(endings)

    again, replay = replayed(search, fresh(strategy))

    assert not replay.is_cut
    assert proposals(again.running) == proposals(search.running)
    assert again.moments == search.moments
    search.play(later)
    again.play(later)
    assert proposals(again.running) == proposals(search.running)
    assert list(again.records) == list(search.records)


def record(trial_id: int, moment: int | None = None) -> TrialRecord:
    """A finished trial."""
    return TrialRecord(
        trial_id=f"{trial_id:04}", values={}, outcome="completed", asked_after=moment
    )


@pytest.mark.parametrize(
    ("records", "started", "expected"),
    [
        ([], {}, []),
        ([record(0), record(1)], {}, [0, 1]),  # one by one, as older versions recorded
        ([record(1, 0), record(0)], {}, [0, 0]),
        ([record(0), record(2, 1)], {"0001": 0}, [0, 0, 1]),
        ([record(0), record(3, 1)], {}, [0, 1, 1, 1]),  # the events are gone
        ([record(0), record(1, 0)], {"0002": 1, "0003": 2}, [0, 0, 1, 2]),
    ],
)
def test_moments_of_asking(
    records: list[TrialRecord], started: dict[str, int], expected: list[int]
) -> None:
    """Every trial up to the last known one has its moment, none later than those after it."""
    assert asked_after(records, started) == expected


def test_an_oracle_that_ends_early_cuts_the_replay() -> None:
    """Where the oracle proposes fewer trials than are on record, the replay says so and stops."""
    search = Played(fresh("random"), 2)
    search.play([0] * 12)
    assert len(search.records) == 12
    short: Any = STRATEGIES["random"](
        objective="val_loss", hyperparameters=space(), seed=3, persist=False, max_trials=10
    )

    _, replay = replayed(search, short)

    assert replay.is_cut


def test_every_slot_is_free() -> None:
    """No slot is handed out while its trial runs, and the tuner's own comes first."""
    tuner = tuner_of(fresh("random"))
    slots = []
    for _ in range(3):
        slots.append(free_slot(tuner))
        trial = tuner.oracle.create_trial(slots[-1])
    assert len(set(slots)) == 3
    assert slots[0] == "tuner0"

    tell(trial, tuner.oracle)

    assert free_slot(tuner) == slots[-1]
