"""What each kind of data needs between its samples and a network: one modality per kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from smarttune.data import Dataset, Split, split
from smarttune.models.codec import TargetCodec
from smarttune.space import Value

if TYPE_CHECKING:
    import keras
    import pandas as pd

    from smarttune.fingerprint import Fingerprint
    from smarttune.models.layers import Layers

# Groups of hyperparameters that networks and their training read; the rest concerns data
# and search.
_READ = (
    "model.",
    "optimizer.",
    "training.batch_size",
    "training.batch_growth",
    "training.num_batch_phases",
    "training.precision",
    "training.label_smoothing",
    "training.class_weight",
    "training.gradient_accumulation_steps",
    "training.augmentation",
    "training.frozen_fraction",
    "training.unfrozen_factor",
)


def of_family(values: Mapping[str, Value], family: str | None = None) -> dict[str, Value]:
    """The values that hold for a family, under their plain names.

    `model.units[rnn]` is the width of recurrent networks where other families have another
    range under the plain name.

    Args:
        values: Canonical name, perhaps with a family, to value.
        family: The family; None means the one that the values choose.
    """
    end = f"[{family or values.get('model.family')}]"
    plain = {name: value for name, value in values.items() if "[" not in name}
    return plain | {n.removesuffix(end): v for n, v in values.items() if n.endswith(end)}


class Preprocessor(BaseModel, ABC):
    """How samples become arrays, learnt from the training rows. Immutable, kept as JSON.

    Subclasses give `kind`, a literal that is the name of their modality.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str

    @abstractmethod
    def inputs(self, dataset: Dataset, rows: np.ndarray) -> dict[str, Any]:
        """Samples as a network takes them.

        Returns:
            Input name to an array of shape (len(rows), ...), or to an object with the same
            `__len__`, `shape`, `dtype` and `__getitem__(rows)` that reads when indexed.
        """

    def targets(self, dataset: Dataset, rows: np.ndarray, codec: TargetCodec) -> Any:
        """Encoded targets of samples, shape (len(rows), ...)."""
        assert dataset.target is not None
        return codec.encode(dataset.target.iloc[rows])


class Modality(ABC):
    """One kind of data; has no state.

    Attributes:
        name: Its key in `smarttune.models.modalities`.
        preprocessor_type: What `fit` returns and a run keeps.
        prepared: Hyperparameters that are used up before a network is built, and so are the
            same in all trials of a search.
        reads_target: Whether what is predicted must be known up to now, as in forecasts.
    """

    name: ClassVar[str]
    preprocessor_type: ClassVar[type[Preprocessor]]
    prepared: ClassVar[tuple[str, ...]] = ()
    reads_target: ClassVar[bool] = False

    def split(
        self,
        dataset: Dataset,
        fingerprint: Fingerprint,
        settings: Mapping[str, Value],
        **options: Any,
    ) -> Split:
        """Divide samples into training, validation and test parts.

        Args:
            dataset: The data.
            fingerprint: Their measurement.
            settings: Recommended values.
            **options: `validation_fraction`, `test_fraction`, `seed`, `stratify` and
                `time_ordered`, as `smarttune.data.split` takes them.
        """
        assert dataset.target is not None
        return split(
            dataset.target, problem=str(fingerprint.problem), groups=dataset.groups, **options
        )

    @abstractmethod
    def fit(
        self,
        dataset: Dataset,
        fingerprint: Fingerprint,
        rows: np.ndarray,
        settings: Mapping[str, Value],
        families: tuple[str, ...],
    ) -> Preprocessor:
        """Learn the preprocessing from the training rows.

        Args:
            dataset: The data.
            fingerprint: Their measurement.
            rows: The training rows; no other row may be looked at.
            settings: Recommended values.
            families: The kinds of network that the search may choose, the recommended first.
        """

    def codec(
        self,
        dataset: Dataset,
        fingerprint: Fingerprint,
        rows: np.ndarray,
        settings: Mapping[str, Value],
        bounds: tuple[float, float] | None,
    ) -> TargetCodec:
        """Learn the encoding of the target from the training rows."""
        assert dataset.target is not None
        return TargetCodec.fit(
            dataset.target.iloc[rows],
            str(fingerprint.problem),
            fingerprint.classes,
            settings,
            bounds=bounds,
        )

    @abstractmethod
    def network(self, layers: Layers, preprocessor: Any) -> keras.Model:
        """The functional network of one trial, from a dict of inputs to `layers.output`."""

    @abstractmethod
    def exported(self, core: keras.Model, preprocessor: Any, codec: TargetCodec) -> keras.Model:
        """Put preprocessing before and decoding after a trained network.

        The result takes raw samples and uses layers and operations of Keras only, so that it
        loads where SmartTune is not installed.

        Raises:
            MissingExtraError: If the export needs a package that is not installed.
            OptionError: If it needs another Keras backend.
        """

    def predictions(
        self, dataset: Dataset, preprocessor: Any, codec: TargetCodec, core: keras.Model
    ) -> pd.DataFrame:
        """Predict with a trained network for every sample of a data set, one row each."""
        from smarttune.training.outputs import outputs_of

        rows = np.arange(len(dataset.features))
        return codec.decode(outputs_of(core, preprocessor.inputs(dataset, rows)))

    def network_settings(self, names: Any) -> list[str]:
        """Those hyperparameters that networks of this kind read.

        A name may carry the family that it is for: `model.units[rnn]`.
        """
        return [n for n in names if n.startswith(_READ) and n.split("[", 1)[0] not in self.prepared]

    def extras(
        self, dataset: Dataset, preprocessor: Any, codec: TargetCodec, core: keras.Model, seed: int
    ) -> dict[str, str]:
        """What a report shows of a trained network beside scores: headings and their texts."""
        return {}
