"""What a rule is: format, loading, selection, and the page that explains it."""

from smarttune.rulebook.check import check_rule, check_rulebook
from smarttune.rulebook.explain import explain, fact_table
from smarttune.rulebook.load import Pack, Rulebook, builtin_folder, load_rulebook
from smarttune.rulebook.schema import Rule
from smarttune.rulebook.select import select

__all__ = [
    "Pack",
    "Rule",
    "Rulebook",
    "builtin_folder",
    "check_rule",
    "check_rulebook",
    "explain",
    "fact_table",
    "load_rulebook",
    "select",
]
