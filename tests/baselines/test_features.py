"""Linear models and trees on simple features of texts, pictures, recordings and sequences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarttune.baselines import Contest, baselines_for
from smarttune.baselines.contest import Allowance, Unsuited
from smarttune.baselines.features import bands, ngram_model, pixel_model, summary
from smarttune.baselines.linear import FEWEST_STEPS, linear_model
from smarttune.baselines.matrices import Matrices, matrices_of
from smarttune.data.audio import AudioArrays
from smarttune.data.labelling import labelled
from smarttune.tuning.comparing import metrics_of
from tests.baselines.contests import Clock, by_name, contest_of, sealed
from tests.development import development_data

ENOUGH = Allowance(600.0)
RNG = np.random.default_rng


def texts(rows: int = 120) -> pd.DataFrame:
    """Sentences about two things, told apart by a pair of words only."""
    rng = RNG(1)
    filler = [
        "the",
        "a",
        "of",
        "in",
        "on",
        "to",
        "it",
        "was",
        "there",
        "here",
        "every",
        "time",
        "when",
        "they",
        "came",
        "home",
        "late",
    ]
    found, labels = [], []
    for i in range(rows):
        words = rng.choice(filler, 12).tolist()
        place = int(rng.integers(0, 10))
        words[place : place + 2] = ["not", "good"] if i % 2 else ["good", "not"]
        found.append(" ".join(words) + f" number {i}")
        labels.append("bad" if i % 2 else "fine")
    return pd.DataFrame({"text": found, "mood": labels})


def pictures(rows: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright upper or lower half."""
    rng = RNG(2)
    y = rng.integers(0, 2, rows)
    x = rng.integers(0, 100, (rows, 8, 8)).astype(np.uint8)
    x[y == 0, :4] += 40
    x[y == 1, 4:] += 40
    return x, np.where(y, "low", "high")


def tones(rows: int = 60) -> Any:
    """Recordings of 0.1 to 0.2 s with a low or a high tone in noise."""
    rng = RNG(3)
    y = np.arange(rows) % 2
    waves = [
        (1000 * np.sin(2 * np.pi * (900 if high else 300) * np.arange(n) / 8000)).astype(np.int16)
        + rng.normal(0, 100, n).astype(np.int16)
        for high, n in zip(y, rng.integers(800, 1600, rows), strict=True)
    ]
    counts = np.array([len(w) for w in waves])
    content = AudioArrays(np.concatenate(waves), np.cumsum(counts) - counts, counts, 8000)
    labels = pd.DataFrame({"pitch": np.where(y, "high", "low")})
    return labelled(content, labels, ["pitch"], where="X", name="X")


