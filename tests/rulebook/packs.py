"""Rule packs on disk, for tests."""

from __future__ import annotations

from pathlib import Path

from smarttune.errors import RulePackError
from smarttune.rulebook import Rulebook, load_rulebook

# Tests refer to these lines by number, counted from 1.
RULE = """\
code: TST001
name: some-situation
summary: A reason that fits one line.
kind: static
evidence: practitioner
confidence: 0.6
when:
  - data.num_samples > 1000
then:
  - hyperparameter: model.dropout
    float: {low: 0.0, high: 0.5, default: 0.1}
why: Because it was seen.
limits: Seen once.
provenance:
  - {source: src, locator: "p. 1", supports: number, claim: "It was so.", verification: read}
examples:
  - {facts: {data.num_samples: 2000}, fires: true}
  - {facts: {data.num_samples: 20}, fires: false}
"""
PACK = """\
pack: tests
prefixes: [TST]
version: 1.0.0
title: Rules for tests
about: They recommend nothing sensible.
"""
SOURCES = "src: {authors: A. Author, title: A work, year: '2020', url: https://example.org}\n"


def rule_text(code: str = "TST001", *, extra: str = "", **replaced: str) -> str:
    """The rule file under another code, with old text replaced by new and lines added."""
    text = RULE.replace("TST001", code).replace("some-situation", f"situation-{code.lower()}")
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    return text + extra


def write_pack(folder: Path, *texts: str, pack: str | None = PACK, sources: str = SOURCES) -> Path:
    """Write a pack of rule files, each under the name that its text asks for."""
    folder.mkdir(parents=True, exist_ok=True)
    if pack is not None:
        (folder / "pack.yaml").write_text(pack)
    if sources:
        (folder / "sources.yaml").write_text(sources)
    for text in texts:
        lines = dict(line.split(": ", 1) for line in text.splitlines()[:2])
        (folder / f"{lines['code']}-{lines['name']}.yaml").write_text(text)
    return folder


def load(*folders: Path, builtin: bool = False) -> Rulebook:
    """Load without the memory of earlier loads."""
    return load_rulebook.__wrapped__(folders, builtin=builtin)


def mistakes_of(*folders: Path, builtin: bool = False) -> list[str]:
    """Every mistake found in the folders, as text."""
    try:
        load(*folders, builtin=builtin)
    except RulePackError as error:
        assert str(error).splitlines() == [str(m) for m in error.mistakes]
        return [str(m) for m in error.mistakes]
    return []
