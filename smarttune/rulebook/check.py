"""What a rule promises beyond its format: its examples hold, and both outcomes are shown."""

from __future__ import annotations

from smarttune.errors import RuleMistake, SmartTuneError, did_you_mean
from smarttune.facts import FACTS, as_kind, check_value
from smarttune.rulebook.load import Rulebook
from smarttune.rulebook.logic import Unknown
from smarttune.rulebook.schema import Example, Rule
from smarttune.space import Value


def check_rulebook(book: Rulebook) -> list[SmartTuneError]:
    """Return every promise that a rule of the book breaks."""
    return [mistake for rule in book.rules for mistake in check_rule(rule, book)]


def check_rule(rule: Rule, book: Rulebook) -> list[SmartTuneError]:
    """Return every promise that one rule breaks."""
    where = str(book.files.get(rule.code, rule.code))
    mistakes: list[SmartTuneError] = []
    outcomes = {example.fires for example in rule.examples}
    if outcomes != {True, False}:
        mistakes.append(
            RuleMistake(
                where,
                received=f"the examples of {rule.code} show {len(outcomes)} of 2 outcomes",
                expected="one example with `fires: true` and one with `fires: false`",
                mend="Add the missing one.",
            )
        )
    for number, example in enumerate(rule.examples):
        try:
            mistakes += _check_example(rule, example, f"{where}: example {number + 1}", book)
        except SmartTuneError as error:
            mistakes.append(error)
    return mistakes


def _check_example(
    rule: Rule, example: Example, where: str, book: Rulebook
) -> list[SmartTuneError]:
    names = {name: _example_value(name, v, where, book) for name, v in example.facts.items()}
    fired = rule.holds(names) is True
    if fired != example.fires:
        traces = "; ".join(condition.trace(names) for condition in rule.when)
        return [
            RuleMistake(
                where,
                received=f"{rule.code} {'fires' if fired else 'stays silent'} ({traces})",
                expected=f"`fires: {str(example.fires).lower()}`",
                mend="Correct the conditions or the example.",
            )
        ]
    if not fired:
        return []
    return [
        RuleMistake(
            where,
            received=f"{rule.code} fires, but `{line.hyperparameter}` has no value: "
            f"{', '.join(sorted(proposal.missing)) or proposal.reason} unknown",
            expected="an example with every fact that its values read",
            mend="Add the facts to the example, or guard with known(...) or opt(...).",
        )
        for line in rule.then
        if line.hyperparameter is not None and isinstance(proposal := line.propose(names), Unknown)
    ]


def _example_value(name: str, value: Value, where: str, book: Rulebook) -> Value:
    if name in FACTS:
        return check_value(name, value, where=where)
    definition = book.hyperparameters.get(name)
    typed = None if definition is None else as_kind(value, definition.kind)
    if typed is None:
        raise RuleMistake(
            where,
            received=f"`{name}: {value}` is no fact or hyperparameter with such a value",
            expected="facts and hyperparameters with values of their type",
            mend=f"Correct it.{did_you_mean(name, [*FACTS, *book.hyperparameters])}",
        )
    return typed
