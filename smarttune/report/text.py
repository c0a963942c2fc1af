"""Report -> plain text and Markdown."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from smarttune.space import show_value

_SHOWN = 5
_SMALL = 0.001  # below it four decimals leave too little


def report_text(report: Mapping[str, Any]) -> str:
    """Return the report for a terminal."""
    return "\n".join(_lines(report, heading=lambda t: [t, "-" * len(t)], table=_plain_table))


def report_markdown(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    body = _lines(report, heading=lambda t: [f"## {t}", ""], table=_markdown_table)
    return "\n".join([f"# Search on {report['data']['source']}", "", *body]) + "\n"


def headline(report: Mapping[str, Any]) -> str:
    """Say in a sentence or two whether searching paid."""
    objective, best, default = report["objective"]["name"], report["best"], report["default"]
    if default is None:
        return f"Best {objective} {score(best['score'])}; the recommendation itself left no score."
    gain = report["gain"]
    text = (
        f"The recommendation reached {objective} {score(default['score'])}, "
        f"the best trial {score(best['score'])} (gain {score(gain)})."
    )
    if best["trial_id"] == default["trial_id"]:
        return text + " No other trial beat the recommendation: keep it."
    return f"{text} {_test_sentence(report['test'])}"


def _test_sentence(test: Mapping[str, Any]) -> str:
    found = test["difference"]
    if found is None:
        return ""
    interval = (
        f"{score(found['gain'])} (95 % interval {score(found['low'])} to {score(found['high'])})"
    )
    rows = f"On {test['rows']:,} held-back rows the gain in {test['metric']} is {interval}"
    if not found["is_real"]:
        return f"{rows}: not beyond chance, so the recommendation alone would have served as well."
    if found["gain"] < 0:
        return f"{rows}: there the recommendation is better, so the validation gain was luck."
    return f"{rows}: it holds."


def score(value: float | None) -> str:
    """A score with as many digits as it deserves."""
    if value is None:
        return "none"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4f}" if _SMALL <= abs(value) < 1 or value == 0 else f"{value:.4g}"


def _lines(report: Mapping[str, Any], *, heading: Any, table: Any) -> list[str]:
    lines = [headline(report), ""]
    spent = f"{report['num_trials']} trials, {report['num_epochs']} epochs, {report['seconds']} s"
    outcomes = ", ".join(f"{n} {o}" for o, n in sorted(report["outcomes"].items()))
    lines += [f"Strategy {report['strategy']}: {spent} ({outcomes}).", ""]
    lines += [*heading("Leaderboard"), *table(*_leaderboard(report)), ""]
    if report.get("front"):
        lines += [*heading("Pareto front"), *table(*_front(report)), ""]
        lines += [report["front"]["note"], ""]
    if report["changes"]:
        rows = [
            [c["hyperparameter"], _value(c["default"]), _value(c["best"])]
            for c in report["changes"]
        ]
        lines += [*heading("What the winner changed")]
        lines += [*table(["hyperparameter", "recommended", "best"], rows), ""]
    if report.get("adaptations"):
        lines += [*heading("What the search changed and why"), *table(*_adaptations(report)), ""]
    if report["verdicts"]:
        rows = [
            [v["rule"], v["hyperparameter"], v["verdict"], v["why"]] for v in report["verdicts"]
        ]
        lines += [*heading("Did the rules hold?")]
        lines += [*table(["rule", "hyperparameter", "verdict", "because"], rows), ""]
    lines += [*heading("Held-back test rows"), *table(*_test_table(report)), ""]
    lines += [*baseline_sentences(report), ""]
    for title, text in report["extras"].items():
        lines += [*heading(title), *text.splitlines(), ""]
    lines += heading("Next")
    lines += [f"- {s['rule']}: {s['text']}" for s in report["next"]]
    lines += [f"- `{command}`" for command in commands(report)]
    return lines


def commands(report: Mapping[str, Any]) -> list[str]:
    """What to type next."""
    run = shlex.quote(report["run"])
    return [
        f"smarttune predict {run} new.csv -o predictions.csv",
        f"smarttune export {run} model.keras",
        f"smarttune resume {run} --time 10m",
        f"smarttune cite {run}",
    ]


def _leaderboard(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    varied = [c["hyperparameter"] for c in report["changes"]][:_SHOWN]
    header = ["trial", report["objective"]["name"], "epochs", "seconds", *varied]
    rows = []
    for trial in report["leaderboard"]:
        name = trial["trial_id"] + (" (recommended)" if trial["is_default"] else "")
        cells = [_value(trial["values"].get(v)) for v in varied]
        rows.append(
            [
                name,
                score(trial["score"]),
                str(trial["num_epochs"]),
                f"{trial['seconds']:.1f}",
                *cells,
            ]
        )
    return header, rows


def _front(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    costs = report["front"]["costs"]
    header = ["trial", report["objective"]["name"], *(f"{n} ({unit})" for n, unit in costs.items())]
    rows = [
        [
            t["trial_id"]
            + (" (exported)" if t["is_exported"] else "")
            + (" (recommended)" if t["is_default"] else ""),
            *map(score, (t["score"], *(t["costs"][name] for name in costs))),
        ]
        for t in report["front"]["trials"]
    ]
    return header, rows


def _adaptations(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    header = ["after trial", "rule", "change", "best before", "best under it", "now", "because"]
    rows = [
        [
            str(a["num_trials"]),
            a["rule"],
            f"{a['hyperparameter']}: {a['before']} to {a['after']}"
            if a["after"]
            else a["hyperparameter"],
            score(a["best_before"]),
            f"{score(a['best_after'])} ({a['num_under']} trials)",
            a["state"],
            a["because"],
        ]
        for a in report["adaptations"]
    ]
    return header, rows


def _test_table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    names = list(report["test"]["best"])
    rows = [
        [model, *(score(metrics.get(n)) for n in names)]
        for model, metrics in tested(report).items()
    ]
    return ["model", *names], rows


def tested(report: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    """Every model that was scored on the held-back rows, and its metrics."""
    found = {"best": report["test"]["best"], "recommended": report["test"]["default"]}
    found |= {f"{b['name']} (no network)": b["metrics"] for b in report["baselines"]}
    return {model: metrics for model, metrics in found.items() if metrics}


def baseline_sentences(report: Mapping[str, Any]) -> list[str]:
    """What the comparison with models without a network comes to, and what limited it."""
    notes = [f"{b['name'].capitalize()}: {b['note']}" for b in report["baselines"] if b["note"]]
    return [*([report["verdict"]] if report["verdict"] else []), *notes]


def _value(value: Any) -> str:
    return "-" if value is None else show_value(value)


def _one_line(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Cells without line breaks, so that a row stays a row."""
    return [[" ".join(cell.split()) for cell in row] for row in rows]


def _plain_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    table = _one_line([header, *rows])
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"

    first, *rest = _one_line([header, *rows])
    return [line(first), line(["---"] * len(header)), *(line(row) for row in rest)]
