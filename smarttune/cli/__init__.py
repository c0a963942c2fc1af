"""The command line: parses, calls the library, prints, and sets exit codes.

Exit codes: 0 done, 2 something the user can mend, 1 a bug of ours (with its
traceback), 130 interrupted (a search can be resumed).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from smarttune.cli.app import app
from smarttune.errors import SmartTuneError

EXIT_USER = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    import click

    try:
        result = app(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except SmartTuneError as error:
        print(f"Error: {error}", file=sys.stderr)
        return EXIT_USER
    except click.ClickException as error:
        error.show()
        return EXIT_USER
    except (KeyboardInterrupt, click.Abort):
        print("Interrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return result if isinstance(result, int) else 0
