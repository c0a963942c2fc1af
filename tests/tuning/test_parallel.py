"""A search whose trials run several at a time, in workers that are played in this process."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarttune.errors import OptionError, RunError
from smarttune.execution.workers import Ended
from smarttune.tuning import Budget, Run, SmartTuner, TrialPolicy
from smarttune.tuning.checkpoints import prune
from smarttune.tuning.driving import RESUBMISSIONS, SHARED
from smarttune.tuning.policy import Given
from smarttune.tuning.watching import TIME_LIMIT
from smarttune.tuning.working import LARGE_ARRAY, share

from .pools import PlayedPool, played
from .searches import (
    RATE,
    Scripted,
    bowl,
    declare,
    essence,
    keras_reads_variables,
    kerastuner_names_threads,
    oracle,
    tiny_model,
    tuner,
)
from .tables import dense_model, dense_oracle

pytestmark = [keras_reads_variables, kerastuner_names_threads]

NUM_TRIALS = 6  # of `oracle`


def events(path: Path, kind: str) -> list[dict[str, Any]]:
    """Events of one kind."""
    lines = (path / "events.jsonl").read_text().splitlines()
    return [e for e in map(json.loads, lines) if e["event"] == kind]


def backwards(key: str) -> int:
    """The youngest trial ends first."""
    return -int(key)


def ids(tuner: SmartTuner) -> list[str]:
    """Trials in the order of their ends."""
    return [r.trial_id for r in tuner.log]


def test_one_worker_equals_no_worker(tmp_path: Path) -> None:
    """A search in one worker leaves the very records of a search in this process."""
    here = tuner(tmp_path / "here", "hyperband")
    here.search()
    there = tuner(tmp_path / "there", "hyperband", pool=played())

    there.search()

    assert [essence(r) for r in there.log] == [essence(r) for r in here.log]
    assert any(r.parent for r in there.log)
    assert {r.asked_after for r in there.log} == {None}


@pytest.mark.parametrize("strategy", ["random", "hyperband", "bayesian", "asha"])
def test_every_trial_runs_once_in_whatever_order(tmp_path: Path, strategy: str) -> None:
    """Workers are kept busy, each id is recorded once, and what was asked early says so."""
    pools: list[PlayedPool] = []

    def make(setup: Any, count: int) -> PlayedPool:
        pools.append(PlayedPool(setup, count, order=backwards))
        return pools[0]

    made = oracle("asha", max_trials=6, max_epochs=4) if strategy == "asha" else strategy
    search = tuner(tmp_path / "run", made, pool=make, workers=3)
    search.search(epochs=2)

    assert pools[0].most_running == 3
    assert [int(i) for i in sorted(ids(search))] == list(range(len(search.log)))
    assert ids(search) != sorted(ids(search))
    assert any(r.asked_after is not None for r in search.log)
    assert not events(tmp_path / "run", "warning")
    assert not (tmp_path / "run" / SHARED).exists()


def test_the_same_order_of_ends_gives_the_same_search(tmp_path: Path) -> None:
    """Nothing but the order in which trials end decides what is proposed."""
    first = tuner(tmp_path / "a", "bayesian", pool=played(order=backwards), workers=3)
    first.search(epochs=2)
    second = tuner(tmp_path / "b", "bayesian", pool=played(order=backwards), workers=3)
    second.search(epochs=2)

    assert [essence(r) for r in first.log] == [essence(r) for r in second.log]


@pytest.mark.slow
@settings(max_examples=10)
@given(
    strategy=st.sampled_from(["random", "hyperband", "bayesian"]),
    workers=st.integers(1, 4),
    ranks=st.permutations(range(12)),
    breaks=st.lists(st.integers(0, 4), min_size=1, max_size=3),
)
def test_a_resumed_search_equals_an_uninterrupted_one(
    tmp_path_factory: pytest.TempPathFactory,
    strategy: str,
    workers: int,
    ranks: list[int],
    breaks: list[int],
) -> None:
    """Broken off at any moments, it ends with the records of one sitting, each trial once."""
    path = tmp_path_factory.mktemp("resumed")

    def order(key: str) -> int:
        return ranks[int(key)] if int(key) < len(ranks) else int(key)

    whole = tuner(path / "whole", strategy, pool=played(order=order), workers=workers)
    whole.search(epochs=2)
    for after in breaks:
        pool = played(order=order, breaks_after=after)
        broken = tuner(path / "broken", strategy, pool=pool, workers=workers)
        try:
            broken.search(epochs=2)
        except KeyboardInterrupt:
            assert [t.trial_id for t in broken.left] or not broken.records
    resumed = tuner(path / "broken", strategy, pool=played(order=order), workers=workers)
    resumed.search(epochs=2)

    assert [essence(r) for r in resumed.log] == [essence(r) for r in whole.log]
    ended = Counter(e["trial_id"] for e in events(path / "broken", "trial_finished"))
    assert set(ended.values()) == {1}
    assert not events(path / "broken", "warning")


def test_another_number_of_workers_goes_on(tmp_path: Path) -> None:
    """What three workers had begun is finished by none, and nothing of it is lost."""
    first = tuner(tmp_path / "run", pool=played(order=backwards, breaks_after=2), workers=3)
    with pytest.raises(KeyboardInterrupt):
        first.search(epochs=2)
    begun = {e["trial_id"]: e["values"] for e in events(tmp_path / "run", "trial_started")}
    resumed = tuner(tmp_path / "run")

    resumed.search(epochs=2)

    assert len(begun) == 5
    assert sorted(ids(resumed)) == [str(i) for i in range(NUM_TRIALS)]
    assert begun.items() <= {r.trial_id: r.values for r in resumed.log}.items()
    third = tuner(tmp_path / "run")
    assert not third.left
    assert not events(tmp_path / "run", "warning")


def test_a_tuner_goes_on_where_it_was_broken_off(tmp_path: Path) -> None:
    """The same object may search again after Ctrl-C, and runs first what had been running."""
    search = tuner(tmp_path / "run", pool=played(order=backwards, breaks_after=1), workers=2)
    with pytest.raises(KeyboardInterrupt):
        search.search(epochs=2)
    assert [t.trial_id for t in search.left] == ["0", "2"]
    search.make_pool = played()

    search.search(epochs=2)

    assert ids(search) == ["1", "0", "2", "3", "4", "5"]


def test_a_lost_worker_costs_no_trial(tmp_path: Path) -> None:
    """A trial whose worker is killed runs again, and its loss is an event with the reason."""
    search = tuner(tmp_path / "run", pool=played(losses={"1": 1, "3": RESUBMISSIONS}), workers=2)

    search.search(epochs=2)

    assert [r.outcome for r in search.log] == ["completed"] * NUM_TRIALS
    lost = events(tmp_path / "run", "worker_lost")
    assert [e["trial_id"] for e in lost] == ["1"] + ["3"] * RESUBMISSIONS
    assert all("signal 9" in e["reason"] and "runs again" in e["text"] for e in lost)


def test_a_trial_that_kills_its_workers_fails(tmp_path: Path) -> None:
    """Lost once more than it is handed in again, it has failed and says what to do."""
    search = tuner(tmp_path / "run", pool=played(losses={"2": RESUBMISSIONS + 1}), workers=2)

    search.search(epochs=2)

    failed = search.records["2"]
    assert failed.outcome == "failed"
    assert "killed by signal 9" in failed.message
    assert "fewer workers" in failed.message
    assert sorted(ids(search)) == [str(i) for i in range(NUM_TRIALS)]
    assert len(events(tmp_path / "run", "worker_lost")) == RESUBMISSIONS + 1


def broken_at_once(values: Any, epoch: int) -> dict[str, float]:
    """A bug of the user's."""
    raise ZeroDivisionError("division by nothing")


