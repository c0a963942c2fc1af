"""What came of putting a rule to the test: kept beside the rules, a file for each rule."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from smarttune.errors import RuleMistake
from smarttune.files import write_text
from smarttune.rulebook import yaml
from smarttune.rulebook.book import Rulebook
from smarttune.rulebook.checks import Expectation, Measure
from smarttune.rulebook.consequences import Frozen, Literalish
from smarttune.rulebook.load import builtin_folder

FOLDER = "evidence"

Verdict = Literal["holds", "no difference", "contradicted"]


class DataResult(Frozen):
    """What one data set showed.

    Attributes:
        data: Its name.
        effect: How much less error (seconds, epochs) the rule's side had, as a difference of
            logarithms averaged over the seeds: 0.1 is about ten percent less.
        seeds: Repetitions.
        recommended: The configuration that spoke for the rule, with its mean.
        against: The one that spoke for the other side, with its mean.
    """

    data: str
    effect: float
    seeds: int
    recommended: dict[str, Literalish]
    against: dict[str, Literalish]
    recommended_mean: float
    against_mean: float


class Result(Frozen):
    """One experiment.

    Attributes:
        date: When it ended, year-month-day.
        environment: Versions, backend and processor that it ran on.
        question: The check's question at that time.
        measure: What was compared.
        expects: What the rule led to expect.
        margin: Differences below this share count as none.
        effect: Mean of the effects of the data sets (of the seeds where there is one data set).
        low: Lower end of its 95 % interval; None where too few repetitions give none.
        high: Upper end.
        verdict: What follows for the rule.
        trainings: Networks trained, or asked of the surrogate.
        diverged: Those whose loss became infinite or exploded.
        seconds: What all of it cost.
        data: Each data set.
    """

    date: str
    environment: dict[str, str]
    question: str
    measure: Measure
    expects: Expectation
    margin: float
    effect: float
    low: float | None
    high: float | None
    verdict: Verdict
    trainings: int
    diverged: int
    seconds: float
    data: tuple[DataResult, ...] = Field(min_length=1)


class Findings(Frozen):
    """All experiments with one rule, the latest last."""

    schema_: Literal["smarttune/evidence@1"] = Field("smarttune/evidence@1", alias="schema")
    rule: str
    results: tuple[Result, ...] = Field(min_length=1)


def evidence_file(folder: Path, code: str) -> Path:
    """Where the evidence on a rule lies.

    Args:
        folder: The folder of packs, or a pack of its own.
        code: The rule's.
    """
    return folder / FOLDER / f"{code}.yaml"


def read_evidence(folder: Path, code: str) -> Findings | None:
    """What was found of a rule; None if it was never put to the test.

    Raises:
        RuleMistake: If the file is damaged.
    """
    file = evidence_file(folder, code)
    if not file.exists():
        return None
    try:
        data, _ = yaml.load(file.read_text(encoding="utf-8"), str(file))
        return Findings.model_validate(data)
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise RuleMistake(
            str(file),
            received=f"it cannot be read ({error})",
            expected="what `smarttune rules test` wrote",
            mend=f"Delete it and run `smarttune rules test {code}` again.",
        ) from error


def add_result(folder: Path, code: str, result: Result) -> Path:
    """Append an experiment to the evidence on a rule; return the file."""
    from yaml import safe_dump  # the strict reader of this package writes nothing

    earlier = read_evidence(folder, code)
    results = (*(earlier.results if earlier is not None else ()), result)
    evidence = Findings(rule=code, results=results)
    file = evidence_file(folder, code)
    file.parent.mkdir(parents=True, exist_ok=True)
    content = evidence.model_dump(mode="json", by_alias=True)
    write_text(file, safe_dump(content, sort_keys=False, width=100, default_flow_style=None))
    return file


def folder_of(book: Rulebook, code: str) -> Path:
    """The folder whose `evidence/` speaks of a rule: that of all built-in packs, or its own pack."""
    builtin, file = builtin_folder(), book.files[code]
    return builtin if file.is_relative_to(builtin) else file.parent


def evidence_on(book: Rulebook, code: str) -> Findings | None:
    """What was found of a rule of a book; None if it was never put to the test."""
    return read_evidence(folder_of(book, code), code) if code in book.files else None


def shown_effect(result: Result) -> str:
    """Effect and interval as a share: "12 % less error (3 to 21 %)"."""
    low, high = result.low, result.high
    share = 100 * (1 - math.exp(-result.effect))
    word = "less" if share >= 0 else "more"
    if low is None or high is None:
        return f"{abs(share):.3g} % {word} {result.measure}"
    ends = sorted(100 * (1 - math.exp(-end)) for end in (low, high))
    if share < 0:
        ends = sorted(-end for end in ends)
    return f"{abs(share):.3g} % {word} {result.measure} ({ends[0]:.3g} to {ends[1]:.3g} %)"


def told(result: Result) -> list[str]:
    """One experiment in lines of Markdown."""
    names = [d.data for d in result.data]
    where = f"{len(names)} tables of the surrogate" if _surrogate(names) else listed(names)
    versions = ", ".join(f"{n} {v}" for n, v in result.environment.items() if n != "platform")
    return [
        f"- {result.question} **{result.verdict.capitalize()}**: {shown_effect(result)}.",
        f"  On {where}; {cost_of(result)}. {result.date}; {versions}.",
    ]


def cost_of(result: Result) -> str:
    """Trainings, repetitions and seconds of an experiment."""
    repetitions = max(d.seeds for d in result.data)
    diverged = f", {result.diverged} diverged" if result.diverged else ""
    if _surrogate([d.data for d in result.data]):
        what = f"{repetitions} draws of the other settings, {result.trainings} answers"
        return f"{what}{diverged}"
    seconds = f"{result.seconds:.0f} s of training"
    return f"{repetitions} seeds, {result.trainings} trainings{diverged}, {seconds}"


def _surrogate(names: list[str]) -> bool:
    return all(name.startswith("lcbench-") for name in names)


def listed(names: list[str]) -> str:
    """Names as a part of a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
