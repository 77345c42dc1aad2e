"""From a session's verdicts to the runs of an HTML report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geomcheck.errors import RunError
from geomcheck.gate.session import Gate
from geomcheck.record import Record
from geomcheck.report.html import Judged, Reported, judged


def reported(gate: Gate, verdicts: Sequence[Mapping[str, Any]]) -> list[Reported]:
    """Every run of the session with its record and its verdicts, in the order in which they were given."""
    return [_run(gate, name, [v for v in verdicts if v["run"] == name]) for name in gate.subjects]


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
