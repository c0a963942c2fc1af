"""Promises of `smarttune.execution.structure`, and of what is learnt from real traces."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest
from keras import layers

from smarttune.execution.structure import Forms, structure_of
from smarttune.models.compiling import SmoothedSparseCrossentropy
from smarttune.models.optimizers import make_optimizer
from smarttune.training.gradients import watched
from smarttune.training.schedules import Cosine
from tests.models.tables import hypermodel

SHAPE, CLASSES, BATCH = (6,), 3, 4


def network(
    rate: float = 0.3,
    *,
    l2: float = 1e-3,
    optimizer: Any = None,
    loss: Any = None,
    metrics: Any = ("accuracy",),
    seed: int = 1,
    units: int = 5,
    middle: Callable[[Any], Any] | None = None,
) -> Any:
    """A small functional model, compiled."""
    x = inputs = keras.Input(SHAPE)
    start = keras.initializers.GlorotUniform(seed=seed)
    x = layers.Dense(units, kernel_regularizer=keras.regularizers.L2(l2), kernel_initializer=start)(
        x
    )
    x = layers.Dropout(rate, seed=seed)(layers.Activation("relu")(x))
    x = middle(x) if middle else x
    return compiled(keras.Model(inputs, layers.Dense(CLASSES)(x)), optimizer, loss, list(metrics))


def compiled(model: Any, optimizer: Any = None, loss: Any = None, metrics: Any = None) -> Any:
    """The model, with something to train it by."""
    model.compile(
        optimizer or keras.optimizers.SGD(0.1),
        loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=metrics,
    )
    return model


def key_of(model: Any) -> str:
    """The key of a model that has one."""
    found = structure_of(model)
    assert found is not None
    return found.key


def trace(model: Any) -> tuple[str, np.ndarray]:
    """Signature and numbers of the training step as TensorFlow traces it."""
    import tensorflow as tf

    model.optimizer.build(model.trainable_variables)
    model._symbolic_build(
        data_batch=(np.zeros((BATCH, *SHAPE), np.float32), np.zeros((BATCH,), np.int32))
    )
    signature = [tf.TensorSpec((BATCH, *SHAPE), tf.float32), tf.TensorSpec((BATCH,), tf.int32)]
    graph = tf.compat.v1.wrap_function(lambda *batch: model.train_step(batch), signature).graph
    nodes = graph.as_graph_def().node
    place = {node.name: i for i, node in enumerate(nodes)}
    words, numbers = [], []
    for node in nodes:
        tensor = node.attr["value"].tensor
        lifted = node.op == "Const" and tensor.dtype == tf.float32 and not tensor.tensor_shape.dim
        if lifted:
            numbers.append(float(tf.make_ndarray(tensor)))
        content = b"" if lifted or node.op != "Const" else tensor.SerializeToString()
        inputs = [place[one.lstrip("^").partition(":")[0]] for one in node.input]
        words.append(f"{node.op}{inputs}{content!r}")
    return hashlib.md5("".join(words).encode()).hexdigest(), np.array(numbers, np.float32)  # noqa: S324 -- tells graphs apart


def test_only_the_leaves_differ_between_trials_of_one_structure() -> None:
    """Models that differ in floats only have one key, and the floats are their leaves."""
    first, second = structure_of(network(0.3, l2=1e-3)), structure_of(network(0.2, l2=1e-4))
    assert first is not None
    assert second is not None
    assert first.key == second.key
    apart = {(a, b) for a, b in zip(first.leaves, second.leaves, strict=True) if a != b}
    assert apart == {(0.3, 0.2), (1e-3, 1e-4)}


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 2},
        {"optimizer": keras.optimizers.SGD(0.7, name="mine")},
        {"middle": layers.Activation("linear", name="mine")},
    ],
    ids=["seed", "rate-and-name-of-optimizer", "name-of-layer"],
)
def test_state_and_names_are_no_structure(change: dict[str, Any]) -> None:
    """Seeds, initial weights, names and a plain learning rate change neither key nor leaves."""
    plain = {"middle": layers.Activation("linear")} if "middle" in change else {}
    assert structure_of(network(**change)) == structure_of(network(**plain))


@pytest.mark.parametrize(
    "change",
    [
        {"units": 6},
        {"rate": 0.0},
        {"middle": layers.BatchNormalization()},
        {"middle": layers.Activation("tanh")},
        {"optimizer": keras.optimizers.Adam(0.1)},
        {"optimizer": keras.optimizers.SGD(0.1, momentum=0.9)},
        {"optimizer": keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)},
        {"optimizer": watched(keras.optimizers.SGD)(0.1)},
        {"loss": SmoothedSparseCrossentropy(0.1)},
        {"metrics": ()},
        {"metrics": (keras.metrics.SparseCategoricalAccuracy(name="mine"),)},
        {"middle": lambda x: x + np.arange(5, dtype=np.float32)},
    ],
)
def test_what_may_change_the_program_changes_the_key(change: dict[str, Any]) -> None:
    """Shapes, kinds, logs, arrays and floats on which code branches are in the key."""
    assert key_of(network(**change)) != key_of(network())


def test_arrays_count_by_their_content() -> None:
    """Two constants of one shape make two structures."""
    shifts = [np.full(5, value, np.float32) for value in (2.0, 3.0)]
    first, second = (key_of(network(middle=lambda x, by=by: x + by)) for by in shifts)
    assert first != second


def test_frozen_layers_and_spared_variables_are_structure() -> None:
    """What is trained and what is decayed is in the key, whether a config tells it or not."""
    plain, frozen, spared = (
        network(optimizer=keras.optimizers.SGD(0.1, weight_decay=0.01)) for _ in range(3)
    )
    frozen.layers[1].trainable = False
    spared.optimizer.exclude_from_weight_decay(var_names=["bias"])
    assert len({key_of(one) for one in (plain, frozen, spared)}) == 3


def test_the_way_layers_are_joined_is_structure() -> None:
    """The same layers joined in another way make another structure, a shared one too."""

    def joined(how: int) -> Any:
        inputs = keras.Input(SHAPE)
        one, two = layers.Dense(6), layers.Dense(6)
        ends = [
            lambda: layers.Add()([two(one(inputs)), inputs]),
            lambda: layers.Add()([two(one(inputs)), one.output]),
            lambda: layers.Add()([one(one(inputs)), inputs]),
        ]
        return compiled(keras.Model(inputs, ends[how]()))

    assert len({key_of(joined(how)) for how in range(3)}) == 3


def test_nested_and_sequential_models_have_a_structure() -> None:
    """A model in a model is looked into, and leaves come out of it."""

    def nested(rate: float) -> Any:
        inner = keras.Sequential([keras.Input(SHAPE), layers.Dense(6), layers.Dropout(rate)])
        return compiled(keras.Sequential([keras.Input(SHAPE), inner, layers.Dense(CLASSES)]))

    first, second = structure_of(nested(0.25)), structure_of(nested(0.5))
    assert first is not None
    assert second is not None
    assert first.key == second.key
    assert 0.25 in first.leaves
    assert 0.5 in second.leaves


def test_training_leaves_the_structure_as_it_was() -> None:
    """A model that was built and trained has the structure that it had before."""
    model = network(optimizer=keras.optimizers.AdamW(0.1))
    before = structure_of(model)
    model.train_on_batch(np.zeros((BATCH, *SHAPE), np.float32), np.zeros(BATCH, np.int32))
    assert before is not None
    assert structure_of(model) == before


def test_an_output_may_be_called_like_a_seed() -> None:
    """What is left out of configurations is not left out of a user's own dictionaries."""

    def of(loss: str) -> Any:
        inputs = keras.Input(SHAPE)
        ends = {name: layers.Dense(3, name=name)(inputs) for name in ("my_seed", "other")}
        return compiled(keras.Model(inputs, ends), loss={"my_seed": loss, "other": "mse"})

    assert key_of(of("mse")) != key_of(of("mae"))


