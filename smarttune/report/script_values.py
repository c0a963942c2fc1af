"""The recommended values as a script sees them: only the active ones, each with its rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smarttune.errors import OptionError, SettingError, did_you_mean
from smarttune.recommendation import Recommendation
from smarttune.report.script_layout import assignment, wrapped
from smarttune.space import HYPERPARAMETERS, Value, show_value

# Hyperparameters whose constant is not called like their last word.
_SPECIAL_NAMES = {
    "training.early_stopping.patience": "PATIENCE",
    "training.early_stopping.window": "WINDOW",
    "training.reduce_on_plateau.factor": "PLATEAU_FACTOR",
    "training.reduce_on_plateau.patience": "PLATEAU_PATIENCE",
}
# Settings of a search that a single training uses, too.
_USED_OF_SEARCH = ("search.objective",)


class Values:
    """Active recommended values under their canonical names.

    Args:
        recommendation: Where they come from.

    Raises:
        OptionError: If it is unknown what is to be predicted, or from what.
    """

    def __init__(self, recommendation: Recommendation) -> None:
        self.settings = recommendation.settings
        self.facts = recommendation.facts
        self.problem = str(self.facts.value("model.problem") or "")
        self.task = str(self.facts.value("data.task") or "")
        if not self.problem or not self.task:
            raise refuse(
                "it is not known what is to be predicted" + (" from what" if self.problem else ""),
                "the kind of data and of prediction",
                "Add --task and --problem, for example --task tabular --problem binary.",
            )

    def __contains__(self, name: str) -> bool:
        """Whether a hyperparameter is settled and does something."""
        setting = self.settings.get(name)
        if setting is None:
            return False
        return all(
            parent not in self.settings
            or (parent in self and self.settings[parent].value in allowed)
            for parent, allowed in setting.active_when.items()
        )

    def get(self, name: str, default: Any = None) -> Any:
        """The value of an active hyperparameter, else `default`."""
        return self.settings[name].value if name in self else default

    def needed(self, name: str) -> Any:
        """The value of a hyperparameter without which nothing can be built.

        Raises:
            SettingError: If no rule and no user gave one.
        """
        if name not in self:
            raise SettingError(
                name,
                received="no rule and no setting gives it a value",
                expected="a value for every hyperparameter that the model needs",
                mend=f"Give one with --set {name}=VALUE, or declare more facts.",
            )
        return self.settings[name].value

    def one_of(self, name: str, allowed: Sequence[str], *, default: str) -> str:
        """The value of a hyperparameter that chooses between pieces of code.

        Raises:
            SettingError: If it is not among those allowed.
        """
        value = self.get(name, default)
        if value not in allowed:
            raise SettingError(
                name,
                received=f"{value!r}",
                expected="one of " + ", ".join(allowed),
                mend=f"Set it to one of them.{did_you_mean(str(value), allowed)}",
            )
        return str(value)

    def code(self, name: str) -> str:
        """The code of the rule that decided, for a comment."""
        if name not in self or not self.settings[name].because:
            return "set by you" if name in self else "no rule spoke"
        rule = self.settings[name].because[0].rule
        return "set by you" if rule == "you" else rule

    def num_classes(self) -> int:
        """How many classes or labels there are.

        Raises:
            OptionError: If that is unknown.
        """
        if self.problem == "binary":
            return 2
        count = self.facts.value("data.num_classes") or self.facts.value("data.num_outputs")
        if count is None:
            raise refuse(
                f"the number of classes of a {self.problem} problem is unknown",
                "the number of classes",
                "Add it, for example --classes 4.",
            )
        return int(count)

    def constant(self, name: str, default: Value | None = None) -> list[str]:
        """Lines that define the constant of a hyperparameter, with rule and meaning.

        Raises:
            SettingError: If it has neither a value nor a default.
        """
        value = self.needed(name) if default is None else self.get(name, default)
        called = _SPECIAL_NAMES.get(name, name.rsplit(".", 1)[1].upper())
        long = assignment(called, value, f"{self.code(name)}: {HYPERPARAMETERS[name].about}")
        return long if len(long) == 1 else assignment(called, value, self.code(name))

    def reasons(self) -> list[str]:
        """Every setting that matters to one training, with the rule behind it."""
        lines: list[str] = []
        for name, setting in self.settings.items():
            if name not in self or "[" in name:
                continue
            if not name.startswith("search.") or name in _USED_OF_SEARCH:
                lines += wrapped(f"{name} = {show_value(setting.value)}", indent="    ")
                lines += self._because(name)
        return lines + self._column_reasons()

    def _column_reasons(self) -> list[str]:
        """Settings of single columns, those with the same value and rule told once."""
        columns: dict[tuple[str, str, str], list[str]] = {}
        for name, setting in self.settings.items():
            base, bracket, column = name.partition("[")
            if bracket and name in self:
                key = (base, show_value(setting.value), self.code(name))
                columns.setdefault(key, []).append(column.removesuffix("]"))
        lines: list[str] = []
        for (base, value, _), names in columns.items():
            shown = f"of {len(names)} columns" if len(names) > 1 else f"of {names[0]!r}"
            lines += wrapped(f"{base} {shown} = {value}", indent="    ")
            lines += self._because(f"{base}[{names[0]}]")
        return lines

    def _because(self, name: str) -> list[str]:
        because = self.settings[name].because
        if not because or because[0].rule == "you":
            return ["    set by you"]
        reason = because[0]
        return [f"    {line}" for line in wrapped(f"{reason.rule}: {reason.summary}", room=92)]


def refuse(received: str, expected: str, mend: str) -> OptionError:
    """The error for a suggestion of which no script can be written."""
    return OptionError("--format python", received=received, expected=expected, mend=mend)
