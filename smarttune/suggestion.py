"""From data or declared facts to a recommendation: measure, declare, recommend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from smarttune.errors import OptionError
from smarttune.facts import Fact, Facts
from smarttune.recommendation import Recommendation, recommend
from smarttune.rulebook import Rulebook, load_rulebook, select
from smarttune.space import Value

if TYPE_CHECKING:
    from smarttune.data import Dataset
    from smarttune.data.content import Progress
    from smarttune.data.dataset import ReadOptions
    from smarttune.fingerprint import Fingerprint


@dataclass(frozen=True)
class Suggestion:
    """A recommendation with what it was measured on.

    Attributes:
        recommendation: Every setting with its reasons.
        fingerprint: What was measured of the data; None if only facts were declared.
        dataset: The data; None if only facts were declared.
        rulebook: The rules that took part.
    """

    recommendation: Recommendation
    fingerprint: Fingerprint | None
    dataset: Dataset | None
    rulebook: Rulebook


def suggest(
    data: Any = None,
    target: str | Sequence[str] | Any = None,
    *,
    facts: Mapping[str, Value] | Facts | None = None,
    pinned: Mapping[str, Value] | None = None,
    rules: Rulebook | Sequence[str | Path] | None = None,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    problem: str | None = None,
    drop: Sequence[str] = (),
    progress: Progress | None = None,
    **source: Unpack[ReadOptions],
) -> Recommendation:
    """Recommend every hyperparameter, from data, from facts, or from both.

    Args:
        data: A file, a folder, a frame or arrays (see `smarttune.data.read`), or None if
            `facts` say enough.
        target: Name of the target column, several for multilabel, or the array itself; None
            where the data hold it, such as folders of classes.
        facts: Declared facts; they win over measured ones.
        pinned: Hyperparameters fixed by the user.
        rules: A rulebook, or folders with rules beside the built-in ones.
        select: Only these rules (codes, prefixes, names, packs).
        ignore: Without these rules.
        problem: The kind of prediction, where the guess from the target is wrong.
        drop: Columns to leave out.
        progress: Called with the share of the data that is read, from 0 to 1.
        **source: What the source itself does not tell, such as `horizon=24` of a series; see
            `smarttune.data.dataset.ReadOptions`.

    Returns:
        The recommendation, with `because` and `overruled` for every setting.

    Raises:
        SmartTuneError: If data, facts, pins or rules cannot be used.

    Example:
        >>> r = suggest(facts={"data.task": "tabular", "model.problem": "binary",
        ...                    "data.num_samples": 26000, "data.num_features": 14})
        >>> r.value("model.num_layers")
        3
    """
    return make_suggestion(
        data,
        target,
        facts=facts,
        pinned=pinned,
        rulebook=rulebook_of(rules, select, ignore),
        problem=problem,
        drop=drop,
        progress=progress,
        source=source,
    ).recommendation


def rulebook_of(
    rules: Rulebook | Sequence[str | Path] | None,
    chosen: Sequence[str] = (),
    ignored: Sequence[str] = (),
) -> Rulebook:
    """Load and select rules in the forms that the Python functions accept."""
    if not isinstance(rules, Rulebook):
        rules = load_rulebook(tuple(Path(folder).resolve() for folder in rules or ()))
    return select(rules, chosen, ignored)


def make_suggestion(
    data: Any = None,
    target: Any = None,
    *,
    facts: Mapping[str, Value] | Facts | None = None,
    pinned: Mapping[str, Value] | None = None,
    rulebook: Rulebook | None = None,
    problem: str | None = None,
    drop: Sequence[str] = (),
    progress: Progress | None = None,
    source: ReadOptions | None = None,
) -> Suggestion:
    """Like `suggest`, and keep the fingerprint and the data for what follows."""
    declared = facts if isinstance(facts, Facts) else Facts.of(facts or {})
    if data is None and not declared:
        raise OptionError(
            "suggest",
            received="neither data nor facts",
            expected="a data file, or facts such as --task tabular --num-samples 5000",
            mend="Name a file, or declare at least `--task`.",
        )
    book = rulebook if rulebook is not None else load_rulebook()
    if data is None:
        found = measured_hardware(declared) | declared
        made = recommend(_with_task_defaults(found), rules=book, pinned=pinned)
        return Suggestion(made, None, None, book)
    from smarttune.data import Dataset, read
    from smarttune.fingerprint import measure

    asked = problem or declared.value("model.problem")
    options = declared_options(declared, asked) | dict(source or {})
    if isinstance(data, Dataset):
        dataset = data
    else:
        dataset = read(data, target, progress=progress, **options)
    fingerprint = measure(
        dataset,
        problem=None if asked is None else str(asked),
        drop=drop,
        progress=progress,
    )
    return suggestion_of(dataset, fingerprint, declared, book, pinned)


# Problems that only one kind of data has, so that naming the problem says how to read.
_TASK_OF_PROBLEM = {
    "char_language_model": "text",
    "language_model": "text",
    "forecasting": "timeseries",
    "segmentation": "image",
}


def declared_options(declared: Facts, problem: object) -> dict[str, Any]:
    """How to read data of which the user declared the kind, the problem or the horizon."""
    known = {
        "task": declared.value("data.task") or _TASK_OF_PROBLEM.get(str(problem)),
        "horizon": declared.value("data.horizon"),
        "sample_rate": declared.value("data.sample_rate"),
    }
    return {name: value for name, value in known.items() if value is not None}


def suggestion_of(
    dataset: Dataset,
    fingerprint: Fingerprint,
    declared: Facts,
    book: Rulebook,
    pinned: Mapping[str, Value] | None = None,
    *,
    families: Mapping[str, Facts] | None = None,
) -> Suggestion:
    """Recommend for data that were measured already.

    Args:
        dataset: The data.
        fingerprint: Their measurement.
        declared: Facts that win over measured ones.
        book: The rules.
        pinned: Hyperparameters fixed by the user.
        families: Facts of the networks of single families.
    """
    measured = fingerprint.facts()
    made = recommend(
        measured_hardware(declared) | measured | declared,
        columns=fingerprint.column_facts(),
        families=families,
        rules=book,
        pinned=pinned,
    )
    return Suggestion(made.with_warnings(fingerprint.warnings), fingerprint, dataset, book)


def measured_hardware(declared: Facts) -> Facts:
    """This machine's hardware, unless the user declares another device."""
    from smarttune.hardware import measure_hardware

    if "hardware.device" in declared:
        return Facts()
    return measure_hardware()


def _with_task_defaults(facts: Facts) -> Facts:
    """Facts that follow from declared ones: the size of the output."""
    problem, classes = facts.value("model.problem"), facts.value("data.num_classes")
    derived: dict[str, Fact] = {}
    if problem == "binary":
        derived["data.num_classes"] = Fact(2, "derived", "a binary problem has two classes")
        derived["data.num_outputs"] = Fact(1, "derived", "one logit decides between two classes")
    elif problem == "multiclass" and classes is not None:
        derived["data.num_outputs"] = Fact(classes, "derived", "one logit per class")
    elif problem == "regression":
        derived["data.num_outputs"] = Fact(1, "derived", "one value is predicted")
    return Facts(derived) | facts
