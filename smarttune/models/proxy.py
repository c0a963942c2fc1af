"""Stands for KerasTuner's `HyperParameters` inside `build` and narrows what is declared.

A subclass of `HyperParameters` would be lost at KerasTuner's first copy, and writing
`hp.values` inside `build` keeps its constructor from ever returning; a stand-in that
changes arguments on their way through does neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from smarttune.models.aliases import canonical_name
from smarttune.models.narrowing import Declaration, Method, narrow_declaration
from smarttune.space import SearchSpace


def _qualified(hp: Any, name: str) -> str:
    """The name as KerasTuner keeps it, with the scopes that are open."""
    return str(hp._get_name(name))  # noqa: SLF001 -- it has no public way to ask


@dataclass
class NarrowingLog:
    """What narrowing did, over all builds.

    Args:
        narrowed: Declared name to what became of its range, in words.
        warnings: One sentence each, for ranges that could not be narrowed.
    """

    narrowed: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        """Add a warning once."""
        if text not in self.warnings:
            self.warnings.append(text)


class NarrowingHyperParameters:
    """Passes everything on to a real `HyperParameters`, with narrower ranges.

    Args:
        hp: The real one.
        space: Recommended ranges.
        names: The user's table of names.
        log: Where it is written down what was narrowed.
    """

    def __init__(
        self,
        hp: Any,
        *,
        space: SearchSpace,
        names: Mapping[str, str | None],
        log: NarrowingLog,
    ) -> None:
        self._hp = hp
        self._space = space
        self._names = names
        self._log = log
        self._allowed: dict[str, Declaration] = {}
        self._closed = 0

    def Int(  # noqa: N802, PLR0913, PLR0917 -- KerasTuner's signature
        self,
        name: str,
        min_value: int,
        max_value: int,
        step: int | None = None,
        sampling: str = "linear",
        default: int | None = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """`hp.Int`, narrowed."""
        options = {
            "min_value": min_value,
            "max_value": max_value,
            "step": step,
            "sampling": sampling,
            "default": default,
        }
        return self._declare("Int", name, options, parent=(parent_name, parent_values))

    def Float(  # noqa: N802, PLR0913, PLR0917 -- KerasTuner's signature
        self,
        name: str,
        min_value: float,
        max_value: float,
        step: float | None = None,
        sampling: str = "linear",
        default: float | None = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """`hp.Float`, narrowed."""
        options = {
            "min_value": min_value,
            "max_value": max_value,
            "step": step,
            "sampling": sampling,
            "default": default,
        }
        return self._declare("Float", name, options, parent=(parent_name, parent_values))

    def Choice(  # noqa: N802, PLR0913, PLR0917 -- KerasTuner's signature
        self,
        name: str,
        values: Sequence[Any],
        ordered: bool | None = None,
        default: Any = None,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """`hp.Choice`, narrowed."""
        options = {"values": list(values), "ordered": ordered, "default": default}
        return self._declare("Choice", name, options, parent=(parent_name, parent_values))

    def Boolean(  # noqa: N802 -- KerasTuner's signature
        self,
        name: str,
        default: bool = False,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """`hp.Boolean`, narrowed."""
        return self._declare(
            "Boolean", name, {"default": default}, parent=(parent_name, parent_values)
        )

    def Fixed(  # noqa: N802 -- KerasTuner's signature
        self,
        name: str,
        value: Any,
        parent_name: str | None = None,
        parent_values: Any = None,
    ) -> Any:
        """`hp.Fixed`: never changed, but a value outside the recommendation is noted."""
        return self._declare("Fixed", name, {"value": value}, parent=(parent_name, parent_values))

    @contextmanager
    def conditional_scope(self, parent_name: str, parent_values: Any) -> Iterator[None]:
        """`hp.conditional_scope`, closed where narrowing left the parent none of the values.

        KerasTuner tries out each scope by writing its first value into the parent, so
        values that were narrowed away must not reach it.
        """
        allowed = self._allowed.get(_qualified(self._hp, parent_name))
        values = (
            list(parent_values)
            if isinstance(parent_values, (list, tuple, set))
            else [parent_values]
        )
        possible = values if allowed is None else [v for v in values if allowed.allows(v)]
        closes = not possible
        untried = len(self._hp.inactive_scopes)
        with self._hp.conditional_scope(parent_name, values if closes else possible):
            if self._closed or closes:
                # Never to be tried out: it cannot be reached within the narrowed ranges.
                del self._hp.inactive_scopes[untried:]
            self._closed += closes
            try:
                yield
            finally:
                self._closed -= closes

    def copy(self) -> NarrowingHyperParameters:
        """A stand-in for a copy of the real `HyperParameters`."""
        twin = NarrowingHyperParameters(
            self._hp.copy(), space=self._space, names=self._names, log=self._log
        )
        twin._allowed = dict(self._allowed)
        return twin

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_hp":
            raise AttributeError(name)
        return getattr(self._hp, name)

    def __getitem__(self, name: str) -> Any:
        return self._hp[name]

    def __contains__(self, name: object) -> bool:
        return name in self._hp

    def _declare(
        self, method: Method, name: str, options: dict[str, Any], *, parent: tuple[str | None, Any]
    ) -> Any:
        if parent[0]:
            with self.conditional_scope(parent[0], parent[1]):
                return self._declare(method, name, options, parent=(None, None))
        qualified = _qualified(self._hp, name)
        declared = Declaration(method, options)
        narrowed = self._narrow(qualified, declared)
        if narrowed is None:
            return getattr(self._hp, method)(name, **options)
        self._allowed[qualified] = narrowed
        value = getattr(self._hp, narrowed.method)(name, **narrowed.options)
        if value is not None and not narrowed.allows(value):
            self._log.warn(
                f"`{qualified}` is {value!r}, outside {narrowed.text()}: a wider range was "
                "declared for it before, for example in the tuner's `hyperparameters`."
            )
        return value

    def _narrow(self, qualified: str, declared: Declaration) -> Declaration | None:
        canonical = canonical_name(qualified, self._names)
        if canonical is None or canonical not in self._space.by_name:
            return None
        dimension = self._space[canonical]
        narrowed = narrow_declaration(declared, dimension.range, dimension.value)
        if narrowed is None:
            self._log.warn(
                f"`{qualified}` ({declared.text()}) and the recommended {canonical} "
                f"({dimension.range}) have no value in common; your own range is kept."
            )
        elif narrowed != declared and narrowed.text() != declared.text():
            self._log.narrowed[qualified] = (
                f"{declared.text()} narrowed to {narrowed.text()} ({canonical})"
            )
        return narrowed
