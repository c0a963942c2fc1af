"""Chance against the loader and the language: a result or a SmartTuneError, nothing else."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarttune.errors import RulePackError, SmartTuneError
from smarttune.facts import FACTS
from smarttune.recommendation import recommend
from smarttune.rulebook import Rulebook, builtin_folder, load_rulebook
from smarttune.rulebook.expressions import FUNCTIONS, ExpressionError, parse
from smarttune.rulebook.logic import MAX_NUMBER, Unknown
from smarttune.space import HYPERPARAMETERS
from tests.rulebook.packs import RULE, load, write_pack
from tests.strategies import plausible_facts

PACKS = sorted(file.parent for file in builtin_folder().glob("*/pack.yaml"))
FILES = [file for pack in PACKS for file in sorted(pack.glob("[A-Z]*.yaml"))]
WORDS = [*FACTS, *HYPERPARAMETERS]
TOKENS = [
    *("and", "or", "not", "in", "not in", "if", "else", "known", "opt", "lambda", "is", "await"),
    *("+", "-", "*", "/", "//", "%", "**", "<", "<=", ">", ">=", "==", "!=", ":=", "@", "~", "|"),
    *("(", ")", "[", "]", "{", "}", ",", ".", ":", ";", "#", "'", '"', "\n", "\t", "\\", "\0"),
    *("0", "1", "2.5", "1e-300", "1e300", "1e18", "9" * 30, "0x1f", "1j", "1_0", "010", "inf"),
    *('"text"', "'adam'", "f'{1}'", "b'x'", "True", "False", "None", "...", "x", "\uff44ata.task"),
    *FUNCTIONS,
]
numbers = st.one_of(
    st.integers(-(10**18), 10**18),
    st.floats(-MAX_NUMBER, MAX_NUMBER, allow_nan=False),
    st.sampled_from([0, 1, -1, 0.5, 1e-300, -1e18, 1e18]),
)
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(10**18), 10**18) | st.sampled_from([0, 1, 2]),
    "float": numbers.map(float),
    "str": st.sampled_from(["text", "tabular", "adam", "", "x" * 50]),
    "bool": st.booleans(),
}


def values_of(names: frozenset[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Values of their types for some of these names, sensible or not."""
    kinds = {name: (FACTS.get(name) or HYPERPARAMETERS[name]).kind for name in sorted(names)}
    return st.fixed_dictionaries({}, optional={name: KINDS[kind] for name, kind in kinds.items()})


def check_expression(text: str, data: st.DataObject) -> None:
    """Parse a text and, if it is of the language, evaluate and trace it on any values."""
    try:
        expression = parse(text)
    except ExpressionError as error:
        assert 1 <= error.column <= len(text.encode()) + 1
        return
    known = data.draw(values_of(expression.names))
    value = expression.evaluate(known)
    if not isinstance(value, Unknown):
        assert isinstance(value, {"num": (int, float), "str": str, "bool": bool}[expression.kind])
        assert expression.kind != "num" or (math.isfinite(value) and abs(value) <= MAX_NUMBER)
    assert isinstance(expression.trace(known), str)


@given(st.lists(st.sampled_from(TOKENS) | st.sampled_from(WORDS), max_size=14), st.data())
@settings(max_examples=400)
def test_soup_of_tokens(tokens: list[str], data: st.DataObject) -> None:
    """Any row of words is an expression with a value of its type, or an `ExpressionError`."""
    check_expression(data.draw(st.sampled_from(["", " "])).join(tokens), data)


@functools.cache
def expressions() -> tuple[str, ...]:
    """Every expression of the built-in rules."""
    rules = load_rulebook().rules
    found = {e.text for r in rules for e in (*r.when, *(e for t in r.then for e in t.expressions))}
    return tuple(sorted(found))


def cut(text: str) -> list[str]:
    """Words, numbers, texts and signs of an expression; joined they are the expression again."""
    return re.findall(r"[\w.]+|\s+|\"[^\"]*\"|[<>=!]=|.", text)


@st.composite
def mutated(draw: st.DrawFn, pieces: list[str], others: st.SearchStrategy[str]) -> str:
    """The pieces joined after some were dropped, doubled, swapped or replaced."""
    pieces = list(pieces)
    for _ in range(draw(st.integers(1, 4))):
        i = draw(st.integers(0, max(0, len(pieces) - 1)))
        kind = draw(st.sampled_from(["drop", "double", "swap", "replace", "insert"]))
        if kind == "insert" or not pieces:
            pieces.insert(i, draw(others))
        elif kind == "drop":
            del pieces[i]
        elif kind == "double":
            pieces[i:i] = pieces[i : i + draw(st.integers(1, 8))]
        elif kind == "swap":
            j = draw(st.integers(0, len(pieces) - 1))
            pieces[i], pieces[j] = pieces[j], pieces[i]
        else:
            pieces[i] = draw(others)
    return "".join(pieces)


