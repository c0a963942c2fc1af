"""Who proposes trials: strategies as KerasTuner oracles, one per file.

Each works with KerasTuner's own tuners as well as with ours. A new strategy
inherits from `RepairedOracle`, writes `propose`, passes the contract suite of
the tests, and gets a name in `STRATEGIES`.
"""

from smarttune.oracles._repaired import RepairedOracle
from smarttune.oracles.bayesian import BayesianOracle
from smarttune.oracles.grid import GridOracle
from smarttune.oracles.hyperband import HyperbandOracle
from smarttune.oracles.random_search import RandomOracle

# The name of a strategy on the command line and in `search.strategy`.
STRATEGIES: dict[str, type[RepairedOracle]] = {
    "random": RandomOracle,
    "grid": GridOracle,
    "hyperband": HyperbandOracle,
    "bayesian": BayesianOracle,
}

__all__ = [
    "STRATEGIES",
    "BayesianOracle",
    "GridOracle",
    "HyperbandOracle",
    "RandomOracle",
    "RepairedOracle",
]
