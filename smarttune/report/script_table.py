"""What a script must know of a table: where it is, how it is written, what its columns are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smarttune.data.dialect import Dialect, parse, sniff
from smarttune.data.opening import HEAD_BYTES, head_of, is_parquet
from smarttune.data.tidy import BOOLEAN_WORDS, MISSING_WORDS
from smarttune.errors import SettingError
from smarttune.report.script_layout import assignment, literal, mapping

if TYPE_CHECKING:
    from smarttune.report.script_values import Values
    from smarttune.suggestion import Suggestion

# ours: made-up tables are for a first run, not for learning; more rows or columns only take time.
_MOST_ROWS = 2_000
_MOST_COLUMNS = 200
# ours: what is made up where no fact says more.
_ROWS, _COLUMNS, _LEVELS = 1_000, 10, 5

# The same numbers as in a search, and for the same reasons: see smarttune.models.columns, which
# cannot be imported without Keras. Holzmüller et al. 2024 for the smooth clip; else ours.
_SMOOTH_CLIP, _FARTHEST = 3.0, 10_000
_ROWS_PER_KNOT, _MIN_KNOTS, _MAX_KNOTS = 30, 10, 256

# Parts of a date by their pandas name, with first value and number of values; 0: not cyclic.
# Years are counted from 2000 on, since float32 has few digits.
CALENDAR = {
    "year": [2000, 0],
    "month": [1, 12],
    "day": [1, 31],
    "day_of_week": [0, 7],
    "hour": [0, 24],
}
_YES = sorted(word for word, meaning in BOOLEAN_WORDS.items() if meaning)
_NO = sorted(word for word, meaning in BOOLEAN_WORDS.items() if not meaning)


def table_context(suggestion: Suggestion, values: Values) -> dict[str, Any]:
    """Return what the table template needs besides the settings.

    Raises:
        OptionError: If a fact without which no script can be written is unknown.
        SettingError: If a column's encoding means nothing.
    """
    kinds = _kinds(suggestion)
    encodings = {name: _encoding(name, values) for name in kinds["categorical"]}
    widths = {name: width for name, (width, _) in encodings.items()}
    classes, targets = _target(suggestion, values)
    known: dict[str, Any] = {
        "numeric": kinds["numeric"],
        "boolean": kinds["boolean"],
        "dates": kinds["datetime"],
        "categorical": widths,
        "one_hot": any(not w for w in widths.values()),
        "embedded": any(widths.values()),
        "targets": targets,
        "numeric_classes": bool(classes) and all(type(c) in (int, float) for c in classes),
        "boolean_classes": bool(classes) and all(isinstance(c, bool) for c in classes),
        "joins_one_hot": len(targets) > 1 and values.problem != "multilabel",
        "calendar_size": len(CALENDAR),
        "rows_per_knot": _ROWS_PER_KNOT,
        "min_knots": _MIN_KNOTS,
        "max_knots": _MAX_KNOTS,
        "farthest": _FARTHEST,
        "smooth_clip": _SMOOTH_CLIP,
    }
    known["has_dense"] = any(known[k] for k in ("numeric", "boolean", "dates", "one_hot"))
    source = _source(suggestion, kinds)
    lines = _target_lines(known, classes, values)
    lines += _column_lines(known, [code for _, code in encodings.values()], suggestion)
    if source["kind"] != "made_up":
        data = assignment("DATA", str(source["path"]))
        lines = [*data, *source.get("names", ()), *lines]
    lines.append("# Cells that hold nothing.")
    lines += assignment("MISSING", [*MISSING_WORDS, "-", "--"])
    if known["boolean"] or known["boolean_classes"]:
        lines += assignment("YES", [*_YES, "1", "1.0"])
        lines += assignment("NO", [*_NO, "0", "0.0"])
    if known["dates"]:
        lines.append(
            "# Parts of a date with their first value and how many there are; 0: a plain number."
        )
        lines += mapping("CALENDAR", CALENDAR)
    return {**known, "source": source, "constants": lines}


def _kinds(suggestion: Suggestion) -> dict[str, Any]:
    """Names of the used columns by kind; dates with their format."""
    fingerprint = suggestion.fingerprint
    if fingerprint is None:
        return _declared_kinds(suggestion)
    used = fingerprint.used_columns
    kinds: dict[str, Any] = {
        kind: [c.name for c in used if c.kind == kind]
        for kind in ("numeric", "boolean", "categorical")
    }
    kinds["datetime"] = {c.name: c.datetime_format for c in used if c.kind == "datetime"}
    return kinds


def _declared_kinds(suggestion: Suggestion) -> dict[str, Any]:
    """Made-up names for as many columns as were declared."""
    fact = suggestion.recommendation.facts.value
    categorical = int(fact("data.num_categorical_features") or 0)
    total = int(fact("data.num_features") or 0) or categorical + _COLUMNS
    numeric = fact("data.num_numeric_features")
    numeric = max(0, total - categorical) if numeric is None else int(numeric)
    if not numeric + categorical:
        numeric = _COLUMNS
    return {
        "numeric": [f"number_{i}" for i in range(1, numeric + 1)],
        "boolean": [],
        "categorical": [f"category_{i}" for i in range(1, categorical + 1)],
        "datetime": {},
    }


def _encoding(name: str, values: Values) -> tuple[int, str]:
    """Width of a column's embedding, 0 for one-hot, and the code of the rule behind it."""
    key = f"model.encoding[{name}]" if f"model.encoding[{name}]" in values else "model.encoding"
    encoding = values.one_of(key, ("one_hot", "embedding"), default="one_hot")
    if encoding == "one_hot":
        return 0, values.code(key)
    size = f"model.embedding_dim[{name}]"
    size = size if size in values else "model.embedding_dim"
    width = values.get(size)
    if not isinstance(width, int) or isinstance(width, bool) or width < 1:
        raise SettingError(
            f"model.embedding_dim[{name}]",
            received=f"{width!r}, with an embedding chosen for `{name}`",
            expected="a whole number of at least 1",
            mend=f"Set it, or choose one_hot for model.encoding[{name}].",
        )
    return width, ", ".join(dict.fromkeys([values.code(key), values.code(size)]))


