"""`smarttune rules new`: drafts that check out at once, and nothing overwritten."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml as pyyaml
from hypothesis import given
from hypothesis import strategies as st

from smarttune.errors import OptionError
from smarttune.rulebook import Rule, Rulebook, check_rulebook, load_rulebook
from smarttune.rulebook import yaml as strict_yaml
from smarttune.rulebook.scaffold import Draft, _flow, _rule_text, write_draft
from smarttune.space import HYPERPARAMETERS
from tests.cli.calling import assert_mendable, call, files_in
from tests.rulebook.json_schema import errors
from tests.rulebook.packs import PACK, load, rule_text, write_pack

Capture = pytest.CaptureFixture[str]


def new(capsys: Capture, *arguments: str | Path) -> Path:
    """The rule file that a call wrote."""
    ended = call(capsys, "rules", "new", *arguments)
    assert ended.code == 0, ended.err
    return Path(ended.out.splitlines()[-1])


def assert_sound(folder: Path, count: int) -> Rulebook:
    """The pack in a folder loads beside ours, and its rules keep their promises."""
    book = load(folder, builtin=True)
    mine = [r for r in book.rules if book.files[r.code].is_relative_to(folder.resolve())]
    assert len(mine) == count
    assert check_rulebook(book.replace_rules(mine)) == []
    return book.replace_rules(mine)


@pytest.mark.parametrize("kind", ["static", "dynamic", "constraint"])
@pytest.mark.parametrize(
    "options", [[], ["--hyperparameter", "model.units"]], ids=["advice", "units"]
)
@pytest.mark.parametrize("task", [[], ["--task", "text"]], ids=["all", "text"])
def test_a_draft_passes_the_check_at_once(
    kind: str, options: list[str], task: list[str], tmp_path: Path, capsys: Capture
) -> None:
    """Whatever is asked for, the pack checks out and holds one rule of that kind."""
    folder = tmp_path / "mine"

    new(capsys, "MYR001", "wide-tables", "--pack", folder, "--kind", kind, *options, *task)

    ended = call(capsys, "rules", "check", folder)
    assert (ended.code, ended.out) == (0, "1 rules checked: all is well.\n"), ended.err
    (rule,) = load(folder).rules
    assert rule.kind == kind
    assert [line.hyperparameter for line in rule.then] == [options[-1] if options else None]
    assert any('"text"' in condition.text for condition in rule.when) is bool(task)


def test_every_hyperparameter_gets_values_that_fit(tmp_path: Path, book: Rulebook) -> None:
    """A draft about any canonical hyperparameter loads and checks."""
    folder = write_pack(tmp_path)
    for number, name in enumerate(HYPERPARAMETERS):
        draft = Draft(f"TST{number:03}", "situation", "static", name)
        (folder / f"{draft.code}-situation.yaml").write_text(_rule_text(draft, book, "src"))

    made = assert_sound(folder, len(HYPERPARAMETERS))

    assert {line.hyperparameter for r in made.rules for line in r.then} == set(HYPERPARAMETERS)


def test_a_hyperparameter_of_the_pack_gets_values(tmp_path: Path) -> None:
    """Names that the pack declares are known, whatever their type."""
    kinds = ("float", "int", "str", "bool")
    declared = "".join(f"  acme.a_{kind}: {{type: {kind}, about: one}}\n" for kind in kinds)
    folder = write_pack(tmp_path, pack=f"{PACK}hyperparameters:\n{declared}")

    for number, kind in enumerate(kinds, start=1):
        write_draft(Draft(f"TST00{number}", "situation", "static", f"acme.a_{kind}"), folder)

    assert_sound(folder, len(kinds))


def test_the_draft_says_what_is_to_do(tmp_path: Path, capsys: Capture) -> None:
    """TODO marks prose, sources and values; standard error tells the next commands."""
    ended = call(capsys, "rules", "new", "MYR001-wide", "--pack", tmp_path / "mine")

    text = (tmp_path / "mine" / "MYR001-wide.yaml").read_text()
    data = pyyaml.safe_load(text)
    assert all(
        "TODO" in str(data[key]) for key in ("summary", "why", "limits", "ours", "provenance")
    )
    assert f"smarttune rules check {tmp_path / 'mine'}" in ended.err
    assert f"--rules {tmp_path / 'mine'}" in ended.err


def test_an_editor_finds_the_schema_and_marks_nothing(tmp_path: Path, capsys: Capture) -> None:
    """The first line names the schema beside the rule, which is the current one and accepts it."""
    file = new(
        capsys, "MYR001", "wide", "--pack", tmp_path / "mine", "--hyperparameter", "model.units"
    )

    first = file.read_text().splitlines()[0]
    schema = json.loads((file.parent / "rule.schema.json").read_text())
    assert first == "# yaml-language-server: $schema=rule.schema.json"
    assert schema == Rule.model_json_schema()
    assert errors(pyyaml.safe_load(file.read_text()), schema, schema) == []


def test_a_draft_overrides_what_it_is_told_to(tmp_path: Path, capsys: Capture) -> None:
    """Overridden rules go by code or name, stand under conflicts too, and lend their values."""
    file = new(
        capsys, "MYR001", "wide", "--pack", tmp_path / "mine", "--hyperparameter", "model.units",
        "--overrides", "table-width",
    )  # fmt: skip

    (rule,) = assert_sound(file.parent, 1).rules
    assert rule.overrides == ("CAP003",)
    assert [c.with_ for c in rule.conflicts] == ["CAP003"]
    (theirs,) = (t for t in load(builtin=True)["CAP003"].then if t.hyperparameter == "model.units")
    assert rule.then[0].int_ == theirs.int_


def test_a_second_rule_joins_the_pack(tmp_path: Path, capsys: Capture) -> None:
    """Only the new rule is added; pack, sources and the first rule stay as they are."""
    new(capsys, "MYR001", "wide", "--pack", tmp_path)
    before = files_in(tmp_path)

    file = new(capsys, "MYR002", "narrow", "--pack", tmp_path)

    assert files_in(tmp_path) == before | {file.name: file.read_bytes()}
    assert_sound(tmp_path, 2)


def test_rules_without_a_pack_get_one(tmp_path: Path, capsys: Capture) -> None:
    """A new pack.yaml owns the prefixes of the rules that lie there already."""
    write_pack(tmp_path, rule_text(), pack=None)

    new(capsys, "MYR001", "wide", "--pack", tmp_path)

    assert pyyaml.safe_load((tmp_path / "pack.yaml").read_text())["prefixes"] == ["MYR", "TST"]
    assert_sound(tmp_path, 2)


def test_a_rule_without_a_pack_is_not_replaced(tmp_path: Path, capsys: Capture) -> None:
    """Also where no pack.yaml tells of it, a code that a file carries is taken."""
    write_pack(tmp_path, rule_text(), pack=None)
    before = files_in(tmp_path)

    for name in ("situation-tst001", "other"):
        ended = call(capsys, "rules", "new", "TST001", name, "--pack", tmp_path)
        assert_mendable(ended, "TST001-situation-tst001.yaml")

    assert files_in(tmp_path) == before


def test_the_new_rule_is_seen_by_who_loaded_the_pack_before(tmp_path: Path) -> None:
    """A program that has read the pack, and drafts a rule, reads the rule next time."""
    folder = write_pack(tmp_path, rule_text())
    before = load_rulebook((folder,)).files.keys()

    write_draft(Draft("TST002", "wide"), folder)

    assert load_rulebook((folder,)).files.keys() - before == {"TST002"}


def test_a_project_that_exists_is_kept(tmp_path: Path) -> None:
    """A pack added to a project leaves the project's own files as they are."""
    (tmp_path / "pyproject.toml").write_text("# mine\n")

    written = write_draft(Draft("ACM001", "wide"), tmp_path, package=True)

    assert (tmp_path / "pyproject.toml").read_text() == "# mine\n"
    assert tmp_path / "pyproject.toml" not in written


