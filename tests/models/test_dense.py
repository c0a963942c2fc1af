"""Dense networks built from recommended values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest

from smarttune.errors import OptionError, SettingError
from smarttune.models import NetworkHyperModel
from smarttune.models.compiling import make_metrics, sample_weights
from smarttune.models.layers import output_bias
from smarttune.objectives import PROBLEM_METRICS
from smarttune.space import Value
from tests.models.tables import VALUES, hypermodel, learnable

PROBLEMS = ["binary", "multiclass", "multilabel", "regression"]


def built(values: dict[str, Value] | None = None, *, problem: str = "binary", seed: int = 0) -> Any:
    """The compiled model of the recommended values."""
    return hypermodel(values, problem=problem, seed=seed).build(keras_tuner.HyperParameters())


def arrays(hm: NetworkHyperModel, problem: str, *, rows: int = 64) -> tuple[Any, np.ndarray]:
    """Inputs and encoded targets of the learnable table."""
    table, target = learnable(problem, rows=rows)
    return hm.preprocessor.transform(table), hm.codec.encode(target)


def layer_names(model: Any) -> list[str]:
    """Names of the layers that hold weights or regularize, in order."""
    kinds = ("hidden", "normalization", "dropout", "skip", "output")
    return [layer.name for layer in model.layers if layer.name.startswith(kinds)]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_training_lowers_the_loss(problem: str) -> None:
    """Each kind of problem is learnt from 64 easy rows."""
    hm = hypermodel({"optimizer.learning_rate": 0.03}, problem=problem)
    model = hm.build(keras_tuner.HyperParameters())
    x, y = arrays(hm, problem)

    losses = model.fit(x, y, batch_size=32, epochs=4, verbose=0).history["loss"]

    assert losses[-1] < 0.9 * losses[0]
    assert model.predict(x, verbose=0).shape == (64, hm.codec.num_outputs)


def test_the_same_seed_gives_the_same_training() -> None:
    """Weights and losses agree bit for bit, whatever the global seed, dropout included."""
    losses = []
    for global_seed in (1, 2):
        keras.utils.set_random_seed(global_seed)
        hm = hypermodel({"model.dropout": 0.3}, seed=5)
        model = hm.build(keras_tuner.HyperParameters())
        x, y = arrays(hm, "binary")
        losses.append(model.fit(x, y, epochs=2, shuffle=False, verbose=0).history["loss"])

    assert losses[0] == losses[1]


def test_another_seed_gives_other_weights_in_every_layer() -> None:
    """No two layers or seeds share their draws."""
    one, other = built(seed=1), built(seed=2)

    kernels = [w.numpy() for m in (one, other) for w in m.weights if w.name == "kernel"]

    assert len({k.tobytes() for k in kernels}) == len(kernels) == 6


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"model.num_layers": 0}, ["output"]),
        (
            {"model.normalization": "batch", "model.dropout": 0.2, "model.num_layers": 1},
            ["hidden_0", "normalization_0", "dropout_0", "output"],
        ),
        (
            {"model.skip_connections": True, "model.normalization": "layer"},
            ["hidden_0", "normalization_1", "hidden_1", "skip_1", "normalization_last", "output"],
        ),
        ({"model.family": "resnet_mlp"}, ["hidden_0", "hidden_1", "skip_1", "output"]),
    ],
)
def test_the_layers_follow_the_values(values: dict[str, Value], expected: list[str]) -> None:
    """Depth, normalization, dropout and skips are as recommended, in this order."""
    assert layer_names(built(values)) == expected


def test_columns_enter_one_hot_or_embedded() -> None:
    """An index of 0 is a vector of zeros in one-hot; an embedding has a row for it."""
    one_hot = built({"model.num_layers": 0})
    embedded = built({"model.encoding[c]": "embedding", "model.embedding_dim[c]": 5})

    assert one_hot.get_layer("output").kernel.shape == (2 + 2, 1)
    assert embedded.get_layer("embedding_0").embeddings.shape == (3, 5)
    assert embedded.get_layer("hidden_0").kernel.shape == (2 + 5, 8)
    x = {"numeric": np.zeros((1, 2), np.float32), "categorical": np.zeros((1, 1), np.int32)}
    assert one_hot.predict(x, verbose=0) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("problem", "values", "expected"),
    [
        ("binary", {"model.output_bias": "log_odds"}, "log_odds"),
        ("binary", {"model.output_bias": "zeros"}, "zeros"),
        ("binary", {"model.output_bias": "log_odds", "training.class_weight": "balanced"}, "zeros"),
        ("multiclass", {"model.output_bias": "log_priors"}, "log_priors"),
        ("regression", {"model.output_bias": "target_mean"}, "mean"),
    ],
)
def test_the_output_starts_at_the_best_constant(
    problem: str, values: dict[str, Value], expected: str
) -> None:
    """The bias is the prior, unless balanced weights make the prior even."""
    hm = hypermodel(values, problem=problem)
    _, y = arrays(hm, problem)
    counts = np.bincount(y.astype(int).ravel() if problem != "regression" else [0]) + 0.5

    bias = hm.build(keras_tuner.HyperParameters()).get_layer("output").bias.numpy()

    wanted = {
        "zeros": [0.0],
        "log_odds": [np.log(counts[-1] / counts[0])],
        "log_priors": np.log(counts / counts.sum()),
        "mean": [y.mean()],
    }[expected]
    assert bias == pytest.approx(np.asarray(wanted), abs=1e-5)


def test_a_bounded_regression_cannot_leave_its_bounds() -> None:
    """A sigmoid output is stretched over the encoded bounds and starts at the mean."""
    hm = hypermodel(
        {"model.output_activation": "sigmoid", "model.output_bias": "target_mean"},
        problem="regression",
    )
    hm.codec = hm.codec.model_copy(update={"bounds": (0.0, 20.0)})
    model = hm.build(keras_tuner.HyperParameters())
    x, y = arrays(hm, "regression")

    outputs = model.predict({**x, "numeric": 1e4 * x["numeric"]}, verbose=0)
    start = output_bias(hm.codec, {"model.output_bias": "target_mean"}, _pair(0.0, 20.0))

    assert outputs.min() >= 0.0
    assert outputs.max() <= 20.0
    assert 20.0 / (1.0 + np.exp(-start)) == pytest.approx(y.mean(), abs=1e-3)


def _pair(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    return np.array([low], np.float32), np.array([high], np.float32)


def test_a_sigmoid_without_bounds_is_refused() -> None:
    """The error says which facts to declare."""
    with pytest.raises(SettingError, match=r"data\.target_min and data\.target_max"):
        built({"model.output_activation": "sigmoid"}, problem="regression")


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_the_precision_holds_inside_and_is_restored_outside(policy: str) -> None:
    """Hidden layers compute in 16 bits, the output in 32, and the global policy is as before."""
    before = keras.config.dtype_policy().name

    model = built({"training.precision": policy})

    assert model.get_layer("hidden_0").compute_dtype == policy.removeprefix("mixed_")
    assert model.get_layer("output").compute_dtype == "float32"
    assert keras.config.dtype_policy().name == before


def test_the_policy_is_restored_when_building_fails() -> None:
    """A bad value must not leave a 16-bit policy behind."""
    with pytest.raises(SettingError):
        built({"training.precision": "mixed_float16", "model.activation": "relux"})

    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adam", keras.optimizers.Adam),
        ("adamw", keras.optimizers.AdamW),
        ("nadam", keras.optimizers.Nadam),
        ("sgd", keras.optimizers.SGD),
        ("rmsprop", keras.optimizers.RMSprop),
        ("adagrad", keras.optimizers.Adagrad),
        ("lion", keras.optimizers.Lion),
    ],
)
def test_each_optimizer_takes_its_values(name: str, kind: type) -> None:
    """Name, rate, decay, clipping and momentum arrive."""
    optimizer = built(
        {
            "optimizer.name": name,
            "optimizer.weight_decay": 0.1,
            "optimizer.clipnorm": 2.0,
            "optimizer.momentum": 0.8,
            "optimizer.beta_2": 0.95,
        }
    ).optimizer

    assert isinstance(optimizer, kind)
    assert float(optimizer.learning_rate) == pytest.approx(0.01)
    assert (optimizer.weight_decay, optimizer.global_clipnorm) == (0.1, 2.0)
    if name == "sgd":
        assert (optimizer.momentum, optimizer.nesterov) == (0.8, True)
    if name == "adamw":
        assert optimizer.beta_2 == 0.95


def test_weight_decay_spares_biases_and_normalization() -> None:
    """Only kernels shrink when the gradient is zero."""
    model = built({"model.normalization": "layer", "optimizer.weight_decay": 0.5})
    variables = model.trainable_variables
    for w in variables:
        w.assign(np.ones(w.shape))

    model.optimizer.apply([keras.ops.zeros(w.shape) for w in variables], variables)

    shrunk = {w.path: bool((w.numpy() < 1.0).all()) for w in variables}
    assert all(is_shrunk == path.endswith("kernel") for path, is_shrunk in shrunk.items())


@pytest.mark.parametrize(
    ("kind", "decay", "l1", "l2"),
    [("none", 0, 0, 0), ("weight_decay", 0.1, 0, 0), ("l1", 0, 0.2, 0), ("l2", 0, 0, 0.3),
     ("l1_l2", 0, 0.2, 0.3)],
)  # fmt: skip
def test_only_the_chosen_penalty_is_on(kind: str, decay: float, l1: float, l2: float) -> None:
    """Strengths of penalties that were not chosen are ignored, AdamW's own default included."""
    model = built(
        {
            "optimizer.regularization": kind,
            "optimizer.weight_decay": 0.1,
            "optimizer.l1": 0.2,
            "optimizer.l2": 0.3,
        }
    )

    regularizer = model.get_layer("hidden_0").kernel_regularizer

    assert model.optimizer.weight_decay == decay
    found = (0, 0) if regularizer is None else (float(regularizer.l1), float(regularizer.l2))
    assert found == pytest.approx((l1, l2))


