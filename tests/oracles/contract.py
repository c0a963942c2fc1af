"""What every oracle must keep; one class per strategy inherits it.

A subclass says how its oracle is made with a small budget. How a search is
played, without training, is in `playing`; its names can be had from here too.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import threading
from pathlib import Path
from typing import Any

import keras_tuner
import pytest

from smarttune.errors import RunError, SettingError
from smarttune.oracles import RepairedOracle
from smarttune.oracles._outcomes import has_diverged
from smarttune.space import NormalPrior

from .playing import (
    CRASH,
    configuration,
    constant,
    finish,
    flaky,
    loss,
    new_configurations,
    num_epochs,
    num_full_trainings,
    one_by_one,
    play,
    play_in_batches,
    proposals,
    small_space,
    space,
    unreliable,
)

__all__ = [
    "CRASH",
    "OracleContract",
    "SeededContract",
    "configuration",
    "constant",
    "finish",
    "flaky",
    "loss",
    "new_configurations",
    "num_epochs",
    "num_full_trainings",
    "one_by_one",
    "play",
    "play_in_batches",
    "proposals",
    "small_space",
    "space",
    "unreliable",
]


class OracleContract:
    """What every oracle must keep."""

    # Trials that end the search when none fails; None where the strategy decides.
    budget: int | None = 24

    def make(self, **options: Any) -> RepairedOracle:
        """Return the oracle with a small budget; `options` override."""
        raise NotImplementedError

    def of_space(self, **options: Any) -> RepairedOracle:
        """Return the oracle on the branched space."""
        return self.make(**{"hyperparameters": space(), "seed": 7, **options})

    def test_same_seed_gives_same_trials(self) -> None:
        """Two searches with one seed propose the same values."""
        one, other = self.of_space(), self.of_space()
        play(one)
        play(other)
        assert proposals(one) == proposals(other)
        assert len(proposals(one)) > 3

    def test_replay_reproduces(self) -> None:
        """The recorded calls of four workers lead a new oracle to the same proposals."""
        recorded, replayed = self.of_space(), self.of_space()
        calls = play(recorded, flaky, workers=4)
        for call, name in calls:
            if call == "ask":
                replayed.create_trial(name)
            else:
                trial = replayed.trials[name]
                finish(replayed, trial, flaky(name, trial.hyperparameters.values))
        assert proposals(replayed) == proposals(recorded)

    @pytest.mark.parametrize("ended", [1, 5, 13])
    def test_resumed_equals_uninterrupted(self, tmp_path: Path, ended: int) -> None:
        """A search stopped amid a trial and read from its files goes on as if never stopped."""
        whole = self.of_space()
        play(whole, flaky)
        first = self.of_space()
        first._set_project_dir(str(tmp_path), "p")
        play(first, flaky, stop_after=ended)
        first.create_trial("tuner0")
        second = self.of_space(seed=None)
        second._set_project_dir(str(tmp_path), "p")
        second.reload()
        assert second.start_order == list(second.trials)
        play(second, flaky)
        assert proposals(second) == proposals(whole)
        assert second.end_order == whole.end_order

    def test_reload_forgets_what_the_files_do_not_hold(self, tmp_path: Path) -> None:
        """A search that is put back to earlier files goes on from there, in the same object."""
        whole, oracle = self.of_space(), self.of_space()
        play(whole, flaky)
        oracle._set_project_dir(str(tmp_path), "p")
        play(oracle, flaky, stop_after=5)
        shutil.copytree(tmp_path / "p", tmp_path / "earlier")
        play(oracle, flaky)
        shutil.rmtree(tmp_path / "p")
        shutil.move(tmp_path / "earlier", tmp_path / "p")
        oracle.reload()
        assert len(oracle.trials) == 5
        play(oracle, flaky)
        assert proposals(oracle) == proposals(whole)

    def test_finished_trial_is_not_run_again(self, tmp_path: Path) -> None:
        """A kill between the writes of the two files loses no finished trial."""
        oracle = self.of_space()
        oracle._set_project_dir(str(tmp_path), "p")
        play(oracle, stop_after=2)
        trial = oracle.create_trial("tuner0")
        before = (tmp_path / "p" / "oracle.json").read_text()
        finish(oracle, trial, 0.5)
        (tmp_path / "p" / "oracle.json").write_text(before)
        resumed = self.of_space()
        resumed._set_project_dir(str(tmp_path), "p")
        resumed.reload()
        assert resumed.trials[trial.trial_id].score == 0.5
        assert resumed.create_trial("tuner0").trial_id != trial.trial_id
        assert resumed.end_order == oracle.end_order

    def test_workers_get_trials_of_their_own(self) -> None:
        """Four workers run four different trials, and a worker that asks again gets its own."""
        oracle = self.of_space()
        trials = [oracle.create_trial(str(i)) for i in range(4)]
        assert len({t.trial_id for t in trials}) == 4
        assert oracle.create_trial("2") is trials[2]
        assert len({str(configuration(t)) for t in trials}) == 4

    def test_values_are_active_and_in_range(self) -> None:
        """Proposals hold exactly the active hyperparameters, each with an allowed value."""
        oracle = self.of_space()
        play(oracle, workers=2)
        for values in map(configuration, oracle.trials.values()):
            branch = {"sgd": "momentum", "adam": "rate"}[values["optimizer"]]
            assert values.keys() == {"x", "units", "optimizer", branch}
            assert 0 <= values["x"] <= 1
            assert values["units"] in (16, 32, 64, 128, 256)
            assert isinstance(values["units"], int)
            assert 0.5 <= values.get("momentum", 0.5) <= 0.99
            assert 1e-5 <= values.get("rate", 1e-3) <= 1e-1

    @pytest.mark.parametrize("direction", ["min", "max"])
    def test_failures_are_outcomes(self, direction: str) -> None:
        """With failing trials the search goes on, and the best trial is none of them."""
        oracle = self.of_space(objective=keras_tuner.Objective("score", direction))
        play(oracle, flaky, workers=2)
        statuses = [t.status for t in oracle.trials.values()]
        assert set(statuses) == {"COMPLETED", "FAILED"}
        if self.budget is not None:
            assert len(statuses) == self.budget
        choose = min if direction == "min" else max
        finite = [t.score for t in oracle.trials.values() if t.status == "COMPLETED"]
        assert oracle.get_best_trials()[0].score == choose(finite)
        assert math.isfinite(choose(finite))

    @pytest.mark.parametrize("workers", [1, 4])
    def test_failures_cost_no_budget(self, workers: int) -> None:
        """With three trials in ten failing independently, a search spends its whole budget.

        That are all its trials or, where the strategy decides how many there are, as many
        completed full trainings as it plans.
        """
        for seed in range(3):
            oracle = self.of_space(seed=seed, max_consecutive_failed_trials=None)
            play(oracle, unreliable(seed), workers=workers)
            if self.budget is not None:
                assert len(oracle.trials) == self.budget
            else:
                assert num_full_trainings(oracle) == self.planned_full_trainings(oracle)
            assert {t.status for t in oracle.trials.values()} == {"COMPLETED", "FAILED"}

    def planned_full_trainings(self, oracle: Any) -> int:
        """Trials that shall train to the end, where the strategy plans that."""
        return int(sum(bracket.rungs[-1].num_trials for bracket in oracle.brackets))

    @pytest.mark.parametrize("workers", [1, 4])
    def test_cost_is_the_planned_one(self, workers: int) -> None:
        """Where nothing fails, a search has the trials, and trains the epochs, that it plans."""
        oracle = self.of_space(initial_trials=[{"x": 0.5}])
        play(oracle, workers=workers)
        plan = getattr(oracle, "planned_cost", None)
        if plan is None:
            assert len(oracle.trials) == self.budget
        else:
            assert (len(oracle.trials), num_epochs(oracle)) == (plan.trials, plan.epochs)

    @pytest.mark.parametrize("workers", [3, 20])
    def test_batch_equals_single_asks(self, workers: int) -> None:
        """Asking for many tuners at once gives the trials of asking one after the other."""
        batched, single = self.of_space(), self.of_space()
        outcome = unreliable(5)
        for oracle in (batched, single):
            oracle.max_consecutive_failed_trials = None
        asked = play_in_batches(
            batched, outcome, workers=workers, ask=lambda oracle, ids: oracle.create_trials(ids)
        )
        assert asked == play_in_batches(single, outcome, workers=workers, ask=one_by_one)
        assert proposals(batched) == proposals(single)
        assert max(map(len, asked)) > 1

    def test_batch_is_saved_once_and_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Three trials of one asking are one write of the oracle's file, which holds them all."""
        oracle = self.of_space()
        oracle._set_project_dir(str(tmp_path), "p")
        saves: list[int] = []
        save = oracle.save
        monkeypatch.setattr(oracle, "save", lambda: (saves.append(1), save()))
        trials = oracle.create_trials(["a", "b", "a", "c"])
        assert len(trials) == len(saves) + 2 == 3
        state = json.loads((tmp_path / "p" / "oracle.json").read_text())
        assert state["start_order"] == [t.trial_id for t in trials]
        assert oracle.create_trials(["c", "a"]) == [trials[2], trials[0]]
        assert len(saves) == 1

    def test_batch_ends_with_the_search(self) -> None:
        """After the last trial a batch is the one answer to stop, and its tuner is forgotten."""
        oracle = self.of_space()
        play(oracle)
        assert [t.status for t in oracle.create_trials(["late", "later"])] == ["STOPPED"]
        assert not {"late", "later"} & oracle.tuner_ids
        assert oracle.create_trials([]) == []

    def test_state_survives_json(self) -> None:
        """What `get_state` returns is JSON, and a state that was read equals the one written."""
        oracle = self.of_space()
        play(oracle, flaky, workers=2, stop_after=9)
        state = oracle.get_state()
        assert json.loads(json.dumps(state, allow_nan=False)) == state
        other = self.of_space(seed=None)
        other.trials = dict(oracle.trials)
        other.set_state(json.loads(json.dumps(state)))
        assert other.get_state() == state
        assert other._tried_so_far == oracle._tried_so_far
        assert len(other._tried_so_far) > 3

    def test_interrupted_save_leaves_the_old_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If the last step of a save fails, the file of before stands and no other is left."""
        oracle = self.of_space()
        oracle._set_project_dir(str(tmp_path), "p")
        play(oracle, stop_after=2)
        trial = oracle.create_trial("a")
        files = {f: f.read_text() for f in tmp_path.rglob("*.json")}

        def refuse(*_: Any) -> None:
            raise OSError(5, "no more")

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", refuse)
            with pytest.raises(RunError, match="no more"):
                oracle.save()
            with pytest.raises(RunError, match="no more"):
                finish(oracle, trial, 0.5)
        assert {f: f.read_text() for f in tmp_path.rglob("*") if f.is_file()} == files
        resumed = self.of_space()
        resumed._set_project_dir(str(tmp_path), "p")
        resumed.reload()
        assert resumed.create_trial("a").trial_id == trial.trial_id

    def test_divergence_never_aborts(self) -> None:
        """A search in which every trial diverges ends by itself, without a best trial."""
        oracle = self.of_space()
        play(oracle, constant(math.nan))
        assert oracle.get_best_trials(3) == []
        assert all(has_diverged(t) for t in oracle.trials.values())
        assert len(oracle.trials) > 3

    def test_diverged_trial_is_run_again_where_asked(self) -> None:
        """With retries allowed, a trial that diverged runs again and may then complete."""
        oracle = self.of_space(max_retries_per_trial=1)
        first = oracle.create_trial("a")
        finish(oracle, first, math.nan)
        again = oracle.create_trial("a")
        assert again.trial_id == first.trial_id
        finish(oracle, again, 0.25)
        assert again.score == 0.25
        assert again.message is None

    def test_consecutive_crashes_end_the_search(self) -> None:
        """The third crash in a row raises with its message, and all three trials are recorded."""
        oracle = self.of_space()
        with pytest.raises(RuntimeError, match=r"limit of 3.*crash") as caught:
            play(oracle, constant(CRASH))
        assert isinstance(caught.value, RunError)
        assert [t.status for t in oracle.trials.values()] == ["FAILED"] * 3
        assert oracle.ongoing_trials == {}

    def test_best_trials_are_never_padded(self) -> None:
        """Asking for more trials than completed returns only those."""
        oracle = self.of_space()
        play(oracle, lambda i, v: math.nan if int(i) % 2 else loss(i, v), stop_after=4)
        assert [int(t.trial_id) % 2 for t in oracle.get_best_trials(10)] == [0, 0]

    def test_exhausted_space_stops(self) -> None:
        """A space of five configurations is tried whole, and then the search ends."""
        oracle = self.make(hyperparameters=small_space(), seed=1, **self.unlimited())
        play(oracle, lambda _, v: float(v.get("depth", 9)), workers=2)
        assert len({str(configuration(t)) for t in oracle.trials.values()}) == 5
        assert oracle.create_trial("late").status == "STOPPED"

    def unlimited(self) -> dict[str, Any]:
        """Options that leave the end of the search to the space."""
        return {"max_trials": 50}

    def test_no_configuration_twice(self) -> None:
        """No two trials have the same values."""
        oracle = self.of_space()
        play(oracle, workers=3)
        tried = [str(sorted(values.items())) for values in proposals(oracle)]
        assert len(set(tried)) == len(tried)

    def test_initial_trials_come_first(self) -> None:
        """Initial trials run first, in order, completed by defaults, and not twice."""
        wanted = [
            {"x": 0.25, "units": 64, "optimizer": "adam", "rate": 3e-4},
            {"x": 0.25, "units": 64, "optimizer": "adam", "rate": 3e-4},
            {"units": 32, "rate": 1e-3},
        ]
        oracle = self.of_space(initial_trials=wanted)
        play(oracle, stop_after=3)
        first, second, third = (configuration(t) for t in oracle.trials.values())
        assert first == wanted[0]
        assert second == {"x": 0.0, "units": 32, "optimizer": "sgd", "momentum": 0.5}
        assert third != second

    def test_initial_trial_out_of_range_is_refused(self) -> None:
        """A value outside its range is an error that names the hyperparameter."""
        oracle = self.of_space(initial_trials=[{"x": 2.0}])
        with pytest.raises(SettingError, match=r"`x` is 2\.0"):
            oracle.create_trial("a")

    def test_exception_releases_the_lock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """After a proposal that raised, another thread gets its trial."""
        oracle, got = self.of_space(), []
        with monkeypatch.context() as patch:
            patch.setattr(oracle, "propose", lambda _: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                oracle.create_trial("a")
        thread = threading.Thread(target=lambda: got.append(oracle.create_trial("b")), daemon=True)
        thread.start()
        thread.join(timeout=10)
        assert [t.status for t in got] == ["RUNNING"]

    def test_completed_trial_without_objective_is_an_error(self) -> None:
        """A trial cannot complete without a value of the objective."""
        oracle = self.of_space()
        trial = oracle.create_trial("a")
        trial.status = "COMPLETED"
        with pytest.raises(RunError, match="completed without a value"):
            oracle.end_trial(trial)

    def test_files_are_whole_and_complete(self, tmp_path: Path) -> None:
        """Each trial has its file, and no temporary file is left."""
        oracle = self.of_space()
        oracle._set_project_dir(str(tmp_path), "p")
        play(oracle, flaky, stop_after=4)
        names = sorted(f.parent.name for f in tmp_path.rglob("trial.json"))
        assert names == [f"trial_{i}" for i in oracle.start_order]
        for file in (f for f in tmp_path.rglob("*") if f.is_file()):
            assert file.name in ("trial.json", "oracle.json")
            assert json.loads(file.read_text())

    def test_without_persistence_nothing_is_written(self, tmp_path: Path) -> None:
        """With persist=False a search leaves no file."""
        oracle = self.of_space(persist=False)
        oracle._set_project_dir(str(tmp_path), "p")
        play(oracle, stop_after=2)
        oracle.reload()
        assert list(tmp_path.rglob("*.json")) == []
        assert len(oracle.trials) == 2

    def test_resume_with_another_objective_is_refused(self, tmp_path: Path) -> None:
        """A search cannot be resumed with an objective that points the other way."""
        oracle = self.of_space(objective=keras_tuner.Objective("score", "min"))
        oracle._set_project_dir(str(tmp_path), "p")
        play(oracle, stop_after=1)
        other = self.of_space(objective=keras_tuner.Objective("score", "max"))
        other._set_project_dir(str(tmp_path), "p")
        with pytest.raises(RunError, match="objective was"):
            other.reload()

    def test_stock_tuner_runs(self, tmp_path: Path) -> None:
        """KerasTuner's own tuner searches with this oracle and finds the best trial."""

        class Played(keras_tuner.Tuner):  # type: ignore[misc]
            def run_trial(self, trial: Any, *_: Any, **__: Any) -> float:
                assert "x" in trial.hyperparameters
                return loss("", trial.hyperparameters.values)

        tuner = Played(oracle=self.of_space(), directory=str(tmp_path), project_name="p")
        tuner.search()
        scores = [t.score for t in tuner.oracle.trials.values()]
        assert tuner.oracle.get_best_trials()[0].score == min(scores)
        assert tuner.get_best_hyperparameters()[0].get("x") is not None
        assert len(scores) > 3

    def test_hyperparameters_declared_in_the_trial_are_learnt(self, tmp_path: Path) -> None:
        """A space that only the running trial declares is searched from the second trial on."""

        class Late(keras_tuner.Tuner):  # type: ignore[misc]
            def run_trial(self, trial: Any, *_: Any, **__: Any) -> float:
                return float(trial.hyperparameters.Float("x", 0.0, 1.0, step=0.125))

        tuner = Late(oracle=self.make(seed=3), directory=str(tmp_path), project_name="p")
        tuner.search()
        found = {t.hyperparameters.values["x"] for t in tuner.oracle.trials.values()}
        assert found == {i / 8 for i in range(9)}


