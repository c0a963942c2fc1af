"""Facts x rules -> Recommendation: firing, resolution, and what comes of them."""

from smarttune.recommendation.families import searched_families
from smarttune.recommendation.firing import check_pins, recommend
from smarttune.recommendation.settings import (
    SCHEMA,
    Advice,
    Overruled,
    Reason,
    Recommendation,
    Setting,
    UnknownRule,
)

__all__ = [
    "SCHEMA",
    "Advice",
    "Overruled",
    "Reason",
    "Recommendation",
    "Setting",
    "UnknownRule",
    "check_pins",
    "recommend",
    "searched_families",
]
