"""Rule packs from files: what loads, and where each mistake is found."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smarttune.rulebook import builtin_folder, cache
from smarttune.rulebook.load import find_cycle
from smarttune.space import HYPERPARAMETERS
from tests.rulebook.packs import PACK, RULE, SOURCES, load, mistakes_of, rule_text, write_pack

loading = importlib.import_module("smarttune.rulebook.load")


def test_a_pack_loads(tmp_path: Path) -> None:
    """A folder with a pack.yaml gives its rules, sources and files."""
    folder = write_pack(tmp_path / "p", RULE)

    book = load(folder)

    assert [r.code for r in book.rules] == ["TST001"]
    assert book["some-situation"] is book["tst001"]
    assert book.packs[0].info.pack == "tests"
    assert book.sources["src"].year == "2020"
    assert book.files["TST001"] == folder / "TST001-some-situation.yaml"


def test_a_folder_of_packs_loads_in_order_of_codes(tmp_path: Path) -> None:
    """Packs below a folder are found, and share the sources beside them."""
    write_pack(tmp_path / "b", rule_text("AAA002"), pack=PACK.replace("TST", "AAA"), sources="")
    write_pack(tmp_path / "a", rule_text("BBB001"), pack=PACK.replace("TST", "BBB"), sources="")
    (tmp_path / "sources.yaml").write_text(SOURCES)

    book = load(tmp_path)

    assert [r.code for r in book.rules] == ["AAA002", "BBB001"]
    assert len(book.packs) == 2


def test_a_user_folder_joins_the_built_in_packs(tmp_path: Path) -> None:
    """Rules of the user's may cite and contradict built-in ones."""
    extra = "conflicts: [{with: CAP003, decided_by: ours}]\n"
    folder = write_pack(tmp_path / "p", rule_text(extra=extra))

    book = load(folder, builtin=True)

    assert {"TST001", "CAP003"} <= {r.code for r in book.rules}
    assert book.files["CAP003"].is_relative_to(builtin_folder())


def test_a_folder_given_twice_loads_once(tmp_path: Path) -> None:
    """The same folder under two spellings is one pack."""
    folder = write_pack(tmp_path / "p", RULE)

    assert len(load(folder, tmp_path / "x" / ".." / "p").packs) == 1


def test_a_single_file_loads_beside_the_built_in_rules(tmp_path: Path) -> None:
    """One rule file, with no pack around it, may cite the built-in sources."""
    text = RULE.replace("source: src", "source: pytabkit")
    folder = write_pack(tmp_path, text, pack=None, sources="")

    book = load(folder / "TST001-some-situation.yaml", builtin=True)

    assert book["TST001"].name == "some-situation"


def test_a_single_file_may_cite_the_sources_beside_it(tmp_path: Path) -> None:
    """A rule that loads as part of its pack also loads alone."""
    folder = write_pack(tmp_path, RULE)

    assert load(folder / "TST001-some-situation.yaml")["TST001"]


def test_packs_may_add_hyperparameters(tmp_path: Path) -> None:
    """A pack declares a hyperparameter, and its rules may set and read it."""
    own = "hyperparameters:\n  model.wobble: {type: int, about: how much it wobbles}\n"
    reads = rule_text("TST002", **{"data.num_samples > 1000": "model.wobble > 2"})
    reads = reads.replace("data.num_samples: ", "model.wobble: ")
    sets = RULE.replace("model.dropout", "model.wobble").replace(
        "float: {low: 0.0, high: 0.5, default: 0.1}", "int: {low: 1, high: 9}"
    )
    folder = write_pack(tmp_path, sets, reads, pack=PACK + own)

    book = load(folder)

    assert book.hyperparameters["model.wobble"].kind == "int"
    assert "model.wobble" not in HYPERPARAMETERS


