"""The files that a session leaves. None replaces what is judged, and one that fails loses no other."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

from geomcheck.errors import GeomcheckError, UsageError
from geomcheck.files import replacing, require_writable
from geomcheck.gate.session import Gate
from geomcheck.options import OPTIONS
from geomcheck.record import Record, read_record, write_record
from geomcheck.report import document
from geomcheck.report.ci import markdown
from geomcheck.report.ci.gitlab import code_quality
from geomcheck.report.facts import Judged, SessionFacts, judged
from geomcheck.suite import judge

FLAGS = {"xmlpath": "--junitxml", "htmlpath": "--html", "log_file": "--log-file", "report_log": "--report-log"}
"""How options of other plugins are written, by their names in pytest's namespace; others are told by that name."""

NAME_LENGTH = 100
"""Characters of a run's name in the name of a file."""


@dataclass(frozen=True)
class Found:
    """What a session has found, for whoever writes it down.

    Attributes:
        errors: those of suites that could not be read.
        previous: an earlier record, whose figures are shown beside.
    """

    gate: Gate
    verdicts: Sequence[SessionFacts]
    errors: Sequence[str]
    previous: Record | None = None

    @cached_property
    def page(self) -> dict[str, Any]:
        """The arguments of `markdown.page`."""
        session = self.gate.reported()
        notes = [*session.omissions, *session.notes(self.verdicts)]
        shown = {"verdicts": self.verdicts, "errors": self.errors, "notes": notes, "diagnoses": session.diagnoses}
        return {**shown, "before": None if self.previous is None else dict(self._before(self.previous))}

    def _before(self, previous: Record) -> Iterator[tuple[tuple[str, str, str], float]]:
        """The figure of each expectation in the earlier record, at the checkpoint and of the group that decide now."""
        reference = self.gate.reference.record if self.gate.reference else None
        decisive = {(facts["run"], facts["path"], facts["id"]): facts["decisive"] for facts in self.verdicts}
        for demand in self.gate.demands:
            now = decisive.get(demand.key)
            for then in judge(demand.expectation, previous, reference).observed if now else ():
                if now and (then.step, then.group) == (now["step"], now["group"]):
                    yield demand.key, then.value


class Outputs:
    """The outputs that the options name; files that an earlier session left are removed, unless it only collects.

    Raises:
        UsageError: two outputs are one file, or one lies in a run or W0, is a suite, or cannot be written.
    """

    def __init__(self, config: pytest.Config, gate: Gate) -> None:
        given = {declared: getattr(config.option, declared.key) for declared in OPTIONS if declared.output}
        for flag, path in ((declared.flagged, path) for declared, path in given.items() if path is not None):
            if path.endswith(os.sep):
                raise UsageError(f"{flag}={path} is a directory; name a file in it")
        named = {declared.flagged: Path(path) for declared, path in given.items() if path is not None}
        self._places = [(one.output, named[one.flagged]) for one in given if one.output and one.flagged in named]
        self._previous = None if config.option.collectonly else _previous(config.option.geom_previous, gate)
        self.written: list[tuple[str, Path]] = []
        _require_different(config, named)
        for flag, path in named.items():
            require_writable(path, inputs=gate.inputs(), option=f"{flag}=")
            if not config.option.collectonly:
                path.unlink(missing_ok=True)  # what an earlier session wrote must not pass for this one's
        if (record := named.get("--geom-record")) and not config.option.collectonly:
            for place in _record_places(record, gate):
                require_writable(place, inputs=gate.inputs(), option="--geom-record: ")
                place.unlink(missing_ok=True)

    def write(self, found: Found) -> list[str]:
        """Write everything, each by itself; returns what went wrong. A summary that fails is a notice of the gate."""
        found = replace(found, previous=self._previous)
        try:
            if markdown.step_summary():
                markdown.append_step_summary(**found.page)
        except OSError as error:
            found.gate.notices.append(f"no summary is written for the step: {error}")
        lost = []
        for output, path in self._places:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                paths: Iterable[Path] = resolve_name(output.write)(path, found) or [path]
                self.written += [(output.label, place) for place in paths]
            except (GeomcheckError, OSError) as error:
                lost.append(str(error))
        return lost


