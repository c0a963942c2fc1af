"""Pictures from folders, tables of paths, archives, IDX files and arrays."""

from __future__ import annotations

import gzip
import os
import struct
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from smarttune.data import Dataset, read
from smarttune.data.decoding import decoded, nearest, smooth
from smarttune.data.idx import read_idx
from smarttune.data.images import ImageArrays, ImageFiles
from smarttune.errors import DataError, OptionError
from smarttune.fingerprint import measure


def files(dataset: Dataset) -> ImageFiles:
    """The content of a data set of picture files."""
    assert isinstance(dataset.content, ImageFiles)
    return dataset.content


def arrays(dataset: Dataset) -> ImageArrays:
    """The content of a data set of pictures in memory."""
    assert isinstance(dataset.content, ImageArrays)
    return dataset.content


def labels(dataset: Dataset) -> list[object]:
    """The target as a list."""
    assert isinstance(dataset.target, pd.Series)
    return list(dataset.target)


def picture(value: int, side: int = 8, mode: str = "L") -> Image.Image:
    """A plain picture of one shade."""
    return Image.new("L", (side, side), value).convert(mode)


def folder(root: Path, count: int = 6, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """PNG files by class, each of a shade of its own."""
    for place, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(count):
            picture(100 * place + i).save(root / name / f"{i:02d}.png")
    return root


def idx(array: np.ndarray) -> bytes:
    """An array as the file format of MNIST has it."""
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + bytes(array.astype(np.uint8))
    )


def test_folders_are_classes(tmp_path: Path) -> None:
    """Names of folders are labels, pictures are found at any depth, options read them again."""
    root = folder(tmp_path / "pets")
    (root / "dog" / "old").mkdir()
    picture(250).save(root / "dog" / "old" / "x.JPG", "JPEG")

    dataset = read(root)
    options = dict(dataset.read_options)
    again = read(options.pop("path"), **options)

    assert labels(dataset) == ["cat"] * 6 + ["dog"] * 7
    assert dataset.name == "pets"
    assert dataset.features["path"][6] == os.path.join("dog", "00.png")
    found = files(dataset).take(np.array([1, 8, 12]))
    assert found.shape == (3, 8, 8, 1)
    assert np.abs(found.mean(axis=(1, 2, 3)) - [1, 102, 250]).max() < 1
    assert files(again).digest() == files(dataset).digest()
    facts = measure(dataset).facts().values_dict()
    assert facts["data.image_side"] == 8
    assert facts["data.image_channels"] == 1
    assert facts["model.problem"] == "binary"
    assert facts["data.flip_sensitive"] is False


def test_a_broken_picture_among_many_is_left_out_and_named(tmp_path: Path) -> None:
    """Cut short, empty, or something else under the name of a picture."""
    root = folder(tmp_path)
    whole = (root / "cat" / "00.png").read_bytes()
    (root / "cat" / "00.png").write_bytes(whole[:40])
    (root / "dog" / "03.png").write_bytes(b"")
    (root / "dog" / "04.png").write_text("no picture")

    dataset = read(root)

    assert len(dataset.features) == len(files(dataset)) == len(labels(dataset)) == 9
    said = next(w for w in dataset.warnings if "cannot be read" in w)
    assert said.startswith("3 of 12 picture(s)")
    assert all(name in said for name in ("00.png", "03.png (empty file)", "04.png"))
    kept = files(dataset).take(np.arange(9))[:, 0, 0, 0].tolist()
    assert kept == [1, 2, 3, 4, 5, 100, 101, 102, 105]


def test_a_folder_of_broken_pictures_is_refused(tmp_path: Path) -> None:
    """The error shows the first ones with what is wrong."""
    (tmp_path / "a").mkdir()
    for i in range(7):
        (tmp_path / "a" / f"{i}.png").write_bytes(b"\x89PNG")

    with pytest.raises(DataError, match=r"7 of its 7 picture.*0\.png.*and 2 more"):
        read(tmp_path)


def test_most_pictures_broken_is_refused(tmp_path: Path) -> None:
    """Two of three missing is no small loss but a mistake elsewhere."""
    root = folder(tmp_path)
    for i in range(4):
        for name in ("cat", "dog"):
            (root / name / f"{i:02d}.png").write_bytes(b"")

    with pytest.raises(DataError, match="8 of its 12 picture"):
        read(root)


