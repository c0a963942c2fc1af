"""What is cited: exactly the works behind the rules that spoke, as BibTeX that reads back."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.citing import (
    Citations,
    Spoken,
    Taken,
    Word,
    Work,
    bibtex_authors,
    bibtex_keys,
    citations_bibtex,
    citations_text,
    spoken_in,
    spoken_in_run,
    spoken_in_text,
    tex,
    works_behind,
)
from smarttune.errors import OptionError, SmartTuneError
from smarttune.recommendation import Recommendation
from smarttune.rulebook import Rulebook
from smarttune.rulebook.schema import Source
from smarttune.suggestion import suggest
from tests.rulebook.packs import load, rule_text, write_pack


class Entry(NamedTuple):
    """One entry of a bibliography, its values still in TeX."""

    kind: str
    key: str
    fields: dict[str, str]


_HEAD = re.compile(r"@([a-z]+)\{([A-Za-z0-9:._/+-]+),\n")
_FIELD = re.compile(r"  ([a-z]+) = \{")


def parsed(text: str) -> list[Entry]:
    """Read a bibliography strictly: anything but well-formed entries is an error."""
    entries, at = [], 0
    while at < len(text):
        head = _HEAD.match(text, at)
        assert head, text[at : at + 80]
        at, fields = head.end(), {}
        while not text.startswith("}", at):
            field = _FIELD.match(text, at)
            assert field, text[at : at + 80]
            assert field[1] not in fields
            end = _closing(text, field.end())
            fields[field[1]] = text[field.end() : end]
            assert text.startswith(",\n", end + 1)
            at = end + 3
        entries.append(Entry(head[1], head[2], fields))
        at += 1
        assert text.startswith("\n\n@", at) or at == len(text)
        at += 2
    return entries


def _closing(text: str, at: int) -> int:
    """Where the brace that is open before `at` closes; BibTeX counts escaped braces, too."""
    depth = 1
    for place in range(at, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place
    raise AssertionError("a brace is not closed")


_COMMANDS = {
    r"\textbackslash{}": "\\",
    r"\textbraceleft{}": "{",
    r"\textbraceright{}": "}",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"{\"u}": "ü",
    r"{\'e}": "é",
    r"{\v c}": "č",
    r"{\c c}": "ç",
}
_TOKEN = re.compile("|".join([*map(re.escape, _COMMANDS), r"\\[$&#_%]", r"[^\\{}$&#_%~^]"]))


def read_tex(text: str) -> str:
    """What TeX would print; a special character that is not escaped is an error."""
    assert _TOKEN.sub("", text) == "", text
    return _TOKEN.sub(lambda found: _COMMANDS.get(found[0], found[0].removeprefix("\\")), text)


FACTS = {
    "data.task": "tabular",
    "model.problem": "binary",
    "data.num_samples": 26000,
    "data.num_features": 14,
    "hardware.device": "cpu",
}


@pytest.fixture(scope="module")
def recommendation(book: Rulebook) -> Recommendation:
    """A recommendation of the built-in rules."""
    return suggest(facts=FACTS, rules=book)


def test_exactly_the_works_of_the_rules_that_spoke_are_cited(
    recommendation: Recommendation, book: Rulebook
) -> None:
    """A work is cited if and only if a rule that decided, limited, agreed or advised names it."""
    spoke = recommendation.rules_fired
    expected = {item.source for code in spoke for item in book[code].provenance}

    found = works_behind(spoken_in(recommendation), book)

    assert {work.key for work in found.works} == expected
    assert {item.rule for work in found.works for item in work.taken} <= set(spoke)
    assert len(expected) < len(book.sources)
    assert found.missing == ()


def test_every_place_that_a_rule_cites_is_told_as_it_stands(
    recommendation: Recommendation, book: Rulebook
) -> None:
    """Locator, support, claim and verification of each rule that spoke are taken over unchanged."""
    found = works_behind(spoken_in(recommendation), book)

    told = {
        (t.rule, work.key, t.locator, t.supports, t.claim, t.verification)
        for work in found.works
        for t in work.taken
    }
    assert told == {
        (code, p.source, p.locator, p.supports, p.claim.strip(), p.verification)
        for code in recommendation.rules_fired
        for p in book[code].provenance
    }


def test_what_each_rule_did_is_told(book: Rulebook) -> None:
    """Roles and hyperparameters of a rule stand beside what it took; what the user set does not."""
    made = suggest(facts=FACTS, pinned={"model.num_layers": 2}, rules=book)

    found = works_behind(spoken_in(made), book)

    did = {item.rule: item.did for work in found.works for item in work.taken}
    for name, setting in made.settings.items():
        for reason in setting.because:
            if reason.rule in did:
                assert name in did[reason.rule][reason.role]
    assert made.settings["model.num_layers"].because[0].rule == "you"
    assert found.missing == ()
    assert {"decides", "limits", "advises"} <= {role for roles in did.values() for role in roles}


def test_works_of_overruled_rules_are_cited_only_on_demand(
    recommendation: Recommendation, book: Rulebook
) -> None:
    """Rules that lost everywhere stay out of the list, unless they are asked for."""
    lost = {o.rule for s in recommendation.settings.values() for o in s.overruled}
    lost -= set(recommendation.rules_fired)

    without, with_them = (
        {
            t.rule
            for work in works_behind(spoken_in(recommendation, overruled=o), book).works
            for t in work.taken
        }
        for o in (False, True)
    )

    assert lost
    assert without & lost == set()
    assert with_them - without == {code for code in lost if book[code].provenance}


def test_the_bibliography_reads_back(recommendation: Recommendation, book: Rulebook) -> None:
    """The BibTeX holds each work once with authors, title, year, address and all that was taken."""
    found = works_behind(spoken_in(recommendation), book)

    entries = parsed(citations_bibtex(found))

    assert [e.key for e in entries] == [*(w.key for w in found.works), "smarttune"]
    for entry, work in zip(entries, found.works, strict=False):
        source, note = work.source, read_tex(entry.fields["note"])
        assert source is not None
        assert read_tex(entry.fields["title"][1:-1]) == source.title
        assert entry.fields.get("url", "") == source.url
        assert entry.fields.get("year", note.split(". SmartTune")[0]) == source.year
        for item in work.taken:
            place = f"{item.locator}; supports the {item.supports}; verification: "
            assert re.search(rf"\b{item.rule} \w.*: {re.escape(place + item.verification)}", note)
    assert entries[-1].kind == "software"
    assert entries[-1].fields["version"] == found.version


def test_all_sources_of_the_built_in_rules_are_valid_entries(book: Rulebook) -> None:
    """Whatever the bibliography holds, its entries parse, under keys of their own."""
    took = (Taken("AAA001", {"decides": ("model.units",)}, "p. 1", "number", "So.", "read"),)
    works = tuple(Work(key, source, took) for key, source in sorted(book.sources.items()))

    entries = parsed(citations_bibtex(Citations(works), with_self=False))

    assert len(entries) == len(works) > 80
    assert len({entry.key.lower() for entry in entries}) == len(works)
    assert {entry.kind for entry in entries} == {"article", "misc"}
    for entry in entries:
        assert re.fullmatch(r"\d{4}", entry.fields.get("year", "2000"))


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("Y. Bengio", "Y. Bengio"),
        ("A. Devarakonda, M. Naumov, M. Garland", "A. Devarakonda and M. Naumov and M. Garland"),
        ("L.-C. Chen, F.-F. Li", "L.-C. Chen and F.-F. Li"),
        ("Z. Liu et al.", "Z. Liu and others"),
        ("A. B. Name, D. Martinez Rubio", "A. B. Name and D. {Martinez Rubio}"),
        ("A. van den Oord", "A. van den Oord"),
        ("R. Müller", r"R. M{\"u}ller"),
        ("Keras team", "{Keras team}"),
        ("D. Amodei, OpenAI Dota Team", "D. Amodei and {OpenAI Dota Team}"),
        ("A. Zheng (blog), quoted elsewhere", "{A. Zheng (blog), quoted elsewhere}"),
        ("Smith, J., Doe, A.", "{Smith, J., Doe, A.}"),
        ("Acme and Sons", "{Acme and Sons}"),
        ("", "{}"),
    ],
)
def test_authors_are_joined_as_bibtex_wants(written: str, wanted: str) -> None:
    """People are joined by `and`; what is no person stays in one piece."""
    assert bibtex_authors(written) == wanted


@given(st.text(st.sampled_from(string.printable + "\x00\x1büéčçßλ ")))
def test_text_survives_the_way_through_tex(text: str) -> None:
    """Every special character is escaped such that TeX prints it again, and braces balance."""
    wanted = "".join(c for c in " ".join(text.split()) if c.isprintable())

    written = tex(text)

    assert read_tex(written) == wanted
    assert written.count("{") == written.count("}")


@given(st.lists(st.text(max_size=8), unique=True, max_size=8))
def test_keys_are_legal_and_unique(keys: list[str]) -> None:
    """Any source key becomes a legal one, no two are alike but for case, none is SmartTune's."""
    made = bibtex_keys(keys)

    assert list(made) == keys
    assert all(re.fullmatch(r"[A-Za-z0-9:._/+-]+", key) for key in made.values())
    assert len({"smarttune", *(key.lower() for key in made.values())}) == len(keys) + 1


