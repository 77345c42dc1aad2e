"""The verdicts as JSON: stable, versioned, plain types, non-finite numbers as null."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from geomcheck._version import VERSION
from geomcheck.report.facts import SessionFacts, grouped
from geomcheck.report.session import Reported, Session

FORMAT = 1
OUTCOMES = ("passed", "failed", "error", "warned", "info")


def document(session: Session, verdicts: Sequence[SessionFacts], errors: Sequence[str]) -> dict[str, Any]:
    """What ``--geom-json`` holds; `errors` are those of suites that could not be read."""
    runs = [run_of(run, _suites(run.name, verdicts)) for run in session.each_once]
    return enclosed(runs, (facts["outcome"] for facts in verdicts), errors)


def enclosed(runs: list[dict[str, Any]], outcomes: Iterable[str], errors: Sequence[str] = ()) -> dict[str, Any]:
    """The document around `runs`, each as `run_of` gives it; `outcomes` are those of all verdicts."""
    counts = Counter(outcomes)
    return {
        "format": FORMAT,
        "geomcheck": VERSION,
        "runs": runs,
        "errors": list(errors),
        "summary": {outcome: counts[outcome] for outcome in OUTCOMES},
    }


def _suites(run: str, verdicts: Sequence[SessionFacts]) -> list[Mapping[str, Any]]:
    suites = grouped(((facts["suite"], facts["path"]), _own(facts)) for facts in verdicts if facts["run"] == run)
    return [{"name": name, "path": path, "expectations": found} for (name, path), found in suites.items()]


def _own(facts: SessionFacts) -> dict[str, Any]:
    return {key: value for key, value in facts.items() if key not in ("run", "suite", "path")}


def run_of(run: Reported, suites: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One entry of ``runs``: what was measured, the verdicts by suite, and which checkpoints have a figure in one."""
    points = run.record.points if run.record else ()
    problem = run.diagnosis.problem if run.diagnosis else ""
    judged = {entry["step"] for suite in suites for own in suite["expectations"] for entry in own.get("observed", ())}
    return {
        "name": run.name,
        "path": run.path,
        "layout": run.record.layout if run.record else None,
        "notes": [*run.notes, *([f"no diagnosis: {problem}"] if problem else [])],
        "checkpoints": [
            {"name": p.name, "step": p.step, "progress": p.progress, "judged": p.step in judged} for p in points
        ],
        "base": {"path": run.origin.path, "how": run.origin.how} if run.origin else None,
        "suites": suites,
        "findings": None if run.diagnosis is None else [found.to_dict() for found in run.diagnosis.found],
    }
