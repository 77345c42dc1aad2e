"""A verdict with what a picture of it needs: the whole trajectory, and where in the network it is off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from geomcheck.record import Record
from geomcheck.suite import Expectation, judge
from geomcheck.suite.language.places import ALL
from geomcheck.suite.verdict import Facts, ObservedFacts


@dataclass(frozen=True)
class Judged:
    """One expectation on one run.

    Attributes:
        suite: name of its suite.
        facts: the verdict as `Verdict.to_dict` gives it.
        whole: the folded figure at every checkpoint, judged or not, in the shape of ``observed``.
        layers: the same per layer, where the expectation is about the run as a whole.
    """

    suite: str
    facts: Facts
    whole: Sequence[ObservedFacts] = ()
    layers: Sequence[ObservedFacts] = ()


def judged(suite: str, facts: Facts, expectation: Expectation, record: Record, reference: Record | None) -> Judged:
    """Look at `expectation` again, at every checkpoint and layer by layer; its verdict stays as it is."""
    if facts["outcome"] == "error":
        return Judged(suite, facts)
    everywhere = expectation if expectation.condition.own_places is not None else replace(expectation, at=ALL)
    whole = facts["observed"] if everywhere.at == expectation.at else _observed(everywhere, record, reference)
    by_layer = expectation.per == "run" and expectation.condition.by_layer
    if by_layer and facts["outcome"] != "passed":
        return Judged(suite, facts, whole, _observed(replace(everywhere, per="layer"), record, reference))
    return Judged(suite, facts, whole)


def _observed(expectation: Expectation, record: Record, reference: Record | None) -> list[ObservedFacts]:
    return [observed.to_dict() for observed in judge(expectation, record, reference).observed]
