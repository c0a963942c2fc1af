"""`smarttune rules test`: which rules can be tested, and what came of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smarttune.evidence import experiments
from smarttune.evidence.experiments import Measured
from tests.cli.calling import assert_mendable, call

WINE = Path(__file__).parents[2] / "examples" / "data" / "wine.csv"
DATA = ("--data", WINE, "--target", "quality")


@pytest.fixture
def _no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks with ReLU have half the error of others, without training any."""

    def measure(self: object, values: dict[str, object], seed: int) -> Measured:
        return Measured(0.4 if values.get("model.activation") == "relu" else 0.8 + seed / 10, 5, 1)

    monkeypatch.setattr(experiments.TrainingBench, "measure", measure)


def test_without_a_code_it_lists_what_can_be_tested(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with its question and the latest verdict."""
    ended = call(capsys, "rules", "test")
    assert ended.code == 0
    assert "CAP012" in ended.out
    assert "rules can be put to the test" in ended.err
    found = json.loads(call(capsys, "rules", "test", "--json").out)
    assert set(found.values()) <= {"holds", "no difference", "contradicted", "not tested yet"}


@pytest.mark.usefixtures("_no_training")
def test_a_verdict_comes_with_effect_interval_and_cost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The line says how much, how sure, from how many trainings."""
    ended = call(capsys, "rules", "test", "CAP012", *DATA, "--seeds", 3, "--quiet")
    assert ended.code == 0, ended
    assert "HOLDS: 5" in ended.out
    assert "6 trainings" in ended.out
    assert "wine" in ended.out


@pytest.mark.usefixtures("_no_training")
def test_a_pack_of_ones_own_is_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The pack can be used at once, with the option that the message names."""
    pack = tmp_path / "mine"
    ended = call(capsys, "rules", "test", "CAP012", *DATA, "--pack", pack, "--json")
    assert ended.code == 0, ended
    events = [json.loads(line) for line in ended.out.splitlines()]
    assert events[-1]["verdict"] == "holds"
    assert "--rules" in ended.err
    checked = call(capsys, "rules", "check", pack)
    assert checked.code == 0, checked


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("CAP999",), "CAP999"),
        (("TAB005",), "no `check`"),
        (("CAP012", "--pack", "x"), "--data"),
        (("CAP012", "--target", "y"), "--data"),
        (("CAP012", "--problem", "binary"), "--data"),
        (DATA, "no rule to test"),
        (("CAP012", "--on", "cancr"), "cancer"),
        (("CAP012", *DATA, "--on", "wine"), "one of them"),
    ],
)
def test_mistakes_are_told(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: str
) -> None:
    """Unknown rules, rules without a check, and options that do not go together."""
    ended = call(capsys, "rules", "test", *arguments)
    assert_mendable(ended, expected)
