"""Report -> one self-contained HTML page with inline SVG plots."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from smarttune.recommendation import Recommendation
from smarttune.report.text import baseline_sentences, commands, headline, score, tested
from smarttune.space import Fixed, show_value
from smarttune.trials import TrialLog

# ours: one hue for the search, one for the recommendation, readable for the colour-blind.
_SEARCH, _DEFAULT = "#3b6ea5", "#d1711f"
_CURVES = 8  # ours: more curves cannot be told apart


def report_html(report: Mapping[str, Any], log: TrialLog, recommendation: Recommendation) -> str:
    """Return the page."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("smarttune.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = score
    environment.filters["value"] = lambda v: "-" if v is None else show_value(v)
    return environment.get_template("report.html").render(
        report=report,
        headline=headline(report),
        commands=commands(report),
        tested=tested(report),
        baseline_sentences=baseline_sentences(report),
        plots=plots(log, recommendation, report.get("front")),
        settings=recommendation.settings,
        changed=[c["hyperparameter"] for c in report["changes"]],
    )


def plots(
    log: TrialLog, recommendation: Recommendation, front: Mapping[str, Any] | None = None
) -> list[tuple[str, str]]:
    """Return (title, SVG) of each plot that the trials support.

    Args:
        log: The trials.
        recommendation: Where the search started from.
        front: The report's Pareto front, where there were several objectives.
    """
    drawn = [
        ("Best score over trials", _history(log)),
        ("Validation curves of the best trials", _curves(log)),
        ("Score against each searched hyperparameter", _slices(log, recommendation)),
        ("Pareto front: score against cost", _front(log, front) if front else ""),
    ]
    return [(title, _own_ids(svg, i)) for i, (title, svg) in enumerate(drawn) if svg]


def _own_ids(svg: str, number: int) -> str:
    """Matplotlib numbers the elements of every figure alike; a page needs each id once."""
    return re.sub(r'(id="|href="#|url\(#)', rf"\g<1>plot{number}-", svg)


def _figure(width: float, height: float, columns: int = 1, rows: int = 1) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(visible=True, linewidth=0.4, alpha=0.5)
    return figure, axes


def _svg(figure: Any) -> str:
    from matplotlib import rc_context

    buffer = io.StringIO()
    # Text stays text, so that the page is small and searchable.
    with (
        rc_context({"svg.fonttype": "none", "svg.hashsalt": "smarttune"}),
        warnings.catch_warnings(),
    ):
        # The reader's browser draws the text, so glyphs that Matplotlib lacks do not matter.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _history(log: TrialLog) -> str:
    scored = [(i, r) for i, r in enumerate(log, start=1) if r.is_scored]
    if len(scored) < 2:
        return ""
    figure, axes = _figure(7, 3)
    axis = axes[0][0]
    best: list[float] = []
    for _, record in scored:
        value = float(record.score or 0.0)
        best.append(value if not best or log.objective.better(value, best[-1]) else best[-1])
    axis.scatter(
        [i for i, _ in scored], [r.score for _, r in scored], s=14, color=_SEARCH, alpha=0.6
    )
    axis.step([i for i, _ in scored], best, where="post", color=_SEARCH, label="best so far")
    if (default := log.default()) is not None:
        axis.axhline(
            float(default.score or 0.0), color=_DEFAULT, linestyle="--", label="recommendation"
        )
    _robust_limits(axis, [float(r.score or 0.0) for _, r in scored])
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_xlabel("trial")
    axis.set_ylabel(log.objective.name)
    axis.legend(frameon=False)
    return _svg(figure)


def _curves(log: TrialLog) -> str:
    top = [r for r in log.ranked() if len(r.curve) > 1][:_CURVES]
    if not top:
        return ""
    figure, axes = _figure(7, 3)
    axis, name = axes[0][0], log.objective.name
    for record in reversed(top):
        values = [logs.get(name, math.nan) for logs in record.curve]
        color = _DEFAULT if record.is_default else _SEARCH
        label = "recommendation" if record.is_default else None
        axis.plot(
            range(1, len(values) + 1), values, color=color, alpha=0.8, linewidth=1, label=label
        )
        if record.best_epoch:
            axis.scatter([record.best_epoch], [record.score], s=16, color=color)
    axis.set_xlabel("epoch")
    axis.set_ylabel(name)
    if any(r.is_default for r in top):
        axis.legend(frameon=False)
    return _svg(figure)


