"""Time of the rules engine: a cold process, a warm one, and with 1,000 more rules.

    python benchmarks/engine.py

A cold process imports SmartTune, loads every built-in pack and fires every rule for one
recommendation; what Python and pydantic cost by themselves is told apart. Beside the
1,000 made-up rules stand two yardsticks on the same files in the same process: PyYAML's
`safe_load`, which checks nothing, and a bare loop over (fact, operator, value) triples,
which explains nothing, resolves nothing and cannot compute. Medians over several
processes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

REPEATS = 7
NUM_RULES = 1000
PACK = "pack: synthetic\nprefixes: [SYA, SYB, SYC, SYD]\nversion: '1'\ntitle: Made up\nabout: Made up.\n"

# Prints the seconds of each step as JSON; what it loads beside the built-in packs is argv[1].
PROGRAM = """
import json, sys, time
steps, began = {}, time.perf_counter()
def step(name):
    global began
    steps[name] = time.perf_counter() - began
    began = time.perf_counter()
from pydantic import BaseModel
class First(BaseModel): number: int
step("pydantic")
from smarttune.facts import Facts
from smarttune.recommendation import recommend
from smarttune.rulebook import load_rulebook
step("import")
from pathlib import Path
book = load_rulebook(tuple(map(Path, sys.argv[1:])))
step("load")
facts = Facts.of({
    "data.task": "tabular", "model.problem": "multiclass", "data.num_samples": 6497,
    "data.num_features": 12, "data.num_classes": 7, "hardware.device": "cpu",
})
recommend(facts, rules=book)
step("recommend")
seconds = []
for _ in range(30):
    began = time.perf_counter()
    recommend(facts, rules=book)
    seconds.append(time.perf_counter() - began)
