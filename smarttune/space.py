"""Hyperparameters, their ranges and priors, and the search space they form.

Knows no tuner and no framework. A range is a set of values with a scale; every
range maps onto the unit interval, where priors live, so that any sampler that
draws uniform numbers can be given a prior by passing its draws through
`Prior.quantile`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from functools import cached_property
from statistics import NormalDist
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from smarttune.errors import RangeError, SettingError, did_you_mean

Value = bool | int | float | str


class HyperparameterDef(NamedTuple):
    """One canonical hyperparameter.

    `kind` is the type of its values, `unit` what it counts in ("" if nothing).
    """

    name: str
    kind: Literal["float", "int", "str", "bool"]
    unit: str
    about: str


_CANONICAL = """
model.family | str | | kind of network
model.num_layers | int | layers | hidden dense layers, the output layer not counted
model.units | int | units | width of the hidden layers
model.activation | str | | activation of the hidden layers
model.dropout | float | | share of units dropped after each hidden layer
model.normalization | str | | normalization layer between dense and activation
model.skip_connections | bool | | residual connections around hidden blocks
model.kernel_initializer | str | | initializer of the hidden kernels
model.output_activation | str | | activation of the output layer; linear means logits or raw values
model.output_bias | str | | starting value of the output bias
model.loss | str | | training loss
model.encoding | str | | how one categorical column enters the network
model.embedding_dim | int | | width of an embedding
model.numeric_preprocessing | str | | scaling of numeric columns
model.missing_values | str | | treatment of missing numeric values
model.target_transform | str | | transformation of a regression target
model.rnn_cell | str | | recurrent cell
model.num_rnn_layers | int | layers | stacked recurrent layers
model.rnn_units | int | units | width of the recurrent layers
model.bidirectional | bool | | read sequences in both directions
model.recurrent_dropout | float | | dropout on the recurrent connections
model.padding_side | str | | side on which sequences are padded
model.kernel_size | int | | side of the convolution kernels
model.filters | int | filters | filters of the first convolution stage
model.num_stages | int | | resolution levels of a convolutional network
model.downsampling | str | | how a convolutional network shrinks its input
model.pooling_head | str | | what joins the convolutions to the output
model.num_heads | int | | attention heads
optimizer.name | str | | optimizer
optimizer.learning_rate | float | | learning rate, the peak of the schedule
optimizer.momentum | float | | momentum of SGD
optimizer.beta_1 | float | | decay of the first moment in Adam
optimizer.beta_2 | float | | decay of the second moment in Adam
optimizer.epsilon | float | | stabilizer in Adam
optimizer.regularization | str | | which weight penalty is used
optimizer.weight_decay | float | | decoupled weight decay
optimizer.decay_exclusions | bool | | biases and normalization weights are not decayed
optimizer.l1 | float | | L1 penalty on the kernels
optimizer.l2 | float | | L2 penalty on the kernels
optimizer.clipnorm | float | | global norm above which gradients are clipped; 0 means never
optimizer.schedule | str | | course of the learning rate
optimizer.warmup_steps | int | steps | steps of linear warmup
training.batch_size | int | samples | samples per optimizer step
training.gradient_accumulation_steps | int | steps | batches summed into one optimizer step
training.epochs | int | epochs | most passes over the training data
training.precision | str | | dtype policy
training.label_smoothing | float | | share of the target spread over the other classes
training.class_weight | str | | weighting of the classes in the loss
training.augmentation | str | | random changes of the inputs while training
training.early_stopping.patience | int | epochs | epochs without gain before a trial is stopped
training.early_stopping.window | int | epochs | epochs averaged before they are compared
training.early_stopping.mode | str | | stop early, or run to the end and keep the best epoch
training.reduce_on_plateau.factor | float | | factor on the learning rate at a plateau
training.reduce_on_plateau.patience | int | epochs | epochs without gain before the rate is cut
data.validation_fraction | float | | share of the rows used for validation
data.num_folds | int | | folds of cross-validation; 1 means one split
data.stratify | bool | | splits keep the class shares
search.strategy | str | | search strategy
search.num_trials | int | trials | trials to run
search.min_epochs | int | epochs | shortest training that is compared
search.max_epochs | int | epochs | longest training in the search
search.reduction_factor | int | | one trial in this many is kept per rung
search.objective | str | | metric that ranks the trials
search.num_confirmation_seeds | int | | seeds with which finalists are run again
search.seed_policy | str | | how seeds are set
"""

HYPERPARAMETERS: dict[str, HyperparameterDef] = {}
for _line in _CANONICAL.strip().splitlines():
    _name, _kind, _unit, _about = (part.strip() for part in _line.split("|"))
    HYPERPARAMETERS[_name] = HyperparameterDef(_name, _kind, _unit, _about)  # type: ignore[arg-type]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _same(a: Value, b: Value) -> bool:
    """Equality that keeps `True` and `1` apart."""
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def _range_error(text: str) -> RangeError:
    return RangeError(
        "range",
        received=text,
        expected="a range that holds at least one value",
        mend="Correct `low`, `high` or `values`.",
    )


class Fixed(_Frozen):
    """Exactly one value."""

    type: Literal["fixed"] = "fixed"
    value: Value

    @property
    def num_values(self) -> float:
        """Always 1."""
        return 1

    def contains(self, value: Value) -> bool:
        """Whether `value` is the one value."""
        return _same(self.value, value)

    def to_unit(self, value: Value) -> float:
        """The middle of the unit interval, whatever the value."""
        return 0.5

    def from_unit(self, u: float) -> Value:
        """The one value."""
        return self.value

    def clamp(self, value: Value) -> Value:
        """The one value."""
        return self.value

    def __str__(self) -> str:
        return _show(self.value)


class Choice(_Frozen):
    """One of several values, kept in a canonical order (numbers ascending, else by name)."""

    type: Literal["choice"] = "choice"
    values: tuple[Value, ...]

    @model_validator(mode="before")
    @classmethod
    def _in_canonical_order(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("values"), (list, tuple)):
            data = {**data, "values": canonical_order(data["values"])}
        return data

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.values:
            raise _range_error("a choice without values")
        return self

    @property
    def num_values(self) -> float:
        """How many values there are."""
        return len(self.values)

    def index(self, value: Value) -> int:
        """Position of `value`, -1 if it is not among the values."""
        return next((i for i, v in enumerate(self.values) if _same(v, value)), -1)

    def contains(self, value: Value) -> bool:
        """Whether `value` is among the values."""
        return self.index(value) >= 0

    def to_unit(self, value: Value) -> float:
        """The middle of the value's bin."""
        return (self.index(value) + 0.5) / len(self.values)

    def from_unit(self, u: float) -> Value:
        """The value in whose bin `u` lies."""
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]

    def clamp(self, value: Value) -> Value:
        """`value`, or the nearest number, or the first value."""
        if self.contains(value):
            return value
        numbers = [(v, n) for v in self.values if (n := _number(v)) is not None]
        wanted = _number(value)
        if wanted is None or not numbers:
            return self.values[0]
        return min(numbers, key=lambda pair: abs(pair[1] - wanted))[0]

    def __str__(self) -> str:
        return "one of " + ", ".join(_show(v) for v in self.values)