def test_an_empty_class_and_other_files_are_named(tmp_path: Path) -> None:
    """A class without pictures is no class, and nobody wonders where it went."""
    root = folder(tmp_path)
    (root / "fish").mkdir()
    (root / "cat" / "notes.md").write_text("soft")

    dataset = read(root)

    assert set(labels(dataset)) == {"cat", "dog"}
    assert any("`fish`" in w or "fish" in w for w in dataset.warnings)
    assert any(".md" in w for w in dataset.warnings)


def test_mixed_sizes_and_modes_become_one_kind(tmp_path: Path) -> None:
    """Colour wins over grey; palettes, transparency and 16 bits are brought to 8 bits."""
    root = folder(tmp_path, count=2)
    clear = Image.new("RGBA", (8, 8), (0, 0, 255, 0))
    clear.save(root / "cat" / "a.png")
    Image.new("RGB", (12, 6), (255, 0, 0)).convert("P").save(root / "cat" / "b.png")
    deep = Image.fromarray(np.full((8, 8), 257 * 100, np.uint16))
    deep.save(root / "cat" / "c.png")
    picture(30).convert("1").save(root / "cat" / "d.png")

    dataset = read(root)
    squares = files(dataset).resized(np.arange(6), 8)
    means = squares.mean(axis=(1, 2))

    assert files(dataset).channels == 3
    assert any("grey" in w and "colour" in w for w in dataset.warnings)
    assert any("differ in size (2 sizes" in w for w in dataset.warnings)
    np.testing.assert_allclose(means[2], 255)  # transparent parts lie on white
    np.testing.assert_allclose(means[3], (255, 0, 0), atol=1)
    np.testing.assert_allclose(means[4], 100, atol=1)
    assert isinstance(files(dataset).take(np.arange(6)), list)


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    """A camera's note of its orientation is obeyed."""
    pixels = np.zeros((4, 8), np.uint8)
    pixels[:, :4] = 255
    upright = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it right
    upright.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)

    np.testing.assert_array_equal(decoded(tmp_path / "turned.png", 1)[..., 0], pixels)


def test_a_table_of_paths(tmp_path: Path) -> None:
    """Paths are relative to the table; missing files are left out with their labels."""
    folder(tmp_path / "pets")
    paths = [f"pets/{c}/{i:02d}.png" for c in ("cat", "dog") for i in range(6)]
    frame = pd.DataFrame(
        {"file": ["pets/gone.png", *paths], "weight": [9.0, *np.arange(12.0)], "year": 2020}
    )
    frame.to_csv(tmp_path / "pets.csv", index=False)

    dataset = read(tmp_path / "pets.csv", "weight")

    assert dataset.task == "image"
    assert labels(dataset) == list(np.arange(12.0))
    assert files(dataset).take(np.array([7]))[0, 0, 0, 0] == 101
    assert any("gone.png" in w for w in dataset.warnings)
    assert any("`year`" in w or "year" in w for w in dataset.warnings)
    assert measure(dataset, problem="regression").facts().value("model.problem") == "regression"


def test_a_single_picture_can_be_read_for_prediction(tmp_path: Path) -> None:
    """One file is a data set of one picture without a label."""
    picture(77).save(tmp_path / "one.png")

    dataset = read(tmp_path / "one.png")

    assert dataset.target is None
    assert len(dataset.features) == 1
    assert files(dataset).take(np.array([0])).mean() == 77


def test_archives_hold_pictures_and_labels(tmp_path: Path) -> None:
    """Names in the usual ways; floats from 0 to 1 become bytes; one channel may be left out."""
    x = np.linspace(0, 1, 20 * 64).reshape(20, 8, 8)
    for names in (("x", "y"), ("images", "labels")):
        path = tmp_path / f"{names[0]}.npz"
        np.savez(path, **{names[0]: x, names[1]: np.arange(20) % 4})
        dataset = read(path)

        assert labels(dataset) == [i % 4 for i in range(20)]
        assert arrays(dataset).pixels.shape == (20, 8, 8, 1)
        np.testing.assert_array_equal(arrays(dataset).pixels[..., 0], np.rint(x * 255))


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_find_their_labels(tmp_path: Path, packed: bool) -> None:
    """As the MNIST files are called, compressed or not."""
    x = np.arange(30 * 36).reshape(30, 6, 6) % 256
    y = np.arange(30) % 10
    pack, end = (gzip.compress, ".gz") if packed else (bytes, "")
    (tmp_path / f"t10k-images-idx3-ubyte{end}").write_bytes(pack(idx(x)))
    (tmp_path / f"t10k-labels-idx1-ubyte{end}").write_bytes(pack(idx(y)))

    dataset = read(tmp_path / f"t10k-images-idx3-ubyte{end}")

    np.testing.assert_array_equal(arrays(dataset).pixels[..., 0], x)
    assert labels(dataset) == y.tolist()
    assert measure(dataset).facts().value("data.flip_sensitive") is True
    with pytest.raises(OptionError, match="labels are in the file beside"):
        read(tmp_path / f"t10k-images-idx3-ubyte{end}", "label")


