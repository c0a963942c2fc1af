"""The version of SmartTune, for files that say by which one they were written."""

__version__ = "0.1.0"
