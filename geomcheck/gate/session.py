"""A session of the gate: pairs of suite and run, one measurement for all that share a run and a base."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from geomcheck.checkpoints import BaseModel, find_base
from geomcheck.errors import RunError, SuiteError, UsageError
from geomcheck.gate.subjects import Subject
from geomcheck.measurement import Progress, Record, Request, measure_record, survey
from geomcheck.suite import Expectation, Suite, load_suite

Show = Callable[[Subject], AbstractContextManager[Progress]]


@dataclass
class Measurement:
    """One run against one W0, for every expectation that asks.

    Attributes:
        subject: the run.
        base: W0; None for a record file.
        record: what is known of the run: from headers first, with figures once it is `done`.
        error: why there is no record.
        done: whether the figures are in.
    """

    subject: Subject
    base: BaseModel | None
    record: Record | None = None
    error: RunError | None = None
    done: bool = False

    @classmethod
    def of(cls, subject: Subject, base: BaseModel | None) -> Measurement:
        """Survey a run from headers. Raises UsageError where W0 belongs to another model."""
        if subject.run is None or base is None:
            return cls(subject, None, subject.record, done=True)
        try:
            return cls(subject, base, survey(subject.run, base))
        except RunError as error:
            return cls(subject, base, error=error, done=True)

    def fill(
        self, requests: Mapping[str, Set[Request]], *, reference: Subject | None, workers: int | None, show: Show
    ) -> None:
        """Measure `requests`; what keeps the run from being measured becomes `error`."""
        self.done = True
        assert self.record is not None
        assert self.base is not None
        assert self.subject.run is not None
        try:
            with show(self.subject) as progress:
                measure_record(
                    self.record,
                    self.subject.run,
                    self.base,
                    requests,
                    reference=reference.run if reference else None,
                    workers=workers,
                    progress=progress,
                )
        except RunError as error:
            self.record, self.error = None, error


@dataclass(frozen=True)
class Pairing:
    """A suite, and the names of the runs that it judges. A suite that does not load judges none."""

    file: Path
    suite: Suite | None
    runs: tuple[str, ...]


class Gate:
    """Everything that a session with ``--geom-run`` knows.

    Args:
        subjects: the runs.
        candidates: suite files; True where the user named the file, so that it judges every run.
        base: W0 as the user gave it.
        reference: the run to compare with.
        workers: local workers, None for the default.

    Raises:
        UsageError: a run has no suite, no W0, or one that belongs to another model.
    """

    def __init__(
        self,
        subjects: list[Subject],
        candidates: dict[Path, bool],
        *,
        base: str | None = None,
        reference: Subject | None = None,
        workers: int | None = None,
    ) -> None:
        self.subjects = {subject.name: subject for subject in subjects}
        self.pairings = {file: self._pair(file, explicit) for file, explicit in candidates.items()}
        self._require_suites()
        self._given_base = base
        self._workers = workers
        self._reference = reference
        self._reference_measurement: Measurement | None = None
        self._measurements: dict[tuple[str, str], Measurement] = {}
        for pairing in self.pairings.values():
            for run in pairing.runs:
                self.measurement(pairing, run)

    @property
    def measurements(self) -> list[Measurement]:
        """All measurements, in the order of suites and runs."""
        return list(self._measurements.values())

    @property
    def reference_record(self) -> Record | None:
        """The reference run's record, if there is a reference and it could be measured."""
        return self._reference_measurement.record if self._reference_measurement else None

    def measurement(self, pairing: Pairing, run: str) -> Measurement:
        """The measurement that answers `pairing` for `run`; suites that agree on W0 share it."""
        subject = self.subjects[run]
        base = None
        if subject.run is not None:
            base = find_base(subject.run, given=self._given_base, suite=pairing.suite.base if pairing.suite else None)
        key = (run, str(base.source.path.resolve()) if base else "")
        if key not in self._measurements:
            self._measurements[key] = Measurement.of(subject, base)
        return self._measurements[key]

    def measure(self, wanted: Iterable[tuple[Pairing, str, Expectation]], show: Show) -> None:
        """Measure what the `wanted` expectations ask of their runs, each weight once.

        A run that cannot be read keeps its error: every expectation on it ends in that error.

        Args:
            wanted: (pairing, run name, expectation).
            show: for a run, a context that yields whom to tell how far it is.
        """
        asked: dict[int, list[Expectation]] = {}
        for pairing, run, expectation in wanted:
            asked.setdefault(id(self.measurement(pairing, run)), []).append(expectation)
        self._measure_reference([e for expectations in asked.values() for e in expectations], show)
        for measurement in self.measurements:
            if not measurement.done and measurement.record is not None:
                expectations = asked.get(id(measurement), [])
                requests = _union(e.requests(measurement.record) for e in expectations)
                measurement.fill(requests, reference=self._reference, workers=self._workers, show=show)

    def _measure_reference(self, expectations: list[Expectation], show: Show) -> None:
        """Measure of the reference run what is compared with it, against its own W0 or else the runs' W0."""
        comparing = [expectation for expectation in expectations if expectation.compares]
        if self._reference is None or not comparing:
            return
        run, base = self._reference.run, None
        if run is not None:
            shared = next((m.base for m in self.measurements if m.base is not None), None)
            base = run.own_base or shared or find_base(run, given=self._given_base)
        self._reference_measurement = measurement = Measurement.of(self._reference, base)
        if not measurement.done and measurement.record is not None:
            requests = _union(e.reference_requests(measurement.record) for e in comparing)
            measurement.fill(requests, reference=None, workers=self._workers, show=show)

    def _pair(self, file: Path, explicit: bool) -> Pairing:
        try:
            suite = load_suite(file)
        except SuiteError:
            return Pairing(file, None, ())  # its collection reports what is wrong
        runs = [name for name, subject in self.subjects.items() if explicit or suite.applies(subject.own_name)]
        return Pairing(file, suite, tuple(runs))

    def _require_suites(self) -> None:
        judged = {run for pairing in self.pairings.values() for run in pairing.runs}
        lost = [name for name in self.subjects if name not in judged]
        suites = [pairing.suite for pairing in self.pairings.values()]
        if not lost or not suites or None in suites:
            return
        patterns = "\n".join(f"  {s.name}: applies_to {list(s.applies_to)} ({s.path})" for s in suites if s)
        raise UsageError(
            f"no suite applies to run {lost[0]!r}. Name one with --geom-suite, or let one of these apply:\n{patterns}"
        )


def _union(plans: Iterable[Mapping[str, Set[Request]]]) -> dict[str, set[Request]]:
    """One plan for all: whatever any of them asks of a weight."""
    union: dict[str, set[Request]] = {}
    for plan in plans:
        for weight, requests in plan.items():
            union.setdefault(weight, set()).update(requests)
    return union
