"""The language of conditions and computed values."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smarttune.facts import FACTS
from smarttune.rulebook.expressions import (
    FUNCTIONS,
    MAX_CHARACTERS,
    MAX_NUMBER,
    SPECIAL,
    Expression,
    ExpressionError,
    Unknown,
    constant,
    parse,
)
from smarttune.space import HYPERPARAMETERS
from tests.strategies import plausible_facts

NAMES: dict[str, Any] = {
    "data.num_samples": 7440,
    "data.words_per_sample": 18.0,
    "data.num_features": 10,
    "data.task": "text",
    "data.heavy_tailed": True,
    "model.dropout": 0.25,
    "training.batch_size": 48,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("data.num_samples > 7000", True),
        ("7000 < data.num_samples <= 7440", True),
        ("7000 < data.num_samples < 7440", False),
        ('data.task == "text"', True),
        ('data.task != "text"', False),
        ('data.task in ("text", "image")', True),
        ('data.task not in ["image"]', True),
        ("data.num_features in (1, 10)", True),
        ("not data.heavy_tailed", False),
        ("1 + 2 * 3 - 4 / 2", 5.0),
        ("7 // 2 + 7 % 4", 6),
        ("-data.num_features", -10),
        ("1 if data.heavy_tailed else 2", 1),
        ("log(exp(1.5))", 1.5),
        ("log2(8) + sqrt(16)", 7.0),
        ("pow(2, 10)", 1024.0),
        ("abs(-3) + floor(1.9) + ceil(1.1) + round(2.6)", 9),
        ("min(3, 1, 2) + max(3, 1, 2)", 4),
        ("clamp(9, 1, 5) + clamp(-9, 1, 5)", 6),
        ("pow2_floor(48) + pow2_ceil(48) + pow2_round(45)", 128),
        ("opt(data.num_classes, 2)", 2),
        ("opt(data.num_features, 2)", 10),
        ("known(data.num_features)", True),
        ("known(data.num_classes)", False),
        ("training.batch_size * model.dropout", 12.0),
        ("  data.heavy_tailed  ", True),
    ],
)
def test_expressions_have_their_values(text: str, value: object) -> None:
    """Every operator and function of the language gives what it says."""
    assert parse(text).evaluate(NAMES) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data.task > 3", "cannot compare"),
        ('data.task < "text"', "compares numbers only"),
        ('data.num_samples == "many"', "cannot compare"),
        ("data.heavy_tailed and data.num_samples", "where true or false is needed"),
        ("not data.num_samples", "where true or false is needed"),
        ("-data.task", "where a number is needed"),
        ('data.task + "x"', "where a number is needed"),
        ("log(data.heavy_tailed)", "where a number is needed"),
        ('1 if data.heavy_tailed else "a"', "one type"),
        ("1 if data.num_samples else 2", "where true or false is needed"),
        ('opt(data.num_samples, "a")', "where a number is needed"),
        ('data.num_features in ("a", 1)', "values of one type"),
        ("data.num_features in (data.num_classes, 1)", "literal values"),
        ("data.num_features in ()", "literal values"),
        ("data.num_features in 3", "`in` needs a list"),
        ("(1, 2)", "only after `in`"),
        ('data.task == "txet"', "is never 'txet'; it is one of tabular, text"),
        ('data.task in ("text", "vidéo")', "is never 'vidéo'"),
        ("data.num_sample > 3", "Did you mean `data.num_samples`"),
        ("nonsense", "neither a fact nor a hyperparameter"),
        ("lg(3)", "is not a function of the language"),
        ("log(1, 2)", "takes 1 argument"),
        ("min(1)", "two or more"),
        ("min()", "takes 1 argument"),
        ("clamp(1, 2)", "takes 3 argument"),
        ("known(3)", "known(name)"),
        ("opt(data.num_samples)", "opt(name, default)"),
    ],
)
def test_types_and_names_are_checked(text: str, message: str) -> None:
    """A wrong type, value, name or number of arguments is found when the rule is loaded."""
    with pytest.raises(ExpressionError) as caught:
        parse(text)

    assert message in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "data.num_samples > data.num_features",
        "data.num_samples + data.num_features > 1",
        "data.num_samples % data.num_features > 1",
        "min(data.num_samples, data.num_features)",
        "clamp(data.num_samples, 1, data.num_features)",
        "data.num_samples / data.num_features > data.num_samples",
        "data.num_samples * data.num_samples > data.num_samples",
        "data.num_samples if data.heavy_tailed else data.num_features",
        "opt(data.num_samples, data.num_features)",
        "data.num_samples > data.missing_fraction",
        "data.num_samples / data.num_samples > data.num_samples",
        "column.rows_per_level > data.num_samples",
    ],
)
def test_units_are_not_mixed(text: str) -> None:
    """Samples are not compared with features, nor with shares or squares of samples."""
    with pytest.raises(ExpressionError, match="mixes units"):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "data.num_samples > data.num_positives",
        "data.num_samples / data.num_features >= 10",
        "data.num_samples / data.num_features > data.num_positives / data.num_features",
        "data.num_samples / data.num_positives > data.missing_fraction",
        "column.rows_per_level * column.cardinality > data.num_samples",
        "sqrt(data.num_samples) > log2(data.num_features)",
        "max(data.num_samples, 100) > data.num_samples - data.num_positives",
        "training.batch_size < data.num_samples",
    ],
)
def test_equal_units_are_compared(text: str) -> None:
    """The same unit, a ratio of units, and literals beside any unit are fine."""
    assert parse(text).kind == "bool"


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("data.num_samples > 3 and data.nonsense", 26),
        ("1 + * 2", 5),
        ('data.task == "txet"', 14),
        ("data.num_samples > 1 and lg(3) > 1", 26),
    ],
)
def test_mistakes_have_their_column(text: str, column: int) -> None:
    """The column points at the part at fault, counted from 1."""
    with pytest.raises(ExpressionError) as caught:
        parse(text)

    assert caught.value.column == column


BOOLEANS = ["data.heavy_tailed", "data.time_ordered", "data.target_bounded", "data.flip_sensitive"]
Tree = Any  # a name, ("not", tree), or ("and" | "or", (tree, ...))
trees: st.SearchStrategy[Tree] = st.recursive(
    st.sampled_from(BOOLEANS),
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(
            st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3).map(tuple)
        ),
    ),
    max_leaves=6,
)


def as_text(tree: Tree) -> str:
    """The tree in the language."""
    if isinstance(tree, str):
        return tree
    if tree[0] == "not":
        return f"(not {as_text(tree[1])})"
    return "(" + f" {tree[0]} ".join(as_text(part) for part in tree[1]) + ")"


def kleene(tree: Tree, truth: dict[str, bool | None]) -> bool | None:
    """Kleene's strong logic, with numbers 0, 1/2, 1 for false, unknown, true."""

    def level(part: Tree) -> float:
        if isinstance(part, str):
            known = truth[part]
            return 0.5 if known is None else float(known)
        if part[0] == "not":
            return 1 - level(part[1])
        return (min if part[0] == "and" else max)(level(p) for p in part[1])

    return {0.0: False, 0.5: None, 1.0: True}[level(tree)]


