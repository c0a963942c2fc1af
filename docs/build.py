"""Write the pages that come from code and rules, so that nothing is typed twice.

    python docs/build.py            write the committed pages, and the whole site under site/
    python docs/build.py --check    write nothing; fail if a committed page is stale

Committed are the index of the rules and the references: they are read on the forge. The page of
each rule, which only repeats its file in prose, is built into the git-ignored site/.
"""

from __future__ import annotations

import argparse
import difflib
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer

from smarttune.cli.app import app
from smarttune.rulebook import Pack, Rule, Rulebook, explain, fact_table, load_rulebook

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "site"
# What the site holds beside the built pages, at the same places, so that links go on to hold.
COPIED = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"),
    *("docs", "examples", "rules", "benchmarks/README.md"),
)
_NOT_COPIED = shutil.ignore_patterns("__pycache__", "build.py", "runs", "rule.schema.json")

_GENERATED = "<!-- Made by `make docs` from {origin}; change that, not this page. -->"
_KINDS = {str: "TEXT", int: "N", float: "NUMBER", Path: "PATH"}

# The prose at the top of each generated page.
_RULES_INTRO = """
{rules} rules in {packs} packs. Each is one file: the situation, what it recommends, why, where
that stops, who says so, and what is our own judgement. `smarttune rules show CODE` prints one as a
page; `smarttune suggest --explain HYPERPARAMETER` shows which of them decided and which were
overruled.

*Static* rules read data, task, hardware and budget. *Dynamic* rules read what a search found
(`history.*`) and beat static ones. *Constraints* are facts of a device or library; they cut
whatever the others say.

How to write your own: [examples/050_write_a_rule](../examples/050_write_a_rule/README.md). The
words: [facts](../docs/facts.md), [hyperparameters](../docs/hyperparameters.md),
[sources](../docs/sources.md).
"""
_COMMANDS_INTRO = """
`smarttune COMMAND --help` shows the same in the terminal; `python -m smarttune` is the same
program. `smarttune --install-completion` sets up completion in your shell.

Exit codes: 0 done; 2 something you can mend, said in one paragraph; 1 a bug of ours, with its
traceback; 130 interrupted, and a search can be resumed.
"""
_HYPERPARAMETERS_INTRO = """
The names that rules, spaces, `--set`, JSON and reports share. `smarttune.narrow` maps common
spellings of your own (`lr`, `units_2`, `dropout_rate`) to them; its argument `names` maps the rest.
"""
_FACTS_INTRO = """
What rules may read. A fact is measured from the file or the machine, declared by you
(`--fact name=value`, or its own flag), or derived. One that is absent is unknown, and a rule that
needs it is listed as such instead of being counted as false.
"""
_SOURCES_INTRO = """
Every work that a rule cites. A rule says which part of it a work supports (the condition, the
direction, the number), where in the work that stands, in our own words, and whether we read it
there. What no work supports stands under `ours` in the rule.
"""


def main() -> int:
    """Build or check; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail if stale")
    check = parser.parse_args().check
    pages = committed_pages(builtin_rules())
    if not check:
        for name, text in pages.items():
            (ROOT / name).write_text(text, encoding="utf-8")
        build_site(builtin_rules())
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
    return {
        "rules/README.md": rule_index(book),
        "docs/cli.md": command_reference(),
        "docs/hyperparameters.md": hyperparameter_reference(book),
        "docs/facts.md": fact_reference(book),
        "docs/sources.md": source_reference(book),
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
    """Write the whole site: the committed pages, the prose, and one page for each rule."""
    shutil.rmtree(site, ignore_errors=True)
    for name in COPIED:
        source, target = ROOT / name, site / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=_NOT_COPIED)
        elif source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    folder = site / "docs" / "rules"
    folder.mkdir()
    for rule in book.rules:
        (folder / f"{rule.code}.md").write_text(rule_page(rule, book), encoding="utf-8")
    (site / "rules" / "README.md").write_text(rule_index(book, pages="../docs/rules"), "utf-8")


def rule_page(rule: Rule, book: Rulebook) -> str:
    """Return the page of a rule, with links to its file and to the rules that it names."""
    text = explain(rule, book.sources)
    others = "|".join(r.code for r in book.rules if r.code != rule.code)
    # Codes in backticks are expressions or commands, and a link inside them would show as text.
    linked = re.sub(rf"(?<![`\w\[])({others})(?![`\w])", r"[\1](\1.md)", text)
    file = book.files[rule.code].relative_to(ROOT).as_posix()
    return f"{linked}\nThe file: [{file}](../../{file}).\n"


def rule_index(book: Rulebook, pages: str | None = None) -> str:
    """Return the index of all rules, by pack.

    Args:
        book: The rules.
        pages: Where the page of a rule is; its file is linked if None.
    """
    intro = _RULES_INTRO.format(rules=len(book.rules), packs=len(book.packs))
    lines = _heading("The rules", "the rule files", intro)
    for pack in book.packs:
        lines += _pack_section(pack, book, pages)
    return "\n".join(lines) + "\n"


def _pack_section(pack: Pack, book: Rulebook, pages: str | None) -> list[str]:
    lines = ["", f"## {pack.info.title}", "", f"Pack `{pack.info.pack}`. {pack.info.about.strip()}"]
    lines += ["", "| rule | kind | what it says | sets |", "|---|---|---|---|"]
    for rule in sorted(pack.rules, key=lambda r: r.code):
        file = book.files[rule.code].relative_to(ROOT / "rules").as_posix()
        link = file if pages is None else f"{pages}/{rule.code}.md"
        sets = dict.fromkeys(line.hyperparameter or "advice" for line in rule.then)
        lines.append(
            f"| [{rule.code}]({link}) {rule.name} | {rule.kind} | {_cell(rule.summary)} | "
            f"{', '.join(f'`{s}`' if s != 'advice' else s for s in sets)} |"
        )
    return lines


def command_reference() -> str:
    """Return the help of every command as one page."""
    root = typer.main.get_command(app)
    lines = _heading("Commands", "the help texts of the commands", _COMMANDS_INTRO)
    for name, command in commands(root):
        lines += _command_section(name, command)
    return "\n".join(lines) + "\n"


def commands(group: Any, prefix: str = "smarttune") -> Iterator[tuple[str, Any]]:
    """Yield (full name, command) for every command that does something."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def _command_section(name: str, command: Any) -> list[str]:
    hints = get_type_hints(getattr(command.callback, "__wrapped__", command.callback))
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p not in arguments]
    words = [p.name.upper() if p.required else f"[{p.name.upper()}]" for p in arguments]
    usage = " ".join([name, *words, *(["[OPTIONS]"] if options else [])])
    lines = ["", f"## {name}", "", f"`{usage}`", "", command.help.strip()]
    if arguments:
        lines += ["", "| argument | means |", "|---|---|"]
        lines += [f"| `{p.name.upper()}` | {_cell(p.help)} |" for p in arguments]
    panels = dict.fromkeys(p.rich_help_panel for p in options)
    for panel in sorted(panels, key=lambda p: p is not None):
        lines += ["", f"{panel}:"] if panel else []
        lines += ["", "| option | means | default |", "|---|---|---|"]
        for option in (p for p in options if p.rich_help_panel == panel):
            lines.append(_option_row(option, hints.get(option.name)))
    return lines


