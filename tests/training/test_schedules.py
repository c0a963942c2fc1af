"""Learning rates as functions of the step."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from smarttune.errors import OptionError, SettingError
from smarttune.training.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    Cyclical,
    HorizonSchedule,
    Linear,
    OneCycle,
    ScaledSchedule,
    WarmRestarts,
    learning_rate,
)

COURSES = tuple(kind for kind in SCHEDULES if kind != "plateau")
PEAK = 0.1


def rates(schedule: Any, steps: Any) -> np.ndarray:
    """The rate at each of the steps."""
    return keras.ops.convert_to_numpy(schedule(np.asarray(steps, np.int32)))


def course(kind: str, total: int, warmup: int = 0) -> HorizonSchedule:
    """A schedule of the kind; a constant one has a warmup always."""
    if kind == "constant":
        return Constant(PEAK, total_steps=total, warmup_steps=warmup)
    made = learning_rate(kind, PEAK, total_steps=total, warmup_steps=warmup)
    assert isinstance(made, HorizonSchedule)
    return made


def test_a_cosine_falls_from_the_peak_to_zero() -> None:
    """Loshchilov and Hutter 2017, eq. 5, with one cycle: half the peak at half the way."""
    found = rates(Cosine(0.2, total_steps=6), range(8))

    third = 0.1 * (1 + math.cos(math.pi / 3))
    np.testing.assert_allclose(found[[0, 2, 3, 4, 6, 7]], [0.2, third, 0.1, 0.05, 0, 0], atol=1e-8)


def test_a_line_falls_from_the_peak_to_zero() -> None:
    """Equal parts in equal steps."""
    found = rates(Linear(1.0, total_steps=4), range(6))

    np.testing.assert_allclose(found, [1, 0.75, 0.5, 0.25, 0, 0])


def test_a_warmup_rises_linearly_and_then_stays() -> None:
    """Above 0 from the first step on, and at the peak in the first step after it."""
    found = rates(Constant(1.0, total_steps=9, warmup_steps=3), range(6))

    np.testing.assert_allclose(found, [0.25, 0.5, 0.75, 1, 1, 1])


def test_one_cycle_has_the_numbers_of_fastai() -> None:
    """Smith 2018, section 4.1, as fastai has it: peak / 25, the peak at a quarter, peak / 1e5."""
    found = rates(OneCycle(2.0, total_steps=400), [0, 50, 100, 250, 400, 500])

    half_up, half_down = (2 / 25 + 2) / 2, (2 + 2e-5) / 2
    np.testing.assert_allclose(found, [2 / 25, half_up, 2, half_down, 2e-5, 2e-5], rtol=1e-5)


def test_momentum_goes_the_other_way() -> None:
    """Smith 2018, section 4.3: lowest where the rate is highest; bounds of fastai."""
    schedule = OneCycle(1.0, total_steps=402, warmup_steps=2)
    steps = np.array([0, 1, 2, 52, 102, 252, 402])

    found = keras.ops.convert_to_numpy(schedule.momentum(steps))

    np.testing.assert_allclose(found, [0.95, 0.95, 0.95, 0.90, 0.85, 0.90, 0.95], rtol=1e-6)


def test_triangular_cycles_keep_their_height() -> None:
    """Smith 2017, section 3.1: from the floor to the peak in half a cycle, and back."""
    found = rates(Cyclical(1.0, total_steps=100, half_cycle=4), range(12))

    up = [0.25, 0.4375, 0.625, 0.8125]
    np.testing.assert_allclose(found, [*up, 1.0, *up[:0:-1], *up])


def test_triangular2_halves_its_height_after_every_cycle() -> None:
    """Smith 2017, section 3.1: peaks at 1, 5/8 and 7/16, troughs at the floor."""
    schedule = Cyclical(1.0, total_steps=100, half_cycle=5, mode="triangular2")

    found = rates(schedule, [5, 15, 25, 0, 10, 20])

    np.testing.assert_allclose(found, [1, 0.625, 0.4375, 0.25, 0.25, 0.25])


def test_exp_range_shrinks_both_bounds() -> None:
    """Smith 2017, section 3.1: each bound times gamma to the power of the step."""
    schedule = Cyclical(1.0, total_steps=100, half_cycle=5, mode="exp_range", gamma=0.9)

    found = rates(schedule, [0, 5, 10, 15])

    np.testing.assert_allclose(found, [0.25, 0.9**5, 0.25 * 0.9**10, 0.9**15], rtol=1e-5)


def test_four_cycles_end_with_the_horizon() -> None:
    """Smith 2017, section 3.2: a training ends where a cycle does; exp_range at a tenth of it."""
    plain = rates(learning_rate("cyclical", 1.0, total_steps=80), [10, 20, 70, 80])
    shrunk = rates(learning_rate("exp_range", 1.0, total_steps=80), [80])

    np.testing.assert_allclose(plain, [1, 0.25, 1, 0.25])
    np.testing.assert_allclose(shrunk, [0.025], rtol=1e-5)


@pytest.mark.parametrize(
    ("factor", "starts", "lengths"),
    [(2, [0, 10, 30, 70], [10, 20, 40, 80]), (1, [0, 10, 20, 30], [10, 10, 10, 10])],
)
def test_warm_restarts_jump_to_the_peak(factor: int, starts: Any, lengths: Any) -> None:
    """SGDR, eq. 5 with T_0 = 10 and T_mult = 2 or 1: peaks at the starts, halves midway."""
    schedule = WarmRestarts(PEAK, total_steps=150, first_cycle=10, factor=factor)
    starts, lengths = np.array(starts), np.array(lengths)

    np.testing.assert_allclose(rates(schedule, starts), PEAK)
    np.testing.assert_allclose(rates(schedule, starts + lengths // 2), PEAK / 2, rtol=1e-6)
    last = PEAK * (1 + np.cos(np.pi * (lengths - 1) / lengths)) / 2
    np.testing.assert_allclose(rates(schedule, starts + lengths - 1), last, rtol=1e-5)


def test_three_doubling_cycles_fill_a_training() -> None:
    """A seventh, two and four; the horizon closes the last and opens no fourth."""
    found = rates(learning_rate("warm_restarts", PEAK, total_steps=70), [0, 10, 30, 50, 70, 99])

    np.testing.assert_allclose(found, [PEAK, PEAK, PEAK, PEAK / 2, 0, 0], atol=1e-8)


@given(
    kind=st.sampled_from(COURSES),
    total=st.integers(2, 400),
    warmup=st.integers(0, 500),
)
@settings(max_examples=150, deadline=None)
def test_rates_stay_within_zero_and_a_peak_that_is_reached(
    kind: str, total: int, warmup: int
) -> None:
    """Every step of a training moves the weights, none by more than the peak, one by all of it."""
    found = rates(course(kind, total, warmup), range(total))

    assert found.min() > 0
    assert found.max() <= PEAK * (1 + 1e-6)
    decayed = 0.1 if kind == "exp_range" else 1.0
    assert found.max() >= PEAK * decayed * (1 - 1e-6)


@given(
    kind=st.sampled_from(sorted({*COURSES} - {"warm_restarts"})),
    total=st.integers(100, 400),
    warmup=st.integers(0, 60),
)
@settings(max_examples=100, deadline=None)
def test_rates_are_continuous(kind: str, total: int, warmup: int) -> None:
    """No step changes the rate by more than the steepest part of the course explains."""
    schedule = course(kind, total, warmup)
    steepest = 1.0 / (schedule.warmup_steps + 1) if warmup else 0.0
    if kind != "constant":
        length = {"one_cycle": round(schedule.span / 4)}.get(kind, schedule.span)
        length = getattr(schedule, "half_cycle", length)
        steepest = max(steepest, math.pi / 2 / length)

    found = rates(schedule, range(total + 3))

    assert np.abs(np.diff(found)).max() <= PEAK * steepest * 1.001


@pytest.mark.parametrize("kind", COURSES)
def test_outside_the_training_the_rate_stands_still(kind: str) -> None:
    """Before the first step and beyond the horizon."""
    schedule = course(kind, 40, 4)

    found = rates(schedule, [-5, 0, 40, 41, 10_000])

    assert found[0] == found[1]
    assert found[2] == found[3] == found[4]


@given(
    kind=st.sampled_from(COURSES),
    total=st.integers(1, 300),
    warmup=st.integers(0, 300),
    step=st.integers(0, 300),
)
@settings(max_examples=150, deadline=None)
def test_a_schedule_survives_its_configuration(
    kind: str, total: int, warmup: int, step: int
) -> None:
    """Saved and read again, it gives the same rate and the same configuration."""
    schedule = course(kind, total, warmup)

    back = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))

    assert type(back) is type(schedule)
    assert back.get_config() == schedule.get_config()
    assert float(back(step)) == float(schedule(step))


@pytest.mark.parametrize("kind", COURSES)
def test_eager_and_compiled_rates_are_equal(kind: str) -> None:
    """One graph serves all steps, as whole numbers of either size and as fractions."""
    tensorflow = pytest.importorskip("tensorflow")
    schedule = course(kind, 50, 5)
    for dtype in ("int32", "int64", "float32"):
        traced = tensorflow.function(schedule, input_signature=[tensorflow.TensorSpec([], dtype)])
        compiled = [float(traced(tensorflow.constant(step, dtype))) for step in range(0, 60, 3)]
        np.testing.assert_allclose(compiled, rates(schedule, range(0, 60, 3)), rtol=2e-6, atol=1e-9)


@given(kind=st.sampled_from(COURSES), order=st.permutations(range(30)))
@settings(max_examples=30, deadline=None)
def test_a_rate_depends_on_its_step_alone(kind: str, order: list[int]) -> None:
    """In whatever order rungs ask, the answer for a step is the same."""
    schedule = course(kind, 30, 3)

    found = [float(schedule(step)) for step in order]

    np.testing.assert_allclose(found, rates(course(kind, 30, 3), order), rtol=1e-6, atol=1e-10)


def exact(schedule: HorizonSchedule, step: int) -> float:
    """The rate in double precision, from the papers' formulas."""
    after, span = step - schedule.warmup_steps, schedule.span
    if isinstance(schedule, OneCycle):
        rise = schedule.rise_steps
        if after < rise:
            return PEAK * (1 / 25 + (24 / 25) * (1 - math.cos(math.pi * after / rise)) / 2)
        left = math.sin(math.pi / 2 * (span - after) / (span - rise)) ** 2
        return PEAK * (1e-5 + (1 - 1e-5) * left)
    if isinstance(schedule, Cyclical):
        half = schedule.half_cycle
        cycle = math.floor(1 + after / (2 * half))
        height = max(0.0, 1 - abs(after / half - 2 * cycle + 1))
        height *= 0.5 ** (cycle - 1) if schedule.mode == "triangular2" else 1.0
        gamma = schedule.gamma if schedule.mode == "exp_range" else 1.0
        return PEAK * (0.25 + 0.75 * height) * gamma**after
    if isinstance(schedule, WarmRestarts):
        begin, length = 0, schedule.first_cycle
        while begin + length <= after:
            begin, length = begin + length, length * schedule.factor
        return PEAK * math.sin(math.pi / 2 * (begin + length - after) / length) ** 2
    left = (span - after) / span
    shares = {Constant: 1.0, Linear: left, Cosine: math.sin(math.pi / 2 * left) ** 2}
    return PEAK * shares[type(schedule)]


