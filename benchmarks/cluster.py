"""What limits a search on 1,000 workers: measured costs of the driver, and a simulated cluster.

    python benchmarks/cluster.py [--sizes 100,1000,10000] [--limit 60] [--workers 10,100,1000]
        [--trials 100000]

First, what one trial costs the one process that drives a search, in processor time, after so many
finished trials: a proposal (`ask`), a report (`tell`), the record in the study, and the
bookkeeping that decides which checkpoints stay. Strategies that take longer than `--limit`
seconds to come to a size are left out there. Then a simulation of events: workers train trials
whose lengths have a long tail, are killed now and then, and queue at the driver, which serves one
trial after the other and takes the measured times, interpolated between the sizes. Trials are
spread over the rungs as ASHA spreads them; its decisions are not made anew, for they change which
trials run, not how many.
"""

from __future__ import annotations

import argparse
import collections
import gc
import heapq
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from overhead import ASKS, LOSS, asked, grow, made, told

from smarttune.objectives import Objective
from smarttune.trials import Ranking, TrialRecord
from smarttune.tuning.checkpoints import prune
from smarttune.tuning.run import Run
from smarttune.tuning.tuner import KEPT_PER_SUPERFLUOUS

STRATEGIES = ("random", "asha", "priorband", "bayesian")
SIMULATED = "asha"
RECORDED = (100, 1000)  # trials in the study; a larger one takes minutes to fill
CURVE_EPOCHS = 10
SEED = 7

# ours: a factor of three between rungs and five rungs, as `overhead.py` has them; the spread is
# that of a fast and a slow configuration a factor of ten apart, the kills are one in 200 trials.
FACTOR, NUM_RUNGS = 3, 5
SPREAD = 1.0  # standard deviation of the logarithm
KILL_SHARE = 0.005
RESTART = 20.0  # seconds until a new worker has imported its framework
LENGTHS = (5.0, 30.0, 300.0)  # median seconds of a trial on the lowest rung

Costs = Mapping[str, Mapping[int, float]]  # seconds by part and by finished trials


class Simulated(NamedTuple):
    """How a cluster fared until its last trial was handed out.

    What follows is the tail: workers without work beside the longest trials, whatever the driver
    costs.
    """

    hours: float
    tail: float  # hours from then until the last trial ended
    utilisation: float  # share of the workers' time in which they trained
    wait: float  # mean seconds between the end of a trial and the next one on that worker
    longest: int  # most workers that waited for the driver at a time
    driver: float  # share of the time that the driver was busy


def oracle_costs(name: str, sizes: Sequence[int], limit: float) -> Costs:
    """Median seconds of a proposal, a report and of asking what may go on."""
    oracle = made(name, sizes[-1] + 10 * ASKS, persist=False)
    until = time.process_time() + limit
    found: dict[str, dict[int, float]] = {"ask": {}, "tell": {}, "keep": {}}
    for size in sizes:
        if not grow(oracle, size, until, fill=name == "bayesian"):
            break
        gc.collect()
        spent: dict[str, list[float]] = {part: [] for part in found}
        for _ in range(ASKS):
            trial = clocked(spent["ask"], lambda: asked(oracle))
            clocked(spent["tell"], lambda t=trial: told(oracle, t))
            if time.process_time() > until + limit:
                break
        clocked(spent["keep"], lambda: [oracle.may_continue(t) for t in oracle.trials])
        for part, times in spent.items():
            found[part][size] = statistics.median(times)
    return found


def clocked(times: list[float], call: Callable[[], Any]) -> Any:
    """Run something and note its processor time."""
    began = time.process_time()
    result = call()
    times.append(time.process_time() - began)
    return result


def record_of(number: int) -> TrialRecord:
    """A trial as a small search leaves it."""
    rng = random.Random(number)
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    return TrialRecord(
        trial_id=f"{number:06}",
        values={f"model.value_{i}": rng.random() for i in range(7)},
        outcome="completed",
        score=rng.random(),
        best_epoch=CURVE_EPOCHS,
        num_epochs=CURVE_EPOCHS,
        max_epochs=CURVE_EPOCHS,
        curve=tuple({name: rng.random() for name in names} for _ in range(CURVE_EPOCHS)),
        seconds=1.0,
        started=time.time(),
    )


