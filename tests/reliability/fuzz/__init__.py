"""Every parser under fuzzing: ``python -m tests.reliability.fuzz --seconds 60 [TARGET...]``.

Whatever the input: only geomcheck's own errors may come out, within seconds and some megabytes, with messages of
sensible length; nothing may be started, written, or opened outside of the run. Inputs that broke this once lie in
``findings/`` and are tried by ``tests/reliability/test_fuzz.py`` in every test session, without any fuzzer.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.reliability.options import Options
from tests.reliability.table import Row, Section


def section(options: Options) -> Section:
    """A row per target."""
    from tests.reliability.fuzz.drive import coverage_guided, fuzz
    from tests.reliability.fuzz.targets import TARGETS

    with tempfile.TemporaryDirectory(prefix="geomcheck-findings-") as directory:
        outcomes = list(fuzz(list(TARGETS), options.fuzz_seconds, Path(directory)))
    rows = [
        Row(
            f"{o.target}, {o.seconds:.0f} s",
            f"{o.executions} inputs",
            f"{o.read} read, others refused" + ("" if o.edges is None else f"; {o.edges} edges"),
            bad=len(o.findings),
        )
        for o in outcomes
    ]
    how = "guided by coverage" if coverage_guided() else "blind: atheris is not installed"
    total = sum(outcome.executions for outcome in outcomes)
    return Section("fuzz", rows, f"{len(rows)} parsers, {total} inputs, {how}")
