"""Language models: which character or word comes next."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import keras
import numpy as np
from keras import layers as keras_layers
from keras import ops

from smarttune.data import Dataset, Split
from smarttune.data.corpus import CorpusContent, Symbols
from smarttune.errors import DataError, OptionError
from smarttune.models.codec import TargetCodec
from smarttune.models.export import bare_copy
from smarttune.models.layers import Layers
from smarttune.models.modality import Modality, Preprocessor
from smarttune.models.optimizers import needed
from smarttune.models.recurrent import rnn
from smarttune.models.windows import Windows, gathered
from smarttune.space import Value

if TYPE_CHECKING:
    import pandas as pd

    from smarttune.fingerprint import Fingerprint

UNKNOWN = "[UNK]"  # what Keras calls everything outside of a vocabulary
LEVELS = {"char_language_model": "character", "language_model": "word"}
# ours: how freely a report's samples are drawn: careful, and as the network has it.
TEMPERATURES = (0.5, 1.0)
SAMPLED = {"character": 300, "word": 60}  # ours: a short paragraph
# Symbols of a text that are counted or looked up at a time.
_PIECE = 2**22


class LanguagePreprocessor(Preprocessor):
    """Stretches of a text as numbers of its symbols.

    Attributes:
        level: What a symbol is.
        symbols: Characters or words of the training text, the most frequent first. Number 0 is
            everything else, number i is `symbols[i - 1]`.
        length: Symbols of one stretch.
    """

    kind: Literal["language"] = "language"
    level: Literal["character", "word"]
    symbols: tuple[str, ...]
    length: int

    def inputs(self, dataset: Dataset, rows: np.ndarray) -> dict[str, Any]:
        """`tokens`, int32, shape (len(rows), length): consecutive stretches by number."""
        return {"tokens": self._stretches(dataset, rows * self.length)}

    def targets(self, dataset: Dataset, rows: np.ndarray, codec: TargetCodec) -> Any:
        """The symbol after each one, int32, shape (len(rows), length)."""
        return self._stretches(dataset, rows * self.length + 1)

    def numbers(self, found: Symbols) -> np.ndarray:
        """A text's own codes to numbers, a table of shape (largest code + 1,), int32."""
        places = {symbol: i + 1 for i, symbol in enumerate(self.symbols)}
        if found.names is not None:
            return np.array([places.get(name, 0) for name in found.names] or [0], np.int32)
        size = min(int(np.iinfo(found.codes.dtype).max), sys.maxunicode) + 1
        table = np.zeros(size, np.int32)
        for symbol, place in places.items():
            if ord(symbol) < len(table):
                table[ord(symbol)] = place
        return table

    def text(self, tokens: np.ndarray) -> str:
        """Numbers to readable text; unknown ones are shown as a replacement character."""
        names = ("\ufffd", *self.symbols)
        return ("" if self.level == "character" else " ").join(names[i] for i in tokens)

    def _stretches(self, dataset: Dataset, starts: np.ndarray) -> Windows | np.ndarray:
        found = symbols_of(dataset, self.level)
        table = self.numbers(found)
        return gathered(Windows(found.codes, starts, self.length, lambda codes: table[codes]))


