"""Memory of the process and of the device, between trials."""

from __future__ import annotations

import gc

import keras


def release_memory() -> None:
    """Free what a trial left that ran out of memory, before it is tried again in smaller parts.

    Traced programs and their buffers hang on cycles that only a full collection finds.
    """
    keras.backend.clear_session()
    gc.collect()
