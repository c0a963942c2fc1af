"""What a search changes on its way: by rule, held, taken back, and repeated when resumed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import keras_tuner
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarttune.errors import OptionError, SettingError
from smarttune.facts import Facts
from smarttune.objectives import Objective
from smarttune.recommendation import recommend
from smarttune.report.adaptations import adaptation_rows
from smarttune.rulebook import load_rulebook
from smarttune.space import Choice, Dimension, Fixed, FloatRange, IntRange, SearchSpace, Value
from smarttune.trials import TrialLog, TrialRecord
from smarttune.tuning import Budget, Run, TrialPolicy
from smarttune.tuning.adapting import (
    COUNT,
    LENGTH,
    PROBATION,
    ROUND,
    RuleAdaptation,
    adaptations,
    is_within,
    space_after,
)

from .searches import (
    RATE,
    WIDTH,
    Interrupt,
    Scripted,
    bowl,
    essence,
    keras_reads_variables,
    kerastuner_names_threads,
    oracle,
    tuner,
)

pytestmark = [keras_reads_variables, kerastuner_names_threads]

LOSS = Objective("val_loss", "min")
DROPOUT, DECAY, DEPTH = "model.dropout", "optimizer.weight_decay", "model.num_layers"
EPOCHS = 10
FACTS = Facts.of(
    {
        "data.task": "tabular",
        "model.problem": "regression",
        "data.num_samples": 2000,
        "data.num_features": 8,
        "hardware.device": "cpu",
        "budget.num_tuned": 2,
    }
)
SPACE = SearchSpace(
    dimensions=(
        Dimension(name=RATE, range=FloatRange(low=1e-4, high=1e-1, sampling="log"), value=1e-3),
        Dimension(name=WIDTH, range=IntRange(low=1, high=4), value=2),
        Dimension(name=DROPOUT, range=FloatRange(low=0.0, high=0.5), value=0.1),
        Dimension(name=DECAY, range=FloatRange(low=1e-6, high=1e-3, sampling="log"), value=1e-5),
    )
)
FALLING = tuple({"loss": 1 / n, "val_loss": 2 / n} for n in range(1, EPOCHS + 1))
RISING = tuple({"loss": 1 / n, "val_loss": 0.5 + abs(n - 4) / 5} for n in range(1, EPOCHS + 1))
LEVEL = tuple({"loss": 1 + 1 / n, "val_loss": 1 + 1.02 / n} for n in range(1, EPOCHS + 1))


@cache
def rules(*, declared: bool = False, planned: int = 40) -> RuleAdaptation:
    """The built-in rules on a space of four hyperparameters."""
    book = load_rulebook()
    made = recommend(FACTS | Facts.of({"budget.num_trials": planned}), rules=book)
    declined = {LENGTH: "the rungs stand"} if declared else {}
    return RuleAdaptation(made, book, SPACE, EPOCHS, declined=declined)


def trial(number: int, score: float | None, rate: float = 3e-3, **details: Any) -> TrialRecord:
    """A finished trial; one without a score has diverged."""
    values: dict[str, Value] = {RATE: rate, WIDTH: 2, DROPOUT: 0.2, DECAY: 3e-5}
    values |= details.pop("values", {})
    base: dict[str, Any] = {
        "outcome": "diverged" if score is None else "completed",
        "best_epoch": 6,
        "num_epochs": EPOCHS,
        "max_epochs": EPOCHS,
        "curve": FALLING,
    }
    return TrialRecord(trial_id=str(number), values=values, score=score, **(base | details))


def log(*records: TrialRecord) -> TrialLog:
    """A log by loss."""
    return TrialLog(LOSS, records)


def many(count: int, **details: Any) -> list[TrialRecord]:
    """Trials of which the first is the best, with values spread over the middle."""
    return [trial(i, 0.5 + 0.01 * i, 1e-3 * (2 + i % 4), **details) for i in range(count)]


def changes(events: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Hyperparameter to the event that changes it."""
    return {e["hyperparameter"]: e for e in events}


