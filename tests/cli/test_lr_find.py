"""`smarttune lr-find`: a curve, a rate, its evidence, and what to type next."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.calling import assert_mendable, call

WINE = Path(__file__).parents[2] / "examples" / "data" / "wine.csv"
SMALL = ("--set", "model.units=16", "--set", "model.num_layers=1", "--steps", "60")
TARGET = ("--target", "quality", "--problem", "regression")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]


def test_it_draws_the_curve_and_names_the_next_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The picture is a PNG, the chosen rate is marked, and the command sets it."""
    picture = tmp_path / "curve.png"

    ended = call(capsys, "lr-find", WINE, *TARGET, *SMALL, "--plot", picture)

    assert ended.code == 0, ended
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "learning rate" in ended.out
    assert "(chosen)" in ended.out
    assert "The loss fell from" in ended.out
    assert "--set optimizer.learning_rate=" in ended.out.splitlines()[-1]


def test_json_holds_the_curve_and_the_suggestions(capsys: pytest.CaptureFixture[str]) -> None:
    """One object for programs, the same twice for the same seed."""
    arguments = ("lr-find", WINE, *TARGET, *SMALL, "--json", "--batch-size", "64", "--high", "1")

    first, second = (json.loads(call(capsys, *arguments).out) for _ in range(2))

    assert first == second
    assert first["learning_rates"][0] == pytest.approx(1e-7)
    assert max(first["learning_rates"]) <= 1.0
    assert f"optimizer.learning_rate={first['suggestion']:.2g}" in first["command"]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--low", "1", "--high", "0.1"), "high"),
        (("--steps", "2"), "num_steps"),
        (("--batch-size", "0"), "batch_size"),
        (("--set", "optimizer.name=adamm"), "adam"),
    ],
)
def test_mistakes_tell_the_mend(
    options: tuple[str, ...], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback, and the option that was wrong."""
    assert_mendable(call(capsys, "lr-find", WINE, *TARGET, *options), part)