def record_costs(sizes: Sequence[int]) -> tuple[dict[int, float], dict[int, float], float]:
    """Seconds of processor and by the clock that a record takes; bytes of one in the study."""
    cpu: dict[int, float] = {}
    wall: dict[int, float] = {}
    objective = Objective(name=LOSS.name, direction="min")
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", {"objective": objective._asdict()})
        done = 0
        for size in sizes:
            for done in range(done, size):  # noqa: B020 -- goes on where it stopped
                run.record(record_of(done))
            done = size
            times: list[float] = []
            began = time.perf_counter()
            for extra in range(ASKS):
                record = record_of(size + extra)
                clocked(times, lambda r=record: run.record(r))
            wall[size] = (time.perf_counter() - began) / ASKS
            cpu[size] = statistics.mean(times)
            done = size + ASKS
        return cpu, wall, (run.path / "study.db").stat().st_size / done


def rank_costs(sizes: Sequence[int]) -> dict[int, float]:
    """Seconds to put one more trial among those that are ranked."""
    found = {}
    for size in sizes:
        ranking = Ranking(Objective(LOSS.name, "min"), map(record_of, range(size)))
        more = [record_of(size + i) for i in range(ASKS)]
        times: list[float] = []
        clocked(times, lambda r=ranking, m=more: [r.add(one) for one in m])
        found[size] = times[0] / ASKS
    return found


