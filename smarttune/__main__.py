"""`python -m smarttune` is the command `smarttune`."""

from smarttune.cli import main

if __name__ == "__main__":
    main()
