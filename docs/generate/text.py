"""Text for Markdown."""

from __future__ import annotations


def cell(text: str) -> str:
    """`text` literally, also inside a table: characters that Markdown or HTML read otherwise as references."""
    return "".join(f"&#{ord(c)};" if c in "&\\|*_`<>[]#~^" else c for c in text.replace("\n", " "))


def prose(text: str) -> str:
    """`text` literally, but for what it has in backticks, which stays code."""
    parts = text.split("`")
    return "`".join(part if number % 2 else cell(part) for number, part in enumerate(parts))
