"""The example programs run as they stand."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import smarttune
from smarttune.rulebook import check_rulebook, load_rulebook

EXAMPLES = Path(__file__).parents[1] / "examples"
WINE = EXAMPLES / "data" / "wine.csv"
SMS = EXAMPLES / "data" / "sms.tsv"

LIGHT = ("010_suggest_for_a_table.py", "050_write_a_rule/use_the_pack.py")
# Program and a line that it prints only if it did its work.
TRAINING = {
    "020_search_a_table.py": r"On held-back rows: mean absolute error 0\.\d+ grades",
    "030_narrow_a_hypermodel.py": r"lr: 1e-07 to 1 \(log\) narrowed to .* \(optimizer\.learning_rate\)",
    "040_subclass_hypermodel.py": r"units: 8 to 2048 \(log\) narrowed to .* \(model\.units\)",
    "060_resume_and_predict.py": r"Trials kept: \['0', '1'\]\nResumed\. +Trials now: +\['0', '1', '2'\]",
    "070_search_texts.py": r"accuracy 0\.\d+.*\n\nProbability of spam:\n  \d\.\d\d  URGENT",
    "080_search_images.py": r"Enlarged to 40 x 40, the exported model takes it for a \d",
    "090_search_recordings.py": r"accuracy [01]\.\d+\n *prediction .*\n(.*\n)*model\.keras on a falling tone: \[",
    "100_search_sequences.py": r"accuracy [01]\.\d+\nprediction .*\n(.*\n)*model\.keras on a movement .*: \[",
    "110_forecast_a_series.py": r"seasonal naive +\d+\.\d+\n(.*\n)*The 28 values that follow begin with",
    "120_language_model.py": r"unigrams +\d\.\d+\n  compression +\d\.\d+\n(.*\n)*The prompt has \d",
    "140_find_a_learning_rate.py": r"Weights as before the test: yes\n(.*\n)*  rate .*: accuracy 0\.\d+",
    "150_schedules.py": r"Best of 2: peak 0\.\d+, val_accuracy 0\.\d+",
    "160_growing_batches.py": r"Accuracy on held-back pictures: [01]\.\d+",
    "170_stop_early.py": r"Epoch \d+ is back: val_loss .*\nWith a rate of 1000 it ended in epoch 1: The loss is",
    "180_mixed_precision.py": r"mixed_float16 +float16 +float32 +\d+ +0\.\d+",
    "200_switch_from_kerastuner.py": r"Best model: mean absolute error \d+\.\d+\n\d+ trials, [1-9]\d* of them continued",
    "190_hypergradient.py": r"hypergradient +rate 0\.0001 -> 0\.\d+ +accuracy 0\.\d+",
}

# Programs that need a package which the project does not install.
FOREIGN = {
    "130_narrow_autokeras.py": (
        "autokeras",
        r"learning_rate: 0\.1, .* narrowed to 0\.01, .* \(optimizer\.learning_rate\)",
    ),
}


def _output(program: str, folder: Path) -> str:
    """Run a program in an empty folder and return what it printed."""
    environment = {**os.environ, "SMARTTUNE_QUICK": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / program)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list(folder.iterdir()), "the example leaves files behind"
    return done.stdout


def test_recommendation_example_says_why_and_imports_no_framework(tmp_path: Path) -> None:
    """Values come with rule and source, and Keras is not loaded."""
    output = _output("010_suggest_for_a_table.py", tmp_path)

    assert re.search(r"model\.units = \d+, searched over .*\n    [A-Z]{3}\d{3}: .* \[\w+", output)
    assert "model.activation: one of relu, silu becomes relu (you)" in output
    assert output.endswith("Frameworks imported: none\n")


def test_rule_pack_example_changes_what_it_says(tmp_path: Path) -> None:
    """The constraint cuts the width, and the override wins the batch size."""
    output = _output("050_write_a_rule/use_the_pack.py", tmp_path)

    assert re.search(r"model\.units: \d+ .* becomes 128 \(64 to 128", output)
    assert "LAB002 decides" in output
    assert "BAT004 is overruled" in output


@pytest.mark.slow
@pytest.mark.parametrize("program", TRAINING)
def test_training_example_does_its_work(program: str, tmp_path: Path) -> None:
    """It ends well and prints the result it is about."""
    output = _output(program, tmp_path)

    assert re.search(TRAINING[program], output), output


def test_every_program_is_run_and_listed() -> None:
    """No example is left out of these tests or of the index."""
    index = (EXAMPLES / "README.md").read_text()
    programs = (p for p in EXAMPLES.rglob("*.py") if p.name != "__init__.py")
    found = {p.relative_to(EXAMPLES).as_posix() for p in programs}

    assert found == {*LIGHT, *TRAINING, *FOREIGN}
    assert all(name.split("/")[0] in index for name in found)


@pytest.mark.slow
@pytest.mark.parametrize("program", FOREIGN)
def test_example_of_another_package_does_its_work(program: str, tmp_path: Path) -> None:
    """Where the other package is installed, the program runs to its end."""
    package, line = FOREIGN[program]
    pytest.importorskip(package)

    assert re.search(line, _output(program, tmp_path), re.DOTALL)


def test_example_pack_keeps_the_promises_of_rules() -> None:
    """Each rule of the pack loads beside ours, and its own examples hold."""
    folder = EXAMPLES / "050_write_a_rule" / "lab"
    book = load_rulebook((folder,))
    mine = [rule for rule in book.rules if rule.code.startswith("LAB")]

    mistakes = check_rulebook(book.replace_rules(mine))

    assert len(mine) == 2
    assert not mistakes


def test_bundled_table_is_what_its_readme_says() -> None:
    """Rows, colours and columns are those of the description."""
    readme = (EXAMPLES / "data" / "README.md").read_text()
    with open(WINE, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    described = re.findall(r"^\| `(\w+)` \|", readme.split("\n# ")[0], re.MULTILINE)

    assert list(rows[0]) == described
    assert len(rows) == 6497
    assert sum(row["color"] == "red" for row in rows) == 1599
    assert {row["quality"] for row in rows} == set("3456789")
    assert "Creative Commons Attribution 4.0" in readme


def test_bundled_messages_are_what_their_readme_says() -> None:
    """Rows, classes and columns are those of the description."""
    readme = (EXAMPLES / "data" / "README.md").read_text().split("# sms.tsv")[1].split("\n# ")[0]
    with open(SMS, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))

    spam = sum(row["label"] == "spam" for row in rows)

    assert list(rows[0]) == re.findall(r"^\| `(\w+)` \|", readme, re.MULTILINE)
    assert len(rows) == 1500
    assert f"`ham` ({len(rows) - spam} rows) or `spam` ({spam} rows)" in readme
    assert "Creative Commons Attribution 4.0" in readme


def test_bundled_table_gets_the_warning_that_its_readme_announces() -> None:
    """The repeated rows are counted in the warnings of a recommendation."""
    recommendation = smarttune.suggest(WINE, target="quality", problem="regression")

    assert any("1,177" in warning for warning in recommendation.warnings)
