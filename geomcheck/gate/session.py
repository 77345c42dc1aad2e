"""A session of the gate: pairs of suite and run, one measurement for all that share a run and a base."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from geomcheck.checkpoints import BaseWeights, Run, at_hand, comparable, find_base
from geomcheck.checkpoints.discovery.base import HOW_SUITES
from geomcheck.errors import NoBaseline, RunError, SuiteError, UsageError
from geomcheck.gate.candidates import Candidate, Collection, item_name
from geomcheck.gate.subjects import GivenRun
from geomcheck.measurement import Progress, Resources, measure_record, survey
from geomcheck.measurement.execute import KEPT
from geomcheck.measurement.provenance import require_measured_against
from geomcheck.record import Origin, Plan, Record, merge
from geomcheck.report.findings import Diagnosis
from geomcheck.report.session import Reported, Session
from geomcheck.suite import Expectation, Suite, load_suite
from geomcheck.suite.early import Budget, Decision, Sampling, may_be_early
from geomcheck.urls import named

Show = Callable[[GivenRun], AbstractContextManager[Progress]]
"""For a run, a context that yields whom to tell how far it is."""

Planner = Callable[[Record], Plan]

Key = tuple[str, str, str]
"""What a verdict is known by: the run, the suite's path and the expectation's id."""


BANDED = 3
"""Calibrated suites that are named where none judges a run."""


@dataclass
class Measurement:
    """One run against one W0, for every expectation that asks.

    Attributes:
        subject: the run as it was given.
        run: None for a record file; its weights and those of `base` have the same names.
        base: W0; of a record file None, unless the user or the suite names one.
        record: what is known of the run: from headers first, with figures once it is `done`.
        error: why there is no record.
        done: whether the figures are in.
    """

    subject: GivenRun
    run: Run | None = None
    base: BaseWeights | None = None
    record: Record | None = None
    error: RunError | None = None
    done: bool = False

    def result(self) -> Record:
        """The record. Raises RunError, where the run could not be measured."""
        if self.error is not None:
            raise self.error
        assert self.record is not None
        return self.record

    @classmethod
    def of(cls, subject: GivenRun, base: BaseWeights | None, *, dequantize: bool) -> Measurement:
        """Survey a run from headers. Raises UsageError where W0 belongs to another model."""
        if subject.run is None or base is None:
            return cls(subject, base=base, record=subject.record, done=base is None)
        try:
            run, base = comparable(subject.run, base, dequantize=dequantize)
            return cls(subject, run, base, survey(run, base))
        except RunError as error:
            return cls(subject, base=base, error=error, done=True)


@dataclass(frozen=True)
class Pairing(Candidate):
    """A suite file with its suite and the names of the runs that it judges, or what is wrong with it."""

    suite: Suite | None = None
    runs: tuple[str, ...] = ()
    error: SuiteError | None = None


class Demand(NamedTuple):
    """An expectation of a suite on one of the runs that it judges."""

    pairing: Pairing
    suite: Suite
    run: str
    expectation: Expectation

    @property
    def key(self) -> Key:
        """What its verdict is known by."""
        return self.run, self.suite.path, self.expectation.id

    @property
    def node_id(self) -> str:
        """What pytest knows it by."""
        return f"{self.pairing.node_id}::{item_name(self.expectation, self.run, self.pairing.runs)}"


class Gate:
    """Everything that a session with ``--geom-run`` knows.

    Args:
        base: W0, where the user gave it.
        reference: the run to compare with.
        missing_baseline: the record to compare with, where the user named one that is not there yet.
        also: what to measure of every run beside its expectations, for a report.
        dequantize: make fp32 of fp8 weights and their scales, and measure those.
        budget: the time to measure in; by default every weight is measured.

    Attributes:
        diagnoses: of runs that fail, by name, once they were looked into.
        decisions: by the key of the demand, of expectations that were not decided by every weight.

    Raises:
        UsageError: a run has no suite, no W0, or one that belongs to another model.
    """

    def __init__(
        self,
        subjects: list[GivenRun],
        candidates: Sequence[Candidate],
        *,
        base: BaseWeights | None = None,
        reference: GivenRun | None = None,
        missing_baseline: str | None = None,
        also: Sequence[Planner] = (),
        resources: Resources | None = None,
        dequantize: bool = False,
        budget: Budget | None = None,
    ) -> None:
        self.budget = budget
        self.decisions: dict[Key, Decision] = {}
        self._deadline = math.inf
        self.subjects = {subject.name: subject for subject in subjects}
        self.pairings = {candidate.file: self._pair(candidate) for candidate in candidates}
        self._require_suites()
        self.given_base = base
        self._also = tuple(also)
        self.dequantize = dequantize
        self.resources = resources or Resources()
        self.notices: list[str] = list(self._without_bands())
        self.diagnoses: Mapping[str, Diagnosis] = {}
        self._reference = reference
        self.missing_baseline = missing_baseline
        self._measurements: dict[tuple[str, str], Measurement] = {}
        self._by_base: dict[tuple[str, str | None], Measurement] = {}
        for pairing in self.pairings.values():
            for run in pairing.runs:
                self.measurement(pairing, run)
        self.reference = self._survey_reference()

    def inputs(self) -> Iterator[tuple[str, Path]]:
        """Every file and directory that is read, with what it is."""
        for subject in (*self.subjects.values(), *((self._reference,) if self._reference else ())):
            yield f"the run {subject.path}", subject.place
        for measurement in self._measurements.values():
            if measurement.base is not None:
                yield f"W0 ({measurement.base.source.path})", measurement.base.source.path
        for file, pairing in self.pairings.items():
            yield f"the suite {file}", file
            for path in pairing.suite.parties if pairing.suite else ():
                yield f"{path}, which the suite {file} compares with", path
        if self.missing_baseline:
            yield f"the baseline {self.missing_baseline}", Path(self.missing_baseline)

    @property
    def demands(self) -> list[Demand]:
        """Every expectation on every run that it judges: runs as given, suites as found, expectations as written."""
        return [
            Demand(pairing, pairing.suite, run, expectation)
            for run in self.subjects
            for pairing in self.pairings.values()
            if pairing.suite is not None and run in pairing.runs
            for expectation in pairing.suite.expectations
        ]

    def collection_of(self, file: Path) -> Collection | None:
        """How a suite file is collected; None for a file that is no suite of this session."""
        pairing = self.pairings.get(file.resolve())
        return Collection(pairing.node_id, pairing.runs, pairing.named) if pairing else None

    def suite_of(self, file: Path) -> Suite:
        """The suite of a file, which is loaded once. Raises SuiteError."""
        pairing = self.pairings[file.resolve()]
        if pairing.error is not None:
            raise pairing.error
        assert pairing.suite is not None
        return pairing.suite

    def record_of(self, file: Path, run: str) -> Record:
        """The record of a run, for a suite. Raises RunError."""
        return self.measurement(self.pairings[file.resolve()], run).result()

    def decision_of(self, file: Path, run: str, expectation: str) -> Decision | None:
        """What an expectation of a suite on a run was decided by, where that was not every weight."""
        pairing = self.pairings[file.resolve()]
        return self.decisions.get((run, pairing.suite.path, expectation)) if pairing.suite else None

    @property
    def is_over(self) -> bool:
        """Whether the time to measure in is up."""
        return time.monotonic() >= self._deadline

    def reference_record(self) -> Record | None:
        """The record of the reference run, if there is one. Raises RunError, NoBaseline."""
        if self.missing_baseline:
            raise NoBaseline(self.missing_baseline)
        return self.reference.result() if self.reference else None

    @property
    def measurements(self) -> list[Measurement]:
        """All measurements, in the order of suites and runs."""
        return list(self._measurements.values())

    def measurement(self, pairing: Pairing, run: str) -> Measurement:
        """The measurement that answers `pairing` for `run`; suites that agree on W0 share it."""
        of_suite = pairing.suite.base if pairing.suite else None
        if (run, of_suite) not in self._by_base:
            subject = self.subjects[run]
            base = self._base_of(subject, of_suite)
            key = (run, str(base.source.path.resolve()) if base else "")
            if key not in self._measurements:
                self._measurements[key] = Measurement.of(subject, base, dequantize=self.dequantize)
            self._by_base[run, of_suite] = self._measurements[key]
        return self._by_base[run, of_suite]

    def _base_of(self, subject: GivenRun, of_suite: str | None) -> BaseWeights | None:
        """W0 of a run; of a record the one to compare its own with, if any is named and here: it is judged anyway."""
        if subject.run is not None:
            return find_base(subject.run, given=self.given_base, suite=of_suite)
        if self.given_base or of_suite is None:
            return self.given_base
        found = at_hand(of_suite, HOW_SUITES)
        if found is None:
            self.notices.append(
                f"{subject.name}: the suite's base, {of_suite}, is not here to compare the record's W0 with"
            )
        return found

    def reported(self) -> Session:
        """What reports need of the session, as far as it is known."""
        subjects = [*self.subjects.values(), *([self._reference] if self._reference else [])]
        return Session(
            runs=[run for subject in self.subjects.values() for run in self._reported(subject)],
            omissions=[f"{s.name}: {omission}" for s in subjects if s.run for omission in s.run.omissions],
            notices=tuple(self.notices),
        )

    def _reported(self, subject: GivenRun) -> Iterator[Reported]:
        """The run with each of its measurements; as it is where no suite judges it."""
        suites = [p.suite.path for p in self.pairings.values() if p.suite and subject.name in p.runs]
        opened = subject.run.notes if subject.run else ()
        own = [m for m in self.measurements if m.subject.name == subject.name]
        for found in own or [Measurement(subject)]:
            yield Reported(
                name=subject.name,
                path=subject.path,
                record=found.record,
                suites=suites,
                opened=opened,
                base=Origin(named(found.base.source.path), found.base.how) if found.base else None,
                problem=str(found.error or ""),
                diagnosis=self.diagnoses.get(subject.name),
            )

    def measure(self, demands: Sequence[Demand], show: Show) -> None:
        """Measure what `demands` ask of their runs, each weight once.

        A run that cannot be read keeps its error: every expectation on it ends in that error.
        """
        if self.budget is not None:
            self._deadline = time.monotonic() + self.budget.seconds
        asked: dict[int, list[Demand]] = {}
        for demand in demands:
            asked.setdefault(id(self.measurement(demand.pairing, demand.run)), []).append(demand)
        if self.reference is not None:
            compared = [demand.expectation for demand in demands if demand.expectation.compares]
            wanted = [expectation.reference_requests for expectation in compared]
            whole: Sampling[Key] | None = Sampling({}, whole=wanted, deadline=self._deadline) if self.budget else None
            self._fill(self.reference, wanted, None, show, whole)
        against = self.reference.run if self.reference else None
        early = sum(may_be_early(demand.expectation) for demand in demands)
        for index, measurement in enumerate(self.measurements):
            own = asked.get(id(measurement), [])
            sampling = self._sampling(measurement, own, early, runs_left=len(self.measurements) - index)
            planners = [*(demand.expectation.requests for demand in own), *self._also]
            self._fill(measurement, planners, against, show, sampling)

    def _fill(
        self,
        measurement: Measurement,
        planners: Sequence[Planner],
        reference: Run | None,
        show: Show,
        sampling: Sampling[Key] | None = None,
    ) -> None:
        """Measure what `planners` ask of a run, once; of a record, see only that it was measured against this W0."""
        record, run, base = measurement.record, measurement.run, measurement.base
        if measurement.done or record is None or base is None:
            return
        measurement.done = True
        plan = merge(planner(record) for planner in planners)
        try:
            if run is None:
                require_measured_against(record, base, dequantize=self.dequantize)
                return
            with show(measurement.subject) as progress:
                measure_record(
                    record,
                    run,
                    base,
                    plan,
                    reference=reference,
                    resources=self.resources,
                    progress=progress,
                    sampler=sampling,
                )
        except RunError as error:
            measurement.record, measurement.error = None, error
        if sampling is not None and self.budget is not None and measurement.error is None:
            self._conclude(measurement, record, sampling, self.budget)

    def _sampling(
        self, measurement: Measurement, demands: Sequence[Demand], early: int, *, runs_left: int
    ) -> Sampling[Key] | None:
        """How to measure a run in an equal part of the time that is left; None where there is no end of it.

        Each of the `early` expectations of the session has an equal part of the chance that one is decided wrongly.
        """
        budget, record = self.budget, measurement.record
        if budget is None or record is None or measurement.done:
            return None
        now = time.monotonic()
        suites = sorted({demand.suite.file.read_bytes() for demand in demands})
        return Sampling(
            {demand.key: demand.expectation for demand in demands},
            reference=self.reference.record if self.reference else None,
            seed=hashlib.blake2b(b"".join(suites)).hexdigest(),
            along=merge(planner(record) for planner in self._also),
            deadline=now + (self._deadline - now) / runs_left,
            confidence=budget.confidence,
            alpha=(1 - budget.confidence) / max(1, early),
        )

    def _conclude(self, measurement: Measurement, record: Record, sampling: Sampling[Key], budget: Budget) -> None:
        """Note what was decided, that the rest was not, and what the record lacks."""
        total = len(record.measured_weights())
        whole = total - len(record.left_out)
        ended = f"--geom-budget={budget.written} ended at {whole} of {total} weights"
        kept = KEPT if self.resources.cache.keeps else ""
        if sampling.lacking:
            measurement.record = None
            measurement.error = RunError(
                f"{ended} of {record.run}, which is compared with and must be measured whole; give more time, or its "
                f"record (geomcheck measure){kept}"
            )
        rest = f"give more time, or measure the rest with --lf{kept}"
        sampling.undecided(
            f"{ended}, and these do not decide it at {budget.sure}; {rest}",
            f"{ended}, and it is decided by all of them alone; {rest}",
        )
        self.decisions |= sampling.decisions
        if record.left_out:
            record.notes += (
                f"partial: all that was asked for is measured of {whole} of {total} weights (--geom-budget)",
            )

    def _without_bands(self) -> Iterator[str]:
        """A line on each run that none of the calibrated suites judges, as they are for runs of other names."""
        calibrated = [pairing for pairing in self.pairings.values() if pairing.suite and pairing.suite.good]
        judged = {run for pairing in calibrated for run in pairing.runs}
        told = [f"{p.suite.name} is for {', '.join(p.suite.applies_to)}" for p in calibrated if p.suite]
        for run in self.subjects if told else ():
            if run not in judged:
                more = f", and {len(told) - BANDED} more" * (len(told) > BANDED)
                yield (
                    f"{run}: no calibrated suite judges it, by its name: {'; '.join(told[:BANDED])}{more} (applies_to)."
                    " --geom-suite=NAME applies one all the same"
                )

    def _survey_reference(self) -> Measurement | None:
        """The reference run against its own W0, or else that of the runs compared with it."""
        if self._reference is None:
            return None
        for subject in self.subjects.values():
            if subject.place.samefile(self._reference.place):
                raise UsageError(f"--geom-reference={self._reference.path} is the run that is checked")
        run, base = self._reference.run, None
        if run is not None:
            shared = next((m.base for m in self.measurements if m.base is not None), None)
            base = run.own_base or shared or find_base(run, given=self.given_base)
        return Measurement.of(self._reference, base, dequantize=self.dequantize)

    def _pair(self, candidate: Candidate) -> Pairing:
        try:
            suite = load_suite(candidate.file)
        except SuiteError as error:
            return Pairing(**vars(candidate), error=error)
        judged = [name for name, one in self.subjects.items() if candidate.named or suite.applies(*one.names)]
        return Pairing(**vars(candidate), suite=suite, runs=tuple(judged))

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
