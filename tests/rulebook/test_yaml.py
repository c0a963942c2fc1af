"""YAML 1.2 values with their positions."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarttune.errors import RuleMistake
from smarttune.rulebook.yaml import KEY, MAX_BYTES, load


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6),
        ("1E+3", 1000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5e3", -500.0),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("No", "No"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("TRUE", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("010", 10),
        ("+5", 5),
        ("-0", 0),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"),
        ("0.1.0", "0.1.0"),
        ("1e", "1e"),
        (".", "."),
        ("'1'", "1"),
        ('"true"', "true"),
        ("'a # b: c'", "a # b: c"),
        ("a#b", "a#b"),
        ("{a: 1}", {"a": 1}),
        ("[1, x]", [1, "x"]),
        ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    """Plain scalars have the types of YAML 1.2, quoted ones are text."""
    loaded, _ = load(f"key: {text}", "f")

    assert loaded == {"key": value}
    assert type(loaded["key"]) is type(value)


def test_very_long_numbers_do_not_stall() -> None:
    """Beyond 30 digits a whole number becomes a float."""
    loaded, _ = load("a: " + "9" * 5000, "f")

    assert loaded["a"] == math.inf


def test_positions_point_at_values_and_keys() -> None:
    """Lines and columns count from 1; of quoted text, from within the quotes."""
    text = "a: 1\nb:\n  - x\n  - key: 'quoted'\n"

    _, positions = load(text, "f")

    assert positions["a",] == (1, 4)
    assert positions["b", 0] == (3, 5)
    assert positions["b", 1, "key"] == (4, 11)
    assert positions["b", 1, "key", KEY] == (4, 5)
    assert positions["b", KEY] == (2, 1)


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("a: 1\nb: 2\na: 3", "f:3:1", "the key `a` stands twice"),
        ("a:\n  b: 1\n  b: 1", "f:3:3", "the key `b` stands twice"),
        ("a: &x [1]\nb: *x", "f:1:4", "alias"),
        ("a: !secret x", "f:1:4", "tag `!secret`"),
        ("? [a]\n: 1", "f:1:3", "not plain text"),
        ("a: [1,", "f:2:1", "not YAML"),
        ("a: b: c", "f:1:5", "not YAML"),
        ("a: 1\n--- \nb: 2", "f:2:1", "another document"),
        ("a: \x07", "f", "control characters"),
        ("", "f", "empty"),
        ("# only a comment", "f", "empty"),
    ],
)
def test_mistakes_have_positions(text: str, where: str, message: str) -> None:
    """What is refused is refused where it stands."""
    with pytest.raises(RuleMistake) as caught:
        load(text, "f")

    assert caught.value.where == where
    assert message in caught.value.received


@pytest.mark.parametrize(
    "text", ["a: !local [1]", "a: !local {b: 1}", "a: !!str 5", "a: !!set {b}"]
)
def test_tags_are_refused_everywhere(text: str) -> None:
    """A tag is a mistake on a list, on a mapping, and where it would change a type."""
    with pytest.raises(RuleMistake, match="tag"):
        load(text, "f")


def test_python_tags_run_nothing() -> None:
    """A tag that asks for a Python call is never obeyed."""
    try:
        loaded, _ = load("a: !!python/object/apply:os.getpid []", "f")
    except RuleMistake:
        return
    assert loaded == {"a": []}


def test_an_alias_bomb_is_refused() -> None:
    """Nested aliases are refused before they grow."""
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)]
    began = time.perf_counter()

    with pytest.raises(RuleMistake, match="alias"):
        load("\n".join(lines), "f")

    assert time.perf_counter() - began < 1.0


@pytest.mark.parametrize(
    "text",
    [
        "[" * 90_000,
        "{a: " * 40_000,
        "- " * 90_000 + "x",
        "\n".join(" " * i + "a:" for i in range(600)),
    ],
    ids=["brackets", "braces", "dashes", "indentation"],
)
def test_deep_nesting_is_refused(text: str) -> None:
    """Depth that would exhaust the stack is found before it does."""
    began = time.perf_counter()

    with pytest.raises(RuleMistake):
        load(text, "f")

    assert time.perf_counter() - began < 2.0


def test_deep_keys_do_not_crash_the_process() -> None:
    """Nested explicit keys are refused too; tried in a process of its own."""
    program = (
        "from smarttune.errors import RuleMistake\n"
        "from smarttune.rulebook.yaml import load\n"
        "try: load('? ' * 90_000 + 'x', 'f')\n"
        "except RuleMistake: print('refused')\n"
    )

    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0
    assert "refused" in ended.stdout


def test_huge_files_are_refused_unread() -> None:
    """A file beyond the bound is refused before it is parsed."""
    began = time.perf_counter()

    with pytest.raises(RuleMistake, match=f"at most {MAX_BYTES}"):
        load("a: [" + "1, " * 5_000_000 + "1]", "f")

    assert time.perf_counter() - began < 1.0


_texts = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cc"]), max_size=12
)
_plain_data = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), _plain_data, min_size=1))
@settings(max_examples=100)
def test_json_is_yaml(data: dict[str, Any]) -> None:
    """Whatever JSON writes without control characters is read as the same data."""
    text = json.dumps(data)

    assert load(text, "f")[0] == data


@given(st.text(max_size=80))
@settings(max_examples=200)
def test_any_text_loads_or_is_a_mistake(text: str) -> None:
    """Text is YAML or a `RuleMistake`, never another exception."""
    try:
        load(text, "f")
    except RuleMistake as mistake:
        assert mistake.where.startswith("f")
