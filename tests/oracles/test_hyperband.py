"""Hyperband keeps the contract, its cost, and its promises when trials fail."""

from __future__ import annotations

import collections
import math
from pathlib import Path
from typing import Any

import keras_tuner
import pytest

from smarttune.errors import OptionError, RunError
from smarttune.oracles import HyperbandOracle

from .contract import (
    CRASH,
    SeededContract,
    configuration,
    constant,
    finish,
    loss,
    play,
    small_space,
    space,
)


class TestHyperbandOracle(SeededContract):
    """Hyperband under contract: brackets of 9, 5 and 3 configurations."""

    budget = None  # failed trials are replaced, so their number depends on the failures

    def make(self, **options: Any) -> HyperbandOracle:
        """Hyperband of 9 epochs."""
        return HyperbandOracle(**{"objective": "val_loss", "max_epochs": 9, **options})

    def unlimited(self) -> dict[str, Any]:
        """Run the brackets without end."""
        return {"hyperband_iterations": None}

    def test_no_configuration_twice(self) -> None:
        """No two trials have the same values, and no two new ones the same configuration."""
        oracle = self.of_space()
        play(oracle, workers=3)
        new = [t for t in oracle.trials.values() if "tuner/trial_id" not in values_of(t)]
        assert len({str(configuration(t)) for t in new}) == len(new) == 17


def values_of(trial: Any) -> dict[str, Any]:
    """All values of a trial."""
    return dict(trial.hyperparameters.values)


def completed(oracle: HyperbandOracle) -> list[Any]:
    """The trials that completed."""
    return [t for t in oracle.trials.values() if t.status == "COMPLETED"]


def census(oracle: HyperbandOracle) -> dict[tuple[int, int], int]:
    """Completed trials by bracket and rung."""
    places = (
        (values_of(t)["tuner/bracket"], values_of(t)["tuner/round"]) for t in completed(oracle)
    )
    return dict(collections.Counter(places))


def planned(oracle: HyperbandOracle) -> dict[tuple[int, int], int]:
    """The plan in the same form."""
    return {
        (bracket.number, i): rung.num_trials
        for bracket in oracle.brackets
        for i, rung in enumerate(bracket.rungs)
    }


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("min_epochs", [1, 3])
def test_cost_is_as_stated(workers: int, min_epochs: int) -> None:
    """Trials and epochs trained equal `planned_cost`, initial trials included."""
    oracle = HyperbandOracle(
        "val_loss",
        27,
        min_epochs=min_epochs,
        hyperparameters=space(),
        initial_trials=[{"x": 0.5}],
    )
    play(oracle, workers=workers)
    trained = sum(
        values_of(t)["tuner/epochs"] - values_of(t)["tuner/initial_epoch"]
        for t in oracle.trials.values()
    )
    assert oracle.planned_cost is not None
    assert (len(oracle.trials), trained) == (oracle.planned_cost.trials, oracle.planned_cost.epochs)
    assert census(oracle) == {(-1, 0): 1, **planned(oracle)}


@pytest.mark.parametrize("workers", [1, 4])
def test_failed_trials_are_replaced_inside_their_rung(workers: int) -> None:
    """With three trials in ten failing, every rung completes as many trials as planned."""

    def failing(trial_id: str, values: Any) -> float:
        return math.nan if int(trial_id) % 10 in (0, 4, 7) else loss(trial_id, values)

    oracle = HyperbandOracle("val_loss", 27, hyperparameters=space(), seed=4)
    play(oracle, failing, workers=workers)
    assert census(oracle) == planned(oracle)
    assert sum(values_of(t)["tuner/epochs"] == 27 for t in completed(oracle)) == 8
    assert len(oracle.trials) > 69


def test_failing_promotions_are_replaced_by_the_next_best() -> None:
    """If the promoted trial crashes, the next best of the rung below is promoted."""

    def breaks(_: str, values: Any) -> float | str:
        best = values["tuner/round"] == 1 and values["x"] < 0.2
        return CRASH if best else values["x"]

    oracle = HyperbandOracle("val_loss", 3, hyperparameters=space(), seed=1)
    play(oracle, breaks)
    children = [t for t in oracle.trials.values() if values_of(t)["tuner/round"] == 1]
    parents = [oracle.trials[values_of(t)["tuner/trial_id"]] for t in children]
    assert children[0].status == "FAILED"
    assert children[-1].status == "COMPLETED"
    assert [p.score for p in parents] == sorted(p.score for p in parents)


