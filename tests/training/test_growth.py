"""Batches that grow: the plan, one training to callbacks, continuation, both backends."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.errors import OptionError
from smarttune.training import growth as growth_module
from smarttune.training.checkpoint import set_state, state_of
from smarttune.training.growth import BatchGrowth, NoiseScaleGrowth, fit_growing
from smarttune.training.noise_scale import NoiseScale

HERE = Path(__file__).parent
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
ROWS, SEED = 40, 7


def data(rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Rows with a target that depends on them, and noise."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, 3)).astype("float32")
    return x, (x.sum(axis=1) + rng.normal(size=rows)).astype("float32")[:, None]


def network(optimizer: Any = None) -> Any:
    """A network with a state in every corner."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(6, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3, seed=5),
            keras.layers.Dense(1),
        ]
    )
    optimizer = optimizer or keras.optimizers.SGD(0.02, momentum=0.9)
    model.compile(optimizer, "mse", jit_compile=False if ON_TENSORFLOW else "auto")
    return model


def line(rate: Any = 0.01) -> Any:
    """The smallest model."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse", run_eagerly=True)
    return model


def rate_of(model: Any) -> float:
    """The learning rate now."""
    return float(model.optimizer.learning_rate.numpy())


def assert_equal_states(one: Any, other: Any) -> None:
    """Weights, statistics, moments, seeds and rate are the same, bit for bit."""
    names = [v.path for v in (*one.variables, *one.optimizer.variables)]
    for name, a, b in zip(names, state_of(one), state_of(other), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


# The plan.


def test_the_batch_doubles_in_equal_phases() -> None:
    """Nine epochs in three phases: 32, 64, 128, three epochs each; then the last stays."""
    plan = BatchGrowth(32, epochs=9, num_phases=3)

    assert [plan.batch_size_at(e) for e in range(11)] == [32] * 3 + [64] * 3 + [128] * 5
    assert plan.phases(range(2, 7)) == [
        (range(2, 3), 32),
        (range(3, 6), 64),
        (range(6, 7), 128),
    ]
    assert plan.phases(range(12, 14)) == [(range(12, 13), 128), (range(13, 14), 128)]


def test_steps_count_the_smaller_last_batch() -> None:
    """A hundred rows are four batches of 32, two of 64, one of 128."""
    plan = BatchGrowth(32, epochs=9, num_phases=3)

    assert plan.total_steps(100) == 3 * 4 + 3 * 2 + 3 * 1
    assert plan.steps(100, range(2, 7)) == 4 + 3 * 2 + 1
    assert plan.boundaries(100) == [12, 18]


def test_rates_fall_by_three_quarters() -> None:
    """The rate of each phase is 0.75 times that before, as in AdaBatch."""
    assert BatchGrowth(32, epochs=9, num_phases=3).rate_factors() == (1.0, 0.75, 0.5625)


def test_a_batch_that_is_held_back_lowers_the_rate() -> None:
    """Without growth the rate takes 0.375, as with a fixed batch; with half of it, in between."""
    plan = BatchGrowth(32, epochs=4, num_phases=4, largest=96)

    assert [plan.batch_size_at(e) for e in range(4)] == [32, 64, 96, 96]
    assert plan.rate_factors() == pytest.approx((1, 0.75, 0.375**2 * 3, 0.375**3 * 3))


def test_one_phase_is_a_constant_batch() -> None:
    """Nothing grows, and no rate changes."""
    plan = BatchGrowth(32, epochs=5, num_phases=1)

    assert plan.phases(range(5)) == [(range(5), 32)]
    assert (plan.boundaries(100), plan.rate_factors()) == ([], (1.0,))


@given(
    epochs=st.integers(1, 40),
    share=st.floats(0, 1),
    cut=st.integers(0, 40),
    rows=st.integers(1, 300),
    largest=st.integers(4, 200),
)
def test_a_plan_can_be_cut_anywhere(
    epochs: int, share: float, cut: int, rows: int, largest: int
) -> None:
    """Both parts of a training have the steps and sizes of the whole; batches never shrink."""
    plan = BatchGrowth(4, epochs, num_phases=1 + int(share * (epochs - 1)), largest=largest)
    cut = min(cut, epochs)
    head, tail = range(cut), range(cut, epochs)
    sizes = [plan.batch_size_at(e) for e in range(epochs)]

    assert plan.steps(rows, head) + plan.steps(rows, tail) == plan.total_steps(rows)
    assert [n for part, n in plan.phases(head) + plan.phases(tail) for _ in part] == sizes
    assert sizes == sorted(sizes)
    assert max(sizes) <= largest
    assert len(plan.boundaries(rows)) == plan.num_phases - 1
    assert plan.total_steps(rows) == sum(math.ceil(rows / n) for n in sizes)


@pytest.mark.parametrize(
    ("kind", "numbers", "at_fault"),
    [
        (BatchGrowth, {"batch_size": 0, "epochs": 5, "num_phases": 2}, "batch_size"),
        (BatchGrowth, {"batch_size": 8.0, "epochs": 5, "num_phases": 2}, "batch_size"),
        (BatchGrowth, {"batch_size": 8, "epochs": 5, "num_phases": 6}, "num_phases"),
        (BatchGrowth, {"batch_size": 8, "epochs": 5, "num_phases": 0}, "num_phases"),
        (BatchGrowth, {"batch_size": 8, "epochs": 0, "num_phases": 1}, "epochs"),
        (BatchGrowth, {"batch_size": 8, "epochs": 5, "num_phases": 2, "factor": 1}, "factor"),
        (BatchGrowth, {"batch_size": 8, "epochs": 5, "num_phases": 2, "largest": 4}, "largest"),
        (
            BatchGrowth,
            {"batch_size": 8, "epochs": 5, "num_phases": 2, "rate_factor": math.nan},
            "rate_factor",
        ),
        (NoiseScaleGrowth, {"batch_size": 8, "largest": 4}, "largest"),
        (NoiseScaleGrowth, {"batch_size": 8, "largest": 64, "every_epochs": 0}, "every_epochs"),
        (NoiseScaleGrowth, {"batch_size": 8, "largest": 64, "rule": "cubic"}, "rule"),
    ],
)
def test_bad_numbers_are_refused(kind: Any, numbers: dict[str, Any], at_fault: str) -> None:
    """The error names the number at fault."""
    with pytest.raises(OptionError) as caught:
        kind(**numbers)

    assert caught.value.where == f"{kind.__name__}.{at_fault}"


# One training to whoever watches.


class Watcher(keras.callbacks.Callback):
    """Notes every call, and the steps that Keras announces."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.heard: list[Any] = []
        self.steps: list[int] = []
        self.logs: list[dict[str, float]] = []
        self.end_logs: Any = None
        self.stop_after = stop_after

    def on_train_begin(self, logs: Any = None) -> None:
        self.heard.append("begin")

    def on_train_end(self, logs: Any = None) -> None:
        self.heard.append("end")
        self.end_logs = logs

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.steps.append(self.params["steps"])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.heard.append(epoch)
        self.logs.append(dict(logs))
        if epoch == self.stop_after:
            self.model.stop_training = True


