"""Trial records and the log they form."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from smarttune.errors import RunError
from smarttune.objectives import Objective
from smarttune.trials import Ranking, TrialLog, TrialRecord

LOSS = Objective("val_loss", "min")


def trial(trial_id: str, score: float | None = None, **fields: Any) -> TrialRecord:
    """A completed trial."""
    fields = {"outcome": "completed", "values": {}} | fields
    return TrialRecord(trial_id=trial_id, score=score, **fields)


@pytest.mark.parametrize(("direction", "order"), [("min", "bca"), ("max", "acb")])
def test_ranked_puts_the_best_first(direction: str, order: str) -> None:
    """The order of scores follows the direction of the objective."""
    goal = Objective("val_x", direction)  # type: ignore[arg-type]
    log = TrialLog(goal, [trial("a", 0.9), trial("b", -0.1), trial("c", 0.0)])

    assert "".join(r.trial_id for r in log.ranked()) == order
    assert log.best().trial_id == order[0]


def test_equal_scores_are_ranked_by_name() -> None:
    """Ties have one order, whichever trial ended first."""
    trials = [trial("b", 1.0), trial("a", 1.0)]

    for records in (trials, trials[::-1]):
        assert [r.trial_id for r in TrialLog(LOSS, records).ranked()] == ["a", "b"]


@pytest.mark.parametrize("outcome", ["diverged", "failed", "out_of_memory"])
def test_outcomes_without_a_model_are_never_ranked(outcome: str) -> None:
    """A trial that ended badly is not best, not even with a good score."""
    log = TrialLog(LOSS, [trial("bad", -100.0, outcome=outcome), trial("good", 5.0)])

    assert [r.trial_id for r in log.ranked()] == ["good"]
    assert len(log) == 2


@pytest.mark.parametrize("score", [None, math.nan, math.inf, -math.inf])
def test_scores_that_are_no_numbers_are_never_ranked(score: float | None) -> None:
    """Infinity does not win a search."""
    assert TrialLog(LOSS, [trial("x", score)]).ranked() == []


def test_early_stopped_trials_are_ranked() -> None:
    """Stopping early leaves a score and a model."""
    assert TrialLog(LOSS, [trial("x", 1.0, outcome="stopped")]).best().trial_id == "x"


def test_only_the_last_of_a_lineage_is_ranked() -> None:
    """A continued trial stands for its parents, even where a parent scored better."""
    log = TrialLog(
        LOSS,
        [
            trial("1", 0.1),
            trial("2", 0.3, parent="1"),
            trial("3", 0.2, parent="2"),
            trial("4", 1.0),
        ],
    )

    assert [r.trial_id for r in log.ranked()] == ["3", "4"]


def test_a_parent_counts_where_its_continuation_failed() -> None:
    """A failed continuation does not take its parent's score away."""
    log = TrialLog(LOSS, [trial("1", 0.1), trial("2", None, parent="1", outcome="failed")])

    assert log.best().trial_id == "1"


def test_no_score_at_all_is_an_error_with_the_outcomes() -> None:
    """The error tells how the trials ended, or that none was run."""
    log = TrialLog(LOSS, [trial("1", outcome="diverged"), trial("2", outcome="failed")])

    with pytest.raises(RunError, match=r"outcomes: diverged, failed"):
        log.best()
    with pytest.raises(RunError, match="none was run"):
        TrialLog(LOSS).best()


def test_the_default_is_the_scored_recommendation() -> None:
    """Only a trial of the recommendation itself that left a score is the default."""
    failed = trial("1", outcome="failed", is_default=True)
    scored = trial("2", 1.0, is_default=True)

    assert TrialLog(LOSS, [failed, trial("x", 0.0), scored]).default() == scored
    assert TrialLog(LOSS, [failed]).default() is None


def test_epochs_of_a_lineage_count_once() -> None:
    """What a parent trained is not counted again for its continuation."""
    log = TrialLog(
        LOSS,
        [
            trial("1", 1.0, num_epochs=3),
            trial("2", 1.0, num_epochs=9, initial_epoch=3, parent="1"),
            trial("3", num_epochs=2, outcome="diverged"),
        ],
    )

    assert log.num_epochs == 11


def test_a_log_is_a_sequence() -> None:
    """A log has a length, an order, indices and slices."""
    records = [trial("1", 1.0), trial("2", 2.0), trial("3", 3.0)]
    log = TrialLog(LOSS, records)

    assert list(log) == records
    assert log[-1] == records[2]
    assert list(log[:2]) == records[:2]
    assert records[1] in log


def test_records_are_frozen_and_closed() -> None:
    """A record cannot be changed, and holds no unknown field or outcome."""
    record = trial("1", 1.0)

    with pytest.raises(ValidationError):
        record.score = 2.0  # type: ignore[misc]
    with pytest.raises(ValidationError):
        trial("1", colour="red")
    with pytest.raises(ValidationError):
        trial("1", outcome="ok")


def test_records_survive_json() -> None:
    """Values keep their types through a file: true is not 1, 1.0 is not 1."""
    record = trial(
        "1",
        0.5,
        values={"a": True, "b": 1, "c": 1.0, "d": "x"},
        curve=({"loss": 1.0}, {"loss": 0.5}),
        seed=7,
    )

    back = TrialRecord.model_validate_json(record.model_dump_json())

    assert back == record
    assert [type(v) for v in back.values.values()] == [bool, int, float, str]


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 20), st.booleans()), max_size=25),
    st.sampled_from(["min", "max"]),
)
def test_a_ranking_is_the_same_however_it_came_about(
    rows: list[tuple[int, int, bool]], direction: str
) -> None:
    """Trials that are taken in one by one stand where a sort of all of them puts them."""
    goal = Objective("val_x", direction)  # type: ignore[arg-type]
    records = [
        trial(
            str(i),
            float(score),
            parent=str(parent) if 0 <= parent < i else None,
            outcome="completed" if ended_well else "failed",
        )
        for i, (score, parent, ended_well) in enumerate(rows)
    ]
    ranking = Ranking(goal)
    for record in records:
        ranking.add(record)

    continued = {r.parent for r in records if r.is_scored}
    last = [r for r in records if r.is_scored and r.trial_id not in continued]
    sign = 1 if direction == "min" else -1
    wanted = sorted(last, key=lambda r: (sign * (r.score or 0.0), r.trial_id))
    assert ranking.top(99) == wanted
    assert ranking.top(2) == wanted[:2]
