"""The verdicts as JSON: stable, versioned, plain types, non-finite numbers as null."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import geomcheck

if TYPE_CHECKING:
    from geomcheck.gate.session import Gate

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
    return {
        "name": name,
        "path": subject.path,
        "layout": record.layout if record else None,
        "notes": list(record.notes if record else subject.run.notes if subject.run else ()),
        "checkpoints": [
            {"name": point.name, "step": point.step, "progress": point.progress}
            for point in (record.points if record else ())
        ],
        "base": (
            {"path": record.origin.path, "how": record.origin.how}
            if record
            else {"path": str(base.source.path), "how": base.how}
            if base
            else None
        ),
        "suites": [
            {"name": suite, "path": path, "expectations": expectations}
            for (suite, path), expectations in suites.items()
        ],
    }
