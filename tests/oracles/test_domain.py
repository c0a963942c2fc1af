"""Hyperparameters as sets of values, and priors upon them."""

from __future__ import annotations

import collections
import random
from typing import Any

import keras_tuner
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.errors import OptionError, SettingError
from smarttune.oracles import RandomOracle, _domain
from smarttune.space import NormalPrior, WeightsPrior

from .contract import configuration, constant, play


def declared(kind: str, *args: Any, **options: Any) -> Any:
    """One hyperparameter."""
    hp = keras_tuner.HyperParameters()
    getattr(hp, kind)("h", *args, **options)
    return hp.space[0]


FINITE = [
    declared("Int", 1, 9),
    declared("Int", 1, 9, step=3),
    declared("Int", 2, 64, step=2, sampling="log"),
    declared("Int", 1, 40, sampling="log"),
    declared("Int", 8, 64, step=2, sampling="reverse_log"),
    declared("Float", 0, 1, step=0.1),
    declared("Float", 1e-5, 1e-1, step=10, sampling="log"),
    declared("Choice", ["b", "a", "c"]),
    declared("Choice", [3, 1, 2]),
    declared("Boolean"),
    declared("Fixed", 4),
]


@pytest.mark.parametrize("hp", FINITE, ids=str)
def test_numbered_values_are_found_again(hp: Any) -> None:
    """Each value of a finite hyperparameter has its own number, and fits as it is."""
    count = int(_domain.num_values(hp))
    values = [_domain.value_at(hp, i) for i in range(count)]
    assert len(set(values)) == count
    assert [_domain.index_of(hp, v) for v in values] == list(range(count))
    assert [_domain.fit(hp, v) for v in values] == values
    assert sorted(_domain.levels(hp, 100), key=str) == sorted(values, key=str)


@given(st.floats(0, 1, exclude_max=True), st.sampled_from(FINITE))
def test_draws_are_values(u: float, hp: Any) -> None:
    """Every uniform draw stands for one of the values."""
    values = [_domain.value_at(hp, i) for i in range(int(_domain.num_values(hp)))]
    assert _domain.draw(hp, u) in values


@given(
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(["linear", "log", "reverse_log"]),
    st.floats(0, 1),
)
def test_draws_from_priors_stay_in_range(u: float, sampling: str, center: float) -> None:
    """Draws through a prior keep to the bounds, for integers and floats."""
    prior = NormalPrior(center=center, spread=0.1)
    whole = _domain.draw(declared("Int", 1, 100, sampling=sampling), u, prior)
    real = _domain.draw(declared("Float", 0.5, 7, sampling=sampling), u, prior)
    assert isinstance(whole, int)
    assert 1 <= whole <= 100
    assert isinstance(real, float)
    assert 0.5 <= real <= 7


def test_last_step_of_a_float_range_is_reached() -> None:
    """Steps of 0.1 from 0 to 1 are eleven values, the last of which is 1."""
    hp = declared("Float", 0, 1, step=0.1)
    assert _domain.num_values(hp) == 11
    assert _domain.value_at(hp, 10) == 1.0


@pytest.mark.parametrize(
    ("hp", "best"),
    [
        (declared("Choice", ["sgd", "adam", "lion"]), "adam"),
        (declared("Choice", [32, 8, 16]), 8),
        (declared("Boolean"), False),
    ],
    ids=str,
)
def test_weights_belong_to_values_in_canonical_order(hp: Any, best: Any) -> None:
    """The first weight is that of the smallest value, however the model lists them."""
    weights = (8.0, 1.0, 1.0)[: int(_domain.num_values(hp))]
    rng, prior = random.Random(0), WeightsPrior(weights=weights)
    drawn = collections.Counter(_domain.draw(hp, rng.random(), prior) for _ in range(1000))
    assert drawn.most_common(1)[0][0] == best
    assert drawn[best] == pytest.approx(1000 * 8 / sum(weights), rel=0.1)


def test_weights_of_another_number_are_refused() -> None:
    """A prior with two weights for three values is an error that names the hyperparameter."""
    with pytest.raises(OptionError, match="`h` has 2 weights"):
        _domain.draw(declared("Choice", [1, 2, 3]), 0.5, WeightsPrior(weights=(1.0, 1.0)))


