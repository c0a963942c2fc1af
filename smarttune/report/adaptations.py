"""What a search changed on its way, why, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smarttune.space import Fixed, show_value
from smarttune.trials import TrialLog
from smarttune.tuning.adapting import ADAPTED, DECLINED, UNDONE, ranges


def adaptation_rows(log: TrialLog, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each change, in order.

    Args:
        log: The trials.
        events: The events of the run that tell of changes.

    Returns:
        Rule, hyperparameter, the ranges before and after as text, `because` (the conditions
        with the values that made them hold), `num_trials` before it, `best_before` it,
        `best_after` and `num_under` of the trials that were proposed under it, and `state`.
    """
    return [_row(log, events, i) for i, e in enumerate(events) if e["event"] != UNDONE]


def _row(log: TrialLog, events: Sequence[Mapping[str, Any]], place: int) -> dict[str, Any]:
    event = events[place]
    shared = {
        "rule": event["rule"],
        "hyperparameter": event["hyperparameter"],
        "num_trials": event["num_trials"],
        "because": "; ".join(event.get("trace", ())),
    }
    if event["event"] == DECLINED:
        unknown = {"before": "", "after": "", "best_before": None, "best_after": None}
        return {**shared, **unknown, "num_under": 0, "state": f"not done: {event['text']}"}
    before, after = (show_value(r.value) if isinstance(r, Fixed) else str(r) for r in ranges(event))
    ender = _ender(events[place + 1 :], event["hyperparameter"])
    end = len(log) if ender is None else ender["num_trials"]
    under = [r for r in log[event["num_trials"] : end] if r.parent is None]
    best = TrialLog(log.objective, under).ranked()
    return {
        **shared,
        "before": before,
        "after": after,
        "best_before": event["best_score"],
        "best_after": best[0].score if best else None,
        "num_under": len(under),
        "state": _state(ender),
    }


def _ender(later: Sequence[Mapping[str, Any]], hyperparameter: str) -> Mapping[str, Any] | None:
    """The event after which a change no longer holds."""
    touching = (e for e in later if e["hyperparameter"] == hyperparameter)
    return next((e for e in touching if e["event"] in (ADAPTED, UNDONE)), None)


def _state(ender: Mapping[str, Any] | None) -> str:
    if ender is None:
        return "holds"
    what = "taken back" if ender["event"] == UNDONE else f"replaced by {ender['rule']}"
    return f"{what} after trial {ender['num_trials']}"
