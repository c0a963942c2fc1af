"""The files of a report in a run directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import smarttune.report.html
from smarttune.errors import RunError
from smarttune.report.files import write_report
from smarttune.report.summary import summarize
from smarttune.report.text import report_markdown
from smarttune.rulebook import Rulebook
from smarttune.trials import TrialLog
from smarttune.tuning.run import Run
from tests.report.test_summary import LOSS, UNITS, finished, recommendation, run_with, trial


def searched(path: Path) -> Run:
    """A run of two trials."""
    log = TrialLog(LOSS, [trial(0, 0.5, is_default=True), trial(1, 0.25, values={UNITS: 128})])
    return run_with(path, log, recommendation())


def test_three_files_tell_the_same(tmp_path: Path, book: Rulebook) -> None:
    """JSON, Markdown and page are written, and the run is finished."""
    run = searched(tmp_path / "run")
    made = summarize(run, finished(), book)
    assert not run.is_finished

    write_report(run, made)

    assert run.is_finished
    assert run.report() == made
    assert (run.path / "report.md").read_text(encoding="utf-8") == report_markdown(made)
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "the best trial 0.2500 (gain 0.2500)" in page
    assert {p.name for p in run.path.iterdir()} == {
        "fingerprint.json",
        "recommendation.json",
        "report.html",
        "report.json",
        "report.md",
        "run.json",
    }


def test_a_report_is_written_from_what_is_on_disk(tmp_path: Path, book: Rulebook) -> None:
    """Trials recorded in the study and settings read from files give the same report."""
    kept = searched(tmp_path / "run")
    expected = summarize(kept, finished(), book)
    run = Run.load(kept.path)
    for record in kept.log:
        run.record(record)

    made = summarize(Run.load(kept.path), finished(), book)
    write_report(run, made)

    assert made == expected
    assert "<svg" in (run.path / "report.html").read_text(encoding="utf-8")


def test_a_report_replaces_the_one_before(tmp_path: Path, book: Rulebook) -> None:
    """After a resume the new report stands alone."""
    run = searched(tmp_path / "run")
    made = summarize(run, finished(), book)
    write_report(run, made)

    write_report(run, made | {"strategy": "bayesian"})

    assert run.report()["strategy"] == "bayesian"
    assert "Strategy bayesian" in (run.path / "report.md").read_text(encoding="utf-8")


def test_a_failed_page_leaves_the_run_unfinished(
    tmp_path: Path, book: Rulebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """report.json is written last, so that a run with half a report can be resumed."""
    run = searched(tmp_path / "run")
    made = summarize(run, finished(), book)

    def fail(*_: Any) -> str:
        raise RuntimeError("no page")

    monkeypatch.setattr(smarttune.report.html, "report_html", fail)
    with pytest.raises(RuntimeError, match="no page"):
        write_report(run, made)

    assert not run.is_finished
    with pytest.raises(RunError, match="has not ended"):
        run.report()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, book: Rulebook) -> None:
    """A report that cannot be written is the run's error and names the file."""
    run = searched(tmp_path / "run")
    made = summarize(run, finished(), book)
    (run.path / "report.json").mkdir()

    with pytest.raises(RunError, match=r"report\.json: it cannot be written"):
        write_report(run, made)

    assert not [p.name for p in run.path.iterdir() if p.name.startswith(".report")]


def refuse(constant: str) -> float:
    """JSON knows no NaN and no infinity."""
    raise ValueError(f"{constant} is not JSON")


def test_a_metric_without_a_value_is_null(tmp_path: Path, book: Rulebook) -> None:
    """An AUC of rows of one class does not make report.json unreadable elsewhere."""
    run = searched(tmp_path / "run")
    undefined = {"mean_squared_error": float("nan"), "r2_score": 0.5}

    write_report(run, summarize(run, finished(best=undefined), book))

    text = (run.path / "report.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse)["test"]["best"]["mean_squared_error"] is None
