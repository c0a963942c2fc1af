"""Tests of the search loop."""
