"""The search loop with any oracle and any hypermodel: contract, budgets, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest

from smarttune.errors import OptionError, RunError
from smarttune.oracles import HyperbandOracle
from smarttune.tuning import Budget, Run, SmartTuner, TrialPolicy
from smarttune.tuning.checkpoints import KEPT_MODELS
from smarttune.tuning.watching import EARLY_STOPPING

from .searches import (
    RATE,
    WIDTH,
    Scripted,
    build_learner,
    declare,
    essence,
    keras_reads_variables,
    kerastuner_names_threads,
    line,
    oracle,
    tiny_model,
    tuner,
)

pytestmark = [keras_reads_variables, kerastuner_names_threads]

STOCK = {
    "random": (keras_tuner.oracles.RandomSearchOracle, {"max_trials": 5}),
    "bayesian": (
        keras_tuner.oracles.BayesianOptimizationOracle,
        {"max_trials": 5, "num_initial_points": 3},
    ),
    "hyperband": (
        keras_tuner.oracles.HyperbandOracle,
        {"max_epochs": 4, "factor": 2, "hyperband_iterations": 1},
    ),
}


def stock(name: str) -> Any:
    """One of KerasTuner's own oracles."""
    kind, options = STOCK[name]
    return kind(objective=keras_tuner.Objective("val_loss", "min"), seed=1, **options)


@pytest.mark.parametrize("name", list(STOCK))
@pytest.mark.filterwarnings("ignore:.*lbfgs.*", "ignore:.*length_scale.*", "ignore:The optimal")
def test_stock_oracles_work(tmp_path: Path, name: str) -> None:
    """KerasTuner's own oracles propose, are told scores, and name the best trial."""
    searched = tuner(tmp_path / "run", stock(name))

    searched.search(epochs=2)

    log = searched.log
    assert len(log) == {"random": 5, "bayesian": 5}.get(name, len(log))
    assert len(log) >= 5
    assert {r.outcome for r in log} == {"completed"}
    best = searched.oracle.get_best_trials(1)[0]
    assert best.trial_id == log.best().trial_id
    assert best.score == log.best().score == min(r.score for r in log if r.score)
    assert searched.get_best_hyperparameters(1)[0].get(RATE) == log.best().values[RATE]


def test_stock_hyperband_continues_its_trials(tmp_path: Path) -> None:
    """Promotions that KerasTuner's own Hyperband asks for go on from their parents."""
    hypermodel = Scripted()
    searched = tuner(tmp_path / "run", stock("hyperband"), hypermodel)

    searched.search()

    promoted = [r for r in searched.log if r.parent is not None]
    assert promoted
    for record in promoted:
        parent = searched.records[str(record.parent)]
        assert record.initial_epoch == parent.num_epochs
        assert record.seed == parent.seed
        assert record.curve[: parent.num_epochs] == parent.curve


@pytest.mark.slow
def test_plain_build_functions_are_trained(tmp_path: Path) -> None:
    """A function of hp and the arguments of Model.fit are all that a user needs."""
    x, y = line()
    searched = tuner(tmp_path / "run", oracle(max_trials=3), build_learner)

    searched.search(x, y, validation_data=(x, y), epochs=4, batch_size=8)

    assert [r.num_epochs for r in searched.log] == [4, 4, 4]
    best = searched.get_best_models(1)[0]
    assert best.evaluate(x, y, verbose=0) == pytest.approx(searched.log.best().score, rel=1e-5)
    assert all(r.num_parameters == 3 for r in searched.log)


