"""The example of a company's pack: built and installed offline, found, and overriding ours."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from smarttune.rulebook import check_rulebook
from tests.rulebook.packs import load
from tests.test_citing import parsed

PROJECT = Path(__file__).parents[1] / "examples" / "210_company_pack"
WINE = PROJECT.parent / "data" / "wine.csv"
ASKED = ("suggest", str(WINE), "--target", "quality", "--problem", "regression")
OVERRIDDEN = {
    "model.units": ("ACM001", "CAP003"),
    "model.numeric_preprocessing": ("ACM002", "TAB002"),
}


def ran(folder: Path, *command: str, path: Path | None = None, given: str = "") -> str:
    """What a process printed, with a folder of installed packages in its path."""
    environment = {**os.environ, "PYTHONPATH": "" if path is None else str(path)}
    done = subprocess.run(
        [sys.executable, "-m", *command],
        input=given,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the example, without any network."""
    if not all(map(find_spec, ("pip", "setuptools"))):
        pytest.skip("pip and setuptools build the package")
    folder = tmp_path_factory.mktemp("company")
    source = shutil.copytree(PROJECT, folder / "source")  # setuptools writes beside what it builds
    ran(
        folder, "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index",
        "--no-deps", "--no-build-isolation", "--target", str(folder / "site"), str(source),
    )  # fmt: skip
    return folder / "site"


@pytest.fixture(scope="module")
def texts(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `suggest` and `cite` print for the wine table, without and with the package."""
    folder = tmp_path_factory.mktemp("work")
    made = ran(folder, "smarttune", *ASKED, "--format", "json", path=installed)
    return {
        "before": ran(folder, "smarttune", *ASKED),
        "after": ran(folder, "smarttune", *ASKED, path=installed),
        "json": made,
        "cited": ran(folder, "smarttune", "cite", "-", path=installed, given=made),
    }


def test_the_rules_keep_their_promises() -> None:
    """The pack loads beside ours, and its own examples hold."""
    book = load(PROJECT / "acme_rules", builtin=True)
    mine = [rule for rule in book.rules if rule.code.startswith("ACM")]

    assert {code for rule in mine for code in rule.overrides} == {"CAP003", "TAB002"}
    assert check_rulebook(book.replace_rules(mine)) == []


def test_an_installed_pack_overrides_ours_without_being_named(texts: dict[str, str]) -> None:
    """Through its entry point alone the company's rules decide, and ours are shown as overruled."""
    settings = json.loads(texts["json"])["settings"]

    for name, (winner, loser) in OVERRIDDEN.items():
        assert settings[name]["because"][0]["rule"] == winner
        assert loser in {o["rule"] for o in settings[name]["overruled"]}
    assert "ACM" not in texts["before"]


def test_a_larger_budget_does_not_reopen_what_the_company_closed(installed: Path) -> None:
    """With a hundred trials the width still stays within what the controllers bear."""
    asked = (*ASKED, "--trials", "100", "--format", "json")

    made = json.loads(ran(installed, "smarttune", *asked, path=installed))

    assert made["settings"]["model.units"]["range"]["high"] == 128


def test_in_house_reports_are_cited(texts: dict[str, str]) -> None:
    """The bibliography of a recommendation holds the works of the installed pack."""
    entries = {e.key: e for e in parsed(texts["cited"].rstrip("\n"))}

    assert {"acme-latency", "acme-scaling", "smarttune"} <= set(entries)
    assert "ACM001" in entries["acme-latency"].fields["note"]


def test_the_readme_shows_what_is_printed(texts: dict[str, str]) -> None:
    """Every shown output, cut at `...`, is part of what the commands print; else renew the README."""
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```text\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)

    assert len(blocks) == 3
    for block, printed in zip(blocks, ("before", "after", "cited"), strict=True):
        for part in block.split("...\n"):
            assert part in texts[printed], part