@given(kind=st.sampled_from(COURSES), early=st.integers(1, 20_000), warmup=st.integers(0, 20_000))
@settings(max_examples=100, deadline=None)
def test_rates_are_right_after_ten_million_steps(kind: str, early: int, warmup: int) -> None:
    """Within 1e-3 of double precision, also in the last steps before the horizon."""
    schedule = course(kind, 10_000_000 + early, warmup)

    for step in (10_000_000, 10_000_000 + early - 1, 7_654_321, warmup + early):
        assert float(schedule(step)) == pytest.approx(exact(schedule, step), rel=1e-3)


def test_short_cycles_are_exact_after_thirty_million_steps() -> None:
    """Where float32 has lost the last digit of the step, whole numbers have not."""
    schedule = Cyclical(1.0, total_steps=40_000_000, half_cycle=3)

    found = rates(schedule, range(30_000_000, 30_000_006))

    np.testing.assert_allclose(found, [0.25, 0.5, 0.75, 1, 0.75, 0.5])


def test_factors_hold_from_their_boundaries_on() -> None:
    """They do not multiply each other, and other schedules keep their course."""
    plain = ScaledSchedule(0.5, [2, 4], [2.0, 3.0])
    drawn = ScaledSchedule(Linear(1.0, total_steps=4), [1], [0.5])

    np.testing.assert_allclose(rates(plain, range(6)), [0.5, 0.5, 1, 1, 1.5, 1.5])
    np.testing.assert_allclose(rates(drawn, range(5)), [1, 0.375, 0.25, 0.125, 0])
    assert float(ScaledSchedule(0.5, [], [])(7)) == 0.5


