"""The best network beside its baselines: the right rows, a fair difference, a plain sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from smarttune.baselines import Baseline
from smarttune.baselines.contest import Made
from smarttune.objectives import objective
from smarttune.suggestion import make_suggestion
from smarttune.tuning.comparing import metrics_of
from smarttune.tuning.judging import judged, verdict
from smarttune.tuning.preparing import SearchJob
from tests.baselines.contests import mixed_table


def job_of(problem: str, **pinned: Any) -> SearchJob:
    """What a search on a small table has prepared."""
    table, target = mixed_table(problem, rows=400)
    suggestion = make_suggestion(table, target, problem=problem, pinned=pinned)
    assert suggestion.dataset is not None
    assert suggestion.fingerprint is not None
    goal = objective("val_loss", problem=problem)
    return SearchJob(
        suggestion.dataset, suggestion.fingerprint, suggestion.recommendation, goal, 0, 0.3
    )


def truth(job: SearchJob) -> np.ndarray:
    """Encoded targets of the test rows."""
    return np.asarray(job.arrays(job.split.test)[1])


def perfect(job: SearchJob) -> np.ndarray:
    """Outputs of a network that is always right and sure of it."""
    y = truth(job)
    if job.problem == "regression":
        return y.reshape(len(y), -1)
    if job.problem == "multiclass":
        return 9.0 * np.eye(len(job.codec.classes))[y]
    return (18.0 * y - 9.0).reshape(len(y), -1)


METRICS = {
    "binary": "auc",
    "multiclass": "crossentropy",
    "multilabel": "binary_accuracy",
    "regression": "mean_absolute_error",
}


@pytest.mark.parametrize("problem", METRICS)
def test_baselines_are_scored_as_networks_are(problem: str) -> None:
    """Every problem has its trivial and its strong baseline, scored by all of its metrics on the
    same rows; a perfect network is better than all of them beyond chance.
    """
    job = job_of(problem)
    metric = METRICS[problem]

    rows = judged(job, perfect(job), truth(job), metric=metric, seconds=60.0)

    assert {row["role"] for row in rows} == {"trivial", "strong"}
    own = metrics_of(job.codec, perfect(job), truth(job))
    for row in rows:
        assert row["note"] == ""
        assert set(row["metrics"]) == set(own)
    compared = [row for row in rows if row["difference"]]
    assert [row["role"] for row in compared] == ["trivial", "strong"]
    for row in compared:
        found = row["difference"]
        assert found["network"] == own[metric]
        assert found["baseline"] == row["metrics"][metric]
        assert found["low"] <= found["gain"] <= found["high"]
        assert found["gain"] > 0
        assert found["is_real"]
    said = verdict(rows)
    assert said.startswith("The network is better than gradient boosting (scikit-learn ")


def test_a_blind_network_is_told_to_give_way() -> None:
    """A network that answers all rows alike loses to boosting, and the verdict says what to use
    and that the network has learnt nothing.
    """
    job = job_of("binary")
    y = truth(job)

    rows = judged(job, np.zeros((len(y), 1)), y, metric="auc", seconds=60.0)

    said = verdict(rows)
    assert "not shown to be better than class shares" in said
    assert "Use gradient boosting (scikit-learn" in said
    assert "HistGradientBoostingClassifier(max_iter=" in said
    strong = rows[-1]["difference"]
    assert strong["gain"] == pytest.approx(0.5 - rows[-1]["metrics"]["auc"])
    assert strong["high"] < 0


def test_the_best_trivial_baseline_is_compared() -> None:
    """Of mean and median, the one that is better in the metric is measured against."""
    job = job_of("regression", **{"model.target_transform": "standardize"})
    for metric, best in (("mean_absolute_error", "median"), ("mean_squared_error", "mean")):
        rows = judged(job, perfect(job), truth(job), metric=metric, seconds=60.0)
        trivial = [r["name"] for r in rows if r["role"] == "trivial" and r["difference"]]
        assert trivial == [best]


def only(monkeypatch: pytest.MonkeyPatch, *made: Baseline) -> None:
    """Let these be all baselines."""
    monkeypatch.setattr("smarttune.tuning.judging.baselines_for", lambda c, seconds: list(made))


def test_a_baseline_that_failed_is_shown_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no metrics and no difference, and the verdict passes its reason on."""
    only(monkeypatch, Baseline("trees", "strong", "", "", 0.1, Made(note="It broke.")))
    job = job_of("binary")

    rows = judged(job, perfect(job), truth(job), metric="auc", seconds=1.0)

    assert rows[0]["metrics"] == {}
    assert rows[0]["difference"] is None
    assert verdict(rows) == "There is no comparison with trees: It broke."


