"""What reports need of a session: its runs, and what a reader should know of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from geomcheck._text import and_more, plural
from geomcheck.record import Origin, Record
from geomcheck.record.points import early_end
from geomcheck.report.causes import warnings
from geomcheck.report.facts import Judged, SessionFacts, grouped
from geomcheck.report.figures import Figures
from geomcheck.report.findings import Diagnosis
from geomcheck.report.remarks import notable

NAMED = 3
"""Runs that a note names."""


@dataclass(frozen=True)
class Reported:
    """One run, against one W0.

    Attributes:
        name: its name in the report.
        path: as it was given.
        record: what was measured; None where it could not be.
        judged: the verdicts that a page shows, none where no suite was asked.
        suites: paths of the suites that judge it.
        opened: notes on the run from opening it, which its record repeats.
        base: where W0 came from, which its record repeats.
        problem: why there is no record.
        diagnosis: what is behind the verdicts; None where none fails, or nobody looked.
    """

    name: str
    path: str
    record: Record | None = None
    judged: Sequence[Judged] = ()
    suites: Sequence[str] = ()
    opened: Sequence[str] = ()
    base: Origin | None = None
    problem: str = ""
    diagnosis: Diagnosis | None = None

    @property
    def origin(self) -> Origin | None:
        """Where W0 came from, as far as that is known."""
        return self.record.origin if self.record else self.base

    @property
    def notes(self) -> list[str]:
        """What is worth a line wherever its figures are shown."""
        return [remark.line for remark in notable(Figures(self.record))] if self.record else list(self.opened)


@dataclass(frozen=True)
class Session:
    """What is checked.

    Attributes:
        runs: in the order in which they were given; one that is compared with several W0 once for each.
        omissions: which checkpoints were left out, with the run's name.
        notices: what the session noticed beside.
    """

    runs: Sequence[Reported]
    omissions: Sequence[str] = ()
    notices: Sequence[str] = ()

    @property
    def each_once(self) -> list[Reported]:
        """Every run with the first of its W0."""
        return [first for first, *_ in grouped((run.name, run) for run in self.runs).values()]

    @property
    def diagnoses(self) -> dict[str, Diagnosis]:
        """By the name of the run."""
        return {run.name: run.diagnosis for run in self.runs if run.diagnosis is not None}

    def notes(self, verdicts: Sequence[SessionFacts]) -> list[str]:
        """A line for all that a reader should know beside the verdicts."""
        notes = _of_runs((note, run.name) for run in self.runs for note in run.notes)
        notes += _of_runs((note, run) for run, found in self.diagnoses.items() for note in found.notes())
        idle = (facts for facts in verdicts if facts["outcome"] == "info" and not facts["observed"])
        unjudged = [facts["cause"] or facts["message"] for facts in idle]
        notes += [f"note: {plural(count, 'expectation')} not judged: {why}" for why, count in Counter(unjudged).items()]
        notes += [f"note: {notice}" for notice in self.notices]
        notes += _of_runs((note, run.name) for run in self.each_once for note in _of_the_end(run, verdicts))
        several = len({facts["run"] for facts in verdicts}) > 1
        doubts = warnings((facts["run"], facts) for facts in verdicts)
        return [*notes, *(f"warning: {f'{run}: ' if several else ''}{warning}" for run, warning in doubts)]


def _of_runs(notes: Iterable[tuple[str, str]]) -> list[str]:
    """A line per note, with the runs that it is about."""
    alike = {note: list(dict.fromkeys(runs)) for note, runs in grouped(notes).items()}
    return [f"note: {', '.join(runs[:NAMED])}{and_more(len(runs) - NAMED + 1)}: {note}" for note, runs in alike.items()]


def _of_the_end(run: Reported, verdicts: Sequence[SessionFacts]) -> Iterator[str]:
    """Where training ended early, and where no expectation looks at the last weights, which will be used."""
    points = run.record.points if run.record else ()
    if not points:
        return
    if end := early_end(points):
        yield f"it ended at {end}"
    own = [facts for facts in verdicts if facts["run"] == run.name]
    judged = {entry["step"] for facts in own for entry in facts["observed"]}
    if judged and points[-1].step not in judged and not any(facts["cause"] for facts in own):
        yield f"nothing judges its last checkpoint, step {points[-1].step}"