class Language(Modality):
    """Running text, learnt symbol by symbol."""

    name: ClassVar[str] = "language"
    preprocessor_type: ClassVar[type[Preprocessor]] = LanguagePreprocessor
    prepared: ClassVar[tuple[str, ...]] = ("model.max_sequence_length", "model.vocabulary_size")

    def split(
        self,
        dataset: Dataset,
        fingerprint: Fingerprint,
        settings: Mapping[str, Value],
        **options: Any,
    ) -> Split:
        """Cut the text in three: training first, then validation, then test.

        Rows are stretches of `model.max_sequence_length` symbols, numbered from the start.

        Raises:
            DataError: If a part would have no stretch.
        """
        length = int(needed(settings, "model.max_sequence_length"))
        found = symbols_of(dataset, LEVELS[str(fingerprint.problem)])
        count = (len(found.codes) - 1) // length
        shares = options["validation_fraction"], options["test_fraction"]
        held = [max(1, round(count * share)) if share else 0 for share in shares]
        train = count - sum(held)
        if train < 1:
            raise DataError(
                dataset.where,
                received=f"{max(0, count):,} stretch(es) of {length:,} symbols",
                expected="some for each of training, validation and test",
                mend="Add text, or shorten them: --set model.max_sequence_length=20.",
            )
        rows = np.arange(count)
        return Split(rows[:train], rows[train : train + held[0]], rows[train + held[0] :])

    def fit(
        self,
        dataset: Dataset,
        fingerprint: Fingerprint,
        rows: np.ndarray,
        settings: Mapping[str, Value],
        families: tuple[str, ...],
    ) -> LanguagePreprocessor:
        """Learn the vocabulary from the training text."""
        level = LEVELS[str(fingerprint.problem)]
        length = int(needed(settings, "model.max_sequence_length"))
        found = symbols_of(dataset, level)
        counts = _counts(found, rows, length)
        # Kept are those that occur; equally frequent ones in the order of their codes.
        order = np.argsort(-counts, kind="stable")[: int((counts > 0).sum())]
        chosen = order[: int(needed(settings, "model.vocabulary_size"))]
        return LanguagePreprocessor(
            level="character" if level == "character" else "word",
            symbols=tuple(found.name(int(code)) for code in chosen),
            length=length,
        )

    def codec(
        self,
        dataset: Dataset,
        fingerprint: Fingerprint,
        rows: np.ndarray,
        settings: Mapping[str, Value],
        bounds: tuple[float, float] | None,
    ) -> TargetCodec:
        """The vocabulary as classes, with their counts in the training text."""
        inputs = self.fit(dataset, fingerprint, rows, settings, ())
        found = symbols_of(dataset, inputs.level)
        by_code = _counts(found, rows, inputs.length)
        table = inputs.numbers(found)[: len(by_code)]
        counts = np.bincount(table, by_code, minlength=len(inputs.symbols) + 1).astype(np.int64)
        return TargetCodec(
            problem="char_language_model" if inputs.level == "character" else "language_model",
            names=(f"next {inputs.level}",),
            classes=(UNKNOWN, *inputs.symbols),
            class_counts=tuple(counts.tolist()),
            num_rows=int(counts.sum()),
        )

    def network(self, layers: Layers, preprocessor: LanguagePreprocessor) -> keras.Model:
        """A recurrent network over embedded symbols.

        It takes {"tokens": (batch, length) int32} and gives logits of the next symbol at each
        step, float32, shape (batch, length, symbols + 1).
        """
        layers.family_of(self.name)
        tokens = keras.Input((preprocessor.length,), dtype="int32", name="tokens")
        width = int(layers.value("model.embedding_dim"))
        x = layers.embedding(tokens, layers.codec.num_outputs, width, "embedding")
        x = rnn(layers, layers.drop(x, "embedding"), every_step=True)
        return keras.Model({"tokens": tokens}, layers.output(x), name="language")

    def exported(
        self, core: keras.Model, preprocessor: LanguagePreprocessor, codec: TargetCodec
    ) -> keras.Model:
        """A model of raw text.

        It takes text of any length, shape (batch, 1), and gives the probability of each next
        symbol, float32, shape (batch, symbols + 1). What they stand for is told by
        `model.get_layer("symbols").get_vocabulary()[1:]`, of which the first is everything else.

        Raises:
            OptionError: If Keras runs on another backend than TensorFlow.
        """
        if keras.backend.backend() != "tensorflow":
            raise OptionError(
                "export",
                received=f"the Keras backend {keras.backend.backend()} for a language model",
                expected="the TensorFlow backend, the only one whose Keras layers read text",
                mend="Export with the environment variable KERAS_BACKEND=tensorflow.",
            )
        words = preprocessor.level == "word"
        reader = keras_layers.TextVectorization(
            standardize="lower_and_strip_punctuation" if words else None,
            split="whitespace" if words else "character",
            output_mode="int",
            vocabulary=list(preprocessor.symbols),
            name="symbols",
        )
        raw = keras.Input((1,), dtype="string", name="text")
        # Keras counts 0 for padding and 1 for unknown symbols; here unknown ones are 0.
        found = ops.cast(reader(raw), "int32")
        last = ops.maximum(ops.sum(ops.cast(found > 0, "int32"), axis=1) - 1, 0)
        logits = of_any_length(core)({"tokens": ops.maximum(found - 1, 0)})
        ends = ops.take_along_axis(logits, last[:, None, None], axis=1)
        return keras.Model(raw, ops.softmax(ops.squeeze(ends, axis=1)), name="raw_text")

    def predictions(
        self,
        dataset: Dataset,
        preprocessor: LanguagePreprocessor,
        codec: TargetCodec,
        core: keras.Model,
    ) -> pd.DataFrame:
        """How well a text is foreseen, and how the network would go on.

        Returns:
            One row: `text` (its source), `symbols` (predicted ones), `perplexity`,
            `bits_per_character` for characters, and `continuation`, drawn with seed 0.

        Raises:
            DataError: If the text has not two symbols.
        """
        import pandas as pd

        found = symbols_of(dataset, preprocessor.level)
        tokens = preprocessor.numbers(found)[found.codes]
        if len(tokens) < 2:  # noqa: PLR2004 -- one to read and one to foresee
            raise DataError(
                dataset.where,
                received=f"a text of {len(tokens)} {preprocessor.level}(s)",
                expected="at least two",
                mend="Give a longer text; the network goes on from its end.",
            )
        mean = _mean_nats(core, codec, tokens, preprocessor.length)
        row: dict[str, Any] = {"text": dataset.where, "symbols": len(tokens) - 1}
        row["perplexity"] = math.exp(mean)
        if preprocessor.level == "character":
            row["bits_per_character"] = mean / math.log(2)
        row["continuation"] = sampled(core, preprocessor, tokens, 1.0, seed=0)
        return pd.DataFrame([row])

    def extras(
        self,
        dataset: Dataset,
        preprocessor: LanguagePreprocessor,
        codec: TargetCodec,
        core: keras.Model,
        seed: int,
    ) -> dict[str, Any]:
        """Text that the network writes after the last words of the text, by temperature."""
        found = symbols_of(dataset, preprocessor.level)
        prompt = preprocessor.numbers(found)[found.codes[-preprocessor.length :]]
        return {
            f"Sampled text, temperature {temperature:g}": sampled(
                core, preprocessor, prompt, temperature, seed=seed
            )
            for temperature in TEMPERATURES
        }


