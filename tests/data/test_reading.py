"""Reading text tables: dialects, types, targets, samples."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from smarttune.data import delimited, read
from smarttune.errors import DataError, OptionError

ROWS = [(i * 0.25, i % 3, "ab"[i % 2], i % 2) for i in range(40)]


def write(path: Path, *, delimiter: str = ",", header: str | None = "x,k,c,y") -> Path:
    """Write the rows in some dialect."""
    lines = [] if header is None else [header.replace(",", delimiter)]
    lines += [delimiter.join(map(str, row)) for row in ROWS]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_every_delimiter_is_detected(tmp_path: Path, delimiter: str) -> None:
    """The same rows read the same, whatever stands between the fields."""
    path = write(tmp_path / "t.txt", delimiter=delimiter)

    dataset = read(path, "y")

    assert list(dataset.features.columns) == ["x", "k", "c"]
    assert dataset.features["x"].tolist() == [row[0] for row in ROWS]
    assert dataset.features["c"].tolist() == [row[2] for row in ROWS]
    assert dataset.num_rows == 40
    assert dataset.read_options["delimiter"] == delimiter


def test_options_read_the_same_table_again(tmp_path: Path) -> None:
    """What a dataset remembers suffices to read it again."""
    first = read(write(tmp_path / "t.csv", delimiter=";"), "y")

    options = dict(first.read_options)
    again = read(options.pop("path"), **options)

    pd.testing.assert_frame_equal(first.features, again.features)
    assert isinstance(again.target, pd.Series)
    assert again.target.name == "y"


def test_a_table_without_header_gets_numbered_columns(tmp_path: Path) -> None:
    """A first line of data is kept as data, and the warning says so."""
    dataset = read(write(tmp_path / "t.csv", header=None), "-1")

    assert list(dataset.features.columns) == ["column_1", "column_2", "column_3"]
    assert len(dataset.features) == 40
    assert "first line holds data" in dataset.warnings[0]


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("e,x,s,c\n" + "e,x,s,n\np,x,y,c\n" * 20, False),  # words that come again
        ("id,2019,2020\n" + "1,5,6\n2,7,8\n" * 20, True),  # years as names
        ("0,1,2\n" + "0.5,3,1\n0.7,4,0\n" * 20, True),  # as pandas writes unnamed columns
        ("?,2,a\n" + "1,2,a\n2,7,b\n" * 20, False),  # a missing cell is no name
        ("name,city\n" + "".join(f"n{i},c{i % 4}\n" for i in range(20)), True),
    ],
)
def test_headers_are_told_from_data(tmp_path: Path, text: str, header: bool) -> None:
    """Names, numbers and repeated words in the first line are judged by the lines below."""
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")

    assert read(path).read_options["header"] is header


def test_a_declared_header_wins(tmp_path: Path) -> None:
    """Detection gives way to what the user says."""
    dataset = read(write(tmp_path / "t.csv"), header=False)

    assert len(dataset.features) == 41


def test_decimal_commas_become_numbers(tmp_path: Path) -> None:
    """A European table with semicolons and decimal commas reads as numbers."""
    path = tmp_path / "t.csv"
    path.write_text("a;b\n" + "".join(f"{i},5;{i % 2}\n" for i in range(30)), encoding="utf-8")

    assert read(path, "b").features["a"].tolist() == [i + 0.5 for i in range(30)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings_keep_their_letters(tmp_path: Path, encoding: str) -> None:
    """Byte order marks are recognised; other encodings are named."""
    path = tmp_path / "t.csv"
    path.write_bytes(("stadt,y\n" + "Köln,0\nWien,1\n" * 20).encode(encoding))

    dataset = read(path, "y", encoding="latin-1" if encoding == "latin-1" else None)

    assert dataset.features["stadt"].tolist()[:2] == ["Köln", "Wien"]


def test_compressed_files_are_read(tmp_path: Path) -> None:
    """A gzip of a table reads as the table."""
    plain = write(tmp_path / "t.csv")
    packed = tmp_path / "t.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))

    pd.testing.assert_frame_equal(read(packed, "y").features, read(plain, "y").features)
    assert read(packed).name == "t"


def test_stray_quotation_marks_in_a_tsv_are_text(tmp_path: Path) -> None:
    """An unclosed mark in a tab-separated file does not swallow the lines after it."""
    path = tmp_path / "t.tsv"
    rows = ['ham\t"Happy days" I know', 'spam\t"unclosed', 'ham\t"whole "" cell"'] * 10
    path.write_text("label\ttext\n" + "\n".join(rows) + "\n", encoding="utf-8")

    texts = read(path, "label").features["text"].tolist()

    assert len(texts) == 30
    assert texts[:3] == ['"Happy days" I know', '"unclosed', 'whole " cell']


def test_trailing_delimiters_make_no_column(tmp_path: Path) -> None:
    """A delimiter at the end of each row is not a column."""
    path = tmp_path / "t.csv"
    path.write_text("x,y\n" + "1.5,0,\n2.5,1,\n" * 10, encoding="utf-8")

    dataset = read(path, "-1")

    assert list(dataset.features.columns) == ["x"]
    assert isinstance(dataset.target, pd.Series)
    assert dataset.target.tolist() == [0, 1] * 10


def test_words_for_missing_become_missing(tmp_path: Path) -> None:
    """The usual words, with or without spaces around them, are missing cells."""
    cells = ["a", " ?", "NA", "none", "null", "-", "N/A", ""]
    path = tmp_path / "t.csv"
    path.write_text("c,k,y\n" + "".join(f"{c},1,0\n" for c in cells), encoding="utf-8")

    assert read(path, "y").features["c"].isna().tolist() == [False] + [True] * 7


def test_none_is_a_class_of_a_target(tmp_path: Path) -> None:
    """A target keeps its class "none", and "-" beside "+"."""
    path = tmp_path / "t.csv"
    path.write_text("x,sign,y\n" + "1,+,none\n2,-,mild\n" * 10, encoding="utf-8")

    dataset = read(path, "y")

    assert dataset.target is not None
    assert set(dataset.target) == {"none", "mild"}
    assert set(dataset.features["sign"]) == {"+", "-"}


def test_rows_without_target_are_dropped(tmp_path: Path) -> None:
    """Rows without a target go, are counted, and leave whole-number labels whole."""
    path = tmp_path / "t.csv"
    lines = [f"{i * 0.5},{'' if i % 4 == 0 else i % 2}\n" for i in range(40)]
    path.write_text("x,y\n" + "".join(lines), encoding="utf-8")

    dataset = read(path, "y")

    assert len(dataset.features) == 30
    assert dataset.num_without_target == 10
    assert dataset.target is not None
    assert dataset.target.dtype == "int64"
    assert dataset.features.index.tolist() == list(range(30))
    assert any("10 row(s) without a value of `y`" in w for w in dataset.warnings)


def test_repeated_names_are_told_apart(tmp_path: Path) -> None:
    """Two columns of one name both stay, and the warning names the change."""
    path = write(tmp_path / "t.csv", header="x,x,x_2,y")

    dataset = read(path, "y")

    assert list(dataset.features.columns) == ["x", "x_3", "x_2"]
    assert "`x` -> `x_3`" in dataset.warnings[0]


def test_max_rows_keeps_a_seeded_sample(tmp_path: Path) -> None:
    """A sample is the same for the same seed, keeps the order, and knows the true size."""
    path = write(tmp_path / "t.csv")

    one, two, other = (read(path, "y", max_rows=15, seed=s) for s in (1, 1, 2))

    assert one.features["x"].tolist() == two.features["x"].tolist()
    assert one.features["x"].tolist() != other.features["x"].tolist()
    assert one.features["x"].is_monotonic_increasing
    assert (len(one.features), one.num_rows, one.sampled) == (15, 40, True)


def test_large_files_are_streamed_and_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file above the limit is read in pieces, with the types and count of the whole."""
    path = tmp_path / "t.csv"
    # The codes look like numbers until late in the file.
    codes = [f"0{i % 3}" if i < 4000 else "A1" for i in range(5000)]
    lines = [f"{i},{'' if i % 7 == 0 else i},{c},{i % 2}\n" for i, c in enumerate(codes)]
    path.write_text("a,b,c,y\n" + "".join(lines), encoding="utf-8")
    whole = read(path, "y")
    monkeypatch.setattr(delimited, "STREAM_ABOVE", 1000)
    monkeypatch.setattr(delimited, "_CHUNK_BYTES", 5000)
    seen: list[float] = []

    dataset = read(path, "y", max_rows=500, progress=seen.append)

    assert (dataset.num_rows, len(dataset.features), dataset.sampled) == (5000, 500, True)
    assert dataset.features.dtypes.equals(whole.features.dtypes)
    kept = whole.features.set_index("a").loc[dataset.features["a"]].reset_index()
    pd.testing.assert_frame_equal(kept, dataset.features)
    assert len(seen) > 5
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert any("500 of 5,000 rows" in w for w in dataset.warnings)


