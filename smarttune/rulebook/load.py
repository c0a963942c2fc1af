"""Rule packs from files to `Rulebook`, every mistake with file:line:column."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from smarttune.errors import RuleMistake, RulePackError, SmartTuneError, did_you_mean
from smarttune.facts import FACTS
from smarttune.rulebook import yaml
from smarttune.rulebook.cache import ParsedFiles
from smarttune.rulebook.schema import PackInfo, Rule, Source
from smarttune.space import HYPERPARAMETERS, HyperparameterDef

ENTRY_POINT_GROUP = "smarttune.rules"

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Pack:
    """One folder of rules."""

    info: PackInfo
    folder: Path
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Rulebook:
    """All rules that take part, with their bibliography.

    Attributes:
        rules: Ordered by code.
        sources: Key to work.
        packs: Where the rules come from.
        hyperparameters: The canonical hyperparameters and those that packs add.
        files: Rule code to file.
    """

    rules: tuple[Rule, ...]
    sources: Mapping[str, Source] = field(default_factory=dict)
    packs: tuple[Pack, ...] = ()
    hyperparameters: Mapping[str, HyperparameterDef] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)

    def __getitem__(self, code_or_name: str) -> Rule:
        wanted = code_or_name.lower()
        for rule in self.rules:
            if wanted in (rule.code.lower(), rule.name):
                return rule
        known = [r.code for r in self.rules] + [r.name for r in self.rules]
        raise SmartTuneError(
            "rules",
            received=f"there is no rule `{code_or_name}`",
            expected="a rule's code or name",
            mend=f"`smarttune rules list` lists them.{did_you_mean(code_or_name, known)}",
        )

    def replace_rules(self, rules: Iterable[Rule]) -> Rulebook:
        """The same book with only these rules."""
        return Rulebook(tuple(rules), self.sources, self.packs, self.hyperparameters, self.files)


def builtin_folder() -> Path:
    """The folder of the built-in packs, in a wheel and in an editable install."""
    packaged = Path(str(importlib.resources.files("smarttune"))) / "_rules"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "rules"


@lru_cache(maxsize=8)
def load_rulebook(folders: tuple[Path, ...] = (), *, builtin: bool = True) -> Rulebook:
    """Load the built-in packs, the installed ones, and those in `folders`.

    Args:
        folders: Each a pack (it holds pack.yaml), a folder of packs, or one rule file.
        builtin: Whether the built-in and the installed packs take part.

    Raises:
        RulePackError: With every mistake found in any file.
    """
    loader = _Loader()
    if builtin:
        loader.add(builtin_folder())
        loader.add_installed()
    for folder in folders:
        loader.add(Path(folder))
    return loader.finish()


class _Loader:
    """Gathers packs and mistakes; `finish` checks what spans several files."""

    def __init__(self) -> None:
        self.cache = ParsedFiles(builtin_folder())
        self.mistakes: list[SmartTuneError] = []
        self.sources: dict[str, Source] = {}
        self.hyperparameters = dict(HYPERPARAMETERS)
        self.packs: list[Pack] = []
        self.rules: dict[str, Rule] = {}
        self.broken: set[str] = set()  # codes of rules with mistakes of their own
        self.files: dict[str, Path] = {}
        self.known_positions: dict[Path, yaml.Positions] = {}
        self.seen: set[Path] = set()

    def add(self, path: Path) -> None:
        """Load a pack, a folder of packs, or one rule file."""
        path = path.resolve()
        if path in self.seen:
            return
        self.seen.add(path)
        if not path.exists():
            self._mistake(
                str(path), "there is no such file or folder", "a rule pack", "Check `--rules`."
            )
            return
        if path.is_file():
            self._read_sources(path.parent / "sources.yaml")
            self._add_pack(path.parent, [path])
            return
        self._read_sources(path / "sources.yaml")
        folders = [path] if (path / "pack.yaml").exists() else _pack_folders(path)
        if not folders:
            self._mistake(
                str(path),
                "the folder holds no pack.yaml and no folder with one",
                "a rule pack",
                "Add a pack.yaml; `smarttune rules show` a built-in rule for the format of rules.",
            )
        for folder in folders:
            if folder != path:
                self._read_sources(folder / "sources.yaml")
            self._add_pack(folder, _rule_files(folder))

    def add_installed(self) -> None:
        """Load the packs that installed packages announce."""
        entries = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
        for entry in sorted(entries, key=str):
            try:
                folder = Path(str(importlib.resources.files(entry.module)))
            except Exception as error:  # noqa: BLE001 -- a third party may raise anything
                package = entry.dist.name if entry.dist is not None else entry.module
                self._mistake(
                    f"installed pack `{entry.name}` of the package {package}",
                    f"it cannot be imported ({type(error).__name__}: {error})",
                    "a package that holds rules",
                    f"Mend it, or uninstall it: pip uninstall {package}.",
                )
            else:
                self.add(folder)

    def _read_sources(self, file: Path) -> None:
        if not file.exists():
            return
        for key, value in (self._read(file) or {}).items():
            source = self._validate(Source, value, file, prefix=(key,))
            if source is not None:
                self.sources[key] = source

    def _add_pack(self, folder: Path, files: Sequence[Path]) -> None:
        info = self._pack_info(folder)
        if info is None:
            return
        for name, extra in info.hyperparameters.items():
            if name in HYPERPARAMETERS or name in FACTS:
                self._mistake(
                    self._at(folder / "pack.yaml", ("hyperparameters", name)),
                    f"`{name}` is already a {'fact' if name in FACTS else 'hyperparameter'}",
                    "a name of your own",
                    "Leave it out, or give it another name.",
                )
                continue
            self.hyperparameters[name] = HyperparameterDef(
                name, extra.type, extra.unit, extra.about
            )
        rules = [rule for file in files if (rule := self._read_rule(file, info)) is not None]
        self.packs.append(Pack(info, folder, tuple(rules)))

    def _pack_info(self, folder: Path) -> PackInfo | None:
        file = folder / "pack.yaml"
        if not file.exists():
            return PackInfo(
                pack="unnamed", prefixes=(), version="0", title=folder.name, about=str(folder)
            )
        data = self._read(file)
        return self._validate(PackInfo, data, file) if isinstance(data, dict) else None

    def _read_rule(self, file: Path, info: PackInfo) -> Rule | None:
        data = self._read(file)
        rule = self._validate(Rule, data, file) if isinstance(data, dict) else None
        if rule is None:
            self.broken.add(str(data.get("code")) if isinstance(data, dict) else file.name[:6])
            return None
        if file.name != rule.filename:
            self._mistake(
                self._at(file, ("code",)),
                f"the file of rule {rule.code} is named `{file.name}`",
                f"`{rule.filename}`",
                "Rename the file, or correct `code` and `name`.",
            )
        if info.prefixes and rule.code[:-3] not in info.prefixes:
            self._mistake(
                self._at(file, ("code",)),
                f"the code {rule.code} has a prefix that pack `{info.pack}` does not own",
                f"a prefix among {', '.join(info.prefixes)}",
                "Change the code, or add the prefix to pack.yaml.",
            )
        if rule.code in self.rules:
            self._mistake(
                self._at(file, ("code",)),
                f"the code {rule.code} is taken by {self.files[rule.code]}",
                "a code used once",
                "Give one of the two another code.",
            )
            return None
        self.rules[rule.code] = rule
        self.files[rule.code] = file
        return rule

    def _read(self, file: Path) -> dict[str, Any] | None:
        """The mapping that a file holds; None, and a mistake, if it holds none."""
        try:
            if (kept := self.cache.get(file)) is not None:
                return dict(kept)
            data, positions = yaml.load(file.read_text(encoding="utf-8"), str(file))
        except RuleMistake as mistake:
            self.mistakes.append(mistake)
            return None
        except UnicodeDecodeError as error:
            received = f"byte {error.start} is not UTF-8"
            self._mistake(str(file), received, "UTF-8 text", "Save it as UTF-8.")
            return None
        except OSError as error:
            received = f"it cannot be read ({error.strerror})"
            self._mistake(str(file), received, "a readable file", "Check its permissions.")
            return None
        self.known_positions[file] = positions
        if not isinstance(data, dict):
            received = f"the file holds {data!r:.60}"
            self._mistake(self._at(file, ()), received, "keys with values", "Write `key: value`.")
            return None
        if file.is_relative_to(builtin_folder()):
            self.cache.put(file, data)
        return data

    def _at(self, file: Path, path: yaml.Path) -> str:
        """`file:line:column` of a value."""
        line, column = _position(self._positions(file), path)
        return f"{_short(file)}:{line}:{column}"

    def _positions(self, file: Path) -> yaml.Positions:
        """Where every value of a file stands; read again if the data came from the cache."""
        if file not in self.known_positions:
            text = file.read_text(encoding="utf-8")
            self.known_positions[file] = yaml.load(text, str(file))[1]
        return self.known_positions[file]

    def _validate(self, model: type[M], data: Any, file: Path, prefix: yaml.Path = ()) -> M | None:
        try:
            return model.model_validate(data, context={"hyperparameters": self.hyperparameters})
        except ValidationError as error:
            positions = self._positions(file)
            self.mistakes += _mistakes(error, model, file, positions, prefix)
            return None

    def _mistake(self, where: str, received: str, expected: str, mend: str) -> None:
        self.mistakes.append(RuleMistake(where, received=received, expected=expected, mend=mend))

    def finish(self) -> Rulebook:
        """Check what spans several files and return the book."""
        for rule in self.rules.values():
            self._check_references(rule)
        if not self.mistakes:
            self._check_override_cycles()
            self._check_dependency_cycles()
        if self.mistakes:
            raise RulePackError(self.mistakes)
        self.cache.save()
        ordered = tuple(self.rules[code] for code in sorted(self.rules))
        return Rulebook(ordered, self.sources, tuple(self.packs), self.hyperparameters, self.files)

    def _where(self, code: str, path: yaml.Path) -> str:
        return self._at(self.files[code], path)

    def _check_references(self, rule: Rule) -> None:
        for i, item in enumerate(rule.provenance):
            if item.source not in self.sources:
                self._mistake(
                    self._where(rule.code, ("provenance", i, "source")),
                    f"`{item.source}` is not in a sources.yaml",
                    "the key of a source",
                    f"Add the work to sources.yaml.{did_you_mean(item.source, self.sources)}",
                )
        references: list[tuple[yaml.Path, str]] = [
            (("overrides", i), code) for i, code in enumerate(rule.overrides)
        ]
        references += [
            (("conflicts", i, "with"), conflict.with_) for i, conflict in enumerate(rule.conflicts)
        ]
        for path, code in references:
            if code not in self.rules.keys() | self.broken or code == rule.code:
                self._mistake(
                    self._where(rule.code, path),
                    f"`{code}` is not another rule",
                    "a rule's code",
                    f"Correct or delete it.{did_you_mean(code, self.rules)}",
                )

    def _check_override_cycles(self) -> None:
        cycle = find_cycle({code: rule.overrides for code, rule in self.rules.items()})
        if cycle:
            self._mistake(
                self._where(cycle[0], ("overrides",)),
                f"the rules override each other in a circle: {' > '.join(cycle)}",
                "overrides without a circle",
                "Delete one of these `overrides`.",
            )

    def _check_dependency_cycles(self) -> None:
        cycle = find_cycle(hyperparameter_dependencies(self.rules.values()))
        if cycle:
            rules = sorted(
                rule.code
                for rule in self.rules.values()
                for line in rule.then
                if line.hyperparameter in cycle and set(cycle) & {*rule.names, *line.active_when}
            )
            self._mistake(
                str(self.files[rules[0]]),
                f"hyperparameters depend on each other in a circle: {' > '.join(cycle)} "
                f"(through rules {', '.join(dict.fromkeys(rules))})",
                "rules that read only hyperparameters settled before",
                "Let one of these rules read facts instead.",
            )


def hyperparameter_dependencies(rules: Iterable[Rule]) -> dict[str, tuple[str, ...]]:
    """Return, for each hyperparameter, those that must be settled before it."""
    needed: dict[str, set[str]] = {}
    for rule in rules:
        read = {name for condition in rule.when for name in condition.names}
        for line in rule.then:
            if line.hyperparameter is not None:
                names = read.union(*(e.names for e in line.expressions), line.active_when)
                needed.setdefault(line.hyperparameter, set()).update(names)
    return {
        name: tuple(sorted(other for other in names if other in needed))
        for name, names in sorted(needed.items())
    }


def find_cycle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the nodes of one circle, first node repeated at the end, or []."""
    done: set[str] = set()
    for start in graph:
        # Depth first without recursion: the path so far, and what is left at each node.
        path, rest = [start], [iter(graph[start])]
        on_path = {start}
        while path and start not in done:
            successor = next(rest[-1], None)
            if successor is None:
                done.add(path[-1])
                on_path.discard(path.pop())
                rest.pop()
            elif successor in on_path:
                return [*path[path.index(successor) :], successor]
            elif successor not in done and successor in graph:
                path.append(successor)
                on_path.add(successor)
                rest.append(iter(graph[successor]))
    return []


