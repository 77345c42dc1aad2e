"""Verdicts as a code-quality report of GitLab: violations on the lines of suites, in the widget of a merge request."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from geomcheck.report.facts import SessionFacts
from geomcheck.report.safe import printable
from geomcheck.report.text.verdicts import brief

_SEVERITIES = {"failed": "critical", "error": "blocker", "warned": "minor"}
_PROBLEM = re.compile(r"(?P<path>.+?):(?P<line>\d+):\d+: (?P<message>.+)")


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
    for error in errors:
        for found in filter(None, map(_PROBLEM.fullmatch, error.splitlines())):
            place = {"path": found["path"], "line": int(found["line"])}
            known_by = _in_project(found["path"]), found["message"]
            yield _entry(f"invalid suite: {found['message']}", "suite", "blocker", place, known_by)


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
    project = Path(os.environ.get("CI_PROJECT_DIR") or ".").resolve()
    absolute = Path(path).resolve()
    return absolute.relative_to(project).as_posix() if absolute.is_relative_to(project) else absolute.name
