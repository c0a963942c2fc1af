"""Narrowing a user's own hypermodel, under KerasTuner's own tuners."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smarttune.errors import OptionError, SettingError
from smarttune.models import HyperModel, narrow
from smarttune.space import Choice, Dimension, FloatRange, SearchSpace
from tests.models.tables import small_space

# KerasTuner 1.4.8 asks for the current thread by names that Python 3.10 deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:getName:DeprecationWarning"),
]

ORACLES: dict[str, Any] = {
    "random": lambda: keras_tuner.oracles.RandomSearchOracle(objective=LOSS, max_trials=25, seed=3),
    "bayesian": lambda: keras_tuner.oracles.BayesianOptimizationOracle(
        objective=LOSS, max_trials=12, num_initial_points=10, seed=3
    ),
    "grid": lambda: keras_tuner.oracles.GridSearchOracle(objective=LOSS, max_trials=25, seed=3),
    "hyperband": lambda: keras_tuner.oracles.HyperbandOracle(objective=LOSS, max_epochs=9, seed=3),
}
LOSS = keras_tuner.Objective("loss", "min")


class SyntheticTuner(keras_tuner.Tuner):
    """Scores a trial by its values, after building with them; trains nothing."""

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> float:
        """Build with the trial's values; the score depends on the learning rate."""
        self.hypermodel.build(trial.hyperparameters)
        return float(trial.hyperparameters.values.get("lr", 0.0))


def searched(hypermodel: Any, oracle: Any, directory: Path) -> list[dict[str, Any]]:
    """The values of every trial of a search."""
    tuner = SyntheticTuner(
        oracle=oracle, hypermodel=hypermodel, directory=directory, project_name="p"
    )
    tuner.search(verbose=0)
    return [t.hyperparameters.values for t in oracle.trials.values()]


def wide_build(hp: Any) -> Any:
    """Far too wide ranges, conditional in three ways, in scopes, read back by name."""
    depth = hp.Int("num_layers", 1, 50)
    for i in range(min(depth, 2)):
        hp.Int(f"units_{i}", 1, 5000)
    kind = hp.Choice("regularization", ["none", "l1", "l2"])
    hp.Float("lr", 1e-9, 10.0, sampling="log")
    with hp.conditional_scope("regularization", ["l1"]):
        if kind == "l1":
            hp.Float("l1", 1e-9, 1.0, sampling="log")
            with hp.name_scope("inner"):
                hp.Float("dropout", 0.0, 0.99)
    hp.Float("dropout_9", 0.0, 0.9, step=0.1, parent_name="regularization", parent_values=["l2"])
    assert hp.get("num_layers") == depth
    assert "lr" in hp
    return None


NAMES = {"regularization": "optimizer.regularization"}


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_no_tuner_proposes_a_value_outside(name: str, tmp_path: Path) -> None:
    """With each stock strategy, conditional scopes included, and every branch is visited."""
    space = small_space()
    hm = narrow(wide_build, space, names=NAMES)

    trials = searched(hm, ORACLES[name](), tmp_path)

    assert len(trials) >= 10
    for values in trials:
        for key, value in values.items():
            canonical = {
                "num_layers": "model.num_layers",
                "lr": "optimizer.learning_rate",
                "l1": "optimizer.l1",
                "regularization": "optimizer.regularization",
            }.get(key, "model.units" if key.startswith("units") else "model.dropout")
            if not key.startswith("tuner/"):
                low, high = (space[canonical].range.from_unit(u) for u in (0.0, 1.0))
                inside = space[canonical].range.contains(value)
                assert inside or low <= value <= high * (1 + 1e-9)
    if name in ("random", "hyperband"):  # the others may stay in one branch for 25 trials
        assert any("l1" in v for v in trials)
        assert any("dropout_9" in v for v in trials)
    assert set(hm.narrowed) == {
        "num_layers", "units_0", "units_1", "lr", "l1", "inner/dropout", "dropout_9",
    }  # fmt: skip
    assert hm.warnings == ()


def test_the_first_trial_of_the_narrowed_model_is_the_recommendation(tmp_path: Path) -> None:
    """Recommended values are the defaults."""
    hm = narrow(wide_build, small_space(), names=NAMES)
    oracle = ORACLES["random"]()
    SyntheticTuner(oracle=oracle, hypermodel=hm, directory=tmp_path, project_name="p")

    defaults = oracle.get_space().values

    assert defaults["lr"] == 1e-3
    assert (defaults["num_layers"], defaults["units_0"]) == (3, 32)
    assert defaults["regularization"] == "none"


RATE = FloatRange(low=1e-4, high=1e-2, sampling="log")
RATE_SPACE = SearchSpace(
    dimensions=(
        Dimension(name="optimizer.learning_rate", range=RATE, value=1e-3),
        Dimension(name="optimizer.name", range=Choice(values=("adam", "sgd")), value="adam"),
    )
)


