"""What `import smarttune` offers."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import tomllib
from pathlib import Path

import pytest

import smarttune

PACKAGE = Path(smarttune.__file__).parent
TREE = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
LAZY = [n for n in smarttune.__all__ if n != "__version__"]


def declared_for_types() -> dict[str, str]:
    """Name to module of every import under TYPE_CHECKING."""
    block = next(
        n for n in TREE.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"
    )
    return {
        alias.name: (node.module or "").removeprefix("smarttune.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_the_public_names_are_sorted_and_few() -> None:
    """Names stand once, in order, and are at most 25."""
    assert smarttune.__all__ == sorted(set(smarttune.__all__))
    assert len(smarttune.__all__) <= 25
    assert dir(smarttune) == sorted(smarttune.__all__)


def test_every_name_has_a_home_and_a_type() -> None:
    """`__all__`, the lazy table, and what type checkers see agree name by name."""
    assert set(LAZY) == set(smarttune._HOMES)
    assert declared_for_types() == smarttune._HOMES


@pytest.mark.parametrize("name", LAZY)
def test_every_name_resolves(name: str) -> None:
    """Each public name is there, documented, and the same object as in its home."""
    found = getattr(smarttune, name)
    home = importlib.import_module(f"smarttune.{smarttune._HOMES[name]}")

    assert found is getattr(home, name)
    assert inspect.getdoc(found)
    assert callable(found)


def test_no_module_takes_the_name_of_a_function() -> None:
    """A module of a public name would replace the function once it is imported."""
    modules = {p.stem for p in PACKAGE.glob("*.py")} | {
        p.name for p in PACKAGE.iterdir() if p.is_dir()
    }

    assert modules & set(smarttune.__all__) == set()


@pytest.mark.parametrize("name", ["suggest", "search", "recommend", "resume", "narrow"])
def test_functions_stay_functions(name: str) -> None:
    """After every module of the package was imported, the verbs are still functions."""
    for file in PACKAGE.glob("*.py"):
        if file.stem not in ("__init__", "__main__"):
            importlib.import_module(f"smarttune.{file.stem}")

    assert inspect.isfunction(getattr(smarttune, name))


def test_an_absent_name_is_an_attribute_error() -> None:
    """`hasattr` works as anywhere."""
    assert not hasattr(smarttune, "tune")
    with pytest.raises(AttributeError, match="tune"):
        smarttune.tune  # noqa: B018


def test_the_package_is_typed() -> None:
    """Type checkers look into the package."""
    assert (PACKAGE / "py.typed").exists()


def test_versions_agree(root: Path) -> None:
    """The module, pyproject.toml and the installed package have one version."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert smarttune.__version__ == project["version"]
    assert smarttune.__version__ == importlib.metadata.version("smarttune")
