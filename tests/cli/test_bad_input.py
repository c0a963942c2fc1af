"""Whatever a user gets wrong: exit code 2, one paragraph that helps, nothing half-written."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import resource
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smarttune.tuning import Run
from tests.cli.calling import Ended, assert_mendable, call, files_in
from tests.rulebook.packs import RULE, rule_text, write_pack

Capture = pytest.CaptureFixture[str]

ROWS = [f"{i * 0.5},{i % 7},{i % 2}" for i in range(200)]
GOOD = "\n".join(["x,k,y", *ROWS]) + "\n"
SIZE_LIMIT = 64 * 1024  # bytes that a file may have where the disk is as good as full
TOOK_OVER = "    float: {low: 0.0, high: 0.5, default: 0.1}"
# Hides every Keras backend, as on a machine where only the light part is installed.
NO_BACKEND = """
import sys
from importlib.machinery import PathFinder
class Without:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        gone = name.partition(".")[0] in ("tensorflow", "jax", "torch")
        return None if gone else PathFinder.find_spec(name, path, target)
sys.meta_path = [Without if f is PathFinder else f for f in sys.meta_path]
from smarttune.cli import main
main()
"""


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A table without fault."""
    path = tmp_path / "good.csv"
    path.write_text(GOOD, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "content", "target", "parts"),
    [
        ("goood.csv", None, "y", ("no such file", "Did you mean `good.csv`?")),
        ("t.csv", b"", "y", ("the file is empty",)),
        ("t.csv", b"quality,x\n" + b"1,2\n" * 20, "qualty", ("Did you mean `quality`?",)),
        ("t.csv", b"x,y\n" + b"1,7\n2,7\n" * 20, "y", ("only the value `7` in all 40 rows",)),
        ("t.csv", b"x,k,y\n" + b"1,a,0\n1,a,1\n" * 20, "y", ("every input column is constant",)),
        ("t.csv", b"caf\xe9,y\n" + b"1,2\n" * 20, "y", ("t.csv:1", "0xe9", "--encoding latin-1")),
        ("t.csv", GOOD.encode() + b"1,2\n", "y", ("t.csv:202", "2 field", "3 fields")),
        ("t.csv", b"x,y\n" + b"1,\n2,\n" * 20, "y", ("all 40 rows lack", "`y`")),
        ("t.csv", b"x,y\n" + b"1,NaN\n2,nan\n" * 20, "y", ("all 40 rows lack", "`y`")),
        ("t.csv", b"x,k,y\n1,2,0\n", "y", ("1 row(s)", "at least 10 rows")),
        ("t.csv", GOOD.encode(), None, ("no target was named", "--target")),
        ("t.xlsx", b"PK\x03\x04", "y", ("Save the sheet as csv",)),
    ],
    ids=[
        "missing", "empty", "wrong-target", "one-class", "constant", "latin-1", "ragged",
        "no-target-value", "nan-target", "one-row", "no-target", "sheet",
    ],
)  # fmt: skip
def test_bad_tables_are_explained(
    good: Path,
    capsys: Capture,
    name: str,
    content: bytes | None,
    target: str,
    parts: tuple[str, ...],
) -> None:
    """Each table that cannot be learnt from is named with its fault and the way out."""
    path = good.with_name(name)
    if content is not None:
        path.write_bytes(content)

    ended = call(capsys, "suggest", path, *(("--target", target) if target else ()))

    assert_mendable(ended, str(path), *parts)


