"""The report in the terminal and as Markdown."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from smarttune.report.text import commands, headline, report_markdown, report_text, score


def entry(
    trial_id: str, value: float, values: dict[str, Any], *, is_default: bool = False
) -> dict[str, Any]:
    """One trial as it stands in a report."""
    return {
        "trial_id": trial_id,
        "values": {"optimizer.name": "adam", **values},
        "outcome": "completed",
        "score": value,
        "num_epochs": 12,
        "seconds": 3.25,
        "is_default": is_default,
    }


def difference(gain: float, low: float, high: float) -> dict[str, Any]:
    """What the comparison on held-back rows found."""
    return {"gain": gain, "low": low, "high": high, "is_real": low > 0 or high < 0}


def report(**changed: Any) -> dict[str, Any]:
    """A report in which the search paid, with some keys changed."""
    best = entry("0007", 0.25, {"model.units": 128})
    default = entry("0000", 0.5, {"model.units": 64}, is_default=True)
    return {
        "run": "runs/one",
        "data": {"source": "a.csv", "rows": 12345, "target": "y", "problem": "regression"},
        "objective": {"name": "val_loss", "direction": "min"},
        "strategy": "random",
        "seconds": 61.5,
        "num_trials": 9,
        "num_epochs": 108,
        "outcomes": {"stopped": 2, "completed": 5, "failed": 1, "diverged": 1},
        "default": default,
        "best": best,
        "gain": 0.25,
        "test": {
            "rows": 2345,
            "metric": "mean_squared_error",
            "best": {"mean_squared_error": 0.26, "r2_score": 0.75},
            "default": {"mean_squared_error": 0.49, "r2_score": 0.5},
            "difference": difference(0.23, 0.2, 0.26),
        },
        "changes": [{"hyperparameter": "model.units", "default": 64, "best": 128}],
        "verdicts": [
            {
                "rule": "MOD001",
                "hyperparameter": "model.units",
                "recommended": 64,
                "best": 128,
                "verdict": "held",
                "why": "the best trials have 128, 64, 64",
            }
        ],
        "leaderboard": [best, default],
        "next": [{"rule": "DIA009", "text": "Stop here."}],
        "baselines": [],
        "verdict": "",
        "extras": {},
    } | changed


def test_models_without_a_network_stand_beside_the_network() -> None:
    """Each has its row with the same metrics, then the verdict, then what limited one."""
    found = report(
        baselines=[
            {"name": "mean", "note": "", "metrics": {"mean_squared_error": 0.9, "r2_score": 0.0}},
            {"name": "boosting", "note": "It was cut short.", "metrics": {}},
        ],
        verdict="The network is better than mean.",
    )

    lines = report_text(found).splitlines()

    table = lines.index("Held-back test rows")
    assert [line.split() for line in lines[table + 2 : table + 8]] == [
        ["model", "mean_squared_error", "r2_score"],
        ["best", "0.2600", "0.7500"],
        ["recommended", "0.4900", "0.5000"],
        ["mean", "(no", "network)", "0.9000", "0.0000"],
        [],
        ["The", "network", "is", "better", "than", "mean."],
    ]
    assert lines[table + 8] == "Boosting: It was cut short."


def test_what_else_a_model_has_to_show_is_a_section_of_its_own() -> None:
    """Sampled text and the like stand under their heading, line by line."""
    text = report_text(report(extras={"Sampled text": "To be,\nor not"}))

    assert "Sampled text\n------------\nTo be,\nor not\n" in text


def compared(found: dict[str, Any] | None) -> dict[str, Any]:
    """A report with another difference on the held-back rows."""
    return report(test=report()["test"] | {"difference": found})


def test_a_gain_that_holds_on_the_test_rows_is_said() -> None:
    """Both scores, the gain, its interval on the held-back rows, and that it holds."""
    assert headline(report()) == (
        "The recommendation reached val_loss 0.5000, the best trial 0.2500 (gain 0.2500). "
        "On 2,345 held-back rows the gain in mean_squared_error is 0.2300 "
        "(95 % interval 0.2000 to 0.2600): it holds."
    )


def test_a_gain_within_chance_is_said() -> None:
    """An interval that holds zero takes the praise back."""
    text = headline(compared(difference(0.01, -0.02, 0.04)))

    assert "0.0100 (95 % interval -0.0200 to 0.0400): not beyond chance" in text
    assert "the recommendation alone would have served as well." in text
    assert "it holds" not in text


def test_a_loss_on_the_test_rows_is_said() -> None:
    """A real difference the other way names the validation gain luck."""
    text = headline(compared(difference(-0.3, -0.4, -0.2)))

    assert "-0.3000 (95 % interval -0.4000 to -0.2000): there the recommendation is better" in text
    assert text.endswith("the validation gain was luck.")


def test_a_recommendation_that_won_is_kept() -> None:
    """Where no trial was better, nothing is said of an interval."""
    default = report()["default"]

    text = headline(report(best=default, gain=0.0))

    assert text == (
        "The recommendation reached val_loss 0.5000, the best trial 0.5000 (gain 0.0000). "
        "No other trial beat the recommendation: keep it."
    )


def test_a_recommendation_without_a_score_is_admitted() -> None:
    """Where the recommendation failed, the best score stands alone."""
    text = headline(report(default=None, gain=None))

    assert text == "Best val_loss 0.2500; the recommendation itself left no score."


def test_a_missing_comparison_leaves_the_scores() -> None:
    """Without a difference the sentence ends after the gain."""
    assert headline(compared(None)).strip().endswith("(gain 0.2500).")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (0.0, "0.0000"),
        (-0.12345, "-0.1235"),
        (0.05, "0.0500"),
        (1.0, "1"),
        (12.3456, "12.35"),
        (-999.5, "-999.5"),
        (1000.0, "1,000"),
        (-1234567.8, "-1,234,568"),
    ],
)
def test_scores_have_the_digits_they_deserve(value: float | None, text: str) -> None:
    """Four digits, and whole numbers with separators from a thousand on."""
    assert score(value) == text


def test_small_scores_stay_apart() -> None:
    """A loss of a target in small units keeps digits that tell trials apart."""
    assert score(3.1e-5) != score(1.2e-5)


def section(text: str, title: str) -> list[str]:
    """The lines under a heading of the plain text."""
    lines = text.splitlines()
    start = lines.index(title) + 2
    assert lines[start - 1] == "-" * len(title)
    end = next((i for i in range(start, len(lines)) if not lines[i]), len(lines))
    return lines[start:end]


def test_the_leaderboard_shows_trials_and_what_varied() -> None:
    """Rank, score, epochs, seconds and the changed hyperparameters, in aligned columns."""
    table = section(report_text(report()), "Leaderboard")

    assert table == [
        "trial               val_loss  epochs  seconds  model.units",
        "0007                0.2500    12      3.2      128",
        "0000 (recommended)  0.5000    12      3.2      64",
    ]


def test_the_leaderboard_names_few_hyperparameters() -> None:
    """Of many changes only the first five become columns; none is lost below."""
    changes = [{"hyperparameter": f"model.h{i}", "default": i, "best": i + 1} for i in range(7)]

    text = report_text(report(changes=changes))

    header = section(text, "Leaderboard")[0]
    assert re.findall(r"model\.h\d", header) == [f"model.h{i}" for i in range(5)]
    assert len(section(text, "What the winner changed")) == 1 + 7


def test_changes_and_inactive_values_are_shown() -> None:
    """Values are written as people write them; a value that was not in force is a dash."""
    changes = [
        {"hyperparameter": "optimizer.learning_rate", "default": 0.001, "best": 0.00123456},
        {"hyperparameter": "optimizer.nesterov", "default": None, "best": True},
    ]

    text = report_text(report(changes=changes))

    rows = [re.split(r"\s{2,}", line) for line in section(text, "What the winner changed")]
    assert rows == [
        ["hyperparameter", "recommended", "best"],
        ["optimizer.learning_rate", "0.001", "0.001235"],
        ["optimizer.nesterov", "-", "true"],
    ]
    assert section(text, "Leaderboard")[1].endswith("-                        -")


def test_verdicts_tests_and_next_steps_are_shown() -> None:
    """Each section of the report has its rows."""
    text = report_text(report())

    assert section(text, "Did the rules hold?")[1] == (
        "MOD001  model.units     held     the best trials have 128, 64, 64"
    )
    assert [line.split() for line in section(text, "Held-back test rows")] == [
        ["model", "mean_squared_error", "r2_score"],
        ["best", "0.2600", "0.7500"],
        ["recommended", "0.4900", "0.5000"],
    ]
    assert section(text, "Next") == [
        "- DIA009: Stop here.",
        "- `smarttune predict runs/one new.csv -o predictions.csv`",
        "- `smarttune export runs/one model.keras`",
        "- `smarttune resume runs/one --time 10m`",
        "- `smarttune cite runs/one`",
    ]


def test_failures_are_counted_in_the_open() -> None:
    """Outcomes other than completion are named with their numbers."""
    line = "Strategy random: 9 trials, 108 epochs, 61.5 s (5 completed, 1 diverged, 1 failed, 2 stopped)."

    assert line in report_text(report()).splitlines()
    assert line in report_markdown(report()).splitlines()


def test_empty_sections_are_left_out() -> None:
    """Without changes, verdicts and a tested recommendation there is no empty table."""
    tested = report()["test"] | {"default": None, "difference": None}

    text = report_text(report(changes=[], verdicts=[], test=tested, default=None, gain=None))

    assert "What the winner changed" not in text
    assert "Did the rules hold?" not in text
    assert [line.split()[0] for line in section(text, "Held-back test rows")] == ["model", "best"]


def cells(line: str) -> list[str]:
    """The cells of a Markdown row; an escaped bar belongs to its cell."""
    return [c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_markdown_has_headings_and_tables() -> None:
    """A title, a heading per section, and tables with a line of dashes under the header."""
    lines = report_markdown(report()).splitlines()

    assert lines[0] == "# Search on a.csv"
    assert [line for line in lines if line.startswith("## ")] == [
        "## Leaderboard",
        "## What the winner changed",
        "## Did the rules hold?",
        "## Held-back test rows",
        "## Next",
    ]
    start = lines.index("## Leaderboard") + 2
    assert cells(lines[start]) == ["trial", "val_loss", "epochs", "seconds", "model.units"]
    assert cells(lines[start + 1]) == ["---"] * 5
    assert cells(lines[start + 2]) == ["0007", "0.2500", "12", "3.2", "128"]
    assert all(not line or lines[i - 1] == "" for i, line in enumerate(lines) if line[:2] == "##")


def named(name: str) -> dict[str, Any]:
    """A report on a hyperparameter of a column with that name."""
    changes = [{"hyperparameter": f"model.encoding[{name}]", "default": "a|b", "best": "c"}]
    return report(changes=changes, verdicts=[])


def test_markdown_escapes_bars() -> None:
    """A bar in a name or value does not open a new cell."""
    lines = report_markdown(named("x|y")).splitlines()

    start = lines.index("## What the winner changed") + 2
    assert [cells(line) for line in lines[start : start + 3]] == [
        ["hyperparameter", "recommended", "best"],
        ["---"] * 3,
        ["model.encoding[x|y]", "a|b", "c"],
    ]


@pytest.mark.parametrize("written", [report_text, report_markdown])
def test_a_row_stays_one_line(written: Any) -> None:
    """A column name with a line break does not tear a table apart."""
    plain, torn = (written(named(name)).splitlines() for name in ("x y", "x\ny"))

    assert len(torn) == len(plain)


@pytest.mark.parametrize(
    "run",
    [
        "runs/one",
        "my runs/it's one",
    ],
)
def test_commands_can_be_pasted(run: str) -> None:
    """A shell reads each command as three to five words, the run among them."""
    for command in commands(report(run=run)):
        words = shlex.split(command)
        assert words[0] == "smarttune"
        assert words[2] == run
