"""What SmartTune builds: the families of every kind of data, and what each of them reads.

Imports no framework, so that a command may tell what there is without loading one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from smarttune.space import HYPERPARAMETERS

# Modality | task of its data | problems | families that its networks may be of
_BUILT = """
tabular | tabular | binary multiclass multilabel regression | mlp resnet_mlp
text | text | binary multiclass multilabel regression | ngram_mlp sepcnn rnn transformer pretrained
image | image | binary multiclass multilabel regression | cnn pretrained
image | image | segmentation | unet cnn
audio | audio | binary multiclass multilabel regression | cnn rnn tcn
sequence | sequence | binary multiclass multilabel regression | rnn tcn mlp
timeseries | timeseries | forecasting | mlp rnn tcn
language | text | char_language_model language_model | rnn
"""

# Where | the hyperparameters of the group `model` that are read there, without the group's name.
# A place is a modality, a family, a family in a modality, or a family that solves a problem;
# `*` stands for all. What is read where several places hold is what any of them reads.
_READ = """
* | family loss output_bias
*:regression | output_activation target_transform
*:forecasting | output_activation target_transform
mlp | num_layers units skip_connections activation normalization normalization_momentum dropout kernel_initializer
resnet_mlp | num_layers units activation normalization normalization_momentum dropout kernel_initializer
ngram_mlp | num_layers units skip_connections activation normalization normalization_momentum dropout kernel_initializer ngram_size vocabulary_size
rnn | rnn_cell num_rnn_layers rnn_units bidirectional recurrent_dropout dropout
tcn | num_stages convolutions_per_stage filters kernel_size dilation_base activation normalization normalization_momentum dropout kernel_initializer
cnn | num_stages convolutions_per_stage filters kernel_size downsampling skip_connections activation normalization normalization_momentum dropout kernel_initializer
unet | num_stages convolutions_per_stage filters kernel_size downsampling skip_connections activation normalization normalization_momentum dropout kernel_initializer
sepcnn | num_stages filters kernel_size activation dropout kernel_initializer
transformer | num_layers num_heads units activation dropout kernel_initializer
pretrained | dropout
cnn:binary | pooling_head units
cnn:multiclass | pooling_head units
cnn:multilabel | pooling_head units
cnn:regression | pooling_head units
cnn:segmentation | multiscale_head
tabular | numeric_preprocessing missing_values encoding embedding_dim vocabulary_size ngram_size kernel_initializer
text sepcnn | vocabulary_size max_sequence_length padding_side embedding_dim
text rnn | vocabulary_size max_sequence_length padding_side embedding_dim
text transformer | vocabulary_size max_sequence_length padding_side embedding_dim
text pretrained | max_sequence_length
image | image_side
audio | frame_seconds hop_seconds num_mel_bands max_sequence_length
sequence | max_sequence_length missing_values
timeseries | window_length season_phase window_normalization
language | max_sequence_length vocabulary_size embedding_dim
"""

# Hyperparameters of training that not all networks read, and where they are read.
_TRAINING = {
    "training.augmentation": ("image", "audio"),
    "training.frozen_fraction": ("pretrained",),
    "training.unfrozen_factor": ("pretrained",),
    "training.label_smoothing": (
        "*:binary",
        "*:multiclass",
        "*:multilabel",
        "*:segmentation",
        "*:char_language_model",
        "*:language_model",
    ),
}


class Built(NamedTuple):
    """One kind of network for one problem on one kind of data."""

    modality: str
    task: str
    problem: str
    family: str

    def lies_in(self, place: str) -> bool:
        """Whether a place of the tables above means this one."""
        where, _, problem = place.partition(":")
        if problem and problem != self.problem:
            return False
        return all(word in ("*", self.modality, self.family) for word in where.split())

    @property
    def reads(self) -> tuple[str, ...]:
        """Every canonical hyperparameter that its preparation, network or training reads.

        Those of other groups than `model` are read wherever networks are trained, but for the
        few of training that only some of them know.
        """
        return tuple(name for name in HYPERPARAMETERS if self._reads(name))

    def _reads(self, name: str) -> bool:
        if not name.startswith("model."):
            return any(self.lies_in(place) for place in _TRAINING.get(name, ("*",)))
        plain = name.removeprefix("model.")
        return any(plain in names for place, names in _read().items() if self.lies_in(place))


@cache
def built() -> tuple[Built, ...]:
    """Everything that is built, in the order of the table."""
    return tuple(_lines())


def families_built(modality: str, problem: str) -> tuple[str, ...]:
    """The families that a modality builds for a problem; () if it does not know the problem."""
    return tuple(b.family for b in built() if (b.modality, b.problem) == (modality, problem))


def _lines() -> Iterator[Built]:
    for line in _BUILT.strip().splitlines():
        modality, task, problems, families = (part.strip() for part in line.split("|"))
        for problem in problems.split():
            for family in families.split():
                yield Built(modality, task, problem, family)


@cache
def _read() -> dict[str, frozenset[str]]:
    """Place to the names that are read there."""
    parts = (line.split("|") for line in _READ.strip().splitlines())
    return {place.strip(): frozenset(names.split()) for place, names in parts}
