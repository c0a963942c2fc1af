"""The peers of `real.py`; each search is a process of its own, which `real.py` starts.

KerasTuner gets what people write by hand (see `real_networks.py`), at most 50 epochs, early stopping
and batches of 32. Optuna's sampler and pruner, both as they come, search SmartTune's own networks
and ranges, without its priors and without its recommendation as first trial. AutoKeras chooses for
itself.

None of them has a limit of time that holds within a trial, so a callback ends the search at the
limit to the step. What improved until then counts; the test follows after it, for free.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from real_data import Case, Rows, job_for
from real_networks import arrays_of, builder, score_of

EPOCHS = 50  # ours: what a person writes who has early stopping
PATIENCE = 5  # ours: likewise
NO_END = 100_000  # trials or rounds; the time is what limits


class TimeIsUp(BaseException):  # noqa: N818 -- KerasTuner takes every Exception for a failed trial
    """The search has had its time."""


class Clock(NamedTuple):
    """Wall time since the process was started.

    Attributes:
        began: When that was, as `time.time()` tells it.
        limit: Seconds after which nothing counts.
    """

    began: float
    limit: float

    @property
    def now(self) -> float:
        """Seconds so far."""
        return time.time() - self.began


class Watch(keras.callbacks.Callback):
    """Notes each improvement of the validation score and ends the search when the time is up.

    Args:
        case: Says what improves.
        clock: Tells the time.
        scale: What turns logged scores into the target's units.
        kept: Takes from a model what `restored` puts back.
    """

    def __init__(
        self,
        case: Case,
        clock: Clock,
        *,
        scale: float = 1.0,
        kept: Callable[[Any], Any] = lambda model: model.get_weights(),
    ) -> None:
        super().__init__()
        self.logged, self.sign = f"val_{case.metric}", 1.0 if case.direction == "max" else -1.0
        self.clock, self.scale, self.kept = clock, scale, kept
        self.scores: list[tuple[float, float]] = []
        self.best: tuple[Any, Any] | None = None
        self.num_trials = 0

    def __deepcopy__(self, memo: Any) -> Watch:
        """Itself: KerasTuner copies callbacks for each trial, and this one follows all of them."""
        return self

    def on_train_begin(self, logs: Any = None) -> None:
        """Count the trial."""
        self.num_trials += 1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """End the search within a step of the limit."""
        self._check()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Note the score and keep the model if none was better."""
        self._check()
        score = float(logs[self.logged]) * self.scale
        before = self.sign * self.scores[-1][1] if self.scores else -math.inf
        if math.isfinite(score) and self.sign * score > before:
            self.scores.append((self.clock.now, score))
            self.best = (self.model, self.kept(self.model))

    def _check(self) -> None:
        if self.clock.now > self.clock.limit:
            raise TimeIsUp


class Found(NamedTuple):
    """What a search leaves: its watch, and the score of its best model on test rows."""

    watch: Watch
    tested: Callable[[], float]


def kerastuner(case: Case, rows: Rows, clock: Clock, *, seed: int, kind: str) -> Found:
    """A hand-written KerasTuner script with a clock."""
    import keras_tuner

    arrays = arrays_of(case, rows)
    watch = Watch(case, clock, scale=arrays.scale)
    objective = keras_tuner.Objective(f"val_{case.metric}", case.direction)
    own: dict[str, Any] = {
        "Hyperband": {"max_epochs": EPOCHS, "hyperband_iterations": NO_END},
        "BayesianOptimization": {"max_trials": NO_END},
    }[kind]
    x, y = arrays.x, arrays.y
    fit = {"validation_data": (x[rows.validation], y[rows.validation]), "verbose": 0}
    if kind != "Hyperband":  # which decides on epochs itself
        fit["epochs"] = EPOCHS
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(TimeIsUp):
        tuner = getattr(keras_tuner, kind)(
            builder(case, arrays),
            objective=objective,
            seed=seed + 1,  # KerasTuner takes 0 for no seed
            directory=folder,
            overwrite=True,
            **own,
        )
        stopping = keras.callbacks.EarlyStopping(patience=PATIENCE)
        tuner.search(x[rows.train], y[rows.train], callbacks=[stopping, watch], **fit)

    def tested() -> float:
        model, weights = watch.best or _nothing()
        model.set_weights(weights)
        output = model.predict(x[rows.test], verbose=0)
        return score_of(case, rows.y[rows.test], y[rows.test], output, arrays)

    return Found(watch, tested)


def _nothing() -> Any:
    sys.exit("No epoch ended within the time.")


def optuna_tpe(case: Case, rows: Rows, clock: Clock, *, seed: int) -> Found:
    """Optuna's default sampler and pruner over SmartTune's networks and ranges."""
    import optuna

    from smarttune.training.averaging import averaged_state
    from smarttune.training.checkpoint import set_state
    from smarttune.training.outputs import outputs_of
    from smarttune.tuning.comparing import metrics_of

    job = job_for(case, clock.limit, seed)
    watch = Watch(case, clock, kept=averaged_state)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction="maximize" if case.direction == "max" else "minimize",
        sampler=optuna.samplers.TPESampler(seed=seed),
    )
    with contextlib.suppress(TimeIsUp):
        while True:
            _optuna_trial(job, study, watch)

    def tested() -> float:
        model, state = watch.best or _nothing()
        set_state(model, state, optimizer=False)
        x, y = job.arrays(job.split.test)
        output = outputs_of(model, x, lambda found, places: job.codec.reduced(found, y[places]))
        return float(metrics_of(job.codec, output, y)[case.metric])

    return Found(watch, tested)


