"""Portfolios: configurations that were good elsewhere, in the order in which to try them.

A portfolio keeps what each of some configurations lost on each of some tasks. What
is tried first is decided where it is used: greedily, so that each further
configuration helps most where those before it did badly, with tasks counting for more
the more they resemble the data at hand.

Sources: the greedy choice is that of Xu, Hoos and Leyton-Brown (2010), "Hydra", and of
Feurer et al. (2022), "Auto-Sklearn 2.0", section 3.1 (from memory); nearness by a few
simple facts is what FLAML does (Wang et al. 2021).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from smarttune.errors import DataError, SmartTuneError
from smarttune.facts import Facts
from smarttune.files import write_text
from smarttune.recommendation import Recommendation
from smarttune.rulebook import yaml as strict_yaml
from smarttune.rulebook.load import builtin_folder
from smarttune.space import SearchSpace, Value

SCHEMA: Literal["smarttune/portfolio@1"] = "smarttune/portfolio@1"

# Facts by which tasks are compared; all counts, so their logarithms are.
COMPARED = ("data.num_samples", "data.num_features", "data.num_classes")
PROBLEM = "model.problem"

# ours: a task that differs tenfold in one fact counts about a third of one that does not
# differ at all.
WIDTH = 1.0

# ours: another kind of prediction, or a fact that only one side knows, is as far as tenfold
# in a count.
STRANGENESS = 1.0

# ours: no task counts for less than this share of the nearest: facts as few as these say
# little of what a network needs.
LEAST_WEIGHT = 0.25

# Where the portfolios that come with SmartTune lie, beside its rules.
FOLDER = "portfolios"

# What a search may be asked for instead of the path of a portfolio.
AUTO, NONE = "auto", "none"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(_Model):
    """Data on which the configurations were tried.

    Args:
        name: What to call it.
        facts: What was known of it before training.
        about: Where its scores come from: run, digest of the data, objective, scale.
    """

    name: str
    facts: dict[str, Value] = Field(default_factory=dict)
    about: dict[str, str] = Field(default_factory=dict)


class Candidate(_Model):
    """A configuration and what it lost.

    Args:
        values: Hyperparameters by canonical name.
        regrets: For each task, 0 for the best known score and 1 for that of a middling
            configuration; None where it was not tried or failed.
        origin: The task whose run brought it; "" if none did.
    """

    values: dict[str, Value]
    regrets: tuple[FiniteFloat | None, ...]
    origin: str = ""


class Portfolio(_Model):
    """Configurations with what they lost on the tasks.

    Args:
        name: Of the portfolio.
        summary: One sentence.
        about: How it was made: data, scores, command, versions, date.
        requires: Facts and recommended settings that must hold for it to be of use, such as
            the kind of data or the optimizer.
        tasks: The data.
        candidates: The configurations.
    """

    schema_: Literal["smarttune/portfolio@1"] = Field(SCHEMA, alias="schema")
    name: str
    summary: str
    about: dict[str, str]
    requires: dict[str, Value] = Field(default_factory=dict)
    tasks: tuple[Task, ...]
    candidates: tuple[Candidate, ...]

    @model_validator(mode="after")
    def _one_regret_for_each_task(self) -> Self:
        for number, candidate in enumerate(self.candidates, start=1):
            if len(candidate.regrets) != len(self.tasks):
                raise ValueError(
                    f"candidate {number} has {len(candidate.regrets)} regrets for "
                    f"{len(self.tasks)} tasks"
                )
        return self

    @property
    def regrets(self) -> NDArray[np.float64]:
        """Shape (candidates, tasks); infinite where a candidate was not tried."""
        rows = [[math.inf if r is None else r for r in c.regrets] for c in self.candidates]
        return np.array(rows, dtype=float).reshape(len(self.candidates), len(self.tasks))

    def ordered(self, facts: Facts | None, num: int) -> list[dict[str, Value]]:
        """Return the configurations to try, at most `num`, the first one first.

        Neither the order of tasks nor that of candidates plays a part: of candidates that
        help alike, the one whose values come first as text is taken.

        Args:
            facts: What is known of the data at hand; None lets all tasks count alike.
            num: How many to return at most.
        """
        by_text = sorted(self.candidates, key=lambda c: json.dumps(c.values, sort_keys=True))
        table = self.model_copy(update={"candidates": tuple(by_text)}).regrets
        weights = nearness(facts, self.tasks) if facts is not None else None
        return [dict(by_text[i].values) for i in greedy(table, num, weights)]

    def fitted(self, space: SearchSpace) -> Portfolio:
        """The same portfolio with only what fits a space, moved into it."""
        moved = ((fitting(c.values, space), c) for c in self.candidates)
        kept = (c.model_copy(update={"values": v}) for v, c in moved if v is not None)
        return self.model_copy(update={"candidates": tuple(kept)})

    def suits(self, recommendation: Recommendation) -> bool:
        """Whether what it requires is known of the data or recommended."""
        facts, value = recommendation.facts, recommendation.value
        return all(
            (facts.value(name) if name in facts else value(name)) == wanted
            for name, wanted in self.requires.items()
        )


def greedy(
    regrets: NDArray[np.float64], num: int, weights: NDArray[np.float64] | None = None
) -> list[int]:
    """Choose rows one by one, each lowering the mean over columns of the least regret most.

    Of rows that lower it alike, the one with the lower mean itself is chosen, then the earlier
    one. An untried configuration counts as the worst one tried.

    Args:
        regrets: Shape (candidates, tasks); infinite where unknown.
        num: How many rows to choose at most.
        weights: What each task counts, shape (tasks,); alike if None.

    Returns:
        Row numbers in the order of their choice; none that improves nothing.
    """
    known = regrets[np.isfinite(regrets)]
    if not known.size:
        return []
    table = np.where(np.isfinite(regrets), regrets, known.max())
    counts = np.ones(table.shape[1]) if weights is None else weights
    own = _sums(table, counts)
    least = np.full(table.shape[1], np.inf)
    chosen: list[int] = []
    while len(chosen) < min(num, len(table)):
        sums = _sums(np.minimum(table, least), counts)
        best = min(range(len(table)), key=lambda i: (sums[i], own[i], i))
        if chosen and sums[best] >= math.fsum(least * counts):
            break
        chosen.append(best)
        least = np.minimum(least, table[best])
    return chosen


def _sums(table: NDArray[np.float64], counts: NDArray[np.float64]) -> list[float]:
    """Weighted sums over the columns, rounded once, so that their order is of no account."""
    return [math.fsum(row) for row in table * counts]


def nearness(facts: Facts, tasks: Sequence[Task]) -> NDArray[np.float64]:
    """Return what each task counts for data with these facts, from `LEAST_WEIGHT` to 1."""
    here = {name: facts.value(name) for name in (*COMPARED, PROBLEM)}
    squares = np.array([_distance(here, task.facts) for task in tasks])
    near = np.exp(-(squares - squares.min(initial=math.inf)) / WIDTH**2)
    weights: NDArray[np.float64] = np.maximum(near, LEAST_WEIGHT)
    return weights


def _distance(one: Mapping[str, Any], other: Mapping[str, Value]) -> float:
    """Squared distance in decades over the facts that one side or both know."""
    total = 0.0
    for name in COMPARED:
        a, b = one.get(name), other.get(name)
        if a and b:
            total += math.log10(float(a) / float(b)) ** 2
        elif a or b:
            total += STRANGENESS**2
    # A portfolio that names no problem was made for any.
    strange = other.get(PROBLEM) is not None and one.get(PROBLEM) != other[PROBLEM]
    return total + (STRANGENESS**2 if strange else 0.0)


def fitting(values: Mapping[str, Value], space: SearchSpace) -> dict[str, Value] | None:
    """Return a configuration of `space` close to `values`; None where a choice is not open.

    What the space does not have is left out, what `values` do not say is as recommended, and
    numbers outside a range move to its edge. A dimension of one family, such as
    `model.units[rnn]`, goes by its plain name.
    """
    moved: dict[str, Value] = {}
    for dimension in space.dimensions:
        if not space.is_active(dimension.name, moved):
            continue
        value = values.get(dimension.name.partition("[")[0], dimension.value)
        moved[dimension.name] = nearest = dimension.range.clamp(value)
        is_open = dimension.range.contains(value)
        if not is_open and any(isinstance(v, (str, bool)) for v in (value, nearest)):
            return None
    return moved


class Start(NamedTuple):
    """A configuration to try early.

    Attributes:
        portfolio: Where it comes from.
        values: A configuration of the space at hand.
    """

    portfolio: str
    values: dict[str, Value]


def starts(
    portfolios: Sequence[Portfolio],
    recommendation: Recommendation,
    space: SearchSpace,
    num: int,
) -> list[Start]:
    """Return what to try after the recommendation, several portfolios taking turns.

    Args:
        portfolios: Those that suit.
        recommendation: Its facts say which tasks resemble the data.
        space: The space searched.
        num: How many to return at most.

    Returns:
        Distinct configurations of the space, none of them the recommended one.
    """
    found: list[Start] = []
    tried = [space.default]
    # One more of each than is wanted, for one may be the recommendation itself.
    queues = [(p.name, p.fitted(space).ordered(recommendation.facts, num + 1)) for p in portfolios]
    for place in range(num + 1):
        for name, queue in queues:
            if place < len(queue) and len(found) < num and queue[place] not in tried:
                tried.append(queue[place])
                found.append(Start(name, queue[place]))
    return found


def portfolios_for(asked: str | Path, recommendation: Recommendation) -> list[Portfolio]:
    """The portfolios that a search shall use.

    Args:
        asked: `auto` for those that come with SmartTune and suit the recommendation, `none`,
            or a file, which is used whatever it requires.
        recommendation: Of the search.

    Raises:
        DataError: If a file cannot be read or is no portfolio.
    """
    if asked == NONE:
        return []
    if asked != AUTO:
        return [read_portfolio(Path(asked))]
    files = sorted((builtin_folder() / FOLDER).glob("*.yaml"))
    return [p for p in map(read_portfolio, files) if p.suits(recommendation)]


def read_portfolio(path: Path) -> Portfolio:
    """Read a portfolio file.

    Raises:
        DataError: If it cannot be read or is no portfolio.
    """
    try:
        content, _ = strict_yaml.load(path.read_text(encoding="utf-8"), str(path))
        return Portfolio.model_validate(content)
    except (OSError, ValueError, SmartTuneError) as error:
        raise DataError(
            str(path),
            received=f"it cannot be read as a portfolio: {_said(error)}",
            expected=f"a file that `smarttune learn` wrote ({SCHEMA})",
            mend="Write it anew with `smarttune learn`.",
        ) from error


def _said(error: Exception) -> str:
    """What is wrong, on one line."""
    if isinstance(error, SmartTuneError):
        return f"{error.received} ({error.where})"
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place}: {first['msg']}" if place else str(first["msg"])
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error).partition("\n")[0]


def write_portfolio(path: Path, portfolio: Portfolio) -> None:
    """Write a portfolio file, whole or not at all."""
    data = portfolio.model_dump(mode="json", by_alias=True)
    write_text(path, yaml.safe_dump(data, sort_keys=False, width=100, default_flow_style=None))
