"""The learning-rate range test."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from smarttune.errors import DataError, OptionError
from smarttune.models.transfer import phased
from smarttune.training.checkpoint import set_state, state_of
from smarttune.training.range_curve import GrowingCurve
from smarttune.training.range_test import RangeTest, find_learning_rate

QUICK = {"num_steps": 12, "batch_size": 8}
OTHER_BACKEND = os.environ.get("KERAS_BACKEND") == "jax"
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Real pictures of digits as rows, 64 numbers from 0 to 1."""
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype("float32"), y.astype("int32")


def some(n: int = 64) -> tuple[np.ndarray, np.ndarray]:
    x, y = digits()
    return x[:n], y[:n]


def network(optimizer: Any = None, **options: Any) -> keras.Model:
    """A network with every kind of state: weights, statistics, seeds, metrics."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(10),
        ]
    )
    model.compile(optimizer or keras.optimizers.Adam(0.01), LOSS, metrics=["accuracy"], **options)
    return model


class Subclassed(keras.Model):
    """Not built before it sees data."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.drop = keras.layers.Dense(10), keras.layers.Dropout(0.2)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.dense(self.drop(x, training=training))


class OwnStep(keras.Model):
    """A `train_step` of its own that hands on what it knows."""

    calls = 0

    def train_step(self, *arguments: Any) -> Any:
        type(self).calls += 1
        return super().train_step(*arguments)


class NoConfig(keras.optimizers.Adam):
    """Its config has the arguments of Adam, which its `__init__` does not take."""

    def __init__(self, factor: float) -> None:
        super().__init__(0.01 * factor, weight_decay=0.01)
        self.factor = factor


def own_step() -> keras.Model:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((64,))
    model = OwnStep(inputs, keras.layers.Dense(10)(inputs))
    model.compile("adam", LOSS)
    return model


def frozen() -> keras.Model:
    model = network()
    model.layers[0].trainable = False
    model.compile("adam", LOSS)
    return model


def half_precision() -> keras.Model:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return network(keras.optimizers.Adam(0.01))
    finally:
        keras.config.set_dtype_policy(before)


def pretrained() -> keras.Model:
    model = network()
    kind = phased(keras.optimizers.Adam, model.layers[0].variables, frozen_steps=3, factor=0.5)
    model.compile(kind(0.01), LOSS)
    return model


def trained(model: keras.Model) -> keras.Model:
    model.fit(*some(), batch_size=16, epochs=1, verbose=0)
    return model


def schedule() -> Any:
    return keras.optimizers.schedules.CosineDecay(0.01, 40)


MODELS: dict[str, Callable[[], keras.Model]] = {
    "plain": network,
    "trained": lambda: trained(network()),
    "schedule": lambda: network(keras.optimizers.SGD(schedule(), momentum=0.9)),
    "trained schedule": lambda: trained(network(keras.optimizers.SGD(schedule(), momentum=0.9))),
    "accumulation": lambda: network(keras.optimizers.Adam(0.01, gradient_accumulation_steps=2)),
    "averages": lambda: network(keras.optimizers.Adam(0.01, use_ema=True)),
    "half precision": half_precision,
    "trained half precision": lambda: trained(half_precision()),
    "frozen": frozen,
    "own step": own_step,
    "without a config": lambda: network(NoConfig(2.0)),
    "trained without a config": lambda: trained(network(NoConfig(2.0))),
    "pretrained": pretrained,
}


def everything(model: keras.Model) -> list[np.ndarray]:
    """Every number that training could change; nothing is built for it."""
    metrics = [v for v in model.metrics_variables if "loss" in v.path or model.optimizer.built]
    found = [*model.variables, *model.optimizer.variables, *metrics]
    return [np.array(v.numpy()) for v in found]


def random_states() -> list[Any]:
    drawn = [
        random.random(),
        np.random.rand(),
        keras.ops.convert_to_numpy(keras.random.normal((2,))),
    ]
    return [np.array(d) for d in drawn]