def broken_later(values: Any, epoch: int) -> dict[str, float]:
    """A bug that some configurations meet."""
    if values[RATE] > 5e-2:
        raise ZeroDivisionError("division by nothing")
    return bowl(values, epoch)


def other_metric(values: Any, epoch: int) -> dict[str, float]:
    """Logs without the objective."""
    return {"loss": 1.0}


def test_a_bug_ends_the_search_with_its_traceback(tmp_path: Path) -> None:
    """Where nothing ever worked, the worker's exception is raised here with the user's lines."""
    search = tuner(tmp_path / "run", hypermodel=Scripted(broken_at_once), pool=played(), workers=2)

    with pytest.raises(ZeroDivisionError, match="division by nothing") as caught:
        search.search(epochs=2)

    assert "in broken_at_once" in str(caught.value.__cause__)
    assert not search.records
    assert not (tmp_path / "run" / SHARED).exists()


def test_a_later_bug_fails_one_trial(tmp_path: Path) -> None:
    """Once a trial has worked, a crash costs that trial alone."""
    search = tuner(tmp_path / "run", hypermodel=Scripted(broken_later), pool=played(), workers=2)

    search.search(epochs=2)

    failed = [r for r in search.log if r.outcome == "failed"]
    assert failed
    assert all("division by nothing" in r.message for r in failed)
    assert len(search.log) == NUM_TRIALS


