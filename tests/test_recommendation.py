"""Facts and rules to a recommendation: who wins, and what stays visible."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarttune.errors import ConflictingRulesError, RangeError, SettingError
from smarttune.facts import Facts
from smarttune.recommendation import Recommendation, Setting, check_pins, recommend
from smarttune.rulebook import Rule, Rulebook
from smarttune.space import Choice, Fixed, FloatRange, IntRange, NormalPrior, WeightsPrior
from tests.strategies import book_of, plausible_facts, rule

FACTS = Facts.of({"data.num_samples": 1000, "data.task": "tabular"})
FIRES = ["data.num_samples > 1", 'data.task == "tabular"', "data.num_samples < 10000"]


def units(low: int, high: int, default: int | None = None, **line: Any) -> dict[str, Any]:
    """A line of `then` for the width."""
    range_ = {"low": low, "high": high} | ({} if default is None else {"default": default})
    return {"hyperparameter": "model.units", "int": range_} | line


def made(*rules: Rule, facts: Facts = FACTS, **options: Any) -> Recommendation:
    """The recommendation of these rules, in this order."""
    return recommend(facts, rules=book_of(*rules), **options)


def settled(*rules: Rule, **options: Any) -> Setting:
    """How these rules settle the width."""
    return made(*rules, **options).settings["model.units"]


def test_one_rule_gives_range_value_and_reason() -> None:
    """A single fired rule decides, with its sources and its trace."""
    setting = settled(rule(then=units(8, 64, 16), when=FIRES[:1]))

    assert setting.range == IntRange(low=8, high=64)
    assert setting.value == 16
    (reason,) = setting.because
    assert (reason.rule, reason.role, reason.sources) == ("TST001", "decides", ("src",))
    assert reason.trace == ("data.num_samples = 1000 > 1",)
    assert setting.overruled == ()


WEAK = rule("TST001", then=units(1, 4, 2))
DUELS: dict[str, tuple[Rule, Rule]] = {
    # the ground in `decided_by`: (loser, winner); each winner is weaker on every later ground
    "a dynamic rule goes before a static one": (
        rule("TST001", then=units(1, 4, strength="should"), when=FIRES, evidence="theorem"),
        rule(
            "TST002",
            then=units(5, 9, strength="may"),
            kind="dynamic",
            when=["opt(history.num_trials, 1) > 0"],
            evidence="folklore",
        ),
    ),
    "overriding it": (
        rule("TST001", then=units(1, 4), when=FIRES, evidence="theorem"),
        rule("TST002", then=units(5, 9, strength="may"), overrides=["TST001"], evidence="folklore"),
    ),
    "strength": (
        rule("TST001", then=units(1, 4, strength="may"), when=FIRES, evidence="theorem"),
        rule("TST002", then=units(5, 9, strength="should"), evidence="folklore"),
    ),
    "more specific conditions": (
        rule("TST001", then=units(1, 4), when=FIRES[:1], evidence="theorem", confidence=1.0),
        rule("TST002", then=units(5, 9), when=FIRES[:2], evidence="folklore", confidence=0.1),
    ),
    "stronger evidence": (
        rule("TST001", then=units(1, 4), evidence="practitioner", confidence=1.0),
        rule("TST002", then=units(5, 9), evidence="controlled_study", confidence=0.1),
    ),
    "higher confidence": (
        rule("TST001", then=units(1, 4), confidence=0.5),
        rule("TST002", then=units(5, 9), confidence=0.51),
    ),
}


@pytest.mark.parametrize("ground", DUELS)
@pytest.mark.parametrize("swapped", [False, True])
def test_the_stronger_rule_wins_on_its_ground(ground: str, swapped: bool) -> None:
    """Each ground goes before all later ones, in either order, and the loser says it."""
    pair = DUELS[ground]

    setting = settled(*(pair[::-1] if swapped else pair))

    assert setting.range == IntRange(low=5, high=9)
    (lost,) = setting.overruled
    assert lost.rule == "TST001"
    assert lost.range == IntRange(low=1, high=4)
    assert lost.decided_by == f"TST002 wins by {ground}"


def test_equal_rules_are_decided_by_code() -> None:
    """Where nothing decides, the lower code wins and the loser says so."""
    setting = settled(rule("TST002", then=units(5, 9)), WEAK)

    assert setting.because[0].rule == "TST001"
    assert "order of codes" in setting.overruled[0].decided_by


def test_a_declared_conflict_is_quoted() -> None:
    """What the rules say of each other stands beside the ground."""
    conflict = [{"with": "TST001", "decided_by": "many samples"}]

    setting = settled(WEAK, rule("TST002", then=units(5, 9), confidence=0.9, conflicts=conflict))

    assert setting.overruled[0].decided_by == "TST002 wins by higher confidence: many samples"


def test_rules_that_say_the_same_agree() -> None:
    """The second of two equal proposals supports the first."""
    setting = settled(WEAK, rule("TST002", then=units(1, 4, 2), confidence=0.9))

    assert [(r.rule, r.role) for r in setting.because] == [
        ("TST002", "decides"),
        ("TST001", "agrees"),
    ]
    assert setting.overruled == ()


def limit(low: int, high: int, code: str = "LIM001") -> Rule:
    """A constraint on the width."""
    return rule(code, kind="constraint", evidence="documented_api", then=units(low, high))


def test_constraints_cut_every_range() -> None:
    """The range of the winner is cut, its value clamped, and the constraint named."""
    setting = settled(limit(1, 20), rule(then=units(8, 64, 32), confidence=0.9))

    assert setting.range == IntRange(low=8, high=20)
    assert setting.value == 20
    assert [(r.rule, r.role) for r in setting.because] == [
        ("TST001", "decides"),
        ("LIM001", "limits"),
    ]


def test_a_fixed_number_beyond_a_constraint_moves_to_it() -> None:
    """A batch of 256 where 128 fit is 128, not what a weaker rule says."""
    fixed = rule("TST001", then={"hyperparameter": "model.units", "fixed": 256}, confidence=0.9)

    setting = settled(limit(1, 128), fixed, rule("TST002", then=units(2, 4)))

    assert setting.range == Fixed(value=128)
    assert setting.because[0].rule == "TST001"


def test_a_range_beyond_a_constraint_loses_to_one_within() -> None:
    """A range with no value left gives way, and says why."""
    setting = settled(
        limit(1, 16), rule(then=units(32, 64), confidence=0.9), rule("TST002", then=units(4, 8))
    )

    assert setting.range == IntRange(low=4, high=8)
    assert "no value within what must hold" in setting.overruled[0].decided_by


def test_constraints_alone_settle_a_hyperparameter() -> None:
    """Without any other rule, what is possible is the range."""
    setting = settled(limit(1, 20), limit(10, 30, "LIM002"))

    assert setting.range == IntRange(low=10, high=20)
    assert setting.range.contains(setting.value)


def test_must_binds_stronger_rules() -> None:
    """A `must` cuts the range of a rule that outranks it."""
    dynamic = rule(
        "TST002", then=units(8, 64, 64), kind="dynamic", when=["opt(history.num_trials, 1) > 0"]
    )

    setting = settled(rule(then=units(1, 16, strength="must")), dynamic)

    assert setting.range == IntRange(low=8, high=16)
    assert setting.value == 16
    assert setting.because[0].rule == "TST002"


def test_two_musts_that_exclude_each_other_are_an_error() -> None:
    """The error names both rules, their ranges, and both ways out."""
    pair = (
        rule("TST001", then=units(1, 4, strength="must")),
        rule("TST002", then=units(8, 16, strength="must")),
    )

    for rules in (pair, pair[::-1]):
        with pytest.raises(ConflictingRulesError) as caught:
            made(*rules)
        text = str(caught.value)
        assert "model.units" in caught.value.where
        assert "TST001: 1 to 4" in text
        assert "TST002: 8 to 16" in text
        assert "--ignore TST00" in caught.value.mend
        assert "--set model.units=..." in caught.value.mend


def test_a_must_against_a_constraint_is_an_error() -> None:
    """What is impossible cannot be obligatory."""
    with pytest.raises(ConflictingRulesError, match=r"LIM001: 1 to 4.*TST001: 8 to 16"):
        made(limit(1, 4), rule(then=units(8, 16, strength="must")))


def test_a_pin_ends_the_conflict() -> None:
    """The mend that the error names works."""
    pair = (
        rule("TST001", then=units(1, 4, strength="must")),
        rule("TST002", then=units(8, 16, strength="must")),
    )

    found = made(*pair, pinned={"model.units": 6})

    assert found.value("model.units") == 6
    assert len(found.warnings) == 2


def test_a_range_that_is_empty_for_the_facts_names_its_rule() -> None:
    """Computed bounds that cross are told with the rule and the mend."""
    line = {"hyperparameter": "model.units", "int": {"low": 9, "high": "data.num_samples / 500"}}

    with pytest.raises(RangeError, match="--ignore TST001") as caught:
        made(rule(then=line))

    assert caught.value.where == "rule TST001"


def test_silent_and_unknown_rules_are_listed() -> None:
    """What did not fire is silent; what lacks facts is unknown, with the facts and its say."""
    found = made(
        rule("TST001", when=["data.num_samples > 5000"]),
        rule("TST002", when=["data.num_features > 3", "data.num_classes > 2"], then=units(1, 4)),
        rule("TST003", when=["data.num_features > 3", "data.num_samples > 5000"]),
        rule("TST004", when=["log(data.num_samples - 1000) > 1"]),
    )

    assert found.silent == ("TST001", "TST003")
    assert [u.rule for u in found.unknown] == ["TST002", "TST004"]
    assert found.unknown[0].missing == ("data.num_classes", "data.num_features")
    assert found.unknown[0].would == ("`model.units` should be searched over 1 to 4.",)
    assert "no value here" in found.unknown[1].missing[0]
    assert found.settings == {}


def test_a_fired_rule_without_its_value_is_unknown() -> None:
    """A rule that fires but cannot compute its range lacks the fact of the range."""
    line = {"hyperparameter": "model.units", "int": {"low": 1, "high": "max(2, data.num_features)"}}

    found = made(rule(then=line, when=FIRES[:1]))

    assert found.settings == {}
    assert found.unknown[0].missing == ("data.num_features",)
    assert found.rules_fired == ()


def partly_unknown(open_name: str, known_name: str) -> Recommendation:
    """A rule of two lines, one of which lacks a fact."""
    lines = [
        {"hyperparameter": known_name, "fixed": 1},
        {"hyperparameter": open_name, "fixed": {"expression": "data.num_features * 2"}},
    ]
    return made(rule(then=lines))


def test_a_partly_unknown_rule_is_told_the_same_way_in_any_order() -> None:
    """Which line is settled first does not change what is said of the rule."""
    one = partly_unknown("model.units", "model.filters")
    other = partly_unknown("model.filters", "model.units")

    assert [u.rule for u in one.unknown] == [u.rule for u in other.unknown]


@pytest.mark.parametrize(
    ("confidence", "spread", "weight"),
    [(0.8, 0.125, 6.0), (0.79, 0.25, 4.0), (0.5, 0.25, 4.0), (0.49, 0.5, 2.0), (0.0, 0.5, 2.0)],
)
def test_priors_follow_confidence(confidence: float, spread: float, weight: float) -> None:
    """The surer a rule, the narrower its prior around the default."""
    lines = [
        {
            "hyperparameter": "optimizer.learning_rate",
            "float": {"low": 1e-4, "high": 1e-2, "default": 1e-3, "sampling": "log"},
        },
        {
            "hyperparameter": "model.loss",
            "choice": {"values": ["mse", "mae", "huber"], "default": "mae"},
        },
        {"hyperparameter": "model.dropout", "fixed": 0.1},
    ]

    settings_ = made(rule(then=lines, confidence=confidence)).settings

    prior = settings_["optimizer.learning_rate"].prior
    assert isinstance(prior, NormalPrior)
    assert (prior.center, prior.spread) == (pytest.approx(0.5), spread)
    assert settings_["model.loss"].prior == WeightsPrior(weights=(1.0, weight, 1.0))
    assert settings_["model.dropout"].prior is None


def test_given_weights_are_the_prior() -> None:
    """Weights of a rule follow their values into canonical order, and through a cut."""
    line = {
        "hyperparameter": "model.loss",
        "choice": {"values": ["mse", "mae", "huber"], "weights": [5, 3, 2]},
    }
    cut = rule(
        "LIM001",
        kind="constraint",
        then={"hyperparameter": "model.loss", "choice": {"values": ["mse", "huber"]}},
    )

    whole = made(rule(then=line)).settings["model.loss"]
    part = made(rule(then=line), cut).settings["model.loss"]

    assert (whole.range, whole.value) == (Choice(values=("huber", "mae", "mse")), "mse")
    assert whole.prior == WeightsPrior(weights=(2.0, 3.0, 5.0))
    assert part.prior == WeightsPrior(weights=(2.0, 5.0))


def test_the_prior_is_centred_on_the_clamped_value() -> None:
    """After a cut, the prior's centre is the recommended value within the cut range."""
    setting = settled(limit(1, 20), rule(then=units(1, 64, 64), confidence=0.9))

    assert isinstance(setting.prior, NormalPrior)
    assert setting.range.from_unit(setting.prior.center) == setting.value == 20


