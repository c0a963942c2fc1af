"""Fingerprint -> text: what the data looked like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from smarttune.fingerprint import Fingerprint
from smarttune.space import Value

_MOST_COLUMNS = 12  # ours: more than fits a glance

# What a sample is called, for each kind of data but tables.
_NOUNS = {
    "text": "texts",
    "image": "images",
    "audio": "recordings",
    "sequence": "sequences",
    "timeseries": "steps",
}


def fingerprint_text(fingerprint: Fingerprint) -> str:
    """Return the measured data in a few lines."""
    noun = "rows" if fingerprint.columns else _NOUNS.get(fingerprint.task, "rows")
    if "data.corpus_chars" in fingerprint.content:
        noun = "stretches of one text"
    rows = f"{fingerprint.num_rows:,} {noun}"
    if fingerprint.sampled:
        rows += f" (measured on a sample of {fingerprint.num_rows_seen:,})"
    details = [rows]
    kinds = Counter(c.kind for c in fingerprint.columns if c.used)
    if kinds:
        details.append("inputs: " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()))
    details += _contents(fingerprint.content)
    lines = [f"{fingerprint.source}: {', '.join(details)}"]
    if fingerprint.target is not None:
        lines.append(
            f"Target {fingerprint.target}: {fingerprint.problem} ({fingerprint.problem_evidence})"
        )
    unused = [f"{c.name} ({c.kind}: {c.reason})" for c in fingerprint.columns if not c.used]
    if unused:
        more = f" and {len(unused) - _MOST_COLUMNS} more" if len(unused) > _MOST_COLUMNS else ""
        lines.append(f"Left out: {', '.join(unused[:_MOST_COLUMNS])}{more}")
    return "\n".join(lines)


# Measured content to words, in the order in which they are told.
_PHRASES: dict[str, Callable[[Value], str]] = {
    "data.words_per_sample": lambda v: f"median {v:g} words",
    "data.vocabulary_size": lambda v: f"{v:,} words that recur",
    "data.corpus_chars": lambda v: f"{v:,} characters",
    "data.image_side": lambda v: f"shorter side {v} pixels",
    "data.image_channels": lambda v: "grey" if v == 1 else "in colour",
    "data.audio_hours": lambda v: f"{v:.2g} hours",
    "data.sample_rate": lambda v: f"{v:,.0f} samples a second",
    "data.sequence_length": lambda v: f"{v:,} steps or fewer in 95 %",
    "data.num_series": lambda v: f"{v:,} series",
    "data.num_variables": lambda v: f"{v:,} values at each step",
    "data.season_length": lambda v: f"season of {v:,} steps",
    "data.horizon": lambda v: f"horizon {v:,}",
    "data.num_groups": lambda v: f"{v:,} groups",
}


def _contents(content: Mapping[str, Value]) -> list[str]:
    words = "data.words_per_sample" in content
    return [
        phrase(content[name])
        for name, phrase in _PHRASES.items()
        if name in content and not (words and name == "data.sequence_length")
    ]
