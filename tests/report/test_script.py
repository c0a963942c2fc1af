"""Scripts that train the recommended model without SmartTune."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarttune.data import split
from smarttune.errors import OptionError, SettingError
from smarttune.report.script import keras_script
from smarttune.report.script_layout import LINE_LENGTH, assignment, mapping, width
from smarttune.rulebook import Rulebook
from smarttune.suggestion import Suggestion, make_suggestion

ROWS = 240
TABLE = {"data.task": "tabular", "data.num_samples": 3000, "data.num_features": 6}
FACTS: dict[str, dict[str, Any]] = {
    "facts-binary": {**TABLE, "model.problem": "binary", "data.num_categorical_features": 2},
    "facts-regression": {**TABLE, "model.problem": "regression"},
    "facts-multilabel": {**TABLE, "model.problem": "multilabel", "data.num_classes": 3},
    "text-ngrams": {
        "data.task": "text",
        "model.problem": "binary",
        "data.num_samples": 500,
        "data.words_per_sample": 30,
    },
    "text-convolutions": {
        "data.task": "text",
        "model.problem": "multiclass",
        "data.num_classes": 4,
        "data.num_samples": 120_000,
        "data.words_per_sample": 10,
    },
    "image": {
        "data.task": "image",
        "model.problem": "multiclass",
        "data.num_classes": 3,
        "data.num_samples": 3000,
        "data.image_side": 16,
    },
    "sequence-windows": {
        "data.task": "sequence",
        "model.problem": "regression",
        "data.num_samples": 3000,
        "data.sequence_length": 12,
    },
    "sequence": {
        "data.task": "sequence",
        "model.problem": "multiclass",
        "data.num_classes": 3,
        "data.num_samples": 3000,
        "data.sequence_length": 12,
    },
}
TARGETS: dict[str, Any] = {
    "binary": "won",
    "multiclass": "kind",
    "regression": "price",
    "multilabel": ["red", "green", "blue"],
}
# Constants whose value is a recommended one, written down apart from the code under test.
CONSTANTS = {
    "NUM_LAYERS": "model.num_layers",
    "UNITS": "model.units",
    "ACTIVATION": "model.activation",
    "DROPOUT": "model.dropout",
    "KERNEL_INITIALIZER": "model.kernel_initializer",
    "EMBEDDING_DIM": "model.embedding_dim",
    "NUM_STAGES": "model.num_stages",
    "FILTERS": "model.filters",
    "KERNEL_SIZE": "model.kernel_size",
    "CONVOLUTIONS_PER_STAGE": "model.convolutions_per_stage",
    "VOCABULARY_SIZE": "model.vocabulary_size",
    "NGRAM_SIZE": "model.ngram_size",
    "MAX_SEQUENCE_LENGTH": "model.max_sequence_length",
    "NUM_RNN_LAYERS": "model.num_rnn_layers",
    "RNN_UNITS": "model.rnn_units",
    "LEARNING_RATE": "optimizer.learning_rate",
    "BETA_1": "optimizer.beta_1",
    "BETA_2": "optimizer.beta_2",
    "EPSILON": "optimizer.epsilon",
    "CLIPNORM": "optimizer.clipnorm",
    "WEIGHT_DECAY": "optimizer.weight_decay",
    "L1": "optimizer.l1",
    "L2": "optimizer.l2",
    "BATCH_SIZE": "training.batch_size",
    "PATIENCE": "training.early_stopping.patience",
    "WINDOW": "training.early_stopping.window",
    "PRECISION": "training.precision",
    "LABEL_SMOOTHING": "training.label_smoothing",
    "VALIDATION_FRACTION": "data.validation_fraction",
    "NUM_FOLDS": "data.num_folds",
}
# Values under which a constant is left out, since the code then does without it.
NEUTRAL = {
    "DROPOUT": 0.0,
    "CLIPNORM": 0.0,
    "WINDOW": 1,
    "LABEL_SMOOTHING": 0.0,
    "NUM_FOLDS": 1,
}
# Recommended values that a family does not read.
UNREAD = {"text-ngrams": ("EMBEDDING_DIM",)}


def mixed_table(num_rows: int = ROWS) -> pd.DataFrame:
    """Every kind of column with gaps, and four targets."""
    rng = np.random.default_rng(0)
    age = rng.normal(40, 9, num_rows).round(1)
    table = pd.DataFrame(
        {
            "age": age,
            "fare": np.exp(rng.normal(0, 2, num_rows)).round(2),
            "smoker": rng.choice(["yes", "no"], num_rows),
            "flag": rng.integers(0, 2, num_rows),
            "city": rng.choice(["Rome", "Pa ris", 'Zür"ich'], num_rows),
            "zip": rng.choice([f"z{i}" for i in range(40)], num_rows),
            "when": pd.date_range("2020-01-01", periods=num_rows, freq="37h").strftime("%d.%m.%Y"),
        }
    )
    for name in ("age", "smoker", "city", "when"):
        table[name] = table[name].where(rng.random(num_rows) > 0.1)
    table["won"] = np.where(age + rng.normal(0, 5, num_rows) > 40, "ja", "nein")
    table["kind"] = rng.choice(["none", "some", "many"], num_rows)
    table["price"] = (age * 3 + rng.normal(0, 5, num_rows)).round(2)
    labels = rng.integers(0, 2, (num_rows, 3))
    return table.assign(red=labels[:, 0], green=labels[:, 1], blue=labels[:, 2])


def write_table(folder: Path, problem: str) -> Path:
    """A semicolon table with the columns of one problem; one row lacks its target."""
    target = TARGETS[problem]
    kept = [target] if isinstance(target, str) else target
    inputs = ["age", "fare", "smoker", "flag", "city", "zip", "when"]
    table = mixed_table()[[*inputs, *kept]].astype({kept[0]: object})
    table.loc[5, kept[0]] = None
    path = folder / f"{problem}.csv"
    table.to_csv(path, sep=";", index=False, encoding="utf-8-sig", na_rep="n/a")
    return path


@pytest.fixture(scope="module")
def suggestions(tmp_path_factory: pytest.TempPathFactory, book: Rulebook) -> dict[str, Suggestion]:
    """One suggestion per table problem, and those from facts alone."""
    folder = tmp_path_factory.mktemp("tables")
    chosen = {"sequence-windows": {"model.family": "mlp"}}
    made = {
        name: make_suggestion(facts=facts, rulebook=book, pinned=chosen.get(name, {}))
        for name, facts in FACTS.items()
    }
    for problem, target in TARGETS.items():
        path = write_table(folder, problem)
        # One table keeps the recommended five folds, which take five times as long to train.
        pins = {} if problem == "regression" else {"data.num_folds": 1}
        made[problem] = make_suggestion(path, target, rulebook=book, pinned=pins)
    return made


ALL = (*TARGETS, *FACTS)


def pinned(book: Rulebook, folder: Path, pins: dict[str, Any], problem: str = "binary") -> str:
    """The script for a mixed table with some settings fixed."""
    path = write_table(folder, problem)
    made = make_suggestion(
        path, TARGETS[problem], rulebook=book, pinned={"data.num_folds": 1, **pins}
    )
    return keras_script(made)


def constants_of(script: str) -> dict[str, Any]:
    """Constants of a script that are plain values."""
    found: dict[str, Any] = {}
    for node in ast.parse(script).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found


def functions_of(script: str, *names: str) -> dict[str, Any]:
    """Constants and the named functions of a script, without its import of Keras."""
    kept: list[ast.stmt] = []
    for node in ast.parse(script).body:
        named = isinstance(node, ast.FunctionDef) and node.name in names
        plain = isinstance(node, ast.Assign) and "keras" not in ast.unparse(node)
        if named or plain:
            kept.append(node)
    space: dict[str, Any] = {"np": np, "pd": pd, "os": os}
    exec(compile(ast.Module(kept, []), "script", "exec"), space)  # noqa: S102 -- our own text
    return space


@pytest.mark.parametrize("name", ALL)
def test_script_imports_no_smarttune(name: str, suggestions: dict[str, Suggestion]) -> None:
    """A script needs Keras, NumPy, pandas and the standard library, nothing else."""
    tree = ast.parse(keras_script(suggestions[name]))

    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in [getattr(node, "module", None) or node.names[0].name]
    }

    assert {"keras", "numpy"} <= imported <= {"keras", "numpy", "pandas", "math", "os"}


@pytest.mark.parametrize("name", ALL)
def test_constants_equal_the_recommendation(name: str, suggestions: dict[str, Suggestion]) -> None:
    """Every active recommended value stands in the script, and no other value does."""
    script, made = keras_script(suggestions[name]), suggestions[name].recommendation

    written = constants_of(script)

    for constant, hyperparameter in CONSTANTS.items():
        value = made.default.get(hyperparameter)
        unread = constant in UNREAD.get(name, ()) or NEUTRAL.get(constant, ...) == value
        if value is None or unread:
            assert constant not in written
        else:
            assert written[constant] == value
    assert f'os.environ.get("EPOCHS", {made.value("training.epochs")})' in script
    assert f'MONITOR, MODE = "{made.value("search.objective")}"' in script


@pytest.mark.parametrize("name", TARGETS)
def test_columns_carry_their_own_encoding(name: str, suggestions: dict[str, Suggestion]) -> None:
    """Each categorical column has the embedding width that its rules recommend."""
    made = suggestions[name].recommendation

    written = constants_of(keras_script(suggestions[name]))["CATEGORICAL"]

    expected = {
        column: made.value(f"model.embedding_dim[{column}]")
        if made.value(f"model.encoding[{column}]") == "embedding"
        else 0
        for column in ("city", "zip")
    }
    assert written == expected
    assert written["zip"] > 0 == written["city"]


def test_every_constant_names_its_rule(suggestions: dict[str, Suggestion]) -> None:
    """Behind each recommended value stands the code of the rule that decided it."""
    made = suggestions["binary"].recommendation

    lines = keras_script(suggestions["binary"]).splitlines()

    for constant, hyperparameter in CONSTANTS.items():
        line = next((text for text in lines if text.startswith(f"{constant} = ")), None)
        if line is not None:
            assert f"# {made.settings[hyperparameter].because[0].rule}" in line


def test_list_at_the_end_explains_every_setting(suggestions: dict[str, Suggestion]) -> None:
    """The comments at the end hold each setting that a training uses, with its rule."""
    made = suggestions["regression"].recommendation

    end = keras_script(suggestions["regression"]).partition("# --- Why these values")[2]

    used = [n for n in made.default if not n.startswith("search.") and "[" not in n]
    assert used
    for name in used:
        assert f"# {name} = " in end
        assert f"#     {made.settings[name].because[0].rule}: " in end


@pytest.mark.parametrize(
    ("pins", "lines"),
    [
        ({"optimizer.name": "sgd", "optimizer.momentum": 0.5}, ["keras.optimizers.SGD("]),
        ({"optimizer.name": "sgd", "optimizer.momentum": 0.5}, ["MOMENTUM = 0.5  # set by you"]),
        ({"optimizer.regularization": "l2", "optimizer.l2": 0.25}, ["L2 = 0.25", "l2=L2"]),
        (
            {"optimizer.regularization": "weight_decay", "optimizer.weight_decay": 0.125},
            ["WEIGHT_DECAY = 0.125", 'exclude_from_weight_decay(var_names=["bias"'],
        ),
        ({"training.class_weight": "balanced"}, ["class_weight=weights"]),
        ({"model.normalization": "batch"}, ["layers.BatchNormalization()"]),
        ({"model.normalization": "layer"}, ["layers.LayerNormalization()"]),
        ({"model.family": "resnet_mlp"}, ["layers.Add()([block_input, x])"]),
        ({"model.num_layers": 6}, ["layers.Add()([block_input, x])"]),
        ({"model.num_layers": 0}, ["# No hidden layer, set by you"]),
        ({"model.activation": "selu"}, ["layers.AlphaDropout(DROPOUT)"]),
        ({"optimizer.schedule": "plateau"}, ["ReduceLROnPlateau(", "PLATEAU_FACTOR ="]),
        ({"optimizer.schedule": "cosine"}, ["schedules.CosineDecay("]),
        ({"training.early_stopping.mode": "best_checkpoint"}, ["patience=EPOCHS"]),
        ({"training.label_smoothing": 0.5}, ["label_smoothing=LABEL_SMOOTHING"]),
        ({"model.output_bias": "zeros"}, ["outputs = layers.Dense(\n        1,\n        dtype="]),
        ({"data.stratify": False}, ['"""Row numbers in random order."""']),
        ({"search.objective": "val_crossentropy"}, ['name="crossentropy"']),
    ],
)
def test_settings_choose_the_code(
    pins: dict[str, Any], lines: list[str], book: Rulebook, tmp_path: Path
) -> None:
    """A setting that is no number decides which code is written."""
    plain, script = pinned(book, tmp_path, {}), pinned(book, tmp_path, pins)

    for line in lines:
        assert line in script
        assert line not in plain


def test_scripts_are_clean_and_formatted(
    suggestions: dict[str, Suggestion], tmp_path: Path
) -> None:
    """Ruff finds nothing to lint or format in any script."""
    for name, made in suggestions.items():
        (tmp_path / f"{name.replace('-', '_')}.py").write_text(keras_script(made), "utf-8")
    ruff = [sys.executable, "-m", "ruff"]

    checked = subprocess.run(
        [*ruff, "check", "--isolated", "--select=E,F,I,W,B,UP", "--line-length=100", "."],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    formatted = subprocess.run(
        [*ruff, "format", "--isolated", "--line-length=100", "--check", "."],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert checked.returncode == 0, checked.stdout
    assert formatted.returncode == 0, formatted.stdout
    assert f"{len(suggestions)} files already formatted" in formatted.stdout


def test_same_suggestion_gives_the_same_script(suggestions: dict[str, Suggestion]) -> None:
    """Nothing in a script depends on when or how often it is written."""
    first = keras_script(suggestions["binary"])

    assert keras_script(suggestions["binary"]) == first


@pytest.mark.parametrize("problem", TARGETS)
def test_script_reads_what_smarttune_reads(
    problem: str, suggestions: dict[str, Suggestion]
) -> None:
    """Cells and targets of the file come out as in the dataset that was measured."""
    made = suggestions[problem]
    assert made.dataset is not None
    names = ("read_table", "text", "numbers", "flags", "date_parts", "inputs_of", "target_of")
    script = functions_of(keras_script(made), *names)

    frame = script["read_table"]()
    x, y = script["inputs_of"](frame), script["target_of"](frame)

    known = ~np.isnan(y).any(axis=1) if y.ndim == 2 else ~np.isnan(y) & (np.asarray(y) != -1)
    features, target = made.dataset.features, made.dataset.target
    assert known.sum() == len(features) == ROWS - 1
    numeric = features[["age", "fare"]].to_numpy("float32")
    np.testing.assert_allclose(x["numeric"][known], numeric)
    smoker = features["smoker"].map({"yes": 1.0, "no": 0.0}).to_numpy("float32", na_value=np.nan)
    np.testing.assert_array_equal(x["boolean"][known, 0], smoker)
    assert x["category_0"][known].tolist() == features["city"].fillna("").tolist()
    days = pd.to_datetime(features["when"], format="%d.%m.%Y")
    np.testing.assert_array_equal(x["dates"][known, 2], days.dt.day)
    assert isinstance(target, (pd.Series, pd.DataFrame))
    if problem in ("binary", "multiclass"):
        assert [script["CLASSES"][code] for code in y[known]] == target.tolist()
    else:
        np.testing.assert_allclose(y[known], target.to_numpy())


def test_script_divides_rows_as_a_search_does(suggestions: dict[str, Suggestion]) -> None:
    """Training, validation and test rows are those of a search with seed 0."""
    script = functions_of(keras_script(suggestions["multiclass"]), "shuffled", "size")
    y = np.random.default_rng(1).integers(0, 3, 101)
    y[7] = 3  # a class of one row, which must be trained on

    order = script["shuffled"](y)
    num_test, num_validation = script["size"](0.15, 101), script["size"](0.6, 101)

    parts = split(y, problem="multiclass", validation_fraction=0.6, test_fraction=0.15, seed=0)
    assert sorted(order[-num_test:]) == parts.test.tolist()
    assert sorted(order[: -num_test - num_validation]) == parts.train.tolist()


def test_rows_in_time_order_are_not_shuffled(book: Rulebook, tmp_path: Path) -> None:
    """Where rows are ordered in time, the latest test the model."""
    path = write_table(tmp_path, "binary")
    facts = {"data.time_ordered": True}
    made = make_suggestion(path, "won", facts=facts, rulebook=book)

    order = functions_of(keras_script(made), "shuffled")["shuffled"](np.ones(5, int))

    assert order.tolist() == [0, 1, 2, 3, 4]


def test_file_without_header_is_read_by_position(book: Rulebook, tmp_path: Path) -> None:
    """Columns without names get those that SmartTune gave them."""
    path = tmp_path / "bare.csv.gz"
    mixed_table()[["age", "fare", "city", "price"]].to_csv(path, index=False, header=False)
    made = make_suggestion(path, -1, rulebook=book)

    script = functions_of(keras_script(made), "read_table")

    assert script["TARGET"] == "column_4"
    assert script["read_table"]().columns.tolist() == [f"column_{i}" for i in range(1, 5)]
    assert len(script["read_table"]()) == ROWS


def test_repeated_names_are_told_apart(book: Rulebook, tmp_path: Path) -> None:
    """Columns that share a name are read under the names that SmartTune gave them."""
    path = tmp_path / "twice.csv"
    rng = np.random.default_rng(0)
    rows = [",".join(map(str, row)) for row in rng.normal(size=(40, 3)).round(3)]
    path.write_text("\n".join(["x,x,y", *rows]) + "\n", "utf-8")
    made = make_suggestion(path, "y", rulebook=book)

    frame = functions_of(keras_script(made), "read_table")["read_table"]()

    assert made.dataset is not None
    assert frame.columns.tolist() == ["x", "x_2", "y"]
    assert frame["x_2"].astype(float).tolist() == made.dataset.features["x_2"].tolist()


def test_quotation_marks_in_tab_separated_text_are_read_alike(
    book: Rulebook, tmp_path: Path
) -> None:
    """Where marks are ordinary characters, fully quoted labels lose theirs in both readers."""
    path = tmp_path / "marks.tsv"
    lines = [f'{i % 7}\t5" pipe\t"{"a" if i % 3 else "b"}"' for i in range(60)]
    path.write_text("\n".join(["size\tthing\tlabel", *lines]) + "\n", "utf-8")
    made = make_suggestion(path, "label", rulebook=book)

    script = functions_of(keras_script(made), "read_table", "text", "target_of")
    codes = script["target_of"](script["read_table"]())

    assert made.dataset is not None
    assert isinstance(made.dataset.target, pd.Series)
    assert [script["CLASSES"][code] for code in codes] == made.dataset.target.tolist()


def test_one_hot_targets_are_joined(book: Rulebook, tmp_path: Path) -> None:
    """Target columns that exclude each other become the classes of one target."""
    table = mixed_table()[["age", "fare", "kind"]]
    marks = pd.get_dummies(table.pop("kind"), dtype=int)
    path = tmp_path / "one_hot.csv"
    pd.concat([table, marks], axis=1).to_csv(path, index=False)
    made = make_suggestion(path, list(marks.columns), rulebook=book)
    names = ("read_table", "text", "numbers", "target_of")
    script = functions_of(keras_script(made), *names)

    codes = script["target_of"](script["read_table"]())

    assert [script["CLASSES"][code] for code in codes] == mixed_table()["kind"].tolist()


def test_sampled_files_are_sampled_again(book: Rulebook, tmp_path: Path) -> None:
    """A script for a file that was read in part keeps the same share of its rows."""
    from smarttune.data import read

    path = write_table(tmp_path, "regression")
    dataset = read(path, "price", max_rows=100)
    script = functions_of(keras_script(make_suggestion(dataset, rulebook=book)), "read_table")

    assert len(script["read_table"]()) == 100


def test_frames_in_memory_get_a_block_to_replace(book: Rulebook) -> None:
    """Data without a file are made up with the same columns, kinds and classes."""
    made = make_suggestion(mixed_table(), "kind", rulebook=book)
    text = keras_script(made)

    script = functions_of(text, "read_table", "text", "target_of")
    frame = script["read_table"]()

    assert "REPLACE THIS BLOCK BY YOUR DATA" in text
    assert {"age", "city", "when", "kind"} <= set(frame.columns)
    assert set(script["target_of"](frame)) == {0, 1, 2}


def test_hostile_names_stay_names(book: Rulebook, tmp_path: Path) -> None:
    """Names that look like code, or are wide or long, neither run nor break the layout."""
    strange = ['"""', "a\nimport os", "x" * 300, "目標" * 40, "\\", "{{ v }}", "z'\t\"", "# noqa"]
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({name: rng.choice(["u", "v", "w"], 60) for name in strange})
    path = tmp_path / "strange.csv"
    frame.assign(**{'y\n"': rng.normal(size=60)}).to_csv(path, index=False)
    made = make_suggestion(path, -1, rulebook=book)

    text = keras_script(made)

    script = functions_of(text, "read_table")
    assert sorted(script["CATEGORICAL"]) == sorted(strange)
    assert set(script["CATEGORICAL"]) < set(script["read_table"]().columns)
    assert max(map(width, text.splitlines())) <= LINE_LENGTH
    assert "import os\n" in text.partition("# --- Settings")[0]


