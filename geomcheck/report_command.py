"""``geomcheck report``: a page from records or runs, judged by suites where they are named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from geomcheck.api import measure
from geomcheck.files import require_writable
from geomcheck.gate.subjects import Subject, open_subject, open_subjects
from geomcheck.measurement import Record
from geomcheck.report.html import MEASURED, Reported, judged, write_report
from geomcheck.suite import Suite, load_suite


def report(
    paths: Sequence[str],
    output: Path,
    suites: Sequence[str],
    *,
    base: str | None = None,
    reference: str | None = None,
    workers: int | None = None,
) -> None:
    """Write the page of one run, or the comparison of several.

    Args:
        paths: record files, or directories of checkpoints, which are measured.
        suites: names or paths; without any, figures only.
        base: W0 of directories.
        reference: record or run that ``like: reference`` compares with.
        workers: local workers for measuring.

    Raises:
        UsageError: no such run or suite, or the page would replace what is read.
        RunError: a run cannot be measured.
    """
    loaded = [load_suite(source) for source in suites]
    subjects = open_subjects(paths)
    other = open_subject(reference) if reference else None
    require_writable(output, inputs=_inputs([*subjects, *([other] if other else [])], base, loaded))

    def measured(subject: Subject, against: Subject | None) -> Record:
        if subject.record is not None:
            return subject.record
        return measure(
            subject.run or subject.path,
            base=base,
            metrics=MEASURED,
            suites=loaded,
            reference=against.run if against else None,
            workers=workers,
        )

    theirs = measured(other, None) if other else None
    runs = [_reported(subject, measured(subject, other), loaded, theirs) for subject in subjects]
    write_report(output, runs)


def _reported(subject: Subject, record: Record, suites: Sequence[Suite], reference: Record | None) -> Reported:
    verdicts = [
        judged(suite.name, verdict.to_dict(), expectation, record, reference)
        for suite in suites
        for expectation, verdict in zip(suite.expectations, suite.evaluate(record, reference), strict=True)
    ]
    return Reported(
        name=subject.name,
        path=subject.path,
        record=record,
        base=f"{record.origin.path} ({record.origin.how})",
        judged=verdicts,
        notes=subject.run.notes if subject.run else (),
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
