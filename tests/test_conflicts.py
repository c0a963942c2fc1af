"""Rules that can fire together and disagree: found by search, and each decided."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from smarttune.facts import FACTS, check_value
from smarttune.recommendation.conflicts import (
    BOTH_MUST,
    BY_CODE,
    MEASURED,
    RuleConflict,
    find_conflicts,
)
from smarttune.rulebook import Rule, Rulebook
from smarttune.rulebook.witness import fires, parted_by, possible, witness, witnesses
from smarttune.space import HYPERPARAMETERS
from tests.strategies import book_of, rule

# Declared pairs that never meet although no single condition shows it, and what parts them.
NEVER_MEET = {
    ("AUD003", "AUD004"): "the length of the recordings",
    ("BAT002", "BAT004"): "tables have no convolutions",
    ("LRN004", "LRN005"): "convolutions with or without batch normalization",
    ("PRC002", "PRC006"): "what the device computes",
    ("PRC003", "PRC006"): "what the device computes",
    ("SRC003", "SRC004"): "the full trainings per hyperparameter",
    ("SRC004", "SRC020"): "the full trainings per hyperparameter",
    ("TXT001", "TXT002"): "the samples per word",
}
DROPOUT = "model.dropout"


@pytest.fixture(scope="module")
def found(book: Rulebook) -> tuple[RuleConflict, ...]:
    """Every conflict among the built-in rules."""
    return find_conflicts(book)


def range_of(low: float, high: float, default: float | str, **more: Any) -> dict[str, Any]:
    """A line of `then` for the dropout."""
    return {
        "hyperparameter": DROPOUT,
        "float": {"low": low, "high": high, "default": default},
    } | more


def fixed(value: Any, **more: Any) -> dict[str, Any]:
    """A line of `then` that fixes the dropout."""
    return {"hyperparameter": DROPOUT, "fixed": value} | more


def one(*rules: Rule) -> RuleConflict:
    """The one conflict between these rules."""
    (conflict,) = find_conflicts(book_of(*rules))
    return conflict


# --- the built-in rules ---


def test_no_built_in_rules_contradict_each_other(found: tuple[RuleConflict, ...]) -> None:
    """Whenever two built-in rules disagree, something other than their codes decides."""
    assert [c for c in found if c.contradiction] == []


def test_every_exclusion_says_why(found: tuple[RuleConflict, ...]) -> None:
    """Where one built-in rule excludes what another recommends, the ground of the decision is
    declared; the mend is a `conflicts:` entry in the file of either rule.
    """
    assert [(c.winner, c.loser) for c in found if c.kind == "excludes" and not c.ground] == []


def test_the_examples_of_conflicts_are_real(
    book: Rulebook, found: tuple[RuleConflict, ...]
) -> None:
    """On the facts that a conflict shows, both rules fire and say what it tells."""
    assert len(found) > 300
    for conflict in found:
        for code, value in (
            (conflict.winner, conflict.winner_value),
            (conflict.loser, conflict.loser_value),
        ):
            line = next(
                line
                for line in book[code].then
                if line.hyperparameter == conflict.hyperparameter
            )  # fmt: skip
            assert book[code].holds(conflict.facts) is True
            assert line.propose(conflict.facts).value == value  # type: ignore[union-attr]


def test_declared_conflicts_are_found_or_cannot_meet(
    book: Rulebook, found: tuple[RuleConflict, ...]
) -> None:
    """Each declared pair that sets a common hyperparameter is found, agrees, is a bound, or is
    kept apart by one fact, or by what the table above tells.
    """
    pairs = {frozenset((c.winner, c.loser)) for c in found}
    open_pairs = set()
    for one_rule in book.rules:
        for declared in one_rule.conflicts:
            other = book[declared.with_]
            common = settings_of(one_rule) & settings_of(other)
            sides = [restricted(r, common) for r in (one_rule, other)]
            if not common or {one_rule.code, other.code} in pairs:
                continue
            if parted_by(sides) or witness(sides) is not None:
                continue
            open_pairs.add(tuple(sorted((one_rule.code, other.code))))

    assert open_pairs == set(NEVER_MEET)


def settings_of(one_rule: Rule) -> set[str]:
    """The hyperparameters that a rule sets."""
    return {line.hyperparameter for line in one_rule.then if line.hyperparameter}


def restricted(one_rule: Rule, names: set[str]) -> Rule:
    """A rule with only its lines on some hyperparameters."""
    lines = tuple(line for line in one_rule.then if line.hyperparameter in names)
    return one_rule.model_copy(update={"then": lines})


@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_of_rules_changes_no_conflict(book: Rulebook, seed: int) -> None:
    """Rules in any order have the same conflicts, decided alike on the same facts."""
    shuffled = random.Random(seed).sample(book.rules, len(book.rules))
    names = ["model.embedding_dim", "search.strategy", "training.precision"]

    one_way = find_conflicts(book, hyperparameters=names)

    assert one_way == find_conflicts(book.replace_rules(shuffled), hyperparameters=names)
    assert {c.hyperparameter for c in one_way} <= set(names)


# --- planted conflicts ---


def test_a_planted_contradiction_is_found() -> None:
    """Two rules of equal standing that disagree are a contradiction, whatever their conditions."""
    conflict = one(
        rule("TST001", then=fixed(0.1), when=["data.num_samples > 1000"]),
        rule("TST002", then=fixed(0.2), when=["data.num_samples < 1002"]),
    )

    assert conflict.contradiction
    assert conflict.decided_by == BY_CODE
    assert dict(conflict.facts) == {"data.num_samples": 1001}
    assert (conflict.winner, conflict.loser) == ("TST001", "TST002")


@pytest.mark.parametrize(
    ("a", "b", "kind"),
    [
        (range_of(0.0, 0.5, 0.1), fixed(0.7), "excludes"),
        (range_of(0.0, 0.5, 0.1), range_of(0.2, 0.5, 0.3), "excludes"),
        (range_of(0.0, 0.5, 0.1), range_of(0.0, 0.4, 0.2), "differs"),
        (range_of(0.0, 0.5, 0.1), range_of(0.0, 0.4, 0.1), "range"),
    ],
)
def test_a_conflict_has_its_gravest_kind(a: Any, b: Any, kind: str) -> None:
    """A value outside the other's range excludes, another value within differs, else the range."""
    assert one(rule("TST001", then=a), rule("TST002", then=b)).kind == kind
    assert one(rule("TST001", then=b), rule("TST002", then=a)).kind == kind