def assert_same(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_as_it_was(name: str) -> None:
    """Weights, statistics, seeds, metrics and the optimizer are bit for bit what they were, and
    training goes on as if the test had not been."""
    tested, untouched = MODELS[name](), MODELS[name]()
    before, optimizer, step = everything(tested), tested.optimizer, tested.train_function
    rate = tested.optimizer.learning_rate

    found = find_learning_rate(tested, some(), **QUICK)

    assert len(found.losses) >= 10
    assert_same(before, everything(tested))
    assert tested.optimizer is optimizer
    assert tested.train_function is step
    assert float(tested.optimizer.learning_rate) == float(rate)
    for model in (tested, untouched):
        keras.utils.set_random_seed(5)
        # As large as in the test, so that a compiled step could be taken for another.
        model.fit(*some(), batch_size=8, epochs=2, shuffle=False, verbose=0)
    assert_same(everything(untouched), everything(tested))


@pytest.mark.jax
@pytest.mark.slow
def test_random_states_are_as_they_were() -> None:
    """Python, NumPy and Keras draw afterwards what they would have drawn."""

    class Noisy(keras.utils.PyDataset):  # draws whenever a batch is read
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            random.random(), keras.random.normal((1,))
            x, y = some(16)
            return x + np.random.normal(0, 0.1, x.shape).astype("float32"), y

    model = network()
    keras.utils.set_random_seed(11)
    expected = random_states()
    keras.utils.set_random_seed(11)

    find_learning_rate(model, Noisy(), num_steps=10)

    assert_same(expected, random_states())


class Interrupting(keras.utils.PyDataset):
    """Raises in the middle of a sweep."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def __len__(self) -> int:
        return 100

    def __getitem__(self, index: int) -> Any:
        if index == 5:
            raise self.error
        return some(16)


@pytest.mark.jax
@pytest.mark.slow
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("broken file")])
def test_an_interrupted_test_leaves_no_trace(error: BaseException) -> None:
    """Ctrl-C and errors are handed on, and the model is as it was."""
    model = trained(network())
    before, optimizer, step = everything(model), model.optimizer, model.train_function

    with pytest.raises(type(error)):
        find_learning_rate(model, Interrupting(error))

    assert_same(before, everything(model))
    assert (model.optimizer, model.train_function) == (optimizer, step)
    assert "train_step" not in vars(model)


def kernels_after(model: keras.Model, **options: Any) -> list[np.ndarray]:
    """The one weight after each step of a sweep."""
    seen: list[np.ndarray] = []
    given = model.train_on_batch

    def watched(*arguments: Any, **named: Any) -> Any:
        logs = given(*arguments, **named)
        seen.append(np.array(model.trainable_variables[0].numpy()).ravel())
        return logs

    vars(model)["train_on_batch"] = watched
    find_learning_rate(model, **options)
    return seen


def one_weight(optimizer: Any) -> keras.Model:
    """A weight of 0 whose loss is minus itself: its gradient is always -1."""
    inputs = keras.Input((1,))
    outputs = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")(inputs)
    model = keras.Model(inputs, outputs)
    model.compile(optimizer, loss=lambda y, output: -keras.ops.mean(output, axis=-1))
    return model


ONES = (np.ones((8, 1), "float32"), np.ones((8, 1), "float32"))
RATES = np.geomspace(1e-3, 1e-1, 10)


@pytest.mark.slow
def test_each_step_has_its_rate() -> None:
    """With plain descent and a gradient of -1 the weight is the sum of the rates so far."""
    model = one_weight(keras.optimizers.SGD(5.0))
    options = {"low": 1e-3, "high": 1e-1, "num_steps": 10, "batch_size": 4}

    weights = np.concatenate(kernels_after(model, data=ONES, **options))

    np.testing.assert_allclose(weights, np.cumsum(RATES), rtol=1e-5)


@pytest.mark.jax
@pytest.mark.slow
def test_accumulated_gradients_take_one_rate_for_each_update() -> None:
    """With three batches to an update the weight moves after every third, by the next rate."""
    model = one_weight(keras.optimizers.SGD(5.0, gradient_accumulation_steps=3))
    options = {"low": 1e-3, "high": 1e-1, "num_steps": 10, "batch_size": 4}

    weights = np.concatenate(kernels_after(model, data=ONES, **options))

    assert len(weights) == 30
    np.testing.assert_allclose(weights[2::3], np.cumsum(RATES), rtol=1e-5)
    np.testing.assert_array_equal(weights[3::3], weights[2:-1:3])


@pytest.mark.slow
def test_the_copy_decays_what_the_original_decays() -> None:
    """Variables that the user spared of weight decay are spared in the test."""
    moved = {}
    for spared in (True, False):
        optimizer = keras.optimizers.SGD(1.0, weight_decay=0.5)
        if spared:
            optimizer.exclude_from_weight_decay(var_names=["kernel"])
        model = one_weight(optimizer)
        model.trainable_variables[0].assign([[1.0]])
        options = {"low": 1e-3, "high": 1e-1, "num_steps": 10, "batch_size": 4}
        moved[spared] = kernels_after(model, data=ONES, **options)[-1]

    np.testing.assert_allclose(moved[True], 1.0 + RATES.sum(), rtol=1e-5)
    expected = 1.0
    for rate in RATES:
        expected = expected * (1 - 0.5 * rate) + rate
    np.testing.assert_allclose(moved[False], expected, rtol=1e-5)


@pytest.mark.slow
def test_the_loss_is_that_of_the_batch() -> None:
    """A curve holds the loss of each batch before its step, not a running mean."""
    model = one_weight(keras.optimizers.SGD(5.0))

    found = find_learning_rate(
        model, ONES, low=1e-3, high=1e-1, num_steps=10, batch_size=4, smoothing=0.5
    )

    np.testing.assert_allclose(found.losses, -np.cumsum([0, *RATES[:-1]]), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(found.learning_rates, RATES)


@pytest.mark.jax
@pytest.mark.slow
def test_the_rate_it_finds_trains() -> None:
    """On real digits the suggestion lies between rates that learn nothing and rates that break."""
    x, y = digits()
    model = network()

    found = find_learning_rate(model, (x, y), seed=1)

    assert found.diverged_at is not None
    assert found.suggestion is not None
    assert found.suggestion == found.suggestions()[found.chosen]
    accuracy = {}
    start = state_of(model, optimizer=False)
    for rate in (1e-6, found.suggestion, 30.0):
        for variable, value in zip(model.variables, start, strict=True):
            variable.assign(value)
        model.compile(keras.optimizers.Adam(rate), LOSS, metrics=["accuracy"])
        model.fit(x, y, epochs=2, verbose=0)
        accuracy[rate] = model.evaluate(x, y, verbose=0)[1]
    assert accuracy[found.suggestion] > max(accuracy[1e-6], accuracy[30.0]) + 0.2


@pytest.mark.slow
def test_models_that_were_never_built_are_tested() -> None:
    """A subclassed model is built with the first batch, and keeps the weights it got then."""
    model = Subclassed()
    model.compile("adam", LOSS)

    found = find_learning_rate(model, some(), **QUICK)

    assert len(found.losses) >= 10
    assert model.built
    keras.utils.set_random_seed(1)
    kernel = np.array(model.dense.kernel.numpy())
    find_learning_rate(model, some(), **QUICK)
    np.testing.assert_array_equal(kernel, model.dense.kernel.numpy())


@pytest.mark.slow
def test_a_train_step_of_the_users_own_is_the_one_that_runs() -> None:
    """The test trains by the model's own step and leaves it in place."""
    model = own_step()
    OwnStep.calls = 0

    find_learning_rate(model, some(), **QUICK)

    assert OwnStep.calls > 0
    assert "train_step" not in vars(model)


class Recorded:
    """Rows that are read when they are asked for."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.asked = values, values.shape, list[int]()

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        self.asked.append(len(rows))
        return self.values[rows]


class Loader:
    """Something that can be iterated again and again, short."""

    def __iter__(self) -> Iterator[Any]:
        x, y = some(32)
        yield x[:16], y[:16]
        yield x[16:], y[16:]


def forms_of_data() -> dict[str, Any]:
    x, y = some(32)
    made = {
        "arrays": (x, y),
        "weighted arrays": (x, y, np.ones(32, "float32")),
        "frame": (pd.DataFrame(x), pd.Series(y)),
        "tensors": (keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y)),
        "list of batches": [(x[:16], y[:16]), (x[16:], y[16:])],
        "loader": Loader(),
    }
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        made["dataset"] = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("form", ["arrays", *list(forms_of_data())[1:]])
def test_every_form_of_data_is_read(form: str) -> None:
    """Arrays of any kind and batches of any kind give a whole curve, begun again when short."""
    found = find_learning_rate(network(), forms_of_data()[form], high=1e-3, **QUICK)

    assert len(found.losses) == 12


@pytest.mark.slow
def test_rows_are_read_batch_by_batch() -> None:
    """An object that reads is asked for single batches, and never for all rows."""
    x, y = some(40)
    rows = Recorded(x)

    find_learning_rate(network(), (rows, y), num_steps=12, batch_size=16, high=1e-3)

    assert rows.asked == [16] * 12


@pytest.mark.slow
def test_dicts_and_weights_of_arrays_are_used() -> None:
    """Inputs may be a dict; rows of weight 0 do not count."""
    x, y = some(32)
    inputs = keras.Input((64,), name="pixels")
    model = keras.Model({"pixels": inputs}, keras.layers.Dense(10)(inputs))
    model.compile("sgd", LOSS)

    found = find_learning_rate(
        model, ({"pixels": x}, y), sample_weight=np.zeros(32, "float32"), **QUICK
    )

    assert set(found.losses) == {0.0}
    assert found.suggestion is None


@pytest.mark.slow
def test_the_same_seed_gives_the_same_curve() -> None:
    """Two tests of one model are equal, and another order of the rows is another curve."""
    model = network()

    first, second, other = (find_learning_rate(model, some(), seed=s, **QUICK) for s in (1, 1, 2))

    assert first == second
    assert first != other


@pytest.mark.slow
def test_time_ends_the_test() -> None:
    """When the time is up the curve that is there is returned."""
    found = find_learning_rate(network(), some(), seconds=0.0, **QUICK)

    assert found.losses == ()
    assert found.suggestion is None
    assert "0 steps" in found.evidence


@pytest.mark.slow
def test_numbers_that_are_not_finite_end_the_curve() -> None:
    """A loss that is not a number is the end, and no part, of the curve."""
    x, y = some(32)
    bad = x.copy()
    bad[0] = np.nan
    batches = [(x[:16], y[:16])] * 11 + [(bad[:16], y[:16])]

    found = find_learning_rate(network(), batches, num_steps=20, high=1e-3)

    assert len(found.losses) == 11
    assert np.isfinite(found.smoothed).all()
    assert found.diverged_at == pytest.approx(np.geomspace(1e-7, 1e-3, 20)[11])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((np.ones((4, 64)), np.ones(3)), "lengths 3, 4"),
        ((np.ones((0, 64)), np.ones(0)), "lengths 0"),
        (([[1.0] * 64], [1]), "where an array should be"),
        ([], "ended after 0"),
        ((some(8) for _ in range(3)), "ended after 3"),
        ("data.csv", "a str"),
        (None, "a NoneType"),
    ],
)
def test_data_that_cannot_be_used_are_refused(data: Any, words: str) -> None:
    """What is wrong with the data is said, and how to mend it."""
    with pytest.raises(DataError, match=words):
        find_learning_rate(network(), data)


@pytest.mark.parametrize(
    "options",
    [
        {"low": 0.0},
        {"low": 1.0, "high": 0.1},
        {"high": math.inf},
        {"num_steps": 9},
        {"batch_size": 0},
        {"divergence": 1.0},
        {"smoothing": 1.0},
        {"seed": -1},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    """An option that cannot be used is named."""
    with pytest.raises(OptionError) as caught:
        find_learning_rate(network(), some(), **options)

    assert caught.value.where in options


def test_weights_beside_batches_are_refused() -> None:
    """Batches hold their weights themselves, and arrays have one weight each."""
    for data in ([some(8)], (*some(8), np.ones(8))):
        with pytest.raises(OptionError, match="sample_weight"):
            find_learning_rate(network(), data, sample_weight=np.ones(8))


def test_a_model_without_optimizer_is_refused() -> None:
    """A model must be compiled, and say its loss."""
    with pytest.raises(OptionError, match="compiled"):
        find_learning_rate(keras.Sequential([keras.layers.Dense(1)]), some())


@pytest.mark.slow
def test_a_step_without_loss_or_update_is_refused() -> None:
    """A `train_step` that tells no loss, or never uses the optimizer, is named as the cause."""

    class Silent(keras.Model):
        def train_step(self, *arguments: Any) -> Any:
            made = super().train_step(*arguments)
            return ({}, made[1]) if isinstance(made, tuple) else {}

    class Idle(keras.Model):
        def train_step(self, *arguments: Any) -> Any:
            logs = {"loss": keras.ops.convert_to_tensor(1.0)}
            return (logs, arguments[0]) if len(arguments) > 1 else logs

    for kind, words in ((Silent, "returns nothing"), (Idle, "no step of its optimizer")):
        inputs = keras.Input((64,))
        model = kind(inputs, keras.layers.Dense(10)(inputs))
        model.compile("adam", LOSS)
        with pytest.raises(OptionError, match=words):
            find_learning_rate(model, some(), **QUICK)


# What is read off a curve


def curve(losses: list[float], *, smoothing: float = 0.0, divergence: float = 4.0) -> RangeTest:
    """The range test of given losses at rates of 1, 10, 100, ... times 1e-7."""
    growing = GrowingCurve(divergence, smoothing)
    for number, loss in enumerate(losses):
        if not growing.goes_on(10.0 ** (number - 7), loss):
            break
    return growing.finished()


FALLING = [2.0, 2.0, 1.99, 1.98, 1.6, 1.2, 1.0, 0.9, 0.95, 0.98, 1.2, 1.5, 9.0, 9.9]


def test_suggestions_are_what_they_say() -> None:
    """On a curve drawn by hand each suggestion is the step that its definition names."""
    found = curve(FALLING)

    assert found.diverged_at == pytest.approx(1e5)
    assert len(found.losses) == 13
    # The least loss, 0.9, is the 8th; the steepest slope lies around the 5th: 1.98 to 1.2.
    assert found.minimum == pytest.approx(1.0)
    assert found.tenth_of_minimum == pytest.approx(0.1)
    assert found.steepest == pytest.approx(1e-3)
    # Seven losses fall from the 2nd to the 8th; in their middle is the 5th.
    assert found.valley == pytest.approx(1e-3)
    # sqrt(1e-3 * 0.1)
    assert found.middle == pytest.approx(1e-2)
    assert found.below_divergence == pytest.approx(1e4)
    # A tenth of the fall from 2.0 to 0.9 is 0.11: up to 1.01 counts, and 1.2 does not.
    assert found.largest_stable == pytest.approx(1e2)
    assert found.suggestion == found.suggestions()[found.chosen]
    assert "from 2 to 0.9" in found.evidence
    assert "broke off at 1e+05" in found.evidence


def test_a_curve_that_never_broke_off_has_other_bounds() -> None:
    """Without divergence a tenth of the minimum stands for a tenth of the break."""
    found = curve(FALLING[:10])

    assert found.diverged_at is None
    assert found.below_divergence == found.tenth_of_minimum == pytest.approx(0.1)
    assert "never broke off" in found.evidence


def test_smoothing_forgets_its_start() -> None:
    """Equal losses have their own value as average from the first step on; 1, 3 average to
    (0.5 * 1 + 1 * 3) / 1.5 with a weight of one half for the past."""
    assert curve([2.0] * 12, smoothing=0.9).smoothed == pytest.approx([2.0] * 12)
    assert curve([1.0, 3.0], smoothing=0.5).smoothed == pytest.approx([1.0, 3.5 / 1.5])


@pytest.mark.parametrize(
    "losses",
    [
        [1.0] * 20,
        [1.1, 0.95] * 8 + [1.1, 0.94, 1.1, 0.95],
        [1.0 + 0.05 * k for k in range(20)],
        [3.0, 2.0, 1.0],
        [],
    ],
)
def test_a_curve_without_a_fall_suggests_nothing(losses: list[float]) -> None:
    """Flat, noisy, rising and short curves have no suggestion, and say why."""
    found = curve(losses)

    assert found.suggestion is None
    assert found.suggestions() == {}
    assert found.minimum is found.steepest is found.valley is found.largest_stable is None
    assert "fell" in found.evidence or "steps" in found.evidence


def test_losses_below_zero_do_not_end_a_test_at_once() -> None:
    """A loss that passes through zero goes on, and breaks off when it rises far above."""
    found = curve([1.0 - 0.2 * k for k in range(11)] + [-0.9, 2.0, 30.0])

    assert found.diverged_at == pytest.approx(1e6)
    assert found.minimum == pytest.approx(1e3)


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=40),
    st.sampled_from([0.0, 0.5, 0.9]),
)
def test_any_losses_give_finite_suggestions(losses: list[float], smoothing: float) -> None:
    """Whatever the losses, suggestions are rates inside the curve and survive JSON."""
    found = curve(losses, smoothing=smoothing)

    assert np.isfinite([*found.losses, *found.smoothed]).all()
    assert len(found.learning_rates) == len(found.losses) == len(found.smoothed)
    for rate in found.suggestions().values():
        assert found.learning_rates[0] / 10 <= rate <= found.learning_rates[-1]
    assert (found.suggestion is None) == (found.suggestions() == {})
    assert found.evidence
    assert RangeTest.from_json(found.to_json()) == found


def test_what_is_no_range_test_is_refused() -> None:
    """JSON without a whole curve raises an error that the user can mend."""
    for content in ({}, {"learning_rates": [1.0], "losses": [1.0, 2.0], "smoothed": [1.0]}):
        with pytest.raises(DataError, match="range test"):
            RangeTest.from_json(content)


@pytest.mark.slow
@pytest.mark.jax
def test_a_model_that_was_trained_before_is_swept_like_a_fresh_one() -> None:
    """Steps that were compiled for the optimizer of the model are not those of the test."""
    x, y = some(96)
    curves = []
    for trained in (False, True):
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
        model.compile(keras.optimizers.SGD(0.01), LOSS)
        start = state_of(model, optimizer=False)
        if trained:
            model.fit(x, y, batch_size=32, epochs=1, verbose=0)
            set_state(model, start, optimizer=False)
        curves.append(find_learning_rate(model, (x, y), batch_size=32, num_steps=20).losses)

    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-5)