def test_a_scaled_schedule_survives_its_configuration() -> None:
    """With the schedule in it."""
    schedule = ScaledSchedule(OneCycle(1.0, total_steps=40), [5, 20], [2.0, 4.0])

    back = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))

    assert isinstance(back.rate, OneCycle)
    np.testing.assert_array_equal(rates(back, range(45)), rates(schedule, range(45)))


@pytest.mark.parametrize("kind", ["constant", "plateau"])
def test_a_constant_rate_is_a_number(kind: str) -> None:
    """A callback can change it, which it cannot with a schedule."""
    assert learning_rate(kind, 0.1, total_steps=6) == 0.1
    warmed = learning_rate(kind, 0.1, total_steps=6, warmup_steps=2)
    assert (warmed == 0.1) == (kind == "plateau")


def test_an_unknown_schedule_is_named() -> None:
    """With the nearest known one."""
    with pytest.raises(SettingError, match="Did you mean `one_cycle`"):
        learning_rate("onecycle", 0.1, total_steps=6)


@pytest.mark.parametrize(
    ("call", "where"),
    [
        (lambda: learning_rate("cosine", 0.0, total_steps=6), "peak"),
        (lambda: learning_rate("constant", math.nan, total_steps=6), "peak"),
        (lambda: learning_rate("plateau", "fast", total_steps=6), "peak"),
        (lambda: learning_rate("plateau", 0.1, total_steps=0), "total_steps"),
        (lambda: learning_rate("cosine", 0.1, total_steps=6.5), "total_steps"),
        (lambda: learning_rate("linear", 0.1, total_steps=6, warmup_steps=-1), "warmup_steps"),
        (lambda: learning_rate("cyclical", 0.1, total_steps=6, half_cycle=0), "half_cycle"),
        (lambda: Cyclical(0.1, total_steps=6, mode="square"), "mode"),
        (lambda: Cyclical(0.1, total_steps=6, mode="exp_range", gamma=1.1), "gamma"),
        (lambda: WarmRestarts(0.1, total_steps=6, first_cycle=0), "first_cycle"),
        (lambda: WarmRestarts(0.1, total_steps=6, factor=True), "factor"),
        (lambda: ScaledSchedule(0.1, [1, 2], [1.0]), "factors"),
        (lambda: ScaledSchedule(0.1, [1], [-1.0]), "factors"),
        (lambda: ScaledSchedule(0.1, [2, 2], [1.0, 2.0]), "boundaries"),
    ],
)
def test_nonsense_is_refused(call: Any, where: str) -> None:
    """A number that makes no sense is named together with its argument."""
    with pytest.raises(OptionError) as caught:
        call()

    assert caught.value.where == where


