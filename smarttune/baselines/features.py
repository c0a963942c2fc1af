"""Simple features of texts, pictures, recordings and sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from smarttune.baselines.boosting import boosted_trees
from smarttune.baselines.contest import Allowance, Contest, Made, Recipe, Unsuited
from smarttune.baselines.linear import linear_model
from smarttune.baselines.matrices import Matrices, matrices_of
from smarttune.data.texts import joined_cells

# ours: training rows used, so that fits end within seconds.
MOST_TEXTS, MOST_PICTURES, MOST_SIGNALS = 30_000, 10_000, 10_000
# ours: single words and pairs of them, each in at least two texts; more hardly help.
_NGRAMS, _FEWEST_TEXTS, _MOST_NGRAMS = (1, 2), 2, 50_000
# ours: of each text no more is read, some thousand words.
_MOST_CHARACTERS = 20_000
# ours: pictures are shrunk to at most this side; linear models see no finer detail.
_MOST_SIDE = 32
# ours: frames of 32 ms at 16 kHz, half overlapping, in bands as wide as the ear's.
_FRAME, _BANDS = 512, 40
# ours: frames of a recording that are looked at, evenly spread; two minutes are dense.
_MOST_FRAMES = 8_000
# ours: a recording is described by the mean of each of so many equal stretches.
_STRETCHES = 4
# ours: samples in memory at once.
_READ_AT_ONCE = 256


def ngram_model(contest: Contest, allowance: Allowance) -> Made:
    """Logistic or ridge regression on tf-idf weights of words and pairs of words.

    Wang and Manning (2012, "Baselines and Bigrams") found linear models on word pairs hard to
    beat on the sentiment and topic of texts.
    """
    maker = f"TfidfVectorizer(ngram_range={_NGRAMS}, min_df={_FEWEST_TEXTS}, sublinear_tf=True)"
    given = matrices_of(contest, allowance, _texts, _ngrams, most=MOST_TEXTS, maker=maker)
    return linear_model(contest, allowance, given)


def pixel_model(contest: Contest, allowance: Allowance) -> Made:
    """Logistic or ridge regression on pixels."""
    given = matrices_of(contest, allowance, _pictures, _pixels, most=MOST_PICTURES)
    return linear_model(contest, allowance, given)


def _signals(
    describe: Callable[[np.ndarray], np.ndarray],
    model: Callable[[Contest, Allowance, Matrices], Made],
) -> Callable[[Contest, Allowance], Made]:
    """A recipe on samples that are described one by one."""

    def make(contest: Contest, allowance: Allowance) -> Made:
        read = _described(describe)
        given = matrices_of(contest, allowance, read, _standardized, most=MOST_SIGNALS)
        return model(contest, allowance, given)

    return make


def _texts(contest: Contest, rows: np.ndarray) -> list[str]:
    """The texts of some samples; the cells of several columns are joined by a blank."""
    content: Any = contest.dataset.content
    if content is None:
        columns = [c.name for c in contest.fingerprint.used_columns if c.kind == "text"]
        if not columns:
            raise Unsuited("No column of text is used.")
        found = joined_cells(contest.dataset.features[columns].iloc[rows])
    else:
        found = content.take(rows)
    return [str(text)[:_MOST_CHARACTERS] for text in found]


def _ngrams(train: list[str]) -> Callable[[list[str]], Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    weights = TfidfVectorizer(
        ngram_range=_NGRAMS,
        min_df=_FEWEST_TEXTS,
        max_features=_MOST_NGRAMS,
        sublinear_tf=True,
        strip_accents="unicode",
        token_pattern=r"(?u)\b\w+\b|[!?]",  # one letter counts, and so does shouting
    )
    try:
        weights.fit(train)
    except ValueError:
        raise Unsuited("No word occurs in two training texts.") from None
    return weights.transform  # type: ignore[no-any-return]


def _pictures(contest: Contest, rows: np.ndarray) -> np.ndarray:
    """Shrunk pictures, shape (rows, pixels and channels)."""
    content: Any = contest.dataset.content
    side = min(_MOST_SIDE, int(contest.fingerprint.content.get("data.image_side") or _MOST_SIDE))
    found = np.asarray(content.resized(rows, side))
    return found.reshape(len(rows), -1)


def _pixels(train: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """One scale for all pixels: each by its own would blow up the noise at the borders."""
    center = train.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = np.float32(max(float(train.std()), 1e-6))
    return lambda pictures: (pictures.astype(np.float32) - center) / scale


def _described(describe: Callable[[np.ndarray], np.ndarray]) -> Any:
    """A reader that keeps a description of each sample, a few hundred samples in memory."""

    def read(contest: Contest, rows: np.ndarray) -> np.ndarray:
        content: Any = contest.dataset.content
        found = [
            describe(np.asarray(sample))
            for start in range(0, len(rows), _READ_AT_ONCE)
            for sample in content.take(rows[start : start + _READ_AT_ONCE])
        ]
        return np.stack(found)

    return read


def _standardized(train: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    center, scale = train.mean(axis=0), train.std(axis=0)
    return lambda rows: (rows - center) / np.where(scale > 0, scale, 1.0)


def bands(samples: np.ndarray) -> np.ndarray:
    """Describe a recording by the power in bands that widen with pitch.

    The bands are those of mel spectrograms (Davis and Mermelstein 1980, "Comparison of
    parametric representations for monosyllabic word recognition").

    Args:
        samples: One channel, int16 or in its scale, shape (num_samples,).

    Returns:
        Shape (201,): the mean logarithmic power of 40 bands in each quarter of the
        recording, and its standard deviation over all; then the logarithm of the length.
    """
    wave = np.asarray(samples, np.float32).ravel()
    length = max(1, len(wave))
    lacking = max(0, _FRAME - len(wave))
    wave = np.pad(wave, (lacking // 2, lacking - lacking // 2))  # windows fade at their ends
    step = max(_FRAME // 2, len(wave) // _MOST_FRAMES)
    windows = np.lib.stride_tricks.sliding_window_view(wave, _FRAME)[::step]
    power = np.abs(np.fft.rfft(windows * _WINDOW, axis=1)) ** 2
    logs = np.log(power[:, 1:] @ _FILTERS + 1.0)  # one quantum of amplitude: silence is 0
    stretches = np.array_split(logs, _STRETCHES)
    means = [s.mean(axis=0) if len(s) else logs.mean(axis=0) for s in stretches]
    return np.concatenate([*means, logs.std(axis=0), [np.log(length)]])


def _filters() -> np.ndarray:
    """Shares of each frequency in overlapping triangles, shape (frequencies, bands).

    Evenly spaced on the mel scale, 2595 log10(1 + f / 700), of a rate of 16 kHz.
    """
    count = _FRAME // 2
    hertz = np.arange(1, count + 1) / count * 8000.0
    mel = 2595.0 * np.log10(1.0 + hertz / 700.0)
    edges = np.linspace(0.0, mel[-1], _BANDS + 2)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (mel[:, None] - low) / (middle - low)
    falling = (high - mel[:, None]) / (high - middle)
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)))


_FILTERS = _filters()
_WINDOW = np.hanning(_FRAME).astype(np.float32)


def summary(steps: np.ndarray) -> np.ndarray:
    """Describe a sequence without regard to the order of its steps, but for its ends.

    Args:
        steps: Shape (num_steps, features) or (num_steps,); NaN where missing.

    Returns:
        For each feature its mean, standard deviation, least, largest, first and last value
        and its mean change from step to step; then the logarithm of the length.
    """
    values = np.nan_to_num(np.asarray(steps, np.float64).reshape(len(steps), -1))
    change = np.abs(np.diff(values, axis=0)).mean(axis=0) if len(values) > 1 else values[0] * 0
    parts = [values.mean(axis=0), values.std(axis=0), values.min(axis=0), values.max(axis=0)]
    return np.concatenate([*parts, values[0], values[-1], change, [np.log(len(values))]])


_SKLEARN = "scikit-learn"
_BANDS_ABOUT = "mean and spread of the log power in 40 mel bands, by quarters of the recording"
_SUMMARY_ABOUT = "mean, spread, ends, extremes and changes of each value"
TEXT = Recipe(
    "linear model on n-grams",
    "strong",
    "logistic or ridge regression on tf-idf weights of words and word pairs",
    ngram_model,
    _SKLEARN,
)
IMAGE = Recipe(
    "linear model on pixels",
    "strong",
    "logistic or ridge regression on centered pixels",
    pixel_model,
    _SKLEARN,
)
AUDIO_LINEAR = Recipe(
    "linear model on bands",
    "strong",
    f"logistic or ridge regression on {_BANDS_ABOUT}",
    _signals(bands, linear_model),
    _SKLEARN,
)
AUDIO_TREES = Recipe(
    "gradient boosting on bands",
    "strong",
    f"boosted trees on {_BANDS_ABOUT}",
    _signals(bands, boosted_trees),
    _SKLEARN,
)
SEQUENCE_LINEAR = Recipe(
    "linear model on summaries",
    "strong",
    f"logistic or ridge regression on {_SUMMARY_ABOUT}",
    _signals(summary, linear_model),
    _SKLEARN,
)
SEQUENCE_TREES = Recipe(
    "gradient boosting on summaries",
    "strong",
    f"boosted trees on {_SUMMARY_ABOUT}",
    _signals(summary, boosted_trees),
    _SKLEARN,
)
