"""The best network beside models without one, on the same test rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from smarttune.baselines import Baseline, Contest, baselines_for
from smarttune.objectives import DIRECTIONS
from smarttune.tuning.comparing import compare, metrics_of
from smarttune.tuning.preparing import SearchJob


def judged(
    job: SearchJob, output: np.ndarray, encoded: Any, *, metric: str, seconds: float
) -> list[dict[str, Any]]:
    """Make every baseline of the problem and compare the network with those that matter.

    Args:
        job: The search.
        output: What the best network gave for the test rows, as `comparing.reduced` keeps it.
        encoded: Encoded targets of these rows.
        metric: What the comparison is about.
        seconds: Wall time for each baseline, about.

    Returns:
        For each baseline what it is, its test metrics, seconds and note; and `difference`,
        by how much the network is better in the metric, with its 95 % interval, for the
        strong baselines, or the best trivial one where no strong one could be made.
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
    own = metrics_of(job.codec, output, encoded)
    return [
        {
            "name": baseline.name,
            "role": baseline.role,
            "about": baseline.about,
            "library": baseline.library,
            "seconds": round(baseline.seconds, 1),
            "note": baseline.made.note,
            "metrics": dict(scores[i]),
            "difference": _difference(job, baseline, (output, encoded), metric, own, scores[i])
            if i in rivals
            else None,
        }
        for i, baseline in enumerate(made)
    ]


def _metrics(job: SearchJob, baseline: Baseline, encoded: Any) -> Mapping[str, float]:
    outputs = baseline.made.outputs
    return baseline.made.metrics if outputs is None else metrics_of(job.codec, outputs, encoded)


def _rivals(made: list[Baseline], scores: list[Mapping[str, float]], metric: str) -> set[int]:
    """Places of the baselines that the network is measured against."""
    scored = [i for i in range(len(made)) if metric in scores[i]]
    strong = {i for i in scored if made[i].role == "strong"}
    if strong or not scored:
        return strong
    best = max if DIRECTIONS[metric] == "max" else min
    return {best(scored, key=lambda i: scores[i][metric])}


def _difference(
    job: SearchJob,
    baseline: Baseline,
    network: tuple[np.ndarray, Any],
    metric: str,
    own: Mapping[str, float],
    theirs: Mapping[str, float],
) -> dict[str, Any]:
    """How much better the network is; without outputs of the rival there is no interval."""
    output, encoded = network
    if baseline.made.outputs is None:
        sign = -1.0 if DIRECTIONS[metric] == "min" else 1.0
        gain = sign * (own[metric] - theirs[metric])
        return {"gain": gain, "low": None, "high": None, "is_real": None}
    found = compare(job.codec, output, baseline.made.outputs, encoded, metric=metric, seed=job.seed)
    return {**found._asdict(), "is_real": found.is_real}


def verdict(rows: list[dict[str, Any]]) -> str:
    """What the comparison comes to, in a sentence; empty where nothing could be compared."""
    rivals = [row for row in rows if row["difference"] is not None]
    if not rivals:
        return ""
    rival = min(rivals, key=lambda row: row["difference"]["gain"])
    found, name = rival["difference"], rival["name"]
    if not found["is_real"]:
        return f"The network and {name} differ by no more than chance: take the simpler one."
    if found["gain"] > 0:
        return f"The network is better than {name}, beyond chance."
    return f"{name.capitalize()} is better than the network, beyond chance: use that instead."