def _front(log: TrialLog, front: Mapping[str, Any]) -> str:
    """Every trial by its costs and its score, those of the front joined."""
    trials = front["trials"]
    if len(trials) < 2:
        return ""
    figure, axes = _figure(7, 3, columns=len(front["costs"]))
    for axis, (name, unit) in zip(axes.flat, front["costs"].items(), strict=True):
        others = [(getattr(r, name), r.score) for r in log if r.is_scored]
        cheapest = sorted((t["costs"][name], t["score"]) for t in trials)
        axis.scatter(*zip(*[p for p in others if p[0] is not None], strict=True), s=12, alpha=0.4)
        # Under a third objective the line may go up and down; it still tells which are on it.
        axis.plot(*zip(*cheapest, strict=True), color=_DEFAULT, marker="o", markersize=4)
        axis.set_xscale("log")
        axis.set_xlabel(f"{name} ({unit})", fontsize=8)
    axes[0][0].set_ylabel(log.objective.name)
    return _svg(figure)


def _slices(log: TrialLog, recommendation: Recommendation) -> str:
    names = [
        n
        for n, s in recommendation.settings.items()
        if not isinstance(s.range, Fixed) and len({str(r.values.get(n)) for r in log}) > 2
    ][:9]
    if not names:
        return ""
    columns = min(3, len(names))
    figure, axes = _figure(
        7.5, 2.2 * math.ceil(len(names) / columns), columns, math.ceil(len(names) / columns)
    )
    for axis, name in zip(axes.flat, names, strict=False):
        _slice(axis, name, log, recommendation)
    for axis in list(axes.flat)[len(names) :]:
        axis.set_visible(False)
    return _svg(figure)


def _slice(axis: Any, name: str, log: TrialLog, recommendation: Recommendation) -> None:
    setting = recommendation.settings[name]
    points = [(r.values[name], r.score) for r in log if r.is_scored and name in r.values]
    values: Sequence[Any] = [v for v, _ in points]
    if any(isinstance(v, (str, bool)) for v in values):
        values = [_plain(show_value(v)) for v in values]
    elif (
        setting.range.type in ("float", "int")
        and getattr(setting.range, "sampling", "") != "linear"
    ):
        axis.set_xscale("log", base=2 if setting.range.type == "int" else 10)
    elif setting.range.type == "int":
        axis.xaxis.get_major_locator().set_params(integer=True)
    scores = [float(s or 0.0) for _, s in points]
    axis.scatter(values, scores, s=12, color=_SEARCH, alpha=0.6)
    default = (
        _plain(show_value(setting.value))
        if isinstance(setting.value, (str, bool))
        else setting.value
    )
    if not isinstance(default, str) or default in values:
        axis.axvline(default, color=_DEFAULT, linestyle="--", linewidth=1)
    _robust_limits(axis, scores)
    axis.set_xlabel(_plain(name), fontsize=8)
    axis.tick_params(labelsize=7)


def _plain(text: str) -> str:
    """Keep Matplotlib from reading a formula between dollar signs."""
    return text.replace("$", r"\$")


def _robust_limits(axis: Any, scores: Sequence[float]) -> None:
    """Keep one failed trial from flattening all others."""
    ordered = sorted(scores)
    if len(ordered) < 8:
        return
    quarter = len(ordered) // 4
    low, high = ordered[quarter], ordered[-quarter - 1]
    reach = 3 * (high - low)
    if reach > 0:
        axis.set_ylim(
            max(ordered[0], low - reach) - 0.05 * reach,
            min(ordered[-1], high + reach) + 0.05 * reach,
        )
