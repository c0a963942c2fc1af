"""A language model: the next character of a text, and what the network writes by itself.

Without an argument it reads the pages about the rules that lie beside this program, otherwise
a text file of yours; a megabyte and ten minutes make it write words. On the command line:

    smarttune search corpus.txt --task text --time 10m
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import smarttune

PAGES = sorted((Path(__file__).parents[1] / "rules").rglob("*.yaml"))
QUICK = os.environ.get("SMARTTUNE_QUICK") == "1"
SMALL: dict[str, Any] = {"model.rnn_units": 8, "model.num_rnn_layers": 1, "search.max_epochs": 1}
LIMITS: dict[str, Any] = (
    {"trials": 1, "strategy": "random", "pinned": SMALL} if QUICK else {"time": "3m"}
)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.txt"
        if len(sys.argv) > 1:
            path = Path(sys.argv[1])
        else:
            pages = PAGES[:40] if QUICK else PAGES
            path.write_text("\n".join(page.read_text(encoding="utf-8") for page in pages))

        run = smarttune.search(path, task="text", run=Path(folder) / "run", **LIMITS)
        report = run.report()
        print("Bits per character of the last part of the text:")
        print(f"  best network  {report['test']['best']['bits_per_character']:.3f}")
        for baseline in report["baselines"]:
            metrics = baseline["metrics"]
            bits = metrics.get("bits_per_character")
            print(f"  {baseline['name']:13} {baseline['note'] if bits is None else f'{bits:.3f}'}")
        for title, text in report["extras"].items():
            print(f"\n{title}:\n{text}")

        prompt = Path(folder) / "prompt.txt"
        prompt.write_text("why: |\n  A larger batch ")
        told = run.predict(prompt).iloc[0]
        print(f"\nThe prompt has {told['bits_per_character']:.2f} bits per character, and goes on:")
        print(told["continuation"][:80])


if __name__ == "__main__":
    main()
