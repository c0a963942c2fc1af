"""Finished trials as an Optuna study in SQLite, each in one transaction.

Optuna's schema lets optuna-dashboard and Optuna's plots open a run at once. What
its columns cannot hold (the whole record) stands as JSON in one attribute, so
that nothing is ever put together from several rows.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import TrialState, create_trial

from smarttune.errors import RunError
from smarttune.objectives import Objective
from smarttune.space import Choice, Fixed, FloatRange, IntRange, Range, SearchSpace, Value
from smarttune.trials import TrialRecord

_RECORD = "smarttune"
_NAME = "smarttune"


class Study:
    """The trials of one run.

    Args:
        path: The SQLite file; made when the first trial is added.
        objective: Decides the study's direction.
        space: Gives the dashboard its ranges; values outside become attributes.
    """

    def __init__(self, path: Path, objective: Objective, space: SearchSpace | None = None) -> None:
        self.path = path
        self.objective = objective
        self.space = space
        self._study: Any = None

    def records(self) -> list[TrialRecord]:
        """All trials in the order in which they ended."""
        if not self.path.exists():
            return []
        with self._mendable("the trials cannot be read"):
            trials = self._open().get_trials(deepcopy=False)
        return [TrialRecord.model_validate_json(t.user_attrs[_RECORD]) for t in trials]

    def add(self, record: TrialRecord) -> None:
        """Add a finished trial.

        Raises:
            RunError: If the file cannot be written.
        """
        params, distributions = self._parameters(record.values)
        began = datetime.fromtimestamp(record.started)
        trial = create_trial(
            state=_state(record),
            value=record.score if record.is_scored else None,
            params=params,
            distributions=distributions,
            user_attrs={
                "trial_id": record.trial_id,
                "outcome": record.outcome,
                "epochs": record.num_epochs,
                "rung": record.rung,
                "is_default": record.is_default,
                _RECORD: record.model_dump_json(),
            },
            intermediate_values=self._intermediate(record),
        )
        trial.datetime_start = began
        trial.datetime_complete = began + timedelta(seconds=record.seconds)
        with self._mendable("the trial cannot be recorded"):
            _insert(self._open(), trial)

    @contextlib.contextmanager
    def _mendable(self, what: str) -> Iterator[None]:
        """Turn an error of the file into one that the user can mend."""
        try:
            yield
        except Exception as error:
            if type(error).__module__.split(".")[0] not in ("sqlalchemy", "optuna", "sqlite3"):
                raise
            raise RunError(
                str(self.path),
                received=f"{what} ({str(error).splitlines()[0]})",
                expected="a study that may be written, and space on the disk",
                mend="Free some space or restore the file, then `smarttune resume`; what is in "
                "it is kept.",
            ) from error

    def _intermediate(self, record: TrialRecord) -> dict[int, float]:
        name = self.objective.name
        return {
            epoch: logs[name]
            for epoch, logs in enumerate(record.curve, start=1)
            if math.isfinite(logs.get(name, math.nan))
        }

    def _parameters(
        self, values: dict[str, Value]
    ) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        known = self.space.by_name if self.space is not None else {}
        distributions = {
            name: distribution
            for name, value in values.items()
            if (dimension := known.get(name)) is not None
            and not isinstance(dimension.range, Fixed)
            and dimension.range.contains(value)
            and (distribution := _distribution(dimension.range)) is not None
        }
        return {name: values[name] for name in distributions}, distributions

    def _open(self) -> Any:
        if self._study is None:
            optuna.logging.set_verbosity(logging.WARNING)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self._study = optuna.create_study(
                    storage=f"sqlite:///{self.path}",
                    study_name=_NAME,
                    direction="maximize" if self.objective.direction == "max" else "minimize",
                    load_if_exists=True,
                )
        return self._study


def _insert(study: Any, trial: Any) -> None:
    """Add a trial in one transaction, as `add_trial` does.

    That one looks each row up before it writes it, which takes as long as an epoch of a small
    network: 2.5 ms for each attribute and each epoch's value.
    """
    from optuna.storages._rdb import models  # the tables have no public classes
    from sqlalchemy.orm import Session

    row = models.TrialModel(study_id=study._study_id, state=trial.state)  # noqa: SLF001
    row.datetime_start, row.datetime_complete = trial.datetime_start, trial.datetime_complete
    with Session(study._storage._backend.engine) as session, session.begin():  # noqa: SLF001
        session.add(row)
        session.flush()
        row.number = row.count_past_trials(session)
        own, values = {"trial_id": row.trial_id}, models.TrialValueModel
        if trial.value is not None:
            value, kind = values.value_to_stored_repr(trial.value)
            session.add(values(**own, objective=0, value=value, value_type=kind))
        finite = models.TrialIntermediateValueModel.TrialIntermediateValueType.FINITE
        session.add_all(
            models.TrialIntermediateValueModel(
                **own, step=step, intermediate_value=value, intermediate_value_type=finite
            )
            for step, value in trial.intermediate_values.items()
        )
        session.add_all(
            models.TrialParamModel(
                **own,
                param_name=name,
                param_value=distribution.to_internal_repr(trial.params[name]),
                distribution_json=distribution_to_json(distribution),
            )
            for name, distribution in trial.distributions.items()
        )
        session.add_all(
            models.TrialUserAttributeModel(**own, key=key, value_json=json.dumps(value))
            for key, value in trial.user_attrs.items()
        )


def _distribution(range_: Range) -> BaseDistribution | None:
    if isinstance(range_, FloatRange):
        return FloatDistribution(range_.low, range_.high, log=range_.sampling == "log")
    if isinstance(range_, IntRange):
        return IntDistribution(range_.low, range_.high, log=range_.sampling != "linear")
    if isinstance(range_, Choice):
        return CategoricalDistribution(range_.values)
    return None


def _state(record: TrialRecord) -> TrialState:
    """Repeats of a trial are kept out of Optuna's plots as pruned trials are."""
    if record.repeat_of is not None:
        return TrialState.PRUNED
    return TrialState.COMPLETE if record.is_scored else TrialState.FAIL