def test_a_streamed_file_that_fits_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streaming alone changes nothing where no row has to go."""
    path = write(tmp_path / "t.csv")
    whole = read(path, "y")
    monkeypatch.setattr(delimited, "STREAM_ABOVE", 10)

    streamed = read(path, "y")

    assert not streamed.sampled
    pd.testing.assert_frame_equal(streamed.features, whole.features)


def test_parquet_reads_like_csv(tmp_path: Path) -> None:
    """The same table in parquet gives the same dataset."""
    pytest.importorskip("pyarrow")
    csv = read(write(tmp_path / "t.csv"), "y")
    pd.read_csv(tmp_path / "t.csv").to_parquet(tmp_path / "t.parquet")

    dataset = read(tmp_path / "t.parquet", "y")

    pd.testing.assert_frame_equal(dataset.features, csv.features)
    assert dataset.where == str(tmp_path / "t.parquet")


def test_large_parquet_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A parquet file above the limit is read by batches."""
    pytest.importorskip("pyarrow")
    from smarttune.data import parquet

    frame = pd.DataFrame({"a": np.arange(1000), "y": np.arange(1000) % 2})
    frame.to_parquet(tmp_path / "t.parquet")
    monkeypatch.setattr(parquet, "STREAM_ABOVE", 10)
    monkeypatch.setattr(parquet, "_BATCH_ROWS", 100)

    dataset = read(tmp_path / "t.parquet", "y", max_rows=50)

    assert (dataset.num_rows, len(dataset.features), dataset.sampled) == (1000, 50, True)


