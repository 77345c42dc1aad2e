"""``geomcheck report``: a page from records or runs, judged by suites where they are named."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomcheck.files import require_writable

if TYPE_CHECKING:
    from geomcheck.gate.subjects import Subject
    from geomcheck.record import Record
    from geomcheck.report.html import Reported
    from geomcheck.suite import Suite


def add_to(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    parser = commands.add_parser("report", help="write an HTML report of records or runs; several are compared")
    parser.add_argument("runs", nargs="+", metavar="RECORD", help="record file, or directory of checkpoints")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="page to write (HTML)")
    parser.add_argument("--base", metavar="PATH", help="where W0 comes from, for directories")
    parser.add_argument("--suite", action="append", default=[], metavar="NAME-OR-PATH", help="judge by this suite")
    parser.add_argument("--reference", metavar="RECORD", help="record that `like: reference` compares with")
    parser.add_argument("--workers", metavar="N|ray", help="local workers, or your Ray cluster")
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    """Write the page of one run, or the comparison of several. Raises GeomcheckError."""
    from geomcheck.api import measure
    from geomcheck.gate.subjects import open_subject, open_subjects
    from geomcheck.report.html import drawn, write_report
    from geomcheck.suite import load_suite

    output, base = Path(options.output), options.base
    loaded = [load_suite(source) for source in options.suite]
    subjects = open_subjects(options.runs)
    other = open_subject(options.reference) if options.reference else None
    require_writable(output, inputs=_inputs([*subjects, *([other] if other else [])], base, loaded))

    def measured(subject: Subject, against: Subject | None) -> Record:
        if subject.record is not None:
            return subject.record
        return measure(
            subject.run or subject.path,
            base=base,
            metrics=[metric.name for metric in drawn()],
            suites=loaded,
            reference=against.run if against else None,
            workers=options.workers,
        )

    theirs = measured(other, None) if other else None
    runs = [_reported(subject, measured(subject, other), loaded, theirs) for subject in subjects]
    write_report(output, runs)
    print(output)


def _reported(subject: Subject, record: Record, suites: Sequence[Suite], reference: Record | None) -> Reported:
    from geomcheck.report.html import Reported, judged

    verdicts = [
        judged(suite.name, verdict.to_dict(), expectation, record, reference)
        for suite in suites
        for expectation, verdict in zip(suite.expectations, suite.evaluate(record, reference), strict=True)
    ]
    return Reported(
        name=subject.name,
        path=subject.path,
        record=record,
        judged=verdicts,
    )


def _inputs(subjects: Sequence[Subject], base: str | None, suites: Sequence[Suite]) -> Iterator[tuple[str, Path]]:
    """Every file and directory that is read, with what it is."""
    for subject in subjects:
        yield f"the run {subject.path}", Path(subject.path)
        if subject.run is not None and subject.run.own_base is not None:
            yield f"W0 of {subject.path}", subject.run.own_base.source.path
    for place in {base, *(suite.base for suite in suites)} - {None}:
        yield f"W0 {place}", Path(str(place))
    for suite in suites:
        yield f"the suite {suite.file}", suite.file
