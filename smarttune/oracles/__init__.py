"""Who proposes trials: strategies as KerasTuner oracles, one per file.

Each works with KerasTuner's own tuners as well as with ours. A new strategy
inherits from `RepairedOracle`, writes `propose`, passes the contract suite of
the tests, and gets a name in `STRATEGIES`.
"""

from smarttune.oracles._control import NO_BRACKET
from smarttune.oracles._outcomes import CUT_SHORT
from smarttune.oracles._repaired import RepairedOracle
from smarttune.oracles.asha import AshaOracle
from smarttune.oracles.bayesian import BayesianOracle
from smarttune.oracles.cma import CMAOracle
from smarttune.oracles.evolution import EvolutionOracle
from smarttune.oracles.gradient import GradientOracle
from smarttune.oracles.grid import GridOracle
from smarttune.oracles.hyperband import HyperbandOracle
from smarttune.oracles.i_epoch import IEpochOracle
from smarttune.oracles.iterative_random import IterativeRandomOracle
from smarttune.oracles.nsga2 import NSGA2Oracle
from smarttune.oracles.priorband import PriorBandOracle
from smarttune.oracles.quasi_random import QuasiRandomOracle
from smarttune.oracles.random_search import RandomOracle
from smarttune.oracles.tpe import TPEOracle

# The name of a strategy on the command line and in `search.strategy`.
STRATEGIES: dict[str, type[RepairedOracle]] = {
    "random": RandomOracle,
    "quasi_random": QuasiRandomOracle,
    "iterative_random": IterativeRandomOracle,
    "grid": GridOracle,
    "bayesian": BayesianOracle,
    "tpe": TPEOracle,
    "cma": CMAOracle,
    "evolution": EvolutionOracle,
    "hyperband": HyperbandOracle,
    "asha": AshaOracle,
    "priorband": PriorBandOracle,
    "i_epoch": IEpochOracle,
    "nsga2": NSGA2Oracle,
    "gradient": GradientOracle,
}

__all__ = [
    "CUT_SHORT",
    "NO_BRACKET",
    "STRATEGIES",
    "AshaOracle",
    "BayesianOracle",
    "CMAOracle",
    "EvolutionOracle",
    "GradientOracle",
    "GridOracle",
    "HyperbandOracle",
    "IEpochOracle",
    "IterativeRandomOracle",
    "NSGA2Oracle",
    "PriorBandOracle",
    "QuasiRandomOracle",
    "RandomOracle",
    "RepairedOracle",
    "TPEOracle",
]