def _pack_folders(path: Path) -> list[Path]:
    return sorted(p.parent for p in path.glob("*/pack.yaml"))


def _rule_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.yaml") if p.name not in ("pack.yaml", "sources.yaml"))


def _position(positions: yaml.Positions, path: yaml.Path) -> tuple[int, int]:
    """The position of a value, or of the nearest value around it."""
    while path and path not in positions:
        path = path[:-1]
    return positions.get(path, (1, 1))


def _short(file: Path) -> str:
    try:
        return str(file.relative_to(Path.cwd()))
    except ValueError:
        return str(file)


def _mistakes(
    error: ValidationError,
    model: type[BaseModel],
    file: Path,
    positions: yaml.Positions,
    prefix: yaml.Path,
) -> list[SmartTuneError]:
    found: dict[str, SmartTuneError] = {}
    items = error.errors(include_url=False)
    inner = {item["loc"][:n] for item in items for n in range(len(item["loc"]))}
    for item in items:
        if item["type"] == "too_short" and item["loc"] in inner:
            continue  # too short only because its items have mistakes, told by themselves
        # Union members and aliases add words to the path that the file does not hold.
        path: yaml.Path = prefix
        for part in item["loc"]:
            longer = (*path, part)
            if longer in positions or item["type"] in ("missing", "extra_forbidden"):
                path = longer
        where, received, expected, mend = _explained(item, path, model, file, positions)
        found.setdefault(where, RuleMistake(where, received=received, expected=expected, mend=mend))
    return list(found.values())


