"""Reading tables from files and memory, and dividing them into parts."""

from __future__ import annotations

from smarttune.data.dataset import Dataset
from smarttune.data.reading import read
from smarttune.data.splitting import Split, split

__all__ = ["Dataset", "Split", "read", "split"]
