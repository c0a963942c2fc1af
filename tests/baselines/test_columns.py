"""Boosting on tables: it learns from every kind of column, in the time that it is given."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from smarttune.baselines import Contest
from smarttune.baselines.boosting import ROUNDS, growing
from smarttune.baselines.columns import boosted_columns
from smarttune.baselines.contest import Allowance, Unsuited
from smarttune.baselines.trivial import class_shares, mean_target
from smarttune.tuning.comparing import metrics_of
from tests.baselines.contests import Clock, contest_of, mixed_table, sealed, two_amounts

ENOUGH = Allowance(600.0)


def scores(contest: Contest, make: Any = boosted_columns) -> dict[str, float]:
    """Test metrics of a baseline that may not look at test targets."""
    outputs = make(sealed(contest), ENOUGH).outputs
    return metrics_of(contest.codec, outputs, contest.encoded(contest.split.test))


@pytest.mark.parametrize("problem", ["binary", "multiclass", "multilabel"])
def test_boosting_learns_classes(problem: str) -> None:
    """On columns that decide the class, a third of the trivial loss is gone."""
    contest = contest_of(*mixed_table(problem))

    assert scores(contest)["crossentropy"] < 0.67 * scores(contest, class_shares)["crossentropy"]


@pytest.mark.parametrize("transform", ["standardize", "log1p_standardize"])
@pytest.mark.parametrize("metric", ["mean_absolute_error", "mean_squared_error"])
def test_boosting_learns_amounts(transform: str, metric: str) -> None:
    """On columns that decide an amount, its error is well below that of the mean."""
    settings = {"model.target_transform": transform}
    contest = contest_of(*mixed_table("regression"), metric=metric, settings=settings)

    assert scores(contest)[metric] < 0.6 * scores(contest, mean_target)[metric]


def test_several_amounts_have_trees_of_their_own() -> None:
    """Each of two targets is learnt."""
    contest, _ = two_amounts()

    outputs = boosted_columns(sealed(contest), ENOUGH).outputs

    assert outputs is not None
    error = np.square(outputs - contest.encoded(contest.split.test)).mean(axis=0)
    assert error[0] < 0.6
    assert error[1] < 0.01


def test_the_logarithm_is_chosen_by_raw_error() -> None:
    """Amounts that are often zero are fitted as they are, products by their logarithm: the
    squared error of validation rows in raw units decides, and the call tells.
    """
    rng = np.random.default_rng(0)
    x = pd.DataFrame(rng.normal(size=(400, 4)), columns=list("abcd"))
    settings = {"model.target_transform": "log1p_standardize"}

    def call(y: np.ndarray) -> str:
        contest = contest_of(
            x.assign(y=y), "y", metric="mean_squared_error", problem="regression", settings=settings
        )
        return boosted_columns(contest, ENOUGH).call

    often_zero = np.where(rng.random(400) < 0.5, 0.0, np.where(x["a"] > 0, 40.0, 20.0))
    product = np.exp(x.sum(axis=1).to_numpy() + rng.normal(0, 0.05, 400))
    assert call(often_zero).startswith("HistGradientBoostingRegressor(")
    assert call(product).startswith("TransformedTargetRegressor(HistGradientBoostingRegressor(")


@pytest.mark.parametrize("kind", ["category", "flag", "date", "number"])
def test_each_kind_of_column_is_read(kind: str) -> None:
    """A target that hangs on a single column of any kind is learnt."""
    rng = np.random.default_rng(2)
    side = rng.random(200) < 0.5
    cells: Any = {
        "category": np.where(side, rng.choice(["p", "q"], 200), rng.choice(["r", "s"], 200)),
        "flag": np.where(side, "yes", "no"),
        "date": pd.to_datetime(np.where(side, "2020-01-05", "2021-03-09"))
        + pd.to_timedelta(rng.integers(0, 90, 200), unit="D"),
        "number": side + rng.normal(0, 0.1, 200),
    }[kind]
    table = pd.DataFrame({"c": cells, "noise": rng.normal(size=200), "y": rng.random(200)})
    noisy = side ^ (rng.random(200) < 0.03)  # else the column would be taken for a leak
    contest = contest_of(table.assign(y=np.where(noisy, "a", "b")), "y")

    assert scores(contest)["accuracy"] > 0.9


def test_new_and_missing_cells_are_answered() -> None:
    """Levels that training never saw and columns that are empty there break nothing."""
    contest = contest_of(*mixed_table("binary"))
    frame = contest.dataset.features.copy()
    frame.loc[contest.split.test, "color"] = "violet"
    frame.loc[contest.split.test, "bought"] = None
    frame["size"] = np.nan
    new = replace(contest, dataset=replace(contest.dataset, features=frame))

    assert boosted_columns(new, ENOUGH).outputs is not None


def test_more_levels_than_a_histogram_holds() -> None:
    """A column of four hundred levels is read, and its common levels keep their meaning."""
    rng = np.random.default_rng(3)
    level = np.where(rng.random(2500) < 0.6, rng.integers(0, 5, 2500), rng.integers(5, 405, 2500))
    y = np.where((level < 3) ^ (rng.random(2500) < 0.05), "a", "b")
    table = pd.DataFrame({"c": [f"l{i}" for i in level], "z": rng.normal(size=2500), "y": y})

    assert scores(contest_of(table, "y"))["accuracy"] > 0.9


def test_rare_levels_share_one_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the most that a histogram holds, rare levels are not taken for a common one."""
    monkeypatch.setattr("smarttune.baselines.columns._MOST_LEVELS", 4)
    rng = np.random.default_rng(3)
    shares = [0.3, 0.2, 0.2, *([0.03] * 10)]
    level = rng.choice(13, 800, p=shares)
    y = np.where((level < 2) ^ (rng.random(800) < 0.03), "a", "b")
    table = pd.DataFrame({"c": [f"l{i}" for i in level], "z": rng.normal(size=800), "y": y})

    assert scores(contest_of(table, "y"))["accuracy"] > 0.9