def test_a_crash_beside_the_first_trials_fails_one_trial(tmp_path: Path) -> None:
    """A trial that began before any had ended is no reason to end once another one worked."""
    search = tuner(tmp_path / "run", hypermodel=Scripted(broken_later), pool=played(), workers=6)

    search.search(epochs=2)

    assert search.log[0].outcome == "completed"
    assert "failed" in {r.outcome for r in search.log}
    assert len(search.log) == NUM_TRIALS


def test_a_mistake_of_the_user_keeps_its_words(tmp_path: Path) -> None:
    """An error that he can mend arrives whole: where, what was received and what to do."""
    search = tuner(tmp_path / "run", hypermodel=Scripted(other_metric), pool=played(), workers=2)

    with pytest.raises(OptionError, match="val_loss") as caught:
        search.search(epochs=2)

    assert caught.value.where == "objective"
    assert caught.value.mend


def test_a_crash_is_tried_again(tmp_path: Path) -> None:
    """A trial that crashes is run as often as the oracle allows, and has one record."""
    made = oracle(max_retries_per_trial=2)
    search = tuner(tmp_path / "run", made, Scripted(broken_later), pool=played(), workers=2)
    runs: Counter[str] = Counter()
    submit = PlayedPool.submit

    def counted(pool: PlayedPool, key: str, task: Any) -> None:
        runs[key] += 1
        submit(pool, key, task)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlayedPool, "submit", counted)
        search.search(epochs=2)

    assert {runs[r.trial_id] for r in search.log if r.outcome == "failed"} == {3}
    assert {runs[r.trial_id] for r in search.log if r.outcome == "completed"} == {1}


def test_a_setup_that_fails_is_told(tmp_path: Path) -> None:
    """Workers that cannot use what they were sent end the search with the reason."""

    class Unusable(PlayedPool):
        def wait(self, timeout: float | None = None) -> Any:
            return [Ended(next(iter(self.running)), error="Traceback\nImportError: no module x")]

    search = tuner(tmp_path / "run", pool=Unusable, workers=2)

    with pytest.raises(RunError, match="no module x"):
        search.search(epochs=2)


class Overridden(SmartTuner):
    """Trains in a way of its own."""

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
        return 1.0


class Listening(SmartTuner):
    """Hears of epochs."""

    def on_epoch_end(self, trial: Any, model: Any, epoch: int, logs: Any = None) -> None:
        """Listen."""


@pytest.mark.parametrize(
    ("kind", "options", "word"),
    [
        (Overridden, {}, "run_trial"),
        (Listening, {}, "on_epoch_end"),
        (SmartTuner, {"loss": "mae"}, "loss="),
        (SmartTuner, {"workers": 0}, "0 workers"),
        (SmartTuner, {"workers": 1.5}, "1.5 workers"),
    ],
)
def test_what_workers_cannot_do_is_refused(
    tmp_path: Path, kind: Any, options: dict[str, Any], word: str
) -> None:
    """Code that workers would not call is named before anything is written."""
    options = {"workers": 2, **options}

    with pytest.raises(OptionError, match=word):
        kind(oracle(), Scripted(), directory=tmp_path, project_name="run", **options)

    assert not (tmp_path / "run").exists()


def test_hooks_of_trials_are_called_here(tmp_path: Path) -> None:
    """`on_trial_begin` and `on_trial_end` of a subclass hear of every trial."""
    heard: list[tuple[str, str]] = []

    class Hooked(SmartTuner):
        def on_trial_begin(self, trial: Any) -> None:
            heard.append(("begin", trial.trial_id))
            super().on_trial_begin(trial)

        def on_trial_end(self, trial: Any) -> None:
            heard.append(("end", trial.trial_id))
            super().on_trial_end(trial)

    search = Hooked(
        oracle(max_trials=2),
        Scripted(),
        directory=tmp_path,
        project_name="run",
        pool=played(),
        workers=2,
    )
    search.search(epochs=1)

    assert heard == [("begin", "0"), ("begin", "1"), ("end", "0"), ("end", "1")]


def test_what_cannot_be_sent_is_named(tmp_path: Path) -> None:
    """A hypermodel that holds a lock is refused with a way out, and leaves nothing behind."""
    hypermodel = Scripted()
    hypermodel.guard = threading.Lock()
    search = tuner(tmp_path / "run", hypermodel=hypermodel, pool=played(), workers=2)

    with pytest.raises(OptionError, match="lock"):
        search.search(epochs=1)

    assert not (tmp_path / "run" / SHARED).exists()


