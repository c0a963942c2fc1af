"""Raw tables to arrays."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarttune.errors import DataError, SettingError
from smarttune.models import TablePreprocessor
from tests.models.tables import EMBEDDED, NUM_ROWS, PROFILES, Profile, frame


def fitted(kind: str, cells: list[object], **options: str | int) -> TablePreprocessor:
    """A preprocessor of one column `c`."""
    settings_ = {f"model.{name}": value for name, value in options.items()}
    return TablePreprocessor.fit(pd.DataFrame({"c": cells}), [Profile("c", kind)], settings_)


def test_json_brings_back_the_same_preprocessor() -> None:
    """Nothing is lost on the way through text, and the arrays are equal bit for bit."""
    preprocessor = TablePreprocessor.fit(
        frame(), PROFILES, {**EMBEDDED, "model.numeric_preprocessing": "quantile_normal"}
    )

    again = TablePreprocessor.model_validate_json(preprocessor.model_dump_json())

    assert again == preprocessor
    before, after = preprocessor.transform(frame(seed=1)), again.transform(frame(seed=1))
    assert all(np.array_equal(before[key], after[key]) for key in before)


def test_the_arrays_have_the_promised_shapes_and_types() -> None:
    """Floats and indices are apart, and no float is missing."""
    preprocessor = TablePreprocessor.fit(frame(), PROFILES, EMBEDDED)

    arrays = preprocessor.transform(frame(seed=1))

    assert arrays["numeric"].shape == (NUM_ROWS, len(preprocessor.numeric_inputs))
    assert arrays["numeric"].dtype == np.float32
    assert np.isfinite(arrays["numeric"]).all()
    assert arrays["categorical"].shape == (NUM_ROWS, 3)
    assert arrays["categorical"].dtype == np.int32


def test_a_table_without_categories_has_no_categorical_array() -> None:
    """Arrays that would be empty are left out."""
    assert set(fitted("numeric", [1.0, 2.0]).transform(pd.DataFrame({"c": [1]}))) == {"numeric"}


def test_standardized_training_rows_have_mean_zero_and_deviation_one() -> None:
    """The scale is that of the training rows."""
    cells = list(np.random.default_rng(0).normal(40, 7, 500))
    numeric = fitted("numeric", cells).transform(pd.DataFrame({"c": cells}))["numeric"]

    assert numeric.mean() == pytest.approx(0, abs=1e-5)
    assert numeric.std() == pytest.approx(1, abs=1e-5)


def test_smooth_clipping_bounds_outliers_and_keeps_the_middle() -> None:
    """An absurd value stays within 3; one interquartile range off the median is x/sqrt(1+1/9)."""
    cells = [float(v) for v in range(101)]
    preprocessor = fitted("numeric", cells, numeric_preprocessing="robust_scale_smooth_clip")

    numeric = preprocessor.transform(pd.DataFrame({"c": [50.0, 100.0, 1e12, -1e12]}))["numeric"]

    assert numeric[:, 0] == pytest.approx([0.0, 1 / np.sqrt(1 + 1 / 9), 3.0, -3.0], abs=1e-5)


def test_quantile_scores_are_normal_whatever_the_shape() -> None:
    """A heavy-tailed column becomes nearly standard normal."""
    cells = list(np.random.default_rng(0).lognormal(0, 3, 3000))
    preprocessor = fitted("numeric", cells, numeric_preprocessing="quantile_normal")

    numeric = preprocessor.transform(pd.DataFrame({"c": cells}))["numeric"][:, 0]

    assert np.quantile(numeric, [0.1587, 0.5, 0.8413]) == pytest.approx([-1, 0, 1], abs=0.05)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-1e9, 1e9) | st.none(), min_size=1, max_size=40),
    st.sampled_from(["standardize", "robust_scale_smooth_clip", "quantile_normal"]),
)
def test_scaling_is_finite_and_keeps_order(cells: list[float | None], scaling: str) -> None:
    """Constant, missing and extreme cells included, larger numbers never scale lower."""
    column = pd.DataFrame({"c": pd.Series(cells, dtype="float64")})
    preprocessor = TablePreprocessor.fit(
        column, [Profile("c", "numeric")], {"model.numeric_preprocessing": scaling}
    )
    probe = np.sort(np.array([c for c in cells if c is not None] + [0.0, 1e12]))

    numeric = preprocessor.transform(pd.DataFrame({"c": probe}))["numeric"][:, 0]

    assert np.isfinite(numeric).all()
    assert (np.diff(numeric) >= -1e-6).all()


def test_missing_numbers_become_the_median_and_an_indicator() -> None:
    """The indicator exists only where training cells were missing."""
    table = pd.DataFrame({"a": [1.0, 3.0, None, 8.0], "b": [1.0, 2.0, 3.0, 4.0]})
    profiles = [Profile("a", "numeric"), Profile("b", "numeric")]
    preprocessor = TablePreprocessor.fit(
        table, profiles, {"model.missing_values": "median_and_indicator"}
    )

    numeric = preprocessor.transform(table)["numeric"]

    assert preprocessor.numeric_inputs == ("a", "a missing", "b")
    assert numeric[:, 1].tolist() == [0, 0, 1, 0]
    assert numeric[2, 0] == preprocessor.transform(table.assign(a=3.0))["numeric"][0, 0]


def test_numbers_written_as_text_are_read() -> None:
    """Text that is no number counts as missing."""
    preprocessor = fitted("numeric", [1.0, 2.0, 3.0])

    texts = preprocessor.transform(pd.DataFrame({"c": [" 1", "3.0", "?", "inf"]}))["numeric"]
    plain = preprocessor.transform(pd.DataFrame({"c": [1.0, 3.0, 2.0, 2.0]}))["numeric"]

    assert np.array_equal(texts, plain)


@pytest.mark.parametrize(
    ("cells", "probe", "expected"),
    [
        (["yes", "no"], ["Yes", "no", "YES"], [1, 0, 1]),
        ([True, False], [True, False, 1], [1, 0, 1]),
        ([0, 1], [1.0, 0.0, 1.0], [1, 0, 1]),
        (["left", "right"], ["right", "left", "right"], [1, 0, 1]),
    ],
)
def test_flags_become_zero_and_one(
    cells: list[object], probe: list[object], expected: list[int]
) -> None:
    """Every usual spelling means the same."""
    preprocessor = fitted("boolean", cells)

    numeric = preprocessor.transform(pd.DataFrame({"c": pd.Series(probe, dtype=object)}))["numeric"]

    assert numeric[:, 0].tolist() == expected


def test_a_strange_or_missing_flag_becomes_the_share_of_ones() -> None:
    """Three of four training cells are yes."""
    preprocessor = fitted("boolean", ["yes", "yes", "yes", "no"])

    numeric = preprocessor.transform(pd.DataFrame({"c": ["maybe", None]}))["numeric"]

    assert numeric[:, 0].tolist() == [0.75, 0.75]


def test_dates_become_parts_on_a_circle() -> None:
    """December and January are neighbours, parts that never vary are left out."""
    cells = ["2020-01-15", "2020-12-15", "2020-07-15"]
    preprocessor = fitted("datetime", cells)

    numeric = preprocessor.transform(pd.DataFrame({"c": cells}))["numeric"]

    assert preprocessor.numeric_inputs[:2] == ("c month sin", "c month cos")
    assert not any(
        "year" in n or "hour" in n or n == "c day sin" for n in preprocessor.numeric_inputs
    )
    months = numeric[:, :2]
    assert np.linalg.norm(months[0] - months[1]) < np.linalg.norm(months[0] - months[2])


def test_dates_written_day_first_are_read_alike_in_every_row() -> None:
    """One cell with a day above 12 settles the order for the ambiguous ones."""
    written = fitted("datetime", ["25/12/2020", "05/06/2020", "01/02/2021"])
    iso = fitted("datetime", ["2020-12-25", "2020-06-05", "2021-02-01"])

    got = written.transform(pd.DataFrame({"c": ["05/06/2020", "2020-06-05"]}))["numeric"]
    wanted = iso.transform(pd.DataFrame({"c": ["2020-06-05", "2020-06-05"]}))["numeric"]

    assert np.array_equal(got, wanted)


def test_unreadable_and_missing_dates_are_zeros() -> None:
    """No date breaks a prediction."""
    preprocessor = fitted("datetime", ["2020-01-15", "2021-12-16"])

    numeric = preprocessor.transform(pd.DataFrame({"c": ["soon", None]}))["numeric"]

    assert not numeric.any()


def test_unseen_and_missing_levels_have_index_zero() -> None:
    """Known levels are numbered from 1 in the order of their text."""
    preprocessor = fitted("categorical", ["b", "a", None, "b"])

    indices = preprocessor.transform(pd.DataFrame({"c": ["a", "b", "new", None, " a "]}))

    assert indices["categorical"][:, 0].tolist() == [1, 2, 0, 0, 1]


def test_a_code_is_the_same_level_as_number_and_as_text() -> None:
    """1, 1.0 and "1" are one level."""
    preprocessor = fitted("categorical", [1, 2, 3])

    for cells in ([1, 3], [1.0, 3.0], ["1", "3"]):
        indices = preprocessor.transform(pd.DataFrame({"c": cells}))["categorical"]
        assert indices[:, 0].tolist() == [1, 3]


def test_the_order_of_training_rows_does_not_matter() -> None:
    """Shuffled rows fit the same levels and, up to rounding, the same scales."""
    table = frame()
    shuffled = table.sample(frac=1.0, random_state=3)

    one = TablePreprocessor.fit(table, PROFILES, EMBEDDED).transform(table)
    other = TablePreprocessor.fit(shuffled, PROFILES, EMBEDDED).transform(table)

    assert np.allclose(one["numeric"], other["numeric"], atol=1e-6)
    assert np.array_equal(one["categorical"], other["categorical"])


def test_a_missing_column_is_named_with_a_guess() -> None:
    """The error says which column is absent and which one might be it."""
    preprocessor = TablePreprocessor.fit(frame(), PROFILES, EMBEDDED)

    with pytest.raises(DataError, match=r"lacks the column `city`.*Did you mean `citi`"):
        preprocessor.transform(frame().rename(columns={"city": "citi"}))


def test_extra_and_unused_columns_are_ignored() -> None:
    """Only used columns are needed afterwards."""
    profiles = [*PROFILES, Profile("id", "identifier", used=False), Profile("note", "text")]
    preprocessor = TablePreprocessor.fit(frame().assign(id=1, note="a b"), profiles, EMBEDDED)

    arrays = preprocessor.transform(frame().assign(more=2))

    assert len(preprocessor.columns) == len(PROFILES)
    assert arrays["categorical"].shape == (NUM_ROWS, 3)


def test_no_usable_column_is_an_error() -> None:
    """A table of identifiers cannot be learnt from."""
    with pytest.raises(DataError, match="none of its columns"):
        TablePreprocessor.fit(pd.DataFrame({"id": [1]}), [Profile("id", "identifier", False)], {})


def test_an_embedding_without_width_is_an_error() -> None:
    """No width is invented."""
    with pytest.raises(SettingError, match=r"model\.embedding_dim\[c\]"):
        fitted("categorical", ["a", "b"], encoding="embedding")


def test_an_unknown_scaling_is_an_error() -> None:
    """The error guesses what was meant."""
    with pytest.raises(SettingError, match="Did you mean `standardize`"):
        fitted("numeric", [1.0], numeric_preprocessing="standardise")
