"""Where the finalists stand once they were trained again: means, intervals, and the winner.

Only the repeats count, never the score by which a finalist was chosen: the best of many noisy
scores is flattered by the choice (Cawley and Talbot 2010, "On Over-fitting in Model Selection
and Subsequent Selection Bias in Performance Evaluation", JMLR 11, section 5). What is left is
the choice among the few finalists, which only rows that nobody saw can judge without favour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev, variance
from typing import Any, NamedTuple

from smarttune.objectives import Objective
from smarttune.trials import TrialRecord
from smarttune.tuning.comparing import LEVEL

_FEWEST = 2  # values that show a spread


class Interval(NamedTuple):
    """The mean of repeated measurements, and where the true one lies; None where it is unknown."""

    mean: float
    std: float | None
    low: float | None
    high: float | None


def interval_of(values: Sequence[float], *, overlap: float = 0.0) -> Interval:
    """Student's interval of a mean.

    Args:
        values: One or more measurements.
        overlap: Validation rows over training rows of a fold. Folds share training rows, so
            that their scores vary less than those of new data would; the variance of the mean is
            larger by this share of that of one score (Nadeau and Bengio 2003, "Inference for
            the Generalization Error", Machine Learning 52, section 3). 0 for repeats that
            differ by their seed alone.
    """
    num, mean = len(values), fmean(values)
    if num < _FEWEST:
        return Interval(mean, None, None, None)
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    std = stdev(values)
    reach = float(stdtrit(num - 1, (1 + LEVEL) / 2)) * std * math.sqrt(1 / num + overlap)
    return Interval(mean, std, mean - reach, mean + reach)


class Standing(NamedTuple):
    """A finalist and its scores, one for each repetition; None where it diverged or failed."""

    record: TrialRecord
    scores: tuple[float | None, ...]

    @property
    def known(self) -> list[float]:
        """The scores that there are."""
        return [s for s in self.scores if s is not None]


def winner_of(standings: Sequence[Standing], objective: Objective) -> Standing:
    """The best mean; whoever failed more often when trained again stands behind all others."""
    sign = -1.0 if objective.direction == "max" else 1.0

    def place(standing: Standing) -> tuple[int, float, str]:
        known = standing.known
        mean = sign * fmean(known) if known else math.inf
        return len(standing.scores) - len(known), mean, standing.record.trial_id

    return min(standings, key=place)


def paired_gains(new: Standing, old: Standing, objective: Objective) -> list[float]:
    """By how much one finalist is better in each repetition in which both have a score."""
    pairs = zip(new.scores, old.scores, strict=True)
    return [objective.gain(a, b) for a, b in pairs if a is not None and b is not None]


def noise_of(standings: Sequence[Standing], *, shared: bool = False) -> float | None:
    """Standard deviation of a score over repeats, pooled over the finalists.

    Args:
        standings: The finalists.
        shared: Whether a repeat moves all scores alike, as the rows of a fold do. What it does
            to all of them is then left out, for it is no noise between configurations.
    """
    whole = [s for s in standings if len(s.known) == len(s.scores) >= _FEWEST]
    if shared and len(whole) >= _FEWEST:
        means = [fmean(scores) for scores in zip(*(s.known for s in whole), strict=True)]
        rest = [[a - b for a, b in zip(s.known, means, strict=True)] for s in whole]
        total = sum(variance(r) for r in rest)
        return math.sqrt(total / (len(whole) - 1))
    spread = [(len(s.known) - 1, variance(s.known)) for s in standings if len(s.known) >= _FEWEST]
    weight = sum(n for n, _ in spread)
    return math.sqrt(sum(n * v for n, v in spread) / weight) if weight else None


def weighed(
    standings: Sequence[Standing], objective: Objective, *, overlap: float = 0.0
) -> dict[str, Any]:
    """Name the winner and compare it with the recommendation.

    Args:
        standings: The finalists, all with as many repetitions, at least one.
        objective: What ranks them.
        overlap: As in `interval_of`.

    Returns:
        `winner`, its trial; `finalists`, each with `trial_id`, `is_default`, `first` (its score
        in the search), `scores`, `failed`, `mean`, `std`, `low`, `high`; `difference` of the
        winner to the recommendation, or, where that won itself, of the recommendation to the
        best other one (`new`, `old`, `gain`, `std`, `low`, `high`, `num_pairs`, `is_real`), None
        without a pair; and `noise`.
    """
    winner = winner_of(standings, objective)
    rest = [s for s in standings if s is not winner]
    default = next((s for s in rest if s.record.is_default), None)
    rival = winner_of(rest, objective) if winner.record.is_default and rest else default
    return {
        "winner": winner.record.trial_id,
        "finalists": [_row(s, overlap) for s in standings],
        "difference": None if rival is None else _difference(winner, rival, objective, overlap),
        "noise": noise_of(standings, shared=overlap > 0),
    }


def _row(standing: Standing, overlap: float) -> dict[str, Any]:
    known, record = standing.known, standing.record
    found = interval_of(known, overlap=overlap)._asdict() if known else _UNKNOWN
    return {
        "trial_id": record.trial_id,
        "is_default": record.is_default,
        "first": record.score,
        "scores": list(standing.scores),
        "failed": len(standing.scores) - len(known),
        **found,
    }


_UNKNOWN: Mapping[str, None] = dict.fromkeys(Interval._fields)


def _difference(
    new: Standing, old: Standing, objective: Objective, overlap: float
) -> dict[str, Any] | None:
    gains = paired_gains(new, old, objective)
    if not gains:
        return None
    mean, std, low, high = interval_of(gains, overlap=overlap)
    return {
        "new": new.record.trial_id,
        "old": old.record.trial_id,
        "gain": mean,
        "std": std,
        "low": low,
        "high": high,
        "num_pairs": len(gains),
        "is_real": None if low is None or high is None else low > 0 or high < 0,
    }


def sentence(found: Mapping[str, Any], score_name: str) -> str:
    """Say whether the winner truly beats the recommendation.

    Args:
        found: What `weighed` returned.
        score_name: The objective.
    """
    by_id = {row["trial_id"]: row for row in found["finalists"]}
    winner, difference = by_id[found["winner"]], found["difference"]
    if difference is None:
        return _without_rival(winner, by_id.values())
    gain, pairs = f"{difference['gain']:.4g}", difference["num_pairs"]
    interval = "" if difference["low"] is None else f", 95 % interval {_span(difference)}"
    what = f"gain in {score_name} {gain}, run by run over {pairs} repeat(s){interval}"
    if winner["is_default"]:
        return (
            f"Keep the recommendation: trained again, no finalist is better than it on average "
            f"(against trial {difference['old']}: {what})."
        )
    if difference["is_real"] and difference["gain"] > 0:
        return f"Yes, trial {difference['new']} truly beats the recommendation: {what}."
    if difference["is_real"] is None:
        return (
            f"Not known: trial {difference['new']} is ahead on too few repeats for an interval "
            f"({what})."
        )
    return (
        f"Not shown: trial {difference['new']} has the better mean, but the difference to the "
        f"recommendation may be luck ({what}). The recommendation may serve as well."
    )


def _without_rival(winner: Mapping[str, Any], rows: Any) -> str:
    default = next((row for row in rows if row["is_default"]), None)
    if default is None:
        return (
            f"Trial {winner['trial_id']} is the best on average; the recommendation has no score."
        )
    if default is winner:
        return "Keep the recommendation: trained again, no finalist did as well without failing."
    return (
        f"Yes, in a way: trial {winner['trial_id']} trains again and again, where the "
        f"recommendation failed in {default['failed']} of {len(default['scores'])} repeats."
    )


def _span(row: Mapping[str, Any]) -> str:
    return f"{row['low']:.4g} to {row['high']:.4g}"


def lines(found: Mapping[str, Any]) -> list[str]:
    """A line for each finalist: its mean, its spread and its interval."""
    said = []
    for row in found["finalists"]:
        name = row["trial_id"] + (" (recommended)" if row["is_default"] else "")
        if row["mean"] is None:
            said.append(f"{name}: no score in {row['failed']} repeat(s)")
            continue
        text = f"{name}: mean {row['mean']:.4g} over {len(row['scores']) - row['failed']} repeat(s)"
        if row["std"] is not None:
            text += f", standard deviation {row['std']:.2g}, 95 % interval {_span(row)}"
        text += f"; {row['failed']} failed" if row["failed"] else ""
        said.append(f"{text} (in the search {row['first']:.4g})")
    return said