@pytest.mark.jax
def test_callbacks_see_one_training() -> None:
    """One begin, all epochs in order, one end with the last logs; a whole history."""
    watcher, model = Watcher(), line()

    history = fit_growing(
        model,
        *data(),
        growth=BatchGrowth(10, 4, 2),
        epochs=4,
        seed=SEED,
        callbacks=[watcher],
        validation_data=data(6),
    )

    assert watcher.heard == ["begin", 0, 1, 2, 3, "end"]
    assert watcher.steps == [4, 4, 2, 2]
    assert history.epoch == [0, 1, 2, 3]
    assert history.history["batch_size"] == [10, 10, 20, 20]
    assert {k: len(v) for k, v in history.history.items()} == dict.fromkeys(watcher.logs[0], 4)
    assert "val_loss" in history.history
    assert model.history is history
    assert watcher.end_logs == watcher.logs[-1]


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_callback_can_stop_the_training(epoch: int) -> None:
    """Whether in the midst of a phase or at its end, no further epoch begins, and one end is told."""
    watcher = Watcher(stop_after=epoch)

    fit_growing(
        line(),
        *data(),
        growth=BatchGrowth(10, 4, 2),
        epochs=4,
        seed=SEED,
        callbacks=[watcher],
    )

    assert watcher.heard == ["begin", *range(epoch + 1), "end"]


@pytest.mark.skipif(not ON_TENSORFLOW, reason="JAX shows a loss its batches as symbols")
def test_samples_come_in_the_promised_order() -> None:
    """Each epoch is the permutation of its seed, cut into the batches of its phase."""
    seen = []

    class Recorder(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, x: Any) -> Any:
            return self.dense(x)

        def compute_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None, **rest: Any):
            seen.append(
                (
                    keras.ops.convert_to_numpy(y).ravel().astype(int).tolist(),
                    keras.ops.convert_to_numpy(sample_weight).tolist(),
                )
            )
            return super().compute_loss(x, y, y_pred, sample_weight, **rest)

    model = Recorder()
    model.compile(keras.optimizers.SGD(1e-5), "mse", run_eagerly=True)
    number = np.arange(6, dtype="float32")
    fit_growing(
        model,
        number[:, None],
        number[:, None],
        growth=BatchGrowth(2, 2, 2),
        epochs=2,
        seed=SEED,
        sample_weight=number / 8,
    )

    first, second = (np.random.default_rng([SEED, e]).permutation(6).tolist() for e in range(2))
    batches = [first[:2], first[2:4], first[4:], second[:4], second[4:]]
    # Keras may call the loss once more to build the model.
    assert [s for s, _ in seen[-5:]] == batches
    assert [w for _, w in seen[-5:]] == [[i / 8 for i in b] for b in batches]