@pytest.mark.parametrize(
    ("hp", "value"),
    [
        (declared("Choice", ["a", "b"]), "c"),
        (declared("Choice", [0, 1]), True),
        (declared("Int", 1, 5), 6),
        (declared("Int", 1, 5), "3"),
        (declared("Float", 1, 5), float("nan")),
        (declared("Fixed", 3), 4),
    ],
    ids=str,
)
def test_values_outside_are_refused(hp: Any, value: Any) -> None:
    """A value that is not allowed is an error."""
    with pytest.raises(SettingError, match="`h` is"):
        _domain.fit(hp, value)


def test_value_between_steps_moves_to_the_nearest() -> None:
    """A recommended value between two steps becomes the nearer one on the range's scale."""
    assert _domain.fit(declared("Int", 16, 256, step=2, sampling="log"), 100) == 128
    assert _domain.fit(declared("Float", 0, 1, step=0.25), 0.6) == 0.5


def test_one_name_in_two_branches_keeps_its_value() -> None:
    """A name declared with two ranges in two branches is searched in both, within each range."""
    hp = keras_tuner.HyperParameters()
    hp.Choice("optimizer", ["sgd", "adam"])
    with hp.conditional_scope("optimizer", ["sgd"]):
        hp.Float("rate", 0.1, 1.0)
    with hp.conditional_scope("optimizer", ["adam"]):
        hp.Float("rate", 1e-4, 1e-2)
    oracle = RandomOracle(hyperparameters=hp, max_trials=20, seed=0)
    proposed: dict[str, Any] = {}
    play(oracle, lambda i, v: proposed.setdefault(i, dict(v)) and 1.0)
    for trial in oracle.trials.values():
        values = configuration(trial)
        low, high = {"sgd": (0.1, 1.0), "adam": (1e-4, 1e-2)}[values["optimizer"]]
        assert values == proposed[trial.trial_id]
        assert low <= values["rate"] <= high


def test_settled_values_are_the_active_ones() -> None:
    """Inactive values go, missing active ones get their default, values of others stay."""
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["a", "b"])
    with hp.conditional_scope("kind", ["a"]):
        hp.Int("depth", 1, 3)
    with hp.conditional_scope("kind", ["b"]):
        hp.Int("width", 8, 16, default=12)
    hp.values = {"kind": "b", "depth": 2, "tuner/epochs": 3}
    _domain.settle(hp)
    assert hp.values == {"kind": "b", "width": 12, "tuner/epochs": 3}


def test_unknown_name_of_an_initial_trial_is_kept_with_a_warning() -> None:
    """A name that the space lacks holds if the model declares it later, and is warned of."""
    hp = keras_tuner.HyperParameters()
    hp.Int("units", 1, 9)
    wanted = [{"units": 3, "batch_size": 64}]
    oracle = RandomOracle(hyperparameters=hp, initial_trials=wanted)
    with pytest.warns(UserWarning, match="`batch_size` is not a hyperparameter"):
        trial = oracle.create_trial("t")
    assert trial.hyperparameters.Int("batch_size", 16, 256) == 64


def test_unknown_name_is_refused_where_nothing_may_be_declared() -> None:
    """With a closed space an unknown name is an error that offers the nearest one."""
    hp = keras_tuner.HyperParameters()
    hp.Int("units", 1, 9)
    oracle = RandomOracle(hyperparameters=hp, initial_trials=[{"unit": 3}], allow_new_entries=False)
    with pytest.raises(SettingError, match="Did you mean `units`"):
        oracle.create_trial("t")


def test_large_space_is_not_listed() -> None:
    """A space above the limit is not enumerated, so that a proposal stays quick."""
    hp = keras_tuner.HyperParameters()
    hp.Int("a", 1, 10**9)
    assert _domain.untried(hp.space, lambda _: False) == []
    oracle = RandomOracle(hyperparameters=hp, max_trials=3)
    play(oracle, constant(1.0))
    assert len(oracle.trials) == 3
