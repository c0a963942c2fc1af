"""The benchmark on real data: its sums, and what ends and follows the searches of the peers."""

from __future__ import annotations

import copy
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.space import Choice, Dimension, Fixed, FloatRange, IntRange, SearchSpace

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

DIRECTIONS = st.sampled_from(["min", "max"])
NOTED = st.lists(st.tuples(st.floats(0, 120), st.floats(-5, 5)), max_size=12)
LIMIT = 100.0


@pytest.fixture(scope="module")
def real():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import real

        yield real


@pytest.fixture(scope="module")
def real_peers(real):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import real_peers

        yield real_peers


@pytest.fixture(scope="module")
def case(real):
    def of(metric: str) -> object:
        return real.Case("some", "table", Path("some.csv"), -1, "regression", metric)

    return of


@given(noted=NOTED, direction=DIRECTIONS)
def test_improvements_are_the_best_so_far(real, noted, direction):
    """At each second within the time the last improvement is the best score until then."""
    kept = real.improvements(noted, direction, LIMIT)
    choose = max if direction == "max" else min
    for second in {s for s, _ in noted if s <= LIMIT}:
        expected = choose(score for s, score in noted if s <= second)
        assert [score for s, score in kept if s <= second][-1] == expected
    assert all(second <= LIMIT for second, _ in kept)


@given(noted=NOTED, direction=DIRECTIONS)
def test_areas_agree_with_a_sum_over_the_seconds(real, noted, direction):
    """The area is the mean height of the curve, which is 0 before the first score."""
    scores = real.improvements([(float(int(s)), score) for s, score in noted], direction, LIMIT)
    worst, best = (-5.0, 5.0) if direction == "max" else (5.0, -5.0)
    heights = []
    for second in range(int(LIMIT)):
        so_far = [score for s, score in scores if s <= second]
        heights.append((so_far[-1] - worst) / (best - worst) if so_far else 0.0)
    found = real.area(scores, LIMIT, worst=worst, best=best)
    assert found == pytest.approx(sum(heights) / LIMIT)


def test_where_all_found_the_same_the_earlier_has_the_larger_area(real):
    """Without a difference in scores only the time until the first one counts."""
    early, late = ([(second, 1.0)] for second in (10.0, 60.0))
    assert real.area(early, LIMIT, worst=1.0, best=1.0) == pytest.approx(0.9)
    assert real.area(late, LIMIT, worst=1.0, best=1.0) == pytest.approx(0.4)
    assert real.area([], LIMIT, worst=1.0, best=1.0) == 0.0


def test_a_mark_is_reached_when_it_is_met(real):
    """The second is that of the first score that is as good as the mark, in either direction."""
    rising, falling = [(10.0, 0.5), (20.0, 0.7), (30.0, 0.9)], [(10.0, 9.0), (20.0, 7.0)]
    assert real.second_of(rising, 0.7, "max") == 20.0
    assert real.second_of(rising, 0.95, "max") is None
    assert real.second_of(falling, 7.0, "min") == 20.0
    assert real.second_of(falling, 6.9, "min") is None


def test_epochs_count_only_where_their_trial_left_a_model(real):
    """Diverged trials, scores that are no number and repeats after the trials do not count."""

    def epoch(time: float, score: float | None) -> dict:
        return {"event": "epoch", "time": time, "logs": {"val_auc": score}}

    events = [
        {"event": "reading", "share": 1.0},
        *(epoch(1003.0, 0.6), epoch(1004.0, None)),
        {"event": "trial_finished", "outcome": "stopped"},
        epoch(1005.0, 0.9),
        {"event": "trial_finished", "outcome": "diverged"},
        epoch(1006.0, 0.7),
        {"event": "trial_finished", "outcome": "completed"},
        {"event": "trials_ended"},
        epoch(1007.0, 0.8),
        {"event": "trial_finished", "outcome": "completed"},
    ]
    assert real.epochs_of(events, "val_auc", 1000.0) == [(3.0, 0.6), (6.0, 0.7)]


def results(real) -> list:
    return [
        real.Result("smarttune", [(10.0, 30.0), (20.0, 9.0), (90.0, 5.0)], 6.0, 4, 99.0),
        real.Result("optuna_tpe", [(30.0, 20.0), (80.0, 10.0)], 11.0, 7, 101.0),
        real.Result("kerastuner_hyperband", [(40.0, 12.0)], float("nan"), 3, 102.0),
        real.Result("autokeras", note="not installed"),
    ]


