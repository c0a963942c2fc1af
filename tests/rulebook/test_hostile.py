"""Rule packs that mean harm: each is refused with a clear error, soon and in little memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.rulebook.packs import PACK, RULE, rule_text, write_pack

NAME = "TST001-some-situation.yaml"
CONDITION = "data.num_samples > 1000"
# ours: ten times what the hungriest and the slowest case need on a small machine, so that
# only a case without bounds reaches them.
MAX_MEMORY = 2 << 30
MAX_CPU_SECONDS = 300

# Loads the packs named on the command line, each after the other, under hard limits.
PROGRAM = """
import json, resource, sys, warnings
from pathlib import Path
memory, seconds = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
warnings.simplefilter("error")
from smarttune.errors import SmartTuneError
from smarttune.rulebook import load_rulebook
for pack in sys.argv[3:]:
    print(json.dumps(["began", pack]), flush=True)
    try:
        book = load_rulebook.__wrapped__((Path(pack),), builtin=False)
    except SmartTuneError as error:
        print(json.dumps([type(error).__name__, str(error)]), flush=True)
    except BaseException as error:
        print(json.dumps([type(error).__name__, repr(error)[:300]]), flush=True)
    else:
        print(json.dumps(["loaded", str(len(book.rules))]), flush=True)
