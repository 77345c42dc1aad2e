"""How workers of pytest-xdist get at what the controller measured: a private directory of record files.

The controller writes the plan (which suites judge which runs) before workers collect, and the records before
it hands out the first test, so workers never wait and never measure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from geomcheck.errors import NoBaseline, RunError, UsageError
from geomcheck.files import replacing, working_in
from geomcheck.gate.candidates import Collection
from geomcheck.gate.session import Gate, Measurement
from geomcheck.record import Record, read_record, write_record
from geomcheck.suite import Suite, load_suite
from geomcheck.suite.early import Decision

_PLAN = "plan.json"
_RECORDS = "records.json"
_COLLECTED = "collected.json"


class Exchange:
    """The worker's side of the directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._loaded: dict[str, Record] = {}

    @staticmethod
    def announce(directory: Path, gate: Gate, config: pytest.Config) -> None:
        """Controller: say which suites judge which runs, what to collect, and in which directory pytest was invoked."""
        suites = {str(file): gate.collection_of(file) for file in gate.pairings}
        plan = {"suites": suites, "arguments": config.args, "invoked": str(config.invocation_params.dir)}
        (directory / _PLAN).write_text(json.dumps(plan))

    @staticmethod
    def publish(directory: Path, gate: Gate) -> None:
        """Controller: lay out the records, and the errors of runs that have none."""
        places = {id(m): _lay_out(m, directory, f"{index}.parquet") for index, m in enumerate(gate.measurements)}
        records = {
            str(file): {run: places[id(gate.measurement(pairing, run))] for run in pairing.runs}
            for file, pairing in gate.pairings.items()
        }
        reference = {"missing": gate.missing_baseline} if gate.missing_baseline else None
        if gate.reference:
            reference = _lay_out(gate.reference, directory, "reference.parquet")
        decisions = [[*key, decision.to_dict()] for key, decision in gate.decisions.items()]
        told = {"records": records, "reference": reference, "decisions": decisions}
        (directory / _RECORDS).write_text(json.dumps(told))

    @property
    def arguments(self) -> list[str]:
        """Worker: what to collect."""
        arguments: list[str] = self._plan["arguments"]
        return arguments

    def note_collected(self, files: Iterable[Path]) -> None:
        """Worker: say which files were collected, each worker the same."""
        with replacing(self.directory / _COLLECTED) as partial:
            partial.write_text(json.dumps([str(file) for file in files]))

    @property
    def collected(self) -> set[Path]:
        """Controller: the files that workers have collected."""
        return {Path(file) for file in json.loads((self.directory / _COLLECTED).read_text())}

    def collection_of(self, file: Path) -> Collection | None:
        """How a suite file is collected; None for a file that is no suite of this session."""
        planned = self._plan["suites"].get(str(file.resolve()))
        return planned and Collection(*planned)

    def suite_of(self, file: Path) -> Suite:
        """The suite of a file. Raises SuiteError."""
        with working_in(self._plan["invoked"]):
            return load_suite(file)

    def record_of(self, file: Path, run: str) -> Record:
        """The record of a run, for a suite. Raises RunError."""
        return self._load(self._records["records"][str(file.resolve())][run])

    def decision_of(self, file: Path, run: str, expectation: str) -> Decision | None:
        """What an expectation of a suite on a run was decided by, where that was not every weight."""
        found = self._decisions.get((run, self.suite_of(file).path, expectation))
        return None if found is None else Decision.of(found)

    def reference_record(self) -> Record | None:
        """The record of the reference run, if there is one. Raises RunError, NoBaseline."""
        place = self._records["reference"]
        if place and "missing" in place:
            raise NoBaseline(place["missing"])
        return self._load(place) if place else None

    def first_record(self) -> Record:
        """The record of the session's first run."""
        if not (self.directory / "0.parquet").exists():
            raise UsageError("geom_record: under pytest-xdist a suite must judge the run; name one with --geom-suite")
        return self._load({"file": "0.parquet"})

    @cached_property
    def _plan(self) -> dict[str, Any]:
        return json.loads((self.directory / _PLAN).read_text())

    @cached_property
    def _records(self) -> dict[str, Any]:
        return json.loads((self.directory / _RECORDS).read_text())

    @cached_property
    def _decisions(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        return {(run, suite, own): told for run, suite, own, told in self._records["decisions"]}

    def _load(self, place: dict[str, str]) -> Record:
        if "error" in place:
            raise RunError(place["error"])
        name = place["file"]
        if name not in self._loaded:
            self._loaded[name] = read_record(self.directory / name)
        return self._loaded[name]


def _lay_out(measurement: Measurement, directory: Path, name: str) -> dict[str, str]:
    """Write the record to the file `name`; returns where it is, or why there is none."""
    try:
        write_record(measurement.result(), directory / name)
    except RunError as error:
        return {"error": str(error)}
    return {"file": name}
