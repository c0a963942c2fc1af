"""LCBench behind a model: what a dense network reaches on 17 OpenML tables, without training.

YAHPO Gym's model of LCBench (Zimmer et al. 2021, arXiv 2006.13799; Pfisterer et al. 2022, arXiv
2109.03670; both under the Apache License 2.0) answers for funnel-shaped networks under SGD with
a cosine schedule of 52 epochs. It knows no noise. Needs `pip install 'smarttune[benchmarks]'`
and the folder `lcbench` beside the other data sets.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from smarttune.errors import DataError, MissingExtraError
from smarttune.space import Value

MAX_EPOCHS = 52

_TIME, _BALANCED_ACCURACY = 0, 3  # places of the model's outputs


class Axis(NamedTuple):
    """One hyperparameter of the model, and what SmartTune calls it."""

    name: str
    canonical: str
    low: float
    high: float
    log: bool
    integer: bool


# In the order of the model's inputs, which the epoch precedes.
SPACE = (
    Axis("batch_size", "training.batch_size", 16, 512, log=True, integer=True),
    Axis("learning_rate", "optimizer.learning_rate", 1e-4, 1e-1, log=True, integer=False),
    Axis("momentum", "optimizer.momentum", 0.1, 0.99, log=False, integer=False),
    Axis("weight_decay", "optimizer.weight_decay", 1e-5, 1e-1, log=False, integer=False),
    Axis("num_layers", "model.num_layers", 1, 5, log=False, integer=True),
    Axis("max_units", "model.units", 64, 1024, log=True, integer=True),
    Axis("max_dropout", "model.dropout", 0.0, 1.0, log=False, integer=False),
)
NAMES = tuple(axis.name for axis in SPACE)

# What the model's networks are trained with, whatever rules would say.
PINNED: dict[str, Value] = {
    "optimizer.name": "sgd",
    "optimizer.schedule": "cosine",
    "optimizer.regularization": "weight_decay",
    "training.epochs": MAX_EPOCHS,
}


class TableFacts(NamedTuple):
    """What anyone knows of a table before training: rows, input columns, classes."""

    num_samples: int
    num_features: int
    num_classes: int

    def facts(self) -> dict[str, Value]:
        """The same as facts for rules."""
        return {
            "data.task": "tabular",
            "model.problem": "binary" if self.num_classes == 2 else "multiclass",  # noqa: PLR2004
            "data.num_samples": self.num_samples,
            "data.num_features": self.num_features,
            "data.num_classes": self.num_classes,
        }


# Rows, columns and classes as OpenML describes the tables behind the tasks (from memory).
FACTS = {
    3945: TableFacts(50_000, 230, 2),
    7593: TableFacts(581_012, 54, 7),
    34539: TableFacts(32_769, 9, 2),
    126025: TableFacts(48_842, 14, 2),
    126026: TableFacts(34_465, 118, 2),
    126029: TableFacts(45_211, 16, 2),
    146212: TableFacts(58_000, 9, 7),
    167104: TableFacts(690, 14, 2),
    167149: TableFacts(3_196, 36, 2),
    167152: TableFacts(2_000, 216, 10),
    167161: TableFacts(1_000, 20, 2),
    167168: TableFacts(846, 18, 4),
    167181: TableFacts(2_109, 21, 2),
    167184: TableFacts(748, 4, 2),
    167185: TableFacts(1_080, 856, 9),
    167190: TableFacts(5_404, 5, 2),
    167200: TableFacts(98_050, 28, 2),
    167201: TableFacts(67_557, 42, 3),
    168329: TableFacts(65_196, 27, 100),
    168330: TableFacts(83_733, 54, 4),
    168331: TableFacts(58_310, 180, 10),
    168335: TableFacts(130_064, 50, 2),
    168868: TableFacts(76_000, 170, 2),
    168908: TableFacts(5_418, 1_636, 2),
    168910: TableFacts(8_237, 800, 7),
    189354: TableFacts(539_383, 7, 2),
    189862: TableFacts(2_984, 144, 2),
    189865: TableFacts(5_124, 20, 2),
    189866: TableFacts(425_240, 78, 2),
    189873: TableFacts(416_188, 60, 355),
    189905: TableFacts(1_728, 6, 4),
    189906: TableFacts(2_310, 19, 7),
    189908: TableFacts(70_000, 784, 10),
    189909: TableFacts(44_819, 6, 3),
}

# Only these were looked at while rules and strategies were made; the rest is for checking.
DEVELOPMENT_TASKS = (
    *(3945, 34539, 126026, 146212, 167149, 167161, 167181, 167185, 167200),
    *(168329, 168331, 168868, 168910, 189862, 189866, 189905, 189908),
)


def predict(folder: Path, task: int, epochs: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Ask the model.

    Args:
        folder: Where `model.onnx` and `encoding.json` are.
        task: An OpenML task.
        epochs: Shape (n,).
        rows: Raw configurations, shape (n, 7), in the order of `SPACE`.

    Returns:
        The model's outputs, shape (n, 6): seconds, validation accuracy, cross-entropy and
        balanced accuracy, test cross-entropy and balanced accuracy.

    Raises:
        DataError: If the model is not there.
        MissingExtraError: If onnxruntime is not installed.
    """
    inputs = np.column_stack([epochs, rows]).astype(np.float32)
    codes = np.full((len(inputs), 1), _codes(folder)[str(task)], np.int32)
    output: np.ndarray = _session(folder).run(None, {"x_cat": codes, "x_cont": inputs})[0]
    return output


def errors_of(output: np.ndarray) -> np.ndarray:
    """Shares of 1 that are wrong: one minus balanced validation accuracy."""
    return np.asarray(1.0 - output[:, _BALANCED_ACCURACY], np.float64)


def seconds_of(output: np.ndarray) -> np.ndarray:
    """Seconds of training up to each epoch asked for."""
    return np.asarray(output[:, _TIME], np.float64)


@functools.cache
def _session(folder: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("lcbench", module="onnxruntime", extra="benchmarks") from error
    if not (folder / "model.onnx").exists():
        raise DataError(
            "lcbench",
            received=f"there is no {folder / 'model.onnx'}",
            expected="the surrogate's folder beside the other data sets",
            mend="Set SMARTTUNE_DATA to the folder that holds lcbench/, or leave it out with --on.",
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(folder / "model.onnx"), options)


@functools.cache
def _codes(folder: Path) -> dict[str, int]:
    text = (folder / "encoding.json").read_text(encoding="utf-8")
    codes: dict[str, int] = json.loads(text)["OpenML_task_id"]
    return codes


def as_row(values: Mapping[str, Any]) -> np.ndarray:
    """Values by the model's names as a raw row, inside the ranges that it knows; shape (7,)."""
    return np.array([min(a.high, max(a.low, float(values[a.name]))) for a in SPACE])