def _require_different(config: pytest.Config, ours: Mapping[str, Path]) -> None:
    """Refuse one file for two outputs, of ours or of other plugins, which would replace each other.

    What other plugins write is not known, so no value of theirs may be one of our paths.
    """
    keys = {declared.key for declared in OPTIONS}
    theirs = {key: value for key, value in vars(config.option).items() if key not in keys and isinstance(value, str)}
    named = [*ours.items(), *((key, Path(os.path.expanduser(value))) for key, value in theirs.items() if value)]
    flags: dict[str, list[str]] = {}
    for flag, path in named:
        flags.setdefault(os.path.realpath(path), []).append(FLAGS.get(flag, flag))
    for several in (found for found in flags.values() if len(found) > 1 and not ours.keys().isdisjoint(found)):
        raise UsageError(f"{' and '.join(several)} name the same file")


def write_document(path: Path, found: Found) -> None:
    """Write the verdicts as JSON."""
    content = document.document(found.gate.reported(), found.verdicts, found.errors)
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_page(path: Path, found: Found) -> None:
    """Write the page of every run of the session with its record and its verdicts, in the order of the command line."""
    from geomcheck.report.html import write_report  # most sessions write none

    gate = found.gate
    reference = gate.reference.record if gate.reference else None
    demands = {demand.key: demand for demand in gate.demands}

    def looked_at(verdict: SessionFacts) -> Judged:
        demand = demands[verdict["run"], verdict["path"], verdict["id"]]
        record = gate.measurement(demand.pairing, demand.run).record
        if record is None:
            return Judged(verdict["suite"], verdict)
        decision = gate.decisions.get(demand.key)
        expectation = decision.narrowed(demand.expectation) if decision else demand.expectation
        return judged(verdict["suite"], verdict, expectation, record, reference)

    runs = gate.reported().each_once
    of_run = {run.name: [looked_at(facts) for facts in found.verdicts if facts["run"] == run.name] for run in runs}
    write_report(path, [replace(run, judged=of_run[run.name]) for run in runs], found.errors)


def write_markdown(path: Path, found: Found) -> None:
    """Write what a comment on a pull request has."""
    with replacing(path) as partial:
        partial.write_text(markdown.page(**found.page), encoding="utf-8")


def write_code_quality(path: Path, found: Found) -> None:
    """Write what is violated for GitLab."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(code_quality(found.verdicts, found.errors), indent=1) + "\n", encoding="utf-8")


def _previous(path: str | None, gate: Gate) -> Record | None:
    """The earlier record, read before an output may replace it; where there is none, the gate has a notice."""
    try:
        return None if path is None else read_record(path)
    except GeomcheckError as error:
        gate.notices.append(f"no earlier figures: {error}")
        return None


def write_records(path: Path, found: Found) -> list[Path]:
    """Write one record to `path`, or several by number and run beside it. Raises UsageError where there is none."""
    places = zip(found.gate.measurements, _record_places(path, found.gate), strict=True)
    records = {place: measurement.record for measurement, place in places if measurement.record}
    if not records:
        raise UsageError(f"{path}: no run could be measured, so there is no record")
    for place in records:
        require_writable(place, inputs=found.gate.inputs(), option="--geom-record: ")
    for place, record in records.items():
        write_record(record, place)
    return list(records)


def _record_places(path: Path, gate: Gate) -> list[Path]:
    """Where the record of each measurement goes, whether or not the others, or it, can be measured."""
    if len(gate.measurements) < 2:
        return [path] * len(gate.measurements)
    names = [re.sub(r"[^A-Za-z0-9_.-]+", "-", m.subject.own_name)[:NAME_LENGTH] for m in gate.measurements]
    return [path.with_stem(f"{path.stem}-{i}-{name}") for i, name in enumerate(names, 1)]
