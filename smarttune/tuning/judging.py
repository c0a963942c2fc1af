"""The best network beside models without one, on the same test rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from smarttune.baselines import Baseline, Contest, baselines_for
from smarttune.objectives import DIRECTIONS
from smarttune.tuning.comparing import LEVEL, compare, metrics_of
from smarttune.tuning.preparing import SearchJob


def judged(
    job: SearchJob, output: np.ndarray, encoded: Any, *, metric: str, seconds: float
) -> list[dict[str, Any]]:
    """Make every baseline of the problem and compare the network with those that matter.

    Args:
        job: The search.
        output: What the best network gave for the test rows, as `TargetCodec.reduced` keeps it.
        encoded: Encoded targets of these rows.
        metric: What the comparison is about, a name of `smarttune.objectives`.
        seconds: Wall time for all baselines, about.

    Returns:
        For each baseline `name`, `role` (trivial or strong), `about`, `library`, `call` (how
        to make it), `seconds`, `note` (what went wrong or limited it), `metrics` on the test
        rows, and `difference`. That is None except for the strong baselines and the best
        trivial one, where it holds the `metric`, the values of `network` and `baseline` in
        it, the `gain` by which the network is better, `low` and `high`, the ends of its 95 %
        interval by a paired bootstrap, and `is_real`, whether that leaves out 0; these three
        are None where a baseline has a metric but no answers for single rows.
    """
    contest = Contest(
        dataset=job.dataset,
        fingerprint=job.fingerprint,
        codec=job.codec,
        split=job.split,
        settings=job.settings,
        targets=lambda rows: job.preprocessor.targets(job.dataset, rows, job.codec),
        metric=metric,
        seed=job.seed,
    )
    made = baselines_for(contest, seconds=seconds)
    scores = [_metrics(job, b, encoded) for b in made]
    rivals = _rivals(made, scores, metric)
    own = metrics_of(job.codec, output, encoded)[metric]
    return [
        {
            "name": baseline.name,
            "role": baseline.role,
            "about": baseline.about,
            "library": baseline.library,
            "call": baseline.made.call,
            "seconds": round(baseline.seconds, 1),
            "note": baseline.made.note,
            "metrics": dict(scores[i]),
            "difference": _difference(job, baseline, output, encoded, (own, scores[i]), metric)
            if i in rivals and math.isfinite(own)
            else None,
        }
        for i, baseline in enumerate(made)
    ]


def _metrics(job: SearchJob, baseline: Baseline, encoded: Any) -> Mapping[str, float]:
    outputs = baseline.made.outputs
    return baseline.made.metrics if outputs is None else metrics_of(job.codec, outputs, encoded)


def _rivals(made: list[Baseline], scores: list[Mapping[str, float]], metric: str) -> set[int]:
    """Places of the baselines that the network is measured against."""
    scored = [i for i in range(len(made)) if math.isfinite(scores[i].get(metric, math.nan))]
    trivial = [i for i in scored if made[i].role == "trivial"]
    best = max if DIRECTIONS[metric] == "max" else min
    chosen = {best(trivial, key=lambda i: scores[i][metric])} if trivial else set()
    return chosen | {i for i in scored if made[i].role == "strong"}


def _difference(  # noqa: PLR0913, PLR0917 -- two models and what they are compared by
    job: SearchJob,
    baseline: Baseline,
    output: np.ndarray,
    encoded: Any,
    values: tuple[float, Mapping[str, float]],
    metric: str,
) -> dict[str, Any]:
    """How much better the network is; without answers of the rival there is no interval."""
    own, theirs = values[0], values[1][metric]
    known = {"metric": metric, "network": own, "baseline": theirs}
    if baseline.made.outputs is None:
        sign = -1.0 if DIRECTIONS[metric] == "min" else 1.0
        return {**known, "gain": sign * (own - theirs), "low": None, "high": None, "is_real": None}
    found = compare(job.codec, output, baseline.made.outputs, encoded, metric=metric, seed=job.seed)
    return {**known, **found._asdict(), "is_real": found.is_real}


def verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say whether the network was worth it, from the rows that `judged` returned.

    Returns:
        One to three sentences: where a strong baseline is better beyond chance, to use it, and
        the call that makes it; where the network is no better than an answer that looks at no
        input, that too; what could not be compared. Empty without rows.
    """
    said = [_of_trivial(row) for row in rows if row["role"] == "trivial" and row["difference"]]
    strong = [row for row in rows if row["role"] == "strong"]
    compared = [row for row in strong if row["difference"]]
    if compared:
        best = max if DIRECTIONS[compared[0]["difference"]["metric"]] == "max" else min
        said.append(_of_strong(best(compared, key=lambda row: row["difference"]["baseline"])))
    else:
        said += [f"There is no comparison with {row['name']}: {row['note']}" for row in strong]
    return " ".join(filter(None, said))


def _of_trivial(row: Mapping[str, Any]) -> str:
    found = row["difference"]
    if found["is_real"] and found["gain"] > 0:
        return ""
    if found["is_real"] is None:
        held = "better" if found["gain"] > 0 else "no better"
        return f"The network is {held} than {row['name']} ({_values(row)})."
    return (
        f"The network is not shown to be better than {row['name']}, which looks at no input "
        f"({_values(row)}): it has learnt nothing yet that holds on new rows. Give it more time, "
        "or check the target and the inputs."
    )


def _of_strong(row: Mapping[str, Any]) -> str:
    found, name = row["difference"], row["name"]
    how = f" It took {row['seconds']:g} s: {row['call']}" if row["call"] else ""
    package = f" ({row['library']})" if row["library"] else ""
    if found["is_real"] is None:
        word = "ahead of" if found["gain"] > 0 else "behind"
        return f"The network is {word} {name}{package}: {_values(row)}."
    if not found["is_real"]:
        return (
            f"No difference between the network and {name}{package} is shown: {_values(row)}. "
            f"The simpler model may do as well.{how}"
        )
    if found["gain"] > 0:
        return f"The network is better than {name}{package}: {_values(row)}."
    return f"Use {name}{package} instead; it is better than the network: {_values(row)}.{how}"


def _values(row: Mapping[str, Any]) -> str:
    found = row["difference"]
    text = f"{found['metric']} {found['network']:.4g} against {found['baseline']:.4g}"
    if found["low"] is None:
        return text
    low, high = found["low"], found["high"]
    return f"{text} on the test rows, gain {found['gain']:.3g}, {LEVEL:.0%} interval {low:.3g} to {high:.3g}"
