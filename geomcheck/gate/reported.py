"""From what a session found to its HTML report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from geomcheck.errors import RunError
from geomcheck.gate.outputs import Found
from geomcheck.gate.session import Gate
from geomcheck.record import Record
from geomcheck.report.html import Judged, Reported, judged, write_report


def write_page(path: Path, found: Found) -> None:
    """Write the page of every run of the session with its record and its verdicts, in the order of the command line."""
    gate = found.gate
    runs = [_run(gate, name, [v for v in found.verdicts if v["run"] == name]) for name in gate.subjects]
    write_report(path, runs, found.errors)


def _run(gate: Gate, name: str, verdicts: Sequence[Mapping[str, Any]]) -> Reported:
    subject = gate.subjects[name]
    measurement = next((m for m in gate.measurements if m.subject.name == name), None)
    record = measurement.record if measurement and measurement.done else None
    return Reported(
        name=name,
        path=subject.path,
        record=record,
        base=f"{record.origin.path} ({record.origin.how})" if record else "",
        judged=[_judged(gate, name, verdict) for verdict in verdicts],
        notes=subject.run.notes if subject.run else (),
        problem=str(measurement.error) if measurement and measurement.error else "",
    )


def _judged(gate: Gate, run: str, verdict: Mapping[str, Any]) -> Judged:
    """The verdict with its whole trajectory, from the record that its suite was judged on."""
    pairing = next(p for p in gate.pairings.values() if p.suite and p.suite.path == verdict["path"])
    assert pairing.suite is not None
    record = gate.measurement(pairing, run).record
    expectation = next(e for e in pairing.suite.expectations if e.id == verdict["id"])
    if record is None:
        return Judged(verdict["suite"], verdict)
    return judged(verdict["suite"], verdict, expectation, record, _reference(gate))


def _reference(gate: Gate) -> Record | None:
    try:
        return gate.reference.result() if gate.reference else None
    except RunError:
        return None
