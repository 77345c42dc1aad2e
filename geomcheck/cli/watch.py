"""``geomcheck watch``: follow a run that trains, and end on the first violation that is for good."""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geomcheck
from geomcheck._lazy import late
from geomcheck.cli.means import Means
from geomcheck.cli.options import JSON, MEASURING, add_command
from geomcheck.errors import RunError, SuiteError, UsageError
from geomcheck.files import require_writable
from geomcheck.measurement import Cache
from geomcheck.options import option
from geomcheck.report.safe import printable

if TYPE_CHECKING:
    from geomcheck.live import directory as live
    from geomcheck.live.directory import output
else:
    live, output = late("geomcheck.live.directory"), late("geomcheck.live.directory.output")

VIOLATED = 1
INVALID_SUITE = 2
MAX_EVERY = 86_400


def add_to(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    record = replace(option("record"), output=None)
    json = replace(JSON, help="print JSON, a document per line")
    parser = add_command(
        commands,
        "watch",
        run,
        "follow a run while it trains, judge each checkpoint as it comes",
        *("suite", "reference", record, json),
        *(one for one in MEASURING if one != "incomplete"),  # these are waited for
        description="Exit code: 0 the run has ended and everything holds (with --once: nothing is violated so far), 1 "
        "violated or not measurable, 2 invalid suite, 4 wrong usage, 5 nothing was checked, 130 interrupted.",
        run="directory that checkpoints are written to; need not exist yet",
    )
    parser.add_argument("--every", type=float, default=15.0, metavar="SECONDS", help="how often to look (default 15)")
    parser.add_argument("--steps", type=int, metavar="N", help="length of the training (default: what its files say)")
    parser.add_argument(
        "--idle", type=float, metavar="MINUTES", help="without a new checkpoint for so long, the run counts as ended"
    )
    parser.add_argument("--once", action="store_true", help="look once, and say what can be said now")


def run(options: argparse.Namespace) -> int:
    """Follow the run; returns the exit code. Raises GeomcheckError where the usage is wrong."""
    pace = _pace(options)
    means = Means(options, [options.run])
    try:
        suites = means.suites
    except SuiteError as error:
        print(f"geomcheck: {printable(str(error))}", file=sys.stderr)
        return INVALID_SUITE
    if not suites:
        raise UsageError("watch needs --suite=NAME-OR-PATH; `geomcheck suites` lists the shipped ones")
    if options.record:
        require_writable(Path(options.record), inputs=means.inputs(), option="--record=")
    told = output.Documents(means.show) if options.json else output.Lines(means.show)
    with ExitStack() as stack:
        resources = stack.enter_context(means.resources())
        if not resources.cache.store.works:  # without one, what was measured would be again for each new checkpoint
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="geomcheck-"))
            resources = replace(resources, cache=stack.enter_context(closing(Cache(Path(directory)))))
        followed = live.FollowedRun(
            options.run,
            suites,
            base=means.base,
            reference=options.reference,
            steps=options.steps,
            resources=resources,
            dequantize=options.dequantize,
        )
        try:
            end = live.follow(followed, pace, told)
        except RunError as error:
            print(f"geomcheck: {printable(str(error))}", file=sys.stderr)
            return VIOLATED
    told.ended(end)
    if options.record and end.snapshot is not None:
        geomcheck.write_record(end.snapshot.record, options.record)
    return int(end.code)


def _pace(options: argparse.Namespace) -> live.Pace:
    for name, value in (("--every", options.every), ("--idle", options.idle)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"{name}={value:g}: give a number above 0")
    if options.every > MAX_EVERY:
        raise UsageError(f"--every={options.every:g}: give seconds, at most {MAX_EVERY} (a day)")
    if options.steps is not None and options.steps < 1:
        raise UsageError(f"--steps={options.steps}: give the number of optimizer steps, 1 or more")
    idle = None if options.idle is None else options.idle * 60
    return live.Pace(every=options.every, idle=idle, once=options.once)
