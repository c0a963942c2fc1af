"""Scripts that override the search space of an existing hypermodel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .scripts import both, build, quiet, rows

pytestmark = [pytest.mark.slow, quiet]


def searched(kt: Any, folder: Path, hp: Any, **options: Any) -> Any:
    """A search of two trials in which `hp` overrides what `build` declares."""
    x, y = rows()
    tuner = kt.RandomSearch(
        build, "val_mae", max_trials=2, hyperparameters=hp, directory=str(folder), **options
    )
    tuner.search(x, y, epochs=1, validation_data=(x, y), verbose=0)
    return tuner


@both
def test_a_few_ranges_are_changed(kt: Any, tmp_path: Path) -> None:
    """A given range holds, and the others are searched as declared."""
    hp = kt.HyperParameters()
    hp.Choice("lr", [0.01, 0.02])

    tuner = searched(kt, tmp_path, hp)

    trials = [t.hyperparameters.values for t in tuner.oracle.trials.values()]
    assert {values["lr"] for values in trials} <= {0.01, 0.02}
    assert {"units", "dropout", "loss"} <= {h.name for h in tuner.oracle.get_space().space}


@both
def test_only_a_few_are_tuned(kt: Any, tmp_path: Path) -> None:
    """With `tune_new_entries=False` everything else keeps its default."""
    hp = kt.HyperParameters()
    hp.Int("units", 2, 4)

    tuner = searched(kt, tmp_path, hp, tune_new_entries=False)

    assert [h.name for h in tuner.oracle.get_space().space] == ["units"]
    kept = {t.hyperparameters.get("lr") for t in tuner.oracle.trials.values()}
    assert kept == {1e-3}


@both
def test_a_value_is_fixed(kt: Any, tmp_path: Path) -> None:
    """`Fixed` takes a hyperparameter out of the search."""
    hp = kt.HyperParameters()
    hp.Fixed("lr", value=0.03)

    tuner = searched(kt, tmp_path, hp)

    assert {t.hyperparameters.get("lr") for t in tuner.oracle.trials.values()} == {0.03}


@both
def test_new_entries_are_refused(kt: Any, tmp_path: Path) -> None:
    """With `allow_new_entries=False` an undeclared hyperparameter is an error at once."""
    hp = kt.HyperParameters()
    hp.Int("units", 2, 4)

    with pytest.raises(RuntimeError, match="allow_new_entries"):
        searched(kt, tmp_path, hp, allow_new_entries=False)
