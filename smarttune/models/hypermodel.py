"""A `keras_tuner.HyperModel` that knows the recommendation, and a wrapper for existing ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras_tuner
import numpy as np

from smarttune.errors import OptionError
from smarttune.models.aliases import canonical_name, checked_names
from smarttune.models.proxy import NarrowingHyperParameters, NarrowingLog
from smarttune.models.source import Known, Settings, known
from smarttune.space import SearchSpace


class _Narrower:
    """Gives each `hp` its narrowing stand-in and keeps the log of what it did."""

    def __init__(self, source: Any, names: Mapping[str, str | None] | None) -> None:
        self.known: Known = known(source)
        self.names = checked_names(names)
        self.log = NarrowingLog()

    def stand_in(self, hp: Any) -> Any:
        if self.known.space is None or isinstance(hp, NarrowingHyperParameters):
            return hp
        return NarrowingHyperParameters(hp, space=self.known.space, names=self.names, log=self.log)

    def batch_size(self, hp: Any) -> int | None:
        """The declared batch size, whatever the user calls it."""
        for name, value in hp.values.items():
            if canonical_name(name, self.names) == "training.batch_size":
                return int(value)
        return None


def _with_stand_in(
    method: Callable[..., Any], narrower: _Narrower, hp: Any, *args: Any, **kwargs: Any
) -> Any:
    return method(narrower.stand_in(hp), *args, **kwargs)


class HyperModel(keras_tuner.HyperModel):  # type: ignore[misc]
    """A hypermodel to subclass: write `build(hp)`, and the rules narrow what it declares.

    Inside `build` the recommended values are in `self.settings`, and each `hp.Int`,
    `hp.Float`, `hp.Choice` or `hp.Boolean` whose name means a canonical hyperparameter
    (see `smarttune.models.aliases`) gets the meet of its own and the recommended range,
    with the recommended value as default. It works with every KerasTuner tuner.

    Args:
        source: A recommendation, `Facts`, a search space or data (see
            `smarttune.models.source.known`); None narrows nothing.
        names: Your names to canonical ones, `{"rate": "optimizer.learning_rate"}`;
            None as a value leaves that name alone.
        **options: `name` and `tunable`, as KerasTuner.

    Raises:
        SettingError: If `names` mentions no hyperparameter.
    """

    def __init__(
        self,
        source: Any = None,
        *,
        names: Mapping[str, str | None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._narrower = _Narrower(source, names)
        for method in ("build", "declare_hyperparameters", "fit"):
            setattr(self, method, partial(_with_stand_in, getattr(self, method), self._narrower))

    @property
    def settings(self) -> Settings:
        """Recommended values under their canonical names."""
        return self._narrower.known.settings

    @property
    def space(self) -> SearchSpace | None:
        """The recommended ranges; None where nothing was recommended."""
        return self._narrower.known.space

    @property
    def narrowed(self) -> dict[str, str]:
        """Declared name to what became of its range; filled as `build` runs."""
        return self._narrower.log.narrowed

    @property
    def warnings(self) -> tuple[str, ...]:
        """Ranges that could not be narrowed, and why; filled as `build` runs."""
        return tuple(self._narrower.log.warnings)

    def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Train the model, with the batch size that `build` declared, if it did.

        A batch size passed to `search` wins, and data that come in batches keep theirs.
        """
        batch_size = self._narrower.batch_size(hp)
        given = "batch_size" in kwargs or len(args) > 2  # noqa: PLR2004 -- fit(x, y, batch_size)
        x = args[0] if args else kwargs.get("x")
        if batch_size is not None and not given and _in_memory(x):
            kwargs["batch_size"] = batch_size
        return model.fit(*args, **kwargs)


def _in_memory(x: Any) -> bool:
    """Whether `x` holds whole arrays, which `fit` cuts into batches itself."""
    if isinstance(x, Mapping):
        return all(_in_memory(v) for v in x.values())
    if isinstance(x, (list, tuple)):
        return bool(x) and all(_in_memory(v) for v in x)
    return isinstance(x, np.ndarray) or hasattr(x, "__array__")


class NarrowedHyperModel(keras_tuner.HyperModel):  # type: ignore[misc]
    """Another hypermodel, unchanged, that declares narrower ranges. Made by `narrow`."""

    def __init__(self, inner: keras_tuner.HyperModel, narrower: _Narrower) -> None:
        super().__init__(name=inner.name, tunable=inner.tunable)
        self._inner = inner
        self._narrower = narrower

    @property
    def narrowed(self) -> dict[str, str]:
        """Declared name to what became of its range; filled as `build` runs."""
        return self._narrower.log.narrowed

    @property
    def warnings(self) -> tuple[str, ...]:
        """Ranges that could not be narrowed, and why; filled as `build` runs."""
        return tuple(self._narrower.log.warnings)

    def build(self, hp: Any, *args: Any, **kwargs: Any) -> Any:
        """Build the inner model with the stand-in."""
        return self._inner.build(self._narrower.stand_in(hp), *args, **kwargs)

    def declare_hyperparameters(self, hp: Any) -> None:
        """Declare what the inner model declares, narrowed."""
        self._inner.declare_hyperparameters(self._narrower.stand_in(hp))

    def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Train as the inner model trains."""
        return self._inner.fit(self._narrower.stand_in(hp), model, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._inner, name)


def narrow(
    hypermodel: Any, source: Any, names: Mapping[str, str | None] | None = None
) -> NarrowedHyperModel:
    """Narrow an existing KerasTuner hypermodel by the rules, without changing it.

    Args:
        hypermodel: A `keras_tuner.HyperModel`, or a function `build(hp)`.
        source: A recommendation, `Facts`, a search space or data.
        names: Your names to canonical ones; None as a value leaves that name alone.

    Returns:
        A hypermodel for any KerasTuner tuner. Its `narrowed` and `warnings` say what
        was done, once the tuner has built it.

    Raises:
        OptionError: If `hypermodel` is neither, or `source` is nothing known.
        SettingError: If `names` mentions no hyperparameter.
    """
    if not isinstance(hypermodel, keras_tuner.HyperModel):
        if not callable(hypermodel) or isinstance(hypermodel, type):
            raise OptionError(
                "hypermodel",
                received=f"a {type(hypermodel).__name__}",
                expected="a keras_tuner.HyperModel or a function build(hp) that returns a model",
                mend="Pass an instance, not a class, or the build function itself.",
            )
        hypermodel = _FromFunction(hypermodel)
    return NarrowedHyperModel(hypermodel, _Narrower(source, names))


class _FromFunction(keras_tuner.HyperModel):  # type: ignore[misc]
    """A build function as a hypermodel."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__(name=getattr(function, "__name__", None))
        self._function = function

    def build(self, hp: Any) -> Any:
        return self._function(hp)