PLAIN = st.text(max_size=200) | st.integers() | st.booleans() | st.none() | st.floats(-9, 9)


@given(st.text(max_size=300) | st.lists(PLAIN, max_size=30), st.text(max_size=120))
def test_assignments_keep_value_and_width(value: Any, comment: str) -> None:
    """Any text or list comes back from its source, whose lines are never too long."""
    lines = assignment("NAME", value, comment)

    source = "\n".join(lines)

    assert ast.literal_eval(ast.parse(source).body[0].value) == value  # type: ignore[attr-defined]
    assert all(width(line) <= LINE_LENGTH and line.isprintable() for line in source.split("\n"))


@given(st.dictionaries(st.text(max_size=200), st.integers() | st.none(), max_size=5))
def test_mappings_keep_their_entries(entries: dict[str, Any]) -> None:
    """Any dict with text keys comes back from its source."""
    source = "\n".join(mapping("NAME", entries, ["CODE"] * len(entries)))

    assert ast.literal_eval(ast.parse(source).body[0].value) == entries  # type: ignore[attr-defined]
    assert all(width(line) <= LINE_LENGTH for line in source.split("\n"))


@pytest.mark.parametrize(
    ("facts", "pins", "needle"),
    [
        ({"data.task": "tabular"}, {}, "--problem binary"),
        ({"model.problem": "binary"}, {}, "--task tabular"),
        ({**TABLE, "model.problem": "multiclass"}, {}, "--classes 4"),
        ({"data.task": "text", "model.problem": "translation"}, {}, "--format json"),
        ({**TABLE, "model.problem": "binary"}, {"model.family": "rnn"}, "model.family=mlp"),
        ({"data.task": "audio", "model.problem": "binary"}, {}, "smarttune search"),
        ({"data.task": "timeseries", "model.problem": "forecasting"}, {}, "--format json"),
        ({**TABLE, "model.problem": "regression", "data.num_outputs": 3}, {}, "per number"),
        (
            {**TABLE, "model.problem": "regression"},
            {"model.output_activation": "sigmoid"},
            "data.target_min",
        ),
        (
            {**TABLE, "model.problem": "regression"},
            {"search.objective": "val_r2_score"},
            "search.objective=",
        ),
    ],
)
def test_unwritable_scripts_say_how_to_go_on(
    facts: dict[str, Any], pins: dict[str, Any], needle: str, book: Rulebook
) -> None:
    """A missing fact, or a family or problem without template, is the user's to mend."""
    made = make_suggestion(facts=facts, pinned=pins, rulebook=book)

    with pytest.raises(OptionError) as caught:
        keras_script(made)

    assert needle in str(caught.value)


