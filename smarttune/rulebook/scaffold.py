"""A first rule of one's own: the files of a draft that loads, checks, and says what is to do."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from smarttune.errors import OptionError, did_you_mean
from smarttune.files import write_text
from smarttune.rulebook import yaml
from smarttune.rulebook.consequences import Computed, Consequence, Strength
from smarttune.rulebook.load import ENTRY_POINT_GROUP, Rulebook, load_rulebook
from smarttune.rulebook.schema import Kind, Rule
from smarttune.space import HyperparameterDef

SCHEMA_FILE = "rule.schema.json"

# One condition for each kind of rule, with a value on which it holds and one on which it does not.
_CONDITIONS: Mapping[str, tuple[str, str, str, str]] = {
    "static": ("data.num_samples >= 1000", "data.num_samples", "2000", "500"),
    "dynamic": ("history.num_trials >= 12", "history.num_trials", "20", "4"),
    "constraint": ('hardware.device == "cpu"', "hardware.device", "cpu", "gpu"),
}
_STRENGTHS: Mapping[str, Strength] = {"static": "should", "dynamic": "should", "constraint": "must"}


@dataclass(frozen=True)
class Draft:
    """What the author of a new rule has decided already.

    Attributes:
        code: The rule's code.
        name: The rule's name, which tells the situation.
        kind: Static, dynamic or constraint.
        hyperparameter: What the rule is about; None for a piece of advice.
        task: The kind of data to which it is limited; None for all.
        overrides: Codes or names of rules over which it wins.
    """

    code: str
    name: str
    kind: Kind = "static"
    hyperparameter: str | None = None
    task: str | None = None
    overrides: tuple[str, ...] = ()

    @property
    def prefix(self) -> str:
        """The letters of the code, which the pack owns."""
        return self.code[:-3]


def write_draft(draft: Draft, folder: Path, *, package: bool = False) -> list[Path]:
    """Write the rule into a pack, and the pack around it where there is none.

    Args:
        draft: The rule.
        folder: The pack, or the project of an installable one; it may be absent.
        package: Whether a new pack becomes an installable package.

    Returns:
        The files written, the rule's file last. Nothing that exists is overwritten, but for the
        schema, which is made anew.

    Raises:
        SmartTuneError: If the rule cannot be, or would take another one's place.
    """
    pack, around = _places(folder, package=package)
    exists = (pack / "pack.yaml").exists()
    book = load_rulebook((pack.resolve(),) if exists else ())
    file = pack / f"{draft.code}-{draft.name}.yaml"
    text = _rule_text(draft, book, _source_key(pack))
    _check(draft, file, text, book)
    new = {path: made for path, made in around.items() if not path.exists()}
    if not exists:
        new[pack / "pack.yaml"] = _pack_text(draft, pack)
    if not (pack / "sources.yaml").exists():
        new[pack / "sources.yaml"] = _sources_text(pack)
    new[pack / SCHEMA_FILE] = json.dumps(Rule.model_json_schema(), indent=2) + "\n"
    new[file] = text
    for path, content in new.items():
        write_text(path, content)
    load_rulebook.cache_clear()  # what was loaded before does not hold the new rule
    return list(new)


def _places(folder: Path, *, package: bool) -> tuple[Path, dict[Path, str]]:
    """The folder of the pack, and the files of the package around it."""
    if folder.exists() and not folder.is_dir():
        raise _refused(f"`{folder}` is a file", "a folder", "Name another folder with --pack.")
    if (folder / "pack.yaml").exists():
        if package and not (folder.parent / "pyproject.toml").exists():
            raise _refused(
                f"`{folder}` is a pack already, and no package",
                "a new folder for a package",
                "Leave out --package, or name another folder and move the rules there.",
            )
        return folder, {}
    inner = sorted(path.parent for path in folder.glob("*/pack.yaml"))
    if len(inner) > 1 or (inner and not (folder / "pyproject.toml").exists()):
        raise _refused(
            f"`{folder}` is a folder of packs",
            "one pack",
            f"Name one of them, such as --pack {shlex.quote(str(inner[0]))}.",
        )
    if inner:
        return inner[0], {}
    if not package:
        return folder, {}
    module = _module(folder)
    around = {
        folder / "pyproject.toml": _project_text(module),
        folder / module / "__init__.py": '"""Rules for SmartTune; the files beside hold them."""\n',
    }
    return folder / module, around


def _refused(received: str, expected: str, mend: str) -> OptionError:
    return OptionError("rules new", received=received, expected=expected, mend=mend)


def _pack_name(folder: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")[:60] or "rules"


def _module(folder: Path) -> str:
    name = _pack_name(folder).replace("-", "_")
    return name if name.isidentifier() else f"rules_{name}"


def _source_key(pack: Path) -> str | None:
    """The source that a draft cites: the pack's first, or that of a new sources.yaml."""
    file = pack / "sources.yaml"
    if not file.exists():
        return f"{_pack_name(pack)}-source"
    data, _ = yaml.load(file.read_text(encoding="utf-8"), str(file))
    return next(iter(data), None) if isinstance(data, dict) else None


