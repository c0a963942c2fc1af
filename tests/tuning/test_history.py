"""Facts that the trials so far support, and no others."""

from __future__ import annotations

import math
from typing import Any

import pytest

from smarttune.objectives import Objective
from smarttune.space import Choice, Dimension, Fixed, FloatRange, IntRange, SearchSpace
from smarttune.trials import TrialLog, TrialRecord
from smarttune.tuning.history import history_facts

LOSS = Objective("val_loss", "min")
RATE = "optimizer.learning_rate"

SPACE = SearchSpace(
    dimensions=(
        Dimension(name=RATE, range=FloatRange(low=1e-4, high=1e-2, sampling="log"), value=1e-3),
        Dimension(name="model.units", range=IntRange(low=16, high=64), value=40),
        Dimension(name="model.activation", range=Choice(values=("relu", "silu")), value="relu"),
        Dimension(name="training.batch_size", range=Fixed(value=32), value=32),
    )
)


def trial(number: int, score: float | None = None, **details: Any) -> TrialRecord:
    """A finished trial with a flat curve."""
    values = {RATE: 1e-3, "model.units": 40, "training.batch_size": 32}
    values |= details.pop("values", {})
    base: dict[str, Any] = {
        "outcome": "completed" if score is not None else "failed",
        "best_epoch": 1,
        "num_epochs": 4,
        "max_epochs": 4,
    }
    return TrialRecord(trial_id=str(number), values=values, score=score, **(base | details))


def facts(*records: TrialRecord, goal: Objective = LOSS, **options: Any) -> dict[str, Any]:
    """Plain values of what the records tell."""
    found = history_facts(TrialLog(goal, records), SPACE, **options)
    return {name.removeprefix("history."): fact.value for name, fact in found.items()}


def curve(*pairs: tuple[float, float]) -> tuple[dict[str, float], ...]:
    """A curve of training and validation losses."""
    return tuple({"loss": a, "val_loss": b} for a, b in pairs)


def test_no_trials_tell_nothing() -> None:
    """An empty log knows only that it is empty."""
    assert facts() == {"num_trials": 0}


def test_outcomes_are_counted() -> None:
    """Shares of divergence and want of memory come from all trials, scored or not."""
    found = facts(
        trial(0, 0.5),
        trial(1, outcome="diverged", values={RATE: 5e-3}),
        trial(2, outcome="diverged", values={RATE: 2e-3}),
        trial(3, outcome="out_of_memory"),
    )

    assert found["num_trials"] == 4
    assert found["diverged_fraction"] == 0.5
    assert found["min_diverged_learning_rate"] == 2e-3
    assert found["out_of_memory"] is True


def test_trials_since_the_last_gain_are_counted() -> None:
    """Only a better score resets the count; failures and worse trials add to it."""
    found = facts(trial(0, 0.5), trial(1, 0.4), trial(2), trial(3, 0.45), trial(4, 0.4))

    assert found["trials_since_improvement"] == 3


def test_values_of_the_best_trial_are_facts() -> None:
    """The winner's values and the edges of its searched range are told."""
    found = facts(trial(0, 0.5), trial(1, 0.2, values={RATE: 4e-3, "model.units": 50}))

    assert found["learning_rate"] == 4e-3
    assert found["units"] == 50
    assert found["batch_size"] == 32
    assert found["learning_rate_low"] == pytest.approx(1e-4)
    assert found["learning_rate_high"] == pytest.approx(1e-2)
    assert "weight_decay" not in found


def test_the_best_follows_the_direction() -> None:
    """For an accuracy the highest score is the winner's."""
    goal = Objective("val_accuracy", "max")

    found = facts(trial(0, 0.9, values={RATE: 4e-3}), trial(1, 0.2), goal=goal, num_validation=400)

    assert found["learning_rate"] == 4e-3
    assert found["metric_standard_error"] == pytest.approx(math.sqrt(0.9 * 0.1 / 400))


def test_the_shape_of_the_best_curve_is_told() -> None:
    """Rise, gap and distance from the best epoch are measured where the loss is lowest."""
    losses = curve((1.0, 1.0), (0.5, 0.8), (0.3, 1.0), (0.2, 1.2))

    found = facts(trial(0, 0.8, best_epoch=2, curve=losses))

    assert found["val_rise"] == pytest.approx(1.2 / 0.8 - 1)
    assert found["relative_gap"] == pytest.approx((0.8 - 0.5) / 0.8)
    assert found["best_epoch_fraction"] == 0.5
    assert found["epochs_since_best"] == 2
    assert found["epochs"] == 4


