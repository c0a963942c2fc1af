"""KerasTuner's names with our search behind them: a script changes its import and nothing else.

    from smarttune.tuning import kerastuner as keras_tuner   # was: import keras_tuner

`RandomSearch`, `BayesianOptimization`, `Hyperband`, `GridSearch` and `Tuner`, and the oracles
under their names in `oracles`, take the arguments of KerasTuner's, in its order, and those of
`SmartTuner`. Whatever else KerasTuner has is KerasTuner's own.
"""

from __future__ import annotations

import inspect
import warnings
from types import SimpleNamespace
from typing import Any, ClassVar

import keras_tuner
from keras_tuner.engine.trial import Trial

from smarttune.errors import OptionError
from smarttune.oracles import BayesianOracle, GridOracle, HyperbandOracle, RandomOracle
from smarttune.tuning.policy import TrialPlan, TrialPolicy
from smarttune.tuning.tuner import SmartTuner

# What KerasTuner's Gaussian process takes and ours settles by itself.
_SETTLED = ("alpha", "beta")


class _Ordered:
    """Takes the arguments of one of KerasTuner's oracles, in its order."""

    stock: ClassVar[type]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(**_by_name(self.stock, args, options))


class RandomSearchOracle(_Ordered, RandomOracle):
    """Random search with the arguments of `keras_tuner.oracles.RandomSearchOracle`."""

    stock = keras_tuner.oracles.RandomSearchOracle


class BayesianOptimizationOracle(_Ordered, BayesianOracle):
    """Bayesian search with the arguments of `keras_tuner.oracles.BayesianOptimizationOracle`."""

    stock = keras_tuner.oracles.BayesianOptimizationOracle


class _HyperbandOracle(_Ordered, HyperbandOracle):
    """Hyperband with the arguments of `keras_tuner.oracles.HyperbandOracle`."""

    stock = keras_tuner.oracles.HyperbandOracle


class GridSearchOracle(_Ordered, GridOracle):
    """Grid search with the arguments of `keras_tuner.oracles.GridSearchOracle`."""

    stock = keras_tuner.oracles.GridSearchOracle


class Tuner(SmartTuner):
    """`SmartTuner` that hands to `fit` what KerasTuner hands to it.

    That is what `search` was given, and epochs only where the oracle sets them: without either
    Keras trains one epoch, and a `fit` of yours may choose the epochs itself.

    Args:
        oracle: Proposes trials; ours or any of KerasTuner's.
        hypermodel: Builds models; may be None if `run_trial` is overridden.
        **options: As for `SmartTuner` and `keras_tuner.Tuner`.
    """

    default_policy = TrialPolicy(max_epochs=1)

    def _added(self, trial: Trial, plan: TrialPlan, *, epochs_given: bool) -> dict[str, Any]:
        added = super()._added(trial, plan, epochs_given=epochs_given)
        if "tuner/epochs" in trial.hyperparameters.values:
            return {name: added[name] for name in ("initial_epoch", "epochs")}
        return {"epochs": added["epochs"]} if epochs_given else {}


class _Strategy(Tuner):
    """A tuner with an oracle of its own."""

    stock: ClassVar[type]
    oracle_kind: ClassVar[type]

    def __init__(self, *args: Any, **options: Any) -> None:
        given = _by_name(self.stock, args, options)
        known = inspect.signature(self.oracle_kind.stock).parameters  # type: ignore[attr-defined]
        chosen = {name: given.pop(name) for name in list(given) if name in known}
        self.seed = chosen.get("seed")
        super().__init__(self.oracle_kind(**chosen), **given)


class RandomSearch(_Strategy):
    """Random search with the arguments of `keras_tuner.RandomSearch`."""

    stock = keras_tuner.RandomSearch
    oracle_kind = RandomSearchOracle


class BayesianOptimization(_Strategy):
    """Bayesian search with the arguments of `keras_tuner.BayesianOptimization`."""

    stock = keras_tuner.BayesianOptimization
    oracle_kind = BayesianOptimizationOracle


class Hyperband(_Strategy):
    """Hyperband with the arguments of `keras_tuner.Hyperband`; a promoted trial goes on."""

    stock = keras_tuner.Hyperband
    oracle_kind = _HyperbandOracle


class GridSearch(_Strategy):
    """Grid search with the arguments of `keras_tuner.GridSearch`."""

    stock = keras_tuner.GridSearch
    oracle_kind = GridSearchOracle


def _by_name(stock: type, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Arguments under the names that KerasTuner's signature gives them.

    Raises:
        OptionError: If they do not fit the signature.
    """
    signature = inspect.signature(stock)
    # Options of ours may come beside those of KerasTuner's oracles, which take no others.
    ours = {name: options[name] for name in options if name not in signature.parameters}
    stocks = {name: value for name, value in options.items() if name not in ours}
    try:
        bound = dict(signature.bind_partial(*args, **stocks).arguments)
    except TypeError as error:
        raise OptionError(
            stock.__name__,
            received=f"its arguments do not fit ({error})",
            expected=f"those of KerasTuner's: {signature}",
            mend="Give each argument once, by its name.",
        ) from None
    settled = [name for name in _SETTLED if bound.pop(name, None) is not None]
    if settled:
        warnings.warn(
            f"{' and '.join(settled)} of {stock.__name__} are settled by SmartTune's own model "
            "and have no effect",
            stacklevel=4,
        )
    return bound | ours


tuners = SimpleNamespace(
    RandomSearch=RandomSearch,
    BayesianOptimization=BayesianOptimization,
    Hyperband=Hyperband,
    GridSearch=GridSearch,
    SklearnTuner=keras_tuner.tuners.SklearnTuner,
)
oracles = SimpleNamespace(
    RandomSearchOracle=RandomSearchOracle,
    RandomSearch=RandomSearchOracle,
    BayesianOptimizationOracle=BayesianOptimizationOracle,
    BayesianOptimization=BayesianOptimizationOracle,
    HyperbandOracle=_HyperbandOracle,
    Hyperband=_HyperbandOracle,
    GridSearchOracle=GridSearchOracle,
    GridSearch=GridSearchOracle,
)


def __getattr__(name: str) -> Any:
    return getattr(keras_tuner, name)
