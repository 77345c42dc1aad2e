"""``geomcheck measure``: a run in, a record out."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import geomcheck
from geomcheck.checkpoints import find_base
from geomcheck.cli.means import Means
from geomcheck.cli.options import MEASURING, WEIGHTS, add_command, selection
from geomcheck.errors import UsageError
from geomcheck.files import require_writable
from geomcheck.report.safe import printable


def add_to(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    weights = replace(WEIGHTS, default=None, otherwise="linear", help=f"without --suite: {WEIGHTS.help}")
    parser = add_command(
        commands,
        "measure",
        run,
        "measure a run once, to judge its record anywhere",
        *("suite", "reference", weights, *MEASURING),
        run="directory of checkpoints",
        output="record to write (Parquet)",
    )
    parser.add_argument("--metrics", metavar="NAME,...", help="metrics to measure (without --suite: all but dear ones)")


def run(options: argparse.Namespace) -> None:
    """Measure and write the record. Raises GeomcheckError."""
    output = Path(options.output)
    means = Means(options, [options.run])
    if options.weights and means.suites:
        raise UsageError("--weights goes without --suite: a suite says which weights it needs")
    opened = geomcheck.open_run(options.run, incomplete=means.values.incomplete)
    of_suites = next((suite.base for suite in means.suites if suite.base is not None), None)
    base = find_base(opened, given=means.base, suite=of_suites)
    require_writable(output, inputs=means.inputs(base.source.path))
    with means.measuring() as how:
        record = geomcheck.measure(
            opened,
            base=base,
            metrics=options.metrics.split(",") if options.metrics else None,
            suites=means.suites,
            reference=options.reference,
            weights=selection(options.weights) if options.weights else None,
            **how,
        )
    geomcheck.write_record(record, output)
    print(f"{output}: {len(record.points)} checkpoints, {len(record.measured_weights())} weights measured")
    for note in record.notes:
        print(printable(f"  note: {note}"))
    for name, reason in record.skipped.items():
        print(f"  left out {name}: {reason}")