def test_short_trainings_say_nothing_about_long_ones() -> None:
    """Curves of low rungs are left out, even where one of them has the best score."""
    found = facts(
        trial(0, 0.1, max_epochs=2, num_epochs=2, best_epoch=2),
        trial(1, 0.5, max_epochs=9, num_epochs=9, best_epoch=3),
    )

    assert found["epochs"] == 9
    assert found["best_epoch_fraction"] == pytest.approx(3 / 9)


def test_noise_needs_a_long_curve() -> None:
    """The spread of the last fifth is told only where it holds at least three epochs."""
    short = curve(*((1.0, 0.5) for _ in range(6)))
    long = curve(*((1.0, 0.5 + 0.1 * (i % 2)) for i in range(20)))

    assert "late_noise" not in facts(trial(0, 0.5, curve=short, max_epochs=6))
    assert facts(trial(0, 0.5, curve=long, max_epochs=20))["late_noise"] == pytest.approx(0.05)


@pytest.mark.parametrize(("rate", "side"), [(9.9e-3, "high"), (1.02e-4, "low")])
def test_an_optimum_at_the_edge_is_seen(rate: float, side: str) -> None:
    """The hyperparameter whose best values hug an edge is named with that edge."""
    found = facts(*(trial(i, 0.1 * (i + 1), values={RATE: rate}) for i in range(3)))

    assert found["edge_hyperparameter"] == RATE
    assert found["edge_side"] == side
    assert found["edge_distance"] < 0.01


def test_one_lucky_trial_is_no_edge() -> None:
    """An edge must be hugged by the middle of the best trials, not by the best alone."""
    found = facts(trial(0, 0.1, values={RATE: 1e-2}), trial(1, 0.2), trial(2, 0.3), trial(3, 0.4))

    assert found["edge_distance"] > 0.2


def test_names_and_fixed_values_have_no_edge() -> None:
    """A trial that holds only a name and a fixed value yields no edge."""
    record = TrialRecord(
        trial_id="0",
        values={"model.activation": "relu", "training.batch_size": 32},
        outcome="completed",
        score=0.5,
        best_epoch=1,
        num_epochs=1,
        max_epochs=1,
    )

    assert not any(name.startswith("edge") for name in facts(record))


def test_a_log_without_scores_yields_known_facts_only() -> None:
    """Where every trial failed, nothing is said about a best one."""
    found = facts(trial(0), trial(1, outcome="diverged"))

    assert found == {
        "num_trials": 2,
        "diverged_fraction": 0.5,
        "min_diverged_learning_rate": 1e-3,
        "out_of_memory": False,
        "trials_since_improvement": 2,
    }


def recorded(*epochs: tuple[float, float]) -> tuple[dict[str, float], ...]:
    """A falling curve with the norms and the clipped share of each epoch."""
    return tuple(
        {"loss": 1 / n, "val_loss": 1 / n, "gradient_norm_p90": norm, "clipped_fraction": share}
        for n, (norm, share) in enumerate(epochs, start=1)
    )


def test_gradients_of_the_best_trial_are_summed_up() -> None:
    """The middle norm, the mean clipped share and the speed come from the best trial's record."""
    best = trial(
        0, 0.1, curve=recorded((2.0, 0.9), (4.0, 0.6), (3.0, 0.3)), samples_per_second=50.0
    )

    found = facts(best, trial(1, 0.5, curve=recorded((9.0, 0.0)), samples_per_second=9.0))

    assert found["gradient_norm"] == 3.0
    assert found["clipped_fraction"] == pytest.approx(0.6)
    assert found["samples_per_second"] == 50.0


def test_without_clipping_there_is_no_clipped_share() -> None:
    """A share of nought would claim that a threshold was tried."""
    found = facts(trial(0, 0.1, curve=recorded((2.0, 0.0), (4.0, 0.0))))

    assert "clipped_fraction" not in found
    assert "samples_per_second" not in found
    assert found["gradient_norm"] == 3.0
