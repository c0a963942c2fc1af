"""Promises of `smarttune.execution.forms`."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smarttune.execution.forms import MAX_KEYS, MIN_TRACES, VERIFIED_EVERY, Forms, Structure


def learnt(forms: Forms, program: Callable[..., list[float]], *samples: tuple[float, ...]) -> None:
    """Tell about trials whose numbers a function of the leaves gives."""
    for leaves in samples:
        forms.learn(Structure("key", leaves), "signature", np.array(program(*leaves), np.float32))


def told(forms: Forms, *leaves: float) -> list[float] | None:
    """The numbers of one more trial, as floats."""
    found = forms.predict(Structure("key", leaves))
    return None if found is None else [float(one) for one in found[1]]


def singles(*values: float) -> list[float]:
    """The floats nearest to them that float32 has."""
    return [float(np.float32(one)) for one in values]


leaf = st.floats(0.01, 0.95).filter(lambda x: x != 0.5)


GENERIC = [(0.11, 0.29), (0.23, 0.17), (0.37, 0.71), (0.53, 0.43), (0.83, 0.61)]


@example(GENERIC)
@given(st.lists(st.tuples(leaf, leaf), min_size=5, max_size=9, unique=True))
def test_numbers_are_told_for_new_leaves(samples: list[tuple[float, float]]) -> None:
    """Forms of two leaves are recognized: where numbers are told they are right to one bit.

    Nothing need be told where leaves have forms in common so far, such as equal leaves.
    """

    def program(x: float, y: float) -> list[float]:
        return [7.0, x, 1 - x, 1 / (1 - x), y * y / 2, y / 10, 3.7 * y, np.sqrt(x), -y]

    forms = Forms()
    *known, new = samples
    learnt(forms, program, *known)
    found = told(forms, *new)
    if samples == GENERIC:
        assert found is not None
    if found is not None:
        np.testing.assert_array_max_ulp(
            np.array(found, np.float32), np.array(program(*new), np.float32), maxulp=1
        )


def test_half_precision_is_recognized() -> None:
    """A number that a program holds in bfloat16 or float16 is told as it is there."""
    kinds = (ml_dtypes.bfloat16, np.float16)
    forms = Forms()

    def program(x: float) -> list[float]:
        return [float(kind(1 - x)) for kind in kinds]

    learnt(forms, program, (0.1,), (0.23,), (0.37,))
    assert told(forms, 0.41) == program(0.41)


def test_three_traces_come_first() -> None:
    """Nothing is told before three trials of the structure were traced."""
    forms = Forms()
    for num, x in enumerate((0.1, 0.2, 0.3)):
        assert num < MIN_TRACES
        assert told(forms, 0.4) is None
        learnt(forms, lambda x: [x], (x,))
    assert told(forms, 0.4) == singles(0.4)


def test_a_leaf_seen_at_two_values_stays_there() -> None:
    """A leaf that took fewer than three values is told for these values only."""
    forms = Forms()
    learnt(forms, lambda x, y: [x, y], (0.1, 5.0), (0.2, 6.0), (0.3, 5.0))
    assert told(forms, 0.4, 6.0) == singles(0.4, 6.0)
    assert told(forms, 0.4, 7.0) is None


def test_leaves_that_were_always_equal_must_stay_equal() -> None:
    """A number that two leaves explain is not told once they part."""
    forms = Forms()
    samples = [(x, x) for x in (0.1, 0.2, 0.3)]
    learnt(forms, lambda x, _y: [x], *samples)
    assert told(forms, 0.4, 0.4) == singles(0.4)
    assert told(forms, 0.4, 0.6) is None
    learnt(forms, lambda x, _y: [x], (0.4, 0.6))
    assert told(forms, 0.7, 0.8) == singles(0.7)


def test_a_form_that_was_flat_by_rounding_is_no_constant() -> None:
    """A number that stood still because its leaf was tiny is not told for a leaf that is not."""
    forms = Forms()
    learnt(forms, lambda x: [1 - x], (1e-9,), (2e-9,), (3e-9,))
    assert told(forms, 4e-9) == [1.0]
    assert told(forms, 1e-3) is None


def test_what_nothing_explains_is_given_up() -> None:
    """A number of two leaves together is never told, not even after many trials."""
    forms = Forms()
    samples = [(0.1 * i, 0.3 + 0.01 * i * i) for i in range(1, 9)]
    learnt(forms, lambda x, y: [x - y], *samples)
    assert told(forms, *samples[0]) is None


@pytest.mark.parametrize("how", ["number", "signature", "repeated", "length"])
def test_a_contradiction_ends_all_predictions(how: str) -> None:
    """After a trace that was not as told, its structure is given up for good."""
    forms = Forms()
    learnt(forms, lambda x: [x], (0.1,), (0.2,), (0.3,))
    assert told(forms, 0.4) is not None
    leaves = (0.1,) if how == "repeated" else (0.4,)
    numbers = [leaves[0]] if how == "signature" else [0.9]
    numbers = [*leaves, *leaves] if how == "length" else numbers
    forms.learn(
        Structure("key", leaves),
        "other" if how == "signature" else "signature",
        np.array(numbers, np.float32),
    )
    learnt(forms, lambda x: [x], *[(0.01 * i,) for i in range(1, 9)])
    assert told(forms, 0.4) is None


def test_doubles_are_not_told() -> None:
    """A structure with a number that is no float32 is given up."""
    forms = Forms()
    for x in (0.1, 0.2, 0.3):
        forms.learn(Structure("key", (x,)), "signature", np.array([x], np.float64))
    assert told(forms, 0.4) is None


def test_one_prediction_in_sixteen_is_withheld() -> None:
    """Of many trials in a row, a known share is traced though they could be told."""
    forms = Forms()
    learnt(forms, lambda x: [x], (0.1,), (0.2,), (0.3,))
    withheld = [told(forms, 0.4) is None for _ in range(3 * VERIFIED_EVERY)]
    assert withheld == ([False] * (VERIFIED_EVERY - 1) + [True]) * 3


def test_programs_without_leaves_or_numbers_are_told() -> None:
    """Where nothing can differ, the signature alone is told."""
    forms = Forms()
    learnt(forms, list, (), (), ())
    assert told(forms) == []


def test_memory_is_bounded() -> None:
    """Of very many structures only the latest are kept."""
    forms = Forms()
    for i in range(3 * MAX_KEYS):
        for x in (0.1, 0.2, 0.3):
            forms.learn(Structure(str(i), (x,)), "signature", np.array([x], np.float32))
    kept = [forms.predict(Structure(str(i), (0.4,))) is not None for i in range(3 * MAX_KEYS)]
    assert kept == [False] * (2 * MAX_KEYS) + [True] * MAX_KEYS


def test_another_width_is_traced_once() -> None:
    """What three traces of one structure told holds for its family, once a trace agrees."""
    forms = Forms()
    for x, y in GENERIC[:3]:
        forms.learn(Structure("narrow", (x, y), "family"), "first", np.float32([1 - x, y]))
    wide = Structure("wide", GENERIC[3], "family")
    assert forms.predict(wide) is None  # it has no program yet
    x, y = GENERIC[3]
    forms.learn(wide, "second", np.float32([1 - x, y]))
    found = forms.predict(wide._replace(leaves=GENERIC[4]))
    assert found is not None
    assert found[0] == "second"
    assert [float(one) for one in found[1]] == singles(1 - GENERIC[4][0], GENERIC[4][1])


def test_a_width_that_contradicts_its_family_learns_alone() -> None:
    """Where the numbers of a width do not follow as those of others, nothing is told of it."""
    forms = Forms()
    for x, y in GENERIC[:3]:
        forms.learn(Structure("narrow", (x, y), "family"), "first", np.float32([1 - x, y]))
    x, y = GENERIC[3]
    forms.learn(Structure("wide", (x, y), "family"), "second", np.float32([1 + x, y]))
    assert forms.predict(Structure("wide", GENERIC[4], "family")) is None
    narrow = forms.predict(Structure("narrow", GENERIC[4], "family"))
    assert narrow is not None
    assert narrow[0] == "first"