def test_rules_read_settled_hyperparameters() -> None:
    """A rule sees the recommended value of another hyperparameter, wherever it stands."""
    name = rule("TST009", then={"hyperparameter": "optimizer.name", "fixed": "sgd"})
    rate = rule(
        "TST001",
        when=['optimizer.name == "sgd"'],
        then={"hyperparameter": "optimizer.learning_rate", "fixed": 0.1},
    )

    found = made(rate, name)

    assert found.value("optimizer.learning_rate") == 0.1
    assert made(rate, name, pinned={"optimizer.name": "adam"}).silent == ("TST001",)
    assert made(rate).unknown[0].missing == ("optimizer.name",)


def conditional_rules() -> tuple[Rule, Rule]:
    """A kind of penalty, and a strength that exists for one kind."""
    return (
        rule(
            "TST001",
            then={
                "hyperparameter": "optimizer.regularization",
                "choice": {"values": ["none", "l2"], "default": "none"},
            },
        ),
        rule(
            "TST002",
            then={
                "hyperparameter": "optimizer.l2",
                "float": {"low": 1e-6, "high": 1e-2, "sampling": "log"},
                "active_when": {"optimizer.regularization": ["l2"]},
            },
        ),
    )


def test_conditional_hyperparameters_are_active_with_their_parent() -> None:
    """The space holds the condition, the default leaves the inactive one out."""
    found = made(*conditional_rules())
    space = found.space()

    assert found.default == {"optimizer.regularization": "none"}
    assert space.is_active("optimizer.l2", {"optimizer.regularization": "l2"})
    assert not space.is_active("optimizer.l2", {"optimizer.regularization": "none"})
    assert all(space.contains(space.sample(random.Random(i))) for i in range(20))


