"""The same two commands for every kind of data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from smarttune.tuning import Run
from tests.cli.calling import assert_mendable, call
from tests.cli.sources import SOURCES, image_folder, sequences, series, wav_folder

# Rows of predictions for the source itself: one per sample, per step of the forecast, per text.
PREDICTED = {
    "image": 30,
    "audio": 30,
    "text-folder": 40,
    "text-lines": 60,
    "timeseries": 7,
    "sequence": 60,
    "text-corpus": 1,
}

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("kind", SOURCES)
def test_suggest_measures_every_kind_of_data(kind: str, capsys: Capture, tmp_path: Path) -> None:
    """A recommendation for the right kind of data, from facts that were measured on it."""
    make, options, fact = SOURCES[kind]

    ended = call(capsys, "suggest", make(tmp_path), *options, "--format", "json")

    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["facts"]["data.task"]["value"] == kind.partition("-")[0]
    assert found["facts"][fact]["origin"] == "measured"
    assert "model.family" in found["settings"]
    assert "training.batch_size" in found["settings"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", SOURCES)
def test_search_trains_predicts_and_exports_every_kind_of_data(
    kind: str, capsys: Capture, tmp_path: Path
) -> None:
    """Two short trials leave a report with a yardstick, predictions and a whole model."""
    make, options, _ = SOURCES[kind]
    data, run = make(tmp_path), tmp_path / "run"
    short = ("--set", "search.max_epochs=2", "--set", "training.epochs=2", "--strategy", "random")

    ended = call(capsys, "search", data, *options, "--trials", "2", *short, "--run", run, "--plain")

    assert ended.code == 0, ended.err
    opened = Run.load(run)
    report = opened.report()
    assert report["num_trials"] == 2
    assert report["export"] == {"model": "model.keras", "reason": ""}
    assert any(b["metrics"] for b in report["baselines"])
    assert "(no network)" in ended.out
    exported = call(capsys, "export", run, tmp_path / "model.keras")
    assert exported.code == 0
    assert "it takes " in exported.err
    predicted = call(capsys, "predict", run, data, "-o", tmp_path / "out.csv")
    assert predicted.code == 0, predicted.err
    assert len(pd.read_csv(tmp_path / "out.csv")) == PREDICTED[kind]


@pytest.mark.slow
def test_a_search_on_a_folder_goes_on(capsys: Capture, tmp_path: Path) -> None:
    """`resume` finds the folder again and adds a trial; after a file has gone it refuses."""
    data, run = image_folder(tmp_path), tmp_path / "run"
    short = ("--set", "search.max_epochs=1", "--strategy", "random", "--trials")
    assert call(capsys, "search", data, *short, "1", "--run", run, "-q").code == 0

    assert call(capsys, "resume", run, "--trials", "2", "-q").code == 0
    assert len(Run.load(run).log) == 2

    next(data.rglob("*.png")).unlink()
    assert_mendable(call(capsys, "resume", run, "--trials", "3", "-q"), "have changed")


def test_a_column_may_keep_samples_together(capsys: Capture, tmp_path: Path) -> None:
    """`--group` takes a column out of the inputs and counts its groups."""
    path = tmp_path / "visits.csv"
    rows = [f"{i % 9},{i * 0.37 % 5:.2f},{i % 2}" for i in range(90)]
    path.write_text("\n".join(["patient,dose,ill", *rows]) + "\n", encoding="utf-8")

    ended = call(capsys, "suggest", path, "-t", "ill", "--group", "patient", "-f", "json")

    facts = json.loads(ended.out)["facts"]
    assert facts["data.num_groups"]["value"] == 9
    assert facts["data.num_features"]["value"] == 1


def test_mistakes_about_sources_are_mendable(capsys: Capture, tmp_path: Path) -> None:
    """Folders, options and columns that cannot be: one paragraph with the mend."""
    empty = tmp_path / "empty"
    empty.mkdir()
    pictures, sales, waves = image_folder(tmp_path), series(tmp_path), sequences(tmp_path)
    tones = wav_folder(tmp_path)
    shutil.copy(next(pictures.rglob("*.png")), pictures / "stray.png")

    assert_mendable(call(capsys, "suggest", empty), "no sample file")
    assert_mendable(call(capsys, "suggest", pictures), "stray.png", "beside the class folders")
    assert_mendable(call(capsys, "suggest", tones, "-t", "pitch"), "--target", "folder")
    asked = ("suggest", sales, "-t", "sold")
    assert_mendable(call(capsys, *asked, "--horizon", "0"), "horizon", "at least")
    assert_mendable(call(capsys, *asked, "--horizon", "500"), "500")
    assert_mendable(
        call(capsys, *asked, "--horizon", "7", "--time-column", "dya"), "Did you mean `day`?"
    )
    assert_mendable(call(capsys, *asked, "--horizon", "7", "--series-column", "shop"), "no column")
    assert_mendable(call(capsys, "suggest", waves, "--task", "image"), "image", "sequence")
    assert_mendable(call(capsys, "suggest", sales, "-t", "sold", "--group", "shop"), "shop")