class SeededContract(OracleContract):
    """What every oracle that draws at random must keep besides."""

    def test_zero_is_a_seed(self) -> None:
        """Seed 0 repeats itself and differs from seed 1 and from no seed."""
        runs = [self.of_space(seed=seed) for seed in (0, 0, 1, None)]
        for oracle in runs:
            play(oracle, stop_after=6)
        zero, again, one, none = map(proposals, runs)
        assert zero == again
        assert zero != one
        assert zero != none

    def test_neighbouring_seeds_share_nothing(self) -> None:
        """No value of `x` turns up under two of ten neighbouring seeds."""
        drawn = []
        for seed in range(10):
            oracle = self.of_space(seed=seed)
            play(oracle, stop_after=6)
            drawn += [values["x"] for values in new_configurations(oracle)]
        assert len(set(drawn)) == len(drawn) > 40

    def test_global_randomness_has_no_part(self) -> None:
        """Proposals neither read nor move Python's global random generator."""
        one, other = self.of_space(), self.of_space()
        random.seed(1)
        play(one, stop_after=6)
        random.seed(2)
        expected = random.Random(2).random()
        play(other, stop_after=6)
        assert proposals(one) == proposals(other)
        assert random.random() == expected

    def test_priors_draw_about_half(self) -> None:
        """A narrow prior attracts about half of the draws and leaves the others free."""
        near = total = 0
        for seed in range(25):
            prior = {"x": NormalPrior(center=0.9, spread=0.001)}
            oracle = self.of_space(priors=prior, seed=seed)
            play(oracle, stop_after=6)
            drawn = [abs(values["x"] - 0.9) < 0.01 for values in new_configurations(oracle)]
            near += sum(drawn)
            total += len(drawn)
        assert 0.35 * total < near < 0.65 * total
