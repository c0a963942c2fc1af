"""ASHA keeps the contract, promotes by its rule, and waits for nobody."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras_tuner
import pytest

from smarttune.errors import OptionError, RunError
from smarttune.oracles.asha import AshaOracle

from .contract import (
    CRASH,
    SeededContract,
    configuration,
    constant,
    finish,
    loss,
    new_configurations,
    num_full_trainings,
    play,
    small_space,
    space,
    unreliable,
)


class TestAshaOracle(SeededContract):
    """ASHA under contract: 24 trials on rungs of one, three and nine epochs."""

    def make(self, **options: Any) -> AshaOracle:
        """ASHA of 24 trials."""
        given = {"objective": "val_loss", "max_epochs": 9, "max_trials": 24, **options}
        return AshaOracle(**given)


def steering(trial: Any) -> tuple[int, int, int]:
    """The rung of a trial, and the epochs from and to which it trains."""
    values = trial.hyperparameters.values
    return values["tuner/round"], values["tuner/initial_epoch"], values["tuner/epochs"]


def parent_of(trial: Any) -> str | None:
    """The trial that it continues."""
    return trial.hyperparameters.values.get("tuner/trial_id")  # type: ignore[no-any-return]


class PaperAsha:
    """A plain reading of Algorithm 2: which trial is to be promoted now, if any."""

    def __init__(self, oracle: AshaOracle) -> None:
        self.sign = -1 if oracle.objective.direction == "max" else 1
        self.factor = oracle.factor
        self.done: list[list[tuple[float, str]]] = [[] for _ in oracle.epochs]
        self.promoted: set[str] = set()

    def get_job(self) -> str | None:
        """The best of the top of a rung that was not promoted, the highest rung first."""
        for done in reversed(self.done[:-1]):
            top = sorted(done)[: len(done) // self.factor]
            due = [trial_id for _, trial_id in top if trial_id not in self.promoted]
            if due:
                self.promoted.add(due[0])
                return due[0]
        return None

    def report(self, trial: Any) -> None:
        """Take note of a completed trial."""
        self.done[steering(trial)[0]].append((self.sign * trial.score, trial.trial_id))


@pytest.mark.parametrize("workers", [1, 7])
@pytest.mark.parametrize("direction", ["min", "max"])
def test_promotions_follow_the_rule_of_the_paper(direction: str, workers: int) -> None:
    """Each answer is the promotion, or the new configuration, that Algorithm 2 gives."""

    def make() -> AshaOracle:
        objective = keras_tuner.Objective("score", direction)
        return AshaOracle(objective, 27, max_trials=150, hyperparameters=space(), seed=2)

    oracle, paper = make(), PaperAsha(make())
    for call, name in play(make(), workers=workers):
        if call == "tell":
            trial = oracle.trials[name]
            finish(oracle, trial, loss(name, trial.hyperparameters.values))
            paper.report(trial)
        elif len(oracle.trials) < 150:
            trial = oracle.create_trial(name)
            assert trial.status == "RUNNING"
            assert parent_of(trial) == paper.get_job()
    assert len(paper.promoted) > 40


def test_promotions_continue_their_parents() -> None:
    """A promoted trial has the values of its parent and trains from where that one ended."""
    oracle = AshaOracle("val_loss", 27, max_trials=120, hyperparameters=space(), seed=2)
    play(oracle, workers=4)
    seen = {steering(t) for t in oracle.trials.values()}
    assert seen == {(0, 0, 1), (1, 1, 3), (2, 3, 9), (3, 9, 27)}
    for trial in oracle.trials.values():
        assert trial.hyperparameters.values["tuner/bracket"] == 3
        if (parent := parent_of(trial)) is not None:
            assert configuration(trial) == configuration(oracle.trials[parent])
            assert steering(oracle.trials[parent])[0] == steering(trial)[0] - 1
    parents = [parent_of(t) for t in oracle.trials.values() if parent_of(t)]
    assert len(set(parents)) == len(parents)


def test_highest_rung_is_served_first() -> None:
    """Where trials of two rungs are due, the one nearer to its full training comes first."""
    oracle = AshaOracle("val_loss", 9, hyperparameters=space(), seed=0)
    lowest = oracle.create_trials([str(i) for i in range(12)])
    for score, trial in enumerate(lowest[:9]):
        finish(oracle, trial, float(score))
    for trial in oracle.create_trials(["a", "b", "c"]) + lowest[9:]:
        finish(oracle, trial, -float(trial.trial_id))
    assert [steering(t)[0] for t in oracle.create_trials(["a", "b"])] == [2, 1]


def test_nobody_waits() -> None:
    """Thirty workers all get a trial although none has ended, and again when one has."""
    oracle = AshaOracle("val_loss", 9, hyperparameters=space(), seed=0)
    trials = oracle.create_trials([str(i) for i in range(30)])
    assert len(trials) == 30
    finish(oracle, trials[7], 1.0)
    assert oracle.create_trial("7").status == "RUNNING"


def test_failed_trials_take_no_part_in_a_rung() -> None:
    """Two completed trials beside any number of failed ones are too few for a promotion."""
    oracle = AshaOracle("val_loss", 9, hyperparameters=space(), seed=0)
    trials = oracle.create_trials([str(i) for i in range(9)])
    for trial, score in zip(trials, [math.nan] * 7 + [0.5, 0.7], strict=True):
        finish(oracle, trial, score)
    assert parent_of(oracle.create_trial("a")) is None
    third = oracle.create_trial("a")
    finish(oracle, third, 0.6)
    assert parent_of(oracle.create_trial("a")) == trials[7].trial_id


def test_failed_promotion_gives_its_place_to_the_next_best() -> None:
    """If the promoted trial crashes, the second best of its rung is promoted in its stead."""
    oracle = AshaOracle("val_loss", 9, hyperparameters=space(), seed=0)
    trials = oracle.create_trials(["0", "1", "2"])
    for trial, score in zip(trials, [0.3, 0.1, 0.2], strict=True):
        finish(oracle, trial, score)
    first = oracle.create_trial("a")
    assert parent_of(first) == trials[1].trial_id
    finish(oracle, first, CRASH)
    second = oracle.create_trial("a")
    assert parent_of(second) == trials[2].trial_id
    finish(oracle, second, 0.2)
    assert parent_of(oracle.create_trial("a")) is None


def test_initial_trials_are_trained_in_full_first_and_stand_on_no_rung() -> None:
    """Recommended configurations get all epochs at once and are never promoted."""
    initial = [{"x": i / 8} for i in range(4)]
    oracle = AshaOracle("val_loss", 9, hyperparameters=space(), initial_trials=initial)
    trials = oracle.create_trials([str(i) for i in range(5)])
    assert [t.hyperparameters.values["tuner/bracket"] for t in trials] == [-1] * 4 + [2]
    assert steering(trials[0]) == (0, 0, 9)
    for trial in trials[:4]:
        finish(oracle, trial, 0.0)
    assert parent_of(oracle.create_trial("a")) is None
    assert not any(oracle.may_continue(t.trial_id) for t in trials[:4])


@pytest.mark.parametrize("workers", [1, 3])
def test_small_space_still_ends_with_a_full_training(workers: int) -> None:
    """Where five configurations are all there are, the best of them is trained to the end."""
    oracle = AshaOracle("val_loss", 9, hyperparameters=small_space(), seed=0)
    play(oracle, lambda _, v: float(v.get("depth", 9)), workers=workers)
    assert num_full_trainings(oracle) == 1
    best = max(oracle.trials.values(), key=lambda t: steering(t)[2])
    assert best.hyperparameters.values["depth"] == 1
    assert len(new_configurations(oracle)) == 5
    assert not any(oracle.may_continue(t) for t in oracle.trials)


def test_small_space_in_which_all_long_trainings_fail_ends() -> None:
    """If no promotion completes, every configuration is promoted once and the search ends."""
    oracle = AshaOracle("val_loss", 9, hyperparameters=small_space(), seed=0)
    play(oracle, lambda _, v: math.nan if v["tuner/round"] else 1.0, workers=2)
    assert len(oracle.trials) == 5 + 5


def test_other_sampler_sits_on_the_rungs() -> None:
    """A strategy that overrides `sample` is asked for the lowest rung, and for no promotion."""
    asked: list[tuple[str, int]] = []

    class Counting(AshaOracle):
        def sample(self, trial_id: str, rung: int) -> Any:
            asked.append((trial_id, rung))
            return super().sample(trial_id, rung)

    oracle = Counting("val_loss", 9, max_trials=40, hyperparameters=space(), seed=0)
    play(oracle)
    new = [t.trial_id for t in oracle.trials.values() if parent_of(t) is None]
    assert asked == [(trial_id, 0) for trial_id in new]
    assert 20 < len(new) < 35


@pytest.mark.parametrize("workers", [1, 4])
def test_may_continue_names_every_parent_and_forgets_the_rest(workers: int) -> None:
    """A trial that is promoted later is kept until then, fewer near the end, none after it."""
    oracle = AshaOracle("val_loss", 9, max_trials=80, hyperparameters=space(), seed=3)
    outcome, live = unreliable(0), {}
    oracle.max_consecutive_failed_trials = None
    kept: set[str] = set()
    sizes: list[int] = []
    while True:
        free = [str(i) for i in range(workers) if str(i) not in live]
        for tuner, trial in zip(free, oracle.create_trials(free), strict=False):
            if trial.status == "RUNNING":
                live[tuner] = trial
                assert parent_of(trial) is None or parent_of(trial) in kept
        if not live:
            break
        trial = live.pop(min(live))
        parent = parent_of(trial)
        assert parent is None or oracle.may_continue(parent)
        finish(oracle, trial, outcome(trial.trial_id, trial.hyperparameters.values))
        assert parent is None or not oracle.may_continue(parent)
        kept = {t for t in oracle.trials if oracle.may_continue(t)}
        sizes.append(len(kept))
    assert not kept
    assert max(sizes) > 10
    assert sizes[-5] <= 4 * 2


def test_only_as_many_are_kept_as_may_still_be_promoted() -> None:
    """With one trial left to start, only the best of three that wait is kept."""
    oracle = AshaOracle("val_loss", 9, max_trials=4, hyperparameters=space(), seed=0)
    trials = oracle.create_trials(["0", "1", "2"])
    for trial, score in zip(trials, [0.3, 0.1, 0.2], strict=True):
        finish(oracle, trial, score)
    assert [oracle.may_continue(t.trial_id) for t in trials] == [False, True, False]


def test_retried_promotion_keeps_its_place_and_its_parent() -> None:
    """A promotion that waits for a retry blocks no other, and its parent's state is kept."""
    oracle = AshaOracle("val_loss", 9, hyperparameters=space(), max_retries_per_trial=1)
    trials = oracle.create_trials(["0", "1", "2"])
    for trial, score in zip(trials, [0.3, 0.1, 0.2], strict=True):
        finish(oracle, trial, score)
    first = oracle.create_trial("a")
    finish(oracle, first, CRASH)
    assert oracle.may_continue(trials[1].trial_id)
    again = oracle.create_trial("a")
    assert again.trial_id == first.trial_id
    finish(oracle, again, 0.1)
    assert not oracle.may_continue(trials[1].trial_id)
    assert parent_of(oracle.create_trial("a")) is None