def test_text_columns_are_said_to_be_left_out(book: Rulebook, tmp_path: Path) -> None:
    """A script for a table with free text reads the other columns, and says so."""
    table = mixed_table()[["age", "won"]]
    table["note"] = [f"a long remark about case {i} and what came of it" for i in range(len(table))]
    table.to_csv(tmp_path / "notes.csv", index=False)

    script = keras_script(make_suggestion(tmp_path / "notes.csv", "won", rulebook=book))

    assert "Mind: The text of `note` is left out" in script
    assert constants_of(script)["NUMERIC"] == ["age"]


def test_values_that_do_not_fit_the_problem_are_refused(book: Rulebook) -> None:
    """A value for which there is no code here is an error that names the hyperparameter."""
    facts = {**TABLE, "model.problem": "binary"}
    made = make_suggestion(facts=facts, pinned={"model.loss": "mse"}, rulebook=book)

    with pytest.raises(SettingError) as caught:
        keras_script(made)

    assert caught.value.where == "model.loss"


def test_missing_rules_leave_a_named_gap(book: Rulebook) -> None:
    """A hyperparameter on which no rule speaks is asked for by name."""
    made = make_suggestion(facts={"data.task": "image", "model.problem": "binary"}, rulebook=book)

    with pytest.raises(SettingError, match=r"--set model\.num_stages=VALUE"):
        keras_script(made)


