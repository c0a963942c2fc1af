"""Portfolios: the greedy choice, nearness, fitting, files, and what a search tries of them."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from smarttune.errors import DataError
from smarttune.facts import Facts
from smarttune.portfolio import (
    LEAST_WEIGHT,
    Candidate,
    Portfolio,
    Task,
    fitting,
    greedy,
    nearness,
    portfolios_for,
    read_portfolio,
    starts,
    write_portfolio,
)
from smarttune.recommendation import recommend
from smarttune.rulebook import Rulebook
from smarttune.space import Choice, Dimension, Fixed, FloatRange, IntRange, SearchSpace
from tests.strategies import spaces, values

UNKNOWN = float("inf")
REGRETS = st.one_of(st.floats(0, 3).map(lambda r: round(r, 2)), st.just(UNKNOWN))


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    """Regrets of a few configurations on a few tasks, some unknown."""
    width = draw(st.integers(1, 4))
    rows = st.lists(REGRETS, min_size=width, max_size=width)
    return np.array(draw(st.lists(rows, min_size=1, max_size=6)))


def filled(table: np.ndarray) -> np.ndarray:
    """The table with the worst known regret where nothing is known."""
    return np.where(np.isfinite(table), table, table[np.isfinite(table)].max())


def lost(table: np.ndarray, rows: Any) -> float:
    """The mean over tasks of the least regret of some rows."""
    return float(filled(table)[list(rows)].min(axis=0).mean())


@given(tables())
def test_the_first_choice_is_the_best_single_one(table: np.ndarray) -> None:
    """No other configuration alone has a lower mean regret than the first one chosen."""
    assume(np.isfinite(table).any())
    (first,) = greedy(table, 1)

    assert lost(table, [first]) == pytest.approx(min(lost(table, [i]) for i in range(len(table))))


@given(tables(), st.integers(1, 6))
def test_each_further_choice_helps_most(table: np.ndarray, num: int) -> None:
    """Each chosen row lowers the loss strictly, and at least as much as any other would."""
    assume(np.isfinite(table).any())
    chosen = greedy(table, num)

    assert len(chosen) == len(set(chosen)) <= num
    for k in range(1, len(chosen)):
        before, now = lost(table, chosen[:k]), lost(table, chosen[: k + 1])
        assert now < before
        others = (lost(table, [*chosen[:k], i]) for i in range(len(table)))
        assert now <= min(others) + 1e-9


@given(tables())
def test_it_ends_when_nothing_helps(table: np.ndarray) -> None:
    """Where fewer are chosen than asked for, all rows together lose no less."""
    assume(np.isfinite(table).any())
    chosen = greedy(table, len(table))

    assert lost(table, chosen) == pytest.approx(lost(table, range(len(table))))


@given(tables(), st.integers(1, 4))
def test_few_are_the_beginning_of_many(table: np.ndarray, num: int) -> None:
    """A shorter portfolio is the beginning of a longer one."""
    assert greedy(table, len(table))[:num] == greedy(table, num)


def test_nothing_known_chooses_nothing() -> None:
    """Without a single known regret there is no order to choose by."""
    assert greedy(np.full((3, 2), UNKNOWN), 2) == []
    assert greedy(np.empty((0, 2)), 2) == []


def test_an_unknown_regret_counts_as_the_worst_known() -> None:
    """A candidate that was tried on one task does not pass for one that is good on both."""
    assert greedy(np.array([[0.0, UNKNOWN], [0.3, 0.3], [1.0, 1.0]]), 3) == [1, 0]


def test_of_equal_help_the_better_in_all_is_chosen() -> None:
    """Rows that lower the loss alike are told apart by their own mean, then by their place."""
    table = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 0.9], [1.0, 0.0, 0.2], [1.0, 0.0, 0.2]])
    weights = np.array([1.0, 0.5, 0.0])

    assert greedy(table, 2, weights) == [0, 1]  # a task without weight decides nothing
    assert greedy(np.array([[0.0, 0.6], [0.9, 0.5], [0.4, 0.5]]), 2) == [0, 2]
    assert greedy(np.array([[0.0, 9.0, 9.0], [5.0, 0.0, 1.0], [4.0, 0.0, 1.0]]), 3) == [2, 0]
    assert greedy(np.array([[1.0, 1.0], [1.0, 1.0]]), 2) == [0]


def portfolio(table: np.ndarray, facts: list[dict[str, Any]] | None = None, **more: Any) -> Any:
    """A portfolio of learning rates with these regrets."""
    rows = [[None if r == UNKNOWN else float(r) for r in row] for row in table]
    known = facts or [{} for _ in table[0]]
    return Portfolio(
        **{
            "name": "made",
            "summary": "Made by hand.",
            "about": {},
            "tasks": tuple(Task(name=f"task {i}", facts=f) for i, f in enumerate(known)),
            "candidates": tuple(
                Candidate(values={"optimizer.learning_rate": 10.0**-i}, regrets=tuple(r))
                for i, r in enumerate(rows)
            ),
            **more,
        }
    )


@given(tables(), st.randoms(use_true_random=False))
def test_order_of_tasks_and_candidates_is_of_no_account(
    table: np.ndarray, rng: random.Random
) -> None:
    """Whatever the order of tasks and candidates in the file, the same is tried first."""
    sizes = [{"data.num_samples": 10 ** (i + 1)} for i in range(table.shape[1])]
    whole = portfolio(table, sizes)
    columns = rng.sample(range(table.shape[1]), table.shape[1])
    shuffled = whole.model_copy(
        update={
            "tasks": tuple(whole.tasks[j] for j in columns),
            "candidates": tuple(
                c.model_copy(update={"regrets": tuple(c.regrets[j] for j in columns)})
                for c in rng.sample(whole.candidates, len(whole.candidates))
            ),
        }
    )
    for facts in (None, Facts.of({"data.num_samples": 200})):
        assert shuffled.ordered(facts, 4) == whole.ordered(facts, 4)


def tasks(*facts: dict[str, Any]) -> list[Task]:
    """Tasks with these facts."""
    return [Task(name=str(i), facts=f) for i, f in enumerate(facts)]


def test_nearer_tasks_count_for_more() -> None:
    """The nearest counts 1, one ten times as large about a third, and none next to nothing."""
    sizes = [{"data.num_samples": n} for n in (1000, 10_000, 10**9)]
    near, far, farthest = nearness(Facts.of({"data.num_samples": 1000}), tasks(*sizes))

    assert near == 1
    assert far == pytest.approx(np.exp(-1))
    assert farthest == LEAST_WEIGHT


@given(st.lists(st.integers(1, 10**7), min_size=1, max_size=5), st.integers(1, 10**7))
def test_nearness_falls_with_the_distance(sizes: list[int], here: int) -> None:
    """Weights lie between the least and 1, the nearest has 1, and none nearer has less."""
    facts = [{"data.num_samples": n} for n in sizes]
    weights = nearness(Facts.of({"data.num_samples": here}), tasks(*facts))

    assert max(weights) == 1
    assert min(weights) >= LEAST_WEIGHT
    for (a, w), (b, v) in itertools.permutations(zip(sizes, weights, strict=True), 2):
        if abs(np.log(a / here)) < abs(np.log(b / here)):
            assert w >= v


def test_other_predictions_and_unknown_facts_are_strange() -> None:
    """A task of another problem, or with a fact that the data lack, counts for less."""
    here = Facts.of({"data.num_samples": 500, "model.problem": "regression"})
    alike = {"data.num_samples": 500, "model.problem": "regression"}
    other = {"data.num_samples": 500, "model.problem": "multiclass"}
    weights = nearness(here, tasks(alike, other, alike | {"data.num_classes": 2}))

    assert weights[0] == 1
    assert weights[1] < 1
    assert weights[2] < 1
    assert nearness(here, tasks({}, {})).tolist() == [1, 1]


def small_space() -> SearchSpace:
    """Two families with widths of their own, a rate and a choice."""
    return SearchSpace(
        dimensions=(
            Dimension(name="model.family", range=Choice(values=("mlp", "resnet_mlp")), value="mlp"),
            Dimension(
                name="model.units",
                range=IntRange(low=16, high=64, sampling="power_of_two"),
                value=32,
                active_when={"model.family": ("mlp",)},
            ),
            Dimension(
                name="model.units[resnet_mlp]",
                range=IntRange(low=128, high=256, sampling="power_of_two"),
                value=128,
                active_when={"model.family": ("resnet_mlp",)},
            ),
            Dimension(
                name="optimizer.learning_rate",
                range=FloatRange(low=1e-4, high=1e-2, sampling="log"),
                value=1e-3,
            ),
            Dimension(name="optimizer.name", range=Fixed(value="adamw"), value="adamw"),
        )
    )


def test_numbers_move_and_choices_must_be_open() -> None:
    """Numbers beyond a range move to its edge, foreign names refuse, unsaid is as recommended."""
    space = small_space()
    moved = fitting({"model.units": 1000, "optimizer.learning_rate": 0.5, "x.y": 1}, space)

    assert moved == {
        "model.family": "mlp",
        "model.units": 64,
        "optimizer.learning_rate": 1e-2,
        "optimizer.name": "adamw",
    }
    assert fitting({"optimizer.name": "sgd"}, space) is None
    assert fitting({"model.family": "cnn"}, space) is None
    assert fitting({}, space) == space.default


def test_a_dimension_of_one_family_goes_by_its_plain_name() -> None:
    """A width found for one kind of network lands in that network's own range."""
    moved = fitting({"model.family": "resnet_mlp", "model.units": 250}, small_space())

    assert moved is not None
    assert moved["model.units[resnet_mlp]"] == 256
    assert "model.units" not in moved


