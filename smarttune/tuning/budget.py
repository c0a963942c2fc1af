"""How much a search may spend, and when it must end."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

from smarttune.errors import OptionError

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "": 1.0}

# ours: what the end of a search takes (restoring, testing, exporting, reporting) on two
# cores, kept free at the end of a time budget.
RESERVED_SECONDS = 15.0
RESERVED_SHARE = 0.05

# ours: what models without a network may take of a time budget, and at most.
BASELINE_SHARE = 0.08
BASELINE_SECONDS = 30.0

# ours: the first trial is the recommendation at full length, and a later one may be a network that
# is sixty times as slow; neither may eat a time budget that others should share.
TRIAL_SHARE = 0.3

# ours: but with less than this no network gets beyond compiling and its first epochs on two cores.
TRIAL_SECONDS = 20.0


@dataclass(frozen=True)
class Budget:
    """What limits a search; None means no limit.

    Attributes:
        seconds: Wall time from the start of the search, its end included.
        trials: Trials, whatever becomes of them.
        epochs: Epochs trained over all trials.
    """

    seconds: float | None = None
    trials: int | None = None
    epochs: int | None = None

    def __post_init__(self) -> None:
        for name in ("seconds", "trials", "epochs"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise OptionError(
                    f"budget: {name}",
                    received=f"{value}",
                    expected="more than 0",
                    mend="Give the search something to spend, for example --time 10m.",
                )

    def facts(self, *, num_workers: int = 1) -> dict[str, Any]:
        """The budget as facts for the rules.

        Args:
            num_workers: Trials that run at a time.
        """
        kind = "time" if self.seconds else "epochs" if self.epochs else "trials"
        return {
            "budget.type": kind,
            "budget.seconds": self.seconds,
            "budget.num_trials": self.trials,
            "budget.num_epochs": self.epochs,
            "budget.num_workers": num_workers,
        }


def parse_duration(text: str) -> float:
    """Read `90`, `90s`, `10m`, `1h30m` as seconds.

    Raises:
        OptionError: If it is no duration.
    """
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text)
    if not text or parts is None or not any(parts.groups()):
        raise OptionError(
            "--time",
            received=f"`{text}`",
            expected="a duration such as 90s, 10m or 1h30m",
            mend="Write hours, minutes and seconds with h, m and s.",
        )
    hours, minutes, seconds = (float(p or 0) for p in parts.groups())
    return hours * _UNITS["h"] + minutes * _UNITS["m"] + seconds


class Clock:
    """Wall time spent, over interruptions, and the moments at which training must stop."""

    def __init__(self, seconds: float | None, *, spent: float = 0.0) -> None:
        self.started = time.monotonic() - spent
        self.seconds = seconds

    @property
    def elapsed(self) -> float:
        """Seconds since the search began, pauses not counted."""
        return time.monotonic() - self.started

    @property
    def training_ends(self) -> float | None:
        """Elapsed seconds at which the last trial must have stopped."""
        if self.seconds is None:
            return None
        reserved = max(RESERVED_SECONDS, RESERVED_SHARE * self.seconds)
        return max(self.seconds - reserved - self.baseline_seconds, 0.5 * self.seconds)

    @property
    def baseline_seconds(self) -> float:
        """Seconds kept for the models that the network is measured against."""
        if self.seconds is None:
            return BASELINE_SECONDS
        return min(BASELINE_SECONDS, BASELINE_SHARE * self.seconds)

    def has_room_for(self, seconds: float) -> bool:
        """Whether a trial of this length would end in time."""
        return self.training_ends is None or self.elapsed + seconds < self.training_ends

    def deadline(self, *, shared: bool) -> float | None:
        """Elapsed seconds at which a trial that starts now must stop.

        Args:
            shared: Whether it leaves time to others: the first one does, and one that can be
                taken up again where it was cut.
        """
        ends = self.training_ends
        if ends is None or not shared:
            return ends
        return self.elapsed + longest_trial(ends - self.elapsed)


def longest_trial(left: float) -> float:
    """Seconds that a trial which shares the time may take of those left for all."""
    return max(TRIAL_SHARE * left, min(TRIAL_SECONDS, left))
