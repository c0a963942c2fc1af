"""PriorBand keeps the contract, draws from its three sources, and its model pays."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import keras_tuner
import pytest

from smarttune.oracles import CUT_SHORT, HyperbandOracle, PriorBandOracle, RandomOracle
from smarttune.space import NormalPrior

from .contract import SeededContract, configuration, finish, loss, play, space

PRIORS = {"x": NormalPrior(center=0.3, spread=0.1)}


def epochs(oracle: Any) -> int:
    """Epochs trained by all trials, each promotion by what it adds."""
    values = [t.hyperparameters.values for t in oracle.trials.values()]
    return sum(v["tuner/epochs"] - v["tuner/initial_epoch"] for v in values)


class Contract(SeededContract):
    """What both variants keep."""

    budget = None  # a promotion is a trial, so their number depends on the scores
    model: bool
    num_drawn = 6  # configurations that are surely PriorBand's own draws

    def make(self, **options: Any) -> PriorBandOracle:
        """PriorBand of 9 epochs."""
        return PriorBandOracle(
            **{"objective": "val_loss", "max_epochs": 9, "model": self.model, **options}
        )

    def unlimited(self) -> dict[str, Any]:
        """Run without end."""
        return {"hyperband_iterations": None}

    def test_priors_draw_about_half(self) -> None:
        """On the lowest rung, even draws and draws from the prior are about as frequent."""
        near = 0
        for seed in range(25):
            oracle = self.of_space(priors={"x": NormalPrior(center=0.9, spread=0.001)}, seed=seed)
            play(oracle, stop_after=self.num_drawn)
            values = [t.hyperparameters.values for t in oracle.trials.values()]
            near += sum(abs(v["x"] - 0.9) < 0.01 for v in values)
        assert 0.35 < near / (25 * self.num_drawn) < 0.65

    def test_no_configuration_twice(self) -> None:
        """No two trials have the same values, and no two new ones the same configuration."""
        oracle = self.of_space()
        play(oracle, workers=3)
        trials = oracle.trials.values()
        new = [t for t in trials if "tuner/trial_id" not in t.hyperparameters.values]
        assert len({str(configuration(t)) for t in new}) == len(new) > 5


class TestBrackets(Contract):
    """PriorBand of brackets alone."""

    model = False


class TestModel(Contract):
    """PriorBand whose model takes over."""

    model = True
    num_drawn = 5  # then the model takes over

    def test_cost_is_the_planned_one(self) -> None:
        """The epochs of the planned brackets are spent up to less than one full training."""
        for number in (1, 4):
            oracle = self.of_space(initial_trials=[{"x": 0.5}])
            play(oracle, workers=number)
            assert oracle.planned_cost is not None
            assert 0 <= oracle.planned_cost.epochs - epochs(oracle) < oracle.max_epochs

    def test_failures_cost_no_budget(self) -> None:
        """With failing trials as many epochs are started as without."""

        def failing(trial_id: str, values: Any) -> float:
            return math.nan if int(trial_id) % 10 in (0, 4, 7) else loss(trial_id, values)

        oracle = self.of_space()
        play(oracle, failing)
        assert oracle.planned_cost is not None
        assert 0 <= oracle.planned_cost.epochs - epochs(oracle) < oracle.max_epochs


def curve(values: Any, epoch: int) -> float:
    """The loss of a network that starts at 3 and comes near its final loss with time."""
    return loss("", values) + 3 * math.exp(-epoch / 6)


def searched(oracle: Any, budget: int) -> float:
    """Play trials with curves until so many epochs are spent; return the best loss."""
    spent, best = 0, math.inf
    while spent < budget:
        trial = oracle.create_trial("a")
        values = trial.hyperparameters.values
        start, stop = values.get("tuner/initial_epoch", 0), values.get("tuner/epochs", 27)
        spent += stop - start
        for epoch in range(1, stop + 1):
            oracle.update_trial(trial.trial_id, {"val_loss": curve(values, epoch)}, step=epoch)
            best = min(best, curve(values, epoch))
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return best


def made(kind: Any, seed: int, **options: Any) -> Any:
    """An endless search of 27 epochs on the branched space."""
    shared = {"hyperparameters": space(), "seed": seed, "hyperband_iterations": None, **options}
    return kind(keras_tuner.Objective("val_loss", "min"), max_epochs=27, min_epochs=3, **shared)


def test_model_beats_brackets() -> None:
    """On curves that tell, the model finds better losses than the brackets in as many epochs."""
    model = [searched(made(PriorBandOracle, seed), 27 * 8) for seed in range(5)]
    brackets = [searched(made(PriorBandOracle, seed, model=False), 27 * 8) for seed in range(5)]
    assert statistics.mean(model) < statistics.mean(brackets)


@pytest.mark.parametrize("model", [True, False])
def test_wrong_prior_is_overcome(model: bool) -> None:
    """A recommendation at the worst end costs little once some trainings are spent."""
    wrong = {
        "initial_trials": [{"x": 1.0, "units": 256, "optimizer": "adam", "rate": 1e-1}],
        "priors": {"x": NormalPrior(center=1.0, spread=0.1)},
        "num_full_initial_trials": 1,
    }
    ours = [searched(made(PriorBandOracle, s, model=model, **wrong), 27 * 12) for s in range(4)]
    plain = [searched(made(HyperbandOracle, s), 27 * 12) for s in range(4)]
    assert statistics.mean(ours) < statistics.mean(plain) + 0.05


def test_recommendation_is_trained_in_full_first() -> None:
    """The first initial trial gets all epochs, further ones start on the lowest rung."""
    oracle = PriorBandOracle(
        "val_loss",
        9,
        hyperparameters=space(),
        initial_trials=[{"x": 0.5}, {"x": 0.25}, {"x": 0.75}],
        num_full_initial_trials=1,
        seed=1,
    )
    play(oracle, stop_after=3)
    values = [t.hyperparameters.values for t in oracle.trials.values()]
    assert [v["x"] for v in values] == [0.5, 0.25, 0.75]
    assert [v["tuner/epochs"] for v in values] == [9, 1, 1]


def test_incumbent_attracts_only_once_it_is_known() -> None:
    """Mutations of the best configuration begin after a first bracket's worth of epochs."""
    oracle = made(PriorBandOracle, 3, model=False, priors=PRIORS)
    play(oracle, stop_after=4)
    assert oracle._incumbent() is None
    searched(oracle, 27 * 6)
    best = oracle._incumbent()
    scores = {t.score: configuration(t) for t in oracle.trials.values() if t.score is not None}
    assert best == scores[min(scores)]