@st.composite
def programs(draw: st.DrawFn) -> list[tuple[int, float, float, list[str] | None]]:
    """Random declarations of learning rates, some under a condition on the optimizer."""
    bound = st.floats(1e-7, 1.0)
    branch = st.none() | st.lists(
        st.sampled_from(["adam", "sgd", "lion"]), min_size=1, max_size=2, unique=True
    )
    lines = draw(
        st.lists(st.tuples(st.integers(0, 2), bound, bound, branch), min_size=1, max_size=5)
    )
    return [(depth, min(a, b), max(a, b), where) for depth, a, b, where in lines]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(programs(), st.integers(1, 10_000))
def test_whatever_build_does_rates_stay_inside(
    tmp_path: Path, program: list[tuple[int, float, float, list[str] | None]], seed: int
) -> None:
    """Any declarations, in scopes or not: draws lie in the recommended range if it overlaps."""
    seen: list[tuple[float, float, float]] = []
    optimizers: list[str] = []

    def build(hp: Any) -> None:
        optimizers.append(hp.Choice("optimizer", ["lion", "sgd", "adam"]))
        for i, (depth, low, high, where) in enumerate(program):
            if where is None:
                value = hp.Float(f"lr_{i}", low, high)
            elif depth:
                value = hp.Float(f"lr_{i}", low, high, parent_name="optimizer", parent_values=where)
            else:
                with hp.conditional_scope("optimizer", where):
                    value = hp.Float(f"lr_{i}", low, high)
            if value is not None:
                seen.append((low, high, value))

    oracle = keras_tuner.oracles.RandomSearchOracle(objective=LOSS, max_trials=4, seed=seed)
    directory = tmp_path / str(random.random())
    searched(narrow(build, RATE_SPACE), oracle, directory)

    assert set(optimizers) <= {"adam", "sgd"}
    for low, high, value in seen:
        overlap = max(low, RATE.low) <= min(high, RATE.high)
        inside = RATE.low * (1 - 1e-9) <= value <= RATE.high * (1 + 1e-9)
        assert inside or not overlap
        assert low * (1 - 1e-9) <= value <= high * (1 + 1e-9)


def test_a_branch_that_narrowing_closed_is_never_built(tmp_path: Path) -> None:
    """Not even while KerasTuner explores the space before the first trial."""
    built: list[str] = []

    def build(hp: Any) -> None:
        built.append(hp.Choice("optimizer", ["lion", "adam", "sgd"]))
        with hp.conditional_scope("optimizer", ["lion"]):
            hp.Boolean("fancy")
            with hp.conditional_scope("fancy", [True]):
                hp.Float("lr_lion", 1e-6, 1.0)
        with hp.conditional_scope("optimizer", ["lion", "sgd"]):
            hp.Float("momentum_sgd", 0.0, 1.0)

    trials = searched(narrow(build, RATE_SPACE), ORACLES["random"](), tmp_path)

    assert set(built) == {"adam", "sgd"}
    assert any("momentum_sgd" in values for values in trials)


def test_an_empty_meet_keeps_the_users_range_and_warns() -> None:
    """Both ranges are in the sentence."""
    hm = narrow(lambda hp: hp.Float("lr", 0.1, 1.0), RATE_SPACE)
    hp = keras_tuner.HyperParameters()

    hm.build(hp)
    hm.build(hp)

    assert (hp.space[0].min_value, hp.space[0].max_value) == (0.1, 1.0)
    assert len(hm.warnings) == 1
    assert "`lr` (0.1 to 1) and the recommended optimizer.learning_rate" in hm.warnings[0]


def test_a_range_declared_before_narrowing_is_pointed_out() -> None:
    """KerasTuner lets the first declaration win; the user is told."""
    hm = narrow(lambda hp: hp.Float("lr", 1e-6, 1.0), RATE_SPACE)
    hp = keras_tuner.HyperParameters()
    hp.Float("lr", 1e-6, 1.0, default=0.5)

    hm.build(hp)

    assert "`lr` is 0.5, outside 0.0001 to 0.01 (log)" in hm.warnings[0]


def test_names_can_leave_a_hyperparameter_alone() -> None:
    """None as a value switches narrowing off for one name."""
    hm = narrow(lambda hp: hp.Float("lr", 1e-9, 1.0), RATE_SPACE, names={"lr": None})
    hp = keras_tuner.HyperParameters()

    hm.build(hp)

    assert hp.space[0].min_value == 1e-9
    assert hm.narrowed == {}


def test_what_was_narrowed_is_told_in_words() -> None:
    """The user's range, what became of it, and by which hyperparameter."""
    hm = narrow(lambda hp: hp.Int("batch_size", 8, 512), small_space())

    hm.build(keras_tuner.HyperParameters())

    assert hm.narrowed == {"batch_size": "8 to 512 narrowed to 64 (training.batch_size)"}


