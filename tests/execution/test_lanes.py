"""Every lane gives the curves and the weights that `fit` gives, and says what it cannot take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import pytest

from smarttune.errors import OptionError
from smarttune.execution import TrainingData, fit_arrays
from smarttune.execution.choice import Executor, chosen_executor, executor_of_run
from smarttune.execution.lanes import Lanes
from smarttune.execution.program import Feed
from smarttune.execution.together import Member
from smarttune.training.checkpoint import set_state, state_of

from .networks import BATCH_SIZE, NETWORKS, NUM_CLASSES, mlp

EPOCHS = 4
pytestmark = [pytest.mark.slow, pytest.mark.jax]


class Curve(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps the logs of epochs."""

    def __init__(self) -> None:
        super().__init__()
        self.logs: list[dict[str, float]] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keep them."""
        self.logs.append({name: float(value) for name, value in logs.items()})


@pytest.fixture(params=list(NETWORKS))
def network(request: Any) -> Iterator[tuple[Any, TrainingData]]:
    """A network by one of its numbers, and its data."""
    build, data = NETWORKS[request.param]
    yield build, data()


def built(build: Any, number: float, seed: int) -> Any:
    """The network with the weights of a seed."""
    keras.utils.set_random_seed(seed)
    model = build(number)
    if not model.built:
        model(np.zeros((BATCH_SIZE, 6), "float32"))
    return model


def by_fit(
    model: Any, data: TrainingData, seed: int, epochs: range = range(EPOCHS), weight: Any = None
) -> list[dict[str, float]]:
    """Train by `fit`; returns the curve."""
    curve = Curve()
    fit_arrays(
        model,
        data,
        batch_size=BATCH_SIZE,
        seed=seed,
        epochs=epochs,
        sample_weight=weight,
        callbacks=[curve],
    )
    return curve.logs


def member(
    model: Any,
    data: TrainingData,
    seed: int,
    epochs: range = range(EPOCHS),
    *callbacks: Any,
    weight: Any = None,
) -> tuple[Member, Curve]:
    """A trial, and where its curve will be."""
    curve = Curve()
    feed = Feed.of(model, data, BATCH_SIZE, weight)
    return Member(model, feed, seed, epochs, [curve, *callbacks]), curve


ROUNDING = 2e-4  # of float32, over the epochs trained here
# ours: bfloat16 keeps 8 bits, so that one result rounded otherwise is off by 2^-8 at its layer.
HALF_ROUNDING = 2.0**-8


def assert_same(curve: Sequence[Any], other: Sequence[Any], tolerance: float = ROUNDING) -> None:
    """Two curves agree up to rounding."""
    assert len(curve) == len(other)
    for logs, wanted in zip(curve, other, strict=True):
        assert logs.keys() == wanted.keys()
        for name, value in wanted.items():
            # ours: one sample of a class more or less, where rounding decides between two.
            slack = 2.1 / 41 if "accuracy" in name else 0.0
            assert logs[name] == pytest.approx(value, rel=tolerance, abs=tolerance + slack), name


def test_a_compiled_trial_has_the_curve_of_fit(network: Any) -> None:
    """For three trials of one structure the curves are those of `fit`, from one program."""
    build, data = network
    chosen: list[tuple[str, str]] = []
    lanes = Lanes("compiled", on_choice=lambda *choice: chosen.append(choice))
    for seed, number in enumerate((0.2, 0.35, 0.5)):
        one, curve = member(built(build, number, seed), data, seed)
        assert lanes.train([one]) == []
        model = built(build, number, seed)
        half = model.dtype_policy.compute_dtype != "float32"
        assert_same(curve.logs, by_fit(model, data, seed), HALF_ROUNDING if half else ROUNDING)
    assert len(lanes._programs) == 1, chosen


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="one trial at a time elsewhere")
@pytest.mark.parametrize("name", ["mlp", "normalized", "cnn", "rnn"])
def test_trials_together_have_the_curves_of_fit(name: str) -> None:
    """Three trials of different length and numbers end as if each had trained alone."""
    build, data = NETWORKS[name][0], NETWORKS[name][1]()
    lanes = Lanes("fused")
    numbers, lengths = (0.2, 0.35, 0.5), (EPOCHS, 2, EPOCHS)
    trials = [
        member(built(build, number, seed), data, seed, range(length))
        for seed, (number, length) in enumerate(zip(numbers, lengths, strict=True))
    ]
    assert lanes.train([one for one, _ in trials]) == []
    for seed, ((_, curve), number, length) in enumerate(zip(trials, numbers, lengths, strict=True)):
        model = built(build, number, seed)
        assert_same(curve.logs, by_fit(model, data, seed, range(length)))


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="one trial at a time elsewhere")
def test_trials_that_are_left_go_on_in_a_smaller_program() -> None:
    """When three of four trials have ended, the last one ends as if it had trained alone."""
    from smarttune.execution import _jax

    build, data = NETWORKS["mlp"][0], NETWORKS["mlp"][1]()
    lanes, sizes = Lanes("fused"), []
    call = _jax._Program.call

    def counted(program: Any, name: str, size: int, *arguments: Any) -> Any:
        sizes.append(size)
        return call(program, name, size, *arguments)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_jax._Program, "call", counted)
        for _ in range(2):  # the second time the smaller program is there for certain
            trials = [
                member(built(build, 0.3, seed), data, seed, range(4 if seed == 3 else 1))
                for seed in range(4)
            ]
            assert lanes.train([one for one, _ in trials]) == []
            _jax._COMPILER.submit(int).result()
    assert sizes[-6:] == [1] * 6
    for seed, (_, curve) in enumerate(trials):
        wanted = by_fit(built(build, 0.3, seed), data, seed, range(4 if seed == 3 else 1))
        assert_same(curve.logs, wanted)


@pytest.mark.parametrize("first", ["fit", "compiled"])
@pytest.mark.parametrize("name", ["mlp", "normalized"])
def test_a_state_goes_on_in_another_lane(name: str, first: str) -> None:
    """Two epochs in one lane and two in the other are four epochs of `fit`."""
    build, data = NETWORKS[name][0], NETWORKS[name][1]()
    model = built(build, 0.3, 5)
    one, _ = member(model, data, 5)
    lanes = Lanes("compiled")

    def trained(model: Any, lane: str, epochs: range) -> list[dict[str, float]]:
        if lane == "fit":
            return by_fit(model, data, 5, epochs)
        one, curve = member(model, data, 5, epochs)
        assert lanes.train([one]) == []
        return curve.logs

    second = "compiled" if first == "fit" else "fit"
    begun = trained(model, first, range(2))
    other = built(build, 0.3, 99)
    set_state(other, state_of(model))
    curve = [*begun, *trained(other, second, range(2, 4))]
    whole = built(build, 0.3, 5)
    assert_same(curve, by_fit(whole, data, 5))


def test_weights_of_samples_count() -> None:
    """Sample weights of each trial have the effect that they have in `fit`."""
    build, data = NETWORKS["mlp"]
    data = data()
    weights = [np.linspace(0.1, 2.0, len(data.y)).astype("float32") ** power for power in (1, 2)]
    lanes = Lanes("fused")
    trials = [
        member(built(build, 0.3, seed), data, seed, weight=weight)
        for seed, weight in enumerate(weights)
    ]
    assert lanes.train([one for one, _ in trials]) == []
    for seed, ((_, curve), weight) in enumerate(zip(trials, weights, strict=True)):
        assert_same(curve.logs, by_fit(built(build, 0.3, seed), data, seed, weight=weight))


class Rows:
    """Rows that are read when they are asked for."""

    def __init__(self, x: np.ndarray) -> None:
        self.x, self.shape = x, x.shape

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.x[rows]


def test_rows_that_are_read_on_the_way_give_the_same(monkeypatch: Any) -> None:
    """Streamed data lead to the curve of data on the device."""
    from smarttune.execution import residence

    monkeypatch.setattr(residence, "PIECE_BYTES", 3 * BATCH_SIZE * 40)
    monkeypatch.setattr(residence, "VALIDATION_BATCHES", 1)
    build, data = NETWORKS["mlp"]
    plain = data()
    streamed = TrainingData(Rows(plain.x), plain.y, Rows(plain.x_validation), plain.y_validation)
    one, curve = member(built(build, 0.3, 1), streamed, 1)
    assert Lanes("compiled").train([one]) == []
    assert_same(curve.logs, by_fit(built(build, 0.3, 1), plain, 1))


class StopsAfter(keras.callbacks.Callback):  # type: ignore[misc]
    """Stops a training after an epoch, and halves the rate before."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Act on the model as a user's callback may."""
        rate = self.model.optimizer.learning_rate
        rate.assign(rate * 0.5)
        self.model.stop_training = epoch >= self.epoch


