"""Fingerprint -> text: what the data looked like."""

from __future__ import annotations

from collections import Counter

from smarttune.fingerprint import Fingerprint

_MOST_COLUMNS = 12  # ours: more than fits a glance


def fingerprint_text(fingerprint: Fingerprint) -> str:
    """Return the measured data in a few lines."""
    rows = f"{fingerprint.num_rows:,} rows"
    if fingerprint.sampled:
        rows += f" (measured on a sample of {fingerprint.num_rows_seen:,})"
    kinds = Counter(c.kind for c in fingerprint.columns if c.used)
    counted = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
    lines = [f"{fingerprint.source}: {rows}, inputs: {counted}"]
    if fingerprint.target is not None:
        lines.append(
            f"Target {fingerprint.target}: {fingerprint.problem} ({fingerprint.problem_evidence})"
        )
    unused = [f"{c.name} ({c.kind}: {c.reason})" for c in fingerprint.columns if not c.used]
    if unused:
        more = f" and {len(unused) - _MOST_COLUMNS} more" if len(unused) > _MOST_COLUMNS else ""
        lines.append(f"Left out: {', '.join(unused[:_MOST_COLUMNS])}{more}")
    return "\n".join(lines)