@pytest.mark.parametrize(
    ("operator", "a", "b"),
    list(itertools.product(["and", "or"], [True, False, None], [True, False, None])),
)
def test_truth_tables(operator: str, a: bool | None, b: bool | None) -> None:
    """`and` and `or` follow Kleene's tables over true, false and unknown."""
    tree = (operator, (BOOLEANS[0], BOOLEANS[1]))
    truth = {BOOLEANS[0]: a, BOOLEANS[1]: b}

    result = parse(as_text(tree)).evaluate({n: v for n, v in truth.items() if v is not None})

    assert (None if isinstance(result, Unknown) else result) is kleene(tree, truth)


@given(trees, st.lists(st.sampled_from([True, False, None]), min_size=4, max_size=4))
def test_logic_agrees_with_brute_force(tree: Tree, truths: list[bool | None]) -> None:
    """Any formula has Kleene's value, and a known value is that of every completion."""
    truth = dict(zip(BOOLEANS, truths, strict=True))
    known = {n: v for n, v in truth.items() if v is not None}
    expression = parse(as_text(tree))

    result = expression.evaluate(known)

    expected = kleene(tree, truth)
    assert (None if isinstance(result, Unknown) else result) is expected
    if isinstance(result, Unknown):
        assert result.missing <= expression.names - known.keys()
        assert result.missing
    else:
        open_names = [n for n in BOOLEANS if truth[n] is None]
        for completion in itertools.product([True, False], repeat=len(open_names)):
            assert (
                expression.evaluate(known | dict(zip(open_names, completion, strict=True)))
                is result
            )


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("data.num_classes > 3", {"data.num_classes"}),
        ("data.num_classes / data.corpus_chars > 3", {"data.num_classes", "data.corpus_chars"}),
        ("1 < data.num_classes < 3", {"data.num_classes"}),
        ("2 > 3 > data.num_classes", None),
        ("data.num_samples if data.time_ordered else 1", {"data.time_ordered"}),
        ("data.num_samples if data.heavy_tailed else data.num_positives", None),
    ],
)
def test_unknown_names_what_is_missing(text: str, missing: set[str] | None) -> None:
    """A missing fact makes the value unknown unless it cannot matter."""
    result = parse(text).evaluate(NAMES)

    if missing is None:
        assert not isinstance(result, Unknown)
    else:
        assert isinstance(result, Unknown)
        assert result.missing == missing