def test_callbacks_act_between_epochs() -> None:
    """A callback that assigns to variables and stops its trial does so in every lane."""
    build, data = NETWORKS["mlp"]
    data = data()
    for lane in ("compiled", "fused"):
        trials = [
            member(built(build, 0.3, seed), data, seed, range(EPOCHS), StopsAfter(seed + 1))
            for seed in range(2)
        ]
        assert Lanes(lane).train([one for one, _ in trials]) == []
        for seed, (_, curve) in enumerate(trials):
            wanted = Curve()
            fit_arrays(
                built(build, 0.3, seed),
                data,
                batch_size=BATCH_SIZE,
                seed=seed,
                epochs=range(EPOCHS),
                callbacks=[wanted, StopsAfter(seed + 1)],
            )
            assert_same(curve.logs, wanted.logs)


class Within(keras.callbacks.Callback):  # type: ignore[misc]
    """Acts after every step."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Touch the model."""
        self.model.optimizer.learning_rate.assign(0.0)


class OwnFit(keras.Sequential):  # type: ignore[misc]
    """Trains in a way of its own."""

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """As the parent, but who knows."""
        return super().fit(*args, **kwargs)


def eager(number: float) -> Any:
    """A model that is not to be compiled."""
    model = mlp(number)
    model.run_eagerly = True
    return model