SINGLE: dict[str, tuple[str, str, str, list[str]]] = {
    # what is wrong: old text, new text, line:column, words of the message
    "unknown key": (
        "evidence:",
        "evidense:",
        "5:1",
        ["`evidense` is not a key here", "Did you mean `evidence`"],
    ),
    "unknown inner key": (
        "default: 0.1",
        "defualt: 0.1",
        "11:34",
        ["`defualt` is not a key here", "Did you mean `default`"],
    ),
    "missing key": ("why: Because it was seen.\n", "", "1:1", ["`why` is missing"]),
    "missing inner key": ("{low: 0.0, ", "{", "11:12", ["`low` is missing"]),
    "wrong kind": ("kind: static", "kind: statik", "4:7", ["'statik'"]),
    "wrong type": ("confidence: 0.6", "confidence: high", "6:13", ["'high'"]),
    "confidence above 1": ("confidence: 0.6", "confidence: 1.5", "6:13", ["1.5"]),
    "bad code": ("code: TST001", "code: T1", "1:7", ["T1"]),
    "instruction as a name": ("name: some-situation", "name: use-dropout", "2:7", ["`use`"]),
    "long name": ("some-situation", "s" * 61, "2:7", ["60 characters"]),
    "condition is no expression": (
        "data.num_samples > 1000",
        "data.num_samples >",
        "8:5",
        ["not an expression"],
    ),
    "unknown fact": (
        "data.num_samples > 1000",
        "data.num_sample > 1000",
        "8:5",
        ["Did you mean `data.num_samples`"],
    ),
    "unknown fact in the middle": (
        "data.num_samples > 1000",
        "1 < data.num_sample",
        "8:9",
        ["Did you mean `data.num_samples`"],
    ),
    "unknown fact in quotes": (
        "- data.num_samples > 1000",
        "- '1 < data.num_sample'",
        "8:10",
        ["Did you mean `data.num_samples`"],
    ),
    "condition is a number": (
        "data.num_samples > 1000",
        "data.num_samples + 1000",
        "8:5",
        ["is not true or false"],
    ),
    "condition is a literal": ("data.num_samples > 1000", "true", "8:5", ["in quotes"]),
    "mixed units": (
        "data.num_samples > 1000",
        "data.num_samples > data.num_features",
        "8:5",
        ["mixes units"],
    ),
    "value of no set": (
        "data.num_samples > 1000",
        'data.task == "tabula"',
        "8:18",
        ["Did you mean `tabular`"],
    ),
    "bound is no number": ("low: 0.0", "low: true", "11:18", ["neither a number"]),
    "bound of another type": ("low: 0.0", "low: data.task", "11:18", ["is not a number"]),
    "bound too large": ("high: 0.5", "high: 1e19", "11:29", ["beyond 1e+18"]),
    "unknown hyperparameter": (
        "hyperparameter: model.dropout",
        "hyperparameter: model.drop",
        "10:21",
        ["Did you mean `model.dropout`"],
    ),
    "wrong range": (
        "float: {low: 0.0, high: 0.5, default: 0.1}",
        "choice: {values: [a, b]}",
        "10:5",
        ["float values"],
    ),
    "two ranges": ("    float:", "    fixed: 0.5\n    float:", "10:5", ["exactly one of"]),
    "no range": ("    float: {low: 0.0, high: 0.5, default: 0.1}\n", "", "10:5", ["received none"]),
    "weights of another length": (
        "float: {low: 0.0, high: 0.5, default: 0.1}",
        "choice: {values: [0.1, 0.2], weights: [1]}",
        "11:13",
        ["1 weights stand beside 2 values"],
    ),
    "default outside": (
        "float: {low: 0.0, high: 0.5, default: 0.1}",
        "choice: {values: [0.1, 0.2], default: 0.3}",
        "11:13",
        ["not among the values"],
    ),
    "fires without history": ("kind: static", "kind: dynamic", "1:1", ["history.*"]),
    "history in a static rule": (
        "data.num_samples > 1000",
        "history.num_trials > 3",
        "1:1",
        ["kind: dynamic"],
    ),
    "unknown verification": ("verification: read", "verification: sure", "15:89", ["'sure'"]),
    "unknown source": (
        "source: src",
        "source: scr",
        "15:14",
        ["`scr` is not in a sources.yaml", "Did you mean `src`"],
    ),
    "own condition on itself": (
        "hyperparameter: model.dropout",
        "active_when: {model.dropout: [0.1]}\n    hyperparameter: model.dropout",
        "10:5",
        ["another hyperparameter"],
    ),
    "key twice": ("kind: static", "kind: static\nkind: static", "5:1", ["stands twice"]),
    "not YAML": ("kind: static", "kind: [static", "5:9", ["not YAML"]),
    "not a mapping": (RULE, "- 1\n", "1:1", ["the file"]),
    "not UTF-8": ("seen", "s\ufffdn", "", ["not UTF-8"]),
}


