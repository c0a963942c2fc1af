"""Recommendation -> the works to cite: which rules spoke, and what each took from which work.

What spoke stands in the recommendation, or in a run directory: the rules that decided, limited or
agreed in a setting, those that gave advice, and in a finished run those that changed the search
and those that say what to do next. What a rule takes from a work stands in the rule itself, so a
rule that is not installed any more is told as such instead of being guessed.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from smarttune.errors import OptionError
from smarttune.recommendation import Recommendation
from smarttune.rulebook import Rule, Rulebook, builtin_folder
from smarttune.rulebook.schema import Source
from smarttune.version import __version__

SCHEMA = "smarttune/citations@1"
SELF_KEY = "smarttune"
_TITLE = "SmartTune: hyperparameter tuning for Keras that starts from documented knowledge"
_YOU = "you"  # stands in the place of a rule where the user set the value


class Word(NamedTuple):
    """One rule's say: its code, what it did, and to which hyperparameter ("" for advice)."""

    rule: str
    role: str
    about: str = ""
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spoken:
    """What rules said, and the version of SmartTune in which they said it."""

    words: tuple[Word, ...]
    version: str = __version__


@dataclass(frozen=True)
class Taken:
    """What one rule took from one place of a work.

    Attributes:
        rule: The rule's code.
        did: What the rule did, by role, with the hyperparameters it did it to.
        locator: The place in the work; "" where the rule as installed names none.
        supports: Whether the work backs the condition, the direction or the number.
        claim: What the work says there, in the rule's words.
        verification: How that was verified, as the rule states it.
    """

    rule: str
    did: Mapping[str, tuple[str, ...]]
    locator: str = ""
    supports: str = ""
    claim: str = ""
    verification: str = ""


@dataclass(frozen=True)
class Work:
    """A work with all that was taken from it; `source` is None if no pack knows its key."""

    key: str
    source: Source | None
    taken: tuple[Taken, ...]


@dataclass(frozen=True)
class Citations:
    """All works behind a recommendation.

    Attributes:
        works: Ordered by key.
        own: Rules that spoke and cite nothing, by pack: their authors' own judgement.
        missing: Rules that spoke and are not installed.
        version: The version of SmartTune to cite.
    """

    works: tuple[Work, ...]
    own: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    version: str = __version__

    def to_json(self) -> dict[str, Any]:
        """Plain data, for programs."""
        return {
            "schema": SCHEMA,
            "smarttune": self.version,
            "works": [
                {
                    "key": work.key,
                    "source": work.source.model_dump() if work.source is not None else None,
                    "taken": [vars(item) for item in work.taken],
                }
                for work in self.works
            ],
            "own": self.own,
            "missing": self.missing,
        }


def spoken_in(recommendation: Recommendation, *, overruled: bool = False) -> Spoken:
    """What rules say in a recommendation; with `overruled` also those that lost."""
    words = [
        Word(reason.rule, reason.role, name, reason.sources)
        for name, setting in recommendation.settings.items()
        for reason in setting.because
        if reason.rule != _YOU
    ]
    words += [Word(advice.rule, "advises") for advice in recommendation.advice]
    if overruled:
        words += [
            Word(loser.rule, "is overruled", name)
            for name, setting in recommendation.settings.items()
            for loser in setting.overruled
        ]
    return Spoken(tuple(words))


def spoken_in_text(text: str, where: str, *, overruled: bool = False) -> Spoken:
    """What rules say in a recommendation that was printed as JSON.

    Raises:
        SmartTuneError: If the text is none.
    """
    data = _json(text, where)
    try:
        return spoken_in(Recommendation.from_json(data), overruled=overruled)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _not_a_recommendation(where, f"{place}: {first['msg']}") from None


def spoken_in_file(file: Path, *, overruled: bool = False) -> Spoken:
    """What rules say in a recommendation that was printed as JSON into a file.

    Raises:
        SmartTuneError: If the file holds none.
    """
    return spoken_in_text(_text(file), str(file), overruled=overruled)


def spoken_in_run(folder: Path, *, overruled: bool = False) -> Spoken:
    """What rules say in a run: at its start, on its way, and at its end.

    Raises:
        SmartTuneError: If the folder holds no run.
    """
    manifest = _json(_text(folder / "run.json"), str(folder / "run.json"))
    start = spoken_in_file(folder / "recommendation.json", overruled=overruled)
    words = list(start.words)
    if (folder / "report.json").exists():
        report = _json(_text(folder / "report.json"), str(folder / "report.json"))
        words += [
            Word(change["rule"], "changes the search in", change["hyperparameter"])
            for change in report.get("adaptations") or ()
            if not change["state"].startswith("not done")
        ]
        words += [Word(step["rule"], "says what to do next") for step in report.get("next") or ()]
    return Spoken(tuple(words), str(manifest.get("smarttune", __version__)))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _not_a_recommendation(str(file), reason) from None


