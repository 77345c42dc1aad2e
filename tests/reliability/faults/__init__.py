"""Faults: sessions of the gate that are killed, interrupted, starved of disk, lied to by it, or not alone.

After each the cache must be valid, no final name may hold half an output, and the next session must say what a
clean one says.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.reliability.faults.library import compiler
from tests.reliability.options import Options
from tests.reliability.table import Row, Section


def section(options: Options) -> Section:
    """Every fault, at every call, or at as many of them as `options` say."""
    if not sys.platform.startswith("linux") or compiler() is None:
        return Section("faults", not_run="it needs Linux and a C compiler")
    from tests.reliability.faults.bench import Bench
    from tests.reliability.faults.sessions import Sessions
    from tests.reliability.faults.situations import SITUATIONS
    from tests.reliability.faults.sweeps import SWEEPS, swept

    rows = []
    with tempfile.TemporaryDirectory() as directory, Sessions(Path(directory) / "sessions") as sessions:
        bench = Bench(Path(directory), sessions)
        for sweep in SWEEPS:
            injected = list(swept(sweep, bench, at_most=options.faults_per_kind))
            ends = Counter(ended.status for ended in injected)
            rows.append(_row(sweep.what, [ended.problems for ended in injected], _exits(ends)))
        for situation in SITUATIONS:
            rows.append(_row(situation.__name__.replace("_", " "), list(situation(bench)), ""))
    tried, bad = sum(int(row.tried) for row in rows), sum(row.bad for row in rows)
    return Section("faults", rows, f"{tried} faults injected; the next session was a clean one after {tried - bad}")


def _row(what: str, incidents: Sequence[Sequence[str]], exits: str) -> Row:
    bad = [problems for problems in incidents if problems]
    for problems in bad:
        print(f"{what}: {problems[0][:500]}", file=sys.stderr)
    outcome = f"{len(incidents) - len(bad)} recoveries" + (f", exit {exits}" if exits else "")
    if not incidents:
        return Row(what, "0", "could not be tried here")
    return Row(what, str(len(incidents)), outcome, len(bad))


def _exits(ends: Counter[int | None]) -> str:
    known: Iterable[tuple[int | None, int]] = sorted(ends.items(), key=lambda item: -item[1])
    return ", ".join(f"{status} ({count})" for status, count in known)
