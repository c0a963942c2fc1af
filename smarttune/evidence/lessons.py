"""What was good in finished runs, as rules for data like theirs.

Runs of one kind of data and one problem whose numbers of samples lie within a factor of three are
told of together. The best quarter of each run's trials spans, on the unit scale of its range, the
region where good values lay; the rule gives that region, a little wider, and the middle of the
best trials as the value to begin with.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from smarttune.errors import OptionError
from smarttune.evidence.packs import LIKE, LocalRule, add_rule, likeness, named
from smarttune.facts import Facts
from smarttune.learning import Source, sources_of
from smarttune.models.modality import of_family
from smarttune.recommendation.families import FAMILY
from smarttune.space import Choice, Dimension, FloatRange, IntRange, Value, show_value
from smarttune.space.ranges import same
from smarttune.trials import TrialRecord
from smarttune.tuning import Run

# ours: the share of a run's trials that count as good, and how many there are at least.
GOOD = 0.25
FEWEST_GOOD = 3
# ours: regions are a tenth of the range wider on either side, since few trials span too little.
MARGIN = 0.1
# ours: confidence of what one run shows, what each further run adds, and where that ends.
OF_ONE_RUN, OF_EACH_FURTHER, MOST_CONFIDENCE = 0.55, 0.1, 0.85

OPTIMIZER = "optimizer.name"
_DIGITS = 3


def learn_pack(runs: Sequence[str | Path | Run], folder: str | Path) -> list[Path]:
    """Write rules about what was good in finished runs.

    Args:
        runs: Runs or their directories.
        folder: The pack; it is begun if it is not there. What it tells of the same data
            is replaced.

    Returns:
        The files of the rules.

    Raises:
        SmartTuneError: For anything the user can mend, such as runs with too few trials.
    """
    sources = sources_of(runs)
    written = [
        add_rule(Path(folder), draft) for group in alike(sources) for draft in _drafts(group)
    ]
    if not written:
        raise OptionError(
            "runs",
            received="the runs searched nothing whose good values lie together",
            expected=f"runs with {FEWEST_GOOD} or more scored trials over several values",
            mend="Search longer, or learn from more runs.",
        )
    return written


def alike(sources: Sequence[Source]) -> list[list[Source]]:
    """Group runs by kind of data, problem and number of samples, the smallest data first."""
    groups: list[list[Source]] = []
    for source in sorted(sources, key=_rows):
        for group in groups:
            first = group[0]
            if _kind(first) == _kind(source) and _rows(source) <= LIKE * _rows(first):
                group.append(source)
                break
        else:
            groups.append([source])
    return groups


def _kind(source: Source) -> tuple[str, str]:
    return source.kind, str(source.run.fingerprint.problem)


def _rows(source: Source) -> float:
    return float(source.run.recommendation.facts.value("data.num_samples") or 1)


@dataclass(frozen=True)
class _Good:
    """One good trial of a run: its values by plain names, and the dimensions they belong to."""

    values: Mapping[str, Value]
    dimensions: Mapping[str, Dimension]


def _good(source: Source) -> Iterator[_Good]:
    """The best trials of a run."""
    records: Sequence[TrialRecord] = source.full_trials() or source.log.ranked()
    few = max(FEWEST_GOOD, math.ceil(GOOD * len(records)))
    for record in records[:few]:
        values = of_family(record.values)
        own = {n: d for n, d in source.space.by_name.items() if n in record.values}
        yield _Good(values, {n.partition("[")[0]: d for n, d in own.items()})


def _drafts(group: Sequence[Source]) -> Iterator[LocalRule]:
    """The rules that a group of runs makes: for each network and optimizer, and in general."""
    trials = [trial for source in group for trial in _good(source)]
    if len(trials) < FEWEST_GOOD:
        return
    when, facts = _likeness(group)
    settings: list[tuple[str, dict[str, Value], list[_Good]]] = [("", {}, trials)]
    for family in Counter(t.values.get(FAMILY) for t in trials):
        of_family_ = [t for t in trials if t.values.get(FAMILY) == family]
        if family is not None:
            settings.append(("model.", {FAMILY: family}, of_family_))
            for name in Counter(t.values.get(OPTIMIZER) for t in of_family_):
                if name is not None:
                    both = {FAMILY: family, OPTIMIZER: name}
                    under = [t for t in of_family_ if t.values.get(OPTIMIZER) == name]
                    settings.append(("optimizer.", both, under))
    for prefix, given, found in settings:
        lines = list(_lines(found, prefix, given))
        if lines and len(found) >= FEWEST_GOOD:
            yield _draft(group, when, facts, given, lines, len(found))


def _lines(
    trials: Sequence[_Good], prefix: str, given: Mapping[str, Value]
) -> Iterator[dict[str, Any]]:
    """Lines of `then` for the hyperparameters whose good values lie together."""
    names = dict.fromkeys(n for t in trials for n in t.dimensions)
    general = ("model.", "optimizer.")
    for name in names:
        belongs = name.startswith(prefix) if prefix else not name.startswith(general)
        if not belongs or name in given or name in (FAMILY, OPTIMIZER) or "[" in name:
            continue
        having = [t for t in trials if name in t.values and name in t.dimensions]
        if len(having) < FEWEST_GOOD:
            continue
        line = _line([t.values[name] for t in having], having[0].dimensions[name])
        if line is not None:
            active = having[0].dimensions[name].active_when
            parents = {p: list(v) for p, v in active.items() if p not in given and "[" not in p}
            yield {"hyperparameter": name, **line, **({"active_when": parents} if parents else {})}


def _line(values: Sequence[Value], dimension: Dimension) -> dict[str, Any] | None:
    """The region of some values of a hyperparameter; None where it tells nothing new."""
    range_ = dimension.range
    if isinstance(range_, Choice):
        counts = [1 + sum(same(v, w) for v in values) for w in range_.values]
        best = range_.values[counts.index(max(counts))]
        if same(best, dimension.value):
            return None
        shares = [round(c / sum(counts), _DIGITS) for c in counts]
        return {"choice": {"values": list(range_.values), "default": best, "weights": shares}}
    if not isinstance(range_, FloatRange | IntRange):
        return None
    inside = [range_.clamp(v) for v in values]
    units = sorted(range_.to_unit(v) for v in inside)
    ends = max(0.0, units[0] - MARGIN), min(1.0, units[-1] + MARGIN)
    low, middle, high = (_short(range_.from_unit(u)) for u in (ends[0], median(units), ends[1]))
    is_wide = low <= range_.low and high >= range_.high
    is_usual = abs(median(units) - range_.to_unit(dimension.value)) < MARGIN
    if not low < high or (is_wide and is_usual):
        return None
    middle = min(max(middle, low), high)
    kind = "float" if isinstance(range_, FloatRange) else "int"
    return {kind: {"low": low, "high": high, "default": middle, "sampling": range_.sampling}}


def _short(value: Value) -> Any:
    """A number without digits that mean nothing."""
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def _likeness(group: Sequence[Source]) -> tuple[tuple[str, ...], dict[str, Value]]:
    """The conditions under which data are like those of a group, and facts on which they hold."""
    rows = [_rows(source) for source in group]
    facts = group[0].run.recommendation.facts
    middle = Facts.of({"data.num_samples": round(math.sqrt(min(rows) * max(rows)))})
    when, names = likeness(facts | middle)
    known = (facts | middle).values_dict()
    return when, {name: known[name] for name in names}


def _draft(  # noqa: PLR0913 -- the parts of a rule
    group: Sequence[Source],
    when: Sequence[str],
    facts: Mapping[str, Value],
    given: Mapping[str, Value],
    lines: Sequence[Mapping[str, Any]],
    num_trials: int,
) -> LocalRule:
    data = list(dict.fromkeys(source.name for source in group))
    told = ", ".join(data)
    where = "".join(f", {show_value(v)}" for v in given.values())
    confidence = OF_ONE_RUN + OF_EACH_FURTHER * (len(group) - 1)
    return LocalRule(
        name=named("good", *given.values(), "on", *data) if given else named("good", "on", *data),
        summary=f"Where the best trials lay on {told}{where}.",
        when=(*when, *(f'{name} == "{value}"' for name, value in given.items())),
        then=tuple(lines),
        why=f"The best {num_trials} trials of {len(group)} search(es) of {told} lay there.",
        limits="Searches try few values, and other data may differ. The region is a tenth of the "
        "range wider on either side than what was seen.",
        facts={**facts, **given},
        confidence=round(min(MOST_CONFIDENCE, confidence), 2),
    )
