"""Reading the values of options that several commands share."""

from __future__ import annotations

import re

from geomcheck.errors import UsageError
from geomcheck.suite.language.places import Place, parse_place
from geomcheck.suite.language.quantities import Refusal, ratio
from geomcheck.suite.language.selection import Selection, parse_selection

_SLUG = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def share(option: str, text: str, *, high: float) -> float:
    """A share above 0 and at most `high`. Raises UsageError."""
    try:
        value = ratio(text)
    except Refusal as refusal:
        raise UsageError(f"{option}: {refusal}") from None
    if not 0 < value <= high:
        raise UsageError(f"{option}={text}: give more than 0% and at most {high:.0%}")
    return value


def place(text: str) -> Place:
    """A checkpoint: ``first``, ``last``, a step, or a progress such as ``20%``. Raises UsageError."""
    try:
        if text.isdecimal():
            return parse_place({"step": int(text)})
        return parse_place({"progress": text} if text.endswith("%") else text, allowed="first, last, a step or 20%")
    except (Refusal, ValueError) as error:
        raise UsageError(f"--at={text}: {error}") from None


def selection(text: str) -> Selection:
    """A role of weights. Raises UsageError."""
    try:
        return parse_selection(text)
    except Refusal as refusal:
        raise UsageError(f"--weights: {refusal}") from None


def slug(option: str, text: str) -> str:
    """A name as suites allow it. Raises UsageError."""
    if not _SLUG.fullmatch(text):
        raise UsageError(f"{option}: {text!r} is not a slug: lower-case letters, digits, `_`, `.` and `-`")
    return text
