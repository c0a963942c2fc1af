"""Hyperparameter tuning for Keras that starts from documented knowledge and says why."""

__version__ = "0.1.0"
