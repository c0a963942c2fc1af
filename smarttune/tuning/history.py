"""Trial log -> facts `history.*`, which dynamic rules read in the next pass."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median, pstdev, variance

from smarttune.facts import Fact, Facts
from smarttune.space import HYPERPARAMETERS, Dimension, Fixed, FloatRange, IntRange, SearchSpace
from smarttune.training.stopping import curve_noise
from smarttune.trials import TrialLog, TrialRecord

# ours: how many of the best trials speak for the optimum; a single best one is luck.
TOP_TRIALS = 3
# ours: share of a curve that counts as late, as in the rule that reads it.
LATE_SHARE = 0.2
# ours: a step beyond an edge that shows whether values go on there: a hundredth of a linear range,
# a factor of two on a log scale.
_BEYOND_LINEAR, _BEYOND_LOG = 0.01, 2.0
# Thirds that add up to a whole must count as one.
_ROUNDING = 1e-6


def history_facts(log: TrialLog, space: SearchSpace, *, num_validation: int | None = None) -> Facts:
    """Measure what the trials so far tell.

    Args:
        log: Finished trials.
        space: What was searched.
        num_validation: Validation rows, for the standard error of an accuracy.

    Returns:
        Only the facts that the log supports.
    """
    ranked = log.ranked()
    origin = ""
    facts: dict[str, float | int | str | bool | None] = {"history.num_trials": len(log)}
    if len(log):
        diverged = [r for r in log if r.outcome == "diverged"]
        facts["history.diverged_fraction"] = len(diverged) / len(log)
        rates = [r.values.get("optimizer.learning_rate") for r in diverged]
        facts["history.min_diverged_learning_rate"] = min(
            (float(r) for r in rates if r is not None), default=None
        )
        facts["history.out_of_memory"] = any(r.outcome == "out_of_memory" for r in log)
        noise, origin = noise_of(log)
        facts["history.noise"] = noise
        facts["history.trials_since_improvement"] = _since_improvement(log, noise or 0.0)
    if ranked:
        facts |= _values_of_best(ranked[0], space)
        facts |= _curve_facts(ranked)
        facts |= _edge(ranked[:TOP_TRIALS], space)
        if num_validation and "accuracy" in log.objective.name and ranked[0].score is not None:
            share = min(1.0, max(0.0, ranked[0].score))
            facts["history.metric_standard_error"] = math.sqrt(share * (1 - share) / num_validation)
    known = {n: v for n, v in facts.items() if v is not None}
    how = {"history.noise": origin}
    return Facts(
        {
            n: Fact(v, "measured", how.get(n, "from the trials of this run"))
            for n, v in known.items()
        }
    )


def noise_of(log: TrialLog) -> tuple[float | None, str]:
    """Standard deviation of the objective where nothing but luck differs, and whence it is known.

    From configurations that were trained several times with other seeds, where there are any.
    Else from the wobble of the best trials' curves from epoch to epoch, which is rather less:
    what exceeds it need not be real, what does not exceed it surely need not be.
    """
    groups: dict[tuple[str, int], list[float]] = defaultdict(list)
    for record in (*log, *log.repeats):
        if record.has_score and record.parent is None and record.score is not None:
            groups[repr(sorted(record.values.items())), record.max_epochs].append(record.score)
    repeated = [scores for scores in groups.values() if len(scores) > 1]
    if repeated:
        weights = [len(scores) - 1 for scores in repeated]
        spreads = [w * variance(s) for w, s in zip(weights, repeated, strict=True)]
        return math.sqrt(sum(spreads) / sum(weights)), "from trials repeated with other seeds"
    name = log.objective.name
    curves = [
        [logs[name] for logs in r.curve if math.isfinite(logs.get(name, math.nan))]
        for r in log.ranked()[:TOP_TRIALS]
    ]
    sizes = [size for curve in curves if (size := curve_noise(curve)) > 0]
    return (median(sizes) if sizes else None), "from the curves of the best trials"


def _since_improvement(log: TrialLog, noise: float) -> int:
    """Trials since the last gain beyond the noise, counted in trainings of full length."""
    longest = max(r.max_epochs for r in log)
    best: float | None = None
    since = 0.0
    for record in log:
        score = record.score if record.is_scored else None
        if score is not None and (best is None or log.objective.gain(score, best) > noise):
            best, since = score, 0.0
        else:
            trained = record.max_epochs - record.initial_epoch
            since += trained / longest if longest else 1.0
    return int(since + _ROUNDING)


def _values_of_best(best: TrialRecord, space: SearchSpace) -> dict[str, float | int | str | None]:
    rate = space.by_name.get("optimizer.learning_rate")
    facts: dict[str, float | int | str | None] = {
        **{
            f"history.{short}": best.values.get(name)
            for short, name in (
                ("learning_rate", "optimizer.learning_rate"),
                ("dropout", "model.dropout"),
                ("units", "model.units"),
                ("weight_decay", "optimizer.weight_decay"),
                ("num_layers", "model.num_layers"),
                ("augmentation", "training.augmentation"),
                ("batch_size", "training.batch_size"),
            )
        },
    }
    if rate is not None and not isinstance(rate.range, Fixed):
        facts["history.learning_rate_low"] = float(rate.range.from_unit(0.0))
        facts["history.learning_rate_high"] = float(rate.range.from_unit(1.0))
    return facts


def _curve_facts(ranked: Sequence[TrialRecord]) -> dict[str, float | int | None]:
    """What the curves of the best trials of full length tell; short rungs prove nothing."""
    facts: dict[str, float | int | None] = {}
    longest = max(r.max_epochs for r in ranked)
    long_enough = [r for r in ranked if r.max_epochs == longest and r.best_epoch][:TOP_TRIALS]
    if not long_enough:
        return facts
    facts["history.epochs"] = longest
    facts["history.best_epoch_fraction"] = median(
        (r.best_epoch or 0) / max(r.max_epochs, 1) for r in long_enough
    )
    best = long_enough[0]
    facts["history.epochs_since_best"] = best.num_epochs - (best.best_epoch or 0)
    losses = [
        logs["val_loss"] for logs in best.curve if math.isfinite(logs.get("val_loss", math.nan))
    ]
    if len(losses) > 1 and min(losses) > 0:
        facts["history.val_rise"] = losses[-1] / min(losses) - 1
        lowest = losses.index(min(losses))
        train = best.curve[lowest].get("loss", math.nan)
        if math.isfinite(train):
            facts["history.relative_gap"] = (losses[lowest] - train) / losses[lowest]
    facts |= _gradient_facts(best)
    late = losses[-max(2, math.ceil(LATE_SHARE * len(losses))) :]
    if len(late) > 2 and fmean(late) > 0:
        facts["history.late_noise"] = pstdev(late)
    return facts


def _gradient_facts(best: TrialRecord) -> dict[str, float | int | None]:
    """What the optimizer recorded of the gradients of the best trial, and how fast it was."""
    clipped = [logs["clipped_fraction"] for logs in best.curve if "clipped_fraction" in logs]
    norms = [logs["gradient_norm_p90"] for logs in best.curve if "gradient_norm_p90" in logs]
    return {
        # Where nothing is clipped the share of 0 says nothing about the rate.
        "history.clipped_fraction": fmean(clipped) if clipped and any(clipped) else None,
        "history.gradient_norm": median(norms) if norms else None,
        "history.samples_per_second": best.samples_per_second,
    }


def _edge(top: Sequence[TrialRecord], space: SearchSpace) -> dict[str, float | str | None]:
    """The hyperparameter whose best values lie nearest to an edge of its range."""
    nearest: tuple[float, str, str] | None = None
    for dimension in space.dimensions:
        if not isinstance(dimension.range, (FloatRange, IntRange)):
            continue
        positions = [
            dimension.range.to_unit(v)
            for r in top
            if (v := r.values.get(dimension.name)) is not None
        ]
        if len(positions) < min(2, len(top)):  # what one trial has may be chance
            continue
        # Both the best trial and the middle of the top must hug the same edge.
        low, high = (
            max(positions[0], median(positions)),
            max(1 - positions[0], 1 - median(positions)),
        )
        for distance, side in ((low, "low"), (high, "high")):
            if _goes_on(dimension, side) and (nearest is None or distance < nearest[0]):
                nearest = (distance, dimension.name, side)
    if nearest is None:
        return {}
    return {
        "history.edge_distance": nearest[0],
        "history.edge_hyperparameter": nearest[1],
        "history.edge_side": nearest[2],
    }


def _goes_on(dimension: Dimension, side: str) -> bool:
    """Whether there are values beyond an edge; a dropout of 0 is a limit, not an edge."""
    definition = HYPERPARAMETERS.get(dimension.name.split("[", 1)[0])
    range_ = dimension.range
    if definition is None or not isinstance(range_, (FloatRange, IntRange)):
        return True
    outwards = -1 if side == "low" else 1
    edge = range_.low if side == "low" else range_.high
    if isinstance(range_, IntRange):
        return definition.allows(range_.low - 1 if side == "low" else range_.high + 1)
    if range_.sampling == "log":
        return definition.allows(edge * _BEYOND_LOG**outwards)
    return definition.allows(edge + outwards * _BEYOND_LINEAR * (range_.high - range_.low))
