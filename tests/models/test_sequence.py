"""Sequences: padding, masks, three kinds of networks, and models of raw sequences."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from smarttune.data import Dataset, read
from smarttune.data.sequences import SequenceArrays
from smarttune.errors import DataError, SettingError
from smarttune.execution.fit import TrainingData, fit_arrays
from smarttune.facts import Facts
from smarttune.fingerprint import measure
from smarttune.models import NetworkHyperModel, TargetCodec, TrainingPlan
from smarttune.models.layers import Layers
from smarttune.models.modalities import preprocessor_of
from smarttune.models.sequence import FAMILIES, Sequence, SequencePreprocessor
from smarttune.models.temporal import last_step, mean_step, step_mask, tcn
from smarttune.recommendation import recommend, searched_families
from smarttune.space import SearchSpace, Value

# Keras 3.15 turns TensorFlow variables into arrays in a way that NumPy 2.4 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STEPS = 10
SETTINGS: dict[str, Value] = {
    "model.max_sequence_length": STEPS,
    "model.missing_values": "mean_and_indicator",
}
DILATED: dict[str, Value] = {
    "model.num_stages": 2,
    "model.filters": 4,
    "model.kernel_size": 3,
    "model.convolutions_per_stage": 2,
    "model.dilation_base": 2,
    "model.normalization": "layer",
    "model.activation": "relu",
    "model.dropout": 0.2,
}
SHARED: dict[str, Value] = {
    **SETTINGS,
    **DILATED,
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 0.01,
    "training.batch_size": 16,
}
OF_FAMILY: dict[str, dict[str, Value]] = {
    "rnn": {"model.rnn_cell": "gru", "model.num_rnn_layers": 2, "model.rnn_units": 6},
    "tcn": {},
    "mlp": {"model.num_layers": 1, "model.units": 8, "model.normalization": "none"},
}
each_family = pytest.mark.parametrize("family", FAMILIES)


@cache
def raw() -> tuple[np.ndarray, np.ndarray]:
    """Slow and fast oscillations of 4 to 12 steps with gaps, NaN behind the end; labels."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 60)
    x = np.full((60, 12, 2), np.nan, np.float32)
    for i, label in enumerate(labels):
        time = np.arange(rng.integers(4, 13))
        x[i, : len(time), 0] = 3 + np.sin(time * (0.4, 1.6)[label] + rng.uniform(0, 6))
        x[i, : len(time), 1] = 100 * rng.normal(size=len(time))
    x[3, 1, 0] = x[7, 0] = np.nan
    return x, labels


@cache
def sequences() -> Dataset:
    """The same as a data set."""
    return read(*raw())


def content() -> SequenceArrays:
    """Its sequences."""
    found = sequences().content
    assert isinstance(found, SequenceArrays)
    return found


@cache
def fitted() -> SequencePreprocessor:
    """Preprocessing learnt from the first 40 sequences."""
    return SequencePreprocessor.fit(content(), np.arange(40), SETTINGS)


def codec() -> TargetCodec:
    """The encoding of the labels."""
    target = sequences().target
    assert target is not None
    return TargetCodec.fit(target, "binary", (0, 1), {})


def network(family: str, *, seed: int = 0, **more: Value) -> keras.Model:
    """An untrained network."""
    values = {**SHARED, **OF_FAMILY[family], "model.family": family, **more}
    space = SearchSpace(dimensions=())
    plan = TrainingPlan(40, 5, seed=seed)
    return NetworkHyperModel(space, fitted(), codec(), plan).build_from(values)


def test_steps_are_standardized_padded_and_flagged() -> None:
    """Real values have mean 0 and deviation 1; gaps and padding are 0; flags tell gaps only."""
    x, _ = raw()
    found = fitted().inputs(sequences(), np.arange(40))

    steps, flags = found["steps"][..., :2], found["steps"][..., 2:]
    known = np.isfinite(x[:40, :STEPS])
    assert found["steps"].shape == (40, STEPS, 4)
    for feature in range(2):
        values = steps[..., feature][known[..., feature]]
        assert values.mean() == pytest.approx(0, abs=1e-5)
        assert values.std() == pytest.approx(1, abs=1e-4)
    assert (steps[~known] == 0).all()
    ends = np.minimum(content().counts[:40], STEPS)
    np.testing.assert_array_equal(found["length"][:, 0], ends)
    assert flags.sum() == 3
    assert flags[3, 1, 0] == flags[7, 0, 0] == flags[7, 0, 1] == 1


