"""The gates that are measured, and sessions of pytest that judge a run by one of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.protocols import UPDATE_ONLY

CLEAR = {
    "update_sparsity": "below: 95%",
    "update_support": "above: 5%",
    "principal_angle": "stat: median, fold: median, below: 1 deg",
    "spectral_shift": "below: 0.01",
    "principal_overlap": "below: 60%",
    "low_magnitude_overlap": "above: 30%",
    "stable_rank": "fold: median, above: 2",
    "update_norm": "above: 0.0001",
    "relative_update_norm": "below: 0.1",
    "hill_exponent": "fold: median, below: 10",
    "subspace_alignment": "above: 10%",
    "subspace_energy": "above: 1%",
    "principal_energy": "below: 50%",
    "top_energy": "below: 95%",
    "spectral_share": "below: 50%",
    "frozen_share": "below: 50%",
    "decay_share": "within: [-0.5, 0.5]",
    "rounding_share": "above: 1%",
}
"""What a run of `tests.bench.whole.model` keeps by far at every checkpoint, by metric: all of the papers' protocol that
need no other run. Folds are such that few weights may decide."""


@dataclass(frozen=True)
class Gate:
    """A session to be measured.

    Attributes:
        metrics: of which an expectation each is judged.
        budget: what ``--geom-budget`` is given, if it is.
        after: the gate whose cache it finds; by default it finds none.
    """

    metrics: frozenset[str]
    budget: str | None = None
    after: str | None = None

    @property
    def suite(self) -> str:
        """Its suite file."""
        ids = {name: name.replace("_", "-") for name in sorted(self.metrics)}
        expected = [f"  - {{id: {ids[name]}, metric: {name}, {CLEAR[name]}}}" for name in ids]
        return "\n".join(["geomcheck: 1", "expect:", *expected, ""])


EXACT, REMEMBERED, BUDGET = "all metrics, exact", "all metrics, remembered", "all metrics, budget"
UPDATE, ENTRIES = "update only", "two elementwise"

GATES = {
    EXACT: Gate(frozenset(CLEAR)),
    REMEMBERED: Gate(frozenset(CLEAR), after=EXACT),
    BUDGET: Gate(frozenset(CLEAR), budget="10m"),
    UPDATE: Gate(frozenset(UPDATE_ONLY & CLEAR.keys())),
    ENTRIES: Gate(frozenset({"update_support", "relative_update_norm"})),
}
"""By name, in the order in which they run."""


@dataclass(frozen=True)
class Cost:
    """What a process took, with those that it started and waited for.

    Attributes:
        wall, cpu: seconds.
        peak: most resident memory, MB, pages of files included.
        anonymous: most memory of its own, MB, as far as samples tell.
        output: what it printed.
    """

    wall: float
    cpu: float
    peak: float = 0.0
    anonymous: float = 0.0
    output: str = ""

    def times(self, factor: float) -> Cost:
        """That of so many times the work in the same memory."""
        return Cost(self.wall * factor, self.cpu * factor, self.peak, self.anonymous, self.output)


@dataclass(frozen=True)
class Session:
    """What came of one.

    Attributes:
        weights: how many were factorized, as the verdicts tell; None where all were, or none needed to be.
    """

    cost: Cost
    weights: int | None = None


def session(work: Path, run: Path, name: str, *, program: Sequence[str] = ("-m", "pytest")) -> Session:
    """Judge `run` by the gate `name`, whose cache and outputs lie in `work`; it has to pass.

    Args:
        program: what the Python that runs it is given before pytest's own arguments.
    """
    gate = GATES[name]
    suite, verdicts = work / "suite.yaml", work / "verdicts.json"
    suite.write_text(gate.suite)
    cache = f"{run.name} {gate.after or name}".replace(" ", "-").replace(",", "")
    options = [f"--geom-run={run}", f"--geom-suite={suite}", f"--geom-cache={work / cache}", f"--geom-json={verdicts}"]
    options += [f"--geom-budget={gate.budget}"] if gate.budget else []
    cost = cost_of([sys.executable, *program, "-q", "-p", "no:cacheprovider", *options], work)
    counts = re.findall(r"(\d+) of \d+ weights", verdicts.read_text()) if gate.budget else []
    return Session(cost, max(map(int, counts), default=None) if counts else None)


def cost_of(command: Sequence[str], where: Path) -> Cost:
    """What `command` takes, which must succeed."""
    with (where / "output.txt").open("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=where, stdout=output, stderr=subprocess.STDOUT)
        sampled = _Sampled(process.pid)
        with sampled:
            _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read()
    if process.returncode:
        sys.exit(f"{' '.join(command)}\n{said}")
    return Cost(wall, used.ru_utime + used.ru_stime, sampled.most["VmHWM"], sampled.most["RssAnon"], said)


class _Sampled:
    """Watches the memory of a process while it runs: ``ru_maxrss`` is its parent's, where that is larger."""

    EVERY = 0.02

    def __init__(self, pid: int) -> None:
        self.status = Path(f"/proc/{pid}/status")
        self.most = {"VmHWM": 0.0, "RssAnon": 0.0}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self.EVERY):
            try:
                said = self.status.read_text()
            except OSError:
                return
            for name, most in self.most.items():
                if found := re.search(rf"^{name}:\s+(\d+) kB", said, re.MULTILINE):
                    self.most[name] = max(most, int(found[1]) / 1024)
