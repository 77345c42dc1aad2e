"""Texts from files made safe to show, on a page and on a terminal: names in a run may hold anything."""

from __future__ import annotations

import json
import re
from typing import Any

from markupsafe import Markup

from geomcheck._html import visible

_CI_COMMAND = re.compile(r"(?:(?<!\S):(?=:)|#(?=#\w*\[))")


def printable(text: str) -> str:
    """`text` with control characters escaped, and what a CI system takes for a command (``::error::`` where a word
    begins, ``##[group]`` and its like anywhere): names in a run's files must drive neither."""
    seen = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
    return _CI_COMMAND.sub(lambda found: f"\\x{ord(found.group()):02x}", seen)


def embedded(data: Any) -> Markup:
    """`data` as JSON for a ``<script>`` element: it cannot end the element or start another."""
    text = json.dumps(_visible_in(data), allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def finalized(value: object) -> object:
    """What a template puts in: every text made `visible`, before it is escaped."""
    return type(value)(visible(value)) if isinstance(value, str) else value


def _visible_in(data: Any) -> Any:
    if isinstance(data, str):
        return visible(data)
    if isinstance(data, dict):
        return {key: _visible_in(value) for key, value in data.items()}
    if isinstance(data, list) and any(isinstance(value, str | list | dict) for value in data):
        return [_visible_in(value) for value in data]
    return data
