"""Simple features of texts, pictures, recordings and sequences, for linear models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from smarttune.baselines.contest import Allowance, Contest, Made, Recipe, Unsuited
from smarttune.baselines.linear import linear_model
from smarttune.data import Dataset
from smarttune.models.cells import texts

# ours: rows from which linear models are fitted, so that they end within seconds.
MOST_TEXTS, MOST_PICTURES, MOST_SIGNALS = 30_000, 10_000, 10_000
# ours: single words and pairs of them, each in at least two texts; more hardly help.
_NGRAMS, _MOST_NGRAMS = (1, 2), 50_000
# ours: pictures are shrunk to at most this side; linear models see no finer detail.
_MOST_SIDE = 32
# ours: frames of 32 ms at 16 kHz, half overlapping, in bands as wide as the ear's.
_FRAME, _BANDS = 512, 40
# ours: a recording is described by the mean of each of so many equal stretches.
_STRETCHES = 4


def ngram_model(contest: Contest, allowance: Allowance) -> Made:
    """Logistic or ridge regression on tf-idf weights of words and pairs of words."""
    return linear_model(contest, allowance, _ngrams, most_rows=MOST_TEXTS)


def pixel_model(contest: Contest, allowance: Allowance) -> Made:
    """Logistic or ridge regression on pixels."""
    return linear_model(contest, allowance, _pixels, most_rows=MOST_PICTURES)


def band_model(contest: Contest, allowance: Allowance) -> Made:
    """Logistic or ridge regression on the course and spread of the power in bands."""
    return linear_model(contest, allowance, _of_each(bands), most_rows=MOST_SIGNALS)


def summary_model(contest: Contest, allowance: Allowance) -> Made:
    """Logistic or ridge regression on summary statistics of each measured value."""
    return linear_model(contest, allowance, _of_each(summary), most_rows=MOST_SIGNALS)


_SKLEARN = "scikit-learn"
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
    "logistic or ridge regression on standardized pixels",
    pixel_model,
    _SKLEARN,
)
AUDIO = Recipe(
    "linear model on bands",
    "strong",
    "logistic or ridge regression on mean and spread of the log power in 40 bands",
    band_model,
    _SKLEARN,
)
SEQUENCE = Recipe(
    "linear model on summaries",
    "strong",
    "logistic or ridge regression on mean, spread, ends and extremes of each value",
    summary_model,
    _SKLEARN,
)


def texts_of(dataset: Dataset, columns: Sequence[str], rows: np.ndarray) -> list[str]:
    """The texts of some samples; several columns are joined by a blank."""
    if dataset.content is not None:
        return [str(text) for text in dataset.content.take(rows)]
    if not columns:
        raise Unsuited("No column of text is used.")
    parts = [texts(dataset.features[name].iloc[rows]) for name in columns]
    return [" ".join(map(str, cells)) for cells in zip(*parts, strict=True)]


def _ngrams(
    contest: Contest, parts: tuple[np.ndarray, ...], allowance: Allowance
) -> tuple[Any, ...]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    columns = [c.name for c in contest.fingerprint.used_columns]
    documents = [texts_of(contest.dataset, columns, rows) for rows in parts]
    weights = TfidfVectorizer(
        ngram_range=_NGRAMS,
        min_df=2 if len(documents[0]) > 2 else 1,
        max_features=_MOST_NGRAMS,
        sublinear_tf=True,
        strip_accents="unicode",
        token_pattern=r"(?u)\b\w+\b|[!?]",  # one letter counts, and so does shouting
    )
    try:
        train = weights.fit_transform(documents[0])
    except ValueError:
        raise Unsuited("No word occurs in two texts.") from None
    return (train, *(weights.transform(texts) for texts in documents[1:]))


def _pixels(
    contest: Contest, parts: tuple[np.ndarray, ...], allowance: Allowance
) -> tuple[Any, ...]:
    content: Any = contest.dataset.content
    side = min(_MOST_SIDE, int(contest.fingerprint.facts().value("data.image_side") or _MOST_SIDE))
    matrices = []
    for rows in parts:
        pictures = content.resized(rows, side)
        matrices.append(pictures.reshape(len(rows), -1).astype(np.float32) / 255.0)
    # One scale for all pixels: each by its own would blow up the noise at the borders.
    center, scale = matrices[0].mean(axis=0), max(float(matrices[0].std()), 1e-6)
    return tuple((m - center) / scale for m in matrices)


def _of_each(describe: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Features that describe samples one by one, standardized on the training rows."""

    def features(
        contest: Contest, parts: tuple[np.ndarray, ...], allowance: Allowance
    ) -> tuple[Any, ...]:
        content: Any = contest.dataset.content
        matrices = [_stacked(describe(sample) for sample in _each(content, r)) for r in parts]
        center, scale = matrices[0].mean(axis=0), matrices[0].std(axis=0)
        return tuple((m - center) / np.where(scale > 0, scale, 1.0) for m in matrices)

    return features


# ours: recordings read at once.
_READ_AT_ONCE = 256


def _each(content: Any, rows: np.ndarray) -> Iterable[np.ndarray]:
    """Samples one after the other, a few hundred of them in memory."""
    for start in range(0, len(rows), _READ_AT_ONCE):
        yield from content.take(rows[start : start + _READ_AT_ONCE])


def _stacked(rows: Iterable[np.ndarray]) -> np.ndarray:
    found = list(rows)
    return np.stack(found) if found else np.zeros((0, 1))


def bands(samples: np.ndarray) -> np.ndarray:
    """Describe a recording by the power in bands that widen with pitch.

    Args:
        samples: One channel, shape (num_samples,), any scale of amplitude.

    Returns:
        Shape (200,): the mean logarithmic power of 40 bands in each quarter of the
        recording, and its standard deviation over all; then the logarithm of the length.
    """
    wave = np.asarray(samples, np.float64).ravel()
    wave = np.pad(wave, (0, max(0, _FRAME - len(wave))))
    windows = np.lib.stride_tricks.sliding_window_view(wave, _FRAME)[:: _FRAME // 2]
    power = np.abs(np.fft.rfft(windows * np.hanning(_FRAME), axis=1)) ** 2
    logs = np.log(power[:, 1:] @ _FILTERS + 1.0)  # one quantum of amplitude: silence is 0
    stretches = np.array_split(logs, _STRETCHES)
    means = [s.mean(axis=0) if len(s) else logs.mean(axis=0) for s in stretches]
    return np.concatenate([*means, logs.std(axis=0), [np.log(len(wave))]])


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


def summary(steps: np.ndarray) -> np.ndarray:
    """Describe a sequence without regard to the order of its steps, but for its ends.

    Args:
        steps: Shape (num_steps, features); NaN where missing.

    Returns:
        For each feature its mean, standard deviation, least, largest, first and last value
        and its mean change from step to step; then the logarithm of the length.
    """
    values = np.asarray(steps, np.float64).reshape(len(steps), -1)
    values = np.nan_to_num(values)
    change = np.abs(np.diff(values, axis=0)).mean(axis=0) if len(values) > 1 else values[0] * 0
    parts = [values.mean(axis=0), values.std(axis=0), values.min(axis=0), values.max(axis=0)]
    return np.concatenate([*parts, values[0], values[-1], change, [np.log(len(values))]])