def test_rules_that_agree_have_no_conflict() -> None:
    """The same value and range from two rules is no conflict."""
    same = range_of(0.0, 0.5, 0.1)

    assert find_conflicts(book_of(rule("TST001", then=same), rule("TST002", then=same))) == ()


def test_a_computed_disagreement_is_found() -> None:
    """Rules that agree on most facts conflict by those on which they do not."""
    computed = {"expression": "0.1 if data.num_samples < 5000 else 0.2"}

    conflict = one(
        rule("TST001", then=fixed(0.1), when=["data.num_samples > 0"]),
        rule("TST002", then=fixed(computed)),
    )

    assert conflict.facts["data.num_samples"] >= 5000  # type: ignore[operator]


def test_no_fact_of_an_example_is_idle() -> None:
    """Facts that do not matter to a conflict are left out, even if a rule's example has them."""
    conflict = one(
        rule(
            "TST001",
            then=fixed(0.1),
            when=["data.num_samples > 10", "opt(data.num_classes, 2) < 5"],
            examples=[
                {
                    "facts": {"data.num_samples": 20, "data.num_classes": 3, "data.task": "text"},
                    "fires": True,
                }
            ],
        ),
        rule("TST002", then=fixed(0.2)),
    )

    assert dict(conflict.facts) == {"data.num_samples": 20}


def test_standing_decides_and_the_ground_is_declared() -> None:
    """A conflict names the first property that decides, and either rule may give the ground."""
    weak = rule("TST001", then=fixed(0.1, strength="may"))
    declared = [{"with": "TST001", "decided_by": "because it is so"}]

    silent = one(weak, rule("TST002", then=fixed(0.2)))
    told = one(weak, rule("TST002", then=fixed(0.2), conflicts=declared))

    assert (silent.winner, silent.decided_by, silent.ground) == ("TST002", "strength", "")
    assert (told.winner, told.decided_by) == ("TST002", "strength")
    assert (told.ground, told.declared_by) == ("because it is so", "TST002")
    assert not told.contradiction


def test_an_override_decides() -> None:
    """A rule that overrides another wins, however weak it is."""
    conflict = one(
        rule("TST001", then=fixed(0.1)),
        rule("TST002", then=fixed(0.2, strength="may"), overrides=["TST001"]),
    )

    assert (conflict.winner, conflict.decided_by) == ("TST002", "overriding it")


def test_results_go_before_expectations_without_a_word() -> None:
    """That a rule on results wins over one without needs no declaration of its own."""
    conflict = one(
        rule("TST001", then=fixed(0.1)),
        rule("TST002", then=fixed(0.2), kind="dynamic", when=["history.num_trials > 3"]),
    )

    assert (conflict.winner, conflict.ground, conflict.declared_by) == ("TST002", MEASURED, "")


def test_a_constraint_bounds_and_does_not_conflict() -> None:
    """A constraint is no rival of other rules."""
    limit = rule("TST001", then=range_of(0.0, 0.1, 0.0), kind="constraint")

    assert find_conflicts(book_of(limit, rule("TST002", then=fixed(0.5)))) == ()


