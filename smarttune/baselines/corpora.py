"""What general compression makes of a text: bits per character without any network."""

from __future__ import annotations

from smarttune.baselines.contest import Allowance, Contest, Made, Recipe, Unsuited


def compression(contest: Contest, allowance: Allowance) -> Made:
    """Bits per character of the test text for a compressor that has seen the training text."""
    raise Unsuited("Not available yet.")


COMPRESSION = Recipe(
    "compression",
    "strong",
    "what the test text adds to the compressed training text, by lzma or bz2",
    compression,
)
