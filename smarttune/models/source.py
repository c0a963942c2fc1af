"""From whatever a user hands over to the settled settings and their space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from smarttune.errors import OptionError, SettingError, did_you_mean
from smarttune.facts import Facts
from smarttune.space import SearchSpace, Value


class Settings(dict[str, Value]):
    """Recommended values under their canonical names."""

    def __missing__(self, name: str) -> Value:
        raise SettingError(
            "settings",
            received=f"`{name}` has no recommended value",
            expected="a hyperparameter that some rule has settled",
            mend=f"`list(self.settings)` names them all.{did_you_mean(name, self)}",
        )


@dataclass(frozen=True)
class Known:
    """What is known before a model is built.

    Args:
        settings: Recommended values.
        space: Recommended ranges; None where nothing was recommended.
        recommendation: What both came from, where it was a recommendation.
    """

    settings: Settings = field(default_factory=Settings)
    space: SearchSpace | None = None
    recommendation: Any = None


def known(source: Any) -> Known:
    """Settle what `source` recommends.

    Args:
        source: None (nothing is recommended), a `SearchSpace`, a recommendation,
            `Facts`, a mapping of fact names to values, a `Fingerprint`, or data: a
            `Dataset`, or anything that `smarttune.data.read` takes, as `(source,
            target)` or alone.

    Returns:
        Settings and space.

    Raises:
        OptionError: If it is none of these.
        SmartTuneError: What reading, measuring or recommending raises.
    """
    if source is None or isinstance(source, Known):
        return source or Known()
    if isinstance(source, SearchSpace):
        return Known(Settings({d.name: d.value for d in source.dimensions}), source)
    if hasattr(source, "settings") and hasattr(source, "facts"):
        settings = {name: setting.value for name, setting in source.settings.items()}
        return Known(Settings(settings), source.space(), source)
    if _is_facts(source):
        from smarttune.recommendation import recommend

        facts = source if isinstance(source, Facts) else Facts.of(source)
        return known(recommend(facts))
    return known(_from_data(source))


def _is_facts(source: Any) -> bool:
    """Facts, or a plain mapping whose keys look like facts (a dict of arrays does not)."""
    if isinstance(source, Facts):
        return True
    return isinstance(source, Mapping) and all(
        isinstance(k, str) and "." in k and isinstance(v, (bool, int, float, str))
        for k, v in source.items()
    )


def _from_data(source: Any) -> Any:
    if isinstance(source, (bool, int, float)) or callable(source):
        raise OptionError(
            "recommendation",
            received=f"a {type(source).__name__}",
            expected="a recommendation, facts, a search space, or data",
            mend="Pass one of these, such as the result of smarttune.suggest(...).",
        )
    from smarttune.data import Dataset, read
    from smarttune.fingerprint import Fingerprint, measure
    from smarttune.recommendation import recommend

    if isinstance(source, Fingerprint):
        fingerprint = source
    else:
        fingerprint = measure(source if isinstance(source, Dataset) else _read(source, read))
    return recommend(fingerprint.facts(), columns=fingerprint.column_facts())


def _read(source: Any, read: Any) -> Any:
    if isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], (str, bytes)):
        return read(source[0], source[1])
    return read(source)
