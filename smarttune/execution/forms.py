"""How the numbers of a trial's program follow from the floats of its configuration.

Two programs of one structure differ only in scalar floats, the *numbers*, and these follow from
the floats of the configuration, the *leaves*: a dropout rate of 0.2 puts 0.2, 0.8 or 1.25 into a
program. `Forms` learns from traces which number is which form of which leaf, and says what it is
sure of. Of everything else it says nothing, and the trial is traced.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

# ours: two traces tell a constant from a number by luck, three hardly ever.
MIN_TRACES = 3
MIN_VALUES = 3
# ours: one trial in so many is traced although its program is thought to be known.
VERIFIED_EVERY = 16
# ours: bounds of memory, 16 MB in all at the very worst.
MAX_KEYS = 128
MAX_SAMPLES = 16
MAX_NUMBERS = 2048
# Of the self-normalizing networks: what a dropped unit becomes (Klambauer et al. 2017).
_ALPHA = 1.6732632423543772848170429916717 * 1.0507009873554804934193349852946
# What code makes of the float that it is given. Each is tried in several precisions.
_FORMS: tuple[Any, ...] = (
    lambda x: x,
    lambda x: 1 - x,
    lambda x: 1 / (1 - x),
    lambda x: 1 / x,
    lambda x: -x,
    lambda x: x - 1,
    lambda x: 1 + x,
    lambda x: x * x,
    lambda x: x * x / 2,
    lambda x: 1 - x * x,
    np.sqrt,
    np.log,
    lambda x: x / (1 - x),
    lambda x: np.sqrt(x / (1 - x)),
    lambda x: 1 / np.sqrt((1 - x) * (1 + x * _ALPHA**2)),
    lambda x: _ALPHA * x / np.sqrt((1 - x) * (1 + x * _ALPHA**2)),
)
# In which precision code reckons, and in which it leaves the number.
_PRECISIONS: tuple[tuple[Any, Any], ...] = (
    (np.float64, np.float32),
    (np.float32, np.float32),
    (np.float64, ml_dtypes.bfloat16),
    (np.float64, np.float16),
)
_NUM_DISTANT = 1 << 40  # ours: units in the last place; more than any two floats are apart


class Structure(NamedTuple):
    """A configuration, taken apart.

    Attributes:
        key: Hash of all that is not a leaf.
        leaves: The floats that may differ between trials of one structure, in a fixed order.
        family: Hash of the same without its whole numbers, such as widths; "" if there is none.
    """

    key: str
    leaves: tuple[float, ...]
    family: str = ""


class _Candidate(NamedTuple):
    """A way in which one leaf may give one number."""

    column: int
    form: int
    precision: int = 0
    factor: float = 1.0
    divisor: float = 1.0

    def of(self, leaves: np.ndarray) -> np.ndarray:
        """The number, float32, for leaves of one trial or of several, the last axis."""
        within, outside = _PRECISIONS[self.precision]
        x = leaves[..., self.column].astype(within)
        value = _FORMS[self.form](x) * self.factor / self.divisor
        return np.asarray(value).astype(outside).astype(np.float32)


class _Fit:
    """What all samples of one structure agree on.

    Args:
        leaves: Shape (samples, leaves), no two samples alike.
        values: The numbers, float32, shape (samples, numbers).
    """

    def __init__(self, leaves: np.ndarray, values: np.ndarray) -> None:
        # Leaves that were always equal count as one, and so do numbers.
        columns, self._first, self._twin = np.unique(
            leaves, axis=1, return_index=True, return_inverse=True
        )
        self._twin = self._twin.reshape(-1)
        self._seen = {
            i: set(column.tolist())
            for i, column in enumerate(leaves.T)
            if len(set(column.tolist())) < MIN_VALUES
        }
        rows, self._place = np.unique(values.T, axis=0, return_inverse=True)
        self._place = self._place.reshape(-1)
        self._constants = rows[:, 0].copy()
        made = _Made(columns)
        self._varying = {i for i, row in enumerate(rows) if (row != row[0]).any()}
        # A form may be flat so far: 1 - 1e-9 is 1 in float32.
        self._candidates = {
            i: found for i, row in enumerate(rows) if (found := made.candidates(row))
        }
        self.complete = self._varying <= self._candidates.keys()

    def numbers(self, leaves: np.ndarray) -> np.ndarray | None:
        """The numbers of a trial; None where they are not certain."""
        if any(leaves[i].item() not in seen for i, seen in self._seen.items()):
            return None
        columns = leaves[self._first]
        apart = set(self._twin[leaves != columns[self._twin]].tolist())
        rows = self._constants.copy()
        with np.errstate(all="ignore"):
            for i, candidates in self._candidates.items():
                constant = [] if i in self._varying else [self._constants[i]]
                told = np.array(constant + [one.of(columns) for one in candidates])
                if _distance(told, told[0]).max() > 1:
                    return None
                if apart.intersection(one.column for one in candidates):
                    return None
                rows[i] = told[0]
        found: np.ndarray = rows[self._place]
        return found


class _Made:
    """All forms of all leaves.

    Args:
        columns: Shape (samples, leaves).
    """

    def __init__(self, columns: np.ndarray) -> None:
        self._columns = columns
        varying = np.flatnonzero((columns != columns[0]).any(axis=0))
        self._varying = [int(one) for one in varying]
        self._candidates = [
            _Candidate(column, form, precision)
            for column in self._varying
            for form in range(len(_FORMS))
            for precision in range(len(_PRECISIONS))
        ]
        with np.errstate(all="ignore"):
            made = [one.of(columns) for one in self._candidates]
        self._values = np.array(made, np.float32).reshape(len(made), len(columns))

    def candidates(self, row: np.ndarray) -> list[_Candidate]:
        """All that give this number in all samples, best first."""
        found = [
            (int(error), self._candidates[i])
            for i, error in enumerate(_distance(self._values, row).max(axis=1))
            if error <= 1
        ]
        found += [
            (int(_distance(one.of(self._columns), row).max()), one)
            for column in self._varying
            if (row != row[0]).any() and (one := self._multiple(column, row)) is not None
        ]
        found = [one for one in found if one[0] <= 1]
        # Where one fits to the bit, one that does not is a coincidence.
        best = min((error for error, _ in found), default=0)
        return [one for error, one in found if error == best]

    def _multiple(self, column: int, row: np.ndarray) -> _Candidate | None:
        """The number as a multiple of the leaf, by a whole number or its inverse if possible."""
        x, y = self._columns[:, column], row.astype(np.float64)
        slack = np.spacing(np.abs(row)).astype(np.float64)
        ends = np.sort([(y - slack) / x, (y + slack) / x], axis=0)
        low, high = float(ends[0].max()), float(ends[1].min())
        if not low <= high or low * high <= 0:
            return None
        middle = (low + high) / 2
        if low <= round(middle) <= high:
            return _Candidate(column, 0, factor=round(middle))
        whole = round(1 / middle)
        if whole and low <= 1 / whole <= high:
            return _Candidate(column, 0, divisor=whole)
        return _Candidate(column, 0, factor=middle)


class _Learnt:
    """What is known of the programs of one structure, or of the numbers of a family.

    Args:
        signature: Of the programs; "" for those of a family, which are of several.
    """

    def __init__(self, signature: str) -> None:
        self.signature = signature
        self.given_up = False
        self.samples: dict[tuple[float, ...], np.ndarray] = {}
        self.fit: _Fit | None = None
        self._num_traces = 0
        self._num_asked = 0

    def give_up(self) -> None:
        self.given_up = True
        self.samples.clear()
        self.fit = None

    def learn(self, leaves: tuple[float, ...], values: np.ndarray) -> None:
        """Take in a trace; give up where it contradicts what was known."""
        other = next(iter(self.samples.items()), (leaves, values))
        if (len(leaves), len(values)) != (len(other[0]), len(other[1])):
            self.give_up()
        if self.given_up:
            return
        told = None if self.fit is None else self.fit.numbers(np.array(leaves))
        known = [one for one in (told, self.samples.get(leaves)) if one is not None]
        if any(not _equal(one, values) for one in known):
            self.give_up()
            return
        self._num_traces += 1
        if leaves not in self.samples:
            if len(self.samples) == MAX_SAMPLES:
                del self.samples[next(iter(self.samples))]
            self.samples[leaves] = values
            self.fit = None
        if self.fit is None and self._num_traces >= MIN_TRACES:
            self.fit = _Fit(np.array(list(self.samples)), np.array(list(self.samples.values())))
            if not self.fit.complete:
                self.give_up()

    def predict(self, leaves: tuple[float, ...]) -> np.ndarray | None:
        if self.fit is None:
            return None
        told = self.fit.numbers(np.array(leaves))
        if told is not None:
            self._num_asked += 1
            if self._num_asked % VERIFIED_EVERY == 0:
                return None
        return told


class Forms:
    """How the numbers of traced programs follow from configurations.

    Nothing is taken on trust: a number must be explained, to the last bit but one, in every trace
    of its structure; of several explanations all must say the same; a leaf has to be seen at
    three values before it may take a fourth; and one prediction in 16 is withheld, so that its
    trial is traced. A trace that contradicts ends all predictions for its structure.

    Structures of one family, such as networks of several widths, learn together: once it is known
    how their numbers follow, the first trace of a further one puts that to the test, and no second
    one is needed.

    What a program depends on beside the model, such as the shapes of its batches, belongs in the
    key: `structure._replace(key=f"{structure.key}/{shapes}")`.
    """

    def __init__(self) -> None:
        self._learnt: dict[str, _Learnt] = {}
        self._families: dict[str, _Learnt] = {}

    def learn(self, structure: Structure, signature: str, numbers: np.ndarray) -> None:
        """Take in what a trace gave.

        Args:
            structure: Of the traced model.
            signature: Of its program, without the numbers.
            numbers: The scalar floats in the program, shape (numbers,). Those that are no
                float32 cannot be told.
        """
        values = np.array(numbers, np.float32).reshape(-1)
        known = _latest(self._learnt, structure.key, signature)
        doubles = not np.array_equal(values, np.ravel(numbers), equal_nan=True)
        if signature != known.signature or doubles or len(values) > MAX_NUMBERS:
            known.give_up()
            return
        known.learn(structure.leaves, values)
        if structure.family:
            _latest(self._families, structure.family, "").learn(structure.leaves, values)

    def predict(self, structure: Structure) -> tuple[str, np.ndarray] | None:
        """Signature and numbers, float32, of a program; None if the model must be traced."""
        known = self._learnt.get(structure.key)
        if known is None or known.given_up:
            return None
        learnt = known if known.fit is not None else self._families.get(structure.family)
        told = None if learnt is None else learnt.predict(structure.leaves)
        return None if told is None else (known.signature, told)


def _latest(learnt: dict[str, _Learnt], key: str, signature: str) -> _Learnt:
    """What is known of a key, which becomes the last one to be forgotten."""
    known = learnt.pop(key) if key in learnt else _Learnt(signature)
    learnt[key] = known
    if len(learnt) > MAX_KEYS:
        del learnt[next(iter(learnt))]
    return known


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How many floats apart two float32 are; very many where one is no finite number."""
    first, second = (_in_order(one) for one in (a, b))
    far = np.where(np.isfinite(a) & np.isfinite(b), 0, _NUM_DISTANT)
    apart: np.ndarray = np.abs(first - second) + far
    return apart


def _in_order(values: np.ndarray) -> np.ndarray:
    """Whole numbers that rise with the floats, one by one; both zeros are 0."""
    bits = np.asarray(values, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits + (1 << 31)), bits)


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    same = a.view(np.int32) == b.view(np.int32)
    return bool((same | (_distance(a, b) <= 1)).all())