def test_labels_in_another_number_are_refused(tmp_path: Path) -> None:
    """Both numbers are named, for files and for arrays."""
    x = np.zeros((30, 6, 6), np.uint8)
    (tmp_path / "a-images-idx3-ubyte").write_bytes(idx(x))
    (tmp_path / "a-labels-idx1-ubyte").write_bytes(idx(np.zeros(29)))

    with pytest.raises(DataError, match="30 pictures and 29 labels"):
        read(tmp_path / "a-images-idx3-ubyte")
    with pytest.raises(DataError, match="30 pictures and 28 labels"):
        read((x, np.zeros(28)), task="image")


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    code=st.sampled_from([0x08, 0x09, 0x0B, 0x0C, 0x0D, 0x0E]),
    cut=st.integers(0, 40),
)
def test_idx_is_read_whole_or_refused(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], code: int, cut: int
) -> None:
    """Every type and shape comes back; a file that is cut short never gives an array."""
    kinds = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
    array = np.arange(np.prod(shape)).reshape(shape).astype(kinds[code])
    header = bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    data = header + array.tobytes()
    path = tmp_path_factory.mktemp("idx") / "a.idx"
    path.write_bytes(data[: len(data) - cut] if cut else data)

    if cut:
        with pytest.raises(DataError):
            read_idx(path)
    else:
        np.testing.assert_array_equal(read_idx(path), array)


def test_arrays_in_memory() -> None:
    """Channels, labels by column, text labels, missing labels, and shapes that are none."""
    x = np.random.default_rng(0).integers(0, 256, (12, 8, 10, 3)).astype(np.uint8)

    several = read((x, np.eye(3, dtype=int)[np.arange(12) % 3] | 1), task="image")
    assert isinstance(several.target, pd.DataFrame)
    assert several.target.shape == (12, 3)

    named = read((x, np.array(["b", "a"] * 6)), task="image")
    assert labels(named) == ["b", "a"] * 6

    holes = np.array([0, 1, np.nan] * 4)
    some = read((x, holes), task="image")
    assert len(arrays(some)) == len(some.features) == 8
    np.testing.assert_array_equal(arrays(some).pixels, x[np.isfinite(holes)])
    assert some.num_without_target == 4

    with pytest.raises(DataError, match="moveaxis"):
        read((np.zeros((12, 3, 8, 10), np.uint8), np.arange(12)), task="image")
    with pytest.raises(DataError, match="not finite"):
        read((np.full((12, 8, 8, 1), np.nan), np.arange(12)), task="image")


@pytest.mark.parametrize(
    ("low", "high", "first", "last"), [(0, 1, 0, 255), (0, 200, 0, 200), (-1, 1, 0, 255)]
)
def test_floats_become_bytes(low: float, high: float, first: int, last: int) -> None:
    """From 0 to 1, from 0 to 255, and anything else stretched with a warning."""
    x = np.linspace(low, high, 10 * 16).reshape(10, 4, 4, 1)

    dataset = read((x, np.arange(10)), task="image")

    pixels = arrays(dataset).pixels
    assert (pixels.min(), pixels.max()) == (first, last)
    assert bool(dataset.warnings) == (low < 0)


def test_classes_of_pixels_in_arrays() -> None:
    """An array of labels as large as the pictures makes a segmentation."""
    x = np.zeros((20, 8, 8), np.uint8)
    y = np.zeros((20, 8, 8), np.int64)
    y[:, :2] = 5

    fingerprint = measure(read((x, y), task="image"))
    facts = fingerprint.facts().values_dict()

    assert fingerprint.classes == (0, 5)
    assert facts["model.problem"] == "segmentation"
    assert facts["data.num_outputs"] == 2
    assert facts["data.imbalance_ratio"] == 3
    with pytest.raises(OptionError, match="segmentation"):
        measure(read((x, y), task="image"), problem="multiclass")
    with pytest.raises(DataError, match="class 5"):
        measure(read((x, np.full((20, 8, 8), 5)), task="image"))
    with pytest.raises(DataError, match="one whole number per pixel"):
        read((x, y[:, :4]), task="image")