def test_trial_that_stopped_early_is_not_taken_up_again() -> None:
    """A trial that trained fewer epochs than it was given is never continued."""
    oracle = made(PriorBandOracle, 5)
    stopped: set[str] = set()
    for number in range(40):
        trial = oracle.create_trial("a")
        values = trial.hyperparameters.values
        assert values.get("tuner/trial_id") not in stopped
        stop = values["tuner/epochs"]
        if number % 3 == 1:
            stop = max(2, stop - 1)
            stopped.add(trial.trial_id)
        for epoch in range(1, stop + 1):
            oracle.update_trial(trial.trial_id, {"val_loss": curve(values, epoch)}, step=epoch)
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert len(stopped) > 5


def test_what_waits_is_bounded_and_final() -> None:
    """At most thirty trials may be continued, and one that was given up stays so."""
    oracle = made(PriorBandOracle, 2)
    given_up: set[str] = set()
    for _ in range(150):
        trial = oracle.create_trial("a")
        parent = trial.hyperparameters.values.get("tuner/trial_id")
        assert parent not in given_up
        finish(oracle, trial, loss("", trial.hyperparameters.values))
        kept = {i for i in oracle.trials if oracle.may_continue(i)}
        assert len(kept) <= 31
        given_up |= set(oracle.trials) - kept


def test_random_draws_are_no_better() -> None:
    """With a good prior, PriorBand finds in eight trainings what even draws do not in twelve."""
    good = {"priors": PRIORS, "initial_trials": [{"x": 0.3, "units": 64, "optimizer": "sgd"}]}
    ours = [searched(made(PriorBandOracle, s, **good), 27 * 8) for s in range(4)]
    even = []
    for seed in range(4):
        oracle = RandomOracle("val_loss", None, hyperparameters=space(), seed=seed)
        even.append(searched(oracle, 27 * 12))
    assert statistics.mean(ours) < statistics.mean(even)


def test_trial_cut_by_the_clock_may_go_on() -> None:
    """A trial that the tuner says was cut short still waits; one that stopped itself does not."""
    kept = []
    for message in (CUT_SHORT, None):
        oracle = made(PriorBandOracle, 5)
        play(oracle, stop_after=6)
        trial = oracle.create_trial("a")
        values = trial.hyperparameters.values
        for epoch in range(1, values["tuner/epochs"]):
            oracle.update_trial(trial.trial_id, {"val_loss": curve(values, epoch)}, step=epoch)
        trial.status, trial.message = "COMPLETED", message
        oracle.end_trial(trial)
        kept.append(oracle.may_continue(trial.trial_id))
    assert kept == [True, False]


def test_no_trial_is_continued_twice_at_once(tmp_path: Path) -> None:
    """Also after the files were read anew while promotions run, each trial has one successor."""
    oracle = made(PriorBandOracle, 4)
    oracle._set_project_dir(str(tmp_path), "p")
    for number in range(60):
        workers = [oracle.create_trial(f"worker{i}") for i in range(3)]
        trial = workers[number % 3]
        if number % 4 == 3:
            oracle.set_state(oracle.get_state())
        finish(oracle, trial, curve(trial.hyperparameters.values, 3))
    parents = [t.hyperparameters.values.get("tuner/trial_id") for t in oracle.trials.values()]
    continued = [p for p in parents if p]
    assert len(set(continued)) == len(continued) > 10