def test_nothing_happens_amid_a_round() -> None:
    """Only every few trials the rules are read, whatever the trials tell."""
    bad = [trial(0, 0.5), *(trial(i, None, 0.05) for i in range(1, ROUND + 2))]

    for count in range(len(bad) + 1):
        assert bool(rules()(log(*bad[:count]), [])) is (count == ROUND)


def test_diverged_trials_cap_the_rate() -> None:
    """The range ends below the smallest diverged rate, keeps its lower edge, and says why."""
    seen = log(
        trial(0, 0.5), trial(1, 0.6), trial(2, None, 0.03), trial(3, None, 0.09), trial(4, 0.7)
    )

    event = changes(rules()(seen, []))[RATE]

    assert event["rule"] == "DIA003"
    assert event["after"]["range"]["high"] == pytest.approx(0.02)
    assert event["after"]["range"]["low"] == pytest.approx(1e-4)
    assert event["before"]["range"]["high"] == 0.1
    assert event["facts"]["history.min_diverged_learning_rate"] == 0.03
    assert any("0.03" in line for line in event["trace"])
    assert (event["num_trials"], event["best_score"]) == (5, 0.5)


def test_a_diverged_trial_below_the_best_rate_caps_nothing() -> None:
    """Where the best trial had the larger rate, something else made the other one diverge."""
    seen = log(trial(0, 0.5, 0.02), trial(1, None, 0.01), *many(3))

    assert RATE not in changes(rules()(seen, []))


@pytest.mark.parametrize(("rate", "low", "high"), [(1.1e-4, 1e-5, 0.1), (0.09, 1e-4, 1.0)])
def test_an_optimum_on_an_edge_widens_the_range(rate: float, low: float, high: float) -> None:
    """The best rates at one edge move that edge by a decade and leave the other."""
    seen = log(*(trial(i, 0.1 + 0.01 * i, rate) for i in range(3)), *many(7))

    event = changes(rules()(seen, []))[RATE]

    assert event["rule"] == "DIA005"
    assert event["after"]["range"]["low"] == pytest.approx(low)
    assert event["after"]["range"]["high"] == pytest.approx(high)


def test_widening_downwards_keeps_the_cap() -> None:
    """A range that grows below does not take in again what diverged above."""
    best = [trial(i, 0.1 + 0.01 * i, 1.1e-4) for i in range(3)]
    seen = log(*best, *many(6), trial(9, None, 0.03))

    event = changes(rules()(seen, []))[RATE]

    assert event["rule"] == "DIA005"
    assert event["after"]["range"]["high"] == pytest.approx(0.02)


def test_a_rising_validation_loss_raises_regularization() -> None:
    """Overfitting lifts the lower edge of dropout and of weight decay to the best trial's."""
    found = changes(rules()(log(*many(10, curve=RISING, best_epoch=4)), []))

    assert found[DROPOUT]["rule"] == "DIA001"
    assert found[DROPOUT]["after"]["range"]["low"] == 0.2
    assert found[DECAY]["rule"] == "DIA002"
    assert found[DECAY]["after"]["range"]["low"] == 3e-5
    assert found[DECAY]["after"]["range"]["high"] == pytest.approx(3e-4)


def test_underfitting_relaxes_regularization() -> None:
    """Without a gap dropout goes down and the width up."""
    found = changes(rules()(log(*many(10, curve=LEVEL)), []))

    assert {found[DROPOUT]["rule"], found[WIDTH]["rule"]} == {"DIA014"}
    assert found[DROPOUT]["after"]["range"]["high"] == 0.2
    assert found[WIDTH]["after"]["range"]["high"] == 8