@pytest.mark.parametrize("kind", ["constraint", "static"])
def test_two_that_must_hold_contradict_if_they_exclude_each_other(kind: str) -> None:
    """Two constraints, or two rules that must hold, contradict when no value suits both."""
    low = rule("TST001", then=range_of(0.0, 0.1, 0.0, strength="must"), kind=kind)
    high = rule("TST002", then=range_of(0.2, 0.3, 0.2, strength="must"), kind=kind)
    yielding = high.model_copy(update={"overrides": ("TST001",)})

    conflict = one(low, high)

    assert (conflict.decided_by, conflict.contradiction) == (BOTH_MUST, True)
    assert not any(c.contradiction for c in find_conflicts(book_of(low, yielding)))


def test_constraints_that_leave_a_value_do_not_conflict() -> None:
    """Constraints with a common value meet instead."""
    low = rule("TST001", then=range_of(0.0, 0.2, 0.0), kind="constraint")
    high = rule("TST002", then=range_of(0.1, 0.3, 0.3), kind="constraint")

    assert find_conflicts(book_of(low, high)) == ()


@pytest.mark.parametrize(
    ("values", "when", "count"),
    [(["sgd"], [], 0), (["sgd", "adam"], [], 1), (["adam"], ['optimizer.name == "sgd"'], 0)],
)
def test_branches_that_never_meet_do_not_conflict(
    values: list[str], when: list[str], count: int
) -> None:
    """Lines for other values of a parent, or for rules that read another value, are no rivals."""
    a = rule("TST001", then=fixed(0.1, active_when={"optimizer.name": ["adam"]}), when=when)
    b = rule("TST002", then=fixed(0.2, active_when={"optimizer.name": values}))

    assert len(find_conflicts(book_of(a, b))) == count


def test_what_is_said_of_a_column_is_its_own() -> None:
    """A rule on a column conflicts with rules on columns only."""
    of_column = rule("TST001", then=fixed(0.1), when=["column.cardinality > 3"])
    of_another = rule("TST002", then=fixed(0.2), when=["column.cardinality > 2"])
    of_all = rule("TST003", then=fixed(0.3), when=["data.num_samples > 3"])

    conflict = one(of_column, of_another, of_all)

    assert {conflict.winner, conflict.loser} == {"TST001", "TST002"}


def test_progress_reaches_the_end(book: Rulebook) -> None:
    """The share of pairs grows to one."""
    shares: list[float] = []

    find_conflicts(book, hyperparameters=["model.rnn_cell"], on_progress=shares.append)

    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_a_conflict_is_plain_data() -> None:
    """JSON holds both sides with value and range, the decision, its ground and the facts."""
    data = one(rule("TST001", then=fixed(0.1)), rule("TST002", then=fixed(0.2))).to_json()

    assert data["winner"] == {
        "rule": "TST001",
        "value": 0.1,
        "range": {"type": "fixed", "value": 0.1},
    }
    assert data["loser"]["rule"] == "TST002"
    assert (data["decided_by"], data["ground"], data["facts"]) == (BY_CODE, "", {})


# --- witnesses ---


def test_every_built_in_rule_has_a_witness(book: Rulebook) -> None:
    """Facts are found on which a rule fires, for each rule, and examples are no prerequisite."""
    for one_rule in book.rules:
        bare = one_rule.model_copy(update={"examples": ()})
        facts = witness([bare])
        assert facts is not None, one_rule.code
        assert fires([bare], facts)


def test_examples_of_rules_are_possible(book: Rulebook) -> None:
    """What the search holds impossible is in no example on which a built-in rule fires."""
    firing = [(r.code, e.facts) for r in book.rules for e in r.examples if e.fires]

    assert [(code, facts) for code, facts in firing if not possible(facts)] == []


@pytest.mark.parametrize(
    "facts",
    [
        {"data.task": "text", "model.problem": "forecasting"},
        {"model.problem": "binary", "data.num_classes": 3},
        {"data.task": "tabular", "model.family": "cnn"},
        {"data.task": "text", "data.horizon": 3},
        {"hardware.device": "cpu", "hardware.compute_capability": 8.0},
        {"history.learning_rate_low": 0.1, "history.learning_rate": 0.01},
    ],
)
def test_facts_that_contradict_each_other_are_impossible(facts: dict[str, Any]) -> None:
    """Two facts may exclude each other although each of them alone is fine."""
    assert not possible(facts)
    assert not fires([rule()], facts)
    assert all(possible({name: value}) for name, value in facts.items())


