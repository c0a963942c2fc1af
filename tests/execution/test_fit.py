"""The lane of `model.fit`: batches, weights, continuation and housekeeping."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from smarttune.execution import TrainingData, collect_garbage, fit, fit_arrays, prepare_process
from smarttune.training.checkpoint import set_state, state_of
from smarttune.training.growth import BatchGrowth, NoiseScaleGrowth

# Keras 3.15 on TensorFlow reads its variables in a way that NumPy 2 is about to end.
READS_VARIABLES = "__array__ implementation doesn't accept a copy keyword"
pytestmark = pytest.mark.filterwarnings(f"ignore:{READS_VARIABLES}:DeprecationWarning")

ROWS, BATCH, SEED = 11, 4, 7


def data(rows: int = ROWS) -> TrainingData:
    """Rows whose first input and target are their number, and three rows to validate on."""
    number = np.arange(rows, dtype=np.float32)
    x = np.stack([number, np.ones(rows, np.float32)], axis=1)
    return TrainingData(x, number[:, None], x[:3], number[:3, None])


class Recorder(keras.Model):  # type: ignore[misc]
    """One layer that keeps the numbers and weights of every batch it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.seen: list[list[int]] = []
        self.weighed: list[Any] = []

    def call(self, x: Any) -> Any:
        """Apply the layer."""
        return self.dense(x)

    def train_step(self, batch: Any) -> Any:
        """Keep the batch, then train on it."""
        self.seen.append([int(i) for i in np.asarray(batch[1]).reshape(-1)])
        self.weighed.append(np.asarray(batch[2]) if len(batch) == 3 else None)
        return super().train_step(batch)


def recorder() -> Recorder:
    """A recorder that runs step by step in Python."""
    model = Recorder()
    model.compile(keras.optimizers.SGD(1e-4), "mse", run_eagerly=True)
    return model


def promised(epochs: range, *, seed: int = SEED) -> list[list[int]]:
    """The rows of each batch, from the documented seeds."""
    orders = [np.random.default_rng([seed, e]).permutation(ROWS).tolist() for e in epochs]
    return [o[i : i + BATCH] for o in orders for i in range(0, ROWS, BATCH)]


def test_every_epoch_has_its_batches_in_the_promised_order() -> None:
    """Three batches per epoch, the last one smaller, in the order of seed and epoch."""
    model = recorder()

    fit_arrays(model, data(), batch_size=BATCH, seed=SEED, epochs=range(2))

    assert model.seen == promised(range(2))
    assert [len(batch) for batch in model.seen] == [4, 4, 3] * 2


def test_a_continued_training_sees_the_batches_that_were_left() -> None:
    """Epochs 1 to 3 begin where one epoch ended, whatever was trained before."""
    through, continued = recorder(), recorder()

    fit_arrays(through, data(), batch_size=BATCH, seed=SEED, epochs=range(3))
    fit_arrays(continued, data(), batch_size=BATCH, seed=SEED, epochs=range(1, 3))

    assert continued.seen == through.seen[3:] == promised(range(1, 3))


def test_another_seed_is_another_order() -> None:
    """The seed decides the order."""
    model = recorder()

    fit_arrays(model, data(), batch_size=BATCH, seed=SEED + 1, epochs=range(1))

    assert model.seen == promised(range(1), seed=SEED + 1)
    assert model.seen != promised(range(1))


def test_weights_stay_with_their_rows() -> None:
    """Each row of a batch comes with its own weight."""
    model = recorder()

    fit_arrays(
        model,
        data(),
        batch_size=BATCH,
        seed=SEED,
        epochs=range(1),
        sample_weight=np.arange(ROWS) / 8,
    )

    assert [w.tolist() for w in model.weighed] == [
        [i / 8 for i in batch] for batch in promised(range(1))
    ]


def constant(value: float, rate: float = 0.0) -> Any:
    """A compiled model that answers with one trainable number."""
    inputs = keras.Input((2,))
    bias = keras.initializers.Constant(value)
    layer = keras.layers.Dense(1, kernel_initializer="zeros", bias_initializer=bias)
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.SGD(rate), "mse", jit_compile=False)
    return model