def test_what_is_not_used_need_not_fit() -> None:
    """A value for which the configuration has no use does not keep it out."""
    dimensions = (
        Dimension(name="model.family", range=Choice(values=("mlp", "cnn")), value="mlp"),
        Dimension(
            name="model.pooling_head",
            range=Fixed(value="flatten_dense"),
            value="flatten_dense",
            active_when={"model.family": ("cnn",)},
        ),
    )
    space = SearchSpace(dimensions=dimensions)
    strange = {"model.pooling_head": "global_average"}

    assert fitting({"model.family": "mlp", **strange}, space) == {"model.family": "mlp"}
    assert fitting({"model.family": "cnn", **strange}, space) is None


@given(spaces(), st.dictionaries(st.sampled_from([f"model.h{i}" for i in range(5)]), values))
def test_what_fits_is_a_configuration_of_the_space(space: SearchSpace, wanted: Any) -> None:
    """Whatever is wanted, what comes back is complete, in range, and fits as it is."""
    moved = fitting(wanted, space)

    assert moved is None or space.contains(moved)
    assert moved is None or fitting(moved, space) == moved
    assert fitting(space.default, space) == space.default


def known(book: Rulebook, **pinned: Any) -> Any:
    """The recommendation for a small table."""
    facts = {"data.task": "tabular", "model.problem": "binary", "data.num_samples": 2000}
    names = {f"optimizer.{n}": v for n, v in pinned.items()}
    return recommend(Facts.of(facts | {"data.num_features": 9}), rules=book, pinned=names)


