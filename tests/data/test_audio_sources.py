"""Recordings from folders, tables and archives: formats, rates, damage."""

from __future__ import annotations

import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from smarttune.data import read
from smarttune.data.audio import AudioFiles, Recordings, converted
from smarttune.data.wav import read_header, read_samples
from smarttune.errors import DataError, OptionError
from smarttune.fingerprint import measure

RATE = 8000


def tone(hertz: float = 440.0, *, samples: int = 400, rate: int = RATE) -> np.ndarray:
    """A sine between -1 and 1."""
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)


def pcm(path: Path, samples: np.ndarray, *, rate: int = RATE) -> Path:
    """Write int16 samples, shape (n,) or (n, channels), with the standard library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def whole(values: np.ndarray) -> np.ndarray:
    """Floats as 16-bit samples."""
    return np.rint(values * 32767).astype(np.int16)


def raw_wav(path: Path, body: bytes, *, tag: int, bits: int, channels: int = 1) -> Path:
    """Write a header of any format before some bytes."""
    block = channels * bits // 8
    head = struct.pack("<HHIIHH", tag, channels, RATE, RATE * block, block, bits)
    riff = b"WAVEfmt " + struct.pack("<I", len(head)) + head
    riff += b"data" + struct.pack("<I", len(body)) + body
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(riff)) + riff)
    return path


def folder(root: Path, *, each: int = 6) -> Path:
    """Two classes of tones."""
    for label, hertz in (("high", 900), ("low", 200)):
        for i in range(each):
            pcm(root / label / f"{i}.wav", whole(tone(hertz + i, samples=400 + 10 * i)))
    return root


def recordings(dataset: Any) -> Recordings:
    """The recordings of a data set."""
    assert isinstance(dataset.content, Recordings)
    return dataset.content


def test_folder_by_class_gives_labels_samples_and_facts(tmp_path: Path) -> None:
    """Each file has the class of its folder, its own samples, and counts in the facts."""
    dataset = read(folder(tmp_path / "tones"))

    found = recordings(dataset)
    assert dataset.task == "audio"
    assert dataset.target is not None
    assert dataset.target.tolist() == ["high"] * 6 + ["low"] * 6
    np.testing.assert_array_equal(found.take(np.array([7]))[0], whole(tone(201, samples=410)))
    facts = measure(dataset).facts()
    assert facts.value("data.sample_rate") == RATE
    assert facts.value("data.clip_seconds") == pytest.approx(425 / RATE)
    assert facts.value("data.long_clip_seconds") == pytest.approx(450 / RATE)
    assert facts.value("data.audio_hours") == pytest.approx(12 * 425 / RATE / 3600)


@pytest.mark.parametrize(
    ("tag", "bits", "encode"),
    [
        (1, 8, lambda x: (np.rint(x * 127) + 128).astype("u1")),
        (1, 16, lambda x: np.rint(x * 32767).astype("<i2")),
        (1, 24, lambda x: np.rint(x * 8388607).astype("<i4").view("u1").reshape(-1, 4)[:, :3]),
        (1, 32, lambda x: np.rint(x * 2147483647).astype("<i4")),
        (3, 32, lambda x: x.astype("<f4")),
        (3, 64, lambda x: x.astype("<f8")),
    ],
)
def test_every_width_reads_as_the_same_sound(
    tmp_path: Path, tag: int, bits: int, encode: Any
) -> None:
    """8, 16, 24 and 32 bit numbers and both floats give the samples that were written."""
    wanted = tone()
    path = raw_wav(tmp_path / "a.wav", encode(wanted).tobytes(), tag=tag, bits=bits)

    header = read_header(path)
    found = read_samples(path, header)

    assert header.num_frames == len(wanted)
    step = 256 if bits == 8 else 1
    np.testing.assert_allclose(found, whole(wanted), atol=1.5 * step)


def test_channels_are_mixed_and_told(tmp_path: Path) -> None:
    """A stereo file becomes the mean of its channels, and a warning counts it."""
    root = folder(tmp_path / "tones")
    left, right = whole(tone(300)), whole(tone(500))
    pcm(root / "low" / "stereo.wav", np.stack([left, right], axis=1))

    dataset = read(root)

    place = [p.endswith("stereo.wav") for p in dataset.features["path"]].index(True)
    mean = (left.astype(int) + right) // 2
    np.testing.assert_array_equal(recordings(dataset).take(np.array([place]))[0], mean)
    assert any("1 recording(s) have several channels" in w for w in recordings(dataset).warnings())


def test_other_rates_are_converted_to_the_most_frequent(tmp_path: Path) -> None:
    """A file at twice the rate keeps its pitch and length in seconds, and is counted by name."""
    root = folder(tmp_path / "tones")
    pcm(root / "low" / "fast.wav", whole(tone(250, samples=1600, rate=16000)), rate=16000)

    dataset = read(root)

    found = recordings(dataset)
    place = [p.endswith("fast.wav") for p in dataset.features["path"]].index(True)
    heard = found.take(np.array([place]))[0]
    assert found.sample_rate == RATE
    assert len(heard) == found.lengths[place] == 800
    middle = slice(100, 700)  # the filter swings in and out at the ends
    np.testing.assert_allclose(heard[middle] / 32767, tone(250, samples=800)[middle], atol=0.01)
    assert any("1 file(s) at 16,000 Hz" in w for w in found.warnings())


def test_wanted_rate_wins_over_that_of_the_files(tmp_path: Path) -> None:
    """With a sample rate given all recordings come at it."""
    dataset = read(folder(tmp_path / "tones"), sample_rate=4000)

    found = recordings(dataset)
    assert found.sample_rate == 4000
    assert len(found.take(np.array([0]))[0]) == found.lengths[0] == 200


def test_damaged_files_are_skipped_and_named(tmp_path: Path) -> None:
    """A truncated, an empty and a mislabelled file cost one warning and three samples."""
    root = folder(tmp_path / "tones")
    good = pcm(root / "low" / "short.wav", whole(tone())).read_bytes()
    (root / "low" / "short.wav").write_bytes(good[:-100])
    (root / "low" / "empty.wav").write_bytes(b"")
    (root / "low" / "text.wav").write_text("no sound here, only words")

    dataset = read(root)

    assert len(dataset.features) == 12
    assert recordings(dataset).take(np.arange(12))
    [warning] = [w for w in recordings(dataset).warnings() if "were skipped" in w]
    assert warning.startswith("3 of 15 file(s)")
    assert "empty.wav: it is empty" in warning
    assert "short.wav: it ends early" in warning
    assert "text.wav: it is not a WAV file" in warning


def test_coded_recordings_are_refused_with_the_way_out(tmp_path: Path) -> None:
    """Where all files are compressed the error names the codec and a command."""
    for i in range(3):
        raw_wav(tmp_path / "coded" / "a" / f"{i}.wav", b"\x55" * 400, tag=7, bits=8)

    with pytest.raises(DataError) as caught:
        read(tmp_path / "coded")

    assert "mu-law" in str(caught.value)
    assert "ffmpeg -i" in str(caught.value)


def test_empty_class_is_named(tmp_path: Path) -> None:
    """A class folder without recordings, and one of broken ones only, are told."""
    root = folder(tmp_path / "tones")
    (root / "silent").mkdir()
    (root / "torn").mkdir()
    (root / "torn" / "a.wav").write_bytes(b"RIFF")

    warnings = " ".join(read(root).warnings)

    assert "`silent`" in warnings
    assert "No recording of 1 class(es) is usable: `torn`" in warnings


def test_file_that_vanishes_is_a_clear_error(tmp_path: Path) -> None:
    """A recording that is deleted after the first look is named when it is read."""
    dataset = read(folder(tmp_path / "tones"))
    (tmp_path / "tones" / "high" / "0.wav").unlink()

    with pytest.raises(DataError, match=r"0\.wav"):
        recordings(dataset).take(np.array([0]))


def test_table_of_paths_keeps_its_other_columns(tmp_path: Path) -> None:
    """A csv names files beside it; the target and further columns stay aligned with them."""
    root = folder(tmp_path / "tones")
    (root / "high" / "3.wav").write_bytes(b"")
    names = [f"tones/{label}/{i}.wav" for i in range(6) for label in ("high", "low")]
    rows = [f"{name},{i % 3},{'h' if 'high' in name else 'l'}" for i, name in enumerate(names)]
    table = tmp_path / "clips.csv"
    table.write_text("file,speaker,pitch\n" + "\n".join(rows) + "\n")

    dataset = read(table, "pitch", group="speaker")

    found = recordings(dataset)
    assert dataset.task == "audio"
    assert isinstance(found, AudioFiles)
    assert len(found.paths) == len(dataset.features) == 11
    assert dataset.target is not None and dataset.groups is not None
    for path, label in zip(found.paths, dataset.target, strict=True):
        assert ("high" in path) == (label == "h")
    assert "speaker" not in dataset.features


def archive(path: Path, **more: Any) -> tuple[Path, list[np.ndarray]]:
    """Recordings of different lengths, joined end to end."""
    clips = [whole(tone(200 + 50 * i, samples=300 + 20 * i)) for i in range(12)]
    np.savez(
        path,
        samples=np.concatenate(clips),
        length=np.array([len(c) for c in clips]),
        y=np.arange(12) % 2,
        speaker=np.array(list("abcabcabcabc")),
        **more,
    )
    return path, clips


def test_archive_of_joined_recordings_gives_each_back(tmp_path: Path) -> None:
    """Lengths cut the samples apart; the rate comes from the file."""
    path, clips = archive(tmp_path / "clips.npz", rate=RATE)

    dataset = read(path, group="speaker")

    found = recordings(dataset)
    assert found.sample_rate == RATE
    for i in (0, 5, 11):
        np.testing.assert_array_equal(found.take(np.array([i]))[0], clips[i])
    assert dataset.target is not None and dataset.groups is not None
    assert dataset.target.tolist() == [0, 1] * 6
    assert dataset.groups.tolist() == list("abcabcabcabc")
    part = dataset.select(np.array([3, 1]))
    np.testing.assert_array_equal(recordings(part).take(np.array([0]))[0], clips[3])


def test_archive_without_a_rate_asks_for_it(tmp_path: Path) -> None:
    """The error names the option, and the option mends it; another target may be named."""
    path, _ = archive(tmp_path / "clips.npz")

    with pytest.raises(DataError, match="--sample-rate"):
        read(path)
    dataset = read(path, "speaker", sample_rate=RATE)

    assert dataset.target is not None
    assert sorted(set(dataset.target)) == ["a", "b", "c"]


def test_archive_with_wrong_lengths_is_refused(tmp_path: Path) -> None:
    """Lengths in seconds, say, do not sum up to the samples."""
    path = tmp_path / "clips.npz"
    np.savez(path, samples=np.zeros(1000, np.int16), length=np.ones(10, int), y=np.arange(10))

    with pytest.raises(DataError, match="sum up to 10"):
        read(path, sample_rate=RATE)


def test_padded_archive_loses_its_padding(tmp_path: Path) -> None:
    """Rows of one width with lengths beside them hold as many samples as the lengths say."""
    path = tmp_path / "clips.npz"
    x = np.random.default_rng(0).uniform(-1, 1, (12, 500))
    lengths = np.arange(12) * 40
    np.savez(path, audio=x, lengths=lengths, y=np.arange(12) % 2, sr=RATE)

    dataset = read(path)

    found = recordings(dataset)
    assert found.lengths.tolist() == lengths[1:].tolist()
    np.testing.assert_allclose(found.take(np.array([4]))[0], x[5, :200] * 32767, atol=0.51)
    assert any("1 of 12 recording(s) hold no samples" in w for w in found.warnings())


def test_rate_of_nothing_is_refused(tmp_path: Path) -> None:
    """A rate of zero is an error that names the option."""
    with pytest.raises(OptionError, match="0 samples per second"):
        read(folder(tmp_path / "tones"), sample_rate=0)


@settings(max_examples=30, deadline=None)
@given(
    arrays(np.int16, st.integers(1, 400)),
    st.sampled_from([8000, 11025, 16000, 44100]),
    st.sampled_from([8000, 16000]),
)
def test_converted_length_is_the_announced_one(samples: np.ndarray, rate: int, new: int) -> None:
    """Conversion rounds the number of samples up, as `AudioFiles.lengths` promises."""
    assert len(converted(samples, rate, new)) == -(-len(samples) * new // rate)


def test_hash_follows_the_samples(tmp_path: Path) -> None:
    """Equal archives have equal hashes; one changed sample changes it."""
    first, clips = archive(tmp_path / "a.npz", rate=RATE)
    same = recordings(read(first)).digest()
    clips[3][7] += 1
    np.savez(
        tmp_path / "b.npz",
        samples=np.concatenate(clips),
        length=np.array([len(c) for c in clips]),
        y=np.arange(12) % 2,
        rate=RATE,
    )

    assert recordings(read(first)).digest() == same
    assert recordings(read(tmp_path / "b.npz")).digest() != same