def test_a_part_of_the_space_brings_its_parents() -> None:
    """Asked for a conditional hyperparameter alone, the space holds its parent too."""
    found = made(*conditional_rules(), rule("TST003", then=units(1, 4)))

    assert set(found.space(["optimizer.l2"]).by_name) == {
        "optimizer.regularization",
        "optimizer.l2",
    }
    assert set(found.space(["model.units"]).by_name) == {"model.units"}


def column_rules() -> tuple[Rule, ...]:
    """Few levels are encoded, many embedded; an embedding has a width."""
    return (
        rule(
            "TST001",
            when=["column.cardinality <= 10"],
            then={"hyperparameter": "model.encoding", "fixed": "one_hot"},
        ),
        rule(
            "TST002",
            when=["column.cardinality > 10"],
            then={"hyperparameter": "model.encoding", "fixed": "embedding"},
        ),
        rule(
            "TST003",
            when=["column.cardinality > 0"],
            then={
                "hyperparameter": "model.embedding_dim",
                "fixed": {"expression": "min(50, ceil(column.cardinality / 2))"},
                "active_when": {"model.encoding": ["embedding"]},
            },
        ),
        rule("TST004", then=units(1, 4)),
    )


COLUMNS = {
    "city": Facts.of({"column.cardinality": 40}),
    "sex": Facts.of({"column.cardinality": 2}),
    "town": Facts.of({"column.cardinality": 40}),
}