def _explained(
    item: Any, path: yaml.Path, model: type[BaseModel], file: Path, positions: yaml.Positions
) -> tuple[str, str, str, str]:
    dotted = ".".join(str(part) for part in path) or "the file"
    kind, context = item["type"], item.get("ctx") or {}
    line, column = _position(positions, path)
    if kind == "extra_forbidden":
        line, column = positions.get((*path, yaml.KEY), (line, column))
        known = _keys_beside(model, path)
        hint = did_you_mean(str(path[-1]), known) or " Delete it."
        received = f"{dotted}: `{path[-1]}` is not a key here"
        return (
            f"{_short(file)}:{line}:{column}",
            received,
            "one of " + ", ".join(known),
            hint.strip(),
        )
    if kind == "missing":
        line, column = _position(positions, path[:-1])
        received = f"{dotted}: the key `{path[-1]}` is missing"
        return f"{_short(file)}:{line}:{column}", received, f"`{path[-1]}`", "Add it."
    if "column" in context:
        column += context["column"] - 1
    message = context.get("message") or item["msg"].removeprefix("Value error, ")
    shown = (
        ""
        if "message" in context or kind == "value_error"
        else f" (received {item['input']!r:.80})"
    )
    return (
        f"{_short(file)}:{line}:{column}",
        f"{dotted}: {message}{shown}",
        "what `smarttune rules schema` describes",
        "Correct it there.",
    )


def _keys_beside(model: type[BaseModel], path: yaml.Path) -> list[str]:
    """The keys allowed where `path` ends, found by walking the model's JSON Schema."""
    schema: Any = model.model_json_schema()
    definitions = schema.get("$defs", {})

    def resolve(part: Any) -> list[Any]:
        if "$ref" in part:
            return resolve(definitions[part["$ref"].rsplit("/", 1)[-1]])
        if "anyOf" in part:
            return [r for option in part["anyOf"] for r in resolve(option)]
        return [part]

    level = resolve(schema)
    for key in path[:-1]:
        step = "items" if isinstance(key, int) else "properties"
        following = [p[step] if step == "items" else p[step].get(key) for p in level if step in p]
        level = [r for p in following if p for r in resolve(p)]
    return sorted({key for part in level for key in part.get("properties", {})})