@given(
    st.builds(
        Source,
        authors=st.text(max_size=30),
        title=st.text(max_size=30),
        year=st.text(max_size=6),
        url=st.text(max_size=30),
    ),
    st.text(max_size=20),
)
def test_a_hostile_source_cannot_break_the_bibliography(source: Source, locator: str) -> None:
    """Whatever stands in a pack's source, its entry parses and the one after it stays whole."""
    took = (Taken("AAA001", {"decides": ("model.units",)}, locator, "number", "So.", "read"),)

    entries = parsed(citations_bibtex(Citations((Work("key", source, took),))))

    assert [entry.key for entry in entries] == ["key", "smarttune"]
    assert set(entries[0].fields) <= {
        *("author", "title", "year", "url", "note"),
        *("eprint", "archiveprefix", "doi", "journal", "volume"),
    }


def source_entry(url: str) -> Entry:
    """The entry of a work with this address."""
    source = Source(authors="A. Author", title="A work", year="2020", url=url)
    return parsed(citations_bibtex(Citations((Work("k", source, ()),)), with_self=False))[0]


@pytest.mark.parametrize(
    ("url", "kind", "fields"),
    [
        ("https://arxiv.org/abs/1712.02029v2", "misc", {"eprint": "1712.02029"}),
        (
            "https://www.jmlr.org/papers/v13/bergstra12a.html",
            "article",
            {"journal": "Journal of Machine Learning Research", "volume": "13"},
        ),
        ("https://doi.org/10.1016/s0893-6080(98)00010-0", "misc", {"doi": "10.1016/s0893-6080(98)00010-0"}),
        ("https://example.org/a_b%20c#d", "misc", {"url": "https://example.org/a_b%20c#d"}),
        ("https://example.org/{a b}", "misc", {"url": "https://example.org/%7Ba%20b%7D"}),
    ],
)  # fmt: skip
def test_addresses_tell_where_a_work_appeared(url: str, kind: str, fields: dict[str, str]) -> None:
    """Journal, volume, preprint number and DOI come from the address, which itself is kept."""
    entry = source_entry(url)

    assert entry.kind == kind
    assert fields.items() <= entry.fields.items()
    assert "url" in entry.fields


