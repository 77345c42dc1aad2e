"""From what a session found to its HTML report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from geomcheck.errors import RunError
from geomcheck.gate.outputs import Found
from geomcheck.gate.session import Gate
from geomcheck.record import Record
from geomcheck.report.facts import SessionFacts
from geomcheck.report.html import Judged, Reported, judged, write_report


def write_page(path: Path, found: Found) -> None:
    """Write the page of every run of the session with its record and its verdicts, in the order of the command line."""
    write_report(path, reported(found.gate, found.verdicts), found.errors)


def reported(gate: Gate, verdicts: Sequence[SessionFacts]) -> list[Reported]:
    """Every run of the session with its record and its verdicts, in the order in which they were given."""
    return [
        replace(run, judged=[_judged(gate, run.name, facts) for facts in verdicts if facts["run"] == run.name])
        for run in gate.reported().each_once
    ]


def _judged(gate: Gate, run: str, verdict: SessionFacts) -> Judged:
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
