"""Changes in a running search: they reach the oracle and the trials, and a resumed search repeats them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import pytest

from smarttune.errors import OptionError
from smarttune.execution import TrainingData
from smarttune.space import Dimension, FloatRange, SearchSpace
from smarttune.trials import TrialLog
from smarttune.tuning import Budget, Run, TrialPolicy
from smarttune.tuning.adapting import COUNT, LENGTH, ROUND, adaptations, space_after

from .histories import changes, rules
from .searches import (
    RATE,
    Interrupt,
    Scripted,
    bowl,
    build_learner,
    essence,
    keras_reads_variables,
    kerastuner_names_threads,
    line,
    oracle,
    tuner,
)

pytestmark = [keras_reads_variables, kerastuner_names_threads]


def cliff(values: Mapping[str, Any], epoch: int) -> dict[str, float]:
    """A bowl that ends at a rate above which losses are no numbers."""
    return bowl(values, epoch) if values[RATE] <= 0.02 else {"loss": math.nan, "val_loss": math.nan}


def living(path: Path, strategy: str = "random", **options: Any) -> Any:
    """A scripted search over a range that ends beyond a cliff."""
    made = options.pop("oracle", None)
    if made is None:
        made = oracle(strategy) if strategy == "hyperband" else oracle(strategy, max_trials=18)
    scripted = Scripted(cliff)
    base: dict[str, Any] = {"adapt": rules(), "policy": TrialPolicy(max_epochs=2)}
    return tuner(path, made, scripted, **(base | options))


@pytest.mark.parametrize("strategy", ["random", "hyperband", "bayesian"])
def test_no_trial_is_drawn_above_the_cap(tmp_path: Path, strategy: str) -> None:
    """After the event no new configuration has a rate beyond the new edge."""
    search = living(tmp_path / "run", strategy)
    search.search(epochs=2)

    caps = [e for e in adaptations(tmp_path / "run") if e["hyperparameter"] == RATE]
    assert caps
    for record in search.log[caps[0]["num_trials"] :]:
        high = max(e["after"]["range"]["high"] for e in caps)
        assert record.parent is not None or record.values[RATE] <= high * (1 + 1e-9)
    assert any(r.outcome == "diverged" for r in search.log[: caps[0]["num_trials"]])


@pytest.mark.parametrize(
    ("strategy", "after"), [("random", 4), ("random", 5), ("hyperband", 7), ("bayesian", 6)]
)
def test_a_resumed_search_repeats_its_changes(tmp_path: Path, strategy: str, after: int) -> None:
    """Broken off before, at or after a change, a search ends with the same trials and events."""
    living(tmp_path / "whole", strategy).search(epochs=2)
    with pytest.raises(KeyboardInterrupt):
        living(tmp_path / "run", strategy, on_event=Interrupt(after)).search(epochs=2)
    living(tmp_path / "run", strategy).search(epochs=2)

    def trials(name: str) -> list[str]:
        # As text, for a diverged curve holds values that do not equal themselves.
        return [repr(essence(r)) for r in Run.load(tmp_path / name).log]

    def events(name: str) -> list[dict[str, Any]]:
        return [{**e, "time": 0} for e in adaptations(tmp_path / name)]

    assert trials("run") == trials("whole")
    assert events("run") == events("whole")
    assert events("run")


def test_a_round_cut_short_is_noted_when_resumed(tmp_path: Path) -> None:
    """A trial that was recorded without its event, as by a kill between the two, gets it later."""
    living(tmp_path / "run", budget=Budget(trials=5)).search(epochs=2)
    written = adaptations(tmp_path / "run")
    lines = (tmp_path / "run" / "events.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"adapted"' not in line]
    (tmp_path / "run" / "events.jsonl").write_text("".join(kept) + '{"event": "adap')

    living(tmp_path / "run", budget=Budget(trials=5))

    (tmp_path / "run" / "events.jsonl").write_text(
        (tmp_path / "run" / "events.jsonl").read_text().replace('{"event": "adap{', "{")
    )
    assert written
    assert [{**e, "time": 0} for e in adaptations(tmp_path / "run")] == [
        {**e, "time": 0} for e in written
    ]


def test_the_record_outlives_changed_rules(tmp_path: Path) -> None:
    """Where the rules would say something else today, the recorded change stands."""
    living(tmp_path / "run", budget=Budget(trials=7)).search(epochs=2)
    before = adaptations(tmp_path / "run")
    cap = changes(before)[RATE]["after"]["range"]["high"]

    silent = living(tmp_path / "run", adapt=lambda log, events: [])

    assert adaptations(tmp_path / "run") == before
    space = {hp.name: hp for hp in silent.oracle.get_space().space}
    assert space[RATE].max_value == pytest.approx(cap)


def test_without_adapting_the_space_stays(tmp_path: Path) -> None:
    """`adapt=None` draws from the declared range to the end and writes no event."""
    search = living(tmp_path / "run", adapt=None)
    search.search(epochs=2)

    assert adaptations(tmp_path / "run") == []
    assert max(r.values[RATE] for r in search.log[ROUND:]) > 0.02


def scheduled(todo: Mapping[int, tuple[str, int]]) -> Any:
    """Changes by the number of trials after which they come: a name and its one value."""

    def adapt(log: TrialLog, events: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        noted = any(e["num_trials"] == len(log) for e in events)
        name, value = ("", 0) if noted else todo.get(len(log), ("", 0))
        fixed = {"range": {"type": "fixed", "value": value}, "value": value, "prior": None}
        event = {"event": "adapted", "rule": "X001", "hyperparameter": name, "after": fixed}
        return [{**event, "before": fixed, "num_trials": len(log)}] if name else []

    return adapt


def test_lengths_and_the_end_reach_the_search(tmp_path: Path) -> None:
    """A new length holds for all later trials, and an end ends the search with its reason."""

    adapt = scheduled({2: (LENGTH, 3), 4: (COUNT, 4)})
    heard: list[Mapping[str, Any]] = []
    search = living(tmp_path / "run", adapt=adapt, on_event=heard.append)
    search.search()

    assert [r.num_epochs for r in search.log if r.outcome == "completed"][-1] == 3
    assert [r.max_epochs for r in search.log] == [2, 2, 3, 3]
    assert "X001" in heard[-1]["reason"]
    again = living(tmp_path / "run", adapt=adapt)
    again.search()
    assert len(again.log) == 4
    more = living(tmp_path / "run", adapt=adapt, budget=Budget(trials=6))
    more.search()
    assert len(more.log) == 6


WIDE = SearchSpace(
    dimensions=(
        Dimension(name=RATE, range=FloatRange(low=1e-3, high=1e3, sampling="log"), value=1e-2),
    )
)


def unstable(hp: Any) -> Any:
    """One layer, whose loss leaves all bounds above a rate of about one."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(hp.Float(RATE, 1e-3, 1e3, sampling="log")), "mse")
    return model