def test_starts_are_new_and_distinct(book: Rulebook) -> None:
    """The recommendation itself and repeats are left out, and portfolios take turns."""
    table = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    rates = portfolio(table)  # 1, 0.1 and 0.01, of which the edge 0.01 is all that fits
    default = Candidate(values={"optimizer.learning_rate": 1e-3}, regrets=(0.0,))
    units = [
        Candidate(values={"model.units": u}, regrets=(0.1 * u, 8.0 / u)) for u in (16.0, 32, 64)
    ]
    widths = portfolio(
        np.zeros((1, 2)), name="widths", candidates=(*units,), tasks=tuple(tasks({}, {}))
    )
    only_default = portfolio(np.zeros((1, 1)), candidates=(default,))
    space, said = small_space(), known(book)

    assert starts([only_default], said, space, 3) == []
    both = starts([rates, widths], said, space, 3)
    assert [s.portfolio for s in both] == ["made", "widths", "widths"]
    assert both[0].values["optimizer.learning_rate"] == 1e-2
    assert [s.values["model.units"] for s in both] == [32, 16, 64]
    assert isinstance(both[1].values["model.units"], int)  # the file said 16.0
    assert starts([rates, widths], said, space, 1) == both[:1]
    assert starts([rates, widths], said, space, 0) == []


