"""Every command: its help, its examples, its name, its completion and its exit codes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import typer

import smarttune
from smarttune.cli import main, run
from smarttune.cli.app import app
from tests.cli.calling import call

ROOT: Any = typer.main.get_command(app)
EXPECTED = {
    "suggest", "plan", "lr-find", "learn", "search", "resume", "show", "cite", "predict", "export",
    "rules list", "rules show", "rules check", "rules schema", "rules facts", "rules new", "rules conflicts",
    "rules coverage", "rules test",
}  # fmt: skip
SHELLS = ("bash", "zsh", "fish")


def leaves(group: Any = ROOT, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its words."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(leaves())


def examples(command: Any) -> list[list[str]]:
    """The command lines that a command's help shows, as words."""
    spans = re.findall(r"(?:- |Example: )`(smarttune [^`]+)`", command.callback.__doc__ or "")
    return [span.partition(" > ")[0].split()[1:] for span in spans]


def test_the_commands_are_these() -> None:
    """No command is added or lost without its tests."""
    assert set(COMMANDS) == EXPECTED


@pytest.mark.parametrize("words", ["", "rules", *COMMANDS])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_printed(words: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Help goes to standard output and ends well."""
    ended = call(capsys, *words.split(), flag)

    assert ended.code == 0
    assert ended.err == ""
    assert "Usage:" in ended.out
    assert words in ended.out


@pytest.mark.parametrize("words", COMMANDS)
def test_help_shows_an_example(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command shows itself in use."""
    ended = call(capsys, *words.split(), "--help")

    assert "Example" in ended.out
    assert f"smarttune {words}" in " ".join(ended.out.split())


@pytest.mark.parametrize("words", COMMANDS)
def test_examples_are_valid(words: str) -> None:
    """Each example names a command and options that exist."""
    shown = examples(COMMANDS[words])

    assert any(" ".join(e).startswith(words) for e in shown)
    for example in shown:
        command: Any = ROOT
        rest = list(example)
        while hasattr(command, "commands"):
            command = command.commands[rest.pop(0)]
        command.make_context("example", rest)  # raises for anything it does not know


@pytest.mark.parametrize("words", COMMANDS)
def test_an_unknown_option_is_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt option ends with 2, is named, and nothing else happens."""
    ended = call(capsys, *words.split(), "--nonesuch")

    assert ended.code == 2
    assert ended.out == ""
    assert "No such option: --nonesuch" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "words", ["search", "resume", "show", "cite", "predict", "export", "rules check", "rules new"]
)
def test_a_missing_argument_is_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command without what it needs ends with 2 and says what it misses."""
    ended = call(capsys, *words.split())

    assert ended.code == 2
    assert "Missing argument" in ended.err


@pytest.mark.parametrize("words", [["sugest"], ["rules", "lst"]], ids=" ".join)
def test_an_unknown_command_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A misspelt command ends with 2 and is named."""
    ended = call(capsys, *words)

    assert ended.code == 2
    assert f"No such command '{words[-1]}'" in ended.err


@pytest.mark.parametrize("words", [[], ["rules"]], ids=["", "rules"])
def test_a_bare_group_shows_its_commands(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a command, all commands are shown."""
    ended = call(capsys, *words)

    for name in COMMANDS:
        if name.split()[: len(words)] == words and len(name.split()) == len(words) + 1:
            assert name.split()[-1] in ended.out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the package's version."""
    ended = call(capsys, "--version")

    assert (ended.code, ended.out) == (0, f"smarttune {smarttune.__version__}\n")


@pytest.fixture
def as_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look like the console script, whose name completion depends on."""
    monkeypatch.setattr(sys, "argv", ["smarttune"])
    monkeypatch.setattr(sys.modules["__main__"], "__package__", None)


def processed(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """A process of its own, and what it printed."""
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)


def test_the_module_equals_the_console_script() -> None:
    """`python -m smarttune` and `smarttune` are one command line."""
    (script,) = (e for e in entry_points(group="console_scripts") if e.name == "smarttune")
    arguments = ["rules", "list", "--select", "LRN"]

    by_module = processed(sys.executable, "-m", "smarttune", *arguments)
    by_script = processed(Path(sys.executable).with_name("smarttune"), *arguments)

    assert script.load() is main
    assert by_module.returncode == by_script.returncode == 0, by_script.stderr
    assert by_module.stdout == by_script.stdout
    assert "LRN001" in by_script.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_can_be_installed(
    shell: str, capsys: pytest.CaptureFixture[str], as_script: None
) -> None:
    """Each shell gets a script that asks the command itself."""
    ended = call(capsys, "--show-completion", shell)

    assert ended.code == 0
    assert "_SMARTTUNE_COMPLETE" in ended.out


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("smarttune sug", "suggest"),
        ("smarttune rules ch", "check"),
        ("smarttune suggest --expla", "--explain"),
        ("smarttune suggest --format ya", "yaml"),
    ],
)
def test_words_are_completed(
    line: str,
    word: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    as_script: None,
) -> None:
    """Commands, options and choices are completed."""
    monkeypatch.setenv("_SMARTTUNE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))

    code = run()

    assert code == 0
    assert capsys.readouterr().out.split() == [word]


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is our mistake is not dressed up as the user's."""

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("smarttune.suggestion.make_suggestion", broken)

    with pytest.raises(ZeroDivisionError):
        run(["suggest", "--task", "tabular"])


def test_an_interruption_ends_with_130(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends with the shell's code for it and no traceback."""

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("smarttune.suggestion.make_suggestion", interrupted)

    ended = call(capsys, "suggest", "--task", "tabular")

    assert ended.code == 130
    assert "Traceback" not in ended.err


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """Output into a closed pipe, as before `head`, ends quietly, as other programs end there."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "smarttune", "rules", "list"],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writer)

    assert ended.stderr == ""
    assert ended.returncode in (0, -signal.SIGPIPE)
