"""Proposals are the same in every process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from oracles.contract import flaky, play, proposals, space
from smarttune.oracles import STRATEGIES
found = {}
for name, cls in STRATEGIES.items():
    size = {"max_epochs": 9} if name in ("hyperband", "priorband") else {"max_trials": 24}
    if name == "nsga2":
        continue  # several objectives; its own tests play it
    if name in ("asha", "i_epoch"):
        size["max_epochs"] = 9
    if name == "gradient":
        # The recommended optimizer of this space has no rate of its own.
        size |= {"rate": "x", "initial_trials": [{"x": 0.25}]}
    oracle = cls(objective="val_loss", hyperparameters=space(), seed=3, **size)
    play(oracle, flaky, workers=2)
    found[name] = proposals(oracle)
print(json.dumps(found))
"""


@pytest.mark.slow
def test_hash_randomization_changes_nothing() -> None:
    """Two processes that hash strings differently propose the same trials."""
    tests = Path(__file__).parents[1]
    outputs = []
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tests)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(tests.parent)},
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        outputs.append(done.stdout.splitlines()[-1])
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 1000
