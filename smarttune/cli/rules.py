"""`smarttune rules`: read, check and select rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from smarttune.cli.options import (
    Format,
    FormatOption,
    Ignore,
    RuleFolders,
    Select,
    load_rules,
)
from smarttune.cli.rules_checks import experiment
from smarttune.cli.rules_conflicts import conflicts
from smarttune.cli.rules_coverage import coverage
from smarttune.cli.rules_new import new

app = typer.Typer(
    help="Read and check the rules behind every recommendation.", no_args_is_help=True
)
app.command("conflicts")(conflicts)
app.command("coverage")(coverage)
app.command("new")(new)
app.command("test")(experiment)


@app.command("list")
def list_rules(
    rules: RuleFolders = None,
    select: Select = None,
    ignore: Ignore = None,
    format: FormatOption = Format.text,
) -> None:
    """List all rules with their one-line reasons.

    Example: `smarttune rules list --select LRN`
    """
    book = load_rules(rules, select, ignore)
    if format is Format.json:
        from smarttune.rulebook.explain import rule_json

        typer.echo(json.dumps([rule_json(rule) for rule in book.rules], indent=2))
        return
    packs = {r.code: p.info.pack for p in book.packs for r in p.rules}
    width = max((len(p) for p in packs.values()), default=0)
    for rule in book.rules:
        typer.echo(f"{rule.code}  {packs[rule.code]:<{width}}  {rule.kind:<10}  {rule.summary}")
    shown = len({packs[rule.code] for rule in book.rules})
    typer.echo(f"{len(book.rules)} rules in {shown} pack{'' if shown == 1 else 's'}.", err=True)


@app.command()
def show(
    rule: Annotated[str, typer.Argument(help="A rule's code or name.")],
    rules: RuleFolders = None,
    format: FormatOption = Format.text,
) -> None:
    """Print the page of one rule: when, what, why, limits, sources.

    Example: `smarttune rules show CAP001`
    """
    from smarttune.rulebook import explain
    from smarttune.rulebook.evidence import evidence_on
    from smarttune.rulebook.explain import rule_json

    book = load_rules(rules)
    found = book[rule]
    if format is Format.json:
        typer.echo(json.dumps(rule_json(found), indent=2))
    else:
        typer.echo(explain(found, book.sources, evidence_on(book, found.code)).rstrip())


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="A pack, a folder of packs, or one rule file.")],
) -> None:
    """Check rule files: format, expressions, references, and their own examples.

    Example: `smarttune rules check my_rules/`
    """
    from smarttune.errors import RulePackError
    from smarttune.rulebook import builtin_folder, check_rulebook, load_rulebook

    builtin = path.resolve() != builtin_folder().resolve()
    book = load_rulebook((path.resolve(),), builtin=builtin)
    mine = [r for r in book.rules if book.files[r.code].is_relative_to(path.resolve())]
    if mistakes := check_rulebook(book.replace_rules(mine)):
        raise RulePackError(mistakes)
    typer.echo(f"{len(mine)} rules checked: all is well.")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a rule file, for completion in editors.

    Example: `smarttune rules schema > rule.schema.json`, then begin a rule file with
    `# yaml-language-server: $schema=rule.schema.json`
    """
    from smarttune.rulebook import Rule

    typer.echo(json.dumps(Rule.model_json_schema(), indent=2))


@app.command()
def facts(
    rules: RuleFolders = None,
    format: FormatOption = Format.text,
) -> None:
    """List every fact that a rule may read: type, unit, meaning, and who reads it.

    Example: `smarttune rules facts`
    """
    from smarttune.rulebook import fact_table

    table = fact_table(load_rules(rules))
    if format is Format.json:
        keys = ("name", "type", "unit", "about", "rules")
        typer.echo(json.dumps([dict(zip(keys, row, strict=True)) for row in table], indent=2))
        return
    for name, kind, unit, about, readers in table:
        typer.echo(f"{name}  ({kind}{', ' + unit if unit else ''})")
        typer.echo(f"    {about}" + (f"; read by {readers}" if readers else ""))