def with_own_fit(number: float) -> Any:
    """A model with another `fit`."""
    model = OwnFit([keras.Input((6,)), keras.layers.Dense(NUM_CLASSES)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.mark.parametrize(
    ("build", "callback", "reason"),
    [
        (mlp, Within(), "Within acts within epochs"),
        (eager, None, "eagerly"),
        (with_own_fit, None, "`fit` of its own"),
    ],
)
def test_what_no_program_can_take_is_left_to_fit(build: Any, callback: Any, reason: str) -> None:
    """The trial is handed back untouched, and the reason is told once."""
    chosen: list[tuple[str, str]] = []
    lanes = Lanes("auto", on_choice=lambda *choice: chosen.append(choice))
    data = NETWORKS["mlp"][1]()
    for seed in range(2):
        model = built(build, 0.3, seed)
        before = state_of(model)
        one, curve = member(model, data, seed, range(2), *([callback] if callback else []))
        assert lanes.train([one]) == [one]
        assert curve.logs == []
        for array, kept in zip(state_of(model), before, strict=True):
            np.testing.assert_array_equal(array, kept)
    ((lane, why),) = chosen
    assert lane == "fit"
    assert reason in why


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"name": "quick"}, "executor: `quick`"),
        ({"workers": 0}, "workers"),
        ({"name": "fused", "address": "auto"}, "address"),
        ({"name": "ray", "gpus_per_worker": -1.0}, "gpus_per_worker"),
        ({"workers": 2, "gpus_per_worker": 0.5}, "gpus_per_worker"),
    ],
)
def test_what_contradicts_itself_is_refused(options: dict[str, Any], wrong: str) -> None:
    """An executor that there is none, no workers, or a cluster for a lane: the error says which."""
    with pytest.raises(OptionError, match=wrong):
        chosen_executor(**options)


def test_options_say_where_trials_run() -> None:
    """Several workers are processes, an address means Ray, and a run goes on as it began."""
    assert chosen_executor(workers=3) == Executor("auto", "processes", 3)
    assert chosen_executor("fit").pool == ""
    assert chosen_executor(address="auto").pool == "ray"
    assert executor_of_run({"lane": "fit"}, 2) == Executor("fit", "processes", 2)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="JAX trains several at a time")
def test_fused_says_what_it_needs() -> None:
    """Where no program takes several trials, who asked for that is told why."""
    build, data = NETWORKS["mlp"][0], NETWORKS["mlp"][1]()
    said: list[str] = []
    lanes = Lanes("fused", on_choice=lambda _, reason: said.append(reason))
    assert lanes.train([member(built(build, 0.2, 0), data, 0)[0]]) == []
    (reason,) = said
    assert "several at a time need JAX" in reason
