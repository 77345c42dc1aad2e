"""A suite: expectations, and the runs and weights that they are meant for."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from geomcheck.record import Record, Request, merge
from geomcheck.suite.coverage import Missing
from geomcheck.suite.expectation import Expectation
from geomcheck.suite.good_runs import GoodRuns
from geomcheck.suite.judge import judge
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.verdict import Verdicts


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A validated suite file.

    Attributes:
        path: of the file, as errors and node ids show it.
        file: of the file, absolute.
        base: where W0 comes from, if the suite says so: an absolute path, or a Hub id.
        applies_to: patterns of run names; `!` excludes.
        weights: the default selection of its expectations.
        good: what the good runs had that it was calibrated on; None where there is nothing of them.
    """

    name: str
    about: str
    path: str
    file: Path
    base: str | None
    applies_to: tuple[str, ...]
    weights: Selection
    expectations: tuple[Expectation, ...]
    good: GoodRuns | None = None

    @property
    def parties(self) -> tuple[Path, ...]:
        """The other runs and records that its expectations name."""
        conditions = (expectation.condition for expectation in self.expectations)
        return tuple(path for condition in conditions for path in condition.parties)

    def applies(self, *names: str) -> bool:
        """Whether the patterns let a run of these names in; where all exclude, every other run is let in."""
        excluded = [pattern[1:] for pattern in self.applies_to if pattern.startswith("!")]
        included = [pattern for pattern in self.applies_to if not pattern.startswith("!")]
        if any(fnmatchcase(name, pattern) for name in names for pattern in excluded):
            return False
        return not included or any(fnmatchcase(name, pattern) for name in names for pattern in included)

    def requests(self, record: Record) -> dict[str, set[Request]]:
        """What must be measured, by weight name, to judge every expectation that can be answered at all.

        `record` needs no figures: its checkpoints, weights and skipped weights are looked at.
        """
        return merge(expectation.requests(record) for expectation in self.expectations)

    def reference_requests(self, reference: Record) -> dict[str, set[Request]]:
        """What must be measured of the reference run: the figures of ``like: reference`` expectations."""
        return merge(expectation.reference_requests(reference) for expectation in self.expectations)

    def evaluate(self, record: Record, reference: Record | None = None, *, missing: Missing = "error") -> Verdicts:
        """Judge `record` by every expectation, in the suite's order.

        `missing` says what checkpoints come to that `record` lacks, where all others hold: ``error`` or ``info``.
        """
        return Verdicts(judge(expectation, record, reference, missing=missing) for expectation in self.expectations)
