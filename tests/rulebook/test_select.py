"""Which rules take part."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from smarttune.errors import OptionError
from smarttune.rulebook import Rulebook, select
from tests.rulebook.packs import PACK, load, rule_text, write_pack


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Rulebook:
    """Two packs of two rules each."""
    folder: Path = tmp_path_factory.mktemp("packs")
    for pack, prefix in (("first", "AAA"), ("second", "BBB")):
        info = PACK.replace("TST", prefix).replace("pack: tests", f"pack: {pack}")
        write_pack(folder / pack, rule_text(f"{prefix}001"), rule_text(f"{prefix}002"), pack=info)
    return load(folder)


@pytest.mark.parametrize(
    ("chosen", "ignored", "codes"),
    [
        ([], [], ["AAA001", "AAA002", "BBB001", "BBB002"]),
        (["AAA001"], [], ["AAA001"]),
        (["BBB"], [], ["BBB001", "BBB002"]),
        (["B"], [], ["BBB001", "BBB002"]),
        (["situation-bbb002"], [], ["BBB002"]),
        (["first"], [], ["AAA001", "AAA002"]),
        (["first", "BBB001"], [], ["AAA001", "AAA002", "BBB001"]),
        ([], ["second"], ["AAA001", "AAA002"]),
        ([], ["AAA", "BBB001"], ["BBB002"]),
        (["first"], ["AAA002"], ["AAA001"]),
        (["first"], ["first"], []),
    ],
)
def test_words_select_rules(
    small: Rulebook, chosen: list[str], ignored: list[str], codes: list[str]
) -> None:
    """Codes, prefixes, names and packs select; what is ignored is taken out afterwards."""
    picked = select(small, chosen, ignored)

    assert [r.code for r in picked.rules] == codes
    assert picked.sources == small.sources
    assert picked.files == small.files


@pytest.mark.parametrize(
    ("chosen", "ignored", "option", "hint"),
    [
        (["AAA003"], [], "--select", "Did you mean `AAA00"),
        ([], ["aaa"], "--ignore", "no rule's code"),
        (["AAA001", "situation-bbb003"], [], "--select", "Did you mean `situation-bbb00"),
        ([""], [], "--select", "no rule's code"),
    ],
)
def test_words_that_select_nothing_are_refused(
    small: Rulebook, chosen: list[str], ignored: list[str], option: str, hint: str
) -> None:
    """A word without a rule is a mistake, never silently nothing."""
    with pytest.raises(OptionError, match=re.escape(hint)) as caught:
        select(small, chosen, ignored)

    assert caught.value.where == option


def test_selecting_changes_no_book(small: Rulebook) -> None:
    """The book that was selected from keeps all of its rules."""
    select(small, ["AAA001"])

    assert len(small.rules) == 4
