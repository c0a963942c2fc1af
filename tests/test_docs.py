"""The documentation is true: generated pages are fresh, links lead somewhere, commands run."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import typer
import yaml

import smarttune
from smarttune.cli.app import app
from smarttune.facts import FACTS, TASKS
from smarttune.rulebook import Rule, Rulebook

ROOT = Path(__file__).parents[1]
# What a person wrote; the rest under docs/ is generated.
PROSE = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/README.md",
    "docs/design.md",
    "docs/kerastuner.md",
    "docs/rechecked.md",
    "docs/training.md",
    "examples/README.md",
    "examples/data/README.md",
    "examples/050_write_a_rule/README.md",
    "examples/210_company_pack/README.md",
)
_BLOCK = re.compile(r"(<!-- runnable -->\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """A fenced block of a page."""

    runnable: bool
    language: str
    text: str


def _builder() -> ModuleType:
    # By its path: a package of the same name is installed to build wheels.
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs"))
        spec.loader.exec_module(module)
    return module


BUILD = _builder()
RULE_PAGES, NAME_PAGES = BUILD.rules, BUILD.names
COMMANDS: dict[str, Any] = dict(BUILD.commands.commands(typer.main.get_command(app)))


@pytest.fixture(scope="module")
def own_book() -> Rulebook:
    """The rules of this checkout."""
    book: Rulebook = BUILD.builtin_rules()
    return book


@pytest.fixture(scope="module")
def site(own_book: Rulebook, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site, built once."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    BUILD.build_site(own_book, folder)
    return folder


def _blocks(text: str) -> list[Block]:
    return [Block(bool(mark), language, body) for mark, language, body in _BLOCK.findall(text)]


README_BLOCKS = _blocks((ROOT / "README.md").read_text(encoding="utf-8"))


def test_no_generated_page_is_stale(own_book: Rulebook) -> None:
    """Committed pages are what code and rules would make of them now; else run `make docs`."""
    pages = BUILD.committed_pages(own_book)

    assert {"rules/README.md", "docs/cli.md", "docs/knowledge.md", "docs/evidence.md"} <= set(pages)
    assert list(BUILD.differences(pages)) == []


def test_check_notices_a_stale_and_a_missing_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are named, with the line that differs."""
    monkeypatch.setattr(BUILD, "ROOT", tmp_path)
    (tmp_path / "old.md").write_text("before\n")

    said = list(BUILD.differences({"old.md": "after\n", "new.md": "text\n"}))

    assert [line for line in said if "stale" in line] == [
        "old.md is stale; run `make docs`:",
        "new.md is stale; run `make docs`:",
    ]
    assert {"-before", "+after", "+text"} <= set(said)


