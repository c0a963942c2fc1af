"""Write the pages that come from code and rules, so that nothing is typed twice.

    python docs/build.py            write the committed pages, and the whole site under site/
    python docs/build.py --check    write nothing; fail if a committed page is stale

Committed are the index of the rules, the ledger and the references: they are read on the forge. The
pages of single rules, works, hyperparameters and facts, which only repeat files in prose, are built
into the git-ignored site/. What a page holds is made in `pages/`.
"""

from __future__ import annotations

import argparse
import difflib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from pages import commands, evidence, ledger, names, rules, works

from smarttune.facts import FACTS
from smarttune.rulebook import Rulebook, load_rulebook

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "site"
# What the site holds beside the built pages, at the same places, so that links go on to hold.
COPIED = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"),
    *("docs", "examples", "rules", "benchmarks/README.md"),
)
_NOT_COPIED = shutil.ignore_patterns("__pycache__", "build.py", "pages", "runs", "rule.schema.json")


def main() -> int:
    """Build or check; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail if stale")
    check = parser.parse_args().check
    book = builtin_rules()
    pages = committed_pages(book)
    if not check:
        for name, text in pages.items():
            (ROOT / name).write_text(text, encoding="utf-8")
        build_site(book)
        print(f"{len(pages)} pages written; the whole site is under {SITE.name}/")
        return 0
    stale = list(differences(pages))
    print("\n".join(stale) if stale else f"{len(pages)} pages are fresh.")
    return 1 if stale else 0


def builtin_rules() -> Rulebook:
    """The rules of this checkout alone, without packs that happen to be installed."""
    return load_rulebook((ROOT / "rules",), builtin=False)


def committed_pages(book: Rulebook) -> dict[str, str]:
    """Return the text of every committed page under its path in the checkout."""
    return {**_linked_pages(book, site=False), "docs/cli.md": commands.command_reference()}


def _linked_pages(book: Rulebook, *, site: bool) -> dict[str, str]:
    """The pages that link to rules and words, in the checkout or on the site."""
    return {
        rules.PAGE: rules.rule_index(book, site=site),
        ledger.PAGE: ledger.ledger_page(book, site=site),
        evidence.PAGE: evidence.evidence_page(book, site=site),
        names.HYPERPARAMETERS_PAGE: names.hyperparameter_reference(book, site=site),
        names.FACTS_PAGE: names.fact_reference(book, site=site),
        works.PAGE: works.work_reference(book, site=site),
    }


def site_pages(book: Rulebook) -> dict[str, str]:
    """Return the text of every page that only the site has, or has with other links."""
    recommended = names.typical(book)
    return {
        **_linked_pages(book, site=True),
        **{f"docs/rules/{r.code}.md": rules.rule_page(r, book) for r in book.rules},
        **{f"docs/sources/{key}.md": works.work_page(key, book) for key in book.sources},
        **{f"docs/facts/{name}.md": names.fact_page(name, book) for name in FACTS},
        **{
            f"docs/hyperparameters/{name}.md": names.hyperparameter_page(name, book, recommended)
            for name in book.hyperparameters
        },
    }


def differences(pages: dict[str, str]) -> Iterator[str]:
    """Say for each stale page what would change."""
    for name, text in pages.items():
        path = ROOT / name
        found = path.read_text(encoding="utf-8") if path.exists() else ""
        if found != text:
            yield f"{name} is stale; run `make docs`:"
            yield from difflib.unified_diff(
                found.splitlines(), text.splitlines(), "committed", "built", n=0, lineterm=""
            )


def build_site(book: Rulebook, site: Path = SITE) -> None:
    """Write the whole site: the prose, and the pages of everything that has one."""
    shutil.rmtree(site, ignore_errors=True)
    for name in COPIED:
        source, target = ROOT / name, site / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=_NOT_COPIED)
        elif source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    for name, text in site_pages(book).items():
        page = site / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