def _target(suggestion: Suggestion, values: Values) -> tuple[list[Any], list[str]]:
    """Classes in order, and the target columns."""
    fingerprint, dataset = suggestion.fingerprint, suggestion.dataset
    if fingerprint is not None and dataset is not None:
        named = dataset.read_options.get("target")
        columns = [str(n) for n in named] if isinstance(named, (list, tuple)) else [str(named)]
        if named is None:
            columns = str(fingerprint.target).split(", ") if values.problem == "multilabel" else []
        columns = columns or [str(fingerprint.target)]
        classes = [] if values.problem == "regression" else list(fingerprint.classes)
        # One-hot target columns are named like their classes, which are sorted.
        return classes, [str(c) for c in classes] if len(columns) > 1 else columns
    if values.problem == "regression":
        return [], ["target"]
    count = values.num_classes()
    if values.problem == "multilabel":
        labels = [f"label_{i}" for i in range(1, count + 1)]
        return list(labels), labels
    return list(range(count)), ["target"]


def _target_lines(known: dict[str, Any], classes: list[Any], values: Values) -> list[str]:
    if values.problem == "multilabel":
        return [*assignment("TARGETS", known["targets"]), "NUM_CLASSES = len(TARGETS)"]
    lines = [] if known["joins_one_hot"] else assignment("TARGET", known["targets"][0])
    if values.problem == "regression":
        return lines
    note = "the second one is the positive class" if values.problem == "binary" else ""
    return [*lines, *assignment("CLASSES", classes, note), "NUM_CLASSES = len(CLASSES)"]


def _column_lines(known: dict[str, Any], codes: Sequence[str], suggestion: Suggestion) -> list[str]:
    lines: list[str] = []
    if known["numeric"]:
        names = known["numeric"]
        if suggestion.fingerprint is None and len(names) > 1:
            lines.append(f'NUMERIC = [f"number_{{i}}" for i in range(1, {len(names) + 1})]')
        else:
            lines += assignment("NUMERIC", names)
    if known["boolean"]:
        lines += assignment("BOOLEAN", known["boolean"])
    if known["dates"]:
        lines += mapping("DATES", known["dates"])
    if known["categorical"]:
        lines.append("# Width of each column's embedding; 0 means one input per level.")
        lines += mapping("CATEGORICAL", known["categorical"], codes)
    return lines


def _source(suggestion: Suggestion, kinds: dict[str, Any]) -> dict[str, Any]:
    """Where the rows come from, and how to read them."""
    dataset = suggestion.dataset
    plain: dict[str, Any] = {"unquote": "", "decimal": "", "fraction": None}
    if dataset is None or "path" not in dataset.read_options:
        fact = suggestion.recommendation.facts.value
        rows = int(fact("data.num_samples") or _ROWS)
        width = sum(len(kinds[kind]) for kind in kinds)
        most = _MOST_ROWS if width <= _MOST_COLUMNS else _ROWS
        levels = int(fact("data.max_cardinality") or _LEVELS)
        return {**plain, "kind": "made_up", "num_rows": min(rows, most), "levels": levels}
    if dataset.sampled:
        kept = len(dataset.features) + dataset.num_without_target
        plain["fraction"] = round(kept / dataset.num_rows, 6)
    path = plain["path"] = Path(dataset.where)
    if is_parquet(path):
        return {**plain, "kind": "parquet"}
    asked = {k: dataset.read_options.get(k) for k in ("encoding", "delimiter", "header")}
    dialect = sniff(path, **asked)
    head = head_of(path).decode(dialect.encoding, errors="ignore")
    if not dialect.quoted and dialect.delimiter == "\t" and '"' in head:
        plain["unquote"] = '.str.replace(r\'^"(.*)"$\', r"\\1", regex=True)'
    if dialect.decimal == ",":
        plain["decimal"] = '.str.replace(",", ".", regex=False)'
    arguments = _read_arguments(dialect, head)
    names = assignment("COLUMNS", list(dialect.names)) if "names=COLUMNS" in arguments else []
    return {**plain, "kind": "csv", "arguments": arguments, "names": names}


def _read_arguments(dialect: Dialect, head: str) -> list[str]:
    """Arguments of `pandas.read_csv`, one a line."""
    lines: list[str] = []
    if dialect.delimiter != ",":
        lines.append(f"sep={literal(dialect.delimiter)}")
    if dialect.encoding != "utf-8":
        lines.append(f"encoding={literal(dialect.encoding)}")
    if not dialect.quoted and '"' in head:
        lines.append("quoting=3")
    if f"{dialect.delimiter} " in head:
        lines.append("skipinitialspace=True")
    whole = len(head) < HEAD_BYTES
    first = parse(head, dialect.delimiter, quoted=dialect.quoted, whole=whole)[:1]
    if dialect.header and first == [list(dialect.names)]:
        return lines
    return [*lines, f"header={0 if dialect.header else None}", "names=COLUMNS", "index_col=False"]
