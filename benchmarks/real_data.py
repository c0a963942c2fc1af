"""The data of `real.py`: what each system is given, and the rows that all of them share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tables import data_folder, tables

PIXEL_LEVELS = 16  # of scikit-learn's digits
BYTE = 255


class Case(NamedTuple):
    """One data set and what ranks the models on it.

    Attributes:
        name: A short name.
        kind: table, image or text.
        path: The file that SmartTune reads.
        target: The column to predict.
        problem: binary, multiclass or regression.
        metric: What is searched for on validation rows and told of test rows.
    """

    name: str
    kind: str
    path: Path
    target: str | int
    problem: str
    metric: str

    @property
    def direction(self) -> str:
        """The better end of the metric."""
        from smarttune.objectives import DIRECTIONS

        return DIRECTIONS[self.metric]


class Rows(NamedTuple):
    """The samples as people have them before they write a network.

    Attributes:
        x: A frame of columns, an array of pictures or an array of texts.
        y: The target as it is in the file.
        train: Numbers of the training rows.
        validation: Numbers of the rows that rank trials.
        test: Numbers of the rows held back.
    """

    x: Any
    y: Any
    train: Any
    validation: Any
    test: Any


def _table(name: str, scratch: Path) -> Case:
    found = {table.name: table for table in tables()}[name]
    return Case(name, "table", found.path, found.target, found.problem, found.metric)


def _digits(name: str, scratch: Path) -> Case:
    import numpy as np
    from sklearn.datasets import load_digits

    digits, path = load_digits(), scratch / "digits.npz"
    np.savez(path, x=(digits.images * (BYTE / PIXEL_LEVELS)).astype("uint8"), y=digits.target)
    return Case(name, "image", path, "y", "multiclass", "accuracy")


def _sms(name: str, scratch: Path) -> Case:
    path = data_folder().parent / "text" / "SMSSpamCollection.tsv"
    return Case(name, "text", path, "Label", "binary", "auc")


def _trec(name: str, scratch: Path) -> Case:
    path = data_folder().parent / "text" / "trec" / "train.txt"
    return Case(name, "text", path, "label", "multiclass", "accuracy")


CASES: dict[str, Callable[[str, Path], Case]] = {
    "adult": _table,
    "california": _table,
    "wine": _table,
    "digits": _digits,
    "sms": _sms,
    "trec": _trec,
}


def job_for(case: Case, seconds: float, seed: int) -> Any:
    """SmartTune's search of the data as it stands before anything is measured on networks."""
    from smarttune.facts import Facts
    from smarttune.preparation import prepare
    from smarttune.suggestion import rulebook_of

    return prepare(
        case.path,
        case.target,
        declared=Facts.of({"budget.seconds": seconds}),
        pinned={"search.objective": f"val_{case.metric}"},
        rulebook=rulebook_of(None),
        seed=seed,
        problem=case.problem,
        source={},
    ).job


def rows_of(case: Case, job: Any) -> Rows:
    """The raw samples and SmartTune's division of them."""
    import numpy as np

    dataset, parts = job.dataset, job.split
    if case.kind == "image":
        x = np.asarray(dataset.content.take(np.arange(len(dataset.target))))
    elif case.kind == "text":
        x = dataset.features.iloc[:, 0].to_numpy(str)
    else:
        x = dataset.features
    return Rows(x, dataset.target.to_numpy(), parts.train, parts.validation, parts.test)
