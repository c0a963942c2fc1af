"""Data sets that checks name.

Some come with scikit-learn and are there for everyone. The others are read from the folder that
the environment variable `SMARTTUNE_DATA` names.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smarttune.errors import DataError, OptionError, did_you_mean

if TYPE_CHECKING:
    from smarttune.data import Dataset

LCBENCH = "lcbench"
FOLDER = "SMARTTUNE_DATA"

# ours: rows of a data set that a check trains on; enough to see the differences that rules claim,
# and few enough that a check of five data sets ends within minutes on two cores.
MOST_ROWS = 2_000

_LEVELS = 16  # of the digits' pixels
_BRIGHTEST = 255


@dataclass(frozen=True)
class NamedData:
    """One data set that checks may name.

    Attributes:
        about: What is predicted from what.
        load: Returns source and target, as `smarttune.data.read` takes them, from the folder.
        options: Further arguments of `read`.
        problem: Of the prediction, where it does not follow from the target.
    """

    about: str
    load: Callable[[Path], tuple[Any, Any]]
    options: dict[str, Any] | None = None
    problem: str | None = None


def _bundled(name: str) -> Callable[[Path], tuple[Any, Any]]:
    def load(folder: Path) -> tuple[Any, Any]:
        from sklearn import datasets

        frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
        return frame, "target"

    return load


def _digits(folder: Path) -> tuple[Any, Any]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = (digits.images * (_BRIGHTEST / _LEVELS)).astype("uint8")
    return pixels[..., None], digits.target


def _file(*path: str, target: Any) -> Callable[[Path], tuple[Any, Any]]:
    return lambda folder: (folder.joinpath(*path), target)


DATA: dict[str, NamedData] = {
    "cancer": NamedData("569 tumours, two classes of 30 measures", _bundled("breast_cancer")),
    "diabetes": NamedData(
        "442 patients, progress of an illness from 10 measures",
        _bundled("diabetes"),
        problem="regression",
    ),
    "digits": NamedData("1,797 digits as 64 columns, ten classes", _bundled("digits")),
    "digit-images": NamedData("1,797 digits as pictures of 8 x 8 pixels", _digits),
    "adult": NamedData(
        "census rows, two classes of income",
        _file("tabular", "adult", "adult-train.csv", target=-1),
    ),
    "housing": NamedData(
        "districts of California, price of houses",
        _file("tabular", "california_housing.csv", target="median_house_value"),
        problem="regression",
    ),
    "titanic": NamedData(
        "891 passengers, who survived", _file("tabular", "titanic.csv", target="Survived")
    ),
    "wine": NamedData(
        "white wines, marks from 11 measures",
        _file("tabular", "winequality-white.csv", target=-1),
        problem="multiclass",
    ),
    "mnist": NamedData(
        "handwritten digits of 28 x 28 pixels",
        _file("images", "mnist", "train10k.npz", target="y"),
    ),
    "sms": NamedData(
        "short messages, spam or not", _file("text", "SMSSpamCollection.tsv", target="Label")
    ),
    "sst2": NamedData(
        "sentences of film reviews, two classes", _file("text", "sst2", "train.txt", target="label")
    ),
    "trec": NamedData("questions, six classes", _file("text", "trec", "train.txt", target="label")),
    "spoken-digits": NamedData(
        "spoken digits, ten classes",
        _file("audio", "fsdd_8k.npz", target="y"),
        {"sample_rate": 8_000},
    ),
}


def open_data(name: str, *, most_rows: int = MOST_ROWS) -> tuple[Dataset, str | None]:
    """Read a named data set.

    Args:
        name: A key of `DATA`.
        most_rows: Rows to keep, drawn at random but always the same.

    Returns:
        The data, and the kind of prediction where it has to be told.

    Raises:
        OptionError: If there is no such name.
        DataError: If its file is not there.
    """
    from smarttune.data import read

    if name not in DATA:
        raise OptionError(
            "check: data",
            received=f"`{name}` is no data set that SmartTune knows",
            expected=f"one of {', '.join([*DATA, LCBENCH])}",
            mend=f"Correct the name, or test on your own with --data.{did_you_mean(name, DATA)}",
        )
    named = DATA[name]
    source, target = named.load(data_folder())
    if isinstance(source, Path) and not source.exists():
        raise DataError(
            name,
            received=f"there is no {source}",
            expected=f"the data set beside the others, in the folder that {FOLDER} names",
            mend=f"Set {FOLDER}, or leave the data set out with --on.",
        )
    dataset = read(source, target, max_rows=most_rows, **(named.options or {}))
    return dataset, named.problem


def data_folder() -> Path:
    """The folder with data sets that are not bundled."""
    return Path(os.environ.get(FOLDER, "data"))
