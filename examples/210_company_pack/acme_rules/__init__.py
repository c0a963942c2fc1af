"""Acme's rules; the files beside hold them, and SmartTune reads them without running any code."""
