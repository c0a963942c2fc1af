"""The repaired promise of Hyperband: training in rungs is training in one go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from smarttune.execution import fit_arrays
from smarttune.models.optimizers import batch_growth
from smarttune.space import Value
from smarttune.training import restore_state
from smarttune.training.averaging import AveragedWeights
from smarttune.training.checkpoint import state_of
from smarttune.training.gradients import begin_epoch
from smarttune.training.plateau import ContinuedPlateau
from smarttune.tuning import Budget, Run, SmartTuner, TrialPolicy

from .searches import Interrupt, essence, keras_reads_variables
from .tables import ROWS, dense_model, dense_oracle

pytestmark = [pytest.mark.slow, keras_reads_variables]

EPOCHS, RUNG = 9, 3

SETTINGS: dict[str, dict[str, Value]] = {
    "dropout and cosine": {"optimizer.schedule": "cosine", "optimizer.warmup_steps": 5},
    "momentum and batch norm": {
        "optimizer.name": "sgd",
        "optimizer.momentum": 0.9,
        "optimizer.schedule": "one_cycle",
        "model.normalization": "batch",
    },
    "half precision": {
        "training.precision": "mixed_float16",
        "optimizer.schedule": "linear",
        "optimizer.clipnorm": 1.0,
    },
    "accumulated gradients": {
        "training.gradient_accumulation_steps": 2,
        "optimizer.schedule": "cyclical",
        "optimizer.weight_decay": 0.01,
    },
    "cycled momentum": {"optimizer.schedule": "one_cycle", "optimizer.momentum_cycling": True},
    "averaged weights": {"optimizer.ema_momentum": 0.9, "optimizer.clipnorm": 0.5},
    "a rate that moves itself": {"optimizer.hypergradient_rate": 1e-3},
    "a batch that doubles": {
        "training.batch_growth": "doubling",
        "training.num_batch_phases": 3,
        "training.batch_size": 8,
        "optimizer.schedule": "linear",
    },
    "a batch that follows the noise": {
        "training.batch_growth": "noise_scale",
        "training.batch_size": 4,
    },
}


def kept_average(values: Mapping[str, Any]) -> list[Any]:
    """What a search adds where the weights are averaged."""
    return [AveragedWeights(keep=False)] if values.get("optimizer.ema_momentum") else []


def growth(values: Mapping[str, Any], num_micro_batches: int = 1, epochs: int = EPOCHS) -> Any:
    """How the batch grows over the whole training."""
    return batch_growth(
        values, epochs=epochs, num_samples=ROWS, num_micro_batches=num_micro_batches
    )


def halving() -> Any:
    """Three trials of 3 epochs, of which the best goes on to 9; all states are kept."""
    made = dense_oracle("hyperband", max_epochs=EPOCHS, min_epochs=RUNG, factor=3)
    made.may_continue = lambda trial_id: True
    return made


def search(
    path: Path, fixed: dict[str, Value], *, policy: TrialPolicy | None = None, **options: Any
) -> SmartTuner:
    """Run the first bracket."""
    model, data = dense_model(fixed, max_epochs=EPOCHS)
    made = SmartTuner(
        halving(),
        model,
        directory=path.parent,
        project_name=path.name,
        policy=policy or TrialPolicy(EPOCHS, seed=11, extra_callbacks=kept_average, growth=growth),
        budget=Budget(trials=4),
        executor="fit",  # bit for bit; lanes are equal up to rounding
        **options,
    )
    made.search(data)
    return made


def in_one_go(
    fixed: dict[str, Value], values: dict[str, Value], seed: int, callbacks: list[Any]
) -> tuple[Any, dict[str, list[float]]]:
    """Train a configuration from the first to the last epoch at once."""
    hypermodel, data = dense_model(fixed, max_epochs=EPOCHS)
    hypermodel.prepare(seed)
    keras.utils.set_random_seed(seed)
    model = hypermodel.build_from(values)
    history = keras.callbacks.History()
    recorded = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: begin_epoch(model))
    fit_arrays(
        model,
        data,
        batch_size=int(values["training.batch_size"]),
        seed=seed,
        epochs=range(EPOCHS),
        callbacks=[history, recorded, *kept_average(values), *callbacks],
        growth=growth(values),
    )
    return model, history.history


def assert_same(searched: SmartTuner, fixed: dict[str, Value], callbacks: list[Any]) -> None:
    """Compare the promoted trial with one training: variables, step count and metrics."""
    (promoted,) = (r for r in searched.log if r.parent is not None)
    assert (promoted.initial_epoch, promoted.num_epochs) == (RUNG, EPOCHS)
    model, history = in_one_go(fixed, promoted.values, promoted.seed, callbacks)
    state, expected = restore_state(searched.run.state_path(promoted.trial_id)), state_of(model)
    variables = [*model.variables, *model.optimizer.variables]
    assert len(state) == len(expected) == len(variables)
    for variable, got, wanted in zip(variables, state, expected, strict=True):
        np.testing.assert_array_equal(got, wanted, err_msg=variable.path)
    curve = {name: [logs[name] for logs in promoted.curve] for name in promoted.curve[0]}
    recorded = {name for name in curve if name.startswith(("gradient", "clipped", "learned"))}
    assert {n: v for n, v in curve.items() if n not in recorded} == history
    assert set(curve) >= {"loss", "val_loss", "val_accuracy"}


@pytest.mark.parametrize("name", SETTINGS)
def test_rungs_equal_one_training(tmp_path: Path, name: str) -> None:
    """3 + 6 epochs give the weights, moments, steps, seeds and metrics of 9, bit for bit."""
    fixed = SETTINGS[name]

    searched = search(tmp_path / "run", fixed)

    assert_same(searched, fixed, [])


def test_a_promotion_after_a_resume_equals_one_training(tmp_path: Path) -> None:
    """The state also survives the end of the process between two rungs."""
    fixed = SETTINGS["dropout and cosine"]
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "run", fixed, on_event=Interrupt(3, events=2))

    resumed = search(tmp_path / "run", fixed)

    assert_same(resumed, fixed, [])
    assert [essence(r) for r in resumed.log] == [essence(r) for r in Run.load(tmp_path / "run").log]


def plateau(_: Any = None) -> list[Any]:
    """Lower the rate whenever the loss does not fall by a lot."""
    return [ContinuedPlateau(monitor="val_loss", factor=0.5, patience=2, min_delta=10.0)]


def test_a_plateau_schedule_continues(tmp_path: Path) -> None:
    """A rate that falls on plateaus counts the epochs of earlier rungs, too."""
    fixed: dict[str, Value] = {"optimizer.schedule": "plateau"}

    searched = search(tmp_path / "run", fixed, policy=TrialPolicy(seed=11, extra_callbacks=plateau))

    assert_same(searched, fixed, plateau())


def test_half_precision_is_in_force_in_every_trial(tmp_path: Path) -> None:
    """The policy of a trial's values governs its layers and leaves the global one alone."""
    seen: list[set[str]] = []

    def note(_: Any) -> list[Any]:
        class Note(keras.callbacks.Callback):  # type: ignore[misc]
            def on_train_begin(self, logs: Any = None) -> None:
                seen.append({x.compute_dtype for x in self.model.layers if x.weights})

        return [Note()]

    model, data = dense_model({"training.precision": "mixed_bfloat16"})
    made = SmartTuner(
        dense_oracle("random"),
        model,
        directory=tmp_path,
        project_name="run",
        policy=TrialPolicy(max_epochs=1, extra_callbacks=note),
        budget=Budget(trials=2),
    )
    made.search(data)

    assert seen == [{"bfloat16", "float32"}] * 2  # hidden layers, and the logits
    assert keras.config.dtype_policy().name == "float32"
    assert made.get_best_models(1)[0].layers[-1].compute_dtype == "float32"
