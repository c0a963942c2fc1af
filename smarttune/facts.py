"""The vocabulary: every fact that a rule may read, with its type, unit and origin.

A fact is one named value about the data, the model's task, the hardware, the
budget or the history of a search. It was *measured*, *declared* by the user, or
*derived* from other facts; a fact that is absent is unknown, never false.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from smarttune.errors import FactError, did_you_mean
from smarttune.space import Value

Kind = Literal["float", "int", "str", "bool"]
Origin = Literal["measured", "declared", "derived"]


class FactDef(NamedTuple):
    """One word of the vocabulary.

    `unit` is "" for shares, flags and names; `values` lists the allowed names of
    a closed set; `flag` is the command-line option that declares the fact.
    """

    name: str
    kind: Kind
    unit: str
    about: str
    values: tuple[str, ...] = ()
    flag: str = ""


TASKS = ("tabular", "text", "image", "audio", "sequence", "timeseries")
PROBLEMS = (
    "binary",
    "multiclass",
    "multilabel",
    "regression",
    "segmentation",
    "language_model",
    "char_language_model",
    "translation",
    "sequence_labelling",
    "forecasting",
)

# name | kind | unit | about | allowed values | flag
_VOCABULARY = f"""
data.task | str | | kind of data | {" ".join(TASKS)} | --task
model.problem | str | | what is predicted | {" ".join(PROBLEMS)} | --problem
data.num_samples | int | samples | training rows | | --num-samples
data.num_validation_samples | int | samples | validation rows
data.num_features | int | features | usable input columns | | --num-features
data.num_numeric_features | int | features | numeric input columns
data.num_categorical_features | int | features | categorical input columns
data.num_outputs | int | outputs | values predicted per sample
data.num_classes | int | classes | distinct labels | | --classes
data.num_positives | int | samples | rows of the positive class (binary)
data.num_negatives | int | samples | rows of the negative class (binary)
data.imbalance_ratio | float | | rows of the largest class over rows of the smallest
data.min_class_fraction | float | | share of the smallest class
data.missing_fraction | float | | share of missing cells in the input columns
data.duplicate_fraction | float | | share of rows that repeat an earlier row
data.max_cardinality | int | levels | levels of the largest categorical column
data.heavy_tailed | bool | | some numeric column spans over 10 interquartile ranges between its 1st and 99th percentile
data.time_ordered | bool | | rows are ordered in time, declared by the user
data.target_bounded | bool | | the target lies between known bounds, declared by the user
data.target_min | float | | lower bound of the target, declared by the user
data.target_max | float | | upper bound of the target, declared by the user
data.target_skew | float | | sample skewness of a regression target
data.words_per_sample | float | words | median words per text | | --words-per-sample
data.vocabulary_size | int | words | distinct words that occur at least twice | | --vocabulary-size
data.sequence_length | int | steps | 95th percentile of the sequence lengths | | --sequence-length
data.max_sequence_length | int | steps | longest sequence
data.num_text_features | int | features | input columns of free text
data.corpus_chars | int | characters | characters of training text | | --corpus-chars
data.audio_hours | float | hours | hours of audio | | --audio-hours
data.image_side | int | pixels | shorter side of the images | | --image-side
data.image_channels | int | channels | channels of the images
data.sample_rate | float | hertz | samples per second of the recordings | | --sample-rate
data.clip_seconds | float | seconds | median length of a recording
data.long_clip_seconds | float | seconds | 95th percentile of the recordings' lengths
data.equal_lengths | bool | | all sequences have the same number of steps
data.num_steps | int | steps | time steps of all series together
data.num_series | int | series | series in the data
data.steps_per_series | int | steps | steps of the longest series
data.time_stamped | bool | | the steps of the series have times
data.num_variables | int | variables | values measured at each step, those to forecast included
data.horizon | int | steps | steps to forecast | | --horizon
data.season_length | int | steps | steps of the strongest season; absent where there is none
data.window_length | int | steps | steps of history that a forecast reads, declared by the user | | --window-length
data.num_groups | int | groups | groups of samples that belong together
data.flip_sensitive | bool | | mirroring a sample changes its label, declared by the user
data.pretrained_available | bool | | pretrained weights are at hand, declared by the user
data.domain_similar | bool | | the data resemble those of the pretrained weights, declared by the user
column.cardinality | int | levels | levels of the categorical column under decision
column.rows_per_level | float | samples/levels | training rows per level of that column
model.fine_tuning | bool | | training starts from pretrained weights
model.num_parameters | int | parameters | trainable parameters
model.has_batch_normalization | bool | | the model holds batch normalization
model.tested_learning_rate | float | | learning rate that the range test of this very model suggests
model.stable_learning_rate | float | | largest learning rate at which the range test stayed stable
model.uses_depthwise | bool | | the model holds depthwise convolutions
hardware.device | str | | where training runs | cpu gpu tpu | --device
hardware.compute_capability | float | | compute capability of the GPU | | --compute-capability
hardware.gpu_memory | float | GiB | memory of one GPU | | --gpu-memory
hardware.num_gpus | int | gpus | visible GPUs | | --num-gpus
hardware.num_cores | int | cores | processor cores that may be used
hardware.memory | float | GiB | main memory
hardware.cpu_amx | bool | | the processor has bfloat16 matrix instructions
hardware.backend | str | | Keras backend | tensorflow jax torch
hardware.max_batch_memory | int | samples | largest batch that fits the memory, probed
hardware.max_batch_throughput | int | samples | largest batch that still raised the throughput, probed
budget.type | str | | what limits the search | epochs time trials
budget.num_trials | int | trials | trials that may be run | | --trials
budget.seconds | float | seconds | wall time that may be used
budget.num_epochs | int | epochs | epochs that may be trained, over all trials
budget.num_tuned | int | hyperparameters | hyperparameters left to tune
budget.grid_size | int | trials | configurations of the full grid; absent where the space is continuous
budget.num_workers | int | workers | trials run side by side
budget.num_objectives | int | objectives | what trials are compared by: their score, and what it is held against
budget.seconds_per_epoch | float | seconds | time of one epoch of the recommended trial, probed
budget.num_full_trainings | float | trials | full trainings that the budget pays
budget.exploring | bool | | the search wants to learn about the space more than to finish | | --exploring
budget.phase | str | | searching, or training the final model | search final
reference.learning_rate | float | | rate already tuned or published for this very model
reference.batch_size | int | samples | batch size of that rate
history.num_trials | int | trials | finished trials
history.trials_since_improvement | int | trials | trials since a gain larger than the noise
history.noise | float | | standard deviation of the objective over repeats
history.diverged_fraction | float | | share of trials that diverged
history.min_diverged_learning_rate | float | | smallest learning rate that diverged
history.edge_hyperparameter | str | | hyperparameter whose best values hug the edge of its range
history.edge_side | str | | the edge in question | low high
history.edge_distance | float | | distance of the best value to the nearer edge as a share of the range
history.learning_rate | float | | learning rate of the best trial
history.learning_rate_low | float | | lower edge of the searched learning rates
history.learning_rate_high | float | | upper edge of the searched learning rates
history.dropout | float | | dropout of the best trial
history.units | int | units | width in the best trial
history.weight_decay | float | | weight decay of the best trial
history.num_layers | int | layers | hidden layers of the best trial
history.augmentation | str | | random changes of the inputs in the best trial
history.batch_size | int | samples | batch size of the best trial
history.epochs | int | epochs | epochs allowed to the best trial
history.val_rise | float | | rise of the validation loss from its best to its last epoch, relative
history.relative_gap | float | | validation minus training loss at the best epoch, relative to the validation loss
history.best_epoch_fraction | float | | best epoch over epochs trained, median of the top trials
history.epochs_since_best | int | epochs | epochs since the best one
history.late_noise | float | | standard deviation of the validation metric in the last fifth of the epochs
history.metric_standard_error | float | | standard error of the validation metric
history.satisfied | bool | | the wanted score was reached
history.clipped_fraction | float | | share of optimizer steps whose gradient was clipped
history.gradient_norm | float | | 90th percentile of the gradient's norm before clipping, in the best trial
history.samples_per_second | float | samples/s | training samples a second of the best trial
history.out_of_memory | bool | | a trial ran out of memory
history.throughput_gain | float | | samples per second at twice the batch size over those at the batch size
history.rank_correlation | float | | Spearman correlation of early and final scores
history.noise_scale | float | samples | gradient noise scale
"""


def _parse(line: str) -> FactDef:
    name, kind, unit, about, values, flag = ([p.strip() for p in line.split("|")] + ["", ""])[:6]
    return FactDef(name, kind, unit, about, tuple(values.split()), flag)  # type: ignore[arg-type]


FACTS: dict[str, FactDef] = {d.name: d for d in map(_parse, _VOCABULARY.strip().splitlines())}


def fact_def(name: str, *, where: str = "facts") -> FactDef:
    """Return the definition of a fact.

    Raises:
        FactError: If the vocabulary has no such fact.
    """
    try:
        return FACTS[name]
    except KeyError:
        raise FactError(
            where,
            received=f"`{name}` is not a fact",
            expected="a name of the vocabulary",
            mend=f"`smarttune rules facts` lists every fact.{did_you_mean(name, FACTS)}",
        ) from None


# What may be negative, and what there must be one of for the rest to mean anything.
_SIGNED = (
    "data.target_min",
    "data.target_max",
    "data.target_skew",
    "history.val_rise",
    "history.relative_gap",
    "history.rank_correlation",
)
_AT_LEAST_ONE = ("data.num_samples", "data.num_features", "data.num_outputs", "data.num_classes")


def least(name: str) -> float:
    """The smallest number that a fact may be."""
    return -math.inf if name in _SIGNED else 1 if name in _AT_LEAST_ONE else 0


def check_value(name: str, value: object, *, where: str = "facts") -> Value:
    """Return `value` in the fact's type.

    Raises:
        FactError: If the fact is unknown, or the value has another type or is not allowed.
    """
    definition = fact_def(name, where=where)
    typed = as_kind(value, definition.kind)
    if isinstance(typed, (int, float)) and not isinstance(typed, bool) and typed < least(name):
        raise FactError(
            where,
            received=f"`{name}` is {value}",
            expected=f"at least {least(name)}",
            mend=f"`{name}` means: {definition.about}.",
        )
    wanted = {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "str": "a name",
    }
    expected = wanted[definition.kind]
    if definition.values:
        expected = "one of " + ", ".join(definition.values)
    if typed is None or (definition.values and typed not in definition.values):
        raise FactError(
            where,
            received=f"`{name}` is {value!r}",
            expected=expected,
            mend=f"`{name}` means: {definition.about}.{did_you_mean(str(value), definition.values)}",
        )
    return typed


def as_kind(value: object, kind: Kind) -> Value | None:
    """Return `value` as `kind` where that loses nothing, else None."""
    if kind == "bool":
        return value if isinstance(value, bool) else None
    if kind == "str":
        return value if isinstance(value, str) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    if kind == "int":
        return int(value) if value == int(value) else None
    return float(value)


def parse_kind(text: str, kind: Kind) -> Value | None:
    """Read a command-line word as `kind`; None if it is not one."""
    if kind == "str":
        return text
    if kind == "bool":
        return {"true": True, "yes": True, "false": False, "no": False}.get(text.lower())
    try:
        return as_kind(float(text.replace("_", "")), kind)
    except ValueError:
        return None


@dataclass(frozen=True)
class Fact:
    """A value with its origin; `how` says by which measurement or flag it came."""

    value: Value
    origin: Origin = "declared"
    how: str = ""


class Facts(Mapping[str, Fact]):
    """Known facts under their names. Immutable; what is absent is unknown."""

    def __init__(self, facts: Mapping[str, Fact] | None = None) -> None:
        self._facts = {
            name: Fact(check_value(name, fact.value), fact.origin, fact.how)
            for name, fact in sorted((facts or {}).items())
        }

    @classmethod
    def of(cls, values: Mapping[str, Any], *, origin: Origin = "declared", how: str = "") -> Facts:
        """Facts that share one origin; values that are None are left unknown.

        Raises:
            FactError: If a name is not in the vocabulary or a value does not fit it.
        """
        return cls({n: Fact(v, origin, how) for n, v in values.items() if v is not None})

    def __getitem__(self, name: str) -> Fact:
        return self._facts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._facts)

    def __len__(self) -> int:
        return len(self._facts)

    def __or__(self, other: Facts) -> Facts:
        """Both, with `other` winning where both know a fact."""
        return Facts({**self._facts, **other._facts})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Facts) and self._facts == other._facts

    def __hash__(self) -> int:
        return hash(tuple(self._facts.items()))

    def __repr__(self) -> str:
        return f"Facts({self.values_dict()})"

    def value(self, name: str) -> Value | None:
        """The value of a fact, or None if it is unknown."""
        fact = self._facts.get(name)
        return None if fact is None else fact.value

    def values_dict(self) -> dict[str, Value]:
        """Plain name-to-value pairs."""
        return {name: fact.value for name, fact in self._facts.items()}

    def to_json(self) -> dict[str, dict[str, Any]]:
        """The form kept in files: name to value, origin and how."""
        return {
            n: {"value": f.value, "origin": f.origin, **({"how": f.how} if f.how else {})}
            for n, f in self._facts.items()
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Mapping[str, Any]]) -> Facts:
        """The inverse of `to_json`."""
        return cls({n: Fact(d["value"], d["origin"], d.get("how", "")) for n, d in data.items()})
