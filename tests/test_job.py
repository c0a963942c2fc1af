"""The whole job on small real and made tables: search, export, predict, resume, report."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import smarttune
from smarttune.errors import DataError, OptionError, RunError
from smarttune.job import resume, search
from smarttune.tuning import Run

pytestmark = [
    pytest.mark.slow,
    # Keras 3.15 on TensorFlow reads its variables in a way that NumPy 2 is about to end.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]

WINE = Path(__file__).parents[1] / "examples" / "data" / "wine.csv"
PROBLEMS = ("binary", "multiclass", "multilabel", "regression")
TRIALS, EPOCHS = 3, 2
SMALL = {"search.max_epochs": EPOCHS, "model.num_layers": 1, "training.batch_size": 32}
REPORT_KEYS = {
    "schema", "run", "data", "objective", "strategy", "adaptations", "confirmation", "seconds", "num_trials", "num_epochs",
    "outcomes", "default", "best", "gain", "test", "baselines", "verdict", "extras", "export", "changes", "verdicts",
    "leaderboard", "history", "next",
}  # fmt: skip


def wine(rows: int = 240) -> pd.DataFrame:
    """A random part of the bundled table."""
    return pd.read_csv(WINE).sample(rows, random_state=3).reset_index(drop=True)


def mixed(rows: int = 200) -> pd.DataFrame:
    """Columns of every kind, with missing cells, and a target that depends on some."""
    rng = np.random.default_rng(5)
    size = rng.normal(50.0, 9.0, rows)
    color = rng.choice(["red", "green", "blue"], rows)
    table = pd.DataFrame(
        {
            "size": np.where(rng.random(rows) < 0.1, np.nan, size),
            "color": pd.Series(color).mask(rng.random(rows) < 0.1),
            "member": rng.choice([True, False], rows),
            "bought": pd.date_range("2021-03-01", periods=rows, freq="19h").astype(str),
            "y": np.where(size + 8 * (color == "red") + rng.normal(0, 3, rows) > 52, "yes", "no"),
        }
    )
    table.loc[rng.random(rows) < 0.1, "bought"] = None
    return table


@cache
def table(problem: str) -> tuple[pd.DataFrame, Any]:
    """A table of each problem, and the name of its target."""
    if problem == "binary":
        return mixed(), "y"
    frame = wine()
    if problem == "regression":
        return frame, "quality"
    if problem == "multiclass":
        frame["quality"] = pd.cut(frame["quality"], [0, 5, 6, 10], labels=["low", "fair", "good"])
        return frame.astype({"quality": str}), "quality"
    frame["strong"] = (frame["alcohol"] > frame["alcohol"].median()).astype(int)
    frame["sour"] = (frame["pH"] < frame["pH"].median()).astype(int)
    return frame.drop(columns=["alcohol", "pH", "quality"]), ["strong", "sour"]


def small_search(path: Path, problem: str, **options: Any) -> Run:
    """A search of a few short trials."""
    frame, target = table(problem)
    base: dict[str, Any] = {
        "trials": TRIALS,
        "strategy": "random",
        "pinned": SMALL,
        "problem": problem,
        "seed": 1,
        "confirm": False,
    }
    return search(frame.copy(), target, run=path, **(base | options))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """One finished run of each problem, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("runs")
    made: dict[str, Run] = {}

    def of(problem: str) -> Run:
        if problem not in made:
            made[problem] = small_search(folder / problem, problem)
        return made[problem]

    return of


