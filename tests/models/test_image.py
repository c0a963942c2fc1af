"""Networks on pictures: shapes, scaling, augmentation, segmentation, export."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import smarttune
from smarttune.data import Dataset, decoding, read
from smarttune.data.images import ImageArrays
from smarttune.errors import DataError, SettingError
from smarttune.fingerprint import measure
from smarttune.models import NetworkHyperModel, TargetCodec, TrainingPlan
from smarttune.models import image as image_module
from smarttune.models.image import Image, ImagePreprocessor
from smarttune.space import SearchSpace, Value

pytestmark = [
    # Keras 3.15 turns TensorFlow variables into arrays in a way that NumPy 2.4 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

VALUES: dict[str, Value] = {
    "model.family": "cnn",
    "model.activation": "relu",
    "model.filters": 4,
    "model.kernel_size": 3,
    "model.num_stages": 2,
    "model.convolutions_per_stage": 2,
    "model.downsampling": "pooled",
    "model.pooling_head": "global_average",
    "model.skip_connections": False,
    "model.normalization": "batch",
    "model.dropout": 0.3,
    "optimizer.name": "adam",
    "optimizer.learning_rate": 0.01,
    "training.batch_size": 16,
    "training.augmentation": "none",
}
BY_PIXEL: dict[str, Value] = {
    **VALUES,
    "model.family": "unet",
    "model.downsampling": "strided",
    "model.multiscale_head": True,
}
CODEC = TargetCodec(
    problem="multiclass",
    names=("label",),
    classes=(0, 1, 2),
    class_counts=(20, 20, 20),
    num_rows=60,
)


def squares(n: int = 60, side: int = 16, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Pictures with a bright square, big where the class is high; and the mask of each."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 60, (n, side, side, channels)).astype(np.uint8)
    masks = np.zeros((n, side, side), np.uint8)
    for i in range(n):
        edge = 2 + 4 * (i % 3)
        top, left = rng.integers(0, side - edge, 2)
        masks[i, top : top + edge, left : left + edge] = 7
    x[masks == 7] += 150
    return x, masks


def fitted(
    dataset: Dataset, values: dict[str, Value], side: int = 16
) -> tuple[ImagePreprocessor, TargetCodec, Any]:
    """Preprocessor and codec learnt from all rows, and an untrained network."""
    image, rows = Image(), np.arange(len(dataset.features))
    fingerprint = measure(dataset)
    preprocessor = image.fit(dataset, fingerprint, rows, {"model.image_side": side}, ())
    codec = image.codec(dataset, fingerprint, rows, values, None)
    return preprocessor, codec, built(values, preprocessor, codec)


def built(
    values: dict[str, Value], preprocessor: ImagePreprocessor, codec: TargetCodec = CODEC
) -> Any:
    """An untrained network of plain values."""
    plan = TrainingPlan(num_samples=60, max_epochs=2, seed=3)
    hypermodel = NetworkHyperModel(SearchSpace(dimensions=()), preprocessor, codec, plan)
    return hypermodel.build_from(values)


def plain(side: int = 16, channels: int = 1) -> ImagePreprocessor:
    """Preprocessing that leaves the scale as it is, more or less."""
    return ImagePreprocessor(
        side=side, channels=channels, mean=(60.0,) * channels, deviation=(50.0,) * channels
    )


@settings(max_examples=12, deadline=None)
@given(
    side=st.integers(5, 19),
    stages=st.integers(1, 3),
    each=st.integers(1, 3),
    downsampling=st.sampled_from(["pooled", "strided", "dilated"]),
    head=st.sampled_from(["global_average", "flatten_dense"]),
    skips=st.booleans(),
    normalization=st.sampled_from(["batch", "layer", "none"]),
)
def test_every_network_gives_one_row_of_logits_per_picture(
    side: int, stages: int, each: int, downsampling: str, head: str, skips: bool, normalization: str
) -> None:
    """Whatever side, depth, downsampling, head, skips and normalization are combined."""
    values: dict[str, Value] = {
        **VALUES,
        "model.num_stages": stages,
        "model.convolutions_per_stage": each,
        "model.downsampling": downsampling,
        "model.pooling_head": head,
        "model.skip_connections": skips,
        "model.normalization": normalization,
        "model.units": 8,
    }
    model = built(values, plain(side))

    assert model.output_shape == (None, 3)
    convolutions = [n for n in model.layers if isinstance(n, keras.layers.Conv2D)]
    main = [n for n in convolutions if "shortcut" not in n.name]
    assert len(main) == stages * each
    assert [n.filters for n in main[::each]] == [4 * 2**i for i in range(stages)]
    assert any(isinstance(n, keras.layers.Add) for n in model.layers) == skips


@pytest.mark.parametrize(("kind", "last"), [("pooled", 4), ("strided", 4), ("dilated", 16)])
def test_stages_halve_the_map_unless_dilated(kind: str, last: int) -> None:
    """Two stages leave a quarter of the side; dilation leaves all of it and doubles its rate."""
    model = built({**VALUES, "model.downsampling": kind}, plain())

    assert model.get_layer("global_average").input.shape[1:3] == (last, last)
    rates = [model.get_layer(f"stage_{s}_0").dilation_rate[0] for s in range(2)]
    assert rates == ([1, 2] if kind == "dilated" else [1, 1])


def test_filters_double_up_to_512() -> None:
    """The cap holds for deep networks."""
    values: dict[str, Value] = {
        **VALUES,
        "model.filters": 256,
        "model.num_stages": 3,
        "model.convolutions_per_stage": 1,
    }
    model = built(values, plain(8))

    assert [model.get_layer(f"stage_{s}_0").filters for s in range(3)] == [256, 512, 512]


def test_batch_normalized_convolutions_have_no_bias_and_the_recommended_momentum() -> None:
    """The bias would be subtracted again; short trainings want statistics that adapt soon."""
    normalized = built({**VALUES, "model.normalization_momentum": 0.9}, plain())
    bare = built({**VALUES, "model.normalization": "none"}, plain())

    assert not normalized.get_layer("stage_0_0").use_bias
    assert normalized.get_layer("normalization_stage_0_0").momentum == 0.9
    assert bare.get_layer("stage_0_0").use_bias


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model.family", "unet"),
        ("model.downsampling", "melted"),
        ("model.pooling_head", "tail"),
        ("training.augmentation", "masks"),
    ],
)
def test_values_that_mean_nothing_are_refused(name: str, value: str) -> None:
    """The error names the hyperparameter."""
    with pytest.raises(SettingError, match=name):
        built({**VALUES, name: value}, plain())


@pytest.mark.parametrize("family", ["unet", "cnn"])
@pytest.mark.parametrize("kind", ["strided", "pooled"])
@pytest.mark.parametrize("side", [13, 16])
def test_segmentation_scores_every_pixel_of_the_square(family: str, kind: str, side: int) -> None:
    """Odd sides too, whose halves are rounded up."""
    codec = CODEC.model_copy(update={"problem": "segmentation"})
    values = {**BY_PIXEL, "model.family": family, "model.downsampling": kind}
    model = built(values, plain(side, 3), codec)

    assert model.output_shape == (None, side, side, 3)


def test_a_pyramid_leaves_out_dilations_wider_than_the_map() -> None:
    """At full resolution of 30 pixels the rates 12 and 24 remain, of 12, 24 and 36."""
    codec = CODEC.model_copy(update={"problem": "segmentation"})
    values: dict[str, Value] = {
        **BY_PIXEL,
        "model.family": "cnn",
        "model.downsampling": "dilated",
    }
    names = [n.name for n in built(values, plain(30), codec).layers]

    assert [n for n in names if n.startswith("pyramid_rate")] == [
        "pyramid_rate_12",
        "pyramid_rate_24",
    ]
    assert not any(
        n.name.startswith("pyramid")
        for n in built({**values, "model.multiscale_head": False}, plain(30), codec).layers
    )


def test_the_same_seed_gives_the_same_network_and_the_same_training() -> None:
    """Initial weights, dropout and augmentation all follow the plan's seed."""
    x, _ = squares(8, channels=3)
    y = np.arange(8, dtype=np.int32) % 3
    values = {**VALUES, "model.num_stages": 1, "training.augmentation": "shift_flip_color"}
    results = []
    for _ in range(2):
        model = built(values, plain(channels=3))
        model.train_on_batch({"image": x}, y)
        results.append([v.numpy() for v in model.variables])

    for first, second in zip(*results, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("none", set()),
        ("shift", {"shift"}),
        ("shift_flip", {"shift", "flip"}),
        ("shift_flip_color", {"shift", "flip", "brightness", "contrast"}),
    ],
)
def test_augmentation_changes_pictures_in_training_only(kind: str, names: set[str]) -> None:
    """Each kind has its layers; predictions are those of a network without them."""
    x, _ = squares(8, channels=3)
    model = built({**VALUES, "training.augmentation": kind}, plain(channels=3))
    bare = built(VALUES, plain(channels=3))
    scaling = model.get_layer("scaling")
    seen = keras.Model(model.inputs, scaling.output)

    assert names == {"shift", "flip", "brightness", "contrast"} & {n.name for n in model.layers}
    still, moved = (seen({"image": x}, training=t) for t in (False, True))
    np.testing.assert_array_equal(still, scaling(x.astype("float32")))
    changed = not np.array_equal(moved, still)
    assert changed == bool(names)
    answers = [m({"image": x}, training=False) for m in (model, bare)]
    np.testing.assert_array_equal(*answers)


