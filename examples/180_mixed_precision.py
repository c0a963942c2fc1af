"""Half precision: which policies there are, what loss scaling is for, and what it costs in score.

On GPUs with units for half precision `mixed_float16` and `mixed_bfloat16` save time and memory;
most CPUs only emulate them. The score is the thing to check first, and any machine can do that.
"""

from __future__ import annotations

import os
from typing import Any

import keras
from sklearn.datasets import load_digits

QUICK = os.environ.get("SMARTTUNE_QUICK") == "1"
NUM_EPOCHS = 3 if QUICK else 20
TRAINING_ROWS = 1200
POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")


def build(policy: str) -> keras.Model:
    """A small network whose hidden layer computes as the policy says."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(64, activation="relu"),
            # Logits and loss stay in float32: a softmax in half precision loses digits.
            keras.layers.Dense(10, dtype="float32"),
        ]
    )
    model.compile(  # under mixed_float16 Keras wraps the optimizer in loss scaling
        keras.optimizers.Adam(0.005),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    keras.config.set_dtype_policy("float32")
    return model


def scale_of(optimizer: Any) -> str:
    """By what the loss is multiplied before its gradients are taken."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return f"{float(optimizer.dynamic_scale):g}"
    return "none"


def main() -> None:
    x, y = load_digits(return_X_y=True)
    x = x.astype("float32") / 16.0
    train, test = slice(TRAINING_ROWS), slice(TRAINING_ROWS, None)

    print(f"{'policy':<15} {'computes in':<12} {'weights in':<11} {'loss scale':<11} accuracy")
    for policy in POLICIES:
        model = build(policy)
        model.fit(x[train], y[train], batch_size=50, epochs=NUM_EPOCHS, verbose=0)
        _, accuracy = model.evaluate(x[test], y[test], verbose=0)
        hidden = model.layers[0]
        print(
            f"{policy:<15} {hidden.compute_dtype:<12} {hidden.kernel.dtype:<11} "
            f"{scale_of(model.optimizer):<11} {accuracy:.3f}"
        )


if __name__ == "__main__":
    main()
