"""`smarttune rules test`: put rules to the test, on data that we name or on yours."""

from __future__ import annotations

import json as json_format
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smarttune.cli.options import RuleFolders, load_rules
from smarttune.errors import OptionError
from smarttune.files import finite

if TYPE_CHECKING:
    from smarttune.rulebook import Rulebook
    from smarttune.rulebook.evidence import Result


def experiment(
    codes: Annotated[
        list[str] | None, typer.Argument(help="Codes or names of rules; none lists those to test.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Your own data, in the place of the check's.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="The column to predict in them.")] = None,
    problem: Annotated[
        str | None, typer.Option(help="The kind of prediction, where the guess is wrong.")
    ] = None,
    on: Annotated[
        list[str] | None, typer.Option(help="A data set in the place of the check's; repeatable.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=2, help="Repetitions.")] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the result beside the rule, in `evidence/`.")
    ] = False,
    pack: Annotated[
        Path | None,
        typer.Option(help="Write what was found as a rule of this pack of your own, with --data."),
    ] = None,
    rules: RuleFolders = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON event a line.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only the verdicts.")] = False,
) -> None:
    """Train both sides of a rule's check, and say what difference it made.

    A rule holds, makes no difference that the experiment could see, or is contradicted. Ctrl-C
    stops it; the same command goes on where it stopped. With --data and --pack the finding
    becomes a rule of your own that sharpens or overrules ours on data like yours.

    Examples:
    - `smarttune rules test` lists the rules that can be tested, with what was found so far
    - `smarttune rules test TAB002 CAP012`
    - `smarttune rules test OPT006 --data data.csv --target y --pack my_rules`
    """
    book = load_rules(rules)
    if not codes and (data is not None or pack is not None or on):
        raise OptionError(
            "rules test",
            received="data, but no rule to test on them",
            expected="codes or names of rules",
            mend="Name one; `smarttune rules test` alone lists those that can be tested.",
        )
    if not codes:
        _list(book, as_json=json)
        return
    _check_options(data, target, problem, pack, on)
    from smarttune.backend import prepare_backend
    from smarttune.evidence.experiments import put_to_the_test
    from smarttune.rulebook.evidence import add_result, folder_of

    chosen = [book[code] for code in codes]
    prepare_backend()
    own = None
    if data is not None:
        from smarttune.data import read

        own = (read(data, target), problem)
    for rule in chosen:
        with _Progress(as_json=json, quiet=quiet) as progress:
            result = put_to_the_test(
                rule, book=book, on=on or (), own=own, seeds=seeds, on_event=progress
            )
        if json:
            line = {"event": "verdict", "rule": rule.code, **result.model_dump(mode="json")}
            typer.echo(json_format.dumps(finite(line)))
        else:
            typer.echo(_shown(rule.code, rule.summary, result))
        if keep:
            path = add_result(folder_of(book, rule.code), rule.code, result)
            typer.echo(f"Kept in {path}.", err=True)
        if pack is not None:
            from smarttune.evidence.packs import add_finding

            assert own is not None
            written = add_finding(pack, rule, result, own[0], book, problem=problem)
            use = f"{written}: use it with --rules {pack}"
            told = "No rule follows from it." if written is None else use
            typer.echo(told, err=json)


def _check_options(
    data: str | None,
    target: str | None,
    problem: str | None,
    pack: Path | None,
    on: list[str] | None,
) -> None:
    wrong = [
        ("--pack", pack is not None and data is None, "a finding on your own data"),
        ("--problem", problem is not None and data is None, "the data that it is about"),
        ("--target", target is not None and data is None, "the data that have such a column"),
        ("--on", bool(on) and data is not None, "either named data sets or your own"),
    ]
    for name, is_wrong, expected in wrong:
        if is_wrong:
            raise OptionError(
                name,
                received="--data as well" if name == "--on" else "no --data",
                expected=expected,
                mend="Add --data FILE." if name != "--on" else "Leave one of them out.",
            )


def _list(book: Rulebook, *, as_json: bool) -> None:
    from smarttune.rulebook.evidence import evidence_on

    testable = [rule for rule in book.rules if rule.check is not None]
    found: dict[str, str] = {}
    for rule in testable:
        evidence = evidence_on(book, rule.code)
        found[rule.code] = evidence.results[-1].verdict if evidence else "not tested yet"
    if as_json:
        typer.echo(json_format.dumps(found, indent=2))
        return
    for rule in testable:
        assert rule.check is not None
        typer.echo(f"{rule.code}  {found[rule.code]:<14}  {rule.check.question}")
    typer.echo(f"{len(testable)} of {len(book.rules)} rules can be put to the test.", err=True)


def _shown(code: str, summary: str, result: Result) -> str:
    from smarttune.rulebook.evidence import shown_effect

    lines = [f"{code}  {summary}", f"  {result.question}"]
    lines.append(f"  {'data':<16} {'the rule says':>24} {'held against':>24}   effect")
    for d in result.data:
        ours = f"{_configuration(d.recommended)} {d.recommended_mean:.4g}"
        other = f"{_configuration(d.against)} {d.against_mean:.4g}"
        lines.append(f"  {d.data:<16} {ours:>24} {other:>24}   {d.effect:+.3f}")
    cost = f"{result.trainings} trainings, {result.seconds:.0f} s"
    if result.diverged:
        cost += f", {result.diverged} diverged"
    lines.append(f"  {result.verdict.upper()}: {shown_effect(result)}; {cost}.")
    return "\n".join(lines)


def _configuration(values: Mapping[str, Any]) -> str:
    from smarttune.space import show_value

    return ", ".join(show_value(value) for value in values.values())


class _Progress:
    """A bar of trainings on a terminal, events as JSON, or nothing."""

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json, self.quiet = as_json, quiet
        self.bar: Any = None
        self.task: Any = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, event: Mapping[str, Any]) -> None:
        if self.as_json:
            typer.echo(json_format.dumps(finite(event)))
        elif self.quiet:
            return
        elif event["event"] == "test_started":
            from rich.console import Console
            from rich.progress import Progress

            self.bar = Progress(console=Console(stderr=True), transient=True)
            self.bar.start()
            self.task = self.bar.add_task(f"{event['rule']}: trainings", total=event["n"])
        elif event["event"] == "trained":
            self.bar.update(self.task, completed=event["k"])
