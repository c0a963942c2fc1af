"""The table of what is built: every network is made of it, and reads what it says."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from smarttune.coverage import facts_of
from smarttune.data import Dataset, read
from smarttune.data.audio import joined
from smarttune.data.labelling import labelled
from smarttune.data.texts import TextContent
from smarttune.errors import SettingError
from smarttune.facts import PROBLEMS
from smarttune.fingerprint import Fingerprint, measure
from smarttune.models import image as image_module
from smarttune.models import text as text_module
from smarttune.models.built import _READ, Built, built, families_built
from smarttune.models.compiling import make_loss
from smarttune.models.layers import Layers
from smarttune.models.modalities import MODALITIES, modality, modality_of
from smarttune.models.optimizers import OPTIMIZERS, kernel_regularizer, make_optimizer
from smarttune.recommendation import recommend
from smarttune.rulebook import Rulebook
from smarttune.space import HYPERPARAMETERS, Value

# Keras 3.15 turns TensorFlow variables into arrays in a way that NumPy 2.4 deprecates; what
# KerasHub warns of when it is imported is its own to mend.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROWS = 40
# Small sizes, and choices under which networks read the most.
SMALL: dict[str, Value] = {
    "model.units": 8,
    "model.filters": 4,
    "model.num_stages": 2,
    "model.rnn_units": 4,
    "model.embedding_dim": 8,
    "model.image_side": 8,
    "model.window_length": 6,
    "model.max_sequence_length": 8,
    "model.vocabulary_size": 30,
    "model.frame_seconds": 0.02,
    "model.hop_seconds": 0.01,
    "model.num_mel_bands": 8,
    "model.encoding": "embedding",
    "model.normalization": "batch",
    "model.pooling_head": "flatten_dense",
}
# Training reads some hyperparameters under some choices only.
CHOICES: list[dict[str, Value]] = [{"optimizer.name": name} for name in OPTIMIZERS]
CHOICES += [{"optimizer.regularization": kind} for kind in ("weight_decay", "l1", "l2")]
CHOICES += [{"optimizer.schedule": "one_cycle"}, {"training.batch_growth": "doubling"}]


class Recorded(dict[str, Value]):
    """Values that remember which of them were asked for, those of a column under its plain name."""

    def __init__(self, values: dict[str, Value], names: set[str]) -> None:
        super().__init__(values)
        self.names = names

    def __getitem__(self, name: str) -> Value:
        self.names.add(name.split("[", maxsplit=1)[0])
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The value or a default."""
        self.names.add(name.split("[", maxsplit=1)[0])
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name).split("[", maxsplit=1)[0])
        return super().__contains__(name)