@given(total=st.integers(3, 200), half=st.integers(1, 300), warmup=st.integers(0, 300))
@settings(max_examples=50, deadline=None)
def test_a_cycle_longer_than_the_training_is_cut(total: int, half: int, warmup: int) -> None:
    """The peak is reached, however long half a cycle and the warmup were meant to be."""
    assume(half + warmup >= total)
    schedule = Cyclical(PEAK, total_steps=total, half_cycle=half, warmup_steps=warmup)

    assert rates(schedule, range(total)).max() == pytest.approx(PEAK)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_saved_model_has_its_schedule(tmp_path: Path) -> None:
    """A model with a schedule loads, and goes on with the rate of its step."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(OneCycle(PEAK, total_steps=8)), loss="mse")
    model.fit(np.ones((6, 2)), np.ones((6, 1)), batch_size=2, verbose=0)
    model.save(tmp_path / "m.keras")

    back = keras.saving.load_model(tmp_path / "m.keras")

    expected = float(OneCycle(PEAK, total_steps=8)(3))
    assert float(back.optimizer.learning_rate) == pytest.approx(expected)


SCRIPT = """
import json, numpy as np, keras
from smarttune.training.schedules import SCHEDULES, OneCycle, ScaledSchedule, learning_rate
made = {kind: learning_rate(kind, 0.1, total_steps=70, warmup_steps=7) for kind in SCHEDULES}
made["momentum"] = OneCycle(0.1, total_steps=70).momentum
made["scaled"] = ScaledSchedule(made["cosine"], [9, 30], [2.0, 0.5])
steps = np.arange(-1, 75, dtype="int32")
if keras.backend.backend() == "jax":
    import jax
    made = {name: jax.jit(f) if callable(f) else f for name, f in made.items()}
print(json.dumps({
    name: np.asarray(f(steps)).tolist() if callable(f) else f for name, f in made.items()
}))
"""


@pytest.mark.slow
def test_jax_and_tensorflow_agree() -> None:
    """Every kind, compiled by JAX, equals TensorFlow's."""
    import json

    pytest.importorskip("jax")
    found = []
    for backend in ("tensorflow", "jax"):
        ended = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "KERAS_BACKEND": backend},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        found.append(json.loads(ended.stdout.splitlines()[-1]))

    for name, expected in found[0].items():
        np.testing.assert_allclose(found[1][name], expected, rtol=1e-5, atol=1e-8, err_msg=name)