@pytest.mark.parametrize(
    "text",
    [
        "1 / (data.num_features - 10)",
        "log(data.num_features - 10)",
        "sqrt(-data.num_features)",
        "pow(data.num_samples, 1000)",
        "exp(data.num_samples)",
        "1 % (data.num_features - 10)",
        "1e18 * data.num_samples",
        "pow(-1, 0.5)",
        "1 // (data.num_features - 10)",
    ],
)
def test_values_that_do_not_exist_are_unknown_with_a_reason(text: str) -> None:
    """Division by zero and overflow give no value, no exception, and say why."""
    result = parse(text).evaluate(NAMES)

    assert isinstance(result, Unknown)
    assert not result.missing
    assert result.reason


@pytest.mark.parametrize(
    ("text", "trace"),
    [
        (
            "data.num_samples / data.words_per_sample < 1500",
            "data.num_samples / data.words_per_sample = 7440 / 18 = 413.3 < 1500",
        ),
        ('data.task == "text"', "data.task = 'text'"),
        ('data.task == "image"', "data.task = 'text', not 'image'"),
        ('data.task in ("text", "image")', "data.task = 'text' in ('text', 'image')"),
        ("data.num_classes > 3", "data.num_classes = unknown > 3"),
        ("data.heavy_tailed", "data.heavy_tailed = true"),
        (
            "not (data.heavy_tailed and data.num_samples > 1)",
            "not (data.heavy_tailed = true and data.num_samples = 7440 > 1)",
        ),
        ("5 < data.num_features <= 20", "5 < data.num_features = 10 <= 20"),
        ("max(data.num_features, 3) > 4", "max(data.num_features, 3) = max(10, 3) = 10 > 4"),
    ],
)
def test_traces_show_names_and_values(text: str, trace: str) -> None:
    """A trace is the expression with the values that decided it."""
    assert parse(text).trace(NAMES) == trace


def test_names_are_those_that_are_read() -> None:
    """An expression knows its facts and hyperparameters, those under known() too."""
    text = "known(data.num_classes) and data.num_samples / training.batch_size > 3"

    assert parse(text).names == {"data.num_classes", "data.num_samples", "training.batch_size"}


def test_equal_texts_are_equal_expressions() -> None:
    """Expressions are compared and hashed by what they say."""
    one, other = parse("data.num_samples > 3"), parse(" data.num_samples > 3 ")

    assert one == other
    assert len({one, other}) == 1
    assert one != parse("data.num_samples > 4")
    assert one != "data.num_samples > 3"


def test_constants_keep_their_digits() -> None:
    """Two numbers that differ in the fifth digit are two expressions."""
    assert constant(0.000123456) != constant(0.00012349)
    assert float(constant(0.000123456).text) == 0.000123456


