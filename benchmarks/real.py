"""SmartTune and its peers on real data, equal wall time, one after the other.

    python benchmarks/real.py --time 3m [--only wine,digits] [--systems smarttune,optuna_tpe] [--seed 0]

All get the same rows for training, validation and test, and the same wall time with start-up
included. SmartTune is its command line with the file, the metric and the time, and nothing else;
what the peers are is told in `real_peers.py`. AutoKeras takes part where it is installed.

Every epoch that improves on the best validation score of a system so far is noted with its second,
from the start of the process. SmartTune tests, compares, exports and reports within its time;
of the peers only the search is counted.

Prints a table for each data set. *Area* is that under the curve of the best score so far, from 0
(nothing, or the worst best-so-far of all systems) to 1 (the best of all, from the first second on).
*Reached* is the second at which a system was at least as good as the best peer at its end, and
*share* what that is of the second at which that peer got there itself: less than the whole time,
so that no system is helped by a peer that found nothing new for long.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from real_data import CASES, Case, job_for, rows_of

PEERS_PROGRAM = Path(__file__).resolve().with_name("real_peers.py")
SMARTTUNE = "smarttune"
SYSTEMS = (SMARTTUNE, "kerastuner_hyperband", "kerastuner_bayesian", "optuna_tpe", "autokeras")
TARGET_SHARE = 0.2  # the aim of the project: a fifth of the best peer's time
GRACE = 300.0  # ours: seconds after the limit in which a system must have ended by itself

Scores = Sequence[tuple[float, float]]  # seconds and score of each improvement


class Result(NamedTuple):
    """What became of one system.

    Attributes:
        system: Its name.
        scores: Each improvement of the best validation score, with its second.
        test: Its final model on test rows; NaN where it cannot be told.
        trials: Trials that were begun.
        seconds: Wall time of the process.
        note: Why there is no result.
    """

    system: str
    scores: Scores = ()
    test: float = float("nan")
    trials: int = 0
    seconds: float = 0.0
    note: str = ""


def second_of(scores: Scores, mark: float, direction: str) -> float | None:
    """The second at which a score was first as good as a mark; None if it never was."""
    sign = 1 if direction == "max" else -1
    return next((second for second, score in scores if sign * score >= sign * mark), None)


def area(scores: Scores, limit: float, *, worst: float, best: float) -> float:
    """The mean over the time of the best score so far, on a scale from worst (0) to best (1).

    Args:
        scores: Improvements with their seconds.
        limit: Seconds in all.
        worst: What counts as nothing; also before the first score.
        best: What counts as all.
    """
    if worst == best or not scores:
        return sum(limit - second for second, _ in scores[:1]) / limit
    ends = [*(second for second, _ in scores[1:]), limit]
    heights = ((score - worst) / (best - worst) for _, score in scores)
    spans = (end - begin for (begin, _), end in zip(scores, ends, strict=True))
    return sum(height * span for height, span in zip(heights, spans, strict=True)) / limit


def improvements(scores: Iterable[tuple[float, float]], direction: str, limit: float) -> Scores:
    """Only those scores that beat all before them, within the time."""
    sign, kept = 1 if direction == "max" else -1, list[tuple[float, float]]()
    for second, score in sorted(scores):
        if second <= limit and (not kept or sign * score > sign * kept[-1][1]):
            kept.append((second, score))
    return kept


def epochs_of(events: Iterable[Mapping[str, Any]], logged: str, began: float) -> list[Any]:
    """The validation scores in SmartTune's events, with their seconds.

    Those of a trial that diverged or failed are left out, for SmartTune keeps nothing of it, and
    so are trainings that only confirm a score.
    """
    found, current = [], []
    for event in events:
        if event["event"] == "epoch":
            current.append((event["time"] - began, event["logs"][logged]))
        elif event["event"] == "trial_finished":
            found += current if event["outcome"] in ("completed", "stopped") else []
            current = []
        elif event["event"] == "trials_ended":
            break
    return [(second, score) for second, score in found if score is not None]


def smarttune_run(case: Case, limit: float, seed: int, folder: Path) -> Result:
    """Search with the command line, as a user does, and read its events."""
    run = folder / f"{case.name}-run"
    command = [
        *(sys.executable, "-m", "smarttune", "search", str(case.path)),
        *("--target", str(case.target), "--problem", case.problem),
        *("--objective", case.metric, "--time", f"{limit:.0f}s"),
        *("--seed", str(seed), "--run", str(run), "--json"),
        *("--portfolio", "none"),  # the one that comes along has seen some of these tables
    ]
    began = time.time()
    ended = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=limit + GRACE
    )
    seconds = time.time() - began
    events = [json.loads(line) for line in ended.stdout.splitlines()]
    report = json.loads((run / "report.json").read_text())
    scores = epochs_of(events, f"val_{case.metric}", began)
    return Result(
        SMARTTUNE,
        improvements(scores, case.direction, limit),
        report["test"]["best"][case.metric],
        report["num_trials"],
        seconds,
    )


def check_rows(case: Case, folder: Path, rows: Any) -> None:
    """End the program if SmartTune's search divided the rows otherwise than the peers' files."""
    run = json.loads((folder / f"{case.name}-run" / "run.json").read_text())
    # The division follows from the seed and the sizes of its parts.
    found = (run["num_training"], run["num_validation"])
    expected = (len(rows.train), len(rows.validation))
    if found != expected:
        sys.exit(f"{case.name}: SmartTune trained and validated on {found} rows, not {expected}.")


def peer_run(system: str, data: Path, limit: float, seed: int, folder: Path) -> Result:
    """Run a peer in a process of its own."""
    result, began = folder / f"{system}.json", time.time()
    command = [
        *(sys.executable, str(PEERS_PROGRAM), system, "--data", str(data)),
        *("--began", str(began), "--limit", str(limit)),
        *("--seed", str(seed), "--result", str(result)),
    ]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=limit + GRACE)
    found = json.loads(result.read_text())
    return Result(system, found["scores"], found["test"], found["trials"], time.time() - began)


def compared(case: Case, systems: Sequence[str], limit: float, seed: int) -> list[Result]:
    """Run the systems one after the other; one that fails does not stop the others."""
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rows = rows_of(case, job_for(case, limit, seed))
        data = folder / "data.pickle"
        data.write_bytes(pickle.dumps((case, rows)))
        for system in systems:
            if system == "autokeras" and importlib.util.find_spec("autokeras") is None:
                results.append(Result(system, note="not installed"))
                continue
            try:
                if system == SMARTTUNE:
                    results.append(smarttune_run(case, limit, seed, folder))
                    check_rows(case, folder, rows)
                else:
                    results.append(peer_run(system, data, limit, seed, folder))
            except subprocess.CalledProcessError as error:
                said = (error.stderr or error.stdout).strip().splitlines() or ["no message"]
                results.append(Result(system, note=f"failed: {said[-1]}"))
            except subprocess.TimeoutExpired:
                results.append(Result(system, note="did not end"))
    return results


def best_peer(results: Iterable[Result], direction: str) -> Result | None:
    """The peer with the best final validation score."""
    peers = [r for r in results if r.system != SMARTTUNE and r.scores]
    choose = max if direction == "max" else min
    return choose(peers, key=lambda r: r.scores[-1][1]) if peers else None


def table(results: Sequence[Result], case: Case, limit: float) -> list[str]:
    """The lines of a Markdown table."""
    seen = [score for r in results for _, score in r.scores]
    low, high = min(seen, default=0.0), max(seen, default=0.0)
    worst, best = (low, high) if case.direction == "max" else (high, low)
    peer = best_peer(results, case.direction)
    lines = [
        "| system | trials | best (validation) | test | area | reached | share | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        if not r.scores:
            lines.append(f"| {r.system} | {r.note or 'no epoch ended'} | | | | | | |")
            continue
        cells = [
            *(r.system, str(r.trials), f"{r.scores[-1][1]:.4g}", _shown(r.test)),
            f"{area(r.scores, limit, worst=worst, best=best):.3f}",
            *(_reached(r, peer, case.direction) if peer else ("-", "-")),
            f"{r.seconds:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _shown(score: float) -> str:
    return "-" if score != score else f"{score:.4g}"  # noqa: PLR0124 -- NaN differs from itself


def _reached(result: Result, peer: Result, direction: str) -> tuple[str, str]:
    second = second_of(result.scores, peer.scores[-1][1], direction)
    if second is None:
        return "never", "-"
    return f"{second:.1f}", f"{second / peer.scores[-1][0]:.2f}"


def summary(results: Sequence[Result], case: Case) -> str:
    """One sentence: how long SmartTune took for what the best peer found."""
    ours = next((r for r in results if r.system == SMARTTUNE and r.scores), None)
    peer = best_peer(results, case.direction)
    if ours is None or peer is None:
        return f"{case.name}: nothing to compare."
    needed, mark = peer.scores[-1]
    goal = f"the {mark:.4g} that {peer.system} found after {needed:.1f} s"
    second = second_of(ours.scores, mark, case.direction)
    if second is None:
        return f"{case.name}: SmartTune did not reach {goal}; it came to {ours.scores[-1][1]:.4g}."
    verdict = "met" if second <= TARGET_SHARE * needed else "missed"
    return (
        f"{case.name}: SmartTune reached {goal} after {second:.1f} s, "
        f"{second / needed:.2f} of that time (aim: {TARGET_SHARE:g}, {verdict})."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--time", default="3m", help="of each system on each data set")
    parser.add_argument("--only", default=",".join(CASES), help="data sets")
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    names, systems = options.only.split(","), options.systems.split(",")
    for given, known in ((names, CASES), (systems, SYSTEMS)):
        if strangers := sorted(set(given) - set(known)):
            parser.error(f"`{strangers[0]}` is none of {', '.join(known)}")
    from smarttune.tuning import parse_duration

    limit, sentences = parse_duration(options.time), []
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            case = CASES[name](name, Path(scratch))
            results = compared(case, systems, limit, options.seed)
            print(f"\n{name}: {case.metric}, {limit:.0f} s each, seed {options.seed}\n")
            print("\n".join(table(results, case, limit)), flush=True)
            sentences.append(summary(results, case))
            print(f"\n{sentences[-1]}", flush=True)
    print("\n" + "\n".join(sentences))


if __name__ == "__main__":
    main()
