"""Norms of gradients, recorded inside the compiled step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from smarttune.training.gradients import NUM_NORMS, begin_epoch, gradient_statistics, watched

KINDS = (
    keras.optimizers.Adam,
    keras.optimizers.AdamW,
    keras.optimizers.Nadam,
    keras.optimizers.SGD,
    keras.optimizers.RMSprop,
    keras.optimizers.Adagrad,
    keras.optimizers.Lion,
)


class Holder:
    """Something with an optimizer, as a model has one."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer


def stepped(optimizer: Any, *gradients: list[float]) -> tuple[Holder, np.ndarray]:
    """Apply gradients by hand to a variable of the same size; return holder and variable."""
    variable = keras.Variable(np.zeros(len(gradients[0]), "float32"))
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply([ops.convert_to_tensor(np.array(gradient, "float32"))], [variable])
    return Holder(optimizer), variable.numpy()


def linear(kind: Any, *, clip: float | None = None, accumulate: int | None = None) -> Any:
    """Optimizer and model whose gradients are easily computed."""
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(
        watched(kind)(0.01, global_clipnorm=clip, gradient_accumulation_steps=accumulate), "mse"
    )
    return model


def rows(num: int) -> tuple[np.ndarray, np.ndarray]:
    """A linear problem."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num, 3)).astype("float32")
    return x, (x @ np.array([1.0, -2.0, 0.5], "float32"))[:, None] + 1


def norms_by_hand(x: np.ndarray, y: np.ndarray, *, batch: int, clip: float = np.inf) -> list[float]:
    """Norms of the gradient of a linear model's squared error along its own descent by SGD."""
    keras.utils.set_random_seed(2)
    layer = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]).layers[-1]
    kernel, bias = (np.asarray(v.numpy(), "float64") for v in layer.weights)
    norms = []
    for i in range(0, len(x), batch):
        error = x[i : i + batch] @ kernel + bias - y[i : i + batch]
        parts = (2 * x[i : i + batch].T @ error / batch, 2 * error.mean(axis=0))
        norms.append(float(np.sqrt(sum((p**2).sum() for p in parts))))
        scale = min(1.0, clip / norms[-1])
        kernel, bias = kernel - 0.01 * scale * parts[0], bias - 0.01 * scale * parts[1]
    return norms


def test_statistics_by_hand() -> None:
    """Norms 5, 10, 1: their median, their 90th percentile, and one of three cut."""
    holder, _ = stepped(
        watched(keras.optimizers.SGD)(0.1, global_clipnorm=7.0), [3.0, 4.0], [6.0, 8.0], [0.0, 1.0]
    )

    assert gradient_statistics(holder) == {
        "gradient_norm": 5.0,
        "gradient_norm_p90": pytest.approx(9.0),
        "clipped_fraction": pytest.approx(1 / 3),
    }


def test_an_epoch_begins_with_nothing_recorded() -> None:
    """`begin_epoch` forgets norms and cuts."""
    optimizer = watched(keras.optimizers.SGD)(0.1, global_clipnorm=2.0)
    holder, _ = stepped(optimizer, [3.0], [4.0])
    begin_epoch(holder)
    assert gradient_statistics(holder) == {}

    optimizer.apply([ops.convert_to_tensor([1.5])])

    assert gradient_statistics(holder) == {
        "gradient_norm": 1.5,
        "gradient_norm_p90": 1.5,
        "clipped_fraction": 0.0,
    }


def test_only_the_latest_norms_of_a_long_epoch_are_kept() -> None:
    """Of 150 norms 1 to 150 the last 128 have the median 86.5; cuts are counted over all."""
    optimizer = watched(keras.optimizers.SGD)(0.0, global_clipnorm=75.0)
    holder, _ = stepped(optimizer, *([float(i)] for i in range(1, 151)))

    found = gradient_statistics(holder)

    assert NUM_NORMS == 128
    assert found["gradient_norm"] == pytest.approx(np.median(np.arange(23, 151)))
    assert found["clipped_fraction"] == pytest.approx(0.5)


