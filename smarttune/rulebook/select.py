"""Which rules take part: `--select` and `--ignore` by code, prefix, name or pack."""

from __future__ import annotations

from collections.abc import Sequence

from smarttune.errors import OptionError, did_you_mean
from smarttune.rulebook.load import Rulebook
from smarttune.rulebook.schema import Rule


def select(book: Rulebook, select: Sequence[str] = (), ignore: Sequence[str] = ()) -> Rulebook:
    """Return the book with only the selected rules, less the ignored ones.

    Args:
        book: All rules.
        select: Codes, prefixes of codes, names of rules or of packs; empty means all.
        ignore: The same, taken out afterwards.

    Raises:
        OptionError: If a word selects no rule.
    """
    if not select and not ignore:
        return book
    codes = {r.code for r in book.rules}
    chosen = _matching(book, select, "--select") if select else codes
    chosen = chosen - _matching(book, ignore, "--ignore")
    return book.replace_rules(r for r in book.rules if r.code in chosen)


def _matching(book: Rulebook, words: Sequence[str], option: str) -> set[str]:
    """Codes of the rules that any of the words means."""
    found: set[str] = set()
    for word in words:
        matched = {rule.code for rule in book.rules if _matches(rule, word)}
        for pack in book.packs:
            if pack.info.pack == word:
                matched |= {r.code for r in pack.rules} & {r.code for r in book.rules}
        if not matched:
            known = [r.code for r in book.rules] + [r.name for r in book.rules]
            raise OptionError(
                option,
                received=f"`{word}` is no rule's code, prefix or name and no pack",
                expected="for example LRN001, LRN, a rule's name or a pack's",
                mend=f"`smarttune rules list` lists them.{did_you_mean(word, known)}",
            )
        found |= matched
    return found


def _matches(rule: Rule, word: str) -> bool:
    return rule.name == word or (word.isupper() and rule.code.startswith(word))
