"""Every mistake a user can make, as a type.

    SmartTuneError
    ├── RulePackError            a rule file that does not load
    ├── ConflictingRulesError    rules that cannot hold together
    ├── FactError                a fact that is unknown or has a wrong value
    ├── RangeError               a range that cannot exist
    ├── SettingError             a `--set` or name that means nothing
    ├── DataError                data that cannot be read or learnt from
    ├── MissingExtraError        an optional dependency that is not installed
    ├── OptionError              an option or argument with a wrong value
    └── RunError                 a run directory that cannot be used

Each says where it happened, what was received, what was expected and how to
mend it. The command line prints that as one paragraph and exits with 2; any
other exception is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SmartTuneError(Exception):
    """A mistake that the user can mend.

    Args:
        where: The file, option or argument at fault; positions as `file:line:column`.
        received: What was found there, as a clause without a full stop.
        expected: What would have been right, as a phrase after "Expected".
        mend: What to do now, as one sentence with its full stop.
    """

    def __init__(self, where: str, *, received: str, expected: str, mend: str) -> None:
        self.where = where
        self.received = received
        self.expected = expected
        self.mend = mend
        end = "" if received.endswith(("?", ".")) else "."
        super().__init__(f"{where}: {received}{end} Expected {expected}. {mend}")


class RulePackError(SmartTuneError):
    """A rule pack does not load. Holds every mistake found, not only the first."""

    def __init__(self, mistakes: Iterable[SmartTuneError]) -> None:
        self.mistakes = tuple(mistakes)
        first = self.mistakes[0]
        super().__init__(
            first.where, received=first.received, expected=first.expected, mend=first.mend
        )

    def __str__(self) -> str:
        return "\n".join(str(mistake) for mistake in self.mistakes)


class RuleMistake(SmartTuneError):  # noqa: N818 -- one of several in an error
    """One mistake in a rule file; raised together with its siblings as `RulePackError`."""


class ConflictingRulesError(SmartTuneError):
    """Two rules that both must hold leave no value for a hyperparameter."""


class FactError(SmartTuneError):
    """A fact is not in the vocabulary, or its value has the wrong type."""


class RangeError(SmartTuneError):
    """A range is empty or its parts do not fit together."""


class SettingError(SmartTuneError):
    """A value given for a hyperparameter cannot be used."""


class DataError(SmartTuneError):
    """Data that cannot be read or learnt from."""


class MissingExtraError(SmartTuneError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, *, module: str, extra: str) -> None:
        super().__init__(
            what,
            received=f"the Python package `{module}` is not installed",
            expected=f"the extra `{extra}`",
            mend=f"Install it with: pip install 'smarttune[{extra}]'.",
        )


class OptionError(SmartTuneError):
    """An option or argument has a value that is not allowed."""


class RunError(SmartTuneError):
    """A run directory cannot be written, read or resumed."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean `x`?" for the known word closest to `word`, or ""."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean `{close[0]}`?" if close else ""
