"""A snapshot of a run that is still training: its figures so far, and every expectation judged by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from geomcheck.diagnosis import Case, Finding, findings
from geomcheck.record import Record
from geomcheck.suite import Expectation, SoFar, Suite, judge_so_far, unmeasured


def found_so_far(case: Callable[[], Case], tell: Callable[[str], None]) -> tuple[Finding, ...]:
    """The findings of facts and of order (groups A and B) while a run goes on. A diagnosis that fails is told, and ends
    nothing."""
    try:
        return tuple(one for one in findings(case()) if one.group in ("A", "B"))
    except Exception as error:
        tell(f"no diagnosis: {type(error).__name__}: {error}")
        return ()


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What can be said of a run at one moment.

    Attributes:
        record: the figures of all checkpoints so far.
        judged: for each suite, how its expectations stand, in their order.
        finished: whether no checkpoint will follow.
        planned: the last step of the training; None where that is not known.
        reference: the record that ``like: reference`` compares with.
        findings: what is wrong with the run, by the weights and the order of its checkpoints alone.
    """

    record: Record
    judged: tuple[tuple[Suite, tuple[SoFar, ...]], ...]
    finished: bool
    planned: int | None
    reference: Record | None = None
    findings: tuple[Finding, ...] = ()

    @classmethod
    def take(
        cls,
        suites: Sequence[Suite],
        record: Record,
        *,
        finished: bool,
        planned: int | None,
        reference: Record | None = None,
        doubt: Callable[[SoFar], str | None] = lambda _: None,
    ) -> Snapshot:
        """Judge the checkpoints of `record` by `suites`.

        Args:
            doubt: why a verdict must not be trusted, or None; it then becomes an error that gives this reason.
        """

        def judged(expectation: Expectation) -> SoFar:
            entry = judge_so_far(
                expectation, record, finished=finished, scaled=planned is not None, reference=reference
            )
            reason = doubt(entry)
            if reason is None or entry.due.now is None:
                return entry
            verdict = unmeasured(entry.due.now, reason)
            return SoFar(entry.due, verdict, entry.due.standing(verdict))

        found = tuple((suite, tuple(map(judged, suite.expectations))) for suite in suites)
        return cls(record=record, judged=found, finished=finished, planned=planned, reference=reference)

    @property
    def entries(self) -> Iterator[SoFar]:
        """Every expectation of every suite."""
        return (entry for _, entries in self.judged for entry in entries)

    def settled(self, *outcomes: str) -> list[SoFar]:
        """The expectations with one of these outcomes that no later checkpoint can change."""
        return [e for e in self.entries if e.standing == "settled" and e.verdict and e.verdict.outcome in outcomes]

    @property
    def violated(self) -> list[SoFar]:
        """What fails the run, whatever still comes."""
        return self.settled("failed", "error")

    @property
    def open(self) -> list[SoFar]:
        """The expectations that later checkpoints still decide."""
        return [entry for entry in self.entries if entry.standing != "settled"]

    @property
    def checks_anything(self) -> bool:
        """Whether any figure was held against a condition."""
        return any(entry.verdict is not None and entry.verdict.observed for entry in self.entries)