@pytest.mark.parametrize(("epoch", "rule", "epochs"), [(10, "DIA007", 15), (0, "DIA018", None)])
def test_late_optima_lengthen_trials(epoch: int, rule: str, epochs: int | None) -> None:
    """Best epochs at the end lengthen training; without any best epoch nothing changes."""
    found = changes(rules()(log(*many(5, best_epoch=epoch)), []))

    assert (LENGTH in found) is (epochs is not None)
    if epochs is not None:
        assert (found[LENGTH]["rule"], found[LENGTH]["after"]["value"]) == (rule, epochs)


def test_early_optima_shorten_trials() -> None:
    """Best epochs in the first tenth cut training to what it needs."""
    long = {"max_epochs": 40, "num_epochs": 40, "best_epoch": 2}

    found = changes(rules()(log(*many(5, **long)), []))

    assert found[LENGTH]["rule"] == "DIA018"
    assert found[LENGTH]["after"]["value"] == 12


def test_rungs_keep_their_length_and_say_so_once() -> None:
    """Where length cannot be changed, one event tells why, and the rest of the space may move."""
    seen = many(10, best_epoch=10)
    first = rules(declared=True)(log(*seen[:5]), [])

    assert [(e["event"], e["text"]) for e in first] == [("adaptation_declined", "the rungs stand")]
    assert LENGTH not in changes(rules(declared=True)(log(*seen), first))


def test_a_stalled_search_ends() -> None:
    """After twenty trials, the last of which gained nothing over the noise, no more are run."""
    assert COUNT not in changes(rules()(log(*many(15)), []))
    event = changes(rules()(log(*many(20)), []))[COUNT]

    assert (event["rule"], event["after"]["value"]) == ("DIA009", 20)
    assert event["before"]["value"] == 40


def test_gains_keep_a_search_going() -> None:
    """A gain beyond the noise within the last trials forbids the end."""
    assert COUNT not in changes(rules()(log(*many(14), trial(14, 0.1), *many(5)), []))


def test_an_end_waits_for_a_change_to_show() -> None:
    """Soon after an action the search goes on."""
    seen = many(20)
    cap = changes(rules()(log(*seen[:14], trial(14, None, 0.05)), []))[RATE]

    assert COUNT not in changes(rules()(log(*seen), [cap]))
    assert COUNT in changes(rules()(log(*seen, *many(5)), [cap]))


def widened() -> tuple[list[TrialRecord], list[Mapping[str, Any]]]:
    """Trials at the upper edge, and the event that they made."""
    seen = [trial(i, 0.1 + 0.01 * i, 0.09) for i in range(3)] + many(7)
    return seen, list(rules()(log(*seen), []))


def test_an_expansion_without_gain_is_taken_back_for_good() -> None:
    """Five trials beyond the former edge without a gain restore it, and the rule keeps off."""
    seen, events = widened()
    tried = [trial(10 + i, 0.4, 0.5) for i in range(PROBATION)]

    undone = changes(rules()(log(*seen, *tried), events))[RATE]

    assert undone["event"] == "adaptation_undone"
    assert undone["after"]["range"]["high"] == 0.1
    assert space_after(SPACE, [*events, undone])[RATE] == SPACE[RATE]
    later = rules()(log(*seen, *tried, *many(5)), [*events, undone])
    assert RATE not in changes(later)


def test_an_expansion_that_gained_holds() -> None:
    """One better trial in the new region keeps it."""
    seen, events = widened()
    tried = [trial(10 + i, 0.05 if i == 2 else 0.4, 0.5) for i in range(PROBATION)]

    found = rules()(log(*seen, *tried), events)

    assert "adaptation_undone" not in [e["event"] for e in found]


def test_an_expansion_nobody_tried_yet_holds() -> None:
    """Trials within the old range are no verdict on the new one."""
    seen, events = widened()

    assert RATE not in changes(rules()(log(*seen, *many(PROBATION)), events))


def test_a_cap_needs_no_trial() -> None:
    """What only cuts off diverging values is never taken back."""
    seen = [trial(0, 0.1), trial(1, None, 0.03), *many(3)]
    events = rules()(log(*seen), [])

    assert "adaptation_undone" not in [e["event"] for e in rules()(log(*seen, *many(10)), events)]


