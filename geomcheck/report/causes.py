"""What several expectations have in common is told once: why they could not be judged, and what makes them doubtful."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from geomcheck._text import and_more, plural
from geomcheck.report.facts import SessionFacts, distance, grouped
from geomcheck.report.findings import Diagnosis
from geomcheck.suite.verdict import Facts

Judgement = TypeVar("Judgement")

ORDER = ("failed", "error", "warned", "info", "passed")
"""Of verdicts in reports."""


@dataclass(frozen=True)
class Cause:
    """Why several expectations on one run could not be judged.

    Attributes:
        name: what the verdicts point at: ``cause 1``, in their order, or the finding that explains it.
        stopped: the verdicts of these expectations.
    """

    name: str
    run: str
    text: str
    stopped: Sequence[Facts]

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
    """The causes that stop two expectations or more, among `verdicts`, each with its run.

    A cause of which one of `diagnoses`, by run, tells what is behind it is not told again: its verdicts point there.
    """

    def __init__(self, verdicts: Iterable[tuple[str, Facts]], diagnoses: Mapping[str, Diagnosis] | None = None) -> None:
        stopped = grouped(((run, facts["cause"]), facts) for run, facts in verdicts if facts["outcome"] == "error")
        self._known: dict[tuple[str, str], Cause] = {}
        self._told: list[Cause] = []
        for (run, text), found in stopped.items():
            if not text or len(found) < 2:
                continue
            diagnosis = (diagnoses or {}).get(run)
            explained = [diagnosis.explanation(facts) for facts in found] if diagnosis else [None]
            behind = next(filter(None, explained), None)  # of all: the text is the same
            cause = Cause(behind.name if behind else f"cause {len(self._told) + 1}", run, text, found)
            self._known[run, text] = cause
            self._told += [] if behind else [cause]

    @classmethod
    def of(cls, verdicts: Iterable[SessionFacts], diagnoses: Mapping[str, Diagnosis] | None = None) -> Causes:
        """Those of a session."""
        return cls(((facts["run"], facts) for facts in verdicts), diagnoses)

    def __iter__(self) -> Iterator[Cause]:
        """Those that no finding tells."""
        return iter(self._told)

    def stopping(self, run: str, facts: Facts) -> Cause | None:
        """The cause of this verdict, if it has one in common with others."""
        return self._known.get((run, facts["cause"])) if facts["outcome"] == "error" else None


def by_cause(
    verdicts: Iterable[Judgement], facts: Callable[[Judgement], tuple[str, Facts]], diagnoses: Mapping[str, Diagnosis]
) -> list[Judgement]:
    """Failures before what holds, which keeps its order; of these what the first finding explains first, then by
    distance: which tensors moved, and bands of one figure, before what follows from them."""
    return sorted(verdicts, key=lambda one: _rank(*facts(one), diagnoses))


def _rank(run: str, facts: Facts, diagnoses: Mapping[str, Diagnosis]) -> tuple[float, ...]:
    if facts["outcome"] in ("info", "passed"):
        return (len(ORDER),)
    explained = diagnoses[run].explanation(facts) if run in diagnoses else None
    far = math.inf if facts["kind"] == "trains" else distance(facts)
    return ORDER.index(facts["outcome"]), explained.number if explained else math.inf, -far


def warnings(verdicts: Iterable[tuple[str, Facts]]) -> Iterator[tuple[str, str]]:
    """The run and the sentence of every warning, which names the expectation that it is about, or the first of them."""
    told = grouped(((run, warning), facts["id"]) for run, facts in verdicts for warning in facts["warnings"])
    for (run, warning), ids in told.items():
        about = list(dict.fromkeys(ids))
        yield run, f"{about[0]}{and_more(len(about))}: {warning}"
