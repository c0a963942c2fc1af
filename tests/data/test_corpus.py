"""Running text: read, counted, measured, refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.data import corpus, read
from smarttune.data.corpus import CorpusContent
from smarttune.data.words import words
from smarttune.errors import DataError, OptionError
from smarttune.fingerprint import measure

LINE = "The quick fox, tired of dogs, sleeps.\n"


def content_of(path: Path) -> CorpusContent:
    """A text file or folder as a corpus."""
    found = read(path, task="text").content
    assert isinstance(found, CorpusContent)
    return found


def as_text(content: CorpusContent) -> str:
    """The characters of a corpus, back from their numbers."""
    return "".join(map(chr, content.characters.codes.tolist()))


@given(
    text=st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), min_size=1)
)
def test_characters_and_words_are_those_of_the_text(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever the script, and wherever the reading pauses."""
    text = text.removeprefix("\ufeff") or "x"
    path = tmp_path_factory.mktemp("corpus") / "a.txt"
    path.write_bytes(text.encode())
    piece, corpus._PIECE = corpus._PIECE, 3
    try:
        content = content_of(path)
        assert as_text(content) == text
        names = content.words.names
        assert names is not None
        assert [names[i].encode() for i in content.words.codes] == words(text)
    finally:
        corpus._PIECE = piece
    assert content.num_chars == len(text)


def test_line_ends_and_byte_order_mark_are_no_characters(tmp_path: Path) -> None:
    """Windows line ends count as one character, the mark at the start as none."""
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")

    assert as_text(content_of(path)) == "one\ntwo\n"


def test_large_corpora_are_mapped_and_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit of memory the same numbers lie in a file."""
    path = tmp_path / "a.txt"
    path.write_text(LINE * 30)
    small = content_of(path)
    plain, plain_words = small.characters.codes, small.words.codes
    monkeypatch.setattr(corpus, "_MOST_BYTES", 100)

    large = content_of(path)

    assert isinstance(large.characters.codes, np.memmap)
    assert plain.dtype == np.uint8
    np.testing.assert_array_equal(large.characters.codes, plain)
    np.testing.assert_array_equal(large.words.codes, plain_words)


def test_compressed_file_reads_like_the_plain_one(tmp_path: Path) -> None:
    """The suffix .gz is enough."""
    with gzip.open(tmp_path / "a.txt.gz", "wt") as file:
        file.write(LINE)

    assert as_text(content_of(tmp_path / "a.txt.gz")) == LINE


def test_folder_is_one_text_in_the_order_of_names(tmp_path: Path) -> None:
    """Files follow each other with a line break between them; broken ones are named."""
    (tmp_path / "b.txt").write_text("second")
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe\xff")

    data = read(tmp_path, task="text")

    assert isinstance(data.content, CorpusContent)
    assert as_text(data.content) == "first\nsecond"
    assert any("1 file(s) left out (not UTF-8): `c.txt`" in w for w in data.warnings)


@pytest.mark.parametrize(
    ("raw", "received", "mend"),
    [
        (b"", "empty", "how it was written"),
        (b"caf\xe9 au lait", "not UTF-8", "--encoding latin-1"),
        (b"PK\x03\x04\0\0", "not text", "--encoding"),
    ],
)
def test_files_that_hold_no_text_are_refused(
    raw: bytes, received: str, mend: str, tmp_path: Path
) -> None:
    """The error says what is wrong with the file, and what to do."""
    path = tmp_path / "a.txt"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=received) as caught:
        read(path, task="text")

    assert mend in str(caught.value)


def test_named_encoding_is_used(tmp_path: Path) -> None:
    """A text in Latin-1 reads when the user says so; an unknown name is refused."""
    path = tmp_path / "a.txt"
    path.write_bytes("café".encode("latin-1"))

    data = read(path, task="text", encoding="latin-1")

    assert isinstance(data.content, CorpusContent)
    assert as_text(data.content) == "café"
    with pytest.raises(OptionError, match="no encoding `latin-99`"):
        read(path, task="text", encoding="latin-99")


def test_short_text_is_refused_when_it_is_to_be_learnt_from(tmp_path: Path) -> None:
    """As a prompt it is fine; as a corpus it is not."""
    path = tmp_path / "a.txt"
    path.write_text(LINE)
    data = read(path, task="text")
    with pytest.raises(DataError, match="a text of 38 characters"):
        measure(data)


def test_facts_count_characters_and_words_that_recur(tmp_path: Path) -> None:
    """Every character counts; a word that comes once does not."""
    path = tmp_path / "a.txt"
    path.write_text(LINE * 100 + "unique")

    found = measure(read(path, task="text"))

    assert found.problem == "char_language_model"
    assert found.content["data.corpus_chars"] == len(LINE) * 100 + 6
    assert found.content["data.vocabulary_size"] == 7
    assert found.content["data.num_samples"] == 39
    assert measure(read(path, task="text"), problem="language_model").target == "next word"


def test_other_problems_are_refused_for_running_text(tmp_path: Path) -> None:
    """A class needs a target, and the error says so."""
    path = tmp_path / "a.txt"
    path.write_text(LINE * 100)
    with pytest.raises(OptionError, match="folder per class"):
        measure(read(path, task="text"), problem="binary")


def test_changed_text_has_another_digest(tmp_path: Path) -> None:
    """One letter is enough."""
    path = tmp_path / "a.txt"
    path.write_text(LINE)
    before = content_of(path).digest()
    path.write_text(LINE.replace("fox", "fix"))

    assert content_of(path).digest() != before


def test_stretches_are_read_but_never_drawn(tmp_path: Path) -> None:
    """Samples of 100 characters join to the text; a part of them is refused."""
    path = tmp_path / "a.txt"
    path.write_text(LINE * 9)
    content = content_of(path)

    assert "".join(content.take(np.arange(len(content)))) == LINE * 9
    assert content.select(np.arange(len(content))) is content
    with pytest.raises(DataError, match="2 of 4 stretches"):
        content.select(np.array([0, 2]))
