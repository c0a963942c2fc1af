"""Run -> report as data: what was found, what changed, which rules held, what comes next."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from smarttune.facts import Fact, Facts
from smarttune.recommendation import Recommendation, Setting, recommend
from smarttune.report.adaptations import adaptation_rows
from smarttune.report.front import front_section
from smarttune.rulebook import Rulebook
from smarttune.space import Fixed, NormalPrior, SearchSpace, Value, show_value
from smarttune.training.range_curve import RangeTest
from smarttune.trials import TrialLog, TrialRecord
from smarttune.tuning.adapting import COUNT, adaptations, space_after
from smarttune.tuning.confirming import shown
from smarttune.tuning.finishing import winner_of
from smarttune.tuning.history import history_facts
from smarttune.tuning.run import RANGE_TESTS, Run

SCHEMA = "smarttune/report@1"

LEADERBOARD = 10  # ours: as many as fit a glance
TOP = 3  # ours: a single best trial is luck, the middle of three less so
# ours: fewer configurations than this say nothing about one of several hyperparameters.
MIN_TRIALS_FOR_VERDICT = 12
# ours: within this many spreads of the prior, the recommended region held.
HELD_WITHIN = 1.0
# ours: this close to the end of a range, better values may lie beyond.
EDGE = 0.05
CONFIRMED = "Is the winner better than the default?"
_TESTED = ("model.tested_learning_rate", "model.stable_learning_rate")


def summarize(run: Run, found: Mapping[str, Any], book: Rulebook) -> dict[str, Any]:
    """Return the report of a run as plain data.

    Args:
        run: A run whose trials have ended.
        found: What `search.finishing.finish` returned, and the seconds that were spent.
        book: The rules, for what the history makes them say.
    """
    log, recommendation = run.log, run.recommendation
    confirmation = found.get("confirmation")
    best, default = winner_of(log, confirmation), log.default()
    space, changed = recommendation.space(), adaptations(run.path)
    searched = space_after(space, changed)  # an edge that was moved is none any more
    history = history_facts(log, searched, num_validation=run.manifest.get("num_validation"))
    history |= _noise(confirmation)
    return {
        "schema": SCHEMA,
        "run": str(run.path),
        "data": {
            "source": run.manifest["data"]["where"],
            "rows": run.fingerprint.num_rows,
            "target": run.fingerprint.target,
            "problem": run.fingerprint.problem,
        },
        "objective": run.manifest["objective"],
        "strategy": run.manifest["strategy"],
        "seconds": round(float(found["seconds"]), 1),
        "num_trials": len(log),
        "num_epochs": log.num_epochs,
        "outcomes": dict(Counter(r.outcome for r in log)),
        "default": None if default is None else _trial(default),
        "best": _trial(best),
        "gain": None
        if default is None
        else log.objective.gain(best.score or 0.0, default.score or 0.0),
        "test": found["test"],
        "baselines": found["baselines"],
        "verdict": found["verdict"],
        "confirmation": confirmation,
        "extras": {**_confirmed(confirmation), **_range_tests(run), **found["extras"]},
        "export": found["export"],
        "adaptations": adaptation_rows(log, changed),
        "changes": changes(best, default, space),
        "verdicts": verdicts(log, recommendation),
        "leaderboard": [_trial(r) for r in log.ranked()[:LEADERBOARD]],
        **front_section(run, log, best.trial_id),
        "history": history.to_json(),
        "next": next_steps(recommendation, history, book),
    }


def _confirmed(confirmation: Mapping[str, Any] | None) -> dict[str, str]:
    """What training the finalists again showed, under one heading."""
    return {} if confirmation is None else {CONFIRMED: shown(confirmation)}


def _noise(confirmation: Mapping[str, Any] | None) -> Facts:
    """How far repeats of one configuration lie apart, if any were made."""
    noise = None if confirmation is None else confirmation["noise"]
    if noise is None:
        return Facts({})
    return Facts({"history.noise": Fact(noise, "measured", "from repeats of the finalists")})


def _range_tests(run: Run) -> dict[str, str]:
    """What the range tests before the first trial showed, under one heading."""
    path = run.path / RANGE_TESTS
    if not path.exists():
        return {}
    kept = json.loads(path.read_text(encoding="utf-8"))
    lines = [f"{family}: {RangeTest.from_json(test).evidence}" for family, test in kept.items()]
    rate = run.recommendation.settings.get("optimizer.learning_rate")
    if rate is not None:
        lines.append(f"The search then tried rates over {rate.range}, from {rate.value:.2g}.")
    return {"Learning-rate range test": "\n".join(lines)}


def _trial(record: TrialRecord) -> dict[str, Any]:
    return record.model_dump(mode="json", exclude={"curve", "message", "started"})


def changes(
    best: TrialRecord, default: TrialRecord | None, space: SearchSpace
) -> list[dict[str, Any]]:
    """What the winner does otherwise than the recommendation."""
    base: Mapping[str, Value] = space.default if default is None else default.values
    names = [d.name for d in space.dimensions if d.name in base or d.name in best.values]
    return [
        {"hyperparameter": n, "default": base.get(n), "best": best.values.get(n)}
        for n in names
        if n in best.values and base.get(n) != best.values.get(n)
    ]


def verdicts(log: TrialLog, recommendation: Recommendation) -> list[dict[str, Any]]:
    """Whether each rule that shaped the searched space held in this search."""
    distinct = {tuple(sorted((k, str(v)) for k, v in r.values.items())) for r in log}
    # The recommendation itself must not speak for itself.
    top = [r for r in log.ranked() if not r.is_default][:TOP]
    rows = []
    for name, setting in recommendation.settings.items():
        if not setting.because or setting.because[0].rule == "you":
            continue
        searched = not isinstance(setting.range, Fixed)
        tried = {str(r.values[name]) for r in log if name in r.values}
        if not searched or "[" in name or not tried:
            continue
        values = [r.values[name] for r in top if name in r.values]
        if len(distinct) < MIN_TRIALS_FOR_VERDICT or len(tried) < 2 or not values:
            verdict, why = "not tested", f"{len(tried)} of its values were tried"
        else:
            verdict, why = _verdict(setting, values)
        rows.append(
            {
                "rule": setting.because[0].rule,
                "hyperparameter": name,
                "recommended": setting.value,
                "best": values[0] if values else None,
                "verdict": verdict,
                "why": why,
            }
        )
    return rows


def _verdict(setting: Setting, values: Sequence[Value]) -> tuple[str, str]:
    """Judge one recommended region by where the best trials lie."""
    shown = ", ".join(show_value(v) for v in values)
    if not isinstance(setting.prior, NormalPrior):
        agree = sum(v == setting.value for v in values)
        if values[0] == setting.value or agree * 2 > len(values):
            return "held", f"the best trials chose {shown}"
        return "contradicted", f"the best trials chose {shown}"
    places = [setting.range.to_unit(v) for v in values]
    middle = median(places)
    if middle < EDGE or middle > 1 - EDGE:
        return "at the edge", f"the best trials have {shown}; better values may lie beyond"
    distance = abs(middle - setting.prior.center) / setting.prior.spread
    text = f"the best trials have {shown}"
    return ("held", text) if distance <= HELD_WITHIN else ("shifted", text)


def next_steps(
    recommendation: Recommendation, history: Facts, book: Rulebook
) -> list[dict[str, str]]:
    """What the rules say once they know how the search went."""
    yours = {
        name: setting.value
        for name, setting in recommendation.settings.items()
        if setting.because and setting.because[0].rule == "you"
    }
    # What was tested once bounds this search; whoever moves its edges must test anew.
    facts = Facts({n: f for n, f in recommendation.facts.items() if n not in _TESTED})
    again = recommend(facts | history, rules=book, pinned=yours)
    steps = [
        {"rule": a.rule, "text": a.text} for a in again.advice if book[a.rule].kind == "dynamic"
    ]
    for name, setting in again.settings.items():
        reason = setting.because[0]
        before = recommendation.settings.get(name)
        if reason.rule == "you" or book[reason.rule].kind != "dynamic" or name == COUNT:
            continue
        if before is None or (before.value, before.range) != (setting.value, setting.range):
            text = f"{reason.summary} Next: {name} = {show_value(setting.value)}"
            if not isinstance(setting.range, Fixed):
                text += f", searched over {setting.range}"
            steps.append({"rule": reason.rule, "text": text + "."})
    return steps