def test_an_action_holds_when_its_facts_are_gone() -> None:
    """The present range comes from the last action, not from the present facts."""
    seen, events = widened()

    after = space_after(SPACE, events)[RATE]

    assert after.range.high == pytest.approx(1.0)  # type: ignore[union-attr]
    assert rules()(log(*seen), events) == []  # what is noted of a round is not noted twice


def test_what_the_user_fixed_stays() -> None:
    """No rule moves a hyperparameter that the user set."""
    book = load_rulebook()
    made = recommend(FACTS, rules=book, pinned={RATE: 0.05, LENGTH: EPOCHS})
    pinned = RuleAdaptation(made, book, SPACE, EPOCHS)
    seen = log(trial(0, 0.5), *(trial(i, None, 0.05, best_epoch=None) for i in range(1, 5)))

    assert not {RATE, LENGTH} & changes(pinned(seen, [])).keys()


def test_a_single_range_is_within_a_wider_one() -> None:
    """Cuts are told from expansions for every kind of range."""
    wide = FloatRange(low=0.1, high=1.0, sampling="log")

    assert is_within(FloatRange(low=0.1, high=0.5, sampling="log"), wide)
    assert not is_within(wide, FloatRange(low=0.1, high=0.5, sampling="log"))
    assert is_within(Fixed(value=2), IntRange(low=1, high=4))
    assert not is_within(Choice(values=("a", "b")), Choice(values=("b", "c")))