class Logs(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps what Keras tells of batches and epochs."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.epochs: dict[int, dict[str, float]] = {}

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Note the number of the batch."""
        self.batches.append(batch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Note the logs of the epoch."""
        self.epochs[epoch] = dict(logs)


def test_weights_reach_the_loss() -> None:
    """Only the weighted rows enter loss and gradient; validation rows have no weights."""
    alone = np.zeros(ROWS)
    alone[6] = 2.0
    logs = Logs()

    # Keras divides the weighted sum by the number of rows; all rows are one batch here.
    fit_arrays(
        constant(1.0),
        data(),
        batch_size=ROWS,
        seed=SEED,
        epochs=range(1),
        sample_weight=alone,
        callbacks=[logs],
    )

    assert logs.epochs[0]["loss"] == pytest.approx(2 * (6 - 1) ** 2 / ROWS)
    assert logs.epochs[0]["val_loss"] == pytest.approx(((0 - 1) ** 2 + 0 + (2 - 1) ** 2) / 3)


def test_weights_reach_the_gradient() -> None:
    """A step follows the weighted rows alone."""
    alone = np.zeros(ROWS)
    alone[6] = 1.0
    model = constant(1.0, rate=0.1)

    fit_arrays(model, data(), batch_size=ROWS, seed=SEED, epochs=range(1), sample_weight=alone)

    # d/db (b - 6)^2 / 11 at b = 1 is -10 / 11.
    assert state_of(model, optimizer=False)[1][0] == pytest.approx(1 + 0.1 * 10 / ROWS)


def test_epochs_keep_their_numbers() -> None:
    """Callbacks hear of the epochs by their place in the whole training, and of each batch."""
    logs = Logs()

    fit_arrays(
        constant(0.0), data(), batch_size=BATCH, seed=SEED, epochs=range(3, 5), callbacks=[logs]
    )

    assert list(logs.epochs) == [3, 4]
    assert logs.batches == [0, 1, 2] * 2
    assert {"loss", "val_loss"} <= logs.epochs[4].keys()


def test_named_inputs_are_fed_by_name() -> None:
    """Dicts of arrays reach the inputs of their names, in training and validation."""
    a, b = keras.Input((1,), name="a"), keras.Input((1,), name="b")
    answer = keras.layers.Dense(1, kernel_initializer="ones")(keras.layers.Subtract()([a, b]))
    model = keras.Model({"a": a, "b": b}, answer)
    model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
    x = {"b": np.zeros((5, 1)), "a": np.arange(5.0)[:, None]}
    logs = Logs()

    fit_arrays(
        model,
        TrainingData(x, np.arange(5.0), x, np.arange(5.0)),
        batch_size=2,
        seed=SEED,
        epochs=range(1),
        callbacks=[logs],
    )

    assert (logs.epochs[0]["loss"], logs.epochs[0]["val_loss"]) == (0.0, 0.0)


def network() -> Any:
    """A network with a state in every corner: dropout, moving averages, moments, a schedule."""
    keras.utils.set_random_seed(SEED)
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(6, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.4, seed=5),
            keras.layers.Dense(1),
        ]
    )
    rate = keras.optimizers.schedules.CosineDecay(0.05, decay_steps=18)
    model.compile(keras.optimizers.Adam(rate), "mse", jit_compile=False)
    return model


def trained(model: Any, epochs: range) -> dict[int, dict[str, float]]:
    """Train some epochs and return their logs."""
    logs = Logs()
    fit_arrays(model, data(), batch_size=BATCH, seed=SEED, epochs=epochs, callbacks=[logs])
    return logs.epochs


@pytest.mark.slow
def test_three_and_three_epochs_are_six() -> None:
    """With the state carried over, weights, moments and logs equal those of one go, bit for bit."""
    through = network()
    whole = trained(through, range(6))

    first, second = network(), network()
    logs = trained(first, range(3))
    set_state(second, state_of(first))
    logs |= trained(second, range(3, 6))

    assert logs == whole
    names = [v.path for v in (*through.variables, *through.optimizer.variables)]
    states = zip(names, state_of(second), state_of(through), strict=True)
    for name, got, wanted in states:
        np.testing.assert_array_equal(got, wanted, err_msg=name)
    assert int(second.optimizer.iterations) == 6 * 3


@pytest.mark.slow
def test_without_the_state_it_is_another_training() -> None:
    """The equality above is no matter of course: a network that starts anew ends elsewhere."""
    through, anew = network(), network()
    whole = trained(through, range(4))

    part = trained(anew, range(2, 4))

    assert part[3] != whole[3]