def test_a_baseline_without_rows_has_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only a metric is known, the gain is told without claiming that it is real."""
    only(monkeypatch, Baseline("lzma", "strong", "", "", 0.1, Made(metrics={"crossentropy": 2.0})))
    job = job_of("binary")
    rows = judged(job, perfect(job), truth(job), metric="crossentropy", seconds=1.0)

    found = rows[0]["difference"]
    assert found["gain"] == pytest.approx(2.0, abs=0.01)
    assert (found["low"], found["high"], found["is_real"]) == (None, None, None)
    assert verdict(rows).startswith("The network is ahead of lzma: crossentropy 0.0001")


def test_undefined_metrics_are_not_compared() -> None:
    """Where the test rows hold a single class, ranking metrics have no value and no verdict."""
    job = job_of("binary")
    y = np.zeros_like(truth(job))

    rows = judged(job, perfect(job), y, metric="auc", seconds=60.0)

    assert all(row["difference"] is None for row in rows)


def row(name: str, role: str, gain: float, *, real: bool = True, **more: Any) -> Mapping[str, Any]:
    """A row as `judged` returns it, about accuracy: 0.8 for the network."""
    value, width = 0.8 - gain, 0.01 if real else 1.0
    found = {"metric": "accuracy", "network": 0.8, "baseline": value, "gain": gain}
    found |= {"low": gain - width, "high": gain + width, "is_real": real}
    base = {"name": name, "role": role, "library": "", "call": "Ridge()", "seconds": 2.5}
    return {**base, "note": "", "difference": found, **more}


def test_the_best_of_several_rivals_decides() -> None:
    """The verdict speaks of the strongest baseline, whichever comes first."""
    rows = [row("shares", "trivial", 0.5), row("a", "strong", 0.1), row("b", "strong", -0.1)]
    for order in (rows, rows[::-1]):
        assert verdict(order) == (
            "Use b instead; it is better than the network: accuracy 0.8 against 0.9 on the test "
            "rows, gain -0.1, 95% interval -0.11 to -0.09. It took 2.5 s: Ridge()"
        )


def test_no_difference_is_called_none() -> None:
    """Where the interval holds 0, neither model is called better."""
    said = verdict([row("b", "strong", 0.02, real=False)])

    assert said.startswith("No difference between the network and b is shown: accuracy 0.8 against")
    assert "better" not in said.replace("may do as well", "")


def test_nothing_is_said_of_nothing() -> None:
    """Without baselines there is no verdict, and with a beaten trivial one nothing to add."""
    assert verdict([]) == ""
    assert verdict([row("shares", "trivial", 0.2)]) == ""


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
def test_a_real_search_is_judged(tmp_path: Any) -> None:
    """The outputs of a trained network are compared with boosting on the rows it was tested on."""
    import smarttune
    from smarttune.training.outputs import outputs_of
    from smarttune.tuning.finishing import restored

    table, target = mixed_table("binary", rows=400)
    small = {"search.max_epochs": 3, "model.num_layers": 1}
    run = smarttune.search(table, target, trials=1, pinned=small, run=tmp_path / "run")
    assert isinstance(table, pd.DataFrame)
    suggestion = make_suggestion(table, target, pinned=small)
    assert suggestion.dataset is not None
    job = SearchJob(suggestion.dataset, run.fingerprint, run.recommendation, run.objective, 0, 0.15)
    x, y = job.arrays(job.split.test)
    output = outputs_of(restored(run, job, run.log.best()), x)

    rows = judged(job, output, y, metric="auc", seconds=20.0)

    tested = run.read("report.json")["test"]["best"]["auc"]
    assert rows[-1]["difference"]["network"] == pytest.approx(tested, abs=1e-6)
    assert rows[-1]["difference"]["is_real"] is not None
