"""Small HTML without a template, for what shows itself in a notebook: every text escaped, and visible."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

_INVISIBLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")

LONGEST = 120
"""Characters of a text in a cell."""

LONGEST_SENTENCE = 2000


def visible(text: str) -> str:
    """`text` with control characters, and marks that turn the writing direction or cannot be seen, spelled out."""
    return _INVISIBLE.sub(lambda found: ascii(found.group())[1:-1], text)


def cell(text: object, longest: int = LONGEST) -> str:
    """A text as HTML shows it; what is too long loses its end."""
    seen = visible(str(text))
    return escape(seen if len(seen) <= longest else f"{seen[: longest - 3]}...")


def paragraph(*parts: str) -> str:
    """A paragraph of texts; the first is its title."""
    title, *rest = (cell(part, LONGEST_SENTENCE) for part in parts)
    return f"<p><b>{title}</b>{'<br>' if rest else ''}{'<br>'.join(rest)}</p>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> str:
    """A table; its first `left` columns are flush left, as texts are, the others right, as figures."""
    aligned = ["left" if index < left else "right" for index in range(len(head))]
    lines = [_row("th", aligned, head), *(_row("td", aligned, row) for row in rows)]
    return f"<table>{''.join(lines)}</table>"


def _row(tag: str, aligned: Sequence[str], cells: Sequence[object]) -> str:
    told = (f'<{tag} style="text-align:{a}">{cell(c)}</{tag}>' for a, c in zip(aligned, cells, strict=True))
    return f"<tr>{''.join(told)}</tr>"
