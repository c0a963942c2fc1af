"""Ranges that change amid a search: every strategy goes on with the new ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras_tuner
import pytest

from smarttune.errors import SettingError
from smarttune.oracles import STRATEGIES, RepairedOracle
from smarttune.oracles._reshaping import nearest
from smarttune.space import Choice, Dimension, Fixed, FloatRange, IntRange, NormalPrior

from .playing import finish, flaky, loss, new_configurations, play, proposals, space

# Trials that end before the ranges change, and after which the search is looked at.
BEFORE, WHOLE = 12, 36

PLAIN = {"max_trials": WHOLE}
IN_RUNGS = {"max_epochs": 9}
ENDLESS = IN_RUNGS | {"hyperband_iterations": None}
OPTIONS: dict[str, dict[str, Any]] = {
    "evolution": PLAIN | {"population_size": 8},
    "iterative_random": PLAIN | {"round_size": 8},
    "tpe": PLAIN | {"num_initial_points": 6},
    "hyperband": ENDLESS,
    "priorband": ENDLESS,
    "asha": IN_RUNGS | PLAIN,
    "i_epoch": IN_RUNGS | PLAIN,
}
# A grid is a list, and several objectives have no best trial; neither is adapted.
RESHAPED = sorted(STRATEGIES.keys() - {"grid", "nsga2", "gradient"})

CHANGES = (
    Dimension(name="x", range=FloatRange(low=0.9, high=1.4), value=1.0),
    Dimension(name="units", range=IntRange(low=128, high=1024, sampling="power_of_two"), value=256),
    Dimension(name="optimizer", range=Choice(values=("adam", "lion")), value="adam"),
    Dimension(
        name="rate",
        range=FloatRange(low=1e-3, high=1e-2, sampling="log"),
        value=3e-3,
        prior=NormalPrior(center=0.5, spread=0.2),
    ),
)
Change = Callable[[RepairedOracle], None]


def change(oracle: RepairedOracle) -> None:
    """Other ranges for all but a momentum whose branch is gone."""
    oracle.reshape(CHANGES)


def made(strategy: str, **options: Any) -> RepairedOracle:
    """A strategy on the branched space, with a small budget."""
    base: dict[str, Any] = {"objective": "val_loss", "hyperparameters": space(), "seed": 5}
    priors = {"x": NormalPrior(center=0.3, spread=0.1)}
    return STRATEGIES[strategy](**base, **OPTIONS.get(strategy, PLAIN), priors=priors, **options)


def outcome(trial_id: str, values: Any) -> Any:
    """A loss for both spaces; some trials fail."""
    return flaky(trial_id, {**values, "optimizer": values["optimizer"].replace("lion", "sgd")})


def played(strategy: str, workers: int) -> RepairedOracle:
    """A search whose ranges change after some trials, while others may run."""
    oracle = made(strategy)
    play(oracle, loss, workers=workers, stop_after=BEFORE)
    change(oracle)
    play_on(oracle, workers=workers)
    return oracle


def play_on(oracle: RepairedOracle, *, workers: int) -> None:
    """Go on, with the trials that run already, until enough have ended or none is left."""
    play(oracle, outcome, workers=workers, stop_after=WHOLE)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("strategy", RESHAPED)
def test_new_configurations_lie_in_the_new_ranges(strategy: str, workers: int) -> None:
    """After a change nothing is proposed outside it but what continues an earlier trial."""
    oracle = made(strategy)
    play(oracle, loss, workers=workers, stop_after=BEFORE)
    started = len(new_configurations(oracle))

    change(oracle)
    play_on(oracle, workers=workers)

    later = new_configurations(oracle)[started:]
    assert len(later) > 1
    for values in later:
        assert 0.9 <= values["x"] <= 1.4
        assert values["units"] in (128, 256, 512, 1024)
        assert values["optimizer"] in ("adam", "lion")
        assert ("rate" in values) is (values["optimizer"] == "adam")
        assert 1e-3 <= values.get("rate", 2e-3) <= 1e-2
        assert "momentum" not in values


@pytest.mark.parametrize("strategy", RESHAPED)
def test_what_continues_a_trial_keeps_its_values(strategy: str) -> None:
    """A promotion has the very values of the trial it continues, whatever the ranges are now."""
    oracle = played(strategy, workers=2)

    for values in proposals(oracle):
        parent = values.get("tuner/trial_id")
        if parent:
            old = oracle.trials[parent].hyperparameters.values
            assert _plain(values) == _plain(old)


@pytest.mark.parametrize("strategy", RESHAPED)
def test_a_replayed_search_proposes_the_same(strategy: str) -> None:
    """The same calls with the same change in their midst end with the same trials."""
    assert proposals(played(strategy, 2)) == proposals(played(strategy, 2))


@pytest.mark.parametrize("strategy", RESHAPED)
def test_changing_nothing_changes_nothing(strategy: str) -> None:
    """A change to the very ranges and priors that hold leaves every later proposal as it was."""
    same = Dimension(
        name="x",
        range=FloatRange(low=0.0, high=1.0),
        value=0.0,
        prior=NormalPrior(center=0.3, spread=0.1),
    )
    found = []
    for changes in ([], [same]):
        oracle = made(strategy)
        play(oracle, loss, stop_after=BEFORE)
        oracle.reshape(changes)
        play(oracle, loss, stop_after=WHOLE)
        found.append(proposals(oracle))

    assert found[0] == found[1]


@pytest.mark.parametrize("strategy", RESHAPED)
def test_fixing_everything_ends_or_goes_on(strategy: str) -> None:
    """A space of one configuration is tried once, and what is left of the search does not hang."""
    oracle = made(strategy)
    play(oracle, loss, stop_after=BEFORE)
    started = len(new_configurations(oracle))
    fixed = {"x": 0.5, "units": 64, "optimizer": "adam", "rate": 1e-3, "momentum": 0.9}
    oracle.reshape([Dimension(name=n, range=Fixed(value=v), value=v) for n, v in fixed.items()])

    for _ in range(WHOLE):
        trial = oracle.create_trial("tuner0")
        if trial.status != "RUNNING":
            break
        finish(oracle, trial, loss(trial.trial_id, trial.hyperparameters.values))

    later = new_configurations(oracle)[started:]
    assert len(later) <= 1
    assert all(v["units"] == 64 for v in later)
    assert trial.status == "STOPPED"


def test_a_value_moves_to_the_nearest_that_is_allowed() -> None:
    """Numbers are clamped, names that are gone become the default."""
    oracle = made("random")
    change(oracle)
    by_name = {hp.name: hp for hp in oracle.hyperparameters.space}

    assert nearest(by_name["x"], 0.2) == 0.9
    assert nearest(by_name["x"], 1.1) == 1.1
    assert nearest(by_name["units"], 4096) == 1024
    assert nearest(by_name["optimizer"], "sgd") == "adam"
    assert nearest(by_name["optimizer"], "lion") == "lion"


def reshaped(*changes: Dimension, **options: Any) -> Any:
    """A random oracle over a rate, a width and a name, with other ranges."""
    hp = keras_tuner.HyperParameters()
    hp.Float("rate", 1e-4, 1e-1, sampling="log", default=1e-3)
    hp.Int("units", 16, 64, step=2, sampling="log", default=32)
    hp.Choice("activation", ["relu", "silu"])
    with hp.conditional_scope("activation", ["silu"]):
        hp.Float("dropout", 0.0, 0.5)
    made = STRATEGIES["random"]("val_loss", 60, hyperparameters=hp, seed=3, **options)
    made.reshape(changes)
    return made


def test_reshaping_swaps_range_default_and_prior() -> None:
    """All later draws come from the new ranges, under the old conditions."""
    made = reshaped(
        Dimension(name="rate", range=FloatRange(low=0.5, high=2.0, sampling="log"), value=1.0),
        Dimension(
            name="units",
            range=IntRange(low=64, high=256, sampling="power_of_two"),
            value=128,
        ),
        Dimension(name="dropout", range=Fixed(value=0.25), value=0.25),
    )
    drawn = [made.create_trial(f"tuner{i}").hyperparameters.values for i in range(40)]

    assert all(0.5 <= v["rate"] <= 2.0 for v in drawn)
    assert {v["units"] for v in drawn} == {64, 128, 256}
    assert {v["dropout"] for v in drawn if v["activation"] == "silu"} == {0.25}
    assert not any("dropout" in v for v in drawn if v["activation"] == "relu")
    assert made.hyperparameters.values["rate"] == 1.0


def test_configurations_that_wait_move_into_the_range() -> None:
    """An initial configuration outside the new range is tried at its edge."""
    change = Dimension(
        name="rate", range=FloatRange(low=1e-3, high=1e-2, sampling="log"), value=2e-3
    )
    made = reshaped(change, initial_trials=[{"rate": 0.1}, {"rate": 5e-3}])

    rates = [made.create_trial(f"tuner{i}").hyperparameters.values["rate"] for i in range(2)]

    assert rates == [pytest.approx(1e-2), pytest.approx(5e-3)]


def test_only_declared_hyperparameters_can_be_reshaped() -> None:
    """A name that the model does not declare is refused with the nearest one."""
    with pytest.raises(SettingError, match="rates"):
        reshaped(Dimension(name="rates", range=Fixed(value=1), value=1))


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {n: v for n, v in values.items() if not n.startswith("tuner/")}
