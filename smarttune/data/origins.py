"""Where forecasts begin: the steps of series that training, validation and test start from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from smarttune.data.series import SeriesContent
from smarttune.data.splitting import Split
from smarttune.errors import DataError


def origins(content: SeriesContent, window: int) -> npt.NDArray[np.int64]:
    """The last step of every window that has a whole history and a whole future.

    Args:
        content: The series; it tells the horizon.
        window: Steps of history.

    Returns:
        Row numbers, rising.
    """
    rows = np.arange(len(content))
    first = content.starts[content.owners]
    last = content.starts[content.owners + 1] - 1
    return rows[(rows - first >= window - 1) & (rows + content.horizon <= last)]


def temporal_split(
    content: SeriesContent, *, window: int, validation_fraction: float, test_fraction: float
) -> Split:
    """Divide forecasts by time: training, then validation, then test.

    All series are cut at the same two moments. A forecast belongs to the part in which all the
    steps lie that it predicts, so no step is predicted in two parts; forecasts across a cut
    are in none. What a window reads may lie in an earlier part, as it would in use.

    Args:
        content: The series.
        window: Steps of history that a forecast reads.
        validation_fraction: Share of the steps that validation predicts; it is at least one
            horizon long.
        test_fraction: Share of the steps that the test predicts, likewise.

    Returns:
        Last steps of the windows of each part.

    Raises:
        DataError: If a part that was asked for has no forecast.
    """
    places = np.sort(content.places)
    horizon = content.horizon
    test = _cut(places, round(len(places) * test_fraction), int(places[-1]) + 1, horizon)
    before = places[places < test]
    validation = _cut(before, round(len(places) * validation_fraction), test, horizon)
    part = np.searchsorted([validation, test], content.places, side="right")
    rows = origins(content, window)
    whole = rows[part[np.minimum(rows + 1, len(part) - 1)] == part[rows + horizon]]
    parts = [whole[part[whole + horizon] == i] for i in range(3)]
    asked = (1.0, validation_fraction, test_fraction)
    names = ("training", "validation", "test")
    for name, share, found in zip(names, asked, parts, strict=True):
        if share > 0 and not len(found):
            raise DataError(
                "series",
                received=f"no forecast of {horizon:,} step(s) from {window:,} step(s) of history "
                f"fits into the {name} part; the longest series has "
                f"{int(np.diff(content.starts).max()):,} steps",
                expected="series that are several times as long as history and horizon together",
                mend="Forecast fewer steps (--horizon), read less history (--window-length), or "
                "bring longer series.",
            )
    return Split(*parts)


def _cut(places: npt.NDArray[np.int64], count: int, end: int, horizon: int) -> int:
    """The place where the last so many of some sorted places begin, a horizon before the end."""
    if not count or not len(places):
        return end
    return int(min(places[max(0, len(places) - count)], end - horizon))
