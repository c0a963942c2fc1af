"""Several objectives in one search: measured, told, resumed, reported, and chosen from."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.errors import OptionError
from smarttune.execution import TrainingData
from smarttune.facts import Facts
from smarttune.job import resume, search
from smarttune.objectives import Objective
from smarttune.oracles import NSGA2Oracle
from smarttune.recommendation import recommend
from smarttune.report.html import plots, report_html
from smarttune.report.text import report_text
from smarttune.rulebook import Rulebook
from smarttune.trials import TrialLog, TrialRecord
from smarttune.tuning import Run, SmartTuner, costs
from smarttune.tuning.checkpoints import KEPT_MODELS
from smarttune.tuning.costs import COSTS, checked_costs, few_samples, front_of, latency_of
from smarttune.tuning.recording import told
from tests.cli.calling import assert_mendable, call, files_in
from tests.tuning.searches import (
    RATE,
    WIDTH,
    Interrupt,
    Scripted,
    essence,
    keras_reads_variables,
    kerastuner_names_threads,
    line,
)

pytestmark = [keras_reads_variables, kerastuner_names_threads]

WINE = Path(__file__).parents[1] / "examples" / "data" / "wine.csv"
LOSS = Objective("val_loss", "min")
TRIALS = 14


def trade(values: Mapping[str, Any], epoch: int) -> dict[str, float]:
    """A loss that falls with the width, and rises a little away from a rate of 0.01."""
    floor = 0.02 * abs(math.log10(values[RATE]) + 2.0) + 1.0 / values[WIDTH]
    return {"loss": floor + 0.9 / epoch, "val_loss": floor + 1.0 / epoch}


class Widths(Scripted):
    """Networks whose size is the width, and whose training is a formula."""

    def build(self, hp: Any) -> Any:
        """Two layers; the second is one neuron."""
        hp.Float(RATE, 1e-4, 1e-1, sampling="log", default=1e-3)
        width = hp.Int(WIDTH, 1, 32, default=8)
        model = keras.Sequential(
            [keras.Input((1,)), keras.layers.Dense(width), keras.layers.Dense(1)]
        )
        model.compile("sgd", "mse")
        return model


def both(*names: str) -> list[Any]:
    """The loss, and costs, as KerasTuner writes objectives."""
    return [keras_tuner.Objective(n, "min") for n in ("val_loss", *names)]


def tuner(path: Path, *names: str, **options: Any) -> SmartTuner:
    """A search by NSGA-II; a run found in the folder is resumed."""
    oracle = NSGA2Oracle(both(*(names or ("num_parameters",))), TRIALS, population_size=5, seed=3)
    return SmartTuner(
        oracle, Widths(trade), directory=path.parent, project_name=path.name, **options
    )


def losses(record: TrialRecord) -> tuple[float, float]:
    """Score and size."""
    return float(record.score or 0.0), float(record.num_parameters or 0)


def dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether `one` is nowhere greater and somewhere less."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SmartTuner:
    """One search in one sitting."""
    made = tuner(tmp_path_factory.mktemp("whole") / "run")
    made.search(epochs=2)
    return made


def test_the_front_is_what_no_trial_dominates(whole: SmartTuner) -> None:
    """The front of the records is free of dominated trials, complete, and the oracle's own."""
    front = front_of(whole.log, ["num_parameters"])
    everything = [losses(r) for r in whole.log.ranked()]
    assert len(everything) == TRIALS
    free = [row for row in everything if not any(dominates(other, row) for other in everything)]
    assert sorted(map(losses, front)) == sorted(free)
    assert 1 < len(front) < TRIALS
    assert {t.trial_id for t in whole.oracle.pareto_front()} == {r.trial_id for r in front}


def test_the_first_objective_ranks(whole: SmartTuner) -> None:
    """The run's objective is the first one, and its best trial leads the front."""
    assert whole.goal == LOSS == whole.run.objective
    assert whole.log.best() == front_of(whole.log, ["num_parameters"])[0]


def test_the_front_can_be_loaded(whole: SmartTuner) -> None:
    """Of every trial of the front the weights are kept, more than the best three's, not all."""
    kept = {r.trial_id for r in whole.log if whole.run.best_weights_path(r.trial_id).exists()}
    assert {r.trial_id for r in front_of(whole.log, ["num_parameters"])} <= kept
    assert KEPT_MODELS < len(kept) < TRIALS


