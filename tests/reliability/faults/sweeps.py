"""One kind of fault at every call in turn: first a session that counts the calls, then one session per call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.reliability.faults.bench import Bench, Place
from tests.reliability.faults.library import Calls, Fault, Kind

Where = Literal["cache and outputs", "cache", "outputs", "run"]


@dataclass(frozen=True)
class Sweep:
    """What is injected.

    Attributes:
        kind: the fault.
        where: the files whose calls are counted.
        cache: the cache at the start.
        calls: which calls.
        eager: write to the cache after every weight, which a session of less than a second never does.
    """

    kind: Kind
    where: Where = "cache and outputs"
    cache: str = "cold"
    calls: Calls = Calls.WRITES
    eager: bool = False

    @property
    def what(self) -> str:
        """For people."""
        calls = "write" if self.calls is Calls.WRITES else "read"
        return f"{NAMES[self.kind]} at every {calls}, {self.where}, {self.cache} cache"

    def fault(self, bench: Bench, place: Place, at: int = 0) -> Fault:
        """The fault at call number `at`; with 0, counting alone."""
        directories: dict[Where, Path] = {"cache": place.cache, "outputs": place.outputs, "run": bench.run}
        directory = directories.get(self.where, place.directory)
        return Fault(self.kind if at else Kind.COUNT, str(directory), at, self.calls)


NAMES = {
    Kind.KILL: "SIGKILL",
    Kind.TORN: "SIGKILL in the middle",
    Kind.FULL: "disk full from then on",
    Kind.EIO: "EIO from then on",
    Kind.EIO_ONCE: "EIO once",
    Kind.INTERRUPT: "Ctrl-C",
    Kind.SHORT: "half a transfer",
}

READS = Calls.READS

SWEEPS = (
    Sweep(Kind.KILL, eager=True),
    Sweep(Kind.KILL, cache="warm"),
    Sweep(Kind.KILL, cache="partly warm", eager=True),
    Sweep(Kind.TORN, eager=True),
    Sweep(Kind.TORN, cache="partly warm"),
    Sweep(Kind.KILL, where="run", calls=READS),
    Sweep(Kind.FULL, where="cache"),
    Sweep(Kind.FULL, where="cache", cache="partly warm"),
    Sweep(Kind.FULL, where="outputs"),
    Sweep(Kind.EIO, where="cache"),
    Sweep(Kind.EIO_ONCE, where="cache"),
    Sweep(Kind.EIO_ONCE, where="cache", cache="warm"),
    Sweep(Kind.EIO, where="outputs"),
    Sweep(Kind.EIO_ONCE, where="outputs"),
    Sweep(Kind.EIO, where="run", calls=READS),
    Sweep(Kind.EIO_ONCE, where="run", calls=READS),
    Sweep(Kind.EIO_ONCE, where="cache", cache="warm", calls=READS),
    Sweep(Kind.EIO_ONCE, where="cache", cache="partly warm", calls=READS),
    Sweep(Kind.INTERRUPT),
    Sweep(Kind.INTERRUPT, cache="warm"),
    Sweep(Kind.INTERRUPT, where="run", calls=READS),
    Sweep(Kind.SHORT),
    Sweep(Kind.SHORT, where="run", calls=READS),
)


@dataclass(frozen=True)
class Injected:
    """One fault.

    Attributes:
        call: what it hit, as ``number name path``.
        status: how the session ended.
        problems: what was wrong in it, in what it left, or in the next session.
    """

    call: str
    status: int | None
    problems: tuple[str, ...]


def swept(sweep: Sweep, bench: Bench, *, at_most: int | None = None) -> Iterator[Injected]:
    """Inject the fault at every call, or `at_most` at so many that are evenly spaced; yields those that did happen."""
    place = bench.place(sweep.cache)
    counted = bench.session(place, fault=sweep.fault(bench, place), eager=sweep.eager)
    assert counted.status == 0, counted.output
    assert counted.calls, f"{sweep.what}: there are no such calls"
    wanted = min(counted.calls, at_most or counted.calls)
    for number in range(wanted):
        at = counted.calls * (2 * number + 1) // (2 * wanted) + 1
        place = bench.place(sweep.cache)
        tried = bench.tried(sweep.fault(bench, place, at), place, eager=sweep.eager)
        if tried.ended.injected:
            call = next((line for line in tried.ended.log if line.startswith(f"{at} ")), str(at))
            yield Injected(call, tried.ended.status, tuple(tried.problems))