def keep_costs(sizes: Sequence[int]) -> dict[int, float]:
    """Seconds to look through the checkpoints on disk, spread over the trials in between.

    Each trial has one, as under a strategy that may promote any of them later.
    """
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", {"objective": Objective(LOSS.name, "min")._asdict()})
        for size in sizes:
            records = {r.trial_id: r for r in map(record_of, range(size))}
            for trial_id in records:
                run.state_path(trial_id).parent.mkdir(exist_ok=True)
                run.state_path(trial_id).touch()
            times: list[float] = []
            clocked(times, lambda r=records: prune(run, r, lambda _: True))
            found[size] = times[0] / max(1, size // KEPT_PER_SUPERFLUOUS)
    return found


def at(cost: Mapping[int, float], size: int) -> float:
    """A cost after so many trials: on the line between two sizes, which goes on beyond the last.

    What seems to fall there, by noise, stays as it was.
    """
    known = sorted(cost)
    if size <= known[0] or len(known) == 1:
        return cost[known[0]]
    above = next((k for k in known if k >= size), known[-1])
    below = known[known.index(above) - 1]
    found = cost[below] + (size - below) / (above - below) * (cost[above] - cost[below])
    return max(found, cost[above]) if size > above else found


def simulate(
    num_workers: int, num_trials: int, length: float, service: Callable[[int], float]
) -> Simulated:
    """Run a cluster of which the driver is the only bottleneck."""
    rng = random.Random(f"{SEED}/{num_workers}/{length}")
    shares = [FACTOR**-rung for rung in range(NUM_RUNGS)]
    # All begin at once, each with a trial of its own; `ends` holds who ends next.
    ends = [(spent(rng, shares, length), worker) for worker in range(num_workers)]
    trained = sum(end for end, _ in ends)
    heapq.heapify(ends)
    queue: collections.deque[float] = collections.deque()  # when those before are served
    driver = busy = waited = 0.0
    longest = 0
    for finished in range(num_trials - num_workers):
        now, worker = heapq.heappop(ends)
        while queue and queue[0] <= now:
            queue.popleft()
        took = service(finished)
        driver = max(driver, now) + took
        queue.append(driver)
        longest = max(longest, len(queue))
        busy += took
        waited += driver - now
        span = spent(rng, shares, length)
        trained += span
        heapq.heappush(ends, (driver + span, worker))
    beyond = sum(max(0.0, end - driver) for end, _ in ends)
    return Simulated(
        hours=driver / 3600,
        tail=(max(ends)[0] - driver) / 3600,
        utilisation=(trained - beyond) / (num_workers * driver),
        wait=waited / (num_trials - num_workers),
        longest=longest,
        driver=busy / driver,
    )


def spent(rng: random.Random, shares: Sequence[float], length: float) -> float:
    """Seconds of a worker for one trial."""
    rung = rng.choices(range(NUM_RUNGS), shares)[0]
    # A promotion trains the epochs that the rung below has not.
    epochs = FACTOR**rung - FACTOR ** (rung - 1) if rung else 1
    span = length * epochs * rng.lognormvariate(0, SPREAD)
    if rng.random() < KILL_SHARE:  # what was trained is lost, and a new worker begins again
        span += rng.random() * span + RESTART
    return span


def shown(cost: Mapping[int, float], sizes: Sequence[int], form: str = ".2f") -> str:
    """Milliseconds at each size, a column each."""
    return " | ".join(format(1e3 * cost[s], form) if s in cost else "-" for s in sizes)


def measured(sizes: Sequence[int], limit: float) -> dict[str, dict[int, float]]:
    """Measure and print; return the costs of the strategy that is simulated."""
    print("\nMilliseconds of processor per trial, after so many finished trials\n")
    print(f"| | {' | '.join(map(str, sizes))} |\n|---|{'---|' * len(sizes)}")
    kept: dict[str, dict[int, float]] = {}
    for name in STRATEGIES:
        costs = oracle_costs(name, sizes, limit)
        for part in ("ask", "tell"):
            print(f"| {name}: {part} | {shown(costs[part], sizes)} |", flush=True)
        if name == SIMULATED:
            kept = {part: dict(cost) for part, cost in costs.items()}
    cpu, wall, size = record_costs(RECORDED)
    kept["record"] = wall  # the driver waits for the disk as well
    kept["rank"] = rank_costs(sizes)
    print(f"| record, processor | {shown(cpu, sizes)} |")
    print(f"| record, by the clock | {shown(wall, sizes)} |")
    print(f"| ranking | {shown(kept['rank'], sizes, '.3f')} |")
    asking = kept["keep"]  # of all trials; as often as the files are looked through
    kept["keep"] = {
        size: seconds + asking[size] / max(1, size // KEPT_PER_SUPERFLUOUS)
        for size, seconds in keep_costs(list(asking)).items()
    }
    print(f"| which checkpoints stay | {shown(kept['keep'], sizes)} |")
    print(f"\n{size / 1024:.1f} KiB per trial in the study ({CURVE_EPOCHS} epochs of four metrics)")
    return kept


def service_of(costs: Costs) -> Callable[[int], float]:
    """Seconds that the driver takes for one trial after so many."""
    return lambda size: sum(at(cost, size) for cost in costs.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default="100,1000,10000")
    parser.add_argument("--limit", type=float, default=60, help="seconds to grow one search")
    parser.add_argument("--workers", default="10,100,300,1000,3000")
    parser.add_argument("--trials", type=int, default=100_000)
    options = parser.parse_args()
    sizes = [int(s) for s in options.sizes.split(",")]
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    costs = measured(sizes, options.limit)
    print(f"\n{options.trials:,} trials, {SIMULATED}, {KILL_SHARE:.1%} of them killed once\n")
    columns = ("median s", "workers", "hours", "tail", "used", "wait s", "queue")
    print(f"| {' | '.join((*columns, 'driver busy'))} |\n|{'---|' * (len(columns) + 1)}")
    service = service_of(costs)
    for length in LENGTHS:
        for workers in map(int, options.workers.split(",")):
            s = simulate(workers, options.trials, length, service)
            found = (
                *(f"{length:g}", f"{workers:,}", f"{s.hours:.2f}", f"{s.tail:.2f}"),
                *(f"{s.utilisation:.0%}", f"{s.wait:.2f}", str(s.longest), f"{s.driver:.0%}"),
            )
            print(f"| {' | '.join(found)} |", flush=True)
    print(f"\n{1 / service(options.trials):.2g} trials a second at the end.")
    print("\nWorkers are idle once they end more trials a second than that.")


if __name__ == "__main__":
    main()
