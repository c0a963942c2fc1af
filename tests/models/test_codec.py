"""Targets to arrays and back."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarttune.errors import DataError, SettingError
from smarttune.models import TargetCodec

TRANSFORMS = ["none", "standardize", "log1p_standardize"]


def test_json_brings_back_the_same_codec() -> None:
    """Labels keep their types."""
    codec = TargetCodec.fit(pd.Series([1, 2, 3, 2], name="y"), "multiclass", (1, 2, 3), {})

    again = TargetCodec.model_validate_json(codec.model_dump_json())

    assert again == codec
    assert [type(c) for c in again.classes] == [int, int, int]


def test_binary_targets_become_a_column_of_zeros_and_ones() -> None:
    """The second class is the positive one."""
    codec = TargetCodec.fit(pd.Series(["no", "yes", "no"]), "binary", ("no", "yes"), {})

    encoded = codec.encode(pd.Series(["yes", "no"]))

    assert encoded.tolist() == [[1.0], [0.0]]
    assert encoded.dtype == np.float32
    assert codec.class_counts == (2, 1)


@pytest.mark.parametrize("cells", [[True, False], [1, 0], [1.0, 0.0], ["1", "0"]])
def test_flags_and_their_codes_are_the_same_class(cells: list[object]) -> None:
    """A target read as flags at fit may come as numbers later."""
    codec = TargetCodec.fit(pd.Series([True, False]), "binary", (False, True), {})

    assert codec.encode(pd.Series(cells)).tolist() == [[1.0], [0.0]]


def test_predicted_classes_carry_probabilities_that_sum_to_one() -> None:
    """The label is the most likely class."""
    codec = TargetCodec.fit(pd.Series(["a", "b", "c"]), "multiclass", ("a", "b", "c"), {})

    frame = codec.decode(np.array([[0.0, 2.0, 1.0], [500.0, -500.0, 0.0]]))

    assert frame["prediction"].tolist() == ["b", "a"]
    shares = frame[["probability_a", "probability_b", "probability_c"]].to_numpy()
    assert shares.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert shares[0] == pytest.approx(np.exp([0, 2, 1]) / np.exp([0, 2, 1]).sum())


def test_binary_probabilities_survive_huge_logits() -> None:
    """No overflow at either end."""
    codec = TargetCodec.fit(pd.Series([0, 1]), "binary", (0, 1), {})

    frame = codec.decode(np.array([[1e4], [-1e4], [0.0]]))

    assert frame["probability_1"].tolist() == [1.0, 0.0, 0.5]
    assert frame["prediction"].tolist() == [1, 0, 0]


def test_each_label_has_its_own_probability() -> None:
    """Labels are decided one by one at one half."""
    target = pd.DataFrame({"up": [1, 0, 1], "left": [0, 0, 1]})
    codec = TargetCodec.fit(target, "multilabel", (), {})

    frame = codec.decode(np.array([[3.0, -3.0]]))

    assert frame.loc[0, ["up", "left"]].tolist() == [1, 0]
    assert frame["probability_up"][0] == pytest.approx(1 / (1 + np.exp(-3)))
    assert np.array_equal(codec.encode(target), target.to_numpy(np.float32))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), st.sampled_from(TRANSFORMS))
def test_regression_targets_come_back(cells: list[float], transform: str) -> None:
    """Decoding an encoded target gives it back within the precision of float32."""
    target = pd.Series(cells, name="y")
    codec = TargetCodec.fit(target, "regression", (), {"model.target_transform": transform})

    back = codec.raw_units(codec.standardized(target.to_numpy()[:, None]))[:, 0]

    spread = max(1.0, float(np.abs(target).max()))
    assert np.allclose(back, target, atol=1e-7 * spread)


def test_standardized_targets_have_mean_zero_and_deviation_one() -> None:
    """Whatever the unit of the target."""
    target = pd.Series(np.random.default_rng(0).normal(1e5, 2e4, 400))
    codec = TargetCodec.fit(target, "regression", (), {"model.target_transform": "standardize"})

    encoded = codec.encode(target)

    assert encoded.shape == (400, 1)
    assert (float(encoded.mean()), float(encoded.std())) == pytest.approx((0, 1), abs=1e-4)


def test_predictions_stay_within_declared_bounds() -> None:
    """A share never comes out above 1."""
    codec = TargetCodec.fit(pd.Series([0.1, 0.9]), "regression", (), {}, bounds=(0.0, 1.0))

    assert codec.decode(np.array([[7.0], [-7.0], [0.5]]))["prediction"].tolist() == [1.0, 0.0, 0.5]


def test_priors_of_absent_classes_are_finite() -> None:
    """A class without training rows still has a log-probability."""
    codec = TargetCodec.fit(pd.Series(["a", "a"]), "multiclass", ("a", "b"), {})

    assert codec.priors() == pytest.approx([2.5 / 3, 0.5 / 3])


def test_an_unknown_class_is_named() -> None:
    """With the classes that are known and a guess."""
    codec = TargetCodec.fit(pd.Series(["good", "bad"]), "binary", ("bad", "good"), {})

    with pytest.raises(DataError, match="'godo', which is no known class.*Did you mean `good`"):
        codec.encode(pd.Series(["godo"]))


@pytest.mark.parametrize("cells", [[1.0, None], [1.0, float("inf")], ["x", "2"]])
def test_a_regression_target_that_is_no_number_is_refused(cells: list[object]) -> None:
    """Nothing is silently filled in."""
    with pytest.raises(DataError, match="missing, infinite or no numbers"):
        TargetCodec.fit(pd.Series(cells, name="y"), "regression", (), {})


def test_classes_that_do_not_fit_the_problem_are_refused() -> None:
    """Binary needs exactly two."""
    with pytest.raises(DataError, match="two different classes"):
        TargetCodec.fit(pd.Series([1, 2, 3]), "binary", (1, 2, 3), {})


def test_an_unknown_transform_is_refused() -> None:
    """The error guesses what was meant."""
    with pytest.raises(SettingError, match="Did you mean `standardize`"):
        TargetCodec.fit(
            pd.Series([1.0]), "regression", (), {"model.target_transform": "standardise"}
        )
