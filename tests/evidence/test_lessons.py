"""Past runs become rules for data like theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from smarttune import suggest
from smarttune.errors import OptionError
from smarttune.evidence.lessons import FEWEST_GOOD, alike, learn_pack
from smarttune.job import search
from smarttune.learning import Source
from smarttune.rulebook import load_rulebook
from smarttune.tuning import Run
from tests.cli.calling import assert_mendable, call

pytestmark = [
    pytest.mark.slow,
    # Keras 3.15 on TensorFlow reads its variables in a way that NumPy 2 is about to end.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]

WINE = Path(__file__).parents[2] / "examples" / "data" / "wine.csv"
SMALL = {"search.max_epochs": 1, "model.num_layers": 1, "model.units": 16}
RATE = "optimizer.learning_rate"
TRIALS = 8


def part(folder: Path, name: str, rows: int) -> Path:
    """A file with some rows of the bundled table."""
    path = folder / f"{name}.csv"
    pd.read_csv(WINE).sample(rows, random_state=rows).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Searches of two tables of 120 and 150 rows, and of one with eight times as many."""
    folder = tmp_path_factory.mktemp("finished")
    base: dict[str, Any] = {
        "trials": TRIALS,
        "strategy": "random",
        "pinned": SMALL,
        "problem": "regression",
        "confirm": False,
        "adapt": False,
    }
    return [
        search(part(folder, name, rows), "quality", run=folder / f"run-{name}", **base)
        for name, rows in (("red", 120), ("white", 150), ("large", 1_000))
    ]


def test_like_data_are_told_of_together(runs: list[Run]) -> None:
    """Within a factor of three of the rows runs are one group, beyond it another."""
    groups = alike([Source(run) for run in runs])
    assert [[s.name for s in group] for group in groups] == [["red", "white"], ["large"]]


def test_the_best_region_of_past_runs_is_recommended_on_like_data(
    runs: list[Run], tmp_path: Path
) -> None:
    """The rate lies where the best trials had it; other sizes of data keep the general rules."""
    files = learn_pack(runs[:2], tmp_path / "ours")
    assert files
    book = load_rulebook(((tmp_path / "ours").resolve(),))
    new = part(tmp_path, "new", 130)
    setting = suggest(new, "quality", rules=book, problem="regression").settings[RATE]
    assert setting.because[0].rule.startswith("LOC")
    good = [r.values[RATE] for run in runs[:2] for r in Source(run).full_trials()[:FEWEST_GOOD]]
    assert min(good) <= setting.value <= max(good)
    assert all(setting.range.contains(setting.range.clamp(value)) for value in good)
    larger = part(tmp_path, "larger", 1_500)
    usual = suggest(larger, "quality", rules=book, problem="regression").settings[RATE]
    assert not usual.because[0].rule.startswith("LOC")


def test_more_runs_are_more_sure_and_replace_what_was_written(
    runs: list[Run], tmp_path: Path
) -> None:
    """Learning again from the same runs writes the same files; two runs count more than one."""
    folder = tmp_path / "ours"
    one = learn_pack(runs[:1], tmp_path / "one")
    two = learn_pack(runs[:2], folder)
    assert learn_pack(runs[:2], folder) == two
    sure = load_rulebook((folder.resolve(),))[two[0].name[:6]].confidence
    assert sure > load_rulebook(((tmp_path / "one").resolve(),))[one[0].name[:6]].confidence


def test_the_command_writes_a_pack_that_passes_its_check(
    runs: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`learn --pack` names each file and how to use it."""
    pack = tmp_path / "ours"
    ended = call(capsys, "learn", *[run.path for run in runs], "--pack", pack)
    assert ended.code == 0, ended
    assert ended.out.count("--rules") == len(list(pack.glob("LOC*.yaml"))) > 1
    assert call(capsys, "rules", "check", pack).code == 0


def test_where_to_write_must_be_said(runs: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a portfolio nor a pack is a mistake that is told."""
    assert_mendable(call(capsys, "learn", runs[0].path), "--pack")
    with pytest.raises(OptionError, match="named twice"):
        learn_pack([runs[0], runs[0]], "never-written")