def test_scripts_from_facts_import_nothing_heavy() -> None:
    """Writing a script from flags needs neither Keras nor pandas nor NumPy."""
    program = (
        "import sys; from smarttune.cli import run; "
        "assert run(['suggest', '--task', 'tabular', '--problem', 'binary', "
        "'--num-samples', '900', '--format', 'python']) == 0; "
        "bad = {'keras', 'tensorflow', 'pandas', 'numpy', 'matplotlib'} & set(sys.modules); "
        "assert not bad, bad"
    )

    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 0, ended.stderr
    assert "def make_network" in ended.stdout


def run_script(text: str, folder: Path) -> str:
    """Run a script in a fresh process in which SmartTune cannot be imported."""
    (folder / "train.py").write_text(text, "utf-8")
    program = (
        "import runpy, sys; sys.modules['smarttune'] = None; "
        "runpy.run_path('train.py', run_name='__main__')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "EPOCHS": "2", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "binary",
        "regression",
        "multilabel",
        "facts-binary",
        "text-ngrams",
        "text-convolutions",
        "image",
        "sequence",
        "sequence-windows",
    ],
)
def test_scripts_run(name: str, suggestions: dict[str, Suggestion], tmp_path: Path) -> None:
    """A script trains, prints test scores and saves a model, without SmartTune."""
    printed = run_script(keras_script(suggestions[name]), tmp_path)

    assert "\ntest " in printed
    assert "saved model.keras" in printed
    assert (tmp_path / "model.keras").stat().st_size > 0
    if name == "regression":
        assert "fold 5 of 5: val_mean_absolute_error" in printed