PLAIN = st.text(st.characters(min_codepoint=32, max_codepoint=126)) | st.sampled_from(
    ["true", "null", "none", "on", "1e-6", "é", "a: b", "#", "{"]
)
NUMBERS = st.integers(-(10**9), 10**9) | st.floats(-1e6, 1e6)


@given(
    st.dictionaries(
        st.sampled_from(["low", "values"]), PLAIN | NUMBERS | st.booleans() | st.lists(PLAIN)
    )
)
def test_values_are_written_as_they_are_read(value: dict[str, Any]) -> None:
    """Names, numbers and flags come back from the text of a draft with type and value."""
    read = strict_yaml.load(f"x: {_flow(value)}", "f")[0]["x"]

    assert read == value
    assert all(isinstance(read[k], bool) == isinstance(v, bool) for k, v in value.items())


def test_a_package_announces_its_pack(tmp_path: Path, capsys: Capture) -> None:
    """The project names the entry point, ships every file of the pack, and takes more rules."""
    project = tmp_path / "acme-rules"
    new(capsys, "ACM001", "wide", "--pack", project, "--package")

    settings = tomllib.loads((project / "pyproject.toml").read_text())
    (module,) = settings["project"]["entry-points"]["smarttune.rules"].values()
    assert settings["tool"]["setuptools"]["packages"] == [module] == ["acme_rules"]
    assert settings["tool"]["setuptools"]["package-data"] == {module: ["*.yaml", "*.json"]}
    assert (project / module / "__init__.py").exists()
    second = new(capsys, "ACM002", "narrow", "--pack", project)
    assert second.parent == project / module
    assert_sound(project / module, 2)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["ACM001"], "has no name"),
        (["acm001", "wide"], "code"),
        (["ACM1", "wide"], "code"),
        (["ACM001", "Wide Tables"], "name"),
        (["ACM001", "../../wide"], "name"),
        (["../ACM001", "wide"], "code"),
        (["ACM001", "wide\nkind: static"], "stands twice"),
        (["ACM001", "wide # tables"], "is read as"),
        (["ACM001", "use-wide"], "begin with `use`"),
        (["CAP003", "wide"], "is taken by"),
        (["ACM001", "wide", "--hyperparameter", "model.unts"], "Did you mean `model.units`?"),
        (["ACM001", "wide", "--overrides", "CAP0003"], "Did you mean `CAP003`?"),
    ],
)
def test_what_cannot_be_a_rule_is_refused(
    arguments: list[str], part: str, tmp_path: Path, capsys: Capture
) -> None:
    """A user's mistake is told, and nothing is written."""
    ended = call(capsys, "rules", "new", *arguments, "--pack", tmp_path / "mine")

    assert_mendable(ended, part)
    assert files_in(tmp_path) == {}


