"""A uniform random sample of rows that arrive in pieces, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# Rows kept of a source that is too large to hold.
# ours: the statistics of 200,000 rows are exact to a fraction of a percent, and a dense
# network trains on them in seconds per epoch on two cores.
MAX_SAMPLED_ROWS = 200_000
# ours: cells kept at most, so that a wide table stays within about 1 GB while it is parsed.
MAX_SAMPLED_CELLS = 20_000_000


def row_limit(num_columns: int, max_rows: int | None) -> int:
    """Rows to keep of a streamed table with so many columns."""
    wanted = MAX_SAMPLED_ROWS if max_rows is None else max_rows
    return max(1, min(wanted, MAX_SAMPLED_CELLS // max(1, num_columns)))


class Reservoir:
    """Keeps `size` rows of all those added, each equally likely, in their first order.

    Every row draws a random key and the smallest keys stay, which needs one draw per row and
    no decision that depends on how the rows were cut into pieces.
    """

    def __init__(self, size: int, *, seed: int) -> None:
        import numpy as np

        self._size = size
        self._random = np.random.default_rng(seed)
        self._pieces: list[pd.DataFrame] = []
        self._keys = np.empty(0)
        self._threshold = np.inf
        self.num_rows = 0

    def add(self, piece: pd.DataFrame) -> None:
        """Offer the next rows of the source."""
        import numpy as np

        keys = self._random.random(len(piece))
        self.num_rows += len(piece)
        chosen = keys < self._threshold
        self._pieces.append(piece[chosen])
        self._keys = np.concatenate([self._keys, keys[chosen]])
        if len(self._keys) > 2 * self._size:
            self._prune()

    def rows(self) -> pd.DataFrame:
        """The sample so far, numbered from 0."""
        self._prune()
        return self._joined().reset_index(drop=True)

    @property
    def sampled(self) -> bool:
        """Whether some row had to be left out."""
        return self.num_rows > self._size

    def _joined(self) -> pd.DataFrame:
        import pandas as pd

        return self._pieces[0] if len(self._pieces) == 1 else pd.concat(self._pieces)

    def _prune(self) -> None:
        import numpy as np

        if len(self._keys) > self._size:
            kept = np.sort(np.argpartition(self._keys, self._size)[: self._size])
            self._pieces = [self._joined().iloc[kept]]
            self._keys = self._keys[kept]
            self._threshold = float(self._keys.max())
