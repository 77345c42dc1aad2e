"""Verdicts as a code-quality report of GitLab: violations on the lines of suites, in the widget of a merge request."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from geomcheck.report.ci.places import in_checkout, mistakes
from geomcheck.report.facts import SessionFacts
from geomcheck.report.safe import printable
from geomcheck.report.text.verdicts import brief

_SEVERITIES = {"failed": "critical", "error": "blocker", "warned": "minor"}


def code_quality(verdicts: Sequence[SessionFacts], errors: Sequence[str]) -> list[dict[str, Any]]:
    """An entry for each expectation that is violated or could not be judged, and for each mistake in a suite.

    The fingerprint is that of run, suite and expectation: GitLab tells by it what a merge request brings or mends.
    """
    entries = [*_of_errors(errors)]
    for facts in verdicts:
        if severity := _SEVERITIES.get(facts["outcome"]):
            place, name = facts["position"], f"{facts['run']}: {facts['id']}"
            known_by = facts["run"], _in_project(facts["path"]), facts["id"]
            entries.append(_entry(f"{name}: {brief(facts)}", facts["metric"], severity, place, known_by))
    return entries


def _of_errors(errors: Sequence[str]) -> Iterator[dict[str, Any]]:
    for mistake in mistakes(errors):
        known_by = _in_project(mistake.path), mistake.message
        place = {"path": mistake.path, "line": mistake.line}
        yield _entry(f"invalid suite: {mistake.message}", "suite", "blocker", place, known_by)


def _entry(text: str, check: str, severity: str, place: dict[str, Any], known_by: Sequence[str]) -> dict[str, Any]:
    return {
        "description": printable(text).replace("\n", " "),
        "check_name": f"geomcheck/{check}",
        "fingerprint": hashlib.sha256("\0".join(known_by).encode()).hexdigest(),
        "severity": severity,
        "location": {"path": _in_project(place["path"]), "lines": {"begin": place["line"]}},
    }


def _in_project(path: str) -> str:
    """`path` relative to the checkout, without ``./``; of a file outside, such as a shipped suite, its name."""
    return in_checkout(path, "CI_PROJECT_DIR") or Path(path).resolve().name