class Growing(keras_tuner.HyperModel):  # type: ignore[misc]
    """Declares a width only where there is a second layer."""

    def build(self, hp: Any) -> Any:
        """Build the tiny model."""
        declare(hp)
        if hp.values[RATE] > 1e-3:
            hp.Int("second", 1, 9)
        return tiny_model()

    def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> float:
        """Return a score."""
        return float(hp.values[RATE])


def test_the_oracle_learns_what_workers_declare(tmp_path: Path) -> None:
    """A hyperparameter that only some configurations declare is in records and in the space."""
    search = tuner(tmp_path / "run", hypermodel=Growing(), pool=played(), workers=2)
    search.search(epochs=1)

    assert "second" in search.oracle.get_space().values
    assert all(("second" in r.values) >= (r.values[RATE] > 1e-3) for r in search.log)


@pytest.mark.parametrize("workers", [2, 4])
def test_budgets_count_what_runs(tmp_path: Path, workers: int) -> None:
    """Neither trials nor epochs that others are training are spent twice."""
    trials = tuner(
        tmp_path / "trials", budget=Budget(trials=3), pool=played(order=backwards), workers=workers
    )
    trials.search(epochs=2)
    epochs = tuner(
        tmp_path / "epochs", budget=Budget(epochs=7), pool=played(order=backwards), workers=workers
    )
    epochs.search(epochs=3)

    assert len(trials.log) == 3
    assert epochs.log.num_epochs == 7


def shared(folder: Path) -> tuple[Any, Any]:
    """A program on a real table network, as a worker runs it, and its hypermodel's task."""
    hypermodel, data = dense_model()
    policy = TrialPolicy(max_epochs=4, seed=1)
    search = SmartTuner(
        dense_oracle("random"),
        hypermodel,
        directory=folder,
        project_name="run",
        policy=policy,
        pool=played(),
        workers=2,
    )
    setup = share(folder / "shared", search.runner(), Given((data,), {}))
    trial = search.next_trial("tuner0")
    return setup(), search.task_of(trial, None)


def test_time_is_up_in_workers_too(tmp_path: Path) -> None:
    """A task whose time has passed stops within its first step or epoch."""
    program, task = shared(tmp_path)

    done = program(replace(task, ends_at=1.0))

    assert done.record.message == TIME_LIMIT
    assert done.record.num_epochs <= 1
    assert program(task).record.num_epochs == 4


def test_workers_follow_the_length_of_trainings(tmp_path: Path) -> None:
    """Where the search has changed it on its way, schedules are drawn on the new one."""
    program, task = shared(tmp_path)
    program(replace(task, max_epochs=9))

    assert program.runner.hypermodel.plan.max_epochs == 9


def test_large_arrays_are_mapped(tmp_path: Path) -> None:
    """Data are written once, read without a copy, and equal to what was given."""
    x = np.arange(LARGE_ARRAY, dtype=np.float32).reshape(-1, 2)
    search = tuner(tmp_path / "run", pool=played(), workers=2)

    setup = share(tmp_path / "shared", search.runner(), Given((x, x), {"validation_data": (x,)}))
    given = setup().given

    assert len(list((tmp_path / "shared").glob("*.npy"))) == 1
    for array in (*given.args, *given.kwargs["validation_data"]):
        np.testing.assert_array_equal(array, x)
        assert not array.flags.writeable
        assert not array.flags.owndata


def test_files_of_running_trials_stay(tmp_path: Path) -> None:
    """What a running trial or its parent needs is not cleared away, half-written files included."""
    run = Run.create(tmp_path / "run", {"objective": {"name": "val_loss", "direction": "min"}})
    folder = run.path / "checkpoints"
    folder.mkdir()
    kept = {"3.at2.last.npz", "3.unfinished.json", ".3.at4.last.npz.x1", "1.last.npz"}
    for name in (*kept, "2.last.npz", ".2.best.npz.x2", "33.last.npz"):
        (folder / name).touch()
    search = tuner(tmp_path / "other")
    search.search(epochs=1)

    prune(run, search.records, lambda _: False, running={"3": "1"})

    assert {p.name for p in folder.iterdir()} == kept


def test_who_takes_the_place_of_a_lost_promotion_goes_on(tmp_path: Path) -> None:
    """While a promotion runs, the states of those that would replace it are kept."""
    lost = "0007"  # a promotion whose worker is lost for the last time after all others' ends

    def order(key: str) -> int:
        return 99 if key == lost else int(key)

    pool = played(order=order, losses={lost: RESUBMISSIONS + 1})
    search = tuner(tmp_path / "run", "hyperband", pool=pool, workers=2)

    search.search()

    assert search.records[lost].outcome == "failed"
    assert not events(tmp_path / "run", "warning")
