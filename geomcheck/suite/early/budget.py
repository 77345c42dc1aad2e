"""The time that a session has, and how sure it must be of what it decides in it: as users write them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from geomcheck.errors import UsageError
from geomcheck.suite.language.quantities import Refusal, ratio

DEFAULT_CONFIDENCE = "99%"
LEAST = 0.5
"""No verdict is worth less than that of a coin."""

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_FORM = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([smh]?)", re.ASCII)
_WORDS = re.compile(r"([\d.]+)\s*(s|m|h)[a-z]*\.?", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """Seconds that all runs of a session have together, as they were `written`, and the confidence, 0.5 to below 1."""

    seconds: float
    written: str
    confidence: float

    @property
    def sure(self) -> str:
        """The confidence for people."""
        return f"{100 * self.confidence:.10g}%"


def parse_budget(written: str, confidence: str | None, *, option: str, beside: str) -> Budget:
    """A budget such as ``10m``, ``90s``, ``1.5h`` or ``600``, with a confidence such as ``99%``.

    Args:
        option: what stands before the budget where it was written; `beside` before the confidence.

    Raises:
        UsageError: it is no time above 0, or no confidence that a verdict can have.
    """
    form = _FORM.fullmatch(written)
    if form is None:
        meant = _WORDS.fullmatch(written)
        hint = f"; did you mean {option}{meant[1]}{meant[2].lower()}?" if meant else ""
        raise UsageError(f"{option}{written}: give a time such as 10m, 90s, 1.5h, or seconds as a number{hint}")
    seconds = float(form[1]) * _SECONDS[form[2] or "s"]
    if not 0 < seconds < math.inf:
        raise UsageError(f"{option}{written}: nothing can be measured in no time; give more, or leave it out")
    return Budget(seconds, written, _confidence(confidence or DEFAULT_CONFIDENCE, beside))


def _confidence(written: str, option: str) -> float:
    try:
        value = ratio(written)
    except Refusal as refusal:
        raise UsageError(f"{option}{written}: {refusal}") from None
    if 1 < value < 100:
        raise UsageError(f"{option}{written}: did you mean {option}{written}%?")
    if value >= 1:
        raise UsageError(f"{option}{written}: only every weight gives that; leave --geom-budget out, and it is exact")
    if value < LEAST:
        raise UsageError(f"{option}{written}: give {LEAST:.0%} or more, such as 99%, and less than 100%")
    return value
