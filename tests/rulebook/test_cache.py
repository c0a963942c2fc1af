"""Rules that an earlier process checked: the same rules, and only from the very same code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.facts import Facts
from smarttune.recommendation import recommend
from smarttune.rulebook import Rulebook, cache
from smarttune.rulebook.agenda import Agenda, _settling_order
from tests.rulebook.packs import RULE, load, write_pack
from tests.strategies import plausible_facts


@pytest.fixture(scope="module")
def restored(_own_cache_folder: None) -> Rulebook:
    """The built-in rules as the cache gives them back."""
    load(builtin=True)
    return load(builtin=True)


def test_restored_rules_are_the_checked_rules(
    restored: Rulebook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every field, default and expression of every rule comes back as it was."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    checked = load(builtin=True)

    assert restored.sources == checked.sources
    assert restored.packs == checked.packs
    for back, rule in zip(restored.rules, checked.rules, strict=True):
        assert back == rule
        assert back.model_dump() == rule.model_dump()
        assert back.model_fields_set == rule.model_fields_set
        assert back.names == rule.names
        assert [e.kind for e in back.when] == [e.kind for e in rule.when]


@given(plausible_facts)
def test_restored_rules_recommend_the_same(book: Rulebook, facts: Facts) -> None:
    """Expressions that are compiled on first use give the same values and traces."""
    again = load(builtin=True)

    first, second = recommend(facts, rules=book), recommend(facts, rules=again)

    assert json.dumps(first.to_json()) == json.dumps(second.to_json())


def test_other_code_reads_the_files_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other code has checked counts for nothing."""
    folder = write_pack(tmp_path / "pack", RULE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = folder / "pack.yaml"
    kept = cache.CheckedFiles(folder)
    assert kept.get(file) is None
    kept.put(file, load(folder).packs[0].info)
    kept.save()
    assert cache.CheckedFiles(folder).get(file) == load(folder).packs[0].info

    monkeypatch.setattr(cache.pydantic, "VERSION", "another")

    assert cache.CheckedFiles(folder).get(file) is None


def test_a_file_that_changed_while_it_was_checked_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept belongs to the file as it was when it was asked for."""
    folder = write_pack(tmp_path / "pack", RULE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kept, file = cache.CheckedFiles(folder), folder / "pack.yaml"
    kept.get(file)
    info = load(folder).packs[0].info
    file.write_text(file.read_text() + "# later\n")

    kept.put(file, info)

    assert kept.get(file) is None


graphs = st.dictionaries(
    st.integers(0, 8), st.lists(st.integers(0, 8), max_size=3), min_size=1
).map(lambda graph: {n: [m for m in after if m in graph and m < n] for n, after in graph.items()})


@given(graphs)
def test_what_is_needed_is_settled_before(graph: dict[str, list[str]]) -> None:
    """Each node of a graph without circles comes once, after all that it needs."""
    order = _settling_order(graph)

    assert sorted(order) == sorted(graph)
    assert all(order.index(m) < order.index(n) for n, after in graph.items() for m in after)


def test_a_long_chain_or_a_circle_ends() -> None:
    """A chain deeper than Python's stack is put in order, and a circle does not hang."""
    chain = {n: [n + 1] for n in range(5_000)} | {5_000: []}

    assert _settling_order(chain) == list(range(5_000, -1, -1))  # type: ignore[arg-type]
    assert sorted(_settling_order({"a": ["b"], "b": ["a"]})) == ["a", "b"]


def test_the_agenda_does_not_depend_on_the_order_of_rules(book: Rulebook) -> None:
    """Rules that come backwards give the same agenda."""
    one, other = Agenda.of(book.rules), Agenda.of(reversed(book.rules))

    assert one.rules == other.rules
    assert list(one.lines) == list(other.lines)
    assert one.needs == other.needs