def _check(draft: Draft, file: Path, text: str, book: Rulebook) -> None:
    """Refuse a draft that would not load."""
    if not draft.name:
        raise _refused(
            f"{draft.code} has no name",
            "a name of small letters that tells the situation",
            f"For example: smarttune rules new {draft.code} wide-tables.",
        )
    try:
        data, _ = yaml.load(text, "rules new")
        rule = Rule.model_validate(data, context={"hyperparameters": book.hyperparameters})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or draft.code
        message = first["msg"].removeprefix("Value error, ").rstrip(".")
        raise _refused(
            f"{place}: {message} (received {first['input']!r:.80})",
            "a code such as ACM001, and a name of small letters that tells the situation",
            "For example: smarttune rules new ACM001 wide-tables --pack acme.",
        ) from None
    if rule.filename != file.name:
        raise _refused(
            f"`{draft.code} {draft.name}` is read as `{rule.code} {rule.name}`",
            "a name of small letters with hyphens",
            "Leave out the other characters.",
        )
    # Files beside, too: in a folder without a pack.yaml no rule was loaded.
    taken = book.files.get(draft.code) or next(file.parent.glob(f"{draft.code}-*.yaml"), None)
    if taken is not None:
        raise _refused(
            f"the code {draft.code} is taken by {taken}",
            "a code used once",
            "Edit that rule, or take another number or letters of your own.",
        )
    info = next((p.info for p in book.packs if p.folder == file.parent.resolve()), None)
    if info is not None and info.prefixes and draft.prefix not in info.prefixes:
        raise _refused(
            f"pack `{info.pack}` does not own the prefix {draft.prefix}",
            f"a code that begins with {' or '.join(info.prefixes)}",
            f"Change the code, or add {draft.prefix} to `prefixes` in {file.parent}/pack.yaml.",
        )


def _rule_text(draft: Draft, book: Rulebook, source: str | None) -> str:
    condition, fact, holds, fails = _CONDITIONS[draft.kind]
    task = [f'  - data.task == "{draft.task}"'] if draft.task else []
    facts = f"data.task: {draft.task}, " if draft.task else ""
    lines = [
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
        "# A draft: it loads and passes the check, and every TODO is for you to write.",
        f"code: {draft.code}",
        f"name: {draft.name}",
        'summary: "TODO: say in one sentence what this rule recommends and when."',
        f"kind: {draft.kind}  # static | dynamic (reads history.*) | constraint (cuts the others)",
        "evidence: practitioner  # `smarttune rules schema` lists the others",
        "confidence: 0.5  # TODO: from 0 to 1",
        "when:  # every line must hold; `smarttune rules facts` lists what can be read",
        *task,
        f"  - {condition}  # TODO: your condition",
        "then:",
        *_then_lines(draft, book),
        *_overrides_lines(draft, book),
        "why: |",
        "  TODO: why this is so, in your own words.",
        "limits: |",
        "  TODO: where it stops, and where it was never tried.",
        *_provenance_lines(source),
        "ours: |",
        "  TODO: what no source says and you chose yourselves; delete it if there is nothing.",
        "examples:  # the rule's own tests; both outcomes are shown",
        f"  - {{facts: {{{facts}{fact}: {holds}}}, fires: true}}",
        f"  - {{facts: {{{facts}{fact}: {fails}}}, fires: false}}",
    ]
    return "\n".join(lines) + "\n"


def _then_lines(draft: Draft, book: Rulebook) -> list[str]:
    name = draft.hyperparameter
    if name is None:
        return ['  - advice: "TODO: what the user should know or do."']
    definition = book.hyperparameters.get(name)
    if definition is None:
        hint = did_you_mean(name, book.hyperparameters)
        raise _refused(
            f"there is no hyperparameter `{name}`",
            "a canonical name such as model.units, or one that the pack declares",
            hint.strip() or "docs/hyperparameters.md lists them; a new one goes into pack.yaml.",
        )
    value, origin = _values_of(draft, book) or (_spread(definition), "any that the name allows")
    ((key, content),) = value.items()
    return [
        f"  - hyperparameter: {name}",
        f"    {key}: {_flow(content)}  # TODO: your values; these are {origin}",
        f"    strength: {_STRENGTHS[draft.kind]}  # must | should | may",
    ]


