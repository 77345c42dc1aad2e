"""The judgement of a record by an expectation: the condition finds, and what it finds becomes a verdict."""

from __future__ import annotations

from dataclasses import replace

from geomcheck.errors import RecordError
from geomcheck.record import Record
from geomcheck.record.points import early_end
from geomcheck.suite.expectation import Expectation, Finding
from geomcheck.suite.language.places import ALL, LAST, At
from geomcheck.suite.sampling import counts
from geomcheck.suite.verdict import Counts, Outcome, Unanswerable, Verdict

UNKNOWN = Counts()

VIOLATED: dict[str, Outcome] = {"error": "failed", "warn": "warned", "info": "info"}
"""What a violation comes to, by the level of its expectation."""


def judge(expectation: Expectation, record: Record, reference: Record | None = None, *, ended: bool = True) -> Verdict:
    """Judge `record` by `expectation`; what cannot be judged gets the outcome ``error``.

    `ended` says that no checkpoint will follow: a last one that is not the end of the training is then worth a warning.
    """
    tally = next((counts(question, record) for question in expectation.questions()), UNKNOWN)
    try:
        finding = expectation.condition.judge(expectation, record, reference)
    except (Unanswerable, RecordError) as error:
        return unmeasured(expectation, str(error), tally)
    if ended:
        finding = replace(finding, warnings=(*_end_warning(expectation, record), *finding.warnings))
    outcome: Outcome = "passed" if finding.holds else VIOLATED[expectation.level]
    return _verdict(expectation, finding, outcome, tally)


def unmeasured(
    expectation: Expectation, reason: str, tally: Counts = UNKNOWN, *, outcome: Outcome = "error"
) -> Verdict:
    """The verdict on what could not be judged, for `reason`; it has no observed figures."""
    finding = Finding(False, f"cannot judge {expectation.metric}: {reason}")
    return _verdict(expectation, finding, outcome, tally)


def _verdict(expectation: Expectation, finding: Finding, outcome: Outcome, tally: Counts) -> Verdict:
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
    )


def _end_warning(expectation: Expectation, record: Record) -> tuple[str, ...]:
    """A sentence where the last checkpoint, which the expectation names, is not the end of the training."""
    end = early_end(record.points)
    span = expectation.at if isinstance(expectation.at, At) and expectation.at != ALL else None
    if not end:
        return ()
    if (span and span.stop == LAST) or any(LAST in q.partners.values() for q in expectation.questions()):
        return (f"`last` is not the end of the training: the run ended at {end}",)
    if span and span.stop.is_beyond(record.points):
        return (f"`at` is judged up to there alone: the run ended at {end}",)
    return ()
