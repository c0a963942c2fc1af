"""The finalists trained again: who, how often, within which time, and on after any break."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.job import resume, search
from smarttune.objectives import Objective, objective
from smarttune.suggestion import make_suggestion
from smarttune.trials import TrialLog, TrialRecord
from smarttune.tuning import Run, confirming
from smarttune.tuning.adapting import ADAPTED, LENGTH
from smarttune.tuning.budget import Clock
from smarttune.tuning.confirming import (
    CONFIRMATION_SHARE,
    CONFIRMED_FROM,
    REPEATS_PER_TRIAL,
    EarlierClock,
    confirm,
    confirmation_share,
    finalists_of,
    shown,
)
from smarttune.tuning.finishing import winner_of
from smarttune.tuning.preparing import SearchJob
from smarttune.tuning.repeating import Repetition, as_trained, folds_of, job_on, repetitions_of
from tests.models.tables import learnable

from .searches import keras_reads_variables

pytestmark = keras_reads_variables

LOSS = Objective("val_loss", "min")
WINE = Path(__file__).parents[2] / "examples" / "data" / "wine.csv"


def trial(name: str, score: float | None = None, **details: Any) -> TrialRecord:
    """A trial that took ten seconds; without a score it failed."""
    base: dict[str, Any] = {
        "values": {"model.units": hash(name) % 1000},
        "outcome": "failed" if score is None else "completed",
        "best_epoch": 2,
        "num_epochs": 4,
        "max_epochs": 4,
        "seconds": 10.0,
    }
    return TrialRecord(trial_id=name, score=score, **(base | details))


def repeat(name: str, score: float | None, of: str, **details: Any) -> TrialRecord:
    """A repeat of a trial."""
    return trial(name, score, repeat_of=of, **details)


# The log.


def test_repeats_are_no_trials() -> None:
    """They are not ranked, not counted and not the recommendation, but their time was spent."""
    trials = [trial("0", 0.5, is_default=True), trial("1", 0.4)]
    repeats = [repeat("0-seed1", 0.1, "0", is_default=True), repeat("1-seed1", 0.2, "1")]
    log = TrialLog(LOSS, [trials[0], repeats[0], trials[1], repeats[1]])

    assert list(log) == log.ranked()[::-1] == trials
    assert (len(log), log.num_epochs, log.seconds) == (2, 8, 40.0)
    assert (log.best().trial_id, log.default()) == ("1", trials[0])
    assert log.repeats == tuple(repeats)
    assert not any(r.is_scored for r in repeats)


# Who and how.


def test_finalists_are_the_best_configurations_and_the_recommendation() -> None:
    """Three of the best, one of each configuration, and the recommendation wherever it stands."""
    twin = {"values": {"model.units": 7}}
    log = TrialLog(
        LOSS,
        [
            trial("0", 0.9, is_default=True),
            trial("1", 0.1, **twin),
            trial("2", 0.2, **twin),
            trial("3", 0.3),
            trial("4", 0.4),
            trial("5", 0.5),
            trial("6"),
        ],
    )

    assert [f.trial_id for f in finalists_of(log)] == ["1", "3", "4", "0"]
    assert [f.trial_id for f in finalists_of(log, 1)] == ["1", "0"]


def test_a_recommendation_among_the_best_is_no_extra_finalist() -> None:
    """The recommendation is trained again once per repeat, as all others."""
    log = TrialLog(LOSS, [trial("0", 0.1, is_default=True), trial("1", 0.2)])

    assert [f.trial_id for f in finalists_of(log)] == ["0", "1"]


def job_of(rows: int = 90, *, facts: dict[str, Any] | None = None, **pinned: Any) -> SearchJob:
    """What a search over a small table of two classes has prepared."""
    table, target = learnable("binary", rows=rows)
    settings = {name.replace("__", "."): value for name, value in pinned.items()}
    suggestion = make_suggestion(
        table, target, problem="binary", pinned=settings, facts=facts or {}
    )
    assert suggestion.dataset is not None
    assert suggestion.fingerprint is not None
    goal = objective("val_loss", problem="binary")
    return SearchJob(
        suggestion.dataset, suggestion.fingerprint, suggestion.recommendation, goal, 4, 0.2
    )


def test_small_tables_are_folded_and_large_ones_seeded() -> None:
    """The rules' settings decide, and whoever fixes them is obeyed."""
    folds, seeds = repetitions_of(job_of()), repetitions_of(job_of(data__num_folds=1))

    assert [(r.kind, r.number) for r in folds] == [("fold", i) for i in range(1, 6)]
    assert [(r.kind, r.number, r.split) for r in seeds] == [("seed", i, None) for i in (1, 2, 3)]
    assert len({r.seed for r in folds}) == 5
    pins = {"data__num_folds": 1, "search__num_confirmation_seeds": 0}
    assert repetitions_of(job_of(**pins)) == ()


