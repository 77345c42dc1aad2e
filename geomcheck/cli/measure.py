"""``geomcheck measure``: a run in, a record out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import geomcheck
from geomcheck.files import require_writable
from geomcheck.report.text.verdicts import printable


def add_to(commands: Any) -> None:
    """Add the command to the parser's subcommands."""
    parser = commands.add_parser("measure", help="measure a run once, to judge its record anywhere")
    parser.add_argument("run", metavar="RUN", help="directory of checkpoints")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="record to write (Parquet)")
    parser.add_argument("--base", metavar="PATH", help="where W0 comes from")
    parser.add_argument(
        "--suite", action="append", default=[], metavar="NAME-OR-PATH", help="measure what this suite needs"
    )
    parser.add_argument("--reference", metavar="RUN", help="run to compare masks with")
    parser.add_argument("--workers", metavar="N|ray", help="local workers, or your Ray cluster")
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda[:N]", help="where to compute")
    parser.add_argument("--cache", metavar="PATH", help="directory that remembers what was measured (default: none)")
    parser.add_argument(
        "--dequantize", action="store_true", help="make fp32 of fp8 weights and their scales, and measure those"
    )
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    """Measure and write the record. Raises GeomcheckError."""
    from geomcheck.checkpoints import find_base, open_base

    output = Path(options.output)
    suites = [geomcheck.load_suite(source) for source in options.suite]
    opened = geomcheck.open_run(options.run)
    of_suites = [suite.base for suite in suites if suite.base is not None]
    given = open_base(options.base, "the given base") if options.base is not None else None
    base = find_base(opened, given=given, suite=next(iter(of_suites), None))
    bases = {str(base.source.path), *of_suites}
    inputs = [("the run", options.run), *(("W0", place) for place in bases), *(("a suite", s.file) for s in suites)]
    inputs += [("the reference", options.reference)] if options.reference else []
    require_writable(output, inputs=[(f"{what} {place}", Path(place)) for what, place in inputs])
    record = geomcheck.measure(
        opened,
        base=base,
        suites=suites,
        reference=options.reference,
        workers=options.workers,
        device=options.device,
        cache=options.cache,
        dequantize=options.dequantize,
    )
    geomcheck.write_record(record, output)
    print(f"{output}: {len(record.points)} checkpoints, {len(record.measured_weights())} weights measured")
    for note in record.notes:
        print(printable(f"  note: {note}"))
    for name, reason in record.skipped.items():
        print(f"  left out {name}: {reason}")
