"""What verdicts of suites do not say yet of themselves, derived from what they say."""

from __future__ import annotations

from typing import Any

from geomcheck.report.facts import Facts, bounds_of
from geomcheck.suite.conditions.profile import FARTHEST

_TRENDS = {
    "flat": "It should have stayed level over the training, and did not.",
    "rising": "It should have risen over the training, and did not.",
    "falling": "It should have fallen over the training, and did not.",
}


def complete(facts: Facts) -> Facts:
    """`facts` with ``side``, ``meaning`` and ``drawn``, where they lack them."""
    return {"side": _side(facts), "meaning": _meaning(facts), "drawn": _drawn(facts), **facts}


def _side(facts: Facts) -> str | None:
    decisive, bounds = facts["decisive"] or {}, bounds_of(facts)
    value = decisive.get("value")
    if facts["metric"] == "regime":
        return "above"
    if bounds is not None and value is not None:
        return "above" if bounds[1] is not None and value >= bounds[1] else "below"
    if "reference" in decisive:
        return "above" if (value or 0) > (decisive["reference"] or 0) else "below"
    return None


def _meaning(facts: Facts) -> str:
    if facts["condition"].startswith("outside reference"):
        return "The run follows the reference more closely than it should."
    return _TRENDS.get(facts["condition"].split(maxsplit=1)[0].rstrip(":"), "")


def _drawn(facts: Facts) -> dict[str, Any] | None:
    if facts["metric"] == "regime":
        return {"low": None, "high": FARTHEST, "words": f"at most {FARTHEST:g} decades"}
    bounds = facts["bounds"]
    return None if bounds is None else {"low": bounds["low"], "high": bounds["high"], "words": ""}