@pytest.mark.slow
def test_callbacks_of_the_user_are_called(tmp_path: Path) -> None:
    """Callbacks that are passed to search see every epoch of every trial."""
    seen: list[int] = []

    class Counting(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            seen.append(epoch)

    x, y = line()
    searched = tuner(tmp_path / "run", oracle(max_trials=2), build_learner)

    searched.search(x, y, validation_data=(x, y), epochs=2, callbacks=[Counting()])

    assert seen == [0, 1, 0, 1]


@pytest.mark.parametrize("strategy", ["random", "grid", "hyperband", "bayesian"])
def test_the_same_seed_gives_the_same_trials(tmp_path: Path, strategy: str) -> None:
    """Two searches with one seed agree in every record but for the times."""
    logs = []
    for name in ("one", "two"):
        searched = tuner(tmp_path / name, strategy)
        searched.search(epochs=2)
        logs.append([essence(r) for r in searched.log])

    assert logs[0] == logs[1]
    assert len(logs[0]) >= 6


def test_neighbouring_seeds_share_no_trial(tmp_path: Path) -> None:
    """Another seed of the policy seeds every trial otherwise."""
    seeds = []
    for seed in (0, 1, 2):
        searched = tuner(tmp_path / str(seed), policy=TrialPolicy(seed=seed))
        searched.search(epochs=1)
        seeds += [r.seed for r in searched.log]

    assert len(set(seeds)) == len(seeds) == 18
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_the_oracle_may_be_overruled_by_run_trial(tmp_path: Path) -> None:
    """A subclass that returns a number, as KerasTuner allows, is recorded."""

    class Own(SmartTuner):
        def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> Any:
            return trial.hyperparameters.get(RATE)

    own = Own(oracle(), Scripted(), directory=tmp_path, project_name="run")
    own.search()

    assert [r.score for r in own.log] == [r.values[RATE] for r in own.log]
    assert own.log.best().score == min(r.values[RATE] for r in own.log)


def test_searching_twice_goes_on_quietly(tmp_path: Path) -> None:
    """A second call of search on the same tuner runs no trial twice and warns of nothing."""
    searched = tuner(tmp_path / "run", budget=Budget(trials=2))
    searched.search(epochs=1)
    searched.budget = Budget(trials=4)

    searched.search(epochs=1)

    assert [r.trial_id for r in searched.log] == ["0", "1", "2", "3"]
    events = (tmp_path / "run" / "events.jsonl").read_text()
    assert '"warning"' not in events


# Early stopping and promotion.


def rising(values: Any, epoch: int) -> dict[str, float]:
    """A validation loss that only gets worse after the first epoch."""
    return {"loss": 1.0 / epoch, "val_loss": values[RATE] + 0.1 * epoch}


def test_promoting_a_trial_that_had_stopped_costs_nothing(tmp_path: Path) -> None:
    """A trial that was stopped early is promoted with its score and without an epoch."""
    hypermodel = Scripted(rising)
    halving = HyperbandOracle(
        keras_tuner.Objective("val_loss", "min"), 9, min_epochs=3, factor=3, seed=0
    )
    searched = tuner(tmp_path / "run", halving, hypermodel, policy=TrialPolicy(patience=1))

    searched.search()

    promoted = [r for r in searched.log if r.parent is not None]
    assert len(promoted) == 1
    record, parent = promoted[0], searched.records[str(promoted[0].parent)]
    assert (record.outcome, record.message) == ("stopped", EARLY_STOPPING)
    assert record.num_epochs - record.initial_epoch == 0
    assert (record.score, record.curve) == (parent.score, parent.curve)
    assert len(hypermodel.trained) == len(searched.log) - 1
    assert searched.run.best_weights_path(record.trial_id).exists()


def test_the_best_model_of_a_lineage_is_at_hand(tmp_path: Path) -> None:
    """Where a promoted trial only keeps its parent's score, the best model still loads."""
    halving = HyperbandOracle(
        keras_tuner.Objective("val_loss", "min"), 9, min_epochs=3, factor=3, seed=0
    )
    searched = tuner(
        tmp_path / "run", halving, Scripted(rising, fresh=True), policy=TrialPolicy(patience=1)
    )
    searched.search()

    (model,) = searched.get_best_models(1)

    assert float(model.layers[-1].bias.numpy()[0]) == 1.0


def test_the_best_epoch_may_be_the_parents(tmp_path: Path) -> None:
    """Where going on makes a trial worse, score and weights stay those of the parent."""
    halving = HyperbandOracle(
        keras_tuner.Objective("val_loss", "min"), 9, min_epochs=3, factor=3, seed=0
    )
    searched = tuner(tmp_path / "run", halving, Scripted(rising))

    searched.search()

    (record,) = (r for r in searched.log if r.parent is not None)
    assert (record.best_epoch, record.num_epochs) == (1, 9)
    weights = np.load(searched.run.best_weights_path(record.trial_id))
    assert float(weights["v00001"][0]) == 1.0  # the bias that Scripted leaves in epoch 1


# Files and models.


def test_checkpoints_are_bounded(tmp_path: Path) -> None:
    """However many trials there were, only the finalists' weights stay on disk."""
    searched = tuner(
        tmp_path / "run", oracle(max_trials=12), policy=TrialPolicy(default={RATE: 1, WIDTH: 2})
    )

    searched.search(epochs=1)

    kept = {p.name for p in (tmp_path / "run" / "checkpoints").iterdir()}
    assert kept == {f"{r.trial_id}.best.npz" for r in searched.log.ranked()[:KEPT_MODELS]}


def test_many_checkpoints_are_looked_through_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where many are kept some stay for a while; in the end only those stay that are needed."""
    monkeypatch.setattr("smarttune.tuning.tuner.KEPT_PER_SUPERFLUOUS", 2)
    most = 0

    def count(event: Any) -> None:
        nonlocal most
        if event["event"] == "trial_finished":
            most = max(most, len(list((tmp_path / "run" / "checkpoints").iterdir())))

    searched = tuner(tmp_path / "run", oracle(max_trials=16), on_event=count)

    searched.search(epochs=1)

    kept = {p.name for p in (tmp_path / "run" / "checkpoints").iterdir()}
    assert kept == {f"{r.trial_id}.best.npz" for r in searched.log.ranked()[:KEPT_MODELS]}
    assert len(kept) < most <= KEPT_MODELS + KEPT_MODELS // 2


def test_checkpoints_of_brackets_are_bounded(tmp_path: Path) -> None:
    """States that no promotion can need any more are deleted while the search runs."""
    most = 0

    def count(event: Any) -> None:
        nonlocal most
        folder = tmp_path / "run" / "checkpoints"
        most = max(most, sum(1 for _ in folder.glob("*.last.npz")) if folder.exists() else 0)

    endless = oracle("hyperband", hyperband_iterations=None)
    searched = tuner(tmp_path / "run", endless, budget=Budget(trials=30), on_event=count)

    searched.search()

    assert most <= 6  # the bracket of four that is open, and one trial that runs


def test_weights_of_the_default_are_kept(tmp_path: Path) -> None:
    """The recommendation's model stays at hand, however bad it was."""
    start = {RATE: 1e-4, WIDTH: 4}
    searched = tuner(
        tmp_path / "run",
        oracle(max_trials=10, initial_trials=[start]),
        policy=TrialPolicy(default=start),
    )

    searched.search(epochs=1)

    assert searched.log[0].is_default
    assert [r.is_default for r in searched.log].count(True) == 1
    assert searched.run.best_weights_path(searched.log[0].trial_id).exists()


def test_the_best_models_hold_their_best_epoch(tmp_path: Path) -> None:
    """Models come back in rank order with the weights of their best epochs."""

    def valley(values: Any, epoch: int) -> dict[str, float]:
        return {"loss": 1.0, "val_loss": abs(epoch - 3) + values[RATE]}

    searched = tuner(tmp_path / "run", hypermodel=Scripted(valley, fresh=True))
    searched.search(epochs=5)

    models = searched.get_best_models(2)

    assert [float(m.layers[-1].bias.numpy()[0]) for m in models] == [3.0, 3.0]
    best = [t.trial_id for t in searched.oracle.get_best_trials(2)]
    assert best == [r.trial_id for r in searched.log.ranked()[:2]]


def test_the_run_holds_no_second_record(tmp_path: Path) -> None:
    """With our oracles nothing but the run's own files is written."""
    searched = tuner(tmp_path / "run")

    searched.search(epochs=1)

    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names <= {"run.json", "study.db", "events.jsonl", "checkpoints", ".lock"}


def test_an_objective_that_is_not_logged_is_named(tmp_path: Path) -> None:
    """A wrong objective stops the first trial with an error, not the tenth."""
    wrong = oracle(objective=keras_tuner.Objective("val_accuracy", "max"))
    searched = tuner(tmp_path / "run", wrong)

    with pytest.raises(OptionError, match="val_accuracy"):
        searched.search(epochs=1)

    assert len(Run.load(tmp_path / "run").log) == 0


def test_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    """A folder with somebody's files is not taken for a project."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")

    with pytest.raises(RunError, match=r"notes\.txt"):
        tuner(tmp_path / "run")


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_precision_set_inside_build_is_in_force(tmp_path: Path, policy: str) -> None:
    """A policy that a build function sets governs its model, and is gone after the trial."""
    seen: list[str] = []

    def build(hp: Any) -> Any:
        declare(hp)
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            model = tiny_model()
        finally:
            keras.config.set_dtype_policy(before)
        seen.append(model.layers[-1].compute_dtype)
        return model

    class Built(Scripted):
        def build(self, hp: Any) -> Any:
            return build(hp)

    tuner(tmp_path / "run", oracle(max_trials=2), Built()).search(epochs=1)

    assert set(seen) == {policy.removeprefix("mixed_")}
    assert keras.config.dtype_policy().name == "float32"
