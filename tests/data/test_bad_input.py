"""Sources that cannot be read: each error says where, what, and how to mend it."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smarttune.data import read
from smarttune.errors import DataError, MissingExtraError, OptionError, SmartTuneError

BODY = "".join(f"{i * 0.5},{i % 3},{i % 2}\n" for i in range(400))
NOISE = np.random.default_rng(0).integers(0, 256, 4000, dtype="uint8").tobytes()


@pytest.mark.parametrize(
    ("name", "content", "where", "message"),
    [
        ("t.csv", b"", "t.csv", "file is empty"),
        ("t.csv", b"\n\n\n", "t.csv", "file is empty"),
        ("t.csv", b"x,k,y\n", "t.csv", "header with 3 names and no rows"),
        ("t.csv", NOISE, "t.csv", "not text"),
        ("t.csv", b"x,k,y\n" + BODY.encode() + b"1,2\n", "t.csv:402", "2 field"),
        ("t.csv", b"x,k,y\n" + BODY.encode() + b"1,2,3,4\n", "t.csv:402", "4 field"),
        ("t.csv", b"x,k,y\n1,2,3,4\n" + BODY.encode(), "t.csv:2", "4 field"),
        ("t.csv", b"x,k,y\n1,2,,9\n" + b"1,2,3,\n" * 20, "t.csv:2", "4 field"),
        ("t.csv", b"x,k,y\n" + b"1,2,3,\n" * 300 + b"1,2,3,9\n", "t.csv:302", "4 field"),
        ("t.csv", b'x,k,y\n1,"2,3\n' + BODY.encode(), "t.csv:2", "never closed"),
        (
            "t.csv",
            b"x,y\n" + b"1,2\n" * 99999 + b"caf\xe9,1\n",
            "t.csv:100001",
            "0xe9 at position 400,003",
        ),
        ("t.csv", "é,y\n".encode("latin-1") + b"1,2\n" * 9, "t.csv:1", "--encoding latin-1"),
        ("t.csv", b"y\n" + b"0\n1\n" * 20, "t.csv", "nothing but the target"),
        ("t.csv", b"x,y\n" + b"1,\n" * 20, "t.csv", "all 20 rows lack"),
        ("t.csv.gz", b"plain", "t.csv.gz", "cannot be unpacked"),
        ("t.csv.gz", gzip.compress(BODY.encode())[:300], "t.csv.gz", "cannot be unpacked"),
        ("t.xlsx", b"PK", "t.xlsx", "Save the sheet as csv"),
        ("t.parquet", b"PAR1", "t.parquet", "not a readable parquet"),
    ],
)
def test_bad_files_are_explained(
    tmp_path: Path, name: str, content: bytes, where: str, message: str
) -> None:
    """Each broken file gives an error with the place and the reason."""
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(DataError) as caught:
        read(path, "y")

    assert caught.value.where == str(tmp_path / where)
    assert message in str(caught.value)
    assert caught.value.mend.endswith((".", "?"))


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    """The nearest name of the folder is offered."""
    (tmp_path / "wine.csv").write_text("x,y\n1,2\n", encoding="utf-8")

    with pytest.raises(DataError, match=r"Did you mean `wine\.csv`"):
        read(tmp_path / "whine.csv", "y")


def test_a_folder_lists_its_tables(tmp_path: Path) -> None:
    """A folder is not a table, but may hold some."""
    (tmp_path / "wine.csv").write_text("x,y\n1,2\n", encoding="utf-8")

    with pytest.raises(DataError, match=r"It holds: `wine\.csv`"):
        read(tmp_path, "y")


@pytest.mark.parametrize(("wanted", "hint"), [("qualty", "quality"), ("QUALITY", "quality")])
def test_a_wrong_target_suggests_a_column(tmp_path: Path, wanted: str, hint: str) -> None:
    """A slip in the target's name is answered with the right one."""
    path = tmp_path / "t.csv"
    path.write_text("acid,quality\n" + "1,2\n" * 10, encoding="utf-8")

    with pytest.raises(DataError, match=f"Did you mean `{hint}`"):
        read(path, wanted)


def test_a_forbidden_file_says_how_to_permit_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal of the system becomes advice."""
    path = tmp_path / "t.csv"
    path.write_text("x,y\n1,2\n", encoding="utf-8")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)

    with pytest.raises(DataError, match="chmod u\\+r"):
        read(path, "y")


@pytest.mark.parametrize("options", [{"encoding": "klingon"}, {"delimiter": ", "}])
def test_impossible_options_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    """An encoding that does not exist and a long delimiter are the user's to mend."""
    path = tmp_path / "t.csv"
    path.write_text("x,y\n1,2\n", encoding="utf-8")

    with pytest.raises(OptionError):
        read(path, "y", **options)


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says which extra to install."""
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(MissingExtraError, match=r"smarttune\[parquet\]"):
        read(path, "y")


X = np.ones((10, 2))


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (X, np.ones(9), "y has 9 rows and X has 10"),
        (np.ones((4, 2, 2, 2, 2)), None, "shape \\(4, 2, 2, 2, 2\\)"),
        (None, None, "NoneType"),
        (5, None, "type int"),
        (np.ones((0, 3)), None, "0 rows"),
        ({"a": [1, 2], "b": [1]}, None, "different lengths"),
        ({"a": 5}, None, "single value"),
        ({"a": np.ones((2, 2))}, None, "1-d array"),
        (X, "z", "no column `z`"),
    ],
)
def test_bad_data_in_memory_are_explained(source: Any, target: Any, message: str) -> None:
    """Shapes and types that make no table are refused."""
    with pytest.raises(SmartTuneError, match=message):
        read(source, target)


def test_an_array_cannot_be_the_target_of_a_file(tmp_path: Path) -> None:
    """A file's target is a column of the file."""
    path = tmp_path / "t.csv"
    path.write_text("x,y\n1,2\n", encoding="utf-8")

    with pytest.raises(DataError, match="not the name of a column"):
        read(path, np.ones(1))
