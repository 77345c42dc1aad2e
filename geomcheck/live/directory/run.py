"""The run that is followed: measure what is new in its directory, keep what is known, and judge all of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path

from geomcheck.checkpoints import BaseWeights, Run, comparable, find_base, open_run
from geomcheck.diagnosis import Case, Finding, opened_case
from geomcheck.errors import NoCheckpoint, RecordError, RunError, UsageError
from geomcheck.live.directory.removed import with_removed, without_undone
from geomcheck.live.snapshot import Snapshot, found_so_far
from geomcheck.measurement import Progress, Resources, measure_record, require_sound, survey
from geomcheck.record import Plan, Point, Record, Request, merge, read_record
from geomcheck.suite import Expectation, SoFar, Suite, Unanswerable
from geomcheck.suite.language.places import ALL

logger = logging.getLogger("geomcheck.watch")

ShowProgress = Callable[[str], AbstractContextManager[Progress]]
"""Shows the progress of a measurement, of the run of that name."""


class FollowedRun:
    """A run in a directory that a training writes to, and everything that was measured of it.

    Args:
        path: the directory, which need not be there yet.
        suites: what it is judged by; they must agree on W0.
        base: W0, where the user gave it.
        reference: the run or record to compare with.
        steps: length of the training, where its files do not say it.
        resources: what measuring may use; its cache is what keeps a checkpoint from being measured twice.
        dequantize: make fp32 of fp8 weights and their scales, and measure those.

    Raises:
        UsageError: the suites name several W0, or the reference is neither a run nor a record.
    """

    def __init__(
        self,
        path: str,
        suites: Sequence[Suite],
        *,
        base: BaseWeights | None = None,
        reference: str | None = None,
        steps: int | None = None,
        resources: Resources,
        dequantize: bool = False,
    ) -> None:
        bases = {suite.base for suite in suites if suite.base is not None}
        if base is None and len(bases) > 1:
            raise UsageError(f"the suites name several W0 ({', '.join(sorted(bases))}): watch with one at a time")
        self.path = path
        self._suites = tuple(suites)
        self._given_base = base
        self._suite_base = next(iter(bases), None)
        self._steps = steps
        self._resources = resources
        self._dequantize = dequantize
        self._reference = None if reference is None else _opened(reference)
        self._reference_record: Record | None = None
        self._seen: tuple[Point, ...] = ()
        self._planned: int | None = None
        self._record: Record | None = None
        self._findings: tuple[Finding, ...] = ()

    def open(self) -> Run:
        """The run as it is now. Raises as `open_run`."""
        return open_run(self.path, steps=self._steps)

    def measure(self, run: Run, show: ShowProgress, *, finished: bool) -> Snapshot:
        """Measure `run` (from `open`) as far as it is not known, and judge it.

        Args:
            finished: no checkpoint will follow, so that everything is judged.

        Raises:
            UsageError: there is no W0, or one of another model.
            RunError: files cannot be read or trusted.
        """
        now = [Point(c.name, c.step, c.progress) for c in run.checkpoints]
        self._seen = (*without_undone(self._seen, now), *now)  # also where measuring them fails, as they may be removed
        base = find_base(run, given=self._given_base, suite=self._suite_base)
        run, w0 = comparable(run, base, dequantize=self._dequantize)
        fresh = survey(run, w0)
        against = self._measured_reference(w0)
        plan = merge(_asked(e, fresh) for suite in self._suites for e in suite.expectations)
        try:
            with show(run.name) as progress:
                measure_record(fresh, run, w0, plan, reference=against, resources=self._resources, progress=progress)
        except RunError as error:
            facts = [one.sentence for one in self._found(run, w0) if one.grade == "fact"]
            raise RunError("; ".join([str(error), *facts])) from error
        record = fresh if self._record is None else with_removed(self._record, fresh, run)
        require_sound(record, w0)
        self._record, self._planned = record, run.planned
        self._findings = self._found(run, w0) if finished else found_so_far(lambda: Case(record), logger.warning)
        return self._snapshot(record, finished=finished)

    def _found(self, run: Run, base: BaseWeights) -> tuple[Finding, ...]:
        return found_so_far(lambda: opened_case(run, base, self._resources), logger.warning)

    def conclude(self) -> Snapshot:
        """Judge what is known, as a run that has ended; only after `measure`."""
        assert self._record is not None
        return self._snapshot(self._record, finished=True)

    def _snapshot(self, record: Record, *, finished: bool) -> Snapshot:
        known = {point.step for point in record.points}
        missed = sorted((point for point in self._seen if point.step not in known), key=lambda point: point.step)
        snapshot = Snapshot.take(
            self._suites,
            record,
            finished=finished,
            planned=self._planned,
            reference=self._reference_record,
            doubt=lambda entry: _missed(entry, record, missed) or _lost(entry, record),
        )
        return replace(snapshot, findings=self._findings)

    def _measured_reference(self, base: BaseWeights) -> Run | None:
        """The reference run, if its weights are at hand; its record is measured once."""
        if self._reference is None or isinstance(self._reference, Record):
            self._reference_record = self._reference
            return None
        if self._reference_record is None:
            run, w0 = comparable(self._reference, self._reference.own_base or base, dequantize=self._dequantize)
            record = survey(run, w0)
            plan = merge(suite.reference_requests(record) for suite in self._suites)
            measure_record(record, run, w0, plan, resources=self._resources)
            self._reference, self._reference_record = run, record
        return self._reference


def _opened(reference: str) -> Run | Record:
    """The reference, which must be there at once: only the run itself is waited for."""
    try:
        return read_record(reference) if Path(reference).is_file() else open_run(reference)
    except (RecordError, RunError, NoCheckpoint) as error:
        raise UsageError(f"the reference: {error}") from error


def _asked(expectation: Expectation, record: Record) -> Plan:
    """What one expectation may ever ask of these checkpoints, which may be gone when it is due.

    A weight that it selects is measured in any case, so that it is known whether it moved.
    """
    wanted: dict[str, set[Request]] = {}
    for question in expectation.questions():
        try:
            for weight in question.chosen(record):
                if weight.name not in record.skipped:
                    wanted.setdefault(weight.name, set())
            for weight in replace(question, at=ALL, series=False).settle(record).weights:
                wanted[weight.name].add(question.request)
        except Unanswerable:
            continue
    return wanted


def _missed(entry: SoFar, record: Record, missed: Sequence[Point]) -> str | None:
    """Why a verdict is not to be trusted: a checkpoint that it is about was removed before it was measured."""
    if entry.due.now is None or not missed:
        return None
    try:
        selected = entry.due.now.at.select(sorted((*record.points, *missed), key=lambda point: point.step))
    except Unanswerable:
        return None  # the verdict says so
    compared = any(question.metric.is_across(question.params) for question in entry.due.now.questions())
    gone = [point.name for point in missed if compared or point in selected]
    if not gone:
        return None
    return (
        f"{', '.join(gone)} came, and was removed before it was measured; let the training keep more checkpoints "
        "(save_total_limit), or read more often (--every)"
    )


def _lost(entry: SoFar, record: Record) -> str | None:
    """Why a figure that is due is missing: a checkpoint was removed before it could be compared with another."""
    for question in entry.due.now.questions() if entry.due.now is not None else ():
        try:
            points = question.settle(record).points if question.metric.is_across(question.params) else ()
        except Unanswerable:
            continue  # the verdict says so
        measured: set[int] = set()
        with suppress(RecordError):
            measured = {step for step, _ in record.figures(question.request, question.metric.stat(question.params))}
        lost = [point.name for point in points if point.step not in measured]
        if lost:
            return (
                f"{question.metric.name} of {', '.join(lost)} is missing: it compares checkpoints, and not all of "
                "them were there at once. Let the training keep all of them to the end (save_total_limit)"
            )
    return None
