"""One look at a run that trains: measure what is new, and judge what is due."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from geomcheck.checkpoints import BaseWeights, Run, comparable, find_base, open_run
from geomcheck.errors import NoCheckpoint, RecordError, RunError, UsageError
from geomcheck.live.directory.memory import merged
from geomcheck.measurement import Progress, Resources, measure_record, require_sound, survey
from geomcheck.record import Plan, Point, Record, Request, merge, read_record
from geomcheck.suite import Expectation, SoFar, Suite, Unanswerable, judge_so_far, unmeasured
from geomcheck.suite.language.places import ALL
from geomcheck.suite.sampling import Question

Show = Callable[[str], AbstractContextManager[Progress]]
BINDING = ("failed", "error")
"""Outcomes that fail a session of the gate."""


@dataclass(frozen=True)
class Look:
    """What can be said of a run at one moment.

    Attributes:
        run: as it is on disk.
        base: W0.
        record: the figures of all checkpoints that were seen, those included that were removed since.
        found: by suite, an entry per expectation in its order.
        finished: whether no checkpoint will follow.
    """

    run: Run
    base: BaseWeights
    record: Record
    found: tuple[tuple[Suite, tuple[SoFar, ...]], ...]
    finished: bool

    @property
    def entries(self) -> Iterator[SoFar]:
        """Every expectation of every suite."""
        return (entry for _, entries in self.found for entry in entries)

    @property
    def violated(self) -> list[SoFar]:
        """What fails the run, whatever still comes."""
        return [e for e in self.entries if e.standing == "settled" and e.verdict and e.verdict.outcome in BINDING]

    @property
    def judged(self) -> bool:
        """Whether any figure was held against a condition."""
        return any(entry.verdict is not None and entry.verdict.observed for entry in self.entries)


class Watcher:
    """Looks at one run again and again, and remembers what it measured.

    Args:
        path: the run's directory, which need not be there yet.
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
        self.suites = tuple(suites)
        self.given_base = base
        self.suite_base = next(iter(bases), None)
        self.steps = steps
        self.resources = resources
        self.dequantize = dequantize
        self._compared = None if reference is None else _opened(reference)
        self._reference: tuple[Run | None, Record] | None = None
        self._known: tuple[Run, BaseWeights, Record] | None = None
        self._seen: dict[int, Point] = {}

    def open(self) -> Run:
        """The run as it is now. Raises as `open_run`."""
        return open_run(self.path, steps=self.steps)

    def note(self, run: Run) -> None:
        """Remember that these checkpoints are there, measured or not."""
        now = {c.step: Point(c.name, c.step, c.progress) for c in run.checkpoints}
        went_back = min(now.keys() - self._seen.keys(), default=math.inf)
        self._seen = {step: point for step, point in self._seen.items() if step < went_back} | now

    def look(self, run: Run, show: Show, *, finished: bool) -> Look:
        """Measure `run` as far as it is not known, and judge it.

        Args:
            run: as `open` gives it.
            show: a context that yields whom to tell how far the measurement is.
            finished: no checkpoint will follow, so that everything is judged.

        Raises:
            UsageError: there is no W0, or one of another model.
            RunError: files cannot be read or trusted.
        """
        base = find_base(run, given=self.given_base, suite=self.suite_base)
        run, w0 = comparable(run, base, dequantize=self.dequantize)
        fresh = survey(run, w0)
        against, _ = self._compared_with(w0)
        with show(run.name) as progress:
            measure_record(
                fresh, run, w0, self._plan(fresh), reference=against, resources=self.resources, progress=progress
            )
        record = merged(self._known[-1] if self._known else None, fresh, run)
        require_sound(record, w0)
        self._known = run, w0, record
        return self._judged(finished=finished)

    def conclude(self) -> Look:
        """Judge what is known, as a run that has ended; only after a first `look`."""
        return self._judged(finished=True)

    def _judged(self, *, finished: bool) -> Look:
        assert self._known is not None
        run, base, record = self._known
        _, reference = self._compared_with(base)
        found = tuple(
            (suite, tuple(self._judge(e, record, run, reference, finished) for e in suite.expectations))
            for suite in self.suites
        )
        return Look(run, base, record, found, finished)

    def _judge(
        self, expectation: Expectation, record: Record, run: Run, reference: Record | None, finished: bool
    ) -> SoFar:
        entry = judge_so_far(
            expectation, record, finished=finished, scaled=run.planned is not None, reference=reference
        )
        missed = [point for step, point in sorted(self._seen.items()) if step not in {p.step for p in record.points}]
        lost = _missed(entry, record, missed) or _lost(entry, record)
        if lost is None or entry.due.now is None:
            return entry
        verdict = unmeasured(entry.due.now, lost)
        return SoFar(entry.due, verdict, entry.due.standing(verdict))

    def _plan(self, record: Record) -> Plan:
        """Everything that any expectation may ever ask of these checkpoints: they may be gone when it is due."""
        return merge(_asked(e, record) for suite in self.suites for e in suite.expectations)

    def _compared_with(self, base: BaseWeights) -> tuple[Run | None, Record | None]:
        """The reference run, if its weights are at hand, and its record, measured once."""
        if self._compared is None:
            return None, None
        if self._reference is None:
            self._reference = self._measured_reference(self._compared, base)
        return self._reference

    def _measured_reference(self, opened: Run | Record, base: BaseWeights) -> tuple[Run | None, Record]:
        if isinstance(opened, Record):
            return None, opened
        run, w0 = comparable(opened, opened.own_base or base, dequantize=self.dequantize)
        record = survey(run, w0)
        measure_record(
            record, run, w0, merge(s.reference_requests(record) for s in self.suites), resources=self.resources
        )
        return run, record


