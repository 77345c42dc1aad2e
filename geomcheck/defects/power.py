"""Try a suite with a good run that has one defect at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Unpack

from geomcheck._text import and_more
from geomcheck.api import How, means, silent
from geomcheck.checkpoints import BaseWeights, Run, comparable, find_base, open_base, open_run
from geomcheck.defects.bench import Bench
from geomcheck.defects.bisection import kinds_of
from geomcheck.defects.defect import Defect, NotApplicable, Spoiling
from geomcheck.defects.noticed import RED, notice
from geomcheck.defects.registry import chosen
from geomcheck.defects.result import Power, Tried
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import UsageError
from geomcheck.measurement import measure_record, survey
from geomcheck.measurement.execute import BETWEEN_FORMATS
from geomcheck.record import Request, merge
from geomcheck.suite import Suite, Verdict, load_suite


class TooLong(UsageError):
    """It would take longer than allowed."""


def power(
    suite: Suite | str | Path,
    run: Run | str | Path,
    *,
    base: BaseWeights | str | Path | None = None,
    defects: Sequence[str] = (),
    most: float = math.inf,
    expected: Callable[[float], None] = lambda seconds: None,
    **how: Unpack[How],
) -> Power:
    """What `suite` would notice: a good run with one defect at a time, judged while it is read.

    Nothing is written, and of a run with a defect nothing is remembered.

    Args:
        suite: loaded, or its file.
        run: a good run: opened, or its directory.
        base: W0, opened or its directory; by default what the suite or the run provides.
        defects: names of those to try; by default all, and the smallest changes that are noticed.
        most: entries of weights that may be measured again, all defects together.
        expected: gets about how many seconds it will take, before it begins.
        how: workers, device, cache and the like of `geomcheck.measure`.

    Raises:
        UsageError: no such run, W0, device or defect, or the run does not pass the suite by itself; TooLong of that.
        RunError: the run cannot be read or trusted.
        SuiteError: the suite is invalid.
    """
    wanted = chosen(defects)
    suite = suite if isinstance(suite, Suite) else load_suite(suite)
    show = how.get("show", silent)
    with bench_of(suite, run, base=base, **how) as bench:
        tries = [(defect, settled(bench, defect)) for defect in wanted]
        kinds = () if defects else tuple(kinds_of(bench))
        planned = [spoiling for _, spoiling in tries if isinstance(spoiling, Spoiling)]
        planned += [kind.spoiling(value) for kind in kinds for value in kind.expected()]
        record, total, done = bench.record, bench.entries(planned), 0
        if total > most:
            raise TooLong(f"{total:,} entries of weights would be measured again, more than {most:,.0f}")
        expected(bench.seconds(planned))
        with show(f"{record.run} with defects") as progress:

            def tell(entries: int) -> None:
                nonlocal done
                done += entries
                progress(min(done, total), total)

            bench.tell = tell
            found = tuple(tried(bench, defect, spoiling) for defect, spoiling in tries)
            thresholds = tuple(kind.threshold() for kind in kinds)
            progress(total, total)
    return Power(suite.name, record.run, record.path, record.points, found, thresholds)


@contextmanager
def bench_of(
    suite: Suite, run: Run | str | Path, *, base: BaseWeights | str | Path | None = None, **how: Unpack[How]
) -> Iterator[Bench]:
    """A good run on the bench, measured; arguments and errors as `power`."""
    opened = run if isinstance(run, Run) else open_run(run, incomplete=how.get("incomplete", "skip"))
    given = open_base(base, "the given base") if isinstance(base, str | Path) else base
    found = find_base(opened, given=given, suite=suite.base)
    opened, w0 = comparable(opened, found, dequantize=how.get("dequantize", False))
    record = survey(opened, w0)
    cast = Request.of(load_metrics()[BETWEEN_FORMATS], {})
    asked = suite.requests(record)
    plan = merge([asked, {name: {cast} for name in asked if len(record.weights[name].dtypes) > 1}])
    with means([opened.path, w0.source.path], how) as resources:
        with how.get("show", silent)(opened.name) as progress:
            digests = measure_record(record, opened, w0, plan, resources=resources, progress=progress)
        _require_good(suite, record.run, suite.evaluate(record))
        yield Bench(suite, opened, w0, record, plan, digests, resources)


def _require_good(suite: Suite, run: str, verdicts: Sequence[Verdict]) -> None:
    """Refuse a run that the suite does not pass. Raises UsageError."""
    bad = [verdict for verdict in verdicts if verdict.outcome in RED]
    if bad:
        raise UsageError(
            f"{run} does not pass {suite.name} by itself: {bad[0].id}{and_more(len(bad))}: {bad[0].message}. What a "
            "suite would notice shows on a good run alone; give one that passes"
        )


def settled(bench: Bench, defect: Defect) -> Spoiling | str:
    """What a defect does to the run, or why it does nothing."""
    try:
        return bench.spoiling(defect.spoil)
    except NotApplicable as reason:
        return str(reason)


def tried(bench: Bench, defect: Defect, spoiling: Spoiling | str) -> Tried:
    """What the suite makes of a defect, by what it does to the run. Raises UsageError where memory is short."""
    if isinstance(spoiling, str):
        return Tried(defect.name, defect.about, "", "idle", reason=spoiling)
    try:
        judged = bench.judge(spoiling)
    except NotApplicable as reason:
        return Tried(defect.name, defect.about, spoiling.where, "idle", reason=str(reason))
    seen = notice(judged, bench.record.points)
    if seen is None:
        return Tried(defect.name, defect.about, spoiling.where, "missed")
    return Tried(defect.name, defect.about, spoiling.where, "caught", seen.failed, seen.step, seen.reason)