def test_other_rows_have_no_say() -> None:
    """Statistics come from the training rows alone."""
    x, y = raw()
    moved = x.copy()
    moved[40:] *= 50

    other = read(moved, y).content

    assert isinstance(other, SequenceArrays)
    assert SequencePreprocessor.fit(other, np.arange(40), SETTINGS) == fitted()


def test_feature_that_never_varies_does_no_harm() -> None:
    """A constant, and one that is never known, become zeros."""
    x = np.ones((20, 4, 2), np.float32)
    x[:, :, 0] = np.arange(4)
    steady = np.concatenate([x, np.full((20, 4, 1), np.nan, np.float32)], axis=2)
    dataset = read(steady, np.arange(20) % 2)
    assert isinstance(dataset.content, SequenceArrays)

    made = SequencePreprocessor.fit(dataset.content, np.arange(20), SETTINGS)

    found = made.inputs(dataset, np.arange(20))["steps"]
    assert np.isfinite(found).all()
    assert (found[:, :4, 1:3] == 0).all()


@each_family
def test_exported_model_of_raw_sequences_predicts_the_same(family: str, tmp_path: Path) -> None:
    """Loaded by Keras it takes any number of steps, gaps as NaN, and agrees with the network."""
    core = network(family)
    wanted = Sequence().predictions(sequences(), fitted(), codec(), core)["probability_1"]
    Sequence().exported(core, fitted(), codec()).save(tmp_path / "model.keras")

    model = keras.saving.load_model(tmp_path / "model.keras")

    x, _ = raw()
    wider = np.pad(x, ((0, 0), (0, 7), (0, 0)), constant_values=np.nan)
    alone = [model.predict(s[None], verbose=0)[0, 0] for s in content().take(np.arange(3))]
    np.testing.assert_allclose(model.predict(x, verbose=0)[:, 0], wanted, atol=1e-4)
    np.testing.assert_allclose(model.predict(wider, verbose=0)[:, 0], wanted, atol=1e-4)
    np.testing.assert_allclose(alone, wanted[:3], atol=1e-4)


@pytest.mark.parametrize("family", ["rnn", "tcn"])
def test_padding_has_no_influence(family: str) -> None:
    """Numbers behind the length of a sequence change nothing."""
    core = network(family)
    given = fitted().inputs(sequences(), np.arange(20))
    noisy = given["steps"].copy()
    behind = np.arange(STEPS)[None] >= given["length"]
    noisy[behind] = 9.0
    assert behind.any()

    clean = core.predict(given, verbose=0)

    other = core.predict({**given, "steps": noisy}, verbose=0)
    np.testing.assert_allclose(clean, other, atol=1e-6)