def test_floats_of_numpy_are_leaves_of_their_own_kind() -> None:
    """A float64 of NumPy is a leaf, but not one for which a plain float may stand."""
    plain, first, second = (
        structure_of(network(middle=lambda x, by=by: x * by))
        for by in (0.25, np.float64(0.25), np.float64(0.75))
    )
    assert plain is not None
    assert first is not None
    assert second is not None
    assert first.key == second.key != plain.key
    assert 0.75 in second.leaves


@pytest.mark.parametrize(("backend", "leaf"), [("jax", True), ("tensorflow", False)])
def test_steps_of_schedules_are_leaves_where_they_become_floats(
    backend: str, leaf: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JAX traces a schedule of Keras with floats for its steps, TensorFlow with whole numbers."""
    monkeypatch.setattr(keras.config, "backend", lambda: backend)
    rate = keras.optimizers.schedules.CosineDecay(0.1, 77)
    found = structure_of(network(optimizer=keras.optimizers.SGD(rate)))
    assert found is not None
    assert (77.0 in found.leaves) is leaf


OWN: dict[str, dict[str, Any]] = {
    "plain": {},
    "dropout": {"model.dropout": 0.3, "model.normalization": "batch"},
    "selu": {"model.dropout": 0.3, "model.activation": "selu"},
    "skips": {"model.skip_connections": True, "model.normalization": "layer"},
    "embedding": {"model.encoding[c]": "embedding", "model.embedding_dim[c]": 5},
    "clipping": {"optimizer.clipnorm": 0.5, "optimizer.weight_decay": 0.01},
    "cosine": {"optimizer.schedule": "cosine", "optimizer.warmup_steps": 3},
    "hypergradient": {"optimizer.hypergradient_rate": 1e-3},
    "growth": {
        "optimizer.schedule": "cosine",
        "training.batch_growth": "doubling",
        "training.batch_size": 8,
    },
    "momentum": {
        "optimizer.name": "sgd",
        "optimizer.momentum": 0.9,
        "optimizer.momentum_cycling": True,
        "optimizer.schedule": "one_cycle",
    },
    "float16": {"training.precision": "mixed_float16"},
    "smoothing": {"training.label_smoothing": 0.1},
}


@pytest.mark.parametrize("problem", ["binary", "multiclass", "multilabel", "regression"])
@pytest.mark.parametrize("values", OWN.values(), ids=OWN)
def test_our_own_networks_have_a_structure(values: dict[str, Any], problem: str) -> None:
    """Another seed and another learning rate leave the structure of our networks as it is."""
    first, second = (
        hypermodel({**values, "optimizer.learning_rate": rate}, problem=problem, seed=seed)
        for seed, rate in ((1, 0.01), (2, 0.02))
    )
    found = [structure_of(one.build(keras_tuner.HyperParameters())) for one in (first, second)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].key == found[1].key


def test_the_units_of_a_target_are_structure() -> None:
    """Metrics in raw units hold how the target was scaled, which no configuration tells."""
    model = hypermodel(problem="regression").build(keras_tuner.HyperParameters())
    before = key_of(model)
    for metric in model._compile_config.config["metrics"]:
        metric.codec = metric.codec.model_copy(update={"scale": (123.0,)})
    assert key_of(model) != before


class Own(layers.Dense):  # type: ignore[misc]
    """A user's layer."""


class Subclassed(keras.Model):  # type: ignore[misc]
    """A user's model with the constructor of a functional one."""

    def train_step(self, data: Any) -> Any:
        """Train as ever."""
        return super().train_step(data)


def relu(x: Any) -> Any:
    """A user's activation under the name of one of Keras's."""
    return keras.ops.relu(x) * 0.5


def replaced(name: str) -> Any:
    """A model with a method of its own."""
    model = network()
    setattr(model, name, lambda *parts: parts)
    return model


def put(model: Any) -> Any:
    """A model in which a layer got a call of its own after it was built."""
    model.layers[1].call = lambda x: x
    return model


def subclassed() -> Any:
    """A model of a class of the user's."""
    inputs = keras.Input(SHAPE)
    return compiled(Subclassed(inputs, layers.Dense(CLASSES)(inputs)))


def phased() -> Any:
    """A model with an optimizer that holds pretrained variables still, as no config tells."""
    values = {
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.1,
        "training.batch_size": 4,
        "training.frozen_fraction": 0.5,
        "training.unfrozen_factor": 0.1,
    }
    model = network()
    pretrained = model.trainable_variables[:1]
    optimizer = make_optimizer(values, num_samples=8, epochs=2, pretrained=pretrained)
    return compiled(model, optimizer)


UNTOLD: dict[str, Callable[[], Any]] = {
    "lambda": lambda: network(middle=layers.Lambda(lambda x: x * 2.0)),
    "own layer": lambda: network(middle=Own(5)),
    "own layer wrapped": lambda: network(
        middle=lambda x: layers.TimeDistributed(Own(5))(layers.Reshape((1, 5))(x))[:, 0]
    ),
    "own activation": lambda: network(middle=layers.Dense(5, activation=relu)),
    "own loss": lambda: network(loss=lambda y, p: keras.ops.mean(p)),
    "own metric": lambda: network(metrics=(relu,)),
    "own rate": lambda: network(optimizer=keras.optimizers.SGD(lambda: 0.1)),
    "subclassed": subclassed,
    "train_step": lambda: replaced("train_step"),
    "compute_loss": lambda: replaced("compute_loss"),
    "call of a layer": lambda: put(network()),
    "unbuilt": lambda: compiled(keras.Sequential([layers.Dense(3)])),
    "not compiled": lambda: keras.Sequential([keras.Input(SHAPE), layers.Dense(3)]),
    "names decide": lambda: network(optimizer=keras.optimizers.Muon(0.1)),
    "phases": phased,
}


@pytest.mark.parametrize("make", UNTOLD.values(), ids=UNTOLD)
def test_nothing_is_told_where_a_config_does_not_say_everything(
    make: Callable[[], Any],
) -> None:
    """A model with code of the user's, or with a secret, has no structure."""
    assert structure_of(make()) is None


# Programs of real models, by two floats.


def adam(x: float, y: float) -> Any:
    """Every number of an optimizer of Keras."""
    return keras.optimizers.AdamW(
        0.1, weight_decay=x, beta_1=y, clipnorm=2 * x, use_ema=True, ema_momentum=0.9 + y / 11
    )


PROGRAMS: dict[str, Callable[[float, float], Any]] = {
    "dropout and L2": lambda x, y: network(x, l2=y),
    "AdamW": lambda x, y: network(optimizer=adam(x, y)),
    "schedule of Keras": lambda x, y: network(
        optimizer=keras.optimizers.SGD(
            keras.optimizers.schedules.ExponentialDecay(x, 40, y), momentum=x
        )
    ),
    "schedule of ours": lambda x, y: network(
        loss=SmoothedSparseCrossentropy(y),
        optimizer=watched(keras.optimizers.SGD)(
            Cosine(x, total_steps=40, warmup_steps=4), global_clipnorm=y
        ),
    ),
    "noise": lambda x, y: network(
        middle=lambda z: layers.AlphaDropout(y)(layers.GaussianDropout(x)(z)) * y
    ),
}
SAMPLES = tuple(map(tuple, np.random.default_rng(5).uniform(0.05, 0.9, (6, 2)).tolist()))
NUM_KNOWN = 3


@pytest.mark.slow
@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)
def test_told_numbers_are_those_of_the_trace(make: Callable[[float, float], Any]) -> None:
    """What is told of real models from three traces is what their own traces give."""
    forms = Forms()
    for i, sample in enumerate(SAMPLES):
        model = make(*sample)
        structure = structure_of(model)
        assert structure is not None
        told = forms.predict(structure)
        signature, numbers = trace(model)
        if i < NUM_KNOWN:
            forms.learn(structure, signature, numbers)
            continue
        assert told is not None
        assert told[0] == signature
        np.testing.assert_array_max_ulp(told[1], numbers, maxulp=1)


@pytest.mark.slow
def test_seeds_reach_a_program_through_variables_only() -> None:
    """Models with other seeds have one program, which is why their structure is one."""
    first, second = (trace(network(seed=seed)) for seed in (1, 2))
    assert first[0] == second[0]
    np.testing.assert_array_equal(first[1], second[1])
