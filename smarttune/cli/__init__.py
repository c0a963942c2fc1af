"""The command line: parses, calls the library, prints, and sets exit codes.

Exit codes: 0 done, 2 something the user can mend, 1 a bug of ours (with its
traceback), 130 interrupted (a search can be resumed).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from smarttune.cli.app import app
from smarttune.errors import SmartTuneError
from smarttune.files import FULL, cannot_write

EXIT_USER = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    if hasattr(signal, "SIGPIPE") and sys.argv[1:2] not in (["search"], ["resume"]):
        # A reader that has seen enough, such as `head`, ends what only prints quietly.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        try:
            app(args=list(arguments) if arguments is not None else None)
        finally:
            sys.stdout.flush()
    except SmartTuneError as error:
        print(f"Error: {error}", file=sys.stderr)
        return EXIT_USER
    except OSError as error:
        if error.errno not in FULL:
            raise
        print(f"Error: {cannot_write(Path('standard output'), error)}", file=sys.stderr)
        # What is left in the buffer would fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_USER
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0
