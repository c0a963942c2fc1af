"""The backend on which Keras computes: chosen among those installed, imported quietly."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator

from smarttune.errors import MissingExtraError, OptionError, SmartTuneError, did_you_mean

_BACKENDS = ("tensorflow", "jax", "torch")
_EXTRAS = ("tensorflow", "jax")  # backends that an extra of ours installs


def prepare_backend() -> None:
    """Choose an installed Keras backend and import it without its start-up log.

    Raises:
        MissingExtraError: If no backend is installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    wanted = os.environ.get("KERAS_BACKEND")
    installed = [name for name in _BACKENDS if importlib.util.find_spec(name)]
    if wanted is not None and wanted not in installed:
        raise _missing_backend(wanted)
    if not installed:
        raise MissingExtraError(
            "a search trains Keras models", module="tensorflow", extra="tensorflow-cpu"
        )
    if wanted is None and "tensorflow" not in installed:
        os.environ["KERAS_BACKEND"] = installed[0]
    if "keras" not in sys.modules:
        with _quiet_stderr():
            importlib.import_module("keras")


def _missing_backend(wanted: str) -> SmartTuneError:
    where = f"KERAS_BACKEND={wanted}"
    if wanted in _EXTRAS:
        return MissingExtraError(where, module=wanted, extra=wanted)
    if wanted in _BACKENDS:
        return OptionError(
            where,
            received=f"the Python package `{wanted}` is not installed",
            expected="an installed backend",
            mend=f"Install it with: pip install {wanted}; or unset KERAS_BACKEND.",
        )
    return OptionError(
        where,
        received="this is no backend of Keras",
        expected="one of " + ", ".join(_BACKENDS),
        mend=f"Unset KERAS_BACKEND, or correct it.{did_you_mean(wanted, _BACKENDS)}",
    )


@contextlib.contextmanager
def tensorflow_left_out() -> Iterator[None]:
    """Keep Keras on another backend from importing TensorFlow, where it is installed.

    Seeding and configurations would do so only to seed it, too, and to ask whether a value is
    one of its kinds; the import takes seconds and 300 MB. Once somebody has imported it, nothing
    is kept from anyone.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    from keras.src.utils.module_utils import tensorflow  # Keras's own way to ask for it

    tensorflow._available = False  # noqa: SLF001
    try:
        yield
    finally:
        tensorflow._available = None  # noqa: SLF001


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Swallow what C++ libraries write while they are imported; give it back on failure.

    TensorFlow logs before its log level can be set.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as swallowed:
        os.dup2(swallowed.fileno(), 2)
        try:
            yield
        except BaseException:
            swallowed.seek(0)
            os.write(kept, swallowed.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