"""


class Case(NamedTuple):
    """A hostile pack: what writes it into a folder, and what its first mistake says."""

    write: Callable[[Path], object]
    says: str


def file_of(text: str | bytes, *, name: str = NAME) -> Callable[[Path], object]:
    """A pack with one file."""
    content = text.encode() if isinstance(text, str) else text

    def write(folder: Path) -> None:
        write_pack(folder)
        (folder / name).write_bytes(content)

    return write


def rule_with(**replaced: str) -> Callable[[Path], object]:
    """A pack with one rule, some of whose text is replaced."""
    text = RULE
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    return file_of(text)


def condition(text: str) -> Callable[[Path], object]:
    """A pack with one rule that has this condition."""
    return rule_with(**{CONDITION: json.dumps(text, ensure_ascii=False)})


def fixed(value: str, name: str = "model.units") -> Callable[[Path], object]:
    """A pack with one rule that fixes a hyperparameter to this value."""
    old = "  - hyperparameter: model.dropout\n    float: {low: 0.0, high: 0.5, default: 0.1}\n"
    return rule_with(**{old: f"  - hyperparameter: {name}\n    fixed: {value}\n"})


def linked(target: str, name: str = NAME) -> Callable[[Path], object]:
    """A pack with one file that is a link."""

    def write(folder: Path) -> None:
        write_pack(folder)
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return write


def with_pack(text: str) -> Callable[[Path], object]:
    """A pack with one rule and this pack.yaml."""
    return lambda folder: write_pack(folder, RULE, pack=text)


def piped(folder: Path) -> None:
    """A pack with a rule that is a pipe into which nobody writes."""
    os.mkfifo(write_pack(folder) / NAME)


def huge(folder: Path) -> None:
    """A pack with a rule file of 100 MB, most of it a hole."""
    with (write_pack(folder) / NAME).open("wb") as file:
        file.truncate(100_000_000)


def as_folder(folder: Path) -> None:
    """A pack with a folder that is named like a rule."""
    (write_pack(folder) / NAME).mkdir()


def circle(num_rules: int) -> Callable[[Path], object]:
    """A pack of rules each of which overrides the next, the last one the first."""

    def write(folder: Path) -> None:
        codes = [f"TS{chr(65 + i // 1000)}{i % 1000:03d}" for i in range(num_rules)]
        prefixes = ", ".join(sorted({code[:-3] for code in codes}))
        texts = [
            rule_text(code, extra=f"overrides: [{following}]\n")
            for code, following in zip(codes, [*codes[1:], codes[0]], strict=True)
        ]
        write_pack(folder, *texts, pack=PACK.replace("TST", prefixes))

    return write


def broken(num_rules: int) -> Callable[[Path], object]:
    """A pack of rules that all refer to a rule that is nowhere."""
    texts = [
        rule_text(f"TST{i:03d}", extra="overrides: [TSX999, TSX998, TSX997]\n")
        for i in range(num_rules)
    ]
    return lambda folder: write_pack(folder, *texts)


BOMB = "a: &a [x, x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}]\n"
    for old, new in zip("abcdefghij", "bcdefghijk", strict=True)
)
AT_CONDITION = f"{NAME}:8:6: when.0: "

CASES = {
    # ---- text that a parser may choke on
    "nested lists": Case(file_of("[" * 90_000), f"{NAME}:1:21: values are nested too deeply"),
    "nested mappings": Case(file_of("{a: " * 40_000), f"{NAME}:1:81: values are nested too deep"),
    "nested blocks": Case(file_of("- " * 50_000 + "x"), "values are nested too deeply"),
    "nested keys": Case(file_of("? " * 50_000 + "x"), "values are nested too deeply"),
    "brackets within a rule": Case(
        rule_with(**{"limits: Seen once.": "limits: " + "[" * 500 + "]" * 500}),
        "values are nested too deeply",
    ),
    "bomb of aliases": Case(file_of(BOMB), f"{NAME}:1:4: an alias repeats a value"),
    "alias of itself": Case(file_of("a: &a [*a]"), f"{NAME}:1:"),
    "merge of keys": Case(
        file_of("x: &x {code: TST001}\n<<: *x\n"), f"{NAME}:1:4: an alias repeats a value"
    ),
    "merge without alias": Case(file_of(RULE + "<<: {code: X}\n"), ":19:1: <<: `<<` is not a key"),
    "equal keys": Case(file_of(RULE + "why: Again.\n"), ":19:1: the key `why` stands twice"),
    "tag of Python": Case(
        rule_with(**{"Seen once.": "!!python/object/apply:os.system ['true']"}),
        ":13:9: the tag `tag:yaml.org,2002:python/object/apply:os.system` is not allowed",
    ),
    "tag of a binary": Case(rule_with(**{"Seen once.": "!!binary aGk="}), "is not allowed"),
    "two documents": Case(file_of(RULE + "---\n" + RULE), "this is not YAML"),
    "not text": Case(file_of(bytes(range(256))), "is not UTF-8"),
    "surrogate": Case(rule_with(**{"Seen once.": '"\\ud800"'}), f"{NAME}:13:"),
    "characters that steer terminals": Case(
        rule_with(**{"Seen once.": '"\\e[2J\\e[31m"'}),
        ":13:9: the text holds the character '\\x1b'",
    ),
    "text from right to left": Case(
        rule_with(**{"Seen once.": '"a\\u202eb"'}), "the text holds the character '\\u202e'"
    ),
    "key of several lines": Case(file_of(RULE + '"a\\nb": 1\n'), "a key has several lines"),
    "key that is a list": Case(file_of("[a]: 1\n"), ":1:1: a key is not plain text"),
    "nothing": Case(file_of(""), "the file is empty"),
    "zeros": Case(file_of(b"\0" * 1000), "this is not YAML"),
    # ---- size
    "a hundred megabytes": Case(huge, "the file has 100000000 bytes"),
    "a million characters": Case(
        rule_with(**{CONDITION: "'" + "1 + " * 250_000 + "1 > 0'"}), "the file has 1000"
    ),
    "a long expression": Case(
        condition("1 + " * 20_000 + "1 > 0"), AT_CONDITION + "the expression"
    ),
    "a long text": Case(rule_with(**{"A reason that": "a" * 150_000}), ":3:10: summary: "),
    "ten thousand conditions": Case(
        rule_with(**{f"  - {CONDITION}": "  - a.b > 1\n" * 10_000}), "`when` has 10000 items"
    ),
    "a hundred thousand conditions": Case(
        rule_with(**{f"  - {CONDITION}": "  - a > 1\n" * 100_000}), "bytes. Expected at most"
    ),
    "many values": Case(file_of("a: [" + "1, " * 40_000 + "1]"), "more than 20000 values"),
    "many keys": Case(
        file_of("".join(f"k{i}: 1\n" for i in range(9_000))), f"{NAME}:1:1: the file: `it` has 9000"
    ),
    "many hyperparameters": Case(
        with_pack(
            PACK
            + "hyperparameters:\n"
            + "".join(f"  my.h{i}: {{type: int, about: x}}\n" for i in range(2_000))
        ),
        "`hyperparameters` has 2000 items",
    ),
    # ---- numbers
    "a number beyond all": Case(
        rule_with(**{"high: 0.5": "high: 1e999999"}), ":11:29: then.0.float.high: numbers beyond"
    ),
    "not a number": Case(
        rule_with(**{"high: 0.5": "high: .nan"}), ":11:29: then.0.float.high: numbers beyond"
    ),
    "infinity": Case(rule_with(**{"high: 0.5": "high: -.inf"}), "numbers beyond"),
    "confidence that is no number": Case(rule_with(**{"0.6": ".nan"}), ":6:13: confidence: "),
    "infinite confidence": Case(rule_with(**{"0.6": ".inf"}), ":6:13: confidence: "),
    "weights that are no numbers": Case(
        rule_with(
            **{
                "model.dropout": "optimizer.name",
                "float: {low: 0.0, high: 0.5, default: 0.1}": "choice: {values: [adam, sgd], "
                "weights: [.nan, 1]}",
            }
        ),
        "weights lie between 0 and",
    ),
    "five thousand digits": Case(fixed("9" * 5_000), ":10:"),
    "fifty thousand digits": Case(fixed("0x" + "f" * 50_000), ":10:"),
    "an infinite value": Case(fixed(".inf"), ":10:"),
    # ---- expressions
    "a power of powers": Case(condition("10**10**10 > 1"), f"{NAME}:8:10: when.0: this operator"),
    "folded constants": Case(condition("9**9**9 > data.num_samples"), "this operator is not"),
    "repeated text": Case(condition('data.task == 2 * "a"'), "is text where a number is needed"),
    "a shift": Case(condition("1 << 99999999 > 1"), "this operator is not allowed"),
    "a long number": Case(condition("9" * 490 + " > 1"), "numbers beyond 1e+18"),
    "a number beyond floats": Case(condition("1e999999 > 1"), "numbers beyond 1e+18"),
    "an imaginary number": Case(condition("1j > 1"), "is not allowed in a rule"),
    "import": Case(condition('__import__("os").system("true") == 0'), "is not a function"),
    "attributes": Case(condition("data.num_samples.__class__ > 1"), "neither a fact nor"),
    "attributes of a call": Case(condition("log2(1).real > 1"), "is not allowed in a rule"),
    "subclasses": Case(condition("().__class__.__base__ == 1"), "is not allowed in a rule"),
    "subscript": Case(condition("data.task[0] == 1"), "is not allowed in a rule"),
    "formatted text": Case(condition('f"{data.task}" == "text"'), "is not allowed in a rule"),
    "lambda": Case(condition("(lambda: True)()"), "is not a function of the language"),
    "walrus": Case(condition("(x := 1) > 0"), "is not allowed in a rule"),
    "comprehension": Case(condition("[x for x in (1, 2)] == 1"), "is not allowed in a rule"),
    "generator": Case(condition("max(x for x in (1, 2)) > 1"), "is not allowed in a rule"),
    "starred arguments": Case(condition("max(*(1, 2)) > 1"), "takes plain arguments only"),
    "await": Case(condition("(await data.task) == 1"), "is not allowed in a rule"),
    "yield": Case(condition("(yield) == 1"), "is not allowed in a rule"),
    "statement": Case(condition("import os"), "not an expression"),
    "bytes": Case(condition('b"a" == data.task'), "is not allowed in a rule"),
    "backslash": Case(condition('data.task == "\\x41"'), "a backslash is not allowed"),
    "NUL": Case(rule_with(**{CONDITION: '"1 > 0 \\0"'}), "the text holds the character '\\x00'"),
    "wide letters": Case(condition("\uff44ata.num_samples > 1"), "only looks like another"),
    "letters of another script": Case(
        condition("d\u0430ta.num_samples > 1"), "Did you mean `data.num_samples`?"
    ),
    "parentheses": Case(
        condition("(" * 240 + "1" + ")" * 240 + " > 0"), "too many nested parentheses"
    ),
    "signs": Case(condition("-" * 490 + "1 > 0"), "nested too deeply"),
    "denials": Case(condition("not " * 120 + "True"), "nested too deeply"),
    "words with many dots": Case(condition("a" + ".a" * 240 + " > 0"), "neither a fact nor"),
    # ---- names and paths
    "a path as code": Case(rule_with(**{"code: TST001": "code: ../../x"}), ":1:7: code: "),
    "a path as name": Case(rule_with(**{"some-situation": "../../etc/passwd"}), ":2:7: name: "),
    "a name with a line break": Case(
        rule_with(**{"name: some-situation": 'name: "some-situation\\n"'}), "name: "
    ),
    "a name that repeats": Case(rule_with(**{"some-situation": "a-" * 20_000 + "!"}), "name: "),
    "a path as pack": Case(
        with_pack(PACK.replace("pack: tests", "pack: ../tests")), "pack.yaml:1:7: pack: "
    ),
    "an absolute path as prefix": Case(
        with_pack(PACK.replace("[TST]", "[/ETC]")), "pack.yaml:2:12: prefixes.0: "
    ),
    "a hyperparameter with a line break": Case(
        with_pack(PACK + 'hyperparameters: {"my.x\\n": {type: int, about: x}}\n'),
        "pack.yaml:6:19: a key has several lines",
    ),
    "a hyperparameter that repeats": Case(
        with_pack(PACK + f"hyperparameters: {{a{'.a' * 30}!: {{type: int, about: x}}}}\n"),
        "hyperparameters",
    ),
    # ---- files
    "a pipe": Case(piped, f"{NAME}: it is not a regular file"),
    "a device without end": Case(linked("/dev/zero"), "leads out of its folder"),
    "a link out of the pack": Case(linked("/etc/passwd"), "leads out of its folder"),
    "a link to the folder above": Case(linked("../sources.yaml"), "leads out of its folder"),
    "a link to itself": Case(linked(NAME), "Too many levels of symbolic links"),
    "a link to nothing": Case(linked("nothing.yaml"), "No such file or directory"),
    "a pack.yaml that leads out": Case(
        linked("/etc/passwd", "pack.yaml"), "pack.yaml: it is a link"
    ),
    "sources that lead out": Case(
        linked("/etc/passwd", "sources.yaml"), "sources.yaml: it is a link"
    ),
    "a folder named like a rule": Case(as_folder, f"{NAME}: it "),
    "a name that does not print": Case(
        file_of(RULE, name="TST001-\x1b[2J.yaml"), "TST001-\\x1b[2J.yaml"
    ),
    # ---- many rules
    "three thousand rules in a circle": Case(circle(3_000), "2990 more > TSA000"),
    "nine hundred broken rules": Case(broken(900), "`TSX999` is not another rule"),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[str, str]]]:
    """What became of each pack, all loaded by one process under hard limits."""
    root = tmp_path_factory.mktemp("hostile")
    folders = {name: root / str(i) for i, name in enumerate(CASES)}
    for name, folder in folders.items():
        CASES[name].write(folder)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(MAX_MEMORY), str(MAX_CPU_SECONDS)]
        + [str(folder) for folder in folders.values()],
        capture_output=True,
        text=True,
        check=False,
        timeout=MAX_CPU_SECONDS,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    told = {begun[1]: outcome for begun, outcome in zip(lines[::2], lines[1::2], strict=False)}
    ended = ("ended", done.stderr[-500:])
    yield {name: tuple(told.get(str(folder), ended)) for name, folder in folders.items()}
    for file in root.glob("*/*"):
        if file.is_file() and not file.is_symlink():
            file.unlink()  # a hundred megabytes need not stay


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_pack_is_refused(outcomes: dict[str, tuple[str, str]], name: str) -> None:
    """It ends within bounds of time and memory, with an error that says what and where."""
    error, text = outcomes[name]

    assert error == "RulePackError", text
    assert CASES[name].says in text
    assert text.replace("\n", "").isprintable()
    assert len(text) < 200_000
