"""A search in numbers: what won, what changed, which rules held, what comes next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from smarttune.errors import RunError
from smarttune.facts import Facts
from smarttune.fingerprint import ColumnProfile, Fingerprint
from smarttune.objectives import Objective
from smarttune.recommendation import Reason, Recommendation, Setting, recommend
from smarttune.report.summary import changes, next_steps, summarize, verdicts
from smarttune.rulebook import Rulebook
from smarttune.space import Choice, Fixed, FloatRange, IntRange, NormalPrior, Value, WeightsPrior
from smarttune.trials import TrialLog, TrialRecord
from smarttune.tuning.history import history_facts
from smarttune.tuning.run import Run
from tests.strategies import book_of, rule

LOSS = Objective("val_loss", "min")
RATE, UNITS, ACTIVATION = "optimizer.learning_rate", "model.units", "model.activation"
TOWN = "model.encoding[town]"


def reasons(code: str) -> tuple[Reason, ...]:
    """One rule that decided."""
    return (Reason(rule=code, summary=f"Reason of {code}."),)


def recommendation(**settings: Setting) -> Recommendation:
    """A searched rate, width and activation, a fixed batch, and more settings by name."""
    base = {
        RATE: Setting(
            value=1e-3,
            range=FloatRange(low=1e-4, high=1e-2, sampling="log"),
            prior=NormalPrior(center=0.5, spread=0.125),
            because=reasons("LRN001"),
        ),
        UNITS: Setting(
            value=64,
            range=IntRange(low=16, high=256, sampling="power_of_two"),
            prior=NormalPrior(center=0.5, spread=0.25),
            because=reasons("ARC001"),
        ),
        ACTIVATION: Setting(
            value="relu",
            range=Choice(values=("relu", "silu", "tanh")),
            prior=WeightsPrior(weights=(2.0, 1.0, 1.0)),
            because=reasons("ACT001"),
        ),
        "training.batch_size": Setting(value=32, range=Fixed(value=32), because=reasons("BAT001")),
    }
    return Recommendation(
        facts=Facts.of({"data.num_samples": 1000, "data.task": "tabular"}),
        settings=base | settings,
    )


def trial(number: int, score: float | None = None, **details: Any) -> TrialRecord:
    """A finished trial; without a score it failed. `values` go over the recommended ones."""
    values = {RATE: 1e-3, UNITS: 64, ACTIVATION: "relu", "training.batch_size": 32}
    values |= details.pop("values", {})
    base: dict[str, Any] = {
        "outcome": "completed" if score is not None else "failed",
        "best_epoch": None if score is None else 2,
        "num_epochs": 3,
        "max_epochs": 3,
        "seconds": 1.5,
        "curve": () if score is None else tuple({"val_loss": score + e} for e in (1, 0, 0.5)),
    }
    return TrialRecord(trial_id=f"{number:04}", values=values, score=score, **(base | details))


def log_with_top(name: str, values: Sequence[Value], *, others: int = 11) -> TrialLog:
    """A log whose best trials have these values, before others with worse scores."""
    top = [trial(i, 0.1 * (i + 1), values={name: v}) for i, v in enumerate(values)]
    rest = [trial(50 + i, 2.0 + i, values={RATE: 2e-4 * (1 + i)}) for i in range(others)]
    return TrialLog(LOSS, [*rest, *top])


def verdict(log: TrialLog, name: str, found: Recommendation | None = None) -> dict[str, Any]:
    """The row on one hyperparameter."""
    rows = verdicts(log, found if found is not None else recommendation())
    (row,) = (r for r in rows if r["hyperparameter"] == name)
    return row


# Verdicts.


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1e-3, 8e-4, 1.2e-3], "held"),
        ([9e-3, 1e-3, 1e-3], "held"),  # one lucky trial far off, the middle at home
        ([7e-3, 6e-3, 5e-3], "shifted"),
        ([2e-4, 1.9e-4, 1e-3], "shifted"),
        ([9.9e-3, 9.8e-3, 1e-3], "at the edge"),
        ([1.01e-4, 1.02e-4, 1.03e-4], "at the edge"),
    ],
)
def test_a_numeric_rule_is_judged_by_the_middle_of_the_best(
    values: list[float], expected: str
) -> None:
    """The median of the best three holds, shifts, or hugs an edge."""
    row = verdict(log_with_top(RATE, values), RATE)

    assert row["verdict"] == expected
    assert (row["rule"], row["recommended"], row["best"]) == ("LRN001", 1e-3, values[0])
    assert row["why"].startswith(f"the best trials have {values[0]:.4g}, {values[1]:.4g}, ")
    assert ("better values may lie beyond" in row["why"]) == (expected == "at the edge")


@pytest.mark.parametrize(("value", "expected"), [(0.75, "held"), (0.7501, "shifted")])
def test_one_spread_off_still_holds(value: float, expected: str) -> None:
    """A median exactly one spread of the prior away is the last that holds."""
    dropout = Setting(
        value=0.5,
        range=FloatRange(low=0.0, high=1.0),
        prior=NormalPrior(center=0.5, spread=0.25),
        because=reasons("REG001"),
    )
    found = recommendation(**{"model.dropout": dropout})

    other = trial(90, 9.0, values={"model.dropout": 0.1})  # a single value is no test
    log = TrialLog(LOSS, [*log_with_top("model.dropout", [value] * 3), other])

    assert verdict(log, "model.dropout", found)["verdict"] == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["relu", "silu", "tanh"], "held"),  # the best one chose it
        (["silu", "relu", "relu"], "held"),  # most of the best chose it
        (["silu", "relu", "silu"], "contradicted"),
        (["tanh", "silu", "silu"], "contradicted"),
    ],
)
def test_a_choice_is_judged_by_what_the_best_chose(values: list[str], expected: str) -> None:
    """A named value holds if the best trial or most of the best three have it."""
    row = verdict(log_with_top(ACTIVATION, values), ACTIVATION)

    assert row["verdict"] == expected
    assert row["why"] == f"the best trials chose {', '.join(values)}"


def test_few_configurations_prove_nothing() -> None:
    """Below twelve distinct configurations no rule is judged; repeats do not count."""
    eleven = log_with_top(RATE, [7e-3, 6e-3, 5e-3], others=8)
    repeated = TrialLog(
        LOSS, [*eleven, *(trial(90 + i, 5.0, values={RATE: 7e-3}) for i in range(5))]
    )
    twelve = TrialLog(LOSS, [*eleven, trial(99, 5.0, values={RATE: 4.5e-3})])

    assert verdict(eleven, RATE)["verdict"] == "not tested"
    assert verdict(repeated, RATE)["verdict"] == "not tested"
    assert verdict(twelve, RATE)["verdict"] == "shifted"


def test_a_single_value_proves_nothing() -> None:
    """A hyperparameter that no trial varied is not tested, however many trials there are."""
    row = verdict(log_with_top(RATE, [7e-3, 6e-3, 5e-3]), UNITS)

    assert (row["verdict"], row["why"]) == ("not tested", "1 of its values were tried")


def test_the_recommendation_does_not_speak_for_itself() -> None:
    """A winning recommendation does not confirm its own rules; the next trials do."""
    others = list(log_with_top(RATE, [7e-3, 6e-3, 5e-3]))

    row = verdict(TrialLog(LOSS, [trial(70, 0.01, is_default=True), *others]), RATE)

    assert (row["verdict"], row["best"]) == ("shifted", 7e-3)


def test_failed_trials_are_not_among_the_best() -> None:
    """A diverged trial with a lower loss says nothing of where good values lie."""
    lured = [trial(80 + i, 0.001, outcome="diverged", values={RATE: 9.9e-3}) for i in range(3)]

    log = TrialLog(LOSS, [*lured, *log_with_top(RATE, [1e-3, 9e-4, 8e-4])])

    assert verdict(log, RATE)["verdict"] == "held"


def test_higher_scores_win_where_they_are_better() -> None:
    """For an accuracy the verdict looks at the highest scores."""
    records = [
        r.model_copy(update={"score": 1 / (1 + (r.score or 0))})
        for r in log_with_top(RATE, [7e-3, 6e-3, 5e-3])
    ]

    log = TrialLog(Objective("val_accuracy", "max"), records)

    assert verdict(log, RATE)["best"] == 7e-3


def test_a_value_that_no_good_trial_had_is_not_tested() -> None:
    """A hyperparameter active in poor trials only has no verdict."""
    momentum = Setting(
        value=0.9,
        range=FloatRange(low=0.0, high=0.99),
        prior=NormalPrior(center=0.9, spread=0.25),
        because=reasons("OPT001"),
    )
    poor = [trial(80 + i, 90.0, values={"optimizer.momentum": 0.1 * i}) for i in range(4)]

    log = TrialLog(LOSS, [*log_with_top(RATE, [1e-3, 9e-4, 8e-4]), *poor])
    row = verdict(log, "optimizer.momentum", recommendation(**{"optimizer.momentum": momentum}))

    assert (row["verdict"], row["best"]) == ("not tested", None)


def test_only_searched_rules_are_judged() -> None:
    """What was fixed, set by the user, of one column, never tried or unexplained has no row."""
    range_ = Choice(values=("a", "b"))
    found = recommendation(
        **{
            "optimizer.name": Setting(
                value="a", range=range_, because=(Reason(rule="you", summary="You set it."),)
            ),
            TOWN: Setting(value="a", range=range_, because=reasons("TAB001")),
            "model.pooling": Setting(value="a", range=range_, because=reasons("ARC002")),
            "model.kind": Setting(value="a", range=range_),
        }
    )
    tried = {"optimizer.name": "b", TOWN: "b", "model.kind": "b"}
    records = [
        r.model_copy(update={"values": r.values | tried})
        for r in log_with_top(RATE, [1e-3, 9e-4, 8e-4])
    ]

    rows = verdicts(TrialLog(LOSS, records), found)

    assert [r["hyperparameter"] for r in rows] == [RATE, UNITS, ACTIVATION]


# Changes.


def test_changes_are_what_the_winner_does_otherwise() -> None:
    """Only values that differ are listed, in the order of the space."""
    best = trial(1, 0.1, values={ACTIVATION: "silu", RATE: 2e-3})

    assert changes(best, trial(0, 0.5), recommendation().space()) == [
        {"hyperparameter": RATE, "default": 1e-3, "best": 2e-3},
        {"hyperparameter": ACTIVATION, "default": "relu", "best": "silu"},
    ]


def test_the_winner_may_be_the_recommendation() -> None:
    """A recommendation that won changes nothing."""
    same = trial(0, 0.5, is_default=True)

    assert changes(same, same, recommendation().space()) == []


def test_without_its_trial_the_recommendation_is_the_space() -> None:
    """Where the recommendation was not scored, its values come from the space."""
    found = changes(trial(1, 0.1, values={UNITS: 128}), None, recommendation().space())

    assert found == [{"hyperparameter": UNITS, "default": 64, "best": 128}]


def test_a_value_that_was_not_in_force_is_none() -> None:
    """A conditional value that only the winner has differs from none."""
    best = trial(1, 0.1, values={"optimizer.momentum": 0.9})
    momentum = Setting(value=0.5, range=FloatRange(low=0.0, high=0.99))
    space = recommendation(**{"optimizer.momentum": momentum}).space()

    assert changes(best, trial(0, 0.5), space) == [
        {"hyperparameter": "optimizer.momentum", "default": None, "best": 0.9}
    ]


# Next steps.

TABLE = {
    "data.task": "tabular",
    "model.problem": "regression",
    "data.num_samples": 2000,
    "data.num_features": 8,
    "hardware.device": "cpu",
}


def steps(found: Recommendation, log: TrialLog, book: Rulebook) -> list[dict[str, str]]:
    """What the rules say after these trials."""
    return next_steps(found, history_facts(log, found.space()), book)


def test_without_history_nothing_comes_next(book: Rulebook) -> None:
    """The rules that had spoken before the search do not speak again."""
    assert next_steps(recommend(Facts.of(TABLE), rules=book), Facts({}), book) == []


def test_a_rate_at_its_edge_moves_the_range(book: Rulebook) -> None:
    """The built-in rules widen the range by a decade on the side of the best rates."""
    found = recommend(Facts.of(TABLE), rules=book)
    high = float(found.settings[RATE].range.from_unit(1.0))
    good = [trial(i, 0.1 + i, values={RATE: high * (0.99 - 0.01 * i)}) for i in range(8)]

    told = steps(found, TrialLog(LOSS, good), book)

    (moved,) = (s["text"] for s in told if s["text"].startswith(book["DIA005"].summary))
    assert f" Next: {RATE} = {high * 0.99:.4g}, searched over " in moved
    assert f"to {high * 10:.4g} (log)." in moved
    assert {"rule": "DIA005", "text": book["DIA005"].then[1].advice} in told


def test_diverged_trials_cap_the_rate(book: Rulebook) -> None:
    """Where most trials diverged, the rules say so and cut the range below them."""
    found = recommend(Facts.of(TABLE), rules=book)
    bad = [trial(i, outcome="diverged", values={RATE: 0.3 + i}) for i in range(4)]

    told = steps(found, TrialLog(LOSS, [trial(9, 0.5), *bad]), book)

    texts = {s["rule"]: s["text"] for s in told}
    assert texts["DIA017"].startswith("More than 30 percent of the trials diverged")
    # From the lower edge of the range, which nothing speaks against, up to two thirds of it.
    assert f" Next: {RATE} = " in texts["DIA003"]
    assert texts["DIA003"].endswith(
        f", searched over {found.settings[RATE].range.low:g} to 0.2 (log)."
    )


def test_only_dynamic_rules_speak_next(book: Rulebook) -> None:
    """Every step names a rule that reads the history."""
    bad = [trial(i, outcome="diverged", values={RATE: 0.3 + i}) for i in range(9)]
    told = steps(
        recommend(Facts.of(TABLE), rules=book), TrialLog(LOSS, [trial(9, 0.5), *bad]), book
    )

    assert told
    assert {book[s["rule"]].kind for s in told} == {"dynamic"}


WIDTH = rule("TST001", then={"hyperparameter": UNITS, "fixed": 16})


def after_trials(**then: Any) -> Any:
    """A rule that speaks once trials have run."""
    return rule("TST002", kind="dynamic", when=["history.num_trials > 0"], then=then)


def test_a_dynamic_rule_that_changes_nothing_is_silent() -> None:
    """Where the history confirms a setting, there is no step."""
    rules = book_of(WIDTH, after_trials(hyperparameter=UNITS, fixed=16))

    told = steps(recommend(Facts({}), rules=rules), TrialLog(LOSS, [trial(0, 1.0)]), rules)

    assert told == []


@pytest.mark.parametrize(
    ("then", "text"),
    [
        ({"hyperparameter": UNITS, "fixed": 32}, f"Next: {UNITS} = 32."),
        (
            {"hyperparameter": UNITS, "int": {"low": 8, "high": 32, "default": 16}},
            f"Next: {UNITS} = 16, searched over 8 to 32.",
        ),
        ({"hyperparameter": "model.dropout", "fixed": 0.25}, "Next: model.dropout = 0.25."),
    ],
)
def test_a_new_value_range_or_setting_is_a_step(then: dict[str, Any], text: str) -> None:
    """A changed value, a changed range and a new setting are each told with their reason."""
    rules = book_of(WIDTH, after_trials(**then))

    told = steps(recommend(Facts({}), rules=rules), TrialLog(LOSS, [trial(0, 1.0)]), rules)

    assert told == [{"rule": "TST002", "text": f"Reason of the rule TST002. {text}"}]


def test_what_the_user_set_is_not_taken_back() -> None:
    """No step changes a value that the user fixed with --set."""
    rules = book_of(WIDTH, after_trials(hyperparameter=UNITS, fixed=32))
    found = recommend(Facts({}), rules=rules, pinned={UNITS: 99})

    assert steps(found, TrialLog(LOSS, [trial(0, 1.0)]), rules) == []


def test_rules_read_what_the_user_set() -> None:
    """A dynamic rule on a hyperparameter judges the value that was in force."""
    advice = rule(
        "TST002",
        kind="dynamic",
        when=["history.num_trials > 0", f"{UNITS} < 50"],
        then={"advice": "The network is narrow."},
    )
    rules = book_of(WIDTH, advice)
    found = recommend(Facts({}), rules=rules, pinned={UNITS: 99})

    assert steps(found, TrialLog(LOSS, [trial(0, 1.0)]), rules) == []


# The whole report.


def fingerprint(source: str = "a.csv", target: str = "y") -> Fingerprint:
    """Measured data with one numeric column."""
    age = ColumnProfile(
        name="age", kind="numeric", used=True, reason="", num_missing=0, cardinality=900
    )
    return Fingerprint(
        source=source,
        num_rows=1000,
        num_rows_seen=1000,
        num_usable=1000,
        sampled=False,
        target=target,
        problem="regression",
        problem_evidence="Numbers.",
        columns=(age,),
    )


def run_with(
    path: Path,
    log: TrialLog,
    found: Recommendation,
    measured: Fingerprint | None = None,
) -> Run:
    """A run directory whose trials are kept in memory, which saves a second of SQLite."""
    data = measured if measured is not None else fingerprint()
    run = Run.create(
        path,
        {
            "data": {"where": data.source},
            "objective": log.objective._asdict(),
            "strategy": "random",
            "num_validation": 200,
        },
        {
            "recommendation.json": found.to_json(),
            "fingerprint.json": json.loads(data.model_dump_json()),
        },
    )
    run.__dict__["study"] = SimpleNamespace(records=lambda: list(log))
    return run


def finished(**changed: Any) -> dict[str, Any]:
    """What the end of a search found, with some keys of the test changed."""
    tested = {
        "rows": 150,
        "metric": "mean_squared_error",
        "best": {"mean_squared_error": 0.26, "r2_score": 0.75},
        "default": {"mean_squared_error": 0.49, "r2_score": 0.5},
        "difference": {"gain": 0.23, "low": 0.2, "high": 0.26, "is_real": True},
    }
    return {
        "seconds": 12.3456,
        "test": tested | changed,
        "export": {"model": "model.keras", "reason": ""},
        "baselines": [baseline("mean"), baseline("gradient boosting", note="Only 3 rounds.")],
        "verdict": "The network holds its own.",
        "extras": {"A sample": "first line\nsecond <line>"},
    }


def baseline(name: str, *, note: str = "") -> dict[str, Any]:
    """A model without a network, as judging describes it."""
    return {
        "name": name,
        "role": "strong",
        "about": "a yardstick",
        "library": "",
        "seconds": 0.1,
        "note": note,
        "metrics": {"mean_squared_error": 0.5, "r2_score": 0.25},
        "difference": None,
    }


def test_a_run_becomes_plain_data(tmp_path: Path, book: Rulebook) -> None:
    """The report counts trials and outcomes, ranks the scored ones and is JSON."""
    log = TrialLog(
        LOSS,
        [
            trial(0, 0.5, is_default=True),
            trial(1, message="Traceback"),
            trial(2, 0.25, values={UNITS: 128}),
            trial(3, outcome="diverged", values={RATE: 1e-2}),
            trial(4, 0.75, outcome="stopped"),
        ],
    )
    run = run_with(tmp_path / "run", log, recommendation())

    made = summarize(run, finished(), book)

    assert json.loads(json.dumps(made)) == made
    assert made["schema"] == "smarttune/report@1"
    assert made["run"] == str(run.path)
    assert made["data"] == {
        "source": "a.csv",
        "rows": 1000,
        "target": "y",
        "problem": "regression",
    }
    assert made["objective"] == {"name": "val_loss", "direction": "min"}
    assert (made["num_trials"], made["num_epochs"], made["seconds"]) == (5, 15, 12.3)
    assert made["outcomes"] == {"completed": 2, "failed": 1, "diverged": 1, "stopped": 1}
    assert [t["trial_id"] for t in made["leaderboard"]] == ["0002", "0000", "0004"]
    assert made["best"]["trial_id"] == "0002"
    assert made["default"]["trial_id"] == "0000"
    assert made["gain"] == 0.25
    assert made["changes"] == [{"hyperparameter": UNITS, "default": 64, "best": 128}]
    assert made["history"]["history.num_trials"]["value"] == 5
    assert made["test"] == finished()["test"]
    assert "curve" not in made["best"]
    assert "message" not in made["best"]


@pytest.mark.parametrize("direction", ["min", "max"])
def test_a_gain_is_positive_where_the_best_is_better(
    tmp_path: Path, direction: Any, book: Rulebook
) -> None:
    """Whatever the direction, a better score is a positive gain."""
    default, best = (0.5, 0.25) if direction == "min" else (0.25, 0.5)
    records = [trial(0, default, is_default=True), trial(1, best, values={UNITS: 128})]
    log = TrialLog(Objective("val_auc", direction), records)

    made = summarize(run_with(tmp_path / "run", log, recommendation()), finished(), book)

    assert made["gain"] == 0.25


def test_a_failed_recommendation_has_no_gain(tmp_path: Path, book: Rulebook) -> None:
    """Without a score of the recommendation there is neither default nor gain."""
    log = TrialLog(LOSS, [trial(0, is_default=True), trial(1, 0.5)])

    made = summarize(run_with(tmp_path / "run", log, recommendation()), finished(), book)

    assert (made["default"], made["gain"]) == (None, None)


def test_a_long_leaderboard_is_cut(tmp_path: Path, book: Rulebook) -> None:
    """Ten trials are listed, the best first."""
    log = TrialLog(LOSS, [trial(i, 20.0 - i) for i in range(15)])

    made = summarize(run_with(tmp_path / "run", log, recommendation()), finished(), book)

    assert [t["score"] for t in made["leaderboard"]] == [float(s) for s in range(6, 16)]
    assert made["num_trials"] == 15


def test_a_search_without_a_model_has_no_report(tmp_path: Path, book: Rulebook) -> None:
    """Where every trial failed, the error names the outcomes."""
    run = run_with(tmp_path / "run", TrialLog(LOSS, [trial(0)]), recommendation())

    with pytest.raises(RunError, match="failed"):
        summarize(run, finished(), book)
