"""What a search changes on its way: by rule, held, and taken back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarttune.recommendation import recommend
from smarttune.report.adaptations import adaptation_rows
from smarttune.rulebook import load_rulebook
from smarttune.space import Choice, Fixed, FloatRange, IntRange
from smarttune.trials import TrialRecord
from smarttune.tuning.adapting import (
    COUNT,
    LENGTH,
    PROBATION,
    ROUND,
    RuleAdaptation,
    is_within,
    space_after,
    taken_back,
)

from .histories import (
    DECAY,
    DROPOUT,
    EPOCHS,
    FACTS,
    FALLING,
    LEVEL,
    RISING,
    SPACE,
    changes,
    log,
    many,
    rules,
    trial,
)
from .searches import RATE, WIDTH


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
    seen = [*many(14), trial(14, None, 0.05), *many(20)[15:]]
    cap = changes(rules()(log(*seen[:15]), []))[RATE]

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


def dropout_event(high: float, at: int) -> Mapping[str, Any]:
    """A cut of the dropout from above."""
    before = SPACE[DROPOUT].model_dump(mode="json", include={"range", "value", "prior"})
    after = before | {"range": before["range"] | {"high": high}}
    return {
        "event": "adapted",
        "rule": "X001",
        "hyperparameter": DROPOUT,
        "before": before,
        "after": after,
        "num_trials": at,
    }


@pytest.mark.parametrize("outcome", ["completed", "diverged"])
def test_a_cut_that_nothing_failed_for_is_on_trial(outcome: str) -> None:
    """Values that only looked poor come back where cutting them off gained nothing."""
    score = None if outcome == "diverged" else 0.9
    cut_off = trial(4, score, outcome=outcome, values={DROPOUT: 0.4})
    seen = log(*many(4), cut_off, *(trial(5 + i, 0.7) for i in range(PROBATION)))

    undone = taken_back(seen, [dropout_event(0.3, at=5)])

    assert [e["hyperparameter"] for e in undone] == ([DROPOUT] if score else [])


def test_a_promotion_speaks_for_what_it_continues() -> None:
    """An action holds where only a promotion of what tried it beat the trials before."""
    short = {"max_epochs": 3, "num_epochs": 3, "best_epoch": 3}
    seen = [*many(4), trial(4, 0.6, **short)]
    tried = [trial(5 + i, 0.8, **short) for i in range(PROBATION)]
    action = dropout_event(0.3, at=5)
    step = trial(10, 0.7, parent="7", max_epochs=6)
    worse = [step, trial(11, 0.55, parent="10")]
    better = [step, trial(11, 0.45, parent="10")]

    assert taken_back(log(*seen, *tried, trial(11, 0.45, parent="2")), [action])
    assert taken_back(log(*seen, *tried, trial(10, 0.9, parent="7"), worse[1]), [action])
    assert not taken_back(log(*seen, *tried, *better), [action])


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