def _opened(reference: str) -> Run | Record:
    """The reference, which must be there at once: only the run itself is waited for."""
    try:
        return read_record(reference) if Path(reference).is_file() else open_run(reference)
    except (RecordError, RunError, NoCheckpoint) as error:
        raise UsageError(f"the reference: {error}") from error


def _asked(expectation: Expectation, record: Record) -> Plan:
    """What one expectation may ask of any of these checkpoints; of all its weights at least whether they moved."""
    wanted: dict[str, set[Request]] = {}
    for question in expectation.questions():
        everywhere = replace(question, at=ALL, series=False)
        try:
            chosen = [weight.name for weight in question.weights.select(record.weights)]
            wanted |= {name: wanted.get(name, set()) for name in chosen if name not in record.skipped}
            for weight in everywhere.settle(record).weights:
                wanted[weight.name].add(question.request)
        except Unanswerable:
            continue
    return wanted


def _missed(entry: SoFar, record: Record, missed: Sequence[Point]) -> str | None:
    """Why a verdict is not to be trusted: a checkpoint that it is about was removed before it was measured."""
    if entry.due.now is None or not missed:
        return None
    points = sorted((*record.points, *missed), key=lambda point: point.step)
    try:
        selected = set(entry.due.now.at.select(points))
    except Unanswerable:
        return None  # the verdict says so
    compared = any(question.metric.across for question in entry.due.now.questions())
    gone = [point.name for point in missed if compared or point in selected]
    if not gone:
        return None
    return (
        f"{', '.join(gone)} came, and was removed before it was measured; let the training keep more checkpoints "
        "(save_total_limit), or look more often (--every)"
    )


def _measured(question: Question, record: Record) -> set[int]:
    """The steps at which there are figures."""
    try:
        return {step for step, _ in record.figures(question.request, question.metric.stat(question.params))}
    except RecordError:
        return set()


def _lost(entry: SoFar, record: Record) -> str | None:
    """Why a figure that is due is missing: a checkpoint was removed before it could be compared with another."""
    for question in entry.due.now.questions() if entry.due.now is not None else ():
        try:
            points = question.settle(record).points if question.metric.across else ()
        except Unanswerable:
            continue  # the verdict says so
        measured = _measured(question, record)
        lost = [point.name for point in points if point.step not in measured]
        if lost:
            return (
                f"{question.metric.name} of {', '.join(lost)} is missing: it compares checkpoints, and not all of "
                "them were there at once. Let the training keep all of them to the end (save_total_limit)"
            )
    return None
