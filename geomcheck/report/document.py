"""The verdicts as JSON: stable, versioned, plain types, non-finite numbers as null."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import geomcheck
from geomcheck.record import Record
from geomcheck.report.facts import SessionFacts
from geomcheck.report.session import Reported, Session

FORMAT = 1
OUTCOMES = ("passed", "failed", "error", "warned", "info")


def document(session: Session, verdicts: Sequence[SessionFacts], errors: Sequence[str]) -> dict[str, Any]:
    """What ``--geom-json`` holds; `errors` are those of suites that could not be read."""
    counts = Counter[str](facts["outcome"] for facts in verdicts)
    return {
        "format": FORMAT,
        "geomcheck": geomcheck.__version__,
        "runs": [_run(run, verdicts) for run in session.each_once],
        "errors": list(errors),
        "summary": {outcome: counts[outcome] for outcome in OUTCOMES},
    }


def _run(run: Reported, verdicts: Sequence[SessionFacts]) -> dict[str, Any]:
    suites: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for facts in verdicts:
        if facts["run"] == run.name:
            own = {key: value for key, value in facts.items() if key not in ("run", "suite", "path")}
            suites.setdefault((facts["suite"], facts["path"]), []).append(own)
    judged = [{"name": name, "path": path, "expectations": found} for (name, path), found in suites.items()]
    return _entry(run, judged)


def run_of(record: Record, *, name: str, path: str, suites: list[dict[str, Any]]) -> dict[str, Any]:
    """One entry of ``runs``: what was measured, and the verdicts by suite."""
    return _entry(Reported(name, path, record), suites)


def _entry(run: Reported, suites: list[dict[str, Any]]) -> dict[str, Any]:
    points = run.record.points if run.record else ()
    return {
        "name": run.name,
        "path": run.path,
        "layout": run.record.layout if run.record else None,
        "notes": run.notes,
        "checkpoints": [{"name": p.name, "step": p.step, "progress": p.progress} for p in points],
        "base": {"path": run.origin.path, "how": run.origin.how} if run.origin else None,
        "suites": suites,
    }