def test_search_in_which_all_fails_spends_its_trials() -> None:
    """Where every trial diverges none is promoted, and the search ends with its budget."""
    oracle = AshaOracle("val_loss", 9, max_trials=12, hyperparameters=space())
    play(oracle, constant(math.inf))
    assert [parent_of(t) for t in oracle.trials.values()] == [None] * 12


@pytest.mark.parametrize("options", [{"max_epochs": 0}, {"min_epochs": 10}, {"factor": 1}])
def test_impossible_plans_are_refused(options: dict[str, Any]) -> None:
    """Epochs and factor that do not fit together are an error that says which."""
    with pytest.raises(OptionError, match=next(iter(options))):
        AshaOracle(**{"objective": "val_loss", "max_epochs": 9, **options})


def test_resume_with_another_factor_is_refused(tmp_path: Path) -> None:
    """A search that keeps one in three cannot be resumed as one that keeps one in four."""
    oracle = AshaOracle("val_loss", 9, hyperparameters=space())
    oracle._set_project_dir(str(tmp_path), "p")
    play(oracle, stop_after=1)
    other = AshaOracle("val_loss", 9, factor=4, hyperparameters=space())
    other._set_project_dir(str(tmp_path), "p")
    with pytest.raises(RunError, match="factor was 3 and is now 4"):
        other.reload()
