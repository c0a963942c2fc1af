"""A search on two real data sets of each kind, beside models without a network.

    python benchmarks/modalities.py [--time 5m] [--only trec,adult] [--seed 0] [--runs FOLDER]

Prints for each data set, in the objective of its search: the recommendation and the best trial
on validation rows; on held-back rows both networks, the best trivial and the best strong
baseline; accuracy on the official test part where there is one; and a published figure with its
source where one is known that can be compared. What is absent from the data folder is skipped.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FOLDER = Path(
    os.environ.get("SMARTTUNE_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")
).resolve()


class Source(NamedTuple):
    """What a search is given, and the official test part."""

    data: Any
    target: Any = None
    options: Mapping[str, Any] = {}
    official: tuple[Any, Any] | None = None


class Case(NamedTuple):
    """One data set: the files it needs, and what is made of them in a scratch folder."""

    name: str
    kind: str
    needs: tuple[str, ...]
    make: Callable[[Path], Source]
    reference: str = "none"


def file(name: str, target: Any = None, **options: Any) -> Callable[[Path], Source]:
    """A file as it is."""
    return lambda scratch: Source(FOLDER / name, target, options)


def adult(scratch: Path) -> Source:
    folder = FOLDER / "tabular" / "adult"
    return Source(folder / "adult-train.csv", -1, {}, (folder / "adult-test.csv", -1))


def trec(scratch: Path) -> Source:
    folder = FOLDER / "text" / "trec"
    return Source(folder / "train.txt", "label", {}, (folder / "test.txt", "label"))


def mnist(scratch: Path) -> Source:
    folder = FOLDER / "images" / "mnist"
    test = folder / "t10k-images-idx3-ubyte.gz"
    return Source(folder / "train10k.npz", "y", {}, (test, None))


def digits(scratch: Path) -> Source:
    from sklearn.datasets import load_digits

    found = load_digits()
    return Source((found.images * (255 / 16)).astype("uint8"), found.target)


def spoken(target: str) -> Callable[[Path], Source]:
    """Spoken digits; takes 0 to 4 of each speaker and digit are the official test part."""

    def make(scratch: Path) -> Source:
        import numpy as np

        with np.load(FOLDER / "audio" / "fsdd_8k.npz") as archive:
            arrays = dict(archive)
        starts = np.cumsum(arrays["length"]) - arrays["length"]
        paths = []
        for name, chosen in (("train", arrays["take"] >= 5), ("test", arrays["take"] < 5)):
            rows = np.flatnonzero(chosen)
            ends = starts[rows] + arrays["length"][rows]
            pieces = [arrays["samples"][a:b] for a, b in zip(starts[rows], ends, strict=True)]
            paths.append(scratch / f"{target}-{name}.npz")
            part = {"samples": np.concatenate(pieces), "length": arrays["length"][rows]}
            np.savez(paths[-1], **part, **{target: arrays[target][rows]})
        options = {"sample_rate": 8000, "task": "audio"}
        return Source(paths[0], target, options, (paths[1], target))

    return make


SHAKESPEARE = "charlm/tinyshakespeare.txt"
CASES = (
    Case(
        "adult",
        "table",
        ("tabular/adult/adult-train.csv", "tabular/adult/adult-test.csv"),
        adult,
        "accuracy 0.8595 on the official test (FSS naive Bayes; adult.names, without missing rows)",
    ),
    Case(
        "california",
        "table",
        ("tabular/california_housing.csv",),
        file("tabular/california_housing.csv", "median_house_value"),
    ),
    Case(
        "sms", "text", ("text/SMSSpamCollection.tsv",), file("text/SMSSpamCollection.tsv", "Label")
    ),
    Case(
        "trec",
        "text",
        ("text/trec/train.txt", "text/trec/test.txt"),
        trec,
        "accuracy 0.936 on the official test (Kim 2014, with word vectors trained elsewhere)",
    ),
    Case(
        "mnist",
        "image",
        ("images/mnist/train10k.npz", "images/mnist/t10k-images-idx3-ubyte.gz"),
        mnist,
    ),
    Case("digits", "image", (), digits),
    Case("spoken-digits", "audio", ("audio/fsdd_8k.npz",), spoken("y")),
    Case("speakers", "audio", ("audio/fsdd_8k.npz",), spoken("speaker")),
    Case(
        "etth1",
        "series",
        ("timeseries/ETTh1.csv",),
        file("timeseries/ETTh1.csv", "OT", horizon=24),
    ),
    Case(
        "temperatures",
        "series",
        ("timeseries/daily-min-temperatures.csv",),
        file("timeseries/daily-min-temperatures.csv", "Temp", horizon=7),
    ),
    Case(
        "characters",
        "language",
        (SHAKESPEARE,),
        file(SHAKESPEARE, problem="char_language_model", task="text"),
        "crossentropy 1.88 in 3 minutes on a laptop processor, 1.47 on an A100 "
        "(karpathy/nanoGPT README; validation, another split)",
    ),
    Case(
        "words",
        "language",
        (SHAKESPEARE,),
        file(SHAKESPEARE, problem="language_model", task="text"),
    ),
)


def row(case: Case, source: Source, options: argparse.Namespace, folder: Path) -> list[str]:
    """Search, and return the cells of one line."""
    import smarttune

    said = dict(source.options)
    problem = said.pop("problem", None)
    run = smarttune.search(
        source.data,
        source.target,
        problem=problem,
        time=options.time,
        portfolio="none",  # the one that comes along has seen some of these tables
        seed=options.seed,
        run=folder / case.name,
        **said,
    )
    report = run.read("report.json")
    metric = report["test"]["metric"]
    better = max if report["objective"]["direction"] == "max" else min
    default = report["default"] or {"score": None}
    tested = report["test"]["default"] or {}
    cells = [
        *(case.kind, case.name, metric, str(report["num_trials"])),
        *(shown(default["score"]), shown(report["best"]["score"])),
        *(shown(tested.get(metric)), shown(report["test"]["best"][metric])),
    ]
    for role in ("trivial", "strong"):
        made = [b for b in report["baselines"] if b["role"] == role and metric in b["metrics"]]
        best = better(made, key=lambda b: b["metrics"][metric]) if made else None
        cells.append(f"{shown(best['metrics'][metric])} {best['name']}" if best else "none")
    cells += [official(run, source), case.reference]
    return [*cells, report["verdict"]]


def official(run: Any, source: Source) -> str:
    """Accuracy on the official test part."""
    if source.official is None:
        return "none"
    from smarttune.data import read

    data, target = source.official
    given = {k: v for k, v in source.options.items() if k in ("sample_rate", "task")}
    truth = read(data, target, **given).target.astype(str).str.rstrip(".")
    predicted = run.predict(data)["prediction"].astype(str)
    return f"accuracy {(predicted.to_numpy() == truth.to_numpy()).mean():.4f}"


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--time", default="5m")
    parser.add_argument("--only", default=",".join(c.name for c in CASES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, help="keep the runs here")
    options = parser.parse_args()
    by_name = {case.name: case for case in CASES}
    if strangers := sorted(set(options.only.split(",")) - set(by_name)):
        sys.exit(f"--only: `{strangers[0]}` is none of {', '.join(by_name)}.")
    print(
        "kind | data | metric | trials | default | best | test default | test best | trivial | "
        "strong | official test | reference"
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.runs or Path(scratch) / "runs"
        for name in options.only.split(","):
            case = by_name[name]
            absent = [n for n in case.needs if not (FOLDER / n).exists()]
            if absent:
                print(f"{case.kind} | {name} | skipped: {FOLDER / absent[0]} is absent", flush=True)
                continue
            try:
                *cells, verdict = row(case, case.make(Path(scratch)), options, folder)
            except Exception as error:  # noqa: BLE001 -- the other data sets still count
                traceback.print_exc()
                print(f"{case.kind} | {name} | failed: {error}", flush=True)
                continue
            print(" | ".join(cells), flush=True)
            print(f"    {verdict}", flush=True)


if __name__ == "__main__":
    main()
