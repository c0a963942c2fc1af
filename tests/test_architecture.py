"""The house laws: floors, cycles, heavy imports, printing, and sizes.

Imports count wherever they stand: at the top, inside functions, under
TYPE_CHECKING, relative, by `import_module("...")`, and in the `_HOMES` tables
with which a package opens its names lazily.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "smarttune"

# A room imports from lower floors and from itself; rooms on one floor do not know each other.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "version"),
    ("space", "objectives", "fidelity", "files"),
    ("facts",),
    ("data", "hardware", "backend", "rulebook", "trials", "portfolio"),
    ("recommendation", "fingerprint", "training"),
    ("suggestion", "citing", "models", "oracles", "portfolio"),
    ("execution", "baselines", "coverage"),
    ("tuning",),
    ("report",),
    ("preparation",),
    ("job",),
    ("learning",),
    ("evidence",),
    ("__init__",),
    ("cli",),
    ("__main__",),
)
FLOOR_OF = {room: i for i, floor in enumerate(FLOORS) for room in floor}

FRAMEWORKS = {
    "tensorflow",
    "keras",
    "keras_tuner",
    "optuna",
    "matplotlib",
    "jax",
    "torch",
    "sklearn",
}
# Where a framework may be imported at all, and where only inside a function.
FRAMEWORK_ROOMS = {
    *("training", "models", "oracles", "execution", "baselines", "tuning", "evidence"),
}
FRAMEWORK_IN_FUNCTIONS = {
    "smarttune.report.html",
    "smarttune.report.curves",
    "smarttune.backend",
}

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60  # without its docstring, comments and blank lines


class Import(NamedTuple):
    """One import: who, what, on which line, and whether inside a function."""

    importer: str
    target: str
    line: int
    in_function: bool


def modules_of(folder: Path) -> dict[str, str]:
    """Dotted name to source of every module; that of a package ends in `.__init__`."""
    return {
        ".".join([folder.name, *file.relative_to(folder).with_suffix("").parts]): file.read_text(
            encoding="utf-8"
        )
        for file in sorted(folder.rglob("*.py"))
    }


def room_of(module: str) -> str:
    """`smarttune.rulebook.load` lies in `rulebook`, `smarttune` itself in `__init__`."""
    return (*module.split("."), "__init__")[1]


@cache
def imports_of(module: str, source: str) -> tuple[Import, ...]:
    """Every import of a module, in dotted absolute names (`package.name` for a from-import)."""
    return tuple(_found(module, source))


def _found(module: str, source: str) -> Iterator[Import]:
    tree = ast.parse(source)
    package = module.rsplit(".", 1)[0]
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for node in ast.walk(function)
    }
    lazy_table = any(_is_homes(node) for node in tree.body)
    for node in ast.walk(tree):
        for target in _targets(node, package, lazy_table):
            yield Import(module, target, getattr(node, "lineno", 0), id(node) in inside)


def _targets(node: ast.AST, package: str, lazy_table: bool) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = ".".join(package.split(".")[: len(package.split(".")) + 1 - node.level])
        origin = ".".join(p for p in (base if node.level else "", node.module or "") if p)
        return [f"{origin}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Assign) and _is_homes(node):
        assert isinstance(node.value, ast.Dict)
        return [f"{package}.{ast.literal_eval(value)}" for value in node.value.values]
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func).rsplit(".", 1)[-1]
        if called in ("import_module", "__import__"):
            if node.args and isinstance(node.args[0], ast.Constant):
                return [str(node.args[0].value)]
            return [] if lazy_table else ["<computed>"]
    return []


def _is_homes(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Dict)
        and ast.unparse(node.targets[0]) == "_HOMES"
    )


def resolved(target: str, modules: Mapping[str, str]) -> str | None:
    """The module of ours that a dotted name means, or None; `.__init__` for packages."""
    if target.split(".", maxsplit=1)[0] != "smarttune":
        return None
    for name in (target, target.rpartition(".")[0]):
        if f"{name}.__init__" in modules:
            return f"{name}.__init__"
        if name in modules:
            return name
    return f"{target} (absent)"


def floor_violations(module: str, source: str) -> list[str]:
    """Imports of a higher floor, of a room beside, of what is absent or only computed."""
    mine = room_of(module)
    if mine not in FLOOR_OF:
        return [f"{module}: the room `{mine}` has no floor"]
    found = []
    for item in imports_of(module, source):
        target = resolved(item.target, MODULES)
        if item.target == "<computed>" or (target or "").endswith("(absent)"):
            found.append(f"{module}:{item.line} imports {item.target}")
        elif target is not None:
            other = room_of(target)
            if other != mine and FLOOR_OF.get(other, 99) >= FLOOR_OF[mine]:
                found.append(f"{module}:{item.line} imports {other}")
    return found


def cycles(modules: Mapping[str, str]) -> list[list[str]]:
    """Groups of modules that import each other, by whatever kind of import."""
    graph = {
        module: {t for i in imports_of(module, source) if (t := resolved(i.target, modules))}
        for module, source in modules.items()
    }

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for successor in graph.get(waiting.pop(), set()) - seen:
                seen.add(successor)
                waiting.append(successor)
        return seen

    reach = {module: reachable(module) for module in graph}
    groups = {
        tuple(sorted(other for other in reach[module] if module in reach.get(other, set())))
        for module in graph
        if module in reach[module]
    }
    return [list(group) for group in sorted(groups)]


def framework_violations(modules: Mapping[str, str]) -> list[str]:
    """Frameworks imported where none may be, or at the top where only functions may."""
    found = []
    for module, source in modules.items():
        for item in imports_of(module, source):
            if item.target.split(".")[0] not in FRAMEWORKS or room_of(module) in FRAMEWORK_ROOMS:
                continue
            if module not in FRAMEWORK_IN_FUNCTIONS or not item.in_function:
                found.append(f"{module}:{item.line} imports {item.target}")
    return found


def printing(modules: Mapping[str, str]) -> list[str]:
    """Calls of print, of typer's and rich's writers, and of sys.stdout outside of the cli."""
    found = []
    for module, source in modules.items():
        if room_of(module) == "cli":
            continue
        for node in ast.walk(ast.parse(source)):
            text = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if text in ("print", "typer.echo", "rich.print", "pprint") or text.startswith(
                ("sys.stdout.write", "sys.stderr.write")
            ):
                found.append(f"{module}:{node.lineno} calls {text}")  # type: ignore[attr-defined]
    return found


def long_functions(modules: Mapping[str, str]) -> list[str]:
    """Functions with too many lines of code."""
    found = []
    for module, source in modules.items():
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            body = node.body[1:] if ast.get_docstring(node) else node.body
            first, last = (body[0].lineno, node.end_lineno or 0) if body else (1, 0)
            code = [
                t for t in lines[first - 1 : last] if t.strip() and not t.strip().startswith("#")
            ]
            if len(code) > MAX_FUNCTION_LINES:
                found.append(f"{module}:{node.lineno} {node.name} has {len(code)} lines")
    return found


MODULES = modules_of(PACKAGE)


def test_every_module_was_read() -> None:
    """The laws are applied to the package that is there, and to every room with a floor."""
    assert len(MODULES) > 60
    assert {room_of(m) for m in MODULES} == set(FLOOR_OF)


@pytest.mark.parametrize("module", MODULES)
def test_floors_hold(module: str) -> None:
    """A module imports from lower floors and from its own room only."""
    assert floor_violations(module, MODULES[module]) == []


def test_modules_form_no_cycles() -> None:
    """No two modules import each other, not even lazily or for types."""
    assert cycles(MODULES) == []


def test_frameworks_stay_in_their_rooms() -> None:
    """Keras, KerasTuner, Optuna and Matplotlib are imported where models are built and run."""
    assert framework_violations(MODULES) == []


def test_only_the_command_line_prints() -> None:
    """The library returns text; the cli shows it."""
    assert printing(MODULES) == []


@pytest.mark.parametrize("module", MODULES)
def test_files_are_short(module: str) -> None:
    """A file has at most 500 lines."""
    assert len(MODULES[module].splitlines()) <= MAX_FILE_LINES


def test_functions_are_short() -> None:
    """A function has at most 60 lines of code."""
    assert long_functions(MODULES) == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    """There is no drawer for odds and ends."""
    drawers = {"utils", "helpers", "base", "types", "constants", "managers", "common", "misc"}

    assert [m for m in MODULES if drawers & set(m.split("."))] == []


RULES = "smarttune.rulebook.load"
UPWARD = {
    "absolute": "import smarttune.models.dense",
    "absolute from": "from smarttune.models.dense import x",
    "a submodule as a name": "from smarttune import models",
    "the façade": "import smarttune",
    "a name of the façade": "from smarttune import suggest",
    "under another name": "import smarttune.tuning.run as r",
    "relative": "from ..models.dense import x",
    "relative room": "from .. import models",
    "in a function": "def f():\n    from smarttune.models.dense import x",
    "in a method": "class A:\n    def f(self):\n        import smarttune.models",
    "for types": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from smarttune.models import x",
    "in a try": "try:\n    import smarttune.models\nexcept ImportError:\n    pass",
    "import_module": "import importlib\nimportlib.import_module('smarttune.models.dense')",
    "import_module bare": "def f():\n    return import_module('smarttune.models')",
    "__import__": "__import__('smarttune.models')",
    "computed": "from importlib import import_module\nimport_module('smarttune.' + name)",
    "a room beside": "from smarttune.trials import TrialLog",
    "what is absent": "from smarttune.nowhere import x",
}
FINE = {
    "a lower floor": "from smarttune.facts import Facts",
    "its own room": "from smarttune.rulebook.schema import Rule",
    "its own room, relative": "from . import schema",
    "a lower floor, relative": "from ..errors import did_you_mean",
    "the standard library": "import json, importlib",
}


@pytest.mark.parametrize("source", UPWARD.values(), ids=UPWARD.keys())
def test_planted_imports_upwards_are_found(source: str) -> None:
    """Each way to reach a higher floor is caught."""
    assert floor_violations(RULES, source)


@pytest.mark.parametrize("source", FINE.values(), ids=FINE.keys())
def test_imports_downwards_are_fine(source: str) -> None:
    """What the law allows is not caught."""
    assert floor_violations(RULES, source) == []


def test_a_planted_home_upwards_is_found() -> None:
    """A lazy table counts as imports of the module that holds it."""
    table = "_HOMES = {'X': 'facts', 'Y': 'cli'}\n"

    assert floor_violations("smarttune.__init__", table) == ["smarttune.__init__:1 imports cli"]


def test_a_planted_room_without_a_floor_is_found() -> None:
    """A new room has to be given its floor."""
    assert "`magic` has no floor" in floor_violations("smarttune.magic", "")[0]


@pytest.mark.parametrize(
    "back",
    [
        "import smarttune.facts",
        "def f():\n    from smarttune.facts import Facts",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from smarttune.facts import Facts",
        "from .facts import Facts",
    ],
)
def test_planted_cycles_are_found(back: str) -> None:
    """An import back is a cycle, however it is written."""
    names = ("smarttune.facts", "smarttune.errors")
    few = {m: MODULES[m] for m in names} | {"smarttune.space": back}

    assert cycles(few | {"smarttune.space": ""}) == []
    assert cycles(few) == [["smarttune.facts", "smarttune.space"]]


@pytest.mark.parametrize(
    ("module", "source", "bad"),
    [
        ("smarttune.space", "def f():\n    import keras", True),
        ("smarttune.data.reading", "from sklearn import x", True),
        ("smarttune.cli.search", "def f():\n    import matplotlib.pyplot", True),
        ("smarttune.report.html", "import matplotlib", True),
        ("smarttune.report.html", "def f():\n    import matplotlib", False),
        ("smarttune.oracles.grid", "import keras_tuner", False),
        ("smarttune.suggestion", "import importlib\nimportlib.import_module('optuna')", True),
    ],
)
def test_planted_frameworks_are_found(module: str, source: str, bad: bool) -> None:
    """A framework outside of its rooms, or at the top of a lazy one, is caught."""
    assert any(v.startswith(module) for v in framework_violations({module: source})) is bad


@pytest.mark.parametrize(
    "source", ["print(1)", "import sys\nsys.stdout.write('x')", "typer.echo(1)"]
)
def test_planted_printing_is_found(source: str) -> None:
    """Any way to write to the terminal is caught, but in the cli."""
    assert printing({"smarttune.report.text": source})
    assert not printing({"smarttune.cli.runs": source})


def test_planted_long_functions_are_found() -> None:
    """Code counts; docstrings, comments and blank lines do not."""
    code = "def f():\n    '''Doc.\n\n    More.\n    '''\n" + "    # why\n\n    x = 1\n" * 60

    assert long_functions({"smarttune.space": code}) == []
    assert long_functions({"smarttune.space": code + "    y = 1\n"})
