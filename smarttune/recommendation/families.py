"""Settings of several kinds of network in one recommendation.

Where `model.family` itself is searched, each family has settings of its own: a recurrent
network has cells, a convolutional one kernels, and both may have a width in other ranges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from smarttune.recommendation.settings import Setting
from smarttune.space import Choice

FAMILY = "model.family"
# Groups of hyperparameters that may depend on the family; the rest holds for the whole search.
_OWN = ("model.", "optimizer.", "training.batch_size", "training.label_smoothing")


def searched_families(settings: Mapping[str, Setting]) -> tuple[str, ...]:
    """The families that trials may choose, the recommended one first; () if there is one."""
    setting = settings.get(FAMILY)
    if setting is None or not isinstance(setting.range, Choice) or len(setting.range.values) < 2:
        return ()
    return tuple(dict.fromkeys([str(setting.value), *map(str, setting.range.values)]))


def merged(by_family: Mapping[str, Mapping[str, Setting]]) -> dict[str, Setting]:
    """Join what was settled for each family.

    A setting that is the same for all families keeps its name and its conditions. Of one that
    differs, the recommended family (or the first that has it) keeps the plain name, with those
    that agree with it; for each other family it is called `NAME[FAMILY]`. Both are active only
    when such a family is chosen.

    Args:
        by_family: Family to its settings, the recommended family first.
    """
    first = next(iter(by_family.values()))
    joined = {FAMILY: first[FAMILY]}
    names: Iterable[str] = dict.fromkeys(n for settings in by_family.values() for n in settings)
    called = {name: _names(name, by_family) for name in names}
    for name, names_by_family in called.items():
        if name == FAMILY:
            continue
        for family, new in names_by_family.items():
            if new in joined:
                continue
            users = tuple(f for f, other in names_by_family.items() if other == new)
            parents = {
                called[parent].get(family, parent) if parent in called else parent: values
                for parent, values in by_family[family][name].active_when.items()
            }
            if users != tuple(by_family) and FAMILY not in parents and name.startswith(_OWN):
                parents = {FAMILY: users, **parents}
            joined[new] = by_family[family][name].model_copy(update={"active_when": parents})
    return joined


def _names(name: str, by_family: Mapping[str, Mapping[str, Setting]]) -> dict[str, str]:
    """Family to what a hyperparameter is called for it."""
    users = [family for family, settings in by_family.items() if name in settings]
    plain = by_family[users[0]][name]
    if not name.startswith(_OWN):
        return {users[0]: name}
    return {f: name if _same(by_family[f][name], plain) else f"{name}[{f}]" for f in users}


def _same(a: Setting, b: Setting) -> bool:
    return (a.value, a.range, a.prior, a.active_when) == (b.value, b.range, b.prior, b.active_when)
