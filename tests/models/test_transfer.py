"""Pretrained networks on images: held still, then moved in small steps, and exported whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import smarttune
from smarttune.data import Dataset, read
from smarttune.errors import OptionError
from smarttune.fingerprint import measure
from smarttune.models import NetworkHyperModel, TargetCodec, TrainingPlan
from smarttune.models.image import Image
from smarttune.models.optimizers import make_optimizer
from smarttune.models.transfer import BACKBONE
from smarttune.space import SearchSpace, Value

VALUES: dict[str, Value] = {
    "model.family": "pretrained",
    "model.image_side": 16,
    "model.dropout": 0.0,
    "optimizer.name": "sgd",
    "optimizer.learning_rate": 0.1,
    "training.batch_size": 20,
    "training.augmentation": "none",
    "training.frozen_fraction": 0.5,
    "training.unfrozen_factor": 0.01,
}
ROWS = 40  # two steps an epoch


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small network with batch normalization, saved as a user would."""
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3))
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(x)
    x = keras.layers.BatchNormalization()(x)
    path = tmp_path_factory.mktemp("weights") / "small.keras"
    keras.Model(image, keras.layers.Conv2D(6, 3)(x)).save(path)
    return str(path)


def pictures(weights: str | None = None) -> Dataset:
    """Noise, half of it brighter."""
    rng = np.random.default_rng(0)
    y = np.arange(ROWS) % 2
    x = rng.integers(0, 100, (ROWS, 16, 16, 3)) + 120 * y[:, None, None, None]
    options: dict[str, Any] = {} if weights is None else {"weights": weights}
    return read(x.astype(np.uint8), y, **options)


def network(weights: str, **changed: Value) -> tuple[Any, dict[str, Any], np.ndarray]:
    """A compiled network, its inputs and its targets."""
    dataset = pictures(weights)
    values = {**VALUES, **changed}
    fingerprint, rows = measure(dataset), np.arange(ROWS)
    fitted = Image().fit(dataset, fingerprint, rows, values, ("pretrained",))
    codec = Image().codec(dataset, fingerprint, rows, values, None)
    plan = TrainingPlan(num_samples=ROWS, max_epochs=4)
    model = NetworkHyperModel(SearchSpace(dimensions=()), fitted, codec, plan).build_from(values)
    return model, fitted.inputs(dataset, rows), fitted.targets(dataset, rows, codec)