@pytest.mark.slow
def test_real_divergence_caps_the_rate(tmp_path: Path) -> None:
    """Networks that really diverge cap the range, after which most trainings end well."""
    x, y = line()
    search = tuner(tmp_path / "run", oracle("random", max_trials=15), unstable, adapt=rules(WIDE))
    search.search(x, y, validation_data=(x, y), epochs=8, batch_size=8)

    cap = next(e for e in adaptations(tmp_path / "run") if e["rule"] == "DIA003")
    before, later = search.log[: cap["num_trials"]], search.log[cap["num_trials"] :]
    assert any(r.outcome == "diverged" for r in before)
    assert cap["after"]["range"]["high"] < min(
        r.values[RATE] for r in before if r.outcome == "diverged"
    )
    high = space_after(WIDE, [cap])[RATE].range.high  # type: ignore[union-attr]
    assert all(r.values[RATE] <= high * (1 + 1e-9) for r in later)
    assert sum(r.is_scored for r in later) / len(later) > sum(r.is_scored for r in before) / len(
        before
    )


def test_a_batch_grows_over_the_length_that_holds(tmp_path: Path) -> None:
    """Trials that were made longer grow their batches over the new length, as schedules do."""
    asked: list[int] = []

    def growth(values: Mapping[str, Any], num_micro_batches: int, epochs: int) -> None:
        asked.append(epochs)

    x, y = line()
    search = tuner(
        tmp_path / "run",
        hypermodel=build_learner,
        adapt=scheduled({2: (LENGTH, 3)}),
        policy=TrialPolicy(max_epochs=2, growth=growth),
        budget=Budget(trials=4),
    )
    search.search(TrainingData(x, y, x, y))

    assert asked == [2, 2, 3, 3]
    assert [r.num_epochs for r in search.log] == [2, 2, 3, 3]


def test_stock_oracles_cannot_adapt(tmp_path: Path) -> None:
    """An oracle whose ranges are fixed is refused before anything is trained."""
    stock = keras_tuner.oracles.RandomSearchOracle(
        objective=keras_tuner.Objective("val_loss", "min"), max_trials=5, seed=1
    )

    with pytest.raises(OptionError, match="whose ranges cannot be changed"):
        living(tmp_path / "run", oracle=stock)
