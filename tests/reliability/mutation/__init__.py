"""Mutation testing of the gate's own code: one change at a time, and the tests that are meant to notice it.

``python -m tests.reliability.mutation`` runs it and writes ``mutation.json``; the table only reads that file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.reliability.mutation.record import stored, unexplained
from tests.reliability.mutation.targets import Target, targets
from tests.reliability.options import Options
from tests.reliability.table import Row, Section


def section(options: Options) -> Section:
    """What the stored run found; a survivor without an explanation is bad, a module that was never run says so."""
    found = stored()
    modules = found["modules"]
    rows = [_row(target, modules.get(target.path)) for target in targets()]
    drawn, killed = (sum(facts[key] for facts in modules.values()) for key in ("drawn", "killed"))
    explained = drawn - killed - sum(row.bad for row in rows)
    summary = f"{killed} of {drawn} mutants killed, {explained} more explained ({found.get('tool', 'never run')}); "
    return Section("mutants", rows, summary + "again: python -m tests.reliability.mutation")


def _row(target: Target, facts: Mapping[str, Any] | None) -> Row:
    if facts is None:
        return Row(target.path, "0", "not run yet")
    bad = len(unexplained(target.path, facts["survivors"]))
    explained = len(facts["survivors"]) - bad
    outcome = f"{facts['killed']} killed, {explained} explained, on {facts['date']}"
    outcome += f"; {facts['left_out']} at import not run" if facts["left_out"] else ""
    outcome += "" if facts["sha256"] == target.digest else "; the module has changed since"
    return Row(target.path, str(facts["drawn"]), outcome, bad=bad)
