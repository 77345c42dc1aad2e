"""What a session was asked for, and what has become of each part: what is left over must not look like a pass."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from geomcheck._text import plural
from geomcheck.files import displayed
from geomcheck.gate.candidates import lies_in, real
from geomcheck.gate.session import Demand, Gate
from geomcheck.report.facts import SessionFacts


class Ledger:
    """What was asked of a gate: its suites, the `directories` that the user named, and every expectation on every run.

    Attributes:
        collected: the files that pytest collected, by their paths and by those that these lead to.
        selected: the node ids that are left after -k, -m, --lf and the like.
    """

    def __init__(self, gate: Gate, directories: Sequence[Path]) -> None:
        self._gate = gate
        self._directories = directories
        self.collected: set[Path] = set()
        self.selected: set[str] = set()

    @property
    def demands(self) -> list[Demand]:
        """The expectations that are selected, in the order of the gate."""
        return [demand for demand in self._gate.demands if demand.node_id in self.selected]

    def uncollected(self) -> list[str]:
        """A sentence for each suite and directory that was asked for and in which pytest has found nothing."""
        return [*self._suites(), *self._in_directories()]

    def unjudged(self, verdicts: Collection[SessionFacts]) -> Iterator[str]:
        """Of a session that ran to its end, what was selected and has no verdict, and runs without a figure."""
        known = {(verdict["run"], verdict["path"], verdict["id"]) for verdict in verdicts}
        lost = [demand for demand in self.demands if demand.key not in known]
        if lost:
            yield f"{plural(len(lost), 'expectation')} did not run, and nothing says why: {_listed(lost)}"
        judged = {verdict["run"] for verdict in verdicts if verdict["observed"]}
        for run in dict.fromkeys(demand.run for demand in self.demands if demand not in lost):
            if run not in judged:
                yield f"no expectation on {run} was judged"
        if not self.demands:
            yield "no expectation was judged: none is among what pytest was to run"

    def _suites(self) -> Iterator[str]:
        for pairing in self._gate.pairings.values():
            if (pairing.named or pairing.runs or pairing.error) and pairing.file not in self.collected:
                asked = "was named" if pairing.named else "applies"
                yield (
                    f"{displayed(pairing.file)} {asked}, but pytest did not collect it: a conftest or a plugin left it "
                    "out, or pytest (before 9) took another argument below the same directory instead"
                )

    def _in_directories(self) -> Iterator[str]:
        """Directories that the user named and that hold nothing to judge by, nor other tests."""
        idle = {pairing.file for pairing in self._gate.pairings.values() if pairing.suite and not pairing.runs}
        runs = " or ".join(self._gate.subjects)
        for directory in self._directories:
            held = {real(file) for file in self.collected | idle if lies_in(directory, file)}
            if held <= idle:
                none = f"none of its suites applies to {runs}" if held else "it holds no suite and no test"
                yield f"{displayed(directory)} was named, and {none}"


def _listed(demands: Iterable[Demand], most: int = 5) -> str:
    ids = [demand.node_id for demand in demands]
    return ", ".join(ids[:most]) + (f" and {len(ids) - most} more" if len(ids) > most else "")
