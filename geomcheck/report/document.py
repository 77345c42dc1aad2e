"""The verdicts as JSON: stable, versioned, plain types, non-finite numbers as null."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import geomcheck

if TYPE_CHECKING:
    from geomcheck.gate.session import Gate
    from geomcheck.record import Record

FORMAT = 1
OUTCOMES = ("passed", "failed", "error", "warned", "info")


def document(gate: Gate, verdicts: Sequence[Mapping[str, Any]], errors: Sequence[str]) -> dict[str, Any]:
    """What ``--geom-json`` holds; `errors` are those of suites that could not be read."""
    counts = Counter(verdict["outcome"] for verdict in verdicts)
    return {
        "format": FORMAT,
        "geomcheck": geomcheck.__version__,
        "runs": [_run(gate, name, verdicts) for name in gate.subjects],
        "errors": list(errors),
        "summary": {outcome: counts[outcome] for outcome in OUTCOMES},
    }


def _run(gate: Gate, name: str, verdicts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    subject = gate.subjects[name]
    measurement = next((m for m in gate.measurements if m.subject.name == name), None)
    record = measurement.record if measurement else None
    base = measurement.base if measurement else None
    suites: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for verdict in verdicts:
        if verdict["run"] == name:
            own = {key: value for key, value in verdict.items() if key not in ("run", "suite", "path")}
            suites.setdefault((verdict["suite"], verdict["path"]), []).append(own)
    judged = [
        {"name": suite, "path": path, "expectations": expectations} for (suite, path), expectations in suites.items()
    ]
    if record is not None:
        return run_of(record, name=name, path=subject.path, suites=judged)
    return {
        "name": name,
        "path": subject.path,
        "layout": None,
        "notes": list(subject.run.notes if subject.run else ()),
        "checkpoints": [],
        "base": {"path": str(base.source.path), "how": base.how} if base else None,
        "suites": judged,
    }


def run_of(record: Record, *, name: str, path: str, suites: list[dict[str, Any]]) -> dict[str, Any]:
    """One entry of ``runs``: what was measured, and the verdicts by suite."""
    return {
        "name": name,
        "path": path,
        "layout": record.layout,
        "notes": list(record.notes),
        "checkpoints": [{"name": p.name, "step": p.step, "progress": p.progress} for p in record.points],
        "base": {"path": record.origin.path, "how": record.origin.how},
        "suites": suites,
    }