def trials(run: Run) -> list[dict[str, Any]]:
    """Everything of the trials but the times."""
    return [r.model_dump(exclude={"seconds", "started", "samples_per_second"}) for r in run.log]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_search_ends_with_a_whole_run(runs: Any, problem: str) -> None:
    """Every promised file is there, every trial is on record, and nothing temporary is left."""
    run = runs(problem)

    names = {p.name for p in run.path.iterdir()}

    assert names == {
        ".lock", "run.json", "recommendation.json", "fingerprint.json", "preprocessing.json",
        "study.db", "events.jsonl", "checkpoints", "core.keras", "model.keras", "report.json",
        "report.md", "report.html",
    }  # fmt: skip
    assert run.is_finished
    assert [r.outcome for r in run.log] == ["completed"] * TRIALS
    assert run.manifest["environment"]["keras"]
    assert run.manifest["command"] == sys.argv
    assert run.fingerprint.problem == problem


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_recommendation_is_the_first_trial(runs: Any, problem: str) -> None:
    """The first trial is the recommendation itself, trained in full."""
    run = runs(problem)

    first = run.log[0]

    assert first.is_default
    assert (first.initial_epoch, first.num_epochs) == (0, EPOCHS)
    assert [r.is_default for r in run.log] == [True, False, False]
    for name, value in first.values.items():
        assert value == run.recommendation.settings[name].value, name


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_report_says_what_was_found(runs: Any, problem: str) -> None:
    """The report holds its promised parts, and they agree with the trials and the test rows."""
    run = runs(problem)

    report = Run.load(run.path).report()

    assert set(report) == REPORT_KEYS
    assert report["schema"] == "smarttune/report@1"
    best, default = run.log.best(), run.log[0]
    assert report["best"]["trial_id"] == best.trial_id
    assert report["default"]["score"] == default.score
    assert report["gain"] == pytest.approx(run.objective.gain(best.score or 0, default.score or 0))
    assert report["gain"] >= 0
    assert report["num_epochs"] == TRIALS * EPOCHS
    assert report["test"]["rows"] == pytest.approx(0.15 * len(table(problem)[0]), abs=3)
    assert report["test"]["metric"] in report["test"]["best"]
    assert all(math.isfinite(v) for v in report["test"]["best"].values())
    assert report["export"] == {"model": "model.keras", "reason": ""}
    assert [t["trial_id"] for t in report["leaderboard"]] == [r.trial_id for r in run.log.ranked()]
    assert json.loads((run.path / "report.json").read_text()) == report


def exported(run: Run, frame: pd.DataFrame) -> np.ndarray:
    """What the exported file alone makes of raw rows."""
    import keras

    from smarttune.models import TablePreprocessor, raw_inputs

    fitted = TablePreprocessor.model_validate(run.read("preprocessing.json")["inputs"])
    model = keras.saving.load_model(run.model_path)
    return np.asarray(model.predict(raw_inputs(frame, fitted), verbose=0))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_exported_model_takes_raw_rows(runs: Any, problem: str) -> None:
    """model.keras and Run.predict say the same of rows as they came, missing cells included."""
    run = runs(problem)
    frame, target = table(problem)
    rows = frame.drop(columns=target).head(40).copy()
    rows.loc[rows.index[3], rows.columns[0]] = None

    predicted = run.predict(rows)
    raw = exported(run, rows)

    assert len(predicted) == len(raw) == 40
    names = [c for c in predicted if c.startswith("probability_")] or ["prediction"]
    # For two classes the model gives the share of the second one alone.
    expected = predicted[names[-1:] if problem == "binary" else names].to_numpy()
    np.testing.assert_allclose(raw, expected, rtol=2e-4, atol=2e-5)
    if problem == "multilabel":
        assert {"strong", "sour"} <= set(predicted)
    elif problem != "regression":
        assert set(predicted["prediction"]) <= set(frame[target])


def test_new_rows_may_be_strange(runs: Any) -> None:
    """Unseen levels, further columns, another order and no target are all fine."""
    run = runs("binary")
    rows = table("binary")[0].head(5).copy()
    plain = run.predict(rows)
    rows["extra"] = 1
    rows = rows[["extra", "bought", "member", "color", "size"]]

    same = run.predict(rows)
    rows["color"] = "purple"
    strange = run.predict(rows)

    pd.testing.assert_frame_equal(same, plain)
    assert strange["probability_yes"].between(0, 1).all()


def test_new_rows_need_their_columns(runs: Any) -> None:
    """A missing column is an error that names it."""
    rows = table("binary")[0].head(5).drop(columns=["size"])

    with pytest.raises(DataError, match="size"):
        runs("binary").predict(rows)


def test_the_study_opens_in_optuna(runs: Any) -> None:
    """optuna-dashboard and Optuna's plots find the trials with their ranges."""
    import optuna

    run = runs("regression")
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{run.path / 'study.db'}")

    assert study.best_trial.user_attrs["trial_id"] == run.log.best().trial_id
    assert len(study.trials_dataframe()) == TRIALS
    assert "optimizer.learning_rate" in study.best_params


def test_the_same_seed_gives_the_same_search(runs: Any, tmp_path: Path) -> None:
    """Split, proposals, weights and scores repeat; another seed changes them."""
    first = runs("binary")

    again = small_search(tmp_path / "again", "binary")
    other = small_search(tmp_path / "other", "binary", seed=2)

    assert trials(again) == trials(first)
    assert again.report()["test"] == first.report()["test"]
    assert [r.score for r in other.log] != [r.score for r in first.log]
    assert other.log[0].values == first.log[0].values  # the recommendation needs no luck
    assert other.log[1].values != first.log[1].values