@pytest.mark.parametrize("name", COMMANDS)
def test_command_has_help_with_an_example(name: str) -> None:
    """The help says what the command does, shows it at work, and explains every option."""
    command = COMMANDS[name]

    assert re.search(rf"Examples?:.*`{name}\b", command.help, re.DOTALL)
    for parameter in command.params:
        assert parameter.help, f"{name}: {parameter.name} has no help"


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_in_the_readme(name: str) -> None:
    """A newcomer meets every command in the README, and finds it in the reference."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    reference = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")

    assert re.search(rf"\b{name}\b", readme)
    assert f"\n## {name}\n" in reference


def test_reference_lists_every_option() -> None:
    """No option of any command is missing from its section."""
    reference = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    sections = {part.split("\n")[0]: part for part in reference.split("\n## ")[1:]}

    missing = [
        (name, option)
        for name, command in COMMANDS.items()
        for parameter in command.params
        if parameter.param_type_name == "option"
        for option in parameter.opts
        if f"`{option}`" not in sections[name]
    ]

    assert missing == []


def test_site_has_a_page_for_whatever_rules_name(site: Path, own_book: Rulebook) -> None:
    """Works, hyperparameters and facts each have a page, and their reference links to all."""
    everything = {
        "sources": own_book.sources,
        "hyperparameters": own_book.hyperparameters,
        "facts": FACTS,
    }
    for folder, names in everything.items():
        reference = (site / "docs" / f"{folder}.md").read_text(encoding="utf-8")
        for name in names:
            assert (site / "docs" / folder / f"{name}.md").is_file()
            assert f"({folder}/{name}.md)" in reference


def test_pages_of_rules_works_and_names_link_to_each_other(site: Path, own_book: Rulebook) -> None:
    """From a rule to all it cites, sets, reads and contradicts, and from each of these back."""
    docs = site / "docs"
    texts = {p.relative_to(docs).as_posix(): p.read_text("utf-8") for p in docs.rglob("*.md")}
    missing = []
    for rule in own_book.rules:
        page = texts[f"rules/{rule.code}.md"]
        named = {f"sources/{item.source}.md" for item in rule.provenance}
        words = {*rule.names, *(line.hyperparameter for line in rule.then if line.hyperparameter)}
        named |= {f"{'facts' if w in FACTS else 'hyperparameters'}/{w}.md" for w in words}
        back = f"](../rules/{rule.code}.md)"
        missing += [(rule.code, n) for n in named if f"](../{n})" not in page]
        missing += [(n, rule.code) for n in named if back not in texts[n]]
        others = {c.with_ for c in rule.conflicts} | set(rule.overrides)
        missing += [(rule.code, o) for o in others if f"]({o}.md)" not in page]
        missing += [
            (o, rule.code) for o in others if f"]({rule.code}.md)" not in texts[f"rules/{o}.md"]
        ]

    assert missing == []


def test_page_of_a_work_holds_every_claim_taken_from_it(site: Path, own_book: Rulebook) -> None:
    """With what each supports, its place in the work, and how we know."""
    items = [item for rule in own_book.rules for item in rule.provenance]

    for item in items:
        page = (site / "docs" / "sources" / f"{item.source}.md").read_text(encoding="utf-8")
        row = (item.supports, item.claim, item.locator, f"{item.verification}: ")
        assert " | ".join(" ".join(part.split()).replace("|", "\\|") for part in row) in page


def test_page_of_a_hyperparameter_says_what_is_recommended(site: Path) -> None:
    """Type, unit and bounds, the range to begin with, and every rule with condition and value."""
    page = (site / "docs" / "hyperparameters" / "model.num_layers.md").read_text(encoding="utf-8")

    for part in (
        "# model.num_layers",
        "Type: int, counted in layers.",
        "Allowed: int of at least 0.",
        "| table, binary | `3` | 1 to 5 | [CAP001](../rules/CAP001.md)",
        '`model.family == "mlp"` | `model.num_layers` should be searched over 1 to 5',
    ):
        assert part in page


def test_recommended_values_on_pages_are_those_of_the_engine(own_book: Rulebook) -> None:
    """Every kind of data is among the examples, and each has a recommended network."""
    made = NAME_PAGES.typical(own_book)

    assert set(made) == set(TASKS)
    assert all("model.family" in recommended.settings for recommended in made.values())


def test_index_counts_rules_by_pack_and_evidence(own_book: Rulebook) -> None:
    """The table adds up, over packs and over classes, and so do the claims by verification."""
    index = RULE_PAGES.rule_index(own_book)
    tables = index.split("\n| pack |")[1].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in tables]
    numbers = {row[0]: [int(cell or 0) for cell in row[1:]] for row in rows}
    total = numbers.pop("**all**")

    assert set(numbers) == {f"`{pack.info.pack}`" for pack in own_book.packs}
    assert total[0] == len(own_book.rules)
    assert [sum(column) for column in zip(*numbers.values(), strict=True)] == total
    assert all(row[0] == sum(row[1:-1]) for row in numbers.values())
    claims = sum(len(rule.provenance) for rule in own_book.rules)
    assert f"| **all** |  | {claims} |" in index


def test_site_has_a_page_for_every_rule(site: Path, own_book: Rulebook) -> None:
    """Each page carries the rule's reason, and the index links to it."""
    index = (site / "rules" / "README.md").read_text(encoding="utf-8")

    for rule in own_book.rules:
        page = (site / "docs" / "rules" / f"{rule.code}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {rule.name} ({rule.code})")
        assert rule.summary in page
        assert f"](../docs/rules/{rule.code}.md)" in index


