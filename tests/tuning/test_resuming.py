"""A resumed search equals an uninterrupted one, whatever the strategy and the moment."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import keras_tuner
import pytest

from smarttune.tuning import Budget, Run, TrialPolicy

from .searches import (
    RATE,
    Interrupt,
    Scripted,
    essence,
    keras_reads_variables,
    kerastuner_names_threads,
    oracle,
    tuner,
)
from .tables import dense_search

pytestmark = [keras_reads_variables, kerastuner_names_threads]

STRATEGIES = ["random", "grid", "hyperband", "bayesian"]


def events(path: Path) -> list[dict[str, Any]]:
    """All events of a run."""
    return [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_resumed_search_equals_an_uninterrupted_one(tmp_path: Path, strategy: str) -> None:
    """Broken off twice amid a trial, the search ends with the very records of one sitting."""
    whole = tuner(tmp_path / "whole", strategy)
    whole.search(epochs=2)
    for after in (1, 2):
        broken = tuner(tmp_path / "broken", strategy, on_event=Interrupt(after))
        with pytest.raises(KeyboardInterrupt):
            broken.search(epochs=2)
    resumed = tuner(tmp_path / "broken", strategy)

    resumed.search(epochs=2)

    assert [essence(r) for r in resumed.log] == [essence(r) for r in whole.log]
    assert list(map(essence, Run.load(tmp_path / "broken").log)) == list(map(essence, whole.log))
    ended = Counter(
        e["trial_id"] for e in events(tmp_path / "broken") if e["event"] == "trial_finished"
    )
    assert set(ended.values()) == {1}
    assert not [e for e in events(tmp_path / "broken") if e["event"] == "warning"]


def test_a_resumed_stock_oracle_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """KerasTuner's own random search goes on as if it had never stopped."""

    def stock() -> Any:
        return keras_tuner.oracles.RandomSearchOracle(
            objective=keras_tuner.Objective("val_loss", "min"), max_trials=5, seed=1
        )

    whole = tuner(tmp_path / "whole", stock())
    whole.search(epochs=2)
    with pytest.raises(KeyboardInterrupt):
        tuner(tmp_path / "broken", stock(), on_event=Interrupt(2)).search(epochs=2)
    resumed = tuner(tmp_path / "broken", stock())

    resumed.search(epochs=2)

    assert [essence(r) for r in resumed.log] == [essence(r) for r in whole.log]


def test_a_resumed_search_keeps_the_seed_that_keras_tuner_drew(tmp_path: Path) -> None:
    """Without a seed the trials after a break train from the seed of those before it."""

    def unseeded(**options: Any) -> Any:
        objective = keras_tuner.Objective("val_loss", "min")
        drawn = keras_tuner.oracles.RandomSearchOracle(objective=objective, max_trials=4)
        return tuner(tmp_path / "run", drawn, **options)

    first = unseeded(on_event=Interrupt(2))
    with pytest.raises(KeyboardInterrupt):
        first.search(epochs=2)
    resumed = unseeded()
    assert first.oracle.seed == first.policy.seed == resumed.policy.seed


def test_finished_trials_are_not_trained_again(tmp_path: Path) -> None:
    """Resuming trains the rest and nothing else."""
    with pytest.raises(KeyboardInterrupt):
        tuner(tmp_path / "run", on_event=Interrupt(4)).search(epochs=2)
    hypermodel = Scripted()

    tuner(tmp_path / "run", hypermodel=hypermodel).search(epochs=2)

    assert len(hypermodel.trained) == 2


def test_resuming_a_finished_search_trains_nothing(tmp_path: Path) -> None:
    """A search that had ended ends again at once, with the same best trial."""
    first = tuner(tmp_path / "run")
    first.search(epochs=2)
    hypermodel = Scripted()
    again = tuner(tmp_path / "run", hypermodel=hypermodel)

    again.search(epochs=2)

    assert hypermodel.trained == []
    assert again.log.best() == first.log.best()
    assert again.oracle.get_best_trials(1)[0].trial_id == first.log.best().trial_id


def test_more_trials_may_be_asked_for(tmp_path: Path) -> None:
    """A larger budget goes on from the same trials as a search that had it from the start."""
    tuner(tmp_path / "run", oracle(max_trials=8), budget=Budget(trials=3)).search(epochs=1)
    whole = tuner(tmp_path / "whole", oracle(max_trials=8))
    whole.search(epochs=1)
    resumed = tuner(tmp_path / "run", oracle(max_trials=8), budget=Budget(trials=8))

    resumed.search(epochs=1)

    assert [essence(r) for r in resumed.log] == [essence(r) for r in whole.log]