def test_a_resumed_search_has_the_same_trials(tmp_path: Path, whole: SmartTuner) -> None:
    """Broken off in the first generation and in a later one, it ends with the same records."""
    for after in (2, 6):
        with pytest.raises(KeyboardInterrupt):
            tuner(tmp_path / "run", on_event=Interrupt(after)).search(epochs=2)
    resumed = tuner(tmp_path / "run")
    resumed.search(epochs=2)
    assert list(map(essence, resumed.log)) == list(map(essence, whole.log))
    warned = (tmp_path / "run" / "events.jsonl").read_text().count('"warning"')
    assert warned == 0


def test_latency_is_measured_once_and_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each trial is timed once; a resumed search tells the recorded latencies, not new ones."""
    ticks = itertools.count(1)
    monkeypatch.setattr(costs, "latency_of", lambda *_: float(next(ticks)))
    x, y = np.zeros((40, 1), np.float32), np.zeros((40, 1), np.float32)
    with pytest.raises(KeyboardInterrupt):
        tuner(tmp_path / "run", "latency", on_event=Interrupt(4)).search(x, y, epochs=1)
    resumed = tuner(tmp_path / "run", "latency")
    heard = [
        resumed.oracle.objective_values(resumed.oracle.trials[r.trial_id])[1] for r in resumed.log
    ]
    assert heard == [1.0, 2.0, 3.0, 4.0]
    resumed.search(x, y, epochs=1)
    assert [r.latency for r in Run.load(tmp_path / "run").log] == list(range(1, TRIALS + 1))


def test_nothing_is_timed_that_is_no_objective(whole: SmartTuner) -> None:
    """Without `latency` among the objectives no record has one."""
    assert {r.latency for r in whole.log} == {None}


def test_kerastuners_own_oracle_hears_the_sum(tmp_path: Path) -> None:
    """A stock oracle of several objectives scores their sum, as under its own tuners."""
    stock = keras_tuner.oracles.RandomSearchOracle(both("num_parameters"), max_trials=2, seed=1)
    made = SmartTuner(stock, Widths(trade), directory=tmp_path, project_name="run")
    made.search(epochs=1)
    for record in made.log:
        assert stock.trials[record.trial_id].score == pytest.approx(sum(losses(record)))


def test_a_returned_dict_holds_the_costs(tmp_path: Path) -> None:
    """An overridden `run_trial` reports costs as metrics."""

    class Played(SmartTuner):
        def run_trial(self, trial: Any, *_: Any, **__: Any) -> Any:
            hp = trial.hyperparameters.values
            return {"val_loss": 1.0 / hp[WIDTH], "num_parameters": hp[WIDTH]}

    oracle = NSGA2Oracle(both("num_parameters"), 4, seed=1)
    made = Played(oracle, Widths(trade), directory=tmp_path, project_name="run")
    made.search()
    # Every width is a compromise: the wider, the better and the costlier.
    assert len(oracle.pareto_front()) == 4
    assert [r.num_parameters for r in made.log] == [r.values[WIDTH] for r in made.log]


# Measuring.


class Counting:
    """Stands for a model: each prediction takes the next of some milliseconds."""

    def __init__(self, milliseconds: list[float]) -> None:
        self.left, self.now = list(milliseconds), 0.0

    def predict_on_batch(self, samples: Any) -> None:
        """Let the time pass."""
        self.now += self.left.pop(0) / 1000.0


def test_latency_is_the_median_of_warm_calls() -> None:
    """Slow first calls and a few that were held up later do not count."""
    warm = [2.0] * (costs.TIMED_CALLS - 4) + [900.0] * 4
    model = Counting([5000.0] * costs.WARM_UP_CALLS + warm)
    assert latency_of(model, None, clock=lambda: model.now) == pytest.approx(2.0)
    assert model.left == []


@pytest.mark.parametrize(
    ("given_x", "shapes"),
    [
        (np.zeros((50, 3)), (32, 3)),
        (np.zeros((5, 3)), (5, 3)),
        ({"a": np.zeros((50, 2)), "b": np.zeros((50,))}, {"a": (32, 2), "b": (32,)}),
        (None, None),
        ("a dataset", None),
    ],
)
def test_a_few_samples_are_taken_of_arrays(given_x: Any, shapes: Any) -> None:
    """The batch is the first 32 inputs, or as many as there are; of what is no array there is none."""
    for args in ((given_x,), (TrainingData(given_x, None, None, None),)):
        samples = few_samples(args)
        if isinstance(samples, dict):
            assert {n: part.shape for n, part in samples.items()} == shapes
        else:
            assert (None if samples is None else samples.shape) == shapes
    assert few_samples(()) is None


def test_a_real_network_has_a_latency() -> None:
    """A Keras model predicts its batch in a positive, finite time."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert 0.0 < latency_of(model, line()[0]) < math.inf


