"""The files that a session leaves: verdicts, records, the step summary. None replaces what is judged."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from geomcheck.errors import UsageError
from geomcheck.files import replacing, require_writable
from geomcheck.gate.session import Gate
from geomcheck.record import Record, write_record
from geomcheck.report import document
from geomcheck.report.ci import markdown

NAME_LENGTH = 100
"""Characters of a run's name in the name of a file."""


class Outputs:
    """The outputs that the options name.

    Args:
        config: of the session; files that an earlier session left are removed, unless it only collects.
        gate: what is judged.

    Raises:
        UsageError: two outputs are one file, or one lies in a run or W0, is a suite, or cannot be written.
    """

    def __init__(self, config: pytest.Config, gate: Gate) -> None:
        self._gate = gate
        option = config.option
        named = {
            "--geom-json": option.geom_json,
            "--geom-record": option.geom_record,
            "--geom-report": option.geom_report,
        }
        self._paths = {flag: Path(value) for flag, value in named.items() if value is not None}
        self.written: list[tuple[str, Path]] = []
        if len({path.resolve() for path in self._paths.values()}) < len(self._paths):
            raise UsageError(f"{' and '.join(self._paths)} name the same file")
        for flag, path in self._paths.items():
            require_writable(path, inputs=gate.inputs(), option=f"{flag}=")
            if not config.option.collectonly:
                path.unlink(missing_ok=True)  # what an earlier session wrote must not pass for this one's

    def write(self, verdicts: Sequence[Mapping[str, Any]], errors: Sequence[str]) -> None:
        """Write everything.

        Args:
            verdicts: with the run and suite that each belongs to.
            errors: of suites that could not be read.

        Raises:
            UsageError: nothing was measured that a record could hold.
            OSError: a file cannot be written.
        """
        session = self._gate.reported()
        markdown.append_step_summary(verdicts, errors, session.notes(verdicts))
        if "--geom-json" in self._paths:
            path = self._paths["--geom-json"]
            content = document.document(session, verdicts, errors)
            with replacing(path) as partial:
                partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            self.written.append(("verdicts", path))
        if "--geom-report" in self._paths:
            from geomcheck.gate.reported import reported
            from geomcheck.report.html import write_report

            path = self._paths["--geom-report"]
            write_report(path, reported(self._gate, verdicts), errors)
            self.written.append(("report", path))
        if "--geom-record" in self._paths:
            for path, record in self._records():
                write_record(record, path)
                self.written.append(("record", path))

    def _records(self) -> list[tuple[Path, Record]]:
        """One record goes to the path as given; several are told apart by a number and their run's name."""
        path = self._paths["--geom-record"]
        records = [measurement.record for measurement in self._gate.measurements if measurement.record]
        if not records:
            raise UsageError(f"{path}: no run could be measured, so there is no record")
        if len(records) == 1:
            return [(path, records[0])]
        names = [re.sub(r"[^A-Za-z0-9_.-]+", "-", record.run)[:NAME_LENGTH] for record in records]
        return [(path.with_stem(f"{path.stem}-{i}-{names[i - 1]}"), record) for i, record in enumerate(records, 1)]