def test_rule_page_links_to_the_rules_that_it_names(own_book: Rulebook) -> None:
    """Codes in prose become links, those in code stay as they are."""
    rule = own_book["BAT004"]
    changed = rule.model_copy(update={"why": "See BAT001, but not `--ignore BAT003`."})
    book = own_book.replace_rules([changed if r.code == "BAT004" else r for r in own_book.rules])

    page = RULE_PAGES.rule_page(changed, book)

    assert "See [BAT001](BAT001.md), but not `--ignore BAT003`." in page
    assert "[BAT004](BAT004.md)" not in page


def test_links_of_the_site_lead_somewhere(site: Path) -> None:
    """Every relative link, in prose and in generated pages, meets a file and a heading."""
    broken = []
    for page in site.rglob("*.md"):
        text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
        for link in _LINK.findall(text):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            if not target.exists() or (anchor and anchor not in _anchors(target)):
                broken.append(f"{page.relative_to(site)}: {link}")

    assert broken == []


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PROSE)
def test_prose_names_only_what_exists(page: str, own_book: Rulebook) -> None:
    """Rule codes are rules (or of an example pack), and Python names can be imported."""
    text = (ROOT / page).read_text(encoding="utf-8")
    codes = {rule.code for rule in own_book.rules}
    codes |= {file.name[:6] for file in (ROOT / "examples").rglob("[A-Z][A-Z][A-Z]???-*.yaml")}

    unknown = {c for c in re.findall(r"\b[A-Z]{3}\d{3}\b", text) if c not in codes}
    names = set(re.findall(r"\bsmarttune\.([A-Za-z_]\w*)", text))
    lost = {n for n in names if n not in smarttune.__all__ and not _is_module(n)} - {"rules"}

    assert unknown == set()
    assert lost == set()


def _is_module(name: str) -> bool:
    return importlib.util.find_spec(f"smarttune.{name}") is not None


def test_changelog_knows_this_version() -> None:
    """The version in the code has its section."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert f"\n## [{smarttune.__version__}]" in changelog


def test_rule_in_the_readme_is_a_rule() -> None:
    """The YAML that a reader copies loads as it stands, and its examples hold."""
    texts = [block.text for block in README_BLOCKS if block.language == "yaml"]
    rules = [Rule.model_validate(yaml.safe_load(text)) for text in texts]

    assert len(rules) == 1
    for example in rules[0].examples:
        assert (rules[0].holds(example.facts) is True) == example.fires


def _shortened(text: str) -> str:
    """The block with limits that suit a test instead of minutes of search."""
    text = re.sub(r"(smarttune resume .*)--time \S+", r"\1--trials 3", text)
    text = re.sub(
        r"(smarttune search .*)--time \S+",
        r"\1--trials 2 --strategy random --set search.max_epochs=3",
        text,
    )
    quick = 'trials=2, strategy="random", pinned={"search.max_epochs": 3}'
    return re.sub(r'time="\w+"', quick, text)


def test_readme_marks_its_blocks_as_runnable() -> None:
    """Suggestion, search, use of the run, Python and rules are all among the blocks that run."""
    runnable = [block for block in README_BLOCKS if block.runnable]
    shell = "\n".join(b.text for b in runnable if b.language == "bash")

    assert {b.language for b in runnable} == {"bash", "python"}
    for command in ("suggest", "search", "resume", "show", "predict", "export", "rules check"):
        assert f"smarttune {command}" in shell
    assert sum("smarttune.narrow" in b.text for b in runnable) == 1
    assert "--time" not in _shortened(shell)


@pytest.mark.slow
def test_readme_runs_from_top_to_bottom(tmp_path: Path) -> None:
    """A reader who types each runnable block in order meets no error."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    environment = {**os.environ, "PATH": _path_with_smarttune(tmp_path / "bin")}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    shells = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}

    for block in README_BLOCKS:
        if not block.runnable:
            continue
        text = _shortened(block.text)
        done = subprocess.run(
            [*shells[block.language], text],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"

    assert (tmp_path / "predictions.csv").read_text().count("\n") == 6498
    assert (tmp_path / "model.keras").stat().st_size > 0


def _path_with_smarttune(folder: Path) -> str:
    """A PATH on which `smarttune` is the one under test."""
    folder.mkdir()
    script = folder / "smarttune"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m smarttune "$@"\n')
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"
