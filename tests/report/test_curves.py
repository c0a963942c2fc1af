"""Curves as pictures and as characters."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from PIL import Image

from smarttune.errors import RunError
from smarttune.report.curves import lines_picture, lines_text, range_test_picture, range_test_text
from smarttune.training.range_curve import GrowingCurve, RangeTest

FALLING = [2.0, 2.0, 1.99, 1.98, 1.6, 1.2, 1.0, 0.9, 0.95, 0.98, 1.2, 1.5, 9.0]


def curve(losses: list[float]) -> RangeTest:
    """The range test of given losses, without smoothing."""
    growing = GrowingCurve(4.0, 0.0)
    for number, loss in enumerate(losses):
        growing.goes_on(10.0 ** (number - 7), loss)
    return growing.finished()


def test_a_picture_is_a_png_whole_or_absent(tmp_path: Path) -> None:
    """The picture opens, two of one curve are equal, and nothing else is written."""
    for name in ("a.png", "b.png"):
        range_test_picture(curve(FALLING), tmp_path / name)

    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > picture.height > 200
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_a_picture_without_a_suggestion_is_drawn(tmp_path: Path) -> None:
    """Flat and empty curves are drawn too."""
    for losses in ([1.0] * 20, []):
        range_test_picture(curve(losses), tmp_path / "flat.png")

        assert (tmp_path / "flat.png").stat().st_size > 1000


def test_a_picture_that_cannot_be_written_is_the_users_error(tmp_path: Path) -> None:
    """A folder that is a file is named."""
    (tmp_path / "file").write_text("")

    with pytest.raises(RunError, match="file"):
        range_test_picture(curve(FALLING), tmp_path / "file" / "a.png")


def test_text_marks_and_lists_every_suggestion() -> None:
    """Each suggestion has a line with its rate, and the chosen one says so; no colour codes."""
    found = curve(FALLING)

    text = range_test_text(found, 70, 16)

    assert "\x1b" not in text
    rows = text.splitlines()
    assert len(rows) == 16 + len(found.suggestions())
    assert max(map(len, rows)) <= 70
    for name, rate in found.suggestions().items():
        assert any(name.replace("_", " ") in r and f"{rate:.2g}" in r for r in rows[16:])
    assert sum("(chosen)" in row for row in rows) >= 1
    letters = {row[0] for row in rows[16:]}
    drawn = {letter for letter in letters if any(letter in row for row in rows[:14])}
    assert len(drawn) >= 3
    assert "1e-5" in text


def test_text_without_a_suggestion_is_the_curve_alone() -> None:
    """Flat and empty curves are drawn without a list."""
    for losses in ([1.0] * 20, []):
        assert len(range_test_text(curve(losses), 60, 12).splitlines()) <= 12


def test_lines_are_named_and_skip_what_is_not_finite(tmp_path: Path) -> None:
    """Several lines share a canvas; numbers that are not finite leave gaps."""
    lines = {"up": ([1, 2, 3], [1.0, 2.0, 3.0]), "down": ([1, 2, 3], [3.0, math.nan, 1.0])}

    text = lines_text(lines, 60, 12)
    lines_picture(lines, tmp_path / "lines.png", x_label="epoch", log_x=True)

    assert "up" in text
    assert "down" in text
    assert "*" in text
    assert "o" in text
    assert "nan" not in text
    assert (tmp_path / "lines.png").stat().st_size > 1000
