"""Tests of the models without a network."""