HOSTILE = {
    "a million characters": "1 + " * 250_000 + "1",
    "a million brackets": "(" * 500_000 + "1" + ")" * 500_000,
    "deep brackets": "(" * 240 + "1" + ")" * 240,
    "deep minus": "-" * 499 + "1",
    "deep not": "not " * 120 + "True",
    "many parts": "1" + "+1" * 240,
    "a huge whole number": "9" * 400,
    "a huge float": "1e400",
    "minus a huge number": "-1e19 > 1",
    "a tower of powers": "9 ** 9 ** 9 ** 9",
    "a shift": "1 << 1000000000",
    "text times number": "'a' * 1000000000",
    "a dunder": "data.__class__ == 1",
    "a dunder of a literal": "().__class__.__bases__",
    "a dunder name": "__import__('os')",
    "an attribute of a call": "log(1).real",
    "an attribute of a text": "'{0.__class__}'.format(1)",
    "a call of a call": "log(1)(2)",
    "a method": "data.task.upper() == 'X'",
    "eval": "eval('1')",
    "lambda": "(lambda: 1)()",
    "a comprehension": "[x for x in (1, 2)]",
    "a generator": "sum(x for x in (1, 2))",
    "a set": "{1, 2}",
    "a dict": "{1: 2}",
    "an f-string": "f'{1}'",
    "walrus": "(x := 3)",
    "a subscript": "data['num_samples']",
    "a slice": "(1, 2)[0:1]",
    "a starred argument": "max(*(1, 2))",
    "a keyword": "log(x=1)",
    "await": "await data.num_samples",
    "yield": "(yield 1)",
    "is": "1 is 1",
    "matmul": "1 @ 2",
    "invert": "~1",
    "plus": "+1",
    "None": "None",
    "ellipsis": "...",
    "bytes": "b'a' == b'a'",
    "complex": "1j",
    "a backslash": "'\\x41' == 'A'",
    "a null": "1\x00",
    "two lines": "1\n2",
    "a statement": "import os",
    "a comment only": "# nothing",
    "nothing": "",
    "spaces": "   ",
    "a lone surrogate": "'\ud800' == 'a'",
    "a private name of facts": "_facts",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_refused_at_once(text: str) -> None:
    """Nothing outside of the language passes, and refusing takes no time."""
    began = time.perf_counter()

    with pytest.raises(ExpressionError):
        parse(text)

    assert time.perf_counter() - began < 1.0


@pytest.mark.parametrize("text", ["x[" + "-" * 450 + "1]", "lambda: " + "-" * 450 + "1"])
def test_a_refused_part_may_be_deep(text: str) -> None:
    """A forbidden node with deep content is refused as any other."""
    with pytest.raises(ExpressionError):
        parse(text)


def test_the_longest_expression_is_read() -> None:
    """The bound on characters is exact."""
    text = "1" + " " * (MAX_CHARACTERS - 3) + "+1"

    assert parse(text).evaluate({}) == 2
    with pytest.raises(ExpressionError, match="at most 500"):
        parse(text + " ")


_WORDS = [
    *FACTS,
    *HYPERPARAMETERS,
    *FUNCTIONS,
    *SPECIAL,
    "and",
    "or",
    "not",
    "in",
    "if",
    "else",
    "(",
    ")",
    "[",
    "]",
    "{",
    ",",
    ".",
    "+",
    "-",
    "*",
    "/",
    "//",
    "%",
    "**",
    "<",
    "<=",
    "==",
    "!=",
    ">",
    "0",
    "1",
    "2.5",
    "1e18",
    "'text'",
    '"',
    "True",
    "False",
    "None",
    "lambda",
    ":",
    ":=",
    "=",
    "x",
    "is",
    "\n",
    "\t",
    "#",
    "@",
    "~",
    "f'",
    "await",
    "é",
]
_garbled = st.lists(st.sampled_from(_WORDS), max_size=14).map(" ".join)


@given(st.one_of(st.text(max_size=60), _garbled))
@example("2 if data.heavy_tailed else (1, 2)")
@example("1if 2 else 3")
@settings(max_examples=400)
def test_parsing_raises_nothing_but_its_own_error(text: str) -> None:
    """Any text is an expression or an `ExpressionError`."""
    try:
        expression = parse(text)
    except ExpressionError as error:
        assert error.message
        assert error.column >= 1
    else:
        assert expression.kind in ("num", "str", "bool")


_atoms = st.sampled_from([n for n, d in FACTS.items() if d.kind in ("int", "float")]).map(
    lambda n: f"(0 * {n} / {n} + log({n}))"  # a plain number, whatever the unit
) | st.sampled_from(["0", "1", "-3", "0.5", "1e18", "1e-300"])
_formulas = st.recursive(
    _atoms,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(
            lambda p: f"({p[0]} {p[1]} {p[2]})"
        ),
        st.tuples(st.sampled_from([f for f, (n, _) in FUNCTIONS.items() if n == 1]), inner).map(
            lambda p: f"{p[0]}({p[1]})"
        ),
        st.tuples(st.sampled_from(["pow", "min", "max"]), inner, inner).map(
            lambda p: f"{p[0]}({p[1]}, {p[2]})"
        ),
        st.tuples(inner, inner, inner).map(lambda p: f"({p[0]} if {p[1]} > 0 else {p[2]})"),
    ),
    max_leaves=4,
).filter(lambda text: len(text) <= MAX_CHARACTERS)


@given(_formulas, plausible_facts)
@settings(max_examples=150)
def test_evaluation_never_raises(text: str, facts: Any) -> None:
    """Any expression has a bounded value or is unknown, and can be traced, for any facts."""
    expression: Expression = parse(text)

    value = expression.evaluate(facts.values_dict())

    assert isinstance(value, Unknown) or abs(value) <= MAX_NUMBER  # type: ignore[arg-type]
    assert expression.trace(facts.values_dict())
