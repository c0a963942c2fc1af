"""Curves as pictures and as characters: the learning-rate range test, and lines in general."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smarttune.files import write_bytes

if TYPE_CHECKING:
    from smarttune.training.range_curve import RangeTest

Line = tuple[Sequence[float], Sequence[float]]  # positions and heights

# ours: told apart in print and by the colour-blind (Okabe and Ito 2008, without yellow).
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
_MARKERS = ("*", "o", "+", "x", "#", "%", "=")  # ours: told apart without colour
_BATCHES = "#bbbbbb"
_RESOLUTION = 120  # ours: dots per inch; about 840 pixels wide
# ours: a loss that breaks off leaves the picture; this share of the fall is shown above its start.
_SHOWN_RISE = 0.5
_NARROWEST, _LOWEST = 30, 8  # ours: characters; below it the frame leaves no room for a curve


def range_test_picture(test: RangeTest, path: str | Path) -> None:
    """Draw loss against rate as PNG, with every suggestion marked.

    Args:
        test: The range test.
        path: The file, written whole or not at all.

    Raises:
        RunError: If the file cannot be written.
    """
    figure, axis = _figure("learning rate", "loss of the batch")
    axis.set_xscale("log")
    axis.plot(test.learning_rates, test.losses, color=_BATCHES, linewidth=0.8, label="each batch")
    axis.plot(test.learning_rates, test.smoothed, color="black", linewidth=1.6, label="smoothed")
    for (name, rate), color in zip(test.suggestions().items(), _COLORS, strict=False):
        chosen = rate == test.suggestion
        style, width = ("-", 2.0) if chosen else ("--", 1.0)
        label = _named(name, rate, chosen=chosen)
        axis.axvline(rate, color=color, linestyle=style, linewidth=width, label=label)
    if test.diverged_at is not None:
        label = f"broke off at {test.diverged_at:.2g}"
        axis.axvline(test.diverged_at, color="red", linestyle=":", label=label)
    if (limits := _limits(test)) is not None:
        axis.set_ylim(*limits)
    axis.legend(frameon=False, fontsize=8)
    _save(figure, path)


def range_test_text(test: RangeTest, width: int = 80, height: int = 20) -> str:
    """Smoothed loss against rate in characters, with a list of the suggestions below.

    Args:
        test: The range test.
        width: Characters of a line.
        height: Lines of the curve; the suggestions take one each beside.

    Returns:
        Text without colour codes. Each suggestion stands as its letter on the curve.
    """
    names = list(test.suggestions().items())
    letters = [chr(ord("a") + number) for number in range(len(names))]
    marks = [
        (letter, rate, _height_at(test, rate))
        for letter, (_, rate) in zip(letters, names, strict=True)
    ]
    limits = _limits(test)
    drawn = _drawn(
        {"": (test.learning_rates, test.smoothed)},
        (width, height),
        marks=marks,
        limits=limits,
        x_label="learning rate",
        log_x=True,
    )
    listed = [
        f"{letter}  {_named(name, rate, chosen=rate == test.suggestion)}"
        for letter, (name, rate) in zip(letters, names, strict=True)
    ]
    return "\n".join([drawn, *listed])


def lines_picture(
    lines: Mapping[str, Line],
    path: str | Path,
    *,
    x_label: str = "",
    y_label: str = "",
    log_x: bool = False,
) -> None:
    """Draw named lines as PNG.

    Args:
        lines: Name to positions and heights.
        path: The file, written whole or not at all.
        x_label: What the positions are.
        y_label: What the heights are.
        log_x: Whether positions are spaced by their logarithm.

    Raises:
        RunError: If the file cannot be written.
    """
    figure, axis = _figure(x_label, y_label)
    if log_x:
        axis.set_xscale("log")
    for number, (name, (x, y)) in enumerate(lines.items()):
        axis.plot(x, y, color=_COLORS[number % len(_COLORS)], label=name.replace("$", r"\$"))
    if lines:
        axis.legend(frameon=False, fontsize=8)
    _save(figure, path)


def lines_text(
    lines: Mapping[str, Line],
    width: int = 80,
    height: int = 20,
    *,
    x_label: str = "",
    log_x: bool = False,
) -> str:
    """Named lines in characters, without colour codes; values that are not finite are left out.

    Args:
        lines: Name to positions and heights.
        width: Characters of a line.
        height: Lines of text.
        x_label: What the positions are.
        log_x: Whether positions are spaced by their logarithm.
    """
    return _drawn(lines, (width, height), x_label=x_label, log_x=log_x)


def _named(name: str, rate: float, *, chosen: bool) -> str:
    return f"{name.replace('_', ' ')} {rate:.2g}" + (" (chosen)" if chosen else "")


def _height_at(test: RangeTest, rate: float) -> float:
    import numpy as np

    return float(np.interp(math.log(rate), np.log(test.learning_rates), test.smoothed))


def _limits(test: RangeTest) -> tuple[float, float] | None:
    """Heights between which the fall fills the picture, whatever comes after it."""
    if not test.smoothed:
        return None
    bottom = test.smoothed.index(min(test.smoothed))
    low, high = test.smoothed[bottom], max(test.smoothed[: bottom + 1])
    rise = _SHOWN_RISE * (high - low) or abs(high) or 1.0
    return low - rise / 5, high + rise


def _figure(x_label: str, y_label: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    # A figure of its own has no window and leaves the user's pyplot alone.
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(visible=True, linewidth=0.4, alpha=0.5)
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    return figure, axis


def _save(figure: Any, path: str | Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    # Without the version of Matplotlib, equal curves make equal files.
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    write_bytes(Path(path), buffer.getvalue())


def _drawn(
    lines: Mapping[str, Line],
    size: tuple[int, int],
    *,
    marks: Sequence[tuple[str, float, float]] = (),
    limits: tuple[float, float] | None = None,
    x_label: str = "",
    log_x: bool = False,
) -> str:
    """Lines and single letters on one canvas of characters."""
    import plotext  # type: ignore[import-untyped]

    place = math.log10 if log_x else float
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.limit_size(False, False)
    plotext.plot_size(max(size[0], _NARROWEST), max(size[1], _LOWEST))
    positions: list[float] = []
    for number, (name, line) in enumerate(lines.items()):
        points = _points(line, limits, log_x=log_x)
        if points:
            positions += [place(x) for x, _ in points]
            heights = [y for _, y in points]
            marker = "braille" if len(lines) == 1 else _MARKERS[number % len(_MARKERS)]
            plotext.plot([place(x) for x, _ in points], heights, label=name or None, marker=marker)
    for letter, x, y in marks:
        plotext.scatter([place(x)], [y], marker=letter)
    if limits is not None:
        plotext.ylim(*limits)
    if log_x and positions:
        ticks = range(math.floor(min(positions)), math.ceil(max(positions)) + 1)
        plotext.xticks(list(ticks), [f"1e{tick}" for tick in ticks])
    plotext.xlabel(x_label)
    text = plotext.uncolorize(plotext.build())
    plotext.clear_figure()
    return "\n".join(row.rstrip() for row in text.rstrip().splitlines())


def _points(
    line: Line, limits: tuple[float, float] | None, *, log_x: bool
) -> list[tuple[float, float]]:
    low, high = limits or (-math.inf, math.inf)
    return [
        (x, y)
        for x, y in zip(*line, strict=True)
        if math.isfinite(x) and math.isfinite(y) and low <= y <= high and (x > 0 or not log_x)
    ]
