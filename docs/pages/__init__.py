"""The pages that `docs/build.py` makes: one module for each kind of page."""