def test_a_training_that_stops_early_just_ends() -> None:
    """Batches that nobody asks for any more are no error."""

    class Stop(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.stop_training = True

    logs = Logs()

    fit_arrays(
        constant(0.0),
        data(),
        batch_size=BATCH,
        seed=SEED,
        epochs=range(5),
        callbacks=[Stop(), logs],
    )

    assert list(logs.epochs) == [0]


@pytest.mark.parametrize("batch_size", [1, BATCH, ROWS, 64])
def test_training_says_nothing(batch_size: int, capfd: pytest.CaptureFixture[str]) -> None:
    """No warning and no output, whether batches divide the rows or exceed them."""
    model = constant(0.0)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", READS_VARIABLES, DeprecationWarning)
        fit_arrays(model, data(), batch_size=batch_size, seed=SEED, epochs=range(2))

    assert [str(w.message) for w in caught] == []
    assert capfd.readouterr().out == ""


# Batches that grow.


def test_growth_wins_over_the_batch_size() -> None:
    """The plan's batches are trained, in the order of each epoch, with their weights."""
    model = recorder()

    fit_arrays(
        model,
        data(),
        batch_size=1,
        seed=SEED,
        epochs=range(2),
        sample_weight=np.arange(ROWS) / 8,
        growth=BatchGrowth(4, 2, 2),
    )

    orders = [np.random.default_rng([SEED, e]).permutation(ROWS).tolist() for e in range(2)]
    batches = [orders[0][:4], orders[0][4:8], orders[0][8:], orders[1][:8], orders[1][8:]]
    assert model.seen == batches
    assert [w.tolist() for w in model.weighed] == [[i / 8 for i in b] for b in batches]


class Read:
    """Rows that are read when they are asked for, never all at once."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.shape, self.most = rows, rows.shape, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        self.most = max(self.most, len(rows))
        return self.rows[rows]


def test_growth_reads_rows_as_it_needs_them() -> None:
    """Data outside of memory are read batch by batch, in training and validation."""
    whole, logs = data(), Logs()
    read = TrainingData(Read(whole.x), whole.y, Read(whole.x_validation), whole.y_validation)

    fit_arrays(
        constant(1.0),
        read,
        batch_size=1,
        seed=SEED,
        epochs=range(2),
        callbacks=[logs],
        growth=BatchGrowth(2, 2, 2),
    )

    assert read.x.most == 4
    assert [logs.epochs[e]["batch_size"] for e in range(2)] == [2, 4]
    assert logs.epochs[1]["val_loss"] == pytest.approx(((0 - 1) ** 2 + 0 + (2 - 1) ** 2) / 3)


@pytest.mark.slow
def test_a_plan_of_one_phase_is_training_without_growth() -> None:
    """Weights, moments and logs are the same, but for the batch size in the logs."""
    plain, planned, logs = network(), network(), Logs()
    whole = trained(plain, range(3))

    fit_arrays(
        planned,
        data(),
        batch_size=99,
        seed=SEED,
        epochs=range(3),
        callbacks=[logs],
        growth=BatchGrowth(BATCH, 3, 1),
    )

    assert logs.epochs == {e: {**epoch, "batch_size": BATCH} for e, epoch in whole.items()}
    for got, wanted in zip(state_of(planned), state_of(plain), strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.slow
@pytest.mark.parametrize(
    "growth", [BatchGrowth(2, 15, 3), NoiseScaleGrowth(2, 8, every_epochs=2)], ids=["plan", "noise"]
)
def test_five_and_ten_growing_epochs_are_fifteen(growth: Any) -> None:
    """With the state carried over, a growing training ends as in one go, bit for bit."""

    def train(model: Any, epochs: range, growth: Any) -> dict[int, dict[str, float]]:
        logs = Logs()
        fit_arrays(
            model,
            data(),
            batch_size=1,
            seed=SEED,
            epochs=epochs,
            callbacks=[logs],
            growth=growth,
        )
        return logs.epochs

    def build() -> Any:
        model = network()
        model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
        return model

    through, first, second = build(), build(), build()
    whole = train(through, range(15), growth)
    logs = train(first, range(5), growth)
    set_state(second, state_of(first))
    if isinstance(growth, NoiseScaleGrowth):
        growth = growth.continued(list(logs.values()))
    logs |= train(second, range(5, 15), growth)

    assert logs == whole
    assert len({epoch["batch_size"] for epoch in whole.values()}) > 1
    for got, wanted in zip(state_of(second), state_of(through), strict=True):
        np.testing.assert_array_equal(got, wanted)


# Housekeeping.


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the collector and of Keras, none of it done."""
    made: list[str] = []
    collector = SimpleNamespace(
        collect=lambda: made.append("collect"), freeze=lambda: made.append("freeze")
    )
    monkeypatch.setattr(fit, "gc", collector)
    monkeypatch.setattr(keras.backend, "clear_session", lambda: made.append("clear"))
    return made


def test_garbage_is_collected_once_in_a_while(calls: list[str]) -> None:
    """Of sixty trials only the 25th and the 50th are followed by a collection."""
    cleaned = []

    for trials in range(1, 61):
        collect_garbage(trials)
        if calls:
            cleaned.append((trials, tuple(calls)))
            calls.clear()

    assert cleaned == [(25, ("clear", "collect")), (50, ("clear", "collect"))]


def test_what_was_imported_is_frozen(calls: list[str]) -> None:
    """Garbage goes first, so that it is not kept for good; later garbage is never spared."""
    prepare_process.cache_clear()

    prepare_process()
    prepare_process()

    assert calls == ["collect", "freeze"]
