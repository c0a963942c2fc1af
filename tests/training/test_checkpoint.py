"""The whole state of a training."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smarttune.errors import RunError
from smarttune.training import restore_state, save_state
from smarttune.training.checkpoint import set_state, state_of

VALUES = [np.arange(3.0), np.ones((2, 2), dtype="float32"), np.array(7), np.zeros((0, 4))]


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    """Order, shapes, types and bits survive, also beyond ten variables."""
    values = VALUES * 4

    save_state(values, tmp_path / "c.npz")
    back = restore_state(tmp_path / "c.npz")

    assert len(back) == len(values)
    for a, b in zip(back, values, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert (a == b).all()


def test_saving_leaves_nothing_else(tmp_path: Path) -> None:
    """The checkpoint is one file, replaced whole."""
    save_state(VALUES, tmp_path / "c.npz")
    save_state(VALUES[:1], tmp_path / "c.npz")

    assert [p.name for p in tmp_path.iterdir()] == ["c.npz"]
    assert len(restore_state(tmp_path / "c.npz")) == 1


def damaged(content: bytes) -> dict[str, bytes]:
    """Ways in which a file of some content can be damaged."""
    return {
        "half": content[: len(content) // 2],
        "without its end": content[:-1],
        "without its start": content[1:],
        "text": b"not a checkpoint",
        "one bit in the values": content[:150] + bytes([content[150] ^ 1]) + content[151:],
        "zeros": bytes(len(content)),
    }


def outcome_of(file: Path) -> tuple[str, str]:
    """The type of the error that reading the file raises, and where it says it is."""
    try:
        restore_state(file)
    except Exception as error:  # noqa: BLE001  # which one is the question
        return type(error).__name__, getattr(error, "where", "")
    finally:
        gc.collect()  # a file that NumPy left open would warn in a later test
    return "", ""


def marked(test: Any) -> Any:
    """The test with a reprieve: np.load leaves a file open whose directory it cannot read."""
    for ignored in ("ResourceWarning", "pytest.PytestUnraisableExceptionWarning"):
        test = pytest.mark.filterwarnings(f"ignore::{ignored}")(test)
    return test


@marked
@pytest.mark.parametrize("how", damaged(b"x" * 200))
def test_damaged_files_are_the_runs_error(tmp_path: Path, how: str) -> None:
    """Whatever is wrong with the file, the error names it and the mend."""
    file = tmp_path / "c.npz"
    save_state(VALUES, file)
    file.write_bytes(damaged(file.read_bytes())[how])

    raised, where = outcome_of(file)

    assert (raised, where) == ("RunError", str(file))


def test_a_missing_file_is_the_runs_error(tmp_path: Path) -> None:
    """A checkpoint that is gone is told by name."""
    with pytest.raises(RunError, match=r"c\.npz"):
        restore_state(tmp_path / "c.npz")


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    """A file that asks for unpickling is refused."""
    np.savez(tmp_path / "c.npz", v00000=np.array([{"a": 1}], dtype=object))

    with pytest.raises(RunError):
        restore_state(tmp_path / "c.npz")


def with_byte(content: bytes, offset: int, value: int) -> bytes:
    """The file with one byte of its last directory entry changed, which zipfile trusts."""
    at = content.rindex(b"PK\x01\x02") + offset
    return content[:at] + bytes([value]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: with_byte(content, 6, 99),  # version needed to read
        lambda content: with_byte(content, 8, 1),  # flags: encrypted
        lambda content: with_byte(content, 10, 99),  # compression method
    ],
    ids=["empty", "version", "encrypted", "compression"],
)
@marked
def test_damaged_headers_are_the_runs_error(tmp_path: Path, damage: Any) -> None:
    """An empty file and a damaged directory are no bugs of ours either."""
    file = tmp_path / "c.npz"
    save_state(VALUES, file)
    file.write_bytes(damage(file.read_bytes()))

    raised, _ = outcome_of(file)

    assert raised == "RunError"


@pytest.fixture(scope="module")
def _keras() -> Any:
    """Keras, imported when the first test needs it."""
    return pytest.importorskip("keras")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
class TestKeras:
    """Models with an optimizer, dropout and batch statistics."""

    keras: Any

    @pytest.fixture(autouse=True)
    def _with_keras(self, _keras: Any) -> None:
        self.keras = _keras

    def model(self, units: int = 4) -> Any:
        """A tiny compiled network with every kind of state."""
        layers = self.keras.layers
        self.keras.utils.set_random_seed(0)
        model = self.keras.Sequential(
            [
                layers.Input((3,)),
                layers.Dense(units),
                layers.BatchNormalization(),
                layers.Dropout(0.5, seed=1),
                layers.Dense(1),
            ]
        )
        schedule = self.keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
        model.compile(optimizer=self.keras.optimizers.Adam(schedule), loss="mse", jit_compile=False)
        return model

    def train(self, model: Any, steps: int) -> None:
        """A few steps on fixed data."""
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(8, 3)).astype("float32"), np.ones((8, 1), dtype="float32")
        for _ in range(steps):
            model.train_on_batch(x, y)

    def test_a_continued_training_equals_one_that_ran_through(self, tmp_path: Path) -> None:
        """Weights, moments, step count, schedule and dropout go on bit for bit."""
        through, first, second = self.model(), self.model(), self.model()
        self.train(through, 6)
        self.train(first, 3)
        save_state(state_of(first), tmp_path / "c.npz")
        self.train(second, 1)  # whatever it held is replaced

        set_state(second, restore_state(tmp_path / "c.npz"))
        self.train(second, 3)

        a, b = state_of(through), state_of(second)
        assert len(a) == len(b) > len(through.variables)
        assert all((u == v).all() for u, v in zip(a, b, strict=True))
        assert int(second.optimizer.iterations) == 6

    def test_weights_alone_are_not_enough(self) -> None:
        """Without the optimizer the continued training differs, so the state matters."""
        through, second = self.model(), self.model()
        self.train(through, 3)
        set_state(second, state_of(through, optimizer=False), optimizer=False)
        self.train(through, 2)
        self.train(second, 2)

        assert any((u != v).any() for u, v in zip(state_of(through), state_of(second), strict=True))

    def test_the_state_is_a_copy(self) -> None:
        """Training on does not change a state that was taken before."""
        model = self.model()
        before = state_of(model)
        kept = [v.copy() for v in before]

        self.train(model, 2)

        assert all((u == v).all() for u, v in zip(before, kept, strict=True))

    def test_another_structure_is_the_runs_error(self) -> None:
        """A model that was built otherwise does not take the state."""
        state = state_of(self.model())

        with pytest.raises(RunError, match="model-building code has changed"):
            set_state(self.model(units=5), state)
        with pytest.raises(RunError):
            set_state(self.model(), state[:-1])


def test_taking_the_state_warns_of_nothing(_keras: Any) -> None:
    """A user who turns warnings into errors can train."""
    model = _keras.Sequential([_keras.layers.Input((2,)), _keras.layers.Dense(1)])
    model.compile(optimizer="adam", loss="mse", jit_compile=False)

    assert state_of(model)