def test_columns_are_settled_one_by_one() -> None:
    """Each categorical column has settings of its own, under its name."""
    found = made(*column_rules(), columns=COLUMNS)

    assert found.value("model.encoding[sex]") == "one_hot"
    assert found.value("model.encoding[city]") == "embedding"
    assert found.value("model.embedding_dim[city]") == 20
    assert found.settings["model.embedding_dim[city]"].active_when == {
        "model.encoding[city]": ("embedding",)
    }
    assert "model.encoding" not in found.settings
    assert found.default.keys() >= {"model.embedding_dim[city]", "model.units"}
    assert "model.embedding_dim[sex]" not in found.default
    assert found.unknown == ()


def test_one_column_may_be_pinned() -> None:
    """A pin of one column leaves its twin alone."""
    found = made(*column_rules(), columns=COLUMNS, pinned={"model.encoding[town]": "one_hot"})

    assert found.value("model.encoding[town]") == "one_hot"
    assert found.value("model.encoding[city]") == "embedding"
    assert found.default.keys() & {"model.embedding_dim[town]"} == set()


def test_without_columns_their_rules_are_unknown() -> None:
    """Rules about a column wait where no column is known."""
    found = made(*column_rules())

    assert {u.rule for u in found.unknown} == {"TST001", "TST002", "TST003"}
    assert list(found.settings) == ["model.units"]


