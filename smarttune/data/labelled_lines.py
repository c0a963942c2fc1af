"""Text files of labelled lines: a label, a space and a text on each."""

from __future__ import annotations

from pathlib import Path

from smarttune.data.dataset import RawTable, ReadOptions
from smarttune.data.names import listed
from smarttune.data.opening import HEAD_BYTES, broken_archive, head_of, open_binary, undecodable
from smarttune.data.text_sources import known_encoding

# ours: with fewer lines, a first word that repeats is chance.
_LEAST_LINES = 20
# ours: labels repeat; each first word stands on at least so many lines on average ...
_LINES_PER_LABEL = 5
# ours: ... and there are not more of them than a list of classes would have.
_MOST_LABELS = 200
# ours: two words of text at least behind the label, in most lines.
_LEAST_WORDS = 2
_MOST = 0.5
# A first word that holds one of these belongs to a table.
_DELIMITERS = frozenset(",;\t|")


def read_labelled_lines(path: Path, options: ReadOptions) -> RawTable | None:
    """Read lines of a label, a space and a text into the columns `label` and `text`.

    A file is of this form if few distinct first words stand before texts that vary, and no
    first word holds the delimiter of a table.

    Lines that are not UTF-8 are read as Latin-1, in which every byte means something, unless
    an encoding is given. Lines without a text are left out, and counted.

    Args:
        path: An existing file.
        options: Read is `encoding`.

    Returns:
        The table, or None if the file is of another form.

    Raises:
        DataError: If the file is not in the encoding given.
        OptionError: If Python knows no such encoding.
    """
    import pandas as pd

    encoding = options.get("encoding")
    written = known_encoding(encoding or "utf-8-sig")
    if not _has_labelled_lines(path, written):
        return None
    stream, raw = open_binary(path)
    with raw, stream:
        try:
            content = stream.read()
        except (EOFError, OSError) as error:
            raise broken_archive(path, error) from None
    lines, strange = _decoded_lines(content, written)
    if encoding and strange:
        raise undecodable(path, encoding)
    parts = {i: line.split(maxsplit=1) for i, line in enumerate(lines, 1) if line.strip()}
    bare = [i for i, p in parts.items() if len(p) == 1]
    full = [p for p in parts.values() if len(p) > 1]
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
    return RawTable(frame, len(frame), warnings=tuple(notes), options={"encoding": encoding})


def _has_labelled_lines(path: Path, encoding: str) -> bool:
    """Whether the first lines of a file say that it is of this form."""
    head = head_of(path)
    lines = _decoded_lines(head, encoding)[0]
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
    wordy = sum(len(t.split()) >= _LEAST_WORDS and any(c.isalpha() for c in t) for t in texts)
    return wordy > _MOST * len(parts) and len(set(texts)) > _MOST * len(parts)


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
