"""Tests of how trials are trained."""
