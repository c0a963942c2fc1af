"""What determinism costs, and whether two trainings agree bit for bit with and without it.

    python benchmarks/determinism.py [--quick] [--models mlp,cnn,lstm] [--repeats 2]

Every figure comes from a process of its own, because determinism lasts as long as the process.
Each trains the same network twice from one seed. `without` seeds only; `with` calls
`smarttune.training.determinism.make_deterministic`. The ratio is that of the fastest epochs, with
over without. Equal bits without it are luck of this machine and these sizes, not a promise.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MODELS = ("mlp", "cnn", "lstm")
SEED = 5
# ours: seconds per network on two cores.
ROWS, EPOCHS, BATCH = 1024, 4, 64
QUICK_ROWS, QUICK_EPOCHS = 128, 2


def train(kind: str, *, with_it: bool, quick: bool) -> tuple[float, list[bytes]]:
    """Seconds of the fastest epoch but the first, and the weights at the end."""
    import keras
    import numpy as np

    from smarttune.training.determinism import make_deterministic

    if with_it:
        make_deterministic(SEED)
    else:
        keras.utils.set_random_seed(SEED)
    layers, rows = keras.layers, QUICK_ROWS if quick else ROWS
    shapes = {"mlp": (64,), "cnn": (16, 16, 3), "lstm": (16, 8)}
    hidden: dict[str, list[Any]] = {
        "mlp": [layers.Dense(256, activation="relu"), layers.Dropout(0.2)],
        "cnn": [layers.Conv2D(16, 3), layers.MaxPooling2D(), layers.Flatten()],
        "lstm": [layers.LSTM(32)],
    }
    x = np.random.default_rng(0).normal(size=(rows, *shapes[kind])).astype("float32")
    model = keras.Sequential([keras.Input(shapes[kind]), *hidden[kind], layers.Dense(1)])
    model.compile("adam", loss="mse")
    seconds = []
    for _ in range((QUICK_EPOCHS if quick else EPOCHS) + 1):
        began = time.perf_counter()
        model.fit(x, x.reshape(rows, -1).mean(axis=1), batch_size=BATCH, verbose=0)
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:]), [w.tobytes() for w in model.get_weights()]


def child(kind: str, with_it: bool, quick: bool) -> None:
    """Train twice and print the fastest epoch and whether the weights agree."""
    import keras

    runs = [train(kind, with_it=with_it, quick=quick) for _ in range(2)]
    backend = keras.backend.backend()
    print(
        json.dumps(
            {
                "seconds": min(r[0] for r in runs),
                "equal": runs[0][1] == runs[1][1],
                "versions": f"keras {keras.__version__}, "
                f"{backend} {__import__(backend).__version__}",
            }
        )
    )


def measured(kind: str, with_it: bool, quick: bool) -> dict[str, Any]:
    """What a process of its own finds."""
    command = [sys.executable, __file__, "--child", kind]
    command += ["--with"] * with_it + ["--quick"] * quick
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only see that it works")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--with", dest="with_it", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.with_it, options.quick)
        return
    repeats = 1 if options.quick else options.repeats
    header = f"{'model':<6} {'without':>10} {'with':>10} {'ratio':>6}  equal without / with"
    for kind in options.models.split(","):
        # Turn about, so that what else the machine does falls on both.
        runs = [[measured(kind, w, options.quick) for w in (False, True)] for _ in range(repeats)]
        if header:
            print(
                f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {runs[0][0]['versions']}"
            )
            print(f"python {platform.python_version()}; milliseconds per epoch\n{header}")
            header = ""
        without, with_it = (min(run[i]["seconds"] for run in runs) for i in (0, 1))
        equal = ["yes" if all(run[i]["equal"] for run in runs) else "no" for i in (0, 1)]
        print(
            f"{kind:<6} {1e3 * without:>10.1f} {1e3 * with_it:>10.1f} {with_it / without:>6.2f}"
            f"  {equal[0]} / {equal[1]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
