"""`smarttune plan`: measured for real, in words and as JSON, and the same in Python."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

import smarttune
from smarttune.cli.plan import duration
from tests.cli.calling import assert_mendable, call

WINE = Path(__file__).parents[2] / "examples" / "data" / "wine.csv"
SMALL = ("--set", "model.units=16", "--set", "model.num_layers=1")
TARGET = ("--target", "quality", "--problem", "regression")

keras_reads_variables = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (5.25, "5.25s"),
        (59.7, "59.7s"),
        (61, "1m01s"),
        (3599.6, "1h00m"),
        (9000, "2h30m"),
    ],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    """Seconds below a minute, minutes below an hour, hours above."""
    assert duration(seconds) == text


@pytest.mark.slow
@keras_reads_variables
def test_a_plan_for_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    """The shares of the time add up to it, and what is not varied is named with its value."""
    before = dt.datetime.now().astimezone()

    ended = call(capsys, "plan", WINE, *TARGET, *SMALL, "--time", "10m", "--format", "json")

    assert ended.code == 0, ended
    plan = json.loads(ended.out)
    assert plan["schema"] == "smarttune/plan@1"
    assert plan["paces"]["mlp"]["seconds_per_epoch"] > 0
    assert sum(plan["shares"].values()) == pytest.approx(600, abs=1)
    assert sum(r["num_trials"] for r in plan["rungs"]) == plan["num_trials"]
    assert plan["half"]["num_trials"] <= plan["num_trials"] <= plan["double"]["num_trials"]
    assert "optimizer.learning_rate" in plan["tuned"]
    assert not set(plan["tuned"]) & set(plan["kept"])
    finish = dt.datetime.fromisoformat(plan["finish"])
    assert finish >= before + dt.timedelta(seconds=599)


@pytest.mark.slow
@keras_reads_variables
def test_a_plan_for_trials(capsys: pytest.CaptureFixture[str]) -> None:
    """Trials are counted exactly, their time is told, and nothing is left out for want of time."""
    ended = call(capsys, "plan", WINE, *TARGET, *SMALL, "--trials", "7", "--strategy", "random")

    assert ended.code == 0, ended
    assert "About 7 configurations in 7 trials" in ended.out
    assert "The budget pays 7.0 full trainings" in ended.out
    assert "Strategy: random" in ended.out
    assert "Twice the budget: 14.0 full trainings" in ended.out
    assert "Started now, it ends by" in ended.out
    assert "for want of budget" not in ended.out


@pytest.mark.slow
@keras_reads_variables
def test_python_gives_the_same_form() -> None:
    """`smarttune.plan` returns what the command prints, frozen."""
    plan = smarttune.plan(
        WINE, "quality", epochs=50, problem="regression", strategy="random",
        pinned={"model.units": 16, "model.num_layers": 1},
    )  # fmt: skip

    assert plan.num_epochs <= 50
    assert plan.shares.trials is None
    assert json.loads(json.dumps(plan.to_json()))["strategy"] == "random"
    with pytest.raises(AttributeError):
        plan.strategy = "grid"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--time", "soon"), "1h30m"),
        (("--time", "5m", "--strategy", "hyperbound"), "hyperband"),
        (("--trials", "0"), "trials"),
    ],
)
@keras_reads_variables
def test_mistakes_tell_the_mend(
    options: tuple[str, ...], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback, and the option that was wrong."""
    assert_mendable(call(capsys, "plan", WINE, *TARGET, *options), part)