def symbols_of(dataset: Dataset, level: str) -> Symbols:
    """The characters or words of a corpus.

    Raises:
        DataError: If the data are no running text.
    """
    if not isinstance(dataset.content, CorpusContent):
        raise DataError(
            dataset.where,
            received="it is no running text",
            expected="a text file or a folder of them",
            mend="Give the path of a .txt file, with --task text.",
        )
    return dataset.content.characters if level == "character" else dataset.content.words


def of_any_length(core: keras.Model) -> keras.Model:
    """The same network for texts of every length."""
    config = bare_copy(core).get_config()
    for layer in config["layers"]:
        if layer["class_name"] == "InputLayer":
            layer["config"]["batch_shape"] = (None, None)
    model = keras.Model.from_config(config)
    model.set_weights(core.get_weights())
    model.trainable = False
    return model


def _mean_nats(core: keras.Model, codec: TargetCodec, tokens: np.ndarray, length: int) -> float:
    """Mean cross-entropy of each symbol given those before it in its stretch."""
    from smarttune.training.outputs import outputs_of

    count = len(tokens) - 1
    room = np.zeros(-(-count // length) * length + 1, np.int32)
    room[: count + 1] = tokens  # what is filled up at the end comes after all that counts
    y = room[1:].reshape(-1, length)

    def of_truth(output: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return codec.reduced(output, y[rows])

    places = outputs_of(core, {"tokens": room[:-1].reshape(-1, length)}, of_truth)
    return -float(places[..., 0].ravel()[:count].astype(np.float64).mean())


def sampled(
    core: keras.Model,
    preprocessor: LanguagePreprocessor,
    prompt: np.ndarray,
    temperature: float,
    *,
    seed: int,
) -> str:
    """Go on with a text, one symbol drawn after the other.

    Args:
        core: The network; it reads as many of the last symbols as one stretch holds.
        preprocessor: Knows the symbols.
        prompt: Numbers of the symbols before, at least one.
        temperature: Divides the logits: below 1 the probable becomes more so.
        seed: Decides what is drawn.
    """
    rng = np.random.default_rng(seed)
    tokens = prompt[-preprocessor.length :].tolist()
    start = len(tokens)
    for _ in range(SAMPLED[preprocessor.level]):
        last = tokens[-preprocessor.length :]
        window = np.zeros((1, preprocessor.length), np.int32)
        window[0, : len(last)] = last  # no step sees what stands after it
        output = np.asarray(core.predict_on_batch({"tokens": window}))
        logits = output[0, len(last) - 1].astype(np.float64)
        logits[0] = -np.inf  # an unknown symbol cannot be written
        shares = np.exp((logits - logits[1:].max()) / temperature)
        tokens.append(int(rng.choice(len(shares), p=shares / shares.sum())))
    return preprocessor.text(np.array(tokens[start:]))


def _counts(found: Symbols, rows: np.ndarray, length: int) -> np.ndarray:
    """How often each code occurs in some consecutive stretches, shape (largest code + 1,)."""
    first, last = int(rows[0]) * length, (int(rows[-1]) + 1) * length + 1
    size = len(found.names) if found.names is not None else int(found.codes.max()) + 1
    counts = np.zeros(size, np.int64)
    for start in range(first, last, _PIECE):
        counts += np.bincount(found.codes[start : min(start + _PIECE, last)], minlength=size)
    return counts
