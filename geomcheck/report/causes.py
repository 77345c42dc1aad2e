"""What several expectations have in common is told once: why they could not be judged, and what makes them doubtful."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from geomcheck._text import and_more, plural
from geomcheck.report.facts import SessionFacts, grouped
from geomcheck.suite.verdict import Facts


@dataclass(frozen=True)
class Cause:
    """Why several expectations on one run could not be judged.

    Attributes:
        number: from 1, in the order of the verdicts.
        stopped: the verdicts of these expectations.
    """

    number: int
    run: str
    text: str
    stopped: Sequence[Facts]

    @property
    def name(self) -> str:
        """What the verdicts point at."""
        return f"cause {self.number}"

    @property
    def headline(self) -> str:
        """What it is, in one sentence."""
        return f"{self.name}, of {plural(len(self.stopped), 'error')}: {self.run}: {self.text}"

    @property
    def places(self) -> str:
        """The expectations that it stops, each with its place."""
        return ", ".join(f"{v['id']} ({v['position']['path']}:{v['position']['line']})" for v in self.stopped)

    def message(self, facts: Facts) -> str:
        """What is left to say of a verdict that it stops."""
        return f"see {self.name}: {facts['message'].partition(self.text)[0].removesuffix(': ')}"


class Causes:
    """The causes that stop two expectations or more, among `verdicts`, each with its run."""

    def __init__(self, verdicts: Iterable[tuple[str, Facts]]) -> None:
        stopped = grouped(((run, facts["cause"]), facts) for run, facts in verdicts if facts["outcome"] == "error")
        shared = {key: found for key, found in stopped.items() if key[1] and len(found) > 1}
        self._known = {key: Cause(i, *key, found) for i, (key, found) in enumerate(shared.items(), 1)}

    @classmethod
    def of(cls, verdicts: Iterable[SessionFacts]) -> Causes:
        """Those of a session."""
        return cls((facts["run"], facts) for facts in verdicts)

    def __iter__(self) -> Iterator[Cause]:
        return iter(self._known.values())

    def stopping(self, run: str, facts: Facts) -> Cause | None:
        """The cause of this verdict, if it has one in common with others."""
        return self._known.get((run, facts["cause"])) if facts["outcome"] == "error" else None


def warnings(verdicts: Iterable[tuple[str, Facts]]) -> Iterator[tuple[str, str]]:
    """The run and the sentence of every warning, which names the expectation that it is about, or the first of them."""
    told = grouped(((run, warning), facts["id"]) for run, facts in verdicts for warning in facts["warnings"])
    for (run, warning), ids in told.items():
        about = list(dict.fromkeys(ids))
        yield run, f"{about[0]}{and_more(len(about))}: {warning}"
