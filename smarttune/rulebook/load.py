"""Rule packs from files to `Rulebook`, every mistake with file:line:column."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import os
from collections.abc import Callable, Iterable, Sequence, Set
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from smarttune.errors import RuleMistake, RulePackError, SmartTuneError, did_you_mean
from smarttune.facts import FACTS
from smarttune.rulebook import yaml
from smarttune.rulebook.agenda import Agenda, find_cycle
from smarttune.rulebook.book import Pack, Rulebook
from smarttune.rulebook.cache import CheckedFiles
from smarttune.rulebook.mistakes import position, validation_mistakes
from smarttune.rulebook.reading import printable, read_text, short
from smarttune.rulebook.schema import PackInfo, Rule, Source
from smarttune.space import HYPERPARAMETERS, HyperparameterDef

__all__ = ["Pack", "Rulebook", "builtin_folder", "find_cycle", "load_rulebook"]

ENTRY_POINT_GROUP = "smarttune.rules"

# ours: more than anybody corrects at one go; to find them all in a hostile pack takes long.
MAX_MISTAKES = 100
MAX_SHOWN = 12  # ours: members of a circle, and rules, that one message names

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


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
    loader.links_stay = True
    for folder in folders:
        loader.add(Path(folder))
    return loader.finish()


class _Loader:
    """Gathers packs and mistakes; `finish` checks what spans several files."""

    def __init__(self) -> None:
        self.builtin = builtin_folder()
        self.cache = CheckedFiles(self.builtin)
        self.links_stay = False  # whether links that lead out of their pack are refused
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
        try:
            path = path.resolve()
            exists = path.exists()
        except (OSError, RuntimeError, ValueError) as error:  # a circle of links, a NUL, ...
            where, received = short(path), f"it cannot be opened ({error})"
            self._mistake(where, received, "a rule pack", "Check `--rules`.")
            return
        if path in self.seen:
            return
        self.seen.add(path)
        if not exists:
            self._mistake(
                short(path), "there is no such file or folder", "a rule pack", "Check `--rules`."
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
                short(path),
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
        if os.path.lexists(file):
            self.sources |= self._checked(file, self._sources_of) or {}

    def _sources_of(self, data: dict[str, Any], file: Path) -> dict[str, Source] | None:
        found = {key: self._validate(Source, v, file, (key,)) for key, v in data.items()}
        self.sources |= {key: source for key, source in found.items() if source is not None}
        return None if None in found.values() else found  # type: ignore[return-value]

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
        return self._checked(file, lambda data, file: self._validate(PackInfo, data, file))

    def _rule_of(self, data: dict[str, Any], file: Path) -> Rule | None:
        rule = self._validate(Rule, data, file)
        if rule is None:
            self.broken.add(str(data.get("code")))
        return rule

    def _read_rule(self, file: Path, info: PackInfo) -> Rule | None:
        rule = self._checked(file, self._rule_of)
        if rule is None:
            self.broken.add(file.name.split("-", maxsplit=1)[0])
            return None
        if file.name != rule.filename:
            self._mistake(
                self._at(file, ("code",)),
                f"the file of rule {rule.code} is named `{printable(file.name)}`",
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
                f"the code {rule.code} is taken by {short(self.files[rule.code])}",
                "a code used once",
                "Give one of the two another code.",
            )
            return None
        self.rules[rule.code] = rule
        self.files[rule.code] = file
        return rule

    def _checked(self, file: Path, check: Callable[[dict[str, Any], Path], T | None]) -> T | None:
        """What comes of a file: as an earlier process left it, or read and checked now."""
        ours = file.is_relative_to(self.builtin)
        kept: T | None = self.cache.get(file) if ours else None
        if kept is not None:
            return kept
        data = self._read(file)
        checked = None if data is None else check(data, file)
        canonical = len(self.hyperparameters) == len(HYPERPARAMETERS)  # as when it is restored
        if checked is not None and canonical and ours:
            self.cache.put(file, checked)
        return checked

    def _read(self, file: Path) -> dict[str, Any] | None:
        """The mapping that a file holds; None, and a mistake, if it holds none."""
        try:
            text = read_text(file, file.parent if self.links_stay else None)
            data, positions = yaml.load(text, short(file))
        except RuleMistake as mistake:
            self._note([mistake])
            return None
        self.known_positions[file] = positions
        if not isinstance(data, dict):
            received = f"the file holds {data!r:.60}"
            self._mistake(self._at(file, ()), received, "keys with values", "Write `key: value`.")
            return None
        return data

    def _at(self, file: Path, path: yaml.Path) -> str:
        """`file:line:column` of a value."""
        line, column = position(self._positions(file), path)
        return f"{short(file)}:{line}:{column}"

    def _positions(self, file: Path) -> yaml.Positions:
        """Where every value of a file stands; read again if the data came from the cache."""
        if file not in self.known_positions:
            self.known_positions[file] = yaml.load(read_text(file), short(file))[1]
        return self.known_positions[file]

    def _validate(self, model: type[M], data: Any, file: Path, prefix: yaml.Path = ()) -> M | None:
        try:
            return model.model_validate(data, context={"hyperparameters": self.hyperparameters})
        except ValidationError as error:
            positions = self._positions(file)
            self._note(validation_mistakes(error, model, file, positions, prefix))
            return None

    def _mistake(self, where: str, received: str, expected: str, mend: str) -> None:
        self._note([RuleMistake(where, received=received, expected=expected, mend=mend)])

    def _note(self, mistakes: Iterable[SmartTuneError]) -> None:
        self.mistakes += mistakes
        if len(self.mistakes) > MAX_MISTAKES:
            rest = RuleMistake(
                "rules",
                received=f"there are more than {MAX_MISTAKES} mistakes",
                expected="rule files without mistakes",
                mend="Correct these first; then load the rules again.",
            )
            raise RulePackError([*self.mistakes[:MAX_MISTAKES], rest])

    def finish(self) -> Rulebook:
        """Check what spans several files and return the book."""
        known = self.rules.keys() | self.broken
        for rule in self.rules.values():
            self._check_references(rule, known)
        ordered = tuple(self.rules[code] for code in sorted(self.rules))
        book = Rulebook(ordered, self.sources, tuple(self.packs), self.hyperparameters, self.files)
        if not self.mistakes:
            self._check_override_cycles()
            self._check_dependency_cycles(book.agenda)
        if self.mistakes:
            raise RulePackError(self.mistakes)
        self.cache.save()
        return book

    def _where(self, code: str, path: yaml.Path) -> str:
        return self._at(self.files[code], path)

    def _check_references(self, rule: Rule, known: Set[str]) -> None:
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
            if code not in known or code == rule.code:
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
                f"the rules override each other in a circle: {_shortened(cycle)}",
                "overrides without a circle",
                "Delete one of these `overrides`.",
            )

    def _check_dependency_cycles(self, agenda: Agenda) -> None:
        cycle = find_cycle(agenda.needs)
        if cycle:
            rules = sorted(
                rule.code
                for rule in self.rules.values()
                for line in rule.then
                if line.hyperparameter in cycle and set(cycle) & {*rule.names, *line.active_when}
            )
            self._mistake(
                short(self.files[rules[0]]),
                f"hyperparameters depend on each other in a circle: {_shortened(cycle)} "
                f"(through rules {_shortened(list(dict.fromkeys(rules)), ', ')})",
                "rules that read only hyperparameters settled before",
                "Let one of these rules read facts instead.",
            )


def _pack_folders(path: Path) -> list[Path]:
    return sorted(p.parent for p in path.glob("*/pack.yaml"))


def _rule_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.yaml") if p.name not in ("pack.yaml", "sources.yaml"))


def _shortened(words: Sequence[str], between: str = " > ") -> str:
    """A circle in words, without most of its middle where it is long."""
    if len(words) <= MAX_SHOWN:
        return between.join(words)
    shown = [*words[: MAX_SHOWN - 2], f"... {len(words) - MAX_SHOWN + 1} more", words[-1]]
    return between.join(shown)
