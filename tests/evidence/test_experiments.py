"""A rule's check is run for real, on named data and on somebody's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

from smarttune.data import read
from smarttune.errors import DataError, OptionError
from smarttune.evidence.datasets import DATA, FOLDER, MOST_ROWS, open_data
from smarttune.evidence.experiments import Measured, TrainingBench, put_to_the_test
from smarttune.recommendation.firing import check_pins
from smarttune.rulebook import Rule, Rulebook, builtin_folder
from smarttune.rulebook.checks import Check
from smarttune.rulebook.evidence import read_evidence
from tests.development import DEFAULT, development_data

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


def with_check(rule: Rule, **check: Any) -> Rule:
    """A rule with another check."""
    told = {
        "question": "Is the one better than the other?",
        "data": ["cancer"],
        "falsified_if": "The other leaves less error.",
    }
    return rule.model_copy(update={"check": Check.model_validate(told | check)})


def learnable() -> tuple[Any, str | None]:
    """A table whose target follows from its columns."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(160, 3)), columns=["a", "b", "c"])
    frame["y"] = 3 * frame["a"] - frame["b"]
    return read(frame, "y"), "regression"


@pytest.mark.slow
def test_an_effect_that_is_there_is_found(book: Rulebook) -> None:
    """Twenty epochs leave less error than one, on data that can be learnt."""
    rule = with_check(
        book["CAP001"],
        given={"model.units": 16, "model.num_layers": 1},
        recommended=[{"training.epochs": 20, "search.max_epochs": 20}],
        against=[{"training.epochs": 1, "search.max_epochs": 1}],
    )
    heard: list[Mapping[str, Any]] = []
    result = put_to_the_test(rule, book=book, own=learnable(), seeds=3, on_event=heard.append)
    assert result.verdict == "holds"
    assert result.trainings == 6
    assert result.low is not None
    assert 0 < result.low < result.effect
    assert [e["event"] for e in heard] == ["test_started", *["trained"] * 6]
    assert result.environment["keras"]


def test_a_training_that_was_kept_is_not_repeated(
    book: Rulebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a break the experiment goes on with what is missing, and both sides share trainings."""
    trained: list[tuple[Any, int]] = []

    def measure(self: TrainingBench, values: Mapping[str, Any], seed: int) -> Measured:
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append((values["model.units"], seed))
        return Measured(0.5 + 0.1 * seed, 3, 1.0)

    monkeypatch.setattr(TrainingBench, "measure", measure)
    rule = with_check(
        book["CAP003"], recommended=[{"model.units": 32}], against=[{"model.units": 64}], seeds=2
    )
    with pytest.raises(KeyboardInterrupt):
        put_to_the_test(rule, book=book, own=learnable())
    first, trained[:] = list(trained), []
    result = put_to_the_test(rule, book=book, own=learnable())
    assert len(first) == 3
    assert len(trained) == 1
    assert result.effect == 0


def test_the_surrogate_answers_for_all_of_its_tables(
    book: Rulebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check on `lcbench` asks 17 tables, with other settings drawn anew for each seed."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv(FOLDER, str(development_data("lcbench").parent))
    rule = with_check(
        book["OPT005"],
        data=["lcbench"],
        recommended=[{"optimizer.momentum": 0.9}],
        against=[{"optimizer.momentum": 0.1}],
        seeds=2,
    )
    result = put_to_the_test(rule, book=book)
    assert len(result.data) == 17
    assert result.trainings == 17 * 2 * 2
    assert result == put_to_the_test(rule, book=book)
    assert len({d.recommended_mean for d in result.data}) > 10


def test_a_rule_without_a_check_is_refused(book: Rulebook) -> None:
    """The message says where to find those that have one."""
    rule = book["CAP001"].model_copy(update={"check": None})
    with pytest.raises(OptionError, match="no `check`.*rules test"):
        put_to_the_test(rule, book=book)


def test_an_unknown_data_set_is_refused_by_its_nearest_name() -> None:
    """A slip of the pen is told with the names there are."""
    with pytest.raises(OptionError, match="Did you mean `cancer`"):
        open_data("cancr")


def test_data_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Data sets outside the package need the folder that holds them."""
    monkeypatch.setenv(FOLDER, str(tmp_path))
    with pytest.raises(DataError, match=r"adult-train.csv.*SMARTTUNE_DATA"):
        open_data("adult")


@pytest.mark.parametrize("name", DATA)
def test_every_named_data_set_can_be_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 2,000 rows of each, always the same ones."""
    monkeypatch.setenv(FOLDER, str(DEFAULT))
    try:
        dataset, _ = open_data(name)
    except DataError:
        pytest.skip(f"{name} is not here")
    again, _ = open_data(name)
    assert 0 < len(dataset.target) <= MOST_ROWS
    assert list(dataset.target) == list(again.target)


def test_every_check_can_be_carried_out(book: Rulebook) -> None:
    """Checks name data sets and hyperparameters that exist, and values that these allow."""
    known = {*DATA, "lcbench"}
    for rule in book.rules:
        if rule.check is None:
            continue
        assert set(rule.check.data) <= known, rule.code
        for values in (*rule.check.recommended, *rule.check.against, rule.check.given):
            check_pins(values, book.hyperparameters)


def test_at_least_25_rules_were_put_to_the_test(book: Rulebook) -> None:
    """Evidence lies beside the rules, from the check that stands there now."""
    found = {r.code: read_evidence(builtin_folder(), r.code) for r in book.rules if r.check}
    recent = {code: e.results[-1] for code, e in found.items() if e is not None}
    assert len(recent) >= 25
    for code, result in recent.items():
        check = book[code].check
        assert check is not None
        assert (result.question, result.expects) == (check.question, check.expects), code