def sequences(rows: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Random walks, rising or falling."""
    rng = RNG(4)
    y = rng.integers(0, 2, rows)
    steps = rng.normal(0, 1, (rows, 20, 2)) + np.where(y, 0.4, -0.4)[:, None, None]
    return steps.cumsum(axis=1).astype(np.float32), np.where(y, "up", "down")


CONTESTS = {
    "text": lambda: contest_of(texts(), "mood"),
    "image": lambda: contest_of(*pictures()),
    "audio": lambda: contest_of(tones()),
    "sequence": lambda: contest_of(*sequences(), task="sequence"),
}


@pytest.mark.parametrize("task", CONTESTS)
def test_strong_baselines_learn_each_kind_of_data(task: str) -> None:
    """Without a look at test targets, each strong baseline finds what is there to be found."""
    contest = CONTESTS[task]()
    assert contest.fingerprint.task == task
    truth = contest.encoded(contest.split.test)

    made = baselines_for(sealed(contest), seconds=60.0)

    strong = [b for b in made if b.role == "strong"]
    assert len(strong) == (2 if task in ("audio", "sequence") else 1)
    for baseline in strong:
        assert baseline.made.note == ""
        assert baseline.made.outputs is not None
        found = metrics_of(contest.codec, baseline.made.outputs, truth)
        assert found["accuracy"] > 0.85, baseline.name


def test_text_in_files_and_in_columns_is_read_alike() -> None:
    """Words of several columns count, and rows without words are answered."""
    table = texts().assign(more="indeed")
    table.loc[::7, "text"] = None
    contest = contest_of(table, "mood", task="text")

    assert ngram_model(contest, ENOUGH).outputs is not None


def test_texts_without_words_do_not_suit() -> None:
    """Where no word occurs twice, no linear model on words can be had."""
    table = pd.DataFrame({"text": [f"w{i} q{i} long{i} text{i}" for i in range(40)]})
    contest = contest_of(table.assign(mood=["a", "b"] * 20), "mood")
    with pytest.raises(Unsuited):
        ngram_model(contest, ENOUGH)


@settings(max_examples=30)
@given(
    st.integers(1, 3000),
    st.floats(0.0, 3e4),
    st.integers(0, 9),
)
def test_bands_describe_recordings_of_any_length(length: int, loud: float, seed: int) -> None:
    """A description has one size, is finite, and grows with loudness."""
    wave = RNG(seed).normal(0.0, 1.0, length)

    quiet, loud_too = bands(loud * wave), bands((loud + 100) * wave)

    assert quiet.shape == loud_too.shape == (201,)
    assert np.isfinite(quiet).all()
    assert loud_too[:160].mean() > quiet[:160].mean()


def test_a_tone_lies_in_its_band() -> None:
    """The band of most power rises with the pitch."""
    time = np.arange(4000)
    peaks = [
        int(bands(3000 * np.sin(np.pi * share * time))[:40].argmax()) for share in (0.05, 0.2, 0.6)
    ]
    assert peaks == sorted(set(peaks))


@given(st.integers(1, 30), st.integers(1, 3), st.booleans())
def test_summaries_have_one_size(length: int, width: int, holes: bool) -> None:
    """Sequences of any length, with missing values, have as many figures."""
    steps = RNG(length).normal(size=(length, width))
    if holes:
        steps[::2] = np.nan
    found = summary(steps)

    assert found.shape == (7 * width + 1,)
    assert np.isfinite(found).all()


def slow_reader(clock: Clock, each: float) -> Any:
    """A reader that takes so many seconds for a sample."""

    def read(contest: Contest, rows: np.ndarray) -> np.ndarray:
        clock.now += each * len(rows)
        return np.asarray(contest.dataset.features.iloc[rows, :1])

    return read


@pytest.mark.parametrize("each", [0.0, 1e-3, 0.02, 1.0])
def test_reading_keeps_to_its_time(monkeypatch: pytest.MonkeyPatch, each: float) -> None:
    """Slow samples are read in part: within the allowance, or as few as a first look takes."""
    clock = Clock()
    monkeypatch.setattr("smarttune.baselines.contest.time", clock)
    x = RNG(0).normal(size=(2000, 2))
    contest = contest_of(x, np.where(x[:, 0] > 0, "a", "b"))
    allowance = Allowance(40.0)

    given = matrices_of(
        contest, allowance, slow_reader(clock, each), lambda train: lambda rows: rows, most=5000
    )

    used = given.x[0].shape[0]
    held = len(contest.split.test)
    assert clock.now <= max(20.0 + 64 * each, each * (64 * 3 + held)) + 1e-9
    assert used == (1200 if each < 0.01 else max(64, min(used, 1199)))
    assert bool(given.notes) == (used < 1200)


@pytest.mark.parametrize("seconds", [0.0, 5.0, 1e9])
def test_fitting_keeps_to_its_time(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """With a second for each step, the first few steps alone may overdraw the allowance."""
    clock = Clock()
    monkeypatch.setattr("smarttune.baselines.contest.time", clock)
    from sklearn.linear_model import LogisticRegression

    plain = LogisticRegression.fit

    def fit(self: Any, x: Any, y: Any) -> Any:
        done = plain(self, x, y)
        clock.now += int(done.n_iter_.max())
        return done

    monkeypatch.setattr(LogisticRegression, "fit", fit)
    contest = CONTESTS["sequence"]()
    x = RNG(0).normal(size=(100, 30))
    parts = (contest.split.train, contest.split.validation, contest.split.test)
    given = Matrices(
        (x[parts[0]], x[parts[1]], x[parts[2]]), tuple(contest.encoded(p) for p in parts[:2])
    )

    made = linear_model(contest, Allowance(seconds), given)

    assert clock.now <= max(seconds, FEWEST_STEPS)
    assert ("clock" in made.note) == (seconds < 1e9)


def test_amounts_are_learnt_from_pictures() -> None:
    """A regression target has the ridge regression, in raw units after the logarithm is undone."""
    x, _ = pictures()
    y = x[:, :4].mean(axis=(1, 2)) * 3.0
    scaled = {"model.target_transform": "log1p_standardize"}
    contest = contest_of(x, y, problem="regression", settings=scaled, metric="r2_score")

    made = pixel_model(sealed(contest), ENOUGH)

    assert made.outputs is not None
    found = metrics_of(contest.codec, made.outputs, contest.encoded(contest.split.test))
    assert found["r2_score"] > 0.8
    assert made.call.startswith("TransformedTargetRegressor(Ridge(")


def test_several_labels_are_learnt_from_texts() -> None:
    """Each label has a logistic regression; one that never varies has its prior."""
    table = texts()
    table = table.assign(bad=(table["mood"] == "bad").astype(int), any=[0, 1] * 60)
    contest = contest_of(table.drop(columns="mood"), ["bad", "any"])
    encoded = contest.encoded
    never = replace(contest, targets=lambda rows: encoded(rows) * [1, 0])

    made = ngram_model(sealed(never), ENOUGH)

    assert made.outputs is not None
    truth = contest.encoded(contest.split.test)
    assert ((made.outputs > 0) == truth)[:, 0].mean() > 0.9
    assert contest.codec.probabilities(made.outputs)[:, 1] == pytest.approx(
        contest.codec.priors()[1]
    )
    assert "OneVsRestClassifier(LogisticRegression(" in made.call


def test_one_class_in_training_says_so() -> None:
    """Where there is nothing to learn, no model is made up."""
    contest = CONTESTS["image"]()
    keep = contest.encoded(contest.split.train)[:, 0] == 1
    single = replace(contest, split=replace(contest.split, train=contest.split.train[keep]))
    with pytest.raises(Unsuited, match="single class"):
        pixel_model(single, ENOUGH)


@pytest.mark.slow
def test_real_texts_are_learnt() -> None:
    """Word pairs tell spam from messages on 98 of 100 real ones."""
    contest = contest_of(development_data("text/SMSSpamCollection.tsv"), "Label")

    made = by_name(baselines_for(sealed(contest), seconds=60.0))["linear model on n-grams"].made

    assert made.outputs is not None
    found = metrics_of(contest.codec, made.outputs, contest.encoded(contest.split.test))
    assert found["accuracy"] > 0.975
