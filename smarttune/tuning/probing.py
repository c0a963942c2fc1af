"""What the recommended networks themselves tell before the first trial.

A range test inside each trial would quietly give each configuration a rate of its own and so
mislead the search; here it runs once for each architecture and batch size, and rules make of it
the bounds of what is searched.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import keras

from smarttune.execution import release_memory
from smarttune.facts import Facts
from smarttune.models.modality import of_family
from smarttune.space import Value
from smarttune.training.batch_probe import BatchProbe, probe_batch_size
from smarttune.training.range_test import NUM_STEPS, RangeTest, find_learning_rate
from smarttune.tuning.preparing import SearchJob
from smarttune.tuning.recording import is_out_of_memory

OnEvent = Callable[[Mapping[str, Any]], None]

SMALLEST_PROBED = 16  # ours: below it nothing is gained
PROBE_SECONDS = 10.0  # ours: a few steps at each of some ten sizes

_HOW_BUILT = "the recommended network was built"
_HOW_TESTED = "learning-rate range test of the recommended network"
_HOW_PROBED = "batches of growing size through the recommended network"


@dataclass(frozen=True)
class Probes:
    """What was measured.

    Attributes:
        families: Family to the facts of its recommended network; empty if nothing was asked.
        range_tests: Family to its range test.
    """

    families: Mapping[str, Facts] = field(default_factory=dict)
    range_tests: Mapping[str, RangeTest] = field(default_factory=dict)


def probe(
    job: SearchJob,
    what: Literal["batches", "rates"],
    *,
    seconds: float | None = None,
    on_event: OnEvent | None = None,
) -> Probes:
    """Measure the recommended network of every family that trials may choose.

    A network that does not fit into memory, or that no time is left for, has no facts.

    Args:
        job: The search that is being prepared.
        what: Sizes of batches, or learning rates.
        seconds: Wall time that all measurements together may take.
        on_event: Called with an event `probing` before each measurement, and with
            `range_test` or `batch_probe` after it.
    """
    tell = on_event if on_event is not None else lambda event: None
    ends = None if seconds is None else time.monotonic() + seconds
    families: dict[str, Facts] = {}
    range_tests: dict[str, RangeTest] = {}
    for number, family in enumerate(job.families):
        left = None if ends is None else (ends - time.monotonic()) / (len(job.families) - number)
        if left is not None and left <= 0:
            break
        tell({"event": "probing", "family": family})
        measure = _measured_batches if what == "batches" else _measured_rates
        try:
            families[family], found = measure(job, job.default_of(family), left)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            text = f"out of memory while the {family} network was measured; trials cut their batch"
            tell({"event": "warning", "text": text})
        else:
            if isinstance(found, RangeTest):
                range_tests[family] = found
                tell({"event": "range_test", "family": family, **_test_event(found)})
            else:
                tell({"event": "batch_probe", "family": family, **_batch_event(found)})
        release_memory()
    return Probes(families, range_tests)


def _measured_batches(
    job: SearchJob, values: Mapping[str, Value], seconds: float | None
) -> tuple[Facts, BatchProbe]:
    model = recommended_model(job, values)
    found = _probed_batch(job, model, values, seconds)
    return _sizes(model) | _batch_facts(found), found


def _measured_rates(
    job: SearchJob, values: Mapping[str, Value], seconds: float | None
) -> tuple[Facts, RangeTest]:
    model = recommended_model(job, values)
    found = range_test_of(job, model, values, seconds=seconds)
    return _sizes(model) | _rate_facts(found), found


def recommended_model(job: SearchJob, values: Mapping[str, Value]) -> Any:
    """The compiled network of a configuration, with the start that the seed of the job gives."""
    keras.utils.set_random_seed(job.seed)
    hypermodel = job.hypermodel()
    hypermodel.prepare(job.seed)
    return hypermodel.build_from(values)


def range_test_of(
    job: SearchJob,
    model: Any,
    values: Mapping[str, Value],
    *,
    seconds: float | None = None,
    **options: Any,
) -> RangeTest:
    """The learning-rate range test of a network on the training rows of a search.

    Args:
        job: The search.
        model: A compiled network of the search.
        values: Its configuration, for the batch size and the weights of the rows.
        seconds: Wall time that it may take.
        **options: As for `smarttune.find_learning_rate`.
    """
    data = job.training_data
    weigh = job.policy().sample_weight
    return find_learning_rate(
        model,
        (data.x, data.y),
        sample_weight=None if weigh is None else weigh(values),
        batch_size=int(of_family(values)["training.batch_size"]),
        seed=job.seed,
        seconds=seconds,
        **options,
    )


def _sizes(model: Any) -> Facts:
    layers = model._flatten_layers()  # noqa: SLF001 -- layers of layers have no public list
    normal = any(isinstance(layer, keras.layers.BatchNormalization) for layer in layers)
    values = {
        "model.num_parameters": sum(math.prod(v.shape) for v in model.trainable_variables),
        "model.has_batch_normalization": normal,
    }
    return Facts.of(values, origin="measured", how=_HOW_BUILT)


def _rate_facts(test: RangeTest) -> Facts:
    # A test that the clock ended knows only that the rates it reached were not too large.
    if test.diverged_at is None and len(test.learning_rates) < NUM_STEPS:
        return Facts()
    values = {
        "model.tested_learning_rate": test.suggestion,
        "model.stable_learning_rate": test.largest_stable,
    }
    return Facts.of(values, origin="measured", how=_HOW_TESTED)


def _test_event(test: RangeTest) -> dict[str, Any]:
    return {
        "suggestion": test.suggestion,
        "largest_stable": test.largest_stable,
        "evidence": test.evidence,
    }


def _probed_batch(
    job: SearchJob, model: Any, values: Mapping[str, Value], seconds: float | None
) -> BatchProbe:
    data = job.training_data
    start = min(SMALLEST_PROBED, int(of_family(values)["training.batch_size"]))
    limit = PROBE_SECONDS if seconds is None else min(PROBE_SECONDS, seconds / 2)
    return probe_batch_size(model, data.x, data.y, start=start, seconds=limit)


def _batch_facts(batch: BatchProbe) -> Facts:
    # A probe that ended for another reason has not found these bounds.
    why, best = batch.stopped_because, batch.largest_that_raises_throughput
    values = {
        "hardware.max_batch_memory": batch.largest_in_memory if why == "memory" else None,
        "hardware.max_batch_throughput": best if why == "throughput" else None,
    }
    return Facts.of(values, origin="measured", how=_HOW_PROBED)


def _batch_event(batch: BatchProbe) -> dict[str, Any]:
    return {
        "largest_in_memory": batch.largest_in_memory,
        "largest_that_raises_throughput": batch.largest_that_raises_throughput,
        "stopped_because": batch.stopped_because,
    }
