"""Learning from finished runs: what is trained, kept, gone on with, and written; and its use."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import pytest

from smarttune import learning
from smarttune.errors import OptionError, RunError, SmartTuneError
from smarttune.job import resume, search
from smarttune.learning import Source, carried, learn
from smarttune.portfolio import Candidate, Portfolio, Task, read_portfolio, write_portfolio
from smarttune.space import SearchSpace
from smarttune.trials import TrialRecord
from smarttune.tuning import Run

pytestmark = [
    pytest.mark.slow,
    # Keras 3.15 on TensorFlow reads its variables in a way that NumPy 2 is about to end.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]

WINE = Path(__file__).parents[1] / "examples" / "data" / "wine.csv"
TRIALS, EPOCHS, BEST = 3, 1, 3
SMALL = {"search.max_epochs": EPOCHS, "model.num_layers": 1, "model.units": 16}
RATE = "optimizer.learning_rate"
IDENTICAL = {
    "model.family": "mlp",
    "optimizer.name": "adamw",
    "optimizer.schedule": "cosine",
}


def part(folder: Path, name: str, seed: int) -> Path:
    """A file with a random part of the bundled table."""
    path = folder / f"{name}.csv"
    pd.read_csv(WINE).sample(120, random_state=seed).to_csv(path, index=False)
    return path


def small_search(path: Path, data: Path, **options: Any) -> Run:
    """A search of a few trials of one epoch."""
    base: dict[str, Any] = {
        "trials": TRIALS,
        "strategy": "random",
        "pinned": SMALL,
        "problem": "regression",
        "confirm": False,
        "adapt": False,
    }
    return search(data, "quality", run=path, **(base | options))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two finished runs on two tables."""
    folder = tmp_path_factory.mktemp("finished")
    return [
        small_search(folder / f"run-{name}", part(folder, name, seed), seed=seed)
        for seed, name in enumerate(("red", "white"))
    ]


class Trainings:
    """Stands for training: counts, scores by the rate, and breaks off or fails where told."""

    def __init__(self, *, breaks: int | None = None, outcome: str = "completed") -> None:
        self.done: list[tuple[str, Mapping[str, Any]]] = []
        self.breaks, self.outcome = breaks, outcome

    def __call__(self, source: Source, values: Mapping[str, Any], ends: float) -> Any:
        if len(self.done) == self.breaks:
            raise KeyboardInterrupt
        self.done.append((source.name, dict(values)))
        scored = self.outcome == "completed"
        return {
            "outcome": self.outcome,
            "score": abs(math.log10(values[RATE]) + 3) if scored else None,
            "num_epochs": 1,
            "seconds": 0.0,
        }


