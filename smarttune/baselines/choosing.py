"""Which baselines a problem has, and making them within their time."""

from __future__ import annotations

from smarttune.baselines import columns, corpora, features, series, trivial
from smarttune.baselines.contest import Allowance, Baseline, Contest, Recipe

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
_STRONG: dict[str, tuple[Recipe, ...]] = {
    "tabular": (columns.RECIPE,),
    "text": (features.TEXT,),
    "image": (features.IMAGE,),
    "audio": (features.AUDIO_LINEAR, features.AUDIO_TREES),
    "sequence": (features.SEQUENCE_LINEAR, features.SEQUENCE_TREES),
}
_LEARNT = ("binary", "multiclass", "multilabel", "regression")


def recipes_for(task: str, problem: str) -> tuple[Recipe, ...]:
    """The baselines of a problem on a kind of data, trivial ones first."""
    strong = _STRONG.get(task, ()) if problem in _LEARNT else ()
    return (*_TRIVIAL.get(problem, ()), *strong)


def baselines_for(contest: Contest, *, seconds: float) -> list[Baseline]:
    """Make every baseline of the problem.

    Args:
        contest: The question that the networks were asked.
        seconds: Wall time for all, about; each may take an equal part of what is left.

    Returns:
        Trivial ones first. One that could not be made has a note and no outputs.
    """
    recipes = recipes_for(contest.fingerprint.task, contest.codec.problem)
    whole = Allowance(seconds)
    return [
        recipe.tried(contest, max(0.0, whole.left) / (len(recipes) - done))
        for done, recipe in enumerate(recipes)
    ]
