"""What geomcheck adds to a pytest-html report: a trajectory for each expectation that does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from geomcheck.report.figure import Line, figure
from geomcheck.report.text.screen import elided

GROUPS_DRAWN = 8
LABEL = 20
"""Characters of a group's name beside its line."""


def extras(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The extras of a violated expectation: an inline figure, in the form that ``pytest_html.extras.html`` gives."""
    drawing = trajectory(facts)
    if not drawing:
        return []
    return [{"name": None, "format_type": "html", "content": drawing, "mime_type": None, "extension": None}]


def trajectory(facts: Mapping[str, Any]) -> str:
    """An SVG of what was observed against the allowed band; empty where nothing was.

    Of many groups those are drawn that violate the condition, the first few.
    """
    by_group = {group: list(found) for group, found in groupby(facts["observed"], key=lambda entry: entry["group"])}
    violated = [group for group, found in by_group.items() if any(entry["holds"] is False for entry in found)]
    groups = (violated or list(by_group))[:GROUPS_DRAWN]
    names = elided([group or "run" for group in groups], LABEL)
    points = [
        [(e["step"], e["value"], e["holds"] is False) for e in by_group[g] if e["value"] is not None] for g in groups
    ]
    lines = [Line(name, found) for name, found in zip(names, points, strict=True)]
    bounds = facts["bounds"]
    return figure(
        lines,
        title=f"{facts['metric']}: {facts['condition']}",
        x_label="step",
        unit=" deg" if facts["unit"] == "deg" else "",
        percent=facts["percent"],
        bounds=(bounds["low"], bounds["high"]) if bounds else None,
    )