@pytest.mark.parametrize("most", [12, None])
def test_another_limit_of_trials_goes_on_with_the_recorded_ones(
    tmp_path: Path, most: int | None
) -> None:
    """A limit with more digits, or none, neither forgets trials nor proposes them again."""
    tuner(tmp_path / "run", oracle(max_trials=4), budget=Budget(trials=4)).search(epochs=1)
    whole = tuner(tmp_path / "whole", oracle(max_trials=12))
    whole.search(epochs=1)
    resumed = tuner(tmp_path / "run", oracle(max_trials=most), budget=Budget(trials=12))

    resumed.search(epochs=1)

    assert [r.values for r in resumed.log] == [r.values for r in whole.log]
    assert [int(r.trial_id) for r in resumed.log] == list(range(12))
    assert not [e for e in events(tmp_path / "run") if e["event"] == "warning"]


def test_epochs_spent_before_count(tmp_path: Path) -> None:
    """The budget of epochs covers all sittings together."""
    with pytest.raises(KeyboardInterrupt):
        tuner(tmp_path / "run", budget=Budget(epochs=10), on_event=Interrupt(2)).search(epochs=3)
    resumed = tuner(tmp_path / "run", budget=Budget(epochs=10))

    resumed.search(epochs=3)

    assert resumed.log.num_epochs == 10


def test_a_record_outlives_a_changed_strategy(tmp_path: Path) -> None:
    """Where another seed would propose other values, the record stands and the user is told."""
    tuner(tmp_path / "run", budget=Budget(trials=2)).search(epochs=1)
    before = [essence(r) for r in Run.load(tmp_path / "run").log]
    other = tuner(tmp_path / "run", oracle(seed=99))

    other.search(epochs=1)

    assert [essence(r) for r in other.log][:2] == before
    assert len({r.values[RATE] for r in other.log}) == 6
    texts = [e["text"] for e in events(tmp_path / "run") if e["event"] == "warning"]
    assert len(texts) == 2
    assert all("the record stands" in text for text in texts)


def test_a_lost_state_is_trained_anew(tmp_path: Path) -> None:
    """A promotion whose parent's state is gone starts at the first epoch and says so."""
    with pytest.raises(KeyboardInterrupt):
        tuner(tmp_path / "run", "hyperband", on_event=Interrupt(3, events=0)).search()
    for state in (tmp_path / "run" / "checkpoints").glob("*.last.npz"):
        state.unlink()
    resumed = tuner(tmp_path / "run", "hyperband")

    resumed.search()

    fourth = resumed.log[3]
    assert fourth.rung == 1
    assert (fourth.parent, fourth.initial_epoch, fourth.num_epochs) == (None, 0, 2)
    assert any("starting anew" in e.get("text", "") for e in events(tmp_path / "run"))


def test_results_are_at_hand_before_searching_again(tmp_path: Path) -> None:
    """As in KerasTuner, a tuner on a finished project knows its best trials at once."""
    tuner(tmp_path / "run").search(epochs=1)

    again = tuner(tmp_path / "run")

    assert again.get_best_hyperparameters(1)[0].get(RATE) == again.log.best().values[RATE]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path, strategy: str) -> None:
    """With real networks values, scores and whole curves agree to the last bit."""
    policy = TrialPolicy(max_epochs=4, seed=5, patience=2)
    budget = Budget(trials=4)
    whole, data = dense_search(tmp_path / "whole", strategy, policy=policy, budget=budget)
    whole.search(data)
    broken, data = dense_search(
        tmp_path / "run", strategy, policy=policy, budget=budget, on_event=Interrupt(2)
    )
    with pytest.raises(KeyboardInterrupt):
        broken.search(data)
    resumed, data = dense_search(tmp_path / "run", strategy, policy=policy, budget=budget)

    resumed.search(data)

    assert len(resumed.log) == 4
    assert [essence(r) for r in resumed.log] == [essence(r) for r in whole.log]
    assert len({r.score for r in whole.log}) > 1
    if strategy == "hyperband":
        assert any(r.parent for r in whole.log)
