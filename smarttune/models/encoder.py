"""Pretrained text encoders of KerasHub: read from a folder on disk, never downloaded."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from pydantic import BaseModel, ConfigDict

from smarttune.errors import MissingExtraError, OptionError, SettingError
from smarttune.models.convolution_1d import masked_mean
from smarttune.models.layers import Layers
from smarttune.models.transfer import BACKBONE

# KerasHub finds the class that fits the backbone of a preset by this parent.
_PREPROCESSOR = "TextClassifierPreprocessor"
# A text begins and ends with a mark of its own; one piece at least stands between them.
_LEAST_LENGTH = 3
# ours: texts that are cut into pieces at a time.
_PIECE = 256


class TokenReader(BaseModel):
    """Turns texts into word pieces, as the tokenizer of a KerasHub preset does. Immutable.

    Args:
        folder: The folder with the preset, an absolute path.
        length: Pieces read of each text, its two marks counted in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: str
    length: int

    @classmethod
    def of_preset(cls, folder: str, *, length: int) -> TokenReader:
        """Read texts for the encoder in a folder.

        Args:
            folder: A folder that KerasHub saved with `save_to_preset`.
            length: Pieces to read of each text; fewer where the encoder takes fewer.

        Raises:
            MissingExtraError: If KerasHub is not installed.
            OptionError: If the folder holds no such encoder, or no tokenizer.
            SettingError: If so few pieces hold no text.
        """
        if length < _LEAST_LENGTH:
            raise SettingError(
                "model.max_sequence_length",
                received=f"{length} for a pretrained encoder",
                expected=f"{_LEAST_LENGTH} or more: a text has a mark at its start and its end",
                mend="Raise it, or leave it to the rules.",
            )
        config = _preset_config(folder)
        most = config.get("max_sequence_length") or length
        reader = cls(folder=str(Path(folder).resolve()), length=min(length, int(most)))
        reader.tokens([""])  # what cannot be read is told before a search begins
        return reader

    @cached_property
    def _preprocessor(self) -> Any:
        return _loaded(self.folder, _PREPROCESSOR, sequence_length=self.length)

    def tokens(self, texts: Iterable[str]) -> np.ndarray:
        """Texts as places of pieces in the vocabulary, int32, shape (texts, length).

        Raises:
            MissingExtraError: If KerasHub is not installed.
            OptionError: If the preset is not where it was.
        """
        left, made = iter(texts), [np.zeros((0, self.length), np.int32)]
        while piece := list(islice(left, _PIECE)):
            found = self._preprocessor(piece)["token_ids"]
            made.append(np.asarray(ops.convert_to_numpy(found), np.int32))
        return np.concatenate(made)

    def input(self, name: str) -> Any:
        """The input of a network for such places."""
        return keras.Input((self.length,), dtype="int32", name=name)

    def looked_up(self, text: Any, name: str) -> Any:
        """The same on raw strings, (batch, 1) to (batch, length), in a layer of KerasHub.

        Raises:
            MissingExtraError: If TensorFlow Text is not installed, which reads strings there.
        """
        if find_spec("tensorflow_text") is None:
            raise MissingExtraError(
                "export of a pretrained encoder", module="tensorflow_text", extra="hub"
            )
        layer = _loaded(self.folder, _PREPROCESSOR, sequence_length=self.length, name=name)
        _keep_vocabulary(layer.tokenizer)
        return layer(ops.reshape(text, (-1,)))["token_ids"]

    def encoded(self, layers: Layers, tokens: Any) -> Any:
        """What the encoder makes of each text, behind dropout.

        It is the vector that the encoder itself gives for a whole text; or, where it has none,
        the mean over the pieces.

        Args:
            layers: Makes the layers of the trial.
            tokens: Places of pieces, (batch, length) int32.

        Returns:
            (batch, width of the encoder), from a layer named "backbone" with its own weights.

        Raises:
            MissingExtraError: If KerasHub is not installed.
            OptionError: If the folder holds no encoder of texts.
        """
        policy = keras.config.dtype_policy().name
        backbone = _loaded(self.folder, "Backbone", name=BACKBONE, dtype=policy)
        _seed(backbone, layers)
        there = ops.not_equal(tokens, int(self._preprocessor.tokenizer.pad_token_id))
        parts = {
            "token_ids": tokens,
            "padding_mask": ops.cast(there, "int32"),
            "segment_ids": ops.zeros_like(tokens),  # a sample is one text, not a pair
        }
        if not set(backbone.input) <= set(parts):
            raise _unfit(self.folder, "its encoder reads " + ", ".join(sorted(backbone.input)))
        found = backbone({name: parts[name] for name in backbone.input})
        if isinstance(found, dict):
            vector = found["pooled_output"]
        else:
            vector = masked_mean(found, ops.expand_dims(ops.cast(there, found.dtype), -1))
        return layers.drop(vector, "encoder")


def _preset_config(folder: str) -> dict[str, Any]:
    """The arguments of the network in a preset.

    Raises:
        OptionError: If there is no preset of KerasHub.
    """
    path = Path(folder) / "config.json"
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise _unfit(folder, "it is no folder with a readable config.json") from None
    except ValueError:
        raise _unfit(folder, "its config.json is not JSON") from None
    config = held.get("config") if isinstance(held, dict) else None
    if not isinstance(config, dict) or "registered_name" not in held:
        raise _unfit(folder, "its config.json was not written by KerasHub")
    return config


def _loaded(folder: str, kind: str, **options: Any) -> Any:
    """A part of a preset, made by a class of `keras_hub.models`.

    Raises:
        MissingExtraError: If KerasHub is not installed.
        OptionError: If the folder lacks the part.
    """
    if find_spec("keras_hub") is None:
        raise MissingExtraError("--weights with texts", module="keras_hub", extra="hub")
    # KerasHub would look elsewhere for what is no folder.
    _preset_config(folder)
    try:
        return getattr(import_module("keras_hub").models, kind).from_preset(folder, **options)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
        raise _unfit(folder, f"KerasHub cannot read it ({reason})") from None


def _seed(backbone: Any, layers: Layers) -> None:
    """Give each dropout of a loaded network a seed of the trial."""
    states = [v for v in backbone.variables if v.path.endswith("seed_generator_state")]
    for i, state in enumerate(states):
        state.assign(np.array([layers.seed(f"{BACKBONE}_{i}"), 0]))


def _keep_vocabulary(tokenizer: Any) -> None:
    """Let a tokenizer write its vocabulary among its arguments.

    KerasHub writes it to a file of its own, which Keras reads only after it has drawn the graph of
    a saved model; but a tokenizer without a vocabulary cannot be drawn.
    """
    if (proto := getattr(tokenizer, "proto", None)) is not None:
        known = {"proto": base64.b64encode(proto).decode()}
    else:
        known = {n: getattr(tokenizer, n) for n in ("vocabulary", "merges") if n in vars(tokenizer)}
    config = tokenizer.get_config()
    tokenizer.get_config = lambda: {**config, **known}


def _unfit(folder: str, received: str) -> OptionError:
    return OptionError(
        "--weights",
        received=f"`{folder}`: {received}",
        expected="a folder on disk with a KerasHub encoder of texts and its tokenizer",
        mend="Make one with keras_hub: Backbone.from_preset(NAME).save_to_preset(FOLDER), and "
        "the same with Tokenizer; nothing is downloaded here.",
    )
