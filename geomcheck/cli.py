"""The ``geomcheck`` command."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import geomcheck
from geomcheck.errors import GeomcheckError, UsageError

WRONG_USAGE = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (0, or 4 with a message on stderr)."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except GeomcheckError as error:
        print(f"geomcheck: {error}", file=sys.stderr)
        return WRONG_USAGE
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="geomcheck",
        description="Regression tests for the geometry of training. To check a run: pytest --geom-run=PATH",
    )
    parser.add_argument("--version", action="version", version=geomcheck.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    measure = commands.add_parser("measure", help="measure a run once, to judge its record anywhere")
    measure.add_argument("run", metavar="RUN", help="directory of checkpoints")
    measure.add_argument("-o", "--output", required=True, metavar="FILE", help="record to write (Parquet)")
    measure.add_argument("--base", metavar="PATH", help="where W0 comes from")
    measure.add_argument(
        "--suite", action="append", default=[], metavar="NAME-OR-PATH", help="measure what this suite needs"
    )
    measure.add_argument("--workers", type=int, metavar="N", help="local workers")
    measure.set_defaults(command=_measure)
    suites = commands.add_parser("suites", help="list the shipped suites")
    suites.set_defaults(command=_suites)
    schema = commands.add_parser("schema", help="print the JSON Schema of suites, for editors")
    schema.set_defaults(command=_schema)
    return parser


def _measure(options: argparse.Namespace) -> None:
    output = Path(options.output)
    if output.resolve().is_relative_to(Path(options.run).resolve()):
        raise UsageError(f"{output} lies inside the run {options.run}, which is never written to")
    suites = [geomcheck.load_suite(source) for source in options.suite]
    record = geomcheck.measure(options.run, base=options.base, suites=suites, workers=options.workers)
    geomcheck.write_record(record, output)
    print(f"{output}: {len(record.points)} checkpoints, {len(record.measured_weights())} weights measured")
    for name, reason in record.skipped.items():
        print(f"  left out {name}: {reason}")


def _suites(_: argparse.Namespace) -> None:
    from geomcheck.suite import shipped_suites

    for name, path in sorted(shipped_suites().items()):
        suite = geomcheck.load_suite(path)
        print(f"{name:12} {len(suite.expectations)} expectations, applies to {' '.join(suite.applies_to)}")
        print(f"{'':12} {suite.about}")


def _schema(_: argparse.Namespace) -> None:
    from geomcheck.suite import json_schema

    print(json.dumps(json_schema(), indent=2))