def loaded(text: str) -> dict[str, Any]:
    """A script as a module in this process; it does not train."""
    space: dict[str, Any] = {"__name__": "script"}
    exec(compile(text, "script", "exec"), space)  # noqa: S102 -- our own text
    return space


@pytest.mark.slow
def test_saved_model_takes_raw_rows(suggestions: dict[str, Suggestion], tmp_path: Path) -> None:
    """The saved model loads anywhere and turns raw rows to probabilities that sum to one."""
    import keras

    text = keras_script(suggestions["multiclass"])
    printed = run_script(text, tmp_path)
    script = loaded(text)

    model = keras.saving.load_model(tmp_path / "model.keras")
    given_rows = script["rows_of"](script["inputs_of"](script["read_table"]()), slice(0, 9))
    shares = model.predict(given_rows, verbose=0)

    assert "\ntest accuracy: " in printed
    assert shares.shape == (9, 3)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("scaling", ["standardize", "robust_scale_smooth_clip", "quantile_normal"])
def test_preprocessing_equals_that_of_a_search(
    scaling: str, book: Rulebook, tmp_path: Path
) -> None:
    """Layers of the script give the inputs that a search would train on, up to their order."""
    from smarttune.models import TablePreprocessor

    path = write_table(tmp_path, "binary")
    pins = {"model.numeric_preprocessing": scaling, "model.encoding[zip]": "one_hot"}
    made = make_suggestion(path, "won", pinned=pins, rulebook=book)
    assert made.dataset is not None
    assert made.fingerprint is not None
    values = {name: s.value for name, s in made.recommendation.settings.items()}
    frame = made.dataset.features
    reference = TablePreprocessor.fit(frame, made.fingerprint.columns, values)
    script = loaded(keras_script(made))
    table = script["read_table"]()
    x = script["rows_of"](script["inputs_of"](table), script["target_of"](table) >= 0)

    ours = script["make_preprocessing"](x).predict(x, verbose=0)["features"]

    arrays = reference.transform(frame)
    columns = [arrays["numeric"]]
    for place, column in enumerate(reference.categorical):
        columns.append(np.eye(column.num_indices)[arrays["categorical"][:, place]][:, 1:])
    expected = np.concatenate(columns, axis=1)
    assert ours.shape == expected.shape
    places = [int(np.abs(ours - wanted[:, None]).max(axis=0).argmin()) for wanted in expected.T]
    np.testing.assert_allclose(ours[:, places], expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("kind", ["constant", "cosine", "linear", "one_cycle", "cyclical"])
def test_schedules_equal_those_of_a_search(
    kind: str, warmup: int, book: Rulebook, tmp_path: Path
) -> None:
    """The learning rate at every step is the one that a search would use."""
    from smarttune.training.schedules import learning_rate

    pins = {"optimizer.schedule": kind, "optimizer.warmup_steps": warmup, "training.epochs": 5}
    script = loaded(pinned(book, tmp_path, pins))
    y = np.arange(ROWS) % 2
    steps = -(-ROWS // script["BATCH_SIZE"])
    arrays = {"features": np.zeros((ROWS, 2), "float32")}
    script["CATEGORICAL"].clear()

    rate = script["make_network"](arrays, y).optimizer._learning_rate

    peak = script["LEARNING_RATE"]
    wanted = learning_rate(kind, peak, total_steps=5 * steps, warmup_steps=warmup)
    for step in range(5 * steps):
        got = rate(step) if callable(rate) and not hasattr(rate, "assign") else rate
        expected = wanted(step) if callable(wanted) else wanted
        assert float(got) == pytest.approx(float(expected), abs=1e-5 * peak)