def labels(problem: str) -> Any:
    """Targets of forty samples."""
    y = np.arange(ROWS)
    if problem == "multilabel":
        return pd.DataFrame({"a": y % 2, "b": y % 3 == 0, "c": y // 20}).astype(int)
    if problem == "regression":
        return pd.Series(y * 0.37 + 0.1, name="y")
    return pd.Series(y % (2 if problem == "binary" else 4), name="y").map(lambda k: f"class {k}")


def table(problem: str) -> Dataset:
    """A number with gaps, a category and free text."""
    rng = np.random.default_rng(0)
    words = ["fine", "old", "broken", "blue", "large", "door"]
    frame = pd.DataFrame(
        {
            "size": np.where(np.arange(ROWS) % 7, rng.normal(size=ROWS), np.nan),
            "city": [f"city {i % 5}" for i in range(ROWS)],
            "note": [" ".join([*rng.choice(words, 5), f"number {i}"]) for i in range(ROWS)],
        }
    )
    return read(frame, labels(problem))


def texts(problem: str, weights: str | None) -> Dataset:
    """Short texts."""
    frame = pd.DataFrame({"text": [f"the film was {('good', 'bad')[i % 2]}" for i in range(ROWS)]})
    target = labels(problem)
    options: dict[str, Any] = {} if weights is None else {"weights": weights}
    content = TextContent(frame)
    return Dataset("t", frame, target, ROWS, task="text", content=content, read_options=options)


def pictures(problem: str, weights: str | None) -> Dataset:
    """Noise, or with a class for each pixel."""
    x = np.random.default_rng(0).integers(0, 255, (ROWS, 16, 16, 3)).astype(np.uint8)
    options: dict[str, Any] = {} if weights is None else {"weights": weights}
    if problem == "segmentation":
        return read(x, (x[..., 0] > 99).astype(np.uint8), **options)
    return read(x, labels(problem), **options)


def recordings(problem: str) -> Dataset:
    """A tenth of a second of noise each."""
    waves = np.random.default_rng(0).integers(-3000, 3000, ROWS * 800).astype(np.int16)
    content, _ = joined(waves, np.full(ROWS, 800), 8000, where="X")
    target = pd.DataFrame(labels(problem))
    return labelled(content, target, list(target.columns), where="X", name="X")


def steps(problem: str) -> Dataset:
    """Twelve steps of two features, some of them missing."""
    x = np.random.default_rng(0).normal(size=(ROWS, 12, 2)).astype(np.float32)
    x[3, 2, 0] = np.nan
    return read(x, labels(problem), task="sequence")


def series(problem: str) -> Dataset:
    """One series with a daily season and times."""
    hours = pd.date_range("2024-03-01", periods=200, freq="h")
    heat = np.sin(np.arange(200) * 2 * np.pi / 24) + np.random.default_rng(0).normal(0, 0.1, 200)
    return read(pd.DataFrame({"hour": hours, "heat": heat}), "heat", horizon=2, time_column="hour")


def corpus(folder: Path) -> Dataset:
    """Running text."""
    (folder / "corpus.txt").write_text("The cat sat; the dog ran.\n" * 200)
    return read(folder / "corpus.txt", task="text")


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny pretrained image network on disk."""
    image = keras.Input((None, None, 3))
    path = tmp_path_factory.mktemp("weights") / "small.keras"
    keras.Model(image, keras.layers.Conv2D(4, 3)(image)).save(path)
    return str(path)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str | None:
    """A tiny pretrained text encoder on disk; None where KerasHub is not installed."""
    if find_spec("keras_hub") is None:
        return None
    hub = import_module("keras_hub")
    folder = str(tmp_path_factory.mktemp("encoder") / "bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "good", "bad"]
    hub.models.BertTokenizer(words, lowercase=True).save_to_preset(folder)
    hub.models.BertBackbone(
        vocabulary_size=len(words),
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=8,
        max_sequence_length=10,
    ).save_to_preset(folder)
    return folder


@pytest.fixture
def data(tmp_path: Path, features: str, encoder: str | None) -> Any:
    """Makes small data for a kind of network; None where they cannot be had."""

    def of(one: Built) -> Dataset | None:
        pretrained = one.family == "pretrained"
        if one.modality == "text":
            if pretrained and encoder is None:
                return None
            return texts(one.problem, encoder if pretrained else None)
        if one.modality == "image":
            return pictures(one.problem, features if pretrained else None)
        if one.modality == "language":
            return corpus(tmp_path)
        makers = {"tabular": table, "audio": recordings, "sequence": steps, "timeseries": series}
        return makers[one.modality](one.problem)

    return of


def read_by(one: Built, dataset: Dataset, values: dict[str, Value]) -> set[str]:
    """Names that preparation, network, loss and optimizer of a kind of network ask for."""
    names: set[str] = set()
    recorded = Recorded(values, names)
    kind = modality_of(one.task, one.problem)
    fingerprint = _measured(dataset, one.problem)
    parts = (
        kind.split(
            dataset, fingerprint, recorded, validation_fraction=0.2, test_fraction=0.0, seed=0
        )
        if one.modality in ("timeseries", "language")
        else None
    )
    rows = np.arange(ROWS) if parts is None else parts.train
    preprocessor = kind.fit(dataset, fingerprint, rows, recorded, (one.family,))
    codec = kind.codec(dataset, fingerprint, rows, recorded, None)
    model = kind.network(Layers(recorded, codec, 0), preprocessor)
    make_loss(recorded, codec.kind)
    pretrained = model.trainable_variables[:1] if one.family == "pretrained" else ()
    for choice in CHOICES:
        chosen = Recorded({**values, **choice}, names)
        make_optimizer(chosen, num_samples=ROWS, epochs=4, pretrained=pretrained)
        kernel_regularizer(chosen)
    # Dropout looks for SELU everywhere, also where no layer has an activation to choose.
    return names - {"model.activation"} if one.family in ("rnn", "pretrained") else names


def _measured(dataset: Dataset, problem: str) -> Fingerprint:
    return measure(dataset, problem=None if problem in ("segmentation", "forecasting") else problem)


def asked(names: Any) -> Iterator[str]:
    """Those that preparation, network, loss and optimizer may ask for."""
    by_run = ("training.early_stopping.", "training.reduce_on_plateau.", "data.", "search.")
    later = ("training.epochs", "training.precision", "training.class_weight")
    return (n for n in names if n in HYPERPARAMETERS and not n.startswith((*by_run, *later)))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODALITIES)
def test_every_network_reads_what_the_table_says(
    name: str, book: Rulebook, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built from recommended values, each kind asks for exactly the names of its line."""
    monkeypatch.setattr(text_module, "of_family", lambda values, family=None: values)
    wrong: dict[Built, dict[str, list[str]]] = {}
    for one in built():
        if one.modality != name or (dataset := data(one)) is None:
            continue
        facts = facts_of(one, "few samples, processor")
        pinned = {**SMALL, "model.family": one.family}
        values = recommend(facts, rules=book, pinned=pinned).default

        found = set(asked(read_by(one, dataset, values)))
        told = set(asked(one.reads))

        if found != told:
            wrong[one] = {"only read": sorted(found - told), "only told": sorted(told - found)}
    assert wrong == {}


def test_the_table_names_modalities_problems_and_hyperparameters_that_exist() -> None:
    """No line speaks of anything unknown, and no modality is left out."""
    places = [line.split("|") for line in _READ.strip().splitlines()]
    names = {f"model.{n}" for _, read_there in places for n in read_there.split()}
    known = {"*", *(b.modality for b in built()), *(b.family for b in built())}

    assert {b.modality for b in built()} == set(MODALITIES)
    assert {b.problem for b in built()} <= set(PROBLEMS)
    assert {b.family for b in built()} == set(HYPERPARAMETERS["model.family"].values)
    assert names <= set(HYPERPARAMETERS)
    assert {word for place, _ in places for word in place.split(":")[0].split()} <= known
    assert len(set(built())) == len(built())


def test_every_modality_has_a_builder_for_each_family() -> None:
    """What a modality keeps by family is what the table says that it builds."""
    by_pixel = families_built("image", "segmentation")

    assert set(text_module.INPUTS) == set(families_built("text", "binary"))
    assert set(image_module.FAMILIES_BY_PIXEL) == set(by_pixel)
    assert {*image_module.FAMILIES, image_module.PRETRAINED} == set(
        families_built("image", "multiclass")
    )


def test_what_is_used_up_before_the_network_is_read_by_the_modality() -> None:
    """Whatever a modality prepares appears among what its networks read."""
    for name in MODALITIES:
        read_there = {n for b in built() if b.modality == name for n in b.reads}
        unread = set(modality(name).prepared) - read_there
        # Sequences are padded at the end in any case, and whole problems share a list.
        assert unread <= {"model.padding_side", "model.target_transform"}, name


def test_a_family_of_another_problem_is_refused() -> None:
    """A U-Net for one label per picture, or a family of other data, is the user's mistake."""
    codec = type("Codec", (), {"problem": "binary"})()
    for name, family in (("image", "unet"), ("tabular", "rnn"), ("audio", "mlp")):
        with pytest.raises(SettingError, match=r"model\.family"):
            Layers({"model.family": family}, codec, 0).family_of(name)