NUMBERS = st.sampled_from([0, 1, 2, 3, 5, 10, 999, 1000, 1001, 50000])
SHARES = st.sampled_from([0.0, 0.1, 0.100001, 0.3, 0.5, 0.99, 1.0])
SIGNS = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
TASKS = st.sampled_from(["tabular", "text", "image"])
CONDITIONS = st.one_of(
    st.builds("data.num_samples {} {}".format, SIGNS, NUMBERS),
    st.builds("opt(budget.num_trials, 10) {} {}".format, SIGNS, NUMBERS),
    st.builds("data.missing_fraction {} {}".format, SIGNS, SHARES),
    st.builds("optimizer.momentum {} {}".format, SIGNS, SHARES),
    st.builds('data.task {} "{}"'.format, st.sampled_from(["==", "!="]), TASKS),
    st.builds("{}known(data.num_classes)".format, st.sampled_from(["", "not "])),
    st.builds("data.num_samples / data.num_features {} {}".format, SIGNS, NUMBERS),
    st.builds("budget.exploring or data.num_samples * data.missing_fraction > {}".format, NUMBERS),
)
LINES = st.sampled_from(
    [
        fixed(0.1),
        fixed({"expression": "0.1 if data.num_samples > 300 else 0.2"}),
        range_of(0.0, 0.5, "data.missing_fraction / 2"),
        range_of(0.0, 0.5, "min(0.5, 10 / data.num_classes)"),
    ]
)


@st.composite
def several_rules(draw: st.DrawFn) -> list[Rule]:
    """One to three rules on facts that they share."""
    return [
        rule(f"TST{number:03}", then=draw(LINES), when=draw(st.lists(CONDITIONS, max_size=3)))
        for number in range(draw(st.integers(1, 3)))
    ]


@given(several_rules(), st.integers(0, 3))
@settings(max_examples=120)
def test_a_witness_makes_every_rule_fire(rules: list[Rule], seed: int) -> None:
    """Whatever is found makes all rules fire, is legal, and is found again in any order."""
    facts = witness(rules, seed=seed, tries=8)

    assert facts == witness(rules[::-1], seed=seed, tries=8)
    assume(facts is not None)
    assert facts is not None
    assert fires(rules, facts)
    assert set(facts) <= set().union(*(r.names for r in rules))
    for name, value in facts.items():
        if name in FACTS:
            assert check_value(name, value) == value
        else:
            assert HYPERPARAMETERS[name].allows(value)


@given(st.lists(st.tuples(SIGNS, SHARES), max_size=4), SHARES | st.floats(0, 1))
@example([(">", 0.1), ("<", 0.100001)], 0.1000005)
@settings(max_examples=80)
def test_comparisons_of_one_name_are_decided(
    compared: list[tuple[str, float]], share: float
) -> None:
    """Comparisons of one name with numbers that some value satisfies are always satisfied."""
    conditions = [
        f"data.missing_fraction {sign} {number}"
        for sign, number in compared
        if rule(when=[f"data.missing_fraction {sign} {number}"]).holds(
            {"data.missing_fraction": share}
        )
        is True
    ]

    assert witness([rule(when=[*conditions, "known(data.missing_fraction)"])]) is not None


@pytest.mark.parametrize(
    ("conditions", "name"),
    [
        (['data.task == "text"', 'data.task == "image"'], "data.task"),
        (["data.num_samples > 10", "data.num_samples < 11"], "data.num_samples"),
        (["known(data.num_classes)", "not known(data.num_classes)"], "data.num_classes"),
        (['search.objective == "a"', 'search.objective == "b"'], "search.objective"),
    ],
)
def test_rules_that_never_meet_say_by_what(conditions: list[str], name: str) -> None:
    """Conditions on one name that leave no value are told by that name, and nothing is found."""
    rules = [rule(f"TST{n:03}", when=[text]) for n, text in enumerate(conditions, start=1)]

    assert parted_by(rules) == (name,)
    assert witness(rules) is None
    assert parted_by(rules[:1]) == ()


def test_laws_of_facts_keep_rules_apart() -> None:
    """Facts that contradict each other are no example, though each of them may be."""
    forecasts = rule("TST001", when=['model.problem == "forecasting"'])
    of_texts = rule("TST002", when=['data.task == "text"'])

    assert witness([forecasts]) is not None
    assert witness([of_texts]) is not None
    assert witness([forecasts, of_texts]) is None


def test_a_range_without_values_is_no_witness() -> None:
    """Facts on which a rule's bounds leave nothing are passed over."""
    narrow = rule(then=range_of(0.2, "data.missing_fraction", 0.3))  # type: ignore[arg-type]

    facts = witness([narrow])

    assert facts is not None
    assert facts["data.missing_fraction"] >= 0.2  # type: ignore[operator]


def test_witnesses_differ() -> None:
    """No facts are yielded twice, and there are no more of them than tries."""
    rules = [rule(when=["data.num_samples / data.num_features > 10"])]

    several = list(witnesses(rules, tries=10))

    assert len({tuple(facts.items()) for facts in several}) == len(several) > 3
    assert len(several) <= 10
    assert list(witnesses(rules, tries=0)) == []
