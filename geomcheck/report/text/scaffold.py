"""What lies in a directory of runs, as text of 80 columns; paths and names that are longer keep their length."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from geomcheck._text import plural
from geomcheck.report.text.inspection import WIDTH, size
from geomcheck.report.text.screen import aligned, duration
from geomcheck.scaffold import Found, Group, Survey
from geomcheck.scaffold.survey import MODEL

MOST = 20
"""Runs that are listed."""


def seen(found: Survey, together: Sequence[Group], without: Sequence[Found]) -> Iterator[str]:
    """What was found, and which runs go together."""
    if found.single and found.runs:
        yield f"{found.directory} is one run:"
    else:
        below = "" if found.runs else ", down to three levels below it"
        yield f"{found.directory}: {plural(len(found.runs), 'run')}{below}"
    yield from (f"  {line}" for line in aligned([_run(run) for run in found.runs[:MOST]], right=(1,)) if found.runs)
    if len(found.runs) > MOST:
        yield f"  and {len(found.runs) - MOST} more"
    if found.cut:
        yield "  and perhaps more: not every directory was looked at; name one further down"
    yield from _wrapped(f"{path}: cannot be read as a run: {why.splitlines()[0]}" for path, why in found.troubles)
    if found.models:
        yield from _wrapped([f"models without checkpoints, of which one may be W0: {_listed(found.models)}"])
    if found.records:
        files = plural(len(found.records), "Parquet file")
        yield from _wrapped([f"{files} there; where they are records of good runs, geomcheck calibrate takes them too"])
    if found.single and found.runs and found.runs[0].run.framework == MODEL:
        own = f"it has no checkpoints; if it is W0, then: geomcheck init RUNS-DIRECTORY --base={found.directory}"
        yield from _wrapped([own])
    yield from _missing(found)
    yield ""
    yield from _wrapped(line for group in together for line in _group(group))
    alone = [run.name for group in together if len(group.runs) == 1 for run in group.runs]
    if alone and not found.single:
        yield from _wrapped([f"no bands, which need two good runs of a recipe or more: {_listed(alone)}"])
    if without:
        yield from _wrapped([f"not taken as good, as --without says: {', '.join(run.name for run in without)}"])
    if together:
        yield ""


def cost_of(count: int, seconds: float) -> str:
    """What measuring takes."""
    return f"read {size(count)} and take about {duration(seconds)} here"


def _run(run: Found) -> list[str]:
    steps, base = run.steps, run.seen.base
    span = f"step {steps[0]}" if len(steps) == 1 else f"steps {steps[0]} to {steps[-1]}"
    kind = "adapters" if run.is_adapter else run.run.framework.partition(" (")[0]
    return ["/".join(run.parts), plural(len(steps), "checkpoint"), span, kind, f"W0: {base.name}" if base else "no W0"]


def _missing(found: Survey) -> Iterator[str]:
    without = [run for run in found.runs if not run.seen.base]
    if without:
        what = "it" if len(found.runs) == 1 else f"{len(without)} of them"
        adapter = next((run for run in without if run.is_adapter), None)
        yield from _wrapped(
            [f"no W0 was found for {what}: nothing is judged without it; give it with --base=PATH"]
            + ([f"  {adapter.seen.base_missing.splitlines()[0]}"] if adapter else [])
        )


def _group(group: Group) -> Iterator[str]:
    names = [run.name for run in group.runs]
    if group.can_be_calibrated:
        yield f"{group.name}: {_listed(names)} go together, by names and headers, and are taken as good"
    elif len(names) > 1:
        yield f"{group.name}: {_listed(names)} go together; without W0 there are no bands"
    for run, why in group.left_out:
        yield f"{group.name}: not {run.name}: {why}"


def _listed(names: Sequence[object]) -> str:
    told = [str(name) for name in names[:MOST]]
    return ", ".join(told) + (f" and {len(names) - MOST} more" if len(names) > MOST else "")


def _wrapped(lines: Sequence[str] | Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
