"""Words that every room writes alike."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """``1 layer``, ``3 layers``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def and_more(count: int) -> str:
    """`` (and 2 more)`` after the first of `count` things; nothing where there is only one."""
    return f" (and {count - 1} more)" if count > 1 else ""
