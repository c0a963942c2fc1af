"""The same program, the same numbers: every bit of two trainings agrees.

Seeds decide what is drawn; they do not decide in which order a parallel sum is added up, and
sums of floats depend on it. Backends have a switch for that, which costs time.
"""

from __future__ import annotations

import os
from typing import Any

import keras

from smarttune.backend import tensorflow_left_out
from smarttune.errors import OptionError

# What XLA reads when JAX first touches a GPU; later changes are ignored.
XLA_FLAG = "--xla_gpu_deterministic_ops"
# Seeds that this process has had.
_seeded: set[int] = set()
# keras.utils.set_random_seed hands the seed to NumPy, which takes 32 bits without a sign.
LARGEST_SEED = 2**32 - 1


def make_deterministic(seed: int) -> None:
    """Seed everything, and have the backend compute in a fixed order.

    Seeds Python, NumPy and the backend. On TensorFlow it turns on op determinism, for the rest
    of the process: operations that have no deterministic version then raise. On JAX, CPUs and
    TPUs compute in a fixed order anyway; a GPU needs a flag in the environment before Python
    starts, and this function can only look whether it is there. Whoever sets the variable
    inside of a program that has used JAX before is not found out.

    Calling it again does the same: the streams begin anew at `seed`. Other hardware, another
    number of threads or other versions may give other numbers.

    Args:
        seed: 0 to 4294967295.

    Raises:
        OptionError: If the seed is out of range, if JAX runs on a GPU without the flag, or if
            the backend is neither TensorFlow nor JAX.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
        raise OptionError(
            "seed",
            received=f"{seed!r}",
            expected=f"a whole number from 0 to {LARGEST_SEED}",
            mend="Choose one, such as 0.",
        )
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        switch: Any = tf.config.experimental.enable_op_determinism
    elif backend == "jax":
        switch = _need_the_flag
    else:
        raise OptionError(
            "KERAS_BACKEND",
            received=f"`{backend}`",
            expected="tensorflow or jax",
            mend="Set the environment variable to one of them before Keras is imported.",
        )
    keras.utils.set_random_seed(seed)
    switch()


def seed_everything(seed: int, *, goes_on: bool = False) -> None:
    """Do what `keras.utils.set_random_seed` does, and let compiled functions live where they may.

    Seeded, TensorFlow forgets the kernels of everything that it has run, for a random operation
    that counts its draws must begin anew. Making those of a training step again takes as long as
    some epochs of a small network. A kernel knows its seed, so with one that this process has not
    had there is none to forget.

    Args:
        seed: 0 to 4294967295.
        goes_on: Whether what follows goes on with a training of this seed, so that nothing has to
            begin anew.
    """
    if keras.backend.backend() != "tensorflow":
        with tensorflow_left_out():
            keras.utils.set_random_seed(seed)
        return
    if seed in _seeded and not goes_on:
        keras.utils.set_random_seed(seed)
        return
    _seeded.add(seed)
    from tensorflow.python.eager import context

    running = context.context()
    handle, running._context_handle = running._context_handle, None  # noqa: SLF001 -- see above
    try:
        keras.utils.set_random_seed(seed)
    finally:
        running._context_handle = handle  # noqa: SLF001


def _need_the_flag() -> None:
    import jax

    if jax.default_backend() != "gpu" or _is_set(os.environ.get("XLA_FLAGS", "")):
        return
    raise OptionError(
        "XLA_FLAGS",
        received="the flag for deterministic operations is not there, and JAX runs on a GPU",
        expected=f"{XLA_FLAG}=true",
        mend=f"Start Python with XLA_FLAGS={XLA_FLAG}=true in its environment.",
    )


def _is_set(flags: str) -> bool:
    """Whether the flag is on; XLA takes the last word, and a bare flag as true."""
    found = [flag.partition("=") for flag in flags.split()]
    values = [value.lower() for name, _, value in found if name == XLA_FLAG]
    return bool(values) and values[-1] in ("", "true", "1")