@pytest.mark.parametrize("case", SINGLE.values(), ids=SINGLE.keys())
def test_a_mistake_is_found_where_it_stands(
    tmp_path: Path, case: tuple[str, str, str, list[str]]
) -> None:
    """Each mistake is told with file, line, column, and what would be right."""
    old, new, position, words = case
    assert old in RULE
    folder = write_pack(tmp_path / "p", RULE)
    file = folder / "TST001-some-situation.yaml"
    content = RULE.replace(old, new, 1)
    file.write_bytes(content.encode("utf-8").replace("\ufffd".encode(), b"\xff"))
    if content.split("\n")[1].startswith("name: use"):
        file.rename(folder / "TST001-use-dropout.yaml")
        file = folder / "TST001-use-dropout.yaml"

    mistakes = mistakes_of(folder)

    assert mistakes
    assert all(word in "\n".join(mistakes) for word in words)
    assert any(m.startswith(f"{file}:{position}: " if position else f"{file}: ") for m in mistakes)


def test_all_mistakes_of_all_files_come_at_once(tmp_path: Path) -> None:
    """One run tells every mistake, in files that do not depend on each other."""
    folder = write_pack(
        tmp_path / "p",
        rule_text("TST001", **{"kind: static": "kind: statik", "confidence: 0.6": "confidence: 7"}),
        rule_text("TST002", **{"data.num_samples > 1000": "data.nonsense"}),
        rule_text("TST003", extra="a: [1\n"),
        rule_text("TST004", **{"source: src": "source: other"}),
        rule_text("XYZ005"),
    )

    mistakes = mistakes_of(folder)

    named = ["TST001", "TST002", "TST003", "TST004", "XYZ005"]
    assert all(any(code in m for m in mistakes) for code in named)
    assert sum("TST001" in m for m in mistakes) == 2
    assert len(mistakes) == 6


def test_a_mistake_is_told_once(tmp_path: Path) -> None:
    """A misspelt hyperparameter gives one message, not a second one about its line."""
    folder = write_pack(tmp_path, RULE.replace("model.dropout", "model.drop"))

    mistakes = mistakes_of(folder)

    assert "model.drop" in mistakes[0]
    assert len(mistakes) == 1


def test_a_rule_with_a_mistake_still_counts_as_a_rule(tmp_path: Path) -> None:
    """References to a rule that has a mistake of its own are not mistakes."""
    extra = "conflicts: [{with: TST001, decided_by: order}]\n"
    folder = write_pack(tmp_path, rule_text(static="statik"), rule_text("TST002", extra=extra))

    mistakes = mistakes_of(folder)

    assert "statik" in mistakes[0]
    assert len(mistakes) == 1


@pytest.mark.parametrize(
    ("extra", "line", "message"),
    [
        ("overrides: [TST002, TST009]\n", "19:21", "`TST009` is not another rule"),
        ("overrides: [TST001]\n", "19:13", "`TST001` is not another rule"),
        ("conflicts: [{with: TST0, decided_by: x}]\n", "19:20", "`TST0` is not another rule"),
    ],
)
def test_references_lead_to_other_rules(
    tmp_path: Path, extra: str, line: str, message: str
) -> None:
    """`overrides` and `conflicts` name rules that exist, and not the rule itself."""
    folder = write_pack(tmp_path, rule_text(extra=extra), rule_text("TST002"))

    mistakes = mistakes_of(folder)

    assert len(mistakes) == 1
    assert f"TST001-situation-tst001.yaml:{line}: {message}" in mistakes[0]


def test_overrides_form_no_circle(tmp_path: Path) -> None:
    """Three rules that override each other in a circle are told with the circle."""
    texts = [rule_text(f"TST00{i}", extra=f"overrides: [TST00{i % 3 + 1}]\n") for i in (1, 2, 3)]

    mistakes = mistakes_of(write_pack(tmp_path, *texts))

    assert len(mistakes) == 1
    assert "TST001 > TST002 > TST003 > TST001" in mistakes[0]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("data.num_samples > 1000", "model.dropout > 0.2"),
        ("model.units > 3", "model.dropout > 0.2"),
    ],
)
def test_hyperparameters_form_no_circle(tmp_path: Path, first: str, second: str) -> None:
    """Hyperparameters that wait for each other, or for themselves, are told with the circle."""
    texts = [rule_text(**{"data.num_samples > 1000": first})]
    other = rule_text("TST002", **{"data.num_samples > 1000": second})
    if "units" in first:
        other = other.replace("hyperparameter: model.dropout", "hyperparameter: model.units")
        other = other.replace("float: {low: 0.0, high: 0.5, default: 0.1}", "fixed: 8")

    mistakes = mistakes_of(write_pack(tmp_path, *texts, other))

    assert len(mistakes) == 1
    assert "depend on each other in a circle" in mistakes[0]
    assert "TST002" in mistakes[0]


