"""A running mean of the weights, which often predicts better than the last step.

Keras's optimizers keep an exponential moving average when told `use_ema=True`: after each step
the average becomes `ema_momentum` times itself plus the rest times the weights (Polyak and
Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging"; the exponential form as
in section 8 of Szegedy et al. 2016, "Rethinking the Inception Architecture"). Here it is read,
and put into the model for evaluations and taken out again to the last bit; Keras's own
`SwapEMAWeights` swaps by sums and differences, which rounds.

How the average begins: as the weights after the first step, not at zero. So nothing has to be
divided out, but those weights keep a share of `ema_momentum ** (n - 1)` after n steps: 37 % of
the average after 100 steps of 0.99. Choose a momentum whose 1 / (1 - ema_momentum) steps are a
small part of the training.

With accumulated gradients Keras averages after every batch, not after every move of the weights,
so the average remembers fewer moves; until the first move it holds the initial weights.
Statistics of batch normalization are no weights of the optimizer: the averaged state has the
last ones.
"""

from __future__ import annotations

from typing import Any

import keras

from smarttune.training.checkpoint import state_of


def averaged_state(model: Any) -> list[Any]:
    """What `state_of(model, optimizer=False)` gives, with averages for the trained weights.

    Args:
        model: A compiled Keras model.

    Returns:
        NumPy arrays in the order and shapes of `state_of(model, optimizer=False)`, so that
        `set_state(other, values, optimizer=False)` takes them. The weights as they are where
        the optimizer keeps no average, or has not made a step.
    """
    averages = _averages(model)
    return [
        value if (average := averages.get(id(variable))) is None else average.numpy()
        for variable, value in zip(model.variables, state_of(model, optimizer=False), strict=True)
    ]


def _averages(model: Any) -> dict[int, Any]:
    """The average of each trained variable, by its id; empty where there is none."""
    optimizer: Any = getattr(model, "optimizer", None)
    # Loss scaling wraps the optimizer that keeps the average and counts the steps it makes.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not getattr(optimizer, "use_ema", False) or not optimizer.built:
        return {}
    # `iterations` counts moves of the weights; the average is taken after every batch.
    if not int(optimizer._iterations.numpy()):  # noqa: SLF001 -- no public count of batches
        return {}
    kept = optimizer._model_variables_moving_average  # noqa: SLF001 -- no public way to it
    return {
        id(variable): kept[optimizer._get_variable_index(variable)]  # noqa: SLF001 -- as above
        for variable in model.trainable_variables
    }


class AveragedWeights(keras.callbacks.Callback):  # type: ignore[misc]
    """Scores the averaged weights in the validation of `fit`, and decides what `fit` leaves.

    Training goes on from the weights themselves: in every validation the averages stand in for
    them, and then the very same bits come back. Evaluations outside of `fit` are left alone.

    Do not combine it with callbacks that restore weights of their own, such as early stopping: what
    they restore are the weights of the training, not the averages that were scored.

    Keras itself leaves the averages in the model at the end of every `fit` with `use_ema=True`;
    who trains on from there continues another training.

    Args:
        keep: Leave the averages in the model at the end of `fit`; else the weights of the last
            epoch, from which a training goes on as if it had never stopped. That costs a copy of
            the weights in every epoch.
    """

    def __init__(self, *, keep: bool = True) -> None:
        super().__init__()
        self.keep = keep
        self._training = False
        self._weights: list[Any] | None = None  # those of the training, while averages stand in
        self._last: list[Any] | None = None  # those after the last epoch

    def on_train_begin(self, logs: Any = None) -> None:
        """From now on evaluations are validations."""
        self._training, self._weights, self._last = True, None, None

    def on_test_begin(self, logs: Any = None) -> None:
        """Put the averages in, inside of `fit`."""
        if self._training:
            self._weights = state_of(self.model, optimizer=False)
            self._assign(averaged_state(self.model))

    def on_test_end(self, logs: Any = None) -> None:
        """Put the weights back."""
        if self._weights is not None:
            self._assign(self._weights)
            self._weights = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Remember the weights, which Keras overwrites at the end of `fit`."""
        if not self.keep:
            self._last = state_of(self.model, optimizer=False)

    def on_train_end(self, logs: Any = None) -> None:
        """Leave in the model what was asked for."""
        self._training = False
        if self.keep:
            self._assign(averaged_state(self.model))
        elif self._last is not None:
            self._assign(self._last)
        self._last = None

    def _assign(self, values: list[Any]) -> None:
        """Set the trained weights alone; a validation may move other state, such as metrics."""
        trained = {id(variable) for variable in self.model.trainable_variables}
        for variable, value in zip(self.model.variables, values, strict=True):
            if id(variable) in trained:
                variable.assign(value)