def stop_after(number: int) -> Callable[[Mapping[str, Any]], None]:
    """Break off once so many trials have finished and the next one trains."""
    finished = 0

    def on_event(event: Mapping[str, Any]) -> None:
        nonlocal finished
        finished += event["event"] == "trial_finished"
        if finished == number and event["event"] == "epoch":
            raise KeyboardInterrupt

    return on_event


def test_data_in_memory_are_given_again(runs: Any, tmp_path: Path) -> None:
    """A search over a frame resumes with that frame, and then equals an uninterrupted one."""
    with pytest.raises(KeyboardInterrupt):
        small_search(tmp_path / "run", "binary", on_event=stop_after(1))
    frame, target = table("binary")
    assert not Run.load(tmp_path / "run").is_finished

    with pytest.raises(RunError, match=r"data=\.\.\."):
        resume(tmp_path / "run")
    run = resume(tmp_path / "run", data=frame.copy(), target=target)

    assert trials(run) == trials(runs("binary"))
    assert run.report()["test"] == runs("binary").report()["test"]


def test_a_finished_run_takes_more_trials(tmp_path: Path) -> None:
    """A larger number of trials goes on from a finished run and renews its report."""
    small_search(tmp_path / "run", "regression", trials=1)
    frame, target = table("regression")

    run = resume(tmp_path / "run", data=frame, target=target, trials=2)

    assert len(run.log) == 2
    assert run.report()["num_trials"] == 2


@pytest.fixture(scope="module")
def file_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A run over a csv file."""
    folder = tmp_path_factory.mktemp("file")
    frame, target = table("regression")
    frame.to_csv(folder / "wine.csv", index=False)
    run = search(
        folder / "wine.csv", target, problem="regression", trials=1, strategy="random",
        pinned=SMALL, run=folder / "run",
    )  # fmt: skip
    return run, folder / "wine.csv"


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.head(200),
        lambda frame: frame.drop(columns=["alcohol"]),
        lambda frame: frame.assign(alcohol=frame["alcohol"] + 1),
    ],
    ids=["fewer rows", "a column gone", "other numbers"],
)
def test_changed_data_are_refused(
    file_run: tuple[Run, Path], change: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    """A run goes on over the data it began with, or not at all."""
    run, path = file_run
    before = path.read_bytes()
    change(pd.read_csv(path)).to_csv(path, index=False)
    try:
        with pytest.raises(DataError, match="changed"):
            resume(run.path, trials=2)
    finally:
        path.write_bytes(before)
    assert len(Run.load(run.path).log) == 1


def test_swapped_rows_are_refused(file_run: tuple[Run, Path]) -> None:
    """Rows in another order are other data: the held-back rows would be others."""
    run, path = file_run
    before = path.read_bytes()
    pd.read_csv(path).iloc[::-1].to_csv(path, index=False)
    try:
        with pytest.raises(DataError, match="changed"):
            resume(run.path, trials=2)
    finally:
        path.write_bytes(before)


def test_a_moved_file_is_named_on_resume(file_run: tuple[Run, Path]) -> None:
    """A data file that is gone is an error about that file."""
    run, path = file_run
    path.rename(path.with_suffix(".moved"))
    try:
        with pytest.raises(DataError, match=r"wine\.csv"):
            resume(run.path, trials=2)
    finally:
        path.with_suffix(".moved").rename(path)


def test_a_run_resumes_from_another_folder(
    file_run: tuple[Run, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path to the data still means the same file when the user has moved on."""
    _, path = file_run
    monkeypatch.chdir(path.parent)
    search(
        path.name, "quality", problem="regression", trials=1, strategy="random", pinned=SMALL,
        run=tmp_path / "run",
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)

    assert len(resume("run", trials=1).log) == 1


def test_arrays_are_searched(tmp_path: Path) -> None:
    """Plain NumPy arrays are enough, and predictions take arrays again."""
    frame, _ = table("regression")
    x = frame.drop(columns=["quality", "color"]).to_numpy(np.float32)

    run = search(
        x, frame["quality"].to_numpy(), problem="regression", trials=1, strategy="random",
        pinned=SMALL, run=tmp_path / "run",
    )  # fmt: skip

    assert run.predict(x[:7]).shape == (7, 1)


def test_hyperband_starts_in_full(tmp_path: Path) -> None:
    """Under Hyperband the recommendation is trained in full before any bracket."""
    pins = {**SMALL, "search.max_epochs": 4, "search.min_epochs": 1, "search.reduction_factor": 2}

    run = small_search(tmp_path / "run", "regression", strategy="hyperband", trials=5, pinned=pins)

    first, *rest = run.log
    assert (first.is_default, first.bracket, first.num_epochs) == (True, None, 4)
    assert {r.bracket for r in rest} == {2}
    assert any(r.parent is not None for r in rest)
    assert run.report()["num_epochs"] == sum(r.num_epochs - r.initial_epoch for r in run.log)


