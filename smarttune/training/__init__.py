"""Policies inside one trial: order of the data, stopping, and exact continuation."""

from smarttune.training.batches import epoch_batches, num_batches
from smarttune.training.checkpoint import restore_state, save_state
from smarttune.training.stopping import WindowedStopping

__all__ = ["WindowedStopping", "epoch_batches", "num_batches", "restore_state", "save_state"]