def test_schedules_are_drawn_on_the_final_horizon() -> None:
    """The rate reaches 0 after all epochs of a full training, however few a rung trains."""
    hm = hypermodel({"optimizer.schedule": "cosine", "optimizer.warmup_steps": 2})
    schedule = hm.build(keras_tuner.HyperParameters()).optimizer._learning_rate

    assert schedule.total_steps == 4 * 64 // 32
    assert float(schedule(0)) == pytest.approx(0.01 / 3)
    assert float(schedule(2)) == pytest.approx(0.01)
    assert float(schedule(5)) == pytest.approx(0.005)
    assert float(schedule(8)) == pytest.approx(0.0, abs=1e-9)


def test_label_smoothing_of_class_indices_equals_that_of_one_hot_targets() -> None:
    """The loss on indices gives Keras's own value on widened targets."""
    model = built({"training.label_smoothing": 0.2}, problem="multiclass")
    logits = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    indices = np.array([0, 1, 2, 1, 0], np.int32)
    reference = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)

    loss = float(model.loss(indices, logits))

    assert loss == pytest.approx(float(reference(np.eye(3)[indices], logits)), rel=1e-5)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_metrics_carry_their_names_into_the_logs(problem: str) -> None:
    """Every metric of the problem is reported for training and validation."""
    hm = hypermodel(problem=problem)
    model = hm.build(keras_tuner.HyperParameters())
    x, y = arrays(hm, problem)

    logs = model.fit(x, y, validation_data=(x, y), batch_size=64, verbose=0).history

    names = {"loss", *PROBLEM_METRICS[problem]}
    assert set(logs) == names | {f"val_{name}" for name in names}


