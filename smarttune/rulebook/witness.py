"""Facts on which several rules fire together, found by search.

The search knows which values may matter: the names and the numbers in the rules'
own expressions, their neighbours, and a coarse spread over what is usual. Conditions
on one name thin out its values before anything is tried; conditions that join several
names are mended one name at a time, from starting points that are the rules' own
examples first and drawn at random afterwards.

Found facts prove that rules can fire together. That none were found proves nothing
unless two conditions on one name leave no value: arithmetic on several names may
hide a corner that the search never visits.
"""

from __future__ import annotations

import ast
import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from smarttune.errors import RangeError
from smarttune.facts import FACTS, as_kind, least
from smarttune.rulebook.consequences import Consequence
from smarttune.rulebook.expressions import Expression, parse
from smarttune.rulebook.logic import Names, Unknown
from smarttune.rulebook.schema import Rule
from smarttune.space import HYPERPARAMETERS, HyperparameterDef, Value

# ours: starting points; half as many and twice as many find the same pairs of built-in rules.
TRIES = 40
_REPAIRS = 60  # ours: values changed from one starting point before the next is tried
_MERGED = 12  # ours: joined examples to start from; the rest of the tries are drawn
# ours: a half decade between two values keeps even small ratios within reach.
_STEP = 10**0.5
_NEAR = 0.01  # ours: relative distance of a number's neighbours where numbers are not whole

# Unit of a name to the least and largest number that is usual. ours: from toy data to what
# one machine holds; the bounds only steer the search, a rule's own numbers may lie outside.
_USUAL = {
    "samples": (1, 1e7),
    "features": (1, 1e4),
    "outputs": (1, 1e3),
    "classes": (2, 1e4),
    "levels": (2, 1e5),
    "words": (1, 1e6),
    "steps": (1, 1e5),
    "characters": (100, 1e8),
    "pixels": (8, 1024),
    "parameters": (100, 1e9),
    "epochs": (1, 1e3),
    "trials": (1, 1e3),
    "hours": (0.1, 1e4),
    "seconds": (0.01, 1e5),
    "hertz": (4000, 48000),
    "GiB": (1, 100),
    "units": (1, 4096),
    "layers": (1, 100),
}
_USUAL_COUNT = (1, 1e3)  # ours: whole numbers without a unit of the list
_USUAL_NUMBER = (1e-6, 1e3)  # ours: other numbers; learning rates lie near the lower end
_OTHER = "other"  # a text that no rule knows, for names whose texts are not a closed set
_SHARES = ("_fraction", "_correlation", ".dropout")  # facts with such ends are at most 1

# What facts cannot contradict, as conditions in the language of rules; unknown is no breach.
_LAWS = (
    """data.task != "tabular"
    or model.problem in ("binary", "multiclass", "multilabel", "regression")""",
    'data.task == "timeseries" or model.problem != "forecasting"',
    'data.task == "image" or model.problem != "segmentation"',
    """data.task == "text"
    or model.problem not in ("char_language_model", "language_model", "translation")""",
    'data.task in ("text", "sequence") or model.problem != "sequence_labelling"',
    'model.problem != "binary" or data.num_classes == 2',
    'model.problem not in ("char_language_model", "language_model") or model.family == "rnn"',
    'model.problem == "segmentation" or model.family != "unet"',
    'data.task == "tabular" or model.family != "resnet_mlp"',
    'data.task != "tabular" or model.family in ("mlp", "resnet_mlp")',
    """data.task != "text"
    or model.family in ("ngram_mlp", "sepcnn", "rnn", "transformer", "pretrained")""",
    'data.task == "text" or model.family not in ("ngram_mlp", "sepcnn", "transformer")',
    'data.task != "image" or model.family in ("cnn", "unet", "pretrained")',
    'data.task in ("image", "audio") or model.family != "cnn"',
    'data.task != "audio" or model.family in ("cnn", "rnn", "tcn")',
    'data.task not in ("sequence", "timeseries") or model.family in ("mlp", "rnn", "tcn")',
    'data.task == "image" or not (known(data.image_side) or known(model.image_side))',
    'data.task == "image" or not known(data.image_channels)',
    'data.task == "audio" or not (known(data.clip_seconds) or known(model.num_mel_bands))',
    'data.task == "audio" or not (known(data.audio_hours) or known(data.sample_rate))',
    'data.task == "timeseries" or not (known(data.horizon) or known(model.window_length))',
    'data.task == "tabular" or not known(column.cardinality)',
    'hardware.device == "gpu" or not known(hardware.compute_capability)',
    "data.sequence_length <= data.max_sequence_length",
    "data.clip_seconds <= data.long_clip_seconds",
    "data.target_min < data.target_max",
    "column.cardinality <= data.max_cardinality",
    "reference.learning_rate > 0 and reference.batch_size > 0",
    "history.learning_rate_low > 0",
    "history.learning_rate_low <= history.learning_rate",
    "history.learning_rate_low <= history.min_diverged_learning_rate",
    "history.learning_rate <= history.learning_rate_high",
    "history.trials_since_improvement <= history.num_trials",
    "history.epochs_since_best <= history.epochs",
    "search.min_epochs <= search.max_epochs",
)


