"""A dense network in NumPy, for benchmarks of a search that need hundreds of trainings.

A training of the tuner takes about a second, most of it tracing and compiling; one of these takes
a few hundredths. It learns for real, from the job's arrays, with what the space of small tables
searches: depth, width, activation, dropout, learning rate and decay of AdamW.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from smarttune.execution import TrainingData
from smarttune.trials import TrialRecord
from smarttune.tuning import SmartTuner
from smarttune.tuning.planning import plan_of
from smarttune.tuning.recording import record_of

BETAS, TINY = (0.9, 0.95), 1e-7
# As the guard of real trainings: a loss so many times the first one has diverged.
DIVERGED_FACTOR = 1.5


class SmallNetworkTuner(SmartTuner):
    """A tuner whose trials train the small network; promotions train their lineage anew."""

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> TrialRecord:
        """Train from the first epoch to the last that the trial shall have."""
        parent = self.records.get(trial.hyperparameters.values.get("tuner/trial_id", ""))
        plan = plan_of(trial, parent, self.log, policy=self.policy, budget=self.budget)
        curve = list(trained(trial.hyperparameters.values, args[0], plan.epochs.stop, plan.seed))
        name = self.goal.name if self.goal.name in curve[0] else "val_loss"
        curve = [logs | {self.goal.name: logs[name]} for logs in curve]
        diverged = _has_diverged(curve)
        best = min(range(len(curve)), key=lambda i: curve[i][name])
        return record_of(
            trial,
            plan,
            self.policy.default,
            outcome="diverged" if diverged else "completed",
            score=None if diverged else curve[best][name],
            best_epoch=None if diverged else best + 1,
            num_epochs=len(curve),
            curve=tuple(curve),
        )


def _has_diverged(curve: list[dict[str, float]]) -> bool:
    first, last = curve[0]["first_loss"], curve[-1]["loss"]
    return not math.isfinite(last) or last > DIVERGED_FACTOR * first


def trained(
    values: Mapping[str, Any], data: TrainingData, epochs: int, seed: int
) -> Iterator[dict[str, float]]:
    """Train a configuration; yields the logs of each epoch, the last one where it diverges."""
    rng = np.random.default_rng(seed)
    x, x_val = _inputs(data.x, data.x), _inputs(data.x_validation, data.x)
    y, y_val = _targets(data.y), _targets(data.y_validation, np.unique(data.y))
    network = _Network(values, x.shape[1], y.shape[1], rng)
    size, first = int(values["training.batch_size"]), network.loss(x, y)
    with np.errstate(all="ignore"):
        for _ in range(epochs):
            order, losses = rng.permutation(len(x)), []
            for start in range(0, len(x), size):
                rows = order[start : start + size]
                losses.append(network.step(x[rows], y[rows]))
            logs = {"loss": float(np.mean(losses)), "val_loss": network.loss(x_val, y_val)}
            yield logs | {"first_loss": first}
            if not all(map(math.isfinite, logs.values())):
                return


def _inputs(x: Mapping[str, Any], training: Mapping[str, Any]) -> np.ndarray:
    """Numbers as they are, categories as one column each."""
    codes = int(np.max(training["categorical"])) + 1 if "categorical" in x else 0
    columns = (
        [np.eye(codes)[np.minimum(c, codes - 1)] for c in x.get("categorical", []).T]
        if codes
        else []
    )
    return np.hstack([np.asarray(x["numeric"], float), *columns])


def _targets(y: Any, classes: Any = None) -> np.ndarray:
    """Numbers in a column, classes as one column each."""
    y = np.asarray(y)
    if y.dtype.kind == "f":
        return y.reshape(len(y), -1).astype(float)
    width = int(np.max(y if classes is None else classes)) + 1
    return np.asarray(np.eye(width)[np.minimum(y.ravel(), width - 1)])


class _Network:
    """Weights, AdamW's moments, and a step of training."""

    def __init__(
        self, values: Mapping[str, Any], num_inputs: int, num_outputs: int, rng: Any
    ) -> None:
        hidden = [int(values["model.units"])] * int(values["model.num_layers"])
        sizes = [num_inputs, *hidden, num_outputs]
        pairs = list(itertools.pairwise(sizes))
        self.weights = [rng.normal(0, math.sqrt(2 / a), (a, b)) for a, b in pairs]
        self.weights[-1] *= 0.1
        self.biases = [np.zeros(b) for _, b in pairs]
        self.moments = [(np.zeros_like(v), np.zeros_like(v)) for v in self._variables()]
        self.rate = float(values["optimizer.learning_rate"])
        self.decay = float(values.get("optimizer.weight_decay", 0.0))
        self.dropout = float(values["model.dropout"])
        self.smooth = values["model.activation"] == "silu"
        self.num_steps, self.rng = 0, rng
        self.is_regression = num_outputs == 1

    def loss(self, x: np.ndarray, y: np.ndarray) -> float:
        """The mean loss without dropout: squared error, or cross-entropy of classes."""
        return self._loss(self._forward(x, 0.0)[0], y)[0]

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        """Train on a batch; returns its loss before."""
        output, inputs, slopes = self._forward(x, self.dropout)
        loss, delta = self._loss(output, y)
        gradients: list[np.ndarray] = []
        for i in reversed(range(len(self.weights))):
            gradients = [inputs[i].T @ delta, *gradients, delta.sum(axis=0)]
            if i:
                delta = (delta @ self.weights[i].T) * slopes[i - 1]
        # Weights from the first layer on, then biases from the last on: as in `_variables`.
        self._adamw(gradients)
        return loss

    def _variables(self) -> list[np.ndarray]:
        return [*self.weights, *reversed(self.biases)]

    def _forward(
        self, x: np.ndarray, dropout: float
    ) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        inputs, slopes = [x], []
        for w, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            z = inputs[-1] @ w + b
            gate = 1 / (1 + np.exp(-z)) if self.smooth else (z > 0).astype(float)
            slope = gate * (1 + z * (1 - gate)) if self.smooth else gate
            kept = (self.rng.random(z.shape) >= dropout) / (1 - dropout) if dropout else 1.0
            inputs.append(z * gate * kept)
            slopes.append(slope * kept)
        return inputs[-1] @ self.weights[-1] + self.biases[-1], inputs, slopes

    def _loss(self, output: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
        if self.is_regression:
            error = output - y
            return float(np.mean(error**2)), 2 * error / len(y)
        output = output - output.max(axis=1, keepdims=True)
        log_share = output - np.log(np.exp(output).sum(axis=1, keepdims=True))
        loss = -float(np.mean((y * log_share).sum(axis=1)))
        return loss, (np.exp(log_share) - y) / len(y)

    def _adamw(self, gradients: list[np.ndarray]) -> None:
        self.num_steps += 1
        first, second = BETAS
        for i, (value, gradient) in enumerate(zip(self._variables(), gradients, strict=True)):
            mean, square = self.moments[i]
            mean += (1 - first) * (gradient - mean)
            square += (1 - second) * (gradient**2 - square)
            corrected = mean / (1 - first**self.num_steps)
            scale = np.sqrt(square / (1 - second**self.num_steps)) + TINY
            decay = self.decay * value if i < len(self.weights) else 0.0
            np.subtract(value, self.rate * (corrected / scale + decay), out=value)
