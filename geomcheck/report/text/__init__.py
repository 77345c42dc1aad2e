"""Verdicts for a terminal and for logs."""