def test_nothing_is_overwritten(tmp_path: Path, capsys: Capture) -> None:
    """The same rule again, or its code in another rule of the pack, is refused."""
    new(capsys, "MYR001", "wide", "--pack", tmp_path)
    before = files_in(tmp_path)

    for name in ("wide", "narrow"):
        assert_mendable(call(capsys, "rules", "new", "MYR001", name, "--pack", tmp_path))

    assert files_in(tmp_path) == before


def test_a_foreign_prefix_is_refused(tmp_path: Path, capsys: Capture) -> None:
    """A pack takes rules of its own prefixes only, and the mend names them."""
    new(capsys, "MYR001", "wide", "--pack", tmp_path)

    assert_mendable(
        call(capsys, "rules", "new", "ACM001", "wide", "--pack", tmp_path), "begins with MYR"
    )


def test_a_folder_of_packs_is_refused(tmp_path: Path, capsys: Capture) -> None:
    """A folder that holds packs does not become one, and the mend names a pack."""
    write_pack(tmp_path / "one", rule_text())

    ended = call(capsys, "rules", "new", "MYR001", "wide", "--pack", tmp_path)

    assert_mendable(ended, f"--pack {tmp_path / 'one'}")


def test_a_plain_pack_does_not_become_a_package(tmp_path: Path) -> None:
    """Where a pack lies already, no package is wrapped around it unasked."""
    write_pack(tmp_path / "one", rule_text())

    with pytest.raises(OptionError, match="no package"):
        write_draft(Draft("TST002", "wide"), tmp_path / "one", package=True)


def test_a_broken_pack_is_told_before_anything_is_written(tmp_path: Path, capsys: Capture) -> None:
    """A pack with mistakes is mended first."""
    write_pack(tmp_path, rule_text(**{"kind: static": "kind: statik"}))
    before = files_in(tmp_path)

    assert_mendable(call(capsys, "rules", "new", "TST002", "wide", "--pack", tmp_path), "statik")

    assert files_in(tmp_path) == before
