"""Time series: windows of history in, the next steps out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import keras
import numpy as np
from keras import layers as keras_layers
from keras import ops
from pydantic import BaseModel, ConfigDict

from smarttune.data import Dataset, Split
from smarttune.data.names import listed
from smarttune.data.origins import temporal_split
from smarttune.data.series import SeriesContent
from smarttune.data.timesteps import Step
from smarttune.errors import DataError
from smarttune.models.codec import TargetCodec
from smarttune.models.dense import mlp
from smarttune.models.export import bare_copy, decoded
from smarttune.models.layers import Layers, bad_value
from smarttune.models.modality import Modality, Preprocessor
from smarttune.models.optimizers import needed
from smarttune.models.recurrent import rnn
from smarttune.models.temporal import tcn
from smarttune.models.windows import Windows, gathered
from smarttune.space import Value

if TYPE_CHECKING:
    import pandas as pd

    from smarttune.fingerprint import Fingerprint

NORMALIZATIONS = ("none", "last_value", "mean")


class Season(BaseModel):
    """The season of series with times, counted from one moment.

    Attributes:
        length: Steps of the season.
        anchor: Time of a step at which one begins; an ISO date, or a number.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    length: int
    anchor: int | str

    def numbers(self, content: SeriesContent, rows: np.ndarray) -> np.ndarray:
        """Steps from the anchor to some rows, shape (len(rows),)."""
        first = int(content.places.argmin())
        anchor = np.datetime64(self.anchor, "ns") if isinstance(self.anchor, str) else self.anchor
        ahead = content.step.between(anchor, content.stamps[first])
        return np.asarray(content.places[rows] - content.places[first] + ahead)


