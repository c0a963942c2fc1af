"""Searches that are played, not trained: a smooth function of the values is the loss."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import keras_tuner

from smarttune.oracles import RepairedOracle

Outcome = Callable[[str, Mapping[str, Any]], float | str]
CRASH = "crash"


def space() -> Any:
    """A space with a branch, a log scale and one with steps."""
    hp = keras_tuner.HyperParameters()
    hp.Float("x", 0.0, 1.0)
    hp.Int("units", 16, 256, step=2, sampling="log")
    hp.Choice("optimizer", ["sgd", "adam"])
    with hp.conditional_scope("optimizer", ["sgd"]):
        hp.Float("momentum", 0.5, 0.99)
    with hp.conditional_scope("optimizer", ["adam"]):
        hp.Float("rate", 1e-5, 1e-1, sampling="log")
    return hp


def small_space() -> Any:
    """A space of five configurations: a with three values of depth, b with two of width."""
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["a", "b"])
    with hp.conditional_scope("kind", ["a"]):
        hp.Int("depth", 1, 3)
    with hp.conditional_scope("kind", ["b"]):
        hp.Choice("width", [8, 16])
    return hp


def loss(_: str, values: Mapping[str, Any]) -> float:
    """A loss that is finite everywhere."""
    rate = math.log10(values.get("rate", 1e-2))
    branch = 0.2 if values["optimizer"] == "sgd" else (rate + 3) ** 2 / 10
    return float((values["x"] - 0.3) ** 2 + (math.log2(values["units"]) - 6) ** 2 / 20 + branch)


def flaky(trial_id: str, values: Mapping[str, Any]) -> float | str:
    """Three trials in ten fail: by nan, by infinity and by a crash, never two in a row."""
    results: dict[int, float | str] = {2: math.nan, 5: -math.inf, 8: CRASH}
    return results.get(int(trial_id) % 10, loss(trial_id, values))


def unreliable(seed: int) -> Outcome:
    """Three trials in ten fail, independently: a third each by nan, by infinity, by a crash."""

    def outcome(trial_id: str, values: Mapping[str, Any]) -> float | str:
        u = random.Random(f"{seed} {int(trial_id)}").random()
        failures: tuple[float | str, ...] = (math.nan, math.inf, CRASH)
        return failures[int(u * 10)] if u < 0.3 else loss(trial_id, values)

    return outcome


def constant(value: float | str) -> Outcome:
    """The same outcome for every trial."""
    return lambda *_: value


def configuration(trial: Any) -> dict[str, Any]:
    """The values of a trial without those that steer the tuner."""
    return {n: v for n, v in trial.hyperparameters.values.items() if not n.startswith("tuner/")}


def proposals(oracle: RepairedOracle) -> list[dict[str, Any]]:
    """All values in the order of the trials."""
    return [dict(oracle.trials[i].hyperparameters.values) for i in oracle.start_order]


def new_configurations(oracle: RepairedOracle) -> list[dict[str, Any]]:
    """All values in the order of the trials, without trials that continue another."""
    return [values for values in proposals(oracle) if "tuner/trial_id" not in values]


def num_epochs(oracle: RepairedOracle) -> int:
    """The epochs that all trials together trained."""
    trained = 0
    for values in proposals(oracle):
        trained += values["tuner/epochs"] - values["tuner/initial_epoch"]
    return trained


def num_full_trainings(oracle: Any) -> int:
    """The completed trials that trained to the end."""
    return sum(
        t.status == "COMPLETED" and t.hyperparameters.values["tuner/epochs"] == oracle.max_epochs
        for t in oracle.trials.values()
    )


def finish(oracle: RepairedOracle, trial: Any, result: float | str) -> None:
    """Report a result and end the trial as a tuner does."""
    if isinstance(result, str):
        trial.status, trial.message = "INVALID", result
    else:
        oracle.update_trial(trial.trial_id, {oracle.objective.name: result})
        trial.status = "COMPLETED"
    oracle.end_trial(trial)


def play(
    oracle: RepairedOracle,
    outcome: Outcome = loss,
    *,
    workers: int = 1,
    stop_after: int | None = None,
) -> list[tuple[str, str]]:
    """Run a search; return its calls, ("ask", tuner) and ("tell", trial)."""
    rng, calls = random.Random(0), []
    live: dict[str, Any] = {}
    while stop_after is None or len(oracle.end_order) < stop_after:
        for tuner in (f"tuner{i}" for i in range(workers)):
            if tuner not in live:
                calls.append(("ask", tuner))
                trial = oracle.create_trial(tuner)
                if trial.status == "IDLE":
                    assert live, "the oracle waits although nothing runs"
                elif trial.status == "RUNNING":
                    live[tuner] = trial
        if not live:
            return calls
        trial = live.pop(rng.choice(sorted(live)))
        calls.append(("tell", trial.trial_id))
        finish(oracle, trial, outcome(trial.trial_id, trial.hyperparameters.values))
    return calls


def play_in_batches(
    oracle: RepairedOracle,
    outcome: Outcome,
    *,
    workers: int,
    ask: Callable[[RepairedOracle, list[str]], list[Any]],
    num_rounds: int = 1000,
) -> list[list[str]]:
    """Run a search in which all free tuners ask together; return the trials of each asking.

    Some of those that run, chosen by a seeded draw, end before the next asking.
    """
    rng, asked = random.Random(1), []
    live: dict[str, Any] = {}
    for _ in range(num_rounds):
        free = [f"tuner{i}" for i in range(workers) if f"tuner{i}" not in live]
        trials = [t for t in ask(oracle, free) if t.status == "RUNNING"]
        live.update(zip(free, trials, strict=False))
        asked.append([t.trial_id for t in trials])
        if not live:
            break
        for tuner in rng.sample(sorted(live), rng.randint(1, len(live))):
            trial = live.pop(tuner)
            finish(oracle, trial, outcome(trial.trial_id, trial.hyperparameters.values))
    return asked


def one_by_one(oracle: RepairedOracle, tuners: list[str]) -> list[Any]:
    """Ask for each tuner until one has to wait or stop."""
    trials = []
    for tuner in tuners:
        trials.append(oracle.create_trial(tuner))
        if trials[-1].status != "RUNNING":
            break
    return trials
