"""Texts from folders, tables, JSON lines and labelled lines: what is read, and what is refused."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.data import Dataset, read
from smarttune.data.texts import MOST_BYTES, TextContent, TextFiles, joined_cells
from smarttune.data.words import words
from smarttune.errors import DataError, OptionError
from smarttune.fingerprint import measure
from tests.development import development_data


def folder(root: Path, per_class: int = 12) -> Path:
    """A folder with texts of two classes."""
    for label in ("bad", "good"):
        (root / label).mkdir(parents=True)
        for i in range(per_class):
            (root / label / f"{i:02}.txt").write_text(f"text {i} is {label}", encoding="utf-8")
    return root


def texts_of(dataset: Dataset) -> list[str]:
    """All texts of a data set with contents."""
    assert dataset.content is not None
    found: list[str] = dataset.content.take(np.arange(len(dataset.content)))
    return found


def lines(count: int = 40) -> str:
    """Labelled lines of two classes, all texts different."""
    return "".join(f"{'neg' if i % 2 else 'pos'} review number {i} of them\n" for i in range(count))


def test_a_folder_tells_classes_and_texts(tmp_path: Path) -> None:
    """The subfolder is the class, and a file is read when it is asked for."""
    data = read(folder(tmp_path / "t"))

    assert (data.task, data.num_rows) == ("text", 24)
    assert data.target is not None
    assert data.target.value_counts().to_dict() == {"bad": 12, "good": 12}
    assert isinstance(data.content, TextFiles)
    for row in (0, 23):
        (tmp_path / "t" / data.features["path"].iloc[row]).write_text("later")
    assert texts_of(data)[0] == "later"
    assert data.select(np.array([23, 1])).content is not None
    assert texts_of(data.select(np.array([23, 1]))) == ["later", "text 1 is bad"]


def test_facts_of_texts_are_counted_by_hand(tmp_path: Path) -> None:
    """Lengths and words of texts are those that one counts."""
    root = folder(tmp_path / "t", per_class=10)
    (root / "good" / "09.txt").write_text("one two three four five six seven once")

    facts = measure(read(root)).facts()

    assert facts.value("data.words_per_sample") == 4
    assert facts.value("data.max_sequence_length") == 8
    # text, is, good, bad and the numbers 0 to 8, each in both classes.
    assert facts.value("data.vocabulary_size") == 13


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"caf\xe9", "not UTF-8"), (b"", "empty"), (b" \n", "empty"), (b"a\0b", "not text")],
)
def test_a_few_unusable_files_are_left_out_and_named(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    """Among many good files a broken one is skipped, counted and named."""
    root = folder(tmp_path / "t")
    (root / "good" / "05.txt").write_bytes(content)

    data = read(root)

    assert data.num_rows == 23
    told = next(w for w in data.warnings if "left out" in w)
    assert f"1 {reason}" in told
    assert os.path.join("good", "05.txt") in told


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_left_out(tmp_path: Path) -> None:
    """A file that may not be read is skipped and named."""
    root = folder(tmp_path / "t")
    (root / "bad" / "01.txt").chmod(0)

    assert any("Permission" in w for w in read(root).warnings)


def test_mostly_unreadable_folders_are_refused(tmp_path: Path) -> None:
    """Where most files are in another encoding, the error says how to name it; and it works."""
    root = folder(tmp_path / "t")
    for path in root.glob("*/*.txt"):
        path.write_bytes("äöü ß".encode("latin-1"))

    with pytest.raises(DataError, match="--encoding latin-1"):
        read(root)
    assert texts_of(read(root, encoding="latin-1"))[0] == "äöü ß"
    with pytest.raises(OptionError, match="no encoding `klingon`"):
        read(root, encoding="klingon")


def test_empty_folders_and_empty_files_are_refused(tmp_path: Path) -> None:
    """Nothing to read is an error, an empty class a warning."""
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no sample file"):
        read(tmp_path / "none")
    root = folder(tmp_path / "t")
    (root / "void").mkdir()
    assert any("void" in w for w in read(root).warnings)
    for path in root.glob("*/*.txt"):
        path.write_text("")
    with pytest.raises(DataError, match="24 of 24 files cannot be used"):
        read(root)


def test_a_file_that_vanishes_is_told_once(tmp_path: Path) -> None:
    """A text that is gone when it is needed counts as empty, with one warning."""
    data = read(folder(tmp_path / "t"))
    (tmp_path / "t" / "bad" / "00.txt").unlink()

    with pytest.warns(UserWarning, match="can no longer be read") as told:
        assert texts_of(data)[0] == ""
        assert texts_of(data)[0] == ""

    assert len(told) == 1


def test_of_a_very_long_file_the_beginning_is_read(tmp_path: Path) -> None:
    """A file is cut after a megabyte, even in the middle of a character."""
    root = folder(tmp_path / "t")
    (root / "bad" / "00.txt").write_text("é" * MOST_BYTES, encoding="utf-8")

    (first, *_) = texts_of(read(root))

    assert set(first) == {"é"}
    assert len(first) == MOST_BYTES // 2


def test_jsonl_gives_a_column_for_each_key(tmp_path: Path) -> None:
    """Objects become rows, absent keys missing cells, packed or not."""
    rows = [{"text": f"a text {i} here", "label": i % 2} for i in range(30)]
    rows[3] = {"text": "no label here \ud800"}
    rows[4]["extra"] = "only here"
    body = "\n".join(map(json.dumps, rows)) + "\n\n"
    (tmp_path / "t.jsonl").write_text(body)
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(body.encode()))

    plain, packed = (read(tmp_path / name, "label") for name in ("t.jsonl", "t.jsonl.gz"))

    assert list(plain.features) == ["text", "extra"]
    assert (len(plain.features), plain.num_without_target) == (29, 1)
    assert plain.features["extra"].notna().sum() == 1
    pd.testing.assert_frame_equal(plain.features, packed.features)
    assert measure(plain, drop=["extra"]).task == "text"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "a"', "no JSON"),
        (b"[1, 2]", "holds a list"),
        (b'{"text": {"a": 1}, "label": 1}', "`text` holds an object"),
        (b'{"text": ["a"], "label": 1}', "`text` holds a list"),
    ],
)
def test_a_broken_json_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    """The error gives the number of the line that is no plain object."""
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"text": "a", "label": 1}\n' * 2 + line + b"\n")

    with pytest.raises(DataError) as caught:
        read(path, "label")

    assert caught.value.where == f"{path}:3"
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "file is empty"), (b"\n\n", "file is empty"), (b'{"t": "caf\xe9"}\n', "--encoding")],
)
def test_empty_or_undecodable_jsonl_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    """A file without objects, or in another encoding, is an error with a remedy."""
    (tmp_path / "t.jsonl").write_bytes(content)

    with pytest.raises(DataError, match=message):
        read(tmp_path / "t.jsonl", "t")


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    """A packed file that ends too early is an error, whatever its lines."""
    whole = gzip.compress(json.dumps({"text": "abc " * 99, "y": 1}).encode() * 50)
    (tmp_path / "t.jsonl.gz").write_bytes(whole[:-20])

    with pytest.raises(DataError, match="cannot be unpacked"):
        read(tmp_path / "t.jsonl.gz", "y")


def test_labelled_lines_become_two_columns(tmp_path: Path) -> None:
    """The first word of a line is its label, packed or not; lines without a text are told."""
    body = lines() + "pos\n"
    (tmp_path / "t.txt").write_text(body)
    (tmp_path / "t.txt.gz").write_bytes(gzip.compress(body.encode()))

    plain, packed = (read(tmp_path / name, "label") for name in ("t.txt", "t.txt.gz"))

    assert plain.features["text"].iloc[1] == "review number 1 of them"
    assert plain.target is not None
    assert plain.target.value_counts().to_dict() == {"neg": 20, "pos": 20}
    assert any("1 line(s) without" in w and "41" in w for w in plain.warnings)
    pd.testing.assert_frame_equal(plain.features, packed.features)


def test_strange_bytes_in_labelled_lines_are_told(tmp_path: Path) -> None:
    """A line that is not UTF-8 is read as Latin-1 and told, or refused if one insists."""
    (tmp_path / "t.txt").write_bytes(lines().encode() + b"pos caf\xe9 au lait\n")

    data = read(tmp_path / "t.txt", "label")

    assert data.features["text"].iloc[-1] == "café au lait"
    assert any("1 line(s) are not UTF-8" in w for w in data.warnings)
    with pytest.raises(DataError, match="not UTF-8"):
        read(tmp_path / "t.txt", "label", encoding="utf-8")


@pytest.mark.parametrize(
    "body",
    ["x,y\n" + "1,2\n" * 40, "x\ty\n" + "1\t2\n" * 40],
    ids=["commas", "tabs"],
)
def test_tables_are_no_labelled_lines(tmp_path: Path, body: str) -> None:
    """A txt file with a table stays a table."""
    (tmp_path / "t.txt").write_text(body)

    assert list(read(tmp_path / "t.txt", "y").features) == ["x"]


@pytest.mark.parametrize(
    ("name", "target", "rows", "classes"),
    [
        ("text/sst2/train.txt", "label", 6920, 2),
        ("text/trec/train.txt", "label", 5452, 6),
        ("text/SMSSpamCollection.tsv", "Label", 5574, 2),
    ],
)
def test_real_texts_are_understood(name: str, target: str, rows: int, classes: int) -> None:
    """Well-known collections give the rows and classes that are known of them."""
    found = measure(read(development_data(name), target))

    assert (found.task, found.num_rows_seen, len(found.classes)) == ("text", rows, classes)
    assert found.facts().value("data.words_per_sample") > 5


def test_cells_of_a_row_are_joined() -> None:
    """Several columns make one text; a missing cell leaves no blank."""
    frame = pd.DataFrame({"a": ["x", None, "z"], "b": ["1", "2", None]})

    assert joined_cells(frame) == ["x 1", "2", "z"]
    assert TextContent(frame).select(np.array([2, 0])).take(np.array([1])) == ["x 1"]


def test_the_digest_tells_texts_apart() -> None:
    """Another text, another order and other borders between texts give another digest."""
    cells = [["ab", "c"], ["a", "bc"], ["c", "ab"], ["ab", "c "]]

    assert len({TextContent(pd.DataFrame({"t": c})).digest() for c in cells}) == 4


@given(st.text())
def test_words_hold_no_blank_and_no_capital(text: str) -> None:
    """Whatever the text, words are lowered, without ASCII punctuation, and valid UTF-8."""
    for word in words(text):
        assert word
        assert word.decode() == word.decode().strip(" \t\n\r\x0b\x0c")
        assert not any(
            b"A"[0] <= c <= b"Z"[0] or c in b"!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~" for c in word
        )
