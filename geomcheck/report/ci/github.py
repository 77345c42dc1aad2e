"""Verdicts as annotations of GitHub Actions: lines of output that GitHub shows beside the lines of a suite."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from geomcheck._text import plural
from geomcheck.report.causes import Causes
from geomcheck.report.ci.places import in_checkout, mistakes
from geomcheck.report.facts import SessionFacts
from geomcheck.report.findings import MOST, Diagnosis
from geomcheck.report.safe import printable

ANNOTATING_PLUGIN = "pytest_github_actions_annotate_failures"
"""A pytest plugin that annotates every failed test, ours too."""

_COMMANDS = {"failed": "error", "error": "error", "warned": "warning"}


def wanted() -> bool:
    """Whether this session is a step of GitHub Actions."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def of_verdicts(verdicts: Sequence[SessionFacts]) -> Iterator[str]:
    """One annotation for each expectation that is violated or could not be judged, on its line of the suite.

    What one cause stops has one in common, on the line of the first.
    """
    causes = Causes.of(verdicts)
    for cause in causes:
        position, count = cause.stopped[0]["position"], plural(len(cause.stopped), "expectation")
        message = f"{cause.text}\n\nIt stops {cause.places}"
        yield _command("error", position["path"], position["line"], f"{cause.run}: {count} not judged", message)
    for verdict in verdicts:
        if causes.stopping(verdict["run"], verdict):
            continue
        if command := _COMMANDS.get(verdict["outcome"]):
            position = verdict["position"]
            message = "\n\n".join(part for part in (verdict["message"], verdict["why"]) if part)
            yield _command(command, position["path"], position["line"], f"{verdict['run']}: {verdict['id']}", message)


def of_findings(diagnoses: Iterable[Diagnosis]) -> Iterator[str]:
    """One annotation for each finding that explains a verdict, on the line of the first: facts as errors, what is only
    likely as warnings."""
    for one in (one for diagnosis in diagnoses for one in diagnosis.explaining[:MOST]):
        position, finding = one.verdicts[0]["position"], one.finding
        parts = {
            "evidence": "; ".join(finding.evidence),
            "likely": "; or ".join(finding.causes),
            "next": finding.next_step,
            "explains": ", ".join(one.ids),
        }
        message = "\n".join([one.headline, *(f"{name}: {text}" for name, text in parts.items() if text)])
        command = "error" if finding.grade == "fact" else "warning"
        yield _command(command, position["path"], position["line"], f"{one.run}: {finding.kind}", message)


def of_errors(errors: Sequence[str]) -> Iterator[str]:
    """One annotation for each mistake in a suite; other errors of a collection are not ours to place."""
    for mistake in mistakes(errors):
        yield _command("error", mistake.path, mistake.line, "invalid suite", mistake.message)


def _command(command: str, path: str, line: int, title: str, message: str) -> str:
    place = in_checkout(path, "GITHUB_WORKSPACE")
    properties = {"file": place, "line": str(line)} if place else {}
    properties["title"] = f"geomcheck: {title}"
    joined = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{command} {joined}::{_data(printable(message))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(printable(text)).replace(":", "%3A").replace(",", "%2C")