class SeriesPreprocessor(Preprocessor):
    """Windows of encoded steps.

    Attributes:
        names: The variables; those to forecast come first.
        target: Encoding of the variables to forecast, learnt from the training steps.
        center: Mean of each other variable over the training steps.
        scale: Standard deviation of each; 1 where it does not vary.
        horizon: Steps to forecast.
        window_length: Steps of history that a forecast reads.
        step: What lies between two neighbours.
        season: Lets networks know where in its season a window ends; None if they do not.
    """

    kind: Literal["timeseries"] = "timeseries"
    names: tuple[str, ...]
    target: TargetCodec
    center: tuple[float, ...]
    scale: tuple[float, ...]
    horizon: int
    window_length: int
    step: Step
    season: Season | None = None

    @property
    def num_targets(self) -> int:
        """Variables to forecast."""
        return len(self.target.names)

    def inputs(self, dataset: Dataset, rows: np.ndarray) -> dict[str, Any]:
        """Windows that end at some rows.

        Returns:
            `window`, float32, shape (len(rows), window_length, variables); and with a season
            `phase`, shape (len(rows), 2), sine and cosine of the last step's place in it.

        Raises:
            DataError: If variables are absent, or the steps are of another size.
        """
        content = self._content(dataset)
        starts = rows - self.window_length + 1
        window = Windows(self._columns(content), starts, self.window_length, self.encoded)
        found: dict[str, Any] = {"window": gathered(window)}
        if self.season is not None:
            numbers = self.season.numbers(content, rows)
            angle = 2 * np.pi * (numbers % self.season.length) / self.season.length
            found["phase"] = np.stack([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)
        return found

    def targets(self, dataset: Dataset, rows: np.ndarray, codec: TargetCodec) -> Any:
        """The encoded next steps, float32, shape (len(rows), horizon * targets), step by step."""
        content = self._content(dataset)
        values = self._columns(content)[:, : self.num_targets]

        def flat(raw: np.ndarray) -> np.ndarray:
            encoded = self.target.standardized(raw).astype(np.float32)
            return encoded.reshape(len(raw), self.horizon * self.num_targets)

        return gathered(Windows(values, rows + 1, self.horizon, flat))

    def encoded(self, raw: np.ndarray) -> np.ndarray:
        """Variables in their own units, shape (..., variables), as networks see them."""
        targets = self.target.standardized(raw[..., : self.num_targets])
        rest = (raw[..., self.num_targets :] - np.asarray(self.center)) / np.asarray(self.scale)
        return np.concatenate([targets, rest], axis=-1).astype(np.float32)

    def _content(self, dataset: Dataset) -> SeriesContent:
        content = dataset.content
        if not isinstance(content, SeriesContent):
            raise DataError(
                dataset.where,
                received="it is not read as series",
                expected="a table whose rows are steps in time",
                mend="Say so: --task timeseries.",
            )
        absent = [name for name in self.names if name not in content.names]
        if absent:
            raise DataError(
                dataset.where,
                received=f"{len(absent)} variable(s) are absent: {listed(absent)}",
                expected="the variables of the training: " + listed(list(self.names)),
                mend="Add them as numeric columns.",
            )
        if content.step != self.step and len(content) > 1:
            raise DataError(
                dataset.where,
                received=f"steps of 1 {content.step}",
                expected=f"steps of 1 {self.step}, as in training",
                mend="Resample the series to these steps.",
            )
        return content

    def _columns(self, content: SeriesContent) -> np.ndarray:
        if content.names == self.names:
            return content.values
        return content.values[:, [content.names.index(name) for name in self.names]]


class TimeSeries(Modality):
    """Forecasts of one or many series on a regular grid."""

    name: ClassVar[str] = "timeseries"
    preprocessor_type: ClassVar[type[Preprocessor]] = SeriesPreprocessor
    prepared: ClassVar[tuple[str, ...]] = (
        "model.window_length",
        "model.season_phase",
        "model.target_transform",
    )
    reads_target: ClassVar[bool] = True

    def split(
        self,
        dataset: Dataset,
        fingerprint: Fingerprint,
        settings: Mapping[str, Value],
        **options: Any,
    ) -> Split:
        """Divide forecasts by time; see `smarttune.data.origins.temporal_split`.

        Rows are the last steps of windows.
        """
        return temporal_split(
            _series(dataset),
            window=int(needed(settings, "model.window_length")),
            validation_fraction=options["validation_fraction"],
            test_fraction=options["test_fraction"],
        )

    def fit(
        self,
        dataset: Dataset,
        fingerprint: Fingerprint,
        rows: np.ndarray,
        settings: Mapping[str, Value],
        families: tuple[str, ...],
    ) -> SeriesPreprocessor:
        """Learn the scales of all variables from the steps that training reads or predicts."""
        content = _series(dataset)
        window = int(needed(settings, "model.window_length"))
        seen = _seen(content, rows, window)
        target = _step_codec(content, seen, settings, None)
        rest = content.values[seen, content.num_targets :].astype(np.float64)
        scale = rest.std(axis=0)
        return SeriesPreprocessor(
            names=content.names,
            target=target,
            center=tuple(rest.mean(axis=0).tolist()),
            scale=tuple(np.where(scale > 0, scale, 1.0).tolist()),
            horizon=content.horizon,
            window_length=window,
            step=content.step,
            season=_season(content) if settings.get("model.season_phase", False) else None,
        )

    def codec(
        self,
        dataset: Dataset,
        fingerprint: Fingerprint,
        rows: np.ndarray,
        settings: Mapping[str, Value],
        bounds: tuple[float, float] | None,
    ) -> TargetCodec:
        """The encoding of one step, repeated for each step of the horizon."""
        content = _series(dataset)
        seen = _seen(content, rows, int(needed(settings, "model.window_length")))
        one = _step_codec(content, seen, settings, bounds)
        ahead = range(1, content.horizon + 1)
        repeated = ("shift", "center", "scale", "means")
        return one.model_copy(
            update={
                "names": tuple(f"{name}+{i}" for i in ahead for name in one.names),
                **{field: getattr(one, field) * content.horizon for field in repeated},
            }
        )

    def network(self, layers: Layers, preprocessor: SeriesPreprocessor) -> keras.Model:
        """A network on the arrays of a `SeriesPreprocessor`.

        It gives encoded targets, float32, shape (batch, horizon * targets). What
        `model.window_normalization` takes off each window is given back to the output:
        the last value as in NLinear (Zeng et al. 2023, section 4), or the mean as in
        reversible instance normalization (Kim et al. 2022, section 3.2), without its scale.
        """
        family = layers.family_of(self.name)
        window = keras.Input((preprocessor.window_length, len(preprocessor.names)), name="window")
        inputs = {"window": window}
        x, level = _levelled(layers, window)
        phase = None
        if preprocessor.season is not None:
            phase = inputs["phase"] = keras.Input((2,), name="phase")
        if family == "mlp":
            x = keras_layers.Flatten(name="steps")(x)
            if phase is not None:
                x = keras_layers.Concatenate(name="features")([x, phase])
            hidden = mlp(layers, x)
        else:
            if phase is not None:
                repeated = keras_layers.RepeatVector(preprocessor.window_length)(phase)
                x = keras_layers.Concatenate(name="features")([x, repeated])
            hidden = (rnn if family == "rnn" else tcn)(layers, x)
        output = layers.output(hidden)
        if level is not None:
            level = ops.cast(level[:, : preprocessor.num_targets], "float32")
            output = output + ops.tile(level, (1, preprocessor.horizon))
        return keras.Model(inputs, output, name="forecast")

    def exported(
        self, core: keras.Model, preprocessor: SeriesPreprocessor, codec: TargetCodec
    ) -> keras.Model:
        """A model of raw windows.

        It takes `window`, float32, shape (batch, window_length, variables), the last steps of
        a series in their own units, variables in the order of the preprocessor; and with a
        season `step`, shape (batch, 1), the number of steps from the season's anchor to the
        last step of the window. It gives the forecast in own units, float32, shape (batch,
        horizon, targets).
        """
        shape = (preprocessor.window_length, len(preprocessor.names))
        window = keras.Input(shape, dtype="float32", name="window")
        inputs = {"window": window}
        features = {"window": _encoded(window, preprocessor)}
        if preprocessor.season is not None:
            number = inputs["step"] = keras.Input((1,), dtype="float32", name="step")
            length = float(preprocessor.season.length)
            angle = ops.mod(number, length) * (2 * np.pi / length)
            features["phase"] = ops.concatenate([ops.sin(angle), ops.cos(angle)], axis=1)
        output = decoded(bare_copy(core)(features), codec)
        forecast = ops.reshape(output, (-1, preprocessor.horizon, preprocessor.num_targets))
        return keras.Model(inputs, forecast, name="raw_windows")

    def predictions(
        self,
        dataset: Dataset,
        preprocessor: SeriesPreprocessor,
        codec: TargetCodec,
        core: keras.Model,
    ) -> pd.DataFrame:
        """Forecast what follows the end of each series.

        Returns:
            One row per series and step: its time (or number), the series where there are
            several, and `prediction`, or a column per target.

        Raises:
            DataError: If no series is as long as the window.
        """
        import pandas as pd

        from smarttune.training.outputs import outputs_of

        content = _series(dataset)
        long = _long_enough(content, preprocessor.window_length, dataset.where)
        rows = content.starts[1:][long] - 1
        output = outputs_of(core, preprocessor.inputs(dataset, rows))
        horizon, names = preprocessor.horizon, preprocessor.target.names
        raw = codec.raw_units(output).reshape(-1, len(names))
        stamps: Any = np.concatenate(
            [content.step.after(content.stamps[row], horizon) for row in rows]
        )
        table: dict[str, Any] = {str(dataset.features.columns[0]): stamps}
        if len(content.labels) > 1:
            labels = np.asarray(content.labels, dtype=object)[long]
            table[str(dataset.read_options.get("series_column", "series"))] = labels.repeat(horizon)
        columns = ["prediction"] if len(names) == 1 else list(names)
        return pd.DataFrame(table | dict(zip(columns, raw.T, strict=True)))


def _series(dataset: Dataset) -> SeriesContent:
    assert isinstance(dataset.content, SeriesContent)
    return dataset.content


def _seen(content: SeriesContent, rows: np.ndarray, window: int) -> np.ndarray:
    """Which steps training reads or predicts, a flag per step."""
    edges = np.zeros(len(content) + 1, dtype=np.int64)
    np.add.at(edges, rows - window + 1, 1)
    np.add.at(edges, rows + content.horizon + 1, -1)
    return np.cumsum(edges[:-1]) > 0


def _step_codec(
    content: SeriesContent,
    seen: np.ndarray,
    settings: Mapping[str, Value],
    bounds: tuple[float, float] | None,
) -> TargetCodec:
    """The encoding of one step of the variables to forecast."""
    import pandas as pd

    values = content.values[seen, : content.num_targets].astype(np.float64)
    frame = pd.DataFrame(values, columns=list(content.names[: content.num_targets]))
    return TargetCodec.fit(frame, "forecasting", (), settings, bounds=bounds)


def _season(content: SeriesContent) -> Season | None:
    """The season of the content; None where it has none, or no times to place it by."""
    if content.season is None or content.step.kind == "rows":
        return None
    first = content.stamps[content.places.argmin()]
    dated = first.dtype.kind == "M"
    return Season(length=content.season, anchor=str(first) if dated else int(first))


def _levelled(layers: Layers, window: Any) -> tuple[Any, Any]:
    """Windows without their level, and the level, shape (batch, variables), or None."""
    kind = str(layers.value("model.window_normalization"))
    if kind not in NORMALIZATIONS:
        raise bad_value("model.window_normalization", kind, NORMALIZATIONS)
    if kind == "none":
        return window, None
    if layers.values.get("model.output_activation", "linear") == "sigmoid":
        raise bad_value("model.window_normalization", kind, ("none, as the output is bounded",))
    level = window[:, -1] if kind == "last_value" else ops.mean(window, axis=1)
    return window - ops.expand_dims(level, 1), level


def _encoded(window: Any, preprocessor: SeriesPreprocessor) -> Any:
    """`SeriesPreprocessor.encoded` in Keras operations."""
    target = preprocessor.target
    center = np.array([*target.center, *preprocessor.center], np.float32)
    scale = np.array([*target.scale, *preprocessor.scale], np.float32)
    if target.transform == "log1p_standardize":
        count = preprocessor.num_targets
        shifted = window[..., :count] - np.array(target.shift, np.float32)
        logs = ops.log1p(ops.maximum(shifted, 0.0))
        window = ops.concatenate([logs, window[..., count:]], axis=-1)
    return (window - center) / scale


def _long_enough(content: SeriesContent, window: int, where: str) -> np.ndarray:
    """Which series fill a window, a flag per series; the others are named."""
    lengths = np.diff(content.starts)
    long: np.ndarray = lengths >= window
    if not long.any():
        raise DataError(
            where,
            received=f"the longest series has {int(lengths.max(initial=0)):,} step(s)",
            expected=f"at least {window:,} steps of history, as the network reads them",
            mend="Bring more of the past.",
        )
    if not long.all():
        short = [content.labels[i] for i in np.flatnonzero(~long)]
        warnings.warn(
            f"{len(short)} series shorter than {window:,} steps are not forecast: {listed(short)}.",
            stacklevel=3,
        )
    return long