# Fronts and what oracles hear.


def scored(
    number: int, score: float | None, size: int | None, latency: float | None
) -> TrialRecord:
    """A record of three objectives; without a score it failed."""
    return TrialRecord(
        trial_id=f"{number:04}",
        values={},
        outcome="failed" if score is None else "completed",
        score=score,
        best_epoch=1,
        num_epochs=1,
        curve=({"val_loss": score or 0.0, "extra": 7.0},),
        num_parameters=size,
        latency=latency,
    )


ROWS = st.lists(
    st.tuples(
        st.integers(0, 4).map(float) | st.none(),
        st.integers(1, 4) | st.none(),
        st.integers(1, 3).map(float) | st.none(),
    ),
    max_size=14,
)


@given(ROWS, st.sampled_from(["min", "max"]), st.sampled_from([("num_parameters",), tuple(COSTS)]))
def test_fronts_hold_what_nothing_beats(
    rows: list[Any], direction: Any, names: tuple[str, ...]
) -> None:
    """Exactly the trials with a score and known costs that no other such trial dominates."""
    log = TrialLog(Objective("val_loss", direction), [scored(i, *r) for i, r in enumerate(rows)])
    sign = -1.0 if direction == "max" else 1.0
    known = {
        r.trial_id: (sign * r.score, *(COSTS[n].of(r) for n in names))
        for r in log
        if r.score is not None and all(COSTS[n].of(r) is not None for n in names)
    }
    free = {i for i, row in known.items() if not any(dominates(o, row) for o in known.values())}
    front = front_of(log, names)
    assert {r.trial_id for r in front} == free
    assert [sign * r.score for r in front] == sorted(sign * r.score for r in front)
    assert front_of(log, ()) == []


def test_an_oracle_hears_what_it_asked_for() -> None:
    """All objectives and the sum are told; of further metrics those that it listens to."""
    oracle = NSGA2Oracle(both("num_parameters", "latency"), 5)
    record = scored(0, 0.5, 10, 2.0)
    everything = {"val_loss": 0.5, "num_parameters": 10.0, "latency": 2.0, "multi_objective": 12.5}
    assert told(record, LOSS, oracle) == [(1, everything)]
    oracle.listens_to = ("extra", "absent")
    assert told(record, LOSS, oracle) == [(1, everything | {"extra": 7.0})]


def test_an_unknown_cost_is_no_number() -> None:
    """A trial whose latency is unknown cannot be on a front, and the oracle takes it as diverged."""
    ((_, metrics),) = told(scored(0, 0.5, 10, None), LOSS, NSGA2Oracle(both("latency"), 5))
    assert math.isnan(metrics["latency"])


# What is asked for.


@pytest.mark.parametrize(
    ("names", "strategy", "parts"),
    [
        (["num_parameter"], "auto", ("num_parameters, latency", "Did you mean `num_parameters`?")),
        (["latency", "latency"], "auto", ("one cost twice",)),
        (["latency"], "random", ("random with several objectives", "auto or nsga2")),
        ([], "nsga2", ("single objective", "--against num_parameters")),
    ],
)
def test_mistaken_objectives_are_refused(
    names: list[str], strategy: str, parts: tuple[str, ...]
) -> None:
    """Unknown and repeated costs, and strategies that do not fit, are errors with their mend."""
    with pytest.raises(OptionError) as caught:
        checked_costs(names, strategy)
    assert all(part in str(caught.value) for part in parts)


