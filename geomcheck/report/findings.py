"""The diagnosis of a run as reports have it: what was found, and which verdicts each finding explains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geomcheck._text import plural
from geomcheck.report.facts import SessionFacts
from geomcheck.suite.verdict import Facts

if TYPE_CHECKING:
    from geomcheck.diagnosis import Finding

MOST = 3
"""Findings of a run that are told in full."""


@dataclass(frozen=True)
class Explained:
    """A finding of a run.

    Attributes:
        number: from 1, in the order in which a session tells them.
        verdicts: those that fail and that it explains, as they came.
    """

    number: int
    run: str
    finding: Finding
    verdicts: Sequence[SessionFacts] = ()

    @property
    def name(self) -> str:
        """What verdicts point at."""
        return f"finding {self.number}"

    @property
    def headline(self) -> str:
        """What is wrong; of an inference, with the word that makes it one."""
        return headline(self.finding)

    @property
    def ids(self) -> list[str]:
        """The expectations that it explains; with their suites, where there are several."""
        several = len({facts["path"] for facts in self.verdicts}) > 1
        return [f"{facts['suite']}::{facts['id']}" if several else facts["id"] for facts in self.verdicts]

    @property
    def refusals(self) -> list[str]:
        """Why some of them could not be judged, each reason once: the gate's own words for what this explains."""
        return list(dict.fromkeys(facts["cause"] for facts in self.verdicts if facts["cause"]))

    def to_dict(self) -> dict[str, Any]:
        """In plain builtins."""
        explains = [{"suite": facts["suite"], "id": facts["id"]} for facts in self.verdicts]
        return {**self.finding.to_dict(), "explains": explains}


@dataclass(frozen=True)
class Diagnosis:
    """What was found out about a run that fails.

    Attributes:
        found: those that explain a verdict first.
        problem: why there is no diagnosis, or not a whole one.
    """

    found: Sequence[Explained] = ()
    problem: str = ""

    @property
    def explaining(self) -> list[Explained]:
        """The findings that explain a verdict."""
        return [one for one in self.found if one.verdicts]

    @property
    def unrelated(self) -> list[Explained]:
        """The findings that explain none."""
        return [one for one in self.found if not one.verdicts]

    def explanation(self, facts: Facts) -> Explained | None:
        """The first fact, of those that are told in full, that explains a verdict."""
        told = (one for one in self.explaining[:MOST] if one.finding.grade == "fact")
        return next((one for one in told if any(own == facts for own in one.verdicts)), None)

    def notes(self) -> Iterator[str]:
        """A line where it found nothing, or failed."""
        if self.problem:
            yield f"no diagnosis: {self.problem}"
        elif not self.explaining:
            others = f" ({plural(len(self.found), 'finding')} about others)" if self.found else ""
            yield f"no finding explains what fails{others}; good runs tell more: geomcheck diagnose RUN --good=GOOD-RUN"


def headline(finding: Finding) -> str:
    """What is wrong in one sentence; of an inference, with the word that makes it one."""
    return finding.sentence if finding.grade == "fact" else f"probably: {finding.sentence}"