def test_accuracy_is_counted_on_logits() -> None:
    """A logit of 0.3 means yes."""
    accuracy = make_metrics(hypermodel().codec, ["accuracy"])[0]

    accuracy.update_state(np.array([[1.0], [0.0]]), np.array([[0.3], [-0.3]]))

    assert float(accuracy.result()) == 1.0


def test_balanced_weights_give_every_class_the_same_sum() -> None:
    """And average one over the training rows."""
    hm = hypermodel(problem="multiclass")
    _, y = arrays(hm, "multiclass")

    weights = sample_weights(y, hm.codec)

    assert weights is not None
    sums = [weights[y == c].sum() for c in range(3)]
    assert sums == pytest.approx([64 / 3] * 3)
    assert sample_weights(y, hm.codec, "none") is None


def test_a_plan_can_be_replaced_between_trials() -> None:
    """Its seed and precision hold for the next build."""
    hm = hypermodel()
    hm.plan = replace(hm.plan, seed=9, precision="mixed_bfloat16")

    model = hm.build(keras_tuner.HyperParameters())

    assert model.get_layer("hidden_0").compute_dtype == "bfloat16"
    assert not np.array_equal(
        model.get_layer("hidden_0").kernel.numpy(), built().get_layer("hidden_0").kernel.numpy()
    )


def test_settings_of_data_and_columns_are_not_searched() -> None:
    """Only what the model reads becomes a KerasTuner hyperparameter."""
    hm = hypermodel({"model.encoding[c]": "one_hot", "search.num_trials": 5})
    hp = keras_tuner.HyperParameters()

    hm.declare_hyperparameters(hp)

    assert {entry.name for entry in hp.space} == set(VALUES)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"model.family": "cnn"}, r"model\.family"),
        ({"model.activation": "relux"}, r"model\.activation"),
        ({"model.normalization": "group"}, r"model\.normalization"),
        ({"model.kernel_initializer": "he"}, r"model\.kernel_initializer"),
        ({"optimizer.name": "adamm"}, r"optimizer\.name.*Did you mean `adam"),
        ({"optimizer.schedule": "cosin"}, r"optimizer\.schedule.*Did you mean `cosine`"),
        ({"training.precision": "fp8"}, r"training\.precision"),
        ({"model.loss": "mse"}, r"model\.loss"),
    ],
)
def test_values_that_mean_nothing_are_refused(values: dict[str, Value], where: str) -> None:
    """Each error names the hyperparameter."""
    with pytest.raises(SettingError, match=where):
        built(values)


def test_a_value_that_nobody_gave_is_asked_for() -> None:
    """No number is invented for width."""
    values = {name: value for name, value in VALUES.items() if name != "model.units"}

    with pytest.raises(SettingError, match=r"--set model\.units=VALUE"):
        hypermodel().build_from(values)


def test_a_metric_of_another_problem_is_refused() -> None:
    """There is no accuracy of a number."""
    with pytest.raises(OptionError, match="accuracy"):
        make_metrics(hypermodel(problem="regression").codec, ["accuracy"])