def test_advice_is_given_where_its_rule_fires() -> None:
    """A rule's advice has the trace; a silent rule gives none."""
    found = made(
        rule("TST001", when=FIRES[:1], then={"advice": "Look at the labels."}),
        rule("TST002", when=["data.num_samples > 5000"], then={"advice": "Never."}),
    )

    (advice,) = found.advice
    assert (advice.rule, advice.text) == ("TST001", "Look at the labels.")
    assert advice.trace == ("data.num_samples = 1000 > 1",)
    assert found.rules_fired == ("TST001",)
    assert found.silent == ("TST002",)


PINS: dict[str, tuple[Any, Any]] = {
    "model.units": (7, 7),
    "model.dropout": ("0.25", 0.25),
    "model.bidirectional": ("yes", True),
    "optimizer.name": ("adamw", "adamw"),
    "training.batch_size": ("1_024", 1024),
    "optimizer.l1": (1, 1.0),
}


@pytest.mark.parametrize("name", PINS)
def test_pins_take_the_type_of_their_hyperparameter(name: str) -> None:
    """Text from the command line is read, numbers are converted."""
    given_, expected = PINS[name]

    checked = check_pins({name: given_})[name]

    assert checked == expected
    assert type(checked) is type(expected)


@pytest.mark.parametrize(
    ("pins", "message"),
    [
        ({"model.unit": 3}, "Did you mean `model.units`"),
        ({"model.units": "many"}, "width of the hidden layers"),
        ({"model.units": 1.5}, "int of at least 1"),
        ({"model.bidirectional": 1}, "a value of type bool"),
        ({"optimizer.name": 3}, "one of adamw, adam"),
        ({"optimizer.name": "adamww"}, "Did you mean `adamw`"),
        ({"model.units": 0}, "int of at least 1"),
        ({"model.dropout": 1.5}, "float between 0 and 1"),
        ({"nonsense[city]": 3}, "is not a hyperparameter"),
    ],
)
def test_pins_that_mean_nothing_are_refused(pins: dict[str, Any], message: str) -> None:
    """A wrong name or type is told with what the hyperparameter means."""
    with pytest.raises(SettingError, match=message):
        made(pinned=pins)


