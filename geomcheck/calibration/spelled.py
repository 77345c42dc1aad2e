"""How a suite's text spells the rule from spreads to bands, so that more runs can be added by the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, is_dataclass

from geomcheck.calibration.moderated import Moderated
from geomcheck.calibration.rules import BandRule, Range, Student
from geomcheck.errors import UsageError
from geomcheck.suite.language.quantities import Refusal, ratio

MOST = {"range": 10.0}
"""The largest figure of a rule; of the others half of all runs."""

RULES: dict[str, Callable[[float], BandRule]] = {"moderated": Moderated, "student": Student, "range": Range}


def rule_text(rule: BandRule) -> str:
    """``moderated 5%``; empty of a rule of another package."""
    name = next((name for name, kind in RULES.items() if type(rule) is kind), "")
    if not name or not is_dataclass(rule):
        return ""
    given = astuple(rule)[0]
    return f"{name} {given * 100:.6g}%"


def rule_of(text: str) -> BandRule:
    """The rule that `rule_text` spelled. Raises UsageError."""
    name, _, given = text.partition(" ")
    try:
        figure = ratio(given)
        if not 0 < figure <= MOST.get(name, 0.5):
            raise Refusal(f"{given} is out of range")
        return RULES[name](figure)
    except (KeyError, Refusal):
        raise UsageError(
            f"`rule: {text}` under `calibrated` is none that this geomcheck knows ({', '.join(RULES)}); calibrate again"
        ) from None