def test_the_rate_follows_the_plan() -> None:
    """A constant rate is multiplied where a phase begins, and at no other epoch."""
    model, plan = line(0.01), BatchGrowth(10, 4, 2)
    rates = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: rates.append(rate_of(model)))

    fit_growing(model, *data(), growth=plan, epochs=4, seed=SEED, callbacks=[note])

    assert rates == pytest.approx([0.01, 0.01, 0.0075, 0.0075])


def test_a_schedule_is_left_alone() -> None:
    """With a schedule over the plan's boundaries, phases begin with their rates to the step."""
    plan = BatchGrowth(10, 4, 2)
    bounds = [b - 1 for b in plan.boundaries(ROWS)]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        bounds, [0.01 * f for f in plan.rate_factors()]
    )
    by_schedule, by_growth = line(schedule), line(0.01)
    set_state(by_growth, state_of(by_schedule, optimizer=False), optimizer=False)

    for model in (by_schedule, by_growth):
        fit_growing(model, *data(), growth=plan, epochs=4, seed=SEED)

    weights = [state_of(model, optimizer=False) for model in (by_schedule, by_growth)]
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert int(by_schedule.optimizer.iterations.numpy()) == plan.total_steps(ROWS) == 12


def test_no_epochs_train_nothing() -> None:
    """An empty range tells callbacks nothing and leaves the model alone."""
    watcher, model = Watcher(), line()
    before = state_of(model)

    history = fit_growing(
        model, *data(), growth=BatchGrowth(10, 4, 2), epochs=0, seed=SEED, callbacks=[watcher]
    )

    assert (watcher.heard, history.epoch if hasattr(history, "epoch") else []) == ([], [])
    for a, b in zip(before, state_of(model), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="JAX compiles once per batch size")
def test_growing_does_not_trace_again() -> None:
    """TensorFlow traces the training step and the validation as often as with one batch size."""

    def traces(num_phases: int) -> list[bool]:
        seen: list[bool] = []

        class Traced(keras.layers.Layer):
            def call(self, x: Any, training: bool = False) -> Any:
                seen.append(training)
                return x

        inputs = keras.Input((3,))
        model = keras.Model(inputs, keras.layers.Dense(1)(Traced()(inputs)))
        model.compile("sgd", "mse", jit_compile=False)
        seen.clear()
        plan = BatchGrowth(2, 6, num_phases)
        fit_growing(model, *data(), growth=plan, epochs=6, seed=SEED, validation_data=data(6))
        return seen

    assert sorted(traces(3)) == sorted(traces(1))


# Continuation.


