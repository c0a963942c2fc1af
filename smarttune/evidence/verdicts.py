"""What trainings of two sides say about a rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Literal

from smarttune.rulebook.checks import Check, Expectation
from smarttune.rulebook.evidence import DataResult, Verdict
from smarttune.space import Value

Side = Literal["recommended", "against"]

# ours: data sets from which on they, not the seeds, are what a finding generalizes over.
FEW_DATA_SETS = 3
CONFIDENCE = 0.95
# ours: what a training that diverged counts as, in multiples of the worst one of its data set.
DIVERGED = 2.0


@dataclass(frozen=True)
class Training:
    """One configuration, trained once.

    Attributes:
        data: The data set.
        side: For which side.
        values: The settings of that side.
        seed: The repetition.
        amount: What the check measures, more than 0; infinite where the training diverged.
        seconds: What it took.
    """

    data: str
    side: Side
    values: Mapping[str, Value]
    seed: int
    amount: float
    seconds: float


@dataclass(frozen=True)
class Finding:
    """Effect, interval and verdict.

    Attributes:
        data: Each data set.
        effect: How much less the rule's side had, as a difference of logarithms.
        interval: Its 95 % interval; None where nothing was repeated.
        verdict: What follows.
    """

    data: tuple[DataResult, ...]
    effect: float
    interval: tuple[float, float] | None
    verdict: Verdict


def judge(trainings: Sequence[Training], check: Check) -> Finding:
    """Compare the two sides.

    Sides are paired by data set and seed. The mean over data sets gets a Student interval over
    the data sets where there are at least three; with fewer, over the seeds.

    Args:
        trainings: All of them, both sides for every data set and seed.
        check: What was expected.
    """
    results: list[DataResult] = []
    pairs: list[float] = []
    for name in dict.fromkeys(t.data for t in trainings):
        here = _scored([t for t in trainings if t.data == name])
        rule, other = _speaker(here, "recommended"), _speaker(here, "against")
        seeds = [seed for seed in rule if seed in other]
        differences = [math.log(other[s].amount) - math.log(rule[s].amount) for s in seeds]
        pairs += differences
        results.append(
            DataResult(
                data=name,
                effect=fmean(differences),
                seeds=len(seeds),
                recommended=dict(rule[seeds[0]].values),
                against=dict(other[seeds[0]].values),
                recommended_mean=fmean(rule[s].amount for s in seeds),
                against_mean=fmean(other[s].amount for s in seeds),
            )
        )
    effects = [r.effect for r in results]
    independent = effects if len(effects) >= FEW_DATA_SETS else pairs
    interval = _interval(independent)
    effect = fmean(effects)
    verdict = verdict_of(effect, interval, check.expects, check.margin)
    return Finding(tuple(results), effect, interval, verdict)


def _scored(trainings: Sequence[Training]) -> list[Training]:
    """The trainings of one data set, the diverged ones with a bad but finite amount."""
    worst = max((t.amount for t in trainings if math.isfinite(t.amount)), default=1.0)
    return [
        t if math.isfinite(t.amount) else replace(t, amount=DIVERGED * worst) for t in trainings
    ]


def _speaker(trainings: Sequence[Training], side: Side) -> dict[int, Training]:
    """Seed to training of the configuration that did best for a side, on average."""
    groups: dict[str, dict[int, Training]] = {}
    for training in trainings:
        if training.side == side:
            groups.setdefault(repr(sorted(training.values.items())), {})[training.seed] = training
    return min(groups.values(), key=lambda group: fmean(math.log(t.amount) for t in group.values()))


def _interval(values: Sequence[float]) -> tuple[float, float] | None:
    if len(values) < 2:  # noqa: PLR2004 -- a spread takes two
        return None
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    half = float(stdtrit(len(values) - 1, 0.5 + CONFIDENCE / 2)) * stdev(values)
    half /= math.sqrt(len(values))
    center = fmean(values)
    return center - half, center + half


def verdict_of(
    effect: float, interval: tuple[float, float] | None, expects: Expectation, margin: float
) -> Verdict:
    """What an effect and its interval say of what was expected.

    A rule holds if the whole interval agrees with it. It is contradicted if the interval leaves
    out zero on the wrong side and, where a margin is allowed, the effect itself goes beyond it.
    Otherwise this experiment saw no difference.

    Args:
        effect: A difference of logarithms, positive where the rule's side is better.
        interval: Of the effect; None where nothing was repeated.
        expects: See `smarttune.rulebook.checks.Check`.
        margin: A share of what is measured.
    """
    if interval is None:
        return "no difference"
    low, high = interval
    allowed = math.log1p(margin)
    worse = high < 0 and effect < -allowed
    inside, outside = {
        "better": (low > 0, high < 0),
        "no_worse": (low > -allowed, worse),
        "level": (-allowed < low and high < allowed, worse or (low > 0 and effect > allowed)),
    }[expects]
    return "holds" if inside else "contradicted" if outside else "no difference"