def test_bayesian_and_limits_of_epochs(tmp_path: Path) -> None:
    """A budget of epochs ends a Bayesian search exactly there."""
    run = small_search(tmp_path / "run", "regression", strategy="bayesian", trials=None, epochs=5)

    assert run.log.num_epochs == 5
    assert run.manifest["strategy"] == "bayesian"


def test_mistakes_leave_nothing_behind(tmp_path: Path) -> None:
    """A wrong strategy or metric is refused before a run directory is made."""
    with pytest.raises(OptionError, match="strategy"):
        small_search(tmp_path / "run", "regression", strategy="bayesan")
    with pytest.raises(OptionError, match="val_acc"):
        small_search(tmp_path / "run", "regression", objective="val_acc")

    assert list(tmp_path.iterdir()) == []


def test_a_grid_without_end_is_refused_at_once(tmp_path: Path) -> None:
    """A grid that is too large is refused before a trial has been trained."""
    with pytest.raises(OptionError, match="grid"):
        small_search(tmp_path / "run", "regression", strategy="grid")

    assert list(tmp_path.iterdir()) == []


def test_the_public_names_do_the_same(runs: Any) -> None:
    """The façade offers search, resume and Run under the package's own name."""
    assert smarttune.search is search
    assert smarttune.resume is resume
    assert smarttune.Run.load(runs("binary").path).log.best() == runs("binary").log.best()


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_numeric_tables_run_on_jax(tmp_path: Path) -> None:
    """A numeric table is searched and exported on the JAX backend."""
    frame = table("regression")[0].drop(columns=["color"])
    frame.to_csv(tmp_path / "wine.csv", index=False)
    program = (
        "import smarttune, keras;"
        "run = smarttune.search('wine.csv', 'quality', problem='regression', trials=2,"
        f" strategy='random', pinned={SMALL!r}, run='run');"
        "assert keras.backend.backend() == 'jax';"
        "assert len(run.log) == 2 and run.report()['export']['model'] == 'model.keras'"
    )

    subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )


def test_determinism_is_asked_of_the_backend_and_again_when_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run remembers it, so that its later trials are trained under the same promise."""
    asked: list[int] = []
    monkeypatch.setattr("smarttune.training.determinism.make_deterministic", asked.append)

    run = small_search(tmp_path / "run", "regression", trials=1, seed=7, deterministic=True)
    frame, target = table("regression")
    resume(run, data=frame.copy(), target=target, trials=2)
    small_search(tmp_path / "other", "regression", trials=1, seed=8)

    assert asked == [7, 7]
    assert (
        run.manifest["deterministic"],
        Run.load(tmp_path / "other").manifest["deterministic"],
    ) == (True, False)


POLICIES: dict[str, dict[str, Any]] = {
    "one cycle with its momentum": {
        "optimizer.schedule": "one_cycle",
        "optimizer.momentum_cycling": True,
    },
    "warm restarts and averaged weights": {
        "optimizer.schedule": "warm_restarts",
        "optimizer.ema_momentum": 0.9,
    },
    "doubling batches": {"training.batch_growth": "doubling", "training.num_batch_phases": 2},
    "batches that follow the noise": {
        "training.batch_growth": "noise_scale",
        "optimizer.schedule": "constant",
    },
    "a rate that moves itself": {"optimizer.hypergradient_rate": 1e-4},
    "windowed stopping": {
        "training.early_stopping.mode": "stop",
        "training.early_stopping.window": 2,
        "training.early_stopping.statistic": "median",
        "training.early_stopping.noise_factor": 0.5,
    },
}


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_inside_a_trial_can_be_set_by_hand(name: str, tmp_path: Path) -> None:
    """A search under it ends with a model, and its gradients are in every curve."""
    pinned = SMALL | {"search.max_epochs": 3} | POLICIES[name]

    run = small_search(tmp_path / "run", "regression", trials=1, pinned=pinned)

    (record,) = run.log
    assert record.outcome in ("completed", "stopped")
    assert math.isfinite(record.score or math.nan)
    assert all(logs["gradient_norm"] > 0 for logs in record.curve)
    assert record.samples_per_second is not None
    if "training.batch_growth" in pinned:
        assert [logs["batch_size"] for logs in record.curve][0] == 32
    assert (run.path / "model.keras").exists()