def test_conditions_form_no_circle(tmp_path: Path) -> None:
    """Two hyperparameters that exist only where the other does are a circle too."""
    one = rule_text(
        **{
            "    float: {low: 0.0, high: 0.5, default: 0.1}": "    fixed: 0.1\n    active_when: {model.units: [8]}"
        }
    )
    other = rule_text(
        "TST002",
        **{
            "    float: {low: 0.0, high: 0.5, default: 0.1}": "    fixed: 8\n    active_when: {model.dropout: [0.1]}"
        },
    )
    other = other.replace("hyperparameter: model.dropout", "hyperparameter: model.units")

    assert "in a circle" in mistakes_of(write_pack(tmp_path, one, other))[0]


class CountedGraph(dict[str, list[str]]):
    """A graph that stops a search that looks at it too often."""

    looks = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.looks += 1
        if self.looks > 5000:
            raise TimeoutError("too many looks")
        return super().get(key, default)


def test_cycles_are_found_in_linear_time() -> None:
    """A ladder of 25 rungs, with 2^25 paths, is walked in a few steps."""
    graph = CountedGraph()
    for i in range(25):
        graph |= {f"a{i:02}": [f"b{i:02}", f"c{i:02}"], f"b{i:02}": [f"a{i + 1:02}"]}
        graph[f"c{i:02}"] = [f"a{i + 1:02}"]

    assert find_cycle(graph) == []


@pytest.mark.parametrize(
    ("graph", "cycle"),
    [
        ({}, []),
        ({"a": ["b"], "b": []}, []),
        ({"a": ["a"]}, ["a", "a"]),
        ({"a": ["b"], "b": ["c"], "c": ["b"]}, ["b", "c", "b"]),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}, []),
        ({"a": ["elsewhere"]}, []),
    ],
)
def test_find_cycle(graph: dict[str, list[str]], cycle: list[str]) -> None:
    """A circle is told with its first node repeated; without one there is nothing."""
    assert find_cycle(graph) == cycle


def test_a_code_is_used_once(tmp_path: Path) -> None:
    """Two packs may not both have a rule of one code; the message names the first file."""
    first = write_pack(tmp_path / "a", RULE)
    second = write_pack(tmp_path / "b", RULE)

    mistakes = mistakes_of(first, second)

    assert len(mistakes) == 1
    assert f"taken by {first}" in mistakes[0]
    assert mistakes[0].startswith(str(second))


def test_a_prefix_belongs_to_its_pack(tmp_path: Path) -> None:
    """A rule's prefix is one of its pack's."""
    mistakes = mistakes_of(write_pack(tmp_path, rule_text("XYZ001")))

    assert "prefix that pack `tests` does not own" in mistakes[0]
    assert "among TST" in mistakes[0]


def test_a_file_is_named_after_its_rule(tmp_path: Path) -> None:
    """The file name is the code and the name of the rule."""
    folder = write_pack(tmp_path, RULE)
    (folder / "TST001-some-situation.yaml").rename(folder / "TST001-other.yaml")

    assert "Expected `TST001-some-situation.yaml`" in mistakes_of(folder)[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("pack: tests\n", "is missing"),
        (PACK + "extra: 1\n", "`extra` is not a key here"),
        (PACK.replace("[TST]", "[tst]"), "prefixes"),
        (PACK + "hyperparameters: {Wobble: {type: int, about: x}}\n", "hyperparameters"),
    ],
)
def test_pack_files_are_checked(tmp_path: Path, content: str, message: str) -> None:
    """Mistakes in pack.yaml are told like those in rules."""
    mistakes = mistakes_of(write_pack(tmp_path, RULE, pack=content))

    assert message in mistakes[0]
    assert "pack.yaml:" in mistakes[0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pack.yaml", "- src\n"),
        ("TST001-some-situation.yaml", "- src\n"),
        ("sources.yaml", "- src\n"),
        ("pack.yaml", "null"),
        ("TST001-some-situation.yaml", "null"),
        ("sources.yaml", "null"),
    ],
)
def test_a_file_of_another_shape_is_a_mistake_of_its_own(
    tmp_path: Path, name: str, content: str
) -> None:
    """A file that holds nothing, or a list, is told by name and not passed over."""
    folder = write_pack(tmp_path / "p", RULE)
    (folder / name).write_text(content)

    assert any(m.startswith(str(folder / name)) for m in mistakes_of(folder))


@pytest.mark.parametrize("make", [lambda p: p / "absent", lambda p: p])
def test_a_folder_without_a_pack_is_a_mistake(tmp_path: Path, make: Any) -> None:
    """A missing folder, and one without any pack, are told."""
    mistakes = mistakes_of(make(tmp_path))

    assert len(mistakes) == 1
    assert str(tmp_path) in mistakes[0]


