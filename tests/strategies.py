"""Rules, books, ranges and facts for tests: by hand, and drawn by Hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from smarttune.facts import FACTS, Facts
from smarttune.rulebook import Rule, Rulebook
from smarttune.rulebook.schema import Source
from smarttune.space import (
    HYPERPARAMETERS,
    Choice,
    Dimension,
    Fixed,
    FloatRange,
    IntRange,
    NormalPrior,
    Range,
    SearchSpace,
    Value,
    WeightsPrior,
)

SOURCE = Source(authors="A. Author", title="A work", year="2020", url="https://example.org")


def rule_data(code: str = "TST001", *, then: Any = None, **changes: Any) -> dict[str, Any]:
    """The content of a valid rule file, with some keys changed."""
    if then is None:
        then = {"hyperparameter": "model.dropout", "fixed": 0.1}
    return {
        "code": code,
        "name": f"situation-{code.lower()}",
        "summary": f"Reason of the rule {code}.",
        "stage": {"stable_since": "0.1.0"},
        "kind": "static",
        "evidence": "practitioner",
        "confidence": 0.6,
        "when": [],
        "then": then if isinstance(then, list) else [then],
        "why": "Because it was seen.",
        "limits": "Seen once.",
        "provenance": [
            {
                "source": "src",
                "locator": "p. 1",
                "supports": "number",
                "claim": "It was so.",
                "verification": "read",
            }
        ],
        "examples": [],
    } | changes


def rule(code: str = "TST001", *, then: Any = None, **changes: Any) -> Rule:
    """A rule with some keys changed."""
    return Rule.model_validate(rule_data(code, then=then, **changes))


def book_of(*rules: Rule) -> Rulebook:
    """A rulebook of these rules, in this order."""
    return Rulebook(rules, {"src": SOURCE}, (), HYPERPARAMETERS)


_numbers = st.floats(-1e6, 1e6, allow_nan=False)
_positive = st.floats(1e-8, 1e6)
_integers = st.integers(-1000, 1000)
_texts = st.sampled_from(["adam", "sgd", "none", "l1"])

values: st.SearchStrategy[Value] = st.one_of(
    st.booleans(), st.integers(-12, 12), st.sampled_from([-0.5, 0.5, 2.0, 8.0, 100.0]), _texts
)


@st.composite
def float_ranges(draw: st.DrawFn) -> FloatRange:
    """Linear and log ranges of numbers."""
    if draw(st.booleans()):
        low, high = sorted([draw(_positive), draw(_positive)])
        return FloatRange(low=low, high=high, sampling="log")
    low, high = sorted([draw(_numbers), draw(_numbers)])
    return FloatRange(low=low, high=high)


@st.composite
def int_ranges(draw: st.DrawFn) -> IntRange:
    """Linear, log and power-of-two ranges of whole numbers."""
    sampling = draw(st.sampled_from(["linear", "log", "power_of_two"]))
    if sampling == "power_of_two":
        low, high = sorted([draw(st.integers(0, 12)), draw(st.integers(0, 12))])
        return IntRange(low=2**low, high=2**high, sampling="power_of_two")
    if sampling == "log":
        low, high = sorted([draw(st.integers(1, 5000)), draw(st.integers(1, 5000))])
        return IntRange(low=low, high=high, sampling="log")
    low, high = sorted([draw(_integers), draw(_integers)])
    return IntRange(low=low, high=high)


choices = st.lists(values, min_size=1, max_size=6).map(lambda v: Choice(values=tuple(v)))
fixed = values.map(lambda v: Fixed(value=v))
# Small whole bounds, so that two ranges often overlap or touch.
_close = st.tuples(st.integers(1, 16), st.integers(0, 16)).flatmap(
    lambda b: st.sampled_from(
        [
            IntRange(low=b[0], high=b[0] + b[1]),
            IntRange(low=b[0], high=b[0] + b[1], sampling="log"),
            FloatRange(low=float(b[0]), high=float(b[0] + b[1])),
            FloatRange(low=b[0] - 0.5, high=b[0] + b[1] + 0.5, sampling="log"),
            IntRange(low=1 << b[0] % 4, high=1 << (b[0] % 4 + b[1] % 4), sampling="power_of_two"),
        ]
    )
)
ranges: st.SearchStrategy[Range] = st.one_of(float_ranges(), int_ranges(), choices, fixed, _close)

normal_priors = st.builds(
    NormalPrior, center=st.floats(0, 1), spread=st.sampled_from([0.05, 0.125, 0.25, 0.5, 2.0])
)
weights_priors = st.lists(st.floats(0.01, 10.0), min_size=1, max_size=6).map(
    lambda w: WeightsPrior(weights=tuple(w))
)


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Spaces of a few dimensions, later ones conditional on earlier ones."""
    dimensions: list[Dimension] = []
    for i in range(draw(st.integers(1, 5))):
        range_ = draw(ranges)
        conditions: dict[str, tuple[Value, ...]] = {}
        if dimensions and draw(st.booleans()):
            parent = draw(st.sampled_from(dimensions))
            allowed = [parent.range.from_unit(draw(st.floats(0, 1))) for _ in range(2)]
            conditions[parent.name] = tuple(allowed)
        prior: NormalPrior | WeightsPrior | None = draw(st.none() | normal_priors)
        if isinstance(range_, Choice) and prior is not None:
            n = len(range_.values)
            weights = draw(st.lists(st.floats(0.01, 5), min_size=n, max_size=n))
            prior = WeightsPrior(weights=tuple(weights))
        value = range_.from_unit(draw(st.floats(0, 1)))
        dimensions.append(
            Dimension(
                name=f"model.h{i}", range=range_, value=value, prior=prior, active_when=conditions
            )
        )
    return SearchSpace(dimensions=tuple(dimensions))


_SIZES = {
    "int": st.sampled_from([1, 2, 3, 8, 17, 100, 600, 5000, 100_000, 10_000_000]),
    "float": st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.5, 0.9, 1.0, 2.0, 8.0, 30.0, 1000.0]),
    "bool": st.booleans(),
}


def _value_of(name: str) -> st.SearchStrategy[Any]:
    definition = FACTS[name]
    if definition.kind == "str":
        return st.sampled_from(definition.values or ("model.units", "optimizer.learning_rate"))
    return _SIZES[definition.kind]


# Any subset of the vocabulary with values of a sensible size, mostly without a history.
plausible_facts: st.SearchStrategy[Facts] = st.builds(
    lambda base, history: Facts.of(base | history),
    st.fixed_dictionaries(
        {"data.task": _value_of("data.task")},
        optional={n: _value_of(n) for n in FACTS if not n.startswith(("history.", "data.task"))},
    ),
    st.one_of(
        st.just({}),
        st.fixed_dictionaries(
            {}, optional={n: _value_of(n) for n in FACTS if n.startswith("history.")}
        ),
    ),
)