@given(st.data())
@settings(max_examples=400)
def test_mutated_expressions(data: st.DataObject) -> None:
    """A real expression after some edits is one with a value, or an `ExpressionError`."""
    text = data.draw(st.sampled_from(expressions()))

    check_expression(data.draw(mutated(cut(text), st.sampled_from([*TOKENS, *WORDS]))), data)


@given(st.data())
@settings(max_examples=300)
def test_real_expressions_on_any_values(data: st.DataObject) -> None:
    """The built-in rules' own expressions have a value or are unknown, whatever the facts."""
    text = data.draw(st.sampled_from(expressions()))

    check_expression(text, data)


def loads_or_is_refused(folder: Path) -> Rulebook | None:
    """The book of a folder, or None if it is refused with places and sentences."""
    try:
        return load(folder)
    except RulePackError as error:
        assert error.mistakes
        assert all(str(m) and m.where and m.mend for m in error.mistakes)
        assert str(error).replace("\n", "").isprintable()
        return None


@pytest.mark.parametrize("name", FUNCTIONS)
@given(st.lists(numbers, min_size=3, max_size=3))
def test_functions_on_any_numbers(name: str, values: list[float]) -> None:
    """Every function of the language has a finite value or is unknown, whatever the numbers."""
    arity, _ = FUNCTIONS[name]
    arguments = ", ".join(repr(value) for value in values[: arity if arity > 0 else None])

    value = parse(f"{name}({arguments})").evaluate({})

    assert isinstance(value, Unknown) or abs(value) <= MAX_NUMBER  # type: ignore[arg-type]


YAML_PIECES = [
    *("a", "code", "when", "then", "x: 1", "- ", ": ", "? ", "- - ", "{", "}", "[", "]", ","),
    *(
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
        "!x ",
        "|\n  ",
        ">\n  ",
        "'",
        '"',
        "#",
        "%YAML 1.1\n",
        "---\n",
    ),
    *("...\n", "\n", "\n  ", "\t", "\r", "\0", "\ufeff", "\x1b", "\u2028", "~", "null", ".nan"),
    *("1e999", "0x" + "f" * 40, "9" * 40, "yes", "2020-01-01", "\\", '"\\u0000"', '"\\ud800"'),
]


@given(
    st.lists(st.sampled_from(YAML_PIECES), max_size=25).map("".join).map(str.encode) | st.binary()
)
@settings(max_examples=150)
def test_any_bytes_as_a_rule(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """A file of any bytes is refused as a rule, with its place."""
    folder = write_pack(tmp_path_factory.mktemp("pack"))
    (folder / "TST001-some-situation.yaml").write_bytes(content)

    assert loads_or_is_refused(folder) is None


@given(st.sampled_from(["pack.yaml", "sources.yaml"]), st.data())
@settings(max_examples=100)
def test_any_bytes_beside_rules(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    """Any bytes as pack.yaml or sources.yaml are refused, or change nothing about the rule."""
    folder = write_pack(tmp_path_factory.mktemp("pack"), RULE)
    content = data.draw(st.lists(st.sampled_from(YAML_PIECES), max_size=20).map("".join))
    (folder / name).write_text(content)

    book = loads_or_is_refused(folder)

    assert book is None or book.rules == load(write_pack(folder, RULE)).rules


def recommended_or_refused(book: Rulebook, facts: Any) -> None:
    """Fire the rules; an empty range or a conflict is the rule's mistake, told as such."""
    with contextlib.suppress(SmartTuneError):
        json.dumps(recommend(facts, rules=book).to_json(), allow_nan=False)


@given(st.data(), plausible_facts)
@settings(max_examples=150)
def test_mutated_rule_files(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, facts: Any
) -> None:
    """A real rule file after some edits is refused, or recommends something or is refused then."""
    file = data.draw(st.sampled_from(FILES))
    lines = re.findall(r"[\w.-]+|\s+|.", file.read_text())
    others = st.sampled_from([*YAML_PIECES, *TOKENS, *WORDS, "float", "int", "choice", "fixed"])
    folder = tmp_path_factory.mktemp("pack")
    (folder / "sources.yaml").write_bytes((builtin_folder() / "sources.yaml").read_bytes())
    (folder / "pack.yaml").write_bytes((file.parent / "pack.yaml").read_bytes())
    (folder / file.name).write_text(data.draw(mutated(lines, others)))

    book = loads_or_is_refused(folder)

    if book is not None:
        recommended_or_refused(book, facts)
