"""A small source of every kind, as a user would have it on disk."""

from __future__ import annotations

import json
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

RNG = np.random.default_rng


def image_folder(root: Path) -> Path:
    """Thirty pictures of 16 x 16 pixels, bright left or right."""
    for i in range(30):
        pixels = RNG(i).integers(0, 99, (16, 16, 3)).astype(np.uint8)
        side = "left" if i % 2 else "right"
        pixels[:, :8] += 150 * (side == "left")
        path = root / "images" / side / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root / "images"


def wav_folder(root: Path) -> Path:
    """Thirty tones of a quarter of a second, high or low, at 4,000 samples a second."""
    for i in range(30):
        kind = "high" if i % 2 else "low"
        pitch = 900 if kind == "high" else 200
        tone = np.sin(2 * np.pi * pitch * np.arange(1000) / 4000 + i) * 9000
        path = root / "tones" / kind / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(4000)
            file.writeframes(tone.astype("<i2").tobytes())
    return root / "tones"


def text_folder(root: Path) -> Path:
    """Forty texts that praise or complain."""
    for i in range(40):
        kind, word = ("good", "fine and lovely") if i % 2 else ("bad", "awful and broken")
        path = root / "reviews" / kind / f"{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"This one is {word}, number {i % 5} of all.", encoding="utf-8")
    return root / "reviews"


def json_lines(root: Path) -> Path:
    """Sixty texts with their label, one object a line."""
    path = root / "mails.jsonl"
    rows = [
        {"text": f"win a prize {i} now" if i % 2 else f"see you at {i} then", "spam": i % 2}
        for i in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def series(root: Path) -> Path:
    """Two hundred days of sales with a weekly season."""
    path = root / "sales.csv"
    days = np.arange("2024-01-01", "2024-07-19", dtype="datetime64[D]")
    sold = 20 + 5 * np.sin(2 * np.pi * np.arange(len(days)) / 7) + RNG(0).normal(0, 1, len(days))
    rows = [f"{day},{value:.3f}" for day, value in zip(days, sold, strict=True)]
    path.write_text("day,sold\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def sequences(root: Path) -> Path:
    """Sixty oscillations of 12 to 20 steps, fast or slow, end to end with their lengths."""
    path = root / "waves.npz"
    lengths = RNG(0).integers(12, 21, 60)
    y = np.arange(60) % 2
    parts = [
        np.sin(np.arange(n)[:, None] * (1.5 if label else 0.4))
        for n, label in zip(lengths, y, strict=True)
    ]
    np.savez(path, x=np.concatenate(parts).astype("float32"), length=lengths, y=y)
    return path


def corpus(root: Path) -> Path:
    """Some thousand characters of prose."""
    path = root / "prose.txt"
    words = ["the", "rain", "falls", "on", "a", "quiet", "roof", "and", "we", "listen"]
    text = " ".join(RNG(0).choice(words, 3000))
    path.write_text(text, encoding="utf-8")
    return path


# Kind of data: what makes the source, the arguments beside it, a fact that only it has.
SOURCES: dict[str, tuple[Callable[[Path], Path], tuple[str, ...], str]] = {
    "image": (image_folder, (), "data.image_side"),
    "audio": (wav_folder, (), "data.sample_rate"),
    "text-folder": (text_folder, (), "data.words_per_sample"),
    "text-lines": (json_lines, ("--target", "spam"), "data.words_per_sample"),
    "timeseries": (series, ("--target", "sold", "--horizon", "7"), "data.season_length"),
    "sequence": (sequences, (), "data.max_sequence_length"),
    "text-corpus": (corpus, ("--task", "text"), "data.corpus_chars"),
}