def state(model: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Trained weights of the pretrained part, and of the head."""
    body = model.get_layer(BACKBONE)
    inside = {v.path for v in body.weights}
    return (
        [v.numpy() for v in body.trainable_variables],
        [v.numpy() for v in model.trainable_variables if v.path not in inside],
    )


def moved(before: list[np.ndarray], after: list[np.ndarray]) -> bool:
    """Whether every array has changed."""
    return all((a != b).any() for a, b in zip(before, after, strict=True))


def same(before: list[np.ndarray], after: list[np.ndarray]) -> bool:
    """Whether no array has changed."""
    return all((a == b).all() for a, b in zip(before, after, strict=True))


def train(model: Any, x: Any, y: Any, epochs: int = 1) -> None:
    """Train without shuffling."""
    model.fit(x, y, epochs=epochs, batch_size=20, shuffle=False, verbose=0)


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsprop"])
def test_pretrained_weights_stay_still_in_their_share_of_the_steps(name: str, weights: str) -> None:
    """For half of the epochs only the head learns, whatever the optimizer and its decay."""
    decay: dict[str, Value] = {
        "optimizer.regularization": "weight_decay",
        "optimizer.weight_decay": 0.1,
    }
    model, x, y = network(weights, **{"optimizer.name": name}, **decay)
    body, head = state(model)

    train(model, x, y, epochs=2)
    frozen_body, frozen_head = state(model)
    train(model, x, y)
    body_after, _ = state(model)

    assert same(body, frozen_body)
    assert moved(head, frozen_head)
    assert moved(frozen_body, body_after)


def test_pretrained_weights_take_a_share_of_the_rate(weights: str) -> None:
    """One step of gradient descent moves them by the factor times what the full rate does."""
    steps = {}
    for factor in (1.0, 0.01):
        model, x, y = network(
            weights, **{"training.frozen_fraction": 0.0, "training.unfrozen_factor": factor}
        )
        before, _ = state(model)
        model.train_on_batch(x, y)
        steps[factor] = [a - b for a, b in zip(state(model)[0], before, strict=True)]

    for full, small in zip(steps[1.0], steps[0.01], strict=True):
        np.testing.assert_allclose(small, full * 0.01, rtol=0.02, atol=1e-7)


def test_the_phase_is_told_by_the_step(weights: str) -> None:
    """A training that goes on behind the frozen steps moves everything at once."""
    model, x, y = network(weights)
    model.optimizer.build(model.trainable_variables)
    before, _ = state(model)

    model.optimizer.iterations.assign(4)
    model.train_on_batch(x, y)

    assert moved(before, state(model)[0])


def test_stored_statistics_are_kept(weights: str) -> None:
    """Batch normalization of the pretrained part keeps its means and variances."""
    model, x, y = network(weights, **{"training.frozen_fraction": 0.0})
    body = model.get_layer(BACKBONE)
    before = [v.numpy() for v in body.non_trainable_variables]

    train(model, x, y)

    assert len(before) == 4  # means, variances, and what scales them
    assert same(before, [v.numpy() for v in body.non_trainable_variables])


def test_exported_model_has_the_weights_inside(weights: str, tmp_path: Path) -> None:
    """Saved and loaded, it takes pictures and answers as the network does."""
    model, x, _ = network(weights)
    dataset = pictures(weights)
    fitted = Image().fit(dataset, measure(dataset), np.arange(ROWS), VALUES, ("pretrained",))
    codec = TargetCodec(problem="binary", names=("y",), classes=(0, 1), class_counts=(20, 20))

    Image().exported(model, fitted, codec).save(tmp_path / "whole.keras")

    whole = keras.saving.load_model(tmp_path / "whole.keras")
    found = whole.predict(x["image"].astype("float32"), verbose=0)
    logits = model.predict(x, verbose=0)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)), atol=1e-5)


def test_named_weights_are_recommended_and_rated(weights: str) -> None:
    """With weights at hand the rules choose to fine-tune them, head first."""
    made = smarttune.suggest(pictures(weights))

    assert made.value("model.family") == "pretrained"
    assert made.value("training.frozen_fraction") == 0.5
    assert made.value("training.epochs") == 20
    assert made.settings["optimizer.learning_rate"].because[0].rule == "FTN002"
    assert smarttune.suggest(pictures()).value("model.family") == "cnn"


def test_weights_that_cannot_be_used_are_refused(weights: str, tmp_path: Path) -> None:
    """A missing path, another kind of data, a broken file, and a network of another shape."""
    with pytest.raises(OptionError, match="nothing is downloaded"):
        pictures(str(tmp_path / "absent.keras"))
    with pytest.raises(OptionError, match="tabular"):
        measure(read({"x": np.arange(50.0), "y": np.arange(50) % 2}, "y", weights=weights))
    broken = tmp_path / "broken.keras"
    broken.write_bytes(b"no model")
    with pytest.raises(OptionError, match="cannot read it"):
        network(str(broken))
    flat = tmp_path / "flat.keras"
    start = keras.Input((3,))
    keras.Model(start, keras.layers.Dense(2)(start)).save(flat)
    with pytest.raises(OptionError, match="have the shapes"):
        network(str(flat))


def test_without_weights_the_family_says_what_it_needs() -> None:
    """Choosing the family by hand asks for the weights."""
    dataset = pictures()

    with pytest.raises(OptionError, match="--weights"):
        Image().fit(dataset, measure(dataset), np.arange(ROWS), VALUES, ("pretrained",))


def test_optimizers_of_other_networks_are_plain() -> None:
    """Where nothing is pretrained, the optimizer knows no phases."""
    made = make_optimizer(VALUES, num_samples=2, epochs=2)

    assert isinstance(made, keras.optimizers.SGD)
    assert not hasattr(made, "_pretrained")


@pytest.mark.slow
def test_a_search_fine_tunes_and_goes_on(weights: str, tmp_path: Path) -> None:
    """Trials, export and a resumed search work on weights from disk."""
    run = smarttune.search(
        pictures(weights),
        trials=2,
        strategy="hyperband",
        pinned={"search.max_epochs": 3, "search.min_epochs": 1, "training.epochs": 3},
        run=tmp_path / "run",
    )

    assert run.report()["export"]["model"] == "model.keras"
    again = smarttune.resume(run, data=pictures(weights), trials=3)
    assert len(again.log) == 3
