"""Which baselines a problem has, and making them within their time."""

from __future__ import annotations

from smarttune.baselines import boosting, corpora, features, series, trivial
from smarttune.baselines.contest import Baseline, Contest, Recipe

# ours: longest wall time of one baseline, and the share of a search's time that it may take.
MOST_SECONDS = 20.0
SHARE_OF_SEARCH = 0.1

_TRIVIAL: dict[str, tuple[Recipe, ...]] = {
    "binary": (trivial.SHARES,),
    "multiclass": (trivial.SHARES,),
    "multilabel": (trivial.LABELS,),
    "regression": (trivial.MEAN, trivial.MEDIAN),
    "segmentation": (trivial.PIXELS,),
    "language_model": (trivial.TOKENS,),
    "char_language_model": (trivial.TOKENS, corpora.COMPRESSION),
    "forecasting": series.RECIPES,
}
_STRONG: dict[str, Recipe] = {
    "tabular": boosting.RECIPE,
    "text": features.TEXT,
    "image": features.IMAGE,
    "audio": features.AUDIO,
    "sequence": features.SEQUENCE,
}


def recipes_for(task: str, problem: str) -> tuple[Recipe, ...]:
    """The baselines of a problem on a kind of data, trivial ones first."""
    found = _TRIVIAL.get(problem, ())
    if problem in ("binary", "multiclass", "multilabel", "regression") and task in _STRONG:
        found = (*found, _STRONG[task])
    return found


def seconds_for(search: float | None) -> float:
    """Seconds that one baseline may take beside a search of so many seconds."""
    return MOST_SECONDS if search is None else min(MOST_SECONDS, SHARE_OF_SEARCH * search)


def baselines_for(contest: Contest, *, seconds: float) -> list[Baseline]:
    """Make every baseline of the problem.

    Args:
        contest: The question that the networks were asked.
        seconds: Wall time that each may take, about; see `seconds_for`.

    Returns:
        Trivial ones first. One that could not be made has a note and no outputs.
    """
    recipes = recipes_for(contest.fingerprint.task, contest.codec.problem)
    return [recipe.tried(contest, seconds) for recipe in recipes]
