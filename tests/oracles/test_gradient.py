"""The gradient strategy keeps the contract, and restarts where the best rate went."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.errors import OptionError
from smarttune.oracles import GradientOracle
from smarttune.oracles.gradient import LEARNED, SPREADS
from smarttune.training.hypergradient import hypergradient
from smarttune.tuning import Run
from tests.tuning.searches import Interrupt, essence, keras_reads_variables, line, tuner

from .contract import (
    OracleContract,
    configuration,
    constant,
    finish,
    loss,
    play,
    space,
    unreliable,
)

RECOMMENDED = {"x": 0.25, "units": 64, "optimizer": "adam", "rate": 1e-3}
MOST = 3 * len(SPREADS)


class TestGradientOracle(OracleContract):
    """The contract, for a strategy that runs seven to nine trials beside the initial ones."""

    budget = None

    def make(self, **options: Any) -> GradientOracle:
        """The strategy without a limit of trials."""
        return GradientOracle(**{"objective": "val_loss", "rate": "rate", **options})

    def of_space(self, **options: Any) -> GradientOracle:
        """The strategy on the branched space, where the recommendation has a rate."""
        oracle = super().of_space(**{"initial_trials": [RECOMMENDED], **options})
        assert isinstance(oracle, GradientOracle)
        return oracle

    def test_workers_get_trials_of_their_own(self) -> None:
        """Three workers run the three starts; the fourth waits for where they lead."""
        oracle = self.of_space()
        trials = [oracle.create_trial(str(i)) for i in range(4)]
        assert [t.status for t in trials] == ["RUNNING"] * 3 + ["IDLE"]
        assert oracle.create_trial("2") is trials[2]
        assert len({str(configuration(t)) for t in trials[:3]}) == 3

    def test_exception_releases_the_lock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """After a proposal that raised, another thread gets its trial."""
        oracle = self.of_space()
        finish(oracle, oracle.create_trial("a"), 1.0)  # the recommendation is no proposal
        monkeypatch.setattr(self, "of_space", lambda: oracle)
        super().test_exception_releases_the_lock(monkeypatch)

    @pytest.mark.parametrize("workers", [1, 4])
    def test_failures_cost_no_budget(self, workers: int) -> None:
        """With three trials in ten failing independently, all rounds are run."""
        for seed in range(3):
            oracle = self.of_space(seed=seed, max_consecutive_failed_trials=None)
            play(oracle, unreliable(seed), workers=workers)
            assert oracle._num_rounds == len(SPREADS)
            assert {t.status for t in oracle.trials.values()} == {"COMPLETED", "FAILED"}

    @pytest.mark.parametrize("workers", [1, 4])
    def test_cost_is_the_planned_one(self, workers: int) -> None:
        """Seven rates are tried where the best of a round is one of its starts."""
        oracle = self.of_space()
        play(oracle, workers=workers)
        assert len(oracle.trials) == 1 + 2 * len(SPREADS)

    def test_exhausted_space_stops(self) -> None:
        """Where the rate has three values, these are tried, and then the search ends."""
        hp = keras_tuner.HyperParameters()
        hp.Choice("rate", [1e-3, 1e-2, 1e-1], default=1e-2)
        oracle = self.make(hyperparameters=hp)
        play(oracle, lambda _, v: abs(math.log10(v["rate"] / 0.02)), workers=2)
        assert [t.hyperparameters.values["rate"] for t in oracle.trials.values()] == [
            1e-2,
            1e-3,
            1e-1,
        ]
        assert oracle.create_trial("late").status == "STOPPED"

    def test_hyperparameters_declared_in_the_trial_are_learnt(self, tmp_path: Path) -> None:
        """A rate that only the running trial declares is refined from the second trial on."""

        class Late(keras_tuner.Tuner):  # type: ignore[misc]
            def run_trial(self, trial: Any, *_: Any, **__: Any) -> float:
                rate = trial.hyperparameters.Float("rate", 1e-4, 1.0, sampling="log", default=1e-2)
                return abs(math.log10(rate / 0.1))

        late = Late(oracle=self.make(seed=3), directory=str(tmp_path), project_name="p")
        late.search()
        rates = [t.hyperparameters.values["rate"] for t in late.oracle.trials.values()]
        assert rates[:3] == pytest.approx([1e-2, 1e-3, 1e-1])
        assert len(rates) > 3


def plain(default: float = 1e-3, low: float = 1e-7, high: float = 1e1) -> Any:
    """A space of a rate and a width."""
    hp = keras_tuner.HyperParameters()
    hp.Float("lr", low, high, sampling="log", default=default)
    hp.Int("width", 1, 9, default=4)
    return hp


def search(
    oracle: GradientOracle,
    score: Callable[[float], float],
    learned: Callable[[float], float | None] = lambda _: None,
) -> list[float]:
    """Play a search in which a rate leads to a score and to a learned rate; return the rates."""
    rates = []
    while (trial := oracle.create_trial("t")).status == "RUNNING":
        rates.append(trial.hyperparameters.values["lr"])
        went = learned(rates[-1])
        metrics = {oracle.objective.name: score(rates[-1])}
        metrics |= {} if went is None else {LEARNED: went}
        oracle.update_trial(trial.trial_id, metrics)
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    return rates


@given(st.floats(-5.0, -1.0), st.floats(-1.75, 1.75), st.sampled_from(["min", "max"]))
def test_a_rate_within_reach_is_found(start: float, off: float, direction: str) -> None:
    """Where one rate is best, the search ends within an eighth of a decade of it."""
    goal = keras_tuner.Objective("score", direction)
    oracle = GradientOracle(goal, hyperparameters=plain(10.0**start), rate="lr", persist=False)
    best = start + off
    sign = -1.0 if direction == "max" else 1.0
    rates = search(oracle, lambda rate: sign * abs(math.log10(rate) - best))
    found = oracle.get_best_trials()[0].hyperparameters.values
    assert abs(math.log10(found["lr"]) - best) <= 0.125 + 1e-6
    assert len(rates) <= MOST
    assert {t.hyperparameters.values["width"] for t in oracle.trials.values()} == {4}


def test_the_next_round_begins_where_the_best_rate_went() -> None:
    """The best start is left for the rate that it learned, and its neighbours at the spread."""
    oracle = GradientOracle("val_loss", hyperparameters=plain(), rate="lr")
    rates = search(oracle, lambda rate: -rate if rate < 0.1 else 0.0, lambda rate: 0.3 * rate)
    # Of 1e-3, 1e-4 and 1e-2 the last is best, and it went to 3e-3.
    assert rates[:3] == pytest.approx([1e-3, 1e-4, 1e-2])
    assert rates[3:6] == pytest.approx([3e-3, 3e-3 / 10**0.5, 3e-3 * 10**0.5])


@pytest.mark.parametrize("useless", [0.0, math.nan, math.inf, -1.0])
def test_a_learned_rate_without_use_is_left_out(useless: float) -> None:
    """A rate that sank to 0 or is no number is no start; the rate before it is."""
    known = GradientOracle("val_loss", hyperparameters=plain(), rate="lr")
    plain_search = GradientOracle("val_loss", hyperparameters=plain(), rate="lr")
    rates = search(known, lambda rate: abs(math.log(rate)), lambda _: useless)
    assert rates == search(plain_search, lambda rate: abs(math.log(rate)))


def test_a_rate_that_hardly_moved_is_not_tried_again() -> None:
    """A learned rate within two in a hundred of one that was tried adds no trial."""
    still = GradientOracle("val_loss", hyperparameters=plain(), rate="lr")
    rates = search(still, lambda rate: abs(math.log10(rate) + 3), lambda rate: 1.01 * rate)
    assert len(rates) == 1 + 2 * len(SPREADS)


def test_the_last_epoch_counts() -> None:
    """Of the rates that a trial passed through, the one after its last epoch is the learned one."""
    oracle = GradientOracle("val_loss", hyperparameters=plain(), rate="lr")
    for score in (1.0, 2.0, 3.0):
        trial = oracle.create_trial("t")
        for step, rate in ((2, 5e-4), (1, 7e-4)):
            oracle.update_trial(trial.trial_id, {"val_loss": score, LEARNED: rate}, step=step)
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert oracle.create_trial("t").hyperparameters.values["lr"] == pytest.approx(5e-4)


def test_after_divergence_the_rates_are_lower() -> None:
    """If no start survives, the next round lies below all of them."""
    oracle = GradientOracle("val_loss", hyperparameters=plain(), rate="lr")
    play(oracle, constant(math.nan), stop_after=4)
    rates = [t.hyperparameters.values["lr"] for t in oracle.trials.values()]
    assert rates[3] < min(rates[:3])


def test_rates_stay_in_their_range() -> None:
    """A start beyond the range is moved to its end, and tried once."""
    oracle = GradientOracle("val_loss", hyperparameters=plain(1e-3, 5e-4, 2e-3), rate="lr")
    rates = search(oracle, lambda rate: rate, lambda rate: rate / 1e3)
    assert min(rates) == 5e-4
    assert max(rates) == 2e-3
    assert len(set(rates)) == len(rates)


@pytest.mark.parametrize("recommended", [0.0, 3e-7])
def test_the_rate_is_let_loose(recommended: float) -> None:
    """The switch that the recommendation leaves off is on in all other trials; else it stays."""
    hp = plain()
    hp.Float("hyper", 0.0, 1e-6, default=recommended)
    oracle = GradientOracle(
        "val_loss",
        hyperparameters=hp,
        rate="lr",
        hypergradient_rate="hyper",
        initial_trials=[{"lr": 2e-3}],
    )
    search(oracle, lambda rate: rate)
    values = [t.hyperparameters.values for t in oracle.trials.values()]
    assert values[0]["hyper"] == recommended
    assert {v["hyper"] for v in values[1:]} == {recommended or 5e-7}


def test_other_initial_trials_are_no_starts() -> None:
    """A better trial of another configuration changes nothing but the record."""
    initial = [{"lr": 1e-3, "width": 4}, {"lr": 1.0, "width": 9}]
    options: dict[str, Any] = {"hyperparameters": plain(), "rate": "lr"}
    oracle = GradientOracle("val_loss", initial_trials=initial, **options)
    rates = search(oracle, lambda rate: 0.0 if rate == 1.0 else 1.0 + abs(math.log10(rate) + 3))
    assert max(rates[2:]) <= 1e-2 * 1.001
    assert [t.hyperparameters.values["width"] for t in oracle.trials.values()][2:] == [4] * 6


def test_a_space_without_the_rate_is_refused() -> None:
    """A name that the space lacks is an error with the nearest name, not a search of one trial."""
    oracle = GradientOracle("val_loss", hyperparameters=plain(), rate="l_r")
    with pytest.raises(OptionError, match=r"no positive `l_r`.*lr, width.*Did you mean `lr`"):
        oracle.create_trial("t")


def test_an_inactive_rate_is_refused() -> None:
    """A rate that the recommended branch has not cannot be tuned."""
    oracle = GradientOracle("val_loss", hyperparameters=space(), rate="rate")
    with pytest.raises(OptionError, match="no positive `rate`"):
        play(oracle, loss)


def build(hp: Any) -> Any:
    """One layer whose rate moves itself."""
    rate = hp.Float("lr", 1e-4, 1.0, sampling="log", default=1e-2)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    optimizer = hypergradient(keras.optimizers.SGD)(rate, hypergradient_rate=1e-3)
    model.compile(optimizer, "mse")
    return model


@pytest.mark.slow
@keras_reads_variables
def test_real_trainings_restart_where_their_rate_went(tmp_path: Path) -> None:
    """With a network that moves its rate the fourth start is a learned rate, resumed or not."""

    def made(name: str, **options: Any) -> Any:
        objective = keras_tuner.Objective("val_loss", "min")
        oracle = GradientOracle(objective, rate="lr", max_trials=4, seed=1)
        return tuner(tmp_path / name, oracle, build, **options)

    x, y = line()
    arguments: dict[str, Any] = {"validation_data": (x, y), "epochs": 3}
    whole = made("whole")
    whole.search(x, y, **arguments)
    starts = whole.log[:3]
    best = min(starts, key=lambda r: r.score)
    learned = best.curve[-1][LEARNED]
    assert learned != pytest.approx(best.values["lr"], rel=1e-3)
    assert whole.log[3].values["lr"] == pytest.approx(learned)
    with pytest.raises(KeyboardInterrupt):
        made("broken", on_event=Interrupt(3)).search(x, y, **arguments)
    made("broken").search(x, y, **arguments)
    assert list(map(essence, Run.load(tmp_path / "broken").log)) == list(map(essence, whole.log))
