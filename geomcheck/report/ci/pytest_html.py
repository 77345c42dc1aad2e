"""What geomcheck adds to a pytest-html report: a trajectory for each expectation that does not hold."""

from __future__ import annotations

from typing import Any

from geomcheck.report.charts.numbers import Form
from geomcheck.report.charts.style import ALONE
from geomcheck.report.charts.verdict import trajectory
from geomcheck.report.facts import Judged
from geomcheck.suite.verdict import Facts


def extras(facts: Facts) -> list[dict[str, Any]]:
    """The extras of a violated expectation: an inline figure, in the form that ``pytest_html.extras.html`` gives."""
    if all(entry["value"] is None for entry in facts["observed"]):
        return []
    title = f"{facts['metric']}: {facts['condition']}"
    drawing = trajectory(Judged("", facts), Form.of_facts(facts), title, ALONE)
    return [{"name": None, "format_type": "html", "content": str(drawing), "mime_type": None, "extension": None}]
