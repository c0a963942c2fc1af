"""Models without a network, answered on the same rows: what a network has to beat."""

from __future__ import annotations

from smarttune.baselines.choosing import baselines_for
from smarttune.baselines.contest import Baseline, Contest

__all__ = ["Baseline", "Contest", "baselines_for"]
