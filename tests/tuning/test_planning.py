"""What a trial shall train follows from the trials before it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from smarttune.trials import TrialRecord
from smarttune.tuning import Budget, TrialPolicy
from smarttune.tuning.planning import plan_of


def trial(trial_id: str = "0001", **values: Any) -> Any:
    """What an oracle proposes."""
    named = {name.replace("__", "/"): value for name, value in values.items()}
    return SimpleNamespace(trial_id=trial_id, hyperparameters=SimpleNamespace(values=named))


def record(trial_id: str = "0000", **options: Any) -> TrialRecord:
    """A finished trial."""
    options.setdefault("values", {"training.batch_size": 64})
    return TrialRecord(trial_id=trial_id, outcome="completed", **options)


def plan(
    proposed: Any, *log: TrialRecord, parent: TrialRecord | None = None, **options: Any
) -> Any:
    """The plan under a policy of 9 epochs."""
    budget = options.pop("budget", Budget())
    return plan_of(
        proposed, parent, log, policy=TrialPolicy(max_epochs=9, seed=4), budget=budget, **options
    )


def test_without_a_word_a_trial_trains_to_the_end() -> None:
    """The policy's epochs hold where neither the oracle nor the caller gives others."""
    assert plan(trial()).epochs == range(9)
    assert plan(trial(), epochs=5).epochs == range(5)
    assert plan(trial(tuner__epochs=3), epochs=5).epochs == range(3)


def test_a_promotion_goes_on_where_its_parent_stopped() -> None:
    """It trains the epochs that are lacking, with the seed and the cut of the parent."""
    parent = record(num_epochs=3, seed=77, num_micro_batches=4)
    proposed = trial(tuner__trial_id="0000", tuner__epochs=9)

    found = plan(proposed, parent, parent=parent)

    assert (found.epochs, found.seed, found.num_micro_batches) == (range(3, 9), 77, 4)


def test_a_promotion_without_its_parents_state_starts_anew_with_the_same_seed() -> None:
    """What is lost is training, not the identity of the lineage."""
    proposed = trial(tuner__trial_id="0000", tuner__epochs=9)

    found = plan(proposed, record(num_epochs=3, seed=77))

    assert (found.parent, found.epochs, found.seed) == (None, range(9), 77)


@pytest.mark.parametrize(("left", "epochs"), [(4, 4), (1, 1), (0, 1), (20, 9)])
def test_a_budget_of_epochs_shortens_the_last_trial(left: int, epochs: int) -> None:
    """A trial gets what is left, and at least one epoch; epochs of a lineage count once."""
    log = (record(num_epochs=6), record("0001", num_epochs=9, initial_epoch=6))

    found = plan(trial("0002"), *log, budget=Budget(epochs=9 + left))

    assert found.epochs == range(epochs)


def test_seeds_differ_between_trials_and_between_searches() -> None:
    """Each trial has a start of its own, the same in every search of the same seed."""
    seeds = {plan(trial(f"{n:04}")).seed for n in range(50)}

    assert len(seeds) == 50
    assert plan(trial("0007")).seed == plan(trial("0007")).seed
    other = plan_of(trial("0007"), None, (), policy=TrialPolicy(seed=5), budget=Budget())
    assert other.seed != plan(trial("0007")).seed
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize(
    ("batch_size", "parts"), [(16, 1), (17, 2), (32, 2), (64, 4), (128, 8), (1000, 64)]
)
def test_batches_are_cut_to_what_fitted_before(batch_size: int, parts: int) -> None:
    """No part is larger than those that went through, and none smaller than needed."""
    log = (
        record(values={"training.batch_size": 64}, num_micro_batches=2),
        record("0001", values={"training.batch_size": 128}, num_micro_batches=8),
        record("0002", values={"training.batch_size": 8}),
    )

    assert plan(trial(**{"training.batch_size": batch_size}), *log).num_micro_batches == parts


def test_where_nothing_ran_out_of_memory_nothing_is_cut() -> None:
    """Large batches are tried whole."""
    assert plan(trial(**{"training.batch_size": 4096}), record()).num_micro_batches == 1


def test_families_have_batches_of_their_own() -> None:
    """A size under the family's own name counts, and what another family needed does not."""
    log = (
        record(values={"model.family": "unet", "training.batch_size": 16}, num_micro_batches=4),
        record(
            "0001",
            values={"model.family": "cnn", "training.batch_size[cnn]": 64},
            num_micro_batches=2,
        ),
    )
    cnn = trial(**{"model.family": "cnn", "training.batch_size[cnn]": 128})
    unet = trial(**{"model.family": "unet", "training.batch_size": 8})
    rnn = trial(**{"model.family": "rnn", "training.batch_size": 512})

    found = [plan(proposed, *log).num_micro_batches for proposed in (cnn, unet, rnn)]

    assert found == [4, 2, 1]
