"""URLs of runs and models: what is one, and which directory on this machine stands for it while it is read."""

from __future__ import annotations

import re

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_CUT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+:)/(?!/)")
_STANDING: dict[str, str] = {}


def is_url(text: object) -> bool:
    """Whether `text` is a URL, of whatever scheme. A letter and a colon are a drive."""
    return isinstance(text, str) and _URL.match(text) is not None


def cut_short(text: object) -> str:
    """What to say of a URL that went through a `Path`, which leaves one slash of two; nothing of other paths."""
    lost = _CUT.match(str(text))
    return f"; if that is a URL, give it as text: {lost[1]}//..." if lost else ""


def stand_for(directory: object, url: str) -> None:
    """Let `directory` stand for `url`, so that messages and outputs name the URL."""
    _STANDING[str(directory)] = url


def named(text: object) -> str:
    """`text` with the URL in place of each directory that stands for one."""
    shown = str(text)
    for directory in sorted(_STANDING, key=len, reverse=True):
        shown = shown.replace(directory, _STANDING[directory])
    return shown