def instead(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Trainings:
    """Train nothing for real."""
    trainings = Trainings(**options)
    monkeypatch.setattr(learning, "_trained", trainings)
    return trainings


def test_what_was_good_in_one_run_is_trained_on_the_others(runs: list[Run], tmp_path: Path) -> None:
    """Every candidate is known on every task, best scores have regret 0, and files say how."""
    events: list[Any] = []
    output = tmp_path / "made.yaml"
    assert learn(runs, output, candidates=BEST, on_event=events.append) == [output]

    made = read_portfolio(output)
    assert [t.name for t in made.tasks] == ["red", "white"]
    assert (made.name, made.requires) == ("made", {"data.task": "tabular", **IDENTICAL})
    assert all(r is not None for c in made.candidates for r in c.regrets)
    assert {c.origin for c in made.candidates} == {"red", "white"}
    trained = [e for e in events if e["event"] == "trained"]
    assert len(trained) == len(list((tmp_path / "made.yaml.trained").glob("*.json"))) > 0
    for j, (run, task) in enumerate(zip(runs, made.tasks, strict=True)):
        best = run.log.best()
        scores = [r.score or 0.0 for r in run.log.ranked()]
        known = [*scores, *(e["score"] for e in trained if e["data"] == task.name)]
        values = carried(best, Source(run).space)
        (own,) = (c.regrets[j] for c in made.candidates if c.values == values)
        scale = median(scores) - min(known)
        assert own == pytest.approx((min(scores) - min(known)) / scale, abs=1e-4)
        assert task.about["digest"] == run.manifest["data"]["digest"]
        assert task.about["rows"] == "120"
        assert task.facts["data.num_features"] == 12
    assert made.about["trainings"] == f"{len(trained)} completed"
    assert str(tmp_path) not in output.read_text()


def test_only_what_was_searched_is_carried_over(runs: list[Run]) -> None:
    """A candidate tells what its run searched and which network it was, nothing that was fixed."""
    source = Source(runs[0])
    values = carried(runs[0].log[0], source.space)

    assert {"model.family", "optimizer.name", RATE} <= values.keys()
    assert "model.units" not in values
    assert "model.loss" not in values


def test_a_run_that_was_broken_off_goes_on(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an interruption only what is missing is trained, and the same comes of it."""
    whole = instead(monkeypatch)
    learn(runs, tmp_path / "whole.yaml", name="p", candidates=BEST)
    first = instead(monkeypatch, breaks=2)
    with pytest.raises(KeyboardInterrupt):
        learn(runs, tmp_path / "broken.yaml", name="p", candidates=BEST)
    assert not (tmp_path / "broken.yaml").exists()
    (tmp_path / "broken.yaml.trained" / "0.json").write_text("{")
    rest = instead(monkeypatch)
    learn(runs, tmp_path / "broken.yaml", name="p", candidates=BEST)

    assert first.done + rest.done == whole.done
    assert len(first.done) == 2
    assert read_portfolio(tmp_path / "broken.yaml") == read_portfolio(tmp_path / "whole.yaml")
    again = instead(monkeypatch)
    learn(runs, tmp_path / "broken.yaml", name="p", candidates=BEST)
    assert again.done == []


def test_best_candidates_are_trained_first(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trials of one run are tried on the other in the order of their scores."""
    trainings = instead(monkeypatch)
    learn(runs, tmp_path / "p.yaml", candidates=BEST)

    for run, other in ((runs[0], "white"), (runs[1], "red")):
        ranked = [r.values[RATE] for r in run.log.ranked() if not r.is_default]
        found = [v[RATE] for name, v in trainings.done if name == other]
        assert found == pytest.approx(ranked)
    assert {name for name, _ in trainings.done[:2]} == {"red", "white"}


def test_what_there_is_no_time_for_stays_unknown(runs: list[Run], tmp_path: Path) -> None:
    """When the time is up the file is written all the same, and says what was not tried."""
    events: list[Any] = []
    learn(runs, tmp_path / "p.yaml", candidates=1, time=1e-9, on_event=events.append)

    made = read_portfolio(tmp_path / "p.yaml")
    unknown = sum(r is None for c in made.candidates for r in c.regrets)
    assert unknown > 0
    assert made.about["trainings"] == f"{unknown} not tried"
    assert events[-1] == {"event": "learning_ended", "reason": "the time is up", "left": unknown}


def test_failures_stay_unknown_and_are_not_repeated(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that diverged leaves no regret, and is not tried again the next time."""
    instead(monkeypatch, outcome="diverged")
    learn(runs, tmp_path / "p.yaml", candidates=1)
    made = read_portfolio(tmp_path / "p.yaml")
    again = instead(monkeypatch)
    learn(runs, tmp_path / "p.yaml", candidates=1)

    assert any(r is None for c in made.candidates for r in c.regrets)
    assert again.done == []


def test_without_training_only_runs_are_read(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`evaluate=False` trains nothing, reads no data, and leaves no folder."""
    trainings = instead(monkeypatch)
    monkeypatch.setattr(Source, "job", property(lambda self: pytest.fail("data were read")))
    learn(runs, tmp_path / "p.yaml", evaluate=False)

    assert trainings.done == []
    assert [p.name for p in tmp_path.iterdir()] == ["p.yaml"]
    assert read_portfolio(tmp_path / "p.yaml").about["trainings"].startswith("none")


def altered(run: Run, folder: Path, file: str, change: Any) -> Run:
    """A copy of a run with one of its JSON files changed."""
    shutil.copytree(run.path, folder)
    content = json.loads((folder / file).read_text())
    change(content)
    (folder / file).write_text(json.dumps(content))
    return Run.load(folder)


def test_kinds_of_data_get_files_of_their_own(runs: list[Run], tmp_path: Path) -> None:
    """Runs on different kinds of data are not compared with each other."""
    other = altered(runs[1], tmp_path / "other", "run.json", lambda d: d.update(kind="timeseries"))
    written = learn([runs[0], other], tmp_path / "p.yaml", evaluate=False)

    assert [p.name for p in written] == ["p-tabular.yaml", "p-timeseries.yaml"]
    assert [read_portfolio(p).requires["data.task"] for p in written] == ["tabular", "timeseries"]
    assert [len(read_portfolio(p).tasks) for p in written] == [1, 1]


def test_only_what_all_candidates_have_is_required(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where candidates differ in schedule, a search with another one may use them, too."""

    def with_any_schedule(record: TrialRecord, space: SearchSpace) -> dict[str, Any]:
        # One trial of each run: neither schedule is found only once.
        schedule = "constant" if record.trial_id == "1" else "cosine"
        return carried(record, space) | {"optimizer.schedule": schedule}

    monkeypatch.setattr(learning, "carried", with_any_schedule)
    learn(runs, tmp_path / "p.yaml", evaluate=False)

    alike = {n: v for n, v in IDENTICAL.items() if n != "optimizer.schedule"}
    assert read_portfolio(tmp_path / "p.yaml").requires == {"data.task": "tabular", **alike}


def other_optimizer(recommendation: dict[str, Any]) -> None:
    """Let a recommendation say `sgd`."""
    setting = recommendation["settings"]["optimizer.name"]
    setting["value"], setting["range"] = "sgd", {"type": "fixed", "value": "sgd"}


def test_runs_without_anything_in_common_are_refused(runs: list[Run], tmp_path: Path) -> None:
    """Where no configuration of one run is open in another, nothing is written."""
    other = altered(runs[1], tmp_path / "sgd", "recommendation.json", other_optimizer)
    with pytest.raises(OptionError, match="no configuration of one run is open"):
        learn([runs[0], other], tmp_path / "p.yaml")

    assert not (tmp_path / "p.yaml").exists()


def test_mistakes_are_mendable(runs: list[Run], tmp_path: Path) -> None:
    """No run, one run twice, no candidates, a run of a user's own network: each says what to do."""
    with pytest.raises(OptionError, match="at least one finished run"):
        learn([], tmp_path / "p.yaml")
    with pytest.raises(OptionError, match="named twice"):
        learn([runs[0].path, runs[0]], tmp_path / "p.yaml")
    with pytest.raises(OptionError, match="--candidates"):
        learn(runs, tmp_path / "p.yaml", candidates=0)
    own = altered(runs[0], tmp_path / "own", "run.json", lambda d: d.pop("data"))
    with pytest.raises(RunError, match="network of its user's own"):
        learn([own], tmp_path / "p.yaml")
    assert not (tmp_path / "p.yaml").exists()


def rates(*found: float, **more: Any) -> Portfolio:
    """A portfolio of learning rates, the first of them the best of all."""
    return Portfolio(
        name="rates",
        summary="Rates.",
        about={},
        tasks=tuple(Task(name=str(i)) for i in range(len(found))),
        candidates=tuple(
            Candidate(
                values={RATE: rate, **more},
                # Each is best on one task, the earlier ones better elsewhere.
                regrets=tuple(0.0 if j == i else 1.0 + i / 10 for j in range(len(found))),
            )
            for i, rate in enumerate(found)
        ),
    )


def test_a_search_tries_the_portfolio_after_the_recommendation(
    runs: list[Run], tmp_path: Path
) -> None:
    """The recommendation comes first, then the portfolio in its order; report and events say so."""
    file = tmp_path / "rates.yaml"
    write_portfolio(file, rates(0.0031, 0.0017))
    events: list[Any] = []
    data = Path(runs[0].manifest["data"]["where"])
    run = small_search(tmp_path / "run", data, portfolio=file, trials=3, on_event=events.append)

    assert run.log[0].is_default
    assert [r.values[RATE] for r in run.log][1:] == pytest.approx([0.0031, 0.0017])
    (said,) = (e for e in events if e["event"] == "portfolio")
    assert [s["values"] for s in said["starts"]] == [r.values for r in run.log][1:]
    text = run.report()["extras"]["Configurations that were good on other data"]
    assert "trial 1," in text
    assert "trial 2," in text
    file.unlink()  # the run keeps what it needs
    again = resume(run.path, trials=4)
    assert [r.values for r in again.log][:3] == [r.values for r in run.log][:3]
    warnings = [e for e in (run.path / "events.jsonl").read_text().splitlines() if "warning" in e]
    assert warnings == []


def test_the_strategy_of_that_name_tries_nothing_else(runs: list[Run], tmp_path: Path) -> None:
    """`strategy="portfolio"` ends after the last configuration, however much was allowed."""
    write_portfolio(tmp_path / "rates.yaml", rates(0.0031))
    data = Path(runs[0].manifest["data"]["where"])
    run = small_search(
        tmp_path / "run",
        data,
        portfolio=tmp_path / "rates.yaml",
        trials=9,
        strategy="portfolio",
    )

    assert [r.values[RATE] for r in run.log][1:] == pytest.approx([0.0031])


def test_what_fits_nowhere_is_refused_before_anything_is_written(
    runs: list[Run], tmp_path: Path
) -> None:
    """A file asked for of which nothing fits is an error, and no run is left behind."""
    write_portfolio(tmp_path / "odd.yaml", rates(0.001, **{"optimizer.name": "lion"}))
    data = Path(runs[0].manifest["data"]["where"])
    with pytest.raises(SmartTuneError, match="no configuration fits"):
        small_search(tmp_path / "run", data, portfolio=tmp_path / "odd.yaml")
    assert not (tmp_path / "run").exists()


def test_none_means_none(runs: list[Run]) -> None:
    """A search that is too short for it, or was told `none`, tries nothing from elsewhere."""
    assert runs[0].manifest["portfolio"] == []
    assert "Configurations that were good on other data" not in runs[0].report()["extras"]