@pytest.mark.parametrize("direction", ["min", "max"])
def test_promotions_continue_the_best_of_their_own_bracket(direction: str) -> None:
    """With four workers each promoted trial continues one of the best of the rung below."""
    objective = keras_tuner.Objective("score", direction)
    oracle = HyperbandOracle(objective, 27, hyperparameters=space(), seed=2)
    play(oracle, workers=4)
    rungs = collections.defaultdict(list)
    for trial in oracle.trials.values():
        rungs[values_of(trial)["tuner/bracket"], values_of(trial)["tuner/round"]].append(trial)
    epochs = {b.number: [r.epochs for r in b.rungs] for b in oracle.brackets}
    for (bracket, rung), trials in rungs.items():
        assert {values_of(t)["tuner/epochs"] for t in trials} == {epochs[bracket][rung]}
        if rung == 0:
            assert {values_of(t)["tuner/initial_epoch"] for t in trials} == {0}
            continue
        assert {values_of(t)["tuner/initial_epoch"] for t in trials} == {epochs[bracket][rung - 1]}
        below = sorted((t.score for t in rungs[bracket, rung - 1]), reverse=direction == "max")
        parents = [oracle.trials[values_of(t)["tuner/trial_id"]] for t in trials]
        assert {p.trial_id for p in parents} <= {t.trial_id for t in rungs[bracket, rung - 1]}
        assert (
            sorted((p.score for p in parents), reverse=direction == "max") == below[: len(trials)]
        )
        assert [configuration(p) for p in parents] == [configuration(t) for t in trials]


def test_small_space_still_promotes() -> None:
    """A space smaller than the first rung is trained to the end, as many trials as planned."""
    oracle = HyperbandOracle("val_loss", 27, hyperparameters=small_space(), seed=0)
    play(oracle, lambda _, v: float(v.get("depth", 9)), workers=2)
    assert census(oracle) == {(3, 0): 5, (3, 1): 5, (3, 2): 3, (3, 3): 1}
    assert values_of(oracle.get_best_trials()[0])["depth"] == 1


def test_initial_trials_are_trained_in_full_first() -> None:
    """A recommended configuration gets all epochs at once, outside the brackets."""
    oracle = HyperbandOracle("val_loss", 9, hyperparameters=space(), initial_trials=[{"x": 0.5}])
    trial = oracle.create_trial("a")
    control = {n: v for n, v in values_of(trial).items() if n.startswith("tuner/")}
    assert control == {
        "tuner/epochs": 9,
        "tuner/initial_epoch": 0,
        "tuner/bracket": -1,
        "tuner/round": 0,
    }
    assert values_of(trial)["x"] == 0.5


def test_search_in_which_all_fails_is_bounded() -> None:
    """Where every trial diverges, each rung gives up after its share of replacements."""
    oracle = HyperbandOracle("val_loss", 9, hyperparameters=space())
    play(oracle, constant(math.inf))
    assert len(oracle.trials) == 4 * 9 + 4 * 5 + 4 * 3 + 1


def test_idle_only_while_something_runs() -> None:
    """A second worker waits while the last trial runs, and stops once it has ended."""
    oracle = HyperbandOracle("val_loss", 3, hyperparameters=small_space(), seed=0)
    play(oracle, constant(1.0), stop_after=3)
    running: list[Any] = []
    while (trial := oracle.create_trial(f"t{len(running)}")).status == "RUNNING":
        running.append(trial)
    assert trial.status == "IDLE"
    assert running
    for trial in running:
        oracle.update_trial(trial.trial_id, {"val_loss": 1.0})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    play(oracle, constant(1.0))
    assert oracle.create_trial("late").status == "STOPPED"


def test_iterations_repeat_all_brackets() -> None:
    """Two iterations complete each bracket twice."""
    oracle = HyperbandOracle("val_loss", 9, hyperband_iterations=2, hyperparameters=space())
    play(oracle)
    assert census(oracle) == {place: 2 * n for place, n in planned(oracle).items()}
    assert oracle.planned_cost is not None
    assert len(oracle.trials) == oracle.planned_cost.trials


@pytest.mark.parametrize(
    "options",
    [{"max_epochs": 0}, {"min_epochs": 10}, {"factor": 1}, {"hyperband_iterations": 0}],
)
def test_impossible_plans_are_refused(options: dict[str, Any]) -> None:
    """Epochs, factor and iterations that do not fit together are an error that says which."""
    with pytest.raises(OptionError, match=next(iter(options))):
        HyperbandOracle(**{"objective": "val_loss", "max_epochs": 9, **options})


def test_resume_with_other_epochs_is_refused(tmp_path: Path) -> None:
    """A search of 9 epochs cannot be resumed as one of 81."""
    oracle = HyperbandOracle("val_loss", 9, hyperparameters=space())
    oracle._set_project_dir(str(tmp_path), "p")
    play(oracle, stop_after=1)
    other = HyperbandOracle("val_loss", 81, hyperparameters=space())
    other._set_project_dir(str(tmp_path), "p")
    with pytest.raises(RunError, match="max_epochs was 9 and is now 81"):
        other.reload()


def test_may_continue_names_every_parent_and_forgets_the_rest() -> None:
    """A trial that is promoted later is kept until then, and no state is kept for ever."""
    oracle = HyperbandOracle("val_loss", max_epochs=9, hyperparameters=space(), seed=3)
    kept: set[str] = set()
    most = 0

    while (trial := oracle.create_trial("worker")).status == "RUNNING":
        parent = values_of(trial).get("tuner/trial_id")
        assert parent is None or parent in kept
        finish(oracle, trial, loss(trial.trial_id, trial.hyperparameters.values))
        kept = {t for t in oracle.trials if oracle.may_continue(t)}
        most = max(most, len(kept))

    assert not kept
    assert 0 < most < len(oracle.trials)
