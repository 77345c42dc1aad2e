"""What is behind the verdicts of a session that fails: the findings of its runs, and which verdicts each explains."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from geomcheck._lazy import late
from geomcheck.checkpoints.weights import Layers
from geomcheck.errors import RecordError
from geomcheck.gate.session import Gate, Measurement
from geomcheck.measurement import Resources
from geomcheck.record import Record
from geomcheck.report.facts import SessionFacts, groups_outside
from geomcheck.report.findings import Diagnosis, Explained
from geomcheck.suite import Expectation, Suite, Unanswerable
from geomcheck.suite.conditions.like import Like
from geomcheck.suite.conditions.trains import Trains
from geomcheck.suite.groups import group_of
from geomcheck.suite.likeness import start_difference

if TYPE_CHECKING:
    from geomcheck import diagnosis
    from geomcheck.diagnosis import Case, Finding
else:
    diagnosis = late("geomcheck.diagnosis")  # it needs torch, and most sessions are green

NEVER = "never-moved"
"""The kind of finding that may be meant."""

WHOLE = 0.5
"""Share of the judged weights from which a fact is about whole checkpoints, and explains why they are refused."""


class Failing(NamedTuple):
    """A verdict that fails the session, and what it is on."""

    facts: SessionFacts
    expectation: Expectation


def diagnoses(gate: Gate, failing: Sequence[SessionFacts]) -> dict[str, Diagnosis]:
    """The diagnosis of each run of which some verdicts are `failing`, by the run's name.

    Raises nothing, as nothing may hide a verdict: what goes wrong is the `problem` of a diagnosis.
    """
    demands = {demand.key: demand for demand in gate.demands}
    by_measurement: dict[int, tuple[Measurement, list[Failing]]] = {}
    for facts in failing:
        demand = demands[facts["run"], facts["path"], facts["id"]]
        measurement = gate.measurement(demand.pairing, demand.run)
        _, held = by_measurement.setdefault(id(measurement), (measurement, []))
        held.append(Failing(facts, demand.expectation))
    found: dict[str, list[Explained]] = {}
    problems: dict[str, str] = {}
    good = _Good(gate)
    for measurement, held in by_measurement.values():
        run = measurement.subject.name
        told = found.setdefault(run, [])
        if gate.is_over and measurement.run is not None:
            problems[run] = "the time of --geom-budget was up; geomcheck diagnose RUN looks into it"
            continue
        try:
            case = _case(measurement, gate, good)
            number = 1 + sum(map(len, found.values()))
            told += _explained(case, held, measurement, number) if case else []
        except KeyboardInterrupt:
            problems[run] = "interrupted"
        except Exception as error:
            problems[run] = f"{type(error).__name__}: {error}".removesuffix(": ")
        if measurement.error is not None and not told and run not in problems:
            problems[run] = "the files of the run do not tell more than why it is refused"
    return {run: Diagnosis(tuple(told), problems.get(run, "")) for run, told in found.items()}


def _suites(gate: Gate, run: str) -> list[Suite]:
    """Those that judge a run."""
    return [pairing.suite for pairing in gate.pairings.values() if pairing.suite and run in pairing.runs]


class _Good:
    """The reference run, where a suite expects runs to be like it, and so takes it for a good one; measured once, when
    a run needs it."""

    def __init__(self, gate: Gate) -> None:
        alike = any(type(demand.expectation.condition) is Like for demand in gate.demands)
        self._given = gate.reference if alike else None
        self._resources = gate.resources
        self._case: Case | None = None

    def of(self, record: Record) -> list[Case]:
        """It, if it starts where this run does."""
        given = self._given
        if given is None or given.record is None or start_difference(record, given.record) is not None:
            return []
        if self._case is None:
            self._case = _opened(given, self._resources)
        return [self._case] if self._case else []


def _case(measurement: Measurement, gate: Gate, good: _Good) -> Case | None:
    """The case of a run, with what its suites and the reference run tell of good ones; None where not even its headers
    can be compared with W0."""
    case = _opened(measurement, gate.resources, suites=_suites(gate, measurement.subject.name))
    return case.beside(good.of(case.record)) if case else None


def _opened(measurement: Measurement, resources: Resources, suites: Sequence[Suite] = ()) -> Case | None:
    if measurement.run is not None and measurement.base is not None:
        return diagnosis.opened_case(measurement.run, measurement.base, resources, suites=suites)
    return diagnosis.Case(measurement.record, suites=suites) if measurement.record is not None else None


def _explained(case: Case, failing: Sequence[Failing], measurement: Measurement, number: int) -> list[Explained]:
    """The findings of a case, those that explain one of `failing` first, numbered from `number`."""
    found = list(diagnosis.findings(case))
    explained: dict[int, list[SessionFacts]] = {index: [] for index in range(len(found))}
    for facts, expectation in failing:
        names = _judged(expectation, facts, case.record)
        if measurement.error is not None and facts["outcome"] == "error":
            indices = _whole(found, names)
        else:
            indices = [i for i, one in enumerate(found) if _explains(one, facts, expectation, names, case.record)]
        for index in indices:
            explained[index].append(facts)
            if isinstance(expectation.condition, Trains) and found[index].kind == NEVER and measurement.record:
                found[index] = _with_words(found[index], expectation.condition, measurement.record)
    ordered = sorted(explained, key=lambda index: not explained[index])
    name = measurement.subject.name
    return [Explained(at, name, found[index], explained[index]) for at, index in enumerate(ordered, number)]


def _with_words(finding: Finding, condition: Trains, record: Record) -> Finding:
    """The finding with how to declare what stands still, where that is meant."""
    try:
        words = condition.meant(record)
    except (Unanswerable, RecordError):
        return finding
    told = f" If it is meant, write `trains: {words}`."
    return finding if not words or told in finding.next_step else replace(finding, next_step=finding.next_step + told)


def _judged(expectation: Expectation, facts: SessionFacts, record: Record) -> set[str]:
    """The weights on which a verdict rests: those selected, of the groups that violate it where there are groups."""
    try:
        chosen = [weight for question in expectation.questions() for weight in question.chosen(record)]
    except Unanswerable:
        return set()
    groups, layers = groups_outside(facts), Layers(record.weights.values())
    wanted = chosen or list(record.weights.values())
    return {w.name for w in wanted if not any(groups) or group_of(w, expectation.per, layers) in groups}


def _explains(
    finding: Finding, facts: SessionFacts, expectation: Expectation, names: Collection[str], record: Record
) -> bool:
    """Whether a finding is about weights and checkpoints on which the verdict rests."""
    about = finding.weights & set(names)
    outside = {entry["step"] for entry in facts["observed"] if entry["holds"] is False}
    if facts["outcome"] == "error" and not outside:
        if facts["observed"]:
            return False  # checkpoints or bands are missing
        return bool(about) and (about == set(names) or bool(about & record.skipped.keys()))
    steps = {point.step for point in record.points}
    if outside and not expectation.condition.series and not any(_compares(expectation)):
        steps = outside
    return bool(about or not finding.weights) and bool(steps & set(finding.steps) or not finding.steps)


def _compares(expectation: Expectation) -> Iterator[bool]:
    """Whether its figures at one checkpoint rest on others."""
    return (question.metric.is_across(question.params) for question in expectation.questions())


def _whole(found: Sequence[Finding], names: Collection[str]) -> list[int]:
    """The findings that explain why a run is refused: facts about whole checkpoints, else all about judged weights."""
    shares = {i: len(one.weights & set(names)) for i, one in enumerate(found) if one.grade == "fact"}
    whole = [index for index, share in shares.items() if share >= WHOLE * len(names) > 0]
    return whole or [index for index, share in shares.items() if share]