def test_a_class_that_training_lacks_has_a_place() -> None:
    """A class without a training row still has an output, and the others are learnt."""
    contest = contest_of(*mixed_table("multiclass"))
    keep = contest.encoded(contest.split.train) != 2
    lacking = replace(contest, split=replace(contest.split, train=contest.split.train[keep]))

    outputs = boosted_columns(lacking, ENOUGH).outputs

    assert outputs is not None
    assert outputs.shape[1] == 3
    truth = contest.encoded(contest.split.test)
    assert (outputs.argmax(axis=1) == truth)[truth != 2].mean() > 0.8


def test_one_class_in_training_says_so() -> None:
    """Where there is nothing to learn, no model is made up."""
    contest = contest_of(*mixed_table("binary"))
    keep = contest.encoded(contest.split.train)[:, 0] == 1
    single = replace(contest, split=replace(contest.split, train=contest.split.train[keep]))

    with pytest.raises(Unsuited, match="single class"):
        boosted_columns(single, ENOUGH)


def test_a_label_that_is_always_given_keeps_its_share() -> None:
    """One of several labels without two values in training is answered by its prior."""
    table, names = mixed_table("multilabel")
    contest = contest_of(table, names)
    encoded = contest.encoded
    fixed = replace(contest, targets=lambda rows: encoded(rows) * [1, 0])

    outputs = boosted_columns(fixed, ENOUGH).outputs

    assert outputs is not None
    assert contest.codec.probabilities(outputs)[:, 1] == pytest.approx(contest.codec.priors()[1])


def test_only_text_does_not_suit() -> None:
    """A table without a column that trees read has no boosting."""
    contest = contest_of(*mixed_table("binary", rows=40))
    columns = tuple(c.model_copy(update={"kind": "text"}) for c in contest.fingerprint.columns)
    texts = contest.fingerprint.model_copy(update={"columns": columns})

    with pytest.raises(Unsuited, match="No numeric"):
        boosted_columns(replace(contest, fingerprint=texts), ENOUGH)


def test_large_tables_are_drawn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of rows, or of cells, a part of them is used, and the note says how many."""
    contest = contest_of(*mixed_table("binary"))
    width = len(contest.fingerprint.used_columns)
    for name, limit in (("MOST_ROWS", 60), ("MOST_CELLS", 60 * width)):
        with monkeypatch.context() as patch:
            patch.setattr(f"smarttune.baselines.columns.{name}", limit)
            made = boosted_columns(contest, ENOUGH)
        assert made.note == "It was fitted on 60 of 180 training rows."


def test_equal_seeds_give_equal_answers() -> None:
    """Nothing but data and seed decides the answers."""
    contest = contest_of(*mixed_table("binary"))
    first, second = (boosted_columns(contest, ENOUGH).outputs for _ in range(2))

    assert np.array_equal(first, second)  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [0.0, 1.0, 30.0, 1e6])
def test_growth_keeps_to_its_time(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """With a second for each round, the allowance is overdrawn by the first round at most."""
    clock = Clock()
    monkeypatch.setattr("smarttune.baselines.contest.time", clock)
    spent, done = 0.0, 0
    for rounds in growing(Allowance(seconds)):
        spent += rounds - done
        clock.now += rounds - done
        done = rounds

    assert done >= 1
    assert spent <= max(seconds, 1.0)
    assert (done == ROUNDS[-1]) == (seconds >= ROUNDS[-1])


def test_growth_cut_by_the_clock_is_noted() -> None:
    """A reader knows that more time might have made a better rival."""
    contest = contest_of(*mixed_table("binary"))

    made = boosted_columns(contest, Allowance(0.0))

    assert "clock" in made.note
    assert "max_iter=1," in made.call
    assert boosted_columns(contest, ENOUGH).note == ""