def test_a_single_name_is_a_list_of_one() -> None:
    """`against="latency"` is not read letter by letter."""
    assert checked_costs("latency") == ("latency",)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--against", "params"], ("`params`", "num_parameters, latency")),
        (["--against", "latency", "--strategy", "grid"], ("grid with several objectives",)),
        (["--strategy", "nsga2"], ("--against num_parameters",)),
        (["--set", "search.strategy=nsga2", "--trials", "2"], ("--against num_parameters",)),
    ],
)
def test_the_command_line_refuses_and_writes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    parts: tuple[str, ...],
) -> None:
    """A mistaken objective ends with one paragraph before a run is begun."""
    monkeypatch.chdir(tmp_path)
    target = ["--target", "quality", "--problem", "regression"]
    assert_mendable(call(capsys, "search", WINE, *target, *options), *parts)
    assert files_in(tmp_path) == {}


def test_the_recommendation_says_why_it_looks_for_a_front(book: Rulebook) -> None:
    """With two objectives the strategy is nsga2 because of a rule, whatever the budget."""
    base = {"data.task": "tabular", "data.num_samples": 2000, "model.problem": "regression"}
    for budget in ({"budget.num_trials": 5}, {"budget.num_trials": 80}, {"budget.seconds": 600.0}):
        facts = Facts.of({**base, **budget, "budget.num_objectives": 2})
        setting = recommend(facts, rules=book).settings["search.strategy"]
        assert (setting.value, setting.because[0].rule) == ("nsga2", "SRC022")
        assert recommend(Facts.of({**base, **budget}), rules=book).value("search.strategy") != (
            "nsga2"
        )


# The whole job.


@pytest.mark.slow
def test_a_real_search_weighs_size_against_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], book: Rulebook
) -> None:
    """On the wine table the run, its report, its resumption and its export know the front."""
    table = tmp_path / "wine.csv"
    pd.read_csv(WINE).sample(240, random_state=3).to_csv(table, index=False)
    run = search(
        table,
        "quality",
        problem="regression",
        trials=8,
        against=["num_parameters", "latency"],
        pinned={"search.max_epochs": 2, "training.batch_size": 64},
        confirm=False,
        run=tmp_path / "run",
    )
    assert run.manifest["strategy"] == "nsga2"
    report = run.report()
    front, exported = report["front"], report["best"]["trial_id"]
    assert list(front["costs"]) == ["num_parameters", "latency"]
    rows = [(t["score"], *t["costs"].values()) for t in front["trials"]]
    assert not any(dominates(a, b) for a in rows for b in rows)
    assert [t["trial_id"] for t in front["trials"] if t["is_exported"]] == [exported]
    assert front["trials"][0]["trial_id"] == exported
    text = report_text(report)
    assert "Pareto front" in text
    assert f"{exported} (exported)" in text
    assert "--trial ID" in text
    page = report_html(report, run.log, run.recommendation)
    assert "<h2>Pareto front</h2>" in page
    drawn = dict(plots(run.log, run.recommendation, front))
    assert ("Pareto front: score against cost" in drawn) == (len(rows) > 1)

    before = list(map(essence, run.log))
    more = resume(tmp_path / "run", trials=9)
    assert list(map(essence, more.log))[:8] == before
    assert len(more.log) == 9
    assert '"warning"' not in (tmp_path / "run" / "events.jsonl").read_text()

    smallest = min(more.report()["front"]["trials"], key=lambda t: t["costs"]["num_parameters"])
    output = tmp_path / "small.keras"
    ended = call(capsys, "export", run.path, output, "--trial", smallest["trial_id"])
    assert ended.code == 0, ended.err
    best, small = map(keras.saving.load_model, (run.model_path, output))
    saved = more.report()["best"]["num_parameters"] - smallest["costs"]["num_parameters"]
    assert best.count_params() - small.count_params() == saved
    assert_mendable(call(capsys, "export", run.path, output, "--trial", "99"), "no trial `99`")
    assert json.loads((run.path / "recommendation.json").read_text())["settings"][
        "search.strategy"
    ]["because"][0]["rule"] == ("SRC022")
