"""``geomcheck report``: a page from records or runs, judged by suites where they are named."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geomcheck.api import How, measure
from geomcheck.cli.means import Means
from geomcheck.cli.options import MEASURING, add_command
from geomcheck.files import require_writable
from geomcheck.gate.subjects import GivenRun, open_subject, open_subjects
from geomcheck.record import Record
from geomcheck.report.facts import judged
from geomcheck.report.session import Reported
from geomcheck.suite import Suite


def add_to(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    about = "write an HTML report of records or runs; several are compared"
    options, runs = ("suite", "reference", *MEASURING), "record file, or directory of checkpoints"
    add_command(commands, "report", run, about, *options, runs=runs, output="page to write (HTML)")


def run(options: argparse.Namespace) -> None:
    """Write the page of one run, or the comparison of several. Raises GeomcheckError."""
    from geomcheck.report.html import drawn, write_report  # with jinja2

    output, means = Path(options.output), Means(options, options.runs)
    loaded, incomplete = means.suites, means.values.incomplete
    subjects = open_subjects(options.runs, incomplete=incomplete)
    other = open_subject(options.reference, incomplete=incomplete) if options.reference else None
    own = [subject.run.own_base.source.path for subject in subjects if subject.run and subject.run.own_base]
    require_writable(output, inputs=means.inputs(*own))

    def measured(subject: GivenRun, against: GivenRun | None, how: How) -> Record:
        if subject.record is not None:
            return subject.record
        return measure(
            subject.run or subject.path,
            base=means.base,
            metrics=[metric.name for metric in drawn()],
            suites=loaded,
            reference=against.run if against else None,
            **how,
        )

    with means.measuring() as how:
        theirs = measured(other, None, how) if other else None
        runs = [_reported(subject, measured(subject, other, how), loaded, theirs) for subject in subjects]
    write_report(output, runs)
    print(output)


def _reported(subject: GivenRun, record: Record, suites: Sequence[Suite], reference: Record | None) -> Reported:
    verdicts = [
        judged(suite.name, verdict.to_dict(), expectation, record, reference)
        for suite in suites
        for expectation, verdict in zip(suite.expectations, suite.evaluate(record, reference), strict=True)
    ]
    return Reported(name=subject.name, path=subject.path, record=record, judged=verdicts)
