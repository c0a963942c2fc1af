"""Stacked recurrent layers over a sequence."""

from __future__ import annotations

from typing import Any

from keras import layers as keras_layers

from smarttune.models.layers import Layers, bad_value

CELLS: dict[str, Any] = {
    "gru": keras_layers.GRU,
    "lstm": keras_layers.LSTM,
    "simple": keras_layers.SimpleRNN,
}


def rnn(layers: Layers, x: Any, *, every_step: bool = False, mask: Any = None) -> Any:
    """Recurrent layers one after the other, with dropout between them.

    The cells keep what the fast GPU kernel asks for: tanh and sigmoid, biases, no unrolling,
    and padding on the right where steps are masked.

    Args:
        layers: Makes the layers of the trial.
        x: A sequence, (batch, steps, features), perhaps masked.
        every_step: Whether the last layer too gives its output at each step.
        mask: (batch, steps), true for real steps, padded on the right; None means the mask that
            `x` carries, or none.

    Returns:
        (batch, width), or (batch, steps, width) with `every_step`; the width is
        `model.rnn_units`, or twice that if the sequence is read in both directions.

    Raises:
        SettingError: If the cell is unknown, or both directions are asked of a forecast
            of every step, which would see what it is to predict.
    """
    kind = str(layers.value("model.rnn_cell"))
    if kind not in CELLS:
        raise bad_value("model.rnn_cell", kind, tuple(CELLS))
    both = bool(layers.values.get("model.bidirectional", False))
    if both and every_step:
        raise bad_value("model.bidirectional", both, ("false, for every step sees only its past",))
    count = int(layers.value("model.num_rnn_layers"))
    for i in range(count):
        name = f"recurrent_{i}"
        options: dict[str, Any] = {
            "recurrent_dropout": float(layers.values.get("model.recurrent_dropout", 0.0)),
            "return_sequences": every_step or i < count - 1,
            "kernel_regularizer": layers.regularizer(),
        }
        cell = _cell(layers, kind, name, options, both)
        x = cell(x) if mask is None else cell(x, mask=mask)
        x = layers.drop(x, name)
    return x


def _cell(layers: Layers, kind: str, name: str, options: dict[str, Any], both: bool) -> Any:
    def one(direction: str) -> Any:
        return CELLS[kind](
            int(layers.value("model.rnn_units")),
            kernel_initializer=_seeded("GlorotUniform", layers.seed(f"{direction}/kernel")),
            recurrent_initializer=_seeded("Orthogonal", layers.seed(f"{direction}/recurrent")),
            seed=layers.seed(f"{direction}/dropout"),
            name=direction,
            **options,
        )

    if not both:
        return one(name)
    backward = CELLS[kind].from_config(
        {**one(f"{name}_backward").get_config(), "go_backwards": True}
    )
    return keras_layers.Bidirectional(
        one(f"{name}_forward"), backward_layer=backward, name=f"{name}_both"
    )


def _seeded(kind: str, seed: int) -> Any:
    import keras

    return getattr(keras.initializers, kind)(seed=seed)
