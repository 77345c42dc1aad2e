"""What became of an expectation in a session that does not wait for every weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from geomcheck.record import Record
from geomcheck.suite.coverage import Missing
from geomcheck.suite.expectation import Expectation
from geomcheck.suite.judge import judge, unmeasured
from geomcheck.suite.language.selection import Named
from geomcheck.suite.verdict import Decided, Verdict


@dataclass(frozen=True)
class Decision:
    """What an expectation was decided by, where that was not every weight.

    Attributes:
        names: the weights on which its verdict rests.
        decided: how; None where it was not.
        reason: why it was not, in words.
    """

    names: frozenset[str] = frozenset()
    decided: Decided | None = None
    reason: str = ""

    def narrowed(self, expectation: Expectation) -> Expectation:
        """The expectation on the weights by which it was decided."""
        return replace(expectation, weights=Named(names=self.names)) if self.decided else expectation

    def to_dict(self) -> dict[str, Any]:
        """In plain builtins, which travel to pytest's workers."""
        return {
            "names": sorted(self.names),
            "decided": None if self.decided is None else asdict(self.decided),
            "reason": self.reason,
        }

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Decision:
        """What `to_dict` told."""
        decided = None if told["decided"] is None else Decided(**told["decided"])
        return cls(frozenset(told["names"]), decided, told["reason"])


def judge_as(
    decision: Decision | None,
    expectation: Expectation,
    record: Record,
    reference: Record | None = None,
    *,
    missing: Missing = "error",
) -> Verdict:
    """Judge `record` by `expectation`: by the weights on which it was decided, or by all where there is no decision."""
    if decision is None:
        return judge(expectation, record, reference, missing=missing)
    if decision.decided is None:
        return unmeasured(expectation, decision.reason)
    verdict = judge(decision.narrowed(expectation), record, reference, missing=missing)
    return replace(verdict, message=f"{verdict.message}; {decision.decided.words}", decided=decision.decided)
