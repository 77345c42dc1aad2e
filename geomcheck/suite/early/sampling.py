"""A measurement that takes weights in random order until every expectation is decided, or the time is up."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from geomcheck.measurement.measured import Measured
from geomcheck.measurement.task import MeasureWeight
from geomcheck.record import Plan, Record, Request
from geomcheck.suite.early.decision import Decision
from geomcheck.suite.early.doubt import Doubt, Figures
from geomcheck.suite.early.frame import frame, limit_of
from geomcheck.suite.expectation import Expectation

ROUND = 16
"""Weights that are measured before it is asked again what is open, at the least; a fourth of those known, if more."""

K = TypeVar("K", bound=Hashable)


@dataclass(eq=False)
class _Open(Generic[K]):
    """Something that asks for weights, and is not decided.

    Attributes:
        key: of the expectation; None of what is to be measured whole.
        asked: what it asks, by weight.
        unknown: the weights of which that is not all known.
        doubt: where it can be decided early.
        waiting: the weights that the doubt was not shown yet, in order.
        limit: what limits the figures of the doubt, once it waits for that, or may yet.
    """

    key: K | None
    asked: Plan
    unknown: set[str]
    doubt: Doubt | None = None
    waiting: deque[str] = field(default_factory=deque)
    limit: Request | None = None

    @property
    def awaits_limit(self) -> bool:
        """Whether the doubt is shown no more weights before it knows what limits their figures."""
        return self.limit is not None and self.doubt is not None and self.doubt.seen == ROUND


class Sampling(Generic[K]):
    """What is open about one run: a `geomcheck.measurement.sampler.Sampler`.

    Args:
        expectations: by what the session knows them by.
        whole: what else to measure of every weight that it names.
        deadline: on the monotonic clock.
        reference: the record that some expectations compare with.
        seed: what the expectations are; with the content of the run it gives the order of weights.
        along: what else to measure of the weights that are measured.
        confidence: with what probability no early verdict of the session is wrong.
        alpha: the part that each expectation has of the chance that one is.

    Attributes:
        decisions: of the expectations that were not decided by every weight.
    """

    def __init__(
        self,
        expectations: Mapping[K, Expectation],
        *,
        deadline: float,
        whole: Sequence[Callable[[Record], Plan]] = (),
        reference: Record | None = None,
        seed: str = "",
        along: Plan | None = None,
        confidence: float = 1.0,
        alpha: float = 0.0,
    ) -> None:
        self.decisions: dict[K, Decision] = {}
        self._expectations, self._whole, self._reference = expectations, whole, reference
        self._seed, self._along, self._deadline = seed, along or {}, deadline
        self._confidence, self._alpha = confidence, alpha
        self._open: list[_Open[K]] = []
        self._order: list[str] | None = None

    @property
    def seconds_left(self) -> float:
        """Until the deadline."""
        return self._deadline - time.monotonic()

    @property
    def done(self) -> bool:
        """Whether everything is decided, or known."""
        return self._order is not None and not self._open

    @property
    def lacking(self) -> bool:
        """Whether something is open that is to be measured whole."""
        return any(one.key is None for one in self._open)

    def begin(
        self, record: Record, content: str, tasks: Mapping[str, MeasureWeight], found: Mapping[str, Measured]
    ) -> None:
        """See `Sampler`."""
        self._record, self._tasks, self._found = record, tasks, found
        self._order = in_random_order(tasks, f"{content} {self._seed}")
        for key, expectation in self._expectations.items():
            framed = frame(expectation, record, self._reference)
            doubt = None if framed is None else Doubt(framed, record, self._reference, self._alpha)
            self._ask(key, expectation.requests(record), doubt)
        for planner in self._whole:
            self._ask(None, planner(record), None)
        self._settle(self._open)

    def limiting(self) -> Plan:
        """See `Sampler`."""
        plan: dict[str, set[Request]] = {}
        for one in self._open if self.seconds_left > 0 else ():
            if one.limit is not None and one.awaits_limit:
                for name in one.waiting:
                    plan.setdefault(name, set()).add(one.limit)
        return plan

    def limited(self, found: Mapping[str, Measured]) -> None:
        """See `Sampler`."""
        for one in self._open:
            if one.doubt is not None and one.awaits_limit:
                answers = {name: found[name].answers for name in one.waiting if name in found}
                steps = [point.step for point in self._record.points]
                one.doubt.limit(
                    {
                        (steps[index], name): answer["value"]
                        for name, own in answers.items()
                        for (index, request), answer in own.items()
                        if request == one.limit and not isinstance(answer, str)
                    }
                )
                one.limit = None
        self._settle(self._open)

    def wanted(self) -> Plan:
        """See `Sampler`."""
        plan: dict[str, set[Request]] = {}
        order = self._order if self._order and self.seconds_left > 0 else []
        known = sum(not self._lacks(name, frozenset().union(*self._tasks[name].requests)) for name in order)
        for name in order:
            asked = {request for one in self._open for request in one.asked.get(name, ())}
            if self._lacks(name, asked):
                plan[name] = asked | set(self._along.get(name, ()))
            if len(plan) == max(ROUND, known // 4):
                break
        return plan

    def look(self, name: str) -> None:
        """See `Sampler`."""
        concerned = [one for one in self._open if name in one.asked]
        for one in concerned:
            if name in self._record.skipped:  # the verdict is an error, whatever the other weights are
                one.unknown.clear()
            elif not self._lacks(name, one.asked[name]):
                one.unknown.discard(name)
        self._settle(concerned)

    def undecided(self, reason: str, whole: str) -> None:
        """Leave what is open at that, for a `reason`, or for another where only the `whole` would decide it; its
        verdict is an error."""
        reasons = {one.key: whole if one.doubt is None else reason for one in self._open if one.key is not None}
        self.decisions |= {key: Decision(reason=why) for key, why in reasons.items()}
        self._open = []

    def _ask(self, key: K | None, plan: Plan, doubt: Doubt | None) -> None:
        """Add something that asks for the weights of `plan`."""
        asked = {name: plan[name] for name in self._order or () if name in plan}
        unknown = {name for name, requests in asked.items() if self._lacks(name, requests)}
        folded = frozenset() if doubt is None else frozenset(doubt.frame.names)
        waiting = deque(name for name in asked if name in folded)
        limit = limit_of(doubt.frame.question) if doubt is not None and len(waiting) >= 2 * ROUND else None
        self._open.append(_Open(key, asked, unknown, doubt, waiting, limit))

    def _settle(self, some: Iterable[_Open[K]]) -> None:
        """Close what is decided, or known as a whole."""
        closed = [one for one in some if self._is_decided(one) or not one.unknown]
        self._open = [one for one in self._open if one not in closed]

    def _is_decided(self, one: _Open[K]) -> bool:
        """Show a doubt what has come in the order of weights, until it is decided before the last of them."""
        while one.doubt is not None and one.key is not None and one.unknown:
            decision = one.doubt.decision(self._confidence) if one.doubt.seen else None
            if decision is not None:
                self.decisions[one.key] = decision
                return True
            if one.awaits_limit and not one.doubt.awaits_limits:
                one.limit = None
            if one.awaits_limit or not one.waiting or one.waiting[0] in one.unknown:
                break
            name = one.waiting.popleft()
            one.doubt.see(name, self._figures(name, one.doubt))
        return False

    def _figures(self, name: str, doubt: Doubt) -> Figures:
        """What a doubt asks of a weight, by step."""
        question = doubt.frame.question
        stat, figures = question.metric.stat(question.params), dict[int, float | str]()
        for index, point in enumerate(self._record.points):
            answer = self._found[name].answers.get((index, question.request))
            if answer is not None:
                figures[point.step] = answer if isinstance(answer, str) else float(answer[stat])
        return figures

    def _lacks(self, name: str, requests: Iterable[Request]) -> bool:
        """Whether something of `requests` is to be measured of a weight, and can be."""
        if name in self._record.skipped:
            return False
        answers, wanted = self._found[name].answers, frozenset(requests)
        at_points = enumerate(self._tasks[name].requests)
        return any((index, request) not in answers for index, here in at_points for request in wanted & here)


def in_random_order(names: Iterable[str], seed: str) -> list[str]:
    """`names` in an order that is as good as uniformly random, and the same for the same names and `seed`."""
    return sorted(names, key=lambda name: hashlib.blake2b(f"{seed} {name}".encode()).digest())
