"""The report's files in a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smarttune.files import write_json, write_text
from smarttune.report.text import report_markdown
from smarttune.tuning.run import Run


def write_report(run: Run, report: Mapping[str, Any]) -> None:
    """Write report.md, report.html and, last, report.json, which marks the run as finished."""
    from smarttune.report.html import report_html

    write_text(run.path / "report.md", report_markdown(report))
    write_text(run.path / "report.html", report_html(report, run.log, run.recommendation))
    write_json(run.path / "report.json", report)
