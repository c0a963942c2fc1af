"""Which hyperparameters of every network that SmartTune builds the rules decide, and how well.

For each kind of network and problem the rules are asked in a few typical situations. A
hyperparameter that the network, its training or its search reads and that no rule decides is a
hole, unless silence means something there (`SILENCE`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from smarttune.facts import Facts
from smarttune.models.built import Built, built
from smarttune.recommendation import Recommendation, recommend
from smarttune.rulebook import Rulebook, load_rulebook
from smarttune.rulebook.schema import Evidence
from smarttune.space import Value

FAMILY = "model.family"
# Strongest first.
EVIDENCE: tuple[str, ...] = get_args(Evidence)
# How closely a source was read, closest first.
VERIFICATION = ("read", "derived", "abstract", "secondary", "unverified")

# ours: small and large data, with and without a GPU, and each kind of budget once.
SITUATIONS: dict[str, dict[str, Value]] = {
    "few samples, processor": {"data.num_samples": 800, "hardware.device": "cpu"},
    "few samples, GPU, 20 trials": {
        "data.num_samples": 2_000,
        "hardware.device": "gpu",
        "hardware.compute_capability": 7.5,
        "hardware.gpu_memory": 16.0,
        "hardware.backend": "tensorflow",
        "budget.type": "trials",
        "budget.num_trials": 20,
    },
    "many samples, processor, an hour": {
        "data.num_samples": 60_000,
        "hardware.device": "cpu",
        "budget.type": "time",
        "budget.seconds": 3_600.0,
    },
    "many samples, GPU": {
        "data.num_samples": 1_000_000,
        "hardware.device": "gpu",
        "hardware.compute_capability": 9.0,
        "hardware.gpu_memory": 80.0,
        "hardware.backend": "jax",
    },
}

# ours: what data of each kind are like. A table has columns of every kind.
_OF_TASK: dict[str, dict[str, Value]] = {
    "tabular": {
        "data.num_features": 14,
        "data.num_numeric_features": 10,
        "data.num_categorical_features": 3,
        "data.num_text_features": 1,
        "column.cardinality": 40,
        "column.rows_per_level": 100.0,
    },
    "text": {
        "data.words_per_sample": 120.0,
        "data.vocabulary_size": 20_000,
        "data.sequence_length": 300,
    },
    "image": {"data.image_side": 64, "data.image_channels": 3},
    "audio": {
        "data.audio_hours": 2.0,
        "data.sample_rate": 16_000.0,
        "data.clip_seconds": 1.0,
        "data.long_clip_seconds": 1.5,
    },
    "sequence": {
        "data.num_features": 6,
        "data.sequence_length": 120,
        "data.max_sequence_length": 150,
        "data.equal_lengths": False,
    },
    "timeseries": {
        "data.num_series": 5,
        "data.steps_per_series": 2_000,
        "data.num_variables": 3,
        "data.horizon": 24,
        "data.season_length": 24,
        "data.time_stamped": True,
    },
}
# ours: ten classes stand for several.
_OF_PROBLEM: dict[str, dict[str, Value]] = {
    "binary": {"data.num_classes": 2, "data.num_outputs": 1, "data.imbalance_ratio": 2.0},
    "multiclass": {"data.num_classes": 10, "data.num_outputs": 10, "data.imbalance_ratio": 2.0},
    "multilabel": {"data.num_outputs": 10},
    "regression": {"data.num_outputs": 1, "data.target_skew": 0.3},
    "forecasting": {"data.num_outputs": 24, "data.target_skew": 0.3},
    "segmentation": {"data.num_classes": 4},
    "char_language_model": {"data.corpus_chars": 2_000_000},
    "language_model": {"data.corpus_chars": 20_000_000},
}
_PRETRAINED: dict[str, Value] = {"data.pretrained_available": True, "model.fine_tuning": True}

_ADAM: Mapping[str, tuple[Value, ...]] = {"optimizer.name": ("adam", "adamw", "nadam")}
_DECAY: Mapping[str, tuple[Value, ...]] = {"optimizer.regularization": ("weight_decay",)}
_PLATEAU: Mapping[str, tuple[Value, ...]] = {"optimizer.schedule": ("plateau",)}
# Hyperparameters that mean something only beside some values of others. Where no rule brings any
# of these, the first is pinned, as a user may. Pins are tried together as far as they agree, in
# this order; so penalties, which SGD has anyway, are asked for beside other optimizers.
ONLY_WITH: dict[str, Mapping[str, tuple[Value, ...]]] = {
    "optimizer.momentum": {"optimizer.name": ("sgd",)},
    "optimizer.momentum_cycling": {
        "optimizer.schedule": ("one_cycle",),
        "optimizer.name": ("sgd", "adam", "adamw", "nadam"),
    },
    "optimizer.weight_decay": _DECAY,
    "optimizer.decay_exclusions": _DECAY,
    "training.num_batch_phases": {"training.batch_growth": ("doubling",)},
    "model.normalization_momentum": {"model.normalization": ("batch",)},
    "model.embedding_dim": {"model.encoding": ("embedding",)},
    "optimizer.beta_1": _ADAM,
    "optimizer.beta_2": _ADAM,
    "optimizer.epsilon": _ADAM,
    "optimizer.l1": {"optimizer.regularization": ("l1", "l1_l2")},
    "training.reduce_on_plateau.factor": _PLATEAU,
    "training.reduce_on_plateau.patience": _PLATEAU,
    "optimizer.hypergradient_rate": {"search.strategy": ("gradient",)},
    "optimizer.l2": {"optimizer.regularization": ("l2", "l1_l2")},
}

# Where silence is an answer: what happens while no rule speaks, and why that needs no rule.
SILENCE: dict[str, str] = {
    "model.padding_side": "padding stands on the right, the only side that is built",
    "model.season_phase": "networks are not told of a season that their window holds",
    "optimizer.ema_momentum": "weights are not averaged until the history of a search asks for it",
    "training.gradient_accumulation_steps": "batches that do not fit the memory are cut as needed",
    "search.batch_probe": "nothing is probed where there is no GPU whose memory is unknown",
    "search.range_test": "no rates are tested where the test costs more than it brings",
    "search.tuned": "everything is tuned where time is not short",
}


@dataclass(frozen=True)
class Cell:
    """One hyperparameter of one kind of network.

    Attributes:
        built: The network and what it is for.
        hyperparameter: Its canonical name.
        rules: Codes of the rules that decide it in the typical situations.
        evidence: The strongest kind of evidence of these rules; None if there are none.
        verification: How the least closely read of their sources was read; "ours" if they have
            none.
        silent: The situations in which it is read and no rule decides.
    """

    built: Built
    hyperparameter: str
    rules: tuple[str, ...]
    evidence: str | None
    verification: str | None
    silent: tuple[str, ...]

    @property
    def reason(self) -> str | None:
        """Why silence is no hole; None where it is one, or where a rule always decides."""
        return SILENCE.get(self.hyperparameter) if self.silent else None

    @property
    def is_hole(self) -> bool:
        """Whether a network reads it and, in some situation, nothing says what it should be."""
        return bool(self.silent) and self.reason is None

    def to_json(self) -> dict[str, Any]:
        """The form that `smarttune rules coverage --format json` prints."""
        return {
            **self.built._asdict(),
            "hyperparameter": self.hyperparameter,
            "rules": list(self.rules),
            "evidence": self.evidence,
            "verification": self.verification,
            "silent": list(self.silent),
            "reason": self.reason,
            "hole": self.is_hole,
        }


def coverage(
    rules: Rulebook | None = None,
    *,
    of: Iterable[Built] | None = None,
    pinned: Mapping[str, Value] | None = None,
) -> tuple[Cell, ...]:
    """What the rules decide, for every hyperparameter of every network that is built.

    Args:
        rules: The rules to ask; the built-in and installed ones if None.
        of: The networks to ask about; None means all.
        pinned: Hyperparameters that the user fixes. They need no rule, and what means nothing
            beside them is left out.
    """
    book = rules if rules is not None else load_rulebook()
    asked = _Asked(book, pinned or {})
    return tuple(cell for one in (built() if of is None else of) for cell in asked.cells(one))


def facts_of(one: Built, situation: str) -> Facts:
    """What is known of typical data for a kind of network, in a situation."""
    return Facts.of(
        {
            "data.task": one.task,
            "model.problem": one.problem,
            **_OF_TASK[one.task],
            **_OF_PROBLEM[one.problem],
            **SITUATIONS[situation],
            **(_PRETRAINED if one.family == "pretrained" else {}),
        }
    )


class _Asked:
    """A rulebook, and what it has recommended so far."""

    def __init__(self, book: Rulebook, pinned: Mapping[str, Value]) -> None:
        self.book = book
        self.pinned = pinned
        self._made: dict[Any, Recommendation] = {}

    def cells(self, one: Built) -> Iterator[Cell]:
        """Every hyperparameter of one kind of network."""
        usual = {where: self._ask(one, where, {FAMILY: one.family}) for where in SITUATIONS}
        for name in filter(self._matters, one.reads):
            made = usual
            if name == FAMILY:
                made = {where: self._ask(one, where, {}) for where in SITUATIONS}
            read = {where: m for where, m in made.items() if _is_read(name, m)}
            if not read:
                first = next(iter(SITUATIONS))
                read = {first: self._ask(one, first, {FAMILY: one.family} | _pins()[name])}
            yield self._cell(one, name, {where: _decider(m, name) for where, m in read.items()})

    def _cell(self, one: Built, name: str, decided: Mapping[str, str | None]) -> Cell:
        codes = tuple(dict.fromkeys(code for code in decided.values() if code))
        rules = [self.book[code] for code in codes]
        ways = [p.verification for rule in rules for p in rule.provenance]
        return Cell(
            one,
            name,
            codes,
            evidence=min((rule.evidence for rule in rules), key=EVIDENCE.index, default=None),
            verification=max(ways, key=VERIFICATION.index, default="ours" if rules else None),
            silent=tuple(where for where, code in decided.items() if code is None),
        )

    def _matters(self, name: str) -> bool:
        """Whether what the user fixed leaves a hyperparameter open and of some meaning."""
        beside = ONLY_WITH.get(name, {})
        fits = all(self.pinned.get(parent, v[0]) in v for parent, v in beside.items())
        return fits and name not in self.pinned

    def _ask(self, one: Built, situation: str, pinned: Mapping[str, Value]) -> Recommendation:
        facts, pinned = facts_of(one, situation), {**pinned, **self.pinned}
        key = (facts, tuple(pinned.items()))
        if key not in self._made:
            self._made[key] = recommend(facts, rules=self.book, pinned=pinned)
        return self._made[key]


def _is_read(name: str, made: Recommendation) -> bool:
    """Whether some trial of a recommendation may read the hyperparameter."""
    if name not in ONLY_WITH or name in made.settings:
        return True
    ranges = {n: setting.range for n, setting in made.settings.items()}
    return all(
        parent in ranges and any(ranges[parent].contains(value) for value in values)
        for parent, values in ONLY_WITH[name].items()
    )


def _decider(made: Recommendation, name: str) -> str | None:
    """The code of the rule that decides a hyperparameter, or None."""
    setting = made.settings.get(name)
    return setting.because[0].rule if setting is not None and setting.because else None


@cache
def _pins() -> dict[str, dict[str, Value]]:
    """Hyperparameter of `ONLY_WITH` to the values that are pinned to ask for it."""
    together: list[dict[str, Value]] = []
    found: dict[str, dict[str, Value]] = {}
    for name, beside in ONLY_WITH.items():
        wanted = {parent: values[0] for parent, values in beside.items()}
        free = (p for p in together if all(p.get(n, v) == v for n, v in wanted.items()))
        pins = next(free, {})
        if not pins:
            together.append(pins)
        pins |= wanted
        found[name] = pins
    return found


def counts(cells: Iterable[Cell]) -> dict[str, int]:
    """How many networks, how much they read, how much of it is decided, rests, or is a hole."""
    seen = tuple(cells)
    decided = [cell for cell in seen if cell.rules and not cell.is_hole]
    by_evidence = {kind: sum(cell.evidence == kind for cell in decided) for kind in EVIDENCE}
    return {
        "networks": len({cell.built for cell in seen}),
        "read": len(seen),
        "decided": len(decided),
        **by_evidence,
        "resting": sum(not cell.rules and not cell.is_hole for cell in seen),
        "holes": sum(cell.is_hole for cell in seen),
        "rules": len({code for cell in seen for code in cell.rules}),
    }
