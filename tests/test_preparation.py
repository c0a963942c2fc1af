"""What is known before the first trial: recommended, settled, measured on the networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import smarttune
from smarttune.facts import Facts
from smarttune.preparation import Preparation, measured, prepare
from smarttune.recommendation import recommend
from smarttune.rulebook import Rulebook, load_rulebook
from smarttune.tuning import RANGE_TESTS

WINE = Path(__file__).parents[1] / "examples" / "data" / "wine.csv"
RATE = "optimizer.learning_rate"
COMPETING = {
    "data.task": "text", "model.problem": "binary", "data.num_samples": 8000,
    "data.words_per_sample": 20, "data.vocabulary_size": 9000, "budget.num_trials": 40,
}  # fmt: skip

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.fixture(scope="module")
def book() -> Rulebook:
    """The built-in rules."""
    return load_rulebook()


def prepared(book: Rulebook, **pins: Any) -> Preparation:
    """A search on the bundled table."""
    return prepare(
        WINE,
        "quality",
        declared=Facts.of({"budget.num_trials": 10}),
        pinned={"model.units": 16, **pins},
        rulebook=book,
        problem="regression",
    )


def rates_of_a_test(*, suggestion: float, stable: float) -> Facts:
    """What a range test leaves."""
    return Facts.of(
        {"model.tested_learning_rate": suggestion, "model.stable_learning_rate": stable}
    )


def test_a_tested_rate_bounds_the_recommended_one(book: Rulebook) -> None:
    """Inside the tested window the recommendation stands; beyond it the measurement wins."""
    facts = Facts.of({"data.task": "tabular", "model.problem": "binary", "data.num_samples": 9000})
    alone = recommend(facts, rules=book).value(RATE)

    inside = recommend(facts | rates_of_a_test(suggestion=alone / 2, stable=alone * 9), rules=book)
    above = recommend(
        facts | rates_of_a_test(suggestion=alone / 900, stable=alone / 100), rules=book
    )
    below = recommend(
        facts | rates_of_a_test(suggestion=alone * 90, stable=alone * 200), rules=book
    )

    assert inside.value(RATE) == alone
    assert above.value(RATE) == pytest.approx(alone / 100)
    assert below.value(RATE) == pytest.approx(alone * 3)
    assert inside.settings[RATE].range.from_unit(1.0) <= alone * 9 * (1 + 1e-9)
    assert "LRN025" in {reason.rule for reason in inside.settings[RATE].because}


def test_facts_of_a_family_concern_that_family_only(book: Rulebook) -> None:
    """Where families compete, each has the rate that was tested on its own network."""
    facts = Facts.of(COMPETING)
    families = recommend(facts, rules=book).settings["model.family"].range.values
    assert len(families) > 1
    first = str(recommend(facts, rules=book).value("model.family"))
    other = next(str(f) for f in families if f != first)

    own = {other: rates_of_a_test(suggestion=1e-6, stable=2e-6)}
    found = recommend(facts, rules=book, families=own)

    assert found.value(RATE) == recommend(facts, rules=book).value(RATE)
    assert found.settings[f"{RATE}[{other}]"].value <= 2e-6
    assert "model.tested_learning_rate" not in found.facts
    both = recommend(
        facts, rules=book, families={first: rates_of_a_test(suggestion=1e-7, stable=3e-7)}
    )
    assert both.value(RATE) <= 3e-7
    assert both.facts.value("model.tested_learning_rate") == 1e-7


@pytest.mark.slow
def test_the_range_test_runs_where_the_rules_ask_for_it(book: Rulebook) -> None:
    """Its figures become facts, and what does not depend on them is not computed again."""
    before = prepared(book)
    arrays = before.job.training_data
    seen: list[Any] = []

    after = measured(before, on_event=seen.append)

    assert before.job.recommendation.value("search.range_test") is True
    assert [e["event"] for e in seen] == ["probing", "range_test"]
    test = after.range_tests["mlp"]
    facts = after.suggestion.recommendation.facts
    assert facts.value("model.tested_learning_rate") == test.suggestion
    assert facts.value("model.stable_learning_rate") == test.largest_stable
    assert facts.value("model.num_parameters") > 100
    assert facts.value("model.has_batch_normalization") is False
    assert after.job.training_data is arrays


@pytest.mark.slow
def test_without_the_setting_nothing_is_measured(book: Rulebook) -> None:
    """`--set search.range_test=false` leaves the preparation as it was."""
    before = prepared(book, **{"search.range_test": False})

    assert measured(before) is before


@pytest.mark.slow
def test_the_batch_probe_runs_when_asked_for(book: Rulebook) -> None:
    """The sizes that fit and pay become facts, and the batch keeps below them."""
    pins = {"search.range_test": False, "search.batch_probe": True}
    seen: list[Any] = []

    after = measured(prepared(book, **pins), on_event=seen.append)

    assert [e["event"] for e in seen] == ["probing", "batch_probe"]
    facts = after.suggestion.recommendation.facts
    pays = facts.value("hardware.max_batch_throughput")
    assert (pays is not None) == (seen[1]["stopped_because"] == "throughput")
    assert facts.value("model.num_parameters") > 100
    if pays is not None:
        assert after.suggestion.recommendation.value("training.batch_size") <= pays


@pytest.mark.slow
def test_a_run_keeps_its_range_tests(tmp_path: Path) -> None:
    """The curve is in the run, the facts are in its recommendation, and resuming needs neither."""
    run = smarttune.search(
        WINE,
        "quality",
        problem="regression",
        trials=2,
        strategy="random",
        pinned={"search.max_epochs": 2, "model.units": 16, "search.range_test": True},
        run=tmp_path / "run",
    )

    kept = json.loads((run.path / RANGE_TESTS).read_text())
    assert len(kept["mlp"]["losses"]) == len(kept["mlp"]["learning_rates"]) > 20
    assert run.recommendation.facts.value("model.tested_learning_rate") is not None
    told = run.report()["extras"]["Learning-rate range test"]
    assert told.startswith("mlp: The loss fell from")
    assert "The search then tried rates over" in told
    assert len(smarttune.resume(run, trials=3).log) == 3
