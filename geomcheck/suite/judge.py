"""The judgement of a record by an expectation: the condition finds, and what it finds becomes a verdict."""

from __future__ import annotations

from dataclasses import replace

from geomcheck.diagnostics.declaration import NO_REFERENCE
from geomcheck.errors import RecordError
from geomcheck.record import Record
from geomcheck.suite.coverage import ACCEPT, Missing, coverage
from geomcheck.suite.expectation import Expectation, Finding
from geomcheck.suite.sampling import counts
from geomcheck.suite.verdict import Counts, Outcome, Unanswerable, Verdict

UNKNOWN = Counts()

VIOLATED: dict[str, Outcome] = {"error": "failed", "warn": "warned", "info": "info"}
"""What a violation comes to, by the level of its expectation."""


def judge(
    expectation: Expectation,
    record: Record,
    reference: Record | None = None,
    *,
    ended: bool = True,
    missing: Missing = "error",
) -> Verdict:
    """Judge `record` by `expectation`; what cannot be judged gets the outcome ``error``.

    Checkpoints that it is about and that are not there leave a violation what it is. Where the others hold, the outcome
    is an error with the figures of these, or by `missing` a pass with a remark.

    Args:
        ended: whether no checkpoint will follow: a last one that is not the end of the training, or has no band, then
            matters.
        missing: what missing checkpoints come to.
    """
    if absent := _absent(expectation, record, reference):
        return unmeasured(expectation, absent, outcome="info")
    tally = next((counts(question, record) for question in expectation.questions()), UNKNOWN)
    if expectation.good is not None and (other := expectation.good.difference(record)):
        return unmeasured(expectation, other, tally)
    try:
        finding = expectation.condition.judge(expectation, record, reference)
    except (Unanswerable, RecordError) as error:
        return unmeasured(expectation, str(error), tally)
    covered = coverage(expectation, record, reference, ended=ended)
    lacking = (*covered.lacking, *finding.lacking)
    outcome: Outcome = "passed" if finding.holds else VIOLATED[expectation.level]
    if lacking and outcome != "failed" and missing == "error":
        return _partly(expectation, finding, f"{'; '.join(lacking)} ({ACCEPT})", covered.remarks, tally)
    finding = replace(finding, warnings=(*lacking, *covered.remarks, *finding.warnings))
    return _verdict(expectation, finding, outcome, tally)


def _absent(expectation: Expectation, record: Record, reference: Record | None) -> str:
    """What the run or the session lacks that the expectation is judged only with, in words; empty where it has it.

    There is a reference where one is given, weights or a record, and where `record` was measured beside one.
    """
    if expectation.only_with == "checkpoints" and len(record.points) < 2:
        return f"the run has only one checkpoint (step {record.points[0].step})"
    if expectation.only_with == "reference" and reference is None:
        columns = [record.columns.get((q.request, q.metric.stat(q.params))) for q in expectation.questions()]
        lacks = [column is None or len(column.undefined) == len(column.values) for column in columns]
        if expectation.condition.compares or any(lacks):
            return NO_REFERENCE
    return ""


def unmeasured(
    expectation: Expectation, reason: str, tally: Counts = UNKNOWN, *, outcome: Outcome = "error"
) -> Verdict:
    """The verdict on what could not be judged, for `reason`; it has no observed figures."""
    finding = Finding(False, f"cannot judge {expectation.metric}: {reason}")
    return _verdict(expectation, finding, outcome, tally, cause=reason)


def _partly(expectation: Expectation, finding: Finding, cause: str, remarks: tuple[str, ...], tally: Counts) -> Verdict:
    """The verdict on what could be judged at some checkpoints only; its figures are those of these."""
    told = replace(
        finding,
        message=f"cannot judge {expectation.metric} at every checkpoint: {cause}. Elsewhere {finding.message}",
        warnings=(*remarks, *finding.warnings),
    )
    return _verdict(expectation, told, "error", tally, cause=cause)


def _verdict(
    expectation: Expectation, finding: Finding, outcome: Outcome, tally: Counts, *, cause: str = ""
) -> Verdict:
    condition = expectation.condition
    return Verdict(
        id=expectation.id,
        metric=expectation.metric,
        params=expectation.params,
        kind=condition.keyword,
        condition=condition.text,
        at=expectation.at.text,
        per=expectation.per,
        fold=expectation.fold if condition.folds else "",
        level=expectation.level,
        allow=expectation.allow,
        outcome=outcome,
        message=finding.message,
        position=expectation.position,
        observed=finding.observed,
        decisive=finding.decisive,
        side=None if finding.holds else finding.side,
        meaning="" if finding.holds else finding.meaning,
        worst=finding.worst,
        counts=tally,
        why=expectation.why,
        unit=condition.unit(expectation.metric),
        percent=condition.percent,
        bounds=condition.bounds,
        drawn=condition.drawn,
        warnings=finding.warnings,
        cause=cause,
    )
