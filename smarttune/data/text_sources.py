"""Sources of texts: a folder with one file per sample, and files of labelled lines."""

from __future__ import annotations

import codecs
from collections import Counter
from pathlib import Path

from smarttune.data.dataset import Dataset, Progress, RawTable
from smarttune.data.folders import Listing
from smarttune.data.names import listed
from smarttune.data.opening import HEAD_BYTES, broken_archive, head_of, open_binary, undecodable
from smarttune.data.texts import TextFiles, read_text
from smarttune.errors import DataError, OptionError

# ours: progress is told after so many files.
_TOLD_EVERY = 200
# ours: more unreadable files than this mean another encoding, not some broken files.
_MOST_UNREADABLE = 0.5
# ours: with fewer lines, a first word that repeats is chance.
_LEAST_LINES = 20
# ours: labels repeat; each first word stands on at least so many lines on average ...
_LINES_PER_LABEL = 5
# ours: ... and there are not more of them than a list of classes would have.
_MOST_LABELS = 200
# ours: a label and two words of text, in most lines.
_LEAST_WORDS = 3
_MOST = 0.5
# A first word that holds one of these belongs to a table.
_DELIMITERS = frozenset(",;\t|")


def texts_of_folder(
    listing: Listing, *, encoding: str | None = None, progress: Progress | None = None
) -> Dataset:
    """Texts in a folder, one file per sample, the class of each told by its subfolder.

    Files that are empty, unreadable or in another encoding are left out, and named.

    Args:
        listing: The files.
        encoding: How they are written; UTF-8 unless told otherwise.
        progress: Called with the share of the files looked at.

    Raises:
        DataError: If no file is left, or most of them are in another encoding.
        OptionError: If Python knows no such encoding.
    """
    import pandas as pd

    written = _known(encoding or "utf-8-sig")
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
    options = {"path": str(listing.root), "target": None}
    return Dataset(
        name=listing.root.name,
        features=pd.DataFrame({"path": [str(paths[i].relative_to(listing.root)) for i in kept]}),
        target=None if labels is None else pd.Series([labels[i] for i in kept], name="label"),
        num_rows=len(kept),
        warnings=(*listing.warnings(), *notes),
        where=str(listing.root),
        read_options=options | ({"encoding": encoding} if encoding else {}),
        task="text",
        content=TextFiles(tuple(str(paths[i]) for i in kept), written),
    )


def _known(encoding: str) -> str:
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


def has_labelled_lines(path: Path, encoding: str | None = None) -> bool:
    """Whether the lines of a file are a label, a space and a text, told from its first lines.

    So it is if few distinct first words stand before texts that vary, and no first word holds
    the delimiter of a table.
    """
    head = head_of(path)
    lines = _decoded_lines(head, _known(encoding or "utf-8-sig"))[0]
    if len(head) == HEAD_BYTES:
        lines = lines[:-1]  # cut
    parts = [line.split(maxsplit=1) for line in lines if line.strip()]
    if len(parts) < _LEAST_LINES:
        return False
    labels = {p[0] for p in parts}
    if not 2 <= len(labels) <= min(_MOST_LABELS, len(parts) // _LINES_PER_LABEL):
        return False
    if any("\t" in line for line in lines) or any(_DELIMITERS & set(label) for label in labels):
        return False
    texts = [p[1] for p in parts if len(p) > 1]
    wordy = sum(len(t.split()) >= _LEAST_WORDS - 1 and any(c.isalpha() for c in t) for t in texts)
    return wordy > _MOST * len(parts) and len(set(texts)) > _MOST * len(parts)


def read_labelled_lines(path: Path, encoding: str | None = None) -> RawTable:
    """Read lines of a label, a space and a text into the columns `label` and `text`.

    Lines that are not UTF-8 are read as Latin-1, in which every byte means something, unless
    an encoding is given. Lines without a text are left out, and counted.

    Raises:
        DataError: If the file is not in the encoding given, or no line has a text.
        OptionError: If Python knows no such encoding.
    """
    import pandas as pd

    stream, raw = open_binary(path)
    with raw, stream:
        try:
            content = stream.read()
        except (EOFError, OSError) as error:
            raise broken_archive(path, error) from None
    written = _known(encoding or "utf-8-sig")
    lines, strange = _decoded_lines(content, written)
    if encoding and strange:
        raise undecodable(path, encoding)
    parts = {i: line.split(maxsplit=1) for i, line in enumerate(lines, 1) if line.strip()}
    bare = [i for i, p in parts.items() if len(p) == 1]
    full = [p for p in parts.values() if len(p) > 1]
    if not full:
        raise DataError(
            str(path),
            received="no line holds a label and a text",
            expected="lines such as `positive a fine film`",
            mend="Write the label first, then a space, then the text.",
        )
    notes = []
    if bare:
        notes.append(f"{len(bare):,} line(s) without a text left out: {listed(bare)}.")
    if strange:
        notes.append(
            f"{strange:,} line(s) are not UTF-8 and were read as Latin-1; --encoding says otherwise."
        )
    frame = pd.DataFrame(
        {"label": [label for label, _ in full], "text": [text.strip() for _, text in full]}
    )
    options = {"encoding": encoding} if encoding else {}
    return RawTable(frame, len(frame), warnings=tuple(notes), options=dict(options))


def _decoded_lines(content: bytes, encoding: str) -> tuple[list[str], int]:
    """The lines as text, and how many of them were not in the encoding."""
    try:
        # Not `splitlines` of text, which also breaks at marks that may stand inside a line.
        return content.decode(encoding).replace("\r\n", "\n").split("\n"), 0
    except UnicodeDecodeError:
        pass
    lines, strange = [], 0
    for line in content.splitlines():
        try:
            lines.append(line.decode(encoding))
        except UnicodeDecodeError:
            lines.append(line.decode("latin-1"))
            strange += 1
    return lines, strange
