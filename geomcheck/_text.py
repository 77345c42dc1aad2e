"""Words that every room writes alike."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """``1 layer``, ``3 layers``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