def test_the_share_is_of_the_second_at_which_the_best_peer_got_there(real, case):
    """The best peer is the one with the best last score, and its time ends where it found it."""
    found = results(real)
    assert real.best_peer(found, "min").system == "optuna_tpe"
    assert real.best_peer(found, "max").system == "kerastuner_hyperband"
    lines = real.table(found, case("mean_absolute_error"), LIMIT)
    assert "| smarttune | 4 | 5 | 6 | 0.688 | 20.0 | 0.25 | 99 |" in lines
    assert "| optuna_tpe | 7 | 10 | 11 | 0.360 | 80.0 | 1.00 | 101 |" in lines
    assert any(line.startswith("| kerastuner_hyperband | 3 | 12 | - |") for line in lines)
    assert "| autokeras | not installed | | | | | | |" in lines
    assert "never" in next(line for line in lines if "hyperband" in line)


@pytest.mark.parametrize(
    ("reached", "says"),
    [(16.0, "aim: 0.2, met"), (16.5, "aim: 0.2, missed"), (None, "did not reach")],
)
def test_the_summary_judges_by_a_fifth_of_the_peers_time(real, case, reached, says):
    """The aim is met up to a fifth of the best peer's time, and not reaching it is said."""
    ours = [(10.0, 30.0)] if reached is None else [(10.0, 30.0), (reached, 10.0)]
    found = [real.Result("smarttune", ours), *results(real)[1:]]
    assert says in real.summary(found, case("mean_absolute_error"))


def test_without_a_peer_there_is_nothing_to_compare(real, case):
    """A search that ran alone is told, and no share is invented."""
    alone = results(real)[:1]
    assert real.summary(alone, case("mean_absolute_error")).endswith("nothing to compare.")
    assert "| - | - |" in real.table(alone, case("mean_absolute_error"), LIMIT)[-1]


SPACE = SearchSpace(
    dimensions=(
        Dimension(name="model.num_layers", range=IntRange(low=1, high=3), value=1),
        Dimension(
            name="model.units",
            range=IntRange(low=8, high=64, sampling="power_of_two"),
            value=8,
        ),
        Dimension(
            name="optimizer.learning_rate",
            range=FloatRange(low=1e-4, high=1e-1, sampling="log"),
            value=1e-3,
        ),
        Dimension(name="optimizer.name", range=Choice(values=("adam", "sgd")), value="adam"),
        Dimension(
            name="optimizer.momentum",
            range=FloatRange(low=0.0, high=0.9),
            value=0.5,
            active_when={"optimizer.name": ("sgd",)},
        ),
        Dimension(name="model.activation", range=Fixed(value="relu"), value="relu"),
    )
)


def test_optuna_draws_whole_configurations_of_smarttunes_space(real_peers):
    """What Optuna proposes lies in the space and holds what is active, and all of it is reached."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [real_peers.drawn(study.ask(), SPACE) for _ in range(60)]
    assert all(SPACE.contains(values) for values in drawn)
    assert {values["model.units"] for values in drawn} == {8, 16, 32, 64}
    assert {values["optimizer.name"] for values in drawn} == {"adam", "sgd"}


def test_a_watch_keeps_the_best_model_and_ends_the_search_at_the_limit(real_peers, case):
    """Only improvements within the time are noted, in the target's units, one watch for all."""
    watch = real_peers.Watch(
        case("mean_absolute_error"),
        real_peers.Clock(time.time(), 60.0),
        scale=10.0,
        kept=lambda model: f"weights of {model}",
    )
    assert copy.deepcopy([watch])[0] is watch
    for name, score in (("a", 0.5), ("b", 0.7), ("c", float("nan")), ("d", 0.2)):
        watch._model = name
        watch.on_epoch_end(0, {"val_mean_absolute_error": score})
    assert [score for _, score in watch.scores] == [5.0, 2.0]
    assert watch.best == ("d", "weights of d")
    watch.clock = real_peers.Clock(time.time() - 61.0, 60.0)
    with pytest.raises(real_peers.TimeIsUp):
        watch.on_epoch_end(1, {"val_mean_absolute_error": 0.1})
    with pytest.raises(real_peers.TimeIsUp):
        watch.on_train_batch_end(0)
    assert len(watch.scores) == 2
    assert not issubclass(real_peers.TimeIsUp, Exception)  # which KerasTuner would swallow
