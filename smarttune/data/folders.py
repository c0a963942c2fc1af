"""Folders of samples: one file each, the class told by the folder that holds it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from smarttune.data.content import Progress
from smarttune.data.names import listed
from smarttune.errors import DataError

FileKind = Literal["image", "audio", "text"]
SUFFIXES: dict[FileKind, tuple[str, ...]] = {
    "image": (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"),
    "audio": (".wav",),
    "text": (".txt", ".text"),
}
_KIND_OF: dict[str, FileKind] = {s: kind for kind, many in SUFFIXES.items() for s in many}
# ours: files between two reports of progress; a report costs as much as some hundred files.
_REPORT_EVERY = 1000


@dataclass(frozen=True)
class Listing:
    """The sample files below a folder, in a fixed order.

    Attributes:
        root: The folder.
        kind: What most of its files are; the others are ignored.
        paths: The files, sorted by name within sorted classes.
        labels: The class of each file, the name of the first folder below the root; None
            where the files lie in the root itself.
        empty: Class folders without a file of the kind.
        ignored: Suffix to number of files that are of no or another kind.
    """

    root: Path
    kind: FileKind
    paths: list[str]
    labels: list[str] | None
    empty: tuple[str, ...] = ()
    ignored: dict[str, int] = field(default_factory=dict)

    def warnings(self) -> tuple[str, ...]:
        """What the user should know, one sentence each."""
        found = []
        if self.empty:
            found.append(f"{len(self.empty)} folder(s) hold no {self.kind}: {listed(self.empty)}.")
        if self.ignored:
            shown = ", ".join(f"{n:,} {s or 'without suffix'}" for s, n in self.ignored.items())
            found.append(f"{sum(self.ignored.values()):,} other file(s) were ignored ({shown}).")
        return tuple(found)


def kind_of_path(path: str | os.PathLike[str]) -> FileKind | None:
    """What a file of this name holds, or None."""
    return _KIND_OF.get(os.path.splitext(os.fspath(path))[1].lower())


def scan(root: Path, kind: FileKind | None = None, progress: Progress | None = None) -> Listing:
    """List the sample files below a folder; hidden files are left out.

    Args:
        root: An existing folder.
        kind: What to look for; by default what most files are.
        progress: Called with the share of the classes that is listed.

    Raises:
        DataError: If no file is of a kind that is read, or some lie in class folders and
            others beside these.
    """
    found: dict[FileKind, list[tuple[str, str]]] = {"image": [], "audio": [], "text": []}
    ignored: Counter[str] = Counter()
    top = sorted(_entries(root), key=lambda entry: entry.name)
    for done, entry in enumerate(top):
        inside = _files(entry) if entry.is_dir() else iter([entry.path])
        label = entry.name if entry.is_dir() else ""
        for path in sorted(inside):
            known = kind_of_path(path)
            if known is None:
                ignored[os.path.splitext(path)[1].lower()] += 1
            else:
                found[known].append((label, path))
        if progress is not None and (entry.is_dir() or done % _REPORT_EVERY == 0):
            progress((done + 1) / len(top))
    chosen: FileKind = kind or max(found.items(), key=lambda item: len(item[1]))[0]
    if not found[chosen]:
        raise _nothing(root, chosen if kind else None, ignored)
    for other in found.keys() - {chosen}:
        ignored.update(os.path.splitext(path)[1].lower() for _, path in found[other])
    files = found[chosen]
    labels = [label for label, _ in files]
    flat = not any(labels)
    if not flat and "" in labels:
        beside = [os.path.basename(p) for label, p in files if not label]
        raise DataError(
            str(root),
            received=f"{len(beside):,} file(s) lie beside the class folders: {listed(beside)}",
            expected="each file in the folder of its class",
            mend="Move them into a class folder, or out of the way.",
        )
    full = set(labels)
    empty = [e.name for e in top if e.is_dir() and e.name not in full] if not flat else []
    return Listing(
        root, chosen, [p for _, p in files], None if flat else labels, tuple(empty), dict(ignored)
    )


def _entries(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from (e for e in entries if not e.name.startswith("."))
    except PermissionError:
        raise DataError(
            str(folder),
            received="you may not list this folder",
            expected="a folder with read permission",
            mend=f"Ask its owner, or run: chmod u+rx '{folder}'.",
        ) from None


def _files(folder: os.DirEntry[str]) -> Iterator[str]:
    """All files below a folder, at any depth."""
    for entry in _entries(folder.path):
        if entry.is_dir():
            yield from _files(entry)
        else:
            yield entry.path


def _nothing(root: Path, kind: FileKind | None, ignored: Counter[str]) -> DataError:
    held = ", ".join(f"{n:,} {s or 'without suffix'}" for s, n in ignored.most_common(5))
    wanted = SUFFIXES[kind] if kind else tuple(_KIND_OF)
    return DataError(
        str(root),
        received=f"the folder holds no sample file ({held or 'it is empty'})",
        expected="files such as " + ", ".join(wanted),
        mend="Name the folder whose subfolders are the classes, or a single data file.",
    )