class Average(keras.callbacks.Callback):
    """Leaves the weights of the last epoch in the model, not their average."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.weights = [v.numpy() for v in self.model.trainable_variables]

    def on_train_end(self, logs: Any = None) -> None:
        for variable, value in zip(self.model.trainable_variables, self.weights, strict=True):
            variable.assign(value)


@pytest.mark.jax
@pytest.mark.slow
@pytest.mark.parametrize("stop", [2, 3])
@pytest.mark.parametrize("averaged", [False, True])
def test_a_planned_growth_can_be_continued(stop: int, averaged: bool) -> None:
    """Some epochs and then the rest are the whole, bit for bit, within a phase and between two."""

    def train(model: Any, epochs: range) -> dict[str, list[float]]:
        return fit_growing(
            model,
            *data(),
            growth=BatchGrowth(8, 6, 2),
            epochs=epochs,
            seed=SEED,
            callbacks=[Average()] if averaged else [],
            validation_data=data(6),
        ).history

    optimizer = lambda: keras.optimizers.Adam(0.01, use_ema=averaged)
    through, first, second = (network(optimizer()) for _ in range(3))
    whole = train(through, range(6))
    head = train(first, range(stop))
    set_state(second, state_of(first))
    tail = train(second, range(stop, 6))

    assert {k: v + tail[k] for k, v in head.items()} == whole
    assert_equal_states(through, second)
    assert rate_of(second) == pytest.approx(0.0075)


@pytest.mark.slow
def test_averages_replace_the_weights_only_at_the_end() -> None:
    """With a moving average, growing at an equal size and rate is training without growth."""
    plain, grown = (network(keras.optimizers.SGD(0.02, use_ema=True)) for _ in range(2))
    same = BatchGrowth(8, 4, 4, largest=8, rate_factor=2.0)

    fit_growing(plain, *data(), growth=BatchGrowth(8, 4, 1), epochs=4, seed=SEED)
    fit_growing(grown, *data(), growth=same, epochs=4, seed=SEED)

    assert_equal_states(plain, grown)
    average = plain.optimizer._model_variables_moving_average[0]
    np.testing.assert_array_equal(plain.trainable_variables[0].numpy(), average.numpy())


@pytest.mark.slow
def test_a_measured_growth_can_be_continued() -> None:
    """With the logs of what was trained, measurements and growth come out the same."""
    plan = NoiseScaleGrowth(4, 32, every_epochs=2)

    def train(model: Any, plan: NoiseScaleGrowth, epochs: range) -> dict[str, list[float]]:
        return fit_growing(model, *data(), growth=plan, epochs=epochs, seed=SEED).history

    through = network()
    whole = train(through, plan, range(7))
    assert len(set(whole["batch_size"])) > 1, "nothing grew, so nothing is shown"
    for stop in (3, 4):
        first, second = network(), network()
        head = train(first, plan, range(stop))
        set_state(second, state_of(first))
        logs = [{k: v[e] for k, v in head.items()} for e in range(stop)]
        tail = train(second, plan.continued(logs), range(stop, 7))

        assert {k: v + tail[k] for k, v in head.items()} == whole
        assert_equal_states(through, second)


# The measured growth.


def measured(monkeypatch: pytest.MonkeyPatch, scales: list[float]) -> list[dict[str, Any]]:
    """Let the measurements give these noise scales; returns how each was asked for."""
    asked: list[dict[str, Any]] = []
    answers = iter(scales)

    class Measured:
        def __init__(self, model: Any) -> None:
            pass

        def measure(self, x: Any, y: Any, **options: Any) -> NoiseScale:
            asked.append(options)
            return NoiseScale(next(answers), 1.0, 1.0, options["small"], options["big"])

    monkeypatch.setattr(growth_module, "GradientNoise", Measured)
    return asked


@pytest.mark.parametrize(("rule", "factor"), [("linear", 16.0), ("sqrt", 4.0)])
def test_batch_and_rate_follow_the_noise(
    rule: Any, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power of two at or below; a smaller scale changes nothing; `largest` holds."""
    asked = measured(monkeypatch, [7.9, 3.0, 16.0, 33.0])
    model = line(0.001)
    plan = NoiseScaleGrowth(2, 32, every_epochs=2, rule=rule)

    history = fit_growing(model, *data(200), growth=plan, epochs=9, seed=SEED).history

    assert history["batch_size"] == [2, 2, 4, 4, 4, 4, 16, 16, 32]
    assert rate_of(model) == pytest.approx(0.001 * factor)
    assert [(a["small"], a["big"]) for a in asked] == [(2, 32)] * 4
    assert len({a["seed"] for a in asked}) == 4


@pytest.mark.parametrize(
    ("scale", "size"), [(math.inf, 32), (math.nan, 2), (0.0, 2), (0.5, 2), (2.0, 2), (4.0, 4)]
)
def test_odd_noise_scales(scale: float, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An infinite one grows to what was measured, none at all and small ones change nothing."""
    measured(monkeypatch, [scale])

    history = fit_growing(
        line(), *data(), growth=NoiseScaleGrowth(2, 4096), epochs=2, seed=SEED
    ).history

    assert history["batch_size"] == [2, size]


@pytest.mark.parametrize(("copies", "sizes"), [(4, [2, 32, 64, 64]), (1, [2, 32, 32, 32])])
def test_a_batch_beyond_the_measured_doubles(
    copies: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scale that cannot be told from infinity is approached by doubling, up to all the rows."""
    measured(monkeypatch, [math.inf, 1e9, 1e9])
    x, y = (np.concatenate([part] * copies) for part in data())

    growth = NoiseScaleGrowth(2, 100)
    history = fit_growing(line(), x, y, growth=growth, epochs=4, seed=SEED).history

    assert history["batch_size"] == sizes


def test_a_measured_growth_refuses_a_schedule() -> None:
    """A rate that a schedule gives cannot follow the batch."""
    model = line(keras.optimizers.schedules.CosineDecay(0.1, 10))

    with pytest.raises(OptionError, match="schedule"):
        fit_growing(model, *data(), growth=NoiseScaleGrowth(4, 32), epochs=2, seed=SEED)


def test_a_measured_growth_is_not_continued_by_accident() -> None:
    """Later epochs without the logs of the earlier ones are refused, and logs without a size."""
    plan = NoiseScaleGrowth(4, 32)

    with pytest.raises(OptionError, match="continued"):
        fit_growing(line(), *data(), growth=plan, epochs=range(2, 4), seed=SEED)
    with pytest.raises(OptionError, match="batch_size"):
        plan.continued([{"loss": 1.0}])
    assert plan.continued([{"batch_size": 8.0}]).last_batch_size == 8
    assert plan.continued([]) == plan