def test_a_work_without_an_address_has_none() -> None:
    """An empty address is left out."""
    assert "url" not in source_entry("").fields


def test_works_of_a_users_pack_are_cited(tmp_path: Path, book: Rulebook) -> None:
    """A pack beside ours brings its own sources into the bibliography."""
    own = load(write_pack(tmp_path, rule_text()), builtin=True)
    made = suggest(facts=FACTS, rules=own)

    works = {w.key: w for w in works_behind(spoken_in(made, overruled=True), own).works}

    assert works["src"].source == own.sources["src"]
    assert [t.rule for t in works["src"].taken] == ["TST001"]


def test_rules_that_cite_nothing_are_told_by_pack(book: Rulebook) -> None:
    """A rule of its author's own judgement adds no work, and is named as such."""
    own = next(rule.code for rule in book.rules if not rule.provenance)

    found = works_behind(Spoken((Word(own, "decides", "model.units"),)), book)

    assert found.works == ()
    assert found.own == {"smarttune": (own,)}
    assert own in read_tex(parsed(citations_bibtex(found))[0].fields["note"])
    assert own in citations_text(found)


def test_a_rule_that_is_gone_is_told_and_its_works_are_kept(book: Rulebook) -> None:
    """Works that the recommendation names stay in the list; what was taken is said to be unknown."""
    words = (
        Word("OLD001", "decides", "model.units", ("adam", "vanished")),
        Word("OLD002", "advises"),
    )

    found = works_behind(Spoken(words), book)
    known, unknown = parsed(citations_bibtex(found, with_self=False))

    assert found.missing == ("OLD001", "OLD002")
    assert known.fields["author"] == "D. P. Kingma and J. Ba"
    assert "OLD001 decides model.units: unknown" in read_tex(known.fields["note"])
    assert read_tex(unknown.fields["title"][1:-1]).startswith("Unknown work vanished")


