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
    try:
        app(args=list(arguments) if arguments is not None else None)
    except SmartTuneError as error:
        print(f"Error: {error}", file=sys.stderr)
        return EXIT_USER
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output, such as `head`, has seen enough.
        sys.stderr.close()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0
