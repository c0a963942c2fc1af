"""Early stopping on a window of epochs, with a state that can be saved."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from smarttune.objectives import Direction


@dataclass
class WindowedStopping:
    """Stops when the mean over a window has not improved for `patience` epochs.

    A single validation score is noisy; the mean of the last `window` scores is
    compared with the best such mean (the windowed rule among the early-stopping
    classes that Prechelt 1998, "Early Stopping - But When?", compares).

    Args:
        patience: Epochs without a better mean before `update` says stop.
        window: Epochs averaged; 1 compares single scores.
        direction: Whether higher or lower scores are better.
    """

    patience: int
    window: int = 1
    direction: Direction = "min"
    recent: list[float] = field(default_factory=list)
    best_mean: float = math.nan
    epochs_since_best: int = 0

    def update(self, score: float) -> bool:
        """Take in one epoch's score; return whether to stop."""
        self.recent = [*self.recent[-(self.window - 1) :], score] if self.window > 1 else [score]
        mean = fmean(self.recent)
        sign = -1.0 if self.direction == "max" else 1.0
        if math.isnan(self.best_mean) or sign * mean < sign * self.best_mean:
            self.best_mean, self.epochs_since_best = mean, 0
        else:
            self.epochs_since_best += 1
        return self.epochs_since_best >= self.patience

    def replay(self, scores: Sequence[float]) -> None:
        """Take in the scores of epochs that were trained before."""
        for score in scores:
            self.update(score)