@each_family
def test_seed_decides_the_network(family: str) -> None:
    """Equal seeds give equal weights, another seed others."""
    first, same, other = (network(family, seed=s).get_weights() for s in (1, 1, 2))

    assert all(np.array_equal(a, b) for a, b in zip(first, same, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_preprocessing_survives_its_json() -> None:
    """What a run keeps is the same preprocessing."""
    assert preprocessor_of(fitted().model_dump(mode="json")) == fitted()


@pytest.mark.parametrize(
    ("name", "value"), [("model.missing_values", "median"), ("model.max_sequence_length", 0)]
)
def test_setting_that_means_nothing_is_named(name: str, value: Value) -> None:
    """A setting of tables, or a window of no steps, is refused with its name."""
    with pytest.raises(SettingError, match=name):
        SequencePreprocessor.fit(content(), np.arange(40), {**SETTINGS, name: value})


def test_other_features_are_refused() -> None:
    """New sequences need the features of the training; tables are no sequences."""
    with pytest.raises(DataError, match="3 features"):
        fitted().inputs(read(np.zeros((12, 5, 3)), task="sequence"), np.arange(2))
    with pytest.raises(DataError, match="tabular"):
        fitted().inputs(read({"a": np.arange(12.0)}), np.arange(2))


@each_family
def test_rules_give_every_setting_of_every_family(family: str) -> None:
    """Measured short windows and a budget are enough to build each network that may be chosen."""
    x = np.random.default_rng(0).normal(size=(200, 8, 2))
    dataset = read(x, np.arange(200) % 3)
    declared = Facts.of({"budget.num_trials": 40, "hardware.device": "cpu"})
    settings = recommend(measure(dataset).facts() | declared).settings
    assert set(searched_families(settings)) == set(FAMILIES)
    values = {name: s.value for name, s in settings.items()}
    assert isinstance(dataset.content, SequenceArrays) and dataset.target is not None
    made = SequencePreprocessor.fit(dataset.content, np.arange(100), values)
    classes = TargetCodec.fit(dataset.target, "multiclass", (0, 1, 2), {})
    space, plan = SearchSpace(dimensions=()), TrainingPlan(100, 5)

    model = NetworkHyperModel(space, made, classes, plan).build_from(
        {**values, "model.family": family}
    )

    assert model.output_shape == (None, 3)


@pytest.mark.parametrize("lengths", [(5, 12), (12, 12)])
def test_dense_networks_compete_on_short_equal_windows_only(lengths: tuple[int, int]) -> None:
    """Sequences of different lengths are left to networks that know lengths."""
    x = np.random.default_rng(0).normal(size=(40, 12, 2))
    x[0, lengths[0] :] = np.nan
    facts = measure(read(x, np.arange(40) % 2)).facts()

    settings = recommend(facts | Facts.of({"budget.seconds": 900})).settings

    assert ("mlp" in searched_families(settings)) == (lengths[0] == lengths[1])


def layers(**more: Value) -> Layers:
    """Layers of a small dilated network."""
    return Layers({**DILATED, **more}, codec(), 0)


def test_no_step_sees_a_later_one() -> None:
    """A change at one step moves the outputs from there on, and none before."""
    given = keras.Input((16, 2))
    model = keras.Model(given, tcn(layers(), given, every_step=True))
    x = np.random.default_rng(0).normal(size=(4, 16, 2)).astype(np.float32)
    moved = x.copy()
    moved[:, 9] += 1.0

    change = np.abs(model.predict(moved, verbose=0) - model.predict(x, verbose=0)).max(axis=(0, 2))

    assert (change[:9] == 0).all()
    assert change[9] > 0


@pytest.mark.parametrize("steps", [10, 60, 150])
def test_recommended_blocks_see_the_whole_sequence(steps: int) -> None:
    """The last step depends on the first for any length up to what eight blocks reach."""
    facts = Facts.of({"data.task": "sequence", "data.sequence_length": steps})
    settings = recommend(facts, pinned={"model.family": "tcn"}).settings
    names = ("model.num_stages", "model.kernel_size", "model.dilation_base")
    chosen = {name: settings[name].value for name in names}
    given = keras.Input((steps, 2))
    # Without normalization and rectifying nothing but the reach decides.
    plain = layers(**chosen, **{"model.normalization": "none", "model.activation": "linear"})
    model = keras.Model(given, tcn(plain, given))
    x = np.zeros((1, steps, 2), np.float32)
    moved = x.copy()
    moved[0, 0] = 1e6

    assert np.abs(model.predict(moved, verbose=0) - model.predict(x, verbose=0)).max() > 0


def test_last_and_mean_step_leave_padding_out() -> None:
    """Both read real steps only."""
    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    mask = step_mask(np.array([[2], [3]], np.int32), 3)

    np.testing.assert_array_equal(np.asarray(last_step(x, mask)), [[2, 3], [10, 11]])
    np.testing.assert_array_equal(np.asarray(mean_step(x, mask)), [[1, 2], [8, 9]])
    np.testing.assert_array_equal(np.asarray(last_step(x)), x[:, -1])


@pytest.mark.slow
@each_family
def test_network_learns_to_tell_oscillations_apart(family: str) -> None:
    """Some epochs leave few errors among the training sequences."""
    rows = np.arange(60)
    x: dict[str, Any] = fitted().inputs(sequences(), rows)
    y = fitted().targets(sequences(), rows, codec())
    model = network(family, **{"model.dropout": 0.0})

    fit_arrays(model, TrainingData(x, y, x, y), batch_size=12, seed=0, epochs=range(60))

    assert ((model.predict(x, verbose=0) > 0) == (y > 0.5)).mean() > 0.9