def _option_row(option: Any, hint: Any) -> str:
    names = ", ".join(f"`{n}`" for n in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag else f" {_kind(hint)}"
    default = option.default.value if isinstance(option.default, Enum) else option.default
    shown = "" if option.is_flag or default is None else f"`{default}`"
    return f"| {names}{value} | {_cell(option.help)} | {shown} |"


def _kind(hint: Any) -> str:
    """Return a word for what an option takes, from its annotation."""
    for part in (hint, *get_args(hint)):
        if isinstance(part, type) and issubclass(part, Enum):
            return " \\| ".join(member.value for member in part)
        if part in _KINDS:
            return _KINDS[part]
        if get_args(part):
            return _kind(get_args(part)[0])
    return "VALUE"


def hyperparameter_reference(book: Rulebook) -> str:
    """Return every hyperparameter with its type, unit, meaning, and the rules that set it."""
    setters: dict[str, list[str]] = {}
    for rule in book.rules:
        for name in dict.fromkeys(line.hyperparameter for line in rule.then):
            setters.setdefault(name or "", []).append(rule.code)
    lines = _heading("Hyperparameters", "smarttune/space.py and the rules", _HYPERPARAMETERS_INTRO)
    rows = []
    for definition in book.hyperparameters.values():
        unit = f", {definition.unit}" if definition.unit else ""
        rules = ", ".join(setters.get(definition.name, [])) or "none yet"
        cells = (definition.name, definition.kind + unit, _cell(definition.about), rules)
        rows.append(cells)
    return "\n".join(lines + _grouped(rows, "| name | type | meaning | rules |")) + "\n"


def fact_reference(book: Rulebook) -> str:
    """Return every fact with its type, unit, meaning, and the rules that read it."""
    lines = _heading("Facts", "smarttune/facts.py and the rules", _FACTS_INTRO)
    rows = []
    for name, kind, unit, about, readers in fact_table(book):
        shown = kind.replace("|", " \\| ") + (f", {unit}" if unit else "")
        rows.append((name, shown, _cell(about), readers or "no rule"))
    return "\n".join(lines + _grouped(rows, "| fact | type | meaning | read by |")) + "\n"


def _grouped(rows: Sequence[tuple[str, ...]], header: str) -> list[str]:
    """Return one table for each first word of the dotted names."""
    lines = []
    for group in dict.fromkeys(row[0].split(".")[0] for row in rows):
        lines += ["", f"## {group}", "", header, "|---|---|---|---|"]
        lines += [
            f"| `{name}` | {' | '.join(rest)} |"
            for name, *rest in rows
            if name.split(".")[0] == group
        ]
    return lines


def source_reference(book: Rulebook) -> str:
    """Return the bibliography with the rules that cite each work."""
    citing: dict[str, list[str]] = {}
    for rule in book.rules:
        for key in dict.fromkeys(item.source for item in rule.provenance):
            citing.setdefault(key, []).append(rule.code)
    lines = _heading("Sources", "rules/sources.yaml and the rules", _SOURCES_INTRO)
    lines += ["", "| key | work | rules |", "|---|---|---|"]
    for key, work in sorted(book.sources.items()):
        title = f"[{_cell(work.title)}]({work.url})" if work.url else _cell(work.title)
        cited = ", ".join(citing.get(key, [])) or "none"
        lines.append(f"| `{key}` | {_cell(work.authors)} ({work.year}): {title} | {cited} |")
    return "\n".join(lines) + "\n"


def _heading(title: str, origin: str, intro: str) -> list[str]:
    return [_GENERATED.format(origin=origin), f"# {title}", "", intro.strip()]


def _cell(text: str | None) -> str:
    """Return text that does not break a table."""
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