def _values_of(draft: Draft, book: Rulebook) -> tuple[dict[str, Any], str] | None:
    """The plain values of a rule that settles the same hyperparameter, and whose they are.

    The nearest rule comes first: one that is overridden, then one that tests for the same task.
    """
    overridden = {book[word].code for word in draft.overrides}
    task = f'data.task == "{draft.task}"'

    def distance(rule: Rule) -> tuple[bool, bool]:
        return rule.code not in overridden, task not in {when.text for when in rule.when}

    for rule in sorted(book.rules, key=distance):
        for line in rule.then:
            if line.hyperparameter == draft.hyperparameter and _is_plain(line):
                written = line.model_dump(mode="json", by_alias=True, exclude_defaults=True)
                kinds = ("float", "int", "choice", "fixed")
                return {key: written[key] for key in kinds if key in written}, f"{rule.code}'s"
    return None


def _is_plain(line: Consequence) -> bool:
    """Whether a line holds numbers and names only, nothing to compute."""
    default = line.choice.default if line.choice is not None else None
    computed = isinstance(line.fixed, Computed) or isinstance(default, Computed)
    return not computed and not any(expression.names for expression in line.expressions)


def _spread(definition: HyperparameterDef) -> dict[str, Any]:
    """Values that fit a hyperparameter of which no rule names plain ones."""
    if definition.kind == "bool":
        return {"fixed": True}
    if definition.kind == "str":
        values = list(definition.values)
        return {"choice": {"values": values}} if values else {"fixed": "todo"}
    low = definition.low or (1 if definition.kind == "int" else 0.0)
    # ours: a draft spans one order of magnitude, or what the name allows.
    high = definition.high or 10 * max(low, 1)
    return {definition.kind: {"low": low, "high": high}}


def _flow(value: Any) -> str:
    """Plain data in the flow style of rule files."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9_]*", value):
        # `none`, `on` and the like are text to our reader, unlike `true`, `false` and `null`.
        return value if value not in ("true", "false", "null") else json.dumps(value)
    return json.dumps(value, ensure_ascii=False)


def _overrides_lines(draft: Draft, book: Rulebook) -> list[str]:
    codes = [book[word].code for word in draft.overrides]
    if not codes:
        return []
    return [
        f"overrides: [{', '.join(codes)}]",
        "conflicts:",
        *(f'  - {{with: {code}, decided_by: "TODO: why this rule wins."}}' for code in codes),
    ]


def _provenance_lines(source: str | None) -> list[str]:
    if source is None:
        return []
    return [
        "provenance:  # who says so, and where; delete it if nobody but you does",
        f"  - source: {json.dumps(source)}",
        '    locator: "TODO: page or section"',
        "    supports: direction  # condition | direction | number",
        '    claim: "TODO: what the source says there, in your own words."',
        "    verification: unverified  # read | abstract | secondary | unverified | derived",
    ]


def _pack_text(draft: Draft, pack: Path) -> str:
    beside = {found[1] for path in pack.glob("*.yaml") if (found := _CODED.match(path.name))}
    return f"""\
pack: {_pack_name(pack)}
prefixes: [{", ".join(sorted({draft.prefix, *beside}))}]
version: 0.1.0
title: "TODO: whose rules these are"
about: |
  TODO: what they have in common.
"""


_CODED = re.compile(r"([A-Z]{2,4})[0-9]{3}-")


def _sources_text(pack: Path) -> str:
    return f"""\
# Every work that a rule of this pack cites, once; rules name it by its key.
{_pack_name(pack)}-source:
  authors: "A. Author, B. Author"
  title: "TODO: title of the work"
  year: "TODO"
  url: ""
"""


def _project_text(module: str) -> str:
    name = module.replace("_", "-")
    return f"""\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "0.1.0"
description = "Rules for SmartTune"
requires-python = ">=3.11"
dependencies = ["smarttune"]

# SmartTune finds the pack by this entry, wherever the package is installed.
[project.entry-points."{ENTRY_POINT_GROUP}"]
{name} = "{module}"

[tool.setuptools]
packages = ["{module}"]

[tool.setuptools.package-data]
{module} = ["*.yaml", "*.json"]
"""