def witness(
    rules: Sequence[Rule],
    definitions: Mapping[str, HyperparameterDef] = HYPERPARAMETERS,
    *,
    tries: int = TRIES,
    seed: int = 0,
) -> dict[str, Value] | None:
    """Facts and hyperparameter values on which all rules fire and propose, or None.

    None means that nothing was found in so many tries; it is no proof that the rules
    exclude each other. The order of the rules does not matter.

    Args:
        rules: The rules that shall fire.
        definitions: The canonical hyperparameters and those that packs add.
        tries: Starting points of the search.
        seed: Of the search; equal seeds find equal facts.
    """
    return next(witnesses(rules, definitions, tries=tries, seed=seed), None)


def witnesses(
    rules: Sequence[Rule],
    definitions: Mapping[str, HyperparameterDef] = HYPERPARAMETERS,
    *,
    tries: int = TRIES,
    seed: int = 0,
) -> Iterator[dict[str, Value]]:
    """Yield different facts as `witness` finds them, at most one from each try."""
    search = _Search(rules, definitions, seed)
    found: set[tuple[tuple[str, Value], ...]] = set()
    starts = itertools.chain(search.merged_examples(), iter(search.drawn, None))
    for start in itertools.islice(starts, tries if search.hopeful else 0):
        facts = search.repaired(start)
        key = tuple(sorted(facts.items())) if facts is not None else ()
        if facts is not None and key not in found:
            found.add(key)
            yield facts


def parted_by(
    rules: Sequence[Rule], definitions: Mapping[str, HyperparameterDef] = HYPERPARAMETERS
) -> tuple[str, ...]:
    """Names for which conditions on them alone leave no value, so that the rules never meet."""
    domains = _Search(rules, definitions, seed=0).domains
    return tuple(name for name, values in domains.items() if not values)


def fires(rules: Iterable[Rule], names: Names) -> bool:
    """Whether every rule fires on `names`, each of its lines has a value, and the facts agree."""
    return all(
        rule.holds(names) is True and all(_has_value(line, names) for line in rule.then)
        for rule in rules
    ) and possible(names)


def possible(names: Names) -> bool:
    """Whether no two of the facts contradict each other; what is unknown contradicts nothing."""
    return not any(law.evaluate(names) is False for law in _laws())


class _Search:
    """The values that may matter to some rules, and assignments that are mended until all fire.

    An assignment maps each name to a value, or to None where the name is unknown.
    """

    def __init__(
        self, rules: Sequence[Rule], definitions: Mapping[str, HyperparameterDef], seed: int
    ) -> None:
        self.rules = sorted(rules, key=lambda rule: rule.code)
        self.random = random.Random(f"{seed} {' '.join(rule.code for rule in self.rules)}")
        conditions = dict.fromkeys(c for rule in self.rules for c in rule.when)
        self.lines = [line for rule in self.rules for line in rule.then if line.expressions]
        names = sorted(frozenset().union(*(rule.names for rule in self.rules)))
        single: dict[str, list[Expression]] = {name: [] for name in names}
        for condition in conditions:
            if len(condition.names) == 1:
                single[next(iter(condition.names))].append(condition)
        self.domains = {name: _domain(name, definitions.get(name), self.rules) for name in names}
        for name, only in single.items():
            self.domains[name] = [
                value
                for value in self.domains[name]
                if all(c.evaluate(_known({name: value})) is True for c in only)
            ]
        self.joint = [c for c in conditions if len(c.names) != 1]
        self.laws = [law for law in _laws() if law.names & set(names)]
        self.hopeful = all(self.domains.values())

    def merged_examples(self) -> list[dict[str, Value | None]]:
        """The rules' own firing examples joined, each rule's words winning in turn."""
        firing = [[e.facts for e in rule.examples if e.fires] or [{}] for rule in self.rules]
        joined = [
            {name: value for facts in order for name, value in facts.items()}
            for facts_of_each in itertools.product(*firing)
            for order in (facts_of_each, facts_of_each[::-1])
        ]
        return [
            {name: facts.get(name) for name in self.domains}
            for facts in joined[:_MERGED]
        ]  # fmt: skip

    def drawn(self) -> dict[str, Value | None]:
        """Each name with any of its values."""
        return {name: self.random.choice(values) for name, values in self.domains.items()}

    def repaired(self, start: Mapping[str, Value | None]) -> dict[str, Value] | None:
        """The known values once every rule fires, or None if they do not come to that."""
        names = {n: self._nearest(n, value) for n, value in start.items()}
        for _ in range(_REPAIRS):
            broken = self._broken(_known(names))
            if not broken:
                return _known(names)
            name = self.random.choice(sorted(broken & self.domains.keys()))
            names[name] = self.random.choice(self.domains[name])
        return None

    def _nearest(self, name: str, value: Value | None) -> Value | None:
        """The value if it is one that may be, else any that is."""
        for candidate in self.domains[name]:
            if type(candidate) is type(value) and candidate == value:
                return candidate
        return self.random.choice(self.domains[name])

    def _broken(self, names: Names) -> frozenset[str]:
        """The names of the first condition, value or law that does not hold; none if all do."""
        for condition in self.joint:
            if condition.evaluate(names) is not True:
                return condition.names
        for law in self.laws:
            if law.evaluate(names) is False:
                return law.names
        for line in self.lines:
            if not _has_value(line, names):
                return frozenset().union(*(e.names for e in line.expressions))
        return frozenset()