def test_scaling_brings_training_pictures_to_zero_mean_and_unit_deviation() -> None:
    """Each channel by itself; a channel that never varies stays finite."""
    x, _ = squares(60, channels=3)
    x[..., 1] = 9
    dataset = read((x, np.arange(60) % 3), task="image")
    preprocessor, _, model = fitted(dataset, VALUES)

    scaled = np.asarray(keras.Model(model.inputs, model.get_layer("scaling").output)({"image": x}))

    assert preprocessor.deviation[1] == 1.0
    np.testing.assert_allclose(scaled[..., [0, 2]].mean(axis=(0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(scaled[..., [0, 2]].std(axis=(0, 1, 2)), 1, atol=1e-4)
    np.testing.assert_allclose(scaled[..., 1], 0, atol=1e-4)


def test_preprocessing_survives_json() -> None:
    """What a run keeps is the preprocessor itself."""
    kept = plain(20, 3)

    assert ImagePreprocessor.model_validate_json(kept.model_dump_json()) == kept


def test_large_sets_are_read_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit inputs are an object that scales what it is asked for, the same values."""
    x, _ = squares(20, side=24)
    dataset = read((x, np.arange(20) % 3), task="image")
    rows = np.array([3, 5, 8, 13])
    whole = plain().inputs(dataset, rows)["image"]
    monkeypatch.setattr(image_module, "BYTES_IN_MEMORY", 1000)

    lazy = plain().inputs(dataset, rows)["image"]

    assert isinstance(whole, np.ndarray)
    assert whole.dtype == np.uint8
    assert not isinstance(lazy, np.ndarray)
    assert (len(lazy), lazy.shape, lazy.dtype) == (4, whole.shape, whole.dtype)
    np.testing.assert_array_equal(lazy[np.array([2, 0])], whole[[2, 0]])


def test_grey_pictures_are_read_in_colour_by_a_model_of_colour() -> None:
    """The other way round arrays are refused in a sentence."""
    grey, _ = squares(12)
    dataset = read((grey, np.arange(12) % 3), task="image")

    inputs = plain(channels=3).inputs(dataset, np.arange(12))["image"]
    np.testing.assert_array_equal(inputs, np.repeat(grey, 3, axis=3))

    colour = read((np.repeat(grey, 3, axis=3), np.arange(12) % 3), task="image")
    with pytest.raises(DataError, match="3 channels"):
        plain(channels=1).inputs(colour, np.arange(12))


def test_masks_become_places_of_classes() -> None:
    """Values 0 and 7 are classes 0 and 1; a class of a single picture is known too."""
    x, masks = squares(600)
    masks[3, 0, 0] = 3  # between two of the 500 samples that are measured
    dataset = read((x, masks), task="image")
    fingerprint = measure(dataset)
    image, rows = Image(), np.arange(300)
    codec = image.codec(dataset, fingerprint, rows, {}, None)
    targets = plain().targets(dataset, rows, codec)

    assert fingerprint.problem == "segmentation"
    assert fingerprint.classes == (0, 7)
    assert codec.classes == (0, 3, 7)
    assert codec.class_counts == tuple(int((masks[:300] == c).sum()) for c in (0, 3, 7))
    assert targets.dtype == np.uint8
    np.testing.assert_array_equal(np.array([0, 3, 7])[targets], masks[:300])


def test_shares_of_classes_are_predicted_for_segmentation() -> None:
    """One row per picture; the shares sum to one and the prediction is the largest."""
    x, masks = squares(20)
    dataset = read((x, masks), task="image")
    preprocessor, codec, model = fitted(dataset, BY_PIXEL)

    table = Image().predictions(dataset, preprocessor, codec, model)
    chosen = model.predict({"image": x}, verbose=0).argmax(axis=-1)

    assert list(table.columns) == ["prediction", "share_0", "share_7"]
    np.testing.assert_allclose(table["share_7"], (chosen == 1).mean(axis=(1, 2)))
    assert table["prediction"].tolist() == [7 if s > 0.5 else 0 for s in table["share_7"]]


def test_other_data_are_refused() -> None:
    """A model of pictures says so when it is given a table."""
    table = read({"a": np.arange(20.0), "y": np.arange(20) % 2}, "y")

    with pytest.raises(DataError, match="tabular"):
        plain().inputs(table, np.arange(20))


@pytest.mark.parametrize("problem", ["binary", "multiclass", "multilabel", "regression"])
def test_exported_model_equals_decoded_network(problem: str) -> None:
    """Raw pictures in, answers out: to 1e-4 what preprocessing, network and codec give."""
    x, _ = squares(40, channels=3)
    sizes = np.arange(40) % 3
    y = {
        "binary": sizes > 0,
        "multiclass": sizes,
        "multilabel": np.stack([sizes > 0, sizes > 1], axis=1).astype(int),
        "regression": sizes * 10.5,
    }[problem]
    dataset = read((x, y), task="image")
    values = {**VALUES, "training.augmentation": "shift_flip_color"}
    preprocessor, codec, core = fitted(dataset, values)
    rng = np.random.default_rng(5)  # stored statistics and biases as after a training
    core.set_weights([np.abs(w + rng.normal(0, 0.1, w.shape)) for w in core.get_weights()])

    whole = Image().exported(core, preprocessor, codec)
    got = np.asarray(whole.predict(x, verbose=0))

    assert codec.problem == problem
    table = Image().predictions(dataset, preprocessor, codec, core)
    columns = [c for c in table.columns if str(c).startswith("probability_")] or ["prediction"]
    wanted = table[columns].to_numpy()
    np.testing.assert_allclose(got, wanted[:, 1:] if problem == "binary" else wanted, atol=1e-4)
    kinds = {type(layer).__name__ for layer in whole.get_layer("smarttune_core").layers}
    assert not [k for k in kinds if k.startswith("Random")]


def test_exported_segmentation_gives_shares_of_classes_at_each_pixel() -> None:
    """Probabilities of shape (batch, side, side, classes), those of the network."""
    x, masks = squares(12)
    dataset = read((x, masks), task="image")
    preprocessor, codec, core = fitted(dataset, BY_PIXEL)

    whole = Image().exported(core, preprocessor, codec)
    got = np.asarray(whole.predict(x, verbose=0))

    wanted = codec.probabilities(core.predict({"image": x}, verbose=0))
    np.testing.assert_allclose(got, wanted, atol=1e-4)


@pytest.mark.parametrize("size", [(9, 31), (16, 16), (40, 23), (64, 64)])
def test_exported_model_scales_as_training_does(size: tuple[int, int]) -> None:
    """Pictures of any size end up within one step of 256 of what arrays were scaled to."""
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (5, *size, 3)).astype(np.uint8)
    square = keras.layers.Resizing(16, 16, interpolation="bilinear", antialias=True)

    scaled = np.asarray(square(x.astype("float32")))

    assert np.abs(np.round(scaled) - decoding.smooth(x, 16)).max() <= 1


def test_exported_model_takes_sizes_that_training_never_saw() -> None:
    """The same scene at twice the size gets nearly the same answer, bytes or floats."""
    x, _ = squares(20)
    dataset = read((x, np.arange(20) % 3), task="image")
    preprocessor, codec, core = fitted(dataset, VALUES)
    whole = Image().exported(core, preprocessor, codec)
    twice = x.repeat(2, axis=1).repeat(2, axis=2)

    small = whole.predict(x, verbose=0)

    np.testing.assert_allclose(whole.predict(x.astype("float32"), verbose=0), small, atol=1e-6)
    np.testing.assert_allclose(whole.predict(twice, verbose=0), small, atol=0.1)


@pytest.mark.slow
def test_saved_model_loads_without_smarttune(tmp_path: Path) -> None:
    """Another process, in which SmartTune cannot be imported, predicts the same."""
    x, _ = squares(8)
    dataset = read((squares(30)[0], np.arange(30) % 3), task="image")
    preprocessor, codec, core = fitted(dataset, {**VALUES, "training.augmentation": "shift"})
    whole = Image().exported(core, preprocessor, codec)
    whole.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    program = (
        "import sys; sys.modules['smarttune'] = None\n"
        "import keras, numpy as np\n"
        "model = keras.saving.load_model('model.keras')\n"
        "np.save('y.npy', model.predict(np.load('x.npy'), verbose=0))\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=300)

    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), whole.predict(x, verbose=0), atol=1e-5)


def test_every_part_of_a_network_is_set_by_a_rule() -> None:
    """What rules recommend for pictures builds, for each problem and family, without a search."""
    for problem, side in (("multiclass", 28), ("segmentation", 96), ("regression", 40)):
        facts: dict[str, Value] = {
            "data.task": "image",
            "model.problem": problem,
            "data.image_side": side,
            "data.num_samples": 500,
            "data.num_classes": 3,
            "data.num_outputs": 1 if problem == "regression" else 3,
            "budget.num_trials": 40,
            "hardware.device": "cpu",
        }
        recommended = smarttune.suggest(facts=facts)
        codec = CODEC.model_copy(update={"problem": problem})
        if problem == "regression":
            codec = TargetCodec(
                problem="regression", names=("y",), center=(0.0,), scale=(1.0,), means=(0.0,)
            )
        space = recommended.space(Image().network_settings(recommended.settings))
        families = {"unet", "cnn"} if problem == "segmentation" else {"cnn"}
        for family in families:
            values = {n: s.value for n, s in recommended.settings.items()}
            hypermodel = NetworkHyperModel(space, plain(side), codec, TrainingPlan(500, 9))
            model = hypermodel.build_from({**values, "model.family": family})
            assert model.output_shape[-1] == codec.num_outputs


@pytest.mark.slow
def test_a_small_network_learns_the_size_of_squares() -> None:
    """Three sizes are told apart on pictures that were not trained on, and pixels are found."""
    x, masks = squares(240)
    y = np.arange(240, dtype=np.int32) % 3
    dataset = read((x, y), task="image")
    values = {**VALUES, "model.filters": 8, "model.normalization_momentum": 0.9}
    preprocessor, _, model = fitted(dataset, values)
    model.fit(preprocessor.inputs(dataset, np.arange(180)), y[:180], epochs=12, verbose=0)
    scores = model.predict({"image": x[180:]}, verbose=0)
    assert (scores.argmax(axis=1) == y[180:]).mean() > 0.9

    dataset = read((x, masks), task="image")
    values = {**BY_PIXEL, "model.normalization_momentum": 0.9}
    preprocessor, codec, model = fitted(dataset, values)
    rows = np.arange(180)
    targets = preprocessor.targets(dataset, rows, codec)
    model.fit(preprocessor.inputs(dataset, rows), targets, epochs=4, verbose=0)
    chosen = model.predict({"image": x[180:]}, verbose=0).argmax(axis=-1)
    assert ((chosen == 1) == (masks[180:] == 7)).mean() > 0.97


def test_contents_are_arrays_of_bytes() -> None:
    """What the tests above rely on: arrays in memory become `ImageArrays`."""
    dataset = read((squares(12)[0], np.arange(12) % 3), task="image")

    assert isinstance(dataset.content, ImageArrays)
    assert dataset.content.pixels.dtype == np.uint8