class FloatRange(_Frozen):
    """All numbers between two bounds, both included."""

    type: Literal["float"] = "float"
    low: float
    high: float
    sampling: Literal["linear", "log"] = "linear"

    @model_validator(mode="before")
    @classmethod
    def _as_floats(cls, data: Any) -> Any:
        return _floats(data, ("low", "high"))

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not (math.isfinite(self.low) and math.isfinite(self.high)) or self.low > self.high:
            raise _range_error(f"low ({_show(self.low)}) is above high ({_show(self.high)})")
        if self.sampling == "log" and self.low <= 0:
            raise _range_error(f"low ({_show(self.low)}) is not above 0, as a log scale needs")
        return self

    @property
    def num_values(self) -> float:
        """Infinite, or 1 where the bounds meet."""
        return 1 if self.low == self.high else math.inf

    def contains(self, value: Value) -> bool:
        """Whether `value` is a number between the bounds."""
        number = _number(value)
        return number is not None and self.low <= number <= self.high

    def to_unit(self, value: Value) -> float:
        """Position of `value` between the bounds on the range's scale."""
        if self.low == self.high:
            return 0.5
        low, high, v = (self._scaled(x) for x in (self.low, self.high, float(value)))
        return min(1.0, max(0.0, (v - low) / (high - low)))

    def from_unit(self, u: float) -> Value:
        """The number at position `u`."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        v = low + u * (high - low)
        return min(self.high, max(self.low, math.exp(v) if self.sampling == "log" else v))

    def clamp(self, value: Value) -> Value:
        """The number of the range nearest to `value`."""
        number = _number(value)
        return self.from_unit(0.5) if number is None else min(self.high, max(self.low, number))

    def _scaled(self, value: float) -> float:
        return math.log(max(value, self.low)) if self.sampling == "log" else value

    def __str__(self) -> str:
        scale = " (log)" if self.sampling == "log" else ""
        return f"{_show(self.low)} to {_show(self.high)}{scale}"


class IntRange(_Frozen):
    """All integers between two bounds, or only the powers of two among them."""

    type: Literal["int"] = "int"
    low: int
    high: int
    sampling: Literal["linear", "log", "power_of_two"] = "linear"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise _range_error(f"low ({self.low}) is above high ({self.high})")
        if self.sampling != "linear" and self.low < 1:
            raise _range_error(f"low ({self.low}) is below 1, which a {self.sampling} scale needs")
        if self.sampling == "power_of_two" and not (_is_pow2(self.low) and _is_pow2(self.high)):
            raise _range_error(f"{self.low} and {self.high} are not both powers of two")
        return self

    @property
    def num_values(self) -> float:
        """How many integers there are."""
        if self.sampling == "power_of_two":
            return self.high.bit_length() - self.low.bit_length() + 1
        return self.high - self.low + 1

    def contains(self, value: Value) -> bool:
        """Whether `value` is an integer of this range."""
        number = _number(value)
        if number is None or number != int(number) or not self.low <= number <= self.high:
            return False
        return self.sampling != "power_of_two" or _is_pow2(int(number))

    def to_unit(self, value: Value) -> float:
        """The middle of the value's bin on the range's scale."""
        low, high = self._edges()
        return min(1.0, max(0.0, (self._scaled(float(value)) - low) / (high - low)))

    def from_unit(self, u: float) -> Value:
        """The integer in whose bin `u` lies."""
        low, high = self._edges()
        v = low + u * (high - low)
        if self.sampling == "power_of_two":
            return int(min(self.high, max(self.low, 2 ** round(v))))
        return min(self.high, max(self.low, round(math.exp(v) if self.sampling == "log" else v)))

    def clamp(self, value: Value) -> Value:
        """The integer of the range nearest to `value`."""
        number = _number(value)
        if number is None:
            return self.from_unit(0.5)
        number = min(self.high, max(self.low, number))
        if self.sampling == "power_of_two":
            return pow2_round(number)
        return round(number)

    def _edges(self) -> tuple[float, float]:
        if self.sampling == "log":
            return math.log(self.low - 0.5), math.log(self.high + 0.5)
        return self._scaled(self.low) - 0.5, self._scaled(self.high) + 0.5

    def _scaled(self, value: float) -> float:
        if self.sampling == "linear":
            return value
        value = max(value, self.low)
        return math.log2(value) if self.sampling == "power_of_two" else math.log(value)

    def __str__(self) -> str:
        note = {"log": " (log)", "power_of_two": " (powers of two)", "linear": ""}[self.sampling]
        return f"{self.low} to {self.high}{note}"


Range = Annotated[FloatRange | IntRange | Choice | Fixed, Field(discriminator="type")]

_SCALES = ("linear", "log", "power_of_two")  # from the loosest to the most binding


def simplest(range_: Range) -> Range:
    """The same set of values in its simplest form: one value is `Fixed`."""
    if isinstance(range_, Fixed) or range_.num_values > 1:
        return range_
    return Fixed(value=range_.values[0] if isinstance(range_, Choice) else range_.low)


def meet(a: Range, b: Range) -> Range | None:
    """Return the values that both ranges allow, or None if there are none.

    Commutative, associative, idempotent (up to `simplest`) and never wider than
    either side. The more binding scale wins: power of two over log over linear.
    """
    for one, other in ((a, b), (b, a)):
        if isinstance(one, (Fixed, Choice)):
            values = one.values if isinstance(one, Choice) else (one.value,)
            kept = tuple(v for v in values if other.contains(v))
            return simplest(Choice(values=kept)) if kept else None
    assert not isinstance(a, (Fixed, Choice))
    assert not isinstance(b, (Fixed, Choice))
    low, high = max(a.low, b.low), min(a.high, b.high)
    sampling = max(a.sampling, b.sampling, key=_SCALES.index)
    if isinstance(a, IntRange) or isinstance(b, IntRange):
        return _int_range(low, high, sampling)
    if low > high:
        return None
    return simplest(FloatRange(low=low, high=high, sampling=sampling))  # type: ignore[arg-type]


def _int_range(low: float, high: float, sampling: str) -> Range | None:
    first, last = math.ceil(low), math.floor(high)
    if sampling == "power_of_two" and last >= 1:
        first, last = pow2_ceil(max(first, 1)), pow2_floor(last)
    if first > last:
        return None
    return simplest(IntRange(low=first, high=last, sampling=sampling))  # type: ignore[arg-type]


def _is_pow2(value: int) -> bool:
    return value >= 1 and value & (value - 1) == 0


def pow2_floor(value: float) -> int:
    """The largest power of two not above `value`; 1 for values below 1."""
    return 1 << max(0, math.floor(value).bit_length() - 1) if value >= 1 else 1


def pow2_ceil(value: float) -> int:
    """The smallest power of two not below `value`."""
    floor = pow2_floor(value)
    return floor if floor >= value else 2 * floor


def pow2_round(value: float) -> int:
    """The power of two nearest to `value` on a log scale."""
    return 1 << max(0, round(math.log2(value))) if value > 0 else 1


def canonical_order(values: Any) -> tuple[Value, ...]:
    """Distinct values, numbers ascending before the rest by name."""
    distinct: list[Value] = []
    for value in values:
        if not any(_same(value, other) for other in distinct):
            distinct.append(value)
    return tuple(
        sorted(
            distinct,
            key=lambda v: (
                not isinstance(v, (int, float)),
                v if isinstance(v, (int, float)) else 0,
                str(v),
            ),
        )
    )


def _floats(data: Any, keys: tuple[str, ...]) -> Any:
    """Let integers stand where a strict model wants floats."""
    if not isinstance(data, dict):
        return data
    return {
        k: float(v) if k in keys and isinstance(v, int) and not isinstance(v, bool) else v
        for k, v in data.items()
    }


def _show(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


show_value = _show


class NormalPrior(_Frozen):
    """A normal density on the unit interval, cut off at its ends.

    Args:
        center: Where the recommended value lies, between 0 and 1.
        spread: Standard deviation in units of the range's (log) width.
    """

    type: Literal["normal"] = "normal"
    center: float
    spread: float

    def quantile(self, u: float) -> float:
        """Position in the unit interval below which the share `u` of the mass lies."""
        normal = NormalDist(self.center, self.spread)
        below, above = normal.cdf(0.0), normal.cdf(1.0)
        p = below + min(1 - 1e-12, max(1e-12, u)) * (above - below)
        return min(1.0, max(0.0, normal.inv_cdf(min(1 - 1e-15, max(1e-15, p)))))

    def density(self, u: float) -> float:
        """Density at `u`, relative to the uniform density 1."""
        normal = NormalDist(self.center, self.spread)
        return normal.pdf(u) / (normal.cdf(1.0) - normal.cdf(0.0))


class WeightsPrior(_Frozen):
    """The share of the mass on each value of a `Choice`, in its canonical order."""

    type: Literal["weights"] = "weights"
    weights: tuple[float, ...]

    def quantile(self, u: float) -> float:
        """Map a uniform draw into the bin of the value that it selects."""
        total, passed = sum(self.weights), 0.0
        for i, weight in enumerate(self.weights):
            share = weight / total
            if u < passed + share or i == len(self.weights) - 1:
                within = min(1.0, max(0.0, (u - passed) / share)) if share else 0.5
                return min(1 - 1e-9, (i + min(within, 1 - 1e-9)) / len(self.weights))
            passed += share
        raise AssertionError("a prior has at least one weight")

    def density(self, u: float) -> float:
        """Density at `u`, relative to the uniform density 1."""
        i = min(int(u * len(self.weights)), len(self.weights) - 1)
        return self.weights[i] * len(self.weights) / sum(self.weights)


Prior = Annotated[NormalPrior | WeightsPrior, Field(discriminator="type")]


class Dimension(_Frozen):
    """One hyperparameter of a search space.

    Args:
        name: Canonical, dotted name.
        range: Its allowed values.
        value: The recommended value, one of them.
        prior: Where good values are expected; None means everywhere alike.
        active_when: Values that other hyperparameters must have for this one to matter.
    """

    name: str
    range: Range
    value: Value
    prior: Prior | None = None
    active_when: dict[str, tuple[Value, ...]] = Field(default_factory=dict)

    def draw(self, u: float, *, use_prior: bool = True) -> Value:
        """The value that the uniform draw `u` stands for."""
        if use_prior and self.prior is not None:
            u = self.prior.quantile(u)
        return self.range.from_unit(u)


class SearchSpace(_Frozen):
    """All hyperparameters of a search, each after those that it depends on."""

    dimensions: tuple[Dimension, ...]

    @cached_property
    def by_name(self) -> dict[str, Dimension]:
        """The dimensions under their names."""
        return {d.name: d for d in self.dimensions}

    @property
    def tuned(self) -> tuple[str, ...]:
        """Names of the hyperparameters that have more than one value."""
        return tuple(d.name for d in self.dimensions if d.range.num_values > 1)

    def __getitem__(self, name: str) -> Dimension:
        try:
            return self.by_name[name]
        except KeyError:
            raise SettingError(
                "search space",
                received=f"`{name}` is not a hyperparameter of it",
                expected="one of its hyperparameters",
                mend=f"Use one of its names.{did_you_mean(name, self.by_name)}",
            ) from None

    def is_active(self, name: str, values: Mapping[str, Value]) -> bool:
        """Whether the conditions of `name` hold among `values`."""
        return all(
            parent in values and any(_same(values[parent], v) for v in allowed)
            for parent, allowed in self[name].active_when.items()
        )

    def active(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Return only those of `values` whose conditions hold, parents first."""
        kept: dict[str, Value] = {}
        for dimension in self.dimensions:
            if dimension.name in values and self.is_active(dimension.name, kept):
                kept[dimension.name] = values[dimension.name]
        return kept

    @property
    def default(self) -> dict[str, Value]:
        """The recommended configuration: the recommended value of each active dimension."""
        return self.active({d.name: d.value for d in self.dimensions})

    def contains(self, values: Mapping[str, Value]) -> bool:
        """Whether `values` is a complete configuration of this space."""
        if self.active(values).keys() != values.keys():
            return False
        needed = {d.name for d in self.dimensions if self.is_active(d.name, values)}
        return needed == values.keys() and all(
            self[name].range.contains(value) for name, value in values.items()
        )

    def sample(self, rng: random.Random, *, use_prior: bool = True) -> dict[str, Value]:
        """Draw one configuration, from the priors or evenly over the ranges."""
        return self.active(
            {d.name: d.draw(rng.random(), use_prior=use_prior) for d in self.dimensions}
        )
