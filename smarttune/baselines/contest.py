"""What a baseline is given, what it gives back, and how long it may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Literal

import numpy as np

from smarttune.data import Dataset, Split
from smarttune.fingerprint import Fingerprint
from smarttune.hardware import num_cores
from smarttune.models import TargetCodec
from smarttune.space import Value

Role = Literal["trivial", "strong"]

# The metrics clip probabilities in the same way.
_LEAST_SHARE = 1e-7
_MOST_THREADS = 4  # ours: the work of a second or two is not worth more


@dataclass(frozen=True)
class Contest:
    """The question that the networks of a search were asked, for others to answer.

    Attributes:
        dataset: The data.
        fingerprint: Their measurement.
        codec: The target encoding, learnt from the training rows.
        split: Training, validation and test rows.
        settings: Recommended values.
        targets: From row numbers to encoded targets, shape (rows, ...), as networks see them;
            perhaps an object that reads when it is indexed with row numbers.
        metric: What the test is about, a name of `smarttune.objectives`.
        seed: Seeds whatever is drawn.
    """

    dataset: Dataset
    fingerprint: Fingerprint
    codec: TargetCodec
    split: Split
    settings: Mapping[str, Value]
    targets: Callable[[np.ndarray], Any]
    metric: str
    seed: int

    def encoded(self, rows: np.ndarray) -> np.ndarray:
        """Encoded targets of some rows, in memory."""
        found = self.targets(rows)
        return found if isinstance(found, np.ndarray) else np.asarray(found[np.arange(len(rows))])

    def drawn(self, rows: np.ndarray, most: int) -> np.ndarray:
        """At most so many of the rows, rising, the same ones for the same seed."""
        if len(rows) <= most:
            return rows
        chosen = np.random.default_rng(self.seed).choice(len(rows), most, replace=False)
        return np.asarray(rows[np.sort(chosen)])


@dataclass(frozen=True)
class Made:
    """What a recipe yields.

    Attributes:
        outputs: Answers for the test rows in the form of a network's outputs: logits, shape
            (rows, num_outputs), or encoded values. Where every place of a sample has a class,
            shape (rows, ..., 2): the log-probability of the true one, and the most probable.
        metrics: Test metrics by name, where there are no outputs.
        note: What limited it, as a sentence; empty if nothing did.
        call: How a user makes the same model with its library, as an expression; empty for
            what needs no library.
    """

    outputs: np.ndarray | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    call: str = ""


@dataclass(frozen=True)
class Baseline:
    """A model without a network, answered for the rows on which the network is tested.

    Attributes:
        name: What it is called in reports.
        role: "trivial" learns nothing of the inputs; "strong" is what an experienced user
            would try before any network.
        about: What it does, as a phrase.
        library: The package that fits it, with its version; empty where none is needed.
        seconds: Wall time of fitting and answering.
        made: The answers; empty with a note where it could not be made.
    """

    name: str
    role: Role
    about: str
    library: str
    seconds: float
    made: Made


def few_threads() -> AbstractContextManager[Any]:
    """Bound the threads of scikit-learn to half of the cores, at most four.

    Its threads wait for each other after every step. On a machine whose cores are busy that
    takes many times as long as fewer threads do.
    """
    import sklearn.utils  # noqa: F401 -- loads the threads, which can be bounded only then
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    limits: AbstractContextManager[Any] = threadpool_limits(
        limits=max(1, min(_MOST_THREADS, num_cores() // 2))
    )
    return limits


class Unsuited(Exception):  # noqa: N818 -- no error: a baseline that these data do not suit
    """Why a baseline cannot be had for these data, as a sentence."""


class Allowance:
    """Seconds that one baseline may take, running."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        self.seconds = seconds

    @property
    def left(self) -> float:
        """Seconds left; negative when overdrawn."""
        return self._ends - time.monotonic()


@dataclass(frozen=True)
class Recipe:
    """One kind of baseline.

    Attributes:
        name: As in `Baseline`.
        role: As in `Baseline`.
        about: As in `Baseline`.
        make: Fits on training rows (validation rows may choose), answers for test rows.
        library: Name of the package that fits it.
    """

    name: str
    role: Role
    about: str
    make: Callable[[Contest, Allowance], Made]
    library: str = ""

    def tried(self, contest: Contest, seconds: float) -> Baseline:
        """Make the baseline; what goes wrong becomes its note, never an error."""
        began = time.monotonic()
        try:
            made = _sound(self.make(contest, Allowance(seconds)), len(contest.split.test))
        except Unsuited as reason:
            made = Made(note=str(reason))
        except Exception as error:  # noqa: BLE001 -- a search must not fail for its yardstick
            made = Made(note=f"It could not be fitted ({type(error).__name__}: {error}).")
        spent = time.monotonic() - began
        package = f"{self.library} {version(self.library)}" if self.library else ""
        return Baseline(self.name, self.role, self.about, package, spent, made)


def as_outputs(codec: TargetCodec, shares: np.ndarray) -> np.ndarray:
    """Probabilities as the logits that a network would give.

    Args:
        codec: The target encoding.
        shares: Of each class, shape (rows, num_classes), or of each label for multilabel.

    Returns:
        Shape (rows, num_outputs): one logit for binary, one per class or label otherwise.
    """
    clipped = np.clip(np.asarray(shares, np.float64), _LEAST_SHARE, 1 - _LEAST_SHARE)
    if codec.kind == "multiclass":
        return np.asarray(np.log(clipped))
    positive = clipped[:, 1:] if codec.kind == "binary" else clipped
    return np.asarray(np.log(positive) - np.log1p(-positive))


def all_classes(model: Any, shares: np.ndarray, codec: TargetCodec) -> np.ndarray:
    """Put a classifier's columns in the places of their classes.

    Args:
        model: A fitted classifier of scikit-learn, whose labels are class numbers.
        shares: Its probabilities, shape (rows, classes it has seen).
        codec: The target encoding.

    Returns:
        Shape (rows, num_classes), each row summing to 1; a class that the training rows lack
        has the share that the target encoding gives it, whatever the inputs.
    """
    seen = np.asarray(model.classes_, np.int64)
    result = np.tile(codec.priors(), (len(shares), 1))
    result[:, seen] = shares * result[:, seen].sum(axis=1, keepdims=True)
    return np.asarray(result / result.sum(axis=1, keepdims=True))


def _sound(made: Made, rows: int) -> Made:
    """Refuse answers that no metric can be made of.

    Raises:
        Unsuited: If rows are missing, or answers are infinite or no numbers.
    """
    if made.outputs is None:
        return made
    if len(made.outputs) != rows or not np.isfinite(made.outputs).all():
        raise Unsuited("It gave no usable answer for some test rows.")
    return made