def test_label_pictures_lie_in_another_folder(tmp_path: Path) -> None:
    """They have the names of the pictures; palette indices are classes."""
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    for i in range(12):
        picture(i, mode="RGB").save(tmp_path / "x" / f"{i:02d}.jpg")
        mask = np.zeros((8, 8), np.uint8)
        mask[: i % 4] = 2
        label = Image.fromarray(mask)
        if i == 3:
            label.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
        label.save(tmp_path / "y" / f"{i:02d}.png")

    dataset = read(tmp_path / "x", masks=str(tmp_path / "y"))
    content = files(dataset)

    assert measure(dataset).classes == (0, 2)
    assert content.resized_masks(np.array([3]), 8)[0, :, 0].tolist() == [2, 2, 2, 0, 0, 0, 0, 0]
    assert content.select(np.array([5, 3])).masks[1].endswith("03.png")

    (tmp_path / "y" / "07.png").unlink()
    with pytest.raises(DataError, match=r"1 picture.*07\.jpg"):
        read(tmp_path / "x", masks=str(tmp_path / "y"))
    with pytest.raises(DataError, match="no such folder"):
        read(tmp_path / "x", masks=str(tmp_path / "z"))


def test_a_label_picture_in_colours_is_refused(tmp_path: Path) -> None:
    """Colours are no classes; the error says how to save them."""
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    for i in range(12):
        picture(i).save(tmp_path / "x" / f"{i}.png")
        Image.new("RGB", (8, 8), (200, i, 0)).save(tmp_path / "y" / f"{i}.png")

    with pytest.raises(DataError, match="channels that differ"):
        measure(read(tmp_path / "x", masks=str(tmp_path / "y")))


def test_a_file_that_breaks_later_counts_as_black_with_one_warning(tmp_path: Path) -> None:
    """A training of hours does not stop for it, and says so once."""
    content = files(read(folder(tmp_path)))
    (tmp_path / "cat" / "02.png").write_bytes(b"gone")
    rows = np.array([1, 2])

    with pytest.warns(UserWarning, match=r"02\.png.*black"):
        first = content.resized(rows, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = content.resized(rows, 8)

    assert first[:, 0, 0, 0].tolist() == second[:, 0, 0, 0].tolist() == [1, 0]


def test_digests_change_with_the_contents(tmp_path: Path) -> None:
    """A resumed run notices other pictures."""
    root = folder(tmp_path)
    before = files(read(root)).digest()
    picture(200, side=9).save(root / "cat" / "00.png")
    assert files(read(root)).digest() != before

    x = np.zeros((12, 4, 4), np.uint8)
    first = arrays(read((x, np.arange(12) % 2), task="image")).digest()
    x[3, 2, 1] = 1
    assert arrays(read((x, np.arange(12) % 2), task="image")).digest() != first


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    side=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_arrays_are_scaled_as_pillow_scales_files(
    height: int, width: int, side: int, seed: int
) -> None:
    """To within one step, so that arrays and files of the same pictures train the same."""
    pixels = np.random.default_rng(seed).integers(0, 256, (1, height, width, 3)).astype(np.uint8)

    ours = smooth(pixels, side)[0].astype(int)
    pillow = Image.fromarray(pixels[0]).resize((side, side), Image.Resampling.BILINEAR)

    assert np.abs(ours - np.asarray(pillow)).max() <= 1


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20), side=st.integers(1, 30))
def test_labels_of_pixels_are_never_mixed(height: int, width: int, side: int) -> None:
    """Scaling yields labels that were there, and all of them when it doubles the size."""
    labels_of_pixels = np.arange(height * width).reshape(1, height, width) * 10

    found = nearest(labels_of_pixels, side)

    assert found.shape == (1, side, side)
    assert np.isin(found, labels_of_pixels).all()
    if side >= 2 * max(height, width):
        assert np.isin(labels_of_pixels, found).all()


@pytest.mark.slow
def test_ten_thousand_files_are_scanned_in_little_memory(tmp_path: Path) -> None:
    """Names and labels are kept, pictures are not."""
    one = tmp_path / "one.png"
    picture(5).save(one)
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(5_000):
            os.link(one, tmp_path / "set" / name / f"{i}.png")
    read(folder(tmp_path / "warm"))  # imports are no matter of the data

    tracemalloc.start()
    dataset = read(tmp_path / "set")
    measure(dataset)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(dataset.features) == 10_000
    assert peak < 30e6
