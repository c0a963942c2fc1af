"""Folders of texts, one file per sample."""

from __future__ import annotations

import codecs
from collections import Counter
from pathlib import Path

from smarttune.data.content import Progress
from smarttune.data.dataset import Dataset, ReadOptions
from smarttune.data.folders import Listing
from smarttune.data.names import listed
from smarttune.data.texts import TextFiles, read_text
from smarttune.errors import DataError, OptionError

# ours: progress is told after so many files.
_TOLD_EVERY = 200
# ours: more unreadable files than this mean another encoding, not some broken files.
_MOST_UNREADABLE = 0.5


def text_folder(
    listing: Listing, options: ReadOptions, progress: Progress | None = None
) -> Dataset:
    """Texts in a folder, one file per sample, the class of each told by its subfolder.

    Files that are empty, unreadable or in another encoding are left out, and named.

    Args:
        listing: The files.
        options: Read is `encoding`, UTF-8 unless given.
        progress: Called with the share of the files looked at.

    Raises:
        DataError: If no file is left, or most of them are in another encoding.
        OptionError: If Python knows no such encoding.
    """
    import pandas as pd

    encoding = options.get("encoding")
    written = known_encoding(encoding or "utf-8-sig")
    paths = [Path(p) for p in listing.paths]
    reasons: dict[int, str] = {}
    for place, path in enumerate(paths):
        reason = _why_not(path, written)
        if reason:
            reasons[place] = reason
        if progress is not None and place % _TOLD_EVERY == 0:
            progress(place / len(paths))
    notes = _told(reasons, paths, listing, encoding)
    kept = [i for i in range(len(paths)) if i not in reasons]
    labels = listing.labels
    return Dataset(
        name=listing.root.name,
        features=pd.DataFrame({"path": [str(paths[i].relative_to(listing.root)) for i in kept]}),
        target=None if labels is None else pd.Series([labels[i] for i in kept], name="label"),
        num_rows=len(kept),
        warnings=(*listing.warnings(), *notes),
        where=str(listing.root),
        read_options={"path": str(listing.root), "target": None, "encoding": encoding},
        task="text",
        content=TextFiles(tuple(str(paths[i]) for i in kept), written),
    )


def known_encoding(encoding: str) -> str:
    """Return the name of an encoding.

    Raises:
        OptionError: If Python has none of this name.
    """
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise OptionError(
            "encoding",
            received=f"Python knows no encoding `{encoding}`",
            expected="a name such as utf-8, latin-1 or cp1252",
            mend="Correct the name.",
        ) from None
    return encoding


def _why_not(path: Path, encoding: str) -> str:
    """Why a file is no text to learn from, or ""."""
    try:
        text = read_text(path, encoding)
    except UnicodeError:
        return "not " + encoding.removesuffix("-sig").upper()
    except OSError as error:
        return error.strerror or str(error)
    if "\0" in text:
        return "not text"
    return "" if text.strip() else "empty"


def _told(
    reasons: dict[int, str], paths: list[Path], listing: Listing, encoding: str | None
) -> tuple[str, ...]:
    """One sentence on the files left out; an error if too few are left."""
    if not reasons:
        return ()
    kinds = Counter(reasons.values())
    named = [str(paths[i].relative_to(listing.root)) for i in reasons]
    shown = ", ".join(f"{n:,} {reason}" for reason, n in kinds.most_common())
    wrong = sum(n for reason, n in kinds.items() if reason.startswith("not "))
    if len(reasons) == len(paths) or wrong > _MOST_UNREADABLE * len(paths):
        mend = "Name their encoding, for example --encoding latin-1 or --encoding cp1252."
        raise DataError(
            str(listing.root),
            received=f"{len(reasons):,} of {len(paths):,} files cannot be used ({shown}): "
            + listed(named),
            expected=f"files of text in {(encoding or 'utf-8').upper()}",
            mend=mend if wrong else "Check how they were written.",
        )
    hint = " If they are in another encoding, name it with --encoding." if wrong else ""
    return (f"{len(reasons):,} file(s) left out ({shown}): {listed(named)}.{hint}",)