@pytest.mark.parametrize("target", ["quality", "-1", "2", -1])
def test_targets_are_named_or_counted(tmp_path: Path, target: str | int) -> None:
    """A target is a name, or a position from either end."""
    path = tmp_path / "t.csv"
    path.write_text("x,quality\n" + "1.5,3\n2.5,4\n" * 10, encoding="utf-8")

    dataset = read(path, target)

    assert isinstance(dataset.target, pd.Series)
    assert dataset.target.name == "quality"


def test_one_hot_columns_become_labels() -> None:
    """One-hot targets turn to one column of labels, and the warning says so."""
    frame = pd.DataFrame({"x": range(30), "a": [1, 0, 0] * 10, "b": [0, 1, 0] * 10})
    frame["c"] = 1 - frame["a"] - frame["b"]

    dataset = read(frame, ["a", "b", "c"])

    assert isinstance(dataset.target, pd.Series)
    assert dataset.target.tolist()[:3] == ["a", "b", "c"]
    assert any("one-hot" in w for w in dataset.warnings)


def test_free_labels_stay_several_columns() -> None:
    """0/1 columns that overlap stay a frame."""
    frame = pd.DataFrame({"x": range(30), "a": [1, 1, 0] * 10, "b": [0, 1, 0] * 10})

    dataset = read(frame, ["a", "b"])

    assert isinstance(dataset.target, pd.DataFrame)
    assert list(dataset.target.columns) == ["a", "b"]


def test_a_wrong_number_of_rows_is_refused() -> None:
    """A sample of nothing cannot be asked for."""
    with pytest.raises(OptionError, match="positive number"):
        read(np.ones((5, 2)), max_rows=0)


def test_a_target_given_twice_is_refused() -> None:
    """A pair and a target beside it contradict each other."""
    with pytest.raises(DataError, match="target once"):
        read((np.ones((5, 2)), np.ones(5)), np.ones(5))


def data_file(name: str) -> Path:
    """Return a file of the development data, or skip."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    path = Path(os.environ.get("SMARTTUNE_DATA", default)) / name
    if not path.exists():
        pytest.skip(f"needs {name} of the development data (set SMARTTUNE_DATA)")
    return path


@pytest.mark.parametrize(
    ("name", "target", "rows", "columns"),
    [
        ("tabular/adult/adult-train.csv", "-1", 32561, 14),
        ("tabular/titanic.csv", "Survived", 891, 11),
        ("tabular/california_housing.csv", "median_house_value", 20640, 9),
        ("tabular/winequality-white.csv", "-1", 4898, 11),
        ("text/SMSSpamCollection.tsv", "Label", 5574, 1),
        ("timeseries/ETTh1.csv", "OT", 17420, 7),
    ],
)
def test_real_tables_read_whole(name: str, target: str, rows: int, columns: int) -> None:
    """Real files give all their rows and columns."""
    dataset = read(data_file(name), target)

    assert dataset.features.shape == (rows, columns)
    assert dataset.target is not None
    assert not dataset.target.isna().any()