def _optuna_trial(job: Any, study: Any, watch: Watch) -> None:
    from optuna.trial import TrialState

    from smarttune.execution import fit_arrays
    from smarttune.models.modality import of_family

    trial, policy, hypermodel = study.ask(), job.policy(), job.hypermodel()
    values = drawn(trial, job.space)
    hypermodel.prepare(job.seed + trial.number)
    reporting = Reporting(trial, watch.logged)
    stopping = keras.callbacks.EarlyStopping(
        watch.logged, patience=policy.patience or PATIENCE, mode=job.objective.direction
    )
    fit_arrays(
        hypermodel.build_from(values),
        job.training_data,
        batch_size=int(of_family(values)["training.batch_size"]),
        growth=policy.growth(values, 1, policy.max_epochs),
        seed=job.seed + trial.number,
        epochs=range(policy.max_epochs),
        sample_weight=policy.sample_weight(values),
        callbacks=[watch, reporting, stopping, *policy.extra_callbacks(values)],
    )
    if reporting.is_pruned or reporting.best is None:
        study.tell(trial, state=TrialState.PRUNED if reporting.is_pruned else TrialState.FAIL)
    else:
        study.tell(trial, reporting.best)


class Reporting(keras.callbacks.Callback):
    """Tells Optuna each epoch's score, and stops where it prunes or the score is no number."""

    def __init__(self, trial: Any, logged: str) -> None:
        super().__init__()
        self.trial, self.logged = trial, logged
        self.choose = max if trial.study.direction.name == "MAXIMIZE" else min
        self.best: float | None = None
        self.is_pruned = False

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Report the score and ask whether to go on."""
        score = float(logs[self.logged])
        if not math.isfinite(score):
            self.model.stop_training = True
            return
        self.best = score if self.best is None else self.choose(self.best, score)
        self.trial.report(score, epoch)
        self.is_pruned = self.trial.should_prune()
        self.model.stop_training = self.model.stop_training or self.is_pruned


def drawn(trial: Any, space: Any) -> dict[str, Any]:
    """A configuration of SmartTune's space by Optuna, which hears of no priors."""
    values: dict[str, Any] = {}
    for dimension in space.dimensions:
        if space.is_active(dimension.name, values):
            values[dimension.name] = _suggested(trial, dimension.name, dimension.range)
    return values


def _suggested(trial: Any, name: str, allowed: Any) -> Any:
    if allowed.type == "fixed":
        return allowed.value
    if allowed.type == "choice":
        return trial.suggest_categorical(name, list(allowed.values))
    if allowed.type == "float":
        return trial.suggest_float(name, allowed.low, allowed.high, log=allowed.sampling == "log")
    if allowed.sampling == "power_of_two":
        low, high = allowed.low.bit_length() - 1, allowed.high.bit_length() - 1
        return 2 ** trial.suggest_int(f"log2 {name}", low, high)
    return trial.suggest_int(name, allowed.low, allowed.high, log=allowed.sampling == "log")


def autokeras(case: Case, rows: Rows, clock: Clock, *, seed: int) -> Found:
    """AutoKeras as its documentation shows it."""
    import autokeras
    import keras_tuner

    names = {"image": "Image", "text": "Text", "table": "StructuredData"}
    end = "Regressor" if case.problem == "regression" else "Classifier"
    watch = Watch(case, clock)
    metric = keras.metrics.AUC(name="auc") if case.metric == "auc" else case.metric
    x = rows.x.to_numpy() if case.kind == "table" else rows.x
    with tempfile.TemporaryDirectory() as folder:
        model = getattr(autokeras, f"{names[case.kind]}{end}")(
            metrics=[metric],
            objective=keras_tuner.Objective(f"val_{case.metric}", case.direction),
            max_trials=NO_END,
            directory=folder,
            overwrite=True,
            seed=seed + 1,
        )
        with contextlib.suppress(TimeIsUp):
            model.fit(
                x[rows.train],
                rows.y[rows.train],
                validation_data=(x[rows.validation], rows.y[rows.validation]),
                callbacks=[watch],
                verbose=0,
            )
    # It prepares data outside of its networks, in a way that only an ended search gives away.
    return Found(watch, lambda: math.nan)


PEERS: dict[str, Callable[..., Found]] = {
    "kerastuner_hyperband": lambda *given, **options: kerastuner(
        *given, kind="Hyperband", **options
    ),
    "kerastuner_bayesian": lambda *given, **options: kerastuner(
        *given, kind="BayesianOptimization", **options
    ),
    "optuna_tpe": optuna_tpe,
    "autokeras": autokeras,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--data", type=Path, required=True, help="a pickled case with its rows")
    parser.add_argument("--began", type=float, required=True)
    parser.add_argument("--limit", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args()
    case, rows = pickle.loads(options.data.read_bytes())
    keras.utils.set_random_seed(options.seed)
    clock = Clock(options.began, options.limit)
    found = PEERS[options.peer](case, rows, clock, seed=options.seed)
    result = {"scores": found.watch.scores, "trials": found.watch.num_trials}
    options.result.write_text(json.dumps({**result, "test": found.tested()}))


if __name__ == "__main__":
    main()
