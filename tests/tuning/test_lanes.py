"""Searches in every lane find the same, and say which lane they took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest

from smarttune.tuning import SmartTuner, TrialPolicy

from .tables import dense_model, dense_oracle

pytestmark = [
    pytest.mark.slow,
    pytest.mark.jax,
    pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning"),
]


def searched(
    folder: Path, executor: str, strategy: str = "random", **policy: Any
) -> tuple[SmartTuner, list[dict[str, Any]]]:
    """A search of small dense networks, and its events."""
    events: list[Any] = []
    hypermodel, data = dense_model()
    made = SmartTuner(
        dense_oracle(strategy, **({"max_trials": 5} if strategy == "random" else {})),
        hypermodel,
        directory=folder,
        project_name=executor,
        policy=TrialPolicy(max_epochs=4, seed=1, **policy),
        on_event=events.append,
        executor=executor,
    )
    made.search(data)
    return made, events


def scores(made: SmartTuner) -> dict[str, float | None]:
    """The score of each trial."""
    return {r.trial_id: r.score for r in made.log}


@pytest.mark.parametrize("strategy", ["random", "hyperband"])
def test_every_lane_records_the_same_trials(tmp_path: Path, strategy: str) -> None:
    """Trials, scores, epochs and promotions do not depend on the lane."""
    wanted, _ = searched(tmp_path, "fit", strategy)
    batched = keras.backend.backend() == "jax"
    for executor in ("compiled", "fused") if batched else ("compiled",):
        found, events = searched(tmp_path, executor, strategy)
        if executor == "compiled":
            assert scores(found) == pytest.approx(scores(wanted), rel=1e-3)
            assert [r.num_epochs for r in found.log] == [r.num_epochs for r in wanted.log]
        assert {r.outcome for r in found.log} == {"completed"}
        assert executor in {e["lane"] for e in events if e["event"] == "lane_chosen"}


def test_the_best_model_of_a_lane_predicts_what_it_scored(tmp_path: Path) -> None:
    """What is restored from a compiled trial's checkpoint has the recorded loss."""
    made, _ = searched(tmp_path, "compiled")
    _, data = dense_model()
    best = made.log.best()
    (model,) = made.get_best_models()
    logs = model.evaluate(data.x_validation, data.y_validation, return_dict=True, verbose=0)
    assert logs["loss"] == pytest.approx(best.score, rel=1e-4)


def test_early_stopping_ends_a_trial_in_every_lane(tmp_path: Path) -> None:
    """Patience leads to the same number of epochs."""
    lengths = []
    for executor in ("fit", "compiled"):
        made, _ = searched(tmp_path, executor, patience=1)
        lengths.append([(r.num_epochs, r.outcome) for r in made.log])
    assert lengths[0] == lengths[1]


def build(hp: Any) -> Any:
    """A model as a KerasTuner user writes it."""
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dropout(hp.Float("rate", 0.1, 0.5)),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(hp.Float("lr", 1e-3, 1e-1, sampling="log")), "mse")
    return model


class OwnFit(keras_tuner.HyperModel):  # type: ignore[misc]
    """Chooses the batch size in `fit`, as KerasTuner's guides do."""

    def build(self, hp: Any) -> Any:
        """The model."""
        return build(hp)

    def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Train it with a batch size of the trial's."""
        return model.fit(*args, batch_size=hp.Choice("batch", [8, 16]), **kwargs)


@pytest.mark.parametrize("hypermodel", [build, OwnFit()], ids=["function", "own fit"])
@pytest.mark.parametrize("held_out", [True, False], ids=["validation_data", "validation_split"])
def test_fit_on_arrays_takes_a_lane(tmp_path: Path, hypermodel: Any, held_out: bool) -> None:
    """Code that calls `model.fit` on arrays shares a program and leaves whole curves."""
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 3))  # float64, as data come
    y = x.sum(1, keepdims=True)
    events: list[Any] = []
    made = SmartTuner(
        random_trials(),
        hypermodel,
        directory=tmp_path,
        project_name="run",
        on_event=events.append,
    )
    options = {"validation_data": (x, y)} if held_out else {"validation_split": 0.25}
    made.search(x, y, epochs=3, **options)
    assert [e["lane"] for e in events if e["event"] == "lane_chosen"] == ["compiled"]
    assert len(made.lanes._programs) <= 2  # on JAX a batch size has its own
    assert [len(r.curve) for r in made.log] == [3, 3, 3]


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="one trial at a time elsewhere")
def test_arrays_for_fit_train_several_trials_together(tmp_path: Path) -> None:
    """What a KerasTuner script hands to `search` is fused, and scores what each trial has alone."""
    x = np.random.default_rng(0).normal(size=(40, 3))
    y = x.sum(1, keepdims=True)
    found = []
    for executor in ("compiled", "fused"):
        events: list[Any] = []
        made = SmartTuner(
            random_trials(4),
            build,
            directory=tmp_path,
            project_name=executor,
            on_event=events.append,
            executor=executor,
        )
        made.search(x, y, epochs=3, batch_size=8, validation_data=(x, y))
        assert executor in {e["lane"] for e in events if e["event"] == "lane_chosen"}
        found.append(scores(made))
    assert found[1] == pytest.approx(found[0], rel=1e-3)


def random_trials(number: int = 3) -> Any:
    """So many random trials."""
    from smarttune.oracles import RandomOracle

    goal = keras_tuner.Objective("val_loss", "min")
    return RandomOracle(goal, max_trials=number, seed=0)


def test_what_a_program_cannot_take_is_trained_as_ever(tmp_path: Path) -> None:
    """Generators, `shuffle=False` and eager models go to Keras's own `fit`."""
    x = np.random.default_rng(0).normal(size=(32, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    events: list[Any] = []
    made = SmartTuner(
        random_trials(), build, directory=tmp_path, project_name="r", on_event=events.append
    )
    made.search(x, y, epochs=2, shuffle=False, validation_data=(x, y))
    assert [r.outcome for r in made.log] == ["completed"] * 3
    assert not [e for e in events if e["event"] == "lane_chosen"]