@pytest.mark.parametrize("spoilt", [np.nan, np.inf])
def test_norms_that_are_no_numbers_are_left_out(spoilt: float) -> None:
    """Neither ring nor counts see them."""
    optimizer = watched(keras.optimizers.SGD)(0.1, global_clipnorm=1.0)
    holder, _ = stepped(optimizer, [spoilt], [2.0], [spoilt], [0.5])

    assert gradient_statistics(holder) == {
        "gradient_norm": pytest.approx(1.25),
        "gradient_norm_p90": pytest.approx(1.85),
        "clipped_fraction": 0.5,
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("clip", [None, 1.0])
def test_the_steps_are_those_of_the_optimizer_itself(kind: Any, clip: float | None) -> None:
    """Watched or not, the same gradients move a variable to the same bits."""
    gradients = [[3.0, -4.0], [0.1, 0.2], [-2.0, 1.0]]
    _, plain = stepped(kind(0.1, global_clipnorm=clip), *gradients)
    holder, seen = stepped(watched(kind)(0.1, global_clipnorm=clip), *gradients)

    assert seen.tobytes() == plain.tobytes()
    assert gradient_statistics(holder)["gradient_norm"] == pytest.approx(np.sqrt(5.0))
    assert gradient_statistics(holder)["clipped_fraction"] == pytest.approx(2 / 3 if clip else 0.0)


def test_models_without_a_record_have_no_statistics() -> None:
    """Other optimizers, unbuilt ones and none at all give an empty mapping."""
    for optimizer in (keras.optimizers.Adam(), watched(keras.optimizers.Adam)(), None):
        begin_epoch(Holder(optimizer))
        assert gradient_statistics(Holder(optimizer)) == {}


def test_classes_are_made_once_and_keep_their_names() -> None:
    """Adam stays Adam, a watched class is not watched twice, and other kinds are made on demand."""

    class Own(keras.optimizers.SGD):
        """A class of the user."""

    adam = watched(keras.optimizers.Adam)

    assert adam is watched(keras.optimizers.Adam) is watched(adam)
    assert (adam.__name__, adam(0.1).name.partition("_")[0]) == ("Adam", "adam")
    assert issubclass(watched(Own), Own)
    assert watched(keras.optimizers.Adamax) is watched(keras.optimizers.Adamax)


@pytest.mark.slow
def test_other_mixins_go_around_it() -> None:
    """A subclass with an `update_step` of its own still records."""

    class Halved(watched(keras.optimizers.SGD)):  # type: ignore[misc]
        """Half the learning rate."""

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            super().update_step(gradient, variable, learning_rate / 2)

    holder, moved = stepped(Halved(1.0), [2.0])

    assert moved.tolist() == [-1.0]
    assert gradient_statistics(holder)["gradient_norm"] == 2.0


@pytest.mark.jax
@pytest.mark.slow
@pytest.mark.parametrize("jit", [False, True])
def test_a_training_records_the_norms_of_its_own_gradients(jit: bool) -> None:
    """Along a descent of fifteen steps, compiled, they are those computed by hand."""
    x, y = rows(120)
    model = linear(keras.optimizers.SGD, clip=4.0)
    model.jit_compile = jit
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    by_hand = norms_by_hand(x, y, batch=8, clip=4.0)

    found = gradient_statistics(model)

    recorded = model.optimizer.gradient_norms.numpy()[: len(by_hand)]
    assert np.allclose(recorded, by_hand, rtol=1e-4)
    assert found["gradient_norm"] == pytest.approx(np.median(by_hand), rel=1e-4)
    assert found["clipped_fraction"] == pytest.approx(np.mean(np.array(by_hand) > 4.0))
    assert 0 < found["clipped_fraction"] < 1


@pytest.mark.jax
@pytest.mark.slow
def test_accumulated_gradients_are_recorded_once_per_update() -> None:
    """Three batches of eight accumulated give the norms of batches of 24."""
    x, y = rows(120)
    model = linear(keras.optimizers.SGD, accumulate=3)
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)

    by_hand = norms_by_hand(x, y, batch=24)

    assert int(model.optimizer.num_gradient_norms.numpy()) == 5
    assert np.allclose(model.optimizer.gradient_norms.numpy()[:5], by_hand, rtol=1e-4)


@pytest.mark.slow
def test_scaled_losses_are_recorded_unscaled() -> None:
    """Inside an optimizer that scales the loss, the norms are those of the loss itself."""
    x, y = rows(40)
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    inner = watched(keras.optimizers.SGD)(0.01)
    model.compile(keras.optimizers.LossScaleOptimizer(inner, initial_scale=1024.0), "mse")
    model.fit(x, y, batch_size=8, shuffle=False, verbose=0)

    by_hand = norms_by_hand(x, y, batch=8)

    assert gradient_statistics(model)["gradient_norm"] == pytest.approx(
        np.median(by_hand), rel=1e-4
    )
    begin_epoch(model)
    assert gradient_statistics(model) == {}


@pytest.mark.slow
@pytest.mark.parametrize("jit", [False, True])
def test_rows_of_an_embedding_that_repeat_are_added_before_they_are_squared(jit: bool) -> None:
    """One word four times: by hand, the gradient of its row is the sum of four."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            keras.layers.Embedding(7, 1, embeddings_initializer="ones"),
            keras.layers.Lambda(lambda t: ops.sum(t, axis=(1, 2))[:, None]),
        ]
    )
    # The squared error of outputs that are sums of four ones, 4, with the target 3.
    model.compile(watched(keras.optimizers.SGD)(0.0), "mse", jit_compile=jit)
    words = np.array([[5, 5, 5, 5], [5, 1, 1, 2]])

    model.fit(words, np.full((2, 1), 3.0), batch_size=2, verbose=0)

    # Each appearance has the gradient 2 * (4 - 3) / 2 = 1: word 5 five, word 1 two, word 2 one.
    assert gradient_statistics(model)["gradient_norm"] == pytest.approx(np.sqrt(25 + 4 + 1))


@pytest.mark.slow
def test_a_saved_model_loads_with_its_record(tmp_path: Path) -> None:
    """Loaded, it is the watched class again, with the norms, and trains on."""
    x, y = rows(40)
    model = linear(keras.optimizers.Adam, clip=4.0)
    model.fit(x, y, batch_size=8, verbose=0)
    model.save(tmp_path / "m.keras")

    loaded = keras.saving.load_model(tmp_path / "m.keras")

    assert type(loaded.optimizer) is watched(keras.optimizers.Adam)
    assert gradient_statistics(loaded) == gradient_statistics(model)
    begin_epoch(loaded)
    loaded.fit(x, y, batch_size=8, verbose=0)
    assert int(loaded.optimizer.num_gradient_norms.numpy()) == 5