def test_ten_thousand_columns_are_no_obstacle(tmp_path: Path, capsys: Capture) -> None:
    """A very wide table gets its recommendation, with a warning that it is wide."""
    path = tmp_path / "wide.csv"
    names = ",".join(f"c{i}" for i in range(10_000))
    rows = [",".join(str((i * j + j // 9) % 11) for j in range(10_000)) for i in range(1, 25)]
    lines = [f"{names},y", *(f"{row},{i % 2}" for i, row in enumerate(rows))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    ended = call(capsys, "suggest", path, "-t", "y")

    assert (ended.code, ended.err) == (0, "")
    assert "10,000 input columns for 24 rows" in ended.out


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--set", "model.unit=7"], ("--set: ", "Did you mean `model.units`?")),
        (["--set", "model.units"], ("--set: `model.units`", "name=value")),
        (["--set", "model.units=wide"], ("--set: ", "'wide'", "int of at least 1")),
        (["--fact", "data.num_sample=7"], ("--fact: ", "Did you mean `data.num_samples`?")),
        (["--fact", "data.num_samples=many"], ("--fact: ", "a value of type int")),
        (["--fact", "data.num_samples"], ("--fact: ", "name=value")),
        (["--task", "tabula"], ("data.task", "Did you mean `tabular`?")),
        (["--problem", "regresion"], ("model.problem", "Did you mean `regression`?")),
        (["--select", "XYZ"], ("--select: `XYZ`", "`smarttune rules list`")),
        (["--ignore", "XYZ"], ("--ignore: `XYZ`", "`smarttune rules list`")),
        (["--rules", "nowhere"], ("nowhere: there is no such file or folder",)),
        (["--explain", "model.unit"], ("--explain: ", "Did you mean `model.units`?")),
        (["--drop", "z"], ("no input column `z`", "--drop")),
        (["--drop", "x", "--drop", "k"], ("all were dropped",)),
        (["--encoding", "klingon"], ("--encoding: ", "'klingon'")),
        (["--target", "x,k,y"], ("nothing but the target",)),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_bad_options_are_explained(
    good: Path, capsys: Capture, options: list[str], parts: tuple[str, ...]
) -> None:
    """Each option with an impossible value is named with what would do."""
    assert_mendable(call(capsys, "suggest", good, "--target", "y", *options), *parts)


def test_nothing_to_go_by_is_explained(capsys: Capture) -> None:
    """Neither data nor facts cannot give a suggestion."""
    assert_mendable(call(capsys, "suggest"), "neither data nor facts", "--task")


@pytest.mark.parametrize(
    "options",
    [
        ["--num-samples", "-4"],
        ["--num-features", "0"],
        ["--classes", "-1"],
        ["--gpu-memory", "-3"],
        ["--fact", "data.num_samples=-2"],
    ],
    ids=" ".join,
)
def test_impossible_counts_are_refused(capsys: Capture, options: list[str]) -> None:
    """Counts and sizes below their least possible value are a slip of the user."""
    assert_mendable(
        call(capsys, "suggest", "--task", "tabular", *options), options[-1].split("=")[-1]
    )


def musts(folder: Path) -> Path:
    """Two rules that both must hold, with different values."""
    return write_pack(
        folder,
        *(
            rule_text(f"TST00{i}", **{TOOK_OVER: f"    fixed: 0.{i}\n    strength: must"})
            for i in (1, 2)
        ),
    )


def circle(folder: Path) -> Path:
    """Three rules that override each other in a circle."""
    texts = (rule_text(f"TST00{i}", extra=f"overrides: [TST00{i % 3 + 1}]\n") for i in (1, 2, 3))
    return write_pack(folder, *texts)


def typo(folder: Path) -> Path:
    """A rule about a misspelt fact."""
    return write_pack(folder, RULE.replace("data.num_samples >", "data.num_sample >"))


def not_text(folder: Path) -> Path:
    """A rule file in another encoding."""
    (write_pack(folder, RULE) / "TST001-some-situation.yaml").write_bytes(b"code: \xff\xfe\n")
    return folder


def no_pack(folder: Path) -> Path:
    """A folder without rules."""
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (typo, ("TST001-some-situation.yaml:8:5: ", "Did you mean `data.num_samples`?")),
        (circle, (":19:12: ", "TST001 > TST002 > TST003 > TST001")),
        (musts, ("`model.dropout`", "TST001: 0.1; TST002: 0.2", "--ignore TST002", "--set")),
        (not_text, ("TST001-some-situation.yaml: ", "Save it as UTF-8.")),
        (no_pack, ("pack.yaml",)),
    ],
)
def test_bad_rules_are_explained(
    tmp_path: Path, capsys: Capture, make: Callable[[Path], Path], parts: tuple[str, ...]
) -> None:
    """Rules that do not load or cannot hold together stop a suggestion, with their place."""
    folder = make(tmp_path / "mine")
    facts = ("--task", "tabular", "--num-samples", "5000")

    assert_mendable(call(capsys, "suggest", *facts, "--rules", folder), *parts)


def test_one_of_two_musts_may_be_left_out(tmp_path: Path, capsys: Capture) -> None:
    """The way out that the error of contradicting rules names is one."""
    folder = musts(tmp_path / "mine")
    facts = ("--task", "tabular", "--num-samples", "5000", "--rules", folder)

    ended = call(capsys, "suggest", *facts, "--ignore", "TST002")

    assert ended.code == 0
    assert "model.dropout = 0.1" in ended.out


def absent(folder: Path) -> Path:
    """A directory that is not there."""
    return folder / "absent"


def empty(folder: Path) -> Path:
    """A directory without a run."""
    (folder / "empty").mkdir()
    return folder / "empty"


def older(folder: Path) -> Path:
    """A run that another version wrote."""
    (folder / "older").mkdir()
    (folder / "older" / "run.json").write_text('{"schema": "smarttune/run@0"}', encoding="utf-8")
    return folder / "older"


def damaged(folder: Path) -> Path:
    """A run whose manifest breaks off."""
    (folder / "damaged").mkdir()
    (folder / "damaged" / "run.json").write_text('{"schema": "smartt', encoding="utf-8")
    return folder / "damaged"


def finished(folder: Path) -> Path:
    """A run with as much of a report as `export` reads, and a model of a few sizes of a block."""
    report = {"export": {"model": "model.keras", "reason": ""}}
    objective = {"name": "val_loss", "direction": "min"}
    run = Run.create(folder / "finished", {"objective": objective}, {"report.json": report})
    run.model_path.write_bytes(b"weights " * SIZE_LIMIT)
    return run.path


RUNS = [
    (absent, "there is no such directory"),
    (empty, "there is no run.json in it"),
    (older, "'smarttune/run@0'"),
    (damaged, "cannot be read"),
]


@pytest.mark.parametrize("command", ["show", "predict", "export"])
@pytest.mark.parametrize(("make", "part"), RUNS)
def test_bad_run_directories_are_explained(
    tmp_path: Path, good: Path, capsys: Capture, command: str, make: Any, part: str
) -> None:
    """A directory that holds no usable run is named, and nothing is written."""
    run = make(tmp_path)
    further: dict[str, list[Path | str]] = {
        "predict": [good, "-o", tmp_path / "o.csv"],
        "export": [tmp_path / "o.keras"],
    }
    before = files_in(tmp_path)

    assert_mendable(call(capsys, command, run, *further.get(command, [])), str(run), part)
    assert files_in(tmp_path) == before


def test_a_run_without_a_report_exports_nothing(tmp_path: Path, capsys: Capture) -> None:
    """A search that has not ended says how to end it."""
    run = finished(tmp_path)
    (run / "report.json").unlink()

    ended = call(capsys, "export", run, tmp_path / "o.keras")

    assert_mendable(ended, "has not ended", f"smarttune resume {run}")
    assert not (tmp_path / "o.keras").exists()


def test_an_unknown_trial_and_a_wrong_suffix_are_explained(tmp_path: Path, capsys: Capture) -> None:
    """`--trial` names a trial of the run, and a model's name ends in .keras."""
    run = finished(tmp_path)

    assert_mendable(call(capsys, "show", run, "--trial", "0009"), "--trial: ", "`0009`")
    assert_mendable(call(capsys, "export", run, tmp_path / "o.h5"), "`o.h5`", "o.keras")


def test_an_unwritable_place_is_explained(tmp_path: Path, good: Path, capsys: Capture) -> None:
    """A model cannot be written below a file, whoever one is."""
    run = finished(tmp_path)
    before = files_in(tmp_path)

    ended = call(capsys, "export", run, good / "o.keras")

    assert_mendable(ended, str(good / "o.keras"), "cannot be written")
    assert files_in(tmp_path) == before


def no_space(*_: Any) -> None:
    """What the system says when the disk is full."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_explained(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that does not fit on the disk is not left behind in part."""
    run = finished(tmp_path)
    (tmp_path / "o.keras").write_text("the older model", encoding="utf-8")
    before = files_in(tmp_path)
    monkeypatch.setattr(os, "fsync", no_space)

    ended = call(capsys, "export", run, tmp_path / "o.keras")

    assert_mendable(ended, "o.keras", "No space left", "space on the disk")
    assert files_in(tmp_path) == before


def ended_alone(*command: str, folder: Path, code: str | None = None, **options: Any) -> Ended:
    """The command line in a process of its own."""
    start = ["-c", code] if code else ["-m", "smarttune"]
    done = subprocess.run(
        [sys.executable, *start, *command],
        cwd=folder,
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        **options,
    )
    return Ended(done.returncode, done.stdout or "", done.stderr)


def limited() -> None:
    """Let the system refuse large files to this process."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE_LIMIT, SIZE_LIMIT))


def test_a_file_that_the_system_cuts_off_is_not_left_behind(tmp_path: Path) -> None:
    """Where the system itself stops the writing halfway, the half is removed."""
    run = finished(tmp_path)
    before = files_in(tmp_path)

    ended = ended_alone("export", str(run), "o.keras", folder=tmp_path, preexec_fn=limited)

    assert_mendable(ended, "o.keras", "File too large")
    assert files_in(tmp_path) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("command", [["rules", "list"], ["suggest", "good.csv", "-t", "y"]])
def test_output_onto_a_full_disk_is_explained(
    tmp_path: Path, good: Path, command: list[str]
) -> None:
    """`suggest > train.py` on a full disk is the user's to mend."""
    with open("/dev/full", "w", encoding="utf-8") as full:
        ended = ended_alone(*command, folder=tmp_path, stdout=full)

    assert_mendable(ended, "No space left")


def test_without_a_backend_only_a_search_is_refused(tmp_path: Path, good: Path) -> None:
    """Rules and suggestions work without Keras's backends; a search names the extra to install."""
    before = files_in(tmp_path)

    listed = ended_alone("rules", "list", folder=tmp_path, code=NO_BACKEND)
    suggested = ended_alone("suggest", "good.csv", "-t", "y", folder=tmp_path, code=NO_BACKEND)
    refused = ended_alone("search", "good.csv", "-t", "y", folder=tmp_path, code=NO_BACKEND)

    assert listed.code == 0
    assert "LRN001" in listed.out
    assert suggested.code == 0, suggested.err
    assert "optimizer.learning_rate = " in suggested.out
    assert_mendable(refused, "not installed", "pip install 'smarttune[tensorflow-cpu]'")
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    "backend",
    [
        "jax",
        *(pytest.param(name) for name in ("torch", "tensorflwo")),
    ],
)
def test_an_absent_backend_names_an_extra_that_exists(
    backend: str, good: Path, root: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever KERAS_BACKEND says, what the message tells to install can be installed."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == backend else find(name, *a)
    )
    monkeypatch.setenv("KERAS_BACKEND", backend)

    ended = call(capsys, "search", good, "-t", "y")

    assert_mendable(ended, f"KERAS_BACKEND={backend}")
    named = re.findall(r"smarttune\[([\w-]+)\]", ended.err)
    assert set(named) <= set(project["optional-dependencies"])


# What follows imports TensorFlow, once for all.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--strategy", "bayes"], ("--strategy: `bayes`", "Did you mean `bayesian`?")),
        (["--objective", "val_acuracy"], ("`val_acuracy`", "--objective", "`accuracy`?")),
        (["--objective", "val_r2_score"], ("a binary problem", "val_auc")),
        (["--time", "10x"], ("--time: `10x`", "10m")),
        (["--trials", "0"], ("trials: 0", "more than 0")),
        (["--precision", "float16"], ("'float16'", "mixed_float16")),
        (["--target", "z"], ("no column `z`",)),
        pytest.param(["--seed", "-1"], ("-1",)),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_a_search_that_cannot_begin_leaves_nothing(
    tmp_path: Path, good: Path, capsys: Capture, options: list[str], parts: tuple[str, ...]
) -> None:
    """Each impossible wish ends a search before its run directory is made."""
    run = tmp_path / "run"

    ended = call(capsys, "search", good, "--target", "y", "--trials", "1", "--run", run, *options)

    assert_mendable(ended, *parts)
    assert not run.exists()


@pytest.mark.slow
def test_occupied_and_unwritable_run_directories_are_explained(
    tmp_path: Path, good: Path, capsys: Capture
) -> None:
    """A search takes no directory that holds something, nor one that cannot be made."""
    old, other = older(tmp_path), tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine", encoding="utf-8")
    before = files_in(tmp_path)
    search = ("search", good, "-t", "y", "--trials", "1", "--run")

    assert_mendable(call(capsys, *search, old), "already holds a run", f"resume {old}")
    assert_mendable(call(capsys, *search, other), "not empty", "`notes.txt`", "--run")
    assert_mendable(call(capsys, *search, good / "run"), "cannot be written", "--run")
    assert files_in(tmp_path) == before


@pytest.mark.slow
@pytest.mark.parametrize(("make", "part"), RUNS)
def test_only_a_run_resumes(tmp_path: Path, capsys: Capture, make: Any, part: str) -> None:
    """`resume` explains a bad directory as the lighter commands do."""
    run = make(tmp_path)

    assert_mendable(call(capsys, "resume", run), str(run), part)


@pytest.mark.slow
def test_a_search_onto_a_full_disk_leaves_no_part_of_a_file(
    tmp_path: Path, good: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full from the start is told before any training."""
    monkeypatch.setattr(os, "fsync", no_space)

    ended = call(capsys, "search", good, "-t", "y", "--trials", "1", "--run", tmp_path / "run")

    assert_mendable(ended, "No space left", "space on the disk")
    assert files_in(tmp_path) == {"good.csv": GOOD.encode()}
    assert not any((tmp_path / "run").iterdir())