def test_a_work_that_a_changed_rule_dropped_is_not_lost(book: Rulebook) -> None:
    """Of a rule that has changed since, the works that the recommendation names count."""
    now = book["CAP003"].provenance
    words = (Word("CAP003", "decides", "model.units", (now[0].source, "adam")),)

    works = {w.key: w for w in works_behind(Spoken(words), book).works}

    assert set(works) == {now[0].source, "adam"}
    assert works["adam"].taken[0].supports == ""


def write_run(folder: Path, recommendation: Recommendation, **report: object) -> Path:
    """A run directory as far as citations read it."""
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"smarttune": "0.0.7"}))
    (folder / "recommendation.json").write_text(json.dumps(recommendation.to_json()))
    if report:
        (folder / "report.json").write_text(json.dumps(report))
    return folder


def test_a_run_cites_what_changed_it_on_its_way(
    tmp_path: Path, recommendation: Recommendation, book: Rulebook
) -> None:
    """Rules that adapted the search or say what is next count; changes that were refused do not."""
    dynamic = [r.code for r in book.rules if r.kind == "dynamic" and r.provenance][:3]
    rows = [
        {"rule": dynamic[0], "hyperparameter": "model.dropout", "state": "holds"},
        {"rule": dynamic[1], "hyperparameter": "model.units", "state": "not done: too late"},
    ]
    run = write_run(
        tmp_path / "run", recommendation, adaptations=rows, next=[{"rule": dynamic[2], "text": "x"}]
    )

    spoken = spoken_in_run(run)
    cited = {t.rule for w in works_behind(spoken, book).works for t in w.taken}

    assert set(dynamic) & cited == {dynamic[0], dynamic[2]}
    assert spoken.version == "0.0.7"


def test_an_unfinished_run_cites_its_recommendation(
    tmp_path: Path, recommendation: Recommendation
) -> None:
    """A run without a report has the works it started from."""
    run = write_run(tmp_path / "run", recommendation)

    assert spoken_in_run(run).words == spoken_in(recommendation).words


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", '"a"', "{}", '{"schema": "other"}', '{"schema": "smarttune/recommendation@1"}',
     '{"schema": "smarttune/recommendation@1", "facts": {}, "settings": {"a": 1}}', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_recommendation_is_refused(text: str) -> None:
    """Other text is a mistake that the user can mend, never a traceback."""
    with pytest.raises(SmartTuneError) as caught:
        spoken_in_text(text[:100_000], "r.json")

    assert "\n" not in str(caught.value)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    """A directory that no search made names the file that it lacks."""
    with pytest.raises(OptionError, match=r"run\.json"):
        spoken_in_run(tmp_path)