def with_groups(job: SearchJob) -> SearchJob:
    """The same job over rows that belong together by fives."""
    from dataclasses import replace

    labels = pd.Series(np.arange(len(job.dataset.features)) // 5)
    return replace(job, dataset=replace(job.dataset, groups=labels))


@pytest.mark.parametrize("kind", ["plain", "grouped", "in time"])
def test_folds_never_hold_test_rows(kind: str) -> None:
    """All folds lie within training and validation rows, whatever binds the rows together."""
    facts = {"data.time_ordered": True} if kind == "in time" else {}
    job = job_of(facts=facts, data__num_folds=4)
    job = with_groups(job) if kind == "grouped" else job

    folds = folds_of(job, 4)

    assert len(folds) == 4
    allowed = set(job.split.train) | set(job.split.validation)
    assert not allowed & set(job.split.test)
    for fold in folds:
        assert set(fold.train) | set(fold.validation) <= allowed
        assert not set(fold.train) & set(fold.validation)
        assert len(job_on(job, fold).split.test) == 0
        if kind == "in time":
            assert fold.train.max() < fold.validation.min() <= job.split.test.min()
        if kind == "grouped":
            assert not set(fold.train // 5) & set(fold.validation // 5)
        if kind == "plain":
            shares = [job.dataset.target.iloc[part].value_counts(normalize=True).min()  # type: ignore[union-attr]
                      for part in (fold.train, fold.validation)]  # fmt: skip
            assert shares[0] == pytest.approx(shares[1], abs=0.1)


def test_each_fold_learns_its_own_preprocessing() -> None:
    """Nothing that was learnt from a fold's validation rows reaches its training."""
    job = job_of()

    first, second = (job_on(job, fold) for fold in folds_of(job, 3)[:2])

    assert first.preprocessor != second.preprocessor
    assert job_on(job, job.split).preprocessor == job.preprocessor
    assert len(first.training_data.y) == len(first.split.train)
    assert first.hypermodel().plan.num_samples == len(first.split.train)


def test_a_trial_is_repeated_with_the_length_it_had(tmp_path: Path) -> None:
    """Where the search changed the length of trials on its way, schedules keep that of the trial."""
    job = job_of(search__max_epochs=6)
    run = Run.create(tmp_path / "run", {"objective": LOSS._asdict()})
    for name in "012":
        run.record(trial(name, 0.1))
    change = {"hyperparameter": LENGTH, "after": {"value": 9}, "num_trials": 2}
    run.note(ADAPTED, **change)

    lengths = [as_trained(job, run, record).max_epochs for record in run.log]

    assert lengths == [6, 6, 9]
    assert as_trained(job, run, run.log[2]).hypermodel().plan.max_epochs == 9
    assert as_trained(job, run, run.log[2]).training_data is job.training_data


# The loop, with trainings that are played.

Score = Callable[[str, int], float | None]


class Played:
    """A run with four trials, whose repeats take as long as they say and score by a formula."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, repeats: int = 3) -> None:
        self.run = Run.create(folder, {"objective": LOSS._asdict()})
        for record in (
            trial("0", 0.5, is_default=True),
            trial("1", 0.3),
            trial("2", 0.2),
            trial("3"),
        ):
            self.run.record(record)
        settings = {"data.num_folds": 1, "search.num_confirmation_seeds": repeats}
        self.job: Any = SimpleNamespace(
            objective=LOSS, seed=0, recommendation=SimpleNamespace(value=settings.get)
        )
        self.score: Score = lambda name, number: (
            {"0": 0.50, "1": 0.31, "2": 0.40}[name] + 0.01 * number
        )
        self.trained: list[str] = []
        self.seeds: dict[str, set[int]] = {}
        self.cut_after = 10**6
        self.events: list[dict[str, Any]] = []
        monkeypatch.setattr(confirming, "repeated", self._repeated)
        monkeypatch.setattr(confirming, "as_trained", lambda job, run, record: job)
        monkeypatch.setattr(confirming, "prepare_process", lambda: None)

    def _repeated(self, job: Any, record: TrialRecord, how: Repetition, clock: Any) -> Any:
        if len(self.trained) >= self.cut_after:
            return None
        name, score = how.name(record.trial_id), self.score(record.trial_id, how.number)
        self.trained.append(name)
        self.seeds.setdefault(record.trial_id, set()).add(how.seed)
        clock.ticks = getattr(clock, "ticks", 0.0) + 10.0
        return repeat(name, score, record.trial_id, values=record.values, seed=how.seed)

    def confirm(self, clock: Clock | None = None, on_event: Any = None) -> dict[str, Any]:
        """Confirm, hearing all events."""
        heard = on_event if on_event is not None else self.events.append
        return confirm(self.run, self.job, clock if clock is not None else Clock(None), heard)


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    """A run whose trials have ended."""
    # Three trials, so that all of them are finalists.
    monkeypatch.setattr("smarttune.tuning.confirming.REPEATS_PER_TRIAL", 3.0)
    return Played(tmp_path / "run", monkeypatch)


def test_few_trials_are_not_repeated_many_times(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a time limit three trials have two finalists, the best and the recommendation."""
    monkeypatch.setattr("smarttune.tuning.confirming.REPEATS_PER_TRIAL", REPEATS_PER_TRIAL)
    found = played.confirm()

    assert [row["trial_id"] for row in found["finalists"]] == ["2", "0"]
    assert len(played.run.log.repeats) == 6


def test_short_times_keep_nothing_for_repeats() -> None:
    """Below five minutes the trials get all the time, from then on a share is kept."""
    assert confirmation_share(CONFIRMED_FROM - 1) == confirmation_share(None) == 0.0
    assert confirmation_share(CONFIRMED_FROM) == CONFIRMATION_SHARE


def test_the_best_on_average_wins(played: Played) -> None:
    """Not the trial with the best single score, but the one that repeats its own."""
    found = played.confirm()

    assert played.run.log.best().trial_id == "2"
    assert found["winner"] == winner_of(played.run.log, found).trial_id == "1"
    assert (found["kind"], found["asked"], found["done"], found["reason"]) == ("seed", 3, 3, "")
    assert [row["trial_id"] for row in found["finalists"]] == ["2", "1", "0"]
    assert [row["first"] for row in found["finalists"]] == [0.2, 0.3, 0.5]
    assert found["noise"] == pytest.approx(0.01)
    assert found["difference"]["gain"] == pytest.approx(0.19)
    assert len(played.run.log.repeats) == 9
    assert len({frozenset(s) for s in played.seeds.values()}) == 1
    json.dumps(found, allow_nan=False)


def test_every_repeat_is_announced(played: Played) -> None:
    """Events count the repeats from the first to the last and say that limits do not count them."""
    played.confirm()

    started, *rest = played.events
    assert started["event"] == "confirmation_started"
    assert started["num_repeats"] == 9
    assert "beyond any limit" in started["text"]
    told = [e for e in rest if e["event"] == "confirming"]
    assert [(e["k"], e["n"]) for e in told] == [(k, 9) for k in range(1, 10)]
    finished = [e["trial_id"] for e in rest if e["event"] == "repeat_finished"]
    assert finished == [e["trial_id"] for e in told] == played.trained


@pytest.mark.parametrize("after", range(9))
def test_a_broken_confirmation_goes_on(played: Played, tmp_path: Path, after: int) -> None:
    """Broken off before any repeat, it ends as one that was not, and trains none of them twice."""

    def listen(event: Any) -> None:
        if event["event"] == "confirming" and event["k"] == after + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        played.confirm(on_event=listen)
    played.run = Run.load(played.run.path)
    assert len(played.run.log.repeats) == after

    found = played.confirm()

    assert len(played.trained) == len(set(played.trained)) == 9
    assert found == played.confirm()
    assert (found["winner"], found["done"]) == ("1", 3)
    assert len(played.trained) == 9


class Ticking(Clock):
    """A clock that moves by ten seconds with each repeat."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.ticks = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds of repeats so far."""
        return self.ticks

    @property
    def training_ends(self) -> float | None:
        """All of it may be used."""
        return self.seconds


@pytest.mark.parametrize("seconds", [9, 19, 20, 40, 59, 60, 89, 90])
def test_the_time_decides_how_much_is_confirmed(played: Played, seconds: int) -> None:
    """No more repeats than fit; rather fewer finalists than fewer repeats; the report says why."""
    found = played.confirm(Ticking(seconds + 0.5))

    spent = 10 * len(played.trained)
    assert spent <= seconds
    rows = [row["trial_id"] for row in found["finalists"]]
    expected = (
        ([], 0) if seconds < 20
        else (["2", "0"], min(3, seconds // 20)) if seconds < 60
        else (["2", "1", "0"], min(3, seconds // 30))
    )  # fmt: skip
    assert (rows, found["done"]) == expected
    assert (found["reason"] == "") == (found["done"] == 3)
    if not rows:
        assert found["winner"] == "2"
        assert shown(found).startswith("Not confirmed: not even one repeat fits")


def test_a_repeat_that_was_cut_is_not_compared(played: Played) -> None:
    """A training that the time limit ended is no repeat, and its round does not count."""
    played.cut_after = 5

    found = played.confirm()

    assert (found["done"], found["reason"]) == (1, "the time is up")
    assert all(len(row["scores"]) == 1 for row in found["finalists"])
    assert "Only 1 of 3 repeats: the time is up." in shown(found)


def test_failed_repeats_count_against_a_finalist(played: Played) -> None:
    """Who diverges when trained again does not win, and the report counts the failures."""
    usual = played.score
    played.score = lambda name, number: None if (name, number) == ("1", 2) else usual(name, number)

    found = played.confirm()

    assert found["winner"] == "2"
    assert {r["trial_id"]: r["failed"] for r in found["finalists"]} == {"2": 0, "1": 1, "0": 0}
    assert "1: mean 0.33 over 2 repeat(s)" in shown(found)
    assert "; 1 failed (in the search 0.3)" in shown(found)


def test_a_lone_configuration_needs_no_repeats(tmp_path: Path, played: Played) -> None:
    """Where there is nothing to choose from, nothing is trained."""
    run = Run.create(tmp_path / "lone", {"objective": LOSS._asdict()})
    run.record(trial("0", 0.5, is_default=True))
    played.run = run

    found = played.confirm()

    assert played.trained == []
    assert (found["winner"], found["finalists"]) == ("0", [])
    assert found["reason"] == "there is only one configuration with a score"


def test_optuna_ranks_trials_alone(played: Played) -> None:
    """The study of a confirmed run has the same best trial, and the repeats stand beside it."""
    import optuna

    played.score = lambda name, number: 0.001
    played.confirm()

    study = optuna.load_study(study_name=None, storage=f"sqlite:///{played.run.path / 'study.db'}")
    assert study.best_trial.user_attrs["trial_id"] == "2"
    complete = [t for t in study.trials if t.state.name == "COMPLETE"]
    assert [t.user_attrs["trial_id"] for t in complete] == ["0", "1", "2"]
    assert len(study.trials) == 4 + 9


@given(seconds=st.floats(1, 1e6), kept=st.floats(0, 0.9))
def test_a_share_of_the_time_is_kept(seconds: float, kept: float) -> None:
    """Trials end so much earlier that the share is left, and elapsed time is the same."""
    clock = Clock(seconds, spent=3.0)

    earlier = EarlierClock(clock, kept)

    assert clock.training_ends is not None
    assert earlier.training_ends == pytest.approx((1 - kept) * clock.training_ends)
    assert earlier.elapsed == pytest.approx(clock.elapsed, abs=1.0)
    assert EarlierClock(Clock(None), kept).training_ends is None
    assert 0 < CONFIRMATION_SHARE < 0.5


# For real.

SMALL = {
    "search.max_epochs": 2,
    "model.num_layers": 1,
    "model.units": 8,
    "training.batch_size": 64,
    "data.num_folds": 2,
}


def real(path: Path, **options: Any) -> Run:
    """A search of two short trials on part of a real table, with two folds."""
    frame = pd.read_csv(WINE).sample(160, random_state=3).reset_index(drop=True)
    base: dict[str, Any] = {"trials": 2, "strategy": "random", "pinned": SMALL, "adapt": False}
    return search(frame, "quality", problem="regression", run=path, **(base | options))


def essence(record: TrialRecord) -> dict[str, Any]:
    """Everything of a record but the times."""
    return record.model_dump(exclude={"seconds", "started", "samples_per_second"})


@pytest.mark.slow
def test_a_real_search_is_confirmed_and_goes_on_after_a_break(tmp_path: Path) -> None:
    """Broken off amid the repeats, it ends with the trials, repeats and winner of one sitting; the
    report tells of both finalists, and no repeat took the place of a trial.
    """

    def listen(event: Any) -> None:
        if event["event"] == "confirming" and event["k"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        real(tmp_path / "broken", on_event=listen)
    frame = pd.read_csv(WINE).sample(160, random_state=3).reset_index(drop=True)
    broken = resume(tmp_path / "broken", data=frame, target="quality")
    whole = real(tmp_path / "whole")

    report = whole.report()
    found = report["confirmation"]
    assert [essence(r) for r in broken.log.repeats] == [essence(r) for r in whole.log.repeats]
    assert [(r.repeat_of, r.fold) for r in whole.log.repeats] == [
        (f["trial_id"], fold) for fold in (1, 2) for f in found["finalists"]
    ]
    assert broken.report()["confirmation"] == found
    assert report["best"]["trial_id"] == found["winner"]
    assert (report["num_trials"], len(whole.log), report["num_epochs"]) == (2, 2, 4)
    assert found["sentence"] in report["extras"]["Is the winner better than the default?"]
    assert report["history"]["history.noise"]["value"] == found["noise"]
    assert found["sentence"] in (whole.path / "report.md").read_text()


@pytest.mark.slow
def test_a_repeat_trains_as_the_search_does(tmp_path: Path) -> None:
    """With the seed of the trial itself a repeat has the very curve of the trial."""
    from smarttune.preparation import job_of as prepared
    from smarttune.suggestion import Suggestion
    from smarttune.tuning.repeating import repeated

    run = real(tmp_path / "run", confirm=False)
    assert run.report()["confirmation"] is None
    assert run.log.repeats == ()
    frame = pd.read_csv(WINE).sample(160, random_state=3).reset_index(drop=True)
    suggestion = make_suggestion(frame, "quality", problem="regression")
    again = Suggestion(run.recommendation, run.fingerprint, suggestion.dataset, suggestion.rulebook)
    job = prepared(again, run.objective, run.manifest["seed"], run.manifest["test_fraction"])

    for record in run.log:
        found = repeated(job, record, Repetition("seed", 1, record.seed), Clock(None))

        assert found is not None
        assert (found.repeat_of, found.score) == (record.trial_id, record.score)
        assert found.curve == record.curve
    cut = Clock(1e-9)
    assert repeated(job, run.log[0], Repetition("seed", 2, 5), cut) is None