def test_a_pin_overrules_and_warns() -> None:
    """The user's value stands; rules that lose stay visible; broken musts are warned of."""
    found = made(
        limit(1, 128),
        rule("TST001", then=units(8, 64, 16)),
        rule("TST002", then={"hyperparameter": "model.units", "fixed": 200}),
        pinned={"model.units": 200},
    )
    setting = found.settings["model.units"]

    assert (setting.value, setting.range) == (200, Fixed(value=200))
    assert setting.because[0].rule == "you"
    assert {o.rule for o in setting.overruled} == {"LIM001", "TST001"}
    assert len(found.warnings) == 1
    assert "model.units=200" in found.warnings[0]
    assert "LIM001" in found.warnings[0]


def test_a_pin_of_what_no_rule_knows_is_kept() -> None:
    """A pin needs no rule."""
    assert made(pinned={"optimizer.l1": 0.5}).value("optimizer.l1") == 0.5


def test_pins_come_in_one_order() -> None:
    """Two processes print the same recommendation."""
    program = (
        "from smarttune.recommendation import recommend\n"
        "from smarttune.facts import Facts\n"
        "from smarttune.rulebook import Rulebook\n"
        "pins = {'model.units': 3, 'optimizer.l1': .1, 'optimizer.l2': .1, 'model.dropout': .2}\n"
        "print(list(recommend(Facts(), rules=Rulebook(()), pinned=pins).settings))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in "123"
    }

    assert len(outputs) == 1


LINES = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(0, 40)).map(lambda p: units(p[0], p[0] + p[1])),
    st.integers(1, 80).map(lambda v: {"hyperparameter": "model.units", "fixed": v}),
    st.lists(st.sampled_from([8, 16, 32, 64]), min_size=1, max_size=3, unique=True).map(
        lambda v: {"hyperparameter": "model.units", "choice": {"values": v}}
    ),
    st.integers(1, 6).map(
        lambda p: {
            "hyperparameter": "model.units",
            "int": {"low": 4, "high": 2 ** (p + 2), "sampling": "power_of_two"},
        }
    ),
)


@st.composite
def rule_sets(draw: st.DrawFn, *, overriding: bool = True) -> list[Rule]:
    """Up to eight rules about one hyperparameter, of every kind and strength."""
    rules = []
    for i in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(["static", "static", "dynamic", "constraint"]))
        when = draw(st.lists(st.sampled_from(FIRES), max_size=3, unique=True))
        if kind == "dynamic":
            when = ["opt(history.num_trials, 1) > 0", *when]
        strength = draw(st.sampled_from(["may", "should", "should", "must"]))
        beats = [f"TST{draw(st.integers(0, i - 1)):03}"] if i and draw(st.booleans()) else []
        rules.append(
            rule(
                f"TST{i:03}",
                then=draw(LINES) | {"strength": strength},
                kind=kind,
                when=when,
                overrides=beats if overriding and draw(st.booleans()) else [],
                evidence=draw(st.sampled_from(["folklore", "practitioner", "theorem"])),
                confidence=draw(st.sampled_from([0.2, 0.6, 0.9])),
            )
        )
    return rules


def outcome(rules: list[Rule]) -> Any:
    """The whole recommendation as data, or the text of the conflict."""
    try:
        return made(*rules).to_json()
    except ConflictingRulesError as error:
        return str(error)


@given(rule_sets(overriding=False), st.randoms(use_true_random=False))
@settings(max_examples=80)
def test_the_order_of_rules_changes_nothing(rules: list[Rule], rng: random.Random) -> None:
    """The same rules in any order give the same recommendation, or the same conflict."""
    shuffled = rng.sample(rules, len(rules))

    assert outcome(shuffled) == outcome(rules)


