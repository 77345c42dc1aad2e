"""Verdicts for CI systems: annotations, a job summary, extras of pytest-html."""
