"""What all generated pages share: their head, their tables, and links between them."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from smarttune.rulebook import Rulebook

ROOT = Path(__file__).resolve().parents[2]

_GENERATED = "<!-- Made by `make docs` from {origin}; change that, not this page. -->"


def head(title: str, origin: str, intro: str) -> list[str]:
    """The first lines of a page: where it comes from, its title, and what it is about."""
    return [_GENERATED.format(origin=origin), f"# {title}", "", intro.strip()]


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A table with an empty line before it, or nothing if there are no rows."""
    lines = [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    rule = "|" + "---|" * len(columns)
    return ["", f"| {' | '.join(columns)} |", rule, *lines] if lines else []


def cell(text: str | None) -> str:
    """Text that does not break a table."""
    return " ".join((text or "").split()).replace("|", "\\|")


def code(text: str) -> str:
    """Text as code inside a table."""
    return f"`{cell(text)}`"


def count(number: int, noun: str) -> str:
    """A number with its noun, as "1 rule" or "3 rules"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class Links:
    """Where rules, works and names are, seen from one page.

    In the checkout a rule is its file, and works and names have a row in a table. On the site each
    of them has a page.

    Attributes:
        book: The rules.
        page: Path of the page that holds the links, from the root of the checkout or the site.
        site: Whether the page belongs to the site.
    """

    book: Rulebook
    page: str
    site: bool = False

    def to(self, target: str) -> str:
        """The relative address of another page."""
        return posixpath.relpath(target, posixpath.dirname(self.page) or ".")

    def rule(self, rule: str) -> str:
        """A rule's code, linked."""
        return f"[{rule}]({self.to(self.rule_page(rule))})"

    def rule_page(self, rule: str) -> str:
        """Where a rule is described."""
        return f"docs/rules/{rule}.md" if self.site else self.rule_file(rule)

    def rule_file(self, rule: str) -> str:
        """The path of a rule's file from the root of the checkout."""
        return self.book.files[rule].relative_to(ROOT).as_posix()

    def rules(self, rules: Iterable[str], nothing: str = "none") -> str:
        """Codes of rules, linked, or a word where there are none."""
        return ", ".join(self.rule(rule) for rule in rules) or nothing

    def work(self, key: str) -> str:
        """The key of a work in the bibliography."""
        return self._named("sources", key)

    def hyperparameter(self, name: str) -> str:
        """The name of a hyperparameter."""
        return self._named("hyperparameters", name)

    def fact(self, name: str) -> str:
        """The name of a fact."""
        return self._named("facts", name)

    def _named(self, folder: str, name: str) -> str:
        return f"[`{name}`]({self.to(f'docs/{folder}/{name}.md')})" if self.site else f"`{name}`"
