"""What general compression makes of a text: bits per character without any network."""

from __future__ import annotations

import bz2
import lzma
import math
from collections.abc import Callable

import numpy as np

from smarttune.baselines.contest import Allowance, Contest, Made, Recipe, Unsuited
from smarttune.data.corpus import CorpusContent

# ours: characters of the training text that are compressed per second allowed; lzma does about
# a million, twice over, and bz2 comes on top.
_CHARACTERS_PER_SECOND = 200_000


def compression(contest: Contest, allowance: Allowance) -> Made:
    """Bits per character of the test text for a compressor that has seen the training text.

    They are what the test text adds to the length of the compressed training text; the better
    of lzma and bz2 counts. Of a long training text the end is taken.
    """
    content = contest.dataset.content
    if not isinstance(content, CorpusContent):
        raise Unsuited("Only running text can be compressed.")
    length = int(contest.settings["model.max_sequence_length"])
    rows = contest.split.test
    first, last = int(rows[0]) * length + 1, (int(rows[-1]) + 1) * length + 1
    seen_from = max(0, first - int(_CHARACTERS_PER_SECOND * allowance.seconds))
    codes = content.characters.codes
    before, test = _utf8(codes[seen_from:first]), _utf8(codes[first:last])
    bits = min(_added(compress, before, test) for compress in (_xz, bz2.compress))
    per_character = 8 * bits / (last - first)
    note = "" if not seen_from else f"It saw the last {first - seen_from:,} characters before."
    return Made(
        metrics={
            "bits_per_character": per_character,
            "crossentropy": per_character * math.log(2),
        },
        note=note,
    )


def _xz(raw: bytes) -> bytes:
    return lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME)


def _added(compress: Callable[[bytes], bytes], before: bytes, text: bytes) -> int:
    return len(compress(before + text)) - len(compress(before))


def _utf8(codes: np.ndarray) -> bytes:
    return "".join(map(chr, codes.tolist())).encode("utf-8", "surrogatepass")


COMPRESSION = Recipe(
    "compression",
    "strong",
    "what the test text adds to the compressed training text, by lzma or bz2",
    compression,
)