def test_only_those_that_suit_are_used(book: Rulebook) -> None:
    """The portfolio of tables under SGD serves searches with SGD on tables and no others."""

    def names(recommendation: Any) -> list[str]:
        return [p.name for p in portfolios_for("auto", recommendation)]

    sgd = known(book, name="sgd", schedule="cosine")
    assert "lcbench-tables" in names(sgd)
    assert "lcbench-tables" not in names(known(book, name="adamw"))
    texts = Facts.of({"data.task": "text", "model.problem": "binary", "data.num_samples": 2000})
    assert names(recommend(texts, rules=book)) == []
    assert portfolios_for("none", sgd) == []


def test_a_file_is_used_whatever_it_requires(book: Rulebook, tmp_path: Path) -> None:
    """A portfolio that is asked for by its path is read alone, even if it does not suit."""
    made = portfolio(np.zeros((1, 1)), requires={"data.task": "image"})
    write_portfolio(tmp_path / "p.yaml", made)

    assert not made.suits(known(book))
    assert portfolios_for(str(tmp_path / "p.yaml"), known(book)) == [made]


@given(tables(), st.dictionaries(st.text("abc.", min_size=1), values, max_size=3))
def test_files_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, table: np.ndarray, more: Any
) -> None:
    """What is written is read again to the last digit, flags, names and small numbers included."""
    made = portfolio(table, requires={"data.time_ordered": True, "x": 1e-7, "y": 3, **more})
    path = tmp_path_factory.mktemp("written") / "p.yaml"
    write_portfolio(path, made)

    again = read_portfolio(path)
    assert again == made
    assert {n: type(v) for n, v in again.requires.items()} == {
        n: type(v) for n, v in made.requires.items()
    }


GOOD = """schema: smarttune/portfolio@1
name: a
summary: b
about: {}
tasks: [{name: t}]
candidates: [{values: {model.units: 8}, regrets: [0.5]}]
"""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("[0.5]", "[0.5, 0.1]", "candidate 1 has 2 regrets for 1 tasks"),
        ("[0.5]", "[.nan]", "candidates.0.regrets.0"),
        ("[0.5]", "[bad]", "candidates.0.regrets.0"),
        ("portfolio@1", "portfolio@9", "schema"),
        ("name: a\n", "name: a\nextra: 1\n", "extra"),
        ("name: a\n", "name: a\nname: b\n", "name"),
        ("candidates:", "candidates: [", "cannot be read"),
        (GOOD, "", "cannot be read"),
        (GOOD, "- 1\n", "cannot be read"),
        (GOOD, "x" * 300_000, "300000 characters"),
    ],
)
def test_damaged_files_are_clear_errors(tmp_path: Path, old: str, new: str, says: str) -> None:
    """A file that is no portfolio is refused on one line, with its path and what is wrong."""
    path = tmp_path / "p.yaml"
    path.write_text(GOOD)
    read_portfolio(path)
    path.write_text(GOOD.replace(old, new))

    with pytest.raises(DataError, match="cannot be read as a portfolio") as caught:
        read_portfolio(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_absent_and_binary_files_are_clear_errors(tmp_path: Path) -> None:
    """So is a file that is not there, or that is no text."""
    (tmp_path / "p.yaml").write_bytes(b"\xff\xfe\x00")
    for name in ("p.yaml", "absent.yaml", ""):
        with pytest.raises(DataError, match="cannot be read as a portfolio"):
            read_portfolio(tmp_path / name)


BUNDLED = sorted((Path(__file__).parents[1] / "rules" / "portfolios").glob("*.yaml"))


@pytest.mark.parametrize("path", BUNDLED, ids=lambda p: p.stem)
def test_bundled_portfolios_are_sound(path: Path) -> None:
    """Each that comes with SmartTune is small, says how it was made, and knows each task's best."""
    found = read_portfolio(path)

    assert found.name == path.stem
    assert {"made", "command", "regret", "versions"} <= found.about.keys()
    assert found.requires["data.task"]
    assert 0 < len(found.candidates) <= 60
    assert np.isfinite(found.regrets).any(axis=0).all()
    assert (np.where(np.isfinite(found.regrets), found.regrets, 0) > -0.1).all()
    text = path.read_text()
    assert "/" + "work" not in text
    assert "/" + "tmp" not in text