def _known(names: Mapping[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in names.items() if value is not None}


def _has_value(line: Consequence, names: Names) -> bool:
    """Whether a line of `then` says something for these names."""
    if line.hyperparameter is None:
        return True
    try:
        return not isinstance(line.propose(names), Unknown)
    except RangeError:
        return False


@lru_cache(maxsize=1)
def _laws() -> tuple[Expression, ...]:
    return tuple(parse(" ".join(law.split())) for law in _LAWS)


def _domain(
    name: str, definition: HyperparameterDef | None, rules: Sequence[Rule]
) -> list[Value | None]:
    """Values of a name that may matter to the rules, the unknown one first."""
    known = FACTS.get(name) or definition
    assert known is not None, name
    written = [
        constant
        for rule in rules
        for expression in _expressions(rule)
        if name in expression.names
        for constant in _constants(expression)
    ]
    written += [e.facts[name] for rule in rules for e in rule.examples if name in e.facts]
    if known.kind == "bool":
        return [None, False, True]
    if known.kind == "str":
        named = {v for v in written if isinstance(v, str)}
        return [None, *(known.values or (*sorted(named), _OTHER))]
    whole = known.kind == "int"
    low, high = _bounds(name, definition)
    numbers = {
        as_kind(round(number) if whole else number, known.kind)
        for number in (*_around(written, whole=whole), *_spread(name, known.unit, whole=whole))
        if low <= number <= high
    }
    return [None, *sorted(n for n in numbers if isinstance(n, (int, float)) and low <= n <= high)]


def _bounds(name: str, definition: HyperparameterDef | None) -> tuple[float, float]:
    if name in FACTS:
        return least(name), 1.0 if name.endswith(_SHARES) else float("inf")
    assert definition is not None
    low = float("-inf") if definition.low is None else definition.low
    return low, float("inf") if definition.high is None else definition.high


def _around(written: Iterable[Value], *, whole: bool) -> Iterator[float]:
    """Each number of the rules, its half and double, its neighbours, and what lies between two.

    Conditions that compare one name with numbers hold on an interval between two of these
    numbers, if at all, so one of its values is always among them.
    """
    named = {v for v in written if isinstance(v, (int, float)) and not isinstance(v, bool)}
    numbers = sorted({0, 1, *named})  # the edges of shares and of counts belong to them
    for number in numbers:
        step = 1 if whole else _rounded(abs(number) * _NEAR or _NEAR)
        yield from (number, number - step, number + step, number / 2, number * 2)
    yield from ((one + other) / 2 for one, other in itertools.pairwise(numbers))


def _spread(name: str, unit: str, *, whole: bool) -> Iterator[float]:
    low, high = _USUAL.get(unit, _USUAL_COUNT if whole else _USUAL_NUMBER)
    number = float(low)
    while number <= high:
        yield _rounded(number)
        number *= _STEP


def _rounded(number: float) -> float:
    """Three digits, which read better than all of them."""
    return float(f"{number:.3g}")


def _expressions(rule: Rule) -> Iterator[Expression]:
    yield from rule.when
    for line in rule.then:
        yield from line.expressions


@lru_cache(maxsize=4096)
def _constants(expression: Expression) -> tuple[Value, ...]:
    """Every literal in an expression; a minus before a number belongs to it."""
    tree = ast.parse(expression.text, mode="eval")
    found: list[Value] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float, str)):
            found.append(node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
            value = node.operand.value
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                found.append(-value)
    return tuple(found)