steps["warm"] = sorted(seconds)[len(seconds) // 2]
steps["rules"] = len(book.rules)
print(json.dumps(steps))
"""

YARDSTICK = """
import json, operator, sys, time
from pathlib import Path
import yaml
began = time.perf_counter()
loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
files = sorted(Path(sys.argv[1]).glob("SY*.yaml"))
rules = [yaml.load(file.read_text(), Loader=loader) for file in files]
steps = {"load": time.perf_counter() - began}
tests = {"==": operator.eq, "<": operator.lt, ">": operator.gt}
facts = {"data.task": "tabular", "data.num_samples": 6497, "data.num_features": 12,
         "data.num_classes": 7}
triples = []
for rule in rules:
    words = [w.split(" ", 2) for w in rule["when"] if w.split(" ", 2)[1] in tests]
    triples.append([(n, tests[op], json.loads(v)) for n, op, v in words if n in facts and v[0] != "d"])
def once():
    settings = {}
    for rule, when in zip(rules, triples):
        if all(test(facts[name], value) for name, test, value in when):
            for line in rule["then"]:
                settings[line["hyperparameter"]] = line
    return settings
seconds = []
for _ in range(30):
    began = time.perf_counter()
    once()
    seconds.append(time.perf_counter() - began)
steps["warm"] = sorted(seconds)[15]
print(json.dumps(steps))
"""


def synthetic_rule(code: str, rng: random.Random) -> str:
    """A rule with two to four conditions, some of them computed, and one or two settings."""
    samples, width = rng.choice([500, 2000, 10_000, 100_000]), 2 ** rng.randint(4, 9)
    conditions = [
        f'data.task == "{rng.choice(["tabular", "tabular", "text", "image"])}"',
        f"data.num_samples {rng.choice('<>')} {samples}",
        f"data.num_samples / data.num_features < {rng.randint(50, 5000)}",
        f"log2(data.num_samples) - 2 > {rng.randint(4, 12)}",
        'model.problem in ("binary", "multiclass")',
        f"opt(data.missing_fraction, 0.0) < 0.{rng.randint(1, 9)}",
    ]
    largest = f"clamp(data.num_samples / {rng.randint(4, 40)}, 32, 1024)"
    settings = [
        f"  - hyperparameter: model.units\n    int: {{low: 8, high: {width * 2}, default: {width}}}",
        f"  - hyperparameter: model.dropout\n    float: {{low: 0.0, high: 0.{rng.randint(2, 6)}}}",
        "  - hyperparameter: optimizer.learning_rate\n    float: {low: 1.0e-4, high: 1.0e-2}",
        f"  - hyperparameter: training.batch_size\n    int: {{low: 16, high: '{largest}'}}",
        "  - hyperparameter: optimizer.name\n    choice: {values: [adam, sgd], default: adam}",
    ]
    when = rng.sample(conditions, rng.randint(2, 4))
    then = rng.sample(settings, rng.randint(1, 2))
    return "\n".join(
        [
            f"code: {code}",
            f"name: made-up-{code.lower()}",
            "summary: Made up to measure how long many rules take.",
            "kind: static",
            f"evidence: {rng.choice(['practitioner', 'controlled_study', 'folklore'])}",
            f"confidence: 0.{rng.randint(1, 9)}",
            "when:",
            *(f"  - '{condition}'" for condition in when),
            "then:",
            *then,
            "why: Made up.",
            "limits: Made up.",
            "ours: Made up.",
            "",
        ]
    )


def write_pack(folder: Path, num_rules: int) -> None:
    """Write a pack of made-up rules, the same ones each time."""
    rng = random.Random(0)
    (folder / "pack.yaml").write_text(PACK)
    for i in range(num_rules):
        code = f"SY{'ABCD'[i % 4]}{i // 4:03d}"
        (folder / f"{code}-made-up-{code.lower()}.yaml").write_text(synthetic_rule(code, rng))


def measure(program: str, *arguments: str, repeats: int) -> dict[str, float]:
    """Median milliseconds of each step of a program."""
    command = [sys.executable, "-c", program, *arguments]
    runs: list[dict[str, float]] = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(repeats)
    ]
    return {name: 1e3 * statistics.median(run[name] for run in runs) for name in runs[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of the rules engine.")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        first = measure(PROGRAM, repeats=1)
    with tempfile.TemporaryDirectory() as scratch:
        pack = Path(scratch, "pack")
        pack.mkdir()
        write_pack(pack, NUM_RULES)
        os.environ["XDG_CACHE_HOME"] = str(Path(scratch, "cache"))
        measure(PROGRAM, repeats=1)  # fills the cache
        cold = measure(PROGRAM, repeats=repeats)
        many = measure(PROGRAM, str(pack), repeats=repeats)
        bare = measure(YARDSTICK, str(pack), repeats=repeats)
    report(first, cold, many, bare)


def report(
    first: dict[str, float], cold: dict[str, float], many: dict[str, float], bare: dict[str, float]
) -> None:
    """Print milliseconds, and ratios to the yardsticks."""
    own = cold["import"] + cold["load"] + cold["recommend"]
    num_rules = round(cold["rules"] / 1e3)
    print(f"{'':<60} {'ms':>8}")
    for text, value in [
        (f"cold process, {num_rules} rules, one recommendation", cold["pydantic"] + own),
        ("  of that pydantic and a first model", cold["pydantic"]),
        ("  of that SmartTune", own),
        ("    import of SmartTune", cold["import"]),
        ("    load all packs, from the cache", cold["load"]),
        ("    fire all rules, the first time", cold["recommend"]),
        ("load all packs without a cache, once after an update", first["load"]),
        (f"warm: one recommendation, {num_rules} rules", cold["warm"]),
        (f"warm: one recommendation, {num_rules} and {NUM_RULES} rules", many["warm"]),
        (f"load {NUM_RULES} further rules", many["load"] - cold["load"]),
        (f"  PyYAML's safe_load of the same {NUM_RULES} files", bare["load"]),
        (f"  a bare loop over {NUM_RULES} rules", bare["warm"]),
    ]:
        print(f"{text:<60} {value:>8.1f}")
    print(f"loading against safe_load: {(many['load'] - cold['load']) / bare['load']:.1f} times")
    per_rule = (many["warm"] - cold["warm"]) / bare["warm"]
    print(f"firing {NUM_RULES} rules against the bare loop: {per_rule:.1f} times")


if __name__ == "__main__":
    main()
