"""Hyperparameter tuning for Keras that starts from documented knowledge and says why.

>>> import smarttune
>>> recommendation = smarttune.suggest("data.csv", target="y")   # doctest: +SKIP
>>> run = smarttune.search("data.csv", target="y", time="10m")   # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from smarttune.version import __version__

if TYPE_CHECKING:
    from smarttune.errors import SmartTuneError
    from smarttune.facts import Facts
    from smarttune.job import plan, resume, search
    from smarttune.learning import learn
    from smarttune.models import HyperModel, narrow
    from smarttune.oracles import BayesianOracle, GridOracle, HyperbandOracle, RandomOracle
    from smarttune.recommendation import Recommendation, recommend
    from smarttune.rulebook import load_rulebook
    from smarttune.space import SearchSpace
    from smarttune.suggestion import suggest
    from smarttune.training import find_learning_rate
    from smarttune.trials import TrialLog, TrialRecord
    from smarttune.tuning import Run, SmartTuner, TrialPolicy


# Opened on first use, so that reading rules never pays for Keras.
_HOMES = {
    "BayesianOracle": "oracles",
    "Facts": "facts",
    "GridOracle": "oracles",
    "HyperModel": "models",
    "HyperbandOracle": "oracles",
    "RandomOracle": "oracles",
    "Recommendation": "recommendation",
    "Run": "tuning",
    "SearchSpace": "space",
    "SmartTuneError": "errors",
    "SmartTuner": "tuning",
    "TrialLog": "trials",
    "TrialPolicy": "tuning",
    "TrialRecord": "trials",
    "find_learning_rate": "training",
    "learn": "learning",
    "load_rulebook": "rulebook",
    "narrow": "models",
    "plan": "job",
    "recommend": "recommendation",
    "resume": "job",
    "search": "job",
    "suggest": "suggestion",
}

__all__ = [
    "BayesianOracle",
    "Facts",
    "GridOracle",
    "HyperModel",
    "HyperbandOracle",
    "RandomOracle",
    "Recommendation",
    "Run",
    "SearchSpace",
    "SmartTuneError",
    "SmartTuner",
    "TrialLog",
    "TrialPolicy",
    "TrialRecord",
    "__version__",
    "find_learning_rate",
    "learn",
    "load_rulebook",
    "narrow",
    "plan",
    "recommend",
    "resume",
    "search",
    "suggest",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