@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.floats(0.01, 2.0)),
            st.floats(1e-4, 0.1),
            st.integers(1, EPOCHS),
            st.sampled_from([FALLING, RISING, LEVEL]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_whatever_happened_events_are_a_function_of_the_log(drawn: list[tuple[Any, ...]]) -> None:
    """Two passes over the same trials write the same events, all of them JSON that can be applied."""
    records = [
        trial(i, score, rate, best_epoch=epoch, curve=curve)
        for i, (score, rate, epoch, curve) in enumerate(drawn)
    ]

    def played() -> list[Any]:
        events: list[Any] = []
        for count in range(1, len(records) + 1):
            events += rules()(log(*records[:count]), tuple(events))
            assert rules()(log(*records[:count]), tuple(events)) == []
        return events

    events = played()
    assert json.loads(json.dumps(events)) == played()
    space_after(SPACE, events)
    assert len(adaptation_rows(log(*records), events)) <= len(events)


# In a running search.


def cliff(values: Mapping[str, Any], epoch: int) -> dict[str, float]:
    """A bowl that ends at a rate above which losses are no numbers."""
    return bowl(values, epoch) if values[RATE] <= 0.02 else {"loss": math.nan, "val_loss": math.nan}


def living(path: Path, strategy: str = "random", **options: Any) -> Any:
    """A scripted search over a range that ends beyond a cliff."""
    made = options.pop("oracle", None)
    if made is None:
        made = oracle(strategy) if strategy == "hyperband" else oracle(strategy, max_trials=18)
    scripted = Scripted(cliff)
    base: dict[str, Any] = {"adapt": rules(), "policy": TrialPolicy(max_epochs=2)}
    return tuner(path, made, scripted, **(base | options))


@pytest.mark.parametrize("strategy", ["random", "hyperband", "bayesian"])
def test_no_trial_is_drawn_above_the_cap(tmp_path: Path, strategy: str) -> None:
    """After the event no new configuration has a rate beyond the new edge."""
    search = living(tmp_path / "run", strategy)
    search.search(epochs=2)

    caps = [e for e in adaptations(tmp_path / "run") if e["hyperparameter"] == RATE]
    assert caps
    for record in search.log[caps[0]["num_trials"] :]:
        high = max(e["after"]["range"]["high"] for e in caps)
        assert record.parent is not None or record.values[RATE] <= high * (1 + 1e-9)
    assert any(r.outcome == "diverged" for r in search.log[: caps[0]["num_trials"]])


@pytest.mark.parametrize(
    ("strategy", "after"), [("random", 4), ("random", 5), ("hyperband", 7), ("bayesian", 6)]
)
def test_a_resumed_search_repeats_its_changes(tmp_path: Path, strategy: str, after: int) -> None:
    """Broken off before, at or after a change, a search ends with the same trials and events."""
    living(tmp_path / "whole", strategy).search(epochs=2)
    with pytest.raises(KeyboardInterrupt):
        living(tmp_path / "run", strategy, on_event=Interrupt(after)).search(epochs=2)
    living(tmp_path / "run", strategy).search(epochs=2)

    def trials(name: str) -> list[str]:
        # As text, for a diverged curve holds values that do not equal themselves.
        return [repr(essence(r)) for r in Run.load(tmp_path / name).log]

    def events(name: str) -> list[dict[str, Any]]:
        return [{**e, "time": 0} for e in adaptations(tmp_path / name)]

    assert trials("run") == trials("whole")
    assert events("run") == events("whole")
    assert events("run")


def test_a_round_cut_short_is_noted_when_resumed(tmp_path: Path) -> None:
    """A trial that was recorded without its event, as by a kill between the two, gets it later."""
    living(tmp_path / "run", budget=Budget(trials=5)).search(epochs=2)
    written = adaptations(tmp_path / "run")
    lines = (tmp_path / "run" / "events.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"adapted"' not in line]
    (tmp_path / "run" / "events.jsonl").write_text("".join(kept) + '{"event": "adap')

    living(tmp_path / "run", budget=Budget(trials=5))

    (tmp_path / "run" / "events.jsonl").write_text(
        (tmp_path / "run" / "events.jsonl").read_text().replace('{"event": "adap{', "{")
    )
    assert written
    assert [{**e, "time": 0} for e in adaptations(tmp_path / "run")] == [
        {**e, "time": 0} for e in written
    ]


def test_the_record_outlives_changed_rules(tmp_path: Path) -> None:
    """Where the rules would say something else today, the recorded change stands."""
    living(tmp_path / "run", budget=Budget(trials=7)).search(epochs=2)
    before = adaptations(tmp_path / "run")
    cap = changes(before)[RATE]["after"]["range"]["high"]

    silent = living(tmp_path / "run", adapt=lambda log, events: [])

    assert adaptations(tmp_path / "run") == before
    space = {hp.name: hp for hp in silent.oracle.get_space().space}
    assert space[RATE].max_value == pytest.approx(cap)


def test_without_adapting_the_space_stays(tmp_path: Path) -> None:
    """`adapt=None` draws from the declared range to the end and writes no event."""
    search = living(tmp_path / "run", adapt=None)
    search.search(epochs=2)

    assert adaptations(tmp_path / "run") == []
    assert max(r.values[RATE] for r in search.log[ROUND:]) > 0.02


def test_lengths_and_the_end_reach_the_search(tmp_path: Path) -> None:
    """A new length holds for all later trials, and an end ends the search with its reason."""

    def adapt(log: TrialLog, events: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        noted = any(e["num_trials"] == len(log) for e in events)
        todo = {} if noted else {2: (LENGTH, 3), 4: (COUNT, 4)}
        name, value = todo.get(len(log), ("", 0))
        fixed = {"range": {"type": "fixed", "value": value}, "value": value, "prior": None}
        event = {"event": "adapted", "rule": "X001", "hyperparameter": name, "after": fixed}
        return [{**event, "before": fixed, "num_trials": len(log)}] if name else []

    heard: list[Mapping[str, Any]] = []
    search = living(tmp_path / "run", adapt=adapt, on_event=heard.append)
    search.search()

    assert [r.num_epochs for r in search.log if r.outcome == "completed"][-1] == 3
    assert [r.max_epochs for r in search.log] == [2, 2, 3, 3]
    assert "X001" in heard[-1]["reason"]
    again = living(tmp_path / "run", adapt=adapt)
    again.search()
    assert len(again.log) == 4
    more = living(tmp_path / "run", adapt=adapt, budget=Budget(trials=6))
    more.search()
    assert len(more.log) == 6


def test_stock_oracles_cannot_adapt(tmp_path: Path) -> None:
    """An oracle whose ranges are fixed is refused before anything is trained."""
    stock = keras_tuner.oracles.RandomSearchOracle(
        objective=keras_tuner.Objective("val_loss", "min"), max_trials=5, seed=1
    )

    with pytest.raises(OptionError, match="whose ranges cannot be changed"):
        living(tmp_path / "run", oracle=stock)


def reshaped(*changes: Dimension, **options: Any) -> Any:
    """A random oracle over a rate, a width and a name, with other ranges."""
    hp = keras_tuner.HyperParameters()
    hp.Float(RATE, 1e-4, 1e-1, sampling="log", default=1e-3)
    hp.Int("model.units", 16, 64, step=2, sampling="log", default=32)
    hp.Choice("model.activation", ["relu", "silu"])
    with hp.conditional_scope("model.activation", ["silu"]):
        hp.Float(DROPOUT, 0.0, 0.5)
    made = oracle("random", max_trials=60, hyperparameters=hp, **options)
    made.reshape(changes)
    return made


def test_reshaping_swaps_range_default_and_prior() -> None:
    """All later draws come from the new ranges, under the old conditions."""
    made = reshaped(
        Dimension(name=RATE, range=FloatRange(low=0.5, high=2.0, sampling="log"), value=1.0),
        Dimension(
            name="model.units",
            range=IntRange(low=64, high=256, sampling="power_of_two"),
            value=128,
        ),
        Dimension(name=DROPOUT, range=Fixed(value=0.25), value=0.25),
    )
    drawn = [made.create_trial(f"tuner{i}").hyperparameters.values for i in range(40)]

    assert all(0.5 <= v[RATE] <= 2.0 for v in drawn)
    assert {v["model.units"] for v in drawn} == {64, 128, 256}
    assert {v[DROPOUT] for v in drawn if v["model.activation"] == "silu"} == {0.25}
    assert not any(DROPOUT in v for v in drawn if v["model.activation"] == "relu")
    assert made.hyperparameters.values[RATE] == 1.0


def test_configurations_that_wait_move_into_the_range() -> None:
    """An initial configuration outside the new range is tried at its edge."""
    change = Dimension(name=RATE, range=FloatRange(low=1e-3, high=1e-2, sampling="log"), value=2e-3)
    made = reshaped(change, initial_trials=[{RATE: 0.1}, {RATE: 5e-3}])

    rates = [made.create_trial(f"tuner{i}").hyperparameters.values[RATE] for i in range(2)]

    assert rates == [pytest.approx(1e-2), pytest.approx(5e-3)]


def test_only_declared_hyperparameters_can_be_reshaped() -> None:
    """A name that the model does not declare is refused with the nearest one."""
    with pytest.raises(SettingError, match="optimizer.learning_rates"):
        reshaped(Dimension(name="optimizer.learning_rates", range=Fixed(value=1), value=1))


def test_the_report_shows_each_change_and_its_effect() -> None:
    """A row has the best score before, the best under the change, and what became of it."""
    seen, events = widened()
    tried = [trial(10 + i, 0.4, 0.5) for i in range(PROBATION)]
    undone = rules()(log(*seen, *tried), events)
    rows = adaptation_rows(log(*seen, *tried, *many(3)), [*events, *undone])

    row = next(r for r in rows if r["hyperparameter"] == RATE)
    assert (row["rule"], row["best_before"], row["best_after"]) == ("DIA005", 0.1, 0.4)
    assert (row["num_trials"], row["num_under"]) == (10, PROBATION)
    assert row["state"] == "taken back after trial 15"
    assert row["after"] == "0.0001 to 1 (log)"