class Existing(keras_tuner.HyperModel):
    """A user's hypermodel that declares in all three places."""

    flavour = "vanilla"

    def declare_hyperparameters(self, hp: Any) -> None:
        """Declare the batch size up front."""
        hp.Int("batch_size", 8, 512)

    def build(self, hp: Any) -> Any:
        """A linear model."""
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(hp.Float("lr", 1e-9, 1.0)), "mse")
        return model

    def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Train with the declared batch size and a declared flag."""
        self.seen = (hp.get("batch_size"), hp.Float("dropout", 0.0, 0.9))
        return {"loss": 1.0}


def test_an_existing_hypermodel_is_narrowed_in_all_its_methods() -> None:
    """Declaration, build and fit; name, flags and attributes pass through."""
    inner = Existing(name="mine", tunable=True)
    hm = narrow(inner, small_space())
    hp = keras_tuner.HyperParameters()

    hm.declare_hyperparameters(hp)
    result = hm.fit(hp, hm.build(hp))

    assert result == {"loss": 1.0}
    assert inner.seen == (64, 0.1)
    assert set(hm.narrowed) == {"batch_size", "lr", "dropout"}
    assert (hm.name, hm.tunable, hm.flavour) == ("mine", True, "vanilla")


def test_a_hypermodel_that_is_not_tunable_stays_so() -> None:
    """Its declarations do not reach the search space, but are narrowed in its copy."""
    inner = Existing(tunable=False)
    hp = keras_tuner.HyperParameters()

    model = narrow(inner, small_space()).build(hp)

    assert hp.space == []
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-3)


class Mine(HyperModel):
    """A subclass as the documentation shows it."""

    def build(self, hp: Any) -> Any:
        """A small network from settings and narrowed hyperparameters."""
        rate = hp.Float("lr", 1e-6, 1.0, sampling="log")
        hp.Choice("batch_size", [16, 64, 256])
        model = keras.Sequential(
            [
                keras.Input((2,)),
                keras.layers.Dense(hp.Int("units", 1, 1000)),
                keras.layers.Dropout(self.settings["model.dropout"]),
                keras.layers.Dense(1),
            ]
        )
        model.compile(keras.optimizers.Adam(rate), "mse")
        return model


def test_a_subclass_sees_the_settings_and_is_narrowed() -> None:
    """Recommended values are at hand, ranges are met, KerasTuner's options pass."""
    hm = Mine(small_space(), name="mine")
    hp = keras_tuner.HyperParameters()

    model = hm.build(hp)

    assert isinstance(hm, keras_tuner.HyperModel)
    assert hm.name == "mine"
    assert hp.values == {"lr": 1e-3, "batch_size": 64, "units": 32}
    assert model.layers[1].rate == 0.1


@pytest.mark.parametrize("given_size", [None, 10])
def test_fit_uses_the_declared_batch_size(given_size: int | None) -> None:
    """Unless the call says otherwise; 128 rows make 2 batches of 64."""
    hm = Mine(small_space())
    hp = keras_tuner.HyperParameters()
    model = hm.build(hp)
    x, y = np.zeros((128, 2), np.float32), np.zeros((128, 1), np.float32)
    options = {} if given_size is None else {"batch_size": given_size}

    hm.fit(hp, model, x, y, epochs=1, verbose=0, **options)

    assert int(model.optimizer.iterations) == (2 if given_size is None else 13)


def test_data_in_batches_keep_their_batch_size() -> None:
    """A dataset must not be given a batch size."""
    hm = Mine(small_space())
    hp = keras_tuner.HyperParameters()
    model = hm.build(hp)

    class Batches(keras.utils.PyDataset):
        """Three batches of four rows."""

        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            return np.zeros((4, 2), np.float32), np.zeros((4, 1), np.float32)

    hm.fit(hp, model, Batches(), verbose=0)

    assert int(model.optimizer.iterations) == 3


def test_without_a_recommendation_nothing_changes() -> None:
    """The class is then a plain KerasTuner hypermodel."""
    hp = keras_tuner.HyperParameters()

    class Plain(HyperModel):
        """Declares one rate."""

        def build(self, hp: Any) -> Any:
            """Return what was declared."""
            return hp.Float("lr", 1e-6, 1.0)

    hm = Plain()

    assert hm.build(hp) == 1e-6
    assert hm.settings == {}


def test_a_setting_that_nobody_made_is_an_error_with_a_guess() -> None:
    """A slip in a name is not a bare KeyError."""
    with pytest.raises(SettingError, match="Did you mean `optimizer.learning_rate`"):
        Mine(small_space()).settings["optimizer.lerning_rate"]


@pytest.mark.parametrize("wrong", [3, "text", keras_tuner.HyperModel])
def test_what_is_no_hypermodel_is_refused(wrong: Any) -> None:
    """A class instead of an instance included."""
    with pytest.raises(OptionError, match="instance, not a class"):
        narrow(wrong, small_space())


def test_a_source_that_is_nothing_known_is_refused() -> None:
    """The error lists what can be given."""
    with pytest.raises(OptionError, match="a recommendation, facts, a search space, or data"):
        narrow(wide_build, 3)


def test_facts_are_turned_into_a_recommendation() -> None:
    """The built-in rules narrow a learning rate that no rule could want."""
    facts = {
        "data.task": "tabular",
        "model.problem": "regression",
        "data.num_samples": 4000,
        "data.num_features": 11,
    }
    hm = narrow(lambda hp: hp.Float("lr", 1e-12, 100.0), facts)
    hp = keras_tuner.HyperParameters()

    hm.build(hp)

    assert "lr" in hm.narrowed
    assert hp.space[0].max_value < 1.0
