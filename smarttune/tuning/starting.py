"""What a search tries first: the recommendation, then what was good on other data.

What was chosen is written into the run before the first trial, so that a search goes on with
the same configurations, whatever becomes of the files that they came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from smarttune.errors import OptionError
from smarttune.portfolio import AUTO, NONE, portfolios_for, starts
from smarttune.space import Value, show_value
from smarttune.trials import TrialRecord
from smarttune.tuning.budget import Budget
from smarttune.tuning.preparing import SearchJob
from smarttune.tuning.run import Run

OnEvent = Callable[[Mapping[str, Any]], None]

# The strategy that tries the recommendation and the portfolio, and then ends.
ALONE = "portfolio"

# ours: with benchmarks/portfolio.py four bring the regret on tables left out to 0.12, and four
# more to 0.08, where random search in their place stays at 0.11. We stop at four all the same:
# the gain gets small, it was measured against no search that learns, and other data than the
# portfolio's need room of their own.
MOST_STARTS = 4

# ours: of a search's trials no more than one in four is spent on other data's favourites.
LARGEST_SHARE = 0.25

TITLE = "Configurations that were good on other data"


def starting(
    job: SearchJob, asked: str | Path, strategy: str, budget: Budget
) -> list[dict[str, Any]]:
    """Choose what is tried after the recommendation.

    Args:
        job: The search.
        asked: `auto`, `none` or a file.
        strategy: Of the search.
        budget: What the search may spend.

    Returns:
        For each configuration its `portfolio` and `values`, fit for JSON.

    Raises:
        DataError: If a file is no portfolio.
        OptionError: If something was asked for and nothing fits.
    """
    # A grid is a list that the user knows beforehand.
    if strategy == "grid" and asked == AUTO:
        return []
    found = starts(
        portfolios_for(asked, job.recommendation),
        job.recommendation,
        job.space,
        _most(job, asked, strategy, budget),
    )
    if not found and (strategy == ALONE or asked not in (AUTO, NONE)):
        raise OptionError(
            "--portfolio",
            received=f"`{asked}`, of which no configuration fits this search",
            expected="configurations of the families and optimizers that are searched",
            mend="Leave the option out, choose another strategy, or learn from runs on such data "
            "with `smarttune learn`.",
        )
    return [start._asdict() for start in found]


def _most(job: SearchJob, asked: str | Path, strategy: str, budget: Budget) -> int:
    """How many configurations the search can bear."""
    trials = budget.trials
    if trials is None and budget.epochs is not None:
        trials = budget.epochs // job.max_epochs
    if strategy == ALONE:
        return (trials or MOST_STARTS + 1) - 1  # none but the recommendation where one is asked for
    if trials is None or asked not in (AUTO, NONE):
        return MOST_STARTS
    return min(MOST_STARTS, int(LARGEST_SHARE * trials))


def first_values(run: Run) -> list[dict[str, Value]]:
    """The configurations that a run tries after the recommendation."""
    return [start["values"] for start in _starts(run)]


def announce(run: Run, on_event: OnEvent | None) -> None:
    """Write down at the start what comes from elsewhere."""
    found = _starts(run)
    if not found:
        return
    names = ", ".join(dict.fromkeys(s["portfolio"] for s in found))
    line = run.note(
        "portfolio",
        starts=found,
        text=f"{len(found)} configuration(s) of {names} are tried after the recommendation",
    )
    if on_event is not None:
        on_event(line)


def told(run: Run) -> dict[str, str]:
    """What a report says of them: which trials they were, and what came of them."""
    found = _starts(run)
    if not found:
        return {}
    lines = [
        f"From {s['portfolio']}, as nearest to these data as any: {_came_of(run, s['values'])}"
        for s in found
    ]
    return {TITLE: "\n".join(lines)}


def _came_of(run: Run, values: Mapping[str, Value]) -> str:
    of_it = [r for r in run.log if r.values == values]
    if not of_it:
        return "not tried before the search ended."
    last = of_it[-1]
    default = run.log.default()
    return f"trial {last.trial_id}, {run.objective.name} {_shown(last)}" + (
        "." if default is None else f" (recommendation {_shown(default)})."
    )


def _shown(record: TrialRecord) -> str:
    return (
        show_value(record.score)
        if record.has_score and record.score is not None
        else record.outcome
    )


def _starts(run: Run) -> list[dict[str, Any]]:
    # Runs of earlier versions had none.
    found: list[dict[str, Any]] = run.manifest.get("portfolio") or []
    return found