def _json(text: str, where: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _not_a_recommendation(where, f"it is no JSON: {error}") from None
    if not isinstance(data, dict):
        raise _not_a_recommendation(where, f"it holds a {type(data).__name__}")
    return data


def _not_a_recommendation(where: str, reason: str) -> OptionError:
    return OptionError(
        where,
        received=f"it cannot be read as a recommendation ({' '.join(reason.split())})",
        expected="a run directory, or what `smarttune suggest --format json` printed",
        mend="Make one: smarttune suggest data.csv --target y --format json > recommendation.json.",
    )


def works_behind(spoken: Spoken, book: Rulebook) -> Citations:
    """Find what each rule that spoke took from which work.

    Args:
        spoken: What was said.
        book: The rules and their bibliography, unselected.
    """
    rules = {rule.code: rule for rule in book.rules}
    taken: dict[str, list[Taken]] = {}
    unsourced: list[str] = []
    for code, words in _by_rule(spoken.words).items():
        did: dict[str, tuple[str, ...]] = {}
        for word in words:
            about = (word.about,) if word.about else ()
            did[word.role] = tuple(dict.fromkeys((*did.get(word.role, ()), *about)))
        recorded = tuple(dict.fromkeys(key for word in words for key in word.sources))
        found = _taken_by(code, did, rules.get(code), recorded)
        for key, items in found:
            taken.setdefault(key, []).append(items)
        if not found:
            unsourced.append(code)
    return Citations(
        tuple(Work(key, book.sources.get(key), tuple(taken[key])) for key in sorted(taken)),
        _by_pack(book, [code for code in unsourced if code in rules]),
        tuple(sorted({word.rule for word in spoken.words} - rules.keys())),
        spoken.version,
    )


def _by_rule(words: Iterable[Word]) -> dict[str, list[Word]]:
    found: dict[str, list[Word]] = {}
    for word in words:
        found.setdefault(word.rule, []).append(word)
    return dict(sorted(found.items()))


def _taken_by(
    code: str, did: Mapping[str, tuple[str, ...]], rule: Rule | None, recorded: tuple[str, ...]
) -> list[tuple[str, Taken]]:
    """What a rule took, by source.

    A recommendation names the sources of its rules, and they count: a rule may have been changed
    since. Words without sources, such as advice, go by the rule as it is installed.
    """
    items = rule.provenance if rule is not None else ()
    known = {item.source for item in items}
    found = [
        (
            item.source,
            Taken(code, did, item.locator, item.supports, item.claim.strip(), item.verification),
        )
        for item in items
        if not recorded or item.source in recorded
    ]
    return found + [(key, Taken(code, did)) for key in recorded if key not in known]


def _by_pack(book: Rulebook, codes: Iterable[str]) -> dict[str, tuple[str, ...]]:
    ours = builtin_folder()
    found: dict[str, tuple[str, ...]] = {}
    wanted = set(codes)
    for pack in book.packs:
        name = SELF_KEY if pack.folder.is_relative_to(ours) else pack.info.pack
        mine = tuple(rule.code for rule in pack.rules if rule.code in wanted)
        if mine:
            found[name] = tuple(sorted((*found.get(name, ()), *mine)))
    return dict(sorted(found.items()))


def citations_text(citations: Citations) -> str:
    """Return the works as text, each with what was taken from it."""
    lines: list[str] = []
    for work in citations.works:
        known = work.source
        if known is None:
            lines.append(f"{work.key}: no installed pack knows this work")
        else:
            place = f", {known.url}" if known.url else ""
            lines.append(f"{work.key}: {known.authors} ({known.year}), {known.title}{place}")
        for item in work.taken:
            lines.append(f"    {item.rule} {_did(item)}: {_what(item)}")
            lines += [f"        {item.claim}"] if item.claim else []
    lines += [
        f"Own judgement of {pack}, without a source: {', '.join(codes)}"
        for pack, codes in citations.own.items()
    ]
    return "\n".join(lines)


def _did(item: Taken) -> str:
    return ", ".join(f"{role} {' and '.join(names)}".strip() for role, names in item.did.items())


def _what(item: Taken) -> str:
    if not item.supports:
        return "unknown, as the rule that is installed does not cite it"
    return f"{item.locator}; supports the {item.supports}; verification: {item.verification}"


def citations_bibtex(citations: Citations, *, with_self: bool = True) -> str:
    """Return the works as BibTeX, one entry each.

    Args:
        citations: The works.
        with_self: Whether SmartTune itself has an entry, too.
    """
    keys = bibtex_keys(work.key for work in citations.works)
    entries = [_work_entry(keys[work.key], work) for work in citations.works]
    if with_self:
        entries.append(_self_entry(citations))
    return "\n\n".join(entries)


def _work_entry(key: str, work: Work) -> str:
    notes = [f"{item.rule} {_did(item)}: {_what(item)}" for item in work.taken]
    note = "SmartTune rules took from it: " + ". ".join(notes) + "."
    source = work.source
    if source is None:
        title = f"Unknown work {work.key}, which no installed rule pack lists"
        return _entry("misc", key, {"title": f"{{{tex(title)}}}", "note": tex(note)})
    fields = {"author": bibtex_authors(source.authors), "title": f"{{{tex(source.title)}}}"}
    if re.fullmatch(r"[0-9]{4}", source.year):
        fields["year"] = source.year
    else:
        note = f"{source.year}. {note}"
    kind, published = _published(source.url)
    fields |= published
    if source.url:
        fields["url"] = _url(source.url)
    return _entry(kind, key, fields | {"note": tex(note)})


def _self_entry(citations: Citations) -> str:
    own = [f"Own judgement of {pack}: {', '.join(codes)}" for pack, codes in citations.own.items()]
    fields = {
        "author": "{SmartTune contributors}",
        "title": f"{{{tex(_TITLE)}}}",
        "version": tex(citations.version),
    }
    if own:
        fields["note"] = tex("Rules that cite no work. " + ". ".join(own) + ".")
    return _entry("software", SELF_KEY, fields)


def _entry(kind: str, key: str, fields: Mapping[str, str]) -> str:
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


# Where an address tells the journal; "volume" is the part of the pattern in brackets.
_JMLR = re.compile(r"https?://(?:www\.)?jmlr\.org/papers/v([0-9]+)/")
_ARXIV = re.compile(r"https?://arxiv\.org/(?:abs|pdf)/([0-9]{4}\.[0-9]{4,5})(?:v[0-9]+)?")
_DOI = re.compile(r"https?://(?:dx\.)?doi\.org/(10\..+)")


def _published(url: str) -> tuple[str, dict[str, str]]:
    """The kind of entry, and the fields that the address tells."""
    if found := _JMLR.match(url):
        journal = "Journal of Machine Learning Research"
        return "article", {"journal": journal, "volume": found[1]}
    if found := _ARXIV.match(url):
        return "misc", {"eprint": found[1], "archiveprefix": "arXiv"}
    if found := _DOI.match(url):
        return "misc", {"doi": _url(found[1])}
    return "misc", {}


_PERSON = re.compile(r"((?:\w\.-?)+(?: \w\.(?:-\w\.)*)*) ([^\W\d_][\w'\u2019. -]*)")


def bibtex_authors(text: str) -> str:
    """Authors as BibTeX wants them: joined by `and`, and braces around what is no person.

    A person is written with initials first, as in `J. Z. Kolter`. Whatever cannot be split into
    such names and names of teams stays one name, which every style prints as it is.
    """
    names = [part.strip() for part in text.split(",")]
    others = names[-1].endswith(" et al.")
    if others:
        names[-1] = names[-1].removesuffix(" et al.")
    split = all(name[:1].isupper() and not name.endswith(".") for name in names)
    if not split:
        names, others = [text], False
    made = [_bibtex_name(name) for name in names]
    return " and ".join([*made, "others"] if others else made)


def _bibtex_name(name: str) -> str:
    person = _PERSON.fullmatch(name)
    if person is None or " and " in name:
        return f"{{{tex(name)}}}"
    initials, last = person.groups()
    # BibTeX takes the last word alone for the family name.
    several = " " in last and last[:1].isupper()
    return f"{tex(initials)} {'{' + tex(last) + '}' if several else tex(last)}"


def bibtex_keys(keys: Iterable[str]) -> dict[str, str]:
    """A legal key for each, no two alike whatever their case, none that of SmartTune itself."""
    taken = {SELF_KEY}
    made: dict[str, str] = {}
    for key in keys:
        plain = unicodedata.normalize("NFKD", key).encode("ascii", "ignore").decode()
        stem = re.sub(r"[^A-Za-z0-9:._/+-]+", "-", plain).strip("-") or "work"
        legal, number = stem, 1
        while legal.lower() in taken:
            number += 1
            legal = f"{stem}-{number}"
        taken.add(legal.lower())
        made[key] = legal
    return made


_SPECIAL = {
    # Not \{ and \}: BibTeX counts braces that are escaped, too.
    "\\": r"\textbackslash{}",
    "{": r"\textbraceleft{}",
    "}": r"\textbraceright{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "$&#_%"},
}
# Combining character: the accent's command.
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0308": '"',
    "\u030c": "v ",
    "\u0327": "c ",
    "\u030a": "r ",
}


def tex(text: str) -> str:
    """The text as TeX reads it; accented letters become commands, other letters stay Unicode."""
    return "".join(_tex_character(c) for c in " ".join(text.split()) if c.isprintable())


def _tex_character(character: str) -> str:
    parts = unicodedata.normalize("NFD", character)
    if len(parts) == 2 and parts[0].isascii() and parts[0] not in "ij" and parts[1] in _ACCENTS:
        return f"{{\\{_ACCENTS[parts[1]]}{parts[0]}}}"
    return _SPECIAL.get(character, character)


def _url(address: str) -> str:
    """An address as it stands, but for what would end the field or the line."""
    return re.sub(
        r"[\\{}\s]", lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), address
    )