@given(rule_sets(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_the_order_of_overriding_rules_changes_no_setting(
    rules: list[Rule], rng: random.Random
) -> None:
    """With overrides too, value, range and prior do not depend on the order."""
    first, second = outcome(rules), outcome(rng.sample(rules, len(rules)))

    if isinstance(first, str):
        assert first == second
    else:
        for key in ("value", "range", "prior", "because"):
            assert first["settings"]["model.units"][key] == second["settings"]["model.units"][key]


def test_the_named_overrider_does_not_depend_on_the_order() -> None:
    """Where two rules override a third, the text names the same one in any order."""
    rules = [rule("TST001", then=units(1, 4))] + [
        rule(f"TST00{i}", then=units(i, 9), overrides=["TST001"]) for i in (2, 3)
    ]

    assert made(*rules) == made(*rules[::-1])


def test_the_order_of_advice_does_not_depend_on_the_order_of_rules() -> None:
    """Advice comes in one order."""
    rules = [rule(f"TST00{i}", then={"advice": f"Hint {i}."}) for i in range(3)]

    assert made(*rules) == made(*rules[::-1])


@given(rule_sets(), st.integers(1, 200))
@settings(max_examples=60)
def test_a_pinned_value_always_survives(rules: list[Rule], value: int) -> None:
    """Whatever the rules say, and even where they conflict, the user's value stands."""
    found = made(*rules, pinned={"model.units": value})

    assert found.value("model.units") == value
    assert found.space().contains(found.default)
    assert found.default == {"model.units": value}


@given(rule_sets())
@settings(max_examples=80)
def test_a_settled_range_keeps_every_bound(rules: list[Rule]) -> None:
    """No value of the range breaks a constraint or a `must`, and every rule is accounted for."""
    binding = [r for r in rules if r.kind == "constraint" or r.then[0].strength == "must"]
    try:
        setting = settled(*rules)
    except ConflictingRulesError:
        assert len(binding) > 1
        return

    for u in (0.0, 0.3, 0.7, 1.0):
        value = setting.range.from_unit(u)
        for r in binding:
            proposal: Any = r.then[0].propose(FACTS.values_dict())
            assert proposal.range.contains(value)
    assert setting.range.contains(setting.value)
    named = [r.rule for r in setting.because] + [o.rule for o in setting.overruled]
    assert sorted(named) == [r.code for r in rules]


@given(plausible_facts)
@settings(max_examples=10)
def test_recommendations_survive_json(book: Rulebook, facts: Facts) -> None:
    """A recommendation written as JSON comes back equal."""
    found = recommend(facts, rules=book, columns={"c": Facts.of({"column.cardinality": 12})})

    back = Recommendation.from_json(json.loads(json.dumps(found.to_json())))

    assert back == found
    assert back.space() == found.space()


def test_json_of_another_schema_is_refused() -> None:
    """A file of another version is told, not misread."""
    with pytest.raises(SettingError, match="smarttune/recommendation@1"):
        Recommendation.from_json(made().to_json() | {"schema": "smarttune/recommendation@2"})


def test_json_has_the_documented_form() -> None:
    """Keys of the JSON are those that other programs may rely on."""
    data = made(rule(then=units(8, 64, 16))).to_json()

    assert data.keys() == {"schema", "facts", "settings", "advice", "silent", "unknown", "warnings"}
    assert data["facts"]["data.num_samples"] == {"value": 1000, "origin": "declared"}
    setting = data["settings"]["model.units"]
    assert setting["value"] == 16
    assert setting["range"] == {"type": "int", "low": 8, "high": 64, "sampling": "linear"}
    assert setting["prior"]["type"] == "normal"
    assert setting["because"][0]["rule"] == "TST001"


def test_value_of_an_unsettled_hyperparameter_is_the_default() -> None:
    """Asking for what no rule settled gives what the caller offers."""
    assert made().value("model.units") is None
    assert made().value("model.units", 3) == 3


def test_warnings_are_added_to_a_copy() -> None:
    """More warnings make another recommendation."""
    found = made()

    assert found.with_warnings(["a"]).with_warnings(["b"]).warnings == ("a", "b")
    assert found.warnings == ()


def test_float_ranges_are_recommended_too() -> None:
    """A whole number in a float line becomes a float."""
    line = {"hyperparameter": "model.dropout", "float": {"low": 0, "high": 1, "default": "1 / 4"}}

    setting = made(rule(then=line)).settings["model.dropout"]

    assert setting.range == FloatRange(low=0.0, high=1.0)
    assert setting.value == 0.25