def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path: Path) -> None:
    """A folder in the place of a rule file is told by name."""
    folder = write_pack(tmp_path, RULE)
    (folder / "TST002-folder.yaml").mkdir()

    assert "TST002-folder.yaml: it cannot be read" in mistakes_of(folder)[0]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A third-party pack as pip would install it: a package and its dist-info."""
    package = write_pack(
        tmp_path / "acme_rules", rule_text("ACM001"), pack=PACK.replace("TST", "ACM")
    )
    (package / "__init__.py").write_text("")
    info = tmp_path / "acme_rules-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-rules\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[smarttune.rules]\nacme = acme_rules\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path
    sys.modules.pop("acme_rules", None)


def test_installed_packs_take_part(installed: Path) -> None:
    """A pack that announces itself by its entry point is loaded with the built-in ones."""
    book = load(builtin=True)

    assert book.files["ACM001"].is_relative_to(installed)
    assert "CAP003" in {r.code for r in book.rules}
    assert "ACM001" not in {r.code for r in load(*[builtin_folder()]).rules}


def test_a_broken_installed_pack_is_named(installed: Path) -> None:
    """An entry point without its package is a mistake that names it, not a traceback."""
    (installed / "acme_rules-1.0.dist-info" / "entry_points.txt").write_text(
        "[smarttune.rules]\nacme = acme_absent\n"
    )

    assert any("acme" in m for m in mistakes_of(builtin=True))


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """A built-in folder and a cache of their own, and the list of files that are parsed."""
    folder = write_pack(tmp_path / "builtin", RULE)
    parsed: list[str] = []
    parse = loading.yaml.load

    def noted(text: str, where: str) -> Any:
        parsed.append(Path(where).name)
        return parse(text, where)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "builtin_folder", lambda: folder)
    monkeypatch.setattr(loading.yaml, "load", noted)
    return folder, parsed


def test_parsed_files_are_kept(kept: tuple[Path, list[str]]) -> None:
    """The second load parses nothing and gives the same rules."""
    folder, parsed = kept
    first = load(folder)
    num_parsed = len(parsed)

    second = load(folder)

    assert num_parsed == 3
    assert len(parsed) == num_parsed
    assert second.rules == first.rules


def test_a_changed_file_is_parsed_again(kept: tuple[Path, list[str]]) -> None:
    """Only the file that has changed is parsed, and its new content counts."""
    folder, parsed = kept
    load(folder)
    parsed.clear()
    (folder / "TST001-some-situation.yaml").write_text(RULE.replace("0.6", "0.65"))

    book = load(folder)

    assert parsed == ["TST001-some-situation.yaml"]
    assert book["TST001"].confidence == 0.65


def test_mistakes_have_positions_although_the_data_were_kept(kept: tuple[Path, list[str]]) -> None:
    """A mistake found in data from the cache is told with its line."""
    folder, _ = kept
    load(folder)
    (folder / "sources.yaml").write_text(SOURCES.replace("src", "other"))

    assert "TST001-some-situation.yaml:15:14" in mistakes_of(folder)[0]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"5", b"\xff\xfe", b'{"x": ', b"null", b'{"x": [1, 2]}']
)
def test_a_damaged_cache_costs_time_only(kept: tuple[Path, list[str]], content: bytes) -> None:
    """A cache of garbage is as good as none, and is written anew."""
    folder, parsed = kept
    path = cache.CheckedFiles(folder).path
    path.parent.mkdir(parents=True)
    path.write_bytes(content)

    load(folder)
    parsed.clear()
    load(folder)

    assert parsed == []


@pytest.mark.parametrize("entry", ["5", "[]", "[[0, 0]]", "{}"])
def test_a_damaged_entry_costs_time_only(kept: tuple[Path, list[str]], entry: str) -> None:
    """An entry of another shape is as good as none."""
    folder, _ = kept
    path = cache.CheckedFiles(folder).path
    path.parent.mkdir(parents=True)
    file = folder / "TST001-some-situation.yaml"
    status = file.stat()
    entry = entry.replace("[0, 0]", f"[{status.st_mtime_ns}, {status.st_size}]")
    path.write_text(f'{{"{file}": {entry}}}')

    assert load(folder)["TST001"]


def test_a_cache_that_cannot_be_written_costs_time_only(
    kept: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the cache folder is a file, rules load all the same."""
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))

    assert load(kept[0])["TST001"]
